"""Hints: what waits, in which order it is told, what goes for want of room."""

import asyncio
from collections.abc import Awaitable, Callable

from cache.errors import IndexUnavailable
from cache.index.hints import Hints


class Home:
    """An index that is there or not."""

    def __init__(self) -> None:
        self.is_down = True
        self.heard: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def hint(self, text: str, answer: bool = True) -> Callable[[], Awaitable[bool]]:
        async def tell() -> bool:
            await self.gate.wait()
            if self.is_down:
                raise IndexUnavailable("down")
            self.heard.append(text)
            return answer

        return tell


def check(hints: Hints, added: int) -> None:
    stats = hints.stats
    ended = stats.dropped + stats.overtaken + stats.told + stats.outdated
    assert stats.waiting + ended == added


async def settle(hints: Hints) -> None:
    while hints._telling is not None:
        await hints._telling


def test_hints_wait_until_there_are_answers_and_are_told_in_order() -> None:
    async def main() -> None:
        home, hints = Home(), Hints()
        hints.wake()
        for text in "abc":
            hints.add(text, home.hint(text, answer=text != "b"), 1)
        hints.wake()
        await settle(hints)
        assert (home.heard, hints.stats.waiting) == ([], 3)
        home.is_down = False
        hints.wake()
        hints.wake()
        await settle(hints)
        assert home.heard == ["b", "c", "a"]  # what failed made way for the others
        assert (hints.stats.told, hints.stats.outdated, hints.stats.waiting) == (2, 1, 0)
        check(hints, 3)

    asyncio.run(main())


def test_the_newest_of_a_name_is_told() -> None:
    async def main() -> None:
        home, hints = Home(), Hints()
        home.is_down = False
        hints.add("name", home.hint("old"), 1)
        hints.add("other", home.hint("other"), 1)
        hints.add("name", home.hint("new"), 1)
        hints.add("gone", home.hint("gone"), 1)
        hints.overtake("gone")
        hints.overtake("never there")
        hints.wake()
        await settle(hints)
        assert home.heard == ["other", "new"]
        assert hints.stats.overtaken == 2
        check(hints, 4)

    asyncio.run(main())


def test_news_that_comes_while_a_hint_is_told() -> None:
    async def main() -> None:
        home, hints = Home(), Hints()
        home.is_down = False
        home.gate.clear()
        hints.add("name", home.hint("old"), 1)
        hints.wake()
        await asyncio.sleep(0)
        hints.add("name", home.hint("new"), 1)
        home.gate.set()
        await settle(hints)
        assert home.heard == ["old", "new"]
        check(hints, 2)

    asyncio.run(main())


def test_the_oldest_go_for_want_of_room() -> None:
    async def main() -> None:
        home, hints = Home(), Hints(max_hints=3, max_bytes=100)
        home.is_down = False
        for text in "abcd":
            hints.add(text, home.hint(text), 10)
        assert hints.stats.dropped == 1
        hints.add("big", home.hint("big"), 85)
        assert (hints.stats.dropped, hints.stats.waiting) == (3, 2)
        hints.add("never", home.hint("never"), 101)
        assert (hints.stats.dropped, hints.stats.waiting) == (6, 0)
        hints.add("small", home.hint("small"), 100)
        hints.wake()
        await settle(hints)
        assert home.heard == ["small"]
        check(hints, 7)

    asyncio.run(main())


def test_stop_loses_what_waits() -> None:
    async def main() -> None:
        home, hints = Home(), Hints()
        home.gate.clear()
        hints.add("a", home.hint("a"), 1)
        hints.add("b", home.hint("b"), 1)
        hints.wake()
        await asyncio.sleep(0)
        stopping = asyncio.create_task(hints.stop())
        await asyncio.sleep(0)
        home.gate.set()
        await stopping
        assert hints._telling is None
        assert home.heard == []
        check(hints, 2)

    asyncio.run(main())


def test_a_hint_that_fails_otherwise_does_not_end_the_telling() -> None:
    async def main() -> None:
        home, hints = Home(), Hints()
        home.is_down = False

        async def fail() -> bool:
            raise RuntimeError

        hints.add("bad", fail, 1)
        hints.add("good", home.hint("good"), 1)
        hints.wake()
        await settle(hints)
        hints.wake()
        await settle(hints)
        assert home.heard == ["good"]
        check(hints, 2)

    asyncio.run(main())
