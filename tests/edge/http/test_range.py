"""edge/http/range.py: RFC 9110 section 14."""

import email.parser
import email.policy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.date import format_date
from edge.http.range import (
    MAX_MEMBERS,
    MAX_RANGES,
    PART_HEAD_BYTES,
    UNSATISFIABLE,
    ByteRange,
    Unsatisfiable,
    content_range,
    frame_multipart,
    if_range_holds,
    select_ranges,
    unsatisfied_range,
)

GIB = 2**30
HUGE = "9" * 5_000  # more digits than int() accepts

Expected = list[tuple[int, int]] | Unsatisfiable | None


@pytest.mark.parametrize(
    ("field", "length", "expected"),
    [
        # usual: the examples of section 14.1.2, on 10,000 bytes
        ("bytes=0-499", 10_000, [(0, 499)]),
        ("bytes=500-999", 10_000, [(500, 999)]),
        ("bytes=-500", 10_000, [(9500, 9999)]),
        ("bytes=9500-", 10_000, [(9500, 9999)]),
        ("bytes=0-0,-1", 10_000, [(0, 0), (9999, 9999)]),
        ("bytes= 0-999, 4500-5499, -1000", 10_000, [(0, 999), (4500, 5499), (9000, 9999)]),
        ("bytes=500-600,601-999", 10_000, [(500, 999)]),
        ("bytes=500-700,601-999", 10_000, [(500, 999)]),
        ("bytes=0-", 10, [(0, 9)]),
        # edge: every limit and one past it
        ("bytes=0-8", 10, [(0, 8)]),
        ("bytes=0-9", 10, [(0, 9)]),
        ("bytes=0-10", 10, [(0, 9)]),  # clipped
        ("bytes=9-", 10, [(9, 9)]),
        ("bytes=9-9", 10, [(9, 9)]),
        ("bytes=10-", 10, UNSATISFIABLE),
        ("bytes=10-20", 10, UNSATISFIABLE),
        ("bytes=5-2", 10, None),  # malformed: ignored
        ("bytes=20-15", 10, None),  # malformed, though also past the end
        ("bytes=-9", 10, [(1, 9)]),
        ("bytes=-10", 10, [(0, 9)]),
        ("bytes=-11", 10, [(0, 9)]),
        ("bytes=-0", 10, UNSATISFIABLE),
        ("bytes=-00", 10, UNSATISFIABLE),
        ("bytes=00-01", 10, [(0, 1)]),
        ("BYTES=0-1", 10, [(0, 1)]),  # unit names are case-insensitive
        ("bytes=0-1,", 10, [(0, 1)]),  # section 5.6.1.2: empty members
        ("bytes=,, 0-1 ,\t", 10, [(0, 1)]),
        ("bytes=0-1,10-", 10, [(0, 1)]),  # what is unsatisfiable falls out
        ("bytes=10-,11-", 10, UNSATISFIABLE),
        ("bytes=10-,-0", 10, UNSATISFIABLE),
        ("bytes=0-1,5-2", 10, None),  # one malformed spoils all
        ("bytes=10-,5-2", 10, None),
        ("bytes=5-2,-0", 10, None),
        # an empty representation
        ("bytes=0-", 0, UNSATISFIABLE),
        ("bytes=0-0", 0, UNSATISFIABLE),
        ("bytes=-0", 0, UNSATISFIABLE),
        ("bytes=5-9,-0", 0, UNSATISFIABLE),
        ("bytes=-1", 0, None),  # satisfiable says 14.1.2, but no Content-Range can say it
        ("bytes=0-0,-010", 0, None),
        ("bytes=5-2", 0, None),
        # coalescing, in the order asked for (section 15.3.7.2)
        ("bytes=0-1,1-2", 10, [(0, 2)]),
        ("bytes=0-1,2-3", 10, [(0, 3)]),
        ("bytes=0-,0-,0-", 10, [(0, 9)]),
        ("bytes=0-5,2-3", 10, [(0, 5)]),
        ("bytes=2-3,0-5", 10, [(0, 5)]),
        ("bytes=0-9,89-99", 1000, [(0, 99)]),  # a gap of 79
        ("bytes=0-9,90-99", 1000, [(0, 9), (90, 99)]),  # a gap of 80
        ("bytes=90-99,0-9", 1000, [(90, 99), (0, 9)]),
        ("bytes=900-,0-9,500-509,850-899", 1000, [(850, 999), (0, 9), (500, 509)]),
        ("bytes=500-509,0-9,505-520", 1000, [(500, 520), (0, 9)]),
        ("bytes=0-9,500-509,200-209,100-499", 1000, [(0, 9), (100, 509)]),
        # large
        (f"bytes={5 * GIB}-", 6 * GIB, [(5 * GIB, 6 * GIB - 1)]),
        (f"bytes={2**32}-{2**32}", 2**32 + 1, [(2**32, 2**32)]),
        (f"bytes={2**32}-", 2**32, UNSATISFIABLE),
        (f"bytes=-{5 * GIB}", 6 * GIB, [(GIB, 6 * GIB - 1)]),
        (f"bytes=0-{2**63}", 10, [(0, 9)]),
        (f"bytes=0-{HUGE}", 10, [(0, 9)]),
        (f"bytes=-{HUGE}", 10, [(0, 9)]),
        (f"bytes={HUGE}-", 10, UNSATISFIABLE),
        (f"bytes={HUGE}-{HUGE}", 10, UNSATISFIABLE),
        (f"bytes={HUGE}1-{HUGE}", 10, None),  # last before first, in 5,001 digits
        (f"bytes={HUGE}-{HUGE[:-1]}8", 10, None),
        (f"bytes={'0' * 5_000}1-{'0' * 6_000}2", 10, [(1, 2)]),
        # not for us or not a range
        ("", 10, None),
        ("bytes", 10, None),
        ("bytes=", 10, None),
        ("bytes=,", 10, None),
        ("bytes=-", 10, None),
        ("bytes=--1", 10, None),
        ("bytes=1", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=0x0-0x1", 10, None),
        ("bytes=+0-1", 10, None),
        ("bytes=0_0-1", 10, None),
        ("bytes=0 - 1", 10, None),
        ("bytes =0-1", 10, None),
        ("bytes: 0-1", 10, None),
        ("bytes=0-1;2-3", 10, None),
        ("bytes=0-1, bytes=2-3", 10, None),  # two field lines joined
        ("seconds=0-1", 10, None),
        ("none=0-1", 10, None),
        # hostile
        ("bytes=0-1\n", 10, None),
        ("bytes=٠-١", 10, None),  # Arabic digits
        ("bytes=0-\u00b2", 10, None),  # a superscript two is a digit to str.isdigit
        ("bytes=" + "," * MAX_MEMBERS + "0-1", 10, None),
        ("bytes=" + " " * 100_000 + "x", 10, None),
        ("bytes=" + "0-," * 1_300, 10, None),  # CVE-2011-3192
    ],
)
def test_select(field: str, length: int, expected: Expected) -> None:
    selected = select_ranges(field, length)
    if isinstance(selected, tuple):
        assert [(one.first, one.last) for one in selected] == expected
    else:
        assert selected is expected


def test_the_most_ranges() -> None:
    specs = [f"{n * 1000}-{n * 1000 + 9}" for n in range(MAX_RANGES + 1)]
    most = select_ranges("bytes=" + ",".join(specs[:-1]), 1_000_000)
    assert isinstance(most, tuple)
    assert len(most) == MAX_RANGES
    assert select_ranges("bytes=" + ",".join(specs), 1_000_000) is None


def test_unsatisfiable_ranges_count_too() -> None:
    assert select_ranges("bytes=0-1" + ",10-" * MAX_RANGES, 10) is None


NUMBERS = st.integers(0, 400)
SPECS = st.one_of(
    st.tuples(NUMBERS, NUMBERS), st.tuples(NUMBERS, st.none()), st.tuples(st.none(), NUMBERS)
)


def naive(specs: list[tuple[int | None, int | None]], length: int) -> set[int] | None:
    """The positions that section 14.1.2 selects, one by one; None for an invalid set."""
    wanted: set[int] = set()
    for first, last in specs:
        if first is not None and last is not None and last < first:
            return None
        for position in range(length):
            if first is None:
                assert last is not None
                chosen = position >= length - last
            else:
                chosen = position >= first and (last is None or position <= last)
            if chosen:
                wanted.add(position)
    return wanted


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(0, 400))
def test_the_union_is_what_a_naive_reader_selects(
    specs: list[tuple[int | None, int | None]], length: int
) -> None:
    field = "bytes=" + ", ".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs
    )
    wanted = naive(specs, length)
    selected = select_ranges(field, length)
    if wanted is None:
        assert selected is None
        return
    if not wanted:
        empty_suffix = length == 0 and any(first is None and last for first, last in specs)
        assert selected is (None if empty_suffix else UNSATISFIABLE)
        return
    assert isinstance(selected, tuple)
    sent = {position for one in selected for position in range(one.first, one.last + 1)}
    assert wanted <= sent
    assert sum(one.size for one in selected) == len(sent)  # disjoint
    assert {min(sent), max(sent)} <= wanted
    # What was not asked for lies in gaps too small to be worth a part.
    extra = sorted(sent - wanted)
    runs = [position for position in extra if position - 1 not in sent - wanted]
    for start in runs:
        size = next(n for n in range(1, length) if start + n not in sent - wanted)
        assert size < PART_HEAD_BYTES
    ordered = sorted(selected, key=lambda one: one.first)
    for before, after in itertools.pairwise(ordered):
        assert after.first - before.last - 1 >= PART_HEAD_BYTES
    # A client that sorted its request gets its parts sorted.
    firsts = [length - (last or 0) if first is None else first for first, last in specs]
    if firsts == sorted(firsts):
        assert list(selected) == ordered


