"""URLs that were handed out, and which sources have some, in both homes."""

import asyncio

import pytest

from cache.index.interface import (
    MAX_LISTED_TAGS,
    MAX_SPELLINGS,
    MAX_SURVEYED,
    Index,
    SourceRecord,
    Surveyed,
)
from cache.key import SourceId
from cache.orders import MAX_VALUE_BYTES, Scope
from tests.contract.homes import OTHER, SOURCE, Home, digest, run


def tagged(*tags: str) -> SourceRecord:
    return SourceRecord("v", '"v"', "image/jpeg", 1, 0, 0, 0, tags=tags)


async def put(index: Index, path: str, *tags: str, site: str = "site") -> SourceId:
    source = SourceId(site, path)
    token = (await index.open_source(source)).token
    assert await index.put_source(source, token, tagged(*tags))
    return source


async def listed(index: Index, scope: Scope, value: str, site: str = "site") -> list[str]:
    found = await index.sources_of(scope, site, value, 1000)
    assert all(source.site == site for source in found)
    assert len(set(found)) == len(found)
    return sorted(source.path for source in found)


def test_urls_round_trip_in_their_order(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.spellings(SOURCE) == ()
        await index.add_spellings(SOURCE, ["https://a/2", "https://a/1", "https://a/2"])
        await index.add_spellings(SOURCE, ["https://a/1", "http://ä/\0 {}"])
        await index.add_spellings(SOURCE, [])
        await index.add_spellings(OTHER, ["https://a/1"])
        expected = ("https://a/2", "https://a/1", "http://ä/\0 {}")
        assert await index.spellings(SOURCE) == expected
        assert await index.spellings(OTHER) == ("https://a/1",)

    run(home, test)


def test_urls_outlive_purges_and_come_before_the_first_sight(home: Home) -> None:
    async def test(index: Index) -> None:
        await index.add_spellings(SOURCE, ["https://a/1"])
        first = await index.open_source(SOURCE, head=7)
        assert (first.applied, first.record) == (7, None)
        assert (await index.open_source(SOURCE, barrier=7)) == first
        await index.purge(SOURCE)
        await index.open_source(SOURCE, barrier=9)
        assert await index.spellings(SOURCE) == ("https://a/1",)

    run(home, test)


def test_a_survey_is_what_would_be_told_of_each_alone(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.survey(()) == ()
        assert await index.survey([SOURCE]) == (Surveyed(0, ()),)
        sources = [SourceId("site", f"/{number}.jpg") for number in range(MAX_SURVEYED)]
        for number, source in enumerate(sources):
            if number % 3:  # others have been opened by nobody
                token = (await index.open_source(source)).token
                for entry in range(number % 5):
                    assert await index.publish(source, token, digest(entry), 1)
            if number % 2:
                await index.add_spellings(source, [f"http://h/{number}", f"http://h/ä/{number}"])
        await index.purge(sources[1])
        expected = tuple(
            [
                Surveyed(len(await index.members(source)), await index.spellings(source))
                for source in sources
            ]
        )
        assert await index.survey(sources) == expected
        assert await index.survey(sources[::-7]) == expected[::-7]
        assert await index.survey([sources[5], SOURCE, sources[5]]) == (
            expected[5],
            Surveyed(0, ()),
            expected[5],
        )
        assert {found.entries for found in expected} == set(range(5))

    run(home, test)


def test_urls_are_bounded_and_what_does_not_fit_is_counted(home: Home) -> None:
    async def test(index: Index) -> None:
        urls = [f"https://a/{number}" for number in range(MAX_SPELLINGS + 10)]
        for at in range(0, len(urls), 50):
            await index.add_spellings(SOURCE, urls[at : at + 50])
        assert await index.spellings(SOURCE) == tuple(urls[:MAX_SPELLINGS])
        assert index.catalogue.urls_dropped == 10
        await index.add_spellings(SOURCE, urls[:5])
        await index.add_spellings(OTHER, ["x" * (MAX_VALUE_BYTES + 1), "x" * MAX_VALUE_BYTES])
        assert await index.spellings(OTHER) == ("x" * MAX_VALUE_BYTES,)
        assert index.catalogue.urls_dropped == 11

    run(home, test)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("/", ["/a", "/album/1", "/album/2", "/albums", "/b", "/ä/\U0010ffff"]),
        ("/album", ["/album/1", "/album/2", "/albums"]),
        ("/album/", ["/album/1", "/album/2"]),
        ("/album/1", ["/album/1"]),
        ("/album/1/", []),
        ("/ä", ["/ä/\U0010ffff"]),
        ("/%", []),
        ("[", []),
        ("\0", []),
    ],
)
def test_sources_by_the_start_of_their_path(home: Home, start: str, expected: list[str]) -> None:
    async def test(index: Index) -> None:
        for path in ("/a", "/album/2", "/albums", "/ä/\U0010ffff"):
            await index.add_spellings(SourceId("site", path), ["https://a/1"])
        for path in ("/album/1", "/b"):
            await put(index, path, "t")
        await put(index, "/untagged")  # nobody in front has it, no tag leads to it
        await put(index, "/album/3", "t", site="other")
        assert await listed(index, Scope.PREFIX, start) == expected

    run(home, test)


