"""Hits and misses by weight, and the room on disk."""

from collections.abc import Sequence

from cache.room import Kind
from cache.store import Store
from edge.handler import Handler as SiteHandler
from edge.metrics import Counter, Gauge, Row, single


def cache_rows(handler: SiteHandler, store: Store) -> Sequence[Row]:
    """What hits and misses weigh, and how the disk's room is used.

    Objects are halftone_cache_hits and _misses; with what follows the ratios in bytes and in work.
    """
    own, ready, rendered = handler.stats, handler.ready.stats, handler.derivatives.stats
    disk = store.disk
    return (
        Counter(
            "halftone_cache_hit_bytes",
            "Bytes of the pictures of hits; whole pictures, also where a part or a 304 was sent.",
            (),
            single(lambda: own.hit_bytes + ready.body_bytes),
        ),
        Counter(
            "halftone_cache_miss_bytes",
            "Bytes of the pictures of misses, likewise; without those that could not be made.",
            (),
            single(lambda: own.miss_bytes + rendered.made_bytes),
        ),
        Counter(
            "halftone_cache_saved_milliseconds",
            "Render time that hits saved: what each picture took when it was made. Originals take"
            " none.",
            (),
            single(lambda: own.saved_ms + ready.saved_ms),
        ),
        Counter(
            "halftone_cache_spent_milliseconds",
            "Render time of misses; who waited for another's render spent nothing.",
            (),
            single(lambda: rendered.spent_ms),
        ),
        Gauge(
            "halftone_cache_disk_bytes",
            "Allocated bytes of the disk tier, by what they hold; running fills among them.",
            ("kind",),
            lambda: (((kind.value,), disk.room.used_by(kind)) for kind in Kind),
        ),
        Counter(
            "halftone_cache_evictions",
            "Entries that had to leave the disk tier to make room, by what they held.",
            ("kind",),
            lambda: (((kind.value,), disk.room.evicted(kind)) for kind in Kind),
        ),
        Gauge(
            "halftone_cache_unlinking",
            "Files of purges that were answered already and wait for the disk; nobody is served"
            " from them.",
            (),
            single(lambda: store.unlinking),
        ),
        Counter(
            "halftone_cache_unremoved",
            "Purged files that are left to eviction, since the disk threads were busy.",
            (),
            single(lambda: store.stats.unremoved),
        ),
    )
