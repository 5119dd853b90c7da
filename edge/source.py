"""Originals: where one is, how fresh what we know of it is, and its bytes.

A source is asked for in the docroot first, then at the origin. What was learnt is kept in a table
of this worker, so a hit neither touches the disk nor the index until its time is up; then a docroot
file is looked at again (a stat), and an origin is asked with the validators that it gave.
"""

import asyncio
import dataclasses
import enum
import functools
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import xxhash

from cache.entry import Entry
from cache.errors import NotStored
from cache.flight import Flights, Role
from cache.index.interface import UNKNOWN_TOKEN, SourceRecord
from cache.key import Key, SourceId
from cache.store import Opened, Store
from cache.stored import StoredFile
from edge.clock import Clock
from edge.errors import NotFound, OriginSaidNo
from edge.http.body import Descriptor, FileSlice
from edge.http.directives import effective_control
from edge.http.freshness import (
    Storability,
    may_store,
)
from edge.origin.errors import NotAllowed, OriginBroken, OriginError, Refusal
from edge.origin.files import Docroot, FileStatus
from edge.origin.messages import Headers, OriginRequest, OriginResponse
from edge.record import (
    conditional_fields,
    etag_of_original,
    folded,
    passed_fields,
    record_of_entry,
    record_of_file,
    record_of_response,
    refreshed,
    replayed_fields,
)
from edge.site import Site
from edge.urls.path import build_path

# A docroot file is looked at again after this time, as lighttpd's stat cache does.
STAT_TTL_S: Final = 1
# Sources that a worker remembers; beyond it the one not asked for longest is forgotten.
MAX_SOURCES: Final = 200_000
# How long a stale original that an origin failed to refresh is taken for good before it is asked
# again; short, so that recovery shows, and long enough that a dead origin is not asked per request.
RETRY_ORIGIN_S: Final = 10
# A page served beside pictures must not run with the site's rights (facts of SVG as a document).
_SVG_FIELDS: Final = (("Content-Security-Policy", "default-src 'none'; sandbox"),)

# Between the path and the query of a source's id; split_target() lets no control character through.
QUERY_MARK: Final = "\x1f"
# Room reserved for an original whose length the origin does not tell.
EXPECTED_BYTES: Final = 1024 * 1024
# A "hash" validator is known with the last byte only; the draft's head keeps room for it.
NO_VALIDATOR_YET: Final = f"hash {bytes(16).hex()}"

log = logging.getLogger("halftone.source")

T = TypeVar("T")


class Home(enum.Enum):
    DOCROOT = "docroot"
    ORIGIN = "origin"


class Source:
    """What this worker knows of one original; renewed in place, so that every variant sees it."""

    __slots__ = ("file", "fresh_until", "home", "id", "is_stale", "opened", "record")

    def __init__(self, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord):
        self.id = source_id
        self.home = home
        self.opened = opened  # the tokens for look-ups and for fills
        self.record = record
        self.file: FileStatus | None = None  # of a docroot file, when it was last looked at
        self.fresh_until = 0  # seconds since 1970; until then record is taken for true
        self.is_stale = False  # the origin failed to answer; record is past its lifetime


@dataclass(frozen=True, slots=True)
class Passed:
    """An origin's answer that is not kept: its status, the fields to pass on, its body."""

    status: int
    fields: Headers
    body: FileSlice
    body_digest: bytes  # xxh3-128
    storability: Storability

    @property
    def is_shareable(self) -> bool:
        """May requests that came meanwhile have it too? Not what was made for one client."""
        return self.storability is Storability.NO_LIFETIME or (
            self.storability is Storability.STORABLE
        )


