"""Addresses as written in the configuration: sockets, host names, networks, the index. Pure.

    HOST:PORT        a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2)
    unix:/path       a Unix socket, absolute
    10.0.0.0/8       a network; an address alone is a network of one
    embedded         the index of this node: SQLite in the cache folder
    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]      rediss:// the same over TLS
    unix:///path[?db=N]                             Redis on a Unix socket
    http://HOST[:PORT]  https://HOST[:PORT]         where storage that speaks S3 listens

Nothing is resolved here. str() of an address and parse_ are inverses.
"""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Final

from edge.settings.units import BadValue, parse_whole

# sizeof(sun_path) - 1 on Linux, unix(7).
MAX_SOCKET_PATH: Final = 107
REDIS_PORT: Final = 6379
# RFC 1123 section 2.1, and the underscore of container names; dots between labels of 63 at most.
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\Z"
)
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """host without brackets: a name in lower case, or the canonical text of an IP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host in _WILDCARDS


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_host(text: str) -> str:
    """A host name or IP address, canonical, without brackets. Raises BadValue."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare or bare is not text:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise BadValue(f"{text!r} is no IPv6 address") from None
    if bare.isascii() and bare.replace(".", "").isdigit():
        try:
            return str(ipaddress.IPv4Address(bare))
        except ValueError:
            raise BadValue(f"{text!r} is no IPv4 address") from None
    name = bare.lower()
    if not bare.isascii():
        raise BadValue(f"{text!r} is not ASCII: write an international name in its xn-- form")
    if not _HOST_NAME.match(name):
        raise BadValue(f"{text!r} is no host name")
    return name


def parse_site_host(text: str) -> str:
    """What a Host field is compared with: no scheme, no port. Raises BadValue."""
    if "://" in text or "/" in text:
        raise BadValue(f"{text!r} must be a host name alone, without scheme and path")
    if "*" in text:
        raise BadValue(
            f"{text!r}: wildcards are not supported; a site without hosts takes the rest"
        )
    if not text.startswith("[") and text.count(":") == 1:
        raise BadValue(f"{text!r} must be a host name without a port; every port serves every site")
    return parse_host(text)


def parse_address(text: str) -> Address:
    """Raises BadValue."""
    if text.startswith("unix:"):
        return UnixAddress(_parse_socket_path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise BadValue(f'must be HOST:PORT, "[IPV6]:PORT" or "unix:/path", not {text!r}')
    if not host:
        raise BadValue(
            f'needs a host: "0.0.0.0:{port}" for every interface,'
            f' "127.0.0.1:{port}" for this machine alone'
        )
    number = parse_whole(port)
    if number > 65_535:
        raise BadValue(f"port {number} is above 65535")
    return TcpAddress(parse_host(host), number)


def parse_peer(text: str) -> Address:
    """An address to connect to: as parse_address, but port 0 is nobody. Raises BadValue."""
    address = parse_address(text)
    if isinstance(address, TcpAddress) and address.port == 0:
        raise BadValue(f"port 0 of {text!r} cannot be connected to")
    return address


def _parse_socket_path(path: str) -> str:
    if not path.startswith("/"):
        raise BadValue(f"socket path {path!r} must be absolute: unix:/run/...")
    if not path.isprintable():
        raise BadValue("socket path holds a control character")
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise BadValue(f"socket path is {len(path.encode())} bytes, {MAX_SOCKET_PATH} are the most")
    return path


def parse_network(text: str) -> Network:
    """Raises BadValue."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadValue(f'must be a network like "10.0.0.0/8" or an address, not {text!r}') from None
    raise BadValue(f'{text!r} has bits set behind its mask; did you mean "{meant}"?')


def format_network(network: Network) -> str:
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if alone else str(network)


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: TcpAddress
    tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"


def parse_endpoint(text: str) -> Endpoint:
    """Raises BadValue."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("http", "https"):
        raise BadValue(f'must be like "https://s3.example.org", not {text!r}')
    rest = rest.removesuffix("/")
    if "/" in rest or "@" in rest or "?" in rest:
        raise BadValue("must be a scheme and a host, without path, login or query")
    has_port = rest.rpartition("]")[2].count(":") == 1
    address = parse_peer(rest if has_port else f"{rest}:{443 if scheme == 'https' else 80}")
    if not isinstance(address, TcpAddress):
        raise BadValue("must be a host, not a socket")
    return Endpoint(address, scheme == "https")


@dataclass(frozen=True, slots=True)
class EmbeddedIndex:
    """SQLite in the cache folder; one worker, one node."""

    def __str__(self) -> str:
        return "embedded"


@dataclass(frozen=True, slots=True)
class RedisIndex:
    """A Redis server. str() hides the password, url does not."""

    address: Address
    database: int = 0
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return self._write(urllib.parse.quote(self.password, safe=""))

    def __str__(self) -> str:
        return self._write("***" if self.password else "")

    def _write(self, password: str) -> str:
        login = urllib.parse.quote(self.username, safe="") + (f":{password}" if password else "")
        login = f"{login}@" if login else ""
        if isinstance(self.address, UnixAddress):
            path = urllib.parse.quote(self.address.path)
            return f"unix://{login}{path}?db={self.database}"
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.address}/{self.database}"


IndexAddress = EmbeddedIndex | RedisIndex
_INDEX_FORMS: Final = (
    '"embedded", "redis://HOST:6379/0", "rediss://HOST:6379/0" or "unix:///run/redis.sock"'
)


def parse_index(text: str) -> IndexAddress:
    """Raises BadValue, whose text never holds a password."""
    if text == "embedded":
        return EmbeddedIndex()
    scheme, colon, _ = text.partition(":")
    if scheme in ("redis+sentinel", "redis+cluster"):
        raise BadValue(f"{scheme}:// is not available in this release; use redis:// or rediss://")
    if not colon or scheme not in ("redis", "rediss", "unix"):
        raise BadValue(f"must be {_INDEX_FORMS}")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadValue(f"is no legal {scheme}:// address") from None
    username = urllib.parse.unquote(parts.username or "")
    password = urllib.parse.unquote(parts.password or "")
    if parts.fragment:
        raise BadValue("has a fragment; write # in a password as %23")
    if scheme == "unix":
        name, _, number = parts.query.partition("=")
        if parts.query and name != "db":
            raise BadValue("takes no option but db, as in unix:///run/redis.sock?db=1")
        if parts.hostname:
            raise BadValue("needs three slashes: unix:///run/redis.sock")
        path = _parse_socket_path(urllib.parse.unquote(parts.path))
        return RedisIndex(UnixAddress(path), parse_whole(number or "0"), False, username, password)
    if parts.query:
        raise BadValue("takes no options behind a question mark")
    if not parts.hostname:
        raise BadValue(f"names no host: {scheme}://HOST:{REDIS_PORT}/0")
    database = parse_whole(parts.path.strip("/") or "0")
    # urlsplit() has taken the brackets off; a bare IPv6 address is what parse_host() reads too.
    address = TcpAddress(parse_host(parts.hostname), REDIS_PORT if port is None else port)
    return RedisIndex(address, database, scheme == "rediss", username, password)
