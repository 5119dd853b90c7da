"""Slow formats, prepared in idle time: until then a quick one is sent, with a short life.

    1. A variant whose format takes long is asked for and is not kept: ask(). A quick one goes out.
    2. When the resizer has nothing else to do, the slow one is rendered and kept.
    3. Who asks again after QUICK_S gets it like any other hit.

Each key waits once. When MAX_WAITING wait, or one has just failed, quick ones go on being sent:
nobody is refused for want of an upgrade. One is prepared at a time, because idle time has no end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cache.key import Key
from edge.rendering import Terms
from edge.site import Site
from edge.source import Source
from resizer.transform import Transform

log = logging.getLogger("halftone.upgrades")

# How long caches may keep the quick answer: time enough for an idle second to come, and short
# enough that most who come later get what they asked for.
QUICK_S: Final = 60
# Some minutes of AVIF on one core. Whatever is not taken is asked for again a minute later.
MAX_WAITING: Final = 512
# One that failed is not tried again before the quick answers to it have run out.
FAILED_S: Final = float(QUICK_S)
MAX_FAILED: Final = 1024


@dataclass(slots=True)
class Stats:
    """asked == joined + held_down + refused + done + failed + those that wait or are prepared."""

    asked: int = 0
    joined: int = 0  # it waited already
    held_down: int = 0  # it had just failed
    refused: int = 0  # MAX_WAITING waited
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    site: Site
    source: Source
    key: Key
    transform: Transform
    terms: Terms


class Upgrades:
    """prepare renders and keeps one, and raises whatever hinders it. now is in monotonic seconds.

    start() and stop() once each, all calls from one loop.
    """

    def __init__(
        self,
        prepare: Callable[[Site, Source, Key, Transform, Terms], Awaitable[None]],
        now: Callable[[], float],
        limit: int = MAX_WAITING,
    ) -> None:
        self.stats = Stats()
        self._prepare = prepare
        self._now = now
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(limit)
        self._waiting: set[bytes] = set()  # by key, the one that is being prepared among them
        self._failed: dict[bytes, float] = {}  # by key, until when
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """How many wait."""
        return self._jobs.qsize()

    @property
    def limit(self) -> int:
        return self._jobs.maxsize

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(), name="upgrades")

    async def stop(self) -> None:
        """What waits is dropped: it will be asked for again."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})

    def ask(self, site: Site, source: Source, key: Key, transform: Transform, terms: Terms) -> None:
        """Have a variant prepared, unless it cannot be just now."""
        self.stats.asked += 1
        if key.digest in self._waiting:
            self.stats.joined += 1
            return
        if self._failed.get(key.digest, 0.0) > self._now():
            self.stats.held_down += 1
            return
        try:
            self._jobs.put_nowait(_Job(site, source, key, transform, terms))
        except asyncio.QueueFull:
            self.stats.refused += 1
            return
        self._failed.pop(key.digest, None)
        self._waiting.add(key.digest)

    def is_waiting(self, key: Key) -> bool:
        """Whether there is no use in looking for it yet."""
        return key.digest in self._waiting

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._prepare(job.site, job.source, job.key, job.transform, job.terms)
            except Exception as error:  # noqa: BLE001 - the top of a task; the quick one still goes out
                self.stats.failed += 1
                self._hold_down(job.key)
                kind = type(error).__name__
                log.info("%a is not upgraded: %s: %s", job.key.source.path, kind, error)
            else:
                self.stats.done += 1
            finally:
                self._waiting.discard(job.key.digest)

    def _hold_down(self, key: Key) -> None:
        if len(self._failed) >= MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        self._failed[key.digest] = self._now() + FAILED_S
