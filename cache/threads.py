"""The disk threads: where blocking calls run, with a bound on how many wait.

A thread cannot be cancelled. When a caller leaves, its call goes on, and what it yields (a
descriptor, a fill) belongs to nobody: the caller says beforehand how such an orphan is closed.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from cache.errors import StoreBusy

T = TypeVar("T")

# Calls running and waiting; at 50 us each the last of them waits 50 ms per thread.
MAX_CALLS: Final = 1024


@dataclass(slots=True)
class Stats:
    """calls == ended + refused + those running or waiting."""

    calls: int = 0
    ended: int = 0
    refused: int = 0
    orphaned: int = 0


class DiskThreads:
    def __init__(self, threads: int, limit: int = MAX_CALLS) -> None:
        self.stats = Stats()
        self.running = 0
        self._limit = limit
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="disk")

    async def run(self, call: Callable[[], T], orphan: Callable[[T], None] | None = None) -> T:
        """call() in a disk thread. Raises StoreBusy at the bound, else what call raises."""
        self.stats.calls += 1
        if self.running >= self._limit:
            self.stats.refused += 1
            raise StoreBusy(f"{self._limit} disk operations wait already")
        self.running += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        future.add_done_callback(self._ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.stats.orphaned += 1
            if orphan is not None:
                future.add_done_callback(lambda ended: _close_orphan(ended, orphan))
            raise

    async def stop(self) -> None:
        """Wait for what runs and waits."""
        await asyncio.to_thread(self._executor.shutdown)

    def _ended(self, future: asyncio.Future[T]) -> None:
        self.running -= 1
        self.stats.ended += 1
        if not future.cancelled():
            future.exception()  # retrieved, in case nobody waits any more


def _close_orphan(ended: asyncio.Future[T], orphan: Callable[[T], None]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        orphan(ended.result())
