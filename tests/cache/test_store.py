"""The purge rule: every interleaving of fill and purge, with and without an index."""

import asyncio
import dataclasses
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import xxhash

from cache import store as store_module
from cache.disk import Disk
from cache.entry import Entry
from cache.errors import DamagedEntry, IndexUnavailable, NoSpace, NotStored, StaleToken, StoreBusy
from cache.fill import Fill
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import UNKNOWN_TOKEN, Purged, SourceRecord, Token
from cache.key import Key, SourceId
from cache.memory import Memory
from cache.orders import Act, Order, Scope
from cache.store import Opened, Store
from cache.stored import StoredFile
from cache.threads import DiskThreads
from tests.cache import kit
from tests.waiting import until

SOURCE = kit.key().source
RECORD = SourceRecord("v1", '"v1"', "image/jpeg", 1, 2, 3, 4)


class Switchable(EmbeddedIndex):
    """The real index with a switch: down, every call fails; lost, purges act and do not answer."""

    is_down = False
    is_lost = False
    is_shared = False
    is_busy = False

    @property
    def exclusive(self) -> bool:
        return not self.is_shared

    async def _call(
        self, step: Callable[[], object], *, is_urgent: bool = False, is_durable: bool = False
    ) -> object:
        if self.is_down:
            raise IndexUnavailable("switched off")
        answer = await super()._call(step, is_urgent=is_urgent, is_durable=is_durable)
        if self.is_lost and is_durable:
            raise IndexUnavailable("the answer is lost")
        return answer

    def publish_now(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool | None:
        if self.is_down:
            raise IndexUnavailable("switched off")
        if self.is_busy:
            return None
        return super().publish_now(source, token, digest, size)


@asynccontextmanager
async def opened(root: Path, **settings: int) -> AsyncIterator[tuple[Store, Switchable, Disk]]:
    before = kit.descriptors()
    disk = Disk(str(root / "cache"), settings.get("size", kit.SIZE), settings.get("inodes", 1000))
    index = Switchable(str(root / "index"), clock=lambda: 1e9, random=Random(), budget_s=10)
    store = Store(disk, index, lambda: 1e9, 2)
    await store.start()
    try:
        yield store, index, disk
    finally:
        index.is_down = False
        await store.stop()
        assert kit.descriptors() <= before + 3  # the loop's own


def run(
    root: Path, test: Callable[[Store, Switchable, Disk], Awaitable[None]], **settings: int
) -> None:
    async def main() -> None:
        async with opened(root, **settings) as parts:
            await test(*parts)

    asyncio.run(main())


async def begin(store: Store, token: Token, body: bytes) -> tuple[Fill, Entry]:
    entry = kit.draft("a", token)
    fill = await store.reserve(entry, len(body))
    fill.write(body)
    return fill, kit.with_body(entry, body)


async def put(store: Store, body: bytes) -> Opened:
    at = await store.open_source(SOURCE)
    fill, entry = await begin(store, at.token, body)
    with fill:
        (await store.commit(fill, entry)).close()
    return at


async def get(store: Store, token: Token | None) -> bytes | None:
    stored = await store.lookup(kit.key(), token)
    if stored is None:
        return None
    with stored:
        return stored.read()


async def removed(store: Store) -> None:
    """What is unlinked behind an answer is gone."""
    await until(lambda: store._removal is None)


async def get_now(store: Store) -> bytes | None:
    """As a request that starts now does it."""
    return await get(store, (await store.open_source(SOURCE)).current)


def test_stored_found_purged(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        assert await get_now(store) is None
        at = await put(store, b"first")
        assert await get_now(store) == b"first"
        assert await index.members(SOURCE) == (kit.key().digest,)
        with await store.lookup(kit.key(), at.current) as stored:
            assert stored.entry.stored_at == 10**9
        purged = await store.purge(SOURCE)
        assert purged.digests == (kit.key().digest,)
        assert await get_now(store) is None
        await removed(store)
        kit.check(disk, tmp_path / "cache")
        assert kit.names(tmp_path / "cache") == []

    run(tmp_path, test)


def test_a_fill_that_ends_after_a_purge_is_not_stored_but_served(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"before")
        await store.purge(SOURCE)
        with fill:
            with pytest.raises(StaleToken):
                await store.commit(fill, entry)
            kit.check(disk, tmp_path / "cache")
            with fill.detach(entry) as stored:
                assert stored.read() == b"before"
        assert await get_now(store) is None
        assert await get(store, None) is None
        await put(store, b"after")
        assert await get_now(store) == b"after"

    run(tmp_path, test)


@pytest.mark.parametrize("is_down", [False, True])
def test_a_purge_between_record_and_rename(tmp_path: Path, is_down: bool) -> None:
    """The fill is held between its compare-and-set and its rename."""

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"before")
        reached, go_on = threading.Event(), threading.Event()
        publish = fill.publish

        def held() -> StoredFile:
            reached.set()
            assert go_on.wait(30)
            return publish()

        fill.publish = held
        committing = asyncio.create_task(store.commit(fill, entry))
        await asyncio.to_thread(reached.wait)
        await store.purge(SOURCE)
        index.is_down = is_down
        go_on.set()
        with fill, pytest.raises(StaleToken):
            await committing
        assert await get_now(store) is None
        assert await get(store, None) is None
        await removed(store)
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


def test_files_of_a_purge_are_unlinked_behind_its_answer(tmp_path: Path) -> None:
    """Until then nobody is served from them, be the index there or not."""

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        go_on = threading.Event()
        remove_older = disk.remove_older

        def held(digest: bytes, token: Token) -> bool:
            assert go_on.wait(30)
            return remove_older(digest, token)

        disk.remove_older = held  # type: ignore[method-assign]
        before = await put(store, b"before")
        await store.purge(SOURCE)
        assert kit.path_of(tmp_path / "cache").exists()
        assert await get_now(store) is None
        for token in (before.current, None):
            index.is_down = token is None
            found = await get(store, token)
            # Who had asked before the purge may be given it still.
            assert found == (None if token is None else b"before")
        index.is_down = False
        await put(store, b"after")  # in the same place
        go_on.set()
        await removed(store)
        assert store.unlinking == 0
        assert await get_now(store) == b"after"
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


def test_purges_wait_when_too_many_of_their_files_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_PURGED", 2)
    monkeypatch.setattr(store_module, "UNLINKED_AT_ONCE", 2)
    monkeypatch.setattr(store_module, "REMOVAL_DELAY_S", 0.0)

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        go_on, met = threading.Event(), list[bytes]()

        def held(digest: bytes, token: Token) -> bool:
            met.append(digest)
            return go_on.wait(30)

        disk.remove_older = held  # type: ignore[method-assign]
        sources = [SourceId("site", f"/{number}") for number in range(6)]
        for source in sources:
            token = (await store.open_source(source)).token
            await index.publish(source, token, Key(source, "").digest, 1)
        purges = []
        try:
            for number, source in enumerate(sources):
                purges.append(asyncio.create_task(store.purge(source)))
                await until(lambda number=number: store.stats.purges == number + 1)
                if number == 1:  # two fit, and one of these is at the disk
                    await asyncio.wait(purges)
                    await until(lambda: met)
            await until(lambda: store.unlinking == 5)
            assert [purge.done() for purge in purges] == [True, True, True, False, False, False]
        finally:
            go_on.set()
        await asyncio.gather(*purges)
        await removed(store)
        assert met == [Key(source, "").digest for source in sources]

    run(tmp_path, test)


def test_busy_disk_threads_leave_purged_files_to_eviction(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        await put(store, b"before")
        store.threads._limit = 0
        await store.purge(SOURCE)
        await removed(store)
        assert (store.unlinking, store.stats.unremoved) == (0, 1)
        store.threads._limit = 10
        assert await get_now(store) is None  # and finds it
        await removed(store)
        assert kit.names(tmp_path / "cache") == []

    run(tmp_path, test)


def test_a_file_renamed_after_its_purge_is_never_served_and_goes(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        await store.purge(SOURCE)
        # Past the store, as a rename that came late.
        for is_down in (True, False):  # the floor decides, then the token
            kit.store(disk, "a", b"before", at.token)
            index.is_down = is_down
            assert await get_now(store) is None
            await removed(store)
            assert not kit.path_of(tmp_path / "cache").exists()
        assert store.stats.stale == 2

    run(tmp_path, test)


def test_all_orders_of_two_fills_a_purge_and_outages(tmp_path: Path) -> None:
    """Steps of two fills, a purge and an index that goes down and comes back, in every order that
    keeps each one's own order. What a request that starts later may get is known from the model."""
    steps = ["a begins", "a commits", "b begins", "b commits", "purge", "down", "up"]
    keeps = [("a begins", "a commits"), ("b begins", "b commits"), ("down", "up")]
    orders = [
        order
        for order in itertools.permutations(steps)
        if all(order.index(first) < order.index(then) for first, then in keeps)
    ]

    async def one(store: Store, index: Switchable, order: tuple[str, ...], number: int) -> None:
        source = SourceId("site", f"/{number}.jpg")
        key = Key(source, "w=220")
        purged_before: set[str] = set()  # fills that began before an answered purge
        fills: dict[str, tuple[Fill, Entry]] = {}
        for step in order:
            match step.split():
                case [name, "begins"]:
                    at = await store.open_source(source)
                    draft = Entry(key, at.token, "v")
                    fill = await store.reserve(draft, 1)
                    fill.write(name.encode())
                    fills[name] = fill, dataclasses.replace(draft, length=1)
                case [name, "commits"]:
                    fill, entry = fills[name]
                    with fill:
                        try:
                            (await store.commit(fill, entry)).close()
                        except StaleToken:
                            assert name in purged_before or entry.token == UNKNOWN_TOKEN
                case ["purge"]:
                    try:
                        await store.purge(source)
                        purged_before |= set(fills)
                    except IndexUnavailable:
                        assert index.is_down
                case ["down"]:
                    index.is_down = True
                case ["up"]:
                    index.is_down = False
            token = (await store.open_source(source)).current
            stored = await store.lookup(key, token)
            if stored is not None:
                with stored:
                    assert stored.read().decode() not in purged_before, order

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        for number, order in enumerate(orders):
            await one(store, index, order, number)
        assert kit.temp_files(tmp_path / "cache") == []

    run(tmp_path, test)
    assert len(orders) == 630


def test_without_an_index_hits_are_served_and_misses_are_stored(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        await put(store, b"first")
        index.is_down = True
        assert await get_now(store) == b"first"
        at = await put(store, b"second")
        assert at.token != UNKNOWN_TOKEN  # the last one that was seen
        assert at.current is None
        assert await get_now(store) == b"second"
        assert store.stats.unrecorded == 1
        with pytest.raises(IndexUnavailable):
            await store.purge(SOURCE)
        assert await get_now(store) == b"second"
        index.is_down = False
        assert await get_now(store) == b"second"
        await store.purge(SOURCE)
        assert await get_now(store) is None

    run(tmp_path, test)


def test_what_was_stored_without_a_token_does_not_outlive_the_outage(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        index.is_down = True
        at = await put(store, b"unknown")
        assert at.token == UNKNOWN_TOKEN
        assert await get_now(store) == b"unknown"
        index.is_down = False
        assert await get_now(store) is None
        index.is_down = True
        assert await get_now(store) is None

    run(tmp_path, test)


def test_a_purge_without_an_answer_is_asked_again(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        await put(store, b"first")
        index.is_lost = True
        with pytest.raises(IndexUnavailable):
            await store.purge(SOURCE)
        assert store.opened_now(SOURCE) is None
        index.is_lost = False
        assert await get_now(store) is None  # it took place
        await put(store, b"second")  # and the next fill has the new token
        assert await get_now(store) == b"second"

    run(tmp_path, test)


def test_a_lost_index_makes_files_suspect_and_keeps_them(tmp_path: Path) -> None:
    async def first(store: Store, index: Switchable, disk: Disk) -> None:
        await put(store, b"first")

    async def second(store: Store, index: Switchable, disk: Disk) -> None:
        assert await get_now(store) is None
        assert store.stats.suspect == 1
        assert kit.path_of(tmp_path / "cache").exists()
        # Whoever has looked at the source since, and found that version, may have it.
        current = (await store.open_source(kit.key().source)).current
        assert await store.lookup(kit.key(), current, "v2") is None
        stored = await store.lookup(kit.key(), current, "v1")
        assert stored is not None
        stored.close()
        await put(store, b"second")
        assert await get_now(store) == b"second"

    run(tmp_path, first)
    for file in tmp_path.glob("index*"):
        file.unlink()
    run(tmp_path, second)


def test_a_restart_keeps_entries_and_purges(tmp_path: Path) -> None:
    async def first(store: Store, index: Switchable, disk: Disk) -> None:
        await put(store, b"first")

    async def second(store: Store, index: Switchable, disk: Disk) -> None:
        assert await get_now(store) == b"first"
        await until(lambda: disk.stats.adopted != 0, pause_s=0)
        await store.purge(SOURCE)
        assert await get_now(store) is None
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, first)
    run(tmp_path, second)


def test_what_is_known_now_follows_writes_and_purges(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        assert store.opened_now(SOURCE) is None
        at = await store.open_source(SOURCE)
        assert store.opened_now(SOURCE) == at
        assert await store.put_source(SOURCE, at.token, RECORD)
        assert store.opened_now(SOURCE).record == RECORD
        purged = await store.purge(SOURCE)
        assert store.opened_now(SOURCE) == Opened(purged.token, purged.token, None)
        assert not await store.put_source(SOURCE, at.token, RECORD)
        index.is_shared = True  # then another node may know better
        assert store.opened_now(SOURCE) is None

    run(tmp_path, test)


class Counting(dict):
    """What is known, and how often any of it is touched."""

    touched = 0

    def __getitem__(self, key):
        self.touched += 1
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.touched += 1
        return super().get(key, default)

    def __setitem__(self, key, value):
        self.touched += 1
        super().__setitem__(key, value)

    def __iter__(self):
        for key in super().__iter__():
            self.touched += 1
            yield key

    def items(self):
        return ((key, self[key]) for key in self)

    def values(self):
        return (self[key] for key in self)


def test_all_is_doubted_without_touching_any_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 200_000
    monkeypatch.setattr(store_module, "MAX_REMEMBERED", count)

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        sources = [SourceId("site", f"/{number}") for number in range(count - 1)]
        for source in sources:
            store._remember(source, at)
        assert len(store._known) == count
        store._known = known = Counting(store._known)
        for _ in range(2):
            store.doubt_all()
        assert known.touched == 0
        assert not any(map(store.opened_now, sources))
        again = await store.open_source(SOURCE)
        assert store.opened_now(SOURCE) == again
        assert again.current == at.token
        # Without an index all that was doubted is a floor still.
        index.is_down = True
        assert (await store.open_source(sources[0])).token == at.token
        assert store._is_outdated(sources[1], dataclasses.replace(at.token, generation=0))

    run(tmp_path, test)


@pytest.mark.parametrize(("letters", "most"), [("p" * 900, 10), ("p" * 899 + "\u20ac", 5)])
def test_what_is_to_be_settled_is_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letters: str, most: int
) -> None:
    monkeypatch.setattr(store_module, "MAX_UNSETTLED_BYTES", 10_000)

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        orders = [
            Order(Act.PURGE, Scope.SOURCE, "site", f"{letters}{seq % 20}", seq)
            for seq in range(1, 41)  # each twice
        ]
        for order in orders:
            assert store.obey(order)
            assert store._unsettled_bytes <= 10_000
        assert list(store._unsettled.values()) == orders[-most:]
        await store.open_source(orders[-1].source)
        assert store.unsettled == most - 1
        await store.settle()
        assert (store.unsettled, store._unsettled_bytes) == (0, 0)

    run(tmp_path, test)


@pytest.mark.parametrize("step", ["open_source", "put_source", "purge", "overtake"])
def test_what_is_asked_for_while_all_is_doubted_is_in_doubt(tmp_path: Path, step: str) -> None:
    """The answer may be from before the loss."""

    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "open_source": lambda: store.open_source(SOURCE),
            "put_source": lambda: store.put_source(SOURCE, at.token, RECORD),
            "purge": lambda: store.purge(SOURCE),
            "overtake": lambda: store.overtake(SOURCE),
        }
        before = index.stats.calls
        asking = asyncio.create_task(steps[step]())
        await until(lambda: index.stats.calls > before, pause_s=0)
        store.doubt_all()
        await asking
        assert store.opened_now(SOURCE) is None
        await steps[step]()
        assert store.opened_now(SOURCE) is not None

    run(tmp_path, test)


def test_a_younger_file_than_the_callers_token_is_served(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        early = await store.open_source(SOURCE)
        await store.purge(SOURCE)
        await put(store, b"after")
        assert await get(store, early.current) == b"after"
        assert kit.path_of(tmp_path / "cache").exists()

    run(tmp_path, test)


def test_a_purge_reaches_the_memory_tier(tmp_path: Path) -> None:
    async def main() -> None:
        memory: Memory[bytes] = Memory(1_000_000, 1_000)
        disk = Disk(str(tmp_path / "cache"), kit.SIZE, 100)
        index = EmbeddedIndex(
            str(tmp_path / "index"), clock=lambda: 1e9, random=Random(), budget_s=10.0
        )
        store = Store(disk, index, lambda: 1e9, 1, memory)
        await store.start()
        await put(store, b"first")
        memory.put(kit.key().digest, b"first", 5)
        await store.purge(SOURCE)
        assert memory.get(kit.key().digest) is None
        await store.stop()

    asyncio.run(main())


def test_the_index_forgets_what_is_evicted(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        for number in range(30):
            entry = dataclasses.replace(kit.draft("a", at.token, f"w={number}"), length=4)
            with await store.reserve(entry, 4) as fill:
                fill.write(b"body")
                (await store.commit(fill, entry)).close()
        members = set(await index.members(SOURCE))
        assert {digest.hex() for digest in members} == set(kit.names(tmp_path / "cache"))
        assert disk.stats.evicted > 0
        assert store.stats.unforgotten == 0

    run(tmp_path, test, inodes=10)


def test_a_short_body_is_neither_stored_nor_recorded(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"short")
        with fill, pytest.raises(DamagedEntry):
            await store.commit(fill, dataclasses.replace(entry, length=6))
        assert await index.members(SOURCE) == ()
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


@pytest.mark.parametrize("step", ["seal", "publish"])
def test_a_commit_that_is_cancelled_leaves_a_whole_file_or_none(tmp_path: Path, step: str) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"body")
        reached, go_on = threading.Event(), threading.Event()
        real = getattr(fill, step)

        def held(*arguments: object) -> object:
            reached.set()
            assert go_on.wait(30)
            return real(*arguments)

        setattr(fill, step, held)
        committing = asyncio.create_task(store.commit(fill, entry))
        await asyncio.to_thread(reached.wait)
        committing.cancel()
        with fill, pytest.raises(asyncio.CancelledError):
            await committing
        go_on.set()
        await until(lambda: not store.threads.running, pause_s=0)
        kit.check(disk, tmp_path / "cache")
        assert await get_now(store) in (None, b"body")

    run(tmp_path, test)


def test_a_caller_that_leaves_a_lookup_leaks_no_descriptor(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await put(store, b"body")
        before = kit.descriptors()
        reached, go_on = threading.Event(), threading.Event()
        real = disk.open

        def held(key: Key) -> StoredFile | None:
            stored = real(key)
            reached.set()
            assert go_on.wait(30)
            return stored

        disk.open = held
        looking = asyncio.create_task(store.lookup(kit.key(), at.current))
        await asyncio.to_thread(reached.wait)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        go_on.set()
        await until(lambda: store.threads.stats.ended >= store.threads.stats.calls, pause_s=0)
        await asyncio.sleep(0)
        assert kit.descriptors() == before
        assert store.threads.stats.orphaned == 1

    run(tmp_path, test)


def test_a_full_disk_is_not_stored_and_served(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"body")
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr("cache.files.write_at", full)
            with fill:
                with pytest.raises(NotStored):
                    await store.commit(fill, entry)
                with fill.detach(entry) as stored:
                    assert stored.read() == b"body"
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


def whole(token: Token, body: bytes) -> Entry:
    entry = kit.with_body(kit.draft("a", token), body)
    return dataclasses.replace(entry, body_hash=xxhash.xxh3_128_digest(body))


# Who answers the compare-and-set of a body that is kept whole.
ASKED = ["in the thread", "by the loop", "nobody"]


@pytest.mark.parametrize("asked", ASKED)
def test_a_body_kept_whole_is_found_until_it_is_purged(tmp_path: Path, asked: str) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        index.is_busy = asked == "by the loop"
        index.is_down = asked == "nobody"
        await store.keep(whole(at.token, b"body"), b"body")
        index.is_down = False
        assert await get_now(store) == b"body"
        assert store.stats.published == 1
        assert store.stats.unrecorded == (asked == "nobody")
        with await store.lookup(kit.key(), at.current) as stored:
            assert (stored.entry.stored_at, stored.is_verified) == (10**9, True)
        assert await index.members(SOURCE) == (() if asked == "nobody" else (kit.key().digest,))
        assert index.stats.calls == index.stats.answered
        kit.check(disk, tmp_path / "cache")
        await store.purge(SOURCE)
        for body in (b"before", b"later"):
            with pytest.raises(StaleToken):
                await store.keep(whole(at.token, body), body)
        assert await get_now(store) is None
        assert kit.temp_files(tmp_path / "cache") == []
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


@pytest.mark.parametrize("asked", ASKED[:2])
def test_a_body_kept_whole_is_purged_between_record_and_rename(tmp_path: Path, asked: str) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        index.is_busy = asked == "by the loop"
        reached, go_on = threading.Event(), threading.Event()
        with pytest.MonkeyPatch.context() as patch:
            publish = Fill.publish

            def held(fill: Fill) -> StoredFile:
                reached.set()
                assert go_on.wait(30)
                return publish(fill)

            patch.setattr("cache.fill.Fill.publish", held)
            keeping = asyncio.create_task(store.keep(whole(at.token, b"before"), b"before"))
            await asyncio.to_thread(reached.wait)
            await store.purge(SOURCE)
            go_on.set()
            with pytest.raises(StaleToken):
                await keeping
        assert await get_now(store) is None
        assert await get(store, None) is None
        assert kit.names(tmp_path / "cache") == []
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


@pytest.mark.parametrize("asked", ASKED[:2])
def test_a_body_kept_whole_after_a_purge_that_this_store_has_not_heard_of(
    tmp_path: Path, asked: str
) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        index.is_busy = asked == "by the loop"
        await index.purge(SOURCE)
        with pytest.raises(StaleToken):
            await store.keep(whole(at.token, b"before"), b"before")
        assert store.opened_now(SOURCE) is None  # it is asked for again
        assert kit.names(tmp_path / "cache") == []
        assert kit.temp_files(tmp_path / "cache") == []
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 1_000_000])
def test_bodies_of_any_size_are_kept_whole(tmp_path: Path, size: int) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        body = Random(size).randbytes(size)
        await store.keep(whole(at.token, body), body)
        assert await get_now(store) == body
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


@pytest.mark.parametrize("call", ["cache.files.write_at", "cache.files.rename"])
def test_a_body_that_cannot_be_kept_leaves_nothing(tmp_path: Path, call: str) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(call, full)
            with pytest.raises(NoSpace):
                await store.keep(whole(at.token, b"body"), b"body")
        assert kit.temp_files(tmp_path / "cache") == []
        kit.check(disk, tmp_path / "cache")
        await store.keep(whole(at.token, b"body"), b"body")
        assert await get_now(store) == b"body"

    run(tmp_path, test)


def test_who_leaves_while_a_body_is_kept_leaves_no_descriptor(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        before = kit.descriptors()
        reached, go_on = threading.Event(), threading.Event()
        sealed = store._complete

        def held(*given: Any) -> Any:
            reached.set()
            assert go_on.wait(30)
            return sealed(*given)

        store._complete = held
        keeping = asyncio.create_task(store.keep(whole(at.token, b"body"), b"body"))
        await asyncio.to_thread(reached.wait)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        go_on.set()
        await until(lambda: store.threads.stats.ended >= store.threads.stats.calls, pause_s=0)
        assert kit.descriptors() == before
        assert await get_now(store) == b"body"  # recorded, so it may stay
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


def test_a_fill_given_up_between_seal_and_rename_is_not_published(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        at = await store.open_source(SOURCE)
        fill, entry = await begin(store, at.token, b"body")
        reached, go_on = threading.Event(), threading.Event()
        publish_now = index.publish_now

        def held(*given: Any) -> bool | None:
            reached.set()
            assert go_on.wait(30)
            return publish_now(*given)

        index.publish_now = held
        committing = asyncio.create_task(store.commit(fill, entry))
        await asyncio.to_thread(reached.wait)
        committing.cancel()
        with fill, pytest.raises(asyncio.CancelledError):
            await committing
        go_on.set()
        await until(lambda: store.threads.stats.ended >= store.threads.stats.calls, pause_s=0)
        assert await get_now(store) is None
        assert kit.names(tmp_path / "cache") == []
        kit.check(disk, tmp_path / "cache")

    run(tmp_path, test)


def test_what_cannot_be_there_is_not_looked_for(tmp_path: Path) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        await until(lambda: not disk.may_hold(kit.key().digest))  # once the scan has ended
        at = await store.open_source(SOURCE)
        assert await get(store, at.current) is None
        assert disk.stats.misses == 0
        index.is_shared = True  # others may have stored it
        assert await get(store, at.current) is None
        assert disk.stats.misses == 1
        index.is_shared = False
        await store.keep(whole(at.token, b"body"), b"body")
        assert await get_now(store) == b"body"

    run(tmp_path, test)


def test_an_answer_that_comes_with_its_callers_end_is_closed() -> None:
    async def main() -> None:
        threads = DiskThreads(1)
        closed: list[int] = []
        go_on = threading.Event()
        asked = asyncio.create_task(threads.run(lambda: go_on.wait() and 7, closed.append))
        failing = asyncio.create_task(threads.run(lambda: 1 // 0, closed.append))
        await until(lambda: threads.running == 2, pause_s=0)
        settle = threads._settle

        def settle_and_cancel(call: Any) -> None:
            settle(call)
            (asked if call.error is None else failing).cancel()  # in the same turn of the loop

        threads._settle = settle_and_cancel
        go_on.set()
        for task in (asked, failing):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert closed == [7]
        assert threads.stats.orphaned == 2
        await threads.stop()

    asyncio.run(main())


def test_a_disk_thread_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RLIMIT_NPROC, or a cgroup's pids.max: what is here already goes on."""
    start, left = threading.Thread.start, [1]

    def start_or_fail(thread: threading.Thread) -> None:
        if thread.name.startswith("disk") and not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= thread.name.startswith("disk")
        start(thread)

    async def main() -> None:
        threads = DiskThreads(2)
        left[0] = 0
        with pytest.raises(StoreBusy, match="no disk thread can be started: can't start"):
            await threads.run(lambda: 1)
        assert (threads.running, threads.stats.refused) == (0, 1)
        left[0] = 1
        assert await asyncio.gather(*(threads.run(lambda: 2) for _ in range(3))) == [2, 2, 2]
        assert threads.stats.ended == 3
        await threads.stop()

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    asyncio.run(main())


def test_disk_threads_refuse_above_their_bound() -> None:
    async def main() -> None:
        threads = DiskThreads(1, limit=2)
        go_on = threading.Event()
        waiting = [asyncio.create_task(threads.run(go_on.wait)) for _ in range(2)]
        await until(lambda: threads.running >= 2, pause_s=0)
        with pytest.raises(StoreBusy):
            await threads.run(go_on.wait)
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        stats = threads.stats
        assert (stats.calls, stats.ended, stats.refused) == (3, 2, 1)
        await threads.stop()

    asyncio.run(main())


def test_answers_of_the_index_that_arrive_late_do_not_bring_back_an_old_token(
    tmp_path: Path,
) -> None:
    async def test(store: Store, index: Switchable, disk: Disk) -> None:
        old = await store.open_source(SOURCE)
        purged: Purged = await store.purge(SOURCE)
        assert store._remember(SOURCE, old).token == purged.token
        assert store.opened_now(SOURCE).token == purged.token

    run(tmp_path, test)
