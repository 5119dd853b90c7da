"""The disk threads: where blocking calls run, with a bound on how many wait.

A thread cannot be cancelled. When a caller leaves, its call goes on, and what it yields (a
descriptor, a fill) belongs to nobody: the caller says beforehand how such an orphan is closed.

Not a ThreadPoolExecutor, whose futures of two kinds, with a lock and a condition each, cost more
than most of what is called here.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

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


class _Call(Generic[T]):
    """What to do, and where its answer goes."""

    __slots__ = ("answer", "error", "future", "loop", "orphan", "step")

    answer: T

    def __init__(
        self,
        step: Callable[[], T],
        orphan: Callable[[T], None] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.step = step
        self.orphan = orphan
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.error: BaseException | None = None


class DiskThreads:
    """At most so many threads, each begun when it is wanted first. run() is of one loop."""

    def __init__(self, threads: int, limit: int = MAX_CALLS) -> None:
        self.stats = Stats()
        self.running = 0
        self._limit = limit
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()

    async def run(self, call: Callable[[], T], orphan: Callable[[T], None] | None = None) -> T:
        """call() in a disk thread. Raises StoreBusy at the bound, else what call raises."""
        self.stats.calls += 1
        if self.running >= self._limit:
            self.stats.refused += 1
            raise StoreBusy(f"{self._limit} disk operations wait already")
        if len(self._threads) < min(self.running + 1, self._most):
            self._begin()
        self.running += 1
        asked = _Call(call, orphan, asyncio.get_running_loop())
        self._calls.put(asked)
        try:
            return await asked.future
        except asyncio.CancelledError:
            self.stats.orphaned += 1
            if not asked.future.cancelled():  # it had ended, and this caller has not run since
                _close(asked)
            raise

    async def stop(self) -> None:
        """Wait for what runs and waits."""
        for _ in self._threads:
            self._calls.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _begin(self) -> None:
        name = f"disk_{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the user may have no more of them, for now
            if self._threads:
                return
            self.stats.refused += 1
            raise StoreBusy(f"no disk thread can be started: {error}") from error
        self._threads.append(thread)

    def _settle(self, call: _Call[T]) -> None:
        self.running -= 1
        self.stats.ended += 1
        future = call.future
        if future.cancelled():
            _close(call)
        elif call.error is None:
            future.set_result(call.answer)
        else:
            future.set_exception(call.error)

    # In a thread

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.answer = call.step()
            except BaseException as error:  # noqa: BLE001 - its caller's, whatever it is
                call.error = error
            with contextlib.suppress(RuntimeError):  # the loop was closed over us
                call.loop.call_soon_threadsafe(self._settle, call)
            # Nothing of it may live on here: a descriptor closes with its last reference.
            del call


def _close(call: _Call[T]) -> None:
    """Nobody waits for it."""
    if call.error is not None:
        if call.future.done() and not call.future.cancelled():
            call.future.exception()  # retrieved
    elif call.orphan is not None:
        call.orphan(call.answer)
