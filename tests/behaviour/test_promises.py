"""The promises P1 to P6 as a property: whatever happens in whatever order, no request gets bytes
that it must not get, and none gets an error that it need not.

The model knows, for every picture, which versions there were, when each ended, and from which one
on nothing older may be sent: the floor, which a purge raises. Steps by default: 40 runs of 50; a
night takes HALFTONE_RUNS=2000.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cache.errors import IndexUnavailable
from cache.orders import Act, Scope
from edge.source import RETRY_ORIGIN_S, STAT_TTL_S
from tests.behaviour.world import (
    CHANGED_BY_FORM,
    CONTROLS,
    FILE,
    FORM,
    KINDS,
    MAX_AGE_S,
    PAGES,
    PATHS,
    TAGS,
    WIDTHS,
    Said,
    farm_of,
    original,
    page,
    rendered,
    version_in,
)
from tests.peers.redis import RedisServer

RUNS = int(os.environ.get("HALFTONE_RUNS", "40"))
STEPS = 50
T = TypeVar("T")

paths = st.sampled_from(PATHS)
pages = st.sampled_from(list(PAGES))
things = st.sampled_from([*PATHS, *PAGES])
kinds = st.sampled_from(KINDS)
widths = st.sampled_from(WIDTHS)
nodes = st.integers(0, 1)
# A source's record keeps whole seconds, and a docroot file is looked at once in so many.
SLACK_S = STAT_TTL_S + 1


def transform_of(width: int) -> str:
    return f"{width}"


class Promises(RuleBasedStateMachine):
    """server None: one node with the embedded index; else two that share it."""

    server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        if self.server is not None:
            self.server.command("FLUSHALL")
        self.farm, self.nodes = self.run(
            self.stack.enter_async_context(
                farm_of(Path(self.folder.name), self.server, 1 if self.server is None else 2)
            )
        )
        self.origin = self.farm.origin
        self.floor = dict(self.origin.versions)
        self.ended: dict[tuple[str, int], float] = {}
        self.is_clock_sane = True  # it was never set back
        self.taken_down: set[str] = set()
        self.failed_at = float("-inf")  # when the origin was last seen failing

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.farm.is_index_down = False
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    def node(self, number: int) -> Any:
        return self.nodes[number % len(self.nodes)]

    # What may be sent

    def judge(self, path: str, width: int | None, said: Said) -> None:
        if path in self.taken_down:
            assert said.status == 451
            return
        if said.status in (502, 503, 504):
            assert not self.origin.is_up or path in self.changing(), "no error that need not be"
            assert path != FILE
            return
        assert said.status == 200, said
        version = version_in(said.body)
        assert said.body == self.expected(path, width, said.body, version), "P1: whole, and its own"
        current = self.origin.versions[path]
        assert self.floor[path] <= version <= current, "P3: nothing from before a purge"
        if version == current or not self.is_clock_sane:
            return
        late_s = self.farm.now - self.ended[path, version]
        if path == FILE:
            assert late_s <= SLACK_S
        elif self.origin.is_up and self.farm.now - self.failed_at > RETRY_ORIGIN_S:
            window_s = 30 if path == "/while.jpg" else 0
            assert late_s <= MAX_AGE_S + window_s + SLACK_S, "stale, and the origin would answer"
        else:
            assert path != "/must.jpg" or late_s <= MAX_AGE_S + SLACK_S, "must-revalidate"
            assert late_s <= 86_400 + MAX_AGE_S + SLACK_S

    def judge_page(self, path: str, kind: str | None, said: Said, *, is_late: bool = False) -> None:
        """is_late: its origin had answered before what it says changed."""
        if path in self.taken_down:
            assert said.status == 451
            return
        if said.status in (502, 503, 504):
            assert not self.origin.is_up, "no error that need not be"
            return
        of = PAGES[path]
        assert said.status == of.status, said
        version = version_in(said.body)
        assert said.body == page(path, version, kind), "P1: whole, and for this kind of client"
        current = self.origin.versions[path]
        assert self.floor[path] <= version <= current, "P3: nothing from before a purge"
        if is_late or version == current:
            return
        assert path != FORM, "what may not be stored is not"
        if not self.is_clock_sane:
            return
        late_s = self.farm.now - self.ended[path, version]
        is_well = self.origin.is_up and self.farm.now - self.failed_at > RETRY_ORIGIN_S
        may_be_stale = path == "/page" and not is_well
        assert late_s <= MAX_AGE_S + SLACK_S + (86_400 if may_be_stale else 0), "stale"

    def changing(self) -> frozenset[str]:
        return frozenset()

    def expected(self, path: str, width: int | None, body: bytes, version: int) -> bytes:
        source = original(path, version)
        if width is None:
            return source
        variant = body.partition(b" of ")[0].removeprefix(b"[").decode()
        assert str(width) in variant
        return rendered(variant, source)

    def raised(self, matching: set[str]) -> None:
        for path in matching:
            self.floor[path] = self.origin.versions[path]

    async def obeyed(self) -> None:
        """Every node obeys within a second; here that second is over."""
        for node in self.nodes:
            await node.follower.catch_up()

    # Requests

    @rule(path=paths, width=widths, number=nodes)
    def get(self, path: str, width: int | None, number: int) -> None:
        node = self.node(number)
        self.judge(path, width, self.run(node.get(path, width)))
        self.run(node.rest())

    @rule(path=paths, width=widths, number=nodes)
    def get_again_and_again(self, path: str, width: int | None, number: int) -> None:
        """Until the answer is ready before it is asked for."""
        for _ in range(4):
            self.get(path, width, number)

    @rule(path=paths, width=widths, number=nodes, first=st.integers(0, 60), size=st.integers(1, 99))
    def range(self, path: str, width: int | None, number: int, first: int, size: int) -> None:
        node = self.node(number)
        said = self.run(node.get(path, width, range=f"bytes={first}-{first + size - 1}"))
        self.run(node.rest())
        if said.status != 206:
            self.judge(path, width, said)
            return
        assert path not in self.taken_down
        whole = self.run(node.get(path, width))
        self.run(node.rest())
        versions = range_of(self.floor[path], self.origin.versions[path])
        variant = whole.body.partition(b" of ")[0].removeprefix(b"[").decode()
        bodies = [original(path, version) for version in versions]
        if width is not None:
            bodies = [rendered(variant, body) for body in bodies]
        total = int(said.fields["content-range"].rpartition("/")[2])
        assert any(
            len(body) == total and body[first : first + size] == said.body for body in bodies
        ), "a slice of one version"

    @rule(path=paths, width=widths, number=nodes)
    def validate(self, path: str, width: int | None, number: int) -> None:
        """A 304 says that what the client has is what it would get."""
        node = self.node(number)
        said = self.run(node.get(path, width))
        if said.status == 200:
            again = self.run(node.get(path, width, if_none_match=said.fields["etag"]))
            assert again.status in (304, 200, 502, 503)
            if again.status == 304:
                self.judge(path, width, said)
        self.run(node.rest())

    @rule(path=paths, width=widths)
    def herd(self, path: str, width: int | None) -> None:
        """Many at once, at every node: one fetch and one render (P4)."""
        bodies, renders = self.origin.bodies, self.farm.renderer.renders

        async def ask() -> list[Said]:
            return await asyncio.gather(*(self.nodes[0].get(path, width) for _ in range(8)))

        for said in self.run(ask()):
            self.judge(path, width, said)
        self.run(self.nodes[0].rest())
        assert self.farm.renderer.renders - renders <= 1
        # One in front, where its bytes were evicted, and one behind what was stale. In whose place
        # a folder stands, that is nowhere to be found afterwards, and is asked for once more.
        most = 2 if path == "/while.jpg" or self.nodes[0].has_blocked_places() else 1
        assert self.origin.bodies - bodies <= most

    @rule(path=pages, kind=kinds, number=nodes)
    def get_page(self, path: str, kind: str | None, number: int) -> None:
        node = self.node(number)
        self.judge_page(path, kind, self.run(node.get_page(path, kind)))
        self.run(node.rest())

    @rule(number=nodes, path=pages)
    def get_page_of_every_kind(self, path: str, number: int) -> None:
        for kind in (*KINDS, *KINDS):
            self.get_page(path, kind, number)

    @rule(kind=kinds, number=nodes)
    def validate_page(self, kind: str | None, number: int) -> None:
        node = self.node(number)
        said = self.run(node.get_page("/strict", kind))
        self.judge_page("/strict", kind, said)
        if said.status == 200:
            tag = said.fields["etag"]
            again = self.run(node.get_page("/strict", kind, if_none_match=tag))
            if again.status == 304:
                self.judge_page("/strict", kind, said)
            else:
                self.judge_page("/strict", kind, again)
        self.run(node.rest())

    @rule(path=pages, kind=kinds)
    def herd_on_page(self, path: str, kind: str | None) -> None:
        """One exchange, for all but what may not be shared."""
        node = self.nodes[0]
        bodies, stored = self.origin.bodies, node.shared.variants.stats.stored
        refused = node.store.stats.refused_old

        async def ask() -> list[Said]:
            return await asyncio.gather(*(node.get_page(path, kind) for _ in range(8)))

        for said in self.run(ask()):
            self.judge_page(path, kind, said)
        self.run(node.rest())
        # What the disk does not take (a folder stands in its place) is nobody else's either; nor is
        # what was asked for while the order of a purge was on its way back from Redis.
        is_stored = node.shared.variants.stats.stored > stored
        is_for_all = is_stored and node.store.stats.refused_old == refused
        assert self.origin.bodies - bodies <= (1 if is_for_all else 8)

    # Changes

    @rule(path=things)
    def publish(self, path: str) -> None:
        self.changed(path)
        self.farm.publish(path)

    def changed(self, path: str) -> None:
        self.ended[path, self.origin.versions[path]] = self.farm.now

    @rule(path=st.sampled_from([*CONTROLS, *PAGES]), number=nodes)
    def post(self, path: str, number: int) -> None:
        """RFC 9111 section 4.4: from its answer on, nothing older is sent."""
        self.run(self.posted(path, number))

    async def posted(self, path: str, number: int) -> None:
        changing = {path, CHANGED_BY_FORM} if path == FORM else {path}
        if self.origin.is_up and path not in self.taken_down:
            for one in changing:
                self.changed(one)
        said = await self.node(number).post(path)
        if path in self.taken_down:
            assert said.status == 451
        elif not self.origin.is_up:
            assert said.status == 502
        else:
            assert said.status == (303 if path == FORM else 204)
            if not self.farm.is_index_down:
                await self.obeyed()
                self.raised(changing)

    @rule(
        scope=st.sampled_from(Scope),
        path=things,
        number=nodes,
        act=st.sampled_from([Act.PURGE, Act.PURGE, Act.SOFTEN]),
    )
    def purge(self, scope: Scope, path: str, number: int, act: Act) -> None:
        value, matching = self.meant(scope, path)
        try:
            self.run(self.node(number).order(act, scope, value))
        except IndexUnavailable:
            assert self.farm.is_index_down, "a purge fails only where it cannot be recorded"
            return
        assert not self.farm.is_index_down, "P3: no 2xx for what was not recorded"
        self.run(self.obeyed())
        if act is Act.PURGE:
            self.raised(matching)
        elif self.origin.is_up and self.farm.now - self.failed_at > RETRY_ORIGIN_S:
            # Stale: asked for again before it is used, but where it may be used meanwhile.
            self.raised(matching - {"/while.jpg"})

    def meant(self, scope: Scope, path: str) -> tuple[str, set[str]]:
        match scope:
            case Scope.SOURCE:
                return path, {path}
            case Scope.PREFIX:
                return "/pets/", {one for one in self.floor if one.startswith("/pets/")}
            case Scope.TAG:
                tags = {one: set(TAGS.get(one, "").split()) for one in CONTROLS}
                tags |= {one: set(page.tags.split()) for one, page in PAGES.items()}
                for one in self.floor:
                    if one.startswith("/pets/"):  # by the configuration
                        tags.setdefault(one, set()).add("blue")
                return "blue", {one for one, its in tags.items() if "blue" in its}

    @rule(path=st.sampled_from(list(CONTROLS)), width=widths, is_post=st.booleans())
    def purge_meets_fill(self, path: str, width: int | None, is_post: bool) -> None:
        """The origin has answered with the old version, and a purge comes before that arrives. Who
        comes after it, while that is still under way, gets the new one."""
        if self.farm.is_index_down:
            return
        before, after = self.run(
            self.meet(path, lambda: self.nodes[0].get(path, width), is_post=is_post)
        )
        self.judge(path, width, before)  # old or new
        self.raised({path})
        self.judge(path, width, after)
        self.get(path, width, 0)

    @rule(path=pages, kind=kinds, is_post=st.booleans())
    def purge_meets_page(self, path: str, kind: str | None, is_post: bool) -> None:
        if self.farm.is_index_down:
            return
        before, after = self.run(
            self.meet(path, lambda: self.nodes[0].get_page(path, kind), is_post=is_post)
        )
        self.judge_page(path, kind, before, is_late=True)
        self.raised({path})
        self.judge_page(path, kind, after)
        self.get_page(path, kind, 0)

    async def meet(
        self, path: str, get: Callable[[], Coroutine[Any, Any, Said]], *, is_post: bool
    ) -> tuple[Said, Said]:
        floor = dict(self.floor)
        self.origin.hold = asyncio.Event()
        self.origin.asked.clear()
        try:
            asking = asyncio.ensure_future(get())
            asked = asyncio.ensure_future(self.origin.asked.wait())
            await asyncio.wait((asking, asked), return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if is_post and self.origin.is_up:
                # Where nothing is stored, other nodes are not told to part their flights.
                await self.posted(path, 0)
            else:
                self.publish(path)
                await self.nodes[-1].order(Act.PURGE, Scope.SOURCE, path)
                await self.obeyed()
            late = asyncio.ensure_future(get())
            for _ in range(20):
                await asyncio.sleep(0)
        finally:
            self.origin.hold.set()
            self.origin.hold = None
        found = await asking, await late
        await self.nodes[0].rest()
        self.floor[path] = floor[path]  # for the first one
        return found

    @rule(path=things)
    def take_down_and_lift(self, path: str) -> None:
        act = Act.LIFT if path in self.taken_down else Act.TAKE_DOWN
        try:
            self.run(self.nodes[0].order(act, Scope.SOURCE, path))
        except IndexUnavailable:
            assert self.farm.is_index_down
            return
        self.run(self.obeyed())
        self.taken_down ^= {path}
        if act is Act.TAKE_DOWN:
            self.raised({path})

    # Time and faults

    @rule(seconds=st.sampled_from([1, 5, 30, 61, 100, 4000]))
    def wait(self, seconds: int) -> None:
        self.farm.now += seconds
        for node in self.nodes:
            node.tick()

    @rule(seconds=st.sampled_from([5, 100, 100_000]))
    def set_clock_back(self, seconds: int) -> None:
        self.is_clock_sane = False
        self.farm.now -= seconds
        for node in self.nodes:
            node.tick()

    @rule(is_up=st.booleans())
    def origin_goes(self, is_up: bool) -> None:
        if not self.origin.is_up:
            self.failed_at = self.farm.now
        self.origin.is_up = is_up

    @rule(is_down=st.booleans())
    def index_goes(self, is_down: bool) -> None:
        self.farm.is_index_down = is_down
        if not is_down:
            self.run(self.obeyed())

    @rule(number=nodes)
    def restart(self, number: int) -> None:
        node = self.node(number)

        async def again() -> Any:
            await node.stop()
            made = type(node)(self.farm, node.folder)
            await made.start()
            return made

        self.nodes[self.nodes.index(node)] = self.run(again())

    @rule()
    def flush(self) -> None:
        """The index forgets everything."""
        if self.farm.is_index_down:
            return
        if self.server is not None:
            self.server.command("FLUSHALL")
            self.run(self.obeyed())
            return

        async def again() -> None:
            node = self.nodes[0]
            await node.stop()
            for file in node.folder.glob("index.sqlite*"):
                file.unlink()
            self.nodes[0] = type(node)(self.farm, node.folder)
            await self.nodes[0].start()

        self.run(again())

    @rule(number=nodes, which=st.integers(0, 99))
    def evict(self, number: int, which: int) -> None:
        node = self.node(number)
        if files := node.entries():
            name = bytes.fromhex(files[which % len(files)].name)
            node.disk._unlink(name, None)
            node.memory.remove(name)

    @rule(
        number=nodes,
        which=st.integers(0, 99),
        how=st.sampled_from(["flip", "cut", "grow", "empty", "fifo", "link", "folder", "swap"]),
        at=st.integers(0, 10_000),
    )
    def damage(self, number: int, which: int, how: str, at: int) -> None:
        node = self.node(number)
        self.run(node.rest())  # what was purged may just be going
        files = node.entries()
        if not files:
            return
        path = files[which % len(files)]
        data = bytearray(path.read_bytes())
        other = files[at % len(files)].read_bytes()
        path.unlink()
        match how:
            case "flip":
                if data:
                    data[at % len(data)] ^= 1
                path.write_bytes(data)
            case "cut":
                path.write_bytes(data[: at % max(len(data), 1)])
            case "grow":
                path.write_bytes(data + b"x")
            case "empty":
                path.touch()
            case "fifo":
                os.mkfifo(path)
            case "link":
                path.symlink_to("/etc/passwd")
            case "folder":
                path.mkdir()
            case "swap":
                path.write_bytes(other)

    @invariant()
    def nothing_is_left_over(self) -> None:
        for node in self.nodes:
            self.run(node.rest())
            node.check()


def range_of(first: int, last: int) -> Iterator[int]:
    return iter(range(first, last + 1))


SETTINGS = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="HALFTONE_RUNS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.mark.timeout(0 if RUNS > 100 else 300)
def test_one_node_with_the_embedded_index() -> None:
    run_state_machine_as_test(Promises, settings=SETTINGS)


@pytest.mark.timeout(0 if RUNS > 100 else 300)
def test_two_nodes_that_share_redis() -> None:
    server = RedisServer().start()

    class Shared(Promises):
        pass

    Shared.server = server
    try:
        run_state_machine_as_test(Shared, settings=SETTINGS)
    finally:
        server.close()
