"""Which number of which part stands under which name on /metrics.

Parts count into Stats of their own and know no names; here they get them. Beside app.py the only
module that knows concrete parts, and it only reads.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from cache.flight import Flights
from cache.folders import Folders
from cache.index.interface import Index
from cache.lease import Leases
from cache.memory import Memory
from cache.room import Kind
from cache.store import Store
from edge.access import AccessLog
from edge.arrival import Arrivals
from edge.downstream import Downstream
from edge.failures import Failures
from edge.garbage import Garbage
from edge.handler import Handler as SiteHandler
from edge.health import DEGRADED, WORKERS
from edge.ladders import Ladders
from edge.lifetimes import Lifetimes
from edge.listener import Listener
from edge.metrics import Counter, Gauge, Histogram, Row, Samples, cumulative, single
from edge.origin.host import Host, HostState
from edge.origin.pool import OriginPool
from edge.purging import Purging
from edge.refresh import Refreshes
from edge.rendering import RENDER_BUCKETS_S, Made
from edge.representation import Representation
from edge.residency import Residency
from edge.seat import Bulletin
from edge.shared import SharedCache
from edge.site import Sites
from edge.source import Found
from edge.spellings import Spellings
from edge.upgrades import Upgrades
from resizer.cost import Lane
from resizer.pool import Pool
from resizer.workers import State

# Counters of the resizer's Stats that halftone_renders_total tells apart.
RENDER_RESULTS: Final = (
    "rendered", "unsupported", "corrupt", "too_large", "impossible", "transfer_failed", "late",
    "mark_unusable", "crashed", "withdrawn", "displaced", "stopped", "refused_full",
    "refused_barred", "refused_stopped",
)  # fmt: skip
RESTART_CAUSES: Final = ("crash", "deadline", "garbage", "start", "jobs", "memory")


def bulletin_rows(bulletin: Bulletin) -> Sequence[Row]:
    """What the master knows; any worker may be asked."""
    return (
        Gauge(
            "halftone_config_last_reload_successful",
            "1 when the configuration that was read last is in effect, 0 when it was refused.",
            (),
            single(lambda: int(bulletin.last_reload_successful)),
        ),
        Gauge(
            "halftone_config_last_reload_success_timestamp_seconds",
            "When a configuration was last put into effect.",
            (),
            single(lambda: bulletin.last_reload_at),
        ),
        Gauge(
            "halftone_start_time_seconds",
            "When this run of the program began; counters start anew with it.",
            (),
            single(lambda: bulletin.started_at),
        ),
        Counter(
            "halftone_worker_restarts",
            "Workers that took the place of one that died.",
            (),
            single(lambda: bulletin.restarts),
        ),
    )


def worker_rows(index: Index, is_leaving: Callable[[], bool]) -> Sequence[Row]:
    """What a worker is; their sums say how the node is."""
    return (
        Gauge(
            WORKERS,
            "Processes that serve, and those that finish what they have before they end.",
            ("state",),
            lambda: (
                (("serving",), int(not is_leaving())),
                (("leaving",), int(is_leaving())),
            ),
        ),
        Gauge(
            DEGRADED,
            "Workers that decide without the index, because it did not answer.",
            (),
            single(lambda: int(index.is_degraded)),
        ),
    )


def folder_rows(folders: Folders) -> Sequence[Row]:
    """How the folders of the cache are; they are the same ones for all workers of a node."""
    return (
        Gauge(
            "halftone_cache_folders",
            "Folders of the cache by whether they are in use, counted by each worker.",
            ("state",),
            lambda: (
                (("enabled",), sum(not why for _, why in folders.states())),
                (("disabled",), sum(bool(why) for _, why in folders.states())),
            ),
        ),
        Counter(
            "halftone_cache_folder_changes",
            "Folders that were given up because of their errors, that came back, or that were"
            " gone and made anew.",
            ("change",),
            lambda: (
                (("lost",), folders.losses),
                (("recovered",), folders.recoveries),
                (("remade",), folders.stats.remade),
            ),
        ),
        Counter(
            "halftone_cache_disk_errors",
            "What the disk refused, by doing, and files that were not what they should be.",
            ("kind",),
            lambda: tuple(
                ((kind,), getattr(folders.stats, kind))
                for kind in ("read_errors", "write_errors", "no_space", "damaged", "newer")
            ),
        ),
        Counter(
            "halftone_cache_pauses",
            "Times that nothing was stored for a while because the disk was full.",
            (),
            single(lambda: folders.stats.pauses),
        ),
        Counter(
            "halftone_cache_paused_fills",
            "Answers that were not stored because of such a pause.",
            (),
            single(lambda: folders.stats.paused),
        ),
        Counter(
            "halftone_cache_scrubbed_bytes",
            "Bytes on disk that the scrubber has compared with their hashes.",
            (),
            single(lambda: folders.stats.scrubbed_bytes),
        ),
    )


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
    yield from index_rows(store.index)
    yield Gauge(
        "halftone_cache_memory_bytes", "Memory tier, in bytes.", (), single(lambda: memory.used)
    )


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
    )


def upgrade_rows(upgrades: Upgrades) -> Sequence[Row]:
    """Slow formats that are prepared in idle time."""
    stats = upgrades.stats
    return (
        Counter(
            "halftone_upgrades",
            "Requests for a slow format that was not there yet, by what became of it; joined: it"
            " waits already, held_down: it has just failed, refused: too many wait.",
            ("result",),
            lambda: (
                ((name,), getattr(stats, name))
                for name in ("joined", "held_down", "refused", "done", "failed")
            ),
        ),
        Gauge(
            "halftone_upgrade_queue_depth",
            "Slow formats that wait for idle time.",
            (),
            single(lambda: upgrades.depth),
        ),
    )


def ladder_rows(ladders: Ladders) -> Sequence[Row]:
    """What first misses bring along; how the resizer does it is in resizer_rows()."""
    stats = ladders.stats
    return (
        Gauge(
            "halftone_ladders_waiting",
            "Ladders that wait until the one before has ended.",
            (),
            single(lambda: ladders.waiting),
        ),
        Counter(
            "halftone_ladders_dropped",
            "Ladders that were not made, because too many waited.",
            (),
            single(lambda: stats.dropped),
        ),
        Counter(
            "halftone_ladder_rungs",
            "Derivatives of ladders; held: somebody had made them, lost: not rendered or stored.",
            ("result",),
            lambda: (
                (("kept",), stats.kept),
                (("held",), stats.held),
                (("lost",), stats.lost),
            ),
        ),
    )


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


def shared_rows(shared: SharedCache) -> Sequence[Row]:
    """What is no derivative, and no original for everybody (shared.py)."""
    stats, changes = shared.stats, shared.changes.stats
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
                (("stored",), stats.stored),
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
            single(lambda: stats.crowded_out),
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


def origin_rows(sites: Sites) -> Sequence[Row]:
    """Origins that a site asks, and their hosts."""

    def origins() -> Iterable[OriginPool]:
        # Several sites may ask one.
        return {id(one.origin): one.origin for one in sites.all() if one.origin}.values()

    def fetches() -> Samples:
        for origin in origins():
            totals: Tally[str] = Tally()
            for host in origin.hosts:
                totals.update({result.value: n for result, n in host.stats.results.items()})
            for name, count in totals.items():
                yield (origin.name, name), count

    def hosts() -> Iterator[tuple[tuple[str, str], Host]]:
        for origin in origins():
            for host in origin.hosts:
                yield (origin.name, host.name), host

    def host_states() -> Samples:
        for origin in origins():
            for state in HostState:
                count = sum(host.state is state for host in origin.hosts)
                yield (origin.name, state.value), count

    def checks() -> Samples:
        for names, host in hosts():
            yield (*names, "passed"), host.stats.checks_passed
            yield (*names, "failed"), host.stats.checks_failed

    def connections() -> Samples:
        for origin in origins():
            stats = origin.connections
            yield (origin.name, "opened"), stats.opened
            yield (origin.name, "reused"), stats.reused
            yield (origin.name, "lost"), stats.lost

    return (
        Counter(
            "halftone_origin_fetches",
            "Exchanges with origins, by name and result.",
            ("origin", "result"),
            fetches,
        ),
        Counter(
            "halftone_origin_retries",
            "Requests put to a second host, because the first gave no answer.",
            ("origin",),
            lambda: (((origin.name,), origin.stats.retries) for origin in origins()),
        ),
        Counter(
            "halftone_origin_turned_away",
            "Requests put to no host: all were held down, or had what they can take.",
            ("origin",),
            lambda: (((origin.name,), origin.stats.turned_away) for origin in origins()),
        ),
        Counter(
            "halftone_origin_connections",
            "Requests by connection; lost: a kept one was dead, and a new one was opened.",
            ("origin", "kind"),
            connections,
        ),
        Gauge(
            "halftone_origin_hosts",
            "Hosts by state, as every worker sees them; held: gets no requests for a while,"
            " probing: one request finds out.",
            ("origin", "state"),
            host_states,
        ),
        Gauge(
            "halftone_origin_host_requests",
            "Requests that a host has.",
            ("origin", "host"),
            lambda: ((names, host.load) for names, host in hosts()),
        ),
        Gauge(
            "halftone_origin_host_limit",
            "Requests that a host may have at once, as learnt from its answers.",
            ("origin", "host"),
            lambda: ((names, host.limit.value) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_limit_decreases",
            "Times that the limit of a host was lowered, because it refused or became slow.",
            ("origin", "host"),
            lambda: ((names, host.limit.decreases) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_holds",
            "Times that a host was held down.",
            ("origin", "host"),
            lambda: ((names, host.stats.holds) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_checks",
            "Active probes of a host, by result.",
            ("origin", "host", "result"),
            checks,
        ),
        Counter(
            "halftone_origin_lookups",
            "Names of hosts looked up; failed: the last good addresses stay in use.",
            ("origin", "result"),
            lambda: (
                ((origin.name, name), getattr(origin.connections.lookups, name))
                for origin in origins()
                for name in ("resolved", "failed")
            ),
        ),
    )


def resizer_rows(pool: Pool) -> Sequence[Row]:
    """Lanes, bar, workers and ladders of the resizer."""
    stats = pool.stats
    return (
        Gauge(
            "halftone_resize_lane_depth",
            "Jobs that wait for a resizer, by lane; idle: ladders.",
            ("lane",),
            lambda: (((lane.value,), pool.depth(lane)) for lane in Lane),
        ),
        Counter(
            "halftone_resize_jobs",
            "Jobs admitted, by lane; idle: ladders.",
            ("lane",),
            lambda: (
                (("cheap",), stats.cheap),
                (("dear",), stats.dear),
                (("idle",), stats.ladders - stats.ladders_refused),
            ),
        ),
        Counter(
            "halftone_resize_wait_seconds",
            "Time that jobs waited for a resizer.",
            (),
            single(lambda: stats.queue_wait_us / 1e6),
        ),
        Gauge(
            "halftone_resize_cost_correction",
            "Learned ratio of true to estimated cost, by the source's format.",
            ("format",),
            lambda: (
                (("unknown" if found is None else found.value,), ratio)
                for found, ratio in pool.costs.corrections.items()
            ),
        ),
        Gauge(
            "halftone_resizer_processes",
            "Resizer processes, by what they do.",
            ("state",),
            lambda: (((state.value,), pool.workers.count(state)) for state in State),
        ),
        Counter(
            "halftone_resizer_restarts",
            "Resizer processes that were replaced, by cause; jobs and memory: recycled.",
            ("cause",),
            lambda: (((cause,), getattr(stats, f"restarts_{cause}")) for cause in RESTART_CAUSES),
        ),
        Counter(
            "halftone_resize_retries",
            "Jobs given to a second process, because the first ended before it took them.",
            (),
            single(lambda: stats.retried),
        ),
        Counter(
            "halftone_resize_strikes",
            "Jobs that ended a process and are held against their picture.",
            (),
            single(lambda: stats.strikes),
        ),
        Gauge(
            "halftone_resize_suspects",
            "Pictures with a strike or more that is not forgotten yet.",
            (),
            single(lambda: pool.suspects),
        ),
        Counter(
            "halftone_resize_barred",
            "Pictures that were barred; kept, not_kept: for a report.",
            ("copy",),
            lambda: (
                (("kept",), stats.kept),
                (("not_kept",), stats.barred - stats.kept),
            ),
        ),
        Counter(
            "halftone_ladders",
            "Ladders, by how they ended.",
            ("result",),
            lambda: (
                (("ended",), stats.ladders_ended),
                (("withdrawn",), stats.ladders_withdrawn),
                (("refused",), stats.ladders_refused),
            ),
        ),
        Counter(
            "halftone_ladder_steps",
            "Transforms of ladders, by result.",
            ("result",),
            lambda: ((("rendered",), stats.steps_rendered), (("failed",), stats.steps_failed)),
        ),
        Counter(
            "halftone_ladder_pauses",
            "Ladders that made way for a render that somebody waited for.",
            (),
            single(lambda: stats.ladders_paused),
        ),
    )


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


def lease_rows(leases: Leases) -> Sequence[Row]:
    """Fills that are done once in the farm, and who waited for them."""
    stats = leases.stats
    return (
        Counter(
            "halftone_leases",
            "Leases of fills; led: granted, lost: not renewed in time, without: the index did not"
            " answer and the fill went on without one.",
            ("result",),
            lambda: (((name,), getattr(stats, name)) for name in ("led", "lost", "without")),
        ),
        Counter(
            "halftone_lease_waits",
            "Fills that another worker or node did meanwhile, by what came of the wait; held: found"
            " on disk, parcels: handed over, replaced: the other was gone, alone: nothing could be"
            " handed over, undecided: the index fell silent, gave_up: answered with 503.",
            ("result",),
            lambda: (
                ((name,), getattr(stats, name))
                for name in ("held", "parcels", "replaced", "alone", "undecided", "gave_up")
            ),
        ),
        Gauge(
            "halftone_lease_waiting",
            "Fills that wait for what another worker or node does.",
            (),
            single(lambda: leases.waiting),
        ),
        Counter(
            "halftone_lease_parcels",
            "Entries left for those who waited; taken at once, without a wait; refused: not what"
            " they should be, or of no use any more.",
            ("result",),
            lambda: (
                (("left",), stats.handed_over),
                (("at_once",), stats.at_once),
                (("refused",), stats.refused),
            ),
        ),
    )
