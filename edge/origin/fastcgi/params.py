"""FastCGI name-value pairs (FastCGI 1.0 section 3.4) and the CGI variables of a request. Pure.

The variables are those of RFC 3875 section 4.1 with the additions that php-fpm needs. Those that
stay the same from one request of a client to its next are encoded once. SCRIPT_FILENAME comes from
the configuration, never from the request.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from edge.origin.errors import OriginBroken, UnsendableRequest
from edge.origin.messages import (
    HOP_BY_HOP,
    REMEMBERED,
    REMEMBERED_BYTES,
    Headers,
    OriginRequest,
    named_by_connection,
)
from edge.remembered import remembered

# lighttpd's bound; one PARAMS record holds as much.
MAX_PARAMS_BYTES: Final = 65_535
_LONG: Final = 0x80  # bit 7 of the first length byte: the length takes four bytes
_MAX_LENGTH: Final = 0x7FFF_FFFF

# Have variables of their own, or belong to our side of the exchange.
_NOT_AS_HTTP: Final = HOP_BY_HOP | {"host", "content-type", "content-length", "expect"}
# HTTP_PROXY in the environment redirects the application's own requests (httpoxy, CVE-2016-5385).
_DROPPED: Final = frozenset({"proxy"})
_PORT: Final = re.compile(r":[0-9]*\Z", re.ASCII)

# Name of what is made of a request's place, in OriginRequest.written.
_PLACE: Final = "cgi"

Pairs = tuple[tuple[bytes, bytes], ...]


def _build_length(length: int) -> bytes:
    if length < _LONG:
        return bytes((length,))
    if length > _MAX_LENGTH:
        raise ValueError(f"{length} bytes in a name-value pair")
    return (length | 1 << 31).to_bytes(4, "big")


_SHORT_LENGTHS: Final = tuple(_build_length(length) for length in range(_LONG))


def build_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    parts: list[bytes] = []
    for name, value in pairs:
        long, short = len(name), len(value)
        if long < _LONG and short < _LONG:  # all that a request needs but for the odd cookie
            parts += (_SHORT_LENGTHS[long], _SHORT_LENGTHS[short], name, value)
        else:
            parts += (_build_length(long), _build_length(short), name, value)
    return b"".join(parts)


def parse_pairs(block: bytes) -> Pairs:
    """Inverse of build_pairs, over a whole stream: a pair may straddle records.

    Raises OriginBroken when the block ends inside a pair.
    """
    pairs: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(block):
        name_length, at = _parse_length(block, at)
        value_length, at = _parse_length(block, at)
        end = at + name_length + value_length
        if end > len(block):
            raise OriginBroken(f"name-value pair ends {end - len(block)} bytes beyond its block")
        pairs.append((block[at : at + name_length], block[at + name_length : end]))
        at = end
    return tuple(pairs)


def _parse_length(block: bytes, at: int) -> tuple[int, int]:
    if at >= len(block):
        raise OriginBroken("name-value pair without a length")
    if block[at] < _LONG:
        return block[at], at + 1
    if at + 4 > len(block):
        raise OriginBroken("name-value pair with half a length")
    return int.from_bytes(block[at : at + 4], "big") & _MAX_LENGTH, at + 4


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """The application as its own host sees it. extra is sent last and may override nothing.

    name is the URL path of a front controller; every path of the site reaches the same script.
    """

    filename: str
    document_root: str = ""
    name: str = "/index.php"
    software: str = "halftone"
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.filename.startswith("/"):
            raise ValueError(f"script_filename must be absolute: {self.filename!r}")
        if not self.name.startswith("/"):
            raise ValueError(f"script name must start with a slash: {self.name!r}")
        for name, _ in self.extra:
            if name in _RESERVED or name.startswith("HTTP_"):
                raise ValueError(f"{name} comes from the request or the script")


class _Block(NamedTuple):
    """Variables that do not change with every request, and the same as they are sent."""

    pairs: Pairs
    wire: bytes


def build_params(request: OriginRequest, script: Script) -> bytes:
    """The content of the PARAMS stream, never empty. Raises UnsendableRequest."""
    length = len(request.body)
    place = request.written.get(_PLACE)
    if place is None:
        place = request.written[_PLACE] = build_pairs(_place(request))
    around, fields, constants = _variables(request, script)
    block = b"".join(
        (
            build_pairs(_length(length)) if length else _NO_LENGTH,
            place,
            around.wire,
            fields.wire,
            constants.wire,
        )
    )
    if len(block) > MAX_PARAMS_BYTES:
        raise UnsendableRequest(f"parameters are {len(block)} bytes, limit {MAX_PARAMS_BYTES}")
    return block


def cgi_variables(request: OriginRequest, script: Script) -> Pairs:
    """Name and value. Raises UnsendableRequest.

    PATH_INFO is empty and PATH_TRANSLATED absent because a front controller has no path behind its
    name; REDIRECT_URI is absent because nothing was rewritten. DOCUMENT_URI, which lighttpd lacks
    and nginx has, is the decoded path, so that the application need not decode a second time.
    """
    variables = (pair for block in _variables(request, script) for pair in block.pairs)
    return (*_length(len(request.body)), *_place(request), *variables)


def _length(length: int) -> Pairs:
    return ((b"CONTENT_LENGTH", b"%d" % length),)


_NO_LENGTH: Final = build_pairs(_length(0))


def _place(request: OriginRequest) -> Pairs:
    return (
        (b"QUERY_STRING", request.query.encode()),
        (b"REQUEST_URI", request.target.encode()),
        (b"DOCUMENT_URI", request.path.encode()),
    )


def _variables(request: OriginRequest, script: Script) -> tuple[_Block, _Block, _Block]:
    """Of the request's surroundings, of its fields, and what the script adds."""
    around = _surroundings(
        request.method,
        request.server_protocol,
        request.scheme,
        request.host,
        request.server_addr,
        request.server_port,
        request.remote_addr,
        request.remote_port,
    )
    return around, _fields(request.headers, request.host), _constants(script)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _surroundings(
    method: str,
    protocol: str,
    scheme: str,
    host: str,
    server_addr: str,
    server_port: int,
    remote_addr: str,
    remote_port: int,
) -> _Block:
    secure = (("HTTPS", "on"),) if scheme == "https" else ()
    return _block(
        ("REQUEST_METHOD", method),
        ("SERVER_PROTOCOL", protocol),
        ("REQUEST_SCHEME", scheme),
        *secure,
        ("SERVER_PORT", str(server_port)),
        ("SERVER_ADDR", server_addr),
        ("SERVER_NAME", _PORT.sub("", host) or server_addr),
        ("REMOTE_ADDR", remote_addr),
        ("REMOTE_PORT", str(remote_port)),
    )


