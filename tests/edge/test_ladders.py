"""edge/ladders.py with a real store and a resizer that does what the test says."""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cache.disk import Disk
from cache.flight import Flights
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Failure, Token
from cache.key import Key, SourceId
from cache.memory import Memory
from cache.store import Store
from edge.clock import Clock
from edge.failures import Failures, TimesToLive
from edge.fetching import Node
from edge.ladders import Ladders
from edge.marks import Marks
from edge.origin.files import Docroot
from edge.policy.looks import Looks
from edge.policy.steps import Steps
from edge.refresh import Refreshes
from edge.rendering import Derivatives, Made, Terms
from edge.representation import Representation
from edge.shelf import Shelf
from edge.site import Site
from edge.source import Source
from edge.sources import Sources
from edge.spool import Spool
from resizer.errors import CorruptPicture, QueueFull, ResizeError, ResizerStopped, TransferFailed
from resizer.formats import Format, InputOnly
from resizer.job import Result
from resizer.ladder import Parent
from resizer.pool import PoolSettings
from resizer.qualities import Qualities
from resizer.transform import Transform

STEPS = (100, 200, 300, 400)
ASKED = Transform(width=200)
RUNGS = [400, 300, 100]


class Resizer:
    """Writes the width asked for as the picture; says a lineage in ladders alone."""

    settings = PoolSettings()

    def __init__(self) -> None:
        self.source_format = Format.JPEG
        self.sides = (1000, 1000)
        self.parents: list[str] = []
        self.derived_error: ResizeError | None = None
        self.live_error: ResizeError | None = None
        self.live: list[int] = []
        self.ladders: list[list[int]] = []
        self.asked: list[tuple[tuple[Transform, ...], tuple[InputOnly, ...]]] = []
        self.errors: dict[int, ResizeError] = {}
        self.refusal: ResizeError | None = None
        self.gate: asyncio.Event | None = None  # before each step of a ladder
        self.stepped = asyncio.Condition()  # a step waits before the gate

    def _render(self, sink: int, transform: Transform, lineage: str) -> Result:
        body = b"%d by %r" % (transform.width or 0, lineage.encode())
        os.write(sink, body)
        width = transform.width or 1
        form = self.source_format
        return Result("image/jpeg", len(body), width, 1, *self.sides, form, 1.0, 1.0, lineage)

    async def run(
        self,
        source: int,
        sink: int,
        transform: Transform,
        *,
        parent: Parent | None = None,
        **_: object,
    ) -> Result:
        self.live.append(transform.width or 0)
        if self.live_error is not None:
            raise self.live_error
        if parent is None:
            return self._render(sink, transform, "")
        self.parents.append(parent.made.transform.canonical())
        if self.derived_error is not None:
            raise self.derived_error
        return self._render(sink, transform, "jpeg:80>" + self.parents[-1])

    async def run_ladder(
        self,
        source: int,
        sinks: Sequence[int],
        transforms: Sequence[Transform],
        *,
        on_result: Callable[[int, Any], None],
        inputs: tuple[InputOnly, ...] = (),
        **_: object,
    ) -> None:
        self.ladders.append([each.width or 0 for each in transforms])
        self.asked.append((tuple(transforms), inputs))
        async with self.stepped:
            self.stepped.notify_all()
        if self.refusal is not None:
            raise self.refusal
        for number, (sink, transform) in enumerate(zip(sinks, transforms, strict=True)):
            if self.gate is not None:
                await self.gate.wait()
            error = self.errors.get(transform.width or 0)
            on_result(number, error or self._render(sink, transform, "1/2"))

    async def begun(self, count: int) -> None:
        async with self.stepped:
            await self.stepped.wait_for(lambda: len(self.ladders) == count)


