"""edge/parents.py: when a large original is left alone, with the store of the ladders' tests."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cache.index.interface import SourceRecord
from cache.key import Key
from edge.parents import FAR_PIXELS, LARGE_PIXELS, MAX_LOOKED_FOR, Found, Parents
from edge.policy.looks import Looks
from edge.rendering import Terms
from edge.source import Home, Source
from resizer.errors import CorruptPicture, PictureBarred, ResizeError, UnsupportedFormat
from resizer.formats import Format, InputOnly, SourceFormat
from resizer.job import Result
from resizer.qualities import Qualities
from resizer.transform import Transform, parse
from tests.edge.test_ladders import Bench, run

ENCODER = "e"  # of the bench


def told(width: int, height: int, source: SourceFormat = Format.JPEG) -> Result:
    return Result("image/jpeg", 1, 1, 1, width, height, source, 1.0, 1.0)


def parents(bench: Bench) -> Parents:
    return Parents(bench.sources, bench.derivatives._stored, ENCODER, 50_000_000)


async def store(bench: Bench, source: Source, *widths: int) -> None:
    """Direct renders."""
    for width in widths:
        transform = Transform(width=width)
        key = Key(source.id, transform.canonical())
        await bench.derivatives.get(bench.site, source, key, transform, Terms())


@pytest.mark.parametrize(
    ("wanted", "stored", "found"),
    [
        # usual: the smallest that has two and a half times as many pixels, for q80
        ("w=39", (100, 200, 300, 400), "w=100"),
        ("w=40", (100, 200, 300, 400), "w=200"),  # 27 rows of 67
        ("w=100", (200, 300, 400), "w=300"),
        ("w=100", (200, 400), "w=400"),
        ("w=40,f=webp", (400,), "w=400"),
        ("w=40,h=40,fit=cover", (400,), "w=400"),
        # nothing that will do
        ("w=40", (), None),
        ("w=200", (100, 300, 400), None),
        ("w=40,f=png", (400,), None),
        ("w=40,q=95", (400,), None),
        ("w=40,blur=10", (400,), None),
        ("", (400,), None),
    ],
)
def test_the_nearest_that_will_do(
    tmp_path: Path, wanted: str, stored: tuple[int, ...], found: str | None
) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.source()
        await store(bench, source, *stored)
        known = parents(bench)
        assert await known.maybe_find(bench.site, source, parse(wanted)) is None
        known.learn(source.id, source.record.validator, told(6000, 4000))
        parent = await known.maybe_find(bench.site, source, parse(wanted))
        assert (None if parent is None else parent.variant) == found
        # Of another version of the source nothing is known.
        source.record = dataclasses.replace(source.record, validator="other")
        assert await known.maybe_find(bench.site, source, parse(wanted)) is None

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("result", "is_found"),
    [
        (told(6000, 4000), True),
        (told(4000, 6000), True),
        (told(1, LARGE_PIXELS), False),  # and no plan for it
        (told(5999, 4000), False),  # near enough to be read, as a docroot is
        (told(3999, 3000), False),
        (told(6000, 4000, Format.PNG), False),
        (told(6000, 4000, InputOnly.TIFF), False),
    ],
)
def test_which_originals_are_left_alone(tmp_path: Path, result: Result, is_found: bool) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.source()
        await store(bench, source, 400)
        known = parents(bench)
        known.learn(source.id, source.record.validator, result)
        found = await known.maybe_find(bench.site, source, Transform(width=100))
        assert (found is not None) is is_found

    run(tmp_path, test)


@pytest.mark.parametrize(("width", "is_found"), [(4000, True), (3999, False)])
def test_an_original_that_is_not_here_is_not_fetched(
    tmp_path: Path, width: int, is_found: bool
) -> None:
    async def test(bench: Bench) -> None:
        assert FAR_PIXELS == 4000 * 3000
        source = await bench.source()
        await store(bench, source, 400)
        known = parents(bench)
        known.learn(source.id, source.record.validator, told(width, 3000))
        # Stored by nobody: an origin would be asked.
        source.home = Home.ORIGIN
        found = await known.maybe_find(bench.site, source, Transform(width=100))
        assert (found is not None) is is_found

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        (Looks(progressive=True), "w=400,pr=1"),
        (Looks(sharpen=True), None),
        (Looks(qualities=Qualities(((Format.JPEG, 50),))), None),
    ],
)
def test_a_parent_has_the_looks_of_its_site(
    tmp_path: Path, looks: Looks, found: str | None
) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.source()
        await store(bench, source, 300)  # from before the looks were set
        site = dataclasses.replace(bench.site, looks=looks)
        dressed = looks.apply(Transform(width=400))
        key = Key(source.id, dressed.canonical())
        await bench.derivatives.get(site, source, key, dressed, Terms())
        known = parents(bench)
        known.learn(source.id, source.record.validator, told(6000, 4000))
        wanted = looks.apply(Transform(width=100))
        parent = await known.maybe_find(site, source, wanted)
        assert (None if parent is None else parent.variant) == found

    run(tmp_path, test)


def test_a_rung_is_no_parent(tmp_path: Path) -> None:
    """Never through two generations."""

    async def test(bench: Bench) -> None:
        source = await bench.miss()
        await bench.over()
        assert sorted(await bench.held(source)) == [100, 200, 300, 400]
        known = parents(bench)
        known.learn(source.id, source.record.validator, told(6000, 4000))
        # 200 alone was rendered by itself.
        found = await known.maybe_find(bench.site, source, Transform(width=60))
        assert found is not None
        assert found.variant == "w=200"
        assert await known.maybe_find(bench.site, source, Transform(width=100)) is None

    run(tmp_path, test)


def test_few_files_are_looked_for(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        source = await bench.source()
        asked: list[Key] = []

        async def stored(_: Source, __: SourceRecord, key: Key) -> None:
            asked.append(key)

        known = Parents(bench.sources, stored, ENCODER, 50_000_000)
        known.learn(source.id, source.record.validator, told(6000, 4000))
        assert await known.maybe_find(bench.site, source, Transform(width=10)) is None
        assert len(asked) == MAX_LOOKED_FOR

    run(tmp_path, test)


@pytest.mark.parametrize(
    "error",
    [CorruptPicture("damaged"), PictureBarred("twice"), UnsupportedFormat("another"), None],
)
def test_where_the_parent_fails_the_original_serves(
    tmp_path: Path, error: ResizeError | None
) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.sides = (6000, 4000)
        bench.pool.derived_error = error
        source = await bench.source()
        await store(bench, source, 400, 100)
        assert bench.pool.live == [400, 100, 100] if error else [400, 100]
        assert bench.pool.parents == ["w=400"]
        assert sorted(await bench.held(source)) == [100, 400]
        assert bench.derivatives.stats.derived == (error is None)

    run(tmp_path, test)


def test_after_a_purge_nothing_from_an_older_parent_is_kept(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool.sides = (6000, 4000)
        source = await bench.source()
        await store(bench, source, 400)
        known = bench.derivatives._parents
        find = known.maybe_find

        async def find_then_purge(*args: Any) -> Found | None:
            """And another request, by which the source is known under the new token."""
            found = await find(*args)
            await bench.store.purge(source.id)
            bench.sources.doubt(source.id)
            assert await bench.source() is source
            return found

        known.maybe_find = find_then_purge  # type: ignore[method-assign]
        await store(bench, source, 100)
        assert bench.pool.parents == ["w=400"]
        assert await bench.held(source) == {}

    run(tmp_path, test)
