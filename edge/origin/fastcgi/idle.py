"""Connections that wait for their next exchange: few, and not for long.

One php-fpm worker belongs to each of them for as long as it waits. So they are bounded per host,
closed after IDLE_S, and closed at once when the application closes or says something unasked.
"""

import asyncio
import functools
from collections.abc import Coroutine
from typing import Final

from edge.origin.address import Address
from edge.origin.channel import Channel

# Long enough for the next request of a busy origin, short enough for the workers that they pin.
IDLE_S: Final = 4.0


class IdleChannels:
    """limit is per host; 0 keeps none."""

    def __init__(self, limit: int, idle_s: float = IDLE_S) -> None:
        self.limit = limit
        self._idle_s = idle_s
        self._waiting: dict[Address, list[Channel]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def maybe_take(self, address: Address) -> Channel | None:
        """The connection to this host that was used last; the older ones may expire meanwhile."""
        waiting = self._waiting.get(address)
        while waiting:
            channel = waiting.pop()
            if channel.is_quiet_now():
                return channel
            channel.abort()
        return None

    def put(self, address: Address, channel: Channel) -> None:
        """Keeps a connection whose exchange came to its clean end, or closes it."""
        waiting = self._waiting.setdefault(address, [])
        if self._is_closed or len(waiting) >= self.limit or channel.is_closed:
            channel.abort()
            return
        late_at = asyncio.get_running_loop().time() + self._idle_s
        try:
            channel.watch(functools.partial(self._drop, waiting, channel), late_at)
        except OSError:  # what cannot be watched cannot be kept
            channel.abort()
            return
        waiting.append(channel)

    def own(self, work: Coroutine[object, object, None]) -> None:
        """Runs what a connection still needs behind its exchange; ended by aclose()."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        self._is_closed = True
        # A task that is cancelled before its first step never comes to its finally.
        await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in self._waiting.values():
            for channel in waiting:
                channel.abort()
        self._waiting.clear()

    def _drop(self, waiting: list[Channel], channel: Channel) -> None:
        """It closed, or said something, or its time is over."""
        channel.abort()
        waiting.remove(channel)
