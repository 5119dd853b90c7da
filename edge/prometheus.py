"""Rows as Prometheus and OpenMetrics text. Imported with the first scrape (metrics.py)."""

from collections.abc import Iterator, Sequence
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

from edge.counts import Counts
from edge.metrics import SUM, Counter, Derived, Gauge, Highest, Histogram, Row, named, samples_of

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Text:
    """For one set of rows; see Exposition."""

    def __init__(
        self,
        info: dict[str, str],
        summed: Sequence[Row],
        shared: Sequence[Row],
        derived: Sequence[Derived],
    ) -> None:
        self._table = _Table(info, summed, shared, derived)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._table)

    def render(self, total: Counts, accept: str) -> tuple[str, bytes]:
        """Media type and text, in OpenMetrics where the Accept field names it."""
        self._table.counts = total
        if "application/openmetrics-text" in accept:
            return OPEN, openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return PLAIN, generate_latest(self._registry)


class _Table(Collector):
    """Families of rows, with the numbers of counts where rows are summed over workers."""

    def __init__(
        self,
        info: dict[str, str],
        summed: Sequence[Row],
        shared: Sequence[Row],
        derived: Sequence[Derived],
    ) -> None:
        self._info = info
        self._summed = summed
        self._shared = shared
        self._derived = derived
        self.counts = Counts()

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("halftone_build", "Versions of what is running.", self._info)
        by_name: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for table in (self.counts.growing, self.counts.momentary, self.counts.highest):
            for (name, *labels), number in table.items():
                by_name.setdefault(name, []).append((tuple(labels), number))
        for row in self._summed:
            yield _family(row, by_name.get(row.name, []))
        for row in self._shared:
            yield _family(row, samples_of(row))
        for one in self._derived:
            yield _gauge(one, named(one.of(self.counts)))


def _gauge(
    row: Gauge | Highest | Derived, samples: list[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
    for values, number in samples:
        gauge.add_metric(list(values), number)
    return gauge


def _family(row: Row, samples: list[tuple[tuple[str, ...], float]]) -> Metric:
    match row:
        case Counter(name, text, labels):
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, number in samples:
                counter.add_metric(list(values), number)
            return counter
        case Gauge() | Highest():
            return _gauge(row, samples)
        case Histogram(name, text):
            histogram = HistogramMetricFamily(name, text)
            by_bound = {values[0]: number for values, number in samples}
            total = by_bound.pop(SUM, 0.0)
            histogram.add_metric([], list(by_bound.items()), total)
            return histogram
