"""Derivatives: looked up on disk, else made in one flight a key, and kept.

make    one flight a (key, token): the original's bytes -> resizer -> store
"""

import asyncio
import bisect
import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import xxhash

from cache.entry import Entry
from cache.errors import DamagedEntry, NotStored, StaleToken, StoreBusy
from cache.fill import Fill
from cache.flight import Flights, Landing
from cache.index.interface import SourceRecord
from cache.key import Key, SourceId
from cache.lease import Errand, Leases, keep
from cache.store import Opened, Store
from cache.stored import StoredFile
from edge.clock import Clock
from edge.errors import level_of_unstored
from edge.failures import Failures, failure_digest
from edge.http.body import Descriptor, FileSlice
from edge.http.etag import derivative_etag, is_of_derivative, lineage_etag
from edge.marks import Mark, Marks
from edge.parents import Found, Parents
from edge.representation import Representation
from edge.shelf import Shelf, read_exactly, read_now
from edge.site import Site
from edge.source import Original, Source, slice_of
from edge.sources import Sources
from resizer.errors import (
    BadPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    PictureTooLarge,
    ResizeError,
)
from resizer.formats import Format, InputOnly
from resizer.job import PLACEHOLDER_MEDIA_TYPE, Result
from resizer.pool import Pool
from resizer.transform import Transform

log = logging.getLogger("halftone.rendering")

# Bounds of the histogram of renders, in seconds: from a small PNG to the deadline.
RENDER_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Room reserved for a derivative before its size is known; what it really takes is accounted after.
EXPECTED_BYTES: Final = 64 * 1024

# Of what a resizer writes; nothing else is taken from another node.
MEDIA_TYPES: Final = frozenset((PLACEHOLDER_MEDIA_TYPE, *(one.media_type for one in Format)))

T = TypeVar("T")


