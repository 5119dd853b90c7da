"""One exchange with an origin, once for the whole farm."""

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cache.entry import Entry
from cache.errors import LedElsewhere, NotStored
from cache.index.interface import SourceRecord
from cache.key import Key, SourceId
from cache.lease import Errand, Leases, keep
from cache.store import Opened, Store
from edge.arrival import Arrivals, Arriving, Incoming
from edge.clock import Clock
from edge.http.directives import SURROGATE, effective_control
from edge.http.forwarding import marks_of
from edge.http.freshness import Storability, may_store
from edge.known import Known
from edge.origin.errors import OriginBroken, OriginOverloaded
from edge.origin.messages import Headers, OriginRequest
from edge.policy.tags import parse_surrogate_key
from edge.recall import recall
from edge.record import (
    ConfirmsNothing,
    conditional_fields,
    folded,
    is_confirmed_by,
    is_replayable,
    record_of_entry,
    record_of_response,
    refreshed,
    stale_limit,
    tagged,
)
from edge.remembered import remembered
from edge.site import Site
from edge.source import QUERY_MARK, Found, Home, Settled, Source, Way, path_of
from edge.storing import Storing
from edge.unkept import Unkept
from edge.urls.path import build_path

# Other people's statuses: busy, which is no word about the original.
BUSY_STATUSES: Final = frozenset((429, 503))
# What only answers a precondition or a Range that was not sent.
UNASKED_STATUSES: Final = frozenset((206, 304))
# An origin is always asked for the bytes as they are, so its Vary on this changes nothing.
ACCEPT_ENCODING: Final = ("accept-encoding", "identity")
# Requests that are remembered: so many, and with so many bytes of paths, which stand in each twice.
MAX_NEUTRAL: Final = 4096
MAX_NEUTRAL_BYTES: Final = 4 * 1024 * 1024

log = logging.getLogger("halftone.source")


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """What the node says of itself to an origin."""

    name: str
    address: str
    port: int


