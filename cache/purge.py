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

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cache.errors import IndexUnavailable
from cache.follow import Follower
from cache.index.interface import Index
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from cache.store import Store, soft

# Sources of one tag or prefix whose URLs are looked up for the caches in front, and these URLs.
MAX_SOURCES: Final = 10_000
MAX_URLS: Final = 100_000
# Sources asked about at once.
_AT_ONCE: Final = 64

T = TypeVar("T")


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
        counts = await _each(sources, self._count)
        urls, is_complete = await self._urls(sources)
        return Outcome(order, sum(counts), 0, self._scope, urls, is_complete)

    async def overtake(self, source: SourceId) -> bool:
        """In place of a purge, where nothing is stored of a source; see Store.overtake()."""
        return await self._store.overtake(source)

    async def urls_of(self, source: SourceId) -> tuple[str, ...]:
        """Those that were handed out. Raises IndexUnavailable."""
        return (await self._urls((source,)))[0]

    async def carry_out(self, order: Order) -> Outcome:
        """Raises IndexUnavailable where it could not be recorded."""
        if order.scope is not Scope.SOURCE:
            return await self._carry_out_pattern(order)
        urls, is_complete = await self._urls((order.source,))
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
        return Outcome(recorded, entries, replicas, self._scope, urls, is_complete)

    async def _carry_out_pattern(self, order: Order) -> Outcome:
        """Recorded first: to list what it concerns takes up to a second, and may fail by itself.

        That leaves the purge as it is, but for the caches in front: where their URLs cannot be
        read, IndexUnavailable makes the caller ask again. A count is a lower bound anyway.
        """
        recorded = await self._follower.announce(order)
        sources = await self._sources(order)
        urls, is_complete = await self._urls(sources)
        entries = 0
        with contextlib.suppress(IndexUnavailable):
            entries = sum(await _each(sources, self._count))
        return Outcome(recorded, entries, 0, self._scope, urls, is_complete)

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

    async def _count(self, source: SourceId) -> int:
        return len(await self._index.members(source))

    async def _urls(self, sources: tuple[SourceId, ...]) -> tuple[tuple[str, ...], bool]:
        found: list[str] = []
        for spelled in await _each(sources, self._index.spellings):
            found += spelled
        is_complete = len(found) <= MAX_URLS and len(sources) < MAX_SOURCES
        return tuple(found[:MAX_URLS]), is_complete


async def _each(sources: Sequence[SourceId], ask: Callable[[SourceId], Awaitable[T]]) -> list[T]:
    """Answers for each, a few at a time: the index has bounds of its own."""
    answers: list[T] = []
    for start in range(0, len(sources), _AT_ONCE):
        batch = sources[start : start + _AT_ONCE]
        answers += await asyncio.gather(*map(ask, batch))
    return answers
