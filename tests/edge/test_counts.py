"""Counts as text: a round trip, sums, and what damaged memory may hold."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge.counts import MAX_LABEL, MAX_SERIES, Counts, told

NAMES = st.text(st.characters(exclude_categories=["C"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TABLES = st.dictionaries(st.tuples(NAMES, NAMES) | st.tuples(NAMES), NUMBERS, max_size=8)


@given(TABLES, TABLES, TABLES)
def test_what_is_written_is_read(growing, momentary, highest):
    counts = Counts(growing, momentary, highest)
    assert Counts.decode(counts.encode()) == counts


@given(st.binary(max_size=400))
def test_any_bytes_are_some_counts(data):
    counts = Counts.decode(data)
    assert all(math.isfinite(number) for number in counts.growing.values())


def test_lines_of_another_form_are_left_out():
    lines = [
        # usual
        "c\ta\t1.0", "g\ta\t2.0", "c\tb\tlabel\t3", "h\ta\t-5",
        # edge
        "", "c", "c\ta", "\t", "c\tonly-a-number\t", "x\ta\t4",
        # hostile
        "c\tn\tnan", "c\ti\tinf", "c\th\t" + "9" * 5000, "c\ta\t1\t2\tthree",
    ]  # fmt: skip
    counts = Counts.decode("\n".join(lines).encode() + b"\nc\t\xff\xfe")
    assert counts == Counts({("a",): 1.0, ("b", "label"): 3.0}, {("a",): 2.0}, {("a",): -5.0})
    many = "\n".join(f"c\t{number}\t1" for number in range(MAX_SERIES + 5))
    assert len(Counts.decode(many.encode()).growing) == MAX_SERIES


def test_sums():
    total = Counts()
    total.add(Counts({("a",): 1.0}, {("g",): 5.0}))
    total.add(Counts({("a",): 2.0, ("b", "x"): 1.0}, {("g",): -2.0}))
    assert total == Counts({("a",): 3.0, ("b", "x"): 1.0}, {("g",): 3.0})


def test_the_highest_counts():
    total = Counts()
    for highest in ({("h",): -3.0, ("i", "x"): 1.0}, {("h",): -7.0}, {("i", "x"): 4.0}):
        total.add(Counts({}, {}, highest))
    assert total == Counts({}, {}, {("h",): -3.0, ("i", "x"): 4.0})


@given(st.text())
def test_any_text_can_be_told(text):
    label = told(text)
    assert len(label) <= MAX_LABEL
    counts = Counts({}, {("a", label): 1.0})
    assert Counts.decode(counts.encode()) == counts
