"""One suite for all homes of the index, then what is Redis's own and what is SQLite's own.

Redis is a real server, or several. Every test runs in one event loop of its own.
"""

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache.errors import DoesNotFit, IndexUnavailable
from cache.index.causes import Cause
from cache.index.embedded import MAX_URGENT, EmbeddedIndex, _Call
from cache.index.interface import MAX_MEMBERS, Index, Purged, Sight, SourceRecord, Token
from cache.index.redis import RedisIndex
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from tests.contract.homes import (
    FULL_RECORD,
    GENEROUS_S,
    OTHER,
    RECORD,
    SOURCE,
    Clock,
    DelayingProxy,
    Home,
    digest,
    redis_index,
    run,
)
from tests.peers.nobody import as_nobody, nobodys_folder
from tests.peers.redis import RedisServer
from tests.waiting import until

# The contract


def test_a_token_is_made_on_first_sight_and_stays(home: Home) -> None:
    async def test(index: Index) -> None:
        first = (await index.open_source(SOURCE)).token
        assert first.generation == 1_795_000_000_000
        home.clock.now += 100
        assert await index.open_source(SOURCE) == Sight(first, None)

    run(home, test)


def test_a_newer_order_than_the_last_one_applied_raises_the_generation(home: Home) -> None:
    async def test(index: Index) -> None:
        first = await index.open_source(SOURCE, barrier=5, head=7)
        assert first.applied == 7  # nothing of it is older than its first sight
        token = first.token
        await index.put_source(SOURCE, token, RECORD)
        await index.publish(SOURCE, token, digest(1), 1)
        for barrier in (0, 6, 7):
            sight = await index.open_source(SOURCE, barrier=barrier, head=9)
            assert sight == Sight(token, RECORD, 7)
        home.clock.now -= 3600
        raised = await index.open_source(SOURCE, barrier=8, head=9)
        assert raised == Sight(raised.token, None, 9)
        assert token.is_older_than(raised.token)
        assert await index.members(SOURCE) == ()
        assert not await index.publish(SOURCE, token, digest(1), 1)
        assert not await index.put_source(SOURCE, token, RECORD)
        assert await index.publish(SOURCE, raised.token, digest(1), 1)
        assert await index.open_source(SOURCE, barrier=9) == raised
        purged = await index.purge(SOURCE)
        assert raised.token.is_older_than(purged.token)
        assert await index.open_source(SOURCE, barrier=9, head=12) == Sight(purged.token, None, 9)

    run(home, test)


@pytest.mark.parametrize("order", [10**14, 10**15 + 1, 2**53 - 1])
def test_orders_keep_every_digit(home: Home, order: int) -> None:
    async def test(index: Index) -> None:
        assert (await index.open_source(SOURCE, head=order - 1)).applied == order - 1
        token = (await index.open_source(SOURCE, barrier=order - 1)).token
        sight = await index.open_source(SOURCE, barrier=order)
        assert sight.applied == order
        assert token.is_older_than(sight.token)

    run(home, test)


@pytest.mark.parametrize("record", [RECORD, FULL_RECORD])
def test_a_record_round_trips(home: Home, record: SourceRecord) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        assert await index.put_source(SOURCE, token, record)
        assert await index.open_source(SOURCE) == Sight(token, record)
        assert (await index.open_source(OTHER)).record is None

    run(home, test)


