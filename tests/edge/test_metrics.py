"""The exposition: any worker speaks for all."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.counts import Counts
from edge.health import DEGRADED, QUIET_S, WORKERS, Health
from edge.ledger import AT_REST, Ledger, Page
from edge.metrics import Counter, Derived, Exposition, Gauge, Highest, Histogram, cumulative, single


@dataclass
class Worker:
    """What it has counted."""

    page: Page
    statuses: dict[str, int] = field(default_factory=lambda: {"200": 0})
    open_now: int = 0
    held_s: float = 0.0
    times: list[int] = field(default_factory=lambda: [0, 0])
    at: float = 1.0

    def __post_init__(self) -> None:
        summed = (
            Counter("requests", "By status.", ("status",), self.by_status),
            Gauge("open", "Now.", (), single(lambda: self.open_now)),
            Highest("held", "For how long.", ("host",), lambda: ((("a",), self.held_s),)),
            Histogram("seconds", "Taken.", lambda: cumulative(self.times, [0.5], sum(self.times))),
        )
        shared = (Gauge("started", "When.", (), single(lambda: 77)),)
        half = Derived("half", "Of open.", (), lambda sums: (((), sums.momentary["open",] / 2),))
        self.exposition = Exposition(summed, shared, {}, self.page, lambda: self.at, (half,))

    def by_status(self):  # type: ignore[no-untyped-def]
        return (((status,), number) for status, number in self.statuses.items())

    def told(self) -> dict[str, float]:
        text = self.exposition.render("")[1].decode()
        return {
            sample.name + "".join(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.startswith("halftone")
        }


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with contextlib.closing(Ledger(2)) as made:
        yield made


def test_whoever_is_asked_speaks_for_all(ledger):
    one, other = Worker(ledger.take()), Worker(ledger.take())
    one.statuses, one.open_now, one.times = {"200": 3, "404": 1}, 2, [1, 2]
    other.statuses, other.open_now, other.times = {"200": 4, "503": 1}, 5, [0, 1]
    one.held_s, other.held_s = 2.0, 7.5
    other.exposition.post()
    expected = {
        "requests_total200": 7,
        "requests_total404": 1,
        "requests_total503": 1,
        "open": 7,
        "half": 3.5,
        "helda": 7.5,
        "started": 77,
        "seconds_bucket0.5": 1,
        "seconds_bucket+Inf": 4,
        "seconds_count": 4,
        "seconds_sum": 4,
    }
    assert one.told() == expected
    assert other.told() == expected
    assert b"# EOF" in one.exposition.render("application/openmetrics-text")[1]


def test_a_snapshot_has_what_is_told(ledger):
    one, other = Worker(ledger.take()), Worker(ledger.take())
    one.open_now, other.open_now, other.held_s = 2, 5, 3.0
    other.exposition.post()
    taken = one.exposition.snapshot()
    total = {**taken.total.growing, **taken.total.momentary, **taken.total.highest}
    told = one.told()
    for name in ("open", "half", "started"):
        assert total[name,] == told[name], name
    assert total["requests", "200"] == told["requests_total200"]
    assert total["held", "a"] == told["helda"]
    assert sorted(worker.momentary["open",] for worker in taken.workers) == [2, 5]
    ledger.retire(one.page)
    assert [worker.momentary["open",] for worker in other.exposition.snapshot().workers] == [5]


def test_what_was_told_is_on_record(ledger):
    """A worker dies just after it has answered, and another is asked."""
    one, other = Worker(ledger.take()), Worker(ledger.take())
    one.statuses["200"], one.times = 3, [1, 0]
    told = one.told()
    ledger.retire(one.page)
    assert other.told() == told
    successor = Worker(ledger.take())
    successor.statuses["200"] = 1
    assert successor.told()["requests_total200"] == 4


def test_too_many_numbers_are_counted(ledger):
    one = Worker(ledger.take())
    one.told()
    one.statuses = {"x" * 1000 + str(number): 1 for number in range(300)}
    assert one.told()["requests_total200"] == 0  # what stood there before
    assert b"halftone_ledger_overflows_total 2.0" in one.exposition.render("")[1]


def test_health(ledger):
    class Clock:
        monotonic = 100.0

    draining = False
    numbers = Counts()
    health = Health(lambda: numbers, ledger, lambda: draining, Clock())  # type: ignore[arg-type]
    assert (health.stuck(), health.problems(), health.degraded()) == ([], [], [])
    one, other = Worker(ledger.take()), Worker(ledger.take())
    one.at, other.at = 100.0, 100.0 - QUIET_S
    for worker in (one, other):
        worker.exposition.post()
    assert health.stuck() == []
    Clock.monotonic += 1.0
    assert health.stuck() == ["a worker has been silent for 6 s"]
    other.at = AT_REST
    other.exposition.post()
    assert health.stuck() == []
    numbers.momentary = {(WORKERS, "serving"): 2.0, (WORKERS, "leaving"): 1.0, (DEGRADED,): 2.0}
    assert health.degraded() == [
        "degraded: redis does not answer 2 of 3 workers, which decide without it"
    ]
    draining = True
    assert health.problems() == ["draining"]
