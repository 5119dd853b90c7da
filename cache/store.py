"""The cache as a node uses it: disk tier, index and disk threads under one purge rule.

The rule: an entry is served under a token only if it was published under that token or a later one
of the same epoch; one of another epoch, only to who has asked the source again and found the
version that the entry was made from; and none whose own tags an order has purged (orders.py) since
its fill began. Publishing is three steps, in this order:

    seal       the temp file is complete                        (disk)
    record     compare-and-set of the token                     (index)
    rename     the file gets its name                           (disk)

A disk thread takes all three in one visit where the index lets it (publish_now); otherwise the loop
asks between them.

Interleavings with a purge, which raises the generation (index), then remembers it here (floor),
then removes memory entries, then answers, and unlinks files behind the answer:

 1. purge, record: the compare fails, the file is withdrawn, StaleToken.
 2. record, purge, rename: a file with an old token gets its name after the purge removed what it
    found. Every look-up compares tokens, so nobody is served from it, nor from one that the purge
    has not removed yet. Where the index is down there
    is no token to compare with; then the floor decides, which the purge set before it answered.
    The fill looks at the floor after its rename, too, and takes the file away again.
 3. record, crash: the index lists what is not there. A listed digest is a hint, a miss is a miss.
 4. rename, crash: the file is complete and carries its token.
 5. record fails because the index is unavailable: the file is renamed all the same. Its token was
    current when the fill began. If a purge came between, it is either known here (floor) or was
    recorded by another node; then the file's token is old for everybody who can reach the index,
    and for a node that cannot this file is no worse than those it holds already. Not storing would
    make every miss during an outage a render again (P4, P6); P1 and P2 do not depend on the index.
 6. purge without an answer (IndexUnavailable): it may or may not take place. The caller answers
    503; what is remembered of the source stays as floor and is current no more, so that the next
    request asks the index.

Eviction: forget in the index, then unlink. Purge: raise, then unlink. A crash between the two
leaves files that no token of this epoch allows; after the loss of the index, too, the journal
raises what this node purged (follow.py).

Orders of the log (purges by tag and prefix, and what other nodes purged) are heard a moment after
they were recorded; obey() says what they do here.
"""

import asyncio
import contextlib
import enum
import itertools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from cache.entry import Entry
from cache.errors import IndexUnavailable, StaleToken, StoreBusy
from cache.fill import Fill
from cache.index.interface import (
    SETTLE_MS,
    UNKNOWN_TOKEN,
    Failure,
    Index,
    Purged,
    Sight,
    SourceRecord,
    Token,
)
from cache.key import Key, SourceId
from cache.orders import MAX_ORDERS, Act, Order, Orders, Scope, by_seq
from cache.stored import StoredFile
from cache.threads import DiskThreads
from cache.tier import DiskTier

# Sources whose last token is remembered here: about 400 bytes each with a record.
MAX_REMEMBERED: Final = 65_536
# Of the paths of sources that were purged elsewhere and whose new token is still to be read.
MAX_UNSETTLED_BYTES: Final = 16 * 1024 * 1024
# Old files found by look-ups that wait to be unlinked; what does not fit is found again.
MAX_STALE: Final = 1024
# Files of purges that wait to be unlinked; with more, purges wait for the disk before they answer.
MAX_PURGED: Final = 4096
# Unlinked at a time, at some 40 us each, so that a disk thread is soon free for who waits.
UNLINKED_AT_ONCE: Final = 64
# Until answers to purges are on their way: unlinking is not for who waits for one.
REMOVAL_DELAY_S: Final = 0.01
# For all forgets of one batch of evictions; stale hints in the index harm nobody.
FORGET_BUDGET_S: Final = 0.25
# The scan rests so long after each folder, some 500 files: it takes a third of one disk thread.
SCAN_REST_S: Final = 0.02
# New tokens read after one look at the log; see settle(). What is left waits for the next look.
SETTLE: Final = 256
# Between two scans of a folder that other processes store in, too.
RESCAN_S: Final = 300.0

_log = logging.getLogger(__name__)


