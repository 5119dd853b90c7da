"""A small farm in one process, for properties: real stores, indexes, sources and handlers under a
clock, an origin and a renderer of the test.

Every body says which version of which picture it is, so what was sent can be judged by itself. The
renderer writes the bytes of its source behind the name of the variant: a derivative of a mixture
would show it.
"""

import asyncio
import dataclasses
import os
import random
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cache.disk import Disk
from cache.errors import IndexUnavailable
from cache.flight import Flights
from cache.follow import Follower
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index
from cache.index.redis import RedisIndex
from cache.journal import Journal
from cache.memory import Memory
from cache.orders import Act, Order, Orders, Scope
from cache.purge import Outcome, Purger
from cache.store import Store
from edge.answers import Writer
from edge.changes import Changes
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.failures import Failures, TimesToLive
from edge.fetching import Node
from edge.handler import Handler
from edge.http.body import FileSlice
from edge.http.messages import Request, Response
from edge.ladders import Ladders
from edge.lifetimes import Lifetimes
from edge.marks import Marks
from edge.origin.errors import OriginRefused
from edge.origin.files import Docroot
from edge.origin.messages import OriginRequest
from edge.policy.forwarded import TrustedProxies
from edge.policy.steps import OffStep, Steps
from edge.policy.tags import PathTags
from edge.ready import HOLDS
from edge.refresh import Refreshes
from edge.rendering import Derivatives, Made
from edge.renewal import Renewal
from edge.representation import Representation
from edge.route import Routes
from edge.shared import Exchanged, SharedCache
from edge.shelf import Shelf
from edge.site import Site, Sites
from edge.source import Found
from edge.sources import Sources
from edge.spool import Spool
from edge.upgrades import Upgrades
from edge.urls.grammars import make_grammars
from resizer.formats import Format
from resizer.job import Limits, Result
from resizer.pool import PoolSettings
from resizer.transform import Transform
from tests.edge.test_record import Answer
from tests.peers.redis import RedisServer
from tests.waiting import until

SITE = "*"
MAX_AGE_S = 60
# Pictures of the origin, and how it lets them be kept. The validators differ, too.
CONTROLS = {
    "/plain.jpg": f"max-age={MAX_AGE_S}",
    "/must.jpg": f"max-age={MAX_AGE_S}, must-revalidate",
    "/while.jpg": f"max-age={MAX_AGE_S}, stale-while-revalidate=30",
    "/pets/cat.jpg": f"max-age={MAX_AGE_S}",
}
TAGS = {"/plain.jpg": "red", "/must.jpg": "red blue", "/while.jpg": "blue"}
FILE = "/pets/file.jpg"  # in the docroot
PATHS = (*CONTROLS, FILE)
WIDTHS = (None, 40, 80)


@dataclasses.dataclass(frozen=True)
class Page:
    """What is no original for everybody. is_varied: there is one for each kind of client."""

    control: str
    status: int = 200
    tags: str = ""
    is_varied: bool = True
    has_etag: bool = False
    location: str = ""


PAGES = {
    "/page": Page(f"max-age={MAX_AGE_S}", tags="red"),
    "/strict": Page(f"max-age={MAX_AGE_S}, must-revalidate", tags="red blue", has_etag=True),
    "/gone": Page(f"max-age={MAX_AGE_S}", status=404, tags="blue", is_varied=False),
    "/pets/moved": Page(f"max-age={MAX_AGE_S}", status=301, location="/page"),
    "/own": Page("no-store"),
}
KINDS = (None, "a", "b")
# A POST to the first changes the second, too, and names it.
FORM, CHANGED_BY_FORM = "/own", "/page"


def original(path: str, version: int) -> bytes:
    return f"<{path} v{version}>".encode() * (50 + 7 * version % 13)


def page(path: str, version: int, kind: str | None) -> bytes:
    of = f" for {kind}" if kind is not None and PAGES[path].is_varied else ""
    return f"<{path} v{version}>{of}".encode() * (20 + 7 * version % 13)


def rendered(variant: str, source: bytes) -> bytes:
    return b"[%b of %b]" % (variant.encode(), source)


def version_in(body: bytes) -> int:
    match = re.search(rb"<[^ ]+ v(\d+)>", body)
    assert match is not None, body[:80]
    return int(match[1])


