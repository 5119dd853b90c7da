"""Connections that wait for their next exchange: few, and not for long.

One php-fpm worker belongs to each of them for as long as it waits. So they are bounded per host,
closed after IDLE_S, and closed at once when the application closes or says something unasked.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

from edge.origin.address import Address
from edge.origin.connect import Stream

# Long enough for the next request of a busy origin, short enough for the workers that they pin.
IDLE_S: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    stream: Stream
    watch: asyncio.Task[None]


class KeptConnections:
    """limit is per host; 0 keeps none."""

    def __init__(self, limit: int, idle_s: float = IDLE_S) -> None:
        self.limit = limit
        self._idle_s = idle_s
        self._waiting: dict[Address, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def maybe_take(self, address: Address) -> Stream | None:
        """The connection to this host that was used last; the older ones may expire meanwhile."""
        waiting = self._waiting.get(address)
        while waiting:
            one = waiting.pop()
            one.watch.cancel()
            try:
                await asyncio.wait((one.watch,))
            except BaseException:
                one.stream[1].transport.abort()
                raise
            reader, writer = one.stream
            # A watch that ended by itself has closed; one that was just told of the end has not.
            if one.watch.cancelled() and not reader.at_eof() and not writer.is_closing():
                return one.stream
            writer.transport.abort()
        return None

    def put(self, address: Address, stream: Stream) -> None:
        """Keeps a connection whose exchange came to its clean end, or closes it."""
        waiting = self._waiting.setdefault(address, [])
        reader, writer = stream
        if self._is_closed or len(waiting) >= self.limit or reader.at_eof() or writer.is_closing():
            writer.transport.abort()
            return
        waiting.append(_Waiting(stream, self.own(self._watch(address, stream))))

    def own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs what a connection still needs behind its exchange; ended by aclose()."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        self._is_closed = True
        streams = [one.stream for waiting in self._waiting.values() for one in waiting]
        self._waiting.clear()
        # A task that is cancelled before its first step never comes to its finally.
        await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in streams:
            writer.transport.abort()

    async def _watch(self, address: Address, stream: Stream) -> None:
        """Until the application closes or speaks, or the time is over; cancelled when taken."""
        reader, writer = stream
        try:
            async with asyncio.timeout(self._idle_s):
                await reader.read(1)
        except OSError:  # a reset, or the time is over
            pass
        writer.transport.abort()
        waiting = self._waiting.get(address, [])
        waiting[:] = [one for one in waiting if one.stream is not stream]