@dataclass(slots=True)
class Stats:
    """lookups == known + opened + joined (+ those under way)."""

    known: int = 0
    opened: int = 0
    stale: int = 0
    fetches: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)


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
        flights: Flights["Source | Passed"],
        node: Node,
        spool: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._threads = disk_threads
        self._flights = flights
        self._node = node
        self._spool = spool
        self._known: OrderedDict[SourceId, Source] = OrderedDict()
        self.stats = Stats()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def known(self, source_id: SourceId) -> Source | None:
        return self._known.get(source_id)

    async def open(self, site: Site, path: str, query: str = "") -> "Source | Passed":
        """The source, fresh. Raises NotFound, NotAllowed, OriginError.

        query belongs to the question where an origin is asked; a docroot file has none. A failing
        origin does not fail what it once gave: then the source is_stale.
        """
        source_id = source_id_of(site, path, query)
        known = self._known.get(source_id)
        if known is not None and self._clock.wall < known.fresh_until:
            self.stats.known += 1
            return known
        landing = await self._flights.do(
            source_id.digest, UNKNOWN_TOKEN, lambda: self._open(site, path, query, known)
        )
        found = landing.value
        if landing.role is Role.JOINED and isinstance(found, Passed) and not found.is_shareable:
            return await self._open(site, path, query, known)
        return found

    def recheck(self, site: Site, source: Source) -> bool:
        """Look at a docroot file again, on the loop: its path is in the kernel's cache since it was
        opened. True when it is still the same, and then it is good for another STAT_TTL_S.

        False is no verdict: open() finds out.
        """
        file = source.file
        if source.home is not Home.DOCROOT or site.docroot is None or file is None:
            return False
        if source.opened.current is None or file.validator != source.record.validator:
            return False
        if not site.docroot.is_same(source.id.path, file):
            return False
        source.fresh_until = self._clock.wall + STAT_TTL_S
        return True

    async def _open(
        self, site: Site, path: str, query: str, known: Source | None
    ) -> "Source | Passed":
        self.stats.opened += 1
        if site.docroot is not None:
            status = await self._in_thread(functools.partial(stat_file, site.docroot, path))
            if status is not None:
                # A file has no query: whatever came behind "?" names the same original.
                file_id = SourceId(site.name, path)
                opened = await self._tokens(file_id)
                record = record_of_file(status, path)
                source = self._remember(file_id, Home.DOCROOT, opened, record)
                source.file = status
                source.fresh_until = self._clock.wall + STAT_TTL_S
                return source
        source_id = source_id_of(site, path, query)
        if site.origin is None:
            self._known.pop(source_id, None)
            raise NotFound(f"not in the docroot: {path!a}")
        opened, maybe_record = await self._recall(source_id, known)
        if maybe_record is not None and self._clock.wall < maybe_record.fresh_until:
            return self._remember(source_id, Home.ORIGIN, opened, maybe_record)
        return await self._ask_origin(site, source_id, opened, maybe_record)

    async def _tokens(self, source_id: SourceId) -> Opened:
        """The tokens, from memory where nobody else can have changed them."""
        opened = self._store.opened_now(source_id)
        return opened if opened is not None else await self._store.open_source(source_id)

    async def _recall(
        self, source_id: SourceId, known: Source | None
    ) -> tuple[Opened, SourceRecord | None]:
        """What the index knows; where it knows nothing, what the stored original says of itself."""
        opened = await self._tokens(source_id)
        if opened.record is not None:
            return opened, opened.record
        if opened.current is None and known is not None and known.home is Home.ORIGIN:
            return opened, known.record
        stored = await self._store.lookup(Key(source_id, ""), opened.current)
        if stored is None:
            return opened, None
        with stored:
            return opened, record_of_entry(stored.entry)

    def _remember(
        self, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord
    ) -> Source:
        source = self._known.get(source_id)
        if source is None:
            source = Source(source_id, home, opened, record)
            self._known[source_id] = source
            if len(self._known) > MAX_SOURCES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(source_id)
        source.home = home
        source.opened = opened
        source.record = record
        source.is_stale = False
        source.fresh_until = record.fresh_until
        if opened.current is None:
            # The index is asked again soon, whatever the record's lifetime.
            source.fresh_until = min(source.fresh_until, self._clock.wall + STAT_TTL_S)
        return source

    # The origin

    async def _ask_origin(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> "Source | Passed":
        try:
            return await self._fetch(site, source_id, opened, record)
        except OriginError:
            if record is None or self._clock.wall >= record.stale_until:
                raise
            # Losing the origin does not turn what can be served into an error (RFC 5861 section 4).
            self.stats.stale += 1
            source = self._remember(source_id, Home.ORIGIN, opened, record)
            source.is_stale = True
            source.fresh_until = self._clock.wall + RETRY_ORIGIN_S
            return source

    async def _fetch(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> "Source | Passed":
        origin = site.origin
        assert origin is not None
        asked_at = self._clock.wall
        response = await origin.fetch(self._request(site, source_id, record))
        try:
            answered_at = self._clock.wall
            if response.local_redirect is not None:
                raise OriginBroken("redirects inside an origin are not followed")
            if response.status == 304 and record is not None:
                record = refreshed(record, response, asked_at, answered_at)
                return await self._renew(source_id, opened, record)
            if response.status >= 500:
                raise OriginBroken(f"origin {origin.name} answered {response.status}")
            fields = folded(response.headers)
            control = effective_control(fields)
            storability = may_store("GET", response.status, fields, False, control)
            if response.status != 200 or storability is not Storability.STORABLE:
                return await self._pass(response, storability)
            return await self._keep(source_id, opened, response, asked_at, answered_at)
        finally:
            await response.aclose()

    def _request(
        self, site: Site, source_id: SourceId, record: SourceRecord | None
    ) -> OriginRequest:
        path, _, query = source_id.path.partition(QUERY_MARK)
        target = build_path(path)
        host = site.hosts[0] if site.hosts else self._node.address
        headers = [("host", host), ("via", f"1.1 {self._node.name}"), ("cdn-loop", "halftone")]
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

    async def _renew(self, source_id: SourceId, opened: Opened, record: SourceRecord) -> Source:
        """Record what an origin confirmed. Where a purge came meanwhile, the confirmation holds for
        those who asked before it, and the next request asks the index anew."""
        is_recorded = await self._store.put_source(source_id, opened.token, record)
        source = self._remember(source_id, Home.ORIGIN, opened, record)
        if not is_recorded:
            source.fresh_until = min(source.fresh_until, self._clock.wall + STAT_TTL_S)
        return source

    async def _keep(
        self,
        source_id: SourceId,
        opened: Opened,
        response: OriginResponse,
        asked_at: int,
        answered_at: int,
    ) -> "Source | Passed":
        """Store an original while it arrives; what does not fit is passed on instead."""
        record = record_of_response(source_id.path, response, asked_at, answered_at)
        draft = Entry(
            key=Key(source_id, ""),
            token=opened.token,
            validator=record.validator or NO_VALIDATOR_YET,
            media_type=record.media_type,
            last_modified=record.last_modified,
            stored_at=record.stored_at,
            fresh_until=record.fresh_until,
            stale_until=record.stale_until,
            headers=replayed_fields(response.headers),
        )
        try:
            fill = await self._store.reserve(draft, response.content_length or EXPECTED_BYTES)
        except NotStored as error:
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            return await self._pass(response, Storability.STORABLE)
        with fill:
            length, digest = await self._write_body(response, fill.write)
            # Without a validator there is nothing to ask with later; the bytes tell versions apart.
            validator = record.validator or f"hash {digest.hex()}"
            etag = etag_of_original(validator, digest)
            record = dataclasses.replace(record, length=length, validator=validator, etag=etag)
            entry = dataclasses.replace(
                draft, length=length, body_hash=digest, etag=etag, validator=validator
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
                )
            stored.close()
        return await self._renew(source_id, opened, record)

    async def _write_body(
        self, response: OriginResponse, write: Callable[[bytes], None]
    ) -> tuple[int, bytes]:
        """Pass the body to write(), piece by piece in a disk thread; its length and xxh3-128."""
        hasher = xxhash.xxh3_128()
        length = 0
        while piece := await response.read():
            await self._in_thread(functools.partial(write, piece))
            hasher.update(piece)
            length += len(piece)
        return length, hasher.digest()

    async def _pass(self, response: OriginResponse, storability: Storability) -> Passed:
        """A body that is not kept goes into a file without a name: gone with its last reader."""
        fd = await self._in_thread(lambda: os.open(self._spool, os.O_TMPFILE | os.O_RDWR, 0o600))
        file = Descriptor(fd)
        length, digest = await self._write_body(response, functools.partial(write_all, fd))
        body = FileSlice(file, 0, length)
        return Passed(response.status, passed_fields(response.headers), body, digest, storability)

    # Bytes

    async def open_body(self, site: Site, source: Source) -> tuple[Headers, FileSlice]:
        """The original's bytes, and the further fields that are replayed with them.

        A docroot file that changed since it was looked at is taken as it is: source is renewed.
        Raises what open() raises.
        """
        if source.home is Home.DOCROOT:
            assert site.docroot is not None
            docroot = site.docroot
            opened = await self._in_thread(lambda: docroot.open(source.id.path))
            if opened is None:
                self._known.pop(source.id, None)
                raise NotFound(f"gone from the docroot: {source.id.path!a}")
            if opened.validator != source.record.validator:
                source.record = record_of_file(opened, source.id.path)
            fields = _SVG_FIELDS if source.record.media_type == "image/svg+xml" else ()
            return fields, FileSlice(Descriptor(opened.fd), 0, opened.size)
        stored = await self._store.lookup(Key(source.id, ""), source.opened.current)
        if stored is None:
            # Evicted, while the record is still fresh: the bytes are fetched again, all of them.
            found = await self._fetch(site, source.id, source.opened, None)
            if isinstance(found, Passed):
                raise_for_status(found)
                return (), found.body
            stored = await self._store.lookup(Key(source.id, ""), found.opened.current)
            if stored is None:
                raise OriginBroken("the original was stored and is gone again")
        return stored.entry.headers, slice_of(stored)


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
    if passed.status in (404, 410):
        raise NotFound(f"the origin answered {passed.status}")
    if passed.status != 200:
        raise OriginSaidNo(f"the origin answered {passed.status}")


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
