"""An HTTP/1.1 answer, RFC 9112 section 2: bytes in, head and body out, no socket. Pure.

    HTTP/1.1 103 Early Hints CR LF Link: ... CR LF CR LF       interim: kept apart
    HTTP/1.1 200 OK CR LF Content-Length: 7 CR LF CR LF picture

How the body ends (section 6.3): it has none (HEAD, 204, 304); chunked; a length; or the close of
the connection, and then a cut cannot be told from the end (is_definite False). What two readers
could understand in two ways is refused: two lengths, a length beside a coding, a coding that is not
chunked alone, a coding in HTTP/1.0, a folded line, a bare CR or LF.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

from edge.origin.errors import OriginBroken, OriginTruncated
from edge.origin.http.chunked import ChunkedBody
from edge.origin.http.fields import parse_field
from edge.origin.messages import (
    CONTROL_PREFIXES,
    HOP_BY_HOP,
    TOKEN,
    Headers,
    named_by_connection,
)

# As for requests, and for the replies of scripts.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 100
# One or two are met (100, 103); an origin that sends them for ever is broken.
MAX_INTERIM: Final = 16

_START: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)  # 18 digits fit 63 bits
_SWITCHING: Final = 101
# RFC 9110 section 6.4.1.
_BODILESS: Final = frozenset({204, 304})
# More than one of these could be read in two ways.
_SINGLE: Final = ("content-length", "content-type", "location", "transfer-encoding")


class Framing(enum.Enum):
    """What ends the body."""

    NONE = "none"  # there is no body
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """headers: lower-case names; without Content-Length, hop-by-hop fields and controls.

    is_kept: the origin lets the connection live behind the body. own: fields that Connection names,
    which are as little for others behind the body as they are here. announced: trailers that may
    come, by name (RFC 9110 section 6.6.2).
    """

    status: int
    headers: Headers
    framing: Framing
    content_length: int | None = None
    controls: Headers = ()
    is_kept: bool = False
    own: frozenset[str] = frozenset()
    announced: tuple[str, ...] = ()


class AnswerParser:
    """head is None until it is complete; then receive_data() returns body bytes, until is_ended.

    take_interim() has the heads that came before it, trailers what came behind the body.
    has_excess: bytes came behind the end; they are dropped.
    """

    def __init__(self, *, is_head: bool = False) -> None:
        self.head: AnswerHead | None = None
        self.is_ended = False
        self.has_excess = False
        self._is_head = is_head
        self._block = bytearray()
        self._scanned = 0  # no line begins and ends before this
        self._interim: list[AnswerHead] = []
        self._interim_seen = 0
        self._left = 0
        self._chunked = ChunkedBody()

    @property
    def is_definite(self) -> bool:
        return self.head is not None and self.head.framing is not Framing.CLOSE

    @property
    def trailers(self) -> Headers:
        """End-to-end ones; none before the end."""
        if self.head is None or not self._chunked.is_ended:
            return ()
        own = HOP_BY_HOP | self.head.own
        return tuple(pair for pair in self._chunked.trailers if pair[0] not in own)

    def take_interim(self) -> list[AnswerHead]:
        """Those that have come since; they have neither body nor framing."""
        taken, self._interim = self._interim, []
        return taken

    def receive_data(self, data: bytes) -> bytes:
        """Raises OriginBroken."""
        while self.head is None:
            self._block += data
            end = self._maybe_end_of_block()
            if end is None:
                return b""
            block, data = bytes(self._block[:end]), bytes(self._block[end:])
            self._block.clear()
            self._scanned = 0
            head = parse_head(block, is_head=self._is_head)
            if head.status >= 200:
                self.head = head
                self._left = head.content_length or 0
                self.is_ended = head.framing is Framing.NONE or (
                    head.framing is Framing.LENGTH and not self._left
                )
                break
            self._interim_seen += 1
            if self._interim_seen > MAX_INTERIM:
                raise OriginBroken(f"more than {MAX_INTERIM} interim answers")
            self._interim.append(head)
        return self._receive_body(self.head, data)

    def receive_eof(self) -> None:
        """The connection was closed, cleanly. Raises OriginBroken without a head, OriginTruncated
        before the end of a body that tells its end."""
        if self.head is None:
            raise OriginBroken(f"closed after {len(self._block)} bytes of a head")
        if self.head.framing is Framing.CLOSE:
            self.is_ended = True
        if self.is_ended:
            return
        length = self.head.content_length
        if length is not None:
            raise OriginTruncated(f"body is {length - self._left} of {length} bytes")
        raise OriginTruncated("chunked body without its end")

    def _maybe_end_of_block(self) -> int | None:
        """Index behind the empty line. Raises OriginBroken as soon as no head can become of it:
        nobody is to wait for the end of what is no answer. Each byte is looked at once or twice,
        however the block is cut."""
        block = self._block
        if self._scanned < len(_START) and not block.startswith(_START[: len(block)]):
            raise OriginBroken(f"no answer of HTTP/1.x: {bytes(block[:40])!a}")
        start = max(0, self._scanned - 3)
        at = block.find(b"\r\n\r\n", start)
        end = len(block) if at < 0 else at + 4
        if end > MAX_HEAD_BYTES:
            raise OriginBroken(f"head over {MAX_HEAD_BYTES} bytes")
        if _BARE_LF.search(block, start, end):
            raise OriginBroken("bare LF in a head")
        self._scanned = end
        return None if at < 0 else end

    def _receive_body(self, head: AnswerHead, data: bytes) -> bytes:
        if not data:
            return b""
        if self.is_ended:
            self.has_excess = True
            return b""
        if head.framing is Framing.CLOSE:
            return data
        if head.framing is Framing.CHUNKED:
            body = self._chunked.receive_data(data)
            self.is_ended = self._chunked.is_ended
            self.has_excess = bool(self._chunked.rest)
            return body
        body = data[: self._left]
        self._left -= len(body)
        self.is_ended = not self._left
        self.has_excess = len(body) < len(data)
        return body


def parse_head(block: bytes, *, is_head: bool = False) -> AnswerHead:
    """The head of a block that ends with its empty line. Raises OriginBroken."""
    first, *lines = block[:-4].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise OriginBroken(f"status line {first[:80]!a}")
    if len(lines) > MAX_FIELDS:
        raise OriginBroken(f"{len(lines)} header lines, limit {MAX_FIELDS}")
    minor, status = int(match[1]), int(match[2])
    if status == _SWITCHING:
        raise OriginBroken("status 101, which nobody asked for")
    fields = tuple(map(parse_field, lines))
    single = _single_values(fields)
    connection = named_by_connection(fields)
    hop_by_hop = HOP_BY_HOP | connection
    framing, length = _framing(status, minor, single, is_head=is_head)
    return AnswerHead(
        status=status,
        headers=tuple(
            (name, value)
            for name, value in fields
            if name not in hop_by_hop
            and name != "content-length"
            and not name.startswith(CONTROL_PREFIXES)
        ),
        framing=framing,
        content_length=length,
        controls=tuple(field for field in fields if field[0].startswith(CONTROL_PREFIXES)),
        # A server of HTTP/1.0 may keep a connection, too; none that is worth the trouble does.
        is_kept=minor == 1 and "close" not in connection and framing is not Framing.CLOSE,
        own=connection,
        announced=_announced(fields, hop_by_hop) if framing is Framing.CHUNKED else (),
    )


def _announced(fields: Headers, hop_by_hop: frozenset[str]) -> tuple[str, ...]:
    """What is no token here announces nothing."""
    named = (
        member.strip(" \t").lower()
        for name, value in fields
        if name == "trailer"
        for member in value.split(",")
    )
    found = (name for name in named if TOKEN.fullmatch(name) and name not in hop_by_hop)
    return tuple(dict.fromkeys(found))


def _single_values(fields: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields:
        if name in _SINGLE:
            if name in found:
                raise OriginBroken(f"two {name} fields")
            found[name] = value
    return found


def _framing(
    status: int, minor: int, single: dict[str, str], *, is_head: bool
) -> tuple[Framing, int | None]:
    coding, length = single.get("transfer-encoding"), single.get("content-length")
    if coding is not None:
        if length is not None:
            raise OriginBroken("transfer-encoding and content-length")
        if minor == 0:
            raise OriginBroken("transfer-encoding in HTTP/1.0")
        if coding.lower() != "chunked":
            raise OriginBroken(f"transfer-encoding {coding!a:.80}")
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise OriginBroken(f"content-length {length!a:.80}")
    octets = None if length is None else int(length)
    if is_head or status in _BODILESS or status < 200:
        # Section 8.6 of RFC 9110: 204 has none, whatever it says.
        return Framing.NONE, None if status == 204 else octets
    if coding is not None:
        return Framing.CHUNKED, None
    return (Framing.CLOSE, None) if octets is None else (Framing.LENGTH, octets)
