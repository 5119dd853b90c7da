"""Addresses as written in the configuration: sockets, host names, networks, the index. Pure.

    HOST:PORT        a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2)
    unix:/path       a Unix socket, absolute
    10.0.0.0/8       a network; an address alone is a network of one
    http://HOST[:80], htcp://HOST[:4827]            a cache in front of us, and how it is told
    embedded         the index of this node: SQLite in the cache folder
    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]      rediss:// the same over TLS
    unix:///path[?db=N]                             Redis on a Unix socket
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],.../SERVICE[/DB]     the master of a service
        [?sentinel_user=USER&sentinel_password=PASSWORD]    sentinels have their own login, or none
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],...       some nodes, which know the others
    http://HOST[:PORT]  https://HOST[:PORT]         where storage that speaks S3 listens

Nothing is resolved here. str() of an address and parse_ are inverses.
"""

import enum
import ipaddress
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Final

from edge.http import htcp
from edge.settings.units import BadValue, parse_whole

# sizeof(sun_path) - 1 on Linux, unix(7).
MAX_SOCKET_PATH: Final = 107
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26_379
# RFC 1123 section 2.1, and the underscore of container names; dots between labels of 63 at most.
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\Z"
)
# What Sentinel itself takes for one.
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
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


def parse_host_header(text: str) -> str:
    """A Host field: as parse_host, in brackets where they belong, and a port where there is one.
    Raises BadValue."""
    if "/" in text:
        raise BadValue(f"{text!r} must be HOST or HOST:PORT, without scheme and path")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, ""
    name = parse_host(host)
    if ":" in name:
        name = f"[{name}]"
    if not colon or host == text:
        return name
    number = parse_whole(port)
    if not 0 < number <= 65_535:
        raise BadValue(f"port {port} is none from 1 to 65535")
    return f"{name}:{number}"


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


class Means(enum.StrEnum):
    """How a cache in front is told to forget a URL."""

    HTTP = "http"  # PURGE
    HTCP = "htcp"  # CLR


_USUAL_PORTS: Final = {Means.HTTP: 80, Means.HTCP: htcp.PORT}


@dataclass(frozen=True, slots=True)
class FrontCache:
    """A Squid in front of us. str() and parse_front_cache() are inverses."""

    means: Means
    address: TcpAddress

    def __str__(self) -> str:
        return f"{self.means}://{self.address}"


