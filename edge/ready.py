"""Answers that are ready to leave, found by the lines of a request.

A small body in memory stands behind its head in one piece. A larger one, and one in a file, joins
its head when it is asked for.

An answer is put together when a picture at hand has been asked for a few times, and holds for a
second, cut short by whatever must be seen at once (a purge). After that renew() looks whether it
still stands, and brings Date, Age and ttl up to date. Seconds are counted in turns, from when an
answer was made: were all renewed as the clock strikes, those who ask just then would wait for it.
What is not found here goes the way of every request; nothing is decided here.

A small file of a docroot is read for every answer, as its pages are in the kernel's memory. Only
one that is asked for again within a second is kept here, while there is room, and only as long as
that goes on; then it is looked at each second. So a long tail of pictures passes through without
turning anything out. The first answer to one is made in the same way and not kept (give_once()).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.access import AccessLog, Peer
from edge.http.body import FileSlice
from edge.http.familiar import Head
from edge.http.messages import Response
from edge.origin.files import FileStatus

# Larger bodies gain nothing from standing behind their heads: from 100 KB on a file is as cheap.
MAX_WIRE_BYTES: Final = 64 * 1024
# A turn, and how many of them an answer holds.
TURN_S: Final = 0.05
HOLDS: Final = 20
NEVER: Final = -(1 << 60)
# Answers that are kept, those of files among them: some 800 bytes each beside their wires.
MAX_ANSWERS: Final = 131_072


# From the Accept line of a head, b"" for none, to what chooses among the answers to a request line.
Fold = Callable[[bytes], object]


class Tally:
    """How many answers of some sort have been given."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Ready:
    """One answer. owner is what the handler needs to renew it."""

    __slots__ = (
        "cost_ms", "file", "head", "is_asked_again", "is_small_file", "line", "owner", "tail",
        "tally", "turn", "wire",
    )  # fmt: skip

    def __init__(self, owner: object, line: bytes) -> None:
        self.owner = owner
        self.line = line  # of the access log, from the request to the body's length
        self.wire = b""  # head and body; empty where the body is larger, or in a file
        self.head = b""  # then this is the head, with its blank line
        self.is_small_file = False  # of a docroot, no larger than a wire: read for every answer
        self.file: FileStatus | None = None  # of which the head speaks, then
        self.is_asked_again = False  # since it was renewed
        self.turn = 0  # in which it was renewed
        self.tail = 0  # bytes of the body
        self.tally: Tally | None = None  # where its answers are counted once more
        self.cost_ms = 0  # render time that each answer saves


class Variants(Ready):
    """In the place of an answer where several share a request line: one a class of Accept lines.

    Its turn never comes, so that find() need not ask what it has before it.
    """

    __slots__ = ("by_class", "fold")

    def __init__(self, fold: Fold) -> None:
        super().__init__(None, b"")
        self.turn = NEVER
        self.fold = fold
        self.by_class: dict[object, Ready] = {}


class ReadyResponse(Response):
    """A ready answer too large to be taken at one go: its line is written when it has left."""

    __slots__ = ("asked", "ready")

    def __init__(self, ready: Ready, body: bytes | FileSlice, asked: Head) -> None:
        self.status = 200
        self.head = ready.head
        self.body = (body,)
        self.length = ready.tail
        self.cache = "HIT"
        self.close = False
        self.ready = ready
        self.asked = asked


@dataclass(slots=True)
class Stats:
    hits: int = 0  # from memory
    file_hits: int = 0
    body_bytes: int = 0
    saved_ms: int = 0
    renewed: int = 0
    dropped: int = 0


