"""What is served after its lifetime, and failures that are remembered."""

from collections.abc import Sequence

from edge.failures import Failures
from edge.lifetimes import Lifetimes
from edge.metrics import Counter, Gauge, Row, single
from edge.refresh import Refreshes
from edge.source import Found


def staleness_rows(
    lifetimes: Lifetimes, refreshes: Refreshes[Found], failures: Failures
) -> Sequence[Row]:
    """What is served after its lifetime, and what is not tried again yet."""
    stats, told = refreshes.stats, failures.stats
    return (
        Counter(
            "halftone_stale_answers",
            "Answers from what was kept after its lifetime, by what allowed it: the origin failed,"
            " or was being asked.",
            ("reason",),
            lambda: (((why.value,), tally.count) for why, tally in lifetimes.stale.items()),
        ),
        Counter(
            "halftone_refreshes",
            "Questions to an origin behind a stale answer; refused: too many were under way, so the"
            " next request asks once more.",
            ("event",),
            lambda: (
                ((name,), getattr(stats, name)) for name in ("started", "done", "failed", "refused")
            ),
        ),
        Gauge(
            "halftone_refreshes_running",
            "Origins that are being asked behind a stale answer.",
            (),
            single(lambda: len(refreshes)),
        ),
        Counter(
            "halftone_failures_remembered",
            "Failures that were met, and are not tried again for a time.",
            ("kind",),
            lambda: (((kind.value,), count) for kind, count in told.remembered.items()),
        ),
        Counter(
            "halftone_failure_answers",
            "Answers from remembered failures: neither an origin nor a resizer was asked.",
            ("kind",),
            lambda: (((kind.value,), count) for kind, count in told.answered.items()),
        ),
        Gauge(
            "halftone_failures",
            "Failures that workers remember at the moment.",
            ("kind",),
            lambda: (((kind.value,), count) for kind, count in failures.entries().items()),
        ),
        Counter(
            "halftone_failures_crowded_out",
            "Remembered failures that were forgotten before their time, for want of room.",
            (),
            single(lambda: told.crowded_out),
        ),
    )
