"""Purges, carried out: of single sources, for which the index needs to keep no log of orders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cache.errors import IndexUnavailable
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from cache.store import Store

# Sources whose spellings are remembered, in this process alone.
MAX_SOURCES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """order as recorded, with its seq. entries is a lower bound; scope is "node" or "cluster"."""

    order: Order
    entries: int
    replicas: int
    scope: str
    urls: tuple[str, ...]


class Purger:
    """on_purge: whoever remembers the source, or these entries of it, hears of it before the purge
    is answered."""

    def __init__(self, store: Store, on_purge: Callable[[SourceId, Sequence[bytes]], None]) -> None:
        self._store = store
        self._on_purge = on_purge
        self._spellings: dict[SourceId, dict[str, None]] = {}

    async def carry_out(self, order: Order) -> Outcome:
        """Raises IndexUnavailable when it could not be recorded."""
        if order.scope is not Scope.SOURCE or order.act is not Act.PURGE:
            raise IndexUnavailable("this index keeps no orders but purges of a source")
        purged = await self._store.purge(order.source)
        self._on_purge(order.source, purged.digests)
        recorded = replace(order, seq=purged.token.generation)
        return self._outcome(recorded, len(purged.digests), purged.replicas)

    async def preview(self, order: Order) -> Outcome:
        if order.scope is not Scope.SOURCE:
            raise IndexUnavailable("this index keeps no orders but purges of a source")
        return self._outcome(order, len(await self._store.index.members(order.source)), 0)

    async def add_spellings(self, source: SourceId, urls: Sequence[str]) -> bool:
        if source not in self._spellings and len(self._spellings) >= MAX_SOURCES:
            return False
        self._spellings.setdefault(source, {}).update(dict.fromkeys(urls))
        return True

    def _outcome(self, order: Order, entries: int, replicas: int) -> Outcome:
        scope = "node" if self._store.index.exclusive else "cluster"
        urls = tuple(self._spellings.get(order.source, ()))
        return Outcome(order, entries, replicas, scope, urls)
