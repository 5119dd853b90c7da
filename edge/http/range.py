"""Byte ranges, RFC 9110 section 14: what to send of a representation, and how it is framed.

Runs last: method GET, the answer would be 200, preconditions passed, If-Range holds.
What we cannot parse we ignore: a whole 200 is always a right answer.
All arithmetic is on integers of any size; nothing here depends on a length fitting 32 bits.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.http.date import parse_date
from edge.http.etag import parse_entity_tags, strong_match

# Ranges asked for in one request; above this the client is broken or hostile (section 17.15).
MAX_RANGES: Final = 16
# List members, empty ones included: section 5.6.1.2 wants "a reasonable number" of those skipped.
MAX_MEMBERS: Final = 64
# A gap smaller than the head of a part is cheaper to send than to leave out. Section 15.3.7.2:
# "the typical overhead between each part of a multipart/byteranges is around 80 bytes".
PART_HEAD_BYTES: Final = 80

# Longer numbers are past the end of any file (2**63 has 19 digits), and int() refuses very long
# ones, so their value is never taken.
_MAX_DIGITS: Final = 19
_HUGE: Final = 10**_MAX_DIGITS

_USUAL: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_MEMBER: Final = re.compile(r"[ \t]*+(?:([0-9]*+)-([0-9]*+)[ \t]*+)?(?:,|\Z)")
# bcharsnospace of RFC 2046 section 5.1.1, less what would need quoting in Content-Type.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'+_.-]{1,70}")
_TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_MEDIA_TYPE: Final = re.compile(rf"{_TCHAR}+/{_TCHAR}+[\t\x20-\x7e]*+")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Positions first to last, both inclusive, so never empty. Raises ValueError."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"no range: {self.first} to {self.last}")

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class Unsatisfiable(enum.Enum):
    """The request is understood and nothing of it lies inside the representation: 416."""

    UNSATISFIABLE = "unsatisfiable"


UNSATISFIABLE: Final = Unsatisfiable.UNSATISFIABLE


def select_ranges(field: str, length: int) -> tuple[ByteRange, ...] | Unsatisfiable | None:
    """The ranges to send of a representation of length bytes, in the order asked for.

    None: ignore the field and send 200. One range: a plain 206, also where several were asked for.
    Several: disjoint, and at least PART_HEAD_BYTES apart.
    """
    usual = _USUAL.fullmatch(field)
    if usual is None:
        return _select_any(field, length)
    first = int(usual[1])
    end = usual[2]
    last = int(end) if end else length - 1
    if end and last < first:
        return None
    if first >= length:
        return UNSATISFIABLE
    return (ByteRange(first, last if last < length else length - 1),)


def _select_any(field: str, length: int) -> tuple[ByteRange, ...] | Unsatisfiable | None:
    unit, equals, members = field.partition("=")
    # Section 14.1: range unit names are case-insensitive; an unknown one is ignored (14.2).
    if not equals or unit.lower() != "bytes":
        return None
    if members.count(",") >= MAX_MEMBERS:
        return None
    asked = 0
    satisfiable: list[ByteRange] = []
    position = 0
    while position < len(members):
        member = _MEMBER.match(members, position)
        if member is None:
            return None
        position = member.end()
        first, last = member[1], member[2]
        if first is None:
            continue
        if _is_invalid(first, last):
            return None
        asked += 1
        selected = _select_one(first, last, length)
        if selected is not None:
            satisfiable.append(selected)
    # "1#range-spec": a set of nothing is a syntax error.
    if asked == 0 or asked > MAX_RANGES:
        return None
    if satisfiable:
        return _coalesce(satisfiable)
    # Section 14.1.2 calls a suffix of an empty representation satisfiable, yet no Content-Range
    # can say "no bytes". The whole of nothing as 200 is right for the client in any case.
    if length == 0 and re.search(r"(?<![0-9])-0*[1-9]", members):
        return None
    return UNSATISFIABLE


def _is_invalid(first: str, last: str) -> bool:
    """Section 14.1.1: "-" alone, or a last position before the first."""
    if not first or not last:
        return not first and not last
    first, last = first.lstrip("0"), last.lstrip("0")
    return (len(last), last) < (len(first), first)


def _select_one(first: str, last: str, length: int) -> ByteRange | None:
    """One valid range-spec clipped to the representation; None when unsatisfiable."""
    if not first:
        # suffix-range; longer than the representation means all of it.
        suffix = min(_number(last), length)
        return ByteRange(length - suffix, length - 1) if suffix else None
    start = _number(first)
    if start >= length:
        return None
    return ByteRange(start, min(_number(last), length - 1) if last else length - 1)


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    if len(significant) > _MAX_DIGITS:
        return _HUGE
    return int(significant or "0")


def _coalesce(ranges: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """Join what overlaps, touches or nearly touches; a joined range stands where its first
    range-spec stood, as section 15.3.7.2 wants the order of the request kept."""
    # Each group: [position in the request, first, last].
    groups: list[list[int]] = []
    for position, one in sorted(enumerate(ranges), key=lambda item: item[1].first):
        if groups and one.first - groups[-1][2] - 1 < PART_HEAD_BYTES:
            group = groups[-1]
            group[0] = min(group[0], position)
            group[2] = max(group[2], one.last)
        else:
            groups.append([position, one.first, one.last])
    return tuple(ByteRange(first, last) for _, first, last in sorted(groups))


def if_range_holds(
    field: str, etag: str | None, last_modified: int | None, date: int | None
) -> bool:
    """Section 13.1.5: True when Range may be honoured, False when the whole 200 is to be sent.

    date is the Date of the response that carried last_modified, in seconds since 1970.
    """
    # "A valid entity-tag can be distinguished from a valid HTTP-date by examining the first three
    # characters for a DQUOTE."
    if '"' in field[:3]:
        # The usual case, our own strong tag, without building a list.
        if field == etag and field.count('"') == 2 and field[0] == field[-1] == '"':
            return True
        ours, theirs = parse_entity_tags(etag or ""), parse_entity_tags(field)
        if not isinstance(ours, tuple) or not isinstance(theirs, tuple):
            return False
        return len(ours) == len(theirs) == 1 and strong_match(ours[0], theirs[0])
    if last_modified is None or date is None:
        return False
    # A date must be a strong validator: section 8.8.2.2 has it "at least one second" before Date,
    # or a second version within that second would carry the same one.
    return last_modified < date and parse_date(field) == last_modified


def content_range(first: int, last: int, length: int) -> str:
    """Content-Range of a 206 or of one of its parts (section 14.4)."""
    return f"bytes {first}-{last}/{length}"


def unsatisfied_range(length: int) -> str:
    """Content-Range of a 416 (section 15.5.17)."""
    return f"bytes */{length}"


def can_frame(ranges: Sequence[ByteRange] | Unsatisfiable, media_type: str) -> bool:
    """False: each of several parts would have to say a media type (section 15.3.7.2) that is none,
    or is not known. The whole is sent."""
    return ranges is UNSATISFIABLE or len(ranges) < 2 or bool(_MEDIA_TYPE.fullmatch(media_type))


@dataclass(frozen=True, slots=True)
class Multipart:
    """The framing of a multipart/byteranges body (section 14.6): heads[0], the bytes of ranges[0],
    heads[1], ... closing. content_length counts all of it."""

    content_type: str
    ranges: tuple[ByteRange, ...]
    heads: tuple[bytes, ...]
    closing: bytes
    content_length: int


def frame_multipart(
    media_type: str, length: int, ranges: Sequence[ByteRange], boundary: str
) -> Multipart:
    """The parts of a 206 over several ranges of a representation of length bytes.

    boundary must be unguessable (128 random bits), for nobody searches the body for it. Raises
    ValueError for a boundary or a media type that cannot stand in a head.
    """
    if _BOUNDARY.fullmatch(boundary) is None:
        raise ValueError("a boundary is 1 to 70 characters that need no quoting")
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        raise ValueError("not a media type")
    delimiter = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: ".encode("ascii")
    heads = tuple(
        # The CRLF before a delimiter belongs to it (RFC 2046 section 5.1.1); the first needs none.
        b"".join((b"\r\n" if index else b"", delimiter, _part_range(one, length), b"\r\n\r\n"))
        for index, one in enumerate(ranges)
    )
    closing = f"\r\n--{boundary}--\r\n".encode("ascii")
    return Multipart(
        content_type=f"multipart/byteranges; boundary={boundary}",
        ranges=tuple(ranges),
        heads=heads,
        closing=closing,
        content_length=sum(map(len, heads)) + sum(one.size for one in ranges) + len(closing),
    )


def _part_range(one: ByteRange, length: int) -> bytes:
    return content_range(one.first, one.last, length).encode("ascii")