@dataclass(slots=True)
class Stats:
    misses: int = 0  # what had to be made
    # Renders by the first bound of RENDER_BUCKETS_S that they keep, the last for what keeps none.
    counts: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(RENDER_BUCKETS_S) + 1))
    seconds: float = 0.0
    derived: int = 0  # renders from a stored larger derivative
    # Of what was made because it was missing, and of nothing that was made beforehand.
    made_bytes: int = 0
    spent_ms: int = 0

    def count(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(RENDER_BUCKETS_S, seconds)] += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Made:
    """Outcome of a flight: what to send, whether it is kept, and whether it was before.

    result is None for a hit: nothing was rendered.
    """

    representation: Representation
    stored: bool
    is_hit: bool
    source_ms: float
    queue_ms: float
    render_ms: float
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a render goes by beside picture and transform: who asks (of a flight, who leads it),
    which formats that are only read are switched on, and the watermark."""

    client: str = ""
    inputs: tuple[InputOnly, ...] = ()
    mark: Mark | None = None

    @property
    def mark_fd(self) -> int | None:
        return None if self.mark is None else self.mark.file.fd

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
        marks: Marks,
        failures: Failures,
        leases: Leases | None = None,
    ) -> None:
        self._sources = sources
        self._store = store
        self._shelf = shelf
        self._flights = flights
        self._pool = pool
        self._encoder = encoder
        self._clock = clock
        self._threads = disk_threads
        self._marks = marks
        self._failures = failures
        self._leases = leases
        max_pixels = pool.settings.limits.max_pixels
        self._parents = Parents(sources, self._stored, encoder, max_pixels)
        self.stats = Stats()

    async def lookup(self, source: Source, key: Key) -> Representation | None:
        """From disk. A file of another version of the source, or of the encoder, is a miss."""
        record, token = source.record, source.opened.token
        stored = await self._stored(source, record, key)
        if stored is None:
            return None
        representation = Representation(
            validator=record.validator,
            etag=stored.entry.etag,
            last_modified=record.last_modified,
            media_type=stored.entry.media_type,
            body=slice_of(stored),
            token=token,
            cost_ms=stored.entry.cost_ms,
        )
        try:
            await self._shelf.remember(key, representation)
        except (DamagedEntry, OSError) as error:
            log.warning("%a cannot be read and is made anew: %s", key.source.path, error)
            return None
        return representation

    async def is_held(self, source: Source, key: Key) -> bool:
        """Whether it is on disk, or under way."""
        if self._flights.is_flying(key.digest, source.opened.token):
            return True
        stored = await self._stored(source, source.record, key)
        if stored is None:
            return False
        stored.close()
        return True

    async def needs_bytes(self, site: Site, source: Source, key: Key, transform: Transform) -> bool:
        """Whether it would have to be made, and from nothing but the original's own bytes. False
        where that is not known, and where it has failed and is not tried again yet."""
        if self._shelf.in_memory(source, key) is not None:
            return False
        try:
            if await self.is_held(source, key):
                return False
            name = failure_digest(key.digest, source.record.validator)
            if self._failures.is_standing(source.id, name, source.opened):
                return False
            return await self._parents.maybe_find(site, source, transform) is None
        except StoreBusy:
            return False

    async def _stored(self, source: Source, record: SourceRecord, key: Key) -> StoredFile | None:
        """The file of this version of the source and of the encoder, made in whatever way: it has
        the tag of its own bytes. record is the source's, which may be renewed meanwhile."""
        opened = source.opened
        stored = await self._store.lookup(key, opened.current, record.validator, opened.applied)
        if stored is None:
            return None
        direct = derivative_etag(record.validator, key.variant, self._encoder)
        if not is_of_derivative(stored.entry.etag, direct):
            stored.close()
            return None
        return stored

    async def get(
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
        """Inside a flight, as is the look-up: whoever comes while one is made finds it made."""
        if self._store.may_hold(key):
            hit = await self._held(source, key)
            if hit is not None:
                return hit
        validator = source.record.validator
        self._failures.check(source.id, failure_digest(key.digest, validator), source.opened)
        if self._leases is None or not self._leases.has_others:
            return await self._make(site, source, key, transform, terms)
        make = functools.partial(self._make, site, source, key, transform, terms)
        return await self._leases.once(
            Errand(
                key=key,
                token=source.opened.token,
                held=functools.partial(self._held, source, key),
                fill=make,
                follow=make,
                take=functools.partial(self._take, source, source.record, key),
                is_kept=_is_kept,
            )
        )

    async def _held(self, source: Source, key: Key) -> Made | None:
        hit = await self.lookup(source, key)
        return None if hit is None else Made(hit, True, True, 0.0, 0.0, 0.0)

    async def _take(
        self, source: Source, record: SourceRecord, key: Key, entry: Entry, body: bytes
    ) -> Made | None:
        """What another node made of this version of the source, from the wire: kept here, too."""
        direct = derivative_etag(record.validator, key.variant, self._encoder)
        if (
            entry.validator != record.validator
            or not is_of_derivative(entry.etag, direct)
            or entry.media_type not in MEDIA_TYPES
            or entry.headers
        ):
            log.info("%a came in a parcel, of another version", key.source.path)
            return None
        representation = Representation(
            validator=record.validator,
            etag=entry.etag,
            last_modified=record.last_modified,
            media_type=entry.media_type,
            body=body,
            token=entry.token,
            cost_ms=entry.cost_ms,
        )
        stored = await keep(self._store, entry, body)
        if stored:
            await self._shelf.remember(key, representation)
        else:
            self._sources.doubt(key.source)
        return Made(representation, stored, True, 0.0, 0.0, 0.0)

    async def _make(
        self, site: Site, source: Source, key: Key, transform: Transform, terms: Terms
    ) -> Made:
        self.stats.misses += 1
        self._check(terms)
        # Before any bytes: what comes of those from before a purge must not be kept after it.
        opened = source.opened
        validator = source.record.validator
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self._parents.maybe_find(site, source, transform)
        if found is not None:
            try:
                return await self._render_kept(
                    opened, key, transform, terms, found.file, 0.0, found
                )
            except DeadlineExceeded as error:
                await self._remember(opened, key, validator, error)
                raise
            except (BadPicture, ImpossibleTransform) as error:
                # Damaged, most likely; the original says what is wrong with the picture itself.
                log.warning("%a of %a is no parent: %s", found.variant, source.id.path, error)
        original = await self._sources.open_body(site, source)
        source_ms = (loop.time() - began) * 1000
        try:
            if len(original.body) > site.max_source_bytes:
                raise PictureTooLarge(
                    f"{len(original.body)} bytes, the site's limit {site.max_source_bytes}"
                )
            return await self._render_kept(opened, key, transform, terms, original, source_ms)
        except ResizeError as error:
            await self._remember(opened, key, original.record.validator, error)
            raise

    async def _remember(self, opened: Opened, key: Key, validator: str, error: ResizeError) -> None:
        """validator is that of the bytes that it was tried with."""
        digest = failure_digest(key.digest, validator)
        await self._failures.remember(key.source, opened.token, digest, error)

    def _check(self, terms: Terms) -> None:
        """Before a render, and not before a look-up: a hit needs no mark. Raises MarkUnusable."""
        if terms.mark is not None:
            self._marks.check(terms.mark)

    async def _render_kept(
        self,
        opened: Opened,
        key: Key,
        transform: Transform,
        terms: Terms,
        original: Original,
        source_ms: float,
        found: Found | None = None,
    ) -> Made:
        """Rendered and, where the store takes it, kept. found: what stands in for the original.

        Into memory: a file is made when there is something to put into it, and no resizer ever
        holds a descriptor of the cache."""
        loop = asyncio.get_running_loop()
        # The bytes in hand may be newer than those that were asked for; they name themselves.
        record = original.record
        began = loop.time()
        result, body = await self.render_unstored(
            original.body, transform, version_digest(key.source, record.validator), terms, found
        )
        render_ms = result.decode_ms + result.render_ms
        queue_ms = max((loop.time() - began) * 1000 - render_ms, 0.0)
        entry = _finished(self.draft(key, opened, record), result, body)
        stored = await self._is_stored(entry, body)
        self.stats.count(render_ms / 1000)
        self.stats.derived += found is not None
        self._parents.learn(key.source, record.validator, result)
        representation = Representation(
            validator=record.validator,
            etag=entry.etag,
            last_modified=record.last_modified,
            media_type=result.media_type,
            body=body,
            token=opened.token,
            cost_ms=entry.cost_ms,
        )
        self.stats.made_bytes += representation.length
        self.stats.spent_ms += representation.cost_ms
        if stored:
            await self._shelf.remember(key, representation)
        return Made(representation, stored, False, source_ms, queue_ms, render_ms, result)

    async def _is_stored(self, entry: Entry, body: bytes) -> bool:
        """Whoever asked gets the bytes all the same."""
        try:
            await self._store.keep(entry, body)
        except StaleToken as error:
            self._renounce(entry, error)
            return False
        except (NotStored, StoreBusy) as error:
            level = level_of_unstored(error) if isinstance(error, NotStored) else logging.WARNING
            log.log(level, "%a is served without being stored: %s", entry.key.source.path, error)
            return False
        return True

    def _renounce(self, entry: Entry, error: NotStored) -> None:
        if isinstance(error, StaleToken):
            # Until the index has been asked, every fill would carry the same old token.
            self._sources.doubt(entry.key.source)
        # Whoever asked before a purge still gets the bytes; nobody gets them later.
        log.info("%a was rendered and not stored: %s", entry.key.source.path, error)

    def draft(self, key: Key, opened: Opened, record: SourceRecord) -> Entry:
        """What is known of a derivative before it is rendered; its tag is that of a direct render.

        opened was read before the bytes that record describes were touched.
        """
        return Entry(
            key=key,
            token=opened.token,
            seen=opened.seen,
            tags=record.tags,
            validator=record.validator,
            etag=derivative_etag(record.validator, key.variant, self._encoder),
            last_modified=record.last_modified,
            stored_at=self._clock.wall,
        )

    async def reserve(self, draft: Entry) -> Fill:
        """A file to render into. Raises NotStored, StoreBusy."""
        return await self._store.reserve(draft, EXPECTED_BYTES)

    async def publish(self, fill: Fill, draft: Entry, result: Result) -> tuple[bytes, bool]:
        """What was rendered into fill, and whether it is kept from now on."""
        # The resizer wrote it a moment ago, so it is in the page cache but under pressure.
        resident = read_now(fill.fd, fill.body_offset, result.length)
        if resident is not None:
            body = resident
        else:
            body = await self._in_thread(
                lambda: read_exactly(fill.fd, fill.body_offset, result.length)
            )
        try:
            (await self._store.commit(fill, _finished(draft, result, body))).close()
        except NotStored as error:
            self._renounce(draft, error)
            return body, False
        return body, True

    async def _render(
        self,
        original: FileSlice,
        sink_fd: int,
        transform: Transform,
        digest: bytes,
        terms: Terms,
        found: Found | None,
    ) -> Result:
        return await self._pool.run(
            original.file.fd,
            sink_fd,
            transform,
            # A parent that kills a resizer is nothing against its original.
            digest=terms.barred_as(
                digest if found is None else xxhash.xxh3_128_digest(digest + found.digest)
            ),
            offset=original.start,
            length=len(original),
            client=terms.client,
            mark_fd=terms.mark_fd,
            inputs=terms.inputs,
            parent=None if found is None else found.parent,
        )

    async def render_unstored(
        self,
        original: FileSlice,
        transform: Transform,
        digest: bytes,
        terms: Terms,
        found: Found | None = None,
    ) -> tuple[Result, bytes]:
        """Render for the requests at hand, into memory."""
        self._check(terms)
        sink = Descriptor(os.memfd_create("derivative", os.MFD_CLOEXEC))
        result = await self._render(original, sink.fd, transform, digest, terms, found)
        return result, read_exactly(sink.fd, 0, result.length)

    # In idle time

    async def prepare(
        self, site: Site, source: Source, key: Key, transform: Transform, terms: Terms
    ) -> None:
        """Render and keep a derivative while the resizer has nothing else to do.

        No flight: whoever asks for this key meanwhile must not wait for idle time, and renders it
        once more. Raises ResizeError, CacheError, OSError and what sources raise; what cannot be
        kept is no use.
        """
        await self._sources.ask_tokens(source)
        opened = source.opened
        if await self.lookup(source, key) is not None:
            return
        name = failure_digest(key.digest, source.record.validator)
        self._failures.check(source.id, name, source.opened)
        self._check(terms)
        original = await self._sources.open_body(site, source)
        if len(original.body) > site.max_source_bytes:
            raise PictureTooLarge(
                f"{len(original.body)} bytes, the site's limit {site.max_source_bytes}"
            )
        draft = self.draft(key, opened, original.record)
        with await self.reserve(draft) as fill:
            result = await self._render_idly(original.body, fill.fd, transform, draft, terms)
            self.stats.count((result.decode_ms + result.render_ms) / 1000)
            await self.publish(fill, draft, result)

    async def _render_idly(
        self,
        original: FileSlice,
        sink_fd: int,
        transform: Transform,
        draft: Entry,
        terms: Terms,
    ) -> Result:
        results: list[Result] = []

        def keep(_: int, outcome: Result | ResizeError) -> None:
            if isinstance(outcome, ResizeError):
                raise outcome
            results.append(outcome)

        await self._pool.run_ladder(
            original.file.fd,
            [sink_fd],
            [transform],
            digest=terms.barred_as(version_digest(draft.key.source, draft.validator)),
            on_result=keep,
            offset=original.start,
            length=len(original),
            mark_fd=terms.mark_fd,
            inputs=terms.inputs,
        )
        return results[0]

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _is_kept(made: Made) -> bool:
    return made.stored


def _finished(draft: Entry, result: Result, body: bytes) -> Entry:
    """A draft() with what is known of a derivative once it is rendered."""
    return dataclasses.replace(
        draft,
        etag=lineage_etag(draft.etag, result.lineage),
        length=result.length,
        body_hash=xxhash.xxh3_128_digest(body),
        media_type=result.media_type,
        cost_ms=round(result.decode_ms + result.render_ms),
        width=result.width,
        height=result.height,
    )


def version_digest(source: SourceId, validator: str) -> bytes:
    """What the resizer bars: this version of the original, not whatever takes its place."""
    return xxhash.xxh3_128_digest(source.digest + validator.encode())
