"""Purges, soft purges, take-downs: carried out in one step whatever their number of derivatives.

Order of effects, of one source: the generation is raised in the index, the order is recorded in its
log, and then in this node's journal; then this worker obeys, and the caller is answered. By tag or
prefix the order is all there is to record: every source is compared with it when it is opened.
A purge that could not be recorded raises and is none, though some of it may have taken effect:
purged is purged, and to purge once more does no harm.

What a success promises: in this process, no request that starts later is answered from before it.
Every worker of every node that can reach the index obeys within a second (follow.py), or at once
where it is strict; one that cannot obeys as soon as it can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cache.follow import Follower
from cache.index.interface import MAX_SURVEYED, Index
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from cache.store import Store, soft

# Sources of one tag or prefix whose URLs are looked up for the caches in front, and these URLs.
MAX_SOURCES: Final = 10_000
MAX_URLS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or in a preview what would be.

    order has the seq under which it was recorded, 0 in a preview. entries: originals and
    derivatives known to have become unreachable; of a tag or prefix those of the sources that the
    index can list, so at least as many. replicas: further index servers that acknowledged. scope:
    "node", or "cluster" where the index is shared. urls: to be told to the caches in front;
    is_complete False where there were more.
    """

    order: Order
    entries: int
    replicas: int
    scope: str
    urls: tuple[str, ...]
    is_complete: bool = True


class Purger:
    """One a worker."""

    def __init__(self, index: Index, store: Store, follower: Follower) -> None:
        self._index = index
        self._store = store
        self._follower = follower

    async def preview(self, order: Order) -> Outcome:
        """Raises IndexUnavailable."""
        sources = await self._sources(order)
        return await self._outcome(order, sources)

    async def overtake(self, source: SourceId) -> bool:
        """In place of a purge, where nothing is stored of a source; see Store.overtake()."""
        return await self._store.overtake(source)

    async def urls_of(self, source: SourceId) -> tuple[str, ...]:
        """Those that were handed out. Raises IndexUnavailable."""
        return await self._index.spellings(source)

    async def carry_out(self, order: Order) -> Outcome:
        """Raises IndexUnavailable where it could not be recorded."""
        if order.scope is not Scope.SOURCE:
            return await self._carry_out_pattern(order)
        urls = await self._index.spellings(order.source)
        entries = replicas = 0
        match order.act:
            case Act.PURGE | Act.TAKE_DOWN:
                purged = await self._store.purge(order.source)
                entries, replicas = len(purged.digests), purged.replicas
            case Act.SOFTEN:
                entries = await self._soften(order.source)
            case Act.LIFT:
                pass
        recorded = await self._follower.announce(order)
        return Outcome(recorded, entries, replicas, self._scope, urls)

    async def _carry_out_pattern(self, order: Order) -> Outcome:
        """Recorded first: to list what it concerns takes a while, and may fail by itself.

        That leaves the purge as it is, but for the caches in front: where their URLs cannot be
        read, IndexUnavailable makes the caller ask again.
        """
        recorded = await self._follower.announce(order)
        return await self._outcome(recorded, await self._sources(order))

    @property
    def _scope(self) -> str:
        return "node" if self._index.exclusive else "cluster"

    async def _soften(self, source: SourceId) -> int:
        """Stale is what the record says; under another token there is nothing left to soften."""
        sight = await self._index.open_source(source, head=self._store.orders.head)
        if sight.record is not None:
            record = soft(sight.record, self._store.now())
            await self._store.put_source(source, sight.token, record)
        return len(await self._index.members(source))

    async def _sources(self, order: Order) -> tuple[SourceId, ...]:
        if order.scope is Scope.SOURCE:
            return (order.source,)
        return await self._index.sources_of(order.scope, order.site, order.value, MAX_SOURCES)

    async def _outcome(self, order: Order, sources: Sequence[SourceId]) -> Outcome:
        """A batch at a time, so that others have their turn at the index in between."""
        entries, urls = 0, list[str]()
        for start in range(0, len(sources), MAX_SURVEYED):
            for found in await self._index.survey(sources[start : start + MAX_SURVEYED]):
                entries += found.entries
                urls += found.urls[: MAX_URLS + 1 - len(urls)]
        is_complete = len(urls) <= MAX_URLS and len(sources) < MAX_SOURCES
        return Outcome(order, entries, 0, self._scope, tuple(urls[:MAX_URLS]), is_complete)
