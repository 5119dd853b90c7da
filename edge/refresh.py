"""Revalidation behind what is served stale: at most one a source, and so many an origin.

    ask        a stale source was served: its origin is asked behind it, if there is room
    join       the time to serve it is over before the origin has answered: now it is waited for

Without room nothing is queued: the source is served stale for another turn, and whoever asks then
tries again. So a clock that jumps, or a farm that wakes, costs an origin no more than MAX_REFRESHES
questions at a time, and what is asked for most is asked about first.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cache.errors import CacheError, FlightLost
from cache.index.interface import Token
from cache.key import SourceId
from edge.errors import RequestError
from edge.origin.errors import OriginError

T = TypeVar("T")

# With the token: what a purge has overtaken goes on for nobody.
Name = tuple[SourceId, Token]

# For each origin, so that one that hangs holds up no other: a quarter of what one of its hosts is
# asked at once (OriginPool), and the rest is for misses.
MAX_REFRESHES: Final = 16

log = logging.getLogger("halftone.refresh")


@dataclass(slots=True)
class Stats:
    """started == done + failed + those under way."""

    started: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0  # MAX_REFRESHES of that origin were under way


class Refreshes(Generic[T]):
    def __init__(self, limit: int = MAX_REFRESHES) -> None:
        self.stats = Stats()
        self._limit = limit
        self._tasks: dict[Name, asyncio.Task[T]] = {}
        self._running: Counter[str] = Counter()  # by origin
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def ask(self, origin: str, name: Name, refresh: Callable[[], Awaitable[T]]) -> None:
        """Have refresh() run, unless it runs for this source already, or cannot just now."""
        if name in self._tasks or self._is_stopping:
            return
        if self._running[origin] >= self._limit:
            self.stats.refused += 1
            return
        self.stats.started += 1
        task = asyncio.get_running_loop().create_task(self._run(name, refresh), name="refresh")
        self._tasks[name] = task
        self._running[origin] += 1
        task.add_done_callback(lambda done: self._count(origin, name, done))

    def is_running(self, name: Name) -> bool:
        return name in self._tasks

    async def join(self, name: Name) -> T:
        """The outcome of what is_running(). Raises what that raises, FlightLost when it stops."""
        task = self._tasks[name]
        await asyncio.wait({task})
        if task.cancelled():
            raise FlightLost("the refresh was stopped before it ended")
        return task.result()

    async def stop(self) -> None:
        """At once: nobody waits for what is behind an answer."""
        self._is_stopping = True
        running = set(self._tasks.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _run(self, name: Name, refresh: Callable[[], Awaitable[T]]) -> T:
        try:
            return await refresh()
        finally:
            # Before anyone is woken: who comes next must not join what is over.
            self._tasks.pop(name, None)

    def _count(self, origin: str, name: Name, task: "asyncio.Task[T]") -> None:
        self._running[origin] -= 1
        # A task that is cancelled before its first step never reaches _run's own last step.
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if task.cancelled():
            self.stats.failed += 1
            return
        error = task.exception()
        if error is None:
            self.stats.done += 1
            return
        self.stats.failed += 1
        path = name[0].path
        if isinstance(error, OriginError | CacheError | RequestError | OSError):
            log.warning("%a stays stale: %s: %s", path, type(error).__name__, error)
        else:
            log.error("%a stays stale", path, exc_info=error)
