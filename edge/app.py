"""The composition root: builds the parts from the configuration, starts and stops them in order.

The only file that knows concrete classes, the real clock, the real randomness and the environment.
Start: index, store, resizers, listeners, then the ready line. Stop: listeners drain, flights land,
resizers end, store and index close, the access log is flushed.
"""

import asyncio
import contextlib
import dataclasses
import errno
import importlib.metadata
import logging
import os
import platform
import random
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvloop

from cache.disk import Disk
from cache.errors import CacheError
from cache.flight import Flights
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index
from cache.index.redis import RedisIndex
from cache.memory import Memory
from cache.store import Store
from edge.access import FORMS, AccessLog
from edge.admin import Admin
from edge.clock import Clock
from edge.config import Config
from edge.connection import ConnectionSettings, Handler, Listener, listen
from edge.deliver import Deliverer
from edge.descriptors import allow_connections
from edge.handler import Handler as SiteHandler
from edge.handler import Made
from edge.metrics import Counter, Exposition, Gauge, Row, Samples, single
from edge.origin.address import Address
from edge.origin.errors import DocrootFailed
from edge.origin.exchange import Deadlines
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.params import Script
from edge.origin.files import Docroot
from edge.origin.pool import Balance, OriginPool
from edge.policy.forwarded import TrustedProxies
from edge.policy.steps import OffStep, Steps
from edge.representation import Representation
from edge.settings import addresses
from edge.settings.sections import Origin as OriginSection
from edge.settings.sections import Site as SiteSection
from edge.site import Site, Sites
from edge.source import Found, Node, Sources
from edge.spool import Spool
from edge.urls.grammars import make_grammars
from resizer.errors import ResizeError
from resizer.job import Limits
from resizer.pool import Pool, PoolSettings
from resizer.sandbox import SandboxMode
from resizer.version import encoder_version

log = logging.getLogger("halftone")

# Body size up to which a representation lives in the memory tier: thumbnails do, originals do not.
MEMORY_CUT_OFF: Final = 128 * 1024
# Answers kept in one piece, beside the memory tier that they are copied from.
READY_BYTES: Final = 64 * 1024 * 1024
# Threads for file system calls that may wait for a disk; a spinning disk gains nothing from more.
DISK_THREADS: Final = 8
# Renders and fetches under way at once, beyond what the resizer's own queue bounds.
MAX_FLIGHTS: Final = 4096
# Longer than the slowest render and fetch together should take; beyond it clients are cut.
DRAIN_GRACE_S: Final = 30.0
# Counters of the resizer's Stats that halftone_renders_total tells apart.
RENDER_RESULTS: Final = (
    "rendered", "unsupported", "corrupt", "too_large", "impossible", "transfer_failed", "late",
    "crashed", "withdrawn", "stopped", "refused_full", "refused_barred", "refused_stopped",
)  # fmt: skip


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
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(App(config).run())
    except CannotStart as error:
        print(f"halftone: {error}", file=sys.stderr)  # noqa: T201 - before any log reader exists
        return 1


