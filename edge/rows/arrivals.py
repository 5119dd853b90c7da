"""Large originals while they arrive."""

from collections.abc import Sequence
from typing import Any

from edge.arrival import Arrivals
from edge.metrics import Counter, Gauge, Row, single


def arrival_rows(arrivals: Arrivals[Any]) -> Sequence[Row]:
    """Large originals, and answers that vary, that are sent while they arrive."""
    stats = arrivals.stats
    return (
        Gauge(
            "halftone_arrivals_under_way",
            "Large originals that are being read from origins.",
            (),
            single(lambda: len(arrivals)),
        ),
        Counter(
            "halftone_arrivals",
            "Large originals sent while they arrived, by what became of them; failed: cut off,"
            " abandoned: not to be kept and nobody left to read them.",
            ("result",),
            lambda: (((name,), getattr(stats, name)) for name in ("ended", "failed", "abandoned")),
        ),
        Counter(
            "halftone_arrival_joins",
            "Requests that found the original they asked for on its way.",
            (),
            single(lambda: stats.joined),
        ),
        Counter(
            "halftone_arrivals_diverted",
            "Large originals that the store refused when they had begun: its disk was full, or they"
            " turned out too large.",
            (),
            single(lambda: stats.diverted),
        ),
        Counter(
            "halftone_arrival_stalls",
            "Times that an origin was left unread until the reader of what is not kept caught up.",
            (),
            single(lambda: stats.stalled),
        ),
    )
