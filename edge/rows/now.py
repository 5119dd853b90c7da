"""Rows for whoever looks at the node as it is now: bounds, hosts, folders, the last minute.

With those of rows.py they are all that the status page shows. Like rows.py it knows concrete parts,
and only reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cache.flight import Flights
from cache.folders import Folders
from cache.follow import Follower
from cache.index.causes import Cause
from cache.index.hints import MAX_HINTS
from cache.index.interface import Index
from cache.memory import Memory
from cache.orders import MAX_ORDERS
from cache.store import Store
from edge.access import AccessLog
from edge.counts import Counts, told
from edge.downstream import MAX_URLS, Downstream
from edge.errors import FAILURES
from edge.handler import Handler as SiteHandler
from edge.known import MAX_BYTES as MAX_KNOWN_BYTES
from edge.known import MAX_SOURCES, Known
from edge.listener import Listener
from edge.metrics import Counter, Derived, Gauge, Highest, Row, Samples, single
from edge.origin.host import Host, HostState
from edge.origin.pool import MAX_RETRIES_SAVED, OriginPool
from edge.purging import Purging
from edge.recent import Recent
from edge.representation import Representation
from edge.site import Sites
from edge.spellings import Spellings
from edge.status.names import (
    CONNECTIONS_NOW,
    FLIGHTS,
    FOLDER_BYTES,
    FOLDER_FILES,
    FOLDER_ROOM,
    FOLDER_WORKERS,
    HIT_RATIO,
    HOST_FETCHES,
    HOST_HELD,
    HOST_LATENCY,
    HOST_STATE,
    HOST_WEIGHT,
    INDEX_ERROR,
    LAST_MINUTE,
    LIMIT,
    LINES_DROPPED,
    NOT_STORED,
    NOT_TOLD,
    ORDERS,
    ORDERS_HEAD,
    PER_SECOND,
    PURGES_FAILED,
    READY_BYTES,
    REFUSED,
    RETRIES_SAVED,
    WORKER,
)
from resizer.cost import Lane
from resizer.pool import Pool

# What a ratio is made of: (its name, what speaks for hits, what for misses).
_RATIOS: Final = (
    ("object", "hits", "misses"),
    ("byte", "hit_bytes", "miss_bytes"),
    ("cost", "saved_milliseconds", "spent_milliseconds"),
)


def traffic_of(handler: SiteHandler) -> Mapping[str, float]:
    """Numbers that only grow, for Recent."""
    own, ready, rendered = handler.stats, handler.ready.stats, handler.derivatives.stats
    by_status = handler.requests()
    return {
        "requests": sum(by_status.values()),
        "errors": sum(count for status, count in by_status.items() if status >= 500),
        "hits": own.hits_memory + own.hits_disk + ready.hits + ready.file_hits,
        "misses": own.misses + rendered.misses,
        "hit_bytes": own.hit_bytes + ready.body_bytes,
        "miss_bytes": own.miss_bytes + rendered.made_bytes,
        "saved_milliseconds": own.saved_ms + ready.saved_ms,
        "spent_milliseconds": rendered.spent_ms,
    }


def trouble_of(
    handler: SiteHandler,
    index: Index,
    purging: Purging | None,
    folders: Folders | None,
    downstream: Downstream | None,
    access: AccessLog | None,
) -> Mapping[str, float]:
    """What went wrong, and why: numbers that only grow, for Recent."""
    refusals, causes = handler.stats.refusals, index.stats.causes
    return {
        **{f"{REFUSED}{reason}": refusals.get(reason, 0) for reason in FAILURES},
        **{f"{INDEX_ERROR}{cause}": causes.get(cause, 0) for cause in Cause},
        PURGES_FAILED: 0 if purging is None else purging.stats.failed,
        NOT_TOLD: 0 if downstream is None else sum(downstream.stats.failed.values()),
        NOT_STORED: 0 if folders is None else folders.stats.paused,
        LINES_DROPPED: 0 if access is None else access.stats.dropped,
    }


def recent_rows(recent: Recent) -> Sequence[Row]:
    """The last minute, for who has no Prometheus at hand."""
    return (
        Gauge(
            PER_SECOND,
            "Requests a second on the public listeners, over the last minute.",
            (),
            single(lambda: recent.per_second("requests")),
        ),
        Gauge(
            LAST_MINUTE,
            "What the last minute has added to requests, errors (5xx), hits and misses, the bytes"
            " of both, and the render time that was saved and spent; to the reasons of errors, to"
            " what failed at the index by cause, purges that were not recorded, URLs that a cache"
            " in front was not told of, answers that a full disk left unstored, and lines of the"
            " access log that were dropped.",
            ("of",),
            lambda: (((name,), number) for name, number in recent.gained().items()),
        ),
    )


def ratio_rows() -> Sequence[Derived]:
    """Hits as part of hits and misses, of the whole node."""
    return (
        Derived(
            HIT_RATIO,
            "Hits as part of hits and misses: in objects, in bytes, and in render time (cost); over"
            " the last minute, and since the start. None where nothing was asked for.",
            ("kind", "over"),
            _ratios,
        ),
    )


def _ratios(total: Counts) -> Iterator[tuple[tuple[str, str], float]]:
    def since_start(name: str) -> float:
        series = f"halftone_cache_{name}"
        return sum(number for (one, *_), number in total.growing.items() if one == series)

    def last_minute(name: str) -> float:
        return total.momentary.get((LAST_MINUTE, name), 0.0)

    for over, number_of in (("minute", last_minute), ("start", since_start)):
        for kind, good, bad in _RATIOS:
            hits, misses = number_of(good), number_of(bad)
            if hits + misses > 0:
                yield (kind, over), hits / (hits + misses)


def worker_now_rows(pid: int, slot: int) -> Sequence[Row]:
    """Who the workers are."""
    return (
        Gauge(
            WORKER,
            "1 for each worker that lives, by its place and its process.",
            ("slot", "pid"),
            lambda: (((str(slot), str(pid)), 1),),
        ),
    )


def limit_rows(
    *,
    pool: Pool,
    handler: SiteHandler,
    known: Known,
    memory: Memory[Representation],
    flights: Mapping[str, Flights[Any]],
    downstream: Downstream | None,
    spellings: Spellings | None,
) -> Sequence[Row]:
    """How many there may be of what other rows count; what happens beyond it, they count too."""

    def limits() -> Iterator[tuple[tuple[str], float]]:
        yield ("renders_waiting",), pool.settings.queue
        for lane, places in _lanes(pool).items():
            yield (f"{lane}_lane",), places
        yield ("resizers",), pool.settings.processes
        yield ("ladders_waiting",), handler.ladders.limit
        yield ("upgrades_waiting",), handler.upgrades.limit
        yield ("memory_bytes",), memory.limit
        yield ("ready_bytes",), handler.ready.limit
        yield ("known_sources",), MAX_SOURCES
        yield ("known_source_bytes",), MAX_KNOWN_BYTES
        yield ("hints_waiting",), MAX_HINTS
        yield ("orders",), MAX_ORDERS
        for name, one in flights.items():
            yield (f"{name}_flights",), one.limit
        if downstream is not None:
            yield ("downstream_pending",), MAX_URLS
        if spellings is not None:
            yield ("spellings_waiting",), spellings.limit

    return (
        Gauge(
            LIMIT,
            "How many there may be, of all workers together: renders_waiting bounds"
            " halftone_resize_queue_depth, and so on.",
            ("of",),
            limits,
        ),
        Gauge(
            FLIGHTS,
            "Fetches and renders under way; who asks for the same meanwhile waits for them.",
            ("of",),
            lambda: (((name,), len(one)) for name, one in flights.items()),
        ),
        Gauge(
            "halftone_known_sources",
            "Originals that the workers know without asking disk or index.",
            (),
            single(lambda: len(known)),
        ),
        Gauge(
            "halftone_known_source_bytes",
            "Bytes of the paths of known originals.",
            (),
            single(lambda: known.bytes),
        ),
        Counter(
            "halftone_known_sources_crowded_out",
            "Known originals that were forgotten to make room for others.",
            (),
            single(lambda: known.crowded_out),
        ),
        Gauge(
            READY_BYTES,
            "Answers that are kept ready to be sent, in bytes.",
            (),
            single(lambda: handler.ready.used),
        ),
    )


def listener_rows(listeners: Sequence[Listener]) -> Sequence[Row]:
    """Each listener; the last one is the admin's."""

    def numbers() -> Iterator[tuple[tuple[str, str, str], float]]:
        for number, one in enumerate(listeners):
            role = "admin" if number == len(listeners) - 1 else "public"
            names = (told(one.address), role)
            yield (*names, "open"), one.stats.open
            yield (*names, "limit"), one.settings.max_connections

    return (
        Gauge(
            CONNECTIONS_NOW,
            "Open client connections of a listener, and how many it may have.",
            ("listener", "role", "kind"),
            numbers,
        ),
    )


