"""Requests, connections and renders; what a handler and its parts count."""

from collections.abc import Iterator
from typing import Final

from cache.flight import Flights
from cache.memory import Memory
from cache.store import Store
from edge.access import AccessLog
from edge.garbage import Garbage
from edge.handler import Handler as SiteHandler
from edge.listener import Listener
from edge.metrics import Counter, Gauge, Histogram, Row, cumulative, single
from edge.rendering import RENDER_BUCKETS_S, Made
from edge.representation import Representation
from edge.residency import Residency
from edge.rows.cache import cache_rows
from edge.rows.index import index_rows
from edge.rows.origins import origin_rows
from edge.rows.resizer import resizer_rows
from edge.rows.rungs import ladder_rows, upgrade_rows
from edge.site import Sites
from resizer.pool import Pool

# Counters of the resizer's Stats that halftone_renders_total tells apart.
RENDER_RESULTS: Final = (
    "rendered", "unsupported", "corrupt", "too_large", "impossible", "transfer_failed", "late",
    "mark_unusable", "crashed", "withdrawn", "displaced", "stopped", "refused_full",
    "refused_barred", "refused_stopped",
)  # fmt: skip


def metric_rows(
    handler: SiteHandler,
    memory: Memory[Representation],
    pool: Pool,
    flights: Flights[Made],
    listeners: list[Listener],
    sites: Sites,
    store: Store,
    access: AccessLog | None,
    residency: Residency,
    garbage: Garbage,
) -> Iterator[Row]:
    """Which number of which part stands under which name."""
    own, rendered, marks = handler.stats, handler.derivatives.stats, handler.marks.stats

    yield Counter(
        "halftone_watermark_reads",
        "Files of watermarks that were read, anew or for the first time, or could not be.",
        ("result",),
        lambda: ((("read",), marks.read), (("failed",), marks.failed)),
    )
    yield Counter(
        "halftone_requests",
        "Responses on the public listeners, by status.",
        ("status",),
        lambda: (((str(status),), count) for status, count in handler.requests().items()),
    )
    yield Counter(
        "halftone_refusals",
        "Errors of this node's own, by the reason that Cache-Status names.",
        ("reason",),
        lambda: (((reason,), count) for reason, count in own.refusals.items()),
    )
    yield Counter(
        "halftone_response_body_bytes",
        "Body bytes sent on the public listeners.",
        (),
        single(lambda: own.sent_bytes + handler.ready.stats.body_bytes),
    )
    yield Counter(
        "halftone_cache_hits",
        "Answers from what was kept, by tier.",
        ("tier",),
        lambda: (
            (("memory",), own.hits_memory + handler.ready.stats.hits),
            (("disk",), own.hits_disk + handler.ready.stats.file_hits),
        ),
    )
    yield Counter(
        "halftone_cache_misses",
        "Derivatives that had to be made, or waited for.",
        (),
        single(lambda: own.misses + rendered.misses),
    )
    yield from cache_rows(handler, store)
    yield Counter(
        "halftone_flight_joins",
        "Requests that waited for another's render of the same picture.",
        (),
        single(lambda: flights.stats.joined),
    )
    yield Counter(
        "halftone_renders",
        "Jobs of the resizer, by result.",
        ("result",),
        lambda: (((name,), getattr(pool.stats, name)) for name in RENDER_RESULTS),
    )
    yield Histogram(
        "halftone_render_seconds",
        "Decoding, resizing and encoding of a derivative, in its resizer.",
        lambda: cumulative(rendered.counts, RENDER_BUCKETS_S, rendered.seconds),
    )
    yield Gauge(
        "halftone_resize_queue_depth",
        "Renders that wait for a resizer.",
        (),
        single(lambda: pool.stats.waiting),
    )
    yield Counter(
        "halftone_renders_derived",
        "Renders from a stored larger derivative in place of a large original.",
        (),
        single(lambda: rendered.derived),
    )
    yield from resizer_rows(pool)
    yield from upgrade_rows(handler.upgrades)
    yield from ladder_rows(handler.ladders)
    yield from origin_rows(sites)
    yield Gauge(
        "halftone_connections",
        "Open client connections.",
        (),
        single(lambda: sum(one.stats.open for one in listeners)),
    )
    yield Counter(
        "halftone_connections_closed_early",
        "Connections cut, or turned away, by reason.",
        ("reason",),
        lambda: (
            ((reason,), sum(getattr(one.stats, reason) for one in listeners))
            for reason in ("refused", "timed_out", "shed", "aborted", "no_preamble")
        ),
    )
    yield Counter(
        "halftone_disk_loads",
        "Stretches of large files that a disk thread had to read before they were sent.",
        (),
        single(lambda: residency.loads),
    )
    yield Counter(
        "halftone_full_collections",
        "Full garbage collections, each in a quiet second.",
        (),
        single(lambda: garbage.full),
    )
    yield Counter(
        "halftone_access_log_dropped",
        "Access lines that the log's sink did not take.",
        (),
        single(lambda: access.stats.dropped if access is not None else 0),
    )
    index_stats = store.index.stats
    yield Counter(
        "halftone_index_failures",
        "Questions to the index without answer; refused: its breaker was open, its queue full.",
        ("kind",),
        lambda: (
            (("failed",), index_stats.failed),
            (("refused",), index_stats.refused),
            (("late",), index_stats.late),
        ),
    )
    yield Counter(
        "halftone_index_errors",
        "Questions to the index that failed there, by cause: see docs/operations.md.",
        ("cause",),
        lambda: (((cause.value,), count) for cause, count in index_stats.causes.items()),
    )
    yield from index_rows(store.index)
    yield Gauge(
        "halftone_cache_memory_bytes", "Memory tier, in bytes.", (), single(lambda: memory.used)
    )
