"""Failures that are remembered: for a time, the same question gets the same answer at once.

    kind        what failed                                      remembered by
    not found   the origin answered 404 or 410                   the source
    corrupt     no picture, or a damaged one (415, 422)          the key and the source's version
    too large   over the limits on bytes or pixels (413)         likewise
    timeout     killed at the deadline on a worker (503)         likewise
    crashed     barred, having killed two workers (422)          likewise

Each kind has its time to live, up to a fifth more or less, so that what failed together is not
tried again together. Overload is never remembered: it says nothing of the picture.

There are two levels. The table here is of this worker, and bounded; what is over its time soonest
makes room. The index tells other workers and nodes, who see it when they open the source. Both keep
the token that was read before the source was touched: a purge raises it, and a failure from before
is none. A changed source has another version. A file that appears in the docroot is found before
anything is asked of here, and an original that an origin gives again ends what was missing.
"""

import enum
import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import xxhash

from cache.index.interface import Failure, Token
from cache.key import SourceId
from cache.store import Opened
from edge.clock import Clock
from edge.errors import Gone, NotFound
from edge.http.directives import Fields, effective_control
from edge.http.freshness import Storability, initial_age, lifetime
from edge.record import MAX_AHEAD_S
from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    PictureBarred,
    PictureTooLarge,
    UnsupportedFormat,
)

# Failures of this worker, at some 600 bytes each with its detail.
MAX_FAILURES: Final = 16_384
# What the index takes (Failure).
MAX_DETAIL: Final = 200
# By so much of it a time to live is longer or shorter.
JITTER: Final = 0.2
# An origin may have a missing original remembered for longer than our own time, not for ever; nor
# does another node's clock, however wrong.
MOST_S: Final = 86_400


class Kind(enum.StrEnum):
    NOT_FOUND = "not_found"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class TimesToLive:
    """Seconds for each kind; 0: not remembered."""

    not_found: float = 10.0
    corrupt: float = 60.0
    too_large: float = 60.0
    timeout: float = 5.0
    crashed: float = 600.0

    def of(self, kind: Kind) -> float:
        return {
            Kind.NOT_FOUND: self.not_found,
            Kind.CORRUPT: self.corrupt,
            Kind.TOO_LARGE: self.too_large,
            Kind.TIMEOUT: self.timeout,
            Kind.CRASHED: self.crashed,
        }[kind]


