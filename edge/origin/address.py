"""Where an origin listens: "php1:9000", "[::1]:9000" or "unix:/run/php.sock". Pure.

A name stays a name: it is resolved at every connect, so a moved backend is found again.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

# sockaddr_un holds 108 bytes with the closing NUL (unix(7)).
MAX_UNIX_PATH_BYTES: Final = 107
_TCP: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", re.ASCII)


class BadAddress(ValueError):
    """Not an address; the text says what one looks like."""


@dataclass(frozen=True, slots=True)
class Address:
    """host and port for TCP; path for a Unix socket, and then host is "" and port 0."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if self.path:
            if self.host or self.port:
                raise BadAddress("an address is host:port or unix:/path, not both")
            if not self.path.startswith("/") or "\0" in self.path:
                raise BadAddress(f"a unix socket needs an absolute path: {self.path!r}")
            if len(self.path.encode()) > MAX_UNIX_PATH_BYTES:
                raise BadAddress(f"path of a unix socket over {MAX_UNIX_PATH_BYTES} bytes")
            return
        if not self.host or not 1 <= self.port <= 65535:
            raise BadAddress(f"not host:port with a port of 1 to 65535: {self.host!r}:{self.port}")
        # Or getaddrinfo raises UnicodeError at the first connect (RFC 1035 section 2.3.4).
        if ":" not in self.host and not all(1 <= len(part) <= 63 for part in self.host.split(".")):
            raise BadAddress(f"not a host name: {self.host!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of str(). Raises BadAddress."""
        if text.startswith("unix:"):
            return cls(path=text.removeprefix("unix:")) if text != "unix:" else cls()
        match = _TCP.fullmatch(text)
        if match is None:
            raise BadAddress(f"not host:port, [ipv6]:port or unix:/path: {text!r}")
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
