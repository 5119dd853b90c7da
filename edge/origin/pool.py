"""The hosts of one origin: which one next, which one rests, when to try again.

Policy without a protocol: the client connects and asks, and tells the lease what became of it.
assign() is synchronous, so between looking at the loads and raising one nothing else runs.

A host whose connect failed is held down: ejected for 1, 2, 4 ... 60 s, then one real request probes
it while the others still go elsewhere. Never is more than half of a group ejected, since then it is
more likely that we are wrong than that all of them are. A host that may not be ejected (a single
one above all) stays assignable through stray failures; after BREAKER_FAILURES in a row it refuses
at once, for FIRST_HOLD_S at a time, so that a dead origin costs no connect timeout per request and
a revived one is found within that time.
"""

import enum
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.origin.address import Address
from edge.origin.errors import OriginBroken, OriginError, OriginOverloaded, OriginTimeout, Phase
from edge.origin.exchange import Client, Result
from edge.origin.messages import OriginRequest, OriginResponse

# lighttpd's disable-time; doubled per failed probe up to a minute (nginx never holds longer).
FIRST_HOLD_S: Final = 1.0
MAX_HOLD_S: Final = 60.0
MAX_DOUBLINGS: Final = 6  # reaches MAX_HOLD_S; more would only overflow a float one day
# Hosts that failed together should not be probed together: up to a tenth is taken off.
JITTER: Final = 0.1
# One lost SYN must not close the only way to an origin.
BREAKER_FAILURES: Final = 3
# Retries may add this share to the traffic, saved up to MAX_RETRIES_SAVED: an origin that fails
# everything is not to be asked twice for everything.
RETRY_SHARE: Final = 0.1
MAX_RETRIES_SAVED: Final = 10.0
_REPLAYABLE: Final = frozenset({"GET", "HEAD"})
_CONNECT_FAILED: Final = frozenset({Result.REFUSED, Result.CONNECT_TIMEOUT})


class Balance(enum.StrEnum):
    LEAST_CONNECTION = "least-connection"  # smallest load; tie: the first listed
    ROUND_ROBIN = "round-robin"


class HostState(enum.StrEnum):
    RUNNING = "running"
    HELD = "held"  # ejected, or the breaker is open
    PROBING = "probing"  # the hold is over and one request is finding out


@dataclass(slots=True)
class HostStats:
    """assigned == load + sum(results): every lease ends in exactly one result."""

    assigned: int = 0
    probes: int = 0
    holds: int = 0
    results: Counter[Result] = field(default_factory=Counter)


@dataclass(slots=True)
class PoolStats:
    requests: int = 0  # requests == sum of assigned - retries + turned_away
    retries: int = 0
    turned_away: int = 0  # no host could be assigned


