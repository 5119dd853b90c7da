"""The hosts of one origin: which one next, which one rests, when to try again.

Policy without a protocol: the client connects and asks, and tells the lease what became of it.
assign() is synchronous, so between looking at the loads and raising one nothing else runs.

A host whose connect failed is held down: ejected for 1, 2, 4 ... 60 s, then one real request probes
it while the others still go elsewhere. Never is more than half of a group ejected, since then it is
more likely that we are wrong than that all of them are. A host that may not be ejected (a single
one above all) stays assignable through stray failures; after BREAKER_FAILURES in a row it refuses
at once, for FIRST_HOLD_S at a time, so that a dead origin costs no connect timeout per request and
a revived one is found within that time.

Backups belong to the group, and get what no other host can take. Beyond the limit that each host
has learnt (limit.py) requests are turned away, not queued: whoever can answer with something stale
does so at once.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from edge.origin.address import Address
from edge.origin.balance import Balance, make_balancer
from edge.origin.errors import (
    OriginBroken,
    OriginDown,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    Phase,
)
from edge.origin.exchange import REPEATABLE, Client, Connections, Deadlines, Result
from edge.origin.host import Host, HostState
from edge.origin.limit import Limit
from edge.origin.messages import OriginRequest, OriginResponse
from edge.origin.resuming import ResumingResponse
from edge.origin.resumption import maybe_resumption

# lighttpd's disable-time; doubled per failed probe up to a minute (nginx never holds longer).
FIRST_HOLD_S: Final = 1.0
MAX_HOLD_S: Final = 60.0
MAX_DOUBLINGS: Final = 6  # reaches MAX_HOLD_S; more would only overflow a float one day
# Hosts that failed together should not be probed together: up to a tenth is taken off.
JITTER: Final = 0.1
# One lost SYN must not close the only way to an origin.
BREAKER_FAILURES: Final = 3
# Of the active probe, likewise.
CHECK_FAILURES: Final = 2
# Retries may add this share to the traffic, saved up to MAX_RETRIES_SAVED: an origin that fails
# everything is not to be asked twice for everything. A host that dies takes with it all that it
# had at once, and so many may be put to another.
RETRY_SHARE: Final = 0.1
MAX_PER_HOST: Final = 64
TOTAL_S: Final = Deadlines().total_s
MAX_RETRIES_SAVED: Final = float(MAX_PER_HOST)
# Counts as an answer's latency where there was none: failing quickly is not being quick.
FAILURE_S: Final = 1.0
# Hosts that an error names.
_TOLD: Final = 4
_CONNECT_FAILED: Final = frozenset({Result.REFUSED, Result.CONNECT_TIMEOUT})
_NO_ANSWER: Final = frozenset({*_CONNECT_FAILED, Result.TIMEOUT, Result.BROKEN, Result.OVERLOADED})


@dataclass(slots=True)
class PoolStats:
    # requests == sum of assigned - retries - resumed - unresumed + turned_away, all being over
    requests: int = 0
    retries: int = 0
    resumed: int = 0  # bodies that went on where they had broken off
    unresumed: int = 0  # asked for the rest, and it was not to be had
    turned_away: int = 0  # no host could be assigned


class Lease:
    """One place on one host, from assignment to the end of the exchange. A Watcher."""

    def __init__(self, pool: "OriginPool", host: Host, now: float, *, is_probe: bool) -> None:
        self.host = host
        self.is_probe = is_probe
        self.assigned_at = now
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
    """clock is monotonic, in seconds. chance gives numbers from 0 to 1.

    weights are 1 where none is named. max_per_host bounds the leases of one host, whatever its
    limit learns. total_s is the clients' deadline for an answer altogether.
    """

    def __init__(
        self,
        name: str,
        hosts: Sequence[Address],
        client: Client,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        logger: logging.Logger,
        balance: Balance = Balance.LEAST_CONNECTION,
        backups: Sequence[Address] = (),
        weights: Mapping[Address, int] = MappingProxyType({}),
        max_per_host: int = MAX_PER_HOST,
        total_s: float = TOTAL_S,
    ) -> None:
        addresses = (*hosts, *backups)
        if not hosts or len(set(addresses)) != len(addresses):
            raise ValueError(f"origin {name}: hosts must be there, and each once")
        if max_per_host < 1:
            raise ValueError(f"origin {name}: max_per_host must be at least 1")
        self.name = name
        self.hosts = tuple(
            Host(
                address,
                Limit(max_per_host),
                weight=weights.get(address, 1),
                is_backup=address in backups,
            )
            for address in addresses
        )
        self.stats = PoolStats()
        self._client = client
        self._clock = clock
        self._chance = chance
        self._logger = logger
        self._balancer = make_balancer(balance, chance)
        self._retries_saved = MAX_RETRIES_SAVED
        self._total_s = total_s

    @property
    def connections(self) -> Connections:
        return self._client.connections

    @property
    def retries_saved(self) -> float:
        """What is left of the budget for retries, MAX_RETRIES_SAVED at the most."""
        return self._retries_saved

    def held_s(self, host: Host) -> float:
        """For how long it still gets no requests."""
        if host.state is not HostState.HELD:
            return 0.0
        return max(0.0, host.held_until - self._clock())

    def maybe_latency_s(self, host: Host) -> float | None:
        return host.maybe_latency_at(self._clock())

    async def fetch(self, request: OriginRequest) -> OriginResponse:
        """The answer's head. Raises OriginError, UnsendableRequest, BodyUnreadable.

        Put once more, to another host, if that cannot do harm and the budget for it is not used up.
        """
        self.stats.requests += 1
        self._retries_saved = min(MAX_RETRIES_SAVED, self._retries_saved + RETRY_SHARE)
        lease, is_first = self.assign(request), True
        while True:
            try:
                response = await self._client.fetch(lease.host.address, request, lease)
            except BaseException as failed:
                lease.closed(Result.ABANDONED)  # no effect after a client that told its result
                second = None
                if is_first and isinstance(failed, OriginError):
                    second = self._maybe_retry(request, failed, lease.host)
                if second is None:
                    raise
                self._logger.info("origin %s: %s; trying %s", self.name, failed, second.address)
                lease, is_first = second, False
                continue
            self._note_answer(lease)
            if response.status >= 500:
                lease.host.stats.errors += 1
            return self._resuming(request, response)

    def _note_answer(self, lease: Lease) -> None:
        host, now = lease.host, self._clock()
        host.latency.note(now - lease.assigned_at, now)
        host.limit.note_answer(now - lease.assigned_at, host.load, lease.assigned_at, now)

    def _maybe_retry(
        self, request: OriginRequest, failed: OriginError, tried: Host
    ) -> Lease | None:
        if not _may_be_retried(request, failed) or self._retries_saved < 1:
            return None
        lease = self._maybe_assign(request, excluding=tried)
        if lease is not None:
            self._retries_saved -= 1
            self.stats.retries += 1
        return lease

    def _resuming(self, request: OriginRequest, response: OriginResponse) -> OriginResponse:
        resumption = maybe_resumption(request, response)
        if resumption is None:
            return response
        return ResumingResponse(
            response,
            request,
            resumption,
            ask=self._ask_for_rest,
            note=self._note_resumption,
            total_s=self._total_s,
            logger=self._logger,
        )

    async def _ask_for_rest(self, request: OriginRequest) -> OriginResponse | None:
        """As a retry, of any host: an ETag is the same at all of them, or it is no answer."""
        if self._retries_saved < 1:
            return None
        lease = self._maybe_assign(request)
        if lease is None:
            return None
        self._retries_saved -= 1
        try:
            response = await self._client.fetch(lease.address, request, lease)
        except BaseException:
            lease.closed(Result.ABANDONED)
            raise
        self._note_answer(lease)
        return response

    def _note_resumption(self, is_resumed: bool) -> None:
        if is_resumed:
            self.stats.resumed += 1
        else:
            self.stats.unresumed += 1

    def assign(self, request: OriginRequest) -> Lease:
        """The next host, its load already raised. Raises OriginOverloaded when there is none,
        OriginDown when none is left that did not fail."""
        lease = self._maybe_assign(request)
        if lease is not None:
            return lease
        self.stats.turned_away += 1
        if any(host.state is HostState.RUNNING for host in self.hosts):
            full = f"origin {self.name}: every host that is up has as much as it can take"
            raise OriginOverloaded(full, self._retry_after_s())
        held = ", ".join(f"{host.name} ({host.why})" for host in self.hosts[:_TOLD])
        more = f" and {len(self.hosts) - _TOLD} more" if len(self.hosts) > _TOLD else ""
        raise OriginDown(
            f"origin {self.name}: every host is held down: {held}{more}", self._retry_after_s()
        )

    def _maybe_assign(self, request: OriginRequest, excluding: Host | None = None) -> Lease | None:
        if len(self.hosts) == 1 and excluding is None:
            only = self.hosts[0]
            if only.state is HostState.RUNNING and only.load < only.limit.value:
                return self._lease(only, self._clock(), is_probe=False)
        free = [host for host in self.hosts if host is not excluding and host.has_room]
        for is_backup in (False, True):
            group = [host for host in free if host.is_backup is is_backup]
            lease = self._maybe_assign_in(group, request)
            if lease is not None:
                return lease
        return None

    def _maybe_assign_in(self, free: Sequence[Host], request: OriginRequest) -> Lease | None:
        now = self._clock()
        for host in free:
            # Somebody has to find out, and this request is real (lighttpd does the same).
            if host.state is HostState.HELD and now >= host.held_until:
                host.state = HostState.PROBING
                host.stats.probes += 1
                return self._lease(host, now, is_probe=True)
        running = [host for host in free if host.state is HostState.RUNNING]
        if not running:
            return None
        return self._lease(self._balancer.choose(running, request, now), now, is_probe=False)

    def _lease(self, host: Host, now: float, *, is_probe: bool) -> Lease:
        host.load += 1
        host.stats.assigned += 1
        return Lease(self, host, now, is_probe=is_probe)

    def _retry_after_s(self) -> int:
        held = [host.held_until for host in self.hosts if host.state is HostState.HELD]
        if len(held) < len(self.hosts):
            return 1  # a place may be given back, or a probe succeed, at any moment
        return max(1, math.ceil(min(held) - self._clock()))

    def note_connected(self, lease: Lease) -> None:
        """For Lease alone."""
        host = lease.host
        if lease.is_probe and host.state is HostState.PROBING:
            self._bring_back(host)
        if host.state is HostState.RUNNING:
            host.failures = 0

    def _bring_back(self, host: Host) -> None:
        self._logger.info("origin %s: %s is back", self.name, host.address)
        if host.failures:
            host.limit.forget()  # it was dead, and what it can take now is not known
        host.state = HostState.RUNNING
        host.is_ejected = False

    def note_closed(self, lease: Lease, result: Result) -> None:
        """For Lease alone."""
        host = lease.host
        if result is not Result.ANSWERED:
            self._learn(lease, result)
        host.load -= 1
        host.stats.results[result] += 1
        if result is Result.ANSWERED and not lease.is_probe:
            return  # the common case: nothing that follows concerns it
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

    def _learn(self, lease: Lease, result: Result) -> None:
        """What a failure says of latency and limit; answers were noted when their heads came."""
        if result not in _NO_ANSWER:
            return
        host, now = lease.host, self._clock()
        host.latency.note(max(FAILURE_S, now - lease.assigned_at), now)
        if result is Result.OVERLOADED:
            host.limit.note_overload(host.load, lease.assigned_at, now)
        elif result is not Result.BROKEN:
            host.limit.note_timeout(host.load, lease.assigned_at, now)

    def note_check(self, host: Host, *, is_well: bool, next_in_s: float) -> None:
        """What the active probe found. A host that it finds ill is held until the check after the
        next one at the latest: real requests are not needed to find out."""
        if is_well:
            host.stats.checks_passed += 1
            host.failed_checks = 0
            if host.state is HostState.HELD:
                self._bring_back(host)
                host.failures = 0
            return
        host.stats.checks_failed += 1
        host.failed_checks += 1
        if host.failed_checks < CHECK_FAILURES or host.state is HostState.PROBING:
            return
        if host.state is HostState.RUNNING:
            self._maybe_hold(host, "fails its checks", 2 * next_in_s)
        elif host.is_ejected:
            host.held_until = max(host.held_until, self._clock() + 2 * next_in_s)

    def _maybe_hold(self, host: Host, why: str, hold_s: float) -> None:
        is_probing = host.state is HostState.PROBING
        if not host.is_ejected:
            ejected = sum(other.is_ejected for other in self.hosts)
            host.is_ejected = ejected < len(self.hosts) // 2
        if not host.is_ejected:
            if not is_probing and host.failures < BREAKER_FAILURES:
                return
            hold_s = FIRST_HOLD_S
        host.held_until = self._clock() + hold_s * (1 - JITTER * self._chance())
        host.state = HostState.HELD
        host.why = str(why)
        host.stats.holds += 1
        if not is_probing:
            # Once per outage: a probe that fails is no news.
            self._logger.warning("origin %s: %s held down: %s", self.name, host.address, why)


def _may_be_retried(request: OriginRequest, failed: OriginError) -> bool:
    """What certainly was not acted upon may be put again, whatever it is; what perhaps was, only if
    it is repeatable and not a byte of an answer was read. A first byte that did not come in time is
    not tried again: the request may well be what keeps the application busy."""
    match failed:
        case OriginRefused() | OriginOverloaded():
            return True
        case OriginTimeout():
            return failed.phase is Phase.CONNECT
        case OriginBroken():
            return not failed.has_begun and request.method in REPEATABLE
        case _:
            return False
