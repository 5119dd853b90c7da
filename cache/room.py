"""How much of the disk tier is taken, by what, and who must go. Safe to call from any thread.

Bytes are what the disk charges: sizes rounded up to blocks. Files are charged an inode each. Fills
hold a claim from their start; a commit turns the claim into the true size. The 4,112 folders of the
fan-out (16 MiB) are not counted.

Originals and derivatives have a share each, of bytes and of inodes. What one kind leaves unused the
other may have, and gives it back first: entries of a kind are evicted only while it is above the
low mark of its share. When all is full, one of them always is.

Derivatives go by GDSF: a hit saves a render's time. Originals go by LFUDA: a hit saves their bytes.
How often a key was asked for is known beyond its stay, from a sketch that counts hits and fills.
Most keys were asked for once or twice, which says little. So the frequency of a derivative is its
own times that of its source: how often something was made of it lately, as known at the fill. What
crawlers ask for once has no popular kin.

Above the high mark eviction begins, below the low mark it ends, and between the two every fill
evicts one batch: so one insert never empties the cache, and none waits for the whole way down.
"""

import enum
import threading
from collections import deque
from typing import Final

from cache.errors import DoesNotFit
from cache.gdsf import Gdsf, Victim
from cache.key import Key
from cache.sketch import Sketch

BLOCK: Final = 4096
HIGH_MARK: Final = 0.95
LOW_MARK: Final = 0.90
# One entry may take this share at most, or a single film would empty the cache.
LARGEST_SHARE: Final = 8
# Percent of the room that originals are sure of; see NOTES.md.
ORIGINALS: Final = 25
# Touches wait until so many can be counted together, at 2 us each: some callers are in a hurry.
_TOUCHES: Final = 128
# And until the lock is free, at most so many.
_MAX_TOUCHES: Final = 2048


class Kind(enum.Enum):
    DERIVATIVE = "derivative"
    ORIGINAL = "original"


def kind_of(key: Key) -> Kind:
    return Kind.DERIVATIVE if key.variant else Kind.ORIGINAL


def kin_of(key: Key) -> bytes | None:
    """What a key has in common with the other derivatives of its source; None for an original."""
    return key.source.digest if key.variant else None


