"""Orders: what every worker of every node must obey, kept in one log by the index. Pure.

A purge of one source raises that source's generation (index/interface.py); its order only tells
those who remember the source. A purge by tag or prefix concerns sources that nobody can list in one
step. Its order is kept in a table like this one, and each source is compared with it when it is
opened: where an order is newer than the last one that the source's generation was raised for
(applied), the generation is raised then, and everything older is unreachable. So such a purge costs
the same for ten pictures and for ten million; only counting them for the answer does not.

seq grows by at least one with every order; it has milliseconds since 1970 in it, so that a log that
was lost goes on above what was there. What the log has forgotten for want of room is behind its
horizon: whoever has not applied anything since then is purged once, for safety's sake.
"""

import enum
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cache.key import SourceId

# Orders that a log keeps: at 200 bytes each 2 MB; beyond it the horizon moves.
MAX_ORDERS: Final = 10_000
# A tag as Fastly's Surrogate-Key has them, and a path as the parser lets through.
MAX_TAG_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 16_384


class Act(enum.StrEnum):
    PURGE = "purge"  # what is older is never used again
    SOFTEN = "soften"  # soft purge: what is older is stale, to be validated before or while used
    TAKE_DOWN = "take-down"  # purged, and refused with 451 until lifted; of sources only
    LIFT = "lift"


class Scope(enum.StrEnum):
    SOURCE = "source"
    PREFIX = "prefix"  # of source paths
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Order:
    """site is a site's name; value a source path, the start of one, or a tag.

    seq is 0 until the index has recorded it. Raises ValueError for what no index could keep.
    """

    act: Act
    scope: Scope
    site: str
    value: str
    seq: int = 0

    def __post_init__(self) -> None:
        size = len(self.value.encode())
        most = MAX_TAG_BYTES if self.scope is Scope.TAG else MAX_VALUE_BYTES
        if not 0 < size <= most:
            raise ValueError(f"{self.scope} of {size} bytes, from 1 to {most} are kept")
        if self.act in (Act.TAKE_DOWN, Act.LIFT) and self.scope is not Scope.SOURCE:
            raise ValueError(f"{self.act} is of a source, not of a {self.scope}")

    @property
    def source(self) -> SourceId:
        assert self.scope is Scope.SOURCE
        return SourceId(self.site, self.value)

    def concerns(self, source: SourceId, tags: Iterable[str]) -> bool:
        """Whether it is about this source, whose record has these tags."""
        if self.site != source.site:
            return False
        match self.scope:
            case Scope.SOURCE:
                return self.value == source.path
            case Scope.PREFIX:
                return source.path.startswith(self.value)
            case Scope.TAG:
                return self.value in tags


class Newest:
    """Of some orders, the newest for every tag and prefix. Ask for a source: one dictionary
    look-up a tag, and one for each length that a prefix has."""

    def __init__(self) -> None:
        self._tags: dict[tuple[str, str], int] = {}
        self._prefixes: dict[tuple[str, str], int] = {}
        self._lengths: list[int] = []

    def add(self, order: Order) -> None:
        by_value = self._tags if order.scope is Scope.TAG else self._prefixes
        name = (order.site, order.value)
        by_value[name] = max(by_value.get(name, 0), order.seq)
        if order.scope is Scope.PREFIX and len(order.value) not in self._lengths:
            insort(self._lengths, len(order.value))

    def of(self, source: SourceId, tags: Iterable[str]) -> int:
        site, path = source.site, source.path
        found = 0
        for tag in tags:
            found = max(found, self._tags.get((site, tag), 0))
        for length in self._lengths:
            if length > len(path):
                break
            found = max(found, self._prefixes.get((site, path[:length]), 0))
        return found


class Orders:
    """The orders of a log that are for tags and prefixes, and what is taken down.

    head is the seq of the newest order that was heard of, horizon that of the newest one forgotten.
    """

    def __init__(self) -> None:
        self.head = 0
        self.horizon = 0
        self.taken_down: set[SourceId] = set()
        # Orders arrive by several ways, so not always in order.
        self._heard: dict[int, None] = {}
        self._kept: list[Order] = []
        self._hard = Newest()
        self._soft = Newest()
        # Of single sources; the index has made their records stale, unless a fetch was under way.
        self._soft_sources: dict[SourceId, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, order: Order) -> bool:
        """Take in an order that the index has recorded; False when it was known already."""
        assert order.seq > 0
        if order.seq in self._heard or order.seq <= self.horizon:
            return False
        self._heard[order.seq] = None
        if len(self._heard) > 2 * MAX_ORDERS:
            del self._heard[next(iter(self._heard))]
        self.head = max(self.head, order.seq)
        match order.act:
            case Act.TAKE_DOWN:
                self.taken_down.add(order.source)
            case Act.LIFT:
                self.taken_down.discard(order.source)
            case Act.SOFTEN if order.scope is Scope.SOURCE:
                earlier = self._soft_sources.pop(order.source, 0)
                self._soft_sources[order.source] = max(earlier, order.seq)
                if len(self._soft_sources) > MAX_ORDERS:
                    del self._soft_sources[next(iter(self._soft_sources))]
            case _:
                pass
        if order.scope is not Scope.SOURCE:
            insort(self._kept, order, key=by_seq)
            self._newest(order).add(order)
            if len(self._kept) > MAX_ORDERS:
                self.forget(self._kept[MAX_ORDERS // 10].seq)
        return True

    def forget(self, horizon: int) -> None:
        """Drop orders up to this seq: what was applied before it counts as purged."""
        if horizon <= self.horizon:
            return
        self.horizon = horizon
        self.head = max(self.head, horizon)
        kept, self._kept = self._kept, []
        self._hard, self._soft = Newest(), Newest()
        for order in kept:
            if order.seq > horizon:
                self._kept.append(order)
                self._newest(order).add(order)

    def newest(self, source: SourceId, tags: Iterable[str] = ()) -> int:
        """The newest order known by which what is older of this source is purged, 0 for none."""
        return self._hard.of(source, tags)

    def barrier(self, source: SourceId, tags: Iterable[str] = ()) -> int:
        """The seq that must have been applied to a source before what is kept of it is used."""
        return max(self._hard.of(source, tags), self.horizon)

    def softened(self, source: SourceId, tags: Iterable[str] = ()) -> int:
        """Likewise of soft purges: a record that had seen less is stale."""
        of_source = self._soft_sources.get(source, 0)
        return max(self._soft.of(source, tags), of_source, self.horizon)

    def _newest(self, order: Order) -> Newest:
        return self._soft if order.act is Act.SOFTEN else self._hard


def by_seq(order: Order) -> int:
    return order.seq
