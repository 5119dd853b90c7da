"""The composition root: builds the parts from the configuration, starts and stops them in order.

Alone knows concrete classes, the real clock, the real randomness and the environment.
serve() is the master's process, work() a worker's. Start: resizers, access log, sites; then, when
the master says go, store and index, listeners. Stop: listeners drain, flights land, resizers end,
store and index close, the access log is flushed.
"""

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import random
import signal
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import uvloop

from cache.check import remove_older
from cache.disk import Disk
from cache.errors import CacheError
from cache.flight import Flights
from cache.folders import Folders
from cache.follow import Follower
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index
from cache.journal import Journal
from cache.lease import Leases
from cache.memory import Memory
from cache.orders import Orders
from cache.purge import Purger
from cache.reconcile import account, reconcile
from cache.scrubber import Scrubber
from cache.store import Store
from edge.access import FORMS, AccessLog
from edge.admin import Admin, Fsck
from edge.answers import Writer
from edge.changes import Changes
from edge.clock import Clock
from edge.config import Config
from edge.connection import ConnectionSettings, Handler
from edge.deliver import Deliverer
from edge.downstream import Downstream, make_cache
from edge.drain import accept_rest, drain, stop_accepting
from edge.failures import Failures, TimesToLive
from edge.garbage import Garbage
from edge.handler import Handler as SiteHandler
from edge.health import Health
from edge.ladders import Ladders
from edge.ledger import AT_REST
from edge.lifetimes import Lifetimes
from edge.listener import Listener
from edge.marks import Marks
from edge.master import Master
from edge.metrics import Exposition
from edge.origin.address import Address
from edge.origin.balance import Balance
from edge.origin.errors import DocrootFailed
from edge.origin.exchange import Client
from edge.origin.files import Docroot
from edge.origin.messages import OriginRequest
from edge.origin.pool import OriginPool
from edge.origin.probe import Prober
from edge.origins import CannotBuild, build_client, hosts_of
from edge.policy.forwarded import TrustedProxies
from edge.policy.looks import Looks
from edge.policy.negotiation import Negotiation
from edge.policy.steps import OffStep, Steps
from edge.policy.tags import PathTags
from edge.purging import Purging
from edge.ready import TURN_S
from edge.refresh import Refreshes
from edge.rendering import Derivatives, Made
from edge.renewal import Renewal
from edge.representation import Representation
from edge.residency import Residency
from edge.route import Routes
from edge.rows import (
    arrival_rows,
    bulletin_rows,
    folder_rows,
    lease_rows,
    metric_rows,
    purge_rows,
    shared_rows,
    staleness_rows,
    worker_rows,
)
from edge.seat import Message, Seat, Word
from edge.settings import addresses
from edge.settings.sections import Failures as FailuresSection
from edge.settings.sections import Input, Pictures
from edge.settings.sections import Ladder as LadderWhen
from edge.settings.sections import Origin as OriginSection
from edge.settings.sections import Site as SiteSection
from edge.shared import Exchanged, SharedCache
from edge.shelf import Shelf
from edge.site import Site, Sites
from edge.source import Found, Node, Sources
from edge.spellings import Spellings
from edge.spool import Spool
from edge.upgrades import Upgrades
from edge.urls.grammars import make_grammars
from resizer.errors import ResizeError
from resizer.evidence import Evidence
from resizer.formats import Format, InputOnly
from resizer.job import Limits
from resizer.pool import Pool, PoolSettings
from resizer.qualities import Qualities
from resizer.sandbox import SandboxMode
from resizer.version import encoder_version

log = logging.getLogger("halftone")

# Body size up to which a representation lives in the memory tier. Above it a file
# that is kept open is sent by sendfile, without a copy of ours.
MEMORY_CUT_OFF: Final = 64 * 1024
# Threads for file system calls that may wait for a disk; a spinning disk gains nothing from more.
DISK_THREADS: Final = 8
# Renders and fetches under way at once, beyond what the resizer's own queue bounds.
MAX_FLIGHTS: Final = 4096
# Longer than the slowest render and fetch together should take; beyond it clients are cut.
DRAIN_GRACE_S: Final = 30.0
# After INT, which asks to stop.
HASTY_GRACE_S: Final = 1.0
# Below the cache's folder, whose own folders are named by hexadecimal digits.
BARRED_FOLDER: Final = "barred"


class CannotStart(Exception):
    """The node cannot serve; the text says what to do."""


