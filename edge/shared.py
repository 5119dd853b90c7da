"""A shared cache (RFC 9111) for what a site sends through: all that is no derivative.

    look        the docroot, an original that is known, a stored answer that these fields choose
    ask         one exchange for all who wait for the same; what varies is found once its Vary is
                known, and what is one client's own is asked for by each
    keep        an original for everybody is Sources' (sources.py); what varies, or is no 200, is
                stored here (answers.py); all else is passed on

An answer that may not be stored marks its URL (hit-for-miss): for MARK_S nobody waits behind
another's exchange for it. Unsafe methods pass, with their bodies, and what they change is purged.
"""

import asyncio
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

from cache.entry import Entry
from cache.errors import NotStored
from cache.flight import Flights, Role
from cache.index.interface import Token
from cache.key import SourceId
from cache.store import Opened, Store
from edge.answers import (
    Kept,
    Standing,
    Writer,
    confirmed_headers,
    draft_of,
    is_confirmed_by,
    key_of,
    with_body,
    withheld_of,
)
from edge.arrival import Incoming
from edge.aside import ClientAside
from edge.aside import Stats as AsideStats
from edge.asking import OF_THE_REQUEST, Apart, Apartness, Asking, storability_of
from edge.brief import Brief
from edge.changes import Changes
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.errors import LoopDetected, MethodNotAllowed, NotCached
from edge.http.body import FileSlice
from edge.http.cache_status import Forward, build_forward, build_hit
from edge.http.directives import SURROGATE, effective_control
from edge.http.forwarding import (
    OF_THE_CACHE,
    forwarded_fields,
    is_loop,
    marks_of,
    max_forwards,
    passed_fields_of,
)
from edge.http.freshness import OF_ONE_REQUEST, STALE_IF_ERROR_STATUSES, Storability
from edge.http.ip import maybe_ip
from edge.http.messages import Request, Response
from edge.http.request_control import parse_request_control
from edge.http.vary import vary_names
from edge.http.writer import BODILESS_STATUSES
from edge.origin.errors import OriginBroken, OriginError
from edge.origin.messages import Headers, OriginRequest, OriginResponse
from edge.record import ConfirmsNothing, folded
from edge.refresh import Refreshes
from edge.request_body import whole_body
from edge.site import Site
from edge.source import RETRY_ORIGIN_S, Found, Passing, Way, source_id_of
from edge.sources import Sources
from edge.spellings import url_of
from edge.spool import Spool
from edge.urls.derivative import BadUrl
from edge.urls.path import split_target
from edge.variants import MARK, Signpost, Variants

log = logging.getLogger("halftone.shared")

# What may be changed at an origin, and what is passed to it.
UNSAFE: Final = frozenset((b"POST", b"PUT", b"PATCH", b"DELETE"))
PASSED: Final = UNSAFE | {b"OPTIONS"}
# Of one answer that are read; more than one is a fault of the application's.
MAX_LOCATIONS: Final = 4
# URLs of one signpost that are written down: the hosts of a site, by two schemes.
MAX_NOTED: Final = 16
# How long nobody queues for a URL whose answer could not be stored, and how many such.
MARK_S: Final = 60
MAX_MARKS: Final = 65_536
MAX_RESTS: Final = 16_384
MAX_ASKINGS: Final = 2048
# Statuses that say nothing of what another request would get; nor does a 5xx.
_NO_WORD: Final = OF_ONE_REQUEST | {206, 304}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Client:
    """peer: who sent the request; address: for whom. is_trusted: the peer is a trusted proxy."""

    peer: str
    address: str
    scheme: str
    is_trusted: bool = False


