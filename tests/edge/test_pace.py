"""Pace: bytes over a span, not progress."""

import pytest

from edge.pace import MIN_RATE, Pace

SPAN_S = 30.0
FLOOR = int(MIN_RATE * SPAN_S)
LEFT = 100 * FLOOR


@pytest.mark.parametrize(
    ("taken", "is_enough"),
    [(0, False), (1, False), (30, False), (FLOOR - 1, False), (FLOOR, True), (LEFT, True)],
)
def test_a_span_without_an_event(taken, is_enough):
    assert Pace(LEFT, 0.0, SPAN_S).waited(LEFT - taken, SPAN_S) is is_enough


@pytest.mark.parametrize(("a_second", "goes_on"), [(1, False), (MIN_RATE - 1, False), (1024, True)])
def test_progress_every_second(a_second, goes_on):
    pace, left = Pace(LEFT, 0.0, SPAN_S), LEFT
    for second in range(1, 30):
        left -= a_second
        assert pace.goes_on(left, float(second))
    assert pace.goes_on(left - a_second, SPAN_S) is goes_on


def test_each_span_is_judged_by_itself():
    pace = Pace(LEFT, 0.0, SPAN_S)
    assert pace.goes_on(LEFT // 2, 1.0)
    assert pace.goes_on(LEFT // 2 - 1, SPAN_S)  # the first span saw much
    assert not pace.goes_on(LEFT // 2 - 2, 2 * SPAN_S)


def test_silence_counts_from_the_last_event():
    pace = Pace(LEFT, 0.0, SPAN_S)
    assert pace.goes_on(LEFT // 2, 1.0)
    assert not pace.waited(LEFT // 2, 1.0 + SPAN_S)
