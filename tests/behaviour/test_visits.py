"""How often an origin is asked for a derivative of what it gave before, and for what.

A node as edge/app.py makes one, with the time and the origin of the test.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.key import Key, SourceId
from cache.layout import path_of
from edge.failures import Failures, TimesToLive, failure_digest
from edge.policy.negotiation import Negotiation
from edge.rendering import Terms
from edge.route import Routes
from edge.site import Sites
from edge.source import Source
from resizer.errors import CorruptPicture
from resizer.formats import Format
from resizer.transform import Transform
from tests.behaviour.world import MAX_AGE_S, SITE, Farm, FarmNode, original, rendered

MUST, WHILE = "/must.jpg", "/while.jpg"  # the second has no tag to ask with
WHOLE, CONDITION = "whole", "condition"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.farm = Farm(folder, None)
        self.node = FarmNode(self.farm, folder / "node")
        self.visits: list[str] = []
        fetch = self.farm.origin.fetch

        async def counted(request: Any) -> Any:
            fields = dict(request.headers)
            self.visits.append(CONDITION if "if-none-match" in fields else WHOLE)
            return await fetch(request)

        self.farm.origin.fetch = counted  # type: ignore[method-assign]

    async def filled(self, path: str) -> None:
        """The original and its derivative of 40 are there, and stale."""
        assert (await self.node.get(path, 40)).status == 200
        assert self.visits == [WHOLE]
        self.visits.clear()
        self.farm.now += MAX_AGE_S + 1
        self.node.tick()

    def known(self, path: str) -> Source:
        source = self.node.handler._sources._known.get(SourceId(SITE, path))
        assert source is not None
        return source

    def evict(self, path: str, variant: str = "") -> None:
        key = Key(SourceId(SITE, path), variant)
        (self.node.folder / "cache" / path_of(key.digest)).unlink()


def run(folder: Path, test: Any) -> None:
    async def main() -> None:
        bench = Bench(folder)
        await bench.node.start()
        try:
            await test(bench)
            await bench.node.rest()
            bench.node.check()
        finally:
            await bench.node.stop()
            bench.farm.threads.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "width", "gone", "is_forgotten", "visits"),
    [
        (MUST, 80, ["original"], False, [WHOLE]),  # never made
        (MUST, 40, ["original", "derivative"], True, [WHOLE]),  # made, and gone, too
        (MUST, 40, ["original", "derivative"], False, [CONDITION]),  # in memory still
        (MUST, 40, ["original"], True, [CONDITION]),  # on disk
        (MUST, 80, [], True, [CONDITION]),  # can be made
        (WHILE, 80, ["original"], True, [WHOLE]),  # nobody asks behind it besides
        (WHILE, 40, ["original"], True, [WHOLE]),  # that is who asks behind it
    ],
)
@pytest.mark.parametrize("is_changed", [False, True])
def test_a_derivative_of_a_stale_original_is_one_visit(
    tmp_path, path, width, gone, is_forgotten, visits, is_changed
):
    async def test(bench: Bench) -> None:
        await bench.filled(path)
        if is_changed:
            bench.farm.publish(path)
        for one in gone:
            bench.evict(path, "w=40" if one == "derivative" else "")
        if is_forgotten:
            bench.node.memory.remove(Key(SourceId(SITE, path), "w=40").digest)
        said = await bench.node.get(path, width)
        is_old = path == WHILE and width == 40  # may be used while the origin is asked
        version = 2 if is_changed and not is_old else 1
        assert said.body == rendered(f"w={width}", original(path, version))
        await bench.node.rest()
        assert bench.visits == visits
        bench.visits.clear()
        await bench.node.get(path, width)
        assert bench.visits == []

    run(tmp_path, test)


@pytest.mark.parametrize("width", [40, 80])
def test_a_dead_origin_is_asked_once_and_what_is_there_is_served(tmp_path, width):
    path = "/plain.jpg"

    async def test(bench: Bench) -> None:
        await bench.filled(path)
        bench.evict(path)
        bench.farm.origin.is_up = False
        if width == 40:
            said = await bench.node.get(path, width)
            assert said.body == rendered("w=40", original(path, 1))
            assert bench.visits == [CONDITION]
        else:
            assert (await bench.node.get(path, width)).status == 502
            assert bench.visits == [WHOLE]
            bench.visits.clear()
            assert (await bench.node.get(path, 40)).status == 200  # is left alone for a while
            assert bench.visits == []

    run(tmp_path, test)


@pytest.mark.parametrize("has_quick", [False, True])
@pytest.mark.parametrize("has_slow", [False, True])
def test_a_variant_that_something_quick_stands_in_for(tmp_path, has_slow, has_quick):
    async def test(bench: Bench) -> None:
        path = "/plain.jpg"
        negotiation = Negotiation(frozenset((Format.AVIF, Format.WEBP)))
        site = replace(bench.node.site, negotiation=negotiation)
        bench.node.handler._routes = Routes(Sites({}, site))
        accept = "image/avif,image/webp"
        await bench.filled(path)
        bench.farm.now -= MAX_AGE_S + 1
        bench.node.tick()
        if has_quick:
            assert (await bench.node.get(path, 40, accept=accept)).status == 200
        if has_slow:
            source, transform = bench.known(path), Transform(width=40, format=Format.AVIF)
            key = Key(source.id, transform.canonical())
            await bench.node.derivatives.get(site, source, key, transform, Terms())
        bench.farm.now += MAX_AGE_S + 1
        bench.node.tick()
        bench.evict(path)
        made = bench.farm.renderer.renders
        assert (await bench.node.get(path, 40, accept=accept)).status == 200
        assert bench.farm.renderer.renders == made + (not has_slow and not has_quick)
        assert bench.visits == [CONDITION if has_slow or has_quick else WHOLE]

    run(tmp_path, test)


def test_what_has_failed_is_not_fetched_to_fail_again(tmp_path):
    async def test(bench: Bench) -> None:
        path = "/plain.jpg"
        await bench.filled(path)
        bench.evict(path)
        derivatives, wanted = bench.node.derivatives, Transform(width=80)
        source = bench.known(path)
        key = Key(source.id, wanted.canonical())
        assert await derivatives.needs_bytes(bench.node.site, source, key, wanted)
        derivatives._failures = failures = Failures(
            bench.node.store.put_failure, bench.node.clock, lambda: 0.5, TimesToLive()
        )
        name = failure_digest(key.digest, source.record.validator)
        await failures.remember(source.id, source.opened.token, name, CorruptPicture("bad"))
        assert not await derivatives.needs_bytes(bench.node.site, source, key, wanted)
        assert sum(failures.stats.answered.values()) == 0
        bench.farm.now += 3600
        bench.node.tick()
        assert await derivatives.needs_bytes(bench.node.site, source, key, wanted)

    run(tmp_path, test)


@pytest.mark.parametrize("how", ["of a parent", "the disk threads are busy"])
def test_where_bytes_may_not_be_needed_the_condition_stays(tmp_path, how):
    async def test(bench: Bench) -> None:
        path = "/plain.jpg"
        await bench.filled(path)
        bench.evict(path)
        source, wanted = bench.known(path), Transform(width=80)
        key = Key(source.id, wanted.canonical())
        derivatives, store = bench.node.derivatives, bench.node.store

        async def found(*_: Any) -> object:
            return object()

        if how == "of a parent":
            derivatives._parents.maybe_find = found  # type: ignore[assignment,method-assign]
        else:
            store.may_hold = lambda key: True  # type: ignore[method-assign]
            store.threads._limit = 0
        assert not await derivatives.needs_bytes(bench.node.site, source, key, wanted)

    run(tmp_path, test)
