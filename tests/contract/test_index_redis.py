"""What is Redis's own: news over a subscription, replicas, late hints, faults, memory."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis.asyncio.connection import AbstractConnection

from cache.errors import IndexUnavailable
from cache.index.interface import Bounds, Failure, Sight
from cache.index.news import News
from cache.index.redis import KEEP_MS, RedisIndex
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from tests.contract.homes import (
    OTHER,
    RECORD,
    SOURCE,
    Clock,
    DelayingProxy,
    digest,
    redis_index,
)
from tests.peers.redis import RedisServer
from tests.waiting import until

TAG = Order(Act.PURGE, Scope.TAG, "site", "summer")
SINGLE = Order(Act.PURGE, Scope.SOURCE, "site", "/a.jpg")
# What an entry may cost in Redis, all keys, tables and times of its source included.
MAX_ENTRY_BYTES = 250


@pytest.fixture
def fresh(shared_server: RedisServer) -> RedisServer:
    shared_server.command("FLUSHALL")
    return shared_server


@pytest.fixture
def second() -> Iterator[RedisServer]:
    # A replica that writes its first AOF cannot be ended.
    server = RedisServer("--appendonly", "no").start()
    yield server
    server.close()


async def started(server: RedisServer, budget_s: float = 2.0, **settings: object) -> RedisIndex:
    index = redis_index(server, budget_s=budget_s, **settings)
    await index.start()
    return index


async def answering(index: RedisIndex, source: SourceId = SOURCE) -> Sight:
    """Once it answers again."""
    while True:
        index.link.monotonic.now += 2
        try:
            return await index.open_source(source)
        except IndexUnavailable:
            await asyncio.sleep(0.01)


async def follow(replica: RedisServer, server: RedisServer) -> None:
    server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica.command("REPLICAOF", "127.0.0.1", str(server.port))
    await until(lambda: b"state=online" in server.command("INFO", "replication"))


def used(server: RedisServer) -> int:
    """What is stored, its tables included, without buffers of connections and of the log."""
    lines = server.command("INFO", "memory").decode().split("\r\n")
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    buffers = ("mem_clients_normal", "mem_clients_slaves", "mem_aof_buffer", "used_memory_scripts")
    return int(info["used_memory"]) - sum(int(info[name]) for name in buffers)


def key(name: str, source: SourceId = SOURCE) -> str:
    return f"halftone:{{{source.digest.hex()}}}:{name}"


def names(server: RedisServer) -> list[bytes]:
    found = []
    cursor = b"0"
    while True:
        lines = server.command("SCAN", cursor, "COUNT", "1000").split(b"\r\n")
        cursor = lines[2]
        found += [line for line in lines[3:] if line.startswith(b"halftone")]
        if cursor == b"0":
            return found


# Hints


def test_what_could_not_be_told_is_told_when_it_answers_again(server: RedisServer) -> None:
    async def main() -> None:
        index = await started(server)
        token = (await index.open_source(SOURCE)).token
        tagged = replace(RECORD, tags=("dune",))
        server.stop()
        for number in (1, 2):
            with pytest.raises(IndexUnavailable):
                await index.publish(SOURCE, token, digest(number), 1)
        with pytest.raises(IndexUnavailable):
            await index.forget(SOURCE, digest(2))
        with pytest.raises(IndexUnavailable):
            await index.put_source(SOURCE, token, tagged)
        assert index.hints.waiting == 3
        server.start()
        await answering(index, OTHER)
        await until(lambda: index.hints.waiting == 0)
        assert await index.open_source(SOURCE) == Sight(token, tagged)
        assert await index.members(SOURCE) == (digest(1),)
        assert (index.hints.told, index.hints.overtaken) == (3, 1)
        await index.stop()

    asyncio.run(main())


def test_a_probe_tells_too(server: RedisServer) -> None:
    async def main() -> None:
        index = await started(server)
        token = (await index.open_source(SOURCE)).token
        server.stop()
        while not index.is_degraded:
            with pytest.raises(IndexUnavailable):
                await index.publish(SOURCE, token, digest(1), 1)
        assert (index.times_degraded, index.hints.waiting) == (1, 1)
        server.start()
        index.link.monotonic.now += 2
        await index.probe()
        await until(lambda: index.hints.told == 1)
        assert await index.members(SOURCE) == (digest(1),)
        await index.stop()

    asyncio.run(main())


def test_a_purge_in_the_meantime_refuses_hints(server: RedisServer) -> None:
    async def main() -> None:
        index, other = await started(server), await started(server)
        token = (await index.open_source(SOURCE)).token
        server.stop()
        with pytest.raises(IndexUnavailable):
            await index.publish(SOURCE, token, digest(1), 1)
        with pytest.raises(IndexUnavailable):
            await index.put_source(SOURCE, token, RECORD)
        server.start()
        await other.purge(SOURCE)
        await answering(index, OTHER)
        await until(lambda: index.hints.waiting == 0)
        assert index.hints.outdated == 2
        assert (await index.open_source(SOURCE)).record is None
        assert await index.members(SOURCE) == ()
        await index.stop()
        await other.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("stored_at", "is_kept"),
    [(RECORD.stored_at - 1, False), (RECORD.stored_at, True), (RECORD.stored_at + 1, True)],
)
def test_a_late_record_gives_way_to_a_younger_one(
    server: RedisServer, stored_at: int, is_kept: bool
) -> None:
    async def main() -> None:
        index, other = await started(server), await started(server)
        token = (await index.open_source(SOURCE)).token
        server.stop()
        with pytest.raises(IndexUnavailable):
            await index.put_source(SOURCE, token, RECORD)
        server.start()
        stored = replace(RECORD, validator="other", stored_at=stored_at)
        assert await other.put_source(SOURCE, token, stored)
        await answering(index, OTHER)
        await until(lambda: index.hints.waiting == 0)
        expected = stored if is_kept else RECORD
        assert (await index.open_source(SOURCE)).record == expected
        await index.stop()
        await other.stop()

    asyncio.run(main())


def test_what_is_told_in_time_overtakes_what_waits(server: RedisServer) -> None:
    async def main() -> None:
        index = await started(server)
        token = (await index.open_source(SOURCE)).token
        server.stop()
        with pytest.raises(IndexUnavailable):
            await index.forget(SOURCE, digest(1))
        server.start()
        index._hints.wake = lambda: None
        index.link.monotonic.now += 2
        assert await index.publish(SOURCE, token, digest(1), 1)
        assert (index.hints.waiting, index.hints.overtaken) == (0, 1)
        await index.stop()

    asyncio.run(main())


# News


def test_news_come_after_each_connect_and_each_order(server: RedisServer) -> None:
    async def main() -> None:
        index, other = await started(server), await started(server)
        heard = [0]

        def count() -> None:
            heard[0] += 1

        index.on_news = count
        await until(lambda: index._news.connects == 1)
        assert heard[0] <= 1
        before = heard[0]
        await other.announce(TAG)
        await until(lambda: heard[0] == before + 1)
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: index._news.connects == 2)
        assert heard[0] == before + 2
        server.kill()
        server.start()
        await until(lambda: index._news.connects == 3)
        assert heard[0] == before + 3
        await index.stop()
        await other.stop()

    asyncio.run(main())


def test_a_subscription_that_is_dead_is_noticed(server: RedisServer) -> None:
    async def main() -> None:
        index = await started(server, budget_s=0.2)
        heard = asyncio.Event()
        attempts = 0

        async def connect() -> AbstractConnection:
            nonlocal attempts
            attempts += 1
            return await index._connected()

        news = News(connect, heard.set, random.Random(1), ping_s=0.05)
        news.start()
        await heard.wait()
        await until(lambda: b"cmdstat_ping:calls=3" in server.command("INFO", "commandstats"))
        assert news.connects == 1
        heard.clear()
        server.pause()
        await until(lambda: attempts == 2)
        server.resume()
        await heard.wait()
        assert news.connects == 2
        await news.stop()
        await index.stop()

    asyncio.run(main())


def test_stop_does_not_hang_on_a_cancellation_that_was_lost() -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def connect() -> AbstractConnection:
            asked.set()
            with contextlib.suppress(asyncio.CancelledError):  # as wait_for() does at times
                await asyncio.sleep(3600)
            await asyncio.sleep(3600)
            raise AssertionError

        news = News(connect, lambda: None, random.Random(1))
        news.start()
        await asked.wait()
        async with asyncio.timeout(10):
            await news.stop()

    asyncio.run(main())


def test_news_with_a_password_over_a_socket(server: RedisServer) -> None:
    async def main() -> None:
        server.command("CONFIG", "SET", "requirepass", "geheim")
        index = redis_index(server, budget_s=2.0, url=server.unix_url.replace("//", "//:geheim@"))
        heard = asyncio.Event()
        await index.start()
        await until(lambda: index._news.connects == 1)
        index.on_news = heard.set
        await index.announce(TAG)
        await heard.wait()
        await index.purge(SOURCE)
        await index.stop()

    asyncio.run(main())


# Replicas


def test_a_purge_waits_for_a_replica_and_says_so(server: RedisServer, second: RedisServer) -> None:
    async def main() -> None:
        index = await started(server)
        assert (await index.purge(SOURCE)).replicas == 0
        await follow(second, server)
        while (purged := await index.purge(SOURCE)).replicas == 0:
            pass  # the machine was busy for 50 ms
        assert purged.replicas == 1
        assert f"{purged.token.generation}:".encode() in second.command("GET", key("gen"))
        assert await index.announce(TAG)
        # One that is frozen: no error, nobody's acknowledgement, no reply left for the next one.
        second.pause()
        begin = time.monotonic()
        purged = await index.purge(SOURCE)
        assert purged.replicas == 0
        assert time.monotonic() - begin < 2.0
        assert await index.announce(SINGLE)
        for _ in range(8):
            assert await index.open_source(SOURCE) == Sight(purged.token, None)
        second.resume()
        assert index.stats.failed == 0
        await index.stop()

    asyncio.run(main())


def test_a_wait_that_is_never_answered_costs_the_count_alone(
    server: RedisServer, second: RedisServer
) -> None:
    async def main() -> None:
        await follow(second, server)
        proxy = DelayingProxy(server.port)
        index = redis_index(server, budget_s=1.0, url=f"redis://127.0.0.1:{await proxy.start()}/0")
        await index.start()
        await until(lambda: index._news.connects == 1)
        token = (await index.open_source(SOURCE)).token
        await index.purge(SOURCE)
        proxy.hold_at = b"WAIT"
        purged = await index.purge(SOURCE)
        assert purged.replicas == 0
        assert token.is_older_than(purged.token)
        proxy.release.set()
        for _ in range(20):
            assert await index.open_source(SOURCE) == Sight(purged.token, None)
        assert index.stats.failed == 0
        await index.stop()
        await proxy.stop()

    asyncio.run(main())


# Faults


def test_commands_are_given_up_while_clients_are_paused(server: RedisServer) -> None:
    async def main() -> None:
        index = await started(server, budget_s=0.05)
        token = (await answering(index)).token
        server.command("CLIENT", "PAUSE", "1500", "ALL")
        late = 0
        for _ in range(10):
            begin = time.monotonic()
            with pytest.raises(IndexUnavailable):
                await index.open_source(SOURCE)
            late += time.monotonic() - begin > 0.3
        assert late <= 2  # the machine may be busy
        assert index.times_degraded == 1
        assert (await answering(index)).token == token
        await index.stop()

    asyncio.run(main())


def test_a_flush_under_load(server: RedisServer) -> None:
    """Whatever was answered after the flush is of another epoch, and nothing old is recorded."""

    async def main() -> None:
        index = await started(server)
        sources = [SourceId("site", f"/{number}") for number in range(40)]
        old = {source: (await index.open_source(source)).token for source in sources}
        flushed = asyncio.Event()
        refused = 0

        async def fill(source: SourceId) -> None:
            nonlocal refused
            for number in range(20):
                was_flushed = flushed.is_set()
                is_current = await index.publish(source, old[source], digest(number), 1)
                assert not (was_flushed and is_current)
                refused += not is_current
                await index.put_failure(source, old[source], digest(number), Failure("k", 2**40))

        async def flush() -> None:
            await until(lambda: index.stats.answered > 400)
            await asyncio.to_thread(server.command, "FLUSHALL")
            flushed.set()

        await asyncio.gather(flush(), *map(fill, sources))
        for source in sources:
            assert not await index.publish(source, old[source], digest(1), 1)
            sight = await index.open_source(source)
            assert sight.token.epoch != old[source].epoch
            assert (sight.record, sight.failures) == (None, {})
            assert await index.members(source) == ()
        await index.stop()

    asyncio.run(main())


def test_scripts_that_were_forgotten_are_sent_again(fresh: RedisServer) -> None:
    async def main() -> None:
        index = await started(fresh)
        token = (await index.open_source(SOURCE)).token
        for step in (
            lambda: index.announce(TAG),
            lambda: index.orders(0),
            lambda: index.lease(SOURCE, b"n", "one", 9.0),
            lambda: index.put_failure(SOURCE, token, digest(1), Failure("k", 2**40)),
            lambda: index.add_spellings(SOURCE, ["u"]),
        ):
            fresh.command("SCRIPT", "FLUSH")
            await step()
        assert len((await index.orders(0)).orders) == 1
        assert await index.spellings(SOURCE) == ("u",)
        assert index.stats.failed == 0
        await index.stop()

    asyncio.run(main())


def test_a_user_who_may_neither_publish_nor_ask_for_info(server: RedisServer) -> None:
    async def main() -> None:
        server.command(
            *("ACL", "SETUSER", "halftone", "on", ">geheim", "~halftone:*", "+@all"),
            *("-info", "-publish", "resetchannels"),
        )
        index = redis_index(
            server, budget_s=2.0, url=server.url.replace("//", "//halftone:geheim@")
        )
        await index.start()
        token = (await index.open_source(SOURCE)).token
        assert token.is_older_than((await index.purge(SOURCE)).token)
        seq = await index.announce(TAG)
        assert (await index.orders(0)).head == seq
        assert index._news.connects == 0
        await index.stop()

    asyncio.run(main())


def test_a_lost_log_goes_on_above_what_was_seen_of_it(fresh: RedisServer) -> None:
    """Even where the server that takes over has a clock that is behind."""

    async def main() -> None:
        index = await started(fresh)
        await index.announce(TAG)
        ahead = 2**52
        fresh.command("HSET", "halftone:{orders}:state", "head", str(ahead))
        assert (await index.orders(0)).head == ahead
        fresh.command("FLUSHALL")
        assert await index.announce(TAG) == ahead + 1
        await index.stop()

    asyncio.run(main())


@pytest.mark.parametrize("part", ["state", "wide", "single", "down"])
def test_a_part_of_the_log_that_was_evicted(fresh: RedisServer, part: str) -> None:
    async def main() -> None:
        index = await started(fresh)
        orders = (TAG, SINGLE, Order(Act.TAKE_DOWN, Scope.SOURCE, "site", "/a.jpg"))
        for order in orders:
            head = await index.announce(order)
        before = await index.orders(0)
        fresh.command("DEL", f"halftone:{{orders}}:{part}")
        after = await index.orders(0)
        assert after.epoch != before.epoch
        assert (await index.orders(0)).epoch == after.epoch
        for order in orders:
            assert await index.announce(order) > head
        assert (await index.orders(0)).epoch == after.epoch
        fresh.command("DEL", f"halftone:{{orders}}:{part}")
        await index.announce(TAG)  # who writes first notices it, too
        assert (await index.orders(0)).epoch != after.epoch
        await index.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "value"),
    [("record", "rubbish"), ("record", '2["v"]'), ("record", "2\x80"), ("record", "")],
)
def test_a_record_that_is_none_of_ours(fresh: RedisServer, name: str, value: str) -> None:
    async def main() -> None:
        index = await started(fresh)
        token = (await index.open_source(SOURCE)).token
        fresh.command("SET", key(name), value)
        fresh.command("HSET", key("fails"), digest(1), value)
        assert await index.open_source(SOURCE) == Sight(token, None)
        assert await index.put_source(SOURCE, token, RECORD)
        await index.stop()

    asyncio.run(main())


def test_a_damaged_record_gives_way_to_a_late_one(server: RedisServer) -> None:
    async def main() -> None:
        for damage in ("", "2[", "2[1]", '2{"a":1}', "2null", "2[1,2,3,4,5,null]"):
            index = await started(server)
            token = (await index.open_source(SOURCE)).token
            server.stop()
            with pytest.raises(IndexUnavailable):
                await index.put_source(SOURCE, token, RECORD)
            server.start()
            server.command("SET", key("record"), damage)
            await answering(index, OTHER)
            await until(lambda i=index: i.hints.waiting == 0)
            assert index.hints.told == 1
            await index.stop()

    asyncio.run(main())


# Keys, times, memory


def test_names_of_keys_carry_no_text_of_clients(fresh: RedisServer) -> None:
    async def main() -> None:
        index = await started(fresh)
        source = SourceId("secret site", "/secret path")
        token = (await index.open_source(source)).token
        await index.put_source(source, token, replace(RECORD, tags=("secret tag",)))
        await index.publish(source, token, b"secret digest", 1)
        await index.put_failure(source, token, b"secret", Failure("k", 2**40))
        await index.lease(source, b"secret", "secret owner", 60.0)
        await index.put_parcel(source, b"secret", b"secret", 60.0)
        await index.add_spellings(source, ["secret url"])
        await index.announce(Order(Act.TAKE_DOWN, Scope.SOURCE, source.site, source.path))
        await index.announce(Order(Act.PURGE, Scope.TAG, source.site, "secret tag"))
        found = names(fresh)
        assert len(found) == 13
        assert not [name for name in found if b"secret" in name]
        for name in found:
            ends = int(fresh.command("PTTL", name)[1:])
            assert (ends == -1) == (b"{orders}" in name)
        await index.stop()

    asyncio.run(main())


def test_what_is_asked_for_is_kept_and_stays_listed(fresh: RedisServer) -> None:
    async def main() -> None:
        clock = Clock()
        index = await started(fresh, clock=clock)
        token = (await index.open_source(SOURCE)).token
        await index.put_source(SOURCE, token, replace(RECORD, tags=("dune",)))
        await index.publish(SOURCE, token, digest(1), 1)
        await index.add_spellings(OTHER, ["u"])
        await index.open_source(OTHER)

        async def listed() -> tuple[int, int]:
            by_path = await index.sources_of(Scope.PREFIX, "site", "/", 9)
            return len(by_path), len(await index.sources_of(Scope.TAG, "site", "dune", 9))

        period_s = KEEP_MS / 1000
        clock.now += period_s
        assert await listed() == (2, 1)
        # As if half of the time had passed for Redis, too.
        for source in (SOURCE, OTHER):
            for name in ("gen", "record", "keys", "urls"):
                fresh.command("PEXPIRE", key(name, source), str(KEEP_MS // 2 - 60_000))
        await index.open_source(SOURCE)
        await index.open_source(OTHER)
        await index.open_source(SOURCE)
        await until(lambda: index.hints.told == 2)
        for name in (key("gen"), key("record"), key("keys"), key("urls", OTHER)):
            assert int(fresh.command("PTTL", name)[1:]) > KEEP_MS - 60_000
        clock.now += period_s
        assert await listed() == (2, 1)
        clock.now += period_s
        assert await listed() == (0, 0)
        await index.stop()

    asyncio.run(main())


def test_catalogues_are_bounded_and_what_does_not_fit_is_counted(fresh: RedisServer) -> None:
    async def main() -> None:
        index = await started(fresh, bounds=Bounds(paths=3))
        for number in range(5):
            await index.add_spellings(SourceId("site", f"/{number}"), ["u"])
        await index.add_spellings(SourceId("site", "/0"), ["v"])
        assert len(await index.sources_of(Scope.PREFIX, "site", "/", 9)) == 3
        assert index.catalogue.paths_dropped == 2
        await index.stop()

    asyncio.run(main())


def test_memory_of_an_entry(fresh: RedisServer) -> None:
    async def main() -> None:
        index = await started(fresh, budget_s=10.0)
        record = replace(
            RECORD,
            validator="x" * 16,
            etag='"' + "e" * 22 + '"',
            stale_until=1_795_086_400,
            revalidate_until=1_795_000_700,
            width=4000,
            height=3000,
            seen=1_795_000_000_000,
        )

        async def put(source: SourceId) -> None:
            token = (await index.open_source(source)).token
            await index.put_source(source, token, record)
            for number in range(8):
                await index.publish(source, token, digest(number), 5000)

        sources = [SourceId("site", f"/album/{number}/picture.jpg") for number in range(600)]
        before = 0
        for at in range(0, 600, 100):
            if at == 200:  # connections and their buffers have grown by now
                before = used(fresh)
            await asyncio.gather(*map(put, sources[at : at + 100]))
        per_entry = (used(fresh) - before) / (400 * 8)
        assert per_entry <= MAX_ENTRY_BYTES, per_entry
        await index.stop()

    asyncio.run(main())