def serve(config: Config) -> int:
    """Run a node until a signal ends it. Returns the exit status."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.raiseExceptions = False  # a closed standard error must not stop a request
    return Master(config, work, slots=config.workers, environ=os.environ).run()


def work(config: Config, seat: Seat) -> int:
    """Be a worker until the master ends it, or is gone. Returns the exit status."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(App(config, seat).run())
    except CannotStart as error:
        seat.link.send(Word.FAILED, str(error))
        return 1


def fsck(config: Config, *, fix: bool) -> Mapping[str, object]:
    """Check a cache that no node uses; see reconcile.account(). Raises CannotStart where it cannot
    get at the index."""
    is_embedded = isinstance(config.cache.index, addresses.EmbeddedIndex)
    # Opening it would make one; without it the node asks for every original anew.
    is_lost = is_embedded and not os.path.exists(_index_path(config))
    index = None if is_lost else _make_index(config, random.Random())  # noqa: S311 - an epoch
    return asyncio.run(_check_at_rest(config, index, fix=fix))


async def _check_at_rest(config: Config, index: Index | None, *, fix: bool) -> Mapping[str, object]:
    folders = (config.cache.path, *config.cache.folders)
    remove = partial(remove_older, folders)
    if index is None:
        return account(await reconcile(folders, None, remove, fix=fix, rest=0.0))
    try:
        await index.start()
        await index.takedowns()  # now it is open, and nobody else's
        return account(await reconcile(folders, index, remove, fix=fix, rest=0.0))
    except CacheError as error:
        raise CannotStart(str(error)) from error
    finally:
        await index.stop()


def _make_index(config: Config, chance: random.Random) -> Index:
    where = config.cache.index
    if isinstance(where, addresses.EmbeddedIndex):
        return EmbeddedIndex(_index_path(config), clock=time.time, random=chance)
    # Not for a node without Redis: its library is a tenth of what a start takes.
    from cache.index.redis import RedisIndex

    return RedisIndex(where.url, clock=time.time, monotonic=time.monotonic, random=chance)


def _index_path(config: Config) -> str:
    return os.path.join(config.cache.path, "index.sqlite")