def test_a_record_that_is_too_long_does_not_fit(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        with pytest.raises(DoesNotFit):
            await index.put_source(SOURCE, token, SourceRecord("v" * 20_000, "", "", 0, 0, 0, 0))

    run(home, test)


def test_purge_answers_the_members_and_raises_the_generation(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        other = (await index.open_source(OTHER)).token
        await index.put_source(SOURCE, token, RECORD)
        for number in (1, 2, 2):
            assert await index.publish(SOURCE, token, digest(number), 5000)
        await index.publish(OTHER, other, digest(9), 5000)
        purged = await index.purge(SOURCE)
        assert set(purged.digests) == {digest(1), digest(2)}
        assert len(purged.digests) == 2
        assert purged.token.epoch == token.epoch
        assert purged.token.generation > token.generation
        assert await index.open_source(SOURCE) == Sight(purged.token, None)
        assert await index.members(SOURCE) == ()
        assert (await index.open_source(OTHER)).token == other
        assert await index.members(OTHER) == (digest(9),)

    run(home, test)


def test_nothing_is_published_under_an_old_token(home: Home) -> None:
    async def test(index: Index) -> None:
        old = (await index.open_source(SOURCE)).token
        new = (await index.purge(SOURCE)).token
        assert not await index.publish(SOURCE, old, digest(1), 5000)
        assert not await index.put_source(SOURCE, old, RECORD)
        assert await index.members(SOURCE) == ()
        assert await index.open_source(SOURCE) == Sight(new, None)
        assert await index.publish(SOURCE, new, digest(1), 5000)
        assert await index.put_source(SOURCE, new, RECORD)

    run(home, test)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda token: Token("f" * 16, token.generation),
        lambda token: Token(token.epoch, token.generation + 1),
        lambda token: Token(token.epoch, token.generation - 1),
        lambda token: Token(token.epoch, 0),
    ],
)
def test_nor_under_a_wrong_one(home: Home, wrong: Callable[[Token], Token]) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        assert not await index.publish(SOURCE, wrong(token), digest(1), 5000)
        assert not await index.put_source(SOURCE, wrong(token), RECORD)

    run(home, test)


def test_nor_for_a_source_that_was_never_seen(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(OTHER)).token
        assert not await index.publish(SOURCE, token, digest(1), 5000)
        assert not await index.publish(SOURCE, Token(token.epoch, 0), digest(1), 5000)
        assert not await index.put_source(SOURCE, token, RECORD)
        assert await index.members(SOURCE) == ()
        await index.forget(SOURCE, digest(1))

    run(home, test)


def test_purge_of_a_source_that_was_never_seen(home: Home) -> None:
    async def test(index: Index) -> None:
        purged = await index.purge(SOURCE)
        assert purged.digests == ()
        assert (await index.open_source(SOURCE)).token == purged.token

    run(home, test)


