"""Originals on their way from an origin into the store, and what becomes of their records.

A body that is large is sent while it arrives; what the store has no room for is passed on.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import xxhash

from cache.entry import Entry
from cache.errors import NotStored
from cache.fill import Fill
from cache.index.interface import SourceRecord
from cache.key import Key, SourceId
from cache.store import Opened, Store
from edge.arrival import Arrivals, Arriving, Incoming, growing_in
from edge.clock import Clock
from edge.errors import OriginChanged, level_of_unstored
from edge.http.body import Descriptor
from edge.http.freshness import Storability
from edge.known import Known
from edge.origin.errors import OriginError
from edge.record import completed, ended, is_ended, named_early, passed_fields, replayed_fields
from edge.site import Site
from edge.source import (
    RETRY_ORIGIN_S,
    Home,
    Passed,
    Settled,
    Source,
    Stale,
    UnderWay,
    guarded,
    slice_of,
)
from edge.threads import in_thread
from edge.unkept import Unkept

# Room reserved for an original whose length the origin does not tell.
EXPECTED_BYTES: Final = 1024 * 1024

log = logging.getLogger("halftone.source")


class Storing:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        disk_threads: Executor,
        known: Known,
        unkept: Unkept,
        arrivals: Arrivals[Settled],
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = disk_threads
        self._known = known
        self._unkept = unkept
        self._arrivals = arrivals

    async def keep(
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
            log.log(
                level_of_unstored(error),
                *("%a is passed on without being stored: %s", source_id.path, error),
            )
            return await self._unkept.pass_on(response, record, Storability.STORABLE)
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
            guarded(record.media_type, draft.headers),
            growing_in(fill, incoming, duplicate),
            asyncio.get_running_loop().create_future(),
        )
        self._arrivals.keep(
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
        return await self.renew(site, source_id, opened, record)

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
        self._known.use_stale(site, source_id, opened, before, Stale.IF_ERROR, retry_at)
        return OriginChanged(str(error))

    async def _write_body(
        self, response: Incoming, write: Callable[[bytes], None]
    ) -> tuple[int, bytes]:
        """Pass the body to write(), piece by piece in a disk thread; its length and xxh3-128."""
        hasher = xxhash.xxh3_128()
        length = 0
        while piece := await response.read():
            await in_thread(self._threads, functools.partial(write, piece))
            hasher.update(piece)
            length += len(piece)
        return length, hasher.digest()

    async def renew(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Source:
        """Record what an origin confirmed. Where a purge came meanwhile, the confirmation holds for
        those who asked before it, and the next request asks the index anew. Likewise a soft one."""
        is_recorded = await self._store.put_source(source_id, opened.token, record)
        source = self._known.remember(site, source_id, Home.ORIGIN, opened, record)
        if not is_recorded or self._store.orders.softened(source_id, record.tags) > record.seen:
            source.fresh_until = 0
        return source

    async def replaced(
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
