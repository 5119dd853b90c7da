"""From the numbers of /metrics to what the status page shows. Pure.

Numbers that a node does not have (an older worker's, during a change of the program) are 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.counts import Counts, Series
from edge.status.names import (
    CONNECTIONS_NOW,
    FLIGHTS,
    FOLDER_BYTES,
    FOLDER_FILES,
    FOLDER_ROOM,
    FOLDER_WORKERS,
    HIT_RATIO,
    HOST_ERRORS,
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
from edge.status.shown import (
    Amount,
    Cache,
    Downstream,
    Folder,
    Front,
    Host,
    Index,
    Level,
    Listener,
    Memory,
    Orders,
    Origin,
    Queue,
    Ratio,
    Remark,
    Resizer,
    Seen,
    Status,
    Traffic,
    Worker,
)

# Above this part of a bound it is time to look.
NEARLY: Final = 0.8
# Answers of the last minute that were errors: this part of them, and never a single stray one.
ERRORS_PART: Final = 0.01
ERRORS_FEW: Final = 5
# More than this part is no mere warning.
ERRORS_MOST: Final = 0.5
# Of an exchange with an origin; all else is a failure.
_ANSWERED: Final = "answered"
_ABANDONED: Final = "abandoned"


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """As configured."""

    kind: str
    balance: str
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is no number. index hides its password."""

    name: str
    version: str
    configuration: str
    index: str
    sandbox: str
    origins: Mapping[str, OriginFacts]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What /healthz and /readyz say: see health.py."""

    stuck: Sequence[str] = ()
    problems: Sequence[str] = ()
    degraded: Sequence[str] = ()


class Numbers:
    """Series by name; those of one name in the order in which they were told."""

    def __init__(self, counts: Counts) -> None:
        self._by_name: dict[str, dict[Series, float]] = {}
        for table in (counts.growing, counts.momentary, counts.highest):
            for (name, *labels), number in table.items():
                self._by_name.setdefault(name, {})[tuple(labels)] = number
        # By name and first labels, as far as it was asked for: origins may have many hosts.
        self._below: dict[tuple[str, int], dict[Series, list[tuple[Series, float]]]] = {}

    def of(self, name: str, *labels: str) -> float:
        return self._by_name.get(name, {}).get(labels, 0.0)

    def maybe_of(self, name: str, *labels: str) -> float | None:
        return self._by_name.get(name, {}).get(labels)

    def each(self, name: str, *first: str) -> Iterator[tuple[Series, float]]:
        """Labels after the first ones, and the number."""
        count = len(first)
        below = self._below.get((name, count))
        if below is None:
            below = self._below[name, count] = {}
            for labels, number in self._by_name.get(name, {}).items():
                below.setdefault(labels[:count], []).append((labels[count:], number))
        yield from below.get(first, ())

    def amounts(self, name: str, *first: str) -> tuple[Amount, ...]:
        """Of series with one label more."""
        return tuple(
            Amount(labels[0], number)
            for labels, number in self.each(name, *first)
            if len(labels) == 1
        )

    def has(self, name: str) -> bool:
        return name in self._by_name


def read(
    total: Counts, workers: Sequence[Counts], facts: Facts, verdicts: Verdicts, now: float
) -> Status:
    """now: seconds since 1970."""
    numbers = Numbers(total)
    each = [Numbers(one) for one in workers]
    started_at = numbers.of("halftone_start_time_seconds")
    queues = tuple(_queues(numbers))
    cache = _cache(numbers)
    index = _index(numbers, facts)
    resizer = _resizer(numbers, facts)
    listeners = _listeners(numbers)
    origins = tuple(_origins(numbers, each, facts))
    traffic = _traffic(numbers)
    is_reload_good = numbers.of("halftone_config_last_reload_successful") != 0.0
    remarks = sorted(
        (
            *_of_health(verdicts),
            *_of_origins(origins),
            *_of_folders(cache.folders),
            *_of_bounds(queues, listeners),
            *_of_the_rest(traffic, resizer, is_reload_good=is_reload_good, numbers=numbers),
        ),
        key=lambda remark: -_rank(remark.level),
    )
    return Status(
        name=facts.name,
        version=facts.version,
        configuration=facts.configuration,
        level=max((remark.level for remark in remarks), key=_rank, default=Level.WELL),
        remarks=tuple(remarks),
        now=now,
        started_at=started_at,
        uptime_s=max(0.0, now - started_at),
        worker_restarts=numbers.of("halftone_worker_restarts"),
        reloaded_at=numbers.of("halftone_config_last_reload_success_timestamp_seconds"),
        is_reload_good=is_reload_good,
        workers=tuple(_worker(one) for one in each),
        traffic=traffic,
        queues=queues,
        cache=cache,
        index=index,
        orders=_orders(numbers),
        downstream=_maybe_downstream(numbers),
        resizer=resizer,
        listeners=listeners,
        closed_early=numbers.amounts("halftone_connections_closed_early"),
        origins=origins,
    )


def _rank(level: Level) -> int:
    return list(Level).index(level)


def _worker(numbers: Numbers) -> Worker:
    slot, pid = _name_of(numbers)
    is_leaving = numbers.of("halftone_workers", "leaving") > 0
    return Worker(slot, pid, "leaving" if is_leaving else "serving")


def _name_of(numbers: Numbers) -> tuple[str, str]:
    for labels, _ in numbers.each(WORKER):
        if len(labels) == 2:
            return labels[0], labels[1]
    return "?", "?"


def _traffic(numbers: Numbers) -> Traffic:
    by_status = numbers.amounts("halftone_requests")
    return Traffic(
        per_second=numbers.of(PER_SECOND),
        requests=sum(one.number for one in by_status),
        last_minute=numbers.amounts(LAST_MINUTE),
        by_status=tuple(sorted(by_status, key=lambda one: one.name)),
        ratios=tuple(
            Ratio(
                kind,
                numbers.maybe_of(HIT_RATIO, kind, "minute"),
                numbers.maybe_of(HIT_RATIO, kind, "start"),
            )
            for kind in ("object", "byte", "cost")
        ),
    )


def _queues(numbers: Numbers) -> Iterator[Queue]:
    def limit(of: str) -> float | None:
        return numbers.maybe_of(LIMIT, of)

    refused = numbers.of("halftone_renders", "refused_full")
    busy = "503 with Retry-After"
    yield Queue(
        "renders waiting", numbers.of("halftone_resize_queue_depth"),
        limit("renders_waiting"), refused, busy,
    )  # fmt: skip
    for lane, name, beyond in (
        ("cheap", "cheap ones among them", busy),
        ("dear", "dear ones among them", busy),
        ("idle", "ladders at the resizer", "the ladder is not made"),
    ):
        depth = numbers.of("halftone_resize_lane_depth", lane)
        yield Queue(name, depth, limit(f"{lane}_lane"), None, beyond)
    for of, name in (
        ("render", "renders under way"),
        ("source", "originals under way"),
        ("shared", "other answers under way"),
    ):
        flights = numbers.of(FLIGHTS, of)
        yield Queue(name, flights, limit(f"{of}_flights"), None, busy)
    yield Queue(
        "waiting for another worker or node", numbers.of("halftone_lease_waiting"), None,
        numbers.of("halftone_lease_waits", "gave_up"), busy,
    )  # fmt: skip
    yield Queue(
        "large originals arriving", numbers.of("halftone_arrivals_under_way"), None, None, "",
    )  # fmt: skip
    yield Queue(
        "refreshes behind stale answers", numbers.of("halftone_refreshes_running"), None,
        numbers.of("halftone_refreshes", "refused"), "the next request asks",
    )  # fmt: skip
    yield Queue(
        "slow formats waiting", numbers.of("halftone_upgrade_queue_depth"),
        limit("upgrades_waiting"), numbers.of("halftone_upgrades", "refused"),
        "the quick format is sent on",
    )  # fmt: skip
    yield Queue(
        "ladders waiting", numbers.of("halftone_ladders_waiting"), limit("ladders_waiting"),
        numbers.of("halftone_ladders_dropped"), "the ladder is not made",
    )  # fmt: skip
    if numbers.has("halftone_spellings_waiting"):
        yield Queue(
            "URLs to be written down", numbers.of("halftone_spellings_waiting"),
            limit("spellings_waiting"), numbers.of("halftone_spellings", "lost"),
            "purges miss them in front",
        )  # fmt: skip


def _cache(numbers: Numbers) -> Cache:
    paths = dict.fromkeys(labels[0] for labels, _ in numbers.each(FOLDER_WORKERS) if labels)
    folders = [
        Folder(
            path=path,
            used_bytes=numbers.of(FOLDER_BYTES, path),
            size_bytes=numbers.of(FOLDER_ROOM, path, "bytes"),
            used_files=numbers.of(FOLDER_FILES, path),
            size_files=numbers.of(FOLDER_ROOM, path, "files"),
            used_by=numbers.of(FOLDER_WORKERS, path, ""),
            faults=tuple(one for one in numbers.amounts(FOLDER_WORKERS, path) if one.name),
        )
        for path in paths
    ]
    return Cache(
        folders=tuple(folders),
        memory=(
            Memory("pictures", numbers.of("halftone_cache_memory_bytes"),
                   numbers.of(LIMIT, "memory_bytes")),
            Memory("answers ready to be sent", numbers.of(READY_BYTES),
                   numbers.of(LIMIT, "ready_bytes")),
        ),
        held=numbers.amounts("halftone_cache_disk_bytes"),
        errors=numbers.amounts("halftone_cache_disk_errors"),
        evictions=numbers.amounts("halftone_cache_evictions"),
    )  # fmt: skip


def _index(numbers: Numbers, facts: Facts) -> Index:
    return Index(
        home=facts.index,
        degraded_workers=numbers.of("halftone_index_degraded"),
        outages=numbers.of("halftone_index_outages"),
        failures=numbers.amounts("halftone_index_failures"),
        hints_waiting=numbers.of("halftone_index_hints_waiting"),
        hints_limit=numbers.of(LIMIT, "hints_waiting"),
        hints=numbers.amounts("halftone_index_hints"),
    )


def _orders(numbers: Numbers) -> Orders:
    head = numbers.of(ORDERS_HEAD)
    return Orders(
        head=head,
        newest_at=head / 1000 if head else None,
        kept=numbers.of(ORDERS, "kept"),
        limit=numbers.of(LIMIT, "orders"),
        unsettled=numbers.of(ORDERS, "unsettled"),
        taken_down=numbers.of(ORDERS, "taken_down"),
        journal_lines=numbers.of("halftone_journal_lines"),
        journal_failures=numbers.of("halftone_journal_failures"),
        looks=numbers.amounts("halftone_orders_looks"),
        purges=numbers.amounts("halftone_purges"),
    )


def _maybe_downstream(numbers: Numbers) -> Downstream | None:
    series = "halftone_downstream_urls"
    if not numbers.has("halftone_downstream_pending"):
        return None
    caches = dict.fromkeys(labels[0] for labels, _ in numbers.each(series) if labels)
    return Downstream(
        caches=tuple(
            Front(name, numbers.of(series, name, "told"), numbers.of(series, name, "failed"))
            for name in caches
        ),
        pending=numbers.of("halftone_downstream_pending"),
        limit=numbers.of(LIMIT, "downstream_pending"),
        dropped=numbers.of("halftone_downstream_dropped"),
        retried=numbers.of("halftone_downstream_retries"),
    )


def _resizer(numbers: Numbers, facts: Facts) -> Resizer:
    return Resizer(
        sandbox=facts.sandbox,
        limit=numbers.of(LIMIT, "resizers"),
        processes=numbers.amounts("halftone_resizer_processes"),
        renders=numbers.amounts("halftone_renders"),
        restarts=numbers.amounts("halftone_resizer_restarts"),
        suspects=numbers.of("halftone_resize_suspects"),
    )


def _listeners(numbers: Numbers) -> tuple[Listener, ...]:
    names = dict.fromkeys(
        (labels[0], labels[1]) for labels, _ in numbers.each(CONNECTIONS_NOW) if len(labels) == 3
    )
    return tuple(
        Listener(
            *name,
            open=numbers.of(CONNECTIONS_NOW, *name, "open"),
            limit=numbers.of(CONNECTIONS_NOW, *name, "limit"),
        )
        for name in names
    )


def _origins(numbers: Numbers, each: Sequence[Numbers], facts: Facts) -> Iterator[Origin]:
    hosts = dict.fromkeys(
        (labels[0], labels[1]) for labels, _ in numbers.each(HOST_STATE) if len(labels) == 3
    )
    for name in dict.fromkeys(name for name, _ in hosts):
        known = facts.origins.get(name, OriginFacts("", ""))
        yield Origin(
            name=name,
            kind=known.kind,
            balance=known.balance,
            probe=known.probe,
            hosts=tuple(_host(numbers, each, name, host) for one, host in hosts if one == name),
            retries=numbers.of("halftone_origin_retries", name),
            retries_saved=numbers.of(RETRIES_SAVED, name, "saved"),
            retries_limit=numbers.of(RETRIES_SAVED, name, "limit"),
            turned_away=numbers.of("halftone_origin_turned_away", name),
            connections=numbers.amounts("halftone_origin_connections", name),
            resumptions=numbers.amounts("halftone_origin_resumptions", name),
            lookups_failed=numbers.of("halftone_origin_lookups", name, "failed"),
        )


def _host(numbers: Numbers, each: Sequence[Numbers], origin: str, host: str) -> Host:
    name = (origin, host)
    roles = numbers.amounts(HOST_WEIGHT, *name)
    fetches = numbers.amounts(HOST_FETCHES, *name)
    states = tuple(one for one in numbers.amounts(HOST_STATE, *name) if one.number)
    seen = tuple(
        Seen(*_name_of(worker), labels[0])
        for worker in each
        for labels, number in worker.each(HOST_STATE, *name)
        if number
    )
    return Host(
        name=host,
        is_backup=any(one.name == "backup" for one in roles),
        weight=max((one.number for one in roles), default=1.0),
        states=states,
        differing=seen if len(states) > 1 else (),
        held_s=numbers.of(HOST_HELD, *name),
        load=numbers.of("halftone_origin_host_requests", *name),
        limit=numbers.of("halftone_origin_host_limit", *name),
        latency_s=numbers.maybe_of(HOST_LATENCY, *name),
        answered=numbers.of(HOST_FETCHES, *name, _ANSWERED),
        abandoned=numbers.of(HOST_FETCHES, *name, _ABANDONED),
        failures=tuple(
            one
            for one in (*fetches, Amount("status 5xx", numbers.of(HOST_ERRORS, *name)))
            if one.number and one.name not in (_ANSWERED, _ABANDONED)
        ),
        holds=numbers.of("halftone_origin_host_holds", *name),
        limit_decreases=numbers.of("halftone_origin_host_limit_decreases", *name),
        checks_passed=numbers.of("halftone_origin_host_checks", *name, "passed"),
        checks_failed=numbers.of("halftone_origin_host_checks", *name, "failed"),
    )


# What somebody should know


def _of_health(verdicts: Verdicts) -> Iterator[Remark]:
    for said in verdicts.stuck:
        yield Remark(Level.PROBLEM, f"{said}; /healthz answers 503")
    for said in verdicts.problems:
        yield Remark(Level.PROBLEM, f"{said}: /readyz answers 503")
    for said in verdicts.degraded:
        yield Remark(Level.WARNING, said)


def _of_origins(origins: Sequence[Origin]) -> Iterator[Remark]:
    for origin in origins:
        if all(host.is_down for host in origin.hosts):
            yield Remark(
                Level.PROBLEM,
                f"origin {origin.name}: no host gets requests; what is cached is served stale,"
                " the rest is refused",
            )
            continue
        down = [host.name for host in origin.hosts if not host.is_up]
        if down:
            yield Remark(Level.WARNING, f"origin {origin.name}: held down: {', '.join(down)}")


def _of_folders(folders: Sequence[Folder]) -> Iterator[Remark]:
    is_any_used = any(folder.used_by for folder in folders)
    for folder in folders:
        for fault in folder.faults:
            level = Level.WARNING if is_any_used else Level.PROBLEM
            yield Remark(level, f"cache folder {folder.path} is not used: {fault.name}")


def _of_bounds(queues: Sequence[Queue], listeners: Sequence[Listener]) -> Iterator[Remark]:
    for queue in queues:
        if queue.limit and queue.waiting >= NEARLY * queue.limit:
            level = Level.PROBLEM if queue.waiting >= queue.limit else Level.WARNING
            what = f"{queue.name}: {queue.waiting:.0f} of {queue.limit:.0f}"
            yield Remark(level, f"{what}; beyond it {queue.beyond}" if queue.beyond else what)
    for listener in listeners:
        if listener.limit and listener.open >= NEARLY * listener.limit:
            level = Level.PROBLEM if listener.open >= listener.limit else Level.WARNING
            yield Remark(
                level,
                f"{listener.address}: {listener.open:.0f} of {listener.limit:.0f} connections;"
                " idle ones are closed early",
            )


# What a cause means to whoever looks for it; the others speak for themselves.
_OF_INDEX: Final = {
    "full": "full (maxmemory of Redis, or the disk)",
    "read_only": "read-only (Redis is a replica, or the folder cannot be written)",
    "password": "wrong password, or one is asked for (the account in cache.index)",
    "rights": "the account lacks a right (redis-cli acl log)",
    "in_use": "another process has it open (a second node with this cache folder, or fsck)",
    "late": "no answer in time",
}


def _most(gained: Mapping[str, float], start: str, words: Mapping[str, str]) -> str:
    """Those names and numbers that there are, the largest first."""
    found = [
        (number, name.removeprefix(start))
        for name, number in gained.items()
        if number > 0 and name.startswith(start)
    ]
    return ", ".join(
        f"{words.get(name, name)} {number:.0f}" for number, name in sorted(found, reverse=True)
    )


def _of_the_rest(
    traffic: Traffic, resizer: Resizer, *, is_reload_good: bool, numbers: Numbers
) -> Iterator[Remark]:
    if not is_reload_good:
        yield Remark(Level.WARNING, "the last reload was refused: the configuration before stays")
    alive = sum(one.number for one in resizer.processes if one.name in ("idle", "busy"))
    if resizer.processes and not alive:
        yield Remark(Level.PROBLEM, "no resizer is running: nothing new can be rendered")
    gained = {one.name: one.number for one in traffic.last_minute}
    errors, requests = gained.get("errors", 0.0), gained.get("requests", 0.0)
    if errors >= ERRORS_FEW and errors > ERRORS_PART * requests:
        said = f"{errors:.0f} of {requests:.0f} answers of the last minute were errors (5xx)"
        why = _most(gained, REFUSED, {})
        yield Remark(
            Level.PROBLEM if errors > ERRORS_MOST * requests else Level.WARNING,
            f"{said}: {why}" if why else f"{said}, passed on from an origin",
        )
    if failed := gained.get(PURGES_FAILED):
        yield Remark(
            Level.PROBLEM,
            f"{failed:.0f} purges of the last minute were NOT recorded (503): ask for them again",
        )
    if untold := gained.get(NOT_TOLD):
        yield Remark(
            Level.WARNING,
            f"{untold:.0f} URLs that were purged in the last minute are still in a cache in front,"
            " which was not reached (the log says which, and why): purge again when it is",
        )
    if unstored := gained.get(NOT_STORED):
        yield Remark(
            Level.WARNING,
            f"a disk of the cache is full: {unstored:.0f} answers of the last minute were not"
            " stored; see df -h and df -i",
        )
    if why := _most(gained, INDEX_ERROR, _OF_INDEX):
        yield Remark(Level.WARNING, f"questions of the last minute that the index failed: {why}")
    if dropped := gained.get(LINES_DROPPED):
        yield Remark(
            Level.WARNING,
            f"the access log takes no more: {dropped:.0f} lines of the last minute were dropped",
        )
    if numbers.of("halftone_ledger_overflows"):
        yield Remark(
            Level.WARNING, "a worker has too many numbers to tell: those here are not of now"
        )
