"""The memory tier: ready-to-send objects under SIEVE.

Values are immutable and carry their own token: whoever gets one compares it with the current one.
Used from the event loop's thread only. gets == hits + misses; puts == stored + too_large.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from cache.sieve import Sieve, Slot

V = TypeVar("V")

# What an object costs beside its bytes: slot 136, digest 53, dict entry about 100, and an object
# with a head and an Entry around 1,100 (sys.getsizeof, Python 3.11). Counted, so that a million
# empty objects do not pass for nothing.
OVERHEAD_BYTES = 1_400


@dataclass(slots=True)
class Stats:
    hits: int = 0
    misses: int = 0
    stored: int = 0
    too_large: int = 0
    evicted: int = 0
    removed: int = 0


class Memory(Generic[V]):
    """At most limit bytes of values, none larger than cut_off bytes."""

    def __init__(self, limit: int, cut_off: int) -> None:
        self.limit = limit
        self.cut_off = min(cut_off, limit - OVERHEAD_BYTES)
        self.stats = Stats()
        self._slots: dict[bytes, Slot[V]] = {}
        self._sieve: Sieve[V] = Sieve(limit)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def used(self) -> int:
        """Bytes, overhead included."""
        return self._sieve.used

    def get(self, digest: bytes) -> V | None:
        slot = self._slots.get(digest)
        if slot is None:
            self.stats.misses += 1
            return None
        slot.visited = True
        self.stats.hits += 1
        return slot.value

    def put(self, digest: bytes, value: V, size: int) -> bool:
        """Keep value (size in bytes) in place of what was there; False when it is too large.

        A value that is refused still removes its predecessor: an old version must not survive.
        """
        self.remove(digest)
        if size > self.cut_off:
            self.stats.too_large += 1
            return False
        slot = Slot(digest, value, size + OVERHEAD_BYTES)
        for evicted in self._sieve.insert(slot):
            del self._slots[evicted.key]
            self.stats.evicted += 1
        self._slots[digest] = slot
        self.stats.stored += 1
        return True

    def remove(self, digest: bytes) -> None:
        slot = self._slots.pop(digest, None)
        if slot is None:
            return
        self._sieve.remove(slot)
        self.stats.removed += 1
