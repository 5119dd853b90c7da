"""What the index could not be told, kept until it answers again. Bounded; the oldest go first.

Each hint carries the token that it was true under, and the index compares: what a purge has
overtaken is refused then as it would have been in time. Hints are named after what they speak of,
and the newest of a name is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from cache.errors import IndexUnavailable
from cache.index.interface import HintStats

# At some 500 bytes each 2 MB a process; large records reach the second bound first.
MAX_HINTS: Final = 4096
MAX_BYTES: Final = 4 * 1024 * 1024

_log = logging.getLogger(__name__)

# Answers whether it was still true. Raises IndexUnavailable.
Tell = Callable[[], Awaitable[bool]]


class Hints:
    """wake() belongs after every answer of the index: while nothing waits it costs a comparison."""

    def __init__(self, max_hints: int = MAX_HINTS, max_bytes: int = MAX_BYTES) -> None:
        self.stats = HintStats()
        self._max_hints = max_hints
        self._max_bytes = max_bytes
        self._waiting: dict[Hashable, tuple[Tell, int]] = {}
        self._bytes = 0
        self._telling: asyncio.Task[None] | None = None

    def add(self, name: Hashable, tell: Tell, size: int) -> None:
        """size in bytes of what tell holds on to."""
        self.overtake(name)
        self._waiting[name] = (tell, size)
        self._bytes += size
        self.stats.waiting += 1
        while len(self._waiting) > self._max_hints or self._bytes > self._max_bytes:
            self._drop_oldest()

    def overtake(self, name: Hashable) -> None:
        """What waits under this name, if anything does, is not true any more."""
        if self._take(name):
            self.stats.overtaken += 1

    def wake(self) -> None:
        """Begin to tell, if nobody does."""
        if self._waiting and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell(), name="hints")

    async def stop(self) -> None:
        """What still waits is lost; the files describe themselves."""
        while self._waiting:
            self._drop_oldest()
        if self._telling is not None:
            await self._telling

    def _drop_oldest(self) -> None:
        self._take(next(iter(self._waiting)))
        self.stats.dropped += 1

    def _take(self, name: Hashable) -> bool:
        found = self._waiting.pop(name, None)
        if found is None:
            return False
        self._bytes -= found[1]
        self.stats.waiting -= 1
        return True

    async def _tell(self) -> None:
        """One at a time, so that what is asked meanwhile does not wait for long."""
        try:
            while self._waiting:
                name, hint = next(iter(self._waiting.items()))
                try:
                    outcome = "told" if await hint[0]() else "outdated"
                except IndexUnavailable:
                    # The next answer wakes us. It may come from another server of a cluster, so
                    # that the next hint has better luck.
                    if self._waiting.get(name) is hint:
                        self._waiting[name] = self._waiting.pop(name)
                    return
                except Exception:  # noqa: BLE001  # one bad hint must not keep the others
                    _log.exception("telling the index what it has missed failed")
                    outcome = "dropped"
                # Unless it was overtaken or dropped while it was told:
                if self._waiting.get(name) is hint and self._take(name):
                    setattr(self.stats, outcome, getattr(self.stats, outcome) + 1)
        finally:
            self._telling = None
