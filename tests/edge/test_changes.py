"""What unsafe methods change: how much it costs, who shares it, and who is told."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from cache.errors import IndexUnavailable
from cache.key import SourceId
from cache.orders import Order
from cache.purge import Outcome
from edge import changes as changes_module
from edge.changes import LOG_S, MAX_SOURCES, MAX_UNDER_WAY, TOLD_S, Changes
from edge.clock import Clock
from edge.downstream import Answers, Downstream
from edge.spellings import Spellings
from tests.edge.shared_bench import BODY, SharedNode, refused, said
from tests.edge.test_record import Answer
from tests.peers.redis import RedisServer

HOUR = "max-age=3600"
SOURCE = SourceId("*", "/a")


@pytest.fixture
def on_node(tmp_path: Path) -> Callable[..., None]:
    def run(
        test: Callable[[SharedNode], Awaitable[None]], server: RedisServer | None = None
    ) -> None:
        async def whole() -> None:
            node = SharedNode(tmp_path, server)
            await node.start()
            try:
                await test(node)
            finally:
                await node.stop()

        asyncio.run(whole())

    return run


def fixed(headers: dict[str, str], status: int = 200) -> Callable[..., Answer]:
    return lambda _: said(status=status, headers=headers)


def count_writes(node: SharedNode) -> list[str]:
    """Durable ones, as they come."""
    found: list[str] = []
    index = node.node.index
    announce, purge = index.announce, index.purge

    async def announce_counted(order: Order) -> int:
        found.append("announce")
        return await announce(order)

    async def purge_counted(source: SourceId) -> object:
        found.append("purge")
        return await purge(source)

    index.announce, index.purge = announce_counted, purge_counted  # type: ignore
    return found


@pytest.fixture(scope="module")
def redis():
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(params=["embedded", "redis"])
def server(request, redis):
    if request.param == "embedded":
        return None
    redis.command("FLUSHALL")
    return redis


@pytest.mark.parametrize("before", [None, "no-store", "private"])
def test_a_thousand_posts_to_what_was_never_stored_cost_no_durable_write(on_node, server, before):
    async def test(node: SharedNode) -> None:
        if before is not None:
            node.origin.say = fixed({"Cache-Control": before})
            await node.ask("/a")
        writes = count_writes(node)
        node.origin.say = fixed({}, 204)
        for _ in range(10):
            await asyncio.gather(*(node.ask("/a", method="POST") for _ in range(100)))
        assert writes == []
        stats = node.changes.stats
        assert (stats.changed, stats.purged, stats.failed, stats.refused) == (1000, 0, 0, 0)
        assert stats.bare + stats.shared == 1000
        assert len(node.changes) == 0

    on_node(test, server)


@pytest.mark.parametrize("vary", ["", "x"])
def test_a_thousand_posts_to_what_is_stored_cost_few(on_node, server, vary):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": HOUR, **({"Vary": vary} if vary else {})})
        await node.ask("/a")
        writes = count_writes(node)
        node.origin.say = fixed({}, 204)
        for _ in range(10):
            await asyncio.gather(*(node.ask("/a", method="POST") for _ in range(100)))
        assert sorted(writes) == ["announce", "purge"]
        stats = node.changes.stats
        assert (stats.purged, stats.failed) == (1, 0)
        assert stats.bare + stats.shared == 999
        # And with one who reads in between.
        for _ in range(10):
            node.origin.say = fixed({"Cache-Control": HOUR})
            asked = len(node.origin.asked)
            assert (await node.ask("/a")).body == BODY
            assert len(node.origin.asked) == asked + 1
            node.origin.say = fixed({}, 204)
            await asyncio.gather(*(node.ask("/a", method="POST") for _ in range(20)))
        assert stats.purged == 11
        assert len(writes) == 22

    on_node(test, server)


@pytest.mark.parametrize("vary", ["", "x"])
@pytest.mark.parametrize("is_stored", [True, False])
def test_what_was_asked_for_before_a_post_is_not_given_to_who_comes_after_it(
    on_node, server, vary, is_stored
):
    """A fill is under way; the POST overtakes it. Nothing old is kept, and nobody joins it."""

    async def test(node: SharedNode) -> None:
        headers = {"Cache-Control": "max-age=10", **({"Vary": vary} if vary else {})}
        version = iter(range(100))
        node.origin.say = lambda _: said(b"version %d" % next(version), headers=headers)
        if is_stored:
            await node.ask("/a")
            node.later(100)
        hold = node.origin.hold = asyncio.Event()
        node.origin.came.clear()
        before = asyncio.create_task(node.ask("/a"))
        await node.origin.came.wait()
        node.origin.hold = None
        posted = await node.ask("/a", method="POST")
        after = asyncio.create_task(node.ask("/a"))
        reply = await asyncio.wait_for(after, 10)
        assert reply.body > posted.body > b"version 0"
        hold.set()
        assert (await before).body < posted.body
        assert (await node.ask("/a")).body == reply.body, "and it is kept"

    on_node(test, server)


@pytest.mark.parametrize("vary", ["", "x"])
def test_a_change_is_heard_of_also_by_files_of_an_index_that_was_lost(on_node, vary):
    """Until then they stand in for an origin that is down; after it nothing of before does."""

    async def test(node: SharedNode) -> None:
        headers = {"Cache-Control": "max-age=10, stale-if-error=1000"}
        headers |= {"Vary": vary} if vary else {}
        node.origin.say = fixed(headers)
        await node.ask("/a")
        await node.node.stop()
        for file in node.node.folder.glob("index.sqlite*"):
            file.unlink()
        node.restart()
        await node.start()
        node.origin.say = fixed({"Cache-Control": "no-store"})
        assert (await node.ask("/a", method="POST")).status == 200
        node.origin.say = refused
        assert (await node.ask("/a")).status == 502

    on_node(test)


def test_two_nodes_know_of_what_the_other_one_has(tmp_path, redis):
    redis.command("FLUSHALL")

    async def test() -> None:
        nodes = [SharedNode(tmp_path / name, redis) for name in ("one", "two")]
        for node in nodes:
            await node.start()
        one, two = nodes
        try:
            version = iter(range(100))

            def say(_: object) -> Answer:
                return said(b"version %d" % next(version), headers=headers)

            headers = {"Cache-Control": HOUR, "Vary": "x"}
            one.origin.say = two.origin.say = say
            for each in nodes:
                await each.ask("/a")
            # One has evicted it; the other one has not.
            for file in one.node.entries():
                name = bytes.fromhex(file.name)
                one.node.disk._unlink(name, None)
                await one.node.index.forget(SOURCE, name)
            await one.ask("/a", method="POST")
            await two.node.follower.catch_up()
            assert (await two.ask("/a")).body == b"version 3"
        finally:
            for node in nodes:
                await node.stop()

    asyncio.run(test())


def test_who_comes_while_a_purge_is_under_way_shares_the_next_one() -> None:
    async def test() -> None:
        purger = Held()
        changes = make(purger)
        first = asyncio.create_task(changes.carry_out(SOURCE))
        await purger.began.acquire()
        others = [asyncio.create_task(changes.carry_out(SOURCE)) for _ in range(50)]
        await asyncio.sleep(0)
        assert (purger.purges, len(changes)) == (1, 1)
        purger.go.release()
        assert await first
        await purger.began.acquire()
        assert not any(task.done() for task in others), "it began before they came"
        purger.go.release()
        assert all(await asyncio.gather(*others))
        assert purger.purges == 2
        stats = changes.stats
        assert (stats.changed, stats.purged, stats.shared) == (51, 2, 49)
        assert len(changes) == 0

    asyncio.run(test())


def test_so_many_are_under_way_and_so_many_wait(caplog) -> None:
    async def test() -> None:
        purger = Held()
        changes = make(purger)
        tasks = [
            asyncio.create_task(changes.carry_out(SourceId("*", f"/{number}")))
            for number in range(MAX_SOURCES)
        ]
        for _ in range(MAX_UNDER_WAY):
            await purger.began.acquire()
        for _ in range(5):
            await asyncio.sleep(0)
        assert purger.purges == MAX_UNDER_WAY
        assert len(changes) == MAX_SOURCES
        with caplog.at_level(logging.ERROR, "halftone.changes"):
            refused = [await changes.carry_out(SourceId("*", f"/more{n}")) for n in range(9)]
        assert not any(refused)
        assert len(caplog.records) == 1
        assert changes.stats.refused == 9
        for _ in range(MAX_SOURCES):
            purger.go.release()
        assert all(await asyncio.gather(*tasks))
        assert purger.most == MAX_UNDER_WAY
        assert len(changes) == 0

    asyncio.run(test())


def test_what_cannot_be_recorded_is_counted_and_said_now_and_then(on_node, caplog):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": HOUR, "Vary": "x"})
        await node.ask("/a")
        node.farm.is_index_down = True
        node.origin.say = fixed({}, 204)
        with caplog.at_level(logging.ERROR, "halftone.changes"):
            for _ in range(30):
                assert (await node.ask("/a", method="POST")).status == 204
            assert len(caplog.records) == 1
            assert "could NOT be recorded: down, for the test" in caplog.text
            node.later(LOG_S)
            await node.ask("/a", method="POST")
        assert len(caplog.records) == 2
        assert "(and 29 more since)" in caplog.text
        stats = node.changes.stats
        assert (stats.failed, stats.refused, stats.changed) == (31, 0, 31)

    on_node(test)


def test_a_bug_is_no_purge_and_wakes_who_waits(caplog) -> None:
    async def test() -> None:
        purger = Held()
        purger.go.release()
        purger.error = ZeroDivisionError("a bug")
        changes = make(purger)
        assert not await changes.carry_out(SOURCE)
        assert len(changes) == 0
        assert changes.stats.failed == 1

    asyncio.run(test())
    assert "could NOT be recorded" in caplog.text


def test_it_goes_on_without_its_caller_and_ends_with_the_node() -> None:
    async def test() -> None:
        purger = Held()
        changes = make(purger)
        gone = asyncio.create_task(changes.carry_out(SOURCE))
        await purger.began.acquire()
        gone.cancel()
        await asyncio.wait({gone})
        purger.go.release()
        other = asyncio.create_task(changes.carry_out(SOURCE))
        await purger.began.acquire()
        assert changes.stats.purged == 1
        await changes.stop(0.0)
        assert not await other
        assert changes.stats.failed == 1
        assert len(changes) == 0

    asyncio.run(test())


class Held:
    """A purger that ends when the test says so."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        self.began = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.purges = 0
        self.running = self.most = 0
        self.is_bare = False
        self.urls = tuple(urls)
        self.error: Exception | None = None

    async def overtake(self, source: SourceId) -> bool:
        return self.is_bare

    async def urls_of(self, source: SourceId) -> tuple[str, ...]:
        return self.urls

    async def carry_out(self, order: Order) -> Outcome:
        self.purges += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self.began.release()
        try:
            await self.go.acquire()
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1
        return Outcome(order, 1, 0, "node", self.urls)


