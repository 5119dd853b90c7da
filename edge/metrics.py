"""The counters of every part; prometheus.py writes them.

Parts count into plain integers of their own Stats; this file reads them when it is asked to, and no
part knows of it. Any worker may be asked and speaks for the node: it adds up what stands in the
ledger. Counters and histograms of workers that have ended stay in the sum; gauges are summed over
those that live, so each must be a number for which that means something. Where it does not, the
highest of them counts, or the row is derived from the sums.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.counts import Counts, Series
from edge.ledger import Page

if TYPE_CHECKING:
    from edge.prometheus import Text

# In a histogram, beside the bounds of its buckets.
SUM: Final = "sum"

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
class Highest:
    """A gauge of which the largest number of all workers is told."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class Derived:
    """A gauge that comes from the sums of others; no worker posts it."""

    name: str
    help: str
    labels: tuple[str, ...]
    of: Callable[[Counts], Samples]


@dataclass(frozen=True, slots=True)
class Histogram:
    """read() gives (upper bounds with cumulative counts, the last +Inf) and the sum."""

    name: str
    help: str
    read: Callable[[], tuple[list[tuple[str, float]], float]]


Row = Counter | Gauge | Highest | Histogram


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


def _table_of(row: Row, counts: Counts) -> dict[Series, float]:
    match row:
        case Gauge():
            return counts.momentary
        case Highest():
            return counts.highest
        case _:
            return counts.growing


def samples_of(row: Row) -> list[tuple[tuple[str, ...], float]]:
    """The numbers of a row; those of a histogram by bound, and "sum"."""
    if isinstance(row, Histogram):
        buckets, total = row.read()
        return [*(((bound,), count) for bound, count in buckets), ((SUM,), total)]
    return named(row.read())


def named(samples: Samples) -> list[tuple[tuple[str, ...], float]]:
    return [(tuple(labels), float(number)) for labels, number in samples]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What /metrics says at one moment: total of all workers, those that were among them, with the
    shared and derived numbers. workers: what each that lives has posted, gauges above all."""

    total: Counts
    workers: tuple[Counts, ...]


class Exposition:
    """Renders tables of rows; info labels halftone_build_info.

    summed: rows of this worker, whose numbers are added to those of the others. shared: rows that
    speak for the node as they are. derived: rows made of the sums. page: where this worker posts
    its numbers, for whoever is asked; at: when, in monotonic seconds, or AT_REST.
    """

    def __init__(
        self,
        summed: Sequence[Row],
        shared: Sequence[Row],
        info: dict[str, str],
        page: Page,
        at: Callable[[], float],
        derived: Sequence[Derived] = (),
    ) -> None:
        self.overflows = 0  # posts that no page could hold
        self._summed = summed
        self._page = page
        self._at = at
        overflows = Counter(
            "halftone_ledger_overflows",
            "Times that this worker's numbers were too many to be told to the others.",
            (),
            single(lambda: self.overflows),
        )
        self._shared = (*shared, overflows)
        self._derived = derived
        self._info = info
        self._text: Text | None = None  # before the first scrape

    def post(self) -> None:
        """Tell the other workers."""
        counts = Counts()
        for row in self._summed:
            table = _table_of(row, counts)
            for labels, number in samples_of(row):
                table[(row.name, *labels)] = number
        if not self._page.post(counts, self._at()):
            self.overflows += 1

    def total(self) -> Counts:
        """Of all workers, and of those that were; others' numbers are a second old at the most."""
        self.post()  # first: what is told must be on record when this worker dies
        return self._sum()[0]

    def _sum(self) -> tuple[Counts, list[Counts]]:
        total, workers = Counts(), []
        for posted in self._page.ledger.read():
            counts = Counts.decode(posted.data)
            total.add(counts)
            if posted.serial:
                workers.append(counts)
        return total, workers

    def snapshot(self) -> Snapshot:
        """The numbers of render(), for who shows them in another form."""
        self.post()
        total, workers = self._sum()
        for row in self._shared:
            table = _table_of(row, total)
            table |= {(row.name, *labels): number for labels, number in samples_of(row)}
        for one in self._derived:
            total.momentary |= {(one.name, *labels): n for labels, n in named(one.of(total))}
        return Snapshot(total, tuple(workers))

    def render(self, accept: str) -> tuple[str, bytes]:
        """Media type and text, in OpenMetrics where the Accept field names it."""
        if self._text is None:
            # With an HTTP server of its own: 16 ms of the first scrape, not of the start.
            from edge.prometheus import Text

            self._text = Text(self._info, self._summed, self._shared, self._derived)
        return self._text.render(self.total(), accept)
