"""Originals: where one is, how fresh what we know of it is, and its bytes.

A source is asked for in the docroot first, then at the origin. What was learnt is kept in a table
of this worker, so a hit neither touches the disk nor the index until its time is up; then a docroot
file is looked at again (a stat), and an origin is asked with the validators that it gave.

Bytes and what is said of them come from one place: the docroot file that was opened, or a stored
original that names the same version as the record. Other workers and nodes change the record, never
our files, so the two can differ, and then the bytes are fetched again.
"""

import asyncio
import contextlib
import dataclasses
import enum
import functools
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import xxhash

from cache.entry import Entry
from cache.errors import LedElsewhere, NotStored
from cache.fill import Fill
from cache.flight import Flights, Role
from cache.index.interface import UNKNOWN_TOKEN, SourceRecord, Token
from cache.key import Key, SourceId
from cache.lease import Errand, Leases, keep
from cache.orders import Act, Order, Scope
from cache.store import Opened, Store
from cache.stored import StoredFile
from edge.arrival import Arrivals, Arriving, Incoming, growing_in
from edge.clock import Clock
from edge.errors import Gone, NotFound, OriginChanged, OriginSaidNo, TakenDown
from edge.failures import Failures, failure_digest
from edge.http.body import UNKNOWN_LENGTH, Descriptor, FileSlice, Stretch
from edge.http.directives import SURROGATE, effective_control
from edge.http.forwarding import marks_of
from edge.http.freshness import Storability, may_store
from edge.origin.errors import (
    DocrootFailed,
    NotAllowed,
    OriginBroken,
    OriginError,
    OriginOverloaded,
    Refusal,
)
from edge.origin.files import Docroot, FileStatus
from edge.origin.messages import Headers, OriginRequest
from edge.policy.tags import parse_surrogate_key
from edge.record import (
    MAX_AHEAD_S,
    completed,
    conditional_fields,
    ended,
    folded,
    is_ended,
    is_fresh,
    is_replayable,
    may_use_meanwhile,
    named_early,
    passed_fields,
    record_of_entry,
    record_of_file,
    record_of_response,
    refreshed,
    replayed_fields,
    stale_limit,
)
from edge.refresh import Refreshes
from edge.site import Site
from edge.spool import Spool
from edge.urls.path import build_path
from resizer.errors import PictureTooLarge

# A docroot file is looked at again after this time, as lighttpd's stat cache does.
STAT_TTL_S: Final = 1
# Sources looked at between two turns of the loop, when an order may concern any: a quarter of a
# millisecond.
BATCH: Final = 500
# Sources that a worker remembers; beyond it the one not asked for longest is forgotten.
MAX_SOURCES: Final = 200_000
# Sources whose flights were parted by an order; beyond it those of all sources are.
MAX_TURNS: Final = 4096
# How long a stale original that an origin failed to refresh is taken for good before it is asked
# again; short, so that recovery shows, and long enough that a dead origin is not asked per request.
RETRY_ORIGIN_S: Final = 10
# A page served beside pictures must not run with the site's rights (facts of SVG as a document).
_SVG_FIELDS: Final = (("Content-Security-Policy", "default-src 'none'; sandbox"),)

# Between the path and the query of a source's id; split_target() lets no control character through.
QUERY_MARK: Final = "\x1f"
# Room reserved for an original whose length the origin does not tell.
EXPECTED_BYTES: Final = 1024 * 1024
# Of a body that is not kept. A page's answer, an error: a file for it costs as much as all the rest
# of the exchange. With every flight the node takes under way these are 64 MiB.
SHORT_BYTES: Final = 16 * 1024
# Other people's statuses: busy, which is no word about the original.
BUSY_STATUSES: Final = frozenset((429, 503))
# What only answers a precondition or a Range that was not sent.
UNASKED_STATUSES: Final = frozenset((206, 304))
# An origin is always asked for the bytes as they are, so its Vary on this changes nothing.
ACCEPT_ENCODING: Final = ("accept-encoding", "identity")

# In place of the tokens of a docroot file of which nothing was asked but itself.
NOT_ASKED: Final = Opened(UNKNOWN_TOKEN, None, None)

log = logging.getLogger("halftone.source")

T = TypeVar("T")


class Home(enum.Enum):
    DOCROOT = "docroot"
    ORIGIN = "origin"


class Way(enum.Enum):
    """How open() came by its answer."""

    KNOWN = "known"  # nobody but docroot and index was asked
    CONFIRMED = "confirmed"  # the origin said 304
    FETCHED = "fetched"  # the origin sent it


class Stale(enum.StrEnum):
    """Why a source is used after its lifetime; the word of Cache-Status (RFC 5861)."""

    IF_ERROR = "stale-if-error"  # the origin failed to answer
    WHILE_REVALIDATE = "stale-while-revalidate"  # it is being asked


class Source:
    """What this worker knows of one original; renewed in place, so that every variant sees it."""

    __slots__ = (
        "file", "fresh_until", "home", "id", "opened", "record", "retry_at", "stale",
    )  # fmt: skip

    def __init__(self, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord):
        self.id = source_id
        self.home = home
        self.opened = opened  # the tokens for look-ups and for fills
        self.record = record
        self.file: FileStatus | None = None  # of a docroot file, when it was last looked at
        self.fresh_until = 0  # seconds since 1970; until then nobody is asked
        self.stale: Stale | None = None  # why record is used past its lifetime
        self.retry_at = 0  # the origin that failed is left alone until then

    @property
    def is_stale(self) -> bool:
        return self.stale is not None


