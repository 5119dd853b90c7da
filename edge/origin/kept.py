"""Streams that wait for their next exchange: few, and not for long.

Bounded per host, closed after IDLE_S, and closed at once when the origin closes or says something
unasked.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from edge.origin.address import Address
from edge.origin.connect import Stream

# Below the least that servers wait for a request on an idle connection (5 s of Apache and Node).
IDLE_S: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    stream: Stream
    watch: asyncio.Task[None]


class KeptStreams:
    """limit is per host; 0 keeps none."""

    def __init__(self, limit: int, idle_s: float = IDLE_S) -> None:
        self.limit = limit
        self._idle_s = idle_s
        self._waiting: dict[Address, list[_Waiting]] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def maybe_take(self, address: Address) -> Stream | None:
        """The stream to this host that was used last; the older ones may expire meanwhile."""
        waiting = self._waiting.get(address)
        while waiting:
            one = waiting.pop()
            one.watch.cancel()
            try:
                await asyncio.wait((one.watch,))
            except BaseException:
                one.stream[1].transport.abort()
                raise
            # A watch that ended by itself has closed; one that was just told of the end has not.
            if one.watch.cancelled() and _is_open(one.stream):
                return one.stream
            one.stream[1].transport.abort()
        return None

    def put(self, address: Address, stream: Stream) -> None:
        """Keeps a stream whose exchange came to its clean end, or closes it."""
        waiting = self._waiting.setdefault(address, [])
        if self._is_closed or len(waiting) >= self.limit or not _is_open(stream):
            stream[1].transport.abort()
            return
        watch = asyncio.get_running_loop().create_task(self._watch(address, stream))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        waiting.append(_Waiting(stream, watch))

    async def aclose(self) -> None:
        self._is_closed = True
        streams = [one.stream for waiting in self._waiting.values() for one in waiting]
        self._waiting.clear()
        watches = list(self._watches)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for _, writer in streams:
            writer.transport.abort()

    async def _watch(self, address: Address, stream: Stream) -> None:
        """Until the origin closes or speaks, or the time is over; cancelled when taken."""
        reader, writer = stream
        try:
            async with asyncio.timeout(self._idle_s):
                await reader.read(1)
        except OSError:  # a reset, or the time is over
            pass
        writer.transport.abort()
        waiting = self._waiting.get(address, [])
        waiting[:] = [one for one in waiting if one.stream is not stream]


def _is_open(stream: Stream) -> bool:
    """And nothing waits in it, which would be taken for the answer to what is asked next."""
    reader, writer = stream
    return not writer.is_closing() and _is_silent(reader)


def _is_silent(reader: asyncio.StreamReader) -> bool:
    """A reader does not tell whether it holds something, but reads without waiting where it does.
    Nobody else may be reading."""
    reading = reader.read(1)
    try:
        reading.send(None)
    except (StopIteration, OSError):
        return False
    reading.close()
    return True
