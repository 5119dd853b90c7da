"""The address of a Redis index, taken apart. Pure.

    redis://  rediss://  unix://        one server, read by redis-py
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],HOST[:PORT].../SERVICE[/DB]
        [?sentinel_user=USER&sentinel_password=PASSWORD]
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],HOST[:PORT]...

The login is that of the data servers; sentinels have their own, or none. An IPv6 address stands in
brackets, what is special in a name or password is percent-encoded.
"""

import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ALONE_SCHEMES: Final = ("redis", "rediss", "unix")
SENTINEL_SCHEME: Final = "redis+sentinel"
CLUSTER_SCHEME: Final = "redis+cluster"
SCHEMES: Final = (*ALONE_SCHEMES, SENTINEL_SCHEME, CLUSTER_SCHEME)
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26_379
# What a server may name as another's host: a name, an IPv4 or IPv6 address (and its zone).
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


class BadAddress(ValueError):
    """The text never quotes the address: it may hold a password."""


class Endpoint(NamedTuple):
    host: str  # without brackets
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(host: str, port: int) -> Endpoint:
    """What a server said of another one. Raises ValueError."""
    if not _HOST.fullmatch(host) or not 0 < port <= 65_535:
        raise ValueError(f"{host[:300]!r} with port {port} is no address")
    return Endpoint(host, port)


@dataclass(frozen=True, slots=True)
class Login:
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Alone:
    """One server; redis-py reads the address."""

    url: str = field(repr=False)
    login: Login = Login()

    @property
    def secrets(self) -> tuple[str, ...]:
        return _secrets(self.login)


@dataclass(frozen=True, slots=True)
class Sentinels:
    endpoints: tuple[Endpoint, ...]
    service: str
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()

    @property
    def secrets(self) -> tuple[str, ...]:
        return _secrets(self.login, self.sentinel_login)


@dataclass(frozen=True, slots=True)
class Cluster:
    endpoints: tuple[Endpoint, ...]
    login: Login = Login()

    @property
    def secrets(self) -> tuple[str, ...]:
        return _secrets(self.login)


Where = Alone | Sentinels | Cluster


def parse_where(url: str) -> Where:
    """Raises BadAddress."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in SCHEMES:
        # What stands before :// may be anything, only one of ours is shown.
        raise BadAddress(f"its scheme is none of {', '.join(SCHEMES)}")
    if scheme in ALONE_SCHEMES:
        return _parse_alone(url)
    rest, _, query = rest.partition("?")
    netloc, _, path = rest.partition("/")
    user_info, _, hosts = netloc.rpartition("@")
    login = _parse_login(user_info)
    if scheme == CLUSTER_SCHEME:
        if query or path not in ("", "0"):
            raise BadAddress("a cluster has database 0 only, and takes no options")
        return Cluster(_parse_endpoints(hosts, REDIS_PORT), login)
    service, _, database = path.partition("/")
    if not service:
        raise BadAddress("names no service that the sentinels watch")
    if not (database.isascii() and database.isdigit()) and database:
        raise BadAddress("the database behind the service's name is no number")
    return Sentinels(
        _parse_endpoints(hosts, SENTINEL_PORT),
        urllib.parse.unquote(service),
        int(database or "0"),
        login,
        _parse_sentinel_login(query),
    )


def _parse_alone(url: str) -> Alone:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise BadAddress("is no legal address") from None
    user_info, _, _ = parts.netloc.rpartition("@")
    return Alone(url, _parse_login(user_info))


def _parse_login(text: str) -> Login:
    username, _, password = text.partition(":")
    return Login(urllib.parse.unquote(username), urllib.parse.unquote(password))


def _parse_sentinel_login(query: str) -> Login:
    try:
        options = dict(urllib.parse.parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError:
        raise BadAddress("what follows ? is not NAME=VALUE&...") from None
    login = Login(options.pop("sentinel_user", ""), options.pop("sentinel_password", ""))
    if options:
        raise BadAddress("takes no option but sentinel_user and sentinel_password")
    return login


def _parse_endpoints(text: str, default_port: int) -> tuple[Endpoint, ...]:
    found = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(default_port)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not (port.isascii() and port.isdigit()):
            raise BadAddress("one of its hosts has a port that is no number")
        try:
            found.append(endpoint(host, int(port)))
        except ValueError:
            raise BadAddress("one of its hosts cannot be read") from None
    return tuple(found)


def _secrets(*logins: Login) -> tuple[str, ...]:
    """As they are, and as an address has them; the longest first."""
    found = set()
    for login in logins:
        if login.password:
            found |= {login.password, urllib.parse.quote(login.password, safe="")}
    return tuple(sorted(found, key=lambda secret: (-len(secret), secret)))
