"""The cache as a node uses it: disk tier, index and disk threads under one purge rule.

The rule: an entry is served under a token only if it was published under that token or a later one
of the same epoch; one of another epoch, only to who has asked the source again and found the
version that the entry was made from. Publishing is three steps, in this order:

    seal       the temp file is complete                        (disk)
    record     compare-and-set of the token                     (index)
    rename     the file gets its name                           (disk)

Interleavings with a purge, which raises the generation (index), then remembers it here (floor),
then removes files and memory entries, then answers:

 1. purge, record: the compare fails, the file is withdrawn, StaleToken.
 2. record, purge, rename: a file with an old token gets its name after the purge removed what it
    found. Every look-up compares tokens, so nobody is served from it. Where the index is down there
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

Eviction: forget in the index, then unlink. Purge: raise, then unlink.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cache.disk import Disk
from cache.entry import Entry
from cache.errors import IndexUnavailable, StaleToken, StoreBusy
from cache.fill import Fill
from cache.index.interface import UNKNOWN_TOKEN, Index, Purged, SourceRecord, Token
from cache.key import Key, SourceId
from cache.stored import StoredFile
from cache.threads import DiskThreads

# Sources whose last token is remembered here: about 400 bytes each with a record.
MAX_REMEMBERED: Final = 65_536
# Old files found by look-ups that wait to be unlinked; what does not fit is found again.
MAX_STALE: Final = 1024
# For all forgets of one batch of evictions; stale hints in the index harm nobody.
FORGET_BUDGET_S: Final = 0.25
# The scan rests so long after each folder, some 500 files: it takes a third of one disk thread.
SCAN_REST_S: Final = 0.02
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
    fill carries: the same, or else the last one that was seen here.
    """

    token: Token
    current: Token | None
    record: SourceRecord | None


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