class Fetching:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        node: Node,
        known: Known,
        storing: Storing,
        unkept: Unkept,
        arrivals: Arrivals[Settled],
        leases: Leases | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._known = known
        self._storing = storing
        self._unkept = unkept
        self._arrivals = arrivals
        self._leases = leases

    async def fetch(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord | None,
        *,
        is_kept: bool = True,
        is_gone: bool = False,
    ) -> Found:
        """One exchange; record None asks for the whole. is_kept False: the store has refused it.
        is_gone: the record stands in where it may, but its bytes are gone, so the whole is asked
        for.

        Once for the whole farm, as far as others can be given what comes of it.
        """
        arriving = self._arrivals.find(source_id, opened.token)
        if arriving is not None and self._may_be_joined(arriving):
            return Found(arriving, Way.FETCHED, collapsed=True)
        exchange = functools.partial(
            self._exchange, site, source_id, opened, record, is_kept=is_kept, is_gone=is_gone
        )
        if self._leases is None or not is_kept:
            return await exchange()
        since = 0 if opened.record is None else opened.record.stored_at
        known = self._known.get(source_id)
        if known is not None:
            since = max(since, known.record.stored_at)
        follow = exchange
        if record is not None:
            follow = functools.partial(self._confirmed_elsewhere, site, source_id, exchange)
        try:
            return await self._leases.once(
                Errand(
                    key=Key(source_id, ""),
                    token=opened.token,
                    held=functools.partial(self._fetched_here, site, source_id, opened, since),
                    fill=exchange,
                    follow=follow,
                    take=functools.partial(self._take, site, source_id, opened, since),
                    is_kept=_is_kept,
                )
            )
        except LedElsewhere as error:
            if record is None or is_gone:
                raise
            # As if the origin were busy: what it gave before stands in, where it may.
            raise OriginOverloaded(str(error), 1) from error

    def _may_be_joined(self, arriving: Arriving[Settled]) -> bool:
        """Not where the store refused it, where it may not be used unasked any more (no-cache, RFC
        9111 section 5.2.2.4; it may take long), or after a purge of a tag that only its head told:
        then the token is the same as before."""
        record = arriving.record
        if not arriving.body.is_whole or self._clock.wall >= stale_limit(record):
            return False
        return not self._store.has_heard_since(arriving.id, record.seen, record.tags)

    async def _fetched_here(
        self, site: Site, source_id: SourceId, opened: Opened, since: int
    ) -> Found | None:
        """What another worker of this node has stored since."""
        stored = await self._store.lookup(
            Key(source_id, ""), opened.current, applied=opened.applied
        )
        if stored is None:
            return None
        with stored:
            return self._maybe_newer(site, source_id, opened, since, stored.entry)

    async def _take(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        since: int,
        entry: Entry,
        body: bytes,
    ) -> Found | None:
        """What another node has fetched; from the wire."""
        if not is_replayable(entry) or not await keep(self._store, entry, body):
            return None
        return self._maybe_newer(site, source_id, opened, since, entry)

    def _maybe_newer(
        self, site: Site, source_id: SourceId, opened: Opened, since: int, entry: Entry
    ) -> Found | None:
        """Fresh, and no older than what was known when the origin was to be asked."""
        if entry.stored_at < since or self._clock.wall >= entry.fresh_until:
            return None
        record = tagged(record_of_entry(entry), site.tags.of(path_of(source_id)))
        source = self._known.remember(site, source_id, Home.ORIGIN, opened, record)
        return Found(source, Way.KNOWN, collapsed=True)

    async def _confirmed_elsewhere(
        self, site: Site, source_id: SourceId, exchange: Callable[[], Awaitable[Found]]
    ) -> Found:
        """Another process has asked the origin just now: the index may know what it said."""
        known = self._known.get(source_id)
        opened, record = await recall(self._store, site, source_id, known)
        if record is None or self._clock.wall >= record.fresh_until:
            return await exchange()
        source = self._known.remember(site, source_id, Home.ORIGIN, opened, record)
        return Found(source, Way.KNOWN, collapsed=True)

    async def _exchange(
        self,
        site: Site,
        source_id: SourceId,
        opened: Opened,
        record: SourceRecord | None,
        *,
        is_kept: bool,
        is_gone: bool = False,
    ) -> Found:
        """fetch(), by this process."""
        origin = site.origin
        assert origin is not None
        asked_at = self._clock.wall
        seen = self._store.orders.head
        fetch = origin.fetch if site.ask is None else site.ask
        asked = None if is_gone else record
        response = Incoming(await fetch(self.request_for(site, source_id, asked)))
        try:
            answered_at = self._clock.wall
            status = response.status
            if response.local_redirect is not None:
                raise OriginBroken("redirects inside an origin are not followed")
            if status == 304 and asked is not None and conditional_fields(asked.validator):
                if not is_confirmed_by(asked, response.headers):
                    raise ConfirmsNothing
                record = refreshed(asked, response, asked_at, answered_at)
                record = dataclasses.replace(record, seen=seen)
                return Found(
                    await self._storing.renew(site, source_id, opened, record), Way.CONFIRMED
                )
            if status in BUSY_STATUSES:
                raise OriginOverloaded(f"origin {origin.name} answered {status}", 1)
            if status >= 500 or status in UNASKED_STATUSES:
                raise OriginBroken(f"origin {origin.name} answered {status}")
            fields = folded(response.headers)
            control = effective_control(fields, SURROGATE)
            storability = may_store(
                "GET", status, fields, False, control, key_covers=(ACCEPT_ENCODING[0],)
            )
            told = None
            if status == 200:
                told = record_of_response(source_id.path, response, asked_at, answered_at)
                tags = parse_surrogate_key(fields.get("surrogate-key", ()))
                tags = tuple(dict.fromkeys((*tags, *site.tags.of(path_of(source_id)))))
                told = dataclasses.replace(told, seen=seen, tags=tags)
            if told is None or storability is not Storability.STORABLE:
                await self._storing.replaced(source_id, opened, record)
                return Found(await self._unkept.pass_on(response, told, storability), Way.FETCHED)
            if is_kept:
                answer = await self._storing.keep(site, source_id, opened, response, told, asked)
                return Found(answer, Way.FETCHED)
            return Found(await self._unkept.pass_on(response, told, storability), Way.FETCHED)
        except NotStored as error:
            # In the middle of the body: the disk is full. The next answer goes around the store.
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            record, is_kept, is_gone = None, False, False
        except ConfirmsNothing:
            log.info("%a: a 304 for another version than was asked about", source_id.path)
            is_gone = True
        finally:
            await response.aclose()
        return await self._exchange(
            site, source_id, opened, record, is_kept=is_kept, is_gone=is_gone
        )

    def request_for(
        self, site: Site, source_id: SourceId, record: SourceRecord | None = None
    ) -> OriginRequest:
        """A GET that says nothing of any client. record: what is asked whether it still holds."""
        host = site.hosts[0] if site.hosts else self._node.address
        neutral = _neutral(self._node, host, source_id.path)
        if record is None:
            return neutral
        conditions = conditional_fields(record.validator)
        return dataclasses.replace(neutral, headers=(*neutral.headers, *conditions))


@remembered(MAX_NEUTRAL, MAX_NEUTRAL_BYTES)
def _neutral(node: Node, host: str, source: str) -> OriginRequest:
    """source is the path of a SourceId. Made again and again where nothing may be stored."""
    path, _, query = source.partition(QUERY_MARK)
    target = build_path(path)
    return OriginRequest(
        method="GET",
        target=f"{target}?{query}" if query else target,
        path=path,
        query=query,
        headers=_neutral_headers(host, node.name),
        host=host,
        scheme="http",
        remote_addr=node.address,
        remote_port=0,
        server_addr=node.address,
        server_port=node.port,
        server_protocol="HTTP/1.1",
        is_for_all=True,
    )


@functools.lru_cache(maxsize=64)
def _neutral_headers(host: str, name: str) -> Headers:
    return (("host", host), *marks_of(name), ACCEPT_ENCODING)


def _is_kept(found: Found) -> bool:
    return found.way is Way.FETCHED and isinstance(found.answer, Source)