class Host:
    """One host, as the pool sees it. Changed only by its pool."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.state = HostState.RUNNING
        self.is_ejected = False
        self.load = 0  # leases, connected or not: queued connects count
        self.failures = 0  # failed connects in a row
        self.held_until = 0.0
        self.stats = HostStats()


class Lease:
    """One place on one host, from assignment to the end of the exchange. A Watcher."""

    def __init__(self, pool: "OriginPool", host: Host, *, is_probe: bool) -> None:
        self.host = host
        self.is_probe = is_probe
        self._pool = pool
        self._is_closed = False

    @property
    def address(self) -> Address:
        return self.host.address

    def connected(self) -> None:
        self._pool.note_connected(self)

    def closed(self, result: Result) -> None:
        """Gives the place back; only the first call counts."""
        if self._is_closed:
            return
        self._is_closed = True
        self._pool.note_closed(self, result)


class OriginPool:
    """clock is monotonic, in seconds. jitter gives numbers from 0 to 1.

    max_per_host bounds the leases of one host; beyond it requests are turned away, not queued:
    whoever can answer with something stale does so at once.
    """

    def __init__(
        self,
        name: str,
        hosts: Sequence[Address],
        client: Client,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        logger: logging.Logger,
        balance: Balance = Balance.LEAST_CONNECTION,
        max_per_host: int = 64,
    ) -> None:
        if not hosts or len(set(hosts)) != len(hosts):
            raise ValueError(f"origin {name}: hosts must be there, and each once")
        if max_per_host < 1:
            raise ValueError(f"origin {name}: max_per_host must be at least 1")
        self.name = name
        self.hosts = tuple(Host(address) for address in hosts)
        self.stats = PoolStats()
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._logger = logger
        self._balance = balance
        self._max_per_host = max_per_host
        self._last = len(self.hosts) - 1  # round-robin: index of the host used last
        self._retries_saved = MAX_RETRIES_SAVED

    async def fetch(self, request: OriginRequest) -> OriginResponse:
        """The answer's head. Raises OriginError, UnsendableRequest.

        GET and HEAD are tried once more on another host if not a byte of an answer was read and
        the time for it is not used up.
        """
        self.stats.requests += 1
        self._retries_saved = min(MAX_RETRIES_SAVED, self._retries_saved + RETRY_SHARE)
        lease = self.assign()
        try:
            return await self._attempt(lease, request)
        except OriginError as failed:
            second = self._maybe_retry(request, failed, lease.host)
            if second is None:
                raise
            self._logger.info("origin %s: %s; trying %s", self.name, failed, second.address)
        return await self._attempt(second, request)

    async def _attempt(self, lease: Lease, request: OriginRequest) -> OriginResponse:
        try:
            return await self._client.fetch(lease.address, request, lease)
        except BaseException:
            lease.closed(Result.ABANDONED)  # no effect after a client that told its result
            raise

    def _maybe_retry(
        self, request: OriginRequest, failed: OriginError, tried: Host
    ) -> Lease | None:
        if request.method not in _REPLAYABLE or not _is_untouched(failed):
            return None
        if self._retries_saved < 1:
            return None
        lease = self._maybe_assign(excluding=tried)
        if lease is not None:
            self._retries_saved -= 1
            self.stats.retries += 1
        return lease

    def assign(self) -> Lease:
        """The next host, its load already raised. Raises OriginOverloaded when there is none."""
        lease = self._maybe_assign()
        if lease is not None:
            return lease
        self.stats.turned_away += 1
        raise OriginOverloaded(
            f"origin {self.name}: every host is held down or has {self._max_per_host} requests",
            self._retry_after_s(),
        )

    def _maybe_assign(self, excluding: Host | None = None) -> Lease | None:
        now = self._clock()
        free = [
            host for host in self.hosts if host is not excluding and host.load < self._max_per_host
        ]
        for host in free:
            # Somebody has to find out, and this request is real (lighttpd does the same).
            if host.state is HostState.HELD and now >= host.held_until:
                host.state = HostState.PROBING
                host.stats.probes += 1
                return self._lease(host, is_probe=True)
        running = [host for host in free if host.state is HostState.RUNNING]
        if not running:
            return None
        return self._lease(self._choose(running), is_probe=False)

    def _lease(self, host: Host, *, is_probe: bool) -> Lease:
        host.load += 1
        host.stats.assigned += 1
        return Lease(self, host, is_probe=is_probe)

    def _choose(self, running: Sequence[Host]) -> Host:
        if self._balance is Balance.LEAST_CONNECTION:
            return min(running, key=lambda host: host.load)
        count = len(self.hosts)
        for step in range(1, count + 1):
            host = self.hosts[(self._last + step) % count]
            if host in running:
                self._last = (self._last + step) % count
                return host
        raise AssertionError("no running host among the hosts")

    def _retry_after_s(self) -> int:
        held = [host.held_until for host in self.hosts if host.state is HostState.HELD]
        if len(held) < len(self.hosts):
            return 1  # a place may be given back, or a probe succeed, at any moment
        return max(1, math.ceil(min(held) - self._clock()))

    def note_connected(self, lease: Lease) -> None:
        """For Lease alone."""
        host = lease.host
        if lease.is_probe and host.state is HostState.PROBING:
            self._logger.info("origin %s: %s is back", self.name, host.address)
            host.state = HostState.RUNNING
            host.is_ejected = False
        if host.state is HostState.RUNNING:
            host.failures = 0

    def note_closed(self, lease: Lease, result: Result) -> None:
        """For Lease alone."""
        host = lease.host
        host.load -= 1
        host.stats.results[result] += 1
        is_probing = lease.is_probe and host.state is HostState.PROBING
        # A host that is held already has nothing to learn from requests assigned before that.
        if not is_probing and host.state is not HostState.RUNNING:
            return
        if result in _CONNECT_FAILED:
            host.failures += 1
            doublings = min(host.failures - 1, MAX_DOUBLINGS)
            self._maybe_hold(host, result, min(MAX_HOLD_S, FIRST_HOLD_S * 2**doublings))
        elif result is Result.OVERLOADED:
            # Alive: rests, but is not suspected of being dead.
            self._maybe_hold(host, result, FIRST_HOLD_S)
        elif is_probing:
            # Given up before it found out: the next request probes.
            host.state = HostState.HELD

    def _maybe_hold(self, host: Host, result: Result, hold_s: float) -> None:
        is_probing = host.state is HostState.PROBING
        if not host.is_ejected:
            ejected = sum(other.is_ejected for other in self.hosts)
            host.is_ejected = ejected < len(self.hosts) // 2
        if not host.is_ejected:
            if not is_probing and host.failures < BREAKER_FAILURES:
                return
            hold_s = FIRST_HOLD_S
        host.held_until = self._clock() + hold_s * (1 - JITTER * self._jitter())
        host.state = HostState.HELD
        host.stats.holds += 1
        if not is_probing:
            # Once per outage: a probe that fails is no news.
            self._logger.warning("origin %s: %s held down: %s", self.name, host.address, result)


def _is_untouched(failed: OriginError) -> bool:
    """No byte of an answer was read. A first byte that did not come in time is not tried again
    either: the request may well be what keeps the application busy."""
    match failed:
        case OriginBroken():
            return not failed.has_begun
        case OriginTimeout():
            return failed.phase is Phase.CONNECT
        case _:
            return True
