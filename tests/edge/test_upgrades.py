"""Slow formats in idle time: each once, at most so many, and none again right after it failed."""

import asyncio

import pytest

from cache.key import Key, SourceId
from edge.rendering import Terms
from edge.upgrades import FAILED_S, MAX_FAILED, Upgrades
from resizer.transform import Transform
from tests.waiting import until

AVIF = Transform(width=9)


def key(name: str) -> Key:
    return Key(SourceId("*", f"/{name}.jpg"), AVIF.canonical())


class Farm:
    """Prepares when it may; remembers what."""

    def __init__(self, limit: int = 2) -> None:
        self.now = 100.0
        self.prepared: list[str] = []
        self.begun = asyncio.Event()
        self.may = asyncio.Event()
        self.error: Exception | None = None
        self.upgrades = Upgrades(self.prepare, lambda: self.now, limit)

    async def prepare(self, site, source, key, transform, terms) -> None:
        self.begun.set()
        await self.may.wait()
        if self.error is not None:
            raise self.error
        self.prepared.append(key.source.path[1:-4])

    def ask(self, *names: str) -> None:
        for name in names:
            self.upgrades.ask(None, None, key(name), AVIF, Terms())  # type: ignore[arg-type]

    async def rest(self) -> None:
        """Until nothing waits."""
        self.may.set()
        await until(lambda: not self.upgrades._waiting, pause_s=0)
        self.may.clear()
        self.begun.clear()

    def check(self) -> None:
        stats = self.upgrades.stats
        ended = stats.joined + stats.held_down + stats.refused + stats.done + stats.failed
        assert stats.asked == ended + len(self.upgrades._waiting)


def run(test) -> None:
    async def started() -> None:
        farm = Farm()
        farm.upgrades.start()
        await test(farm)
        farm.check()
        await farm.upgrades.stop()

    asyncio.run(started())


def test_each_once_in_order():
    async def test(farm: Farm) -> None:
        farm.ask("a")
        await farm.begun.wait()
        farm.ask("a", "b", "a", "b", "c")  # a is being prepared
        assert farm.upgrades.stats.joined == 3
        assert farm.upgrades.is_waiting(key("a"))
        assert farm.upgrades.is_waiting(key("c"))
        farm.check()
        await farm.rest()
        assert farm.prepared == ["a", "b", "c"]
        assert not farm.upgrades.is_waiting(key("a"))
        assert (farm.upgrades.stats.done, farm.upgrades.depth) == (3, 0)
        farm.ask("a")  # evicted meanwhile
        await farm.rest()
        assert farm.prepared == ["a", "b", "c", "a"]

    run(test)


def test_at_most_so_many_wait():
    async def test(farm: Farm) -> None:
        farm.ask("a")
        await farm.begun.wait()
        farm.ask("b", "c", "d", "e")
        assert (farm.upgrades.depth, farm.upgrades.stats.refused) == (2, 2)
        assert not farm.upgrades.is_waiting(key("d"))
        farm.check()
        await farm.rest()
        farm.ask("d")
        await farm.rest()
        assert farm.prepared == ["a", "b", "c", "d"]

    run(test)


@pytest.mark.parametrize("error", [ValueError("x"), OSError("y")])
def test_one_that_failed_waits_a_minute(error):
    async def test(farm: Farm) -> None:
        farm.error = error
        farm.ask("a", "b")
        await farm.rest()
        assert farm.upgrades.stats.failed == 2
        farm.error = None
        farm.now += FAILED_S - 1
        farm.ask("a")
        assert farm.upgrades.stats.held_down == 1
        assert not farm.upgrades.is_waiting(key("a"))
        farm.now += 1
        farm.ask("a")
        await farm.rest()
        assert farm.prepared == ["a"]
        farm.ask("a")  # it has not failed since
        assert farm.upgrades.stats.held_down == 1
        await farm.rest()

    run(test)


def test_failures_are_not_remembered_without_end():
    async def test(farm: Farm) -> None:
        for number in range(MAX_FAILED + 5):
            farm.upgrades._hold_down(key(str(number)))
        assert len(farm.upgrades._failed) == MAX_FAILED

    run(test)


def test_stopping_waits_for_nobody():
    async def test() -> None:
        farm = Farm()
        await farm.upgrades.stop()  # never started
        farm.upgrades.start()
        farm.ask("a", "b")
        await farm.begun.wait()
        await farm.upgrades.stop()
        assert farm.prepared == []

    asyncio.run(test())
