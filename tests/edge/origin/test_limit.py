"""The limit against a host that is a formula."""

import itertools

import pytest

from edge.origin.latency import FORGET_S, Latency
from edge.origin.limit import BACK_OFF, LATE_S, START, Limit


def busy(limit: Limit, now: float, latency_s: float = 0.01) -> None:
    """An answer of a host that has as much as it may have."""
    limit.note_answer(latency_s, limit.value, now - latency_s, now)


def test_starts_below_its_ceiling_and_grows_while_it_is_used() -> None:
    limit = Limit(64)
    assert limit.value == START
    limit.note_answer(0.01, START // 2 - 1, 0.0, 0.0)  # nobody needs more
    assert limit.value == START
    for step in range(1, 10):
        busy(limit, step)
        assert limit.value == START + step
    for step in range(100):
        busy(limit, step)
    assert limit.value == 64


@pytest.mark.parametrize("ceiling", [1, 2, 10])
def test_a_low_ceiling(ceiling: int) -> None:
    limit = Limit(ceiling)
    assert limit.value == ceiling
    busy(limit, 0)
    assert limit.value == ceiling
    with pytest.raises(ValueError, match="nothing"):
        Limit(0)


def test_overload_lowers_to_what_was_too_much() -> None:
    limit = Limit(64)
    limit.note_overload(10, asked_at=0.0, now=1.0)
    assert limit.value == int(10 * BACK_OFF)
    for load in (5, 3, 2, 1, 1, 1):
        now = limit._decreased_at + 1
        limit.note_overload(load, asked_at=now, now=now)
    assert limit.value == 1  # the floor: somebody has to find out


def test_a_burst_of_refusals_is_one() -> None:
    limit = Limit(64)
    for _ in range(32):  # asked together, refused together
        limit.note_overload(32, asked_at=0.0, now=1.0)
    assert limit.value == int(32 * BACK_OFF)
    assert limit.decreases == 1


def test_recovers_by_one_a_round() -> None:
    limit = Limit(64)
    limit.note_overload(4, 0.0, 0.0)
    rounds = []
    for now in range(1, 40):
        before = limit.value
        busy(limit, now)
        if limit.value > before:
            rounds.append(now)
    assert rounds[0] <= 3
    gaps = [b - a for a, b in itertools.pairwise(rounds)]
    assert gaps == sorted(gaps)  # each round as long as the limit is high
    assert 7 <= limit.value <= 10


# (latency of the calm host, latency now, load in shares of the limit, lowered)
LATE = [
    (0.05, 0.9, 1.0, False),  # below a second nothing is late
    (0.05, 1.1, 1.0, True),
    (0.05, 1.1, 0.4, False),  # a lone request: a slow script
    (0.5, 3.9, 1.0, False),  # 8 times what is usual here
    (0.5, 4.1, 1.0, True),
    (30.0, 31.0, 1.0, False),
]


@pytest.mark.parametrize(("calm_s", "latency_s", "share", "is_lowered"), LATE)
def test_late_answers(calm_s: float, latency_s: float, share: float, is_lowered: bool) -> None:
    limit = Limit(64)
    limit.note_answer(calm_s, 1, 0.0, 1.0)
    before = limit.value
    limit.note_answer(latency_s, int(before * share), 10.0, 50.0)
    assert (limit.value < before) is is_lowered
    assert LATE_S == 1.0


def test_timeouts_count_where_the_limit_is_used() -> None:
    limit = Limit(64)
    limit.note_timeout(1, 0.0, 1.0)
    assert limit.value == START
    limit.note_timeout(START, 0.0, 1.0)
    assert limit.value == int(START * BACK_OFF)
    limit.forget()
    assert limit.value == START


@pytest.mark.parametrize("children", [1, 2, 5, 20])
def test_finds_what_a_host_can_do(children: int) -> None:
    """A host of so many processes, 0.2 s a request, and a queue without end: what it is given
    settles where waiting is tolerable, and never below what keeps every process busy."""
    limit = Limit(200, start=150)
    limit.note_answer(0.2, 1, 0.0, 0.2)
    now, seen = 1.0, []
    for _ in range(4000):
        load = limit.value
        latency_s = 0.2 * max(1.0, load / children)
        now += latency_s / load
        limit.note_answer(latency_s, load, now - latency_s, now)
        seen.append(limit.value)
    settled = seen[-500:]
    assert min(settled) >= children
    assert max(settled) <= min(200, 8 * children + 2)


def test_latency_is_an_average_that_forgets() -> None:
    latency = Latency()
    assert latency.maybe_at(0.0) is None
    latency.note(1.0, 0.0)
    assert latency.maybe_at(0.0) == 1.0
    assert latency.maybe_at(FORGET_S) == pytest.approx(0.5)
    latency.note(2.0, 0.0)
    assert latency.maybe_at(0.0) == pytest.approx(1.2)
    for _ in range(50):
        latency.note(0.1, 1.0)
    assert latency.maybe_at(1.0) == pytest.approx(0.1, abs=0.001)