class Front:
    name = "front"

    def __init__(self) -> None:
        self.told: list[str] = []

    async def tell(self, urls: Sequence[str]) -> Answers:
        self.told += urls
        return Answers(told=set(urls))

    def close(self) -> None:
        pass


def make(
    purger: Held, front: Front | None = None, now: Callable[[], float] = lambda: 0.0
) -> Changes:
    downstream = None
    if front is not None:
        downstream = Downstream([front], chance=random.Random(1))
    clock = Clock(now, now)
    return Changes(
        purger=purger,
        is_known=lambda _: False,
        part=lambda _: None,
        clock=clock,
        downstream=downstream,
        has_both_schemes=True,
    )


def test_caches_in_front_are_told_once_of_what_is_not_here_any_more() -> None:
    now = 1000.0

    async def test() -> None:
        nonlocal now
        front, purger = Front(), Held(["http://h/a", "http://h/a?x"])
        changes = make(purger, front, lambda: now)
        purger.go.release()
        assert await changes.carry_out(SOURCE, ["http://h/own"])
        assert set(front.told) == {
            f"{scheme}://h/{name}" for scheme in ("http", "https") for name in ("a", "a?x", "own")
        }
        purger.is_bare = True
        for _ in range(10):
            assert await changes.carry_out(SOURCE, ["http://h/own"])
        assert len(front.told) == 6, "nothing was handed out since"
        now += TOLD_S + 1
        changes._clock.tick()
        assert await changes.carry_out(SOURCE)
        assert len(front.told) == 10
        purger.urls = ()
        assert await changes.carry_out(SourceId("*", "/never"), ["http://h/never"])
        assert len(front.told) == 10, "what was never handed out no cache can have"

    asyncio.run(test())