class Origin:
    """One for the whole farm."""

    name = "app"

    def __init__(self) -> None:
        self.versions = dict.fromkeys((*PATHS, *PAGES), 1)
        self.is_up = True
        self.bodies = 0  # whole answers that were sent
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.now = 0

    async def fetch(self, request: OriginRequest) -> Answer:
        if request.method == "POST":
            return self._post(request)
        # What it says was true when it was asked: the hold is between reading and answering.
        version = self.versions.get(request.path)
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if not self.is_up:
            raise OriginRefused("down")
        if version is None:
            return Answer((), status=404, content_length=0)
        fields = dict(request.headers)
        if request.path in PAGES:
            return self._page(request.path, version, fields)
        tag = f'"{version}"'
        headers = [
            ("content-type", "image/jpeg"),
            ("cache-control", CONTROLS[request.path]),
            ("surrogate-key", TAGS.get(request.path, "")),
        ]
        if request.path != "/while.jpg":  # whose validator is the hash of its bytes
            headers.append(("etag", tag))
        if fields.get("if-none-match") == tag:
            return Answer(tuple(headers), status=304, content_length=None)
        self.bodies += 1
        body = original(request.path, version)
        return Answer(tuple(headers), content_length=len(body), pieces=[body[:100], body[100:]])

    def _page(self, path: str, version: int, fields: dict[str, str]) -> Answer:
        of = PAGES[path]
        headers = [("content-type", "text/html"), ("cache-control", of.control)]
        kind = fields.get("x-kind")
        tag = f'"{version} {kind}"'
        if of.is_varied:
            headers.append(("vary", "X-Kind"))
        if of.tags:
            headers.append(("surrogate-key", of.tags))
        if of.location:
            headers.append(("location", of.location))
        if of.has_etag:
            headers.append(("etag", tag))
            if fields.get("if-none-match") == tag:
                return Answer(tuple(headers), status=304, content_length=None)
        self.bodies += 1
        body = page(path, version, kind)
        return Answer(tuple(headers), status=of.status, content_length=len(body), pieces=[body])

    def _post(self, request: OriginRequest) -> Answer:
        """What it is about changes, and is said to have."""
        if not self.is_up:
            raise OriginRefused("down")
        self.versions[request.path] += 1
        if request.path != FORM:
            return Answer((), status=204, content_length=None)
        self.versions[CHANGED_BY_FORM] += 1
        headers = (("location", CHANGED_BY_FORM),)
        return Answer(headers, status=303, content_length=0)


class Renderer:
    """In the place of the resizer's pool."""

    def __init__(self) -> None:
        self.settings = PoolSettings(
            processes=1, deadline_s=1.0, queue=1, limits=Limits(max_pixels=1000, max_bytes=10**6)
        )
        self.renders = 0

    async def run(self, source_fd: int, sink_fd: int, transform: Transform, **given: Any) -> Result:
        self.renders += 1
        source = os.pread(source_fd, given["length"], given["offset"])
        await asyncio.sleep(0)
        body = rendered(transform.canonical(), source)
        os.write(sink_fd, body)
        return Result("image/jpeg", len(body), 40, 40, 80, 80, Format.JPEG, 1.0, 5.0)


class Farm:
    """What its nodes share."""

    def __init__(self, folder: Path, server: RedisServer | None) -> None:
        self.folder = folder
        self.server = server
        self.now = 1_795_000_000.0
        self.origin = Origin()
        self.renderer = Renderer()
        self.threads = ThreadPoolExecutor(2)
        self.has_docroot = True  # or the origin has everything
        self.docroot = folder / "docroot"
        self.docroot.mkdir()
        (self.docroot / "pets").mkdir()
        self.is_index_down = False
        self.chance = random.Random(1)  # one for all: an epoch is never drawn twice
        self.publish(FILE)

    def publish(self, path: str) -> None:
        """A new version, of an origin or a file."""
        self.origin.versions[path] += 1
        if path == FILE:
            aside = self.docroot / "aside"
            aside.write_bytes(original(path, self.origin.versions[path]))
            aside.replace(self.docroot / FILE[1:])

    def make_index(self, folder: Path) -> Index:
        chance = self.chance
        if self.server is None:
            index: Any = EmbeddedIndex(
                str(folder / "index.sqlite"),
                clock=lambda: self.now,
                random=chance,
                budget_s=10.0,
            )
        else:
            index = RedisIndex(
                self.server.url,
                clock=lambda: self.now,
                monotonic=lambda: self.now,
                random=chance,
                budget_s=5.0,
            )
        call = index._call

        async def maybe_call(*given: Any, **named: Any) -> Any:
            if self.is_index_down:
                raise IndexUnavailable("down, for the test")
            return await call(*given, **named)

        now = index.publish_now

        def maybe_now(*given: Any) -> bool | None:
            if self.is_index_down:
                raise IndexUnavailable("down, for the test")
            answer: bool | None = now(*given)
            return answer

        index._call = maybe_call
        index.publish_now = maybe_now
        return index  # type: ignore[no-any-return]


