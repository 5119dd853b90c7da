"""What is made of a node's numbers, and what somebody is told of it."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from edge.counts import Counts
from edge.status.names import (
    CONNECTIONS_NOW,
    FOLDER_WORKERS,
    HOST_STATE,
    LAST_MINUTE,
)
from edge.status.reading import Verdicts, read
from edge.status.shown import Amount, Level, Seen, Worker
from tests.edge.status.numbers import FACTS, NOW, host, status_of, total_of, worker

# Times, and the one sum that Prometheus makes of a metric by itself.
OWN = {"now", "uptime_s", "newest_at", "requests", "weight"}


def numbers_in(value: object, field: str = "") -> Iterator[tuple[str, float]]:
    match value:
        case dict():
            for name, one in value.items():
                yield from numbers_in(one, name)
        case list() | tuple():
            for one in value:
                yield from numbers_in(one, field)
        case bool() | str() | None:
            pass
        case int() | float():
            yield field, value


def test_every_number_is_one_of_the_metrics():
    one, other = worker(0, 10), worker(1, 11)
    total = total_of(one, other)
    known = {*total.growing.values(), *total.momentary.values(), *total.highest.values(), 0.0, 1.0}
    shown = list(numbers_in(dataclasses.asdict(read(total, (one, other), FACTS, Verdicts(), NOW))))
    assert len(shown) > 80
    assert [(name, n) for name, n in shown if name not in OWN and n not in known] == []


def test_several_workers_are_one_node():
    one, other = worker(0, 10), worker(1, 11)
    status = status_of(one, other)
    assert status.workers == (Worker("0", "10", "serving"), Worker("1", "11", "serving"))
    assert status.level is Level.WELL
    assert status.remarks == ()
    assert status.traffic.requests == 1804
    assert (status.traffic.per_second, status.queues[0].waiting) == (30.5, 10)
    (origin,) = status.origins
    assert (origin.kind, origin.balance, origin.probe) == (
        "fastcgi", "least-connection", "/health",
    )  # fmt: skip
    assert (origin.retries, origin.retries_saved, origin.retries_limit) == (44, 127, 128)
    first = origin.hosts[0]
    assert (first.load, first.limit, first.latency_s, first.weight) == (6, 64, 0.025, 2)
    assert first.states == (Amount("running", 2),)
    assert first.differing == ()
    assert (first.answered, first.abandoned, first.failures) == (222, 8, (Amount("refused", 10),))
    assert (first.checks_passed, first.checks_failed, first.holds) == (140, 14, 12)
    assert status.orders.newest_at == NOW - 60
    assert [(one.role, one.open) for one in status.listeners] == [("public", 40), ("admin", 4)]


def test_workers_that_do_not_agree():
    one, other, third = worker(0, 10), worker(1, 11), worker(2, 12)
    host(other, "php1:9000", "held", held_s=4.0)
    host(third, "php1:9000", "probing")
    status = status_of(one, other, third)
    first, second = status.origins[0].hosts
    assert set(first.states) == {Amount("running", 1), Amount("held", 1), Amount("probing", 1)}
    assert first.differing == (
        Seen("0", "10", "running"), Seen("1", "11", "held"), Seen("2", "12", "probing"),
    )  # fmt: skip
    assert first.held_s == 4.0
    assert (first.is_up, first.is_down, second.is_up) == (False, False, True)
    assert [(one.level, one.text) for one in status.remarks] == [
        (Level.WARNING, "origin app: held down: php1:9000")
    ]


def held(counts: Counts) -> None:
    for name in ("php1:9000", "php2:9000"):
        host(counts, name, "held")


def one_held(counts: Counts) -> None:
    host(counts, "php2:9000", "held")


def only_backup(counts: Counts) -> None:
    held(counts)
    host(counts, "php3:9000", role="backup")


def lost_folder(counts: Counts) -> None:
    counts.momentary[FOLDER_WORKERS, "/mnt/b", "Input/output error"] = 1.0


def no_folder(counts: Counts) -> None:
    del counts.momentary[FOLDER_WORKERS, "/var/cache/halftone", ""]
    counts.momentary[FOLDER_WORKERS, "/var/cache/halftone", "read-only"] = 1.0


def waiting(number: float) -> Callable[[Counts], None]:
    def change(counts: Counts) -> None:
        counts.momentary["halftone_resize_queue_depth",] = number

    return change


def connections(number: float) -> Callable[[Counts], None]:
    def change(counts: Counts) -> None:
        counts.momentary[CONNECTIONS_NOW, "0.0.0.0:8080", "public", "open"] = number

    return change


def errors(number: float, of: float) -> Callable[[Counts], None]:
    def change(counts: Counts) -> None:
        counts.momentary[LAST_MINUTE, "errors"] = number
        counts.momentary[LAST_MINUTE, "requests"] = of

    return change


def minute(**numbers: float) -> Callable[[Counts], None]:
    def change(counts: Counts) -> None:
        for name, number in numbers.items():
            counts.momentary[LAST_MINUTE, name.replace("__", "-")] = number

    return change


def no_resizer(counts: Counts) -> None:
    counts.momentary["halftone_resizer_processes", "idle"] = 0.0
    counts.momentary["halftone_resizer_processes", "busy"] = 0.0


def overflow(counts: Counts) -> None:
    counts.growing["halftone_ledger_overflows",] = 1.0


def nothing(counts: Counts) -> None:
    del counts


# What is changed -> what is said of it
REMARKS = [
    # usual
    (nothing, []),
    (one_held, ["warning: origin app: held down: php2:9000"]),
    (held, ["problem: origin app: no host gets requests"]),
    (only_backup, ["warning: origin app: held down: php1:9000, php2:9000"]),
    (lost_folder, ["warning: cache folder /mnt/b is not used: Input/output error"]),
    (no_folder, ["problem: cache folder /var/cache/halftone is not used: read-only"]),
    (no_resizer, ["problem: no resizer is running"]),
    (overflow, ["warning: a worker has too many numbers to tell"]),
    # edge: below, at and above the part of a bound from which on it is time to look
    (waiting(51), []),
    (waiting(52), ["warning: renders waiting: 52 of 64; beyond it 503 with Retry-After"]),
    (waiting(63), ["warning: renders waiting: 63 of 64"]),
    (waiting(64), ["problem: renders waiting: 64 of 64"]),
    (connections(7999), []),
    (connections(8000), ["warning: 0.0.0.0:8080: 8000 of 10000 connections"]),
    (connections(10_000), ["problem: 0.0.0.0:8080: 10000 of 10000 connections"]),
    (errors(4, 4), []),
    (errors(5, 500), []),
    (errors(6, 500), ["warning: 6 of 500 answers of the last minute were errors (5xx)"]),
    (
        minute(errors=60, requests=100, refused_origin__timeout=20, refused_origin__down=40),
        ["problem: 60 of 100 answers of the last minute were errors (5xx): origin-down 40, or"],
    ),
    # what nobody who looks at hits alone would see
    (minute(purges_failed=2), ["problem: 2 purges of the last minute were NOT recorded (503)"]),
    (minute(urls_not_told=4), ["warning: 4 URLs that were purged in the last minute"]),
    (minute(not_stored=9), ["warning: a disk of the cache is full: 9 answers"]),
    (minute(lines_dropped=3), ["warning: the access log takes no more: 3 lines"]),
    (
        minute(index_error_full=3, index_error_other=7, index_error_late=0),
        ["warning: questions of the last minute that the index failed: other 7, full (maxmemory"],
    ),
]


@pytest.mark.parametrize(("change", "expected"), REMARKS)
def test_what_somebody_should_know(change, expected):
    counts = worker()
    change(counts)
    status = status_of(counts)
    said = [f"{one.level}: {one.text}" for one in status.remarks]
    assert len(said) == len(expected), said
    assert [one.startswith(start) for one, start in zip(said, expected, strict=True)].count(
        False
    ) == 0, said
    level = Level(expected[0].partition(":")[0]) if expected else Level.WELL
    assert status.level is level


def test_what_healthz_and_readyz_say_is_said():
    verdicts = Verdicts(["a worker has been silent for 6 s"], ["draining"], ["degraded: redis"])
    status = status_of(worker(), verdicts=verdicts)
    assert [(one.level, one.text) for one in status.remarks] == [
        (Level.PROBLEM, "a worker has been silent for 6 s; /healthz answers 503"),
        (Level.PROBLEM, "draining: /readyz answers 503"),
        (Level.WARNING, "degraded: redis"),
    ]


def test_the_worst_is_said_first():
    counts = worker()
    one_held(counts)
    no_resizer(counts)
    status = status_of(counts)
    assert [one.level for one in status.remarks] == [Level.PROBLEM, Level.WARNING]


def test_a_refused_reload_is_said():
    total = total_of(worker())
    total.momentary["halftone_config_last_reload_successful",] = 0.0
    status = read(total, (worker(),), FACTS, Verdicts(), NOW)
    assert [one.text for one in status.remarks] == [
        "the last reload was refused: the configuration before stays"
    ]


def test_numbers_that_are_not_there():
    """Of a worker of another release, or of none."""
    status = read(Counts(), (Counts(),), FACTS, Verdicts(), NOW)
    assert status.workers == (Worker("?", "?", "serving"),)
    assert status.origins == ()
    assert status.downstream is None
    assert status.orders.newest_at is None
    assert [one.last_minute for one in status.traffic.ratios] == [None] * 3
    odd = Counts({}, {(HOST_STATE,): 1.0, (HOST_STATE, "a"): 1.0, (CONNECTIONS_NOW, "a"): 2.0})
    assert read(odd, (odd,), FACTS, Verdicts(), NOW).origins == ()
    strange = Counts({}, {(HOST_STATE, "new", "h:1", "asleep"): 1.0})
    (origin,) = read(strange, (strange,), FACTS, Verdicts(), NOW).origins
    assert (origin.kind, origin.hosts[0].states) == ("", (Amount("asleep", 1.0),))