@functools.lru_cache(maxsize=64)
def _constants(script: Script) -> _Block:
    return _block(
        ("REDIRECT_STATUS", "200"),
        ("SCRIPT_NAME", script.name),
        ("PATH_INFO", ""),
        ("SCRIPT_FILENAME", script.filename),
        ("DOCUMENT_ROOT", script.document_root or script.filename.rpartition("/")[0] or "/"),
        ("SERVER_SOFTWARE", script.software),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        *script.extra,
    )


def _block(*variables: tuple[str, str]) -> _Block:
    pairs = tuple((name.encode(), value.encode()) for name, value in variables)
    return _Block(pairs, build_pairs(pairs))


_RESERVED: Final = frozenset(
    {
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "QUERY_STRING",
        "REQUEST_URI",
        "REDIRECT_STATUS",
        "SCRIPT_NAME",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "SCRIPT_FILENAME",
        "DOCUMENT_URI",
        "DOCUMENT_ROOT",
        "REQUEST_METHOD",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
        "GATEWAY_INTERFACE",
        "REQUEST_SCHEME",
        "HTTPS",
        "SERVER_PORT",
        "SERVER_ADDR",
        "SERVER_NAME",
        "REMOTE_ADDR",
        "REMOTE_PORT",
    }
)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _fields(headers: Headers, host: str) -> _Block:
    """RFC 3875 section 4.1.18. Two fields that would share a variable could hide one behind the
    other (X_Real_IP from the client, X-Real-IP from a proxy), so they are refused together.
    Raises UnsendableRequest."""
    dropped = _NOT_AS_HTTP | _DROPPED | named_by_connection(headers)
    spelling: dict[str, str] = {"HTTP_HOST": "host"}
    values: dict[str, str] = {"HTTP_HOST": host}
    types = []
    for name, value in headers:
        lower = name.lower()
        if lower == "content-type":
            types.append(value)
        variable = "HTTP_" + "".join(c if c.isalnum() else "_" for c in lower).upper()
        if spelling.setdefault(variable, lower) != lower:
            raise UnsendableRequest(f"fields {lower!a:.80} and {spelling[variable]!a:.80} collide")
        if lower in dropped:
            continue
        # RFC 9110 section 5.3; Cookie alone is joined otherwise (RFC 6265 section 5.4).
        joint = "; " if lower == "cookie" else ", "
        values[variable] = f"{values[variable]}{joint}{value}" if variable in values else value
    if len(types) > 1:
        raise UnsendableRequest(f"{len(types)} Content-Type fields")
    if types:
        values["CONTENT_TYPE"] = types[0]
    pairs = tuple((name.encode(), value.encode("latin-1")) for name, value in values.items())
    return _Block(pairs, build_pairs(pairs))
