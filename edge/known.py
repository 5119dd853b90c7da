"""What this worker knows of originals: a table of sources, bounded.

A hit neither touches the disk nor the index until its source's time is up. A source is renewed in
place: routes and ready answers hold it, and see at once that it must be opened again.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from cache.index.interface import SourceRecord
from cache.key import SourceId
from cache.orders import Order, Scope
from cache.store import Opened, Store
from edge.clock import Clock
from edge.record import MAX_AHEAD_S, stale_limit
from edge.site import Site
from edge.source import NOT_ASKED, STAT_TTL_S, Found, Home, Source, Stale, Stats, Way

# Sources that a worker remembers; beyond it the one not asked for longest is forgotten.
MAX_SOURCES: Final = 200_000
# Sources looked at between two turns of the loop, when an order may concern any: a quarter of a
# millisecond.
BATCH: Final = 500

log = logging.getLogger("halftone.source")


class Known:
    def __init__(self, store: Store, clock: Clock, stats: Stats) -> None:
        self._store = store
        self._clock = clock
        self._stats = stats
        self._ticked_at = clock.wall
        self._sources: OrderedDict[SourceId, Source] = OrderedDict()

    def __contains__(self, source_id: SourceId) -> bool:
        return source_id in self._sources

    def get(self, source_id: SourceId) -> Source | None:
        return self._sources.get(source_id)

    def drop(self, source_id: SourceId) -> None:
        self._sources.pop(source_id, None)

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
        source = self._sources.get(source_id)
        if source is None:
            source = Source(source_id, home, opened, record)
            self._sources[source_id] = source
            if len(self._sources) > MAX_SOURCES:
                _renounce(self._sources.popitem(last=False)[1])
        else:
            self._sources.move_to_end(source_id)
        source.home = home
        source.opened = opened
        source.record = record
        source.stale = None
        source.retry_at = 0
        source.fresh_until = record.fresh_until
        if opened.current is None or site.docroot is not None:
            # The index is asked again soon, whatever the record's lifetime; and a file that appears
            # in the docroot comes before what the origin gave.
            source.fresh_until = min(source.fresh_until, self._clock.wall + STAT_TTL_S)
        self._end_if_purged(source)
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
        if order.scope is Scope.SOURCE:
            source = self._sources.get(order.source)
            if source is not None:
                _renounce(source)
            return
        for batch in self._batches():
            for source in batch:
                if order.concerns(source.id, source.record.tags):
                    _renounce(source)
            await asyncio.sleep(0)

    async def forget(self) -> None:
        """Nothing that was known holds any longer."""
        for batch in self._batches():
            for source in batch:
                _renounce(source)
            await asyncio.sleep(0)

    def _batches(self) -> Iterator[list[Source]]:
        """Who comes meanwhile asks the index anyway."""
        sources = list(self._sources.values())
        for start in range(0, len(sources), BATCH):
            yield sources[start : start + BATCH]


def _renounce(source: Source) -> None:
    """Whoever holds it, a route or a ready answer, finds that it must be opened again."""
    source.fresh_until = 0
    source.file = None
    source.opened = NOT_ASKED
