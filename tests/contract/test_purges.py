"""Purges of every kind through store, follower and purger, over both homes of the index."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.disk import Disk
from cache.entry import Entry
from cache.errors import IndexUnavailable, StaleToken
from cache.follow import TRUST_S, Follower
from cache.index.interface import SETTLE_MS, Index, SourceRecord
from cache.journal import Journal
from cache.key import Key, SourceId
from cache.orders import Act, Order, Orders, Scope
from cache.purge import Purger
from cache.store import Opened, Store, soft
from tests.contract.homes import Home
from tests.peers.redis import RedisServer
from tests.waiting import until

CAT = SourceId("site", "/pets/cat.jpg")
DOG = SourceId("site", "/pets/dog.jpg")
CAR = SourceId("site", "/cars/car.jpg")
RECORD = SourceRecord("v1", '"v1"', "image/jpeg", 4, 0, 1_795_000_000, 1_795_003_600, 1_795_007_200)


class Farmer:
    """One node of a farm: everything of cache that a purge passes through."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.now = 100.0  # monotonic
        self.index: Index = home.make()
        self.orders = Orders()
        disk = Disk(str(folder / "cache"), 10_000_000, 1000)
        self.store = Store(disk, self.index, home.clock, 2, orders=self.orders)
        self.journal = Journal(str(folder / "journal"), home.clock)
        self.follower = Follower(
            self.index, self.store, self.orders, self.journal, monotonic=lambda: self.now
        )
        self.store.follows = self.follower.is_current
        self.purger = Purger(self.index, self.store, self.follower)
        self.obeyed: list[Order] = []
        self.forgot = 0
        self.follower.obey = self._obey
        self.follower.forget = self._forget

    async def _obey(self, order: Order) -> None:
        self.obeyed.append(order)

    async def _forget(self) -> None:
        self.forgot += 1

    async def start(self) -> None:
        await self.store.start()
        await self.follower.start()

    async def stop(self) -> None:
        await self.follower.stop()
        await self.store.stop()

    async def fill(
        self,
        source: SourceId,
        tags: tuple[str, ...] = (),
        body: bytes = b"body",
        opened: Opened | None = None,
    ) -> None:
        """Store a record and a derivative, as from an origin that was asked just now."""
        opened = opened or await self.store.open_source(source)
        record = dataclasses.replace(RECORD, tags=tags, seen=opened.seen)
        await self.store.put_source(source, opened.token, record)
        entry = Entry(
            Key(source, "w=1"), opened.token, "v1", length=len(body), tags=tags, seen=opened.seen
        )
        with await self.store.reserve(entry, len(body)) as fill:
            fill.write(body)
            (await self.store.commit(fill, entry)).close()

    async def has(self, source: SourceId) -> bool:
        """Whether a request would find it now."""
        opened = self.store.opened_now(source) or await self.store.open_source(source)
        found = await self.store.lookup(Key(source, "w=1"), opened.current, None, opened.applied)
        if found is None:
            return False
        found.close()
        return True

    async def purge(self, scope: Scope, value: str, act: Act = Act.PURGE) -> int:
        return (await self.purger.carry_out(Order(act, scope, "site", value))).entries


