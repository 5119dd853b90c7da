"""Paired comparison: who was measured when, and what the rounds say together.

Each round measures every server once, so a ratio within a round compares two neighbours in time: a
machine that is slow for a minute slows both. The order rotates, so nobody always runs first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured quantity. Smaller is better unless more_is_better."""

    title: str
    short: str  # for a narrow column
    unit: str
    digits: int = 1
    more_is_better: bool = False


METRICS: Mapping[str, Metric] = {
    "cpu_us": Metric("CPU per request", "CPU us", "us"),
    "both_us": Metric("CPU per request of server and receiver", "both us", "us"),
    "rps": Metric("requests per second", "req/s", "/s", 0, more_is_better=True),
    "p50_us": Metric("p50", "p50 us", "us", 0),
    "p99_us": Metric("p99", "p99 us", "us", 0),
    "p999_us": Metric("p99.9", "p99.9 us", "us", 0),
    "connection_rss": Metric("resident per idle connection", "RSS/conn", "bytes", 0),
    "connection_pss": Metric("Pss per idle connection", "Pss/conn", "bytes", 0),
    "worker_rss": Metric("idle worker, resident", "RSS KiB", "KiB", 0),
    "tree_pss": Metric("all processes idle, Pss", "Pss KiB", "KiB", 0),
    "server_busy": Metric("server's share of its core", "server", "", 2, more_is_better=True),
    "generator_busy": Metric("generator's share of its core", "wrk", "", 2),
    "cpu_ms": Metric("CPU per picture", "CPU ms", "ms"),
    "round_ms": Metric("with all between pictures", "round ms", "ms"),
    "largest_ms": Metric("CPU of the largest alone", "largest ms", "ms"),
    "of_largest": Metric("times the largest alone", "/ largest", "", 2),
    "pictures_per_s": Metric("pictures per second", "pic/s", "/s", more_is_better=True),
    "bytes": Metric("bytes", "bytes", "", 0),
    "disturbed": Metric("share of the server's core taken by others", "others", "", 2),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One server, measured once."""

    case: str
    round: int
    server: str
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = self.values.keys() - METRICS.keys()
        if unknown:
            raise ValueError(f"unknown metrics {sorted(unknown)}")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float
    rounds: int

    def __post_init__(self) -> None:
        if not (self.low <= self.median <= self.high and self.rounds >= 1):
            raise ValueError(f"{self.low} <= {self.median} <= {self.high} of {self.rounds} rounds")


def spread(values: Sequence[float]) -> Spread | None:
    """None where there is nothing to summarise."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def rotation(names: Sequence[str], round_number: int) -> list[str]:
    """The order of one round: every server is first, second, ... equally often."""
    shift = round_number % len(names)
    return [*names[shift:], *names[:shift]]


def values_of(samples: Iterable[Sample], case: str, server: str, metric: str) -> dict[int, float]:
    """Round -> value, for the rounds that measured it."""
    return {
        sample.round: sample.values[metric]
        for sample in samples
        if sample.case == case and sample.server == server and metric in sample.values
    }


def summary(samples: Iterable[Sample], case: str, server: str, metric: str) -> Spread | None:
    return spread(list(values_of(samples, case, server, metric).values()))


def paired_ratio(
    samples: Sequence[Sample], case: str, metric: str, subject: str, peer: str
) -> Spread | None:
    """subject / peer, round by round. None when no round measured both.

    A round where either value is not positive says nothing about a ratio (a memory delta may be
    zero) and is left out.
    """
    ours = values_of(samples, case, subject, metric)
    theirs = values_of(samples, case, peer, metric)
    ratios = [
        ours[number] / theirs[number]
        for number in sorted(ours.keys() & theirs.keys())
        if _is_positive(ours[number]) and _is_positive(theirs[number])
    ]
    return spread(ratios)


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