class ReadyAnswers:
    """renew(ready) brings an answer up to date, False when it no longer stands; read(ready) gives
    the body of one whose wire is empty, a small file's behind its head, None when the disk would
    have to be waited for."""

    def __init__(
        self,
        limit_bytes: int,
        access: AccessLog | None,
        renew: Callable[[Ready], bool],
        read: Callable[[Ready], bytes | FileSlice | None],
    ) -> None:
        self.turn = 0
        self.stats = Stats()
        self._limit = limit_bytes
        self._used = 0
        self._access = access
        self._renew = renew
        self._read = read
        self._count = 0
        # By Host line, then by request line.
        self._by_host: dict[bytes, dict[bytes, Ready]] = {}

    @property
    def used(self) -> int:
        """Bytes of answers that are kept, of limit."""
        return self._used

    @property
    def limit(self) -> int:
        return self._limit

    def next_turn(self) -> None:
        """Every TURN_S."""
        self.turn += 1

    def expire(self) -> None:
        """Something must be seen by the next request."""
        self.turn += HOLDS

    def find(self, head: Head, peer: Peer) -> bytes | ReadyResponse | None:
        """The answer's bytes, counted and logged as sent, or a response whose record() is to be
        called when it is; None when there is none that stands."""
        by_line = self._by_host.get(head[1])
        if by_line is None:
            return None
        ready = by_line.get(head[0])
        if ready is None:
            return None
        if self.turn - ready.turn < HOLDS:
            ready.is_asked_again = True
        else:
            current = self._current(by_line, head, ready)
            if current is None:
                return None
            ready = current
        wire = ready.wire
        if not wire:
            return self.give(ready, head, peer)
        self.stats.hits += 1
        self.stats.body_bytes += ready.tail
        if ready.tally is not None:
            ready.tally.count += 1
        self.stats.saved_ms += ready.cost_ms
        access = self._access
        if access is not None:
            access.append_ready(peer, ready.line, head[2], head[3])
        return wire

    def give(self, ready: Ready, head: Head, peer: Peer) -> bytes | ReadyResponse | None:
        """As find(), of an answer that stands, whether it is kept here or not."""
        wire = ready.wire
        if wire:
            self.stats.hits += 1
        else:
            body = self._read(ready)
            if body is None:
                return None
            if type(body) is not bytes or ready.tail > MAX_WIRE_BYTES:
                return ReadyResponse(ready, body, head)
            self.stats.file_hits += 1
            if not ready.is_small_file:
                wire = ready.head + body
            else:
                wire = body
                if ready.is_asked_again and self.has_room(len(wire)):
                    ready.wire = wire
                    self._used += len(wire)
        self._count_given(ready, head, peer)
        return wire

    def give_once(self, ready: Ready, body: bytearray, head: Head, peer: Peer) -> bytes:
        """An answer that is not kept, to a small file that was read just now."""
        self.stats.file_hits += 1
        self._count_given(ready, head, peer)
        return ready.head + body

    def _count_given(self, ready: Ready, head: Head, peer: Peer) -> None:
        self.stats.body_bytes += ready.tail
        if ready.tally is not None:
            ready.tally.count += 1
        self.stats.saved_ms += ready.cost_ms
        if self._access is not None:
            self._access.append_ready(peer, ready.line, head[2], head[3])

    def record(self, peer: Peer, response: ReadyResponse) -> None:
        """A response of find() has left whole."""
        ready = response.ready
        if type(response.body[0]) is bytes:
            self.stats.hits += 1
        else:
            self.stats.file_hits += 1
        self._count_given(ready, response.asked, peer)

    def has_room(self, size: int) -> bool:
        """For one more wire of so many bytes."""
        return self._used + size <= self._limit

    def _current(self, by_line: dict[bytes, Ready], head: Head, ready: Ready) -> Ready | None:
        """What find() met, chosen by Accept where that matters, and brought into this turn."""
        if not isinstance(ready, Variants):
            if self._renewed(ready):
                return ready
            del by_line[head[0]]
            return None
        variant = ready.fold(head[5])
        chosen = ready.by_class.get(variant)
        if chosen is None:
            return None
        if self.turn - chosen.turn < HOLDS:
            chosen.is_asked_again = True
            return chosen
        if self._renewed(chosen):
            return chosen
        del ready.by_class[variant]
        if not ready.by_class:
            del by_line[head[0]]
        return None

    def _renewed(self, ready: Ready) -> bool:
        """False: it stands no longer, and is to be taken out."""
        self._used -= len(ready.wire)
        if self.turn - ready.turn >= 2 * HOLDS:
            ready.is_asked_again = False  # but that was long ago
        if not self._renew(ready):
            self.stats.dropped += 1
            self._count -= 1
            return False
        self.stats.renewed += 1
        self._used += len(ready.wire)
        ready.turn = self.turn
        ready.is_asked_again = False
        return True

    def put(
        self,
        request_line: bytes,
        host: bytes,
        ready: Ready,
        *,
        accept: bytes = b"",
        fold: Fold | None = None,
    ) -> bool:
        """Keep an answer; the oldest makes room for it. False where it does not stand, or there is
        one already. fold: it is for Accept lines of the class of accept alone; all of a request
        line's answers have one fold, or none has."""
        by_line = self._by_host.setdefault(host, {})
        if fold is None:
            if request_line in by_line or not self._renew(ready):
                return False
            by_line[request_line] = ready
        else:
            variants = by_line.get(request_line) or Variants(fold)
            assert isinstance(variants, Variants)
            variant = fold(accept)
            if variant in variants.by_class or not self._renew(ready):
                return False
            variants.by_class[variant] = ready
            by_line[request_line] = variants
        ready.turn = self.turn
        self._used += len(ready.wire)
        self._count += 1
        while self._count > MAX_ANSWERS:
            self._drop_oldest()
        return True

    def _drop_oldest(self) -> None:
        host = next(iter(self._by_host))
        by_line = self._by_host[host]
        if by_line:
            request_line, ready = next(iter(by_line.items()))
            if isinstance(ready, Variants):
                variants = ready
                ready = variants.by_class.pop(next(iter(variants.by_class)))
                if not variants.by_class:
                    del by_line[request_line]
            else:
                del by_line[request_line]
            self._used -= len(ready.wire)
            self._count -= 1
            self.stats.dropped += 1
        if not by_line:
            del self._by_host[host]
