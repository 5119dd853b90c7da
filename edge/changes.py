"""What unsafe methods have changed at an origin is purged (RFC 9111 section 4.4), within bounds.

    nothing stored     neither by this node nor by another one (Index.overtake): nothing is
                       recorded; what is being filled just now is refused
    under way          a purge of the same source: who comes meanwhile shares the next one, which
                       begins after all of them have heard from the origin
    MAX_UNDER_WAY      purges at a time; the others wait
    MAX_SOURCES        that are changed at a time; beyond it a change is not recorded

A change that is not recorded is counted, and said in the log once in LOG_S. The caches in front are
told as after a purge, and waited for TOLD_WITHIN_S; of a source of which nothing is stored here
they are told again after TOLD_S, or when it was handed out since.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

from cache.errors import CacheError
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from edge.brief import Brief
from edge.clock import Clock
from edge.downstream import Downstream
from edge.purging import MAX_TOLD
from edge.spellings import Spellings, under_both_schemes

log = logging.getLogger("halftone.changes")

# Each is a few writes to the index, one of them durable: with an fsync of 5 ms a disk does no more.
MAX_UNDER_WAY: Final = 32
# Each has a request that waits for it, at some 500 bytes.
MAX_SOURCES: Final = 4096
# Seconds between two lines about changes that were not recorded.
LOG_S: Final = 10
# An application's client waits, where a purge is asked for by a program: a Squid next door has
# answered long before.
TOLD_WITHIN_S: Final = 0.25
TOLD_S: Final = 60
MAX_TOLD_SOURCES: Final = 16_384


class Outcome(Protocol):
    @property
    def urls(self) -> tuple[str, ...]: ...


class Purger(Protocol):
    async def overtake(self, source: SourceId) -> bool:
        """False: something may be stored. Raises IndexUnavailable."""
        ...

    async def urls_of(self, source: SourceId) -> tuple[str, ...]: ...

    async def carry_out(self, order: Order) -> Outcome:
        """Raises IndexUnavailable when it could not be recorded."""
        ...


@dataclass(slots=True)
class Stats:
    """changed == purged + bare + shared + failed + refused + those under way."""

    changed: int = 0  # URLs, once for every answer that says so
    purged: int = 0
    bare: int = 0  # nothing was stored, so nothing was recorded
    shared: int = 0  # by the purge of another request
    failed: int = 0  # could not be recorded
    refused: int = 0  # too many were under way


@dataclass(slots=True, eq=False)
class _Line:
    """The changes of one source: one is under way, and the next one is for all who wait."""

    urls: set[str] = field(default_factory=set)
    waiting: int = 0
    next: "asyncio.Future[bool] | None" = None


class Changes:
    """is_known: is there an original that this worker would serve without asking anybody? part: who
    asks for it from now on must not be given what was asked for before."""

    def __init__(
        self,
        *,
        purger: Purger,
        is_known: Callable[[SourceId], bool],
        part: Callable[[SourceId], None],
        clock: Clock,
        downstream: Downstream | None = None,
        spellings: Spellings | None = None,
        has_both_schemes: bool = False,
    ) -> None:
        self.stats = Stats()
        self._purger = purger
        self._is_known = is_known
        self._part = part
        self._clock = clock
        self._downstream = downstream
        self._spellings = spellings
        self._has_both_schemes = has_both_schemes
        self._lines: dict[SourceId, _Line] = {}
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        # By digest: a path may have 8 KiB.
        self._told: Brief[bytes] = Brief(MAX_TOLD_SOURCES, TOLD_S, lambda: clock.wall)
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged_at = -LOG_S
        self._silent = 0  # changes that were not recorded, since that line

    def __len__(self) -> int:
        """Sources whose purges are under way, or wait."""
        return len(self._lines)

    def note(self, source: SourceId, url: str) -> None:
        """It is handed out under this URL: caches in front may have it from now on."""
        if self._spellings is not None:
            self._told.discard(source.digest)
            self._spellings.note(source, url)

    async def carry_out(self, source: SourceId, urls: Collection[str] = ()) -> bool:
        """The origin has changed it; urls are spellings that the request and its answer name. When
        this returns, what was stored before is used no more. False: that could not be recorded.

        It goes on when its caller leaves.
        """
        self.stats.changed += 1
        line = self._lines.get(source)
        if line is None:
            if len(self._lines) >= MAX_SOURCES:
                self.stats.refused += 1
                self._say(source, f"{MAX_SOURCES} are changed at a time")
                return False
            line = self._lines[source] = _Line()
            task = asyncio.get_running_loop().create_task(self._work(source, line), name="changed")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if line.next is None:
            line.next = asyncio.get_running_loop().create_future()
        line.waiting += 1
        if len(line.urls) < MAX_TOLD:
            line.urls.update(urls)
        return await asyncio.shield(line.next)

    async def stop(self, grace_s: float) -> None:
        """What is under way may end in this time."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=max(grace_s, 0.0))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _work(self, source: SourceId, line: _Line) -> None:
        """Until nobody waits any more."""
        try:
            while line.next is not None:
                async with self._room:
                    future, urls, waiting = line.next, line.urls, line.waiting
                    line.next, line.urls, line.waiting = None, set(), 0
                    is_recorded = False
                    try:
                        is_recorded = await self._change(source, urls)
                    except Exception:
                        log.exception("%a was changed, and that could NOT be recorded", source.path)
                    finally:
                        if is_recorded:
                            self.stats.shared += waiting - 1
                        else:
                            self.stats.failed += waiting
                        future.set_result(is_recorded)
        finally:
            del self._lines[source]
            if line.next is not None:  # the node stops
                self.stats.failed += line.waiting
                line.next.set_result(False)

    async def _change(self, source: SourceId, urls: set[str]) -> bool:
        self._part(source)
        handed_out: tuple[str, ...] = ()
        try:
            if self._spellings is not None and self._spellings.depth:
                await self._spellings.flush()
            is_bare = not self._is_known(source) and await self._purger.overtake(source)
            if not is_bare:
                order = Order(Act.PURGE, Scope.SOURCE, source.site, source.path)
                handed_out = (await self._purger.carry_out(order)).urls
            elif self._downstream is not None and source.digest not in self._told:
                handed_out = await self._purger.urls_of(source)
        except CacheError as error:
            # The origin has done it, and the client must hear so. This worker is in doubt.
            self._say(source, str(error))
            return False
        if is_bare:
            self.stats.bare += 1
        else:
            self.stats.purged += 1
        if self._downstream is not None and (handed_out or not is_bare):
            await self._tell(self._downstream, source, {*handed_out, *urls})
        return True

    async def _tell(self, downstream: Downstream, source: SourceId, urls: set[str]) -> None:
        self._told.add(source.digest)
        found = sorted(urls)
        if self._has_both_schemes:
            found = under_both_schemes(found)
        errand = downstream.tell(found[:MAX_TOLD], f"change of {source.path[:200]!a}")
        await errand.wait(TOLD_WITHIN_S)

    def _say(self, source: SourceId, why: str) -> None:
        now = self._clock.wall
        if 0 <= now - self._logged_at < LOG_S:
            self._silent += 1
            return
        more = f" (and {self._silent} more since)" if self._silent else ""
        log.error("%a was changed, and that could NOT be recorded%s: %s", source.path, more, why)
        self._logged_at, self._silent = now, 0
