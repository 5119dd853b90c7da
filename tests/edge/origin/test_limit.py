"""The limit against hosts that are a formula, or a queue on a clock of its own."""

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from edge.origin.latency import FORGET_S, Latency
from edge.origin.limit import BACK_OFF, CALM_LOAD, LATE_S, REVIVED, Limit


def busy(limit: Limit, now: float, latency_s: float = 0.01) -> None:
    """An answer of a host that has as much as it may have."""
    limit.note_answer(latency_s, limit.value, now - latency_s, now)


def test_begins_at_its_ceiling() -> None:
    limit = Limit(64)
    assert limit.value == 64
    busy(limit, 0)
    assert limit.value == 64


def test_who_was_dead_begins_below_and_grows_while_it_is_used() -> None:
    limit = Limit(64)
    limit.forget()
    assert limit.value == REVIVED
    limit.note_answer(0.01, REVIVED // 2 - 1, 0.0, 0.0)  # nobody needs more
    assert limit.value == REVIVED
    for step in range(1, 10):
        busy(limit, step)
        assert limit.value == REVIVED + step
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
    assert limit.value == 64
    limit.note_timeout(64, 0.0, 1.0)
    assert limit.value == int(64 * BACK_OFF)
    limit.forget()
    assert limit.value == REVIVED


def test_calm_is_a_host_with_little_to_do_however_much_it_may_have() -> None:
    limit = Limit(200)
    limit.note_answer(0.1, 1, 0.0, 0.1)
    for _ in range(200):
        limit.note_answer(5.0, CALM_LOAD, 1.0, 6.0)  # a queue of its own, below half the limit
    limit.note_answer(1.1, 200, 7.0, 8.1)
    assert limit.decreases == 1


@pytest.mark.parametrize("children", [1, 2, 5, 20])
def test_finds_what_a_host_can_do(children: int) -> None:
    """A host of so many processes, 0.2 s a request, and a queue without end: what it is given
    settles where waiting is tolerable, and never below what keeps every process busy."""
    limit = Limit(200)
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


@dataclass
class Site:
    """An application of so many children behind a backlog without end, and clients that ask again
    as soon as they have an answer or none, and a second after a refusal. Who gives up after
    first_byte_s leaves his page to be made all the same, as php-fpm does. On a clock of its own."""

    page_s: float
    limit: Limit
    clients: int = 64
    children: int = 5
    first_byte_s: float = 30.0
    counts: list[tuple[float, str, int]] = field(default_factory=list)

    def run(self, until_s: float) -> None:
        free = [0.0] * self.children
        order = itertools.count()
        events: list[tuple[float, int, str, float]] = [
            (0.0, next(order), "ask", 0.0) for _ in range(self.clients)
        ]
        load = 0
        while events[0][0] <= until_s:
            now, _, what, asked_at = heapq.heappop(events)
            if what == "answered":
                self.limit.note_answer(now - asked_at, load, asked_at, now)
            elif what == "late":
                self.limit.note_timeout(load, asked_at, now)
            if what != "ask":
                load -= 1
                self.counts.append((now, what, self.limit.value))
            if load >= self.limit.value:
                self.counts.append((now, "refused", self.limit.value))
                heapq.heappush(events, (now + 1, next(order), "ask", now))
                continue
            load += 1
            end = max(now, heapq.heappop(free)) + self.page_s
            heapq.heappush(free, end)
            given_up_at = now + self.first_byte_s
            outcome = "answered" if end <= given_up_at else "late"
            heapq.heappush(events, (min(end, given_up_at), next(order), outcome, now))

    def count(self, begin: float, end: float) -> Counter[str]:
        return Counter(what for at, what, _ in self.counts if begin <= at < end)


@pytest.mark.parametrize("page_s", [0.1, 1.0])
def test_the_first_burst_waits_in_the_backlog(page_s: float) -> None:
    """Five children; their pages, 64 at once, take 1.3 s and 13 s. Nobody is turned away at first,
    and then so many that the rest wait tolerably; no child is ever idle, and nobody is late."""
    site = Site(page_s, Limit(64))
    site.run(600)
    first = site.count(0, page_s + 0.01)
    assert not first["refused"]
    counts = site.count(0, 600)
    assert not counts["late"]
    assert counts["answered"] > 0.99 * 600 * site.children / page_s
    values = [value for at, _, value in site.counts if at > 60]
    assert min(values) > 2 * site.children
    assert max(values) <= 8 * site.children + max(5, LATE_S / page_s * site.children)


def test_pages_that_cannot_be_made_in_time_are_refused_instead() -> None:
    """Ten seconds each: of 64 at once 15 come in time. What is made for nobody is worked off, and
    then what is asked for comes; before, all is late, as it is without a limit for ever."""
    site = Site(10.0, Limit(64))
    site.run(900)
    assert not site.count(0, 9)["refused"]
    assert site.count(0, 31)["answered"] == 15
    settled = site.count(450, 900)
    assert settled["answered"] > 0.9 * 450 * site.children / 10
    assert settled["late"] < 0.1 * settled["answered"]
    endless = Site(10.0, Limit(64))
    endless.limit.note_timeout = lambda *_: None  # type: ignore[method-assign, misc]
    endless.run(900)
    assert endless.count(450, 900)["answered"] < settled["answered"] / 2


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
