"""The index, while it does not answer."""

from collections.abc import Sequence

from cache.index.interface import Index
from edge.metrics import Counter, Gauge, Row, single


def index_rows(index: Index) -> Sequence[Row]:
    """What becomes of what the index could not be told, and of what it has no room for."""
    hints, catalogue = index.hints, index.catalogue
    return (
        Counter(
            "halftone_index_outages",
            "How often the index stopped answering, so that decisions became local.",
            (),
            single(lambda: index.times_degraded),
        ),
        Gauge(
            "halftone_index_hints_waiting",
            "News that the index could not be told yet.",
            (),
            single(lambda: hints.waiting),
        ),
        Counter(
            "halftone_index_hints",
            "News that the index could not be told in time, by what became of it; dropped: for"
            " want of room, overtaken: by later news, outdated: by a purge or another node.",
            ("result",),
            lambda: (
                ((name,), getattr(hints, name))
                for name in ("told", "outdated", "overtaken", "dropped")
            ),
        ),
        Counter(
            "halftone_index_unlisted",
            "Paths, tags and URLs that purges of caches in front will miss, for want of room.",
            ("kind",),
            lambda: (
                (("path",), catalogue.paths_dropped),
                (("url",), catalogue.urls_dropped),
            ),
        ),
    )