def room_rows(folders: Folders) -> Sequence[Row]:
    """Each folder of the cache; a worker counts its own part of each."""

    def rooms() -> Iterator[tuple[tuple[str, str], float]]:
        for path, room in folders.rooms():
            yield (told(path), "bytes"), room.size
            yield (told(path), "files"), room.inodes

    return (
        Gauge(
            FOLDER_BYTES,
            "Allocated bytes in a folder of the cache, running fills among them.",
            ("folder",),
            lambda: (((told(path),), room.used) for path, room in folders.rooms()),
        ),
        Gauge(
            FOLDER_FILES,
            "Files in a folder of the cache, likewise.",
            ("folder",),
            lambda: (((told(path),), room.used_inodes) for path, room in folders.rooms()),
        ),
        Gauge(
            FOLDER_ROOM,
            "What a folder of the cache may hold, in bytes and in files.",
            ("folder", "of"),
            rooms,
        ),
        Gauge(
            FOLDER_WORKERS,
            "Workers that use a folder of the cache (why is empty), and those that do not, by why.",
            ("folder", "why"),
            lambda: (((told(path), told(why)), 1) for path, why in folders.states()),
        ),
    )


def order_rows(follower: Follower, store: Store) -> Sequence[Row]:
    """Purges as this node's workers have heard of them, and its journal."""
    return (
        Highest(
            ORDERS_HEAD,
            "Number of the newest order (a purge or the like) that a worker has heard of; it has"
            " milliseconds since 1970 in it.",
            (),
            single(lambda: follower.head),
        ),
        Highest(
            ORDERS,
            "By the worker that has most: orders by tag or prefix that sources are compared with"
            " (kept), sources taken down, purges whose new token is still to be read (unsettled).",
            ("state",),
            lambda: (
                (("kept",), follower.kept),
                (("taken_down",), follower.taken_down),
                (("unsettled",), store.unsettled),
            ),
        ),
        Gauge(
            "halftone_journal_lines",
            "Orders in the journals of the workers, to be carried out again where the index loses"
            " them.",
            (),
            single(lambda: len(follower.journal)),
        ),
        Counter(
            "halftone_journal_failures",
            "Orders that could not be written into the journal.",
            (),
            single(lambda: follower.journal.failed),
        ),
        Counter(
            "halftone_orders_looks",
            "Looks at the log of orders; failed: the index did not answer, repeated: orders that"
            " it had lost and that were carried out again.",
            ("result",),
            lambda: (
                (("done",), follower.stats.looks - follower.stats.failed),
                (("failed",), follower.stats.failed),
                (("repeated",), follower.stats.repeated),
            ),
        ),
    )


