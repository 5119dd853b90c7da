"""The log of orders and what is taken down, in both homes."""

import asyncio
import sqlite3

import pytest

from cache.errors import IndexUnavailable
from cache.index.interface import Bounds, Index, OrderPage
from cache.key import SourceId
from cache.orders import MAX_TAG_BYTES, MAX_VALUE_BYTES, Act, Order, Scope
from tests.contract.homes import OTHER, SOURCE, Home, run

TAG = Order(Act.PURGE, Scope.TAG, "site", "summer")
PREFIX = Order(Act.SOFTEN, Scope.PREFIX, "site", "/album/")
SINGLE = Order(Act.PURGE, Scope.SOURCE, "site", "/a.jpg")
LATEST = 2**53 - 1


def take_down(source: SourceId) -> Order:
    return Order(Act.TAKE_DOWN, Scope.SOURCE, source.site, source.path)


def lift(source: SourceId) -> Order:
    return Order(Act.LIFT, Scope.SOURCE, source.site, source.path)


def described(page: OrderPage) -> list[tuple[str, str, str, str]]:
    return [(one.act, one.scope, one.site, one.value) for one in page.orders]


def test_an_empty_log(home: Home) -> None:
    async def test(index: Index) -> None:
        page = await index.orders(0)
        assert (page.orders, page.head, page.horizon, page.forgotten) == ((), 0, 0, 0)
        assert len(page.epoch) == 16
        assert await index.orders(LATEST) == page
        assert await index.takedowns() == frozenset()

    run(home, test)


@pytest.mark.parametrize(
    "order",
    [
        TAG,
        PREFIX,
        SINGLE,
        Order(Act.SOFTEN, Scope.TAG, "si te", "ä,\n{}:'; DROP TABLE orders; --\0"),
        Order(Act.PURGE, Scope.TAG, "", "t" * MAX_TAG_BYTES),
        Order(Act.PURGE, Scope.PREFIX, "日本", "/" + "x" * (MAX_VALUE_BYTES - 1)),
    ],
)
def test_an_order_round_trips(home: Home, order: Order) -> None:
    async def test(index: Index) -> None:
        seq = await index.announce(order)
        assert await index.announce(order) > seq
        page = await index.orders(0)
        assert [one.seq for one in page.orders] == [seq, page.head]
        assert described(page) == 2 * [(order.act, order.scope, order.site, order.value)]

    run(home, test)


def test_the_part_after_a_seq_comes_oldest_first(home: Home) -> None:
    async def test(index: Index) -> None:
        seqs = [await index.announce(order) for order in (TAG, SINGLE, PREFIX, SINGLE, TAG)]
        assert seqs == sorted(set(seqs))
        epoch = (await index.orders(0)).epoch
        for at, seq in enumerate(seqs):
            page = await index.orders(seq)
            assert [one.seq for one in page.orders] == seqs[at + 1 :]
            assert (page.head, page.horizon, page.epoch) == (seqs[-1], 0, epoch)
        assert len((await index.orders(seqs[0] - 1)).orders) == 5

    run(home, test)


