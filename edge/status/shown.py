"""What the status page shows, and /status.json says: the node at one moment. Pure.

Every number here is one that /metrics has, too, under the same name or as its label. Names of the
fields are those of the JSON.
"""

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How the node is, and how bad one thing about it is; later is worse."""

    WELL = "well"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that somebody should know, in a sentence."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Amount:
    """One of several numbers that belong together."""

    name: str
    number: float


@dataclass(frozen=True, slots=True)
class Worker:
    slot: str
    pid: str
    state: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """Hits as part of hits and misses; None where nothing was asked for."""

    kind: str
    last_minute: float | None
    since_start: float | None


@dataclass(frozen=True, slots=True)
class Traffic:
    per_second: float
    requests: float
    last_minute: tuple[Amount, ...]
    by_status: tuple[Amount, ...]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """limit None: bounded by what is in front of it. turned_away: since the start."""

    name: str
    waiting: float
    limit: float | None
    turned_away: float | None
    beyond: str  # what happens there


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    name: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the cache. faults: why workers do not use it, with their number."""

    path: str
    used_bytes: float
    size_bytes: float
    used_files: float
    size_files: float
    used_by: float
    faults: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class Cache:
    folders: tuple[Folder, ...]
    memory: tuple[Memory, ...]
    held: tuple[Amount, ...]  # bytes on disk by kind
    errors: tuple[Amount, ...]
    evictions: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class Index:
    home: str
    degraded_workers: float
    outages: float
    failures: tuple[Amount, ...]
    hints_waiting: float
    hints_limit: float
    hints: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class Orders:
    """newest_at: seconds since 1970, of the head; None where there was none."""

    head: float
    newest_at: float | None
    kept: float
    limit: float
    unsettled: float
    taken_down: float
    journal_lines: float
    journal_failures: float
    looks: tuple[Amount, ...]
    purges: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """A cache in front of this node; URLs that it was told to forget."""

    name: str
    told: float
    failed: float


@dataclass(frozen=True, slots=True)
class Downstream:
    caches: tuple[Front, ...]
    pending: float
    limit: float
    dropped: float
    retried: float


@dataclass(frozen=True, slots=True)
class Resizer:
    sandbox: str
    limit: float
    processes: tuple[Amount, ...]
    renders: tuple[Amount, ...]
    restarts: tuple[Amount, ...]
    suspects: float


@dataclass(frozen=True, slots=True)
class Listener:
    address: str
    role: str
    open: float
    limit: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How one worker sees a host."""

    slot: str
    pid: str
    state: str


@dataclass(frozen=True, slots=True)
class Host:
    """states: workers by how they see it. differing: each of them, where they do not agree.
    latency_s None: not asked yet. failures: by kind, since the start."""

    name: str
    is_backup: bool
    weight: float
    states: tuple[Amount, ...]
    differing: tuple[Seen, ...]
    held_s: float
    load: float
    limit: float
    latency_s: float | None
    answered: float
    abandoned: float
    failures: tuple[Amount, ...]
    holds: float
    limit_decreases: float
    checks_passed: float
    checks_failed: float

    def workers(self, state: str) -> float:
        return sum(one.number for one in self.states if one.name == state)

    @property
    def is_up(self) -> bool:
        return self.workers("held") + self.workers("probing") == 0

    @property
    def is_down(self) -> bool:
        """For every worker."""
        return self.workers("running") == 0


@dataclass(frozen=True, slots=True)
class Origin:
    """kind, balance and probe as configured."""

    name: str
    kind: str
    balance: str
    probe: str
    hosts: tuple[Host, ...]
    retries: float
    retries_saved: float
    retries_limit: float
    turned_away: float
    connections: tuple[Amount, ...]
    resumptions: tuple[Amount, ...]  # of bodies that broke off
    lookups_failed: float


@dataclass(frozen=True, slots=True)
class Status:
    """now and the times are seconds since 1970."""

    name: str
    version: str
    configuration: str  # its digest
    level: Level
    remarks: tuple[Remark, ...]
    now: float
    started_at: float
    uptime_s: float
    worker_restarts: float
    reloaded_at: float
    is_reload_good: bool
    workers: tuple[Worker, ...]
    traffic: Traffic
    queues: tuple[Queue, ...]
    cache: Cache
    index: Index
    orders: Orders
    downstream: Downstream | None
    resizer: Resizer
    listeners: tuple[Listener, ...]
    closed_early: tuple[Amount, ...]
    origins: tuple[Origin, ...]