@given(st.text("bytes=0129-, \t", max_size=30), st.integers(0, 30))
def test_no_field_raises_and_nothing_leaves_the_body(field: str, length: int) -> None:
    for text in (field, f"bytes={field}"):
        selected = select_ranges(text, length)
        if isinstance(selected, tuple):
            assert all(one.last < length for one in selected)


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (1, 0), (-2, -1)])
def test_a_range_is_never_empty(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        ByteRange(first, last)


MODIFIED = 784_111_777
DATE = MODIFIED + 10


# section 13.1.5
@pytest.mark.parametrize(
    ("field", "etag", "last_modified", "date", "expected"),
    [
        # usual
        ('"a"', '"a"', None, None, True),
        ('"a"', '"b"', MODIFIED, DATE, False),
        (format_date(MODIFIED), '"a"', MODIFIED, DATE, True),
        (format_date(MODIFIED - 1), '"a"', MODIFIED, DATE, False),
        (format_date(MODIFIED + 1), '"a"', MODIFIED, DATE, False),  # exact, not "no later"
        # edge: only strong validators
        ('W/"a"', '"a"', None, None, False),
        ('"a"', 'W/"a"', None, None, False),
        ('W/"a"', 'W/"a"', None, None, False),
        ('""', '""', None, None, True),
        ('"a,b"', '"a,b"', None, None, True),
        (' "a"', '"a"', None, None, True),
        (format_date(MODIFIED), None, MODIFIED, MODIFIED + 1, True),
        (format_date(MODIFIED), None, MODIFIED, MODIFIED, False),  # section 8.8.2.2
        (format_date(MODIFIED), None, MODIFIED, MODIFIED - 1, False),
        (format_date(MODIFIED), None, MODIFIED, None, False),
        (format_date(MODIFIED), None, None, DATE, False),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None, MODIFIED, DATE, True),
        ('"a"', None, MODIFIED, DATE, False),
        # one validator, no list, no wildcard
        ('"a", "a"', '"a"', None, None, False),
        ('"a","a"', '"a","a"', None, None, False),
        ("*", '"a"', MODIFIED, DATE, False),
        ('"*"', '"a"', MODIFIED, DATE, False),
        ("", '"a"', MODIFIED, DATE, False),
        ("a", "a", MODIFIED, DATE, False),
        ('"a', '"a', None, None, False),
        ('"', '"', None, None, False),
        ('"a" "b"', '"a"', None, None, False),
        ("never", '"a"', MODIFIED, DATE, False),
    ],
)
def test_if_range(
    field: str, etag: str | None, last_modified: int | None, date: int | None, expected: bool
) -> None:
    assert if_range_holds(field, etag, last_modified, date) is expected


