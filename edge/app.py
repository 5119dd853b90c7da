"""The composition root: builds the parts from the configuration, starts and stops them in order.

Alone knows concrete classes, the real clock, the real randomness and the environment. It is
imported while the first resizer starts (start.py). Start: access log, sites; the first resizer is
ready; then, when the master says go, store and index, listeners. Stop: listeners drain, flights
land, resizers end, store and index close, the access log is flushed.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from cache.errors import CacheError
from cache.flight import Flights
from cache.folders import Folders
from cache.index.interface import Index
from cache.lease import Leases
from cache.memory import Memory
from cache.purge import Purger
from cache.scrubber import Scrubber
from edge.access import FORMS, AccessLog
from edge.admin import Admin
from edge.answers import Writer
from edge.changes import Changes
from edge.clock import Clock
from edge.config import Config
from edge.connection import ConnectionSettings
from edge.deliver import Deliverer
from edge.downstream import Downstream, make_cache
from edge.failures import Failures, TimesToLive
from edge.fetching import Node
from edge.garbage import Garbage
from edge.handler import Handler as SiteHandler
from edge.health import Health
from edge.ladders import Ladders
from edge.ledger import AT_REST
from edge.lifetimes import Lifetimes
from edge.listeners import Listeners
from edge.marks import Marks
from edge.metrics import Exposition
from edge.origin.errors import DocrootFailed
from edge.origins import CannotBuild, Origins
from edge.policy.forwarded import TrustedProxies
from edge.purging import Purging
from edge.ready import TURN_S
from edge.recent import Recent
from edge.refresh import Refreshes
from edge.rendering import Derivatives, Made
from edge.renewal import Renewal
from edge.representation import Representation
from edge.residency import Residency
from edge.route import Routes
from edge.rows.arrivals import arrival_rows
from edge.rows.folders import folder_rows
from edge.rows.leases import lease_rows
from edge.rows.node import build_info, bulletin_rows, worker_rows
from edge.rows.now import (
    host_rows,
    limit_rows,
    listener_rows,
    order_rows,
    ratio_rows,
    recent_rows,
    room_rows,
    traffic_of,
    trouble_of,
    worker_now_rows,
)
from edge.rows.purges import purge_rows
from edge.rows.requests import metric_rows
from edge.rows.shared import shared_rows
from edge.rows.staleness import staleness_rows
from edge.seat import Seat, Word
from edge.settings.sections import Cache as CacheSection
from edge.settings.sections import Failures as FailuresSection
from edge.shared import Exchanged, SharedCache
from edge.shelf import Shelf
from edge.site import Sites
from edge.sites import build_sites, fields_minded
from edge.source import Found
from edge.sources import Sources
from edge.spellings import Spellings
from edge.spool import Spool
from edge.start import CannotStart, StartingPool
from edge.storage import (
    check_at_rest,
    check_in_use,
    is_index_lost,
    make_index,
    make_storage,
)
from edge.tenure import Tenure
from edge.upgrades import Upgrades
from resizer.errors import ResizeError
from resizer.pool import Pool
from resizer.version import encoder_version

if TYPE_CHECKING:
    from edge.status.shown import Status

log = logging.getLogger("halftone")

# Body size up to which a representation lives in the memory tier. Above it a file
# that is kept open is sent by sendfile, without a copy of ours.
MEMORY_CUT_OFF: Final = 64 * 1024
# Threads for file system calls that may wait for a disk; a spinning disk gains nothing from more.
DISK_THREADS: Final = 8
# Renders and fetches under way at once, beyond what the resizer's own queue bounds.
MAX_FLIGHTS: Final = 4096


def fsck(config: Config, *, fix: bool) -> Mapping[str, object]:
    """Check a cache that no node uses; see reconcile.account(). Raises CannotStart where it cannot
    get at the index."""
    cache = config.cache
    # The generator is for an epoch.
    index = None if is_index_lost(cache) else _make_index(cache, random.Random())  # noqa: S311
    try:
        return asyncio.run(check_at_rest(cache, index, fix=fix))
    except CacheError as error:
        raise CannotStart(str(error)) from error


def _make_index(section: CacheSection, chance: random.Random) -> Index:
    return make_index(section, wall=time.time, monotonic=time.monotonic, chance=chance)


class App:
    """tenure is heard already; resizers are starting."""

    def __init__(self, config: Config, seat: Seat, tenure: Tenure, resizers: StartingPool) -> None:
        self._config = config
        self._seat = seat
        self._clock = Clock(time.time, time.monotonic)
        self._chance = random.Random()  # noqa: S311 - jitter and ids, nothing secret
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")
        self._residency = Residency(self._threads)
        self._listeners = Listeners(self._clock, self._residency)
        self._handler: SiteHandler | None = None
        self._tenure = tenure
        self._resizers = resizers
        self._access: AccessLog | None = None
        self._exposition: Exposition | None = None
        self._purging: Purging | None = None
        self._folders: Folders | None = None
        self._downstream: Downstream | None = None
        self._recent = Recent()

    async def run(self) -> int:
        config = self._config
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._post)  # the last that happens: nothing is counted after it
            stack.callback(self._threads.shutdown)
            stack.callback(self._tenure.stop_hearing, loop)
            self._tenure.reopen = self._reopen
            index = _make_index(config.cache, self._chance)
            try:
                folders, store, follower = make_storage(
                    config.cache,
                    index,
                    slot=self._seat.slot,
                    slots=self._seat.slots,
                    threads=DISK_THREADS,
                    wall=time.time,
                    monotonic=time.monotonic,
                    chance=self._chance,
                )
            except CacheError as error:
                raise CannotStart(f"cache: {error}") from error
            stack.push_async_callback(store.stop)
            if config.cache.scrub:
                scrubber = Scrubber(folders.disks, config.cache.scrub / self._seat.slots)
                scrubber.start()
                stack.push_async_callback(asyncio.to_thread, scrubber.stop)
            stack.push_async_callback(follower.stop)
            pool = self._resizers.pool
            stack.push_async_callback(lambda: self._resizers.stop(self._tenure.left_s()))
            access = None
            if config.log.access != "off":
                access = AccessLog(config.log.access, FORMS[config.log.format.value]())
                access.is_shared = self._seat.slots > 1
                try:
                    access.start(loop)
                except OSError as error:
                    raise CannotStart(f"access log {config.log.access}: {error}") from error
                stack.callback(access.stop)
                self._access = access

            node = _node_of(config.name, self._seat.stand.public[0])
            source_flights: Flights[Found] = Flights(MAX_FLIGHTS)
            render_flights: Flights[Made] = Flights(MAX_FLIGHTS)
            # Of this process alone, and of this run of it.
            owner = f"{config.name}-{os.getpid()}-{self._chance.getrandbits(64):016x}"
            leases = Leases(store, owner, self._chance)
            stack.push_async_callback(leases.stop)
            stack.push_async_callback(lambda: sources.arrivals.stop(self._tenure.left_s()))
            stack.push_async_callback(lambda: source_flights.stop(self._tenure.left_s()))
            stack.push_async_callback(lambda: render_flights.stop(self._tenure.left_s()))
            # Half for what is at hand, half for the answers that are ready to leave.
            half = config.cache.memory // 2
            memory: Memory[Representation] = Memory(half, MEMORY_CUT_OFF)
            spool = Spool(config.cache.path)
            failures = Failures(
                store.put_failure,
                self._clock,
                self._chance.random,
                _times_to_live(config.cache.failures),
            )
            refreshes: Refreshes[Found] = Refreshes()
            stack.push_async_callback(refreshes.stop)
            shelf = Shelf(memory, self._threads, store.disk.touch)
            sources = Sources(
                store,
                self._clock,
                self._threads,
                source_flights,
                node,
                spool,
                failures,
                refreshes,
                leases,
                shelf.has,
            )
            origins, sites = self._build_sites()
            stack.push_async_callback(origins.stop)
            trusted = TrustedProxies(config.trusted_proxies, config.forwarded)
            lifetimes = Lifetimes(config.name, self._clock)
            deliverer = Deliverer(
                self._clock, f"halftone-{self._chance.getrandbits(96):024x}", config.name
            )
            marks = Marks(self._clock, self._threads)
            derivatives = Derivatives(
                sources=sources,
                store=store,
                shelf=shelf,
                flights=render_flights,
                pool=pool,
                encoder=encoder_version(),
                clock=self._clock,
                disk_threads=self._threads,
                marks=marks,
                failures=failures,
                leases=leases,
            )
            ladders = Ladders(sources, derivatives, pool)
            stack.push_async_callback(ladders.stop)
            renewal = Renewal(
                limit_bytes=half,
                access=access,
                sources=sources,
                shelf=shelf,
                lifetimes=lifetimes,
                deliverer=deliverer,
                marks=marks,
                clock=self._clock,
            )
            upgrades = Upgrades(derivatives.prepare, time.monotonic)

            purger = Purger(index, store, follower)
            downstream = self._build_downstream()
            spellings = None
            if downstream is not None:
                stack.push_async_callback(lambda: downstream.stop(self._tenure.left_s()))
                spellings = Spellings(store.add_spellings)
            purging = Purging(
                purger=purger,
                sites=sites,
                downstream=downstream,
                spellings=spellings,
                chance=self._chance,
                has_both_schemes=bool(config.trusted_proxies),
            )
            changes = Changes(
                purger=purger,
                is_known=sources.is_known,
                part=sources.part,
                clock=self._clock,
                downstream=downstream,
                spellings=spellings,
                has_both_schemes=bool(config.trusted_proxies),
            )
            stack.push_async_callback(lambda: changes.stop(self._tenure.left_s()))
            shared_flights: Flights[Exchanged] = Flights(MAX_FLIGHTS)
            stack.push_async_callback(lambda: shared_flights.stop(self._tenure.left_s()))
            shared_refreshes: Refreshes[Exchanged] = Refreshes()
            stack.push_async_callback(shared_refreshes.stop)
            shared_cache = SharedCache(
                name=config.name,
                store=store,
                sources=sources,
                spool=spool,
                disk_threads=self._threads,
                clock=self._clock,
                deliverer=deliverer,
                writer=Writer(
                    self._clock, f"halftone-{self._chance.getrandbits(96):024x}", config.name
                ),
                changes=changes,
                flights=shared_flights,
                refreshes=shared_refreshes,
            )
            handler = SiteHandler(
                name=config.name,
                routes=Routes(sites),
                sources=sources,
                shelf=shelf,
                derivatives=derivatives,
                ladders=ladders,
                renewal=renewal,
                lifetimes=lifetimes,
                deliverer=deliverer,
                marks=marks,
                access=access,
                clock=self._clock,
                chance=self._chance,
                trusted=trusted,
                upgrades=upgrades,
                minds=fields_minded(sites),
                catch_up=follower.catch_up if self._is_strict(index) else None,
                purging=purging,
                spellings=spellings,
                shared=shared_cache,
            )
            follower.obey, follower.forget = handler.obey, handler.forget
            self._purging, self._folders, self._downstream = purging, folders, downstream
            self._handler = handler
            self._garbage = Garbage(lambda: sum(handler.requests().values()))
            self._garbage.start()
            rows = list(
                metric_rows(
                    handler,
                    memory,
                    pool,
                    render_flights,
                    self._listeners.all,
                    sites,
                    store,
                    access,
                    self._residency,
                    self._garbage,
                )
            )
            rows += staleness_rows(lifetimes, refreshes, failures)
            rows += arrival_rows(sources.arrivals)
            rows += lease_rows(leases)
            rows += worker_rows(index, self._tenure.stopping.is_set)
            rows += folder_rows(folders)
            rows += purge_rows(purging, downstream, spellings)
            rows += shared_rows(shared_cache)
            rows += recent_rows(self._recent)
            rows += worker_now_rows(os.getpid(), self._seat.slot)
            rows += limit_rows(
                pool=pool,
                handler=handler,
                known=sources.known,
                memory=memory,
                flights={
                    "render": render_flights,
                    "source": source_flights,
                    "shared": shared_flights,
                },
                downstream=downstream,
                spellings=spellings,
            )
            rows += listener_rows(self._listeners.all)
            rows += room_rows(folders)
            rows += order_rows(follower, store)
            rows += host_rows(sites)
            page = self._seat.page
            shared = bulletin_rows(self._seat.bulletin)
            exposition = Exposition(
                rows, shared, build_info(), page, self._posting_at, ratio_rows()
            )
            self._exposition = exposition
            health = Health(
                *(exposition.total, page.ledger, self._tenure.is_draining, self._clock),
                index="the embedded index" if index.exclusive else "redis",
            )
            is_stopping = self._tenure.stopping.is_set
            check = partial(check_in_use, config.cache, index, folders, is_stopping)
            status = partial(self._status, exposition, health, pool)
            admin = Admin(exposition, health, self._clock, purging, check, status)

            # Last: they have started while all this was built.
            await self._start_part(self._resizers.ready(), "resizer")
            log.info("resizer: %s", pool.sandbox_summary)
            self._seat.link.send(Word.PREPARED)
            await self._tenure.may_go.wait()
            if self._tenure.stopping.is_set():
                return 0
            await self._start_part(store.start(), "cache")
            await follower.start()
            if spellings is not None:
                spellings.start()
                stack.push_async_callback(spellings.stop)
            origins.start()
            upgrades.start()
            stack.push_async_callback(upgrades.stop)
            settings = ConnectionSettings(
                header_s=config.connection.header,
                idle_s=config.connection.idle,
                send_s=config.connection.send,
                max_connections=config.connection.max_connections,
                proxies=trusted if config.connection.proxy_protocol else None,
            )
            admin_settings = dataclasses.replace(settings, proxies=None)
            for sock in self._seat.stand.public:
                self._listeners.open(sock, handler, settings, loop)
            self._listeners.open(self._seat.stand.admin, admin, admin_settings, loop)
            ticker = loop.create_task(self._tick(index))
            turner = loop.create_task(self._turn(handler))
            self._post()
            self._seat.link.send(Word.READY)
            await self._tenure.stopping.wait()
            await ladders.stop()  # nobody waits for one
            await self._listeners.leave(self._tenure, partial(self._release, index))
            ticker.cancel()
            turner.cancel()
        return 0

    async def _release(self, index: Index) -> None:
        if index.exclusive:
            # The successor's from here on. Requests of connections that are still here do
            # without: hits are hits, and what is rendered is stored though not recorded.
            await index.stop()
        self._seat.link.send(Word.RELEASED)

    async def _start_part(self, starting: "asyncio.Future[None] | object", part: str) -> None:
        try:
            await starting  # type: ignore[misc]
        except (CacheError, ResizeError, OSError) as error:
            raise CannotStart(f"{part}: {error}") from error

    # Building

    def _status(self, exposition: Exposition, health: Health, pool: Pool) -> "Status":
        """What the status page shows, of all workers."""
        # For who looks, not for the start.
        from edge.status.reading import Facts, OriginFacts, Verdicts, read

        config = self._config
        facts = Facts(
            name=config.name,
            version=build_info()["version"],
            configuration=config.digest(),
            index=str(config.cache.index),
            sandbox=pool.sandbox_summary,
            origins={
                one.name: OriginFacts(one.kind.value, one.balance.value, one.probe or "")
                for one in config.origins
            },
        )
        taken = exposition.snapshot()
        verdicts = Verdicts(health.stuck(), health.problems(), health.degraded())
        return read(taken.total, taken.workers, facts, verdicts, self._clock.wall)

    def _is_strict(self, index: Index) -> bool:
        """Who shares the index with nobody hears of every purge at once."""
        return self._config.cache.strict_purge and not index.exclusive

    def _build_downstream(self) -> Downstream | None:
        caches = self._config.downstream
        if not caches:
            return None
        return Downstream(
            [make_cache(cache, time.monotonic, self._chance) for cache in caches],
            chance=self._chance,
            again_s=self._config.downstream_again,
        )

    def _build_sites(self) -> tuple[Origins, Sites]:
        try:
            origins = Origins(
                self._config.origins,
                threads=self._threads,
                clock=self._clock,
                monotonic=time.monotonic,
                chance=self._chance,
            )
            return origins, build_sites(self._config.sites, origins.by_name)
        except (CannotBuild, DocrootFailed) as error:
            raise CannotStart(str(error)) from error

    async def _turn(self, handler: SiteHandler) -> None:
        """What is renewed bit by bit; see ready.py."""
        while True:
            await asyncio.sleep(TURN_S)
            handler.ready.next_turn()

    async def _tick(self, index: Index) -> None:
        """Once a second: the clock, then what is over its time, then what others should know."""
        while True:
            await asyncio.sleep(1.0 - time.time() % 1.0)
            self._clock.tick()
            if self._handler is not None:
                self._handler.tick()
                self._recent.note(self._clock.monotonic, self._totals(index))
                self._garbage.tick()
            self._listeners.tick()
            self._post()
            self._seat.link.send(Word.ALIVE)
            if index.is_degraded:  # within its budget, 50 ms
                await index.probe()

    def _totals(self, index: Index) -> Mapping[str, float]:
        assert self._handler is not None
        trouble = trouble_of(
            *(self._handler, index, self._purging, self._folders, self._downstream, self._access)
        )
        return {**traffic_of(self._handler), **trouble}

    def _post(self) -> None:
        if self._exposition is not None:
            self._exposition.post()

    def _posting_at(self) -> float:
        return AT_REST if self._tenure.stopping.is_set() else self._clock.monotonic

    def _reopen(self) -> None:
        if self._access is not None:
            try:
                self._access.reopen()
            except OSError as error:
                log.error("access log: %s; the old file stays in use", error)


def _node_of(name: str, sock: socket.socket) -> Node:
    match sock.getsockname():
        case (str() as host, int() as port, *_):
            return Node(name, host, port)
        case _:
            return Node(name, "127.0.0.1", 0)


def _times_to_live(section: FailuresSection) -> TimesToLive:
    return TimesToLive(
        not_found=section.not_found,
        corrupt=section.corrupt,
        too_large=section.too_large,
        timeout=section.timeout,
        crashed=section.crashed,
    )
