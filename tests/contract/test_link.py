"""How commands reach Redis: failovers, moved slots, nodes that stand still. Real servers.

Wherever something fails, what is answered is the answer to that very question.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager

import pytest

from cache.errors import IndexUnavailable
from cache.index.causes import Cause
from cache.index.cluster import Sharded, slot_of
from cache.index.door import MAX_WAITING
from cache.index.link import Link
from tests import waiting
from tests.contract.conftest import LOOKUP_S, PASSWORD
from tests.contract.homes import GENEROUS_S
from tests.peers.redis import RedisServer
from tests.peers.redis_farm import (
    REPLICA_OPTIONS,
    SERVICE,
    ClusterFarm,
    ClusterNode,
    Farm,
    SentinelFarm,
    SentinelServer,
    close_all,
    replication_of,
    start_all,
    until,
)

# Most of it is the farm's own failover on a busy machine: sentinels that were not let run for two
# seconds do nothing for the next thirty (TILT).
RECOVERY_S = 60.0
pytestmark = pytest.mark.timeout(180)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ReadScript:
    text = "return redis.call('GET', KEYS[1])"
    wait_s = 0.0
    sha = "d3c21d0c2b9ca22f82737626a27bcaf5d288f99f"


class TwoKeys:
    text = "return redis.call('GET', KEYS[1]) .. (redis.call('GET', KEYS[2]) or '')"
    wait_s = 0.0
    sha = "0" * 40  # known to nobody, so its text is sent


@asynccontextmanager
async def linked(
    url: str, *, budget_s: float = GENEROUS_S, clock: Callable[[], float] | None = None
):
    link = Link(url, monotonic=clock or time.monotonic, random=random.Random(1), budget_s=budget_s)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()
    stats = link.stats
    assert stats.calls == stats.answered + stats.failed + stats.refused


async def settled(link: Link) -> None:
    """Until the commands have ended whose callers have given up."""
    stats = link.stats
    await waiting.until(lambda: stats.calls <= stats.answered + stats.failed + stats.refused)


async def answered(link: Link, *command: str) -> object:
    """The answer to a command with a key, in the end: a busy machine costs calls their budgets."""
    end = time.monotonic() + RECOVERY_S
    while True:
        try:
            return await link.call(command[1], *command)
        except IndexUnavailable:
            assert time.monotonic() < end, command
            await asyncio.sleep(0.01)


async def recovered(link: Link) -> None:
    """Until no breaker is open, such as one that a busy machine has opened."""
    end = time.monotonic() + RECOVERY_S
    while link.is_degraded:
        assert time.monotonic() < end
        await link.probe()
        await asyncio.sleep(0.05)


def read(link: Link, key: str) -> Awaitable[object]:
    parts = ("EVALSHA", ReadScript.sha, 1, key)
    return link.call(key, *parts, script=ReadScript)


async def fill(url: str, count: int) -> list[str]:
    """Keys whose values are their names."""
    keys = [f"key:{{{number}}}" for number in range(count)]
    async with linked(url) as link:
        await asyncio.gather(*(link.call(key, "SET", key, key) for key in keys[:200]))
        for key in keys[200:]:
            await link.call(key, "SET", key, key)
    return keys


def gets(keys: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(key, ("GET", key)) for key in keys]


class Readers:
    """Ask for keys again and again, in three ways; count answers, and accept no wrong one."""

    def __init__(self, link: Link, keys: list[str], count: int = 8) -> None:
        self.answered = 0
        self.unavailable = 0
        self._link = link
        self._keys = keys
        self._order = random.Random(2)
        self._tasks = [asyncio.create_task(self._read()) for _ in range(count)]

    async def _read(self) -> None:
        while True:
            keys = self._order.choices(self._keys, k=5)
            key = keys[0]
            try:
                match self._order.randrange(3):
                    case 0:
                        assert await self._link.call(key, "GET", key) == key.encode()
                    case 1:
                        assert await read(self._link, key) == key.encode()
                    case 2:
                        replies = await self._link.call_each(gets(keys))
                        assert replies == [one.encode() for one in keys]
            except IndexUnavailable:
                self.unavailable += 1
                await asyncio.sleep(0.002)
            else:
                self.answered += 1

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + RECOVERY_S
        while not condition():
            assert time.monotonic() < end, what
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def more(self, count: int) -> None:
        reached = self.answered + count
        await self.until(lambda: self.answered >= reached, f"{count} more answers")

    async def fail(self) -> None:
        reached = self.unavailable + 1
        await self.until(lambda: self.unavailable >= reached, "a failure")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes


# Sentinel


def replicated_bytes(server: RedisServer) -> bytes:
    info = replication_of(server)
    (found,) = (line for line in info.split(b"\r\n") if line.startswith(b"master_repl_offset:"))
    return found


def test_a_master_dies_and_another_one_is_found() -> None:
    async def main(farm: SentinelFarm) -> None:
        async with linked(farm.url, budget_s=0.2) as link:
            keys = await fill(farm.url, 300)
            first, second = farm.servers
            until(lambda: replicated_bytes(first) == replicated_bytes(second), "replication")
            readers = Readers(link, keys)
            await readers.more(200)
            first.kill()
            await readers.fail()
            await readers.more(500)
            await answered(link, "SET", "k", "new")
            assert second.command("GET", "k") == b"$3\r\nnew\r\n"
            # The old one comes back, as a replica, and is asked nothing.
            first.start()
            await asyncio.to_thread(farm.demote, first)
            await readers.more(200)
            await readers.stop()
            await recovered(link)

    with closing(SentinelFarm(password=PASSWORD, sentinel_password="wache").start()) as farm:
        asyncio.run(main(farm))


def is_promoted(farm: SentinelFarm, server: RedisServer) -> bool:
    """Or else it is asked for, again and again: one that is too slow is abandoned, and one that is
    under way refuses the next."""
    if b"role:master" in replication_of(server):
        return True
    farm.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
    return False


def test_a_failover_by_command_loses_a_few_calls_at_most() -> None:
    async def main(farm: SentinelFarm) -> None:
        async with linked(farm.url, budget_s=0.2) as link:
            keys = await fill(farm.url, 100)
            first, second = farm.servers
            until(lambda: replicated_bytes(first) == replicated_bytes(second), "replication")
            readers = Readers(link, keys)
            await readers.more(100)
            await readers.until(lambda: is_promoted(farm, second), "promotion")
            await asyncio.to_thread(farm.demote, first)
            await readers.more(300)
            await answered(link, "SET", "k", "new")
            assert second.command("GET", "k") == b"$3\r\nnew\r\n"
            await readers.stop()

    with closing(SentinelFarm().start()) as farm:
        asyncio.run(main(farm))


class Pair(Farm):
    """Two servers, the second one a replica, and sentinels that say what a test tells them to:
    alone each of them, they never fail over."""

    def __init__(self, sentinels: int = 1) -> None:
        self.first, self.second = (RedisServer(*REPLICA_OPTIONS) for _ in range(2))
        self.sentinels = [SentinelServer("") for _ in range(sentinels)]

    def _start(self) -> None:
        for sentinel in self.sentinels:
            sentinel.configure(())
        start_all([self.first, self.second, *self.sentinels])
        self.replicate(self.second, self.first)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def replicate(self, replica: RedisServer, master: RedisServer) -> None:
        master.command("REPLICAOF", "NO", "ONE")
        replica.command("REPLICAOF", "127.0.0.1", str(master.port))
        until(lambda: b"link_status:up" in replication_of(replica), "replication")

    def name(self, sentinel: SentinelServer, master: RedisServer) -> None:
        sentinel.command("SENTINEL", "REMOVE", SERVICE)
        words = ("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", str(master.port), "5")
        assert sentinel.command(*words) == b"+OK\r\n"

    def close(self) -> None:
        close_all((*self.sentinels, self.first, self.second))


def test_a_master_that_became_a_replica_says_so_and_the_call_goes_on() -> None:
    async def main(pair: Pair) -> None:
        (sentinel,) = pair.sentinels
        pair.name(sentinel, pair.first)
        async with linked(pair.url) as link:
            await asyncio.gather(*(link.call("a", "SET", "a", "1") for _ in range(8)))
            assert link.idle > 1
            pair.replicate(pair.first, pair.second)
            pair.name(sentinel, pair.second)
            await link.call("a", "SET", "a", "2")
            assert pair.second.command("GET", "a") == b"$1\r\n2\r\n"
            assert (link.stats.failed, link.stats.redirected, link.idle) == (0, 1, 1)

    with closing(Pair().start()) as pair:
        asyncio.run(main(pair))


def test_a_sentinel_that_is_behind_and_one_that_stands_still_are_passed_over() -> None:
    async def main(pair: Pair) -> None:
        behind, frozen, good = pair.sentinels
        pair.name(behind, pair.second)
        pair.name(frozen, pair.second)
        pair.name(good, pair.first)
        frozen.pause()
        async with linked(pair.url) as link:
            await link.call("a", "SET", "a", "1")
            assert pair.first.command("GET", "a") == b"$1\r\n1\r\n"
            # The one that knew is asked first next time.
            asked = time.monotonic()
            await link._topology.lookup.want()
            assert time.monotonic() - asked < LOOKUP_S

    with closing(Pair(3).start()) as pair:
        asyncio.run(main(pair))


def test_no_sentinel_knows_a_master() -> None:
    async def main(pair: Pair) -> None:
        pair.name(pair.sentinels[0], pair.second)
        pair.sentinels[1].stop()
        url = pair.url.replace("//", "//:geheim@") + "/0?sentinel_password=wache"
        clock = Clock()
        async with linked(url, clock=clock) as link:
            for _ in range(5):
                assert not link.is_degraded
                with pytest.raises(
                    IndexUnavailable, match=f"no sentinel names a master of '{SERVICE}'"
                ):
                    await link.call("a", "GET", "a")
            assert link.is_degraded
            lookups = link._topology.lookup.failed
            for _ in range(10):
                with pytest.raises(IndexUnavailable, match="breaker is open"):
                    await link.call("a", "GET", "a")
            assert link._topology.lookup.failed == lookups
        # Whoever has no answer yet does not wait for one longer than its budget.
        pair.sentinels[0].pause()
        async with linked(pair.url, budget_s=0.05) as link:
            begun = time.monotonic()
            with pytest.raises(IndexUnavailable, match=r"no answer|in time"):
                await link.call("a", "GET", "a")
            assert time.monotonic() - begun < LOOKUP_S

    with closing(Pair(2).start()) as pair:
        asyncio.run(main(pair))


# Cluster


def key_of(node: ClusterNode, farm: ClusterFarm, name: str = "key") -> str:
    """Some key of a slot that this node has."""
    numbers = range(10_000)
    return next(k for k in (f"{name}:{n}" for n in numbers) if farm.owner(slot_of(k)) is node)


class Move:
    """One slot on its way between two masters, step by step."""

    def __init__(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        self.slot, self.source, self.target = str(slot), source, target

    def begin(self) -> None:
        words = ("CLUSTER", "SETSLOT", self.slot)
        assert self.target.command(*words, "IMPORTING", self.source.id) == b"+OK\r\n"
        assert self.source.command(*words, "MIGRATING", self.target.id) == b"+OK\r\n"

    def carry(self, *keys: str) -> None:
        """These keys, or else all."""
        found = keys or self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, "100").decode()
        names = keys or [line for line in found.split("\r\n")[1:] if line and line[0] not in "$*"]
        if names:
            words = ("MIGRATE", "127.0.0.1", str(self.target.port), "", "0", "5000")
            login = ("AUTH", self.source.password)
            assert self.source.command(*words, *login, "KEYS", *names) == b"+OK\r\n"

    def end(self) -> None:
        for node in (self.target, self.source):
            words = ("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.id)
            assert node.command(*words) == b"+OK\r\n"


@contextmanager
def moving(farm: ClusterFarm, key: str) -> Iterator[Move]:
    """A slot that is brought home afterwards."""
    farm.command("FLUSHALL")
    slot = slot_of(key)
    source = farm.owner(slot)
    target = next(n for n in farm.nodes if n is not source and b"role:master" in replication_of(n))
    there = Move(slot, source, target)
    try:
        yield there
    finally:
        farm.command("FLUSHALL")
        there.source, there.target = source, target
        there.end()
        back = Move(slot, target, source)
        back.begin()
        back.end()


def test_a_slot_moves_while_it_is_asked(cluster_farm: ClusterFarm) -> None:
    here, new, pair = "{x}:here", "{x}:new", ("{x}:here", "{x}:there")

    async def main(move: Move) -> None:
        async with linked(cluster_farm.url) as link:
            stats = link.stats
            await link.call(here, "SET", here, here)
            move.begin()
            assert await link.call(here, "GET", here) == here.encode()
            assert stats.redirected == 0
            # ASK: what is not there any more, or not yet
            assert await link.call(new, "GET", new) is None
            await link.call(new, "SET", new, new)
            assert stats.redirected == 2
            assert move.target.command("GET", new).startswith(b"-MOVED")
            # ... with a script that the other node has not seen: ASKING is said twice
            cluster_farm.command("SCRIPT", "FLUSH")
            assert await read(link, new) == new.encode()
            assert stats.redirected == 3
            # TRYAGAIN: one key here and one there. Nobody is to blame.
            move.carry(here)
            await link.call(new, "SET", pair[1], "")
            for _ in range(10):
                with pytest.raises(IndexUnavailable, match="TryAgain"):
                    await link.call(
                        here, "EVALSHA", TwoKeys.sha, 2, here, "{x}:none", script=TwoKeys
                    )
            assert not link.is_degraded
            assert stats.failed == 10
            # MOVED
            move.carry()
            move.end()
            redirected = stats.redirected
            assert await link.call(here, "GET", here) == here.encode()
            assert stats.redirected == redirected + 1
            for _ in range(3):
                assert await read(link, new) == new.encode()
            assert stats.redirected == redirected + 1
            assert stats.failed == 10

    with moving(cluster_farm, "{x}") as move:
        asyncio.run(main(move))


def test_slots_move_back_and_forth_under_load(cluster_farm: ClusterFarm) -> None:
    async def main(move: Move) -> None:
        async with linked(cluster_farm.url) as link:
            keys = [*await fill(cluster_farm.url, 40), *(f"{{y}}:{n}" for n in range(40))]
            for key in keys[40:]:
                await link.call(key, "SET", key, key)
            readers = Readers(link, keys)
            for _ in range(4):
                for step in (move.begin, move.carry, move.end):
                    await readers.more(40)
                    await asyncio.to_thread(step)
                move.source, move.target = move.target, move.source
            await readers.more(200)
            await readers.stop()
            assert readers.unavailable == 0
            assert link.stats.redirected > 0

    with moving(cluster_farm, "{y}") as move:
        asyncio.run(main(move))


def test_a_node_that_stands_still_costs_only_its_own_slots(cluster_farm: ClusterFarm) -> None:
    budget_s = 0.5

    async def main() -> None:
        clock = Clock()
        async with linked(cluster_farm.url, budget_s=budget_s, clock=clock) as link:
            for _ in range(50):  # until the map is known, on a busy machine
                try:
                    await link.call("a", "PING")
                    break
                except IndexUnavailable:
                    clock.now += 2
            frozen, others = cluster_farm.nodes[1], cluster_farm.nodes
            theirs = key_of(frozen, cluster_farm)
            ours = [key_of(node, cluster_farm) for node in (others[2], cluster_farm.owner(0))]
            for key in (theirs, *ours):
                await link.call(key, "SET", key, key)
            frozen.pause()
            # More than may wait: the bound is the node's own, too.
            stuck = [asyncio.create_task(link.call(theirs, "GET", theirs)) for _ in range(400)]
            await asyncio.sleep(0)
            refused = link.stats.refused
            assert refused == 400 - MAX_WAITING
            begun = time.monotonic()
            for _ in range(20):
                for key in ours:
                    assert await link.call(key, "GET", key) == key.encode()
            outcomes = await asyncio.gather(*stuck, return_exceptions=True)
            assert time.monotonic() - begun < 3 * budget_s
            assert all(isinstance(outcome, IndexUnavailable) for outcome in outcomes)
            await settled(link)
            # Its breaker is open now, theirs are not.
            assert link.is_degraded
            for _ in range(10):
                begun = time.monotonic()
                with pytest.raises(
                    IndexUnavailable, match=f"127.0.0.1:{frozen.port} failed lately"
                ):
                    await link.call(theirs, "GET", theirs)
                assert time.monotonic() - begun < budget_s
                for key in ours:
                    assert await link.call(key, "GET", key) == key.encode()
            clock.now += 2
            with pytest.raises(IndexUnavailable, match=r"no answer|Timeout"):
                await link.call(theirs, "GET", theirs)
            frozen.resume()
            # Nobody asks: the probe finds out.
            for _ in range(50):
                clock.now += 2
                await link.probe()
                if not link.is_degraded:
                    break
            assert await link.call(theirs, "GET", theirs) == theirs.encode()

    try:
        asyncio.run(main())
    finally:
        cluster_farm.nodes[1].resume()


def test_a_node_dies_and_its_replica_takes_over(cluster_farm: ClusterFarm) -> None:
    async def main(dying: ClusterNode) -> None:
        async with linked(cluster_farm.url, budget_s=0.2) as link:
            keys = await fill(cluster_farm.url, 200)
            (replica,) = (n for n in cluster_farm.nodes if b"role:slave" in replication_of(n))
            until(lambda: replicated_bytes(dying) == replicated_bytes(replica), "replication")
            readers = Readers(link, keys)
            await readers.more(200)
            dying.kill()
            await readers.fail()
            reached = readers.answered + 100  # of the others
            await readers.until(lambda: readers.answered >= reached, "answers of the others")
            lost = [key for key in keys if slot_of(key) in range(5461)]
            await readers.stop()
            readers = Readers(link, lost)
            await readers.more(300)
            await readers.stop()
            key = lost[0]
            await answered(link, "SET", key, "new")
            assert replica.command("GET", key) == b"$3\r\nnew\r\n"
            await recovered(link)

    cluster_farm.command("FLUSHALL")
    cluster_farm.set_node_timeout(500)
    dying = cluster_farm.owner(0)
    try:
        asyncio.run(main(dying))
    finally:
        if dying.process is None:
            dying.start()
        cluster_farm.await_whole()
        cluster_farm.set_node_timeout(15_000)


def test_a_cluster_of_which_nobody_answers() -> None:
    async def main() -> None:
        clock = Clock()
        url = "redis+cluster://:geheim@127.0.0.1:1,127.0.0.1:2"
        async with linked(url, clock=clock) as link:
            for _ in range(5):
                with pytest.raises(IndexUnavailable, match="no node tells of the cluster's slots"):
                    await link.call("a", "GET", "a")
            with pytest.raises(IndexUnavailable, match="breaker is open"):
                await link.call("a", "GET", "a")
            await link.probe()
            with pytest.raises(IndexUnavailable):
                await link.connect("a")

    asyncio.run(main())


def test_a_server_that_is_no_cluster() -> None:
    async def main(server: RedisServer) -> None:
        async with linked(f"redis+cluster://127.0.0.1:{server.port}") as link:
            with pytest.raises(IndexUnavailable, match="cluster support disabled"):
                await link.call("a", "GET", "a")

    with closing(RedisServer().start()) as server:
        asyncio.run(main(server))


# All homes

PEERS = ["shared_server", "locked_server", "sentinel_farm", "cluster_farm"]


@pytest.mark.parametrize("peer", PEERS)
def test_a_subscriber_hears_what_is_published(peer: str, request: pytest.FixtureRequest) -> None:
    farm = request.getfixturevalue(peer)

    async def main() -> None:
        async with linked(farm.url) as link:
            connection = await link.connect("halftone:{orders}:news")
            await connection.send_command("SUBSCRIBE", "halftone:{orders}:news")
            assert (await connection.read_response(timeout=5))[0] == b"subscribe"
            for number in range(3):
                await link.call(
                    "halftone:{orders}:news", "PUBLISH", "halftone:{orders}:news", number
                )
                heard = await connection.read_response(timeout=5)
                assert heard == [b"message", b"halftone:{orders}:news", str(number).encode()]
            await connection.disconnect()

    asyncio.run(main())


@pytest.mark.parametrize("peer", PEERS)
def test_an_error_answer_costs_its_connection_alone(
    peer: str, request: pytest.FixtureRequest
) -> None:
    farm = request.getfixturevalue(peer)

    async def main() -> None:
        async with linked(farm.url) as link:
            await link.call("list", "DEL", "list")
            await link.call("list", "RPUSH", "list", "a")
            assert link.idle == 1
            with pytest.raises(IndexUnavailable, match="WRONGTYPE"):
                await link.call("list", "GET", "list")
            assert link.idle == 0
            assert await link.call("list", "LLEN", "list") == 1
            await link.call("list", "DEL", "list")

    asyncio.run(main())


@pytest.mark.parametrize("peer", PEERS)
def test_many_questions_in_one_go(peer: str, request: pytest.FixtureRequest) -> None:
    farm = request.getfixturevalue(peer)
    farm.command("FLUSHALL")

    async def main() -> None:
        async with linked(farm.url) as link:
            keys = await fill(farm.url, 200)
            expected = [key.encode() for key in keys]
            assert await link.call_each([]) == []
            assert await link.call_each(gets(keys)) == expected  # finds the servers
            calls, idle = link.stats.calls, link.idle
            assert await link.call_each(gets(keys)) == expected
            assert link.stats.calls - calls == (3 if peer == "cluster_farm" else 1)
            assert link.idle == idle
            # What is refused is asked for once more alone, and then it is the caller's.
            questions = gets(keys)
            questions[7] = (keys[7], ("LLEN", keys[7]))
            with pytest.raises(IndexUnavailable, match="WRONGTYPE"):
                await link.call_each(questions)
            assert await link.call_each(gets(keys[::-1])) == expected[::-1]

    asyncio.run(main())


def test_many_questions_by_a_map_that_is_old(cluster_farm: ClusterFarm) -> None:
    async def main() -> None:
        async with linked(cluster_farm.url) as link:
            keys = [f"{{{number}}}" for number in range(30)]
            expected = [key.encode() for key in keys]
            for key in keys:
                cluster_farm.command("SET", key, key)
            # Nothing is known yet, so each finds its server alone.
            assert await link.call_each(gets(keys)) == expected
            topology = link._topology
            assert isinstance(topology, Sharded)
            nodes = list(dict.fromkeys(topology._map.owners))
            following = dict(zip(nodes, nodes[1:] + nodes[:1], strict=True))
            topology._map.owners[:] = [following[owner] for owner in topology._map.owners]
            redirected = link.stats.redirected
            assert await link.call_each(gets(keys)) == expected
            assert link.stats.redirected - redirected == len(keys)
            assert not link.is_degraded

    asyncio.run(main())


class Hurried:
    """A clock on which every look is half a second later: breakers are never shut for long."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.mark.parametrize("peer", PEERS)