def _lanes(pool: Pool) -> Mapping[str, int]:
    """Places of each lane, as admission.py shares them out."""
    queue = pool.settings.queue
    return {
        Lane.CHEAP.value: queue,
        Lane.DEAR.value: (queue + 1) // 2,
        Lane.IDLE.value: pool.settings.ladder_queue,
    }


def host_rows(sites: Sites) -> Sequence[Row]:
    """Each host of the origins that a site asks."""

    def origins() -> Sequence[OriginPool]:
        return list({id(one.origin): one.origin for one in sites.all() if one.origin}.values())

    def hosts() -> Iterator[tuple[OriginPool, Host, tuple[str, str]]]:
        for origin in origins():
            for host in origin.hosts:
                yield origin, host, (origin.name, told(host.name))

    def each(number_of: Callable[[OriginPool, Host], float]) -> Callable[[], Samples]:
        return lambda: ((names, number_of(origin, host)) for origin, host, names in hosts())

    def latencies() -> Iterator[tuple[tuple[str, str], float]]:
        for origin, host, names in hosts():
            seconds = origin.maybe_latency_s(host)
            if seconds is not None:
                yield names, seconds

    def fetches() -> Iterator[tuple[tuple[str, str, str], float]]:
        for _, host, names in hosts():
            for result, count in host.stats.results.items():
                yield (*names, result.value), count

    return (
        Gauge(
            HOST_STATE,
            "Workers that see a host in a state; held: it gets no requests for a while, probing:"
            " one request finds out.",
            ("origin", "host", "state"),
            lambda: (
                ((*names, state.value), int(host.state is state))
                for _, host, names in hosts()
                for state in HostState
            ),
        ),
        Highest(
            HOST_HELD,
            "For how long a host still gets no requests, by the worker that holds it the longest.",
            ("origin", "host"),
            each(lambda origin, host: origin.held_s(host)),
        ),
        Highest(
            HOST_LATENCY,
            "What a host takes to answer, of late, by the worker that finds it the slowest; a"
            " failure counts a second at the least.",
            ("origin", "host"),
            latencies,
        ),
        Highest(
            HOST_WEIGHT,
            "Share of a host beside the others of its origin and of its role.",
            ("origin", "host", "role"),
            lambda: (
                ((*names, "backup" if host.is_backup else "first"), host.weight)
                for _, host, names in hosts()
            ),
        ),
        Counter(
            HOST_FETCHES,
            "Exchanges with a host, by result.",
            ("origin", "host", "result"),
            fetches,
        ),
        Gauge(
            RETRIES_SAVED,
            "Retries that an origin may have at once, saved up by its traffic, and the most that"
            " are saved.",
            ("origin", "kind"),
            lambda: (
                sample
                for one in origins()
                for sample in (
                    ((one.name, "saved"), one.retries_saved),
                    ((one.name, "limit"), MAX_RETRIES_SAVED),
                )
            ),
        ),
    )
