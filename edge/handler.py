"""The life of a request, as named steps; each step asks the part that does the work.

    receive   site, grammar -> Route (what is asked for, under which key)
    lookup    memory, else disk
    miss      one flight a key: the original's bytes -> resizer -> store
    deliver   preconditions, range, head

find() knows a request at a glance, and has at once what is ready to leave, or a small file.
receive() answers what is at hand, inside the readable callback like it; what may wait is serve().
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import random
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import xxhash

from cache.errors import IndexUnavailable
from cache.flight import Role
from cache.key import Key, SourceId
from cache.orders import Order, Scope
from edge.access import AccessLog, Peer, Record
from edge.arrival import Arriving
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.errors import (
    MethodNotAllowed,
    NotCached,
    NotFound,
    OriginChanged,
    RequestError,
    UnknownHost,
    refusal_of,
)
from edge.failures import Remembered
from edge.http.cache_status import Forward, build_forward, build_hit
from edge.http.familiar import Familiar, Head
from edge.http.forwarding import max_forwards
from edge.http.messages import Request, Response
from edge.http.parser import ParseError, is_plain_target
from edge.http.repeats import Repeats
from edge.http.request_control import parse_request_control
from edge.ladders import Ladders
from edge.lifetimes import NO_LIMIT, Lifetimes
from edge.marks import Mark, Marks, variant_of
from edge.policy.forwarded import TrustedProxies
from edge.policy.purgers import may_purge
from edge.purging import Purging
from edge.ready import ReadyResponse
from edge.rendering import Derivatives, Terms
from edge.renewal import Renewal
from edge.representation import Facts, Representation
from edge.route import Route, Routes
from edge.shared import PASSED, Client, SharedCache
from edge.shelf import Shelf
from edge.site import Site
from edge.source import (
    Found,
    Home,
    Passed,
    Passing,
    Source,
    UnderWay,
    Way,
    raise_for_status,
    source_id_of,
    source_of,
)
from edge.sources import Sources
from edge.spellings import Spellings, url_of
from edge.upgrades import QUICK_S, Upgrades
from edge.urls.derivative import BadUrl, Derivative
from resizer.errors import MarkUnusable
from resizer.transform import BadTransform

log = logging.getLogger("halftone.handler")

ALLOW: Final = "GET, HEAD, OPTIONS"
# Client addresses whose objects are shared; beyond it they are made anew.
MAX_PEERS: Final = 10_000
# Spellings of clients remembered for one trusted proxy.
MAX_CLIENTS: Final = 10_000
# Heads whose lines are learnt in one second: ten microseconds each, so a millisecond at the most.
LESSONS_PER_TURN: Final = 100
# Of a request, in a line of the log that says why it was refused.
MAX_NAMED: Final = 200


@dataclass(slots=True)
class Stats:
    """For derivatives and kept originals alike. Ready answers are counted by themselves, and who
    leads a miss by the Derivatives."""

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    # Of whole pictures, whatever part of them was sent. Milliseconds are of renders alone.
    hit_bytes: int = 0
    miss_bytes: int = 0
    saved_ms: int = 0
    requests: dict[int, int] = dataclasses.field(default_factory=dict)
    refusals: dict[str, int] = dataclasses.field(default_factory=dict)  # by their reason
    sent_bytes: int = 0

    def count_hit(self, representation: Representation) -> None:
        self.hit_bytes += representation.length
        self.saved_ms += representation.cost_ms


class Handler:
    def __init__(
        self,
        *,
        name: str,
        routes: Routes,
        sources: Sources,
        shelf: Shelf,
        derivatives: Derivatives,
        ladders: Ladders,
        renewal: Renewal,
        lifetimes: Lifetimes,
        deliverer: Deliverer,
        marks: Marks,
        access: AccessLog | None,
        clock: Clock,
        chance: random.Random,
        trusted: TrustedProxies,
        upgrades: Upgrades,
        minds: AbstractSet[bytes] = frozenset(),
        purging: Purging | None = None,
        spellings: Spellings | None = None,
        catch_up: Callable[[], Awaitable[None]] | None = None,
        shared: SharedCache | None = None,
    ) -> None:
        """minds: fields that some site looks at, of those that are harmless elsewhere. purging
        None: nobody may. spellings None: no cache in front is told of purges. catch_up: every
        request waits until the orders of the whole farm have been heard. shared: who answers what
        is no derivative and in no docroot; None: origins are asked for originals alone."""
        self._name = name
        self._routes = routes
        self._sources = sources
        self._shelf = shelf
        self.derivatives = derivatives
        self.ladders = ladders
        self._renewal = renewal
        self._lifetimes = lifetimes
        self._deliverer = deliverer
        self.marks = marks
        self._access = access
        self._clock = clock
        self._chance = chance
        # Request ids: distinct over workers and restarts, and no secret.
        self._id_prefix = f"{chance.getrandbits(40):010x}"
        self._ids = 0
        self.stats = Stats()
        self.ready = renewal.answers
        self._familiar = Familiar(minds)
        self._trusted = trusted
        self.upgrades = upgrades
        self._purging = purging
        self._spellings = spellings
        self._repeats = Repeats()
        self._peers: dict[str, Peer] = {}
        self._lessons = LESSONS_PER_TURN
        # Bound once: they are called for every request.
        self._read_head = self._familiar.read
        self._catch_up = catch_up
        self._shared = shared
        self._find_ready = self.ready.find if catch_up is None else _none_ready
        self.tick()

    # connection.Handler

    def peer(self, address: str) -> Peer:
        """One object a client address: its access lines share how they begin."""
        peer = self._peers.get(address)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._peers.clear()
            peer = self._peers[address] = Peer(address)
            if self._trusted.trusts(address):
                peer.clients = {}
        return peer

    def find(self, data: bytes, peer: Peer) -> bytes | Request | ReadyResponse | None:
        head = self._read_head(data)
        if head is None:
            return self._repeats.maybe_request(data) if self._shared is not None else None
        connected = peer
        if peer.clients is not None and head[4]:
            peer = peer.clients.get(head[4]) or self._client(peer, head[4])
        ready = self._find_ready(head, peer)
        if ready is not None:
            return ready
        repeated = None if self._shared is None else self._repeats.maybe_request(data)
        if repeated is not None:
            repeated.lines = (head[0], head[1], head[5])
        request = repeated or self._request_of(head)
        if request is None:
            return None
        if self._catch_up is None:
            answer = self._answer_small_file(request, head, peer, connected)
            if answer is not None:
                return answer
        if repeated is None and self._shared is not None and self._needs_all(request):
            return None
        return request

    def _answer_small_file(
        self, request: Request, head: Head, peer: Peer, connected: Peer
    ) -> bytes | ReadyResponse | None:
        """A small file of a docroot that is asked for the first or the second time. Otherwise the
        request knows its route, where there is one."""
        body = None
        route = self._routes.known(request)
        if route is None:
            route, body = self._look_now(request, connected, self._shelf.most_bytes)
        request.route = route
        if route is None:
            return None
        source = route.source
        if source is None or not self._shelf.is_small_file(route, source):
            return None
        return self._renewal.answer_small_file(request, route, source, body, head, peer)

    def _needs_all(self, request: Request) -> bool:
        """Would an origin be asked with fields of this request that were not told on?"""
        found = request.route
        route = found if isinstance(found, Route) else self._routes.known(request)
        if route is not None:
            source = route.source
            is_known = source is not None and self._clock.wall < source.fresh_until
            return route.is_shared and not is_known
        try:
            return self._routes.site_of(request).origin is not None
        except UnknownHost:
            return False

    def _client(self, proxy: Peer, forwarded_for: bytes) -> Peer:
        """For whom a trusted proxy speaks: that address stands in the access line."""
        text = forwarded_for.decode("latin-1")
        client = self.peer(self._trusted.client_of(proxy.address, text, None))
        assert proxy.clients is not None
        if len(proxy.clients) >= MAX_CLIENTS:
            proxy.clients.clear()
        proxy.clients[forwarded_for] = client
        return client

    def learn(self, data: bytes) -> None:
        if self._lessons > 0:
            self._lessons -= 1
            self._familiar.learn(data)

    def tick(self) -> None:
        """Once a second, after the clock."""
        self._sources.tick()
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
            return self._other_method(request, peer)
        if self._catch_up is not None:
            return None
        found = request.route
        route = found if isinstance(found, Route) else self._routes.known(request)
        if route is None:
            route = self._look_now(request, peer)[0]
        if route is None or route.source is None or route.key is None:
            return None
        if route.mark is not None and not self.marks.is_current(route.mark):
            return None
        source = route.source
        if self._clock.wall >= source.fresh_until and not self._sources.recheck(route.site, source):
            return None
        if request.lines is not None and request.method == b"GET":
            route.asked += 1
        response = self._from_memory(request, route, source, route.key)
        if response is None:
            response = self._from_file(request, route, source, route.key)
        if response is not None:
            self._renewal.maybe_make(request, route, response, response.length)
        elif route.is_slow and self.upgrades.is_waiting(route.key):
            quick, key = self._quick(request, route, source)
            return self._from_memory(request, quick, source, key, QUICK_S)
        return response

    def _look_now(
        self, request: Request, peer: Peer, most: int = 0
    ) -> tuple[Route | None, bytearray | None]:
        """A target not met before, where its file can be found without waiting for a disk; and the
        bytes of an original of at most so many, if they are at hand."""
        data = None
        try:
            route = self._routes.meet(request)
        except (RequestError, BadUrl, BadTransform):
            return None, data  # serve() says what is wrong
        if route.redirect or route.derivative.extensions or route.mark_path:
            return route, data
        if most and route.is_original:
            taken = self._sources.take_now(route.site, route.derivative.source, most)
            if taken is not None:
                route.source, data = taken
        else:
            route.source = self._sources.look_now(route.site, route.derivative.source)
        if route.source is not None:
            route.key = Key(route.source.id, route.found.transform.canonical())
            if self._spellings is not None:
                self._note(request, peer, route, route.source.id, self._spellings)
        return route, data

    def _from_file(
        self, request: Request, route: Route, source: Source, key: Key
    ) -> Response | None:
        """A hit that is not in memory, if all of it can be had without waiting."""
        representation = self._shelf.in_open_file(source, key)
        if representation is None and self._shelf.is_small_file(route, source):
            representation = self._shelf.read_small_file(route.site, source)
        if representation is None:
            return None
        self.stats.hits_disk += 1
        self._lifetimes.count_hit(source)
        self.stats.count_hit(representation)
        self._shelf.touch(source, key)
        facts = self._lifetimes.facts_of_hit(route.site, source, source.home.value, route.vary)
        return self._deliverer.deliver(request, representation, facts, cache="HIT")

    def _request_of(self, head: Head) -> Request | None:
        """The request of a familiar head, if its line is of the usual kind."""
        request_line, host, referer, agent, forwarded, accept = head
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
        if accept:
            fields[b"accept"] = accept[7:].strip()
        request = Request(b"GET", target, 1, fields, fields[b"host"], True)
        request.lines = (request_line, host, accept)
        return request

    async def serve(self, request: Request, peer: Peer) -> Response:
        try:
            return await self._serve(request, peer)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the top of a task
            # The one place where what went wrong becomes an answer (errors.py has the table).
            return self.answer_error(request, error)

    def refuse(self, error: ParseError) -> Response:
        return self.answer_error(None, error, close=True)

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, took_s: float
    ) -> None:
        if isinstance(response, ReadyResponse):
            if sent == response.length:
                clients = peer.clients
                if clients is not None and response.asked[4]:
                    peer = clients.get(response.asked[4], peer)
                self.ready.record(peer, response)
                return
            request = self._request_of(response.asked)
        status = response.status
        self.stats.requests[status] = self.stats.requests.get(status, 0) + 1
        self.stats.sent_bytes += sent
        if self._access is not None:
            address = self._address_of(request, peer)
            self._access.append(
                Record(
                    self._clock.wall, address, request, status, sent, response.cache, took_s * 1000
                )
            )

    def _address_of(self, request: Request | None, peer: Peer) -> str:
        """The client's: the peer's, or whom a trusted proxy names."""
        if request is None or peer.clients is None:
            return peer.address
        return self._trusted.client_of(
            peer.address, request.field(b"x-forwarded-for"), request.field(b"forwarded")
        )

    # receive

    def _other_method(self, request: Request, peer: Peer) -> Response | None:
        may_purge = self._may_purge(request, peer)
        if request.method == b"PURGE" and may_purge:
            return None
        if self._shared is not None and request.method in PASSED and self._has_origin(request):
            return None
        allow = f"{ALLOW}, PURGE" if may_purge else ALLOW
        if request.method == b"OPTIONS":
            return self._deliverer.options(allow)
        return self.answer_error(
            request,
            MethodNotAllowed(request.method.decode("latin-1")),
            close=not request.keep_alive,
            allow=allow,
        )

    def _has_origin(self, request: Request) -> bool:
        if request.method == b"OPTIONS" and (
            request.target == b"*" or max_forwards(_hops(request)) == 0
        ):
            return False  # RFC 9110 section 7.6.2: we are the last
        try:
            return self._routes.site_of(request).origin is not None
        except UnknownHost:
            return False

    async def _pass_method(self, request: Request, peer: Peer, shared: SharedCache) -> Response:
        try:
            route = self._routes.find(request)
            if not route.is_shared:
                raise MethodNotAllowed(f"{request.method!a} on a derivative")
            return await shared.pass_method(
                request, self._client_of(request, peer), route.site, route.derivative.source,
                route.query,
            )  # fmt: skip
        except MethodNotAllowed as error:
            if request.method == b"OPTIONS":
                return self._deliverer.options(ALLOW)
            return self.answer_error(request, error, close=not request.keep_alive)

    def _client_of(self, request: Request, peer: Peer) -> Client:
        trusted = self._trusted
        if isinstance(peer.client, Client):
            return peer.client
        scheme = trusted.scheme_of(
            peer.address, request.field(b"x-forwarded-proto"), request.field(b"forwarded")
        )
        address = self._address_of(request, peer)
        client = Client(peer.address, address, scheme, trusted.trusts(peer.address))
        if not client.is_trusted:
            peer.client = client
        return client

    async def obey(self, order: Order) -> None:
        """From now on nothing that the order concerns is answered from what was known."""
        await self._sources.obey(order)
        if order.scope is Scope.SOURCE:
            self._shelf.drop(Key(order.source, ""))
        self.ready.expire()

    async def forget(self) -> None:
        """The index has lost its memory: nothing that was known is good any longer."""
        await self._sources.forget()
        self.ready.expire()

    def _may_purge(self, request: Request, peer: Peer) -> bool:
        if self._purging is None:
            return False
        try:
            networks = self._purging.sites.find(request.authority).purge_from
        except UnknownHost:
            return False
        address = self._address_of(request, peer)
        return may_purge(networks, self._trusted, address, request.fields.keys())

    async def _purge(self, request: Request, peer: Peer) -> Response:
        assert self._purging is not None  # receive() has looked
        client = self._address_of(request, peer)
        receipt = await self._purging.purge(request, client, is_admin=False)
        return self._deliverer.receipt(receipt.body, receipt.id)

    def _note(
        self, request: Request, peer: Peer, route: Route, source: SourceId, spellings: Spellings
    ) -> None:
        """Write the URL down, once for each route: a purge names it to the caches in front."""
        if request.authority:
            scheme = self._trusted.scheme_of(
                peer.address, request.field(b"x-forwarded-proto"), request.field(b"forwarded")
            )
            url = url_of(scheme, request.authority, request.target)
            route.is_noted = spellings.note(source, url)

    async def _serve(self, request: Request, peer: Peer) -> Response:
        if request.method == b"PURGE":
            return await self._purge(request, peer)
        if self._catch_up is not None:
            with contextlib.suppress(IndexUnavailable):  # then what is known here decides
                await self._catch_up()
        if self._shared is not None and request.method in PASSED:
            return await self._pass_method(request, peer, self._shared)
        route = self._routes.find(request)
        if route.redirect:
            status = build_forward(self._name, Forward.BYPASS, detail="step")
            return self._deliverer.redirect(route.redirect, status)
        try:
            return await self._answer(request, peer, route)
        except OriginChanged:
            return await self._answer(request, peer, route)

    async def _answer(self, request: Request, peer: Peer, route: Route) -> Response:
        is_own = self._shared is None or not route.is_shared
        if is_own and _is_kept_only(request):
            return await self._answer_kept(request, peer, route)
        found = await self._find_for(request, peer, route)
        if isinstance(found, Response):
            return found
        transform = route.found.transform
        if isinstance(found.answer, Arriving | Passing):
            if isinstance(found.answer, Arriving) and self._spellings and not route.is_noted:
                # A cache in front may have it before anybody asks here again.
                self._note(request, peer, route, found.answer.id, self._spellings)
            if transform.is_identity:
                return self._stream(request, route, found.answer, found.collapsed)
            settled = await self._sources.settled(route.site, found.answer)
            found = dataclasses.replace(found, answer=settled)
        mark = await self.marks.open(route.mark_path) if route.mark_path else None
        if isinstance(found.answer, Passed):
            terms = self._terms(request, peer, route.site, mark)
            return await self._pass(request, route, found.answer, found.collapsed, terms)
        # Together: a key names the bytes of its mark.
        assert isinstance(found.answer, Source)
        source = route.source = found.answer
        key = route.key = _key_of(route, source, mark)
        route.mark = mark
        if self._spellings is not None and not route.is_noted:
            self._note(request, peer, route, source.id, self._spellings)
        if transform.is_identity:
            return await self._serve_original(request, route, found, source, key)
        terms = self._terms(request, peer, route.site, mark)
        return await self._serve_derivative(request, route, source, key, terms)

    async def _answer_kept(self, request: Request, peer: Peer, route: Route) -> Response:
        """RFC 9111 section 5.2.1.7: what is stored and fresh. No origin is asked, and nothing is
        rendered: an original without the rendering is no stored answer. Raises NotCached."""
        source = await self._find_kept(route)
        if source is None:
            raise NotCached(f"{route.derivative.source!a}")
        route.source = source
        if self._spellings is not None and not route.is_noted:
            self._note(request, peer, route, source.id, self._spellings)
        transform = route.found.transform
        route.mark = await self.marks.open(route.mark_path) if route.mark_path else None
        key = route.key = Key(source.id, variant_of(transform, route.mark))
        if transform.is_identity:
            found = Found(source, Way.KNOWN)
            return await self._serve_original(request, route, found, source, key)
        await self._sources.ask_tokens(source)
        response = self._from_memory(request, route, source, key)
        if response is not None:
            return response
        most_s = NO_LIMIT
        hit = await self.derivatives.lookup(source, key)
        if hit is None and route.is_slow:
            most_s = QUICK_S
            hit = await self.derivatives.lookup(source, self._quick(request, route, source)[1])
        if hit is None:
            raise NotCached(f"{transform.canonical()} of {source.id.path!a}")
        return self._deliver_from_disk(request, route, source, hit, most_s)

    async def _find_kept(self, route: Route) -> Source | None:
        """What _find() finds without asking an origin, if it is fresh."""
        site = route.site
        endings = route.endings() if route.derivative.extensions else []
        for path in [resolved.source for resolved in endings] or [route.derivative.source]:
            source = await self._sources.find_file(site, path)
            if source is None and site.origin is not None:
                query = "" if endings else route.query
                source = await self._sources.find_kept(site, source_id_of(site, path, query))
            if source is not None:
                if endings:
                    route.found = next(one for one in endings if one.source == path)
                return source
        return None

    def _terms(self, request: Request, peer: Peer, site: Site, mark: Mark | None) -> Terms:
        return Terms(self._address_of(request, peer), site.looks.inputs, mark)

    def _find_for(self, request: Request, peer: Peer, route: Route) -> Awaitable[Found | Response]:
        # No coroutine of its own: each one that only waits for another is a microsecond.
        if self._shared is None or not route.is_shared:
            return self._find(request, route)
        if request.whole:
            self._repeats.learn(request.whole, request)
            self.learn(request.whole)
        client = self._client_of(request, peer)
        path, source_id = route.derivative.source, route.source_id
        if source_id is None:
            source_id = route.source_id = source_id_of(route.site, path, route.query)
        return self._shared.get(request, client, route.site, source_id, path, route.query)

    async def _find(self, request: Request, route: Route) -> Found:
        """The source, trying the endings of a grammar that names originals without one."""
        derivative, site = route.derivative, route.site
        if not derivative.extensions:
            return await self._sources.open(
                site,
                derivative.source,
                route.query,
                for_bytes=route.found.transform.is_identity,
                needs_bytes=functools.partial(self._needs_bytes, request, route, route.found),
            )
        endings = route.endings()
        if route.source is not None:
            # Found before: it is asked first, and the others only when it is gone.
            endings.sort(key=lambda resolved: resolved != route.found)
            route.source = None
        for resolved in endings:
            try:
                found = await self._sources.open(
                    site,
                    resolved.source,
                    needs_bytes=functools.partial(self._needs_bytes, request, route, resolved),
                )
            except NotFound:
                continue
            if isinstance(found.answer, Source) or found.answer.status == 200:
                route.found = resolved
                return found
        raise NotFound(f"no ending of {derivative.source!a} is there")

    async def _needs_bytes(
        self, request: Request, route: Route, found: Derivative, source: Source
    ) -> bool:
        """Asked of a source that is stale and whose bytes are gone. found is what route asks for,
        with its ending."""
        try:
            mark = await self.marks.open(route.mark_path) if route.mark_path else None
        except MarkUnusable:
            return False  # nothing will be made
        wanted = [found.transform]
        if route.is_slow:
            wanted.append(self._routes.quick(request, route).found.transform)
        for transform in wanted:
            key = Key(source.id, variant_of(transform, mark))
            if not await self.derivatives.needs_bytes(route.site, source, key, transform):
                return False
        return True

    # lookup

    def _from_memory(
        self, request: Request, route: Route, source: Source, key: Key, most_s: int = NO_LIMIT
    ) -> Response | None:
        """most_s: how long the answer may be kept elsewhere."""
        representation = self._shelf.in_memory(source, key)
        if representation is None:
            return None
        self.stats.hits_memory += 1
        self._lifetimes.count_hit(source)
        self.stats.count_hit(representation)
        self._shelf.touch(source, key)
        facts = self._lifetimes.facts_of_hit
        if most_s != NO_LIMIT:
            brief = facts(route.site, source, "memory", route.vary, most_s)
            return self._deliverer.deliver(request, representation, brief, cache="HIT")
        response = self._deliverer.deliver_ready(request, representation, route.vary)
        if response is not None:
            return response
        lasting = facts(route.site, source, "memory", route.vary)
        self._deliverer.make_ready(representation, lasting)
        return self._deliverer.deliver(request, representation, lasting, cache="HIT")

    async def _serve_original(
        self, request: Request, route: Route, found: Found, source: Source, key: Key
    ) -> Response:
        site = route.site
        if found.way is Way.KNOWN:
            response = self._from_memory(request, route, source, key)
            if response is not None:
                return response
            response = self._from_file(request, route, source, key)
            if response is not None:
                return response
        token = source.opened.token
        original = await self._sources.maybe_open_body(site, source)
        if original is None:
            if _is_kept_only(request):
                raise NotCached(f"the bytes of {source.id.path!a}")
            answer = await self._sources.refetch(site, source)
            if isinstance(answer, Arriving | Passing):
                return self._stream(request, route, answer, found.collapsed)
            original = await self._sources.original_of(site, source, answer)
        record = original.record
        representation = Representation(
            validator=record.validator,
            etag=record.etag,
            last_modified=record.last_modified,
            media_type=record.media_type,
            body=original.body,
            fields=original.fields,
            token=token,
        )
        await self._shelf.remember(key, representation)
        if found.way is Way.KNOWN:
            self.stats.hits_disk += 1
            self._lifetimes.count_hit(source)
            self.stats.count_hit(representation)
            facts = self._lifetimes.facts_of_hit(site, source, source.home.value)
            return self._deliverer.deliver(request, representation, facts, cache="HIT")
        self.stats.misses += 1
        self.stats.miss_bytes += representation.length
        is_new = found.way is Way.FETCHED
        status = build_forward(
            self._name,
            Forward.URI_MISS if is_new else Forward.STALE,
            status=200 if is_new else 304,
            stored=True,
            collapsed=found.collapsed,
            detail=source.home.value,
        )
        facts = self._lifetimes.facts(site, source, status)
        word = "MISS" if is_new else "REVALIDATED"
        return self._deliverer.deliver(request, representation, facts, cache=word)

    def _stream(
        self, request: Request, route: Route, answer: UnderWay, collapsed: bool
    ) -> Response:
        """A large original that is on its way: its head now, and its bytes as they come."""
        if isinstance(answer, Passing):
            status = build_forward(
                self._name,
                Forward.URI_MISS,
                status=answer.status,
                detail=answer.storability,
            )
            return self._deliverer.pass_on(
                request, answer.status, answer.fields, answer.body, status, answer.length
            )
        if not answer.body.is_whole:
            raise OriginChanged(f"{answer.id.path!a} was refused by the store")
        self.stats.misses += 1
        record = answer.record
        representation = Representation(
            validator=record.validator,
            etag=record.etag,
            last_modified=record.last_modified,
            media_type=record.media_type,
            body=answer.body.read(),
            fields=answer.fields,
            length=answer.body.length,
        )
        status = build_forward(
            self._name,
            Forward.URI_MISS,
            status=200,
            stored=True,
            collapsed=collapsed,
            detail=Home.ORIGIN.value,
        )
        facts = self._lifetimes.facts(route.site, source_of(answer), status)
        return self._deliverer.deliver(request, representation, facts, cache="MISS")

    async def _pass(
        self, request: Request, route: Route, passed: Passed, collapsed: bool, terms: Terms
    ) -> Response:
        """An origin's answer that is not kept: as it is, or rendered for this request alone."""
        status = build_forward(
            self._name,
            Forward.URI_MISS,
            status=passed.status,
            collapsed=collapsed,
            detail=passed.storability,
        )
        if route.found.transform.is_identity:
            return self._deliverer.pass_on(
                request, passed.status, passed.fields, passed.body, status
            )
        raise_for_status(passed)
        # What is not kept would take its time for every request.
        found = self._routes.quick(request, route).found if route.is_slow else route.found
        original = await self._sources.in_file(passed.body)
        result, body = await self.derivatives.render_unstored(
            original, found.transform, passed.body_digest, terms
        )
        representation = Representation(
            validator="",
            etag=f'"{xxhash.xxh3_128_hexdigest(body)}"',
            last_modified=self._clock.wall,
            media_type=result.media_type,
            body=body,
        )
        facts = Facts("no-store", status, vary=route.vary)
        return self._deliverer.deliver(request, representation, facts, cache="PASS")

    def _deliver_from_disk(
        self,
        request: Request,
        route: Route,
        source: Source,
        representation: Representation,
        most_s: int,
    ) -> Response:
        self.stats.hits_disk += 1
        self._lifetimes.count_hit(source)
        self.stats.count_hit(representation)
        facts = self._lifetimes.facts_of_hit(route.site, source, "disk", route.vary, most_s)
        return self._deliverer.deliver(request, representation, facts, cache="HIT")

    async def _serve_derivative(
        self,
        request: Request,
        route: Route,
        source: Source,
        key: Key,
        terms: Terms,
        most_s: int = NO_LIMIT,
    ) -> Response:
        site, transform = route.site, route.found.transform
        response = self._from_memory(request, route, source, key, most_s)
        if response is not None:
            return response
        if await self._sources.ask_tokens(source):
            response = self._from_memory(request, route, source, key, most_s)
            if response is not None:
                return response
        if route.is_slow:
            hit = await self.derivatives.lookup(source, key)
            if hit is None:
                self.upgrades.ask(site, source, key, transform, terms)
                quick, quick_key = self._quick(request, route, source)
                return await self._serve_derivative(
                    request, quick, source, quick_key, terms, QUICK_S
                )
            return self._deliver_from_disk(request, route, source, hit, most_s)
        landing = await self.derivatives.get(site, source, key, transform, terms)
        made = landing.value
        if made.is_hit:
            return self._deliver_from_disk(request, route, source, made.representation, most_s)
        if landing.role is Role.JOINED:
            self.stats.misses += 1
            self.stats.miss_bytes += made.representation.length
        if landing.role is Role.LED:
            is_named = route.found.named_size
            self.ladders.offer(site, source, transform, made, is_named=is_named)
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
        facts = self._lifetimes.facts(site, source, status, timing, vary=route.vary, most_s=most_s)
        return self._deliverer.deliver(request, made.representation, facts, cache="MISS")

    def _quick(self, request: Request, route: Route, source: Source) -> tuple[Route, Key]:
        """What to send in place of a slow variant that is not there."""
        quick = self._routes.quick(request, route)
        assert not quick.is_slow
        quick.source, quick.mark = source, route.mark
        quick.key = Key(source.id, variant_of(quick.found.transform, quick.mark))
        return quick, quick.key

    def answer_error(
        self, request: Request | None, error: Exception, *, close: bool = False, allow: str = ALLOW
    ) -> Response:
        refusal = refusal_of(error)
        refusals = self.stats.refusals
        refusals[refusal.detail] = refusals.get(refusal.detail, 0) + 1
        self._ids += 1
        request_id = f"{self._id_prefix}{self._ids:06x}"
        kind = type(error).__name__
        is_remembered = isinstance(error, Remembered)  # then it has been told once
        log.log(
            min(refusal.level, logging.INFO) if is_remembered else refusal.level,
            "%s: %d %s: %s: %s%s",
            request_id,
            refusal.status,
            refusal.detail,
            kind,
            error,
            "" if request is None else _named(request),
            exc_info=error if refusal.status == 500 and refusal.detail == "bug" else None,
        )
        retry_after_s = getattr(error, "retry_after_s", 0) or self._chance.randint(1, 3)
        status = build_forward(self._name, Forward.MISS, detail=refusal.detail)
        if isinstance(error, Remembered):
            status = build_hit(self._name, error.retry_after_s, refusal.detail)
        return self._deliverer.refuse(
            request,
            refusal,
            request_id,
            status,
            retry_after_s=retry_after_s,
            allow=allow if refusal.status == 405 else "",
            close=close,
        )


def _key_of(route: Route, source: Source, mark: Mark | None) -> Key:
    """The key that the route has already, where nothing can have changed but the source."""
    key = route.key
    is_same = mark is None and route.mark is None and not route.derivative.extensions
    if key is not None and is_same and key.source == source.id:
        return key
    return Key(source.id, variant_of(route.found.transform, mark))


def _named(request: Request) -> str:
    """Which request, for a line of the log: what came over the wire is cut, and quoted where it is
    not plain."""
    line = b"%s %s%s" % (request.method, request.authority, request.target)
    shown = line.decode("ascii", "backslashreplace")
    if len(shown) > MAX_NAMED:
        shown = f"{shown[:MAX_NAMED]}..."
    return f" ({shown})" if shown.isprintable() else f" ({shown!a})"


def _is_kept_only(request: Request) -> bool:
    control = request.field(b"cache-control")
    return control is not None and parse_request_control(control).only_if_cached


def _hops(request: Request) -> dict[str, str]:
    return {"max-forwards": request.field(b"max-forwards") or ""}


def _none_ready(head: Head, peer: Peer) -> None:
    """Where every request has to ask first, nothing can be ready to leave."""
    del head, peer