def test_content_range() -> None:
    assert content_range(0, 0, 1) == "bytes 0-0/1"
    assert content_range(2**32, 2**32 + 1, 2**33) == "bytes 4294967296-4294967297/8589934592"
    assert unsatisfied_range(0) == "bytes */0"
    assert unsatisfied_range(47_022) == "bytes */47022"


def test_multipart_by_hand() -> None:
    framed = frame_multipart("image/png", 1000, [ByteRange(0, 1), ByteRange(998, 999)], "B")
    assert framed.content_type == "multipart/byteranges; boundary=B"
    assert framed.heads == (
        b"--B\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/1000\r\n\r\n",
        b"\r\n--B\r\nContent-Type: image/png\r\nContent-Range: bytes 998-999/1000\r\n\r\n",
    )
    assert framed.closing == b"\r\n--B--\r\n"
    assert framed.content_length == len(b"".join(framed.heads)) + 2 + 2 + len(framed.closing)


def test_multipart_past_four_gibibytes() -> None:
    parts = [ByteRange(0, 5 * GIB - 1), ByteRange(6 * GIB, 7 * GIB - 1)]
    framed = frame_multipart("image/tiff", 8 * GIB, parts, "b" * 70)
    assert framed.content_length - 6 * GIB == sum(map(len, framed.heads)) + len(framed.closing)