class Store:
    """clock: seconds since 1970, for stored_at. Methods belong to the loop's thread, but for
    lookup_now()."""

    def __init__(
        self,
        disk: Disk,
        index: Index,
        clock: Callable[[], float],
        threads: int,
        memory: Removable | None = None,
    ) -> None:
        self.disk = disk
        self.index = index
        self.stats = Stats()
        self.threads = DiskThreads(threads)
        self._clock = clock
        self._memory = memory
        self._loop: asyncio.AbstractEventLoop | None = None
        # The floor: by source digest, the newest token and record seen here.
        self._known: dict[bytes, Opened] = {}
        self._stale: deque[tuple[bytes, Token]] = deque(maxlen=MAX_STALE)
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

    # Sources

    def opened_now(self, source: SourceId) -> Opened | None:
        """open_source() without waiting, where nobody else can have changed the index."""
        if not self.index.exclusive:
            return None
        known = self._known.get(source.digest)
        return None if known is None or known.current is None else known

    async def open_source(self, source: SourceId) -> Opened:
        """The token to look up and to fill with. Never raises for an index that is down."""
        try:
            sight = await self.index.open_source(source)
        except IndexUnavailable:
            known = self._known.get(source.digest)
            if known is None:
                return Opened(UNKNOWN_TOKEN, None, None)
            return replace(known, current=None)
        return self._remember(source, sight.token, sight.record)

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        """Store what is known of the original. False: the token is old, or the index is down."""
        try:
            is_stored = await self.index.put_source(source, token, record)
        except IndexUnavailable:
            self._doubt(source)
            return False
        if is_stored:
            self._remember(source, token, record)
        else:
            self._doubt(source)
        return is_stored

    # Entries

    async def lookup(
        self, key: Key, token: Token | None, validator: str | None = None
    ) -> StoredFile | None:
        """The entry, open, if token allows it; token None when the index is unavailable.

        validator is that of the source as it was found since token's epoch began. An entry of
        another epoch is suspect, since purges may have been forgotten; one that was made from that
        very version has been revalidated by it, and is served.

        The body of a file from before this start is compared with its hash first. Raises StoreBusy.
        """
        stored = await self.threads.run(
            lambda: self.lookup_now(key, token, validator), _close_found
        )
        if self._stale and self._removal is None:
            self._removal = asyncio.get_running_loop().create_task(self._remove_stale())
        return stored

    def lookup_now(
        self, key: Key, token: Token | None, validator: str | None = None
    ) -> StoredFile | None:
        """lookup() for a caller that may block."""
        stored = self.disk.open(key)
        if stored is None:
            return None
        if not self._is_current(stored.entry, token, validator):
            stored.close()
            return None
        if not stored.is_verified and not self.disk.verify(stored):
            return None
        self.stats.served += 1
        return stored

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
        if entry.stored_at == 0:
            entry = replace(entry, stored_at=int(self._clock()))
        try:
            return await self._commit(fill, entry)
        except BaseException:
            fill.withdraw()
            raise

    async def _commit(self, fill: Fill, entry: Entry) -> StoredFile:
        source, token = entry.key.source, entry.token
        digest = entry.key.digest
        await self.threads.run(lambda: fill.seal(entry))
        try:
            is_current = await self.index.publish(source, token, digest, entry.length)
        except IndexUnavailable:
            is_current = not self._is_outdated(source, token)
            self.stats.unrecorded += 1
        if not is_current:
            self._doubt(source)
            raise self._too_old(entry)
        stored = await self.threads.run(fill.publish, _close_found)
        if self._is_outdated(source, token):
            stored.close()
            await self.threads.run(lambda: self.disk.remove_older(digest, self._floor(source)))
            raise self._too_old(entry)
        self.stats.published += 1
        return stored

    async def purge(self, source: SourceId) -> Purged:
        """Make everything that was stored of a source unreachable, then remove it.

        Raises IndexUnavailable when that could not be recorded.
        """
        try:
            purged = await self.index.purge(source)
        except BaseException:  # also a caller that left: the purge may take place all the same
            self.stats.unanswered_purges += 1
            self._doubt(source)
            raise
        self._remember(source, purged.token, None)
        self.stats.purges += 1
        if self._memory is not None:
            for digest in purged.digests:
                self._memory.remove(digest)
        try:
            await self.threads.run(lambda: self._remove(purged))
        except StoreBusy:
            _log.warning("disk threads are busy: purged files are removed when they are met")
        return purged

    # Tokens

    def _remember(self, source: SourceId, token: Token, record: SourceRecord | None) -> Opened:
        """Keep the newest token. Answers of the index may arrive in another order than given."""
        opened = Opened(token, token, record)
        known = self._known.pop(source.digest, None)
        if known is not None and token.is_older_than(known.token):
            self._known[source.digest] = known
            return known
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[source.digest] = opened
        return opened

    def _doubt(self, source: SourceId) -> None:
        """What is known is a floor from now on, and nothing to answer from."""
        known = self._known.get(source.digest)
        if known is not None:
            self._known[source.digest] = replace(known, current=None)

    def _floor(self, source: SourceId) -> Token:
        known = self._known.get(source.digest)
        return UNKNOWN_TOKEN if known is None else known.token

    def _is_outdated(self, source: SourceId, token: Token) -> bool:
        return token.is_older_than(self._floor(source))

    def _is_current(self, entry: Entry, token: Token | None, validator: str | None) -> bool:
        """Whether a file may be served, and a note to remove it when nobody ever may again."""
        key, found = entry.key, entry.token
        if token is None:
            known = self._known.get(key.source.digest)
            if known is None:
                return True
            token = known.token
        if found.epoch != token.epoch:
            if entry.validator == validator:
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

    def _remove(self, purged: Purged) -> None:
        for digest in purged.digests:
            self.disk.remove_older(digest, purged.token)

    async def _remove_stale(self) -> None:
        try:
            await self.threads.run(self._unlink_stale)
        except StoreBusy:
            pass  # they are met again
        finally:
            self._removal = None

    def _unlink_stale(self) -> None:
        for _ in range(len(self._stale)):
            self.disk.remove_older(*self._stale.popleft())

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


def _close_found(stored: StoredFile | None) -> None:
    if stored is not None:
        stored.close()