class App:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = Clock(time.time, time.monotonic)
        self._chance = random.Random()  # noqa: S311 - jitter and ids, nothing secret
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")
        self._listeners: list[Listener] = []
        self._handler: SiteHandler | None = None
        self._stopping = asyncio.Event()
        self._is_draining = False
        self._drain_grace_s = DRAIN_GRACE_S

    async def run(self) -> int:
        config = self._config
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown)
            index = self._build_index()
            try:
                store = self._build_store(index)
            except CacheError as error:
                raise CannotStart(f"cache: {error}") from error
            await self._start_part(store.start(), "cache")
            stack.push_async_callback(store.stop)
            pool = self._build_pool()
            await self._start_part(pool.start(), "resizer")
            stack.push_async_callback(pool.stop, DRAIN_GRACE_S)
            log.info("resizer: %s", pool.sandbox_summary)
            access = None
            if config.log.access != "off":
                access = AccessLog(config.log.access, FORMS[config.log.format.value]())
                try:
                    access.start(loop)
                except OSError as error:
                    raise CannotStart(f"access log {config.log.access}: {error}") from error
                stack.callback(access.stop)

            sockets = [self._bind(address) for address in config.listen]
            admin_socket = self._bind(config.admin)
            node = _node_of(config.name, sockets[0])
            source_flights: Flights[Found] = Flights(MAX_FLIGHTS)
            render_flights: Flights[Made] = Flights(MAX_FLIGHTS)
            stack.push_async_callback(source_flights.stop, DRAIN_GRACE_S)
            stack.push_async_callback(render_flights.stop, DRAIN_GRACE_S)
            memory: Memory[Representation] = Memory(config.cache.memory, MEMORY_CUT_OFF)
            spool = Spool(config.cache.path)
            sources = Sources(store, self._clock, self._threads, source_flights, node, spool)
            sites = self._build_sites()
            trusted = TrustedProxies(config.trusted_proxies)
            handler = SiteHandler(
                name=config.name,
                sites=sites,
                sources=sources,
                store=store,
                memory=memory,
                flights=render_flights,
                pool=pool,
                encoder=encoder_version(),
                deliverer=Deliverer(
                    self._clock, f"halftone-{self._chance.getrandbits(96):024x}", config.name
                ),
                access=access,
                clock=self._clock,
                disk_threads=self._threads,
                chance=self._chance,
                ready_bytes=min(READY_BYTES, config.cache.memory // 4),
                trusted=trusted,
            )
            self._handler = handler
            rows = list(metric_rows(handler, memory, pool, render_flights, self._listeners, sites))
            admin = Admin(Exposition(rows, build_info()), self._problems, self._clock)
            settings = ConnectionSettings(
                header_s=config.connection.header,
                idle_s=config.connection.idle,
                send_s=config.connection.send,
                max_connections=allow_connections(config.connection.max_connections),
                proxies=trusted if config.connection.proxy_protocol else None,
            )
            admin_settings = dataclasses.replace(settings, proxies=None)
            for sock in sockets:
                self._open(sock, handler, settings, loop)
            self._open(admin_socket, admin, admin_settings, loop)
            self._handle_signals(loop, access)
            ticker = loop.create_task(self._tick())
            self._say_ready()
            await self._stopping.wait()
            self._is_draining = True
            await asyncio.gather(*(one.drain(self._drain_grace_s) for one in self._listeners))
            ticker.cancel()
        return 0

    async def _start_part(self, starting: "asyncio.Future[None] | object", part: str) -> None:
        try:
            await starting  # type: ignore[misc]
        except (CacheError, ResizeError, OSError) as error:
            raise CannotStart(f"{part}: {error}") from error

    # Building

    def _build_index(self) -> Index:
        where = self._config.cache.index
        if isinstance(where, addresses.RedisIndex):
            return RedisIndex(
                where.url, clock=time.time, monotonic=time.monotonic, random=self._chance
            )
        path = os.path.join(self._config.cache.path, "index.sqlite")
        return EmbeddedIndex(path, clock=time.time, random=self._chance)

    def _build_store(self, index: Index) -> Store:
        cache = self._config.cache
        disk = Disk(cache.path, size=cache.size, inodes=cache.inodes)
        return Store(disk, index, clock=time.time, threads=DISK_THREADS)

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
        deadlines = Deadlines(
            connect_s=section.connect_timeout,
            first_byte_s=section.timeout,
            progress_s=section.timeout,
        )
        script = Script(
            section.script_filename, document_root=os.path.dirname(section.script_filename)
        )
        return OriginPool(
            section.name,
            [Address.parse(str(host)) for host in section.hosts],
            FastCGIClient(script, deadlines, logger),
            clock=time.monotonic,
            jitter=self._chance.random,
            logger=logger,
            balance=Balance(section.balance.value),
        )

    # Listening

    def _bind(self, address: addresses.Address) -> socket.socket:
        where: tuple[str, int] | str
        if isinstance(address, addresses.UnixAddress):
            where = address.path
            _unlink_dead_socket(where)
        else:
            where = (address.host, address.port)
        try:
            return listen(where)
        except OSError as error:
            hint = " (is another node running?)" if error.errno == errno.EADDRINUSE else ""
            raise CannotStart(f"cannot listen on {address}: {error.strerror}{hint}") from error

    def _open(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: ConnectionSettings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        listener = Listener(sock, handler, settings, self._clock, loop)
        self._listeners.append(listener)
        listener.start()

    def _say_ready(self) -> None:
        """The one line that a script may wait for; DESIGN fixes its form."""
        public, admin = self._listeners[0].address, self._listeners[-1].address
        print(  # noqa: T201
            f"halftone: listening on http://{public} admin http://{admin}",
            file=sys.stderr,
            flush=True,
        )

    async def _tick(self) -> None:
        """Once a second: the clock, then what is over its time."""
        while True:
            await asyncio.sleep(1.0 - time.time() % 1.0)
            self._clock.tick()
            if self._handler is not None:
                self._handler.tick()
            for listener in self._listeners:
                try:
                    listener.tick()
                except Exception:  # the clock must go on: Date and every lifetime hang on it
                    log.exception("a listener's tick failed")

    def _handle_signals(self, loop: asyncio.AbstractEventLoop, access: AccessLog | None) -> None:
        def drain() -> None:
            self._stopping.set()

        def interrupt() -> None:
            if self._stopping.is_set():
                for listener in self._listeners:
                    for connection in tuple(listener.connections):
                        connection.abort()
            self._drain_grace_s = 1.0
            self._stopping.set()

        def reopen() -> None:
            if access is not None:
                try:
                    access.reopen()
                except OSError as error:
                    log.error("access log: %s", error)

        loop.add_signal_handler(signal.SIGTERM, drain)
        loop.add_signal_handler(signal.SIGQUIT, drain)
        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGUSR1, reopen)

    def _problems(self) -> list[str]:
        return ["draining"] if self._is_draining else []


def _unlink_dead_socket(path: str) -> None:
    """What a node that was killed left behind; never a socket that somebody answers on, and never
    what is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        return  # bind() will say what is wrong


def _node_of(name: str, sock: socket.socket) -> Node:
    match sock.getsockname():
        case (str() as host, int() as port, *_):
            return Node(name, host, port)
        case _:
            return Node(name, "127.0.0.1", 0)


def _build_site(section: SiteSection, origins: dict[str, OriginPool]) -> Site:
    docroot = None
    if section.root is not None:
        try:
            docroot = Docroot(section.root)
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
    )


def build_info() -> dict[str, str]:
    """Labels of halftone_build_info."""
    return {
        "version": importlib.metadata.version("halftone"),
        "python": platform.python_version(),
        "pillow": importlib.metadata.version("pillow"),
        "uvloop": importlib.metadata.version("uvloop"),
    }


def metric_rows(
    handler: SiteHandler,
    memory: Memory[Representation],
    pool: Pool,
    flights: Flights[Made],
    listeners: list[Listener],
    sites: Sites,
) -> Iterator[Row]:
    """Which number of which part stands under which name."""
    own = handler.stats

    def origin_results() -> Samples:
        pools = {id(site.origin): site.origin for site in sites.all() if site.origin is not None}
        for origin in pools.values():
            totals: dict[str, int] = {}
            for host in origin.hosts:
                for result, count in host.stats.results.items():
                    totals[result.value] = totals.get(result.value, 0) + count
            for name, count in totals.items():
                yield (origin.name, name), count

    yield Counter(
        "halftone_requests",
        "Responses on the public listeners, by status.",
        ("status",),
        lambda: (((str(status),), count) for status, count in handler.requests().items()),
    )
    yield Counter(
        "halftone_response_body_bytes",
        "Body bytes sent on the public listeners.",
        (),
        single(lambda: own.sent_bytes + handler.ready.stats.body_bytes),
    )
    yield Counter(
        "halftone_cache_hits",
        "Answers from what was kept, by tier.",
        ("tier",),
        lambda: (
            (("memory",), own.hits_memory + handler.ready.stats.hits),
            (("disk",), own.hits_disk),
        ),
    )
    yield Counter(
        "halftone_cache_misses",
        "Derivatives that had to be made, or waited for.",
        (),
        single(lambda: own.misses),
    )
    yield Counter(
        "halftone_flight_joins",
        "Requests that waited for another's render of the same picture.",
        (),
        single(lambda: flights.stats.joined),
    )
    yield Counter(
        "halftone_renders",
        "Jobs of the resizer, by result.",
        ("result",),
        lambda: (((name,), getattr(pool.stats, name)) for name in RENDER_RESULTS),
    )
    yield Counter(
        "halftone_origin_fetches",
        "Exchanges with origins, by name and result.",
        ("origin", "result"),
        origin_results,
    )
    yield Gauge(
        "halftone_connections",
        "Open client connections.",
        (),
        single(lambda: sum(one.stats.open for one in listeners)),
    )
    yield Gauge(
        "halftone_cache_memory_bytes", "Memory tier, in bytes.", (), single(lambda: memory.used)
    )
