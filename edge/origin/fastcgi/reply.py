"""The reply of a CGI script, RFC 3875 section 6: a header block, an empty line, the body. Pure.

Lines end with LF or CR LF, and the block may be cut anywhere. A leading "HTTP/1.x 404 ..." line, as
scripts for NPH servers write it, counts as Status. What could mislead a cache or a client (a
control character in a value, a name that is no token, two lengths, no Content-Type) is refused.
"""

import functools
import re
from dataclasses import dataclass
from typing import Final

from edge.origin.errors import OriginBroken, OriginTruncated
from edge.origin.messages import (
    CONTROL_PREFIXES,
    FIELD_VALUE,
    HOP_BY_HOP,
    TOKEN,
    Headers,
    named_by_connection,
)

# As for requests: more is a broken application, not a picture's head.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 100
# Heads that are remembered, since an application says the same of most of its answers, and how long
# one may be: half a megabyte with what was made of them.
KNOWN_HEADS: Final = 256
MAX_KNOWN_BYTES: Final = 1024

_STATUS: Final = re.compile(r"([0-9]{3})(?: .*)?", re.ASCII)
_NPH: Final = re.compile(r"HTTP/1\.[01] +(.*)", re.ASCII)
_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)  # 18 digits fit 63 bits
# RFC 3875 section 6.3.2; "//host" is a reference to another host, not a path of ours.
_LOCAL: Final = re.compile(r"/(?!/)[\x21-\x7e]*")
_EMPTY_LINE: Final = b"\r\n\r\n"
_FINAL_STATUSES: Final = range(200, 600)
# RFC 9110 section 6.4.1.
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """headers: lower-case names; without Status, Content-Length, hop-by-hop fields and controls."""

    status: int
    headers: Headers
    content_length: int | None = None
    local_redirect: str | None = None
    controls: Headers = ()

    @property
    def is_bodiless(self) -> bool:
        return self.status in _BODILESS


class ReplyParser:
    """head is None until the block is complete; then receive_data() returns body bytes.

    has_excess turns True when bytes arrive beyond Content-Length; they are cut off.
    """

    def __init__(self, *, is_head: bool = False) -> None:
        self.head: ReplyHead | None = None
        self.has_excess = False
        self._is_head = is_head
        self._block = bytearray()
        self._scanned = 0  # the block's lines up to here are known not to be empty
        self._received_bytes = 0  # of the body

    def receive_data(self, data: bytes) -> bytes:
        """Raises OriginBroken, before the head only."""
        if self.head is not None:
            return self._receive_body(data)
        if not self._block:
            # Nearly every head comes in one piece, and often as the last one came.
            usual = data.find(_EMPTY_LINE, 0, MAX_KNOWN_BYTES) + len(_EMPTY_LINE)
            if usual > len(_EMPTY_LINE) and (head := _maybe_known_head(data[:usual])) is not None:
                self.head = head
                return self._receive_body(data[usual:])
        self._block += data
        end = self._maybe_end_of_block()
        if end is None:
            if len(self._block) > MAX_HEAD_BYTES:
                raise OriginBroken(f"header block over {MAX_HEAD_BYTES} bytes")
            return b""
        if end > MAX_HEAD_BYTES:
            raise OriginBroken(f"header block of {end} bytes, limit {MAX_HEAD_BYTES}")
        self.head = parse_head(bytes(self._block[:end]))
        body = bytes(self._block[end:])
        self._block.clear()
        return self._receive_body(body)

    def receive_eof(self) -> None:
        """Raises OriginBroken without a head, OriginTruncated below Content-Length."""
        if self.head is None:
            raise OriginBroken(
                f"reply ended after {len(self._block)} bytes without the end of its header block"
            )
        length = self.head.content_length
        if length is None or self._is_head or self._received_bytes >= length:
            return
        if self.head.is_bodiless:
            return
        raise OriginTruncated(f"body is {self._received_bytes} of {length} bytes")

    def _maybe_end_of_block(self) -> int | None:
        """Index behind the empty line. Each line is looked at once, however the block is cut."""
        while (at := self._block.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._block[self._scanned : at])
            self._scanned = at + 1
            if line in (b"", b"\r"):
                return self._scanned
        return None

    def _receive_body(self, data: bytes) -> bytes:
        head = self.head
        assert head is not None
        # Scripts that write a body for HEAD are common and harmless (RFC 3875 section 4.3.2).
        if self._is_head or head.status in _BODILESS:
            return b""
        if head.content_length is not None:
            room = head.content_length - self._received_bytes
            if len(data) > room:
                self.has_excess = True
                data = data[:room]
        self._received_bytes += len(data)
        return data