@given(
    st.binary(min_size=500, max_size=1500),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 1500)), min_size=2, max_size=8),
)
def test_multipart_is_read_back_by_another_reader(
    body: bytes, pairs: list[tuple[int, int]]
) -> None:
    field = "bytes=" + ",".join(f"{min(pair)}-{max(pair)}" for pair in pairs)
    selected = select_ranges(field, len(body))
    if not isinstance(selected, tuple) or len(selected) < 2:
        return
    boundary = "0123456789abcdef0123456789abcdef"
    framed = frame_multipart("image/webp", len(body), selected, boundary)
    pieces = [
        head + body[one.first : one.last + 1]
        for head, one in zip(framed.heads, framed.ranges, strict=True)
    ]
    wire = b"".join((*pieces, framed.closing))
    assert len(wire) == framed.content_length
    delimited = (b"\r\n" + wire).split(f"\r\n--{boundary}".encode())
    assert delimited[0] == b""
    assert delimited[-1] == b"--\r\n"
    for part, one in zip(delimited[1:-1], selected, strict=True):
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n")
        assert fields["Content-Type"] == "image/webp"
        assert fields["Content-Range"] == content_range(one.first, one.last, len(body))
        assert content == body[one.first : one.last + 1]


@pytest.mark.parametrize("boundary", ["", "b" * 71, "a b", "a\r\nb", 'a"', "a;b", "é", "a\n"])
def test_bad_boundary(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        frame_multipart("image/png", 10, [ByteRange(0, 1)], boundary)


@pytest.mark.parametrize("media_type", ["", "image", "image/", "image/png\r\nX: y", "image/ png"])
def test_bad_media_type(media_type: str) -> None:
    with pytest.raises(ValueError, match="media type"):
        frame_multipart(media_type, 10, [ByteRange(0, 1)], "b")
