"""Derivatives: looked up on disk, else made in one flight a key, and kept.

make    one flight a (key, token): the original's bytes -> resizer -> store
"""

import asyncio
import bisect
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import xxhash

from cache.entry import Entry
from cache.errors import DamagedEntry, NotStored, StaleToken
from cache.fill import Fill
from cache.flight import Flights, Landing
from cache.key import Key
from cache.store import Store
from edge.clock import Clock
from edge.http.body import Descriptor, FileSlice
from edge.http.etag import derivative_etag
from edge.marks import Mark
from edge.representation import Representation
from edge.shelf import Shelf, read_exactly
from edge.site import Site
from edge.source import Original, Source, Sources, slice_of
from resizer.errors import PictureTooLarge, TransferFailed
from resizer.formats import InputOnly
from resizer.job import Result
from resizer.pool import Pool
from resizer.transform import Transform

log = logging.getLogger("halftone.rendering")

# Bounds of the histogram of renders, in seconds: from a small PNG to the deadline.
RENDER_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Room reserved for a derivative before its size is known; what it really takes is accounted after.
EXPECTED_BYTES: Final = 64 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class Stats:
    # Renders by the first bound of RENDER_BUCKETS_S that they keep, the last for what keeps none.
    counts: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(RENDER_BUCKETS_S) + 1))
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(RENDER_BUCKETS_S, seconds)] += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Made:
    """Outcome of a flight: what to send, and whether it was kept."""

    representation: Representation
    stored: bool
    source_ms: float
    queue_ms: float
    render_ms: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What a render goes by beside picture and transform: who asks (of a flight, who leads it),
    which formats that are only read are switched on, and the watermark."""

    client: str = ""
    inputs: tuple[InputOnly, ...] = ()
    mark: Mark | None = None

    def barred_as(self, digest: bytes) -> bytes:
        """What the resizer bars: a mark that kills a decoder must not bar the bare picture."""
        if self.mark is None:
            return digest
        return xxhash.xxh3_128_digest(digest + self.mark.digest.encode())


class Derivatives:
    """encoder is the version that stands in every derivative's ETag."""

    def __init__(
        self,
        *,
        sources: Sources,
        store: Store,
        shelf: Shelf,
        flights: Flights[Made],
        pool: Pool,
        encoder: str,
        clock: Clock,
        disk_threads: Executor,
    ) -> None:
        self._sources = sources
        self._store = store
        self._shelf = shelf
        self._flights = flights
        self._pool = pool
        self._encoder = encoder
        self._clock = clock
        self._threads = disk_threads
        self.stats = Stats()

    async def lookup(self, source: Source, key: Key) -> Representation | None:
        """From disk. A file of another version of the source, or of the encoder, is a miss."""
        validator = source.record.validator
        stored = await self._store.lookup(key, source.opened.current, validator)
        if stored is None:
            return None
        entry = stored.entry
        etag = derivative_etag(source.record.validator, key.variant, self._encoder)
        if entry.etag != etag:
            stored.close()
            return None
        representation = Representation(
            validator=source.record.validator,
            etag=etag,
            last_modified=source.record.last_modified,
            media_type=entry.media_type,
            body=slice_of(stored),
        )
        try:
            await self._shelf.remember(key, representation)
        except (DamagedEntry, OSError) as error:
            log.warning("%a cannot be read and is made anew: %s", key.source.path, error)
            return None
        return representation

    async def make(
        self, site: Site, source: Source, key: Key, transform: Transform, terms: Terms
    ) -> Landing[Made]:
        """Once for all who ask meanwhile."""
        return await self._flights.do(
            key.digest,
            source.opened.token,
            lambda: self._miss(site, source, key, transform, terms),
        )

    async def _miss(
        self, site: Site, source: Source, key: Key, transform: Transform, terms: Terms
    ) -> Made:
        """Inside a flight. The store is asked once more: the flight before may just have landed."""
        hit = await self.lookup(source, key)
        if hit is not None:
            return Made(hit, True, 0.0, 0.0, 0.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        original = await self._sources.open_body(site, source)
        if len(original.body) > site.max_source_bytes:
            raise PictureTooLarge(
                f"{len(original.body)} bytes, the site's limit {site.max_source_bytes}"
            )
        source_ms = (loop.time() - began) * 1000
        # The bytes in hand may be newer than those that were asked for; they name themselves.
        record = original.record
        etag = derivative_etag(record.validator, key.variant, self._encoder)
        draft = Entry(
            key=key,
            token=source.opened.token,
            validator=record.validator,
            etag=etag,
            last_modified=record.last_modified,
            stored_at=self._clock.wall,
        )
        began = loop.time()
        try:
            fill = await self._store.reserve(draft, EXPECTED_BYTES)
        except NotStored as error:
            log.warning("%a is served without being stored: %s", key.source.path, error)
            result, body = await self.render_unstored(
                original.body, transform, _version_digest(draft), terms
            )
            stored = False
        else:
            with fill:
                result, body, stored = await self._render_into(
                    fill, draft, original, transform, terms
                )
        render_ms = result.decode_ms + result.render_ms
        queue_ms = max((loop.time() - began) * 1000 - render_ms, 0.0)
        self.stats.count(render_ms / 1000)
        representation = Representation(
            validator=record.validator,
            etag=etag,
            last_modified=record.last_modified,
            media_type=result.media_type,
            body=body,
        )
        if stored:
            await self._shelf.remember(key, representation)
        return Made(representation, stored, source_ms, queue_ms, render_ms)

    async def _render_into(
        self, fill: Fill, draft: Entry, original: Original, transform: Transform, terms: Terms
    ) -> tuple[Result, bytes, bool]:
        """Render into a file of the store and publish it; True when it was published."""
        digest = _version_digest(draft)
        try:
            result = await self._render(original.body, fill.fd, transform, digest, terms)
        except TransferFailed as error:
            # Most likely the disk is full, and only a write of our own tells the store so: it then
            # makes room for the next fill.
            log.warning("%a is served without being stored: %s", draft.key.source.path, error)
            with contextlib.suppress(NotStored):
                await self._in_thread(lambda: fill.write(bytes(EXPECTED_BYTES)))
            result, body = await self.render_unstored(original.body, transform, digest, terms)
            return result, body, False
        body = await self._in_thread(lambda: read_exactly(fill.fd, fill.body_offset, result.length))
        entry = dataclasses.replace(
            draft,
            length=result.length,
            body_hash=xxhash.xxh3_128_digest(body),
            media_type=result.media_type,
            cost_ms=round(result.decode_ms + result.render_ms),
            width=result.width,
            height=result.height,
        )
        try:
            (await self._store.commit(fill, entry)).close()
        except NotStored as error:
            if isinstance(error, StaleToken):
                # Until the index has been asked, every fill would carry the same old token.
                self._sources.doubt(draft.key.source)
            # Whoever asked before a purge still gets the bytes; nobody gets them later.
            log.info("%a was rendered and not stored: %s", draft.key.source.path, error)
            return result, body, False
        return result, body, True

    async def _render(
        self,
        original: FileSlice,
        sink_fd: int,
        transform: Transform,
        digest: bytes,
        terms: Terms,
    ) -> Result:
        return await self._pool.run(
            original.file.fd,
            sink_fd,
            transform,
            digest=terms.barred_as(digest),
            offset=original.start,
            length=len(original),
            client=terms.client,
            mark_fd=None if terms.mark is None else terms.mark.file.fd,
            inputs=terms.inputs,
        )

    async def render_unstored(
        self, original: FileSlice, transform: Transform, digest: bytes, terms: Terms
    ) -> tuple[Result, bytes]:
        """Render for the requests at hand, into memory."""
        sink = Descriptor(os.memfd_create("derivative", os.MFD_CLOEXEC))
        result = await self._render(original, sink.fd, transform, digest, terms)
        return result, read_exactly(sink.fd, 0, result.length)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _version_digest(draft: Entry) -> bytes:
    """What the resizer bars: this version of the original, not whatever takes its place."""
    return xxhash.xxh3_128_digest(draft.key.source.digest + draft.validator.encode())
