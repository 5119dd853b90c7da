"""FastCGI records, FastCGI 1.0 section 3.3: eight bytes of header, content, padding. Pure.

Written records are padded to a multiple of eight, read ones need not be: any may carry 0 to 255
bytes of padding, empty ones included. Request id 0 marks management records (section 3.3).
"""

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from edge.origin.errors import OriginBroken

VERSION: Final = 1
HEADER_BYTES: Final = 8
MAX_CONTENT_BYTES: Final = 65_535
MAX_PADDING_BYTES: Final = 255
# The largest content that needs no padding.
MAX_ALIGNED_BYTES: Final = 65_528
MANAGEMENT_ID: Final = 0
MAX_REQUEST_ID: Final = 65_535
KEEP_CONN: Final = 1

_HEADER: Final = struct.Struct("!BBHHBx")
_HTTP: Final = b"HTTP/"
_BEGIN: Final = struct.Struct("!HB5x")
_END: Final = struct.Struct("!IB3x")
# Of END_REQUEST: appStatus 0, REQUEST_COMPLETE. Nearly every answer ends so.
COMPLETE: Final = bytes(8)


class RecordType(enum.IntEnum):
    BEGIN_REQUEST = 1
    ABORT_REQUEST = 2
    END_REQUEST = 3
    PARAMS = 4
    STDIN = 5
    STDOUT = 6
    STDERR = 7
    DATA = 8
    GET_VALUES = 9
    GET_VALUES_RESULT = 10
    UNKNOWN_TYPE = 11


class Role(enum.IntEnum):
    RESPONDER = 1
    AUTHORIZER = 2
    FILTER = 3


class ProtocolStatus(enum.IntEnum):
    REQUEST_COMPLETE = 0
    CANT_MPX_CONN = 1
    OVERLOADED = 2
    UNKNOWN_ROLE = 3


class Record(NamedTuple):
    """type is a number, not a RecordType: a peer may send types of its own, to be skipped."""

    type: int
    request_id: int
    content: bytes = b""

    def build(self) -> bytes:
        """Raises ValueError for what no record can hold."""
        length = len(self.content)
        if not 0 <= self.type <= 255 or not 0 <= self.request_id <= MAX_REQUEST_ID:
            raise ValueError(f"type {self.type} or request id {self.request_id} out of range")
        if length > MAX_CONTENT_BYTES:
            raise ValueError(f"content is {length} bytes, limit {MAX_CONTENT_BYTES}")
        padding = -length % 8
        header = _HEADER.pack(VERSION, self.type, self.request_id, length, padding)
        return b"".join((header, self.content, bytes(padding)))


def build_stream(type_: RecordType, request_id: int, data: bytes) -> bytes:
    """data as records of one stream, closed by the empty record that ends it (section 3.3)."""
    pieces = [
        Record(type_, request_id, data[start : start + MAX_ALIGNED_BYTES]).build()
        for start in range(0, len(data), MAX_ALIGNED_BYTES)
    ]
    return b"".join((*pieces, Record(type_, request_id).build()))


def build_short_stream(type_: RecordType, request_id: int, data: bytes) -> bytes:
    """build_stream() of what one record holds, with both headers in one go."""
    length = len(data)
    padding = -length % 8
    if not 0 < length <= MAX_CONTENT_BYTES:
        return build_stream(type_, request_id, data)
    header = _HEADER.pack(VERSION, type_, request_id, length, padding)
    end = _HEADER.pack(VERSION, type_, request_id, 0, 0)
    return b"".join((header, data, bytes(padding), end))


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """Body of BEGIN_REQUEST, section 5.1."""

    role: Role
    flags: int = 0

    def build(self) -> bytes:
        return _BEGIN.pack(self.role, self.flags)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises OriginBroken."""
        if len(content) != _BEGIN.size:
            raise OriginBroken(f"BEGIN_REQUEST of {len(content)} bytes")
        role, flags = _BEGIN.unpack(content)
        try:
            return cls(Role(role), flags)
        except ValueError:
            raise OriginBroken(f"BEGIN_REQUEST with role {role}") from None


@dataclass(frozen=True, slots=True)
class EndRequest:
    """Body of END_REQUEST, section 5.5."""

    app_status: int
    protocol_status: ProtocolStatus

    def build(self) -> bytes:
        return _END.pack(self.app_status, self.protocol_status)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises OriginBroken."""
        if len(content) != _END.size:
            raise OriginBroken(f"END_REQUEST of {len(content)} bytes")
        app_status, protocol_status = _END.unpack(content)
        try:
            return cls(app_status, ProtocolStatus(protocol_status))
        except ValueError:
            raise OriginBroken(f"END_REQUEST with protocol status {protocol_status}") from None


class RecordReader:
    """Records out of bytes that arrive in any pieces.

    Take all records after every receive_data(); then less than one record stays buffered.
    """

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._start = 0

    def receive_data(self, data: bytes) -> None:
        if self._start == len(self._buffer):
            # Most answers are one piece, which is cut where it lies.
            self._buffer, self._start = data, 0
            return
        if type(self._buffer) is bytes:
            self._buffer = bytearray(self._buffer)
        assert isinstance(self._buffer, bytearray)
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    @property
    def pending_bytes(self) -> int:
        """What was received and belongs to no record taken so far."""
        return len(self._buffer) - self._start

    def __iter__(self) -> Iterator[Record]:
        """The complete records. Raises OriginBroken at a version that is not ours."""
        while (record := self.maybe_next()) is not None:
            yield record

    def maybe_next(self) -> Record | None:
        buffer, start = self._buffer, self._start
        pending = len(buffer) - start
        # The version is judged on the first byte: garbage need not be eight bytes long.
        if pending and buffer[start] != VERSION:
            if _HTTP.startswith(bytes(buffer[start : start + len(_HTTP)])):
                raise OriginBroken('it speaks HTTP, not FastCGI: is it kind = "http"?')
            raise OriginBroken(f"FastCGI version {buffer[start]}, not {VERSION}")
        if pending < HEADER_BYTES:
            return None
        _, type_, request_id, length, padding = _HEADER.unpack_from(buffer, start)
        if pending < HEADER_BYTES + length + padding:
            return None
        start += HEADER_BYTES
        content = buffer[start : start + length]
        self._start = start + length + padding
        if type(content) is not bytes:
            content = bytes(content)
        # As Record() would: its own __new__ is one more call for every record.
        return tuple.__new__(Record, (type_, request_id, content))
