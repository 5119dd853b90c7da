"""The lanes: order, bounds, who gives way, honest refusals."""

from dataclasses import dataclass

import pytest

from resizer.admission import PASSED, Admission
from resizer.cost import Lane


@dataclass(eq=False)
class Errand:
    name: str
    lane: Lane = Lane.CHEAP
    client: str = ""
    cost_ms: float = 500.0


def admission(bound: int, *errands: Errand) -> Admission[Errand]:
    made: Admission[Errand] = Admission(bound, 2)
    for errand in errands:
        made.put(errand)
    return made


def cheap(name: str, client: str = "") -> Errand:
    return Errand(name, Lane.CHEAP, client)


def dear(name: str, client: str = "") -> Errand:
    return Errand(name, Lane.DEAR, client)


def ladder(name: str) -> Errand:
    return Errand(name, Lane.IDLE)


def order(queue: Admission[Errand], *, dear: bool = True, idle: bool = True) -> list[str]:
    names = []
    while (errand := queue.take(may_be_dear=dear, may_be_idle=idle)) is not None:
        names.append(errand.name)
    return names


def test_one_lane_is_first_in_first_out() -> None:
    a, b = cheap("a"), cheap("b")
    queue = admission(2, a)
    assert not queue.is_full(Lane.CHEAP)
    queue.put(b)
    assert queue.is_full(Lane.CHEAP)
    assert queue.take(may_be_dear=True, may_be_idle=True) is a
    queue.put_back(a)
    assert len(queue) == 2
    assert queue.withdraw(a)
    assert not queue.withdraw(a)
    assert order(queue) == ["b"]
    assert queue.cost_ms == 0


def test_cheap_first_but_not_for_ever() -> None:
    waiting = [dear("D"), dear("E"), *(cheap(str(number)) for number in range(10))]
    assert order(admission(99, *waiting)) == [*"0123", "D", *"4567", "E", *"89"]
    assert PASSED == 4


@pytest.mark.parametrize(
    ("may_be_dear", "may_be_idle", "waiting", "expected"),
    [
        (True, True, [dear("D"), cheap("a"), ladder("L")], ["a", "D", "L"]),
        (False, True, [dear("D"), cheap("a"), ladder("L")], ["a"]),  # somebody waits: no ladder
        (True, False, [dear("D"), cheap("a"), ladder("L")], ["a", "D"]),
        (False, True, [ladder("L"), ladder("M")], ["L", "M"]),
        (True, True, [], []),
    ],
)
def test_lanes_without_a_worker(
    may_be_dear: bool, may_be_idle: bool, waiting: list[Errand], expected: list[str]
) -> None:
    queue = admission(99, *waiting)
    assert order(queue, dear=may_be_dear, idle=may_be_idle) == expected
    left = []
    while (errand := queue.take_any()) is not None:
        left.append(errand.name)
    assert sorted([*expected, *left]) == sorted(errand.name for errand in waiting)


def test_who_was_passed_while_it_could_not_run_is_next() -> None:
    queue = admission(99, dear("D"), *(cheap(str(number)) for number in range(9)))
    for number in range(6):
        errand = queue.take(may_be_dear=False, may_be_idle=False)
        assert errand is not None
        assert errand.name == str(number)
    assert order(queue)[0] == "D"


@pytest.mark.parametrize(
    ("bound", "waiting", "full"),
    [
        (0, [], {Lane.CHEAP, Lane.DEAR}),
        (1, [], set()),
        (4, [dear("D"), dear("E")], {Lane.DEAR}),  # half of the places
        (4, [dear("D"), dear("E"), cheap("a"), cheap("b")], {Lane.CHEAP, Lane.DEAR}),
        (4, [cheap("a")] * 4, {Lane.CHEAP, Lane.DEAR}),
        (4, [ladder("L"), ladder("M")], {Lane.IDLE}),  # places of their own
    ],
)
def test_bounds(bound: int, waiting: list[Errand], full: set[Lane]) -> None:
    queue = admission(bound, *waiting)
    assert {lane for lane in Lane if queue.is_full(lane)} == full
    assert sum(queue.depth(lane) for lane in Lane) == len(waiting)


@pytest.mark.parametrize(
    ("waiting", "client", "expected"),
    [
        ([], "z", None),
        ([cheap("1", "a")], "z", None),  # one each: nobody holds too much
        ([cheap("1", "a"), cheap("2", "a")], "z", "2"),
        ([cheap("1", "a"), cheap("2", "a"), cheap("3", "z")], "z", None),
        ([cheap("1", "a"), cheap("2", "a"), cheap("3", "b")], "b", None),
        ([cheap("1", "a"), cheap("2", "a")], "a", None),
        ([dear("1", "a"), dear("2", "a")], "z", None),  # another lane's
    ],
)
def test_who_gives_way(waiting: list[Errand], client: str, expected: str | None) -> None:
    found = admission(9, *waiting).maybe_displaced(Lane.CHEAP, client)
    assert (None if found is None else found.name) == expected


def test_retry_after_is_what_waits() -> None:
    queue = admission(100)
    assert queue.retry_after_s(0, 2) == 1  # never 0
    for _ in range(19):
        queue.put(cheap("a"))
    queue.put(ladder("L"))  # makes nobody wait
    assert queue.retry_after_s(500, 2) == 5
    assert queue.retry_after_s(0, 0) == 10  # none is up: as if one were
    assert queue.retry_after_s(1e9, 1) == 60  # bounded
    order(queue)
    assert queue.cost_ms == 0
