"""Purges, and the caches in front."""

from collections.abc import Sequence

from edge.downstream import Downstream
from edge.metrics import Counter, Gauge, Row, single
from edge.purging import Purging
from edge.spellings import Spellings


def purge_rows(
    purging: Purging, downstream: Downstream | None, spellings: Spellings | None
) -> Sequence[Row]:
    """Purges that were asked for here, and the caches in front, where there are any."""
    own = purging.stats
    rows: list[Row] = [
        Counter(
            "halftone_purges",
            "Orders that clients of this node gave, by what they do; failed: not recorded, and"
            " answered 503.",
            ("act",),
            lambda: (
                *(((act,), count) for act, count in own.done.items()),
                (("failed",), own.failed),
                (("dry-run",), own.previews),
            ),
        )
    ]
    if downstream is not None:
        told = downstream.stats
        rows += [
            Counter(
                "halftone_downstream_urls",
                "URLs that caches in front were told to forget; failed: given up after retries.",
                ("cache", "result"),
                lambda: (
                    *(((name, "told"), count) for name, count in told.told.items()),
                    *(((name, "failed"), count) for name, count in told.failed.items()),
                ),
            ),
            Counter(
                "halftone_downstream_dropped",
                "URLs times caches that were not told: too many under way, or the node stopped.",
                (),
                single(lambda: told.dropped),
            ),
            Counter(
                "halftone_downstream_retries",
                "URLs told a second time or more, for want of an answer.",
                (),
                single(lambda: told.retried),
            ),
            Gauge(
                "halftone_downstream_pending",
                "URLs times caches that are still to be told.",
                (),
                single(lambda: told.pending),
            ),
        ]
    if spellings is not None:
        noted = spellings.stats
        rows += [
            Counter(
                "halftone_spellings",
                "URLs written down for the caches in front; lost: too many at once, or no index.",
                ("result",),
                lambda: ((("written",), noted.written), (("lost",), noted.lost)),
            ),
            Gauge(
                "halftone_spellings_waiting",
                "URLs that wait to be written down.",
                (),
                single(lambda: spellings.depth),
            ),
        ]
    return rows
