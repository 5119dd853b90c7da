"""The life of a request, as named steps; each step asks the part that does the work.

    receive   site, grammar -> Route (what is asked for, under which key)
    lookup    memory, else disk
    miss      one flight a key: the original's bytes -> resizer -> store
    deliver   preconditions, range, head

receive() answers from memory inside the readable callback; everything that may wait is serve().
"""

import asyncio
import bisect
import contextlib
import dataclasses
import logging
import os
import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import xxhash

from cache.entry import Entry
from cache.errors import DamagedEntry, NotStored, StaleToken
from cache.fill import Fill
from cache.flight import Flights, Role
from cache.key import Key
from cache.memory import Memory
from cache.store import Store
from edge.access import AccessLog, Peer, Record
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.errors import (
    MethodNotAllowed,
    NotFound,
    OriginChanged,
    WidthNotAllowed,
    refusal_of,
)
from edge.http.body import Descriptor, FileSlice
from edge.http.cache_status import Forward, build_forward, build_hit
from edge.http.etag import derivative_etag
from edge.http.familiar import Familiar, Head
from edge.http.messages import Request, Response
from edge.http.parser import ParseError, is_plain_target
from edge.open_files import OpenFiles
from edge.policy.forwarded import TrustedProxies
from edge.policy.steps import Allowed, Redirect, Rejected, Rounded, apply
from edge.ready import MAX_WIRE_BYTES, WORTH_HITS, Ready, ReadyAnswers
from edge.representation import Facts, Representation
from edge.site import Site, Sites
from edge.source import (
    RETRY_ORIGIN_S,
    Found,
    Home,
    Original,
    Passed,
    Source,
    Sources,
    Way,
    raise_for_status,
    slice_of,
)
from edge.urls.derivative import Derivative
from edge.urls.ending import resolve
from edge.urls.grammars import build_target, claim_target
from edge.urls.path import split_target
from resizer.errors import PictureTooLarge, TransferFailed
from resizer.job import Result
from resizer.pool import Pool
from resizer.transform import Transform

log = logging.getLogger("halftone.handler")

ALLOW: Final = "GET, HEAD, OPTIONS"
# Targets whose meaning is remembered, and how long one and its host may be: at 512 bytes a route
# and 256 of target this bounds the table at some 100 MB, and 131,072 photographs are hot at once.
MAX_ROUTES: Final = 131_072
MAX_ROUTE_BYTES: Final = 256
# Files kept open for what is too large for memory: a small part of what a process may open.
MAX_OPEN_FILES: Final = 32
# Clients behind trusted proxies whose objects are shared; beyond it they are made anew.
MAX_CLIENTS: Final = 10_000
# Bounds of the histogram of renders, in seconds: from a small PNG to the deadline.
RENDER_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Heads whose lines are learnt in one second: ten microseconds each, so a millisecond at the most.
LESSONS_PER_TURN: Final = 100
# Room reserved for a derivative before its size is known; what it really takes is accounted after.
EXPECTED_BYTES: Final = 64 * 1024

T = TypeVar("T")


class Route:
    """What a target asks for. source and key are filled in when the source has been found."""

    __slots__ = ("asked", "derivative", "found", "key", "query", "redirect", "site", "source")

    def __init__(self, site: Site, derivative: Derivative, query: str, redirect: str) -> None:
        self.site = site
        self.derivative = derivative
        self.query = query  # of a target that no grammar claims: an origin may mean something by it
        self.redirect = redirect
        self.asked = 0  # times, by heads that a ready answer could have met
        self.found = derivative  # with the ending that was found, where the grammar leaves it open
        self.source: Source | None = None
        self.key: Key | None = None