class Bench:
    def __init__(self, folder: Path, limit: int) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.clock = Clock(lambda: 1_700_000_000, lambda: 0.0)
        index = EmbeddedIndex(
            str(folder / "index.sqlite"), clock=lambda: 0, random=Random(1), budget_s=10.0
        )
        disk = Disk(str(folder / "cache"), size=10_000_000, inodes=1000)
        self.store = Store(disk, index, lambda: 0, 2)
        self.threads = ThreadPoolExecutor(2)
        self.told: list[Failure] = []

        async def tell(_: SourceId, __: Token, ___: bytes, failure: Failure) -> None:
            self.told.append(failure)

        self.failures = Failures(tell, self.clock, lambda: 0.5, TimesToLive())
        self.refreshes: Refreshes[Any] = Refreshes()
        self.sources = Sources(
            self.store,
            self.clock,
            self.threads,
            Flights(),
            Node("edge1", "127.0.0.1", 80),
            Spool(str(folder / "cache"), 100_000),
            self.failures,
            self.refreshes,
        )
        self.pool = Resizer()
        memory: Memory[Representation] = Memory(0, 0)
        self.flights: Flights[Made] = Flights()
        self.derivatives = Derivatives(
            sources=self.sources,
            store=self.store,
            shelf=Shelf(memory, self.threads),
            flights=self.flights,
            pool=self.pool,  # type: ignore[arg-type]
            encoder="e",
            clock=self.clock,
            disk_threads=self.threads,
            marks=Marks(self.clock, self.threads),
            failures=self.failures,
        )
        self.ladders = Ladders(self.sources, self.derivatives, self.pool, limit)  # type: ignore[arg-type]
        self.site = Site(
            name="*",
            hosts=(),
            docroot=Docroot(str(self.root)),
            origin=None,
            grammars=(),
            extensions=(),
            prefix="",
            steps=Steps(STEPS),
            max_age_s=60,
            cache_control="",
            max_source_bytes=1000,
            has_ladders=True,
        )

    async def source(self, name: str = "a.jpg") -> Source:
        if not (self.root / name).exists():
            (self.root / name).write_text(f"the picture {name}")
        found = await self.sources.open(self.site, f"/{name}")
        assert isinstance(found.answer, Source)
        await self.sources.ask_tokens(found.answer)
        return found.answer

    async def miss(self, name: str = "a.jpg", transform: Transform = ASKED) -> Source:
        """As the handler answers it."""
        source = await self.source(name)
        key = Key(source.id, transform.canonical())
        landing = await self.derivatives.get(self.site, source, key, transform, Terms())
        self.ladders.offer(self.site, source, transform, landing.value, is_named=False)
        return source

    async def held(self, source: Source) -> dict[int, str]:
        """Bodies on disk, by width."""
        found = {}
        for width in STEPS:
            key = Key(source.id, Transform(width=width).canonical())
            hit = await self.derivatives.lookup(source, key)
            if hit is not None:
                assert not isinstance(hit.body, bytes)
                body = hit.body
                found[width] = os.pread(body.file.fd, len(body), body.start).decode()
                assert ("-" in hit.etag) == (">" in found[width] or "1/2" in found[width])
        return found

    async def over(self) -> None:
        """Until no ladder is under way."""
        task = self.ladders._task
        if task is not None:
            await asyncio.wait([task])


def run(folder: Path, test: Callable[[Bench], Awaitable[None]], limit: int = 4) -> None:
    async def main() -> None:
        bench = Bench(folder, limit)
        await bench.store.start()
        try:
            await test(bench)
            await bench.over()
            stats = bench.ladders.stats
            assert stats.offered == stats.dropped + stats.ended
            assert not list((folder / "cache").rglob("*.tmp*"))
        finally:
            await bench.ladders.stop()
            await bench.flights.stop(5)
            await bench.store.stop()
            bench.threads.shutdown()

    asyncio.run(main())


def direct(width: int) -> str:
    return f"{width} by b''"


def rung(width: int) -> str:
    return f"{width} by b'1/2'"


