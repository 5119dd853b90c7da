"""A request to an origin and its answer, whatever protocol lies between. Pure.

Text follows HTTP's own encodings: header values are latin-1 as they came, the target is visible
ASCII as it came, path is the target's path decoded once.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge.origin.errors import UnsendableRequest
from edge.remembered import remembered

# What may be held in memory for one request; larger bodies are RequestBody.
MAX_BODY_BYTES: Final = 1 << 20
# Sets of fields whose checks and encodings are remembered, and the bytes of all of one kind. A head
# has some 700 bytes in the mean, and 32 KiB where somebody means harm.
REMEMBERED: Final = 512
REMEMBERED_BYTES: Final = 2 * 1024 * 1024

# RFC 9110 section 5.6.2 (token) and 5.5 (field values: HTAB, SP, visible and obs-text).
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")
_QUERY: Final = re.compile(r"[\x21-\x7e]*")
_PATH: Final = re.compile(r"/[^\x00-\x1f\x7f\ud800-\udfff]*")
_WORD: Final = re.compile(r"[\x21-\x7e]*")

Headers = tuple[tuple[str, str], ...]

# RFC 9110 section 7.6.1: fields of one connection, never passed on, with those Connection names.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# How an application names a file to be sent in place of its body, and what goes with that. They are
# commands to the server in front and never go further.
CONTROL_PREFIXES: Final = ("x-sendfile", "x-accel-", "x-lighttpd-send-")
# How applications say that their answer is not to be collected.
_LIVE: Final = {"content-type": "text/event-stream", "x-accel-buffering": "no"}


def named_by_connection(headers: Headers) -> frozenset[str]:
    """The fields that Connection names (9110 section 7.6.1), in lower case."""
    return frozenset(
        option.strip(" \t").lower()
        for name, value in headers
        if name.lower() == "connection"
        for option in value.split(",")
    )


class RequestBody(Protocol):
    """A body that is not held in memory: its length is known before its first byte is sent, and it
    can be read again from its start, so that another host can be tried."""

    def __len__(self) -> int: ...

    async def read(self, size: int, offset: int) -> bytes:
        """1 to size bytes from offset on, which is below the length. Raises OSError."""


class Aside(Protocol):
    """Told of what comes beside an answer, for the one client whose exchange it is. Raises nothing.

    Header names are lower-case, hop-by-hop fields are not among them.
    """

    @property
    def takes_trailers(self) -> bool:
        """Whether the origin is to be asked for them (RFC 9110 section 10.1.4)."""

    def interim(self, status: int, headers: Headers) -> None:
        """A 1xx, ahead of the answer's head (section 15.2)."""

    def announced(self, names: tuple[str, ...]) -> None:
        """With the head: trailers that may come (section 6.6.2)."""

    def trailers(self, headers: Headers) -> None:
        """Once, behind the body and before read() tells its end (section 6.5)."""


