"""The ledger: every worker's numbers, in memory that the master and its workers share.

The master makes it and gives each worker that it hires a page; the worker writes its numbers there
once a second and before it ends; whoever is asked adds up all pages. A page has two halves and says
which of them holds: a writer fills the other one, then turns. So a worker that is killed while it
writes leaves its last numbers whole, and a reader that is overtaken twice sees it by the checksum.

When a worker has ended, the master adds its counters to a page of its own, the retired ones, and
gives the page to somebody else. Nobody may count it twice or not at all meanwhile. So:

1. Every page carries the serial number of its worker, which no other worker gets.
2. The master writes the retired page first, with the last serial number of each page that is
   counted there, and only then clears the page.
3. A reader reads the retired page last, and leaves out what is counted there.

    reader: page        master: retire, clear    reader: retired    the page is left out
    master: retire, clear      reader: page (empty)      retired    counted as retired
    reader: page, retired      master: retire, clear                counted from the page

A worker that answers writes its own page first: what has been told is in the ledger, and no counter
is lower in the next answer, though its worker be killed in between. What such a worker has counted
since it last wrote is lost, a second's worth at the most.
"""

import mmap
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from edge.counts import MAX_SERIES, Counts, Series

# Room for some 5,000 series. What was never written takes no memory.
HALF_BYTES: Final = 256 * 1024
# Pages for each slot of workers: those who serve, those who come, those who leave.
PAGES_A_SLOT: Final = 8
# A reader may be overtaken by somebody who writes once a second, and on request.
_TRIES: Final = 8
# Its time when a worker need not write any more: it leaves.
AT_REST: Final = 0.0

_TURN: Final = struct.Struct("=Q")
# Serial number, monotonic seconds, length of what follows, checksum of all of it.
_HEAD: Final = struct.Struct("=QdII")
_ALIGNED: Final = 4096
_PAGE_BYTES: Final = _ALIGNED + 2 * HALF_BYTES
MOST_BYTES: Final = HALF_BYTES - _HEAD.size


@dataclass(frozen=True, slots=True)
class Posted:
    serial: int
    at: float
    data: bytes


class Ledger:
    """For one run of the program; slots as many as the master has."""

    def __init__(self, slots: int) -> None:
        self.pages = PAGES_A_SLOT * slots
        # The retired ones' page is the last.
        self._memory = mmap.mmap(-1, _PAGE_BYTES * (self.pages + 1))
        self._serials = 0
        self._owners: dict[int, int] = {}  # by page: the serial number
        self._counted: dict[int, int] = {}  # by page: the last serial number that is retired
        self._retired = Counts()

    def close(self) -> None:
        self._memory.close()

    # The master's side

    def has_room(self, workers: int) -> bool:
        return self.pages - len(self._owners) >= workers

    def take(self) -> "Page":
        """A page for a new worker. Raises BlockingIOError while all are taken."""
        free = [number for number in range(self.pages) if number not in self._owners]
        if not free:
            raise BlockingIOError("too many workers have not left yet")
        self._serials += 1
        self._owners[free[0]] = self._serials
        self.post(free[0], Posted(self._serials, AT_REST, b""))
        return Page(self, free[0], self._serials)

    def retire(self, page: "Page") -> bool:
        """Its worker has ended. False where its numbers are lost, because they are too many."""
        if self._owners.pop(page.number, None) != page.serial:
            return True
        self._counted[page.number] = page.serial
        after = Counts(dict(self._retired.growing))
        posted = self._read(page.number)
        if posted is not None and posted.serial == page.serial:
            after.add(Counts(Counts.decode(posted.data).growing))
        is_kept = self._post_retired(after)
        if is_kept:
            self._retired = after
        else:
            self._post_retired(self._retired)
        self.post(page.number, Posted(0, AT_REST, b""))
        return is_kept

    def _post_retired(self, retired: Counts) -> bool:
        counted: dict[Series, float] = {
            ("counted", str(number)): float(to) for number, to in self._counted.items()
        }
        data = Counts(retired.growing, counted).encode()
        # Room for the serial numbers of all pages stays, whatever the workers have counted.
        if len(data) > MOST_BYTES - 64 * (self.pages - len(counted)):
            return False
        if len(retired.growing) + self.pages > MAX_SERIES:
            return False
        return self.post(self.pages, Posted(0, AT_REST, data))

    # Everybody's side

    def post(self, number: int, posted: Posted) -> bool:
        """False where it is too much for a page: then what was there before stays."""
        if len(posted.data) > MOST_BYTES:
            return False
        start = number * _PAGE_BYTES
        (turn,) = _TURN.unpack_from(self._memory, start)
        half = start + _ALIGNED + (turn + 1) % 2 * HALF_BYTES
        checksum = _checksum(posted)
        _HEAD.pack_into(self._memory, half, posted.serial, posted.at, len(posted.data), checksum)
        body = half + _HEAD.size
        self._memory[body : body + len(posted.data)] = posted.data
        _TURN.pack_into(self._memory, start, (turn + 1) % 2**64)
        return True

    def read(self) -> "list[Posted]":
        """What all workers have posted, the retired ones first."""
        found = [self._read(number) for number in range(self.pages)]
        retired = self._read(self.pages)
        if retired is None:
            return [posted for posted in found if posted is not None and posted.serial]
        counts = Counts.decode(retired.data)
        counted = {series[-1]: int(to) for series, to in counts.momentary.items()}
        standing = [
            posted
            for number, posted in enumerate(found)
            if posted is not None and posted.serial > counted.get(str(number), 0)
        ]
        return [Posted(0, AT_REST, Counts(counts.growing).encode()), *standing]

    def silent_s(self, now: float) -> float:
        """For how long the most silent of those who should write has not written."""
        return max((now - one.at for one in self.read() if one.at != AT_REST), default=0.0)

    def _read(self, number: int) -> Posted | None:
        start = number * _PAGE_BYTES
        for _ in range(_TRIES):
            (turn,) = _TURN.unpack_from(self._memory, start)
            half = start + _ALIGNED + turn % 2 * HALF_BYTES
            serial, at, length, checksum = _HEAD.unpack_from(self._memory, half)
            if checksum == serial == 0:
                return None  # nobody has written here yet
            body = half + _HEAD.size
            posted = Posted(serial, at, self._memory[body : body + min(length, MOST_BYTES)])
            if checksum == _checksum(posted):
                return posted
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """What a worker writes on."""

    ledger: Ledger
    number: int
    serial: int

    def post(self, counts: Counts, at: float) -> bool:
        """False where they are too many; then those before stay."""
        if len(counts.growing) + len(counts.momentary) + len(counts.highest) > MAX_SERIES:
            return False
        return self.ledger.post(self.number, Posted(self.serial, at, counts.encode()))


def _checksum(posted: Posted) -> int:
    return zlib.crc32(posted.data, zlib.crc32(struct.pack("=Qd", posted.serial, posted.at)))
