"""Originals: where one is, how fresh what we know of it is, and its bytes.

A source is asked for in the docroot first (docroots.py), then at the origin: revalidation.py says
when, fetching.py asks, storing.py keeps. What was learnt is kept in a table of this worker
(known.py), so a hit neither touches the disk nor the index until its time is up; then a docroot
file is looked at again (a stat), and an origin is asked with the validators that it gave. Its bytes
are bodies.py's.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

from cache.errors import StoreBusy
from cache.flight import Flights, Role
from cache.index.interface import UNKNOWN_TOKEN, SourceRecord, Token
from cache.key import Key, SourceId
from cache.lease import Leases
from cache.orders import Act, Order, Scope
from cache.store import Opened, Store
from edge.arrival import Arrivals, Incoming
from edge.bodies import Bodies
from edge.clock import Clock
from edge.docroots import Docroots
from edge.errors import NotFound, TakenDown
from edge.failures import Failures, failure_digest
from edge.fetching import Fetching, Node
from edge.http.freshness import Storability
from edge.known import Known
from edge.origin.errors import DocrootFailed
from edge.origin.messages import Headers
from edge.recall import recall
from edge.record import folded, is_ended, is_fresh
from edge.refresh import Refreshes
from edge.revalidation import Revalidation
from edge.site import Site
from edge.source import (
    Found,
    Home,
    Passed,
    Passing,
    Source,
    Stats,
    Way,
    is_for_one,
    source_id_of,
)
from edge.spool import Spool
from edge.storing import Storing
from edge.unkept import Unkept

# Sources whose flights were parted by an order, by digest; beyond it those of all sources are.
MAX_TURNS: Final = 4096

# Of a source whose bytes are gone: would what is wanted have to be made from them?
NeedsBytes = Callable[[Source], Awaitable[bool]]


class Sources:
    """What the parts know and do, for those who ask for originals; the parts know no Sources."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        disk_threads: Executor,
        flights: Flights[Found],
        node: Node,
        spool: Spool,
        failures: Failures,
        refreshes: Refreshes[Found],
        leases: Leases | None = None,
        is_at_hand: Callable[[Key], bool] | None = None,
    ) -> None:
        """is_at_hand: whether the bytes are somewhere though their file may be gone."""
        self._store = store
        self._clock = clock
        self._flights = flights
        self._failures = failures
        self._is_at_hand = is_at_hand or _nothing_is
        self.stats = Stats()
        # Whoever comes after a purge must not join who asked before it: flights of open() are told
        # apart by the last order that concerned them.
        self._turn = 0
        self._turn_of_all = 0
        self._turns: dict[bytes, int] = {}
        # Also of the shared cache, whose bodies become something else.
        self.arrivals: Arrivals[Any] = Arrivals(spool, disk_threads)
        known = Known(store, clock, self.stats)
        docroots = Docroots(store, clock, disk_threads, known, self.stats)
        unkept = Unkept(spool, disk_threads, self.arrivals)
        storing = Storing(store, clock, disk_threads, known, unkept, self.arrivals)
        fetching = Fetching(store, clock, node, known, storing, unkept, self.arrivals, leases)
        bodies = Bodies(store, flights, docroots, fetching, unkept)
        self._known = known
        self._docroots = docroots
        self._unkept = unkept
        self._storing = storing
        self._fetching = fetching
        self._revalidation = Revalidation(clock, known, failures, refreshes, fetching)
        # What one part alone does; bound, so that nothing is called through two.
        self.is_known = known.is_known
        self.doubt = known.doubt
        self.look_now = docroots.look_now
        self.take_now = docroots.take_now
        self.recheck = docroots.recheck
        self.may_recheck = docroots.may_recheck
        self.confirm = docroots.confirm
        self.ask_tokens = docroots.ask_tokens
        self.request_for = fetching.request_for
        self.in_file = unkept.in_file
        self.open_body = bodies.open_body
        self.maybe_open_body = bodies.maybe_open_body
        self.refetch = bodies.refetch
        self.settled = bodies.settled
        self.original_of = bodies.original_of

    @property
    def known(self) -> Known:
        """For whoever counts."""
        return self._known

    def tick(self) -> None:
        """Once a second, after the clock."""
        self._known.tick()
        self._failures.tick()

    async def open(
        self,
        site: Site,
        path: str,
        query: str = "",
        *,
        for_bytes: bool = False,
        needs_bytes: NeedsBytes | None = None,
    ) -> Found:
        """The source, fresh. Raises NotFound, NotAllowed, DocrootFailed, OriginError.

        query belongs to the question where an origin is asked; a docroot file has none. A failing
        origin does not fail what it once gave, and where it allows it nobody waits for it: then
        the source is_stale. for_bytes: open_body() comes next, so where the bytes are gone nothing
        is confirmed without them; with needs_bytes that is so where it says so.
        """
        needs = _always if for_bytes else needs_bytes
        source_id = source_id_of(site, path, query)
        self._refuse_taken_down(site, path)
        known = self._known.get(source_id)
        if known is not None and self._clock.wall < known.fresh_until:
            self.stats.known += 1
            return Found(known, Way.KNOWN)
        landing = await self._flights.do(
            source_id.digest,
            self._turn_of(source_id),
            lambda: self._open(site, path, query, needs),
        )
        found = landing.value
        if landing.role is Role.LED:
            return found
        if not is_for_one(found.answer):
            return dataclasses.replace(found, collapsed=True)
        del landing, found  # or its reader seemed to be there as long as we wait
        return await self._open(site, path, query, needs)

    async def _open(self, site: Site, path: str, query: str, needs: NeedsBytes | None) -> Found:
        self.stats.opened += 1
        source_id = source_id_of(site, path, query)
        known = self._known.get(source_id)
        try:
            file = await self._docroots.find(site, path)
        except DocrootFailed as error:
            before = known or self._known.get(SourceId(site.name, path))
            return Found(self._docroots.despite(error, before), Way.KNOWN)
        if file is not None:
            return Found(file, Way.KNOWN)
        if site.origin is None:
            self._known.drop(source_id)
            raise NotFound(f"not in the docroot: {path!a}")
        opened, maybe_record = await recall(self._store, site, source_id, known)
        if maybe_record is not None and is_fresh(maybe_record, self._clock.wall):
            source = self._known.remember(site, source_id, Home.ORIGIN, opened, maybe_record)
            return Found(source, Way.KNOWN)
        if maybe_record is None or is_ended(maybe_record):
            self._failures.check(source_id, failure_digest(source_id.digest), opened)
        is_gone = (
            needs is not None
            and maybe_record is not None
            and await self._is_gone(source_id, opened, maybe_record)
            and await needs(Source(source_id, Home.ORIGIN, opened, maybe_record))
        )
        return await self._revalidation.ask_origin(
            site, source_id, opened, maybe_record, is_gone=is_gone
        )

    async def _is_gone(self, source_id: SourceId, opened: Opened, record: SourceRecord) -> bool:
        """Is it known that the bytes this record is of are not here any more?"""
        key = Key(source_id, "")
        if self._is_at_hand(key):
            return False
        try:
            entry = await self._store.describe(key, opened)
        except StoreBusy:
            return False
        return entry is None or entry.validator != record.validator

    def is_taken_down(self, site: Site, path: str) -> bool:
        """Whatever the query."""
        taken_down = self._store.orders.taken_down
        return bool(taken_down) and SourceId(site.name, path) in taken_down

    def _refuse_taken_down(self, site: Site, path: str) -> None:
        if self.is_taken_down(site, path):
            raise TakenDown(f"{path!a} was taken down")

    async def obey(self, order: Order) -> None:
        """What an order concerns is asked for again from now on."""
        if order.act is Act.LIFT:
            return
        if order.scope is Scope.SOURCE:
            self._failures.forget(order.source)
            self.part(order.source)
        else:
            self._part_all()
        await self._known.obey(order)

    async def forget(self) -> None:
        """Nothing that was known holds any longer."""
        self._part_all()
        await self._known.forget()

    def part(self, source_id: SourceId) -> None:
        """Who asks from now on is not given what was asked for before."""
        if not self._flights.is_flying(source_id.digest, self._turn_of(source_id)):
            return
        if len(self._turns) >= MAX_TURNS:
            self._part_all()
        self._turn += 1
        self._turns[source_id.digest] = self._turn

    def _part_all(self) -> None:
        self._turn += 1
        self._turn_of_all = self._turn
        self._turns.clear()

    def _turn_of(self, source_id: SourceId) -> Token:
        turn = self._turn_of_all
        if self._turns:
            turn = self._turns.get(source_id.digest, turn)
        return Token(UNKNOWN_TOKEN.epoch, turn)

    # For the shared cache (edge/shared.py)

    async def find_file(self, site: Site, path: str) -> Source | None:
        """What the docroot has. Raises TakenDown, NotAllowed, DocrootFailed."""
        self._refuse_taken_down(site, path)
        return await self._docroots.find(site, path)

    async def find_kept(self, site: Site, source_id: SourceId) -> Source | None:
        """A fresh original that the origin once gave, as far as the index knows."""
        known = self._known.get(source_id)
        opened, record = await recall(self._store, site, source_id, known)
        if record is None or not is_fresh(record, self._clock.wall):
            return None
        return self._known.remember(site, source_id, Home.ORIGIN, opened, record)

    async def let_go(self, site: Site, source_id: SourceId) -> None:
        """The origin's answer is no original for everybody any more."""
        known = self._known.get(source_id)
        opened, record = await recall(self._store, site, source_id, known)
        await self._storing.replaced(source_id, opened, record)

    async def note_missing(
        self, source_id: SourceId, opened: Opened, status: int, headers: Headers
    ) -> None:
        """An answer is stored that says there is no original: its derivatives need not ask."""
        await self._failures.remember_missing(
            source_id, opened.token, status, folded(headers), Storability.STORABLE
        )

    async def pass_on(self, response: Incoming, storability: Storability) -> Passed | Passing:
        """An answer that is not kept, and its body."""
        return await self._unkept.pass_on(response, None, storability)


async def _always(source: Source) -> bool:
    del source
    return True


def _nothing_is(key: Key) -> bool:
    del key
    return False
