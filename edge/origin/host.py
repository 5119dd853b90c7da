"""One host of an origin, as its pool sees it."""

import enum
from collections import Counter
from dataclasses import dataclass, field

from edge.origin.address import Address
from edge.origin.exchange import Result
from edge.origin.latency import Latency
from edge.origin.limit import Limit


class HostState(enum.StrEnum):
    RUNNING = "running"
    HELD = "held"  # ejected, or the breaker is open
    PROBING = "probing"  # the hold is over and one request is finding out


@dataclass(slots=True)
class HostStats:
    """assigned == load + sum(results): every lease ends in exactly one result."""

    assigned: int = 0
    probes: int = 0  # real requests that found out
    checks_passed: int = 0  # by the active probe
    checks_failed: int = 0
    holds: int = 0
    errors: int = 0  # answers with a status of 500 or above
    results: Counter[Result] = field(default_factory=Counter)


class Host:
    """Changed only by its pool. A Candidate."""

    def __init__(self, address: Address, limit: Limit, *, weight: int, is_backup: bool) -> None:
        if weight < 1:
            raise ValueError(f"{address}: a weight is 1 or more, not {weight}")
        self.address = address
        self.name = str(address)
        self.weight = weight
        self.is_backup = is_backup
        self.limit = limit
        self.latency = Latency()
        self.state = HostState.RUNNING
        self.is_ejected = False
        self.load = 0  # leases, connected or not: queued connects count
        self.failures = 0  # failed connects in a row
        self.failed_checks = 0  # of the active probe, in a row
        self.held_until = 0.0
        self.why = ""  # it was held last
        self.stats = HostStats()

    @property
    def has_room(self) -> bool:
        return self.load < self.limit.value

    def maybe_latency_at(self, now: float) -> float | None:
        return self.latency.maybe_at(now)