# Not frozen: one is made for most requests, and what freezes it would cost more than its checks.
@dataclass(slots=True)
class OriginRequest:
    """What is put to an origin. A value that exists can be written into any protocol of ours, and
    is never changed.

    target is the raw path?query; path the decoded path; query the raw query. host is the authority
    (it stands for a Host field in headers), the addresses are numeric. The length of body is what
    the origin is told, whatever Content-Length headers hold. is_for_all: it says nothing of any
    client, and remote_addr is this node's own. aside: None where the answer may be for several.
    written: what a protocol has made of target, path and query, for all that is dressed() of this.
    Raises UnsendableRequest.
    """

    method: str
    target: str
    path: str
    query: str
    headers: Headers
    host: str
    scheme: str
    remote_addr: str
    remote_port: int
    server_addr: str
    server_port: int
    server_protocol: str
    body: bytes | RequestBody = b""
    is_for_all: bool = False
    aside: Aside | None = field(default=None, repr=False, compare=False)
    written: dict[str, bytes] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_words(
            self.method,
            self.host,
            self.scheme,
            self.remote_addr,
            self.server_addr,
            self.server_protocol,
        )
        _check_headers(self.headers)
        if _TARGET.fullmatch(self.target) is None:
            raise _unsendable("target")
        if _PATH.fullmatch(self.path) is None:
            raise _unsendable("path")
        if _QUERY.fullmatch(self.query) is None:
            raise _unsendable("query")
        if isinstance(self.body, bytes) and len(self.body) > MAX_BODY_BYTES:
            raise UnsendableRequest(f"body is {len(self.body)} bytes, limit {MAX_BODY_BYTES}")

    def dressed(
        self, headers: Headers, scheme: str, remote_addr: str, aside: Aside | None
    ) -> "OriginRequest":
        """The same in the words of one client, where only these are looked at. Raises
        UnsendableRequest."""
        _check_words(
            self.method,
            self.host,
            scheme,
            remote_addr,
            self.server_addr,
            self.server_protocol,
        )
        _check_headers(headers)
        made = object.__new__(OriginRequest)  # the rest has been looked at
        made.method, made.host = self.method, self.host
        made.target, made.path, made.query = self.target, self.path, self.query
        made.headers, made.scheme, made.body = headers, scheme, self.body
        made.remote_addr, made.remote_port = remote_addr, self.remote_port
        made.server_addr, made.server_port = self.server_addr, self.server_port
        made.server_protocol = self.server_protocol
        made.is_for_all, made.aside, made.written = False, aside, self.written
        return made


_WORDS: Final = {
    "method": TOKEN,
    "host": _WORD,
    "scheme": TOKEN,
    "remote_addr": _WORD,
    "server_addr": _WORD,
    "server_protocol": _WORD,
}


# What was judged a moment ago need not be judged again: a client asks for many things in the same
# words. A failure is not remembered.
@remembered(REMEMBERED, REMEMBERED_BYTES)
def _check_words(*words: str) -> None:
    for (name, grammar), word in zip(_WORDS.items(), words, strict=True):
        if grammar.fullmatch(word) is None:
            raise _unsendable(name)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _check_headers(headers: Headers) -> None:
    for name, value in headers:
        if TOKEN.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None:
            raise UnsendableRequest(f"malformed header field {name!a:.80}")


def _unsendable(name: str) -> UnsendableRequest:
    return UnsendableRequest(f"{name} has a character that no request may have")


class OriginHead(Protocol):
    """Header names are lower-case; hop-by-hop fields and Content-Length are not among them: the
    length is content_length, a fact about the body (also where HEAD or 304 has none).
    """

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def content_length(self) -> int | None: ...

    @property
    def controls(self) -> Headers:
        """What the application asks of the server in front (CONTROL_PREFIXES); not among headers.
        sendfile.py obeys it."""


def is_live(head: OriginHead) -> bool:
    """Made to be read while it is made: each piece is waited for, the end may never come."""
    if head.content_length is not None:
        return False
    return any(
        value.lower().startswith(_LIVE[name])
        for name, value in (*head.headers, *head.controls)
        if name in _LIVE
    )


class OriginResponse(OriginHead, Protocol):
    """One answer: its head is complete, its body is read piece by piece."""

    @property
    def local_redirect(self) -> str | None:
        """Path?query to ask for instead (RFC 3875 section 6.2.2); the body is then empty."""

    @property
    def is_cacheable(self) -> bool:
        """True once the body came to a clean end and nothing about the exchange was odd."""

    def maybe_all(self) -> bytes | None:
        """The body, where all of it came with the head and is in memory; then nothing is left to be
        read, or closed. None: read() tells."""

    async def read(self) -> bytes:
        """The next piece; b"" at the clean end. Raises OriginTruncated, OriginTimeout, and
        BodyUnreadable while a request body is still on its way."""

    async def aclose(self) -> None:
        """Give the connection up; a body not read to its end is abandoned."""
