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


class Flights(Generic[T]):
    def __init__(self, limit: int = MAX_FLIGHTS) -> None:
        self.stats = Stats()
        self._limit = limit
        self._tasks: dict[tuple[bytes, Token], asyncio.Task[T]] = {}
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def limit(self) -> int:
        return self._limit

    def is_flying(self, key_digest: bytes, token: Token) -> bool:
        return (key_digest, token) in self._tasks

    async def do(
        self, key_digest: bytes, token: Token, fill: Callable[[], Awaitable[T]]
    ) -> Landing[T]:
        """Wait for the running fill of (key, token), or start one.

        Raises what the fill raised; FlightLost when the fill was cancelled, TooManyFlights when the
        table is full or draining.
        """
        self.stats.calls += 1
        name = (key_digest, token)
        task = self._tasks.get(name)
        if task is not None:
            self.stats.joined += 1
            return Landing(Role.JOINED, await _wait(task))
        if self._is_stopping or len(self._tasks) >= self._limit:
            self.stats.refused += 1
            raise TooManyFlights(f"{len(self._tasks)} fills are running, at most {self._limit} may")
        self.stats.led += 1
        task = asyncio.get_running_loop().create_task(self._fly(name, fill), name="fill")
        task.add_done_callback(self._count)
        self._tasks[name] = task
        return Landing(Role.LED, await _wait(task))

    async def stop(self, grace_s: float) -> None:
        """Let no fill start; wait for those under way, and cancel what is left after grace_s."""
        self._is_stopping = True
        running = set(self._tasks.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _fly(self, name: tuple[bytes, Token], fill: Callable[[], Awaitable[T]]) -> T:
        try:
            return await fill()
        finally:
            self._tasks.pop(name, None)

    def _count(self, task: asyncio.Task[T]) -> None:
        # A task that is cancelled before its first step never reaches _fly's own last step.
        for name, running in list(self._tasks.items()) if task.cancelled() else ():
            if running is task:
                del self._tasks[name]
        if task.cancelled():
            self.stats.lost += 1
        elif task.exception() is not None:
            self.stats.failed += 1
        else:
            self.stats.landed += 1


async def _wait(task: asyncio.Task[T]) -> T:
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        assert current is not None
        if task.cancelled() and not current.cancelling():
            raise FlightLost("the fill was cancelled before it ended") from None
        raise