@dataclass(frozen=True, slots=True)
class Passed:
    """An origin's answer that is not kept: its status, the fields to pass on, its body.

    record is of this very body, None where the status is not 200.
    """

    status: int
    fields: Headers
    body: FileSlice | bytes  # of a few KB: not worth a file
    body_digest: bytes  # xxh3-128
    storability: Storability
    record: SourceRecord | None = None

    @property
    def is_shareable(self) -> bool:
        """May requests that came meanwhile have it too? Not what was made for one client."""
        return self.storability in (Storability.NO_LIFETIME, Storability.STORABLE)


@dataclass(frozen=True, slots=True)
class Passing:
    """As Passed, of a large body that is still on its way to its only reader. length is what was
    announced, or UNKNOWN_LENGTH; record is without what the last byte tells."""

    status: int
    fields: Headers
    body: Stretch
    length: int
    storability: Storability
    record: SourceRecord | None = None


# What is there, and what is on its way: then settled() tells what becomes of it.
Settled = Source | Passed
UnderWay = Arriving[Settled] | Passing


@dataclass(frozen=True, slots=True)
class Found:
    answer: Settled | UnderWay
    way: Way
    collapsed: bool = False  # waited for another request's answer


@dataclass(frozen=True, slots=True)
class Original:
    """record is that of these very bytes; fields are replayed with them."""

    record: SourceRecord
    fields: Headers
    body: FileSlice


@dataclass(slots=True)
class Stats:
    """known and opened are looks at a source; stale those answered for a failing origin, meanwhile
    those answered while it was asked, sick those for a failing docroot."""

    known: int = 0
    opened: int = 0
    stale: int = 0
    meanwhile: int = 0
    sick: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """What the node says of itself to an origin."""

    name: str
    address: str
    port: int