def parse_front_cache(text: str) -> FrontCache:
    """Raises BadValue."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in list(Means):
        raise BadValue(f'must be like "http://squid1:3128" or "htcp://squid1:4827", not {text!r}')
    rest = rest.removesuffix("/")
    if "/" in rest or "@" in rest or "?" in rest:
        raise BadValue(f"{text!r} must be {scheme}://HOST:PORT, with nothing behind it")
    means = Means(scheme)
    if not rest.rpartition("]")[2].count(":"):
        return FrontCache(means, TcpAddress(parse_host(rest), _USUAL_PORTS[means]))
    address = parse_peer(rest)
    if not isinstance(address, TcpAddress):
        raise BadValue(f"{text!r} must name a host")
    return FrontCache(means, address)


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
        return self._write(_quote(self.password))

    def __str__(self) -> str:
        return self._write(_mask(self.password))

    def _write(self, password: str) -> str:
        login = _write_login(self.username, password)
        if isinstance(self.address, UnixAddress):
            path = urllib.parse.quote(self.address.path)
            return f"unix://{login}{path}?db={self.database}"
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.address}/{self.database}"


@dataclass(frozen=True, slots=True)
class SentinelIndex:
    """The master of a service that sentinels watch. str() hides the passwords, url does not."""

    sentinels: tuple[TcpAddress, ...]
    service: str
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return self._write(_quote(self.password), _quote(self.sentinel_password))

    def __str__(self) -> str:
        return self._write(_mask(self.password), _mask(self.sentinel_password))

    def _write(self, password: str, sentinel_password: str) -> str:
        login = _write_login(self.username, password)
        hosts = ",".join(map(str, self.sentinels))
        options = {"sentinel_user": _quote(self.sentinel_username)}
        options["sentinel_password"] = sentinel_password
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        path = f"{self.service}/{self.database}"
        return f"redis+sentinel://{login}{hosts}/{path}{'?' if query else ''}{query}"


@dataclass(frozen=True, slots=True)
class ClusterIndex:
    """Some nodes of a Redis Cluster. str() hides the password, url does not."""

    nodes: tuple[TcpAddress, ...]
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return self._write(_quote(self.password))

    def __str__(self) -> str:
        return self._write(_mask(self.password))

    def _write(self, password: str) -> str:
        hosts = ",".join(map(str, self.nodes))
        return f"redis+cluster://{_write_login(self.username, password)}{hosts}"


def _write_login(username: str, password: str) -> str:
    login = _quote(username) + (f":{password}" if password else "")
    return f"{login}@" if login else ""


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _mask(password: str) -> str:
    return "***" if password else ""


SharedIndex = RedisIndex | SentinelIndex | ClusterIndex
IndexAddress = EmbeddedIndex | SharedIndex
_INDEX_FORMS: Final = (
    '"embedded", "redis://HOST:6379/0", "rediss://HOST:6379/0", "unix:///run/redis.sock",'
    ' "redis+sentinel://HOST:26379,HOST:26379/SERVICE/0" or "redis+cluster://HOST:6379,HOST:6379"'
)


def parse_index(text: str) -> IndexAddress:
    """Raises BadValue, whose text never holds a password."""
    if text == "embedded":
        return EmbeddedIndex()
    scheme, colon, _ = text.partition(":")
    if text.startswith("redis+sentinel://"):
        return _parse_sentinel_index(text.removeprefix("redis+sentinel://"))
    if text.startswith("redis+cluster://"):
        return _parse_cluster_index(text.removeprefix("redis+cluster://"))
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


def _parse_sentinel_index(text: str) -> SentinelIndex:
    authority, path, query = _split_farm(text)
    username, password, sentinels = _parse_authority(authority, SENTINEL_PORT)
    service, slash, database = path.partition("/")
    if not _SERVICE.fullmatch(service):
        raise BadValue(
            "needs the name of a service behind its hosts, of letters, digits, - . and _:"
            " redis+sentinel://HOST,HOST/SERVICE/0"
        )
    options = {}
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if name not in ("sentinel_user", "sentinel_password") or name in options:
            raise BadValue("takes no option but sentinel_user and sentinel_password")
        options[name] = urllib.parse.unquote(value)
    return SentinelIndex(
        sentinels,
        service,
        parse_whole(database) if slash and database else 0,
        username,
        password,
        options.get("sentinel_user", ""),
        options.get("sentinel_password", ""),
    )


def _parse_cluster_index(text: str) -> ClusterIndex:
    authority, path, query = _split_farm(text)
    if query:
        raise BadValue("takes no options behind a question mark")
    if path not in ("", "0"):
        raise BadValue("names a database, and a cluster has no other than 0")
    username, password, nodes = _parse_authority(authority, REDIS_PORT)
    return ClusterIndex(nodes, username, password)


def _split_farm(text: str) -> tuple[str, str, str]:
    """Authority, path and query; several hosts are more than urlsplit() takes."""
    if "#" in text:
        raise BadValue("has a fragment; write # in a password as %23")
    rest, _, query = text.partition("?")
    authority, _, path = rest.partition("/")
    if "@" in path or "@" in query:
        raise BadValue("has an @ behind its hosts; write / ? @ in a password as %2F %3F %40")
    return authority, path, query


def _parse_authority(text: str, default_port: int) -> tuple[str, str, tuple[TcpAddress, ...]]:
    """User name, password, hosts."""
    login, _, hosts = text.rpartition("@")
    username, _, password = login.partition(":")
    found = tuple(_parse_farm_host(host, default_port) for host in hosts.split(","))
    if len(set(found)) < len(found):
        raise BadValue("names a host twice")
    return urllib.parse.unquote(username), urllib.parse.unquote(password), found


def _parse_farm_host(text: str, default_port: int) -> TcpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if not host:
        raise BadValue("names no host, or has a comma too many")
    if ":" in host and not host.startswith("["):
        raise BadValue("has an IPv6 address without its brackets")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65_535):
        # Not quoted: where the host was forgotten it is a password.
        raise BadValue("has a port that is no number from 1 to 65535")
    return TcpAddress(parse_host(host), int(port))