class App:
    def __init__(self, config: Config, seat: Seat) -> None:
        self._config = config
        self._seat = seat
        self._clock = Clock(time.time, time.monotonic)
        self._chance = random.Random()  # noqa: S311 - jitter and ids, nothing secret
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")
        self._residency = Residency(self._threads)
        self._listeners: list[Listener] = []  # the admin's is the last
        self._handler: SiteHandler | None = None
        self._may_go = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ends_at = float("inf")  # on the loop's clock
        self._is_released = False  # another worker takes the place of this one
        self._ended: frozenset[int] = frozenset()  # listeners that nobody takes over
        self._access: AccessLog | None = None
        self._clients: list[Client] = []
        self._probers: list[Prober] = []
        self._exposition: Exposition | None = None

    async def run(self) -> int:
        config = self._config
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._post)  # the last that happens: nothing is counted after it
            stack.callback(self._threads.shutdown)
            self._hear_orders(loop)
            stack.callback(self._stop_hearing, loop)
            index = self._build_index()
            try:
                folders = self._build_folders()
            except CacheError as error:
                raise CannotStart(f"cache: {error}") from error
            store, follower = self._build_store(index, folders)
            stack.push_async_callback(store.stop)
            if config.cache.scrub:
                scrubber = Scrubber(folders.disks, config.cache.scrub / self._seat.slots)
                scrubber.start()
                stack.push_async_callback(asyncio.to_thread, scrubber.stop)
            stack.push_async_callback(follower.stop)
            pool = self._build_pool()
            await self._start_part(pool.start(), "resizer")
            stack.push_async_callback(lambda: pool.stop(self._left_s()))
            log.info("resizer: %s", pool.sandbox_summary)
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
            stack.push_async_callback(lambda: sources.arrivals.stop(self._left_s()))
            stack.push_async_callback(lambda: source_flights.stop(self._left_s()))
            stack.push_async_callback(lambda: render_flights.stop(self._left_s()))
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
            )
            sites = self._build_sites()
            stack.push_async_callback(self._leave_origins)
            trusted = TrustedProxies(config.trusted_proxies, config.forwarded)
            lifetimes = Lifetimes(config.name, self._clock)
            deliverer = Deliverer(
                self._clock, f"halftone-{self._chance.getrandbits(96):024x}", config.name
            )
            shelf = Shelf(memory, self._threads, store.disk.touch)
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
                stack.push_async_callback(lambda: downstream.stop(self._left_s()))
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
            stack.push_async_callback(lambda: changes.stop(self._left_s()))
            shared_flights: Flights[Exchanged] = Flights(MAX_FLIGHTS)
            stack.push_async_callback(lambda: shared_flights.stop(self._left_s()))
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
            self._handler = handler
            self._garbage = Garbage(lambda: sum(handler.requests().values()))
            self._garbage.start()
            rows = list(
                metric_rows(
                    handler,
                    memory,
                    pool,
                    render_flights,
                    self._listeners,
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
            rows += worker_rows(index, self._stopping.is_set)
            rows += folder_rows(folders)
            rows += purge_rows(purging, downstream, spellings)
            rows += shared_rows(shared_cache)
            page = self._seat.page
            shared = bulletin_rows(self._seat.bulletin)
            exposition = Exposition(rows, shared, build_info(), page, self._posting_at)
            self._exposition = exposition
            health = Health(exposition.total, page.ledger, self._is_draining, self._clock)
            admin = Admin(
                exposition, health, self._clock, purging, self._build_fsck(index, folders)
            )

            self._seat.link.send(Word.PREPARED)
            await self._may_go.wait()
            if self._stopping.is_set():
                return 0
            await self._start_part(store.start(), "cache")
            await follower.start()
            if spellings is not None:
                spellings.start()
                stack.push_async_callback(spellings.stop)
            for prober in self._probers:
                prober.start()
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
                self._open(sock, handler, settings, loop)
            self._open(self._seat.stand.admin, admin, admin_settings, loop)
            ticker = loop.create_task(self._tick(index))
            turner = loop.create_task(self._turn(handler))
            self._post()
            self._seat.link.send(Word.READY)
            await self._stopping.wait()
            await self._leave(index)
            ticker.cancel()
            turner.cancel()
        return 0

    async def _leave(self, index: Index) -> None:
        """Before the parts stop: what came in is answered. Nobody waits for a ladder."""
        if self._handler is not None:
            await self._handler.ladders.stop()
        public, admin = self._listeners[:-1], self._listeners[-1]
        for number, listener in enumerate(public):
            if number in self._ended or not self._is_released:
                await accept_rest(listener)
            stop_accepting(listener)
        if self._is_released:
            stop_accepting(admin)
            if index.exclusive:
                # The successor's from here on. Requests of connections that are still here do
                # without: hits are hits, and what is rendered is stored though not recorded.
                await index.stop()
            self._seat.link.send(Word.RELEASED)
            cut = await drain(self._listeners, lambda: self._ends_at)
        else:
            # /readyz goes on saying that it drains.
            cut = await drain(public, lambda: self._ends_at)
            stop_accepting(admin)
            cut += await drain([admin], lambda: self._ends_at)
        if cut:
            log.warning("%d connections were cut at the end of the grace", cut)

    async def _start_part(self, starting: "asyncio.Future[None] | object", part: str) -> None:
        try:
            await starting  # type: ignore[misc]
        except (CacheError, ResizeError, OSError) as error:
            raise CannotStart(f"{part}: {error}") from error

    # Building

    def _build_index(self) -> Index:
        return _make_index(self._config, self._chance)

    def _build_fsck(self, index: Index, folders: Folders) -> Fsck:
        cache = self._config.cache

        async def check(fix: bool) -> Mapping[str, object]:
            return account(
                await reconcile(
                    (cache.path, *cache.folders),
                    index,
                    folders.remove_older,
                    fix=fix,
                    is_stopping=self._stopping.is_set,
                )
            )

        return check

    def _is_strict(self, index: Index) -> bool:
        """Who shares the index with nobody hears of every purge at once."""
        return self._config.cache.strict_purge and not index.exclusive

    def _build_store(self, index: Index, folders: Folders) -> tuple[Store, Follower]:
        orders = Orders()
        store = Store(
            folders,
            index,
            clock=time.time,
            threads=DISK_THREADS,
            orders=orders,
        )
        journal = Journal(
            os.path.join(self._config.cache.path, f"journal-{self._seat.slot}"), time.time
        )
        follower = Follower(index, store, orders, journal, monotonic=time.monotonic)
        store.follows = follower.is_current
        return store, follower

    def _build_folders(self) -> Folders:
        cache = self._config.cache
        paths = (cache.path, *cache.folders)

        def open_disk(path: str) -> Disk:
            return Disk(
                path,
                size=cache.size // len(paths),
                inodes=cache.inodes // len(paths),
                originals=cache.originals,
                part=self._seat.slot,
                parts=self._seat.slots,
                min_free=cache.min_free,
                durability=cache.durability,
                clock=time.monotonic,
                chance=self._chance.random,
            )

        return Folders(paths, open_disk)

    def _build_downstream(self) -> Downstream | None:
        caches = self._config.downstream
        if not caches:
            return None
        return Downstream(
            [make_cache(cache, time.monotonic, self._chance) for cache in caches],
            chance=self._chance,
            again_s=self._config.downstream_again,
        )

    def _build_pool(self) -> Pool:
        resizer = self._config.resizer
        sizes = [site.limits.max_source_bytes for site in self._config.sites]
        limits = Limits(max_pixels=resizer.max_pixels, max_bytes=max(sizes))
        return Pool(
            PoolSettings(
                processes=resizer.processes or os.cpu_count() or 1,
                deadline_s=resizer.deadline,
                queue=resizer.queue,
                limits=limits,
                sandbox=SandboxMode(resizer.sandbox.value),
            ),
            clock=time.monotonic,
            evidence=Evidence(
                os.path.join(self._config.cache.path, BARRED_FOLDER),
                resizer.keep_barred,
                resizer.keep_barred_bytes,
            ),
        )

    def _build_sites(self) -> Sites:
        origins = {origin.name: self._build_origin(origin) for origin in self._config.origins}
        by_host: dict[str, Site] = {}
        default: Site | None = None
        for section in self._config.sites:
            site = _build_site(section, origins)
            for host in section.hosts:
                by_host[host] = site
            if not section.hosts:
                default = site
        return Sites(by_host, default)

    def _build_origin(self, section: OriginSection) -> OriginPool:
        logger = logging.getLogger("halftone.origin")
        try:
            client = build_client(
                section, threads=self._threads, wall=lambda: self._clock.wall, logger=logger
            )
        except CannotBuild as error:
            raise CannotStart(str(error)) from error
        self._clients.append(client)
        origin = OriginPool(
            section.name,
            hosts_of(section),
            client,
            clock=time.monotonic,
            chance=self._chance.random,
            logger=logger,
            balance=Balance(section.balance.value),
            backups=[Address.parse(str(host)) for host in section.backup],
            weights={Address.parse(name): weight for name, weight in section.weights},
            max_per_host=section.max_per_host,
        )
        if section.probe is not None:
            prober = Prober(
                origin,
                client,
                _probe_request(section.probe),
                interval_s=section.probe_interval,
                timeout_s=section.probe_timeout,
                chance=self._chance.random,
                logger=logger,
            )
            self._probers.append(prober)
        return origin

    async def _leave_origins(self) -> None:
        for prober in self._probers:
            await prober.stop()
        for client in self._clients:
            await client.aclose()

    # Listening

    def _open(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: ConnectionSettings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        listener = Listener(sock, handler, settings, self._clock, loop, self._residency)
        self._listeners.append(listener)
        listener.start()

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
                self._garbage.tick()
            for listener in self._listeners:
                try:
                    listener.tick()
                except Exception:  # the clock must go on: Date and every lifetime hang on it
                    log.exception("a listener's tick failed")
            self._post()
            self._seat.link.send(Word.ALIVE)
            if index.is_degraded:  # within its budget, 50 ms
                await index.probe()

    def _post(self) -> None:
        if self._exposition is not None:
            self._exposition.post()

    def _posting_at(self) -> float:
        return AT_REST if self._stopping.is_set() else self._clock.monotonic

    # Orders: from the master, or by signals from whoever knows this process

    def _hear_orders(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._seat.link.fileno(), self._hear)
        loop.add_signal_handler(signal.SIGTERM, self._end_within, DRAIN_GRACE_S)
        loop.add_signal_handler(signal.SIGQUIT, self._end_within, DRAIN_GRACE_S)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)

    def _stop_hearing(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._seat.link.fileno())
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the end is near already

    def _hear(self) -> None:
        messages, is_there = self._seat.link.receive()
        for message in messages:
            self._obey(message)
        if not is_there:  # the master is gone; the kernel should have ended us
            asyncio.get_running_loop().remove_reader(self._seat.link.fileno())
            self._end_within(HASTY_GRACE_S)

    def _obey(self, message: Message) -> None:
        match message.word:
            case Word.GO:
                self._may_go.set()
            case Word.RELEASE:
                self._is_released = not self._stopping.is_set()
                self._ended = frozenset(map(int, message.detail.split()))
                self._end_within(DRAIN_GRACE_S)
            case Word.DRAIN:
                self._end_within(DRAIN_GRACE_S)
            case Word.HASTEN:
                self._end_within(HASTY_GRACE_S)
            case Word.REOPEN:
                self._reopen()
            case _:
                pass

    def _end_within(self, grace_s: float) -> None:
        self._ends_at = min(self._ends_at, asyncio.get_running_loop().time() + grace_s)
        self._stopping.set()
        self._may_go.set()

    def _left_s(self) -> float:
        """Of the grace; a start that failed has nothing to wait for."""
        left_s = self._ends_at - asyncio.get_running_loop().time()
        return max(left_s, 0.0) if self._stopping.is_set() else 0.0

    def _reopen(self) -> None:
        if self._access is not None:
            try:
                self._access.reopen()
            except OSError as error:
                log.error("access log: %s", error)

    def _is_draining(self) -> bool:
        """The node, that is: whoever was released has others in its place."""
        return self._stopping.is_set() and not self._is_released


def _node_of(name: str, sock: socket.socket) -> Node:
    match sock.getsockname():
        case (str() as host, int() as port, *_):
            return Node(name, host, port)
        case _:
            return Node(name, "127.0.0.1", 0)


def _probe_request(path: str) -> OriginRequest:
    return OriginRequest(
        method="GET",
        target=path,
        path=path,
        query="",
        headers=(("User-Agent", "halftone-probe"),),
        host="localhost",
        scheme="http",
        remote_addr="127.0.0.1",
        remote_port=0,
        server_addr="127.0.0.1",
        server_port=80,
        server_protocol="HTTP/1.1",
    )


def _build_site(section: SiteSection, origins: dict[str, OriginPool]) -> Site:
    docroot = None
    if section.root is not None:
        try:
            docroot = Docroot(section.root, symlinks=section.symlinks)
        except DocrootFailed as error:
            raise CannotStart(str(error)) from error
    max_age_s = int(section.expire.max_age)
    control = f"public, max-age={max_age_s}"
    return Site(
        name=section.name,
        hosts=section.hosts,
        docroot=docroot,
        origin=None if section.origin is None else origins[section.origin],
        grammars=make_grammars([grammar.value for grammar in section.grammars]),
        extensions=section.extensions,
        prefix=section.prefix,
        steps=Steps(section.steps, OffStep(section.off_step.value)),
        max_age_s=max_age_s,
        cache_control=f"{control}, immutable" if section.expire.immutable else control,
        max_source_bytes=section.limits.max_source_bytes,
        negotiation=Negotiation(
            formats=frozenset(Format(name.value) for name in section.negotiate.formats),
            save_data=section.negotiate.save_data,
            client_hints=section.negotiate.client_hints,
            upgrade=section.negotiate.upgrade,
            widths=section.steps,
        ),
        has_ladders=section.ladder is LadderWhen.ON_FIRST_MISS,
        looks=_build_looks(section.pictures),
        tags=PathTags(section.tags),
        purge_from=section.purge_from,
        max_body_bytes=section.limits.max_body_bytes,
    )


def _times_to_live(section: FailuresSection) -> TimesToLive:
    return TimesToLive(
        not_found=section.not_found,
        corrupt=section.corrupt,
        too_large=section.too_large,
        timeout=section.timeout,
        crashed=section.crashed,
    )


# In the order of the formats' names, as Qualities has them.
QUALITY_FIELDS: Final = (
    (Format.AVIF, "quality_avif"),
    (Format.JPEG, "quality_jpeg"),
    (Format.WEBP, "quality_webp"),
)
INPUTS: Final = {Input.TIFF: InputOnly.TIFF, Input.JPEG2000: InputOnly.JPEG2000}


def _build_looks(section: Pictures) -> Looks:
    asked = ((name, getattr(section, field)) for name, field in QUALITY_FIELDS)
    return Looks(
        sharpen=section.sharpen,
        progressive=section.progressive,
        qualities=Qualities(tuple((name, most) for name, most in asked if most is not None)),
        inputs=tuple(INPUTS[name] for name in section.inputs),
        marks=section.watermarks,
    )


def fields_minded(sites: Sites) -> frozenset[bytes]:
    """Of the fields that say nothing elsewhere, those that a site looks at."""
    is_minded = any(site.negotiation.save_data for site in sites.all())
    return frozenset({b"save-data"}) if is_minded else frozenset()


def build_info() -> dict[str, str]:
    """Labels of halftone_build_info."""
    return {
        "version": importlib.metadata.version("halftone"),
        "python": platform.python_version(),
        "pillow": importlib.metadata.version("pillow"),
        "uvloop": importlib.metadata.version("uvloop"),
    }
