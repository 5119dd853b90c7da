"""The pool's policy against a client that ends exchanges as the test says, and a hand clock."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable

import pytest

from edge.origin.address import Address
from edge.origin.balance import Balance
from edge.origin.errors import (
    OriginBroken,
    OriginDown,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import Connections, Result, Watcher, result_of
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.host import Host, HostState
from edge.origin.limit import REVIVED
from edge.origin.messages import Headers, OriginRequest, OriginResponse
from edge.origin.pool import (
    BREAKER_FAILURES,
    MAX_HOLD_S,
    MAX_RETRIES_SAVED,
    OriginPool,
)
from tests.edge.origin.asking import GET, HEAD, LOGGER, PATIENT, POST, SCRIPT, read_all, run
from tests.peers.fastcgi import BODY, Behaviour, fastcgi_peer

A, B, C, D = (Address(name, 9000) for name in "abcd")
REFUSED = OriginRefused("refused")
CONNECT_TIMEOUT = OriginTimeout("late", Phase.CONNECT)
FIRST_BYTE = OriginTimeout("late", Phase.FIRST_BYTE)
OVERLOADED = OriginOverloaded("full", 1)
EARLY = OriginBroken("closed", has_begun=False)
GARBAGE = OriginBroken("garbage")
BEFORE_CONNECTED = (REFUSED, CONNECT_TIMEOUT)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """An open response; end() ends it as a client would."""

    headers: Headers = ()
    content_length = None
    local_redirect = None
    is_cacheable = True

    def __init__(self, watcher: Watcher, status: int = 200) -> None:
        self.watcher = watcher
        self.status = status

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        self.watcher.closed(Result.ANSWERED)
        return b""

    async def aclose(self) -> None:
        self.watcher.closed(Result.ABANDONED)


class ScriptedClient:
    """Fails for an address that has a fault, answers for any other."""

    def __init__(self) -> None:
        self.faults: dict[Address, Exception] = {}
        self.asked: list[Address] = []
        self.status = 200
        self.connections = Connections()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> OriginResponse:
        self.asked.append(address)
        fault = self.faults.get(address)
        if isinstance(fault, OriginError):
            if fault not in BEFORE_CONNECTED:
                watcher.connected()
            watcher.closed(result_of(fault))
            raise fault
        if fault is not None:
            raise fault
        watcher.connected()
        return Answer(watcher, self.status)


@dataclasses.dataclass
class Rig:
    pool: OriginPool
    client: ScriptedClient
    clock: Clock

    def ask(self, request: OriginRequest = GET) -> OriginResponse:
        return run(self.pool.fetch(request))

    def serve(self, count: int = 1) -> list[Address]:
        """Asks and reads to the end, count times; the hosts that were asked."""
        self.client.asked.clear()
        for _ in range(count):
            run(self.ask().read())
        return list(self.client.asked)

    def host(self, address: Address) -> Host:
        return next(host for host in self.pool.hosts if host.address == address)

    def check(self) -> None:
        """The written equations."""
        for host in self.pool.hosts:
            assert host.stats.assigned == host.load + host.stats.results.total()
        assigned = sum(host.stats.assigned for host in self.pool.hosts)
        stats = self.pool.stats
        assert stats.requests == assigned - stats.retries + stats.turned_away
        assert sum(host.is_ejected for host in self.pool.hosts) <= len(self.pool.hosts) // 2


def rig(*addresses: Address, jitter: Callable[[], float] = lambda: 0.0, **settings: object) -> Rig:
    client, clock = ScriptedClient(), Clock()
    pool = OriginPool(
        "app", addresses, client, clock=clock, chance=jitter, logger=LOGGER, **settings
    )
    return Rig(pool, client, clock)


def test_least_connection() -> None:
    it = rig(A, B, C)
    open_ = [it.ask() for _ in range(4)]
    assert it.client.asked == [A, B, C, A]  # tie: the first listed
    run(open_[1].read())
    it.ask()
    assert it.client.asked[-1] == B
    run(open_[0].aclose())
    run(open_[0].aclose())  # a second end changes nothing
    assert [host.load for host in it.pool.hosts] == [1, 1, 1]
    assert it.host(A).stats.results == {Result.ABANDONED: 1}
    assert it.host(B).stats.results == {Result.ANSWERED: 1}
    it.check()


def test_load_rises_at_assignment() -> None:
    it = rig(A, B)
    leases = [it.pool.assign(GET) for _ in range(3)]  # none of them connected yet
    assert [lease.address for lease in leases] == [A, B, A]


def test_round_robin() -> None:
    it = rig(A, B, C, balance=Balance.ROUND_ROBIN)
    assert it.serve(5) == [A, B, C, A, B]
    it.client.faults[C] = REFUSED
    assert it.serve(2) == [C, A, B]  # refused, retried, and passed over from now on
    assert it.serve(3) == [A, B, A]


def test_bound_per_host() -> None:
    it = rig(A, B, max_per_host=2)
    open_ = [it.ask() for _ in range(4)]
    with pytest.raises(OriginOverloaded, match="every host that is up") as caught:
        it.ask()
    assert type(caught.value) is OriginOverloaded
    assert caught.value.retry_after_s == 1
    assert it.pool.stats.turned_away == 1
    run(open_[3].read())
    assert it.serve() == [B]
    it.check()


def test_hosts_that_are_all_held_down_are_not_called_busy() -> None:
    it = rig(A)
    it.client.faults[A] = REFUSED
    for _ in range(BREAKER_FAILURES):
        with pytest.raises(OriginRefused):
            it.ask()
    with pytest.raises(OriginDown, match=r"every host is held down: .* \(refused\)"):
        it.ask()


def test_answers_that_are_errors_are_counted_by_host() -> None:
    it = rig(A)
    it.client.status = 503
    assert it.serve(2) == [A, A]
    it.client.status = 404
    assert it.serve() == [A]
    assert it.host(A).stats.errors == 2
    it.check()


@pytest.mark.parametrize("fault", BEFORE_CONNECTED)
def test_hold_down_grows_and_one_request_probes(
    fault: OriginError, caplog: pytest.LogCaptureFixture
) -> None:
    it = rig(A, B)
    it.client.faults[A] = fault
    with caplog.at_level(logging.INFO, LOGGER.name):
        assert it.serve() == [A, B]
        assert it.host(A).is_ejected
        for hold_s in (1, 2, 4, 8, 16, 32, 60, 60, 60):
            it.clock.now += hold_s - 0.01
            assert it.serve(2) == [B, B]
            it.clock.now += 0.01
            assert it.serve() == [A, B]
        assert hold_s == MAX_HOLD_S
        it.clock.now += 60
        del it.client.faults[A]
        assert it.serve(2) == [A, A]
    assert it.host(A).state is HostState.RUNNING
    assert it.host(A).failures == 0
    assert it.host(A).stats.probes == 10
    messages = [record.getMessage() for record in caplog.records]
    assert sum("held down" in message for message in messages) == 1  # once, not per request
    assert sum("is back" in message for message in messages) == 1
    it.check()


def test_only_one_request_probes_at_a_time() -> None:
    it = rig(A, B)
    it.client.faults[A] = REFUSED
    it.serve()
    it.clock.now += 1
    probe = it.pool.assign(GET)
    assert (probe.address, probe.is_probe) == (A, True)
    assert [it.pool.assign(GET).address for _ in range(3)] == [B, B, B]
    probe.closed(Result.ABANDONED)  # its client left before it knew: the next one probes
    again = it.pool.assign(GET)
    assert (again.address, again.is_probe) == (A, True)
    again.connected()
    assert it.pool.assign(GET).address == A
    again.closed(Result.BROKEN)
    assert it.host(A).state is HostState.RUNNING


def test_late_failures_of_old_requests_teach_nothing() -> None:
    it = rig(A, B)
    old = [it.pool.assign(GET) for _ in range(6)]
    for lease in old:
        if lease.address == A:
            lease.closed(Result.REFUSED)
    assert it.host(A).failures == 1
    assert it.host(A).held_until == it.clock.now + 1


def test_jitter_shortens() -> None:
    it = rig(A, B, jitter=lambda: 1.0)
    it.client.faults[A] = REFUSED
    it.serve()
    assert it.host(A).held_until == pytest.approx(it.clock.now + 0.9)


@pytest.mark.parametrize(("count", "ejectable"), [(1, 0), (2, 1), (3, 1), (4, 2)])
def test_never_more_than_half_is_ejected(count: int, ejectable: int) -> None:
    addresses = (A, B, C, D)[:count]
    it = rig(*addresses)
    it.client.faults = dict.fromkeys(addresses, REFUSED)
    for _ in range(30):
        with pytest.raises((OriginRefused, OriginOverloaded)):
            it.ask()
        it.clock.now += 0.2
        it.check()
    assert sum(host.is_ejected for host in it.pool.hosts) == ejectable
    assert it.pool.stats.turned_away > 0


def test_a_single_host_survives_stray_failures_and_breaks_on_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = rig(A)
    for _ in range(BREAKER_FAILURES - 1):
        it.client.faults[A] = REFUSED
        with pytest.raises(OriginRefused):
            it.ask()
    it.client.faults.clear()
    assert it.serve() == [A]  # two stray failures: nobody else paid for them
    it.client.faults[A] = REFUSED
    with caplog.at_level(logging.WARNING, LOGGER.name):
        for _ in range(BREAKER_FAILURES):
            with pytest.raises(OriginRefused):
                it.ask()
        for _ in range(5):  # open for a second, half open for one request, open again
            it.client.asked.clear()
            for _ in range(10):
                with pytest.raises(OriginOverloaded) as caught:
                    it.ask()
                assert caught.value.retry_after_s == 1
            assert it.client.asked == []
            it.clock.now += 1
            with pytest.raises(OriginRefused):
                it.ask()
    assert len(caplog.records) == 1
    del it.client.faults[A]
    it.clock.now += 1
    assert it.serve(2) == [A, A]
    it.check()


def test_an_outage_of_any_length() -> None:
    it = rig(A, B)
    it.pool.assign(GET).closed(Result.REFUSED)
    for _ in range(2000):  # more doublings than a float has room for
        it.clock.now = it.host(A).held_until
        it.pool.assign(GET).closed(Result.REFUSED)
    assert it.host(A).failures == 2001
    assert it.host(A).held_until == it.clock.now + MAX_HOLD_S


def test_overload_rests_without_growing() -> None:
    it = rig(A, B)
    it.client.faults[A] = OVERLOADED
    assert it.serve() == [A, B]
    for _ in range(4):
        assert it.serve(2) == [B, B]
        it.clock.now += 1
        assert it.serve() == [A, B]
    assert it.host(A).failures == 0
    it.check()


def test_overload_of_a_single_host_closes_nothing() -> None:
    it = rig(A)
    it.client.faults[A] = OVERLOADED
    for _ in range(10):
        with pytest.raises(OriginOverloaded):
            it.ask()
    assert len(it.client.asked) == 10


# (request, fault, retried)
RETRIES = [
    (GET, REFUSED, True),
    (HEAD, REFUSED, True),
    (GET, CONNECT_TIMEOUT, True),
    (GET, OVERLOADED, True),
    (GET, EARLY, True),
    (POST, REFUSED, True),  # nobody has seen it
    (POST, CONNECT_TIMEOUT, True),
    (POST, OVERLOADED, True),
    (POST, EARLY, False),  # perhaps it was acted upon
    (GET, GARBAGE, False),  # a byte was read
    (GET, FIRST_BYTE, False),  # the request itself may be what takes so long
    (GET, OriginTimeout("late", Phase.TOTAL), False),
]


@pytest.mark.parametrize(("request_", "fault", "retried"), RETRIES, ids=str)
def test_retries(request_: OriginRequest, fault: OriginError, retried: bool) -> None:
    it = rig(A, B)
    it.client.faults[A] = fault
    if retried:
        assert it.ask(request_).status == 200
        assert it.client.asked == [A, B]
    else:
        with pytest.raises(type(fault)):
            it.ask(request_)
        assert it.client.asked == [A]
    assert it.pool.stats.retries == retried
    it.check()


def test_one_retry_and_never_on_the_same_host() -> None:
    it = rig(A, B, C)
    it.client.faults = dict.fromkeys((A, B, C), EARLY)
    with pytest.raises(OriginBroken):
        it.ask()
    assert it.client.asked == [A, B]
    alone = rig(A)
    alone.client.faults[A] = EARLY
    with pytest.raises(OriginBroken):
        alone.ask()
    assert alone.client.asked == [A]


def test_retries_have_a_budget() -> None:
    it = rig(A, B)
    it.client.faults = dict.fromkeys((A, B), EARLY)
    for _ in range(200):
        with pytest.raises(OriginBroken):
            it.ask()
    assert it.pool.stats.retries <= MAX_RETRIES_SAVED + 200 * 0.1
    assert it.pool.stats.retries >= 20


def test_a_client_that_breaks_gives_its_place_back() -> None:
    it = rig(A, B)
    for fault in (UnsendableRequest("collision"), ZeroDivisionError(), asyncio.CancelledError()):
        it.client.faults[A] = fault  # type: ignore[assignment]
        with pytest.raises(type(fault)):
            it.ask()
    assert it.host(A).load == 0
    assert it.pool.stats.retries == 0
    it.check()


def test_results_tell_how() -> None:
    for error, result in [
        (CONNECT_TIMEOUT, Result.CONNECT_TIMEOUT),
        (FIRST_BYTE, Result.TIMEOUT),
        (OriginTruncated(""), Result.TRUNCATED),
    ]:
        assert result_of(error) is result


def test_weights_reach_the_balance() -> None:
    it = rig(A, B, balance=Balance.ROUND_ROBIN, weights={B: 2})
    assert it.serve(6).count(B) == 4


def test_hash_follows_the_path_and_goes_round_a_dead_host() -> None:
    it = rig(A, B, C, balance=Balance.HASH)
    (home,) = set(it.serve(5))
    it.client.faults[home] = REFUSED
    first, away = it.serve()
    assert first == home != away
    assert set(it.serve(4)) == {away}
    del it.client.faults[home]
    it.clock.now += 1
    assert set(it.serve(4)) == {home}
    it.check()


def test_two_choices_learn_who_is_slow() -> None:
    it = rig(A, B, balance=Balance.P2C, jitter=lambda: 0.3)
    for address, seconds in ((A, 2.0), (B, 0.1)):
        it.host(address).latency.note(seconds, it.clock.now)
    assert it.serve(3) == [B, B, B]
    it.client.faults[B] = EARLY  # failing quickly is not being quick
    with pytest.raises(OriginBroken):
        it.ask(POST)
    latency_s = it.host(B).latency.maybe_at(it.clock.now)
    assert latency_s is not None and latency_s > 0.1


def test_backups_wait_until_nobody_else_can() -> None:
    it = rig(A, B, backups=(C,), max_per_host=2)
    assert C not in it.serve(10)
    open_ = [it.ask() for _ in range(5)]
    assert it.client.asked[-1] == C
    for response in open_:
        run(response.read())
    assert C not in it.serve(4)
    for dead in (A, B):
        it.client.faults[dead] = REFUSED
        asked = it.serve(10)  # no request is lost, though two of three die
    assert asked.count(C) == 10
    assert asked.count(B) == BREAKER_FAILURES
    it.check()


def test_a_backup_of_a_single_host() -> None:
    it = rig(A, backups=(B,))
    it.client.faults[A] = REFUSED
    assert it.serve(3) == [A, B, B, B]
    it.clock.now += 1
    assert it.serve(2) == [A, B, B]  # a probe, retried
    del it.client.faults[A]
    it.clock.now += 2
    assert it.serve(2) == [A, A]
    it.client.faults = {A: REFUSED, B: REFUSED}
    with pytest.raises(OriginRefused):
        it.ask()
    it.check()


def test_a_held_backup_is_not_probed_while_it_is_not_needed() -> None:
    it = rig(A, B, backups=(C,))
    it.client.faults = dict.fromkeys((A, B, C), REFUSED)
    with pytest.raises(OriginRefused):
        it.ask()
    it.host(C).state = HostState.HELD
    it.client.faults.clear()
    it.clock.now += 100
    assert C not in it.serve(6)


def test_the_limit_is_learnt_and_turns_away() -> None:
    it = rig(A)
    open_ = [it.ask() for _ in range(10)]
    it.client.faults[A] = OVERLOADED
    with pytest.raises(OriginOverloaded):
        it.ask()
    assert it.host(A).limit.value == 7  # of 11, which were too many
    it.client.asked.clear()
    with pytest.raises(OriginOverloaded) as caught:
        it.ask()
    assert it.client.asked == []
    assert caught.value.retry_after_s == 1
    it.client.faults.clear()
    for response in open_:
        run(response.read())
    assert it.serve(3) == [A, A, A]
    it.check()


def test_a_host_that_was_dead_begins_anew() -> None:
    it = rig(A, B)
    it.client.faults[A] = REFUSED
    it.host(A).limit.note_overload(2, it.clock.now, it.clock.now)
    it.serve()
    del it.client.faults[A]
    it.clock.now += 1
    it.serve(2)
    assert it.host(A).limit.value == REVIVED


def test_checks_hold_and_bring_back(caplog: pytest.LogCaptureFixture) -> None:
    it = rig(A, B)

    def check(*, is_well: bool) -> None:
        it.pool.note_check(it.host(A), is_well=is_well, next_in_s=7.0)
        it.check()

    with caplog.at_level(logging.INFO, LOGGER.name):
        check(is_well=False)
        assert it.serve() == [A]  # once is a stray
        for _ in range(5):
            check(is_well=False)
            for _ in range(2):
                assert it.serve() == [B]  # nor does a real request find out
                it.clock.now += 3.5
        check(is_well=True)
        assert it.serve() == [A]
        check(is_well=False)
        assert it.serve() == [A]
    messages = [record.getMessage() for record in caplog.records]
    assert [m.rpartition(": ")[2] for m in messages] == ["fails its checks", "a:9000 is back"]
    stats = it.host(A).stats
    assert (stats.checks_passed, stats.checks_failed, stats.holds) == (1, 7, 1)


def test_checks_that_stop_hold_nobody_for_ever() -> None:
    it = rig(A, B)
    for _ in range(2):
        it.pool.note_check(it.host(A), is_well=False, next_in_s=7.0)
    assert it.serve() == [B]
    it.clock.now += 14
    assert it.serve() == [A]


def test_checks_find_a_dead_host_alive_before_a_request_does() -> None:
    it = rig(A, B)
    it.client.faults[A] = REFUSED
    it.serve()
    assert it.host(A).state is HostState.HELD
    it.pool.note_check(it.host(A), is_well=True, next_in_s=7.0)
    del it.client.faults[A]
    assert it.serve() == [A]


def test_checks_never_hold_the_only_host_or_more_than_half() -> None:
    for addresses, held in (((A,), 0), ((A, B, C), 1)):
        it = rig(*addresses)
        for _ in range(9):
            for host in it.pool.hosts:
                it.pool.note_check(host, is_well=False, next_in_s=7.0)
        assert sum(host.state is HostState.HELD for host in it.pool.hosts) == held
        it.ask()
        it.check()


@pytest.mark.parametrize("bad", [(), (A, A)])
def test_hosts_are_there_and_each_once(bad: tuple[Address, ...]) -> None:
    with pytest.raises(ValueError, match="hosts"):
        rig(*bad)
    with pytest.raises(ValueError, match="hosts"):
        rig(A, B, backups=(B,))
    with pytest.raises(ValueError, match="weight"):
        rig(A, weights={A: 0})


def test_with_real_connections() -> None:
    """An overloaded application, a good one: the answer comes from the second, loads fall to 0."""

    async def main() -> None:
        busy = Behaviour(stdout=b"", protocol_status=2)
        async with fastcgi_peer(busy) as first, fastcgi_peer(Behaviour()) as second:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            pool = OriginPool(
                "app",
                (first.address, second.address),
                client,
                clock=asyncio.get_running_loop().time,
                chance=lambda: 0.0,
                logger=LOGGER,
            )
            response = await pool.fetch(GET)
            assert [host.load for host in pool.hosts] == [0, 1]
            assert await read_all(response) == BODY
            assert response.is_cacheable
            assert [host.load for host in pool.hosts] == [0, 0]
            assert pool.hosts[0].state is HostState.HELD
            assert pool.hosts[0].stats.results == {Result.OVERLOADED: 1}
            assert pool.hosts[1].stats.results == {Result.ANSWERED: 1}

    run(main())
