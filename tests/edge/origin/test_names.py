"""Names against a resolver that does what the test says."""

import asyncio
import logging

import pytest

from edge.origin import names as names_module
from edge.origin.names import MAX_ADDRESSES, Names, resolve_by_loop
from tests.edge.origin.asking import LOGGER, LOOPS, run
from tests.waiting import until


class Resolver:
    def __init__(self, *answers: tuple[str, ...] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, host: str) -> tuple[str, ...]:
        self.asked += 1
        await self.may_answer.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ONE, TWO = ("192.0.2.1",), ("192.0.2.2", "2001:db8::2")
DOWN = OSError("no name server")


async def settled(names: Names) -> None:
    await until(lambda: not names._lookups, pause_s=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "RESOLVE_S", 0.04)
    monkeypatch.setattr(names_module, "PAUSE_S", 0.01)


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "fe80::1%lo"])
def test_numbers_are_no_names(host: str) -> None:
    async def main() -> None:
        resolver = Resolver(DOWN)
        assert await Names(LOGGER, resolver).lookup(host) == (host,)
        assert resolver.asked == 0

    run(main())


def test_looked_up_once_and_then_behind_the_requests() -> None:
    async def main() -> None:
        resolver = Resolver(ONE, TWO)
        names = Names(LOGGER, resolver)
        assert await asyncio.gather(*(names.lookup("php") for _ in range(9))) == [ONE] * 9
        assert resolver.asked == 1
        await asyncio.sleep(names_module.RESOLVE_S)
        assert await names.lookup("php") == ONE  # nobody waits
        await settled(names)
        assert await names.lookup("php") == TWO
        assert (resolver.asked, names.stats.resolved) == (2, 2)

    run(main())


def test_a_failed_connect_looks_again() -> None:
    async def main() -> None:
        resolver = Resolver(ONE, TWO)
        names = Names(LOGGER, resolver)
        names.doubt("never heard of")
        await names.lookup("php")
        await asyncio.sleep(names_module.PAUSE_S)
        for _ in range(50):  # one lookup, however many connects fail
            names.doubt("php")
        await settled(names)
        assert await names.lookup("php") == TWO
        assert resolver.asked == 2

    run(main())


def test_doubts_have_a_pause() -> None:
    async def main() -> None:
        resolver = Resolver(ONE)
        names = Names(LOGGER, resolver)
        names_module.PAUSE_S = 60.0
        await names.lookup("php")
        for _ in range(50):
            names.doubt("php")
            await names.lookup("php")
        assert resolver.asked == 1

    run(main())


def test_the_last_good_address_stays(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        resolver = Resolver(ONE, DOWN, DOWN, (), TWO)
        names = Names(LOGGER, resolver)
        await names.lookup("php")
        await asyncio.sleep(names_module.RESOLVE_S)
        while resolver.asked < 5:
            assert await names.lookup("php") == ONE
            await asyncio.sleep(names_module.PAUSE_S / 2)
        await settled(names)
        assert await names.lookup("php") == TWO
        assert (names.stats.resolved, names.stats.failed) == (2, 3)

    with caplog.at_level(logging.WARNING, LOGGER.name):
        run(main())
    assert len(caplog.records) == 1  # once an outage
    assert "still using 192.0.2.1" in caplog.text


def test_nothing_known() -> None:
    async def main() -> None:
        resolver = Resolver(DOWN, ONE)
        names = Names(LOGGER, resolver)
        for _ in range(5):
            with pytest.raises(OSError, match="cannot be resolved: no name server"):
                await names.lookup("php")
        assert resolver.asked == 1  # not once a request
        await asyncio.sleep(names_module.PAUSE_S)
        assert await names.lookup("php") == ONE

    run(main())


def test_a_resolver_that_hangs_hangs_one_lookup() -> None:
    async def main() -> None:
        resolver = Resolver(ONE)
        resolver.may_answer.clear()
        names = Names(LOGGER, resolver)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await names.lookup("php")
        assert resolver.asked == 1
        waiting = asyncio.create_task(names.lookup("php"))
        await asyncio.sleep(0)
        resolver.may_answer.set()
        assert await waiting == ONE
        resolver.may_answer.clear()
        await asyncio.sleep(names_module.RESOLVE_S)
        assert await names.lookup("php") == ONE
        await names.aclose()
        assert not names._lookups

    run(main())


def test_not_more_addresses_than_a_connect_can_try() -> None:
    async def main() -> None:
        many = tuple(f"192.0.2.{n}" for n in range(50))
        assert await Names(LOGGER, Resolver(many)).lookup("cloud") == many[:MAX_ADDRESSES]

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loops_resolver(loop: str) -> None:
    assert set(run(resolve_by_loop("localhost"), loop)) <= {"127.0.0.1", "::1"}