@dataclass(slots=True)
class Stats:
    """lookups == hits_memory + hits_disk + misses, for derivatives and kept originals alike."""

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    requests: dict[int, int] = dataclasses.field(default_factory=dict)
    sent_bytes: int = 0
    # Renders by the first bound of RENDER_BUCKETS_S that they keep, the last for what keeps none.
    render_counts: list[int] = dataclasses.field(
        default_factory=lambda: [0] * (len(RENDER_BUCKETS_S) + 1)
    )
    render_seconds: float = 0.0

    def count_render(self, seconds: float) -> None:
        self.render_counts[bisect.bisect_left(RENDER_BUCKETS_S, seconds)] += 1
        self.render_seconds += seconds


@dataclass(frozen=True, slots=True)
class Made:
    """Outcome of a flight: what to send, and whether it was kept."""

    representation: Representation
    stored: bool
    source_ms: float
    queue_ms: float
    render_ms: float


class Handler:
    def __init__(
        self,
        *,
        name: str,
        sites: Sites,
        sources: Sources,
        store: Store,
        memory: Memory[Representation],
        flights: Flights[Made],
        pool: Pool,
        encoder: str,
        deliverer: Deliverer,
        access: AccessLog | None,
        clock: Clock,
        disk_threads: Executor,
        chance: random.Random,
        ready_bytes: int,
        trusted: TrustedProxies,
    ) -> None:
        self._name = name
        self._sites = sites
        self._sources = sources
        self._store = store
        self._memory = memory
        self._flights = flights
        self._pool = pool
        self._encoder = encoder
        self._deliverer = deliverer
        self._access = access
        self._clock = clock
        self._threads = disk_threads
        self._chance = chance
        self._routes: dict[tuple[bytes, bytes], Route] = {}
        # Request ids: distinct over workers and restarts, and no secret.
        self._id_prefix = f"{chance.getrandbits(40):010x}"
        self._ids = 0
        self.stats = Stats()
        self._familiar = Familiar()
        self._read = self._familiar.read
        self._trusted = trusted
        self._clients: dict[str, Peer] = {}
        self._lessons = LESSONS_PER_TURN
        self._docroot_facts: dict[tuple[str, str], Facts] = {}
        self.ready = ReadyAnswers(ready_bytes, access, self._renew, self._read_ready)
        self._files = OpenFiles(MAX_OPEN_FILES)
        self.tick()

    # connection.Handler

    def find(self, data: bytes, peer: Peer) -> bytes | Request | None:
        head = self._read(data)
        if head is None:
            return None
        if head[4] and self._trusted.trusts(peer.address):
            peer = self._client(peer, head[4].decode("latin-1"), None)
        return self.ready.find(head, peer) or self._request_of(head)

    def _client(self, peer: Peer, x_forwarded_for: str | None, forwarded: str | None) -> Peer:
        """The client for whom a trusted proxy speaks: its address stands in the access line."""
        address = self._trusted.client_of(peer.address, x_forwarded_for, forwarded)
        client = self._clients.get(address)
        if client is None:
            if len(self._clients) >= MAX_CLIENTS:
                self._clients.clear()
            client = self._clients[address] = Peer(address)
        return client

    def learn(self, data: bytes) -> None:
        if self._lessons > 0:
            self._lessons -= 1
            self._familiar.learn(data)

    def tick(self) -> None:
        """Once a second, after the clock."""
        self.ready.next_turn()
        self._familiar.next_turn()
        self._lessons = LESSONS_PER_TURN
        if self._access is not None:
            self._access.now = self._clock.wall

    def requests(self) -> dict[int, int]:
        """Responses by status, ready ones among them."""
        counts = dict(self.stats.requests)
        counts[200] = counts.get(200, 0) + self.ready.stats.hits + self.ready.stats.file_hits
        return counts

    def receive(self, request: Request, peer: Peer) -> Response | None:
        if request.method not in (b"GET", b"HEAD"):
            return self._other_method(request)
        route = self._routes.get((request.authority, request.target))
        if route is None or route.source is None or route.key is None:
            return None
        source = route.source
        if self._clock.wall >= source.fresh_until and not self._sources.recheck(route.site, source):
            return None
        if request.lines is not None and request.method == b"GET":
            route.asked += 1
        representation = self._memory.get(route.key.digest)
        if representation is None or representation.validator != source.record.validator:
            return self._from_open_file(request, route, source, route.key)
        self.stats.hits_memory += 1
        response = self._deliver_from_memory(request, representation, route.site, source)
        self._maybe_make_ready(request, route, response, representation.length)
        return response

    def _from_open_file(
        self, request: Request, route: Route, source: Source, key: Key
    ) -> Response | None:
        """A hit that is not in memory, if all of it can be had without waiting."""
        representation = self._files.get(key.digest)
        if representation is not None and representation.validator == source.record.validator:
            self.stats.hits_disk += 1
            facts = self._facts_of_hit(route.site, source, source.home.value)
            return self._deliverer.deliver(request, representation, facts, cache="HIT")
        if not self._is_small_file(route, source, self._memory.cut_off):
            return None
        representation = self._read_small_file(route.site, source, key)
        if representation is None:
            return None
        self.stats.hits_disk += 1
        facts = self._facts_of_hit(route.site, source, source.home.value)
        response = self._deliverer.deliver(request, representation, facts, cache="HIT")
        self._maybe_make_ready(request, route, response, representation.length)
        return response

    def _read_small_file(self, site: Site, source: Source, key: Key) -> Representation | None:
        """A small docroot file into memory, if its pages are resident; see Docroot.read_now()."""
        if source.file is None or site.docroot is None:
            return None
        data = site.docroot.read_now(source.id.path, source.file)
        record = source.record
        if data is None or source.file.validator != record.validator:
            return None
        representation = Representation(
            validator=record.validator,
            etag=record.etag,
            last_modified=record.last_modified,
            media_type=record.media_type,
            body=data,
        )
        self._memory.put(key.digest, representation, len(data))
        return representation

    def _is_small_file(self, route: Route, source: Source, limit: int) -> bool:
        """An original of the docroot that may be read on the loop, when its pages are resident."""
        return (
            route.found.transform.is_identity
            and source.file is not None
            and 0 < source.file.size <= limit
            and source.record.media_type != "image/svg+xml"  # has fields of its own
        )

    def _maybe_make_ready(
        self, request: Request, route: Route, response: Response, length: int
    ) -> None:
        if (
            route.asked >= WORTH_HITS
            and response.status == 200
            and length <= MAX_WIRE_BYTES
            and request.lines is not None
            and request.method == b"GET"
        ):
            self._make_ready(request, route, length)

    def _make_ready(self, request: Request, route: Route, length: int) -> None:
        if request.lines is None:
            return
        line = b""
        if self._access is not None:
            target, host = request.target.decode("latin-1"), request.authority.decode("latin-1")
            line = self._access.answer_line("GET", target, host, 200, length)
        self.ready.put(*request.lines, Ready(route, line))

    def _renew(self, ready: Ready) -> bool:
        """Bring a ready answer into this second, if it still stands; see ready.py."""
        route = ready.owner
        assert isinstance(route, Route)
        source, key = route.source, route.key
        if source is None or key is None:
            return False
        if self._clock.wall >= source.fresh_until and not self._sources.recheck(route.site, source):
            return False
        representation = self._memory.get(key.digest)
        if representation is None or representation.validator != source.record.validator:
            return self._renew_file(ready, route, source)
        facts = self._facts_of_hit(route.site, source, "memory")
        self._deliverer.make_ready(representation, facts)
        assert isinstance(representation.body, bytes)
        ready.wire = b"%b\r\n%b" % (representation.head, representation.body)
        ready.tail = representation.length
        return True

    def _renew_file(self, ready: Ready, route: Route, source: Source) -> bool:
        """The same for a small docroot file; its head changes with the file and with the Date."""
        if not self._is_small_file(route, source, MAX_WIRE_BYTES):
            return False
        record = source.record
        if ready.tail != record.length or not ready.rest or record.etag.encode() not in ready.rest:
            facts = self._facts_of_hit(route.site, source, source.home.value)
            ready.rest = self._deliverer.rest_of_head(
                Representation(
                    validator=record.validator,
                    etag=record.etag,
                    last_modified=record.last_modified,
                    media_type=record.media_type,
                    body=b"",
                    length=record.length,
                ),
                facts,
            )
            ready.tail = record.length
        ready.wire = b""
        ready.head = self._deliverer.join_head(ready.rest)
        return True

    def _read_ready(self, ready: Ready) -> bytes | None:
        """The body of a ready answer whose file is small and resident."""
        route = ready.owner
        assert isinstance(route, Route)
        source, docroot = route.source, route.site.docroot
        if source is None or source.file is None or docroot is None:
            return None
        return docroot.read_now(source.id.path, source.file)

    def _request_of(self, head: Head) -> Request | None:
        """The request of a familiar head, if its line is of the usual kind."""
        request_line, host, referer, agent, forwarded = head
        if request_line[:4] != b"GET " or request_line[-9:] != b" HTTP/1.1":
            return None
        target = request_line[4:-9]
        if not is_plain_target(target):
            return None
        fields = {b"host": host[5:].strip()}
        if referer != b"-":
            fields[b"referer"] = referer
        if agent:
            fields[b"user-agent"] = agent[11:].strip()
        if forwarded:
            fields[b"x-forwarded-for"] = forwarded
        request = Request(b"GET", target, 1, fields, fields[b"host"], True)
        request.lines = (request_line, host)
        return request

    async def serve(self, request: Request, peer: Peer) -> Response:
        try:
            return await self._serve(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the top of a task
            # The one place where what went wrong becomes an answer (errors.py has the table).
            return self.answer_error(request, error)

    def refuse(self, error: ParseError) -> Response:
        return self.answer_error(None, error, close=True)

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, started: float
    ) -> None:
        status = response.status
        self.stats.requests[status] = self.stats.requests.get(status, 0) + 1
        self.stats.sent_bytes += sent
        if self._access is not None:
            took = 0.0
            if started:
                took = (asyncio.get_running_loop().time() - started) * 1000
            if request is not None and self._trusted.trusts(peer.address):
                peer = self._client(
                    peer, request.field(b"x-forwarded-for"), request.field(b"forwarded")
                )
            self._access.append(
                Record(self._clock.wall, peer.address, request, status, sent, response.cache, took)
            )

    # receive

    def _other_method(self, request: Request) -> Response:
        if request.method == b"OPTIONS":
            return self._deliverer.options(ALLOW)
        return self.answer_error(
            request,
            MethodNotAllowed(request.method.decode("latin-1")),
            close=not request.keep_alive,
        )

    def _route(self, request: Request) -> Route:
        """What the target asks for. Raises BadUrl, BadTransform, NotFound, WidthNotAllowed."""
        memo = (request.authority, request.target)
        route = self._routes.get(memo)
        if route is not None:
            return route
        site = self._sites.find(request.authority)
        target = split_target(request.target)
        if target.is_folder:
            raise NotFound("a folder; folders are not listed")
        claim = claim_target(target, site.grammars, site.prefix)
        if claim is None:
            raise NotFound("outside of the site's prefix")
        derivative, redirect = claim.derivative, ""
        if derivative.extensions:
            derivative = dataclasses.replace(derivative, extensions=site.extensions)
        if not derivative.transform.is_identity and not derivative.named_size:
            match apply(site.steps, derivative.transform):
                case Allowed():
                    pass
                case Rounded(transform):
                    derivative = dataclasses.replace(derivative, transform=transform)
                case Redirect(transform):
                    derivative = dataclasses.replace(derivative, transform=transform)
                    assert claim.grammar is not None
                    redirect = build_target(derivative, claim.grammar, site.prefix)
                case Rejected(nearest):
                    raise WidthNotAllowed(f"nearest step is {nearest}")
        query = target.query if claim.grammar is None else ""
        route = Route(site, derivative, query, redirect)
        if len(request.target) + len(request.authority) <= MAX_ROUTE_BYTES:
            if len(self._routes) >= MAX_ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[memo] = route
        return route

    async def _serve(self, request: Request) -> Response:
        route = self._route(request)
        if route.redirect:
            status = build_forward(self._name, Forward.BYPASS, detail="step")
            return self._deliverer.redirect(route.redirect, status)
        try:
            return await self._answer(request, route)
        except OriginChanged:
            return await self._answer(request, route)

    async def _answer(self, request: Request, route: Route) -> Response:
        found = await self._find(route)
        if isinstance(found.answer, Passed):
            return await self._pass(request, route, found.answer, found.collapsed)
        source = route.source = found.answer
        transform = route.found.transform
        key = route.key = Key(source.id, transform.canonical())
        if transform.is_identity:
            return await self._serve_original(request, route, found, source, key)
        return await self._serve_derivative(request, route.site, source, key, transform)

    async def _find(self, route: Route) -> Found:
        """The source, trying the endings of a grammar that names originals without one."""
        derivative, site = route.derivative, route.site
        if not derivative.extensions:
            return await self._sources.open(site, derivative.source, route.query)
        endings = [resolve(derivative, extension) for extension in derivative.extensions]
        if route.source is not None:
            # Found before: it is asked first, and the others only when it is gone.
            endings.sort(key=lambda resolved: resolved != route.found)
            route.source = None
        for resolved in endings:
            try:
                found = await self._sources.open(site, resolved.source)
            except NotFound:
                continue
            if isinstance(found.answer, Source) or found.answer.status == 200:
                route.found = resolved
                return found
        raise NotFound(f"no ending of {derivative.source!a} is there")

    # lookup

    def _from_memory(
        self, request: Request, site: Site, source: Source, key: Key
    ) -> Response | None:
        representation = self._memory.get(key.digest)
        if representation is None or representation.validator != source.record.validator:
            return None
        self.stats.hits_memory += 1
        return self._deliver_from_memory(request, representation, site, source)

    def _deliver_from_memory(
        self, request: Request, representation: Representation, site: Site, source: Source
    ) -> Response:
        response = self._deliverer.deliver_ready(request, representation)
        if response is not None:
            return response
        facts = self._facts_of_hit(site, source, "memory")
        self._deliverer.make_ready(representation, facts)
        return self._deliverer.deliver(request, representation, facts, cache="HIT")

    async def _serve_original(
        self, request: Request, route: Route, found: Found, source: Source, key: Key
    ) -> Response:
        site = route.site
        if found.way is Way.KNOWN:
            response = self._from_memory(request, site, source, key)
            if response is not None:
                return response
            if self._is_small_file(route, source, self._memory.cut_off):
                representation = self._read_small_file(site, source, key)
                if representation is not None:
                    self.stats.hits_disk += 1
                    facts = self._facts_of_hit(site, source, source.home.value)
                    return self._deliverer.deliver(request, representation, facts, cache="HIT")
        original = await self._sources.open_body(site, source)
        record = original.record
        representation = Representation(
            validator=record.validator,
            etag=record.etag,
            last_modified=record.last_modified,
            media_type=record.media_type,
            body=original.body,
            fields=original.fields,
        )
        await self._remember(key, representation)
        if found.way is Way.KNOWN:
            self.stats.hits_disk += 1
            facts = self._facts_of_hit(site, source, source.home.value)
            return self._deliverer.deliver(request, representation, facts, cache="HIT")
        self.stats.misses += 1
        is_new = found.way is Way.FETCHED
        status = build_forward(
            self._name,
            Forward.URI_MISS if is_new else Forward.STALE,
            status=200 if is_new else 304,
            stored=True,
            collapsed=found.collapsed,
            detail=source.home.value,
        )
        facts = self._facts(site, source, status)
        word = "MISS" if is_new else "REVALIDATED"
        return self._deliverer.deliver(request, representation, facts, cache=word)

    async def _pass(
        self, request: Request, route: Route, passed: Passed, collapsed: bool
    ) -> Response:
        """An origin's answer that is not kept: as it is, or rendered for this request alone."""
        status = build_forward(
            self._name,
            Forward.URI_MISS,
            status=passed.status,
            collapsed=collapsed,
            detail=passed.storability.value,
        )
        if route.found.transform.is_identity:
            return self._deliverer.pass_on(
                request, passed.status, passed.fields, passed.body, status
            )
        raise_for_status(passed)
        result, body = await self._render_unstored(
            passed.body, route.found.transform, passed.body_digest
        )
        representation = Representation(
            validator="",
            etag=f'"{xxhash.xxh3_128_hexdigest(body)}"',
            last_modified=self._clock.wall,
            media_type=result.media_type,
            body=body,
        )
        facts = Facts("no-store", status)
        return self._deliverer.deliver(request, representation, facts, cache="PASS")

    async def _serve_derivative(
        self, request: Request, site: Site, source: Source, key: Key, transform: Transform
    ) -> Response:
        response = self._from_memory(request, site, source, key)
        if response is not None:
            return response
        await self._sources.ask_tokens(source)
        hit = await self._lookup(source, key)
        if hit is not None:
            self.stats.hits_disk += 1
            facts = self._facts_of_hit(site, source, "disk")
            return self._deliverer.deliver(request, hit, facts, cache="HIT")
        self.stats.misses += 1
        landing = await self._flights.do(
            key.digest, source.opened.token, lambda: self._miss(site, source, key, transform)
        )
        made = landing.value
        status = build_forward(
            self._name,
            Forward.URI_MISS,
            stored=made.stored,
            collapsed=landing.role is Role.JOINED,
            detail="render" if made.stored else "not-stored",
        )
        timing = (
            f"queue;dur={made.queue_ms:.1f}, source;dur={made.source_ms:.1f}, "
            f"render;dur={made.render_ms:.1f}"
        )
        facts = self._facts(site, source, status, timing)
        return self._deliverer.deliver(request, made.representation, facts, cache="MISS")

    async def _lookup(self, source: Source, key: Key) -> Representation | None:
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
            await self._remember(key, representation)
        except (DamagedEntry, OSError) as error:
            log.warning("%a cannot be read and is made anew: %s", key.source.path, error)
            return None
        return representation

    # miss

    async def _miss(self, site: Site, source: Source, key: Key, transform: Transform) -> Made:
        """Inside a flight. The store is asked once more: the flight before may just have landed."""
        hit = await self._lookup(source, key)
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
            result, body = await self._render_unstored(
                original.body, transform, _version_digest(draft)
            )
            stored = False
        else:
            with fill:
                result, body, stored = await self._render_into(fill, draft, original, transform)
        render_ms = result.decode_ms + result.render_ms
        queue_ms = max((loop.time() - began) * 1000 - render_ms, 0.0)
        self.stats.count_render(render_ms / 1000)
        representation = Representation(
            validator=record.validator,
            etag=etag,
            last_modified=record.last_modified,
            media_type=result.media_type,
            body=body,
        )
        if stored:
            await self._remember(key, representation)
        return Made(representation, stored, source_ms, queue_ms, render_ms)

    async def _render_into(
        self, fill: Fill, draft: Entry, original: Original, transform: Transform
    ) -> tuple[Result, bytes, bool]:
        """Render into a file of the store and publish it; True when it was published."""
        digest = _version_digest(draft)
        try:
            result = await self._render(original.body, fill.fd, transform, digest)
        except TransferFailed as error:
            # Most likely the disk is full, and only a write of our own tells the store so: it then
            # makes room for the next fill.
            log.warning("%a is served without being stored: %s", draft.key.source.path, error)
            with contextlib.suppress(NotStored):
                await self._in_thread(lambda: fill.write(bytes(EXPECTED_BYTES)))
            result, body = await self._render_unstored(original.body, transform, digest)
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
        self, original: FileSlice, sink_fd: int, transform: Transform, digest: bytes
    ) -> Result:
        return await self._pool.run(
            original.file.fd,
            sink_fd,
            transform,
            digest=digest,
            offset=original.start,
            length=len(original),
        )

    async def _render_unstored(
        self, original: FileSlice, transform: Transform, digest: bytes
    ) -> tuple[Result, bytes]:
        """Render for the requests at hand, into memory."""
        sink = Descriptor(os.memfd_create("derivative", os.MFD_CLOEXEC))
        result = await self._render(original, sink.fd, transform, digest)
        return result, read_exactly(sink.fd, 0, result.length)

    # deliver

    async def _remember(self, key: Key, representation: Representation) -> None:
        """Into the memory tier, if it is small enough to be worth it."""
        body = representation.body
        if len(body) > self._memory.cut_off:
            self._files.put(key.digest, representation)
            return
        if isinstance(body, FileSlice):
            piece = body
            representation.body = await self._in_thread(
                lambda: read_exactly(piece.file.fd, piece.start, len(piece))
            )
        self._memory.put(key.digest, representation, len(body))

    def _facts(self, site: Site, source: Source, cache_status: str, timing: str = "") -> Facts:
        if source.home is Home.DOCROOT:
            return Facts(site.cache_control, cache_status, None, timing)
        record = source.record
        age_s = max(self._clock.wall - record.stored_at, 0)
        if source.is_stale:
            # The caches in front shall soon ask again, whatever lifetime it once had.
            return Facts(f"max-age={RETRY_ORIGIN_S}", cache_status, age_s, timing)
        span = max(record.fresh_until - record.stored_at, 0)
        control = f"public, max-age={span}"
        if record.stale_until <= record.fresh_until:
            # What the origin forbids us, it forbids the caches in front of us.
            control += ", must-revalidate"
        return Facts(control, cache_status, age_s, timing)

    def _facts_of_hit(self, site: Site, source: Source, detail: str) -> Facts:
        if source.home is Home.DOCROOT:
            facts = self._docroot_facts.get((site.name, detail))
            if facts is None:
                status = build_hit(self._name, site.max_age_s, detail)
                facts = self._docroot_facts[site.name, detail] = self._facts(site, source, status)
            return facts
        if source.is_stale:
            detail = "stale-if-error"
        ttl = source.record.fresh_until - self._clock.wall
        return self._facts(site, source, build_hit(self._name, ttl, detail))

    def answer_error(
        self, request: Request | None, error: Exception, *, close: bool = False
    ) -> Response:
        refusal = refusal_of(error)
        self._ids += 1
        request_id = f"{self._id_prefix}{self._ids:06x}"
        kind = type(error).__name__
        log.log(
            refusal.level,
            "%s: %d %s: %s: %s",
            request_id,
            refusal.status,
            refusal.detail,
            kind,
            error,
            exc_info=error if refusal.status == 500 and refusal.detail == "bug" else None,
        )
        retry_after_s = getattr(error, "retry_after_s", 0) or self._chance.randint(1, 3)
        return self._deliverer.refuse(
            request,
            refusal,
            request_id,
            build_forward(self._name, Forward.MISS, detail=refusal.detail),
            retry_after_s=retry_after_s,
            allow=ALLOW if refusal.status == 405 else "",
            close=close,
        )

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def read_exactly(fd: int, offset: int, length: int) -> bytes:
    """Raises DamagedEntry for a file that was cut off behind our back: nothing can be sent as what
    its head says."""
    data = os.pread(fd, length, offset)
    if len(data) != length:
        raise DamagedEntry(f"file ends {length - len(data)} bytes early")
    return data


def _version_digest(draft: Entry) -> bytes:
    """What the resizer bars: this version of the original, not whatever takes its place."""
    return xxhash.xxh3_128_digest(draft.key.source.digest + draft.validator.encode())
