"""The table of sources: orders walk through it in bounded steps while it changes."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from cache.index.interface import SourceRecord, Token
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from cache.store import Opened
from edge import known as known_module
from edge.known import BATCH, Known
from edge.source import NOT_ASKED, Home, Source, Stats
from tests.edge.test_site import site

TOKEN = Token("0123456789abcdef", 2)
OPENED = Opened(TOKEN, TOKEN, None)
RECORD = SourceRecord("v", '"v"', "image/jpeg", 1, 0, 0, 2000)


class Bench:
    """A table of its own; nothing is purged but by the orders of the test."""

    def __init__(self) -> None:
        self.wall = 1000
        self.known = Known(self, self, Stats())  # type: ignore[arg-type]
        self.seq = 0

    def is_purged(self, *_: Any) -> bool:
        return False

    def remember(self, number: int, *tags: str, name: str = "*", path: str = "") -> Source:
        source_id = SourceId(name, path or f"/{number % 10}/{number}.jpg")
        record = replace(RECORD, tags=tags)
        return self.known.remember(site("*"), source_id, Home.ORIGIN, OPENED, record)

    def order(self, scope: Scope, value: str) -> Awaitable[None]:
        self.seq += 1
        return self.known.obey(Order(Act.PURGE, scope, "*", value, self.seq))


def is_renounced(source: Source) -> bool:
    return source.fresh_until == 0 and source.opened is NOT_ASKED


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(Bench())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("scope", "value", "expected"),
    [
        (Scope.TAG, "odd", {1, 3, 5, 7, 9, 11}),
        (Scope.TAG, "od", set()),
        (Scope.PREFIX, "/1/", {1, 11}),
        (Scope.PREFIX, "/1/1.", {1}),
        (Scope.PREFIX, "/", set(range(12))),
        (Scope.SOURCE, "/1/11.jpg", {11}),
        (Scope.SOURCE, "/1/12.jpg", set()),
    ],
)
def test_what_an_order_concerns(scope: Scope, value: str, expected: set[int]) -> None:
    async def test(bench: Bench) -> None:
        sources = [bench.remember(n, "odd" if n % 2 else "even") for n in range(12)]
        others = [bench.remember(n, "odd", name="other") for n in range(12)]
        await bench.order(scope, value)
        assert {n for n, source in enumerate(sources) if is_renounced(source)} == expected
        assert not any(map(is_renounced, others))

    run(test)


def test_a_walk_is_in_steps_and_misses_nobody_while_the_table_changes() -> None:
    async def test(bench: Bench) -> None:
        count = 4 * BATCH
        sources = [bench.remember(n, "t") for n in range(count)]
        walk = asyncio.ensure_future(bench.order(Scope.TAG, "t"))
        renounced, turns = 0, 0
        while not walk.done():
            await asyncio.sleep(0)
            turns += 1
            now = sum(map(is_renounced, sources))
            assert now - renounced <= BATCH + 2  # this step's, and what was let go below
            renounced = now
            if turns == 2:
                held = sources[-1], sources[-2], sources[-3]
                bench.known.drop(held[0].id)  # a route may hold it still
                bench.remember(count - 2, "t")  # opened anew: moves in the table
                bench.known.drop(held[2].id)
                again = bench.remember(count - 3, "t")  # likewise, in a place that was free
                for n in range(count, count + 5):
                    bench.remember(n, "t")
        assert turns >= 4
        assert all(map(is_renounced, sources))
        assert again.id in bench.known

    run(test)


def test_orders_that_come_together_are_one_walk() -> None:
    async def test(bench: Bench) -> None:
        count = 3 * BATCH
        sources = [bench.remember(n, f"t{n % 50}") for n in range(count)]
        looks = 0

        class Counting(known_module.Newest):
            def of(self, *about: Any) -> int:
                nonlocal looks
                looks += 1
                return super().of(*about)

        real, known_module.Newest = known_module.Newest, Counting  # type: ignore[misc]
        try:
            first = asyncio.ensure_future(bench.order(Scope.TAG, "t0"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it walks
            others = [bench.order(Scope.TAG, f"t{n}") for n in range(1, 40)]
            await asyncio.gather(*others, bench.order(Scope.PREFIX, "/9/"))
        finally:
            known_module.Newest = real  # type: ignore[misc]
        assert first.done()
        assert looks == 2 * count
        for n, source in enumerate(sources):
            assert is_renounced(source) is (n % 50 < 40 or n % 10 == 9)

    run(test)


def test_a_walk_goes_on_when_who_asked_for_it_leaves() -> None:
    async def test(bench: Bench) -> None:
        sources = [bench.remember(n, "t") for n in range(3 * BATCH)]
        walk = asyncio.ensure_future(bench.order(Scope.TAG, "t"))
        await asyncio.sleep(0)
        walk.cancel()
        await bench.order(Scope.TAG, "nothing")
        assert walk.cancelled()
        assert all(map(is_renounced, sources))

    run(test)


def test_all_is_forgotten_with_whatever_else_is_ordered() -> None:
    async def test(bench: Bench) -> None:
        sources = [bench.remember(n) for n in range(BATCH + 1)]
        await asyncio.gather(bench.order(Scope.TAG, "t"), bench.known.forget())
        assert all(map(is_renounced, sources))

    run(test)


@pytest.mark.parametrize(
    ("letters", "fits"),
    [("a" * 900, 10), ("a" * 1_900, 5), ("a" * 899 + "\u20ac", 5), ("a" * 9_900, 1)],
)
def test_sources_are_bounded_in_bytes(
    letters: str, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go first, as many as it takes; what is asked for again is young."""

    async def test(bench: Bench) -> None:
        monkeypatch.setattr(known_module, "MAX_BYTES", 10_000)
        sources = [bench.remember(n, path=f"{letters}{n:02}") for n in range(20)]
        held = [source for source in sources if source.id in bench.known]
        assert held == sources[-fits:]
        assert all(is_renounced(source) is (source not in held) for source in sources)
        assert (len(bench.known), bench.known.crowded_out) == (fits, 20 - fits)
        assert bench.known.bytes == sum(sys.getsizeof(source.id.path) for source in held)
        bench.remember(0, path=held[0].id.path)
        bench.remember(0, path="/a.jpg")
        assert held[0].id in bench.known or fits == 1
        bench.remember(0, path="/" + "b" * 9_900)  # takes all of the room
        assert len(bench.known) == 1
        bench.known.drop(SourceId("*", "/" + "b" * 9_900))
        assert (len(bench.known), bench.known.bytes) == (0, 0)

    run(test)


def test_places_are_as_bounded_as_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(known_module, "MAX_SOURCES", 10)
        sources = [bench.remember(n, "t") for n in range(50)]
        for n in range(45, 48):
            bench.known.drop(sources[n].id)
        sources += [bench.remember(n, "t") for n in range(50, 60)]
        assert len(bench.known._places) == 11  # one comes before another one goes
        there = [source for source in sources if source.id in bench.known]
        assert len(there) == 10
        assert all(is_renounced(source) is (source not in there) for source in sources)
        await bench.order(Scope.TAG, "t")
        assert all(map(is_renounced, sources))

    run(test)