def test_late_replies_are_nobodys(peer: str, request: pytest.FixtureRequest) -> None:
    """A server that stands still again and again, with commands in flight."""
    farm = request.getfixturevalue(peer)
    match farm:
        case SentinelFarm():
            server = farm.master
        case ClusterFarm():
            server = farm.owner(0)
        case _:
            server = farm
    farm.command("FLUSHALL")

    async def main() -> None:
        keys = await fill(farm.url, 300)
        async with linked(farm.url, budget_s=0.03, clock=Hurried()) as link:
            readers = Readers(link, keys, 12)
            for _ in range(6):
                await readers.more(100)
                server.pause()
                await readers.fail()
                server.resume()
            await readers.more(1000)
            await readers.stop()
            assert link.stats.late > 0

    try:
        asyncio.run(main())
    finally:
        server.resume()


def test_a_server_that_quotes_what_it_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Where AUTH has another name, the answer is "unknown command 'AUTH', with args ..."."""
    secret = "ge/h@im"

    async def main(server: RedisServer) -> None:
        for scheme in ("redis", "redis+cluster"):
            url = f"{scheme}://u:{secret.replace('/', '%2F').replace('@', '%40')}@"
            async with linked(f"{url}127.0.0.1:{server.port}", clock=Clock()) as link:
                for _ in range(6):
                    with pytest.raises(IndexUnavailable) as caught:
                        await link.call("a", "GET", "a")
                    assert secret not in str(caught.value)
                    assert caught.value.__cause__ is None
                    assert caught.value.__context__ is None
                with pytest.raises(IndexUnavailable):
                    await link.connect("a")

    with (
        caplog.at_level(logging.DEBUG),
        closing(RedisServer("--rename-command", "AUTH", "OTHER").start()) as server,
    ):
        asyncio.run(main(server))
    assert "failed too often" in caplog.text
    assert secret not in caplog.text


CAUSES = [
    ((), "127.0.0.1:1", Cause.UNREACHABLE),
    (("CONFIG", "SET", "requirepass", "geheim"), "", Cause.PASSWORD),
    (("CONFIG", "SET", "maxmemory", "1"), "", Cause.FULL),
    (("REPLICAOF", "127.0.0.1", "1"), "", Cause.READ_ONLY),
    (("ACL", "SETUSER", "default", "-set"), "", Cause.RIGHTS),
]


@pytest.mark.parametrize(("trouble", "elsewhere", "cause"), CAUSES, ids=lambda one: str(one)[:24])
def test_what_fails_is_counted_by_its_cause(
    trouble: tuple[str, ...], elsewhere: str, cause: Cause, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(server: RedisServer) -> None:
        async with linked(f"redis://127.0.0.1:{server.port}") as link:
            if trouble:
                await link.call("a", *trouble)
        async with linked(f"redis://{elsewhere or f'127.0.0.1:{server.port}'}") as link:
            for _ in range(5):
                with pytest.raises(IndexUnavailable):
                    await link.call("a", "SET", "a", "b")
            assert link.is_degraded  # as nothing else was asked
            assert {one: n for one, n in link.stats.causes.items() if n} == {cause: 5}

    with closing(RedisServer().start()) as server:
        asyncio.run(main(server))
    (said,) = (one.getMessage() for one in caplog.records if "failed too often" in one.message)
    assert re.search(r"failed too often \(\w+Error: .+\), deciding locally", said)


def test_calls_outside_start_and_stop_are_refused(cluster_farm: ClusterFarm) -> None:
    async def main() -> None:
        link = Link(cluster_farm.url, monotonic=Clock(), random=random.Random(), budget_s=2.0)
        for _ in range(2):
            with pytest.raises(IndexUnavailable, match="not started"):
                await link.call("a", "PING")
            with pytest.raises(IndexUnavailable, match="not started"):
                await link.call_each(gets("a"))
            with pytest.raises(IndexUnavailable, match="not started"):
                await link.connect("a")
            await link.probe()
            await link.start()
            await link.call("a", "PING")
            await link.stop()
            await link.stop()

    asyncio.run(main())
