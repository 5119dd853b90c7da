"""Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69) in logarithms, exact. Pure accounting.

Every key has H = L + log2(frequency x cost / size). The smallest H goes first, and L grows, so that
what was dear long ago grows old. The paper adds L to the plain product, and L becomes the H of what
went: everything that is asked for once makes all others older by what it was worth. Here L is the
caller's and says how often frequencies were halved so far (sketch.py): an old H is worth what it
would be with its frequency as it is by now, and one that is new is not held up by L alone.

The frequency comes from the caller, too, who knows that of keys that are not here. Where a touch
would lower H, it leaves it as it was. So H only rises while a key lives, and a touch does not move
anything in the heap: an entry's place there is a lower bound, corrected when it reaches the top.
That is exact, and a hit costs one array write.

With cost = size this is LFUDA: by frequency alone, and as many bytes as possible stay.

Plain arrays and one dict of bytes to int are nothing that the garbage collector must walk, and a
million entries take about 300 MB less than a million objects would.
"""

import heapq
from array import array
from dataclasses import dataclass
from math import log2
from typing import Final

# cost / size is clamped at the p99 of the last RATIOS additions, or what is tiny and dear stays on.
RATIOS: Final = 1024
_CLAMP_QUANTILE: Final = 0.99
_CLAMP_EVERY: Final = 128
# Dead heap entries are thrown away together, once they outnumber the living by this much.
_DEAD_SLACK: Final = 1024
# Heap entries moved to their true place by one call: about 4 ms. What is left waits for the next.
_CORRECTIONS: Final = 4096


@dataclass(frozen=True, slots=True)
class Victim:
    key: bytes
    size: int


class Gdsf:
    """Keys with sizes (bytes on disk) and costs; one key is one inode."""

    def __init__(self) -> None:
        self.used = 0
        self.inflation = 0.0  # L; never lowered
        self._slots: dict[bytes, int] = {}
        # By slot. A slot whose key is b"" is dead and waits for its heap entry to surface: each
        # slot has exactly one heap entry, always.
        self._keys: list[bytes] = []
        self._sizes = array("Q")
        self._values = array("d")  # log2(cost / size)
        self._scores = array("d")  # H
        self._free: list[int] = []
        self._heap: list[tuple[float, int]] = []
        self._recent = array("d")
        self._recent_at = 0
        self._clamp = float("inf")

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    def size(self, key: bytes) -> int:
        """Bytes of a key, 0 when it is unknown."""
        slot = self._slots.get(key)
        return 0 if slot is None else self._sizes[slot]

    def add(self, key: bytes, size: int, cost: float, frequency: float = 1.0) -> None:
        """Take a key in, in place of what it was before. cost is of work saved by a hit."""
        assert key and size > 0
        assert cost > 0 and frequency > 0
        self.remove(key)
        ratio = cost / size
        self._learn(ratio)
        if self._free:
            slot = self._free.pop()
            self._keys[slot] = key
        else:
            slot = len(self._keys)
            self._keys.append(key)
            self._sizes.append(0)
            self._values.append(0.0)
            self._scores.append(0.0)
        self._slots[key] = slot
        self._sizes[slot] = size
        value = log2(min(ratio, self._clamp))
        score = self.inflation + log2(frequency) + value
        self._values[slot] = value
        self._scores[slot] = score
        self.used += size
        heapq.heappush(self._heap, (score, slot))

    def touch(self, key: bytes, frequency: float) -> None:
        """It was asked for again; an unknown key is no error. frequency with this use."""
        slot = self._slots.get(key)
        if slot is None:
            return
        score = self.inflation + log2(frequency) + self._values[slot]
        if score > self._scores[slot]:
            self._scores[slot] = score

    def remove(self, key: bytes) -> None:
        """Forget a key that went for another reason than eviction; unknown keys are no error."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        self.used -= self._sizes[slot]
        self._keys[slot] = b""
        if len(self._heap) > 2 * len(self._slots) + _DEAD_SLACK:
            self._rebuild()

    def victims(self, need_bytes: int, need_inodes: int, limit: int) -> list[Victim]:
        """Evict until both needs are met, nothing is left or limit keys went; first one first.

        After many touches one call may answer fewer, even none, so that its own work is bounded;
        calling again goes on from there.
        """
        victims: list[Victim] = []
        heap = self._heap
        corrections = 0
        while heap and len(victims) < limit and (need_bytes > 0 or need_inodes > 0):
            if corrections == _CORRECTIONS:
                break
            bound, slot = heap[0]
            key = self._keys[slot]
            if not key:
                heapq.heappop(heap)
                self._free.append(slot)
                continue
            score = self._scores[slot]
            if score > bound:  # touched since it was pushed: back to where it belongs
                heapq.heapreplace(heap, (score, slot))
                corrections += 1
                continue
            heapq.heappop(heap)
            del self._slots[key]
            self._keys[slot] = b""
            self._free.append(slot)
            size = self._sizes[slot]
            self.used -= size
            need_bytes -= size
            need_inodes -= 1
            victims.append(Victim(key, size))
        return victims

    def _learn(self, ratio: float) -> None:
        if len(self._recent) < RATIOS:
            self._recent.append(ratio)
        else:
            self._recent[self._recent_at] = ratio
        self._recent_at = (self._recent_at + 1) % RATIOS
        # With fewer samples the p99 is the maximum, which clamps nothing.
        if len(self._recent) >= _CLAMP_EVERY and self._recent_at % _CLAMP_EVERY == 0:
            ordered = sorted(self._recent)
            self._clamp = ordered[int(_CLAMP_QUANTILE * (len(ordered) - 1))]

    def _rebuild(self) -> None:
        self._free.extend(slot for _, slot in self._heap if not self._keys[slot])
        self._heap = [(self._scores[slot], slot) for slot in self._slots.values()]
        heapq.heapify(self._heap)