@functools.lru_cache(maxsize=KNOWN_HEADS)
def _maybe_known_head(block: bytes) -> ReplyHead | None:
    """The head of a short block with CR LF; None of what takes a closer look. Raises OriginBroken,
    which is not remembered."""
    lines = block[:-2]
    if lines[0] in b"\r\n" or b"\n\n" in lines or b"\n\r\n" in lines:
        return None
    return parse_head(block)


def parse_head(block: bytes) -> ReplyHead:
    """The head of a block that ends with its empty line. Raises OriginBroken."""
    fields = _parse_fields(block)
    own: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    controls: list[tuple[str, str]] = []
    hop_by_hop = HOP_BY_HOP | named_by_connection(fields)
    for name, value in fields:
        if name in ("status", "content-length"):
            if name in own:
                raise OriginBroken(f"two {name} fields")
            own[name] = value
        elif name.startswith(CONTROL_PREFIXES):
            controls.append((name, value))
        elif name not in hop_by_hop:
            headers.append((name, value))
    locations = [value for name, value in headers if name == "location"]
    if len(locations) > 1:
        raise OriginBroken(f"{len(locations)} location fields")
    location = locations[0] if locations else None
    if location is not None and len(fields) == 1 and _LOCAL.fullmatch(location):
        return ReplyHead(200, (), content_length=0, local_redirect=location)
    status = _parse_status(own["status"]) if "status" in own else 302 if location else 200
    length = _parse_length(own["content-length"]) if "content-length" in own else None
    head = ReplyHead(
        status=status,
        headers=tuple(headers),
        # RFC 9110 section 8.6: 204 has none, whatever it says.
        content_length=None if status == 204 else length,
        controls=tuple(controls),
    )
    _check_content_type(head, has_location=location is not None)
    return head


def _parse_fields(block: bytes) -> Headers:
    lines = block.decode("latin-1").split("\n")[:-2]  # without the empty line
    if len(lines) > MAX_FIELDS:
        raise OriginBroken(f"{len(lines)} header lines, limit {MAX_FIELDS}")
    fields: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        line = line.removesuffix("\r")
        if number == 0 and (nph := _NPH.fullmatch(line)):
            fields.append(("status", nph[1]))
            continue
        name, colon, value = line.partition(":")
        # A folded line begins with a space and so has no token for a name (RFC 9112 section 5.2).
        if not colon or TOKEN.fullmatch(name) is None:
            raise OriginBroken(f"header line {number + 1} has no name: {line!a:.80}")
        value = value.strip(" \t")
        if FIELD_VALUE.fullmatch(value) is None:
            raise OriginBroken(f"control character in {name}: {value!a:.80}")
        fields.append((name.lower(), value))
    return tuple(fields)


def _parse_status(text: str) -> int:
    match = _STATUS.fullmatch(text)
    # 1xx is no final answer, and 101 would hand the connection over.
    if match is None or int(match[1]) not in _FINAL_STATUSES:
        raise OriginBroken(f"status {text!a:.80}")
    return int(match[1])


def _parse_length(text: str) -> int:
    if _LENGTH.fullmatch(text) is None:
        raise OriginBroken(f"content-length {text!a:.80}")
    return int(text)


def _check_content_type(head: ReplyHead, *, has_location: bool) -> None:
    """RFC 3875 section 6.3.1: a body needs its type. Guessing one is how a page of PHP's own
    warnings becomes a picture."""
    types = sum(name == "content-type" for name, _ in head.headers)
    if types > 1:
        raise OriginBroken(f"{types} content-type fields")
    if types or head.is_bodiless or has_location or head.controls or head.content_length == 0:
        return
    raise OriginBroken("no content-type field")