def test_sources_by_tag(home: Home) -> None:
    async def test(index: Index) -> None:
        one = await put(index, "/1", "dune", "ä {}\0", "dune")
        await put(index, "/2", "dune", "t" * 1024)
        await put(index, "/3", "dunes")
        await put(index, "/1", "dune", site="other")
        await index.add_spellings(SourceId("site", "/4"), ["dune"])
        assert await listed(index, Scope.TAG, "dune") == ["/1", "/2"]
        assert await listed(index, Scope.TAG, "ä {}\0") == ["/1"]
        assert await listed(index, Scope.TAG, "t" * 1024) == ["/2"]
        assert await listed(index, Scope.TAG, "d") == []
        # A purge drops the record; caches in front may have the picture all the same.
        await index.purge(one)
        assert await listed(index, Scope.TAG, "dune") == ["/1", "/2"]
        assert await index.sources_of(Scope.SOURCE, "site", "/1", 5) == (one,)

    run(home, test)


def test_a_site_and_a_tag_cannot_change_places(home: Home) -> None:
    async def test(index: Index) -> None:
        await put(index, "/1", "bc", site="a")
        await put(index, "/2", "c", site="ab")
        await put(index, "/3", "x", site="abc")
        assert await listed(index, Scope.TAG, "bc", site="a") == ["/1"]
        assert await listed(index, Scope.TAG, "c", site="ab") == ["/2"]
        assert await listed(index, Scope.PREFIX, "/", site="abc") == ["/3"]

    run(home, test)


def test_limits(home: Home) -> None:
    async def test(index: Index) -> None:
        sources = [SourceId("site", f"/{number:04}") for number in range(600)]
        for at in range(0, 600, 100):
            part = sources[at : at + 100]
            await asyncio.gather(*(index.add_spellings(source, ["u"]) for source in part))
        for limit in (0, 1, 249, 250, 251, 600, 5000):
            found = await index.sources_of(Scope.PREFIX, "site", "/0", limit)
            assert len(set(found)) == len(found) == min(limit, 600)
            assert set(found) <= set(sources)

    run(home, test)


def test_tags_of_a_source_are_bounded(home: Home) -> None:
    async def test(index: Index) -> None:
        tags = [f"t{number}" for number in range(MAX_LISTED_TAGS + 3)]
        await put(index, "/1", *tags)
        assert await listed(index, Scope.TAG, tags[MAX_LISTED_TAGS - 1]) == ["/1"]
        assert await listed(index, Scope.TAG, tags[MAX_LISTED_TAGS]) == []
        assert index.catalogue.paths_dropped == 3

    run(home, test)


def test_nothing_is_listed_under_an_old_token(home: Home) -> None:
    async def test(index: Index) -> None:
        old = (await index.open_source(SOURCE)).token
        await index.purge(SOURCE)
        assert not await index.put_source(SOURCE, old, tagged("dune"))
        assert await listed(index, Scope.TAG, "dune") == []

    run(home, test)
