"""A node's numbers, as its workers would tell them."""

from edge.counts import Counts
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
    LAST_MINUTE,
    LIMIT,
    ORDERS,
    ORDERS_HEAD,
    PER_SECOND,
    READY_BYTES,
    RETRIES_SAVED,
    WORKER,
)
from edge.status.reading import Facts, OriginFacts, Verdicts, read
from edge.status.shown import Status

NOW = 1_700_000_100.0
FACTS = Facts(
    name="edge1",
    version="1.2.3",
    configuration="c0ffee",
    index="redis://:***@redis:6379/0",
    sandbox="landlock ABI 7, seccomp, rlimits",
    origins={"app": OriginFacts("fastcgi", "least-connection", "/health")},
)
HOSTS = ("php1:9000", "php2:9000")


def host(
    counts: Counts,
    name: str,
    state: str = "running",
    *,
    origin: str = "app",
    role: str = "first",
    held_s: float = 0.0,
) -> None:
    for one in ("running", "held", "probing"):
        counts.momentary[HOST_STATE, origin, name, one] = float(one == state)
    counts.highest[HOST_HELD, origin, name] = held_s
    counts.highest[HOST_LATENCY, origin, name] = 0.025
    counts.highest[HOST_WEIGHT, origin, name, role] = 2.0
    counts.momentary["halftone_origin_host_requests", origin, name] = 3.0
    counts.momentary["halftone_origin_host_limit", origin, name] = 32.0
    for result, number in (("answered", 111), ("abandoned", 4), ("refused", 5), ("timeout", 0)):
        counts.growing[HOST_FETCHES, origin, name, result] = float(number)
    counts.growing["halftone_origin_host_holds", origin, name] = 6.0
    counts.growing["halftone_origin_host_limit_decreases", origin, name] = 1.0
    counts.growing["halftone_origin_host_checks", origin, name, "passed"] = 70.0
    counts.growing["halftone_origin_host_checks", origin, name, "failed"] = 7.0


def worker(slot: int = 0, pid: int = 4242, hosts: tuple[str, ...] = HOSTS) -> Counts:
    counts = Counts()
    growing, momentary = counts.growing, counts.momentary
    momentary[WORKER, str(slot), str(pid)] = 1.0
    momentary["halftone_workers", "serving"] = 1.0
    momentary["halftone_workers", "leaving"] = 0.0
    growing["halftone_requests", "200"] = 900.0
    growing["halftone_requests", "503"] = 2.0
    momentary[PER_SECOND,] = 15.25
    for name, number in (("requests", 915.0), ("errors", 2.0), ("hits", 700.0), ("misses", 70.0)):
        momentary[LAST_MINUTE, name] = number
    momentary["halftone_resize_queue_depth",] = 5.0
    momentary[LIMIT, "renders_waiting"] = 64.0
    momentary["halftone_resize_lane_depth", "dear"] = 2.0
    momentary[LIMIT, "dear_lane"] = 33.0
    growing["halftone_renders", "rendered"] = 77.0
    growing["halftone_renders", "refused_full"] = 8.0
    momentary[FLIGHTS, "render"] = 9.0
    momentary[LIMIT, "render_flights"] = 4096.0
    momentary["halftone_resizer_processes", "idle"] = 2.0
    momentary["halftone_resizer_processes", "busy"] = 1.0
    momentary[LIMIT, "resizers"] = 4.0
    momentary["halftone_cache_memory_bytes",] = 5 * 2.0**20
    momentary[LIMIT, "memory_bytes"] = 128 * 2.0**20
    momentary[READY_BYTES,] = 2.0**20
    momentary[LIMIT, "ready_bytes"] = 127 * 2.0**20
    momentary[FOLDER_BYTES, "/var/cache/halftone"] = 3 * 2.0**30
    momentary[FOLDER_FILES, "/var/cache/halftone"] = 30_000.0
    momentary[FOLDER_ROOM, "/var/cache/halftone", "bytes"] = 50 * 2.0**30
    momentary[FOLDER_ROOM, "/var/cache/halftone", "files"] = 2e6
    momentary[FOLDER_WORKERS, "/var/cache/halftone", ""] = 1.0
    momentary["halftone_index_degraded",] = 0.0
    growing["halftone_index_outages",] = 1.0
    growing["halftone_index_failures", "late"] = 17.0
    momentary["halftone_index_hints_waiting",] = 3.0
    momentary[LIMIT, "hints_waiting"] = 4097.0
    counts.highest[ORDERS_HEAD,] = 1_700_000_040_000.0
    counts.highest[ORDERS, "kept"] = 12.0
    counts.highest[ORDERS, "unsettled"] = 1.0
    momentary[LIMIT, "orders"] = 10_000.0
    momentary["halftone_journal_lines",] = 13.0
    growing["halftone_purges", "purge"] = 14.0
    growing["halftone_downstream_urls", "http://squid1:3128", "told"] = 140.0
    growing["halftone_downstream_urls", "http://squid1:3128", "failed"] = 16.0
    momentary["halftone_downstream_pending",] = 18.0
    momentary[LIMIT, "downstream_pending"] = 100_000.0
    for kind, number in (("open", 20.0), ("limit", 10_000.0)):
        momentary[CONNECTIONS_NOW, "0.0.0.0:8080", "public", kind] = number
        momentary[CONNECTIONS_NOW, "127.0.0.1:8081", "admin", kind] = number / 10
    growing["halftone_connections_closed_early", "timed_out"] = 21.0
    for name in hosts:
        host(counts, name)
    growing["halftone_origin_retries", "app"] = 22.0
    growing["halftone_origin_turned_away", "app"] = 23.0
    growing["halftone_origin_resumptions", "app", "resumed"] = 24.0
    momentary[RETRIES_SAVED, "app", "saved"] = 63.5
    momentary[RETRIES_SAVED, "app", "limit"] = 64.0
    return counts


def total_of(*workers: Counts) -> Counts:
    """With what the master knows, and what is derived."""
    total = Counts()
    for one in workers:
        total.add(one)
    total.momentary["halftone_start_time_seconds",] = NOW - 100_000
    total.momentary["halftone_config_last_reload_successful",] = 1.0
    total.momentary["halftone_config_last_reload_success_timestamp_seconds",] = NOW - 3600
    total.growing["halftone_worker_restarts",] = 0.0
    total.momentary[HIT_RATIO, "object", "minute"] = 0.9096
    total.momentary[HIT_RATIO, "object", "start"] = 0.8
    return total


def status_of(*workers: Counts, verdicts: Verdicts | None = None, facts: Facts = FACTS) -> Status:
    return read(total_of(*workers), workers, facts, verdicts or Verdicts(), NOW)
