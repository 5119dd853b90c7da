"""Originals in docroots: found, looked at again, opened.

A docroot file is looked at again (a stat) when its time is up; who finds it changed takes it as it
is.
"""

import functools
from concurrent.futures import Executor

from cache.index.interface import SourceRecord
from cache.key import SourceId
from cache.store import Opened, Store
from edge.clock import Clock
from edge.errors import NotFound
from edge.http.body import Descriptor, FileSlice
from edge.known import Known
from edge.origin.errors import DocrootFailed, NotAllowed, Refusal
from edge.origin.files import Docroot, FileStatus
from edge.record import is_fresh, record_of_file
from edge.site import Site
from edge.source import NOT_ASKED, STAT_TTL_S, Home, Original, Source, Stats, guarded
from edge.threads import in_thread


class Docroots:
    def __init__(
        self, store: Store, clock: Clock, disk_threads: Executor, known: Known, stats: Stats
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = disk_threads
        self._known = known
        self._stats = stats

    async def find(self, site: Site, path: str) -> Source | None:
        """What the docroot has; a file has no query. Raises NotAllowed, DocrootFailed."""
        if site.docroot is None:
            return None
        status = await in_thread(self._threads, functools.partial(stat_file, site.docroot, path))
        if status is None:
            return None
        return self._remember_file(site, SourceId(site.name, path), status)

    def look_now(self, site: Site, path: str) -> Source | None:
        """open() of a docroot file that was not met before, on the loop: only where the kernel has
        its path and inode at hand. None is no verdict."""
        source_id = self._unmet(site, path)
        if source_id is None or site.docroot is None:
            return None
        status = site.docroot.look_now(path)
        if status is None:
            return None
        self._stats.opened += 1
        return self._remember_file(site, source_id, status)

    def take_now(self, site: Site, path: str, most: int) -> tuple[Source, bytearray | None] | None:
        """look_now() for the file itself, and all of it where that is at hand and no more than so
        many bytes. No tokens are asked for: a derivative asks by ask_tokens()."""
        source_id = self._unmet(site, path)
        if source_id is None or site.docroot is None:
            return None
        taken = site.docroot.take_now(path, most)
        if taken is None:
            return None
        self._stats.opened += 1
        status, data = taken
        return self._remember(source_id, status, _record(site, source_id, status)), data

    def _unmet(self, site: Site, path: str) -> SourceId | None:
        """What it is called, where it is not known, nor taken down."""
        source_id = SourceId(site.name, path)
        if source_id in self._known or source_id in self._store.orders.taken_down:
            return None
        return source_id

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
        return (
            source.home is Home.DOCROOT
            and site.docroot is not None
            and source.file is not None
            and (
                source.opened is NOT_ASKED
                or source.opened.current is not None
                or self._store.index.is_degraded
            )
        )

    def confirm(self, source: Source) -> None:
        """Its file was seen just now, and is the same."""
        source.fresh_until = self._clock.wall + STAT_TTL_S

    def _remember_file(self, site: Site, source_id: SourceId, status: FileStatus) -> Source:
        record = _record(site, source_id, status)
        opened = self._store.opened_now(source_id, record.tags) or NOT_ASKED
        return self._remember(source_id, status, record, opened)

    def _remember(
        self,
        source_id: SourceId,
        status: FileStatus,
        record: SourceRecord,
        opened: Opened = NOT_ASKED,
    ) -> Source:
        source = self._known.renew(source_id, Home.DOCROOT, opened, record)
        source.file = status
        # Purged or not: what a docroot has is no stored answer.
        source.fresh_until = self._clock.wall + STAT_TTL_S
        return source

    def despite(self, error: DocrootFailed, known: Source | None) -> Source:
        """What is known serves while the docroot's disk is sick. Raises error where it may not."""
        if known is None:
            raise error
        if known.home is Home.ORIGIN and not is_fresh(known.record, self._clock.wall):
            raise error
        self._stats.sick += 1
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

    async def open_file(self, site: Site, source: Source) -> Original:
        docroot = site.docroot
        assert docroot is not None
        opened = docroot.open_now(source.id.path)
        if opened is None:
            opened = await in_thread(self._threads, lambda: docroot.open(source.id.path))
        if opened is None:
            self._known.drop(source.id)
            raise NotFound(f"gone from the docroot: {source.id.path!a}")
        body = FileSlice(Descriptor(opened.fd), 0, opened.size)
        record = source.record
        if opened.validator != record.validator:
            record = _record(site, source.id, opened)
            if source.home is Home.DOCROOT:
                source.record = record
                source.file = None  # which is what the record was made of, or nothing
        return Original(record, guarded(record.media_type, ()), body)


def _record(site: Site, source_id: SourceId, status: FileStatus) -> SourceRecord:
    """With the tags of its path: a purge by tag looks at nothing else of a known source."""
    return record_of_file(status, source_id.path, site.tags.of(source_id.path))


def stat_file(docroot: Docroot, path: str) -> FileStatus | None:
    """A folder is no original: None, as where nothing is. Raises NotAllowed, DocrootFailed."""
    try:
        return docroot.stat(path)
    except NotAllowed as error:
        if error.why is Refusal.DIRECTORY:
            return None
        raise