@asynccontextmanager
async def farmer(home: Home, folder: Path) -> AsyncIterator[Farmer]:
    folder.mkdir(exist_ok=True)
    made = Farmer(home, folder)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def run(home: Home, folder: Path, test: Callable[[Farmer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with farmer(home, folder / "one") as one:
            await test(one)

    asyncio.run(main())


@pytest.fixture
def shared_home(shared_server: RedisServer, tmp_path: Path) -> Home:
    """One that several nodes may share."""
    shared_server.command("FLUSHALL")
    return Home("redis", tmp_path, shared_server)


def run_two(home: Home, folder: Path, test: Callable[[Farmer, Farmer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with farmer(home, folder / "one") as one, farmer(home, folder / "two") as two:
            await test(one, two)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("scope", "value", "gone"),
    [
        (Scope.SOURCE, CAT.path, {CAT}),
        (Scope.PREFIX, "/pets/", {CAT, DOG}),
        (Scope.PREFIX, "/", {CAT, DOG, CAR}),
        (Scope.TAG, "red", {CAT, CAR}),
        (Scope.TAG, "green", set()),
        (Scope.SOURCE, "/nothing.jpg", set()),
    ],
)
def test_what_a_purge_takes(
    home: Home, tmp_path: Path, scope: Scope, value: str, gone: set[SourceId]
) -> None:
    tags = {CAT: ("red", "fur"), DOG: ("fur",), CAR: ("red",)}

    async def test(one: Farmer) -> None:
        for source, its in tags.items():
            await one.fill(source, its)
        preview = await one.purger.preview(Order(Act.PURGE, scope, "site", value))
        for source in tags:
            assert await one.has(source), "a preview changes nothing"
        outcome = await one.purger.carry_out(Order(Act.PURGE, scope, "site", value))
        assert one.obeyed == [outcome.order]
        assert outcome.order.seq > 0
        if scope is not Scope.PREFIX:  # sources without URLs to tell are found by tag only
            assert outcome.entries == preview.entries == len(gone)
        for source in tags:
            assert await one.has(source) is (source not in gone), source
            await one.fill(source, tags[source])
            assert await one.has(source), "what is filled since then stays"

    run(home, tmp_path, test)


def test_an_order_is_obeyed_though_its_caller_leaves(home: Home, tmp_path: Path) -> None:
    """At whatever step; and who asks for what was recorded waits until it is obeyed."""

    async def test(one: Farmer) -> None:
        for turns in range(8):
            caller = asyncio.ensure_future(one.purge(Scope.TAG, f"red{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
        walked = asyncio.Event()

        async def walk(order: Order) -> None:
            await walked.wait()
            one.obeyed.append(order)

        one.follower.obey = walk
        others = [asyncio.ensure_future(one.purge(Scope.TAG, f"blue{n}")) for n in range(3)]
        # None waits until another one has been obeyed.
        await until(lambda: one.follower.kept >= 7 + 3)
        asking = asyncio.ensure_future(one.follower.catch_up())
        await asyncio.wait([asking], timeout=0.05)
        assert not asking.done()
        walked.set()
        await asyncio.gather(asking, *others)
        assert {order.value for order in one.obeyed} == {
            *(f"red{n}" for n in range(1, 8)),
            *(f"blue{n}" for n in range(3)),
        }

    run(home, tmp_path, test)


@pytest.mark.parametrize(("scope", "value"), [(Scope.TAG, "red"), (Scope.PREFIX, "/pets/")])
@pytest.mark.parametrize("failing", ["sources_of", "survey"])
def test_a_pattern_holds_though_what_it_concerns_cannot_be_listed(
    home: Home, tmp_path: Path, scope: Scope, value: str, failing: str
) -> None:
    async def test(one: Farmer) -> None:
        await one.fill(CAT, ("red",))
        await one.store.add_spellings(CAT, ["http://h/cat.jpg"])

        async def fail(*_: object) -> None:
            raise IndexUnavailable("too slow, for the test")

        setattr(one.index, failing, fail)
        with pytest.raises(IndexUnavailable):  # the caches in front must hear of it
            await one.purge(scope, value)
        assert not await one.has(CAT)

    run(home, tmp_path, test)


@pytest.mark.parametrize(
    ("scope", "value"), [(Scope.SOURCE, CAT.path), (Scope.PREFIX, "/p"), (Scope.TAG, "fur")]
)
def test_a_fill_from_before_a_purge_is_not_kept(
    home: Home, tmp_path: Path, scope: Scope, value: str
) -> None:
    async def test(one: Farmer) -> None:
        opened = await one.store.open_source(CAT)  # what tags it has is not known yet
        await one.purge(scope, value)
        with pytest.raises(StaleToken):
            await one.fill(CAT, ("fur",), b"old", opened)
        assert not await one.has(CAT)
        await one.fill(CAT, ("fur",), b"new")
        # Where the index had not heard of its tags, it may be made once more, and no oftener.
        if not await one.has(CAT):
            await one.fill(CAT, ("fur",), b"new")
        assert await one.has(CAT)

    run(home, tmp_path, test)


def test_a_soft_purge_makes_stale_and_keeps(home: Home, tmp_path: Path) -> None:
    async def test(one: Farmer) -> None:
        for scope, value in ((Scope.SOURCE, CAT.path), (Scope.TAG, "red"), (Scope.PREFIX, "/pets")):
            home.clock.now = 1_795_000_100.0
            await one.fill(CAT, ("red",))
            assert (await one.store.open_source(CAT)).record.fresh_until == RECORD.fresh_until
            await one.purge(scope, value, Act.SOFTEN)
            record = (await one.store.open_source(CAT)).record
            assert record is not None, scope
            assert await one.has(CAT)
            assert record.fresh_until <= home.clock.now
            assert record.stale_until - record.fresh_until == 3600

    run(home, tmp_path, test)


def test_soft_shifts_the_windows() -> None:
    record = dataclasses.replace(RECORD, fresh_until=100, stale_until=150, revalidate_until=110)
    at_40 = soft(record, 40)
    assert (at_40.fresh_until, at_40.revalidate_until, at_40.stale_until) == (40, 50, 90)
    assert soft(record, 100) == record, "stale already"
    assert soft(dataclasses.replace(record, stale_until=0), 40).stale_until == 0


def test_what_is_taken_down_is_so_after_a_restart(home: Home, tmp_path: Path) -> None:
    async def first(one: Farmer) -> None:
        await one.fill(CAT)
        await one.purge(Scope.SOURCE, CAT.path, Act.TAKE_DOWN)
        await one.purge(Scope.SOURCE, DOG.path, Act.TAKE_DOWN)
        await one.purge(Scope.SOURCE, DOG.path, Act.LIFT)
        assert one.orders.taken_down == {CAT}
        assert not await one.has(CAT)

    async def second(one: Farmer) -> None:
        assert one.orders.taken_down == {CAT}
        assert not await one.has(CAT)

    run(home, tmp_path, first)
    run(home, tmp_path, second)


def test_a_purge_by_tag_holds_after_a_restart(home: Home, tmp_path: Path) -> None:
    async def first(one: Farmer) -> None:
        await one.fill(CAT, ("red",))
        await one.fill(CAR, ("red",))
        await one.fill(DOG)
        await one.purge(Scope.TAG, "red")
        await one.fill(CAR, ("red",))
        if not await one.has(CAR):
            await one.fill(CAR, ("red",))

    async def second(one: Farmer) -> None:
        assert [await one.has(source) for source in (CAT, CAR, DOG)] == [False, True, True]

    run(home, tmp_path, first)
    run(home, tmp_path, second)


def test_what_cannot_be_recorded_is_no_purge(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise IndexUnavailable("down")

    async def test(one: Farmer) -> None:
        await one.fill(CAT, ("red",))
        with monkeypatch.context() as patch:
            patch.setattr(one.index, "announce", down)
            for scope, value in ((Scope.SOURCE, CAT.path), (Scope.TAG, "red")):
                with pytest.raises(IndexUnavailable):
                    await one.purge(scope, value)
        assert one.obeyed == []
        await one.purge(Scope.TAG, "red")
        assert not await one.has(CAT)

    run(home, tmp_path, test)


def test_the_horizon_takes_only_who_was_not_asked_for_since(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(one: Farmer) -> None:
        for source in (CAT, DOG, CAR):
            await one.fill(source)
        # A docroot's source has no record, and its tags are known without one.
        await one.store.open_source(CAR, has_record=False)
        seq = one.orders.head + SETTLE_MS + 1_795_000_000_000
        for number in range(3):
            one.orders.add(Order(Act.PURGE, Scope.TAG, "site", "else", seq + number))
        await one.store.open_source(CAT)
        await one.store.open_source(CAR, has_record=False)
        one.orders.forget(seq)
        assert [await one.has(source) for source in (CAT, DOG, CAR)] == [True, False, True]

    run(home, tmp_path, test)


# Several nodes


def test_the_other_node_obeys(shared_home: Home, tmp_path: Path) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        for node in (one, two):
            await node.fill(CAT, ("red",))
        for scope, value in ((Scope.SOURCE, CAT.path), (Scope.TAG, "red"), (Scope.PREFIX, "/p")):
            for node in (one, two):
                while not await node.has(CAT):
                    await node.fill(CAT, ("red",))
            await one.purge(scope, value)
            await two.follower.catch_up()
            assert two.obeyed[-1].value == value
            assert not await two.has(CAT), scope
            assert not await one.has(CAT), scope

    run_two(shared_home, tmp_path, test)


def test_news_of_a_purge_travel_by_themselves(shared_home: Home, tmp_path: Path) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        heard = asyncio.Event()

        async def obey(order: Order) -> None:
            heard.set()

        two.follower.obey = obey
        await one.purge(Scope.TAG, "red")
        async with asyncio.timeout(5):
            await heard.wait()

    run_two(shared_home, tmp_path, test)


def test_who_has_not_read_the_log_lately_asks_for_tokens(shared_home: Home, tmp_path: Path) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        await two.fill(CAT)
        await two.store.open_source(CAT)
        await two.follower.catch_up()
        assert two.store.opened_now(CAT) is not None
        two.now += TRUST_S
        assert two.store.opened_now(CAT) is None

    run_two(shared_home, tmp_path, test)


def test_a_purge_that_was_heard_of_holds_though_redis_goes_down(
    shared_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise IndexUnavailable("down")

    async def test(one: Farmer, two: Farmer) -> None:
        await two.fill(CAT, ("red",))
        await two.fill(DOG, ("fur",))
        with monkeypatch.context() as patch:
            patch.setattr(two.index, "open_source", down)
            await one.purge(Scope.SOURCE, CAT.path)
            await one.purge(Scope.TAG, "fur")
            with pytest.raises(IndexUnavailable):
                await two.follower.catch_up()  # the log was read, the new token was not
            assert not await two.has(CAT)
            assert not await two.has(DOG)
        await two.follower.catch_up()
        with monkeypatch.context() as patch:
            patch.setattr(two.index, "open_source", down)
            assert not await two.has(CAT)

    run_two(shared_home, tmp_path, test)


def test_a_log_that_was_lost_gets_back_what_this_node_answers_for(
    shared_home: Home, tmp_path: Path
) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        await one.purge(Scope.TAG, "red")
        await one.purge(Scope.SOURCE, CAT.path, Act.TAKE_DOWN)
        await two.follower.catch_up()
        shared_home.flush()
        await one.follower.catch_up()
        assert one.follower.stats.repeated == 2
        assert one.forgot == 1
        for _ in range(2):
            await one.follower.catch_up()
            assert one.follower.stats.repeated == 2, "once"
        page = await two.index.orders(0)
        assert [(order.act, order.value) for order in page.orders] == [
            (Act.PURGE, "red"),
            (Act.TAKE_DOWN, CAT.path),
        ]
        assert await two.index.takedowns() == {CAT}
        await two.follower.catch_up()
        assert two.orders.taken_down == {CAT}
        assert two.follower.stats.repeated == 0
        # Its journal remembers the new orders: a second loss brings them back as well.
        shared_home.flush()
        await one.follower.catch_up()
        assert one.follower.stats.repeated == 4

    run_two(shared_home, tmp_path, test)


def test_after_a_flush_files_are_served_to_who_has_asked_the_source(
    shared_home: Home, tmp_path: Path
) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        await one.fill(CAT)
        shared_home.flush()
        await one.follower.catch_up()
        opened = await one.store.open_source(CAT)
        key = Key(CAT, "w=1")
        assert await one.store.lookup(key, opened.current) is None
        entry = await one.store.describe(key, opened)
        assert entry is not None
        assert entry.validator == "v1"
        found = await one.store.lookup(key, opened.current, "v1")
        assert found is not None
        found.close()

    run_two(shared_home, tmp_path, test)


@pytest.mark.parametrize(
    ("scope", "value", "act"),
    [
        (Scope.SOURCE, CAT.path, Act.PURGE),
        (Scope.SOURCE, CAT.path, Act.TAKE_DOWN),
        (Scope.TAG, "red", Act.PURGE),
        (Scope.PREFIX, "/pets/", Act.PURGE),
    ],
)
def test_a_purge_after_a_flush_takes_what_was_stored_before_the_flush(
    shared_home: Home, tmp_path: Path, scope: Scope, value: str, act: Act
) -> None:
    async def test(one: Farmer, two: Farmer) -> None:
        for node in (one, two):
            await node.fill(CAT, ("red",))
            await node.fill(CAR, ("blue",))
        shared_home.flush()
        for node in (one, two):
            await node.follower.catch_up()
        await one.purge(scope, value, act)
        await two.follower.catch_up()
        for node in (one, two):
            for source, is_there in ((CAT, False), (CAR, True)):
                opened = await node.store.open_source(source)
                # As found at the origin once more: the very same version.
                found = await node.store.lookup(
                    Key(source, "w=1"), opened.current, "v1", opened.applied
                )
                assert (found is not None) is is_there
                if found is not None:
                    found.close()
            await node.fill(CAT, ("red",))
            assert await node.has(CAT)

    run_two(shared_home, tmp_path, test)
