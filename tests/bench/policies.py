"""Policies of eviction, on the bytes of what they keep.

get() says whether a request is a hit, and takes in what is not. What is larger than the whole
cache is let through. Keys are numbers; no policy is told what comes.

Ours is Room itself, with its sketch, its marks and its batches, not a likeness of it. SIEVE is the
memory tier's class. The others follow their papers, in bytes; libcachesim is the second opinion
(test_policies.py).
"""

import abc
from collections import OrderedDict, deque
from typing import Final

from cache.errors import DoesNotFit
from cache.room import Kind, Room
from cache.sieve import Sieve as Queue
from cache.sieve import Slot
from cache.sketch import Sketch
from tests.bench.traces import Request

# S3-FIFO (Yang et al., SOSP '23): of the bytes, a tenth is for keys on probation; a key that was
# asked for twice meanwhile moves on; the ghost remembers as many bytes as the main queue holds.
SMALL_PART: Final = 0.1
MOVES_ON_AT: Final = 2
MOST_USES: Final = 3
# W-TinyLFU (Einziger et al., 2017): window, and of the rest the protected part.
WINDOW_PART: Final = 0.01
PROTECTED_PART: Final = 0.8
# Enough for every entry of a simulated cache, so that bytes decide.
INODES: Final = 1 << 32
BATCH: Final = 64


class Policy(abc.ABC):
    def __init__(self, size: int) -> None:
        self.size = size

    @abc.abstractmethod
    def get(self, request: Request) -> bool: ...


class Fifo(Policy):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._used = 0

    def get(self, request: Request) -> bool:
        if request.key in self._sizes:
            return True
        self._take(request)
        return False

    def _take(self, request: Request) -> None:
        if request.size > self.size:
            return
        while self._used + request.size > self.size:
            self._used -= self._sizes.popitem(last=False)[1]
        self._sizes[request.key] = request.size
        self._used += request.size


class Lru(Fifo):
    def get(self, request: Request) -> bool:
        if request.key in self._sizes:
            self._sizes.move_to_end(request.key)
            return True
        self._take(request)
        return False


class Sieve(Policy):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._queue: Queue[None] = Queue(size)
        self._slots: dict[bytes, Slot[None]] = {}

    def get(self, request: Request) -> bool:
        key = _digest(request.key)
        slot = self._slots.get(key)
        if slot is not None:
            slot.visited = True
            return True
        if request.size <= self.size:
            slot = self._slots[key] = Slot(key, None, request.size)
            for evicted in self._queue.insert(slot):
                del self._slots[evicted.key]
        return False


class S3Fifo(Policy):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._small_size = int(size * SMALL_PART)
        self._ghost_size = size - self._small_size
        self._small: deque[Request] = deque()
        self._main: deque[Request] = deque()
        self._ghost: OrderedDict[int, int] = OrderedDict()
        self._uses: dict[int, int] = {}
        self._small_used = self._main_used = self._ghost_used = 0
        self._has_evicted = False

    def get(self, request: Request) -> bool:
        uses = self._uses.get(request.key)
        if uses is not None:
            self._uses[request.key] = min(uses + 1, MOST_USES)
            return True
        if request.size > self.size:
            return False
        is_known = request.key in self._ghost
        if is_known:
            self._ghost_used -= self._ghost.pop(request.key)
        elif request.size >= self._small_size:
            return False
        while self._small_used + self._main_used + request.size > self.size:
            self._has_evicted = True
            self._evict()
        self._uses[request.key] = 0
        # Before anything had to go, nobody need be on probation.
        if is_known or (not self._has_evicted and self._small_used >= self._small_size):
            self._main.append(request)
            self._main_used += request.size
        else:
            self._small.append(request)
            self._small_used += request.size
        return False

    def _evict(self) -> None:
        if self._main_used > self.size - self._small_size or not self._small:
            self._evict_main()
            return
        while self._small:
            oldest = self._small.popleft()
            self._small_used -= oldest.size
            if self._uses[oldest.key] >= MOVES_ON_AT:
                self._uses[oldest.key] = 0
                self._main.append(oldest)
                self._main_used += oldest.size
                continue
            del self._uses[oldest.key]
            self._remember(oldest)
            return

    def _evict_main(self) -> None:
        while self._main:
            oldest = self._main.popleft()
            if self._uses[oldest.key] > 0:
                self._uses[oldest.key] -= 1
                self._main.append(oldest)
                continue
            self._main_used -= oldest.size
            del self._uses[oldest.key]
            return

    def _remember(self, request: Request) -> None:
        if request.size > self._ghost_size:
            return
        while self._ghost_used + request.size > self._ghost_size:
            self._ghost_used -= self._ghost.popitem(last=False)[1]
        self._ghost[request.key] = request.size
        self._ghost_used += request.size


