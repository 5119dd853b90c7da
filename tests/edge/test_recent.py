"""The last minute of numbers that only grow."""

import pytest

from edge.recent import MAX_NOTES, SPAN_S, Recent


def noted(*notes: tuple[float, int]) -> Recent:
    recent = Recent()
    for at, number in notes:
        recent.note(at, {"a": number, "b": 2 * number})
    return recent


# notes -> covered seconds, gained, per second
NOTES = [
    # usual
    ([(0, 0), (1, 10), (2, 40)], 2.0, 40, 20.0),
    ([(5, 100), (10, 100)], 5.0, 0, 0.0),
    # a minute and more: what is older does not count
    ([(second, second * 3) for second in range(200)], SPAN_S, 180, 3.0),
    # edge: one note; two at the same time; a clock that stood still for long
    ([(7, 5)], 0.0, 0, 0.0),
    ([(7, 5), (7, 9)], 0.0, 4, 0.0),
    ([(0, 0), (1, 1), (500, 600)], 499.0, 599, 599 / 499),
    # hostile to memory: more notes than seconds
    ([(second / 1000, second) for second in range(1000)], (MAX_NOTES - 1) / 1000, 127, 1000.0),
]


@pytest.mark.parametrize(("notes", "covered_s", "gained", "per_second"), NOTES)
def test_notes(notes, covered_s, gained, per_second):
    recent = noted(*notes)
    assert recent.covered_s == pytest.approx(covered_s)
    assert recent.gained() == {"a": gained, "b": 2 * gained}
    assert recent.per_second("a") == pytest.approx(per_second)


def test_before_the_first_note():
    assert (Recent().covered_s, dict(Recent().gained()), Recent().per_second("a")) == (0.0, {}, 0.0)
