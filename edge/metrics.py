"""The counters of every part, as Prometheus and OpenMetrics text.

Parts count into plain integers of their own Stats; this file reads them when it is asked to, and no
part knows of it. Names that documentation may rely on are those of the table below.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Number = int | float
# Label values and the number that stands for them.
Samples = Iterable[tuple[Sequence[str], Number]]


@dataclass(frozen=True, slots=True)
class Counter:
    """name without _total, help, label names, and where the numbers are read."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class Gauge:
    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class Histogram:
    """read() gives (upper bounds with cumulative counts, the last +Inf) and the sum."""

    name: str
    help: str
    read: Callable[[], tuple[list[tuple[str, float]], float]]


Row = Counter | Gauge | Histogram


def single(read: Callable[[], Number]) -> Callable[[], Samples]:
    """A series without labels."""
    return lambda: (((), read()),)


def cumulative(
    counts: Sequence[int], bounds: Sequence[float], total: float
) -> tuple[list[tuple[str, float]], float]:
    """What Histogram.read gives, from counts per bucket; the last count is above every bound."""
    buckets, so_far = [], 0
    for count, bound in zip(counts, [*map(str, bounds), "+Inf"], strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets, total


class _Table(Collector):
    def __init__(self, rows: Sequence[Row], info: dict[str, str]) -> None:
        self._rows = rows
        self._info = info

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("halftone_build", "Versions of what is running.", self._info)
        for row in self._rows:
            match row:
                case Counter(name, text, labels, read):
                    counter = CounterMetricFamily(name, text, labels=labels)
                    for values, number in read():
                        counter.add_metric(list(values), number)
                    yield counter
                case Gauge(name, text, labels, read):
                    gauge = GaugeMetricFamily(name, text, labels=labels)
                    for values, number in read():
                        gauge.add_metric(list(values), number)
                    yield gauge
                case Histogram(name, text, read_buckets):
                    buckets, total = read_buckets()
                    histogram = HistogramMetricFamily(name, text)
                    histogram.add_metric([], buckets, total)
                    yield histogram


class Exposition:
    """Renders a table of rows; info labels halftone_build_info."""

    def __init__(self, rows: Sequence[Row], info: dict[str, str]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Table(rows, info))

    def render(self, accept: str) -> tuple[str, bytes]:
        """Media type and text, in OpenMetrics where the Accept field names it."""
        if "application/openmetrics-text" in accept:
            return OPEN, openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return PLAIN, generate_latest(self._registry)