def allocated(size: int) -> int:
    """Bytes that a file of this size takes on disk."""
    return max(BLOCK, -(-size // BLOCK) * BLOCK)


class _Share:
    """What one kind of entries is sure of, as a part of the room, and what it has."""

    __slots__ = ("claimed", "claims", "evicted", "gdsf", "percent")

    def __init__(self, percent: int) -> None:
        self.percent = percent
        self.gdsf = Gdsf()
        self.claimed = 0
        self.claims = 0
        self.evicted = 0

    @property
    def used(self) -> int:
        return self.gdsf.used + self.claimed

    @property
    def used_inodes(self) -> int:
        return len(self.gdsf) + self.claims

    def evict(self, need_bytes: int, need_inodes: int, limit: int) -> list[Victim]:
        victims = self.gdsf.victims(need_bytes, need_inodes, limit)
        self.evicted += len(victims)
        return victims


class Room:
    """Accounting for at most size bytes in at most inodes files.

    originals: percent of both that originals are sure of. seed: see Sketch.
    """

    def __init__(
        self, size: int, inodes: int, originals: int = ORIGINALS, *, seed: int = 0
    ) -> None:
        if size < BLOCK or inodes < 1:
            raise ValueError(f"no file fits {size} bytes and {inodes} inodes")
        if not 0 < originals < 100:
            raise ValueError(f"{originals} % for originals leave one kind without a share")
        self.size = size
        self.inodes = inodes
        self.largest = max(BLOCK, size // LARGEST_SHARE)
        self._high = size * HIGH_MARK
        self._high_inodes = inodes * HIGH_MARK
        self._lock = threading.Lock()
        self._shares = {
            Kind.DERIVATIVE: _Share(100 - originals),
            Kind.ORIGINAL: _Share(originals),
        }
        self._derivatives = self._shares[Kind.DERIVATIVE]
        self._originals = self._shares[Kind.ORIGINAL]
        self._sketch = Sketch(min(inodes, size // BLOCK), seed)
        self._evicting = False
        self._touches: deque[bytes] = deque(maxlen=_MAX_TOUCHES)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._derivatives.gdsf or digest in self._originals.gdsf

    @property
    def used(self) -> int:
        """Bytes, claims of running fills included."""
        return self._derivatives.used + self._originals.used

    @property
    def used_inodes(self) -> int:
        return self._derivatives.used_inodes + self._originals.used_inodes

    @property
    def fits(self) -> bool:
        return self.used <= self.size and self.used_inodes <= self.inodes

    @property
    def is_at_ease(self) -> bool:
        """Whether victims() would name none, and all fits. Never waits."""
        if self._evicting:
            return False
        one, other = self._derivatives, self._originals
        return (
            one.gdsf.used + one.claimed + other.gdsf.used + other.claimed <= self._high
            and len(one.gdsf) + one.claims + len(other.gdsf) + other.claims <= self._high_inodes
        )

    def used_by(self, kind: Kind) -> int:
        """Bytes of one kind, as used."""
        return self._shares[kind].used

    def evicted(self, kind: Kind) -> int:
        """Entries of one kind that victims() has named so far."""
        return self._shares[kind].evicted

    def claim(self, size: int, kind: Kind = Kind.DERIVATIVE) -> None:
        """Count size bytes and one inode for a fill. Raises DoesNotFit for what never can."""
        if size > self.largest:
            raise DoesNotFit(f"entry takes {size} bytes, this tier holds {self.largest} in one")
        with self._lock:
            share = self._shares[kind]
            share.claimed += size
            share.claims += 1

    def extend(self, claim: int, size: int, kind: Kind = Kind.DERIVATIVE) -> None:
        """A claim is going to be of this size. Raises DoesNotFit; the claim is then what it was."""
        if size > self.largest:
            raise DoesNotFit(f"entry takes {size} bytes, this tier holds {self.largest} in one")
        with self._lock:
            self._shares[kind].claimed += size - claim

    def release(self, size: int, kind: Kind = Kind.DERIVATIVE) -> None:
        """Give a claim back."""
        with self._lock:
            self._release(size, kind)

    def settle(
        self,
        claim: int,
        digest: bytes,
        size: int,
        cost_ms: int,
        kind: Kind = Kind.DERIVATIVE,
        kin: bytes | None = None,
    ) -> None:
        """Turn a claim into an entry of its true size. The miss behind it counts as a use, of the
        key and of its kin; a key without kin stands for its own."""
        count = self._sketch.count
        with self._lock:
            self._release(claim, kind)
            frequency = count(digest)
            of_kin = count(kin) if kin else frequency
            self._age()
            self._add(digest, size, cost_ms, kind, frequency, of_kin)

    def adopt(
        self,
        digest: bytes,
        size: int,
        cost_ms: int,
        kind: Kind = Kind.DERIVATIVE,
        kin: bytes | None = None,
    ) -> None:
        """Count a file that was found on disk; nobody asked for it."""
        estimate = self._sketch.estimate
        with self._lock:
            frequency = estimate(digest) or 1
            of_kin = estimate(kin) or 1 if kin else frequency
            self._add(digest, size, cost_ms, kind, frequency, of_kin)

    def remove(self, digest: bytes) -> None:
        with self._lock:
            self._remove(digest)

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
                return self._most_urgent(limit)
            if self._is_above(HIGH_MARK):
                self._evicting = True
            if not self._evicting:
                return []
            victims = self._least_valuable(limit)
            self._evicting = self._is_above(LOW_MARK)
            return victims

    def _least_valuable(self, limit: int) -> list[Victim]:
        """On the way down to the low mark; no kind goes below that of its own share."""
        victims: list[Victim] = []
        low_bytes, low_inodes = int(self.size * LOW_MARK), int(self.inodes * LOW_MARK)
        need_bytes = self.used - low_bytes
        need_inodes = self.used_inodes - low_inodes
        for share in self._by_excess():
            found = share.evict(
                min(need_bytes, share.used - low_bytes * share.percent // 100),
                min(need_inodes, share.used_inodes - low_inodes * share.percent // 100),
                limit - len(victims),
            )
            need_bytes -= sum(victim.size for victim in found)
            need_inodes -= len(found)
            victims += found
        return victims

    def _most_urgent(self, limit: int) -> list[Victim]:
        victims: list[Victim] = []
        for share in self._by_excess():
            victims += share.evict(self.size, self.inodes, limit - len(victims))
        return victims

    def _by_excess(self) -> list[_Share]:
        """What uses most of its share comes first."""
        return sorted(self._shares.values(), key=self._excess, reverse=True)

    def _excess(self, share: _Share) -> float:
        used = max(share.used / self.size, share.used_inodes / self.inodes)
        return used / share.percent

    def _is_above(self, mark: float) -> bool:
        return self.used > self.size * mark or self.used_inodes > self.inodes * mark

    def _add(
        self, digest: bytes, size: int, cost_ms: int, kind: Kind, frequency: int, of_kin: int
    ) -> None:
        self._remove(digest)
        # With bytes for cost, GDSF is LFUDA.
        cost = max(1, cost_ms) if kind is Kind.DERIVATIVE else size
        self._shares[kind].gdsf.add(digest, size, cost * of_kin, frequency)
        self._sketch.expect(len(self._derivatives.gdsf) + len(self._originals.gdsf))

    def _remove(self, digest: bytes) -> None:
        self._derivatives.gdsf.remove(digest)
        self._originals.gdsf.remove(digest)

    def _release(self, size: int, kind: Kind) -> None:
        share = self._shares[kind]
        share.claimed -= size
        share.claims -= 1

    def _apply_touches(self) -> None:
        while self._touches:
            digest = self._touches.popleft()
            frequency = self._sketch.count(digest)
            self._derivatives.gdsf.touch(digest, frequency)
            self._originals.gdsf.touch(digest, frequency)
        self._age()

    def _age(self) -> None:
        # H is of two frequencies, the key's and its kin's, and both were halved.
        inflation = 2 * self._sketch.halvings
        self._derivatives.gdsf.inflation = inflation
        self._originals.gdsf.inflation = inflation
