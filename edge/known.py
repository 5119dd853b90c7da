"""What this worker knows of originals: a table of sources, bounded.

A hit neither touches the disk nor the index until its source's time is up. A source is renewed in
place: routes and ready answers hold it, and see at once that it must be opened again.
"""

import asyncio
import logging
import sys
from collections import OrderedDict
from typing import Final

from cache.index.interface import SourceRecord
from cache.key import SourceId
from cache.orders import Newest, Order, Scope
from cache.store import Opened, Store
from edge.clock import Clock
from edge.record import MAX_AHEAD_S, stale_limit
from edge.site import Site
from edge.source import NOT_ASKED, STAT_TTL_S, Found, Home, Source, Stale, Stats, Way

# Sources that a worker remembers, and the bytes of their paths, which clients choose: 350 each, or
# a few thousand of the longest. Beyond either the one not asked for longest is forgotten.
MAX_SOURCES: Final = 200_000
MAX_BYTES: Final = 64 * 1024 * 1024
# Sources looked at between two turns of the loop, when an order may concern any: half a
# millisecond, and 200 turns for all of them.
BATCH: Final = 1000

log = logging.getLogger("halftone.source")


class Known:
    def __init__(self, store: Store, clock: Clock, stats: Stats) -> None:
        self._store = store
        self._clock = clock
        self._stats = stats
        self._ticked_at = clock.wall
        self.crowded_out = 0  # forgotten to make room
        self.bytes = 0  # of paths
        self._sources: OrderedDict[SourceId, Source] = OrderedDict()
        # The same ones at places of their own, which they keep: so they can be walked through while
        # others come and go.
        self._places: list[Source | None] = []
        self._free: list[int] = []
        # What the next walk is for: an order, or None for all that there is.
        self._wanted: list[tuple[Order | None, asyncio.Future[None]]] = []
        self._walk: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, source_id: SourceId) -> bool:
        return source_id in self._sources

    def get(self, source_id: SourceId) -> Source | None:
        return self._sources.get(source_id)

    def drop(self, source_id: SourceId) -> None:
        known = self._sources.pop(source_id, None)
        if known is not None:
            self._let_go(known)

    def tick(self) -> None:
        """Once a second, after the clock. Where that was set back, what was counted on its former
        time is looked at again: 10 ms for a full table, once in years."""
        if self._clock.wall < self._ticked_at - MAX_AHEAD_S:
            log.warning("the clock was set back %d s", self._ticked_at - self._clock.wall)
            for source in self._sources.values():
                source.fresh_until = source.retry_at = 0
        self._ticked_at = self._clock.wall

    def is_known(self, source_id: SourceId) -> bool:
        """Is there an original that is served without asking anybody?"""
        known = self._sources.get(source_id)
        return known is not None and self._clock.wall < known.fresh_until

    def doubt(self, source_id: SourceId) -> None:
        """What is known of a source may be over: the next open() looks again."""
        known = self._sources.get(source_id)
        if known is not None:
            known.fresh_until = 0
            known.file = None  # and recheck() is not enough

    def remember(
        self, site: Site, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord
    ) -> Source:
        source = self.renew(source_id, home, opened, record)
        source.fresh_until = record.fresh_until
        if opened.current is None or site.docroot is not None:
            # The index is asked again soon, whatever the record's lifetime; and a file that appears
            # in the docroot comes before what the origin gave.
            source.fresh_until = min(source.fresh_until, self._clock.wall + STAT_TTL_S)
        self._end_if_purged(source)
        return source

    def renew(
        self, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord
    ) -> Source:
        """What is known from now on, whoever holds it. Until when, the caller says."""
        source = self._sources.get(source_id)
        if source is None:
            source = Source(source_id, home, opened, record)
            self._sources[source_id] = source
            self.bytes += _size_of(source)
            self._settle(source)
            while len(self._sources) > MAX_SOURCES or self.bytes > MAX_BYTES:
                self._let_go(self._sources.popitem(last=False)[1])
                self.crowded_out += 1
            return source
        self._sources.move_to_end(source_id)
        source.home = home
        source.opened = opened
        source.record = record
        source.stale = None
        source.retry_at = 0
        return source

    def use_stale(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord,
        why: Stale,
        retry_at: int = 0,
    ) -> Found:
        """retry_at: the origin has failed and is not asked before; else it is being asked, and how
        that ended is looked at with the next turn."""
        source = self.remember(site, source_id, Home.ORIGIN, opened, record)
        source.stale = why
        source.retry_at = retry_at
        turn_ends = self._clock.wall + STAT_TTL_S
        source.fresh_until = min(retry_at or turn_ends, stale_limit(record))
        if site.docroot is not None:
            source.fresh_until = min(source.fresh_until, turn_ends)
        self._end_if_purged(source)
        if why is Stale.IF_ERROR:
            self._stats.stale += 1
        else:
            self._stats.meanwhile += 1
        return Found(source, Way.KNOWN)

    def _end_if_purged(self, source: Source) -> None:
        """Whoever asked before a purge that came meanwhile is answered; the next one asks anew."""
        if self._store.is_purged(source.id, source.opened, source.record.tags):
            source.fresh_until = 0

    async def obey(self, order: Order) -> None:
        """What an order concerns is asked for again from now on. Of many, a few at a time."""
        if order.scope is not Scope.SOURCE:
            return await self._walked(order)
        source = self._sources.get(order.source)
        if source is not None:
            _renounce(source)
        return None

    async def forget(self) -> None:
        """Nothing that was known holds any longer."""
        await self._walked(None)

    async def _walked(self, order: Order | None) -> None:
        """Every source that is known now has been looked at. However many orders come together, a
        walk is for all that came before it began; and it goes on when its callers have left."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._wanted.append((order, ended))
        if self._walk is None:
            self._walk = loop.create_task(self._walk_on(), name="known sources")
        await ended

    async def _walk_on(self) -> None:
        wanted: list[tuple[Order | None, asyncio.Future[None]]] = []
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, []
                newest, is_for_all = Newest(), False
                for order, _ in wanted:
                    if order is None:
                        is_for_all = True
                    else:
                        newest.add(order)
                await self._walk_once(None if is_for_all else newest)
                for _, ended in wanted:
                    if not ended.done():
                        ended.set_result(None)
        finally:
            self._walk = None
            for _, ended in (*wanted, *self._wanted):
                ended.cancel()  # of those that are done nothing changes

    async def _walk_once(self, newest: Newest | None) -> None:
        """Who comes meanwhile has asked the index since, at whatever place."""
        for start in range(0, len(self._places), BATCH):
            for source in self._places[start : start + BATCH]:
                if source is None:
                    continue
                if newest is None or newest.of(source.id, source.record.tags):
                    _renounce(source)
            await asyncio.sleep(0)

    def _let_go(self, source: Source) -> None:
        self.bytes -= _size_of(source)
        self._vacate(source)
        _renounce(source)

    def _settle(self, source: Source) -> None:
        if self._free:
            source.place = self._free.pop()
            self._places[source.place] = source
        else:
            source.place = len(self._places)
            self._places.append(source)

    def _vacate(self, source: Source) -> None:
        self._places[source.place] = None
        self._free.append(source.place)
        source.place = -1


def _size_of(source: Source) -> int:
    # Not by letters: a single one of another script makes all of them wide.
    return sys.getsizeof(source.id.path)


def _renounce(source: Source) -> None:
    """Whoever holds it, a route or a ready answer, finds that it must be opened again."""
    source.fresh_until = 0
    source.file = None
    source.opened = NOT_ASKED