def test_long_logs_come_whole(home: Home) -> None:
    """Redis answers in pieces, and the two kinds of orders are cut at different places."""

    async def test(index: Index) -> None:
        orders = [TAG] * 300 + [SINGLE] * 520 + [PREFIX] * 251 + [SINGLE] * 3
        seqs: list[int] = []
        for order, left in ((TAG, 300), (SINGLE, 520), (PREFIX, 251), (SINGLE, 3)):
            for some in [130] * (left // 130) + [left % 130]:
                seqs += sorted(await asyncio.gather(*(index.announce(order) for _ in range(some))))
        page = await index.orders(0)
        assert [one.seq for one in page.orders] == seqs
        assert [one.scope for one in page.orders] == [one.scope for one in orders]
        assert page.head == seqs[-1]
        assert len((await index.orders(seqs[9])).orders) == len(seqs) - 10

    run(home, test)


def test_seq_has_milliseconds_in_it(home: Home) -> None:
    async def test(index: Index) -> None:
        # SQLite by the clock it was given, Redis by its own.
        assert await index.announce(TAG) >= int(home.clock.now * 1000)

    run(home, test)


def test_seq_grows_across_a_restart_and_whatever_the_clock_does(home: Home) -> None:
    async def main() -> None:
        last = 0
        for step_s in (0.0, -3600.0, 0.001, -(10.0**6)):
            async with home.open() as index:
                home.clock.now += step_s
                for _ in range(3):
                    seq = await index.announce(SINGLE)
                    assert seq > last
                    last = seq

    asyncio.run(main())


def test_a_lost_log_has_another_epoch_and_goes_on_above(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            seq = await index.announce(TAG)
            await index.announce(take_down(SOURCE))
            before = await index.orders(0)
            if home.server is not None:
                home.flush()
                after = await index.orders(seq)
                assert (after.orders, after.head) == ((), 0)
                assert after.epoch != before.epoch
                assert await index.announce(TAG) > before.head
        home.flush()
        home.clock.now += 1
        async with home.open() as index:
            assert await index.takedowns() == frozenset()
            assert await index.announce(TAG) > before.head
            assert (await index.orders(0)).epoch != before.epoch

    asyncio.run(main())


def test_a_restart_keeps_the_log(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            await index.announce(TAG)
            await index.announce(take_down(OTHER))
            page = await index.orders(0)
        async with home.open() as index:
            assert await index.orders(0) == page
            assert await index.takedowns() == {OTHER}

    asyncio.run(main())


def test_the_log_is_bounded_and_its_horizon_moves(home: Home) -> None:
    home.bounds = Bounds(orders=5)

    async def test(index: Index) -> None:
        wide = [await index.announce(TAG) for _ in range(7)]
        page = await index.orders(0)
        assert [one.seq for one in page.orders] == wide[2:]
        assert (page.head, page.horizon, page.forgotten) == (wide[6], wide[1], 0)
        # Purges of single sources push out their own kind alone.
        single = [await index.announce(SINGLE) for _ in range(12)]
        page = await index.orders(0)
        assert [one.seq for one in page.orders] == wide[2:] + single[7:]
        assert (page.head, page.horizon, page.forgotten) == (single[11], wide[1], single[6])

    run(home, test)


def test_take_downs_stand_until_they_are_lifted(home: Home) -> None:
    home.bounds = Bounds(orders=3)

    async def test(index: Index) -> None:
        strange = SourceId("si te\n", "/ä/{x}\0.jpg")
        for source in (SOURCE, OTHER, strange, SOURCE):
            await index.announce(take_down(source))
        for _ in range(5):
            await index.announce(SINGLE)
        assert await index.takedowns() == {SOURCE, OTHER, strange}
        await index.announce(lift(SOURCE))
        await index.announce(lift(SOURCE))
        assert await index.takedowns() == {OTHER, strange}

    run(home, test)


def test_many_take_downs_come_whole(home: Home) -> None:
    async def test(index: Index) -> None:
        sources = {SourceId("site", f"/{number}") for number in range(700)}
        await asyncio.gather(*(index.announce(take_down(s)) for s in list(sources)[:200]))
        for source in list(sources)[200:]:
            await index.announce(take_down(source))
        assert await index.takedowns() == sources

    run(home, test)


def test_too_many_take_downs_are_refused_loudly(home: Home) -> None:
    home.bounds = Bounds(takedowns=2)

    async def test(index: Index) -> None:
        await index.announce(take_down(SOURCE))
        await index.announce(take_down(OTHER))
        head = (await index.orders(0)).head
        with pytest.raises(IndexUnavailable, match="lift some"):
            await index.announce(take_down(SourceId("site", "/c.jpg")))
        assert (await index.orders(0)).head == head
        await index.announce(take_down(SOURCE))  # is one of them
        await index.announce(lift(SOURCE))
        await index.announce(take_down(SourceId("site", "/c.jpg")))
        assert len(await index.takedowns()) == 2

    run(home, test)


def test_every_caller_has_a_seq_of_its_own(home: Home) -> None:
    async def test(index: Index) -> None:
        seqs = await asyncio.gather(*(index.announce(TAG) for _ in range(50)))
        assert len(set(seqs)) == 50
        assert [one.seq for one in (await index.orders(0)).orders] == sorted(seqs)

    run(home, test)


def test_who_listens_hears_of_orders(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            heard = asyncio.Event()
            index.on_news = heard.set
            seen = 0
            for order in (TAG, SINGLE):
                heard.clear()
                head = await index.announce(order)
                # Redis calls when it is connected, too: then what was announced is read anyway.
                while seen < head:
                    await heard.wait()
                    seen = (await index.orders(0)).head
            assert seen == head

    asyncio.run(main())


def test_an_order_that_was_announced_survives_the_process(home: Home) -> None:
    """As a purge does: the call is durable in both homes (Redis appends and syncs, if told to)."""

    async def main() -> None:
        async with home.open() as index:
            seq = await index.announce(TAG)
            if home.server is not None:
                home.server.kill()
                home.server.start()
        async with home.open() as index:
            assert (await index.orders(0)).head == seq

    asyncio.run(main())


def test_orders_that_cannot_be_read_count_as_dropped(home: Home) -> None:
    async def main() -> None:
        async with home.open() as index:
            first = await index.announce(TAG)
        strange = ((b'["abolish","tag","site","x"]', True), (b"\x80[", False))
        if home.server is None:
            db = sqlite3.connect(home.path)
            for packed, is_wide in strange:
                seq = first + (1 if is_wide else 2)
                db.execute("INSERT INTO orders VALUES (?, ?, ?)", (seq, is_wide, packed))
            db.commit()
            db.close()
        else:
            for packed, is_wide in strange:
                seq = str(first + (1 if is_wide else 2))
                log = f"halftone:{{orders}}:{'wide' if is_wide else 'single'}"
                home.server.command("ZADD", log, seq, seq.encode() + b":" + packed)
        async with home.open() as index:
            page = await index.orders(0)
            assert [one.seq for one in page.orders] == [first]
            assert (page.horizon, page.forgotten) == (first + 1, first + 2)

    asyncio.run(main())
