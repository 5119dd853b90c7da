"""SIEVE (Zhang et al., NSDI '24): a queue of slots with a byte bound. Pure accounting.

Newest first. A hit only sets the slot's visited flag; nothing moves. To evict, a hand walks from
the oldest slot towards the newest: a visited slot is spared once (its flag is cleared), the first
unvisited one goes, and the hand stays where it stopped. The owner keeps its own dict from key to
slot, so that a hit costs one look-up.
"""

from typing import Generic, TypeVar

V = TypeVar("V")


class Slot(Generic[V]):
    """One place in the queue; a slot belongs to one Sieve at a time."""

    __slots__ = ("key", "newer", "older", "size", "value", "visited")

    def __init__(self, key: bytes, value: V, size: int) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.visited = False
        self.newer: Slot[V] | None = None
        self.older: Slot[V] | None = None


class Sieve(Generic[V]):
    """Slots whose sizes add up to at most limit bytes."""

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit {limit} is negative")
        self.limit = limit
        self.used = 0
        self._newest: Slot[V] | None = None
        self._oldest: Slot[V] | None = None
        self._hand: Slot[V] | None = None

    def insert(self, slot: Slot[V]) -> list[Slot[V]]:
        """Make room, then put the slot in front. Returns the evicted slots, first one first.

        The slot must fit the limit alone.
        """
        assert slot.size <= self.limit
        evicted = []
        while self.used + slot.size > self.limit:
            evicted.append(self._evict())
        slot.older = self._newest
        slot.newer = None
        if self._newest is not None:
            self._newest.newer = slot
        self._newest = slot
        if self._oldest is None:
            self._oldest = slot
        self.used += slot.size
        return evicted

    def remove(self, slot: Slot[V]) -> None:
        """Take the slot out; it must be in the queue."""
        if self._hand is slot:
            self._hand = slot.newer
        if slot.newer is None:
            self._newest = slot.older
        else:
            slot.newer.older = slot.older
        if slot.older is None:
            self._oldest = slot.newer
        else:
            slot.older.newer = slot.newer
        slot.newer = slot.older = None
        self.used -= slot.size

    def _evict(self) -> Slot[V]:
        hand = self._hand or self._oldest
        assert hand is not None  # the queue holds bytes, or nothing had to be evicted
        while hand.visited:
            hand.visited = False
            hand = hand.newer or self._oldest
            assert hand is not None
        self._hand = hand.newer
        self.remove(hand)
        return hand
