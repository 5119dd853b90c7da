"""Originals in docroots: found, looked at again, opened.

A docroot file is looked at again (a stat) when its time is up; who finds it changed takes it as it
is.
"""

import functools
from concurrent.futures import Executor

from cache.key import SourceId
from cache.store import Store
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
        source_id = SourceId(site.name, path)
        if site.docroot is None or source_id in self._known:
            return None
        if source_id in self._store.orders.taken_down:
            return None
        status = site.docroot.look_now(path)
        if status is None:
            return None
        self._stats.opened += 1
        return self._remember_file(site, source_id, status)

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

    def _remember_file(self, site: Site, source_id: SourceId, status: FileStatus) -> Source:
        record = record_of_file(status, source_id.path, site.tags.of(source_id.path))
        opened = self._store.opened_now(source_id, record.tags) or NOT_ASKED
        source = self._known.remember(site, source_id, Home.DOCROOT, opened, record)
        source.file = status
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
            record = record_of_file(opened, source.id.path)
            if source.home is Home.DOCROOT:
                source.record = record
        return Original(record, guarded(record.media_type, ()), body)


def stat_file(docroot: Docroot, path: str) -> FileStatus | None:
    """A folder is no original: None, as where nothing is. Raises NotAllowed, DocrootFailed."""
    try:
        return docroot.stat(path)
    except NotAllowed as error:
        if error.why is Refusal.DIRECTORY:
            return None
        raise
