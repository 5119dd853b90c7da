"""Single flight: one fill for a (key, token) at a time in this process.

A flight owns the task of its fill. Callers only wait for it: one that is cancelled leaves, the fill
goes on and serves the others. Its value or its error goes to everybody who came before it ended;
who comes later leads a new flight. A request from after a purge carries another token and so never
joins a flight from before it.

The table entry goes in the fill's own last step, before anyone is woken:
    1. A leads.  2. The fill ends.  3. B asks, before A has run again.
B must not join a flight that is over: by then the cache has the answer, and B looked there first.
"""

import asyncio
import enum
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cache.errors import FlightLost, TooManyFlights
from cache.index.interface import Token

T = TypeVar("T")

# Far above what a resizer's queue admits, so that its refusal, which is cheaper, comes first.
MAX_FLIGHTS: Final = 4096


class Role(enum.Enum):
    LED = "led"  # this caller started the fill
    JOINED = "joined"  # it waited for one that was under way


@dataclass(frozen=True, slots=True)
class Landing(Generic[T]):
    """The fill's value, which all callers of the flight share."""

    role: Role
    value: T


@dataclass(slots=True)
class Stats:
    """calls == led + joined + refused; led == landed + failed + lost + those in the air."""

    calls: int = 0
    led: int = 0
    joined: int = 0
    refused: int = 0
    landed: int = 0
    failed: int = 0
    lost: int = 0


class _Flight(Generic[T]):
    """The task of a fill, and a future for each caller that waits for it: a task's own would be
    cancelled by the first of them that leaves."""

    __slots__ = ("name", "task", "waiting")

    def __init__(self, name: tuple[bytes, Token]) -> None:
        self.name = name
        self.task: asyncio.Task[None] | None = None
        self.waiting: list[asyncio.Future[T]] = []

    async def land(self) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future

    def tell(self, value: T) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(value)

    def tell_error(self, error: BaseException) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)


class Flights(Generic[T]):
    def __init__(self, limit: int = MAX_FLIGHTS) -> None:
        self.stats = Stats()
        self._limit = limit
        self._flights: dict[tuple[bytes, Token], _Flight[T]] = {}
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def limit(self) -> int:
        return self._limit

    def is_flying(self, key_digest: bytes, token: Token) -> bool:
        return (key_digest, token) in self._flights

    async def do(
        self, key_digest: bytes, token: Token, fill: Callable[[], Awaitable[T]]
    ) -> Landing[T]:
        """Wait for the running fill of (key, token), or start one.

        Raises what the fill raised; FlightLost when the fill was cancelled, TooManyFlights when the
        table is full or draining.
        """
        self.stats.calls += 1
        name = (key_digest, token)
        flight = self._flights.get(name)
        if flight is not None:
            self.stats.joined += 1
            return Landing(Role.JOINED, await flight.land())
        if self._is_stopping or len(self._flights) >= self._limit:
            self.stats.refused += 1
            raise TooManyFlights(
                f"{len(self._flights)} fills are running, at most {self._limit} may"
            )
        self.stats.led += 1
        flight = self._flights[name] = _Flight(name)
        task = asyncio.get_running_loop().create_task(self._fly(flight, fill), name="fill")
        flight.task = task
        task.add_done_callback(functools.partial(self._over, flight))
        return Landing(Role.LED, await flight.land())

    async def stop(self, grace_s: float) -> None:
        """Let no fill start; wait for those under way, and cancel what is left after grace_s."""
        self._is_stopping = True
        running = {flight.task for flight in self._flights.values() if flight.task is not None}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _fly(self, flight: _Flight[T], fill: Callable[[], Awaitable[T]]) -> None:
        try:
            value = await fill()
        except Exception as error:  # noqa: BLE001 - of everybody who waits
            self._end(flight)
            self.stats.failed += 1
            flight.tell_error(error)
            return
        self._end(flight)
        self.stats.landed += 1
        flight.tell(value)

    def _end(self, flight: _Flight[T]) -> None:
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]

    def _over(self, flight: _Flight[T], task: asyncio.Task[None]) -> None:
        """A task that is cancelled never reaches _fly's own last step, and perhaps not its first;
        nor does one that ends the process."""
        if not task.cancelled() and task.exception() is None:
            return
        self._end(flight)
        self.stats.lost += 1
        flight.tell_error(FlightLost("the fill was cancelled before it ended"))