class Removable(Protocol):
    """The memory tier, of whatever values: cache.memory.Memory is one."""

    def remove(self, digest: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a source now.

    current is what a look-up compares with, None while the index is unavailable. token is what a
    fill carries: the same, or else the last one that was seen here. applied is the newest order
    that the token was raised for, seen the newest one heard of when the token was read; doubts, how
    often everything had been in doubt when it was asked for.
    """

    token: Token
    current: Token | None
    record: SourceRecord | None
    applied: int = 0
    seen: int = 0
    failures: Mapping[bytes, Failure] = field(default_factory=dict)
    doubts: int = field(default=0, compare=False)


@dataclass(slots=True)
class Stats:
    """Look-ups that found a file: served or stale or suspect (another epoch)."""

    served: int = 0
    stale: int = 0
    suspect: int = 0
    published: int = 0
    unrecorded: int = 0  # of these: stored though the index could not be told
    refused_old: int = 0  # fills that ended after a purge
    purges: int = 0
    unanswered_purges: int = 0
    unforgotten: int = 0  # evicted entries that the index still lists
    unremoved: int = 0  # purged files left to eviction, since the disk threads were busy
    orders: int = 0  # heard of and obeyed
    unsettled: int = 0  # purges heard of whose new token could not be read yet, in all


class _Word(enum.Enum):
    """What the index said of a fill that is sealed, in the disk thread."""

    UNASKED = "unasked"  # it is asked from the loop
    REFUSED = "refused"  # the token is old


class Store:
    """clock: seconds since 1970, for stored_at. Methods belong to the loop's thread, but for
    lookup_now().

    follows says whether the orders of other processes are heard of as they come; see follow.py.
    """

    def __init__(
        self,
        disk: DiskTier,
        index: Index,
        clock: Callable[[], float],
        threads: int,
        memory: Removable | None = None,
        orders: Orders | None = None,
    ) -> None:
        self.disk = disk
        self.index = index
        self.orders = Orders() if orders is None else orders
        self.follows: Callable[[], bool] = _never
        self.stats = Stats()
        self.threads = DiskThreads(threads)
        self._clock = clock
        self._memory = memory
        self._loop: asyncio.AbstractEventLoop | None = None
        # The floor: by source digest, the newest token and record seen here.
        self._known: dict[bytes, Opened] = {}
        # How often all of it was put in doubt. What was asked for before the last time is a floor
        # only: so it costs nothing to doubt it, however much there is.
        self._doubts = 0
        # Orders that purged a source elsewhere, whose new token could not be read yet.
        self._unsettled: dict[bytes, Order] = {}
        self._unsettled_bytes = 0
        self._stale: deque[tuple[bytes, Token]] = deque(maxlen=MAX_STALE)
        # Likewise, of purges. Both are walked by one removal, in a disk thread.
        self._purged: deque[tuple[bytes, Token]] = deque()
        self._removal: asyncio.Task[None] | None = None
        self._scan: threading.Thread | None = None
        self._stopping = threading.Event()
        disk.on_evict = self._forget_evicted

    async def start(self) -> None:
        """Raises IndexUnavailable where the index can never work."""
        await self.index.start()
        self._loop = asyncio.get_running_loop()
        self._scan = threading.Thread(target=self._scan_disk, name="scan", daemon=True)
        self._scan.start()

    async def stop(self) -> None:
        """After the last fill has ended."""
        self._stopping.set()
        if self._removal is not None:
            await self._removal
        if self._scan is not None:
            await asyncio.to_thread(self._scan.join)
        await self.threads.stop()
        await self.index.stop()
        self.disk.close()

    def now(self) -> int:
        """Whole seconds since 1970."""
        return int(self._clock())

    # Sources

    def opened_now(self, source: SourceId, tags: Sequence[str] = ()) -> Opened | None:
        """open_source() without waiting, where nobody else can have changed the token unheard."""
        if not (self.index.exclusive or self.follows()):
            return None
        known = self._known.get(source.digest)
        if known is None or known.current is None or known.doubts < self._doubts:
            return None
        if known.record is not None:
            tags = (*tags, *known.record.tags)
            if self.orders.softened(source, tags) > known.record.seen:
                return None  # it is stale, which open_source() says
        return None if self.orders.barrier(source, tags) > known.applied else known

    async def open_source(
        self, source: SourceId, tags: Sequence[str] = (), *, has_record: bool = True
    ) -> Opened:
        """The token to look up and to fill with. Never raises for an index that is down.

        tags: those that are configured, beside the ones of the record; has_record False: these are
        all, since nothing is recorded of the source.
        """
        seen, doubts = self.orders.head, self._doubts
        try:
            sight = await self._open(source, tags, has_record=has_record)
        except IndexUnavailable:
            return self.opened_alone(source, tags)
        self._settled(source.digest)
        sight = self._softened(source, tags, sight)
        return self._remember(source, _as_opened(sight, seen, doubts))

    def opened_alone(self, source: SourceId, tags: Sequence[str] = ()) -> Opened:
        """open_source() without the index: what was last seen of the source. Where an order was
        heard of since, or nothing was seen, the token is the outage's own: another one after each
        order that concerns the source, so that nothing from before it is met again."""
        known = self._known.get(source.digest)
        if known is not None:
            record_tags = () if known.record is None else known.record.tags
            if not self.is_purged(source, known, (*tags, *record_tags)):
                return replace(known, current=None)
            tags = (*tags, *record_tags)
        token = replace(UNKNOWN_TOKEN, generation=self._newest(source, tags))
        return Opened(token, None, None, seen=self.orders.head)

    def is_overtaken(self, source: SourceId, seen: int, tags: Sequence[str]) -> bool:
        """Whether an order that was heard of has purged what was asked for when seen was the
        newest one."""
        return self._newest(source, tags) > seen

    def has_heard_since(self, source: SourceId, seen: int, tags: Sequence[str]) -> bool:
        """is_overtaken(), or a soft purge came: whoever comes now must not be given what was asked
        for then, as it is."""
        softened = self.orders.softened(source, tags)
        return softened > seen or self.is_overtaken(source, seen, tags)

    def _newest(self, source: SourceId, tags: Sequence[str]) -> int:
        """The newest order heard of that purged the source and may not be in its token yet."""
        purged = self._unsettled.get(source.digest)
        return max(self.orders.newest(source, tags), 0 if purged is None else purged.seq)

    async def _open(
        self, source: SourceId, tags: Sequence[str], *, has_record: bool = True
    ) -> Sight:
        """The record tells further tags, and by them the source may be purged once more. Once all
        of them are known, the source is settled up to here."""
        open_source = self.index.open_source
        head = self.orders.head
        barrier = self.orders.barrier(source, tags)
        if not has_record:
            return await open_source(source, barrier=barrier, head=head, settled=head)
        sight = await open_source(source, barrier=barrier, head=head)
        if sight.record is None:
            return sight
        barrier = self.orders.barrier(source, (*tags, *sight.record.tags))
        if barrier <= sight.applied and head - sight.applied <= SETTLE_MS:
            return sight
        return await open_source(source, barrier=barrier, head=head, settled=head)

    def _softened(self, source: SourceId, tags: Sequence[str], sight: Sight) -> Sight:
        """A soft purge by tag or prefix makes records stale that were written before it."""
        record = sight.record
        if record is None:
            return sight
        return replace(sight, record=self.softened(source, tags, record))

    def softened(self, source: SourceId, tags: Sequence[str], record: SourceRecord) -> SourceRecord:
        """The record, stale where a soft purge that was heard of came after it."""
        softened = self.orders.softened(source, (*tags, *record.tags))
        if softened <= record.seen:
            return record
        # An order's seq has the time in it, of the index's clock.
        return soft(record, min(softened // 1000, self.now()))

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        """Store what is known of the original. False: the token is old, or the index is down."""
        doubts = self._doubts
        try:
            is_stored = await self.index.put_source(source, token, record)
        except IndexUnavailable:
            self._doubt(source)
            return False
        known = self._known.get(source.digest)
        if is_stored and known is not None and known.token == token:
            doubts = max(doubts, known.doubts)
            self._known[source.digest] = replace(known, current=token, record=record, doubts=doubts)
        else:
            self._doubt(source)
        return is_stored

    async def put_failure(
        self, source: SourceId, token: Token, digest: bytes, failure: Failure
    ) -> None:
        """Let other workers and nodes know. An index that is down need not."""
        with contextlib.suppress(IndexUnavailable):
            await self.index.put_failure(source, token, digest, failure)

    async def add_spellings(self, source: SourceId, urls: Sequence[str]) -> bool:
        """URLs under which a source was handed out; False when the index is down."""
        try:
            await self.index.add_spellings(source, urls)
        except IndexUnavailable:
            return False
        return True

    # Entries

    def may_hold(self, key: Key) -> bool:
        """False where lookup() would find nothing, known without asking the disk: nobody else
        stores in this folder, and all that is there has been counted."""
        return not self.index.exclusive or self.disk.may_hold(key.digest)

    async def lookup(
        self, key: Key, token: Token | None, validator: str | None = None, applied: int = 0
    ) -> StoredFile | None:
        """The entry, open, if token allows it; token None when the index is unavailable. applied
        is what comes with the token.

        validator is that of the source as it was found since token's epoch began. An entry of
        another epoch is suspect, since purges may have been forgotten; one that was made from that
        very version has been revalidated by it, and is served.

        The body of a file from before this start is compared with its hash first. Raises StoreBusy.
        """
        if not self.may_hold(key):
            return None
        stored = await self.threads.run(
            lambda: self.lookup_now(key, token, validator, applied), _close_found
        )
        if self._stale:
            self._begin_removal()
        return stored

    def lookup_now(
        self, key: Key, token: Token | None, validator: str | None = None, applied: int = 0
    ) -> StoredFile | None:
        """lookup() for a caller that may block."""
        stored = self.disk.open(key)
        if stored is None:
            return None
        if not self._is_current(stored.entry, token, validator, applied):
            stored.close()
            return None
        if not stored.is_verified and not self.disk.verify(stored):
            return None
        self.stats.served += 1
        return stored

    async def describe(self, key: Key, opened: Opened) -> Entry | None:
        """What an entry says of itself, if it is current, or suspect: of another epoch. Then it
        says with which validator to ask whether it still holds. Raises StoreBusy."""
        if not self.may_hold(key):
            return None
        return await self.threads.run(lambda: self._describe(key, opened))

    def _describe(self, key: Key, opened: Opened) -> Entry | None:
        stored = self.disk.open(key)
        if stored is None:
            return None
        with stored:
            entry = stored.entry
            # Its own validator: as if somebody had asked, so that another epoch is let through.
            token, applied = opened.current, opened.applied
            return entry if self._is_current(entry, token, entry.validator, applied) else None

    async def reserve(self, draft: Entry, expected_bytes: int) -> Fill:
        """A temp file for a body. Raises NotStored, StoreBusy. Use it as a context manager."""
        return await self.threads.run(
            lambda: self.disk.reserve(draft, expected_bytes), lambda fill: fill.abort()
        )

    async def commit(self, fill: Fill, entry: Entry) -> StoredFile:
        """Publish a fill whose body is written. stored_at is set here if it is 0.

        Raises NotStored (StaleToken after a purge), DamagedEntry for a body of another length,
        StoreBusy. Then nothing is left on disk, and fill.detach(entry) has the bytes.
        """
        entry = self._stamped(entry)
        try:
            return await self._commit(fill, entry)
        except BaseException:
            fill.withdraw()
            raise

    async def _commit(self, fill: Fill, entry: Entry) -> StoredFile:
        self._check_orders(entry)
        found = await self.threads.run(lambda: self._complete(fill, entry), _close_completed)
        return await self._published(fill, entry, found)

    async def keep(self, entry: Entry, body: bytes) -> None:
        """reserve() and commit() of a body that is at hand, whose length and hash entry has; all in
        one visit to a disk thread, where the index can be asked there. Raises as those two."""
        entry = self._stamped(entry)
        self._check_orders(entry)
        fill, found = await self.threads.run(lambda: self._keep(entry, body), _abort_kept)
        with fill:
            (await self._published(fill, entry, found)).close()

    def _stamped(self, entry: Entry) -> Entry:
        return entry if entry.stored_at else replace(entry, stored_at=int(self._clock()))

    def _check_orders(self, entry: Entry) -> None:
        """Tags are known with the answer only: were they purged since it was asked for?"""
        source, token = entry.key.source, entry.token
        if self.orders.newest(source, entry.tags) > max(entry.seen, self._applied(source, token)):
            self._doubt(source)
            raise self._too_old(entry)

    def _keep(self, entry: Entry, body: bytes) -> "tuple[Fill, StoredFile | _Word]":
        """In a disk thread."""
        fill = self.disk.reserve(entry, len(body))
        try:
            return fill, self._complete(fill, entry, body)
        except BaseException:
            fill.abort()
            raise

    def _complete(
        self, fill: Fill, entry: Entry, body: bytes | None = None
    ) -> "StoredFile | _Word":
        """In a disk thread: the three steps, as far as they can be taken there."""
        if body is None:
            fill.seal(entry)
        else:
            fill.put(entry, body)
        key = entry.key
        try:
            is_current = self.index.publish_now(key.source, entry.token, key.digest, entry.length)
        except IndexUnavailable:
            return _Word.UNASKED  # the loop asks once more, and knows what to do without an answer
        if is_current is None:
            return _Word.UNASKED
        return fill.publish() if is_current else _Word.REFUSED

    async def _published(self, fill: Fill, entry: Entry, found: "StoredFile | _Word") -> StoredFile:
        """The rest of the steps, on the loop."""
        source, token = entry.key.source, entry.token
        digest = entry.key.digest
        if found is _Word.UNASKED:
            try:
                is_current = await self.index.publish(source, token, digest, entry.length)
            except IndexUnavailable:
                is_current = not self._is_outdated(source, token)
                self.stats.unrecorded += 1
            found = _Word.REFUSED
            if is_current:
                found = await self.threads.run(fill.publish, _close_found)
        if isinstance(found, _Word):
            self._doubt(source)
            raise self._too_old(entry)
        if self._is_outdated(source, token):
            found.close()
            await self.threads.run(lambda: self.disk.remove_older(digest, self._floor(source)))
            raise self._too_old(entry)
        self.stats.published += 1
        return found

    async def drop(self, key: Key, token: Token) -> None:
        """Forget an entry that was stored under token or before, as if it had been evicted."""
        later = replace(token, generation=token.generation + 1)
        try:
            await self.index.forget(key.source, key.digest)
        except IndexUnavailable:
            self.stats.unforgotten += 1
        with contextlib.suppress(StoreBusy):  # then it is evicted one day
            await self.threads.run(lambda: self.disk.remove_older(key.digest, later))

    async def purge(self, source: SourceId) -> Purged:
        """Make everything that was stored of a source unreachable, and remove it soon.

        Raises IndexUnavailable when that could not be recorded.
        """
        doubts = self._doubts
        try:
            purged = await self.index.purge(source)
        except BaseException:  # also a caller that left: the purge may take place all the same
            self.stats.unanswered_purges += 1
            self._doubt(source)
            raise
        head = self.orders.head
        self._remember(source, Opened(purged.token, purged.token, None, head, head, doubts=doubts))
        self.stats.purges += 1
        if self._memory is not None:
            for digest in purged.digests:
                self._memory.remove(digest)
        self._purged.extend((digest, purged.token) for digest in purged.digests)
        while len(self._purged) > MAX_PURGED:
            await asyncio.wait([self._begin_removal()])
        if self._purged:
            self._begin_removal()
        return purged

    async def overtake(self, source: SourceId) -> bool:
        """In place of a purge, where nothing was stored of a source: what is being filled, by
        whomever, will be refused. Costs no durable write. False: something may be stored, and
        nothing was done. Raises IndexUnavailable."""
        doubts = self._doubts
        try:
            overtaken = await self.index.overtake(source)
        except BaseException:  # as in purge()
            self._doubt(source)
            raise
        if not overtaken.is_bare:
            return False
        assert overtaken.token is not None
        token, head = overtaken.token, self.orders.head
        self._remember(source, Opened(token, token, None, head, head, doubts=doubts))
        return True

    # Tokens

    def _remember(self, source: SourceId, opened: Opened) -> Opened:
        """Keep the newest token. Answers of the index may arrive in another order than given."""
        known = self._known.pop(source.digest, None)
        if known is not None and opened.token.is_older_than(known.token):
            self._known[source.digest] = known
            return known if known.doubts == self._doubts else replace(known, current=None)
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[source.digest] = opened
        return opened

    def obey(self, order: Order) -> bool:
        """An order of the log, from wherever; False when it was heard of before.

        By tag or prefix: the table of orders has it from now on, and every source is compared with
        that when it is opened. Of one source: what is known of it is in doubt, and settle() reads
        its new token; until then nothing old is served here, though the index should go down.
        """
        if not self.orders.add(order):
            return False
        self.stats.orders += 1
        if order.scope is Scope.SOURCE:
            self._doubt(order.source)
            if order.act in (Act.PURGE, Act.TAKE_DOWN):
                self._unsettle(order)
        return True

    def _unsettle(self, order: Order) -> None:
        self.stats.unsettled += 1
        digest = order.source.digest
        earlier = self._settled(digest)
        self._unsettled[digest] = order if earlier is None else max(earlier, order, key=by_seq)
        self._unsettled_bytes += sys.getsizeof(order.value)
        while len(self._unsettled) > MAX_ORDERS or self._unsettled_bytes > MAX_UNSETTLED_BYTES:
            self._settled(next(iter(self._unsettled)))

    def _settled(self, digest: bytes) -> Order | None:
        """What is waited for no more."""
        order = self._unsettled.pop(digest, None)
        if order is not None:
            self._unsettled_bytes -= sys.getsizeof(order.value)
        return order

    @property
    def unsettled(self) -> int:
        """Purges heard of whose new token is still to be read: MAX_ORDERS at the most, of
        MAX_UNSETTLED_BYTES."""
        return len(self._unsettled)

    async def settle(self) -> None:
        """Read new tokens of what was purged elsewhere, SETTLE of them at the most. Raises
        IndexUnavailable."""
        for digest, order in list(itertools.islice(self._unsettled.items(), SETTLE)):
            source = order.source
            seen, doubts = self.orders.head, self._doubts
            self._remember(source, _as_opened(await self._open(source, ()), seen, doubts))
            self._settled(digest)

    def doubt_all(self) -> None:
        """The index has lost its memory: every token must be read again, also those that are being
        read just now."""
        self._doubts += 1

    def _doubt(self, source: SourceId) -> None:
        """What is known is a floor from now on, and nothing to answer from."""
        known = self._known.get(source.digest)
        if known is not None:
            self._known[source.digest] = replace(known, current=None)

    def _floor(self, source: SourceId) -> Token:
        known = self._known.get(source.digest)
        return UNKNOWN_TOKEN if known is None else known.token

    def is_purged(self, source: SourceId, opened: Opened, tags: Sequence[str]) -> bool:
        """Whether an order that was heard of since concerns what opened stands for. What was begun
        with it may be finished for who came before, and must not be remembered for others."""
        purged = self._unsettled.get(source.digest)
        if purged is not None and opened.seen < purged.seq:
            return True
        if self._is_outdated(source, opened.token):
            return True
        return self.orders.newest(source, tags) > max(opened.seen, opened.applied)

    def _applied(self, source: SourceId, token: Token) -> int:
        known = self._known.get(source.digest)
        return known.applied if known is not None and known.token == token else 0

    def _is_outdated(self, source: SourceId, token: Token) -> bool:
        return token.is_older_than(self._floor(source))

    def _is_current(
        self, entry: Entry, token: Token | None, validator: str | None, applied: int
    ) -> bool:
        """Whether a file may be served, and a note to remove it when nobody ever may again."""
        key, found = entry.key, entry.token
        is_later = False
        if token is None:
            known = self._known.get(key.source.digest)
            purged = self._unsettled.get(key.source.digest)
            if purged is not None and entry.seen < purged.seq:
                self.stats.stale += 1
                return False
            if known is not None:
                token, applied = known.token, known.applied
                # Of this outage: asked for after that token was read, or raised.
                is_later = found.is_unknown and entry.seen > known.seen
        if token is not None and found.epoch != token.epoch:
            applied = 0  # to what there is of that epoch
        if self.orders.newest(key.source, entry.tags) > max(entry.seen, applied):
            self.stats.stale += 1
            return False
        if token is None or is_later:
            return True
        if found.epoch != token.epoch:
            if entry.validator == validator and not token.is_raised:
                return True
            # Purges may have been forgotten in between, or the index may come back as it was: the
            # file is neither served nor removed. A fill will replace it.
            self.stats.suspect += 1
            return False
        if found.is_older_than(token):
            self.stats.stale += 1
            self._stale.append((key.digest, token))
            return False
        # A later generation than asked for: filled after a purge that the caller came before.
        return True

    def _too_old(self, entry: Entry) -> StaleToken:
        self.stats.refused_old += 1
        return StaleToken(f"source was purged since generation {entry.token.generation}")

    # Removal

    @property
    def unlinking(self) -> int:
        """Files of purges that wait to be unlinked: MAX_PURGED, and those of purges that wait."""
        return len(self._purged)

    def _begin_removal(self) -> asyncio.Task[None]:
        if self._removal is None:
            self._removal = asyncio.get_running_loop().create_task(self._remove(), name="removal")
        return self._removal

    async def _remove(self) -> None:
        try:
            await asyncio.sleep(REMOVAL_DELAY_S)
            while self._purged or self._stale:
                await self.threads.run(self._unlink_some)
        except StoreBusy:
            # Those that look-ups have found are found again.
            self.stats.unremoved += len(self._purged)
            self._purged.clear()
            _log.warning("disk threads are busy: purged files are left to eviction")
        finally:
            self._removal = None

    def _unlink_some(self) -> None:
        for _ in range(UNLINKED_AT_ONCE):
            waiting = self._purged or self._stale
            if not waiting:
                return
            self.disk.remove_older(*waiting.popleft())

    def _forget_evicted(self, entries: Sequence[Entry]) -> None:
        """In a disk thread: wait until the index has forgotten, but not for long."""
        if self._loop is None or self._stopping.is_set():
            return
        forgetting: Future[None] | None = None
        try:
            forgetting = asyncio.run_coroutine_threadsafe(self._forget(entries), self._loop)
            forgetting.result(FORGET_BUDGET_S)
        except TimeoutError:
            self.stats.unforgotten += len(entries)

    async def _forget(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                await self.index.forget(entry.key.source, entry.key.digest)
            except IndexUnavailable:
                self.stats.unforgotten += 1

    # Scan

    def _scan_disk(self) -> None:
        try:
            while True:
                for _ in self.disk.scan():
                    if self._stopping.wait(SCAN_REST_S):
                        return
                if self.index.exclusive or self._stopping.wait(RESCAN_S):
                    return
        except Exception:  # noqa: BLE001  # top of the thread
            _log.exception("the scan of the cache folder ended early")


def soft(record: SourceRecord, now: int) -> SourceRecord:
    """The record after a soft purge: stale from now on, with the windows that it had before."""
    if record.fresh_until <= now:
        return record
    earlier_s = record.fresh_until - now
    return replace(
        record,
        fresh_until=now,
        stale_until=max(record.stale_until - earlier_s, 0),
        revalidate_until=max(record.revalidate_until - earlier_s, 0),
    )


def _as_opened(sight: Sight, seen: int, doubts: int) -> Opened:
    token = sight.token
    return Opened(token, token, sight.record, sight.applied, seen, sight.failures, doubts)


def _never() -> bool:
    return False


def _close_found(stored: StoredFile | None) -> None:
    if stored is not None:
        stored.close()


def _close_completed(found: StoredFile | _Word) -> None:
    if isinstance(found, StoredFile):
        found.close()


def _abort_kept(kept: tuple[Fill, StoredFile | _Word]) -> None:
    fill, found = kept
    _close_completed(found)
    fill.abort()