def test_rungs_are_stored_once_for_a_version_and_a_kind(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.miss()
        await bench.over()
        assert bench.pool.ladders == [RUNGS]
        expected = {width: rung(width) for width in RUNGS} | {200: direct(200)}
        assert await bench.held(source) == expected
        assert bench.ladders.stats.kept == 3
        # What is wider was asked for by itself; the kind is the same.
        await bench.miss(transform=Transform(width=999))
        await bench.over()
        assert bench.pool.ladders == [RUNGS]
        await bench.miss(transform=Transform(width=200, quality=40))
        await bench.over()
        assert bench.pool.ladders == [RUNGS, RUNGS]

    run(tmp_path, test)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.source()
        key = Key(source.id, Transform(width=300).canonical())
        await bench.derivatives.get(bench.site, source, key, Transform(width=300), Terms())
        await bench.miss()
        await bench.over()
        assert bench.pool.ladders == [[400, 100]]
        assert (await bench.held(source))[300] == direct(300)
        assert (bench.ladders.stats.held, bench.ladders.stats.kept) == (1, 2)

    run(tmp_path, test)


def test_a_live_miss_of_a_rung_does_not_wait(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.gate = asyncio.Event()
        source = await bench.miss()
        await bench.pool.begun(1)
        # The ladder stands still, and the answer comes all the same.
        await bench.miss(transform=Transform(width=400))
        assert bench.pool.live == [200, 400]
        bench.pool.gate.set()
        await bench.over()
        held = await bench.held(source)
        assert held == {400: direct(400), 300: rung(300), 200: direct(200), 100: rung(100)}
        assert (bench.ladders.stats.held, bench.ladders.stats.kept) == (1, 2)

    run(tmp_path, test)


def test_after_a_purge_nothing_of_it_is_published(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.gate = asyncio.Event()
        source = await bench.miss()
        await bench.pool.begun(1)
        await bench.store.purge(source.id)
        bench.pool.gate.set()
        await bench.over()
        source = await bench.source()
        assert await bench.held(source) == {}
        assert (bench.ladders.stats.kept, bench.ladders.stats.lost) == (0, 3)
        # And the first miss after it has a ladder again.
        await bench.miss()
        await bench.over()
        assert bench.pool.ladders == [RUNGS, RUNGS]
        assert len(await bench.held(source)) == 4

    run(tmp_path, test)


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.gate = asyncio.Event()
        await bench.miss("first.jpg")
        await bench.pool.begun(1)
        for number in range(6):
            await bench.miss(f"{number}.jpg")
        assert bench.ladders.waiting == 4
        assert (bench.ladders.stats.offered, bench.ladders.stats.dropped) == (7, 2)
        bench.pool.gate.set()
        await bench.over()
        assert bench.ladders.waiting == 0
        assert len(bench.pool.ladders) == 5
        # One that was dropped may come again; one that was made does not.
        await bench.miss("5.jpg", Transform(width=300))
        await bench.miss("0.jpg", Transform(width=999))
        await bench.over()
        assert len(bench.pool.ladders) == 6

    run(tmp_path, test)


@pytest.mark.parametrize("refusal", [QueueFull("full", 1), ResizerStopped("over")])
def test_a_ladder_that_the_resizer_refuses_may_come_again(
    tmp_path: Path, refusal: ResizeError
) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.refusal = refusal
        await bench.miss()
        await bench.over()
        assert bench.ladders.stats.dropped == 1
        bench.pool.refusal = None
        await bench.miss(transform=Transform(width=999))
        await bench.over()
        assert bench.pool.ladders == [RUNGS, [400, 300, 100]]
        assert bench.ladders.stats.kept == 3

    run(tmp_path, test)


@pytest.mark.parametrize("error", [CorruptPicture("half of it"), TransferFailed("the disk")])
def test_a_rung_that_fails_fails_alone(tmp_path: Path, error: ResizeError) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.errors[300] = error
        source = await bench.miss()
        await bench.over()
        assert sorted(await bench.held(source)) == [100, 200, 400]
        assert (bench.ladders.stats.kept, bench.ladders.stats.lost) == (2, 1)

    run(tmp_path, test)


def test_another_version_of_the_source_has_its_own_ladder(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.gate = asyncio.Event()
        await bench.miss("first.jpg")
        await bench.pool.begun(1)
        await bench.miss("b.jpg")
        (bench.root / "b.jpg").write_text("another picture of the name")
        await bench.miss("gone.jpg")
        (bench.root / "gone.jpg").unlink()
        bench.pool.gate.set()
        await bench.over()
        assert bench.pool.ladders == [RUNGS]
        assert bench.ladders.stats.ended == 3

    run(tmp_path, test)


def test_a_moving_picture_has_none(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.source_format = Format.GIF
        await bench.miss()
        assert bench.ladders.stats.offered == 0

    run(tmp_path, test)


def test_stop_does_not_wait(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, 4)
        await bench.store.start()
        bench.pool.gate = asyncio.Event()
        source = await bench.miss("first.jpg")
        await bench.miss("b.jpg")
        await bench.pool.begun(1)
        await bench.ladders.stop()
        await bench.miss("c.jpg")
        assert bench.pool.ladders == [RUNGS]
        assert bench.ladders.waiting == 0
        assert sorted(await bench.held(source)) == [200]
        await bench.ladders.stop()
        await bench.store.stop()
        bench.threads.shutdown()

    asyncio.run(main())


def test_rungs_have_the_looks_and_inputs_of_their_site(tmp_path: Path) -> None:
    looks = Looks(
        sharpen=True,
        progressive=True,
        qualities=Qualities(((Format.JPEG, 40),)),
        inputs=(InputOnly.TIFF,),
    )

    async def test(bench: Bench) -> None:
        bench.site = dataclasses.replace(bench.site, looks=looks)
        source = await bench.miss(transform=looks.apply(ASKED))
        await bench.over()
        ((transforms, inputs),) = bench.pool.asked
        assert inputs == looks.inputs
        assert len(transforms) == len(STEPS) - 1
        for each in transforms:
            assert looks.apply(Transform(width=each.width)) == each
            key = Key(source.id, each.canonical())
            assert await bench.derivatives.lookup(source, key) is not None

    run(tmp_path, test)