class Remembered(Exception):
    """Beside the class of the failure itself: whoever catches that one, catches this.

    retry_after_s: until when there is no use in asking again.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StillMissing(Remembered, NotFound):
    pass


class StillGone(Remembered, Gone):
    pass


class StillUnsupported(Remembered, UnsupportedFormat):
    pass


class StillCorrupt(Remembered, CorruptPicture):
    pass


class StillTooLarge(Remembered, PictureTooLarge):
    pass


class StillLate(Remembered, DeadlineExceeded):
    pass


class StillBarred(Remembered, PictureBarred):
    pass


@dataclass(frozen=True, slots=True)
class _Row:
    """word stands in the index; what is raised anew has the answer of what was met."""

    word: str
    met: type[Exception]
    kind: Kind
    again: type[Remembered]


_ROWS: Final = (
    _Row("missing", NotFound, Kind.NOT_FOUND, StillMissing),
    _Row("gone", Gone, Kind.NOT_FOUND, StillGone),
    _Row("unsupported", UnsupportedFormat, Kind.CORRUPT, StillUnsupported),
    _Row("corrupt", CorruptPicture, Kind.CORRUPT, StillCorrupt),
    _Row("too-large", PictureTooLarge, Kind.TOO_LARGE, StillTooLarge),
    _Row("timeout", DeadlineExceeded, Kind.TIMEOUT, StillLate),
    _Row("barred", PictureBarred, Kind.CRASHED, StillBarred),
)
_BY_WORD: Final = {row.word: row for row in _ROWS}
_BY_CLASS: Final = {row.met: row for row in _ROWS}
_BY_STATUS: Final = {404: _BY_WORD["missing"], 410: _BY_WORD["gone"]}


@dataclass(slots=True)
class Stats:
    """By kind: failures that were met and remembered, and answers that were given from memory."""

    remembered: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    answered: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    crowded_out: int = 0  # MAX_FAILURES were there


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Token
    row: _Row
    failure: Failure


def failure_digest(digest: bytes, validator: str = "") -> bytes:
    """Of a key and the version of its source; of a source alone, for what the origin has not."""
    return xxhash.xxh3_128_digest(digest + validator.encode())


class Failures:
    """tell lets others know, and raises nothing; chance gives numbers from 0 to 1."""

    def __init__(
        self,
        tell: Callable[[SourceId, Token, bytes, Failure], Awaitable[None]],
        clock: Clock,
        chance: Callable[[], float],
        times: TimesToLive,
        limit: int = MAX_FAILURES,
    ) -> None:
        self.stats = Stats()
        self._tell = tell
        self._clock = clock
        self._chance = chance
        self._times = times
        self._limit = limit
        # By the digest of the source, since a URL may have 8 KiB and anybody may ask for what is
        # not there; then by failure_digest().
        self._kept: dict[bytes, dict[bytes, _Kept]] = {}
        self._entries = dict.fromkeys(Kind, 0)
        # Ends, soonest first. One whose failure was forgotten meanwhile goes when its time comes.
        self._ends: list[tuple[int, int, bytes, bytes]] = []
        self._numbers = itertools.count()  # tells equal ends apart
        self._ticked_at = clock.wall

    def __len__(self) -> int:
        return sum(self._entries.values())

    def entries(self) -> Mapping[Kind, int]:
        """How many are kept here, by kind."""
        return self._entries

    def check(self, source: SourceId, digest: bytes, opened: Opened) -> None:
        """Raises Remembered where this has failed under the token of opened, and it is too early
        to try again."""
        for row, failure in self._standing(source, digest, opened):
            left_s = failure.until - self._clock.wall
            self.stats.answered[row.kind] += 1
            raise row.again(f"remembered for {left_s} s more: {failure.detail!a}", left_s)

    def is_standing(self, source: SourceId, digest: bytes, opened: Opened) -> bool:
        """Whether check() would raise."""
        return any(True for _ in self._standing(source, digest, opened))

    def _standing(
        self, source: SourceId, digest: bytes, opened: Opened
    ) -> Iterator[tuple[_Row, Failure]]:
        kept = self._kept.get(source.digest, {}).get(digest)
        if kept is not None and kept.token == opened.token and self._stands(kept.row, kept.failure):
            yield kept.row, kept.failure
        told = opened.failures.get(digest)
        row = None if told is None else _BY_WORD.get(told.kind)  # None: of another release
        if told is not None and row is not None and self._stands(row, told):
            yield row, told

    def _stands(self, row: _Row, failure: Failure) -> bool:
        left_s = failure.until - self._clock.wall
        # What ends too far ahead was made before the clock was set back, or by one that is wrong.
        most_s: float = MOST_S
        if row.kind is not Kind.NOT_FOUND:
            most_s = self._times.of(row.kind) * (1 + JITTER) + MAX_AHEAD_S
        return 0 < left_s <= most_s

    async def remember(
        self, source: SourceId, token: Token, digest: bytes, error: Exception
    ) -> None:
        """What a render met, if it is of a kind that is remembered. token was read before the bytes
        were touched, digest is of the version that they were of."""
        # The very class: a wait for a worker in vain, and what was Remembered, are subclasses.
        row = _BY_CLASS.get(type(error))
        if row is not None and row.kind is not Kind.NOT_FOUND:
            await self._keep(source, token, digest, row, self._jittered(row), str(error))

    async def remember_missing(
        self, source: SourceId, token: Token, status: int, fields: Fields, storability: Storability
    ) -> None:
        """An answer of the origin's, if it says that there is none such, and if others may be told.

        A lifetime of its own counts in place of ours.
        """
        row = _BY_STATUS.get(status)
        if row is None or storability is not Storability.STORABLE:
            return
        own_s = self._own_lifetime(status, fields)
        seconds = self._jittered(row) if own_s is None else min(own_s, MOST_S)
        detail = f"the origin answered {status}"
        await self._keep(source, token, failure_digest(source.digest), row, seconds, detail)

    def _own_lifetime(self, status: int, fields: Fields) -> int | None:
        control = effective_control(fields)
        if control.no_cache or control.malformed:
            return 0
        is_told = control.max_age is not None or control.s_maxage is not None
        if not is_told and (control.targeted or not fields.get("expires")):
            return None
        now = self._clock.wall
        return lifetime(status, fields, control, now) - initial_age(fields, now, now)

    def _jittered(self, row: _Row) -> int:
        """Whole seconds, as the clock has them; none is shorter than one."""
        seconds = self._times.of(row.kind)
        if seconds <= 0:
            return 0
        return max(round(seconds * (1 - JITTER + 2 * JITTER * self._chance())), 1)

    async def _keep(
        self, source: SourceId, token: Token, digest: bytes, row: _Row, seconds: int, detail: str
    ) -> None:
        if seconds <= 0 or self._times.of(row.kind) <= 0:
            return
        failure = Failure(row.word, self._clock.wall + seconds, detail[:MAX_DETAIL])
        self._drop(source.digest, digest)
        self._kept.setdefault(source.digest, {})[digest] = _Kept(token, row, failure)
        self._entries[row.kind] += 1
        self.stats.remembered[row.kind] += 1
        heapq.heappush(self._ends, (failure.until, next(self._numbers), source.digest, digest))
        while len(self) > self._limit:
            until, _, oldest, name = heapq.heappop(self._ends)
            self.stats.crowded_out += self._drop(oldest, name, until)
        if len(self._ends) > 2 * self._limit:
            self._count_ends()
        await self._tell(source, token, digest, failure)

    def forget(self, source: SourceId) -> None:
        """It was purged. Also without this nothing from before would be answered: this makes room
        at once, and holds where no token can be had."""
        for digest in list(self._kept.get(source.digest, ())):
            self._drop(source.digest, digest)

    def tick(self) -> None:
        """Once a second, after the clock: what is over its time makes room. Where the clock was
        set back, nobody knows what is."""
        now = self._clock.wall
        if now < self._ticked_at - MAX_AHEAD_S:
            self._kept.clear()
            self._ends.clear()
            self._entries = dict.fromkeys(Kind, 0)
        self._ticked_at = now
        while self._ends and self._ends[0][0] <= now:
            until, _, source, digest = heapq.heappop(self._ends)
            self._drop(source, digest, until)

    def _drop(self, source: bytes, digest: bytes, until: int | None = None) -> bool:
        """until: only that one, not what came after it."""
        of_source = self._kept.get(source, {})
        kept = of_source.get(digest)
        if kept is None or (until is not None and kept.failure.until != until):
            return False
        del of_source[digest]
        if not of_source:
            del self._kept[source]
        self._entries[kept.row.kind] -= 1
        return True

    def _count_ends(self) -> None:
        """Too many of what was forgotten wait for their time."""
        self._ends = [
            (kept.failure.until, next(self._numbers), source, digest)
            for source, of_source in self._kept.items()
            for digest, kept in of_source.items()
        ]
        heapq.heapify(self._ends)