def test_a_cache_in_front_that_does_not_answer_costs_little(monkeypatch) -> None:
    monkeypatch.setattr(changes_module, "TOLD_WITHIN_S", 0.01)

    class Silent(Front):
        async def tell(self, urls: Sequence[str]) -> Answers:
            await asyncio.Event().wait()
            raise AssertionError

    async def test() -> None:
        purger = Held(["http://h/a"])
        purger.go.release()
        changes = make(purger, Silent())
        assert await asyncio.wait_for(changes.carry_out(SOURCE), 5)
        assert changes._downstream is not None
        await changes._downstream.stop(0)

    asyncio.run(test())


def test_spellings_of_variants_are_written_down_and_told(on_node):
    async def test(node: SharedNode) -> None:
        front = Front()
        spellings = Spellings(node.node.store.add_spellings)
        node.changes._spellings = spellings
        node.changes._downstream = Downstream([front], chance=random.Random(1))
        node.origin.say = fixed({"Cache-Control": HOUR, "Vary": "x"})
        for _ in range(3):
            await node.ask("/a?b=1", {"Host": "one.example"})
        await node.ask("/a?b=1", {"X": "1", "Host": "two.example"})
        node.origin.say = fixed({"Cache-Control": HOUR}, 404)
        await node.ask("/gone")
        assert spellings.stats.noted == 3
        node.origin.say = fixed({"Location": "/gone"}, 303)
        await node.ask("/a?b=1", method="POST")
        assert set(front.told) == {
            *("http://one.example/a?b=1", "http://two.example/a?b=1", "http://h/a?b=1"),
            *("http://h/gone", "http://127.0.0.1/gone"),
        }
        # What is private no cache has, so it is not written down.
        node.origin.say = fixed({"Cache-Control": "private"})
        await node.ask("/own")
        assert spellings.stats.noted == 3

    on_node(test)


def test_an_index_that_fails_is_no_purge(on_node):
    async def test(node: SharedNode) -> None:
        index = node.node.index

        async def fail(*_: object) -> object:
            raise IndexUnavailable("down")

        index.overtake = fail  # type: ignore
        assert not await node.changes.carry_out(SOURCE)
        assert node.changes.stats.failed == 1

    on_node(test)
