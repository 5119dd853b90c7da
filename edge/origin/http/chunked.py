r"""The chunked coding of a body, RFC 9112 section 7.1, decoded. Pure.

    4\r\npict\r\n3;ext=1\r\nure\r\n0\r\nServer-Timing: a\r\n\r\n

Strict: CR LF ends a line and nothing else does, a size is hexadecimal digits alone. Extensions are
skipped. Trailers are kept apart, checked as fields are, and never merged into a head (RFC 9110
section 6.5.1).
"""

import re
from typing import Final

from edge.origin.errors import OriginBroken
from edge.origin.http.fields import parse_field

# A size with its extensions; nobody sends any, and nginx takes as little.
MAX_LINE_BYTES: Final = 4096
MAX_TRAILER_BYTES: Final = 8192
MAX_TRAILERS: Final = 100  # as of a head's fields
# 15 hexadecimal digits fit 63 bits.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class ChunkedBody:
    """Feed bytes, get the body's; is_ended when the last chunk and its trailers are there, and then
    rest is what came behind them. trailers have lower-case names."""

    def __init__(self) -> None:
        self.is_ended = False
        self.rest = b""
        self.trailers: list[tuple[str, str]] = []
        self._pending = b""  # bytes of a line that has not ended
        self._left = 0  # of the chunk
        self._is_behind_chunk = False  # its CR LF is next
        self._in_trailers = False
        self._trailer_bytes = 0

    def receive_data(self, data: bytes) -> bytes:
        """Raises OriginBroken."""
        data = self._pending + data if self._pending else data
        self._pending = b""
        pieces: list[bytes] = []
        at = 0
        while not self.is_ended and at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                self._is_behind_chunk = not self._left
                continue
            line, at = self._next_line(data, at)
            if line is None:
                self._pending = data[at:]
                break
            self._take_line(line)
        if self.is_ended:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _next_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """A line without its end, and where the next one begins; None when it has no end yet."""
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - at > MAX_LINE_BYTES:
                raise OriginBroken(f"line of a chunked body over {MAX_LINE_BYTES} bytes")
            return None, at
        if end - at > MAX_LINE_BYTES or data[end - 1 : end] != b"\r" or end == at:
            raise OriginBroken(f"line of a chunked body: {data[at:end][:80]!a}")
        return data[at : end - 1], end + 1

    def _take_line(self, line: bytes) -> None:
        if self._is_behind_chunk:
            if line:
                raise OriginBroken(f"chunk is longer than its size: {line[:80]!a}")
            self._is_behind_chunk = False
        elif self._in_trailers:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise OriginBroken(f"trailers over {MAX_TRAILER_BYTES} bytes")
            if len(self.trailers) == MAX_TRAILERS and line:
                raise OriginBroken(f"more than {MAX_TRAILERS} trailers")
            if line:
                self.trailers.append(parse_field(line))
            else:
                self.is_ended = True
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise OriginBroken(f"size of a chunk: {line[:80]!a}")
            self._left = int(match[1], 16)
            self._in_trailers = not self._left