def test_forget(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        await index.publish(SOURCE, token, digest(1), 1)
        await index.publish(SOURCE, token, digest(2), 1)
        await index.forget(SOURCE, digest(1))
        await index.forget(SOURCE, digest(1))
        await index.forget(SOURCE, b"unknown")
        assert await index.members(SOURCE) == (digest(2),)
        assert (await index.open_source(SOURCE)).token == token

    run(home, test)


def test_members_are_bounded_and_publishing_goes_on(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for number in range(MAX_MEMBERS + 10):
            assert await index.publish(SOURCE, token, digest(number), 1)
        assert await index.publish(SOURCE, token, digest(0), 2)
        expected = {digest(number) for number in range(MAX_MEMBERS)}
        assert set(await index.members(SOURCE)) == expected
        assert len((await index.purge(SOURCE)).digests) == MAX_MEMBERS

    run(home, test)


@pytest.mark.parametrize("step_s", [0.0, 0.0004, 5.0, -3600.0])
def test_the_generation_only_grows_whatever_the_clock_does(home: Home, step_s: float) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for _ in range(5):
            home.clock.now += step_s
            purged = await index.purge(SOURCE)
            assert purged.token.generation > token.generation
            token = purged.token
            assert (await index.open_source(SOURCE)).token == token

    run(home, test)


@pytest.mark.parametrize("now_ms", [5, 10**14 - 1, 10**14, 10**15, 10**15 + 1, 2**53 - 3])
def test_generations_keep_every_digit(home: Home, now_ms: int) -> None:
    """Lua would print 15 digits and more in exponent form, and round the 17th."""
    home.clock.now = 0.0

    async def test(index: Index) -> None:
        assert (await index.open_source(SOURCE)).token.generation in (0, 1)
        home.clock.now = now_ms / 1000
        expected = int(home.clock.now * 1000) | 1  # odd: purged since the epoch began
        first = await index.purge(SOURCE)
        assert first.token.generation == expected
        second = await index.purge(SOURCE)
        assert second.token.generation == expected + 2
        assert await index.publish(SOURCE, second.token, digest(1), 1)
        assert not await index.publish(SOURCE, first.token, digest(1), 1)

    run(home, test)


@pytest.mark.parametrize(
    "source",
    [
        SourceId("", ""),
        SourceId("site", "/ä/日本語/😀.jpg"),
        SourceId("site", "/" + "x" * 8000),
        SourceId("site}", "/{a}{b}:gen"),
        SourceId("si te\r\nFLUSHALL\r\n", "/a'; DROP TABLE source; --\0\n*?[]"),
    ],
)
def test_hostile_names_are_names(home: Home, source: SourceId) -> None:
    async def test(index: Index) -> None:
        keep = (await index.open_source(SOURCE)).token
        token = (await index.open_source(source)).token
        assert await index.put_source(source, token, RECORD)
        assert await index.publish(source, token, digest(1), 1)
        assert (await index.open_source(source)).record == RECORD
        assert (await index.purge(source)).digests == (digest(1),)
        assert await index.open_source(SOURCE) == Sight(keep, None)

    run(home, test)


def test_parts_of_a_name_cannot_change_places(home: Home) -> None:
    async def test(index: Index) -> None:
        names = [SourceId("ab", "c"), SourceId("a", "bc"), SourceId("abc", ""), SourceId("", "abc")]
        for number, source in enumerate(names):
            sight = await index.open_source(source)
            assert sight.record is None
            await index.put_source(
                source, sight.token, SourceRecord(str(number), "", "", 0, 0, 0, 0)
            )
        for number, source in enumerate(names):
            assert (await index.open_source(source)).record.validator == str(number)

    run(home, test)


def test_a_flush_changes_the_epoch_and_old_tokens_publish_nothing(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            old = (await index.open_source(SOURCE)).token
            await index.put_source(SOURCE, old, RECORD)
            if home.server is not None:
                home.flush()
                assert not await index.publish(SOURCE, old, digest(1), 1)
        home.flush()
        async with home.open() as index:
            new = (await index.open_source(SOURCE)).token
            assert await index.open_source(SOURCE) == Sight(new, None)
            assert new.epoch != old.epoch
            assert not await index.publish(SOURCE, old, digest(1), 1)
            assert not await index.put_source(SOURCE, old, RECORD)
            assert await index.publish(SOURCE, new, digest(1), 1)

    asyncio.run(main())


def test_a_restart_keeps_everything(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            await index.open_source(SOURCE)
            token = (await index.purge(SOURCE)).token
            await index.put_source(SOURCE, token, RECORD)
            await index.publish(SOURCE, token, digest(1), 1)
        async with home.open() as index:
            assert await index.open_source(SOURCE) == Sight(token, RECORD)
            assert await index.members(SOURCE) == (digest(1),)

    asyncio.run(main())


def test_concurrent_fills_and_purges(home: Home) -> None:
    """Whoever published under a token is either in the purge's answer or was refused."""

    async def test(index: Index) -> None:
        published: dict[Token, set[bytes]] = {}
        purged: list[Purged] = []

        async def fill(number: int) -> None:
            token = (await index.open_source(SOURCE)).token
            await asyncio.sleep(0)
            if await index.publish(SOURCE, token, digest(number), 1):
                published.setdefault(token, set()).add(digest(number))

        async def purge() -> None:
            purged.append(await index.purge(SOURCE))

        steps = [fill(number) for number in range(60)] + [purge() for _ in range(12)]
        random.Random(3).shuffle(steps)
        await asyncio.gather(*steps)
        generations = [one.token.generation for one in purged]
        assert len(set(generations)) == len(generations)
        listed = [set(one.digests) for one in purged] + [set(await index.members(SOURCE))]
        assert sorted(map(sorted, filter(None, listed))) == sorted(map(sorted, published.values()))

    run(home, test)


def test_calls_outside_start_and_stop_are_refused(home: Home) -> None:
    async def main() -> None:
        index = home.make()
        with pytest.raises(IndexUnavailable):
            await index.open_source(SOURCE)
        await index.start()
        await index.open_source(SOURCE)
        await index.stop()
        await index.stop()
        with pytest.raises(IndexUnavailable):
            await index.purge(SOURCE)

    asyncio.run(main())


def test_a_caller_that_leaves_does_not_disturb_the_others(home: Home) -> None:
    async def test(index: Index) -> None:
        sources = [SourceId("site", f"/{number}") for number in range(200)]
        tokens = {}
        for source in sources:
            tokens[source] = (await index.open_source(source)).token
            record = SourceRecord(source.path, "", "", 0, 0, 0, 0)
            await index.put_source(source, tokens[source], record)
        order = random.Random(5)
        for _ in range(10):
            leaving = [asyncio.create_task(index.open_source(s)) for s in order.sample(sources, 8)]
            for _ in range(order.randrange(6)):
                await asyncio.sleep(0)
            for task in leaving:
                task.cancel()
            asked = order.sample(sources, 20)
            answers = await asyncio.gather(*(index.open_source(source) for source in asked))
            for source, sight in zip(asked, answers, strict=True):
                assert (sight.token, sight.record.validator) == (tokens[source], source.path)
            await asyncio.gather(*leaving, return_exceptions=True)

    run(home, test)


# Redis


def test_all_keys_of_a_source_share_one_slot_and_carry_no_name(home: Home) -> None:
    if home.server is None:
        return

    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        await index.put_source(SOURCE, token, RECORD)
        await index.publish(SOURCE, token, digest(1), 1)
        reply = home.server.command("KEYS", "*")
        keys = [line for line in reply.split(b"\r\n") if line.startswith(b"halftone:")]
        tag = b"{%s}" % SOURCE.digest.hex().encode()
        assert sorted(keys) == [b"halftone:%s:%s" % (tag, n) for n in (b"gen", b"keys", b"record")]
        for key in keys:
            assert home.server.command("PTTL", key) > b":2000000000"

    run(home, test)


@pytest.mark.parametrize("how", ["url", "unix"])
def test_redis_by_address_and_by_socket(server: RedisServer, how: str) -> None:
    async def main() -> None:
        url = server.url if how == "url" else server.unix_url
        index = redis_index(server, budget_s=2.0, url=url)
        await index.start()
        await index.open_source(SOURCE)
        await index.stop()

    asyncio.run(main())


def test_a_password_in_the_address(server: RedisServer) -> None:
    async def main() -> None:
        server.command("CONFIG", "SET", "requirepass", "geheim")
        index = redis_index(server, budget_s=2.0)
        await index.start()
        with pytest.raises(IndexUnavailable):
            await index.open_source(SOURCE)
        await index.stop()
        url = server.url.replace("//", "//:geheim@")
        index = redis_index(server, budget_s=2.0, url=url)
        await index.start()
        await index.open_source(SOURCE)
        await index.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    [
        *("http://a", "", "redis://a:port:geheim/x", "redis+sentinel://:geheim@a:1"),
        *("redis+sentinel://:geheim@a/m/x", "redis+sentinel://a/m?password=geheim"),
        *("redis+cluster://:geheim@a:1/1", "redis+cluster://:geheim@", "redis+cluster://a:geheim"),
    ],
)
def test_addresses_that_can_never_work(url: str) -> None:
    async def main() -> None:
        index = RedisIndex(url, clock=Clock(), monotonic=Clock(), random=random.Random())
        with pytest.raises(IndexUnavailable) as caught:
            await index.start()
        assert "geheim" not in str(caught.value)

    asyncio.run(main())


def test_forgotten_scripts_are_sent_again(server: RedisServer) -> None:
    async def main() -> None:
        index = redis_index(server, budget_s=2.0)
        await index.start()
        token = (await index.open_source(SOURCE)).token
        server.command("SCRIPT", "FLUSH")
        assert await index.publish(SOURCE, token, digest(1), 1)
        server.command("SCRIPT", "FLUSH")
        assert (await index.purge(SOURCE)).digests == (digest(1),)
        await index.stop()
        assert index.stats.failed == 0

    asyncio.run(main())


@pytest.mark.parametrize("value", ["", "rubbish", "0123:5", f"{'f' * 16}:-1", f"{'f' * 16}:1e15"])
def test_a_token_that_is_none_of_ours(server: RedisServer, value: str) -> None:
    async def main() -> None:
        index = redis_index(server, budget_s=2.0)
        await index.start()
        server.command("SET", f"halftone:{{{SOURCE.digest.hex()}}}:gen", value)
        with pytest.raises(IndexUnavailable):
            await index.open_source(SOURCE)
        purged = await index.purge(SOURCE)  # puts it right
        assert await index.open_source(SOURCE) == Sight(purged.token, None)
        await index.stop()

    asyncio.run(main())


def test_a_stopped_server_opens_the_breaker_and_a_probe_closes_it(server: RedisServer) -> None:
    async def main() -> None:
        index = redis_index(server, budget_s=1.0)
        await index.start()
        token = (await index.open_source(SOURCE)).token
        server.stop()
        for _ in range(5):
            assert not index.is_degraded
            with pytest.raises(IndexUnavailable):
                await index.open_source(SOURCE)
        assert index.is_degraded
        failed = index.stats.failed
        for _ in range(20):
            with pytest.raises(IndexUnavailable):
                await index.purge(SOURCE)
        assert index.stats.failed == failed  # refused without a connection
        server.start()
        index.link.monotonic.now += 2
        assert (await index.open_source(SOURCE)).token == token
        assert not index.is_degraded
        stats = index.stats
        assert stats.calls == stats.answered + stats.failed + stats.refused
        await index.stop()

    asyncio.run(main())


def test_a_frozen_server_is_given_up_within_the_budget(server: RedisServer) -> None:
    async def main() -> None:
        index = redis_index(server)
        await index.start()
        for _ in range(100):
            try:
                token = (await index.open_source(SOURCE)).token
                break
            except IndexUnavailable:  # the machine is busy; not what is tested
                index.link.monotonic.now += 2
        server.pause()
        for _ in range(5):
            with pytest.raises(IndexUnavailable):
                await index.open_source(SOURCE)
        stats = index.stats
        await until(lambda: stats.calls <= stats.answered + stats.failed + stats.refused)
        assert index.is_degraded
        assert index.link.idle == 0  # every connection with a reply still to come is gone
        server.resume()
        for _ in range(100):
            index.link.monotonic.now += 2
            try:
                answer = await index.open_source(SOURCE)
                break
            except IndexUnavailable:
                pass
        assert answer == Sight(token, None)
        await index.stop()

    asyncio.run(main())


def test_a_late_reply_never_answers_another_question(server: RedisServer) -> None:
    async def main() -> None:
        proxy = DelayingProxy(server.port)
        port = await proxy.start()
        direct = redis_index(server, budget_s=5.0)
        await direct.start()
        sources = [SourceId("site", f"/{number}") for number in range(500)]

        async def put(source: SourceId) -> None:
            token = (await direct.open_source(source)).token
            record = SourceRecord(source.path, "", "", 0, 0, 0, 0)
            assert await direct.put_source(source, token, record)

        for at in range(0, 500, 100):
            await asyncio.gather(*map(put, sources[at : at + 100]))

        index = redis_index(server, budget_s=0.3, url=f"redis://127.0.0.1:{port}/0")
        await index.start()
        await index.open_source(sources[0])
        await until(lambda: index._news.connects == 1)  # or its reply would be the one that is held
        proxy.hold_next = True
        late = asyncio.create_task(index.open_source(sources[1]))
        await proxy.held.wait()
        with pytest.raises(IndexUnavailable):
            await late
        proxy.release.set()
        order = random.Random(11)
        answered = 0
        for _ in range(100):
            asked = order.choices(sources, k=100)
            answers = await asyncio.gather(*map(index.open_source, asked), return_exceptions=True)
            for source, answer in zip(asked, answers, strict=True):
                if isinstance(answer, IndexUnavailable):
                    index.link.monotonic.now += 2
                    continue
                assert answer.record.validator == source.path
                answered += 1
        assert answered > 9_000
        await index.stop()
        await direct.stop()
        await proxy.stop()

    asyncio.run(main())


# SQLite


def _embedded(path: Path, budget_s: float = GENEROUS_S, **settings: object) -> EmbeddedIndex:
    return EmbeddedIndex(
        str(path), clock=Clock(), random=random.Random(), budget_s=budget_s, **settings
    )


@pytest.mark.parametrize("damage", ["not a database", "random pages"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.sqlite"

    async def fill() -> str:
        index = _embedded(path)
        await index.start()
        for number in range(500):
            token = (await index.open_source(SourceId("site", f"/{number}"))).token
        await index.stop()
        return token.epoch

    async def after() -> str:
        index = _embedded(path)
        await index.start()
        for number in range(500):
            source = SourceId("site", f"/{number}")
            try:
                token = (await index.open_source(source)).token
            except IndexUnavailable:
                # once damaged, then a new file
                token = (await index.open_source(source)).token
        assert await index.publish(source, token, digest(1), 1)
        assert index.database.rebuilt == 1
        await index.stop()
        return token.epoch

    old = asyncio.run(fill())
    raw = bytearray(path.read_bytes())
    if damage == "not a database":
        raw[:100] = b"x" * 100
    else:
        raw[4096:] = random.Random(1).randbytes(len(raw) - 4096)
    path.write_bytes(raw)
    assert asyncio.run(after()) != old
    assert len(list(tmp_path.glob("index.sqlite.corrupt-*"))) == 1


def test_a_second_opener_is_kept_out_and_gets_in_later(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"

    async def main() -> None:
        first, second = _embedded(path), _embedded(path)
        await first.start()
        token = (await first.open_source(SOURCE)).token
        await second.start()
        with pytest.raises(IndexUnavailable):
            await second.open_source(SOURCE)
        await first.stop()
        second.database._reopen_at = 0.0
        assert (await second.open_source(SOURCE)).token == token
        await second.stop()

    asyncio.run(main())


def test_sources_are_bounded_and_dropped_ones_never_get_an_old_token(tmp_path: Path) -> None:
    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite", max_sources=1000)
        await index.start()
        token = (await index.open_source(SOURCE)).token
        for _ in range(3):
            token = (await index.purge(SOURCE)).token
        for number in range(2500):
            await index.open_source(SourceId("site", f"/{number}"))
        again = (await index.open_source(SOURCE)).token
        assert again.generation > token.generation  # the clock stood still
        await index.stop()
        db = sqlite3.connect(tmp_path / "index.sqlite")
        assert db.execute("SELECT count(*) FROM source").fetchone()[0] <= 1001
        db.close()

    asyncio.run(main())


def test_a_thread_that_may_block_publishes_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite")
        assert index.publish_now(SOURCE, Token("0" * 16, 1), digest(0), 1) is None
        await index.start()
        try:
            token = (await index.open_source(SOURCE)).token
            others = ("f" * 16, token.generation), (token.epoch, token.generation + 2)

            def publish() -> None:
                for number in range(MAX_MEMBERS + 5):
                    assert index.publish_now(SOURCE, token, digest(number), 1) is True
                assert index.publish_now(SOURCE, token, digest(0), 2) is True  # once more
                for other in others:
                    assert index.publish_now(SOURCE, Token(*other), digest(9), 1) is False
                unseen = SourceId("site", "/unseen")
                assert index.publish_now(unseen, token, digest(9), 1) is False

            await asyncio.to_thread(publish)
            assert await index.publish(SOURCE, token, digest(1), 1)
            assert set(await index.members(SOURCE)) == {digest(n) for n in range(MAX_MEMBERS)}
            await index.purge(SOURCE)
            assert index.publish_now(SOURCE, token, digest(0), 1) is False
            assert await index.members(SOURCE) == ()
            waiting = asyncio.ensure_future(index.members(SOURCE))
            await asyncio.sleep(0)  # it is in line, and comes first
            assert index.publish_now(SOURCE, token, digest(0), 1) is None
            await waiting
            with index._using:  # a transaction is under way
                assert index.publish_now(SOURCE, token, digest(0), 1) is None
            stats = index.stats
            assert stats.calls == stats.answered
        finally:
            await index.stop()
        assert index.publish_now(SOURCE, token, digest(0), 1) is None

    asyncio.run(main())


def test_a_thread_and_the_loop_publish_and_purge_at_once(tmp_path: Path) -> None:
    """Whatever was recorded under a token is gone with the purge that raised it."""

    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite")
        await index.start()
        try:
            for turn in range(30):
                token = (await index.open_source(SOURCE)).token

                def publish(token: Token = token) -> None:
                    for number in range(20):
                        index.publish_now(SOURCE, token, digest(number), 1)

                publishing = [asyncio.ensure_future(asyncio.to_thread(publish)) for _ in range(3)]
                for number in range(turn % 7):
                    await index.publish(SOURCE, token, digest(number), 1)
                purged = await index.purge(SOURCE)
                await asyncio.gather(*publishing)
                assert purged.token.generation > token.generation
                assert await index.members(SOURCE) == ()
            assert index.stats.calls == index.stats.answered
        finally:
            await index.stop()

    asyncio.run(main())


def test_a_full_queue_refuses_and_counts(tmp_path: Path) -> None:
    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite", budget_s=30.0)
        await index.start()
        answers = await asyncio.gather(
            *(index.open_source(SourceId("s", f"/{n}")) for n in range(6_000)),
            return_exceptions=True,
        )
        stats = index.stats
        assert sum(isinstance(a, IndexUnavailable) for a in answers) == stats.refused
        assert stats.calls == 6_000 == stats.answered + stats.refused
        assert index.database.commits < stats.answered
        await index.stop()

    asyncio.run(main())


async def _held(index: EmbeddedIndex) -> threading.Event:
    """The thread is in the middle of a batch until the event is set."""
    go_on = threading.Event()
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    index._waiting += 1
    index._queue.put(_Call(lambda: go_on.wait(30), future, is_durable=False))
    await until(index._queue.empty)
    return go_on


def test_a_purge_goes_ahead_of_what_waits_and_does_not_starve_it(tmp_path: Path) -> None:
    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite", budget_s=30.0)
        await index.start()
        db, done = index.database, list[str]()
        transact, batches = db.transact, list[tuple[int, bool]]()

        def counted(steps: Callable[[], None], *, is_durable: bool) -> None:
            before = len(done)
            transact(steps, is_durable=is_durable)
            batches.append((len(done) - before, is_durable))

        def told(name: str, step: Callable[..., object]) -> Callable[..., object]:
            return lambda *args: (done.append(name), step(*args))[1]

        db.transact = counted
        for name in ("open_source", "purge", "announce"):
            setattr(db, name, told(name, getattr(db, name)))
        go_on = await _held(index)
        sources = [SourceId("site", f"/{number}") for number in range(250)]
        calls = [asyncio.create_task(index.open_source(source)) for source in sources]
        calls += [asyncio.create_task(index.purge(source)) for source in sources]
        await until(lambda: index.stats.calls == 500)
        go_on.set()
        await asyncio.gather(*calls)
        order = Order(Act.PURGE, Scope.SOURCE, "site", "/1")
        await index.announce(order)  # no sync of its own
        await index.announce(replace(order, act=Act.TAKE_DOWN))
        await index.announce(replace(order, act=Act.SOFTEN))
        assert batches == [
            (0, False),
            *((100, True), (100, False), (100, True), (100, False), (50, True), (50, False)),
            *((1, False), (1, True), (1, True)),
        ]
        assert done[:101] == 100 * ["purge"] + ["open_source"]
        go_on = await _held(index)
        calls = [asyncio.create_task(index.purge(source)) for source in sources]
        await until(lambda: index._queue.qsize() == len(sources))
        go_on.set()
        await asyncio.gather(*calls)  # all of them, though no word of them is left after a batch
        await index.stop()

    asyncio.run(main())


def test_too_many_purges_are_refused_and_what_waits_at_the_end_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        index = _embedded(tmp_path / "index.sqlite", budget_s=30.0)
        await index.start()
        go_on = await _held(index)
        calls = [asyncio.create_task(index.purge(SOURCE)) for _ in range(MAX_URGENT + 10)]
        await until(lambda: index.stats.refused == 10)
        stopping = asyncio.create_task(index.stop())
        await until(lambda: index._thread is None)
        go_on.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await stopping
        purged = [one.token.generation for one in answers if isinstance(one, Purged)]
        assert len(set(purged)) == MAX_URGENT
        assert index.stats.answered == MAX_URGENT + 1  # what was held, too

    asyncio.run(main())


def test_a_second_opener_is_told_and_finds_it_when_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node with the cache folder of another one serves, and says that it cannot purge."""

    async def main() -> None:
        first, second = _embedded(tmp_path / "index"), _embedded(tmp_path / "index")
        await first.start()
        await first.open_source(SOURCE)
        await second.start()
        for _ in range(3):
            with pytest.raises(IndexUnavailable):
                await second.open_source(SOURCE)
        assert (second.is_degraded, second.times_degraded) == (True, 1)
        assert second.stats.causes[Cause.IN_USE] >= 1
        assert (first.is_degraded, first.times_degraded) == (False, 0)
        await first.stop()
        async with asyncio.timeout(10):
            while second.is_degraded:
                await second.probe()
                await asyncio.sleep(0.01)
        await second.open_source(SOURCE)
        await second.stop()

    asyncio.run(main())
    messages = [record.getMessage() for record in caplog.records]
    assert (
        sum("cannot be opened: database is locked (does another node" in m for m in messages) == 1
    )
    assert sum("can be opened again" in m for m in messages) == 1


PURGE_AND_DIE = """
import asyncio, os, random, signal, sys
from cache.index.embedded import EmbeddedIndex
from cache.key import SourceId

async def main():
    index = EmbeddedIndex(sys.argv[1], clock=lambda: 1795000000.0, random=random.Random())
    await index.start()
    for _ in range(3):
        purged = await index.purge(SourceId("site", "/a.jpg"))
    print(purged.token.epoch, purged.token.generation, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_an_answered_purge_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", PURGE_AND_DIE, str(path)], cwd=root, capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    epoch, generation = ended.stdout.split()

    async def main() -> None:
        index = _embedded(path)
        await index.start()
        assert (await index.open_source(SOURCE)).token == Token(epoch, int(generation))
        await index.stop()

    asyncio.run(main())


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(IndexUnavailable):
            await _embedded(tmp_path).start()
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(IndexUnavailable):
            await _embedded(tmp_path / "file" / "index.sqlite").start()

    asyncio.run(main())


def test_a_read_only_folder_is_unavailable_and_not_fatal() -> None:
    async def main(folder: Path) -> None:
        index = _embedded(folder / "index.sqlite")
        await index.start()
        with pytest.raises(IndexUnavailable):
            await index.open_source(SOURCE)
        await index.stop()

    with nobodys_folder() as folder:
        folder.chmod(0o500)
        with as_nobody():
            asyncio.run(main(folder))
