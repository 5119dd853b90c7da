"""How much of the disk tier is taken, by whom, and who must go. Safe to call from any thread.

Bytes are what the disk charges: sizes rounded up to blocks. Files are charged an inode each. Fills
hold a claim from their start; a commit turns the claim into the true size. The 4,112 folders of the
fan-out (16 MiB) are not counted.

Above the high mark eviction begins, below the low mark it ends, and between the two every fill
evicts one batch: so one insert never empties the cache, and none waits for the whole way down.
"""

import threading
from collections import deque
from typing import Final

from cache.errors import DoesNotFit
from cache.gdsf import Gdsf, Victim

BLOCK: Final = 4096
HIGH_MARK: Final = 0.95
LOW_MARK: Final = 0.90
# One entry may take this share at most, or a single film would empty the cache.
LARGEST_SHARE: Final = 8
# Touches wait here for the next caller that holds the lock; a hit never waits for it.
_TOUCHES: Final = 1024


def allocated(size: int) -> int:
    """Bytes that a file of this size takes on disk."""
    return max(BLOCK, -(-size // BLOCK) * BLOCK)


class Room:
    """Accounting for at most size bytes in at most inodes files."""

    def __init__(self, size: int, inodes: int) -> None:
        if size < BLOCK or inodes < 1:
            raise ValueError(f"no file fits {size} bytes and {inodes} inodes")
        self.size = size
        self.inodes = inodes
        self.largest = max(BLOCK, size // LARGEST_SHARE)
        self._lock = threading.Lock()
        self._gdsf = Gdsf()
        self._claimed = 0
        self._claims = 0
        self._evicting = False
        self._touches: deque[bytes] = deque(maxlen=2 * _TOUCHES)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._gdsf

    @property
    def used(self) -> int:
        """Bytes, claims of running fills included."""
        return self._gdsf.used + self._claimed

    @property
    def used_inodes(self) -> int:
        return len(self._gdsf) + self._claims

    @property
    def fits(self) -> bool:
        return self.used <= self.size and self.used_inodes <= self.inodes

    def claim(self, size: int) -> None:
        """Count size bytes and one inode for a fill. Raises DoesNotFit for what never can."""
        if size > self.largest:
            raise DoesNotFit(f"entry takes {size} bytes, this tier holds {self.largest} in one")
        with self._lock:
            self._claimed += size
            self._claims += 1

    def extend(self, claim: int, size: int) -> None:
        """A claim is going to be of this size. Raises DoesNotFit; the claim is then what it was."""
        if size > self.largest:
            raise DoesNotFit(f"entry takes {size} bytes, this tier holds {self.largest} in one")
        with self._lock:
            self._claimed += size - claim

    def release(self, size: int) -> None:
        """Give a claim back."""
        with self._lock:
            self._claimed -= size
            self._claims -= 1

    def settle(self, claim: int, digest: bytes, size: int, cost_ms: int) -> None:
        """Turn a claim into an entry of its true size."""
        with self._lock:
            self._claimed -= claim
            self._claims -= 1
            self._gdsf.add(digest, size, max(1, cost_ms))

    def adopt(self, digest: bytes, size: int, cost_ms: int) -> None:
        """Count a file that was found on disk."""
        with self._lock:
            self._gdsf.add(digest, size, max(1, cost_ms))

    def remove(self, digest: bytes) -> None:
        with self._lock:
            self._gdsf.remove(digest)

    def touch(self, digest: bytes) -> None:
        """Count a hit. Never waits: appending to a deque needs no lock, and if the lock is taken
        the oldest of too many touches are lost, which costs a little precision."""
        self._touches.append(digest)
        if len(self._touches) >= _TOUCHES and self._lock.acquire(blocking=False):
            try:
                self._apply_touches()
            finally:
                self._lock.release()

    def victims(self, limit: int, *, urgent: bool = False) -> list[Victim]:
        """Up to limit entries that must go now; they are no longer counted when this returns.

        urgent: the disk is full though we are not, so a whole batch goes whatever the marks say.
        """
        with self._lock:
            self._apply_touches()
            if urgent:
                return self._gdsf.victims(self.size, self.inodes, limit)
            if self._is_above(HIGH_MARK):
                self._evicting = True
            if not self._evicting:
                return []
            victims = self._gdsf.victims(
                self.used - int(self.size * LOW_MARK),
                self.used_inodes - int(self.inodes * LOW_MARK),
                limit,
            )
            self._evicting = self._is_above(LOW_MARK)
            return victims

    def _is_above(self, mark: float) -> bool:
        return self.used > self.size * mark or self.used_inodes > self.inodes * mark

    def _apply_touches(self) -> None:
        while self._touches:
            self._gdsf.touch(self._touches.popleft())