class FarmNode:
    """As edge/app.py puts one together, without sockets and processes."""

    def __init__(self, farm: Farm, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.farm = farm
        self.folder = folder
        self.clock = Clock(lambda: farm.now, lambda: farm.now)
        self.index = farm.make_index(folder)
        orders = Orders()
        self.disk = Disk(str(folder / "cache"), 4_000_000, 1000)
        self.store = Store(self.disk, self.index, lambda: farm.now, 2, orders=orders)
        self.follower = Follower(
            self.index,
            self.store,
            orders,
            Journal(str(folder / "journal"), lambda: farm.now),
            monotonic=lambda: farm.now,
        )
        self.store.follows = self.follower.is_current
        self.purger = Purger(self.index, self.store, self.follower)
        self.memory: Memory[Representation] = Memory(200_000, 64 * 1024)
        self.flights: Flights[Found] = Flights()
        self.render_flights: Flights[Made] = Flights()
        self.refreshes: Refreshes[Found] = Refreshes()
        # What is remembered of failures is tested by itself; here it would hide what is asked.
        times = TimesToLive(0, 0, 0, 0, 0)
        failures = Failures(self.store.put_failure, self.clock, random.Random(1).random, times)
        sources = Sources(
            self.store,
            self.clock,
            farm.threads,
            self.flights,
            Node("edge1", "127.0.0.1", 80),
            Spool(str(folder / "cache")),
            failures,
            self.refreshes,
        )
        site = Site(
            name=SITE,
            hosts=(),
            docroot=Docroot(str(farm.docroot)) if farm.has_docroot else None,
            origin=farm.origin,  # type: ignore[arg-type]
            grammars=make_grammars(["query"]),
            extensions=(),
            prefix="",
            steps=Steps((), OffStep.ALLOW),
            max_age_s=MAX_AGE_S,
            cache_control=f"public, max-age={MAX_AGE_S}",
            max_source_bytes=1_000_000,
            tags=PathTags((("blue", ("/pets/",)),)),
        )
        self.site = site
        shelf = Shelf(self.memory, farm.threads)
        marks = Marks(self.clock, farm.threads)
        self.derivatives = Derivatives(
            sources=sources,
            store=self.store,
            shelf=shelf,
            flights=self.render_flights,
            pool=farm.renderer,  # type: ignore[arg-type]
            encoder="test",
            clock=self.clock,
            disk_threads=farm.threads,
            marks=marks,
            failures=failures,
        )
        lifetimes = Lifetimes("edge1", self.clock)
        deliverer = Deliverer(self.clock, "boundary", "edge1")
        self.changes = Changes(
            purger=self.purger,
            is_known=sources.is_known,
            part=sources.part,
            clock=self.clock,
        )
        self.shared_flights: Flights[Exchanged] = Flights()
        self.shared_refreshes: Refreshes[Exchanged] = Refreshes()
        self.shared = SharedCache(
            name="edge1",
            store=self.store,
            sources=sources,
            spool=Spool(str(folder / "cache")),
            disk_threads=farm.threads,
            clock=self.clock,
            deliverer=deliverer,
            writer=Writer(self.clock, "boundary", "edge1"),
            changes=self.changes,
            flights=self.shared_flights,
            refreshes=self.shared_refreshes,
        )
        self.handler = Handler(
            name="edge1",
            routes=Routes(Sites({}, site)),
            sources=sources,
            shelf=shelf,
            derivatives=self.derivatives,
            ladders=Ladders(sources, self.derivatives, farm.renderer),  # type: ignore[arg-type]
            renewal=Renewal(
                limit_bytes=200_000,
                access=None,
                sources=sources,
                shelf=shelf,
                lifetimes=lifetimes,
                deliverer=deliverer,
                marks=marks,
                clock=self.clock,
            ),
            lifetimes=lifetimes,
            deliverer=deliverer,
            marks=marks,
            access=None,
            clock=self.clock,
            chance=random.Random(1),
            trusted=TrustedProxies(()),
            upgrades=Upgrades(self.derivatives.prepare, lambda: farm.now),
            shared=self.shared,
        )
        self.follower.obey, self.follower.forget = self.handler.obey, self.handler.forget

    async def start(self) -> None:
        await self.store.start()
        await self.follower.start()

    async def stop(self) -> None:
        await self.refreshes.stop()
        await self.shared_refreshes.stop()
        await self.changes.stop(1)
        await self.shared_flights.stop(1)
        await self.flights.stop(1)
        await self.render_flights.stop(1)
        await self.follower.stop()
        await self.store.stop()

    def tick(self) -> None:
        """At least a second has gone by."""
        self.clock.tick()
        self.handler.tick()
        for _ in range(HOLDS):
            self.handler.ready.next_turn()

    async def get(self, path: str, width: int | None, **fields: str) -> "Said":
        """A GET as a connection hands it on: at once where that is possible, else in a task."""
        target = path if width is None else f"{path}?w={width}"
        head = f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        peer = self.handler.peer("127.0.0.1")
        named = {name.replace("_", "-").encode(): text.encode() for name, text in fields.items()}
        request = Request(b"GET", target.encode(), 1, {b"host": b"h", **named}, b"h", True)
        if not fields:
            self.handler.learn(head)
            found = self.handler.find(head, peer)
            if isinstance(found, bytes):
                raw_head, _, body = found.partition(b"\r\n\r\n")
                return Said.of(200, raw_head + b"\r\n", body)
            if isinstance(found, Response):
                return self._said(found)
            if found is not None:
                request = found
        response = self.handler.receive(request, peer)
        if response is None:
            response = await self.handler.serve(request, peer)
        return self._said(response)

    async def get_page(self, path: str, kind: str | None, **fields: str) -> "Said":
        if kind is not None:
            fields["x_kind"] = kind
        return await self.get(path, None, **fields)

    async def post(self, path: str) -> "Said":
        request = Request(b"POST", path.encode(), 1, {b"host": b"h"}, b"h", True)
        peer = self.handler.peer("127.0.0.1")
        response = self.handler.receive(request, peer) or await self.handler.serve(request, peer)
        return self._said(response)

    def _said(self, response: Response) -> "Said":
        body = b""
        for piece in response.body:
            if isinstance(piece, FileSlice):
                body += os.pread(piece.file.fd, len(piece), piece.start)
            else:
                body += piece
        assert len(body) == response.length, "no truncated body"
        return Said.of(response.status, response.head, body)

    async def order(self, act: Act, scope: Scope, value: str) -> Outcome:
        return await self.purger.carry_out(Order(act, scope, SITE, value))

    async def rest(self) -> None:
        """Until nothing happens behind anybody's back."""
        refreshes = (self.refreshes, self.shared_refreshes)
        await until(
            lambda: (
                not any(map(len, refreshes))
                and self.store._removal is None
                and not self.store.threads.running
            ),
            pause_s=0,
        )

    def check(self) -> None:
        """What holds whenever nothing is under way (P2, P5)."""
        assert len(self.flights) == len(self.render_flights) == len(self.shared_flights) == 0
        assert len(self.changes) == 0
        assert self.store.threads.running == 0
        assert self.disk.room.fits
        # Not by rglob(): a scan may just be removing what it found damaged.
        for _, _, files in os.walk(self.folder / "cache"):
            assert not [name for name in files if name.startswith(".tmp-")]

    def entries(self) -> list[Path]:
        """The files of the cache, in an order that does not hang on the file system."""
        found = (self.folder / "cache").glob("[0-9a-f]/[0-9a-f][0-9a-f]/*")
        return sorted(path for path in found if path.is_file())

    def has_blocked_places(self) -> bool:
        """Does a folder stand where an entry would have to?"""
        found = (self.folder / "cache").glob("[0-9a-f]/[0-9a-f][0-9a-f]/*")
        return any(path.is_dir() for path in found)


@dataclasses.dataclass(frozen=True)
class Said:
    status: int
    fields: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, status: int, head: bytes, body: bytes) -> "Said":
        lines = head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return cls(status, {name.lower(): text.strip() for name, _, text in pairs}, body)


@asynccontextmanager
async def farm_of(
    folder: Path, server: RedisServer | None, nodes: int
) -> AsyncIterator[tuple[Farm, list[FarmNode]]]:
    farm = Farm(folder, server)
    made = [FarmNode(farm, folder / f"node{number}") for number in range(nodes)]
    for node in made:
        await node.start()
    try:
        yield farm, made
    finally:
        for node in made:
            await node.stop()
        farm.threads.shutdown()