class Sources:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        disk_threads: Executor,
        flights: Flights[Found],
        node: Node,
        spool: Spool,
        failures: Failures,
        refreshes: Refreshes[Found],
        leases: Leases | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = disk_threads
        self._flights = flights
        self._node = node
        self._spool = spool
        self._failures = failures
        self._refreshes = refreshes
        self._ticked_at = clock.wall
        self._leases = leases
        # Also of the shared cache, whose bodies become something else.
        self.arrivals: Arrivals[Any] = Arrivals(spool, disk_threads)
        self._known: OrderedDict[SourceId, Source] = OrderedDict()
        # Whoever comes after a purge must not join who asked before it: flights of open() are told
        # apart by the last order that concerned them.
        self._turn = 0
        self._turn_of_all = 0
        self._turns: dict[SourceId, int] = {}
        self.stats = Stats()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def tick(self) -> None:
        """Once a second, after the clock. Where that was set back, what was counted on its former
        time is looked at again: 10 ms for a full table, once in years."""
        if self._clock.wall < self._ticked_at - MAX_AHEAD_S:
            log.warning("the clock was set back %d s", self._ticked_at - self._clock.wall)
            for source in self._known.values():
                source.fresh_until = source.retry_at = 0
        self._ticked_at = self._clock.wall
        self._failures.tick()

    async def open(self, site: Site, path: str, query: str = "") -> Found:
        """The source, fresh. Raises NotFound, NotAllowed, DocrootFailed, OriginError.

        query belongs to the question where an origin is asked; a docroot file has none. A failing
        origin does not fail what it once gave, and where it allows it nobody waits for it: then
        the source is_stale.
        """
        source_id = source_id_of(site, path, query)
        self._refuse_taken_down(site, path)
        known = self._known.get(source_id)
        if known is not None and self._clock.wall < known.fresh_until:
            self.stats.known += 1
            return Found(known, Way.KNOWN)
        landing = await self._flights.do(
            source_id.digest, self._turn_of(source_id), lambda: self._open(site, path, query)
        )
        found = landing.value
        if landing.role is Role.LED:
            return found
        if not _is_for_one(found.answer):
            return dataclasses.replace(found, collapsed=True)
        del landing, found  # or its reader seemed to be there as long as we wait
        return await self._open(site, path, query)

    def recheck(self, site: Site, source: Source) -> bool:
        """Look at a docroot file again, on the loop: its path is in the kernel's cache since it was
        opened. True when it is still the same, and then it is good for another STAT_TTL_S.

        False is no verdict: open() finds out.
        """
        if not self.may_recheck(site, source):
            return False
        assert site.docroot is not None
        assert source.file is not None
        if not site.docroot.is_same(source.id.path, source.file):
            return False
        self.confirm(source)
        return True

    def may_recheck(self, site: Site, source: Source) -> bool:
        """Is all that is asked of this source whether its file is the same?"""
        file = source.file
        return (
            source.home is Home.DOCROOT
            and site.docroot is not None
            and file is not None
            and file.validator == source.record.validator
            and (
                source.opened is NOT_ASKED
                or source.opened.current is not None
                or self._store.index.is_degraded
            )
        )

    def confirm(self, source: Source) -> None:
        """Its file was seen just now, and is the same."""
        source.fresh_until = self._clock.wall + STAT_TTL_S

    def doubt(self, source_id: SourceId) -> None:
        """What is known of a source may be over: the next open() looks again."""
        known = self._known.get(source_id)
        if known is not None:
            known.fresh_until = 0
            known.file = None  # and recheck() is not enough

    async def _open(self, site: Site, path: str, query: str) -> Found:
        self.stats.opened += 1
        source_id = source_id_of(site, path, query)
        known = self._known.get(source_id)
        if site.docroot is not None:
            # A file has no query: whatever came behind "?" names the same original.
            file_id = SourceId(site.name, path)
            try:
                status = await self._in_thread(functools.partial(stat_file, site.docroot, path))
            except DocrootFailed as error:
                return Found(self._despite(error, known or self._known.get(file_id)), Way.KNOWN)
            if status is not None:
                return Found(self._remember_file(site, file_id, status), Way.KNOWN)
        if site.origin is None:
            self._known.pop(source_id, None)
            raise NotFound(f"not in the docroot: {path!a}")
        opened, maybe_record = await self._recall(source_id, known, site.tags.of(path))
        if maybe_record is not None and is_fresh(maybe_record, self._clock.wall):
            source = self._remember(site, source_id, Home.ORIGIN, opened, maybe_record)
            return Found(source, Way.KNOWN)
        if maybe_record is None or is_ended(maybe_record):
            self._failures.check(source_id, failure_digest(source_id.digest), opened)
        return await self._ask_origin(site, source_id, opened, maybe_record)

    def look_now(self, site: Site, path: str) -> Source | None:
        """open() of a docroot file that was not met before, on the loop: only where the kernel has
        its path and inode at hand. None is no verdict."""
        source_id = SourceId(site.name, path)
        if site.docroot is None or source_id in self._known:
            return None
        if source_id in self._store.orders.taken_down:
            return None
        status = site.docroot.look_now(path)
        if status is None:
            return None
        self.stats.opened += 1
        return self._remember_file(site, source_id, status)

    def _remember_file(self, site: Site, source_id: SourceId, status: FileStatus) -> Source:
        record = record_of_file(status, source_id.path, site.tags.of(source_id.path))
        opened = self._store.opened_now(source_id, record.tags) or NOT_ASKED
        source = self._remember(site, source_id, Home.DOCROOT, opened, record)
        source.file = status
        source.fresh_until = self._clock.wall + STAT_TTL_S
        return source

    def _despite(self, error: DocrootFailed, known: Source | None) -> Source:
        """What is known serves while the docroot's disk is sick. Raises error where it may not."""
        if known is None:
            raise error
        if known.home is Home.ORIGIN and not is_fresh(known.record, self._clock.wall):
            raise error
        self.stats.sick += 1
        known.fresh_until = self._clock.wall + STAT_TTL_S
        return known

    async def ask_tokens(self, source: Source) -> bool:
        """Before a derivative of a docroot file is looked up or made. The file itself is kept by
        nobody, so a farm's worth of originals need not be known to the index. True: it was not
        known what tokens it has, and now it is."""
        if source.opened is not NOT_ASKED:
            return False
        tags = source.record.tags
        opened = self._store.opened_now(source.id, tags)
        source.opened = opened or await self._store.open_source(source.id, tags, has_record=False)
        return True

    async def _recall(
        self, source_id: SourceId, known: Source | None, tags: tuple[str, ...]
    ) -> tuple[Opened, SourceRecord | None]:
        """What the index knows; where it knows nothing, what the stored original says of itself.

        One from before the index lost its memory says what to ask the origin with, no more: it may
        have been purged in between.
        """
        opened = None
        if self._store.index.exclusive:  # else the record may have been renewed by others
            opened = self._store.opened_now(source_id, tags)
        if opened is None:
            opened = await self._store.open_source(source_id, tags)
        if opened.current is None and known is not None and known.home is Home.ORIGIN:
            # Newer than what the index said last: it could not be told.
            return opened, known.record
        if opened.record is not None:
            return opened, opened.record
        entry = await self._store.describe(Key(source_id, ""), opened)
        if entry is None:
            return opened, None
        record = record_of_entry(entry)
        if opened.current is not None and entry.token.epoch != opened.current.epoch:
            record = dataclasses.replace(record, fresh_until=0, revalidate_until=0)
        return opened, record

    def _remember(
        self, site: Site, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord
    ) -> Source:
        source = self._known.get(source_id)
        if source is None:
            source = Source(source_id, home, opened, record)
            self._known[source_id] = source
            if len(self._known) > MAX_SOURCES:
                _renounce(self._known.popitem(last=False)[1])
        else:
            self._known.move_to_end(source_id)
        source.home = home
        source.opened = opened
        source.record = record
        source.stale = None
        source.retry_at = 0
        source.fresh_until = record.fresh_until
        if opened.current is None or site.docroot is not None:
            # The index is asked again soon, whatever the record's lifetime; and a file that appears
            # in the docroot comes before what the origin gave.
            source.fresh_until = min(source.fresh_until, self._clock.wall + STAT_TTL_S)
        self._end_if_purged(source)
        return source

    def _end_if_purged(self, source: Source) -> None:
        """Whoever asked before a purge that came meanwhile is answered; the next one asks anew."""
        if self._store.is_purged(source.id, source.opened, source.record.tags):
            source.fresh_until = 0

    # Orders

    async def obey(self, order: Order) -> None:
        """What an order concerns is asked for again from now on. Of many, a few at a time."""
        if order.act is Act.LIFT:
            return
        if order.scope is Scope.SOURCE:
            self._failures.forget(order.source)
            self.part(order.source)
            source = self._known.get(order.source)
            if source is not None:
                _renounce(source)
            return
        self._part_all()
        for batch in self._batches():
            for source in batch:
                if order.concerns(source.id, source.record.tags):
                    _renounce(source)
            await asyncio.sleep(0)

    async def forget(self) -> None:
        """Nothing that was known holds any longer."""
        self._part_all()
        for batch in self._batches():
            for source in batch:
                _renounce(source)
            await asyncio.sleep(0)

    def part(self, source_id: SourceId) -> None:
        """Who asks from now on is not given what was asked for before."""
        if not self._flights.is_flying(source_id.digest, self._turn_of(source_id)):
            return
        if len(self._turns) >= MAX_TURNS:
            self._part_all()
        self._turn += 1
        self._turns[source_id] = self._turn

    def _part_all(self) -> None:
        self._turn += 1
        self._turn_of_all = self._turn
        self._turns.clear()

    def _turn_of(self, source_id: SourceId) -> Token:
        turn = self._turns.get(source_id, self._turn_of_all) if self._turns else self._turn_of_all
        return Token(UNKNOWN_TOKEN.epoch, turn)

    def _batches(self) -> Iterator[list[Source]]:
        """Who comes meanwhile asks the index anyway."""
        sources = list(self._known.values())
        for start in range(0, len(sources), BATCH):
            yield sources[start : start + BATCH]

    def _refuse_taken_down(self, site: Site, path: str) -> None:
        taken_down = self._store.orders.taken_down
        if taken_down and SourceId(site.name, path) in taken_down:
            raise TakenDown(f"{path!a} was taken down")

    # For the shared cache (edge/shared.py)

    def is_known(self, source_id: SourceId) -> bool:
        """Is there an original that is served without asking anybody?"""
        known = self._known.get(source_id)
        return known is not None and self._clock.wall < known.fresh_until

    async def find_file(self, site: Site, path: str) -> Source | None:
        """What the docroot has. Raises TakenDown, NotAllowed, DocrootFailed."""
        self._refuse_taken_down(site, path)
        if site.docroot is None:
            return None
        status = await self._in_thread(functools.partial(stat_file, site.docroot, path))
        if status is None:
            return None
        return self._remember_file(site, SourceId(site.name, path), status)

    async def find_kept(self, site: Site, source_id: SourceId) -> Source | None:
        """A fresh original that the origin once gave, as far as the index knows."""
        path = source_id.path.partition(QUERY_MARK)[0]
        known = self._known.get(source_id)
        opened, record = await self._recall(source_id, known, site.tags.of(path))
        if record is None or not is_fresh(record, self._clock.wall):
            return None
        return self._remember(site, source_id, Home.ORIGIN, opened, record)

    async def let_go(self, site: Site, source_id: SourceId) -> None:
        """The origin's answer is no original for everybody any more."""
        path = source_id.path.partition(QUERY_MARK)[0]
        known = self._known.get(source_id)
        opened, record = await self._recall(source_id, known, site.tags.of(path))
        await self._replaced(source_id, opened, record)

    async def note_missing(
        self, source_id: SourceId, opened: Opened, status: int, headers: Headers
    ) -> None:
        """An answer is stored that says there is no original: its derivatives need not ask."""
        await self._failures.remember_missing(
            source_id, opened.token, status, folded(headers), Storability.STORABLE
        )

    async def pass_on(self, response: Incoming, storability: Storability) -> Passed | Passing:
        """An answer that is not kept, and its body."""
        return await self._pass(response, None, storability)

    # The origin

    async def _ask_origin(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> Found:
        if record is None:
            return await self._ask(site, source_id, opened, record)
        now = self._clock.wall
        known = self._known.get(source_id)
        if known is not None and now < known.retry_at and now < stale_limit(record):
            is_error = now < record.stale_until
            why = Stale.IF_ERROR if is_error else Stale.WHILE_REVALIDATE
            return self._stale(site, source_id, opened, record, why, known.retry_at)
        if may_use_meanwhile(record, now):
            name = (source_id, opened.token)
            assert site.origin is not None
            self._refreshes.ask(
                site.origin.name, name, lambda: self._refresh(site, source_id, opened, record)
            )
            return self._stale(site, source_id, opened, record, Stale.WHILE_REVALIDATE)
        if now >= record.stale_until:
            return await self._joined_or_asked(site, source_id, opened, record)
        try:
            return await self._joined_or_asked(site, source_id, opened, record)
        except OriginError:
            # Losing the origin does not turn what can be served into an error (RFC 5861 section 4).
            retry_at = self._clock.wall + RETRY_ORIGIN_S
            return self._stale(site, source_id, opened, record, Stale.IF_ERROR, retry_at)

    def _stale(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord,
        why: Stale,
        retry_at: int = 0,
    ) -> Found:
        """retry_at: the origin has failed and is not asked before; else it is being asked, and how
        that ended is looked at with the next turn."""
        source = self._remember(site, source_id, Home.ORIGIN, opened, record)
        source.stale = why
        source.retry_at = retry_at
        turn_ends = self._clock.wall + STAT_TTL_S
        source.fresh_until = min(retry_at or turn_ends, stale_limit(record))
        if site.docroot is not None:
            source.fresh_until = min(source.fresh_until, turn_ends)
        self._end_if_purged(source)
        if why is Stale.IF_ERROR:
            self.stats.stale += 1
        else:
            self.stats.meanwhile += 1
        return Found(source, Way.KNOWN)

    async def _refresh(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Found:
        """Behind what is served stale. What is known changes by an answer alone: after a failure
        fresh_until stays as it is, since a purge may have come meanwhile."""
        try:
            return await self._ask(site, source_id, opened, record)
        except Exception:
            known = self._known.get(source_id)
            if known is not None and known.home is Home.ORIGIN:
                known.retry_at = self._clock.wall + RETRY_ORIGIN_S
            raise

    async def _joined_or_asked(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Found:
        """A refresh may be under way, begun while the source could be served without it. One from
        before a purge is not waited for."""
        name = (source_id, opened.token)
        if self._refreshes.is_running(name):
            return await self._refreshes.join(name)
        return await self._ask(site, source_id, opened, record)

    async def _ask(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> Found:
        """_fetch(), and a missing original is remembered."""
        found = await self._fetch(site, source_id, opened, record)
        if isinstance(found.answer, Passed):
            passed = found.answer
            await self._failures.remember_missing(
                source_id, opened.token, passed.status, folded(passed.fields), passed.storability
            )
        return found

    async def _fetch(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord | None,
        *,
        is_kept: bool = True,
    ) -> Found:
        """One exchange; record None asks for the whole. is_kept False: the store has refused it.

        Once for the whole farm, as far as others can be given what comes of it.
        """
        arriving = self.arrivals.find(source_id, opened.token)
        if arriving is not None and arriving.body.is_whole:
            return Found(arriving, Way.FETCHED, collapsed=True)
        exchange = functools.partial(
            self._exchange, site, source_id, opened, record, is_kept=is_kept
        )
        if self._leases is None or not is_kept:
            return await exchange()
        since = 0 if opened.record is None else opened.record.stored_at
        known = self._known.get(source_id)
        if known is not None:
            since = max(since, known.record.stored_at)
        follow = exchange
        if record is not None:
            follow = functools.partial(self._confirmed_elsewhere, site, source_id, exchange)
        try:
            return await self._leases.once(
                Errand(
                    key=Key(source_id, ""),
                    token=opened.token,
                    held=functools.partial(self._fetched_here, site, source_id, opened, since),
                    fill=exchange,
                    follow=follow,
                    take=functools.partial(self._take, site, source_id, opened, since),
                    is_kept=_is_kept,
                )
            )
        except LedElsewhere as error:
            if record is None:
                raise
            # As if the origin were busy: what it gave before stands in, where it may.
            raise OriginOverloaded(str(error), 1) from error

    async def _fetched_here(
        self, site: Site, source_id: SourceId, opened: Opened, since: int
    ) -> Found | None:
        """What another worker of this node has stored since."""
        stored = await self._store.lookup(
            Key(source_id, ""), opened.current, applied=opened.applied
        )
        if stored is None:
            return None
        with stored:
            return self._maybe_newer(site, source_id, opened, since, stored.entry)

    async def _take(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        since: int,
        entry: Entry,
        body: bytes,
    ) -> Found | None:
        """What another node has fetched; from the wire."""
        if not is_replayable(entry) or not await keep(self._store, entry, body):
            return None
        return self._maybe_newer(site, source_id, opened, since, entry)

    def _maybe_newer(
        self, site: Site, source_id: SourceId, opened: Opened, since: int, entry: Entry
    ) -> Found | None:
        """Fresh, and no older than what was known when the origin was to be asked."""
        if entry.stored_at < since or self._clock.wall >= entry.fresh_until:
            return None
        record = record_of_entry(entry)
        source = self._remember(site, source_id, Home.ORIGIN, opened, record)
        return Found(source, Way.KNOWN, collapsed=True)

    async def _confirmed_elsewhere(
        self, site: Site, source_id: SourceId, exchange: Callable[[], Awaitable[Found]]
    ) -> Found:
        """Another process has asked the origin just now: the index may know what it said."""
        path = source_id.path.partition(QUERY_MARK)[0]
        known = self._known.get(source_id)
        opened, record = await self._recall(source_id, known, site.tags.of(path))
        if record is None or self._clock.wall >= record.fresh_until:
            return await exchange()
        source = self._remember(site, source_id, Home.ORIGIN, opened, record)
        return Found(source, Way.KNOWN, collapsed=True)

    async def _exchange(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord | None,
        *,
        is_kept: bool,
    ) -> Found:
        """_fetch(), by this process."""
        origin = site.origin
        assert origin is not None
        asked_at = self._clock.wall
        seen = self._store.orders.head
        fetch = origin.fetch if site.ask is None else site.ask
        response = Incoming(await fetch(self.request_for(site, source_id, record)))
        try:
            answered_at = self._clock.wall
            status = response.status
            if response.local_redirect is not None:
                raise OriginBroken("redirects inside an origin are not followed")
            if status == 304 and record is not None:
                record = refreshed(record, response, asked_at, answered_at)
                record = dataclasses.replace(record, seen=seen)
                return Found(await self._renew(site, source_id, opened, record), Way.CONFIRMED)
            if status in BUSY_STATUSES:
                raise OriginOverloaded(f"origin {origin.name} answered {status}", 1)
            if status >= 500 or status in UNASKED_STATUSES:
                raise OriginBroken(f"origin {origin.name} answered {status}")
            fields = folded(response.headers)
            control = effective_control(fields, SURROGATE)
            storability = may_store(
                "GET", status, fields, False, control, key_covers=(ACCEPT_ENCODING[0],)
            )
            told = None
            if status == 200:
                told = record_of_response(source_id.path, response, asked_at, answered_at)
                tags = parse_surrogate_key(fields.get("surrogate-key", ()))
                path, _, _ = source_id.path.partition(QUERY_MARK)
                tags = tuple(dict.fromkeys((*tags, *site.tags.of(path))))
                told = dataclasses.replace(told, seen=seen, tags=tags)
            if told is None or storability is not Storability.STORABLE:
                await self._replaced(source_id, opened, record)
                return Found(await self._pass(response, told, storability), Way.FETCHED)
            if is_kept:
                answer = await self._keep(site, source_id, opened, response, told, record)
                return Found(answer, Way.FETCHED)
            return Found(await self._pass(response, told, storability), Way.FETCHED)
        except NotStored as error:
            # In the middle of the body: the disk is full. The next answer goes around the store.
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
        finally:
            await response.aclose()
        return await self._exchange(site, source_id, opened, None, is_kept=False)

    def request_for(
        self, site: Site, source_id: SourceId, record: SourceRecord | None = None
    ) -> OriginRequest:
        """A GET that says nothing of any client. record: what is asked whether it still holds."""
        path, _, query = source_id.path.partition(QUERY_MARK)
        target = build_path(path)
        host = site.hosts[0] if site.hosts else self._node.address
        headers = [("host", host), *marks_of(self._node.name), ACCEPT_ENCODING]
        if record is not None:
            headers += conditional_fields(record.validator)
        return OriginRequest(
            method="GET",
            target=f"{target}?{query}" if query else target,
            path=path,
            query=query,
            headers=tuple(headers),
            host=host,
            scheme="http",
            remote_addr=self._node.address,
            remote_port=0,
            server_addr=self._node.address,
            server_port=self._node.port,
            server_protocol="HTTP/1.1",
        )

    async def _renew(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Source:
        """Record what an origin confirmed. Where a purge came meanwhile, the confirmation holds for
        those who asked before it, and the next request asks the index anew. Likewise a soft one."""
        is_recorded = await self._store.put_source(source_id, opened.token, record)
        source = self._remember(site, source_id, Home.ORIGIN, opened, record)
        if not is_recorded or self._store.orders.softened(source_id, record.tags) > record.seen:
            source.fresh_until = 0
        return source

    async def _replaced(
        self, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> None:
        """The origin has another answer now, one that is not kept. What it gave before is not to
        come back when it fails."""
        known = self._known.get(source_id)
        if known is not None and known.home is Home.ORIGIN:
            record = known.record if record is None else record
            known.fresh_until = 0
            known.record = ended(known.record)
        if record is not None and not is_ended(record):
            await self._store.put_source(source_id, opened.token, ended(record))

    async def _keep(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        response: Incoming,
        record: SourceRecord,
        before: SourceRecord | None,
    ) -> Settled | UnderWay:
        """Store an original while it arrives; what does not fit is passed on instead.

        before: what stands in for it where it fails. Raises NotStored when the disk refuses a small
        body after it has begun.
        """
        is_large = await response.is_large()
        draft = Entry(
            key=Key(source_id, ""),
            token=opened.token,
            validator=record.validator,
            media_type=record.media_type,
            last_modified=record.last_modified,
            stored_at=record.stored_at,
            fresh_until=record.fresh_until,
            stale_until=record.stale_until,
            headers=replayed_fields(response.headers),
            tags=record.tags,
            revalidate_until=record.revalidate_until,
            seen=record.seen,
        )
        try:
            fill = await self._store.reserve(draft, response.content_length or EXPECTED_BYTES)
        except NotStored as error:
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            return await self._pass(response, record, Storability.STORABLE)
        if not is_large:
            with fill:
                length, digest = await self._write_body(response, fill.write)
                return await self._publish(site, opened, response, record, fill, length, digest)
        with contextlib.ExitStack() as stack:
            stack.callback(fill.abort)
            duplicate = Descriptor(os.dup(fill.fd))
            stack.pop_all()
        incoming = response.hand_over()
        arriving: Arriving[Settled] = Arriving(
            source_id,
            opened,
            named_early(record),
            _guarded(record.media_type, draft.headers),
            growing_in(fill, incoming, duplicate),
            asyncio.get_running_loop().create_future(),
        )
        self.arrivals.keep(
            incoming,
            arriving,
            fill,
            functools.partial(self._publish, site, opened, incoming, record, fill),
            functools.partial(self._meaning, site, source_id, opened, before),
        )
        return arriving

    async def _publish(
        self,
        site: Site,
        opened: Opened,
        response: Incoming,
        record: SourceRecord,
        fill: Fill,
        length: int,
        digest: bytes,
    ) -> Settled:
        """Of a body that is whole; where it cannot be kept its bytes are there all the same."""
        source_id = fill.draft.key.source
        record = completed(record, length, digest)
        entry = dataclasses.replace(
            fill.draft,
            length=length,
            body_hash=digest,
            etag=record.etag,
            validator=record.validator,
        )
        try:
            if not response.is_cacheable:
                raise NotStored("something about the exchange was odd")
            stored = await self._store.commit(fill, entry)
        except NotStored as error:
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            stored = fill.detach(entry)
            return Passed(
                200,
                passed_fields(response.headers),
                slice_of(stored),
                digest,
                Storability.STORABLE,
                record,
            )
        stored.close()
        return await self._renew(site, source_id, opened, record)

    def _meaning(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        before: SourceRecord | None,
        error: OriginError,
    ) -> Exception:
        """Of an origin that failed in the middle of a body. Where something stands in for it, that
        is found by looking once more; who has begun to get the body cannot be helped."""
        if before is None or self._clock.wall >= before.stale_until:
            return error
        retry_at = self._clock.wall + RETRY_ORIGIN_S
        self._stale(site, source_id, opened, before, Stale.IF_ERROR, retry_at)
        return OriginChanged(str(error))

    async def _write_body(
        self, response: Incoming, write: Callable[[bytes], None]
    ) -> tuple[int, bytes]:
        """Pass the body to write(), piece by piece in a disk thread; its length and xxh3-128."""
        hasher = xxhash.xxh3_128()
        length = 0
        while piece := await response.read():
            await self._in_thread(functools.partial(write, piece))
            hasher.update(piece)
            length += len(piece)
        return length, hasher.digest()

    async def _pass(
        self, response: Incoming, record: SourceRecord | None, storability: Storability
    ) -> Passed | Passing:
        """A body that is not kept: gone with its last reader."""
        if await response.is_large():
            length = response.content_length
            return Passing(
                response.status,
                passed_fields(response.headers),
                self.arrivals.pass_on(response.hand_over()),
                UNKNOWN_LENGTH if length is None else length,
                storability,
                record,
            )
        body, digest = await self._unkept_body(response)
        return Passed(
            response.status,
            passed_fields(response.headers),
            body,
            digest,
            storability,
            None if record is None else completed(record, len(body), digest),
        )

    async def _unkept_body(self, response: Incoming) -> tuple[FileSlice | bytes, bytes]:
        """All of it, in memory while it is short, and its xxh3-128."""
        pieces: list[bytes] = []
        size = 0
        while size <= SHORT_BYTES and (piece := await response.read()):
            pieces.append(piece)
            size += len(piece)
        begun = b"".join(pieces)
        if size <= SHORT_BYTES:
            return begun, xxhash.xxh3_128_digest(begun)
        spooled = await self._in_thread(self._spool.open)
        hasher = xxhash.xxh3_128()
        piece = begun
        while piece:
            await self._in_thread(functools.partial(spooled.write, piece))
            hasher.update(piece)
            piece = await response.read()
        return spooled.slice(), hasher.digest()

    # Bytes

    async def in_file(self, body: FileSlice | bytes) -> FileSlice:
        """For a resizer, which is given a descriptor. Raises StoreBusy."""
        if isinstance(body, FileSlice):
            return body
        spooled = await self._in_thread(self._spool.open)
        await self._in_thread(functools.partial(spooled.write, body))
        return spooled.slice()

    async def open_body(self, site: Site, source: Source) -> Original:
        """The original's bytes, with what is true of them.

        A docroot file that changed since it was looked at is taken as it is: source is renewed.
        Raises what open() raises, and OriginChanged when it has to be opened again.
        """
        original = await self.maybe_open_body(site, source)
        if original is not None:
            return original
        return await self.original_of(site, source, await self.refetch(site, source))

    async def refetch(self, site: Site, source: Source) -> Settled | UnderWay:
        """Evicted, or of another version than the record: the bytes are fetched, all of them, once
        for everybody. The key's digest is no source's, so this joins no open()."""
        landing = await self._flights.do(
            Key(source.id, "").digest,
            source.opened.token,
            lambda: self._fetch(site, source.id, source.opened, None),
        )
        answer = landing.value.answer
        if landing.role is Role.LED or not _is_for_one(answer):
            return answer
        del landing, answer
        return (await self._fetch(site, source.id, source.opened, None)).answer

    async def settled(self, site: Site, answer: UnderWay) -> Settled:
        """What becomes of it, for who needs it whole. Raises PictureTooLarge, OriginError, and
        OriginChanged when it has to be opened again."""
        length = answer.length if isinstance(answer, Passing) else answer.body.length
        if length > site.max_source_bytes:
            raise PictureTooLarge(f"{length} bytes, the site's limit {site.max_source_bytes}")
        if isinstance(answer, Passing):
            return await self._whole(site, answer)
        try:
            return await asyncio.shield(answer.ended)
        except NotStored:
            # Refused in the middle. It is fetched around the store, once for all who wait.
            landing = await self._flights.do(
                Key(answer.id, "").digest,
                answer.opened.token,
                lambda: self._fetch_whole(site, answer),
            )
            settled = landing.value.answer
            if isinstance(settled, Arriving | Passing):
                raise OriginChanged(f"{answer.id.path!a} is on its way again") from None
            return settled

    async def _fetch_whole(self, site: Site, gone: Arriving[Settled]) -> Found:
        found = await self._fetch(site, gone.id, gone.opened, None, is_kept=False)
        if not isinstance(found.answer, Passing):
            return found
        return dataclasses.replace(found, answer=await self._whole(site, found.answer))

    async def _whole(self, site: Site, passing: Passing) -> Passed:
        body, digest = await self.arrivals.whole(passing.body, site.max_source_bytes)
        record = passing.record
        return Passed(
            passing.status,
            passing.fields,
            body,
            digest,
            passing.storability,
            None if record is None else completed(record, len(body), digest),
        )

    async def original_of(self, site: Site, source: Source, answer: Settled | UnderWay) -> Original:
        """What open_body() says, of the answer to refetch()."""
        if isinstance(answer, Arriving | Passing):
            answer = await self.settled(site, answer)
        if isinstance(answer, Passed):
            raise_for_status(answer)
            if answer.record is None or answer.storability is not Storability.STORABLE:
                raise OriginChanged(f"{source.id.path!a} may no longer be kept")
            return Original(answer.record, (), await self.in_file(answer.body))
        original = await self.maybe_open_body(site, answer)
        if original is None:
            raise OriginChanged(f"{source.id.path!a} was stored and is gone again")
        return original

    async def maybe_open_body(self, site: Site, source: Source) -> Original | None:
        """open_body() of what this node has: None where an origin would have to be asked."""
        if source.home is Home.DOCROOT:
            return await self._open_file(site, source)
        stored = await self._stored(source)
        if stored is None:
            return None
        fields = _guarded(source.record.media_type, stored.entry.headers)
        return Original(source.record, fields, slice_of(stored))

    async def _open_file(self, site: Site, source: Source) -> Original:
        docroot = site.docroot
        assert docroot is not None
        opened = docroot.open_now(source.id.path)
        if opened is None:
            opened = await self._in_thread(lambda: docroot.open(source.id.path))
        if opened is None:
            self._known.pop(source.id, None)
            raise NotFound(f"gone from the docroot: {source.id.path!a}")
        body = FileSlice(Descriptor(opened.fd), 0, opened.size)
        record = source.record
        if opened.validator != record.validator:
            record = record_of_file(opened, source.id.path)
            if source.home is Home.DOCROOT:
                source.record = record
        return Original(record, _guarded(record.media_type, ()), body)

    async def _stored(self, source: Source) -> StoredFile | None:
        """The stored original, if it is the version that the record speaks of."""
        key = Key(source.id, "")
        opened = source.opened
        stored = await self._store.lookup(
            key, opened.current, source.record.validator, opened.applied
        )
        if stored is not None and stored.entry.validator != source.record.validator:
            stored.close()
            return None
        return stored


def _renounce(source: Source) -> None:
    """Whoever holds it, a route or a ready answer, finds that it must be opened again."""
    source.fresh_until = 0
    source.file = None
    source.opened = NOT_ASKED


def _is_for_one(answer: Settled | UnderWay) -> bool:
    """Made for the client who asked, or read by one only."""
    if isinstance(answer, Passing):
        return True
    return isinstance(answer, Passed) and not answer.is_shareable


def _is_kept(found: Found) -> bool:
    return found.way is Way.FETCHED and isinstance(found.answer, Source)


def source_of(arriving: Arriving[Settled]) -> Source:
    """As it would be known, if it were here already."""
    return Source(arriving.id, Home.ORIGIN, arriving.opened, arriving.record)


def _guarded(media_type: str, fields: Headers) -> Headers:
    """fields, and for a page that calls itself a picture the rule that makes it one."""
    if not media_type.lower().startswith("image/svg+xml"):
        return fields
    if any(name.lower() == "content-security-policy" for name, _ in fields):
        return fields
    return fields + _SVG_FIELDS


def stat_file(docroot: Docroot, path: str) -> FileStatus | None:
    """A folder is no original: None, as where nothing is. Raises NotAllowed, DocrootFailed."""
    try:
        return docroot.stat(path)
    except NotAllowed as error:
        if error.why is Refusal.DIRECTORY:
            return None
        raise


def source_id_of(site: Site, path: str, query: str) -> SourceId:
    """A decoded path may hold a "?" (of %3F), so a query is set apart by what no path can hold."""
    return SourceId(site.name, f"{path}{QUERY_MARK}{query}" if query else path)


def slice_of(stored: StoredFile) -> FileSlice:
    """The body of a stored file; the descriptor is the slice's from now on."""
    fd, stored.fd = stored.fd, -1
    start = stored.body_offset
    return FileSlice(Descriptor(fd), start, start + stored.entry.length)


def raise_for_status(passed: Passed) -> None:
    """The refusal that an origin's answer means for a derivative, if it means one."""
    if passed.status == 410:
        raise Gone("the origin answered 410")
    if passed.status == 404:
        raise NotFound("the origin answered 404")
    if passed.status != 200:
        raise OriginSaidNo(f"the origin answered {passed.status}")