class WTinyLfu(Policy):
    """A window under LRU; what leaves it must be more frequent than what the main part, a
    segmented LRU, would have to give up for it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._window_size = max(1, int(size * WINDOW_PART))
        self._main_size = size - self._window_size
        self._protected_size = int(self._main_size * PROTECTED_PART)
        self._window: OrderedDict[int, int] = OrderedDict()
        self._probation: OrderedDict[int, int] = OrderedDict()
        self._protected: OrderedDict[int, int] = OrderedDict()
        self._window_used = self._probation_used = self._protected_used = 0
        self._sketch = Sketch(1 << 24)

    def get(self, request: Request) -> bool:
        self._sketch.count(_digest(request.key))
        key = request.key
        if key in self._window:
            self._window.move_to_end(key)
            return True
        if key in self._protected:
            self._protected.move_to_end(key)
            return True
        if key in self._probation:
            self._promote(key)
            return True
        if request.size > self._main_size:
            return False
        self._window[key] = request.size
        self._window_used += request.size
        self._sketch.expect(len(self._window) + len(self._probation) + len(self._protected))
        while self._window_used > self._window_size:
            candidate, size = self._window.popitem(last=False)
            self._window_used -= size
            self._admit(candidate, size)
        return False

    def _promote(self, key: int) -> None:
        size = self._probation.pop(key)
        self._probation_used -= size
        self._protected[key] = size
        self._protected_used += size
        while self._protected_used > self._protected_size:
            demoted, size = self._protected.popitem(last=False)
            self._protected_used -= size
            self._probation[demoted] = size
            self._probation_used += size

    def _admit(self, candidate: int, size: int) -> None:
        """Weighed against all that would go for it, summed, as in arXiv 2105.08770 (AV)."""
        estimate = self._sketch.estimate
        missing = self._probation_used + self._protected_used + size - self._main_size
        victims: list[tuple[OrderedDict[int, int], int]] = []
        weight = 0
        mine = estimate(_digest(candidate))
        for queue in (self._probation, self._protected):
            for key, bytes_of in queue.items():
                if missing <= 0:
                    break
                weight += estimate(_digest(key))
                if weight > mine:
                    # The loser is warm: it is not asked again at once.
                    queue.move_to_end(key)
                    return
                victims.append((queue, key))
                missing -= bytes_of
        for queue, key in victims:
            gone = queue.pop(key)
            if queue is self._probation:
                self._probation_used -= gone
            else:
                self._protected_used -= gone
        self._probation[candidate] = size
        self._probation_used += size


class Ours(Policy):
    """The disk tier's accounting: GDSF."""

    kind = Kind.DERIVATIVE

    def __init__(self, size: int) -> None:
        super().__init__(size)
        # All of it is one kind's: the other has nothing, and its share is lent.
        self._room = Room(size, INODES)

    def get(self, request: Request) -> bool:
        return _ask(self._room, _digest(request.key), request, self.kind)


class Lfuda(Ours):
    kind = Kind.ORIGINAL


class Farm:
    """Both kinds in one Room: a derivative that is missing asks for its original."""

    def __init__(self, size: int, originals: int) -> None:
        self._room = Room(size, INODES, originals)
        self._all_ms = self._saved_ms = 0.0
        self._all_bytes = self._fetched_bytes = 0

    def get(self, derivative: Request, original: Request) -> None:
        self._all_ms += derivative.cost
        # Without a cache every request would fetch it.
        self._all_bytes += original.size
        if _ask(self._room, _digest(derivative.key), derivative, Kind.DERIVATIVE):
            self._saved_ms += derivative.cost
            return
        if not _ask(self._room, _digest(~original.key), original, Kind.ORIGINAL):
            self._fetched_bytes += original.size

    @property
    def saved_ms_ratio(self) -> float:
        return self._saved_ms / self._all_ms

    @property
    def fetched_ratio(self) -> float:
        return 1 - self._fetched_bytes / self._all_bytes


def _ask(room: Room, digest: bytes, request: Request, kind: Kind) -> bool:
    """A hit, or a fill as Disk does it: claim, evict, settle."""
    if digest in room:
        room.touch(digest)
        return True
    try:
        room.claim(request.size, kind)
    except DoesNotFit:
        return False
    room.victims(BATCH)
    while not room.fits:
        room.victims(BATCH)
    source = request.source
    kin = None if source is None else b"source" + _digest(source)
    room.settle(request.size, digest, request.size, round(request.cost), kind, kin)
    return False


POLICIES: Final[dict[str, type[Policy]]] = {
    "FIFO": Fifo,
    "LRU": Lru,
    "SIEVE": Sieve,
    "S3-FIFO": S3Fifo,
    "W-TinyLFU": WTinyLfu,
    "GDSF": Ours,
}
# GDSF: by the time of the fetch, as if they were derivatives.
ORIGINAL_POLICIES: Final[dict[str, type[Policy]]] = {
    "LRU": Lru,
    "SIEVE": Sieve,
    "S3-FIFO": S3Fifo,
    "W-TinyLFU": WTinyLfu,
    "LFUDA": Lfuda,
    "GDSF": Ours,
}


def _digest(key: int) -> bytes:
    return key.to_bytes(8, "little", signed=True)
