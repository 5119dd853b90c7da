"""The shared cache: what is no derivative."""

from collections.abc import Sequence

from edge.metrics import Counter, Gauge, Row, single
from edge.shared import SharedCache


def shared_rows(shared: SharedCache) -> Sequence[Row]:
    """What is no derivative, and no original for everybody (shared.py)."""
    stats, variants = shared.stats, shared.variants.stats
    changes, asides = shared.changes.stats, shared.asides
    return (
        Counter(
            "halftone_shared_answers",
            "Answers that vary, or are no 200, or are not stored at all: from the cache (hit, or"
            " stale for a failing origin or while it was asked), or from an exchange (stored,"
            " confirmed by a 304, passed). marked, of passed and stored: asked at once, as the"
            " answer before could not be stored; joined: waited for another's exchange.",
            ("result",),
            lambda: (
                (("hit",), stats.hits),
                (("stale",), stats.stale),
                (("stored",), variants.stored),
                (("confirmed",), stats.confirmed),
                (("passed",), stats.passed),
                (("marked",), stats.marked),
                (("joined",), stats.joined),
            ),
        ),
        Counter(
            "halftone_shared_crowded_out",
            "Stored answers that made room for others of their URL; many: Vary names a field that"
            " is different for every client.",
            (),
            single(lambda: variants.crowded_out),
        ),
        Counter(
            "halftone_shared_methods",
            "Requests of other methods than GET and HEAD that were put to origins.",
            (),
            single(lambda: stats.methods),
        ),
        Counter(
            "halftone_shared_invalidated",
            "URLs that such requests changed: purged, or bare (nothing was stored of them), or"
            " shared (by the purge of another request). failed: that could not be recorded,"
            " refused: too many at once; then other nodes go on serving what they have.",
            ("result",),
            lambda: (
                (("purged",), changes.purged),
                (("bare",), changes.bare),
                (("shared",), changes.shared),
                (("failed",), changes.failed),
                (("refused",), changes.refused),
            ),
        ),
        Gauge(
            "halftone_shared_invalidating",
            "URLs whose purges are under way, or wait.",
            (),
            single(lambda: len(shared.changes)),
        ),
        Counter(
            "halftone_shared_asides",
            "What origins said beside answers that are one client's own: interim answers (1xx), and"
            " fields of trailers. refused: too many, not allowed there, or for a client that takes"
            " none.",
            ("kind", "result"),
            lambda: (
                (("interim", "passed"), asides.interim),
                (("interim", "refused"), asides.interim_refused),
                (("trailer", "passed"), asides.trailers),
                (("trailer", "refused"), asides.trailers_refused),
            ),
        ),
        Counter(
            "halftone_shared_loops",
            "Requests that had been here before, by Via or CDN-Loop; answered 508.",
            (),
            single(lambda: stats.loops),
        ),
        Gauge(
            "halftone_shared_marks",
            "URLs whose answers cannot be stored, so that nobody waits for them.",
            (),
            single(lambda: len(shared.marks)),
        ),
    )
