"""What an application says of itself: GET_VALUES and its answer, FastCGI 1.0 section 4. Pure.

A management record (request id 0) names what is asked for, as pairs without values; the answer has
a value for each name that the application knows. One that does not know the record itself answers
UNKNOWN_TYPE. Values are decimal numbers as text; names that nobody asked for are skipped.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from edge.origin.errors import OriginBroken
from edge.origin.fastcgi.params import build_pairs, parse_pairs
from edge.origin.fastcgi.records import MANAGEMENT_ID, Record, RecordReader, RecordType

MAX_CONNS: Final = b"FCGI_MAX_CONNS"
MAX_REQS: Final = b"FCGI_MAX_REQS"
MPXS_CONNS: Final = b"FCGI_MPXS_CONNS"
NAMES: Final = (MAX_CONNS, MAX_REQS, MPXS_CONNS)
# A number of more digits is no number of connections.
MAX_DIGITS: Final = 10
_UNKNOWN_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class GetValues:
    """Content of GET_VALUES: the names that are asked for, in order."""

    names: tuple[bytes, ...] = NAMES

    def build(self) -> bytes:
        return build_pairs((name, b"") for name in self.names)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises OriginBroken. A value that stands beside a name means nothing here."""
        return cls(tuple(name for name, _ in parse_pairs(content)))


@dataclass(frozen=True, slots=True)
class Values:
    """Content of GET_VALUES_RESULT. None: not known there, which is the usual thing.

    max_conns: connections that it takes at once; max_reqs: requests; mpxs_conns: whether several of
    them may share a connection, 1 for yes.
    """

    max_conns: int | None = None
    max_reqs: int | None = None
    mpxs_conns: int | None = None

    def __post_init__(self) -> None:
        for number in (self.max_conns, self.max_reqs):
            if number is not None and not 0 <= number < 10**MAX_DIGITS:
                raise ValueError(f"{number} connections or requests")
        if self.mpxs_conns not in (None, 0, 1):
            raise ValueError(f"mpxs_conns is 0 or 1, not {self.mpxs_conns}")

    def build(self) -> bytes:
        numbers = zip(NAMES, (self.max_conns, self.max_reqs, self.mpxs_conns), strict=True)
        return build_pairs((name, b"%d" % n) for name, n in numbers if n is not None)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises OriginBroken: half a pair, a name that is answered twice, no number."""
        found: dict[bytes, int] = {}
        for name, value in parse_pairs(content):
            if name not in NAMES:
                continue
            if name in found:
                raise OriginBroken(f"{name.decode()} is answered twice")
            if not value.isdigit() or len(value) > MAX_DIGITS:
                raise OriginBroken(f"{name.decode()} is no number: {value!a:.80}")
            found[name] = int(value)
        try:
            return cls(*map(found.get, NAMES))
        except ValueError as wrong:
            raise OriginBroken(str(wrong)) from wrong


@dataclass(frozen=True, slots=True)
class UnknownType:
    """Content of UNKNOWN_TYPE: the type of the record that was not understood."""

    type: int

    def build(self) -> bytes:
        return bytes((self.type,)) + bytes(_UNKNOWN_BYTES - 1)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises OriginBroken."""
        if len(content) != _UNKNOWN_BYTES:
            raise OriginBroken(f"UNKNOWN_TYPE of {len(content)} bytes")
        return cls(content[0])


def build_question(names: Iterable[bytes] = NAMES) -> bytes:
    """The record that asks."""
    content = GetValues(tuple(names)).build()
    return Record(RecordType.GET_VALUES, MANAGEMENT_ID, content).build()


class AnswerReader:
    """The answer to GET_VALUES, out of bytes that arrive in any pieces.

    It is the first record, since nothing else was asked on its connection; what follows it is not
    looked at.
    """

    def __init__(self) -> None:
        self._records = RecordReader()
        self._answer: Values | UnknownType | None = None

    def receive_data(self, data: bytes) -> Values | UnknownType | None:
        """None: not yet. Raises OriginBroken for what is no answer."""
        if self._answer is None:
            self._records.receive_data(data)
            record = self._records.maybe_next()
            if record is not None:
                self._answer = _parse_answer(record)
        return self._answer

    def receive_eof(self) -> None:
        """Raises OriginBroken without an answer."""
        if self._answer is None:
            pending = self._records.pending_bytes
            raise OriginBroken(
                f"closed after {pending} bytes of an answer to GET_VALUES", has_begun=pending > 0
            )


def _parse_answer(record: Record) -> Values | UnknownType:
    if record.request_id != MANAGEMENT_ID:
        raise OriginBroken(f"GET_VALUES is answered under request id {record.request_id}")
    match record.type:
        case RecordType.GET_VALUES_RESULT:
            return Values.parse(record.content)
        case RecordType.UNKNOWN_TYPE:
            unknown = UnknownType.parse(record.content)
            if unknown.type != RecordType.GET_VALUES:
                raise OriginBroken(f"type {unknown.type} is unknown there, and nobody asked for it")
            return unknown
        case other:
            raise OriginBroken(f"GET_VALUES is answered by a record of type {other}")