@dataclass(slots=True)
class Stats:
    """Requests == hits + stale + asked + those that Sources answered or that failed. Of asked:
    confirmed, stored (variants.py) and passed."""

    hits: int = 0
    stale: int = 0  # for a failing origin, or while it was asked
    confirmed: int = 0  # of asked: by a 304
    passed: int = 0  # of asked: not kept
    joined: int = 0  # waited for another request's exchange
    marked: int = 0  # asked at once, since what came before could not be stored
    methods: int = 0  # requests of other methods that were passed
    loops: int = 0


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What an exchange brought. kept None: response is for who asked, and nobody else. own: fields
    for who asked, beside those of kept."""

    kept: Kept | None
    response: Response | None = None
    status: int = 0
    is_stored: bool = False
    is_confirmed: bool = False
    has_failed: bool = False  # kept stands in for it
    own: Headers = ()


class SharedCache:
    def __init__(
        self,
        *,
        name: str,
        store: Store,
        sources: Sources,
        spool: Spool,
        disk_threads: Executor,
        clock: Clock,
        deliverer: Deliverer,
        writer: Writer,
        changes: Changes,
        flights: Flights[Exchanged],
        refreshes: Refreshes[Exchanged],
    ) -> None:
        self.stats = Stats()
        self.asides = AsideStats()
        self._name = name
        self._store = store
        self._sources = sources
        self._spool = spool
        self._threads = disk_threads
        self._clock = clock
        self._deliverer = deliverer
        self._writer = writer
        self.changes = changes
        self._flights = flights
        self._refreshes = refreshes
        # First answers of their URLs, on their way into the store; each has a place at an origin.
        self._aparts: dict[tuple[SourceId, Token], Apart] = {}
        # Names are digests: a URL may have 8 KiB, and anybody may ask for tens of thousands.
        self.marks: Brief[bytes] = Brief(MAX_MARKS, MARK_S, lambda: clock.wall)
        self.variants = Variants(
            store, sources.arrivals, clock, disk_threads, lambda one: self.marks.discard(one.digest)
        )
        # Of heads that repeat (repeats.py), whose fields are read and cleaned once for a client.
        self._askings: dict[tuple[bytes, str, str, str, bool], Asking] = {}
        # Answers whose origin has failed, and is left alone for a while.
        self._rests: Brief[bytes] = Brief(MAX_RESTS, RETRY_ORIGIN_S, lambda: clock.wall)

    # GET and HEAD

    def get(
        self,
        request: Request,
        client: Client,
        site: Site,
        source_id: SourceId,
        path: str,
        query: str,
    ) -> Awaitable[Response | Found]:
        """A Found is an original, or on its way to be one. source_id is of site, path and query.
        Raises what Sources.open() raises, and LoopDetected, NotCached."""
        if source_id.digest in self.marks and self._is_nowhere(site, source_id, path):
            asking = self._asking(request, client, keep=OF_THE_CACHE)
            if not asking.control.only_if_cached:
                self.stats.marked += 1
                return self._get_marked(request, asking, site, source_id)
        return self._get(request, client, site, source_id, path, query)

    async def _get(
        self,
        request: Request,
        client: Client,
        site: Site,
        source_id: SourceId,
        path: str,
        query: str,
    ) -> Response | Found:
        asking = self._asking(request, client)
        if asking.control.only_if_cached:
            return await self._get_kept(request, asking, site, source_id, path)
        if self._sources.is_known(source_id):
            return await self._sources.open(site, path, query)
        # Whoever joined an exchange that brought something else looks once more.
        for _ in range(3):
            opened = await self._open(site, source_id, path)
            is_marked = source_id.digest in self.marks
            post = await self.variants.find(source_id, opened, is_sought=not is_marked)
            if post is not None or is_marked or asking.is_for_one:
                file = await self._sources.find_file(site, path)
                if file is not None:
                    return Found(file, Way.KNOWN)
            if post is not None:
                chosen = await self._get_chosen(request, asking, site, source_id, opened, post)
                self._note(request, asking, source_id)
                return chosen
            if is_marked:
                self.stats.marked += 1
                break
            if asking.is_for_one:
                kept = await self._sources.find_kept(site, source_id)
                if kept is not None:
                    return Found(kept, Way.KNOWN)
                break
            arriving = self._aparts.get((source_id, opened.token))
            if arriving is not None:
                self.stats.joined += 1
                await arriving.is_over()
                continue
            tell = functools.partial(self._expect, (source_id, opened.token))
            try:
                return await self._sources.open(
                    self._for_client(site, asking, tell), path, query, for_bytes=True
                )
            except Apart as apart:
                # Its frames hold it, and all that belongs to the answer, until the collector comes.
                apart.__traceback__ = None
                response = apart.take()
                if response is None:
                    self.stats.joined += 1
                    await apart.is_over()
                    continue
                parted = await self._part(request, asking, site, source_id, opened, apart, response)
                self._note(request, asking, source_id)
                return parted
        asking = self._asking(request, client, keep=OF_THE_CACHE)
        opened = await self._open(site, source_id, path)
        exchanged = await self._exchange(
            request, asking, site, source_id, opened, None, as_it_is=True
        )
        self._note(request, asking, source_id)
        return self._respond(request, exchanged, Forward.URI_MISS)

    def _note(self, request: Request, asking: Asking, source_id: SourceId) -> None:
        """Of what is stored: under which URL a cache in front may have it, too."""
        post = self.variants.known(source_id)
        if post is None or not request.authority or len(post.noted) >= MAX_NOTED:
            return
        url = url_of(asking.scheme, request.authority, request.target)
        name = hashlib.blake2b(url.encode(), digest_size=16).digest()
        if name not in post.noted:
            post.noted.add(name)
            self.changes.note(source_id, url)

    def _is_nowhere(self, site: Site, source_id: SourceId, path: str) -> bool:
        """Is nothing here that could be an answer for this URL, or forbid one? Looked at without
        waiting."""
        if self._sources.is_taken_down(site, path):
            return False
        if source_id in self.variants or self._sources.is_known(source_id):
            return False
        return site.docroot is None or site.docroot.is_missing_now(path)

    async def _get_marked(
        self, request: Request, asking: Asking, site: Site, source_id: SourceId
    ) -> Response:
        """Hit-for-miss: one exchange, and nothing of it is stored. No token is taken ahead of it,
        so an answer that could be stored only takes the mark away, and the next one will be."""
        assert site.origin is not None
        aside = ClientAside(request, self.asides)
        put = asking.dress(self._sources.request_for(site, source_id), aside)
        if request.method == b"HEAD":
            put = dataclasses.replace(put, method="HEAD")
        response = await site.origin.fetch(put)
        owned: OriginResponse | Incoming | None = response  # closed here
        try:
            if response.local_redirect is not None:
                raise OriginBroken("redirects inside an origin are not followed")
            status = response.status
            if not asking.may_get(status):
                raise OriginBroken(f"{status} is no answer to what was asked")
            storability = storability_of(asking, status, response.headers)
            if put.method != "GET":
                storability = Storability.METHOD
            elif storability is Storability.STORABLE:
                self.marks.discard(source_id.digest)
                storability = Storability.METHOD  # the reason is this request's
            elif storability not in OF_THE_REQUEST and status not in _NO_WORD and status < 500:
                self.marks.renew(source_id.digest)
            body = response.maybe_all() if put.method == "GET" else None
            if body is None:
                # A large one goes to another owner, and knows that.
                owned = incoming = Incoming(response, aside=aside)
                return await self._pass(request, incoming, storability, put.method)
            owned = None
            self.stats.passed += 1
            return self._pass_all(request, status, response.headers, storability, body, aside)
        finally:
            if owned is not None:
                await owned.aclose()

    def _asking(
        self, request: Request, client: Client, keep: frozenset[str] = frozenset()
    ) -> Asking:
        """Raises LoopDetected."""
        if not request.block:
            return self._read(request, client, keep)
        name = (request.block, client.peer, client.address, client.scheme, bool(keep))
        asking = self._askings.get(name)
        if asking is None:
            if len(self._askings) >= MAX_ASKINGS:
                self._askings.clear()
            asking = self._askings[name] = self._read(request, client, keep)
        return asking

    def _read(self, request: Request, client: Client, keep: frozenset[str]) -> Asking:
        fields = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.fields.items()
        }
        if is_loop(fields, self._name):
            self.stats.loops += 1
            raise LoopDetected(f"{request.target!a:.200} was asked of itself")
        own = forwarded_fields(
            fields,
            peer=client.peer,
            is_trusted=client.is_trusted,
            scheme=client.scheme,
            keep=keep,
        )
        own.update(marks_of(self._name, fields))
        control = parse_request_control(fields.get("cache-control"))
        # What is asked of caches on the way was heard by this one.
        remote = client.address if maybe_ip(client.address) is not None else "127.0.0.1"
        return Asking(own, remote, client.scheme, control)

    def _expect(self, name: tuple[SourceId, Token], apart: Apart) -> None:
        """From now on it is waited for, if it may be stored: nobody finds it yet."""
        if apart.storability is Storability.STORABLE and name not in self._aparts:
            self._aparts[name] = apart
            apart.on_end = lambda: self._aparts.pop(name, None)

    def _for_client(self, site: Site, asking: Asking, tell: Callable[[Apart], None]) -> Site:
        assert site.origin is not None
        orders = self._store.orders
        fetch = Apartness(site.origin, asking, self._clock, lambda: orders.head, tell).fetch
        return dataclasses.replace(site, ask=fetch)

    async def _open(self, site: Site, source_id: SourceId, path: str) -> Opened:
        tags = site.tags.of(path)
        opened = self._store.opened_now(source_id, tags)
        return opened or await self._store.open_source(source_id, tags)

    async def _get_kept(
        self, request: Request, asking: Asking, site: Site, source_id: SourceId, path: str
    ) -> Response | Found:
        """RFC 9111 section 5.2.1.7: what is here and fresh, or nothing."""
        source = await self._sources.find_file(site, path)
        if source is None:
            source = await self._sources.find_kept(site, source_id)
        if source is not None:
            return Found(source, Way.KNOWN)
        opened = await self._open(site, source_id, path)
        post = await self.variants.find(source_id, opened, is_sought=True)
        if post is not None:
            key = key_of(source_id, post.names, asking.selecting)
            kept = await self.variants.look_up(key, opened)
            if kept is not None and self.variants.standing(kept) is Standing.FRESH:
                return self._hit(request, kept)
        raise NotCached(f"{source_id.path!a}")

    async def _get_chosen(
        self,
        request: Request,
        asking: Asking,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        post: Signpost,
    ) -> Response:
        key = key_of(source_id, post.names, asking.selecting)
        coming = self.variants.coming.get((key, opened.token))
        if coming is not None and self._may_be_joined(coming):
            self.stats.joined += 1
            exchanged = Exchanged(coming, status=coming.status, is_stored=True)
            return self._respond(request, exchanged, Forward.URI_MISS, collapsed=True)
        before = self.variants.stats.stored + self.stats.confirmed
        kept = await self.variants.look_up(key, opened)
        why = Forward.VARY_MISS if post.names else Forward.MISS
        if kept is not None:
            why = Forward.STALE
            self.variants.note_use(post, key)
            match self.variants.standing(kept):
                case Standing.FRESH:
                    return self._hit(request, kept)
                case Standing.MEANWHILE:
                    self._refresh(request, asking, site, source_id, opened, kept)
                    return self._hit(request, kept, "stale-while-revalidate")
                case Standing.OVER:
                    if key.digest in self._rests and self._clock.wall < kept.entry.stale_until:
                        return self._hit(request, kept, "stale-if-error")
        if asking.is_for_one or source_id.digest in self.marks:
            exchanged = await self._exchange(
                request, asking, site, source_id, opened, kept, is_own=True
            )
            return self._respond(request, exchanged, why)
        exchange = functools.partial(self._exchange, request, asking, site, source_id, opened, kept)

        async def exchange_once() -> Exchanged:
            # A flight may have landed while the disk was looked at.
            if self.variants.stats.stored + self.stats.confirmed != before:
                newer = await self.variants.look_up(key, opened)
                if newer is not None and self.variants.standing(newer) is Standing.FRESH:
                    return Exchanged(newer, status=newer.status, is_stored=True)
            return await exchange()

        landing = await self._flights.do(key.digest, opened.token, exchange_once)
        exchanged = landing.value
        if landing.role is Role.JOINED:
            self.stats.joined += 1
            shared = exchanged.kept
            if (
                shared is None
                or shared.entry.key != key
                or not shared.can_be_sent
                or self._is_overtaken(shared)
            ):
                # Nothing that could be shared, or chosen by other fields than before.
                exchanged = await exchange(is_own=True)
                return self._respond(request, exchanged, why)
        return self._respond(request, exchanged, why, collapsed=landing.role is Role.JOINED)

    def _may_be_joined(self, coming: Kept) -> bool:
        """Not where it may not be used unasked any more; it may take long."""
        entry = coming.entry
        until = max(entry.fresh_until, entry.stale_until, entry.revalidate_until)
        return coming.can_be_sent and self._clock.wall < until and not self._is_overtaken(coming)

    def _is_overtaken(self, kept: Kept) -> bool:
        """Was it asked for before a purge? By a tag that only the answer told: then the token is
        the same as before."""
        entry = kept.entry
        return self._store.has_heard_since(entry.key.source, entry.seen, entry.tags)

    def _refresh(
        self,
        request: Request,
        asking: Asking,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        kept: Kept,
    ) -> None:
        """Behind what was sent (RFC 5861 section 3)."""
        assert site.origin is not None
        key = kept.entry.key
        if key.digest in self._rests:
            return
        name = SourceId(source_id.site, f"{source_id.path}{MARK}{key.variant}")
        self._refreshes.ask(
            site.origin.name,
            (name, opened.token),
            lambda: self._exchange(request, asking, site, source_id, opened, kept),
        )

    def _hit(self, request: Request, kept: Kept, why: str = "") -> Response:
        now, entry = self._clock.wall, kept.entry
        if why:
            self.stats.stale += 1
        else:
            self.stats.hits += 1
        status = build_hit(self._name, entry.fresh_until - now, why or "shared")
        return self._writer.deliver(
            request, kept, status, "HIT", age_s=now - entry.stored_at, is_stale=bool(why)
        )

    # Exchanges

    async def _exchange(
        self,
        request: Request,
        asking: Asking,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        kept: Kept | None,
        *,
        as_it_is: bool = False,
        is_own: bool = False,
        is_kept: bool = True,
    ) -> Exchanged:
        """Ask the origin, with what is known of kept. is_own: for this client and nobody else.
        as_it_is: so it is, HEAD stays HEAD, and the client's own preconditions and Range go on.
        Raises OriginError."""
        origin = site.origin
        assert origin is not None
        asked_at, seen = self._clock.wall, self._store.orders.head
        aside = ClientAside(request, self.asides) if is_own or as_it_is else None
        put = asking.dress(self._sources.request_for(site, source_id), aside)
        if as_it_is and request.method == b"HEAD":
            put = dataclasses.replace(put, method="HEAD")
        if kept is not None:
            put = dataclasses.replace(put, headers=(*put.headers, *kept.conditions()))
        try:
            response = Incoming(await origin.fetch(put), aside=aside)
        except OriginError:
            if not self._may_stand_in(kept, asked_at):
                raise
            return Exchanged(kept, has_failed=True)
        if response.local_redirect is not None:
            await response.aclose()
            raise OriginBroken("redirects inside an origin are not followed")
        try:
            return await self._settle(
                request, asking, site, source_id, opened, kept, response,
                asked_at=asked_at, answered_at=self._clock.wall, seen=seen, method=put.method,
                is_kept=is_kept,
            )  # fmt: skip
        except NotStored as error:
            # In the middle of the body: the disk is full. The next answer goes around the store.
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            is_kept = False
        except ConfirmsNothing:
            log.info("%a: a 304 for another version than was asked about", source_id.path)
            assert kept is not None
            await self.variants.forget(kept.entry)
        finally:
            await response.aclose()
        return await self._exchange(
            request, asking, site, source_id, opened, None, as_it_is=as_it_is, is_own=is_own,
            is_kept=is_kept,
        )  # fmt: skip

    async def _part(
        self,
        request: Request,
        asking: Asking,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        apart: Apart,
        response: Incoming,
    ) -> Response:
        """An answer that Sources had asked for, and does not keep."""
        try:
            if apart.storability not in OF_THE_REQUEST and response.status not in _NO_WORD:
                await self._sources.let_go(site, source_id)
            exchanged = await self._settle(
                request, asking, site, source_id, opened, None, response,
                asked_at=apart.asked_at, answered_at=apart.answered_at, seen=apart.seen,
                method="GET", is_kept=True,
            )  # fmt: skip
        except NotStored as error:
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            exchanged = await self._exchange(
                request, asking, site, source_id, opened, None, is_kept=False
            )
        finally:
            apart.end()
            await response.aclose()
        return self._respond(request, exchanged, Forward.URI_MISS)

    async def _settle(
        self,
        request: Request,
        asking: Asking,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        kept: Kept | None,
        response: Incoming,
        *,
        asked_at: int,
        answered_at: int,
        seen: int,
        method: str,
        is_kept: bool,
    ) -> Exchanged:
        """What becomes of an answer. Raises NotStored where the disk refuses in its middle,
        ConfirmsNothing, OriginBroken."""
        status, headers = response.status, response.headers
        if not (asking.may_get(status) or (status == 304 and kept and kept.conditions())):
            if self._may_stand_in(kept, answered_at):
                return Exchanged(kept, status=status, has_failed=True)
            raise OriginBroken(f"{status} is no answer to what was asked")
        path = source_id.path.partition("\x1f")[0]
        draft = functools.partial(
            draft_of,
            token=opened.token,
            asked_at=asked_at,
            answered_at=answered_at,
            tags=site.tags.of(path),
            seen=seen,
        )
        if kept is not None:
            if status == 304:
                if not is_confirmed_by(kept, headers):
                    raise ConfirmsNothing
                return await self._confirm(asking, source_id, opened, kept, headers, draft)
            if status in STALE_IF_ERROR_STATUSES and self._may_stand_in(kept, answered_at):
                return Exchanged(kept, status=status, has_failed=True)
        fields = folded(headers)
        storability = storability_of(asking, status, headers)
        if method != "GET":
            storability = Storability.METHOD
        if storability is Storability.STORABLE and is_kept:
            names = vary_names(fields)
            assert names is not None  # or it would not be storable
            key = key_of(source_id, names, asking.selecting)
            entry = draft(key, status=status, headers=headers)
            try:
                answer = await self.variants.keep(source_id, opened, names, entry, response)
            except OriginError:
                # Nothing of it was sent.
                if not self._may_stand_in(kept, answered_at):
                    raise
                return Exchanged(kept, status=status, has_failed=True)
            if answer is not None:
                if not names:  # else it is missing for some
                    await self._sources.note_missing(source_id, opened, status, headers)
                own = withheld_of(headers, headers)
                return Exchanged(answer, status=status, is_stored=True, own=own)
        elif storability not in OF_THE_REQUEST and status not in _NO_WORD and status < 500:
            if not asking.is_for_one:
                self.marks.add(source_id.digest)
            if kept is not None:
                await self.variants.forget(kept.entry)
        return Exchanged(None, await self._pass(request, response, storability, method), status)

    def _may_stand_in(self, kept: Kept | None, now: int) -> bool:
        """For an origin that failed (RFC 5861 section 4); it is then left alone for a while."""
        if kept is None or now >= kept.entry.stale_until:
            return False
        self._rests.add(kept.entry.key.digest)
        return True

    async def _confirm(
        self,
        asking: Asking,
        source_id: SourceId,
        opened: Opened,
        kept: Kept,
        confirmation: tuple[tuple[str, str], ...],
        draft: Callable[..., Entry],
    ) -> Exchanged:
        """RFC 9111 section 4.3.4. The file is written anew: entries never change."""
        assert isinstance(kept.body, FileSlice)  # it was looked up
        headers = confirmed_headers(kept, confirmation)
        entry = draft(kept.entry.key, status=kept.status, headers=headers)
        entry = with_body(entry, len(kept.body), kept.entry.body_hash)
        self.stats.confirmed += 1
        self._rests.discard(entry.key.digest)
        now = Kept(entry, kept.body)
        own = withheld_of(headers, confirmation)
        # What it forbids to keep is true for those who wait for it, and for nobody later.
        control = effective_control(folded(confirmation), SURROGATE)
        if control.no_store or control.private:
            await self.variants.forget(kept.entry)
            return Exchanged(now, status=304, is_confirmed=True, own=own)
        try:
            await self.variants.renew(kept, entry)
        except NotStored as error:
            log.info("the confirmation of %a is not kept: %s", source_id.path, error)
        return Exchanged(now, status=304, is_stored=True, is_confirmed=True, own=own)

    async def _pass(
        self, request: Request, response: Incoming, storability: Storability, method: str
    ) -> Response:
        status, headers = response.status, response.headers
        self.stats.passed += 1
        why = Forward.URI_MISS if method in ("GET", "HEAD") else Forward.METHOD
        word = "request" if storability in OF_THE_REQUEST else storability
        word = "method" if why is Forward.METHOD else word
        cache_status = build_forward(self._name, why, status=status, detail=word)
        if method == "HEAD" or status in (204, 304):
            length = response.content_length
            return self._writer.bare(request, status, headers, length, cache_status)
        passed = await self._sources.pass_on(response, storability)
        length = passed.length if isinstance(passed, Passing) else len(passed.body)
        fields = passed_fields_of(headers, self._name)
        return self._deliverer.pass_on(
            request, status, fields, passed.body, cache_status, length, has_via=True,
            aside=response.aside,
        )  # fmt: skip

    def _pass_all(
        self,
        request: Request,
        status: int,
        headers: Headers,
        storability: Storability,
        body: bytes,
        aside: ClientAside,
    ) -> Response:
        """The answer to a GET that was there at once."""
        word = "request" if storability in OF_THE_REQUEST else storability
        cache_status = build_forward(self._name, Forward.URI_MISS, status=status, detail=word)
        if status in BODILESS_STATUSES:
            return self._writer.bare(request, status, headers, None, cache_status)
        fields = passed_fields_of(headers, self._name)
        if not aside.has_trailers:
            return self._deliverer.pass_whole(status, fields, cache_status, body)
        return self._deliverer.pass_on(
            request, status, fields, body, cache_status, has_via=True, aside=aside
        )

    def _respond(
        self, request: Request, exchanged: Exchanged, why: Forward, *, collapsed: bool = False
    ) -> Response:
        if exchanged.response is not None:
            return exchanged.response
        kept = exchanged.kept
        assert kept is not None
        if exchanged.has_failed:
            return self._hit(request, kept, "stale-if-error")
        if exchanged.own and not collapsed:
            kept = kept.with_own(exchanged.own)
        now = self._clock.wall
        status = build_forward(
            self._name,
            Forward.STALE if exchanged.is_confirmed else why,
            status=exchanged.status,
            stored=exchanged.is_stored,
            collapsed=collapsed,
            detail="shared",
        )
        word = "REVALIDATED" if exchanged.is_confirmed else "MISS"
        return self._writer.deliver(request, kept, status, word, age_s=now - kept.entry.stored_at)

    # Other methods

    async def pass_method(
        self, request: Request, client: Client, site: Site, path: str, query: str
    ) -> Response:
        """POST and its like, to the origin and back. Raises MethodNotAllowed where a file is meant,
        BodyTooLarge, LoopDetected, ParseError, OriginError, StoreBusy."""
        origin = site.origin
        assert origin is not None
        asking = self._asking(request, client, keep=OF_THE_CACHE)
        if await self._sources.find_file(site, path) is not None:
            raise MethodNotAllowed(f"{request.method!a} on a file of the docroot")
        body = await whole_body(request.upload, site.max_body_bytes, self._spool, self._threads)
        source_id = source_id_of(site, path, query)
        aside = ClientAside(request, self.asides)
        put = asking.dress(self._sources.request_for(site, source_id), aside)
        method = request.method.decode("latin-1")
        headers = put.headers
        hops = max_forwards({"max-forwards": request.field(b"max-forwards") or ""})
        if hops is not None and method == "OPTIONS":
            headers = (*headers, ("max-forwards", str(hops - 1)))
        put = dataclasses.replace(put, method=method, headers=headers, body=body)
        self.stats.methods += 1
        response = Incoming(await origin.fetch(put), aside=aside)
        try:
            if response.local_redirect is not None:
                raise OriginBroken("redirects inside an origin are not followed")
            if request.method in UNSAFE and 200 <= response.status < 400:
                await self._invalidate(request, client, site, source_id, put, response)
            return await self._pass(request, response, Storability.METHOD, method)
        finally:
            await response.aclose()

    async def _invalidate(
        self,
        request: Request,
        client: Client,
        site: Site,
        source_id: SourceId,
        put: OriginRequest,
        response: Incoming,
    ) -> None:
        """RFC 9111 section 4.4: the target, and what Location and Content-Location name of the same
        origin. Before the answer is handed on, so that its reader finds what it changed."""
        changed: dict[SourceId, set[str]] = {source_id: set()}
        if request.authority:
            changed[source_id].add(url_of(client.scheme, request.authority, request.target))
        for name in ("location", "content-location"):
            for value in folded(response.headers).get(name, [])[:MAX_LOCATIONS]:
                other = _same_origin(site, put, value)
                if other is None:
                    continue
                urls = changed.setdefault(other.source_id, set())
                urls.add(other.url)
                if request.authority:
                    urls.add(url_of(client.scheme, request.authority, other.target))
        for one in changed:
            self.variants.drop(one)
        await asyncio.gather(*(self.changes.carry_out(one, urls) for one, urls in changed.items()))


@dataclass(frozen=True, slots=True)
class _Other:
    """What a Location names, and how it spells that."""

    source_id: SourceId
    url: str
    target: bytes


def _same_origin(site: Site, put: OriginRequest, reference: str) -> _Other | None:
    """What a Location means, if it is a URL of the same site."""
    base = f"{put.scheme}://{put.host}{put.target}"
    try:
        found = urlsplit(urljoin(base, reference))
        host = (found.hostname or "").lower()
        own = {name.lower() for name in site.hosts} | {urlsplit(base).hostname or ""}
        if found.scheme not in ("http", "https") or host not in own:
            return None
        query = f"?{found.query}" if found.query else ""
        raw = f"{found.path or '/'}{query}".encode("ascii")
        target = split_target(raw)
        url = url_of(found.scheme, found.netloc.encode("ascii"), raw)
    except (ValueError, UnicodeEncodeError, BadUrl):
        return None
    seen = target.below(site.prefix)
    return None if seen is None else _Other(source_id_of(site, seen.source, seen.query), url, raw)
