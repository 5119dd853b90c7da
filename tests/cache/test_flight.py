"""Single flight: who leads, who joins, who gets what when something ends early."""

import asyncio

import pytest

from cache.errors import FlightLost, TooManyFlights
from cache.flight import Flights, Landing, Role
from cache.index.interface import Token
from tests.waiting import until

T1 = Token("0" * 16, 1)
T2 = Token("0" * 16, 2)


class Fill:
    """A fill that waits to be released and counts its runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.error = error

    async def __call__(self) -> int:
        self.runs += 1
        self.started.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return self.runs


async def _joined(flights: Flights[int], count: int) -> None:
    await until(lambda: flights.stats.joined >= count, pause_s=0)


def _adds_up(flights: Flights[int]) -> bool:
    stats = flights.stats
    return stats.calls == stats.led + stats.joined + stats.refused and (
        stats.led == stats.landed + stats.failed + stats.lost + len(flights)
    )


def test_ten_callers_one_fill() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill()
        callers = [asyncio.create_task(flights.do(b"k", T1, fill)) for _ in range(10)]
        await _joined(flights, 9)
        fill.release.set()
        landings = await asyncio.gather(*callers)
        assert landings == [Landing(Role.LED, 1)] + [Landing(Role.JOINED, 1)] * 9
        assert len(flights) == 0
        assert _adds_up(flights)
        assert (await flights.do(b"k", T1, fill)) == Landing(Role.LED, 2)

    asyncio.run(run())


def test_another_key_or_token_is_another_flight() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill()
        names = [(b"k", T1), (b"k", T2), (b"l", T1)]
        callers = [asyncio.create_task(flights.do(*name, fill)) for name in names]
        await until(lambda: fill.runs >= 3, pause_s=0)
        fill.release.set()
        assert {landing.role for landing in await asyncio.gather(*callers)} == {Role.LED}

    asyncio.run(run())


def test_an_error_goes_to_everybody_and_the_next_caller_leads() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill(ValueError("broken picture"))
        callers = [asyncio.create_task(flights.do(b"k", T1, fill)) for _ in range(3)]
        await _joined(flights, 2)
        fill.release.set()
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [str(error) for error in errors] == ["broken picture"] * 3
        fill.error = None
        assert (await flights.do(b"k", T1, fill)).role is Role.LED
        assert (flights.stats.failed, flights.stats.landed) == (1, 1)
        assert _adds_up(flights)

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_a_caller_that_leaves_does_not_end_the_fill(leaving: int) -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill()
        callers = [asyncio.create_task(flights.do(b"k", T1, fill)) for _ in range(3)]
        await _joined(flights, 2)
        callers[leaving].cancel()
        with pytest.raises(asyncio.CancelledError):
            await callers[leaving]
        fill.release.set()
        rest = [caller for caller in callers if not caller.cancelled()]
        assert [landing.value for landing in await asyncio.gather(*rest)] == [1, 1]

    asyncio.run(run())


def test_the_fill_goes_on_when_all_callers_left() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill(ValueError("nobody hears this"))
        caller = asyncio.create_task(flights.do(b"k", T1, fill))
        await fill.started.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert len(flights) == 1
        fill.release.set()
        await flights.stop(10)
        assert (len(flights), flights.stats.failed) == (0, 1)

    asyncio.run(run())


def test_a_lost_fill_is_told_from_a_caller_that_left() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill()
        callers = [asyncio.create_task(flights.do(b"k", T1, fill)) for _ in range(3)]
        await _joined(flights, 2)
        await flights.stop(0)
        for caller in callers:
            with pytest.raises(FlightLost):
                await caller
        assert flights.stats.lost == 1
        assert _adds_up(flights)

    asyncio.run(run())


def test_a_fill_cancelled_before_its_first_step_leaves_the_table() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights()
        fill = Fill()
        caller = asyncio.create_task(flights.do(b"k", T1, fill))
        await asyncio.sleep(0)  # the caller made the task, which has not run yet
        (flight,) = flights._flights.values()
        flight.task.cancel()
        with pytest.raises(FlightLost):
            await caller
        assert (fill.runs, len(flights)) == (0, 0)

    asyncio.run(run())


def test_the_bound_and_draining_refuse() -> None:
    async def run() -> None:
        flights: Flights[int] = Flights(limit=2)
        fill = Fill()
        callers = [asyncio.create_task(flights.do(key, T1, fill)) for key in (b"a", b"b")]
        await fill.started.wait()
        with pytest.raises(TooManyFlights):
            await flights.do(b"c", T1, fill)
        joiner = asyncio.create_task(flights.do(b"a", T1, fill))  # joining is always possible
        await _joined(flights, 1)
        stopping = asyncio.create_task(flights.stop(10))
        await asyncio.sleep(0)
        with pytest.raises(TooManyFlights):
            await flights.do(b"d", T1, fill)
        fill.release.set()
        await stopping
        assert {landing.role for landing in await asyncio.gather(*callers)} == {Role.LED}
        assert (await joiner).role is Role.JOINED
        assert _adds_up(flights)

    asyncio.run(run())
