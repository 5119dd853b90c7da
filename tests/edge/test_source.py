"""Originals, from a docroot and an origin of the test, with a clock that it moves. The store is
real, and refuses where the test says so."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import xxhash

from cache.disk import Disk
from cache.errors import IndexUnavailable, NoSpace, StoreBusy
from cache.flight import Flights
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Failure, Token
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from cache.store import Store
from edge.clock import Clock
from edge.errors import NotFound, OriginChanged
from edge.failures import Failures, TimesToLive
from edge.fetching import Node
from edge.http.freshness import Storability
from edge.origin.errors import (
    DocrootFailed,
    NotAllowed,
    OriginBroken,
    OriginOverloaded,
    OriginRefused,
    OriginTruncated,
    Refusal,
)
from edge.origin.files import Docroot
from edge.origin.messages import OriginRequest
from edge.policy.steps import OffStep, Steps
from edge.policy.tags import PathTags
from edge.refresh import Refreshes
from edge.site import Site
from edge.source import NOT_ASKED, RETRY_ORIGIN_S, STAT_TTL_S, Original, Passed, Source, Way
from edge.sources import Sources
from edge.spool import Spool
from edge.unkept import SHORT_BYTES
from tests.edge.test_record import Answer
from tests.waiting import until

BODY = b"a picture, or so" * 400
OTHER = b"another picture!" * 400


class Truncated(Answer):
    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        raise OriginTruncated("cut")


def answer(body: bytes = BODY, status: int = 200, **fields: str) -> Answer:
    named = tuple((name.replace("_", "-"), text) for name, text in fields.items())
    return Answer(
        (("content-type", "image/jpeg"), *named),
        status=status,
        content_length=len(body),
        pieces=[body[:1000], body[1000:]] if body else [],
    )


class Origin:
    """answers in order, the last one again and again; an exception is raised."""

    name = "app"

    def __init__(self) -> None:
        self.asked: list[OriginRequest] = []
        self.say: Callable[[], Answer] = lambda: answer(status=404)
        self.hold: asyncio.Event | None = None

    async def fetch(self, request: OriginRequest) -> Answer:
        self.asked.append(request)
        if self.hold is not None:
            await self.hold.wait()
        return self.say()

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.asked[-1].headers)

    def fails(self, error: Exception) -> None:
        def fail() -> Answer:
            raise error

        self.say = fail


class Bench:
    def __init__(self, folder: Path, docroot: Any) -> None:
        self.now = 1_700_000_000
        self.clock = Clock(lambda: self.now, lambda: float(self.now))
        self.index = EmbeddedIndex(
            str(folder / "index.sqlite"), clock=lambda: self.now, random=Random(1), budget_s=10.0
        )
        self.store = Store(
            Disk(str(folder / "cache"), size=10_000_000, inodes=1000),
            self.index,
            lambda: self.now,
            2,
        )
        self.threads = ThreadPoolExecutor(2)
        self.origin = Origin()
        self.flights: Flights[Any] = Flights()
        self.told: list[tuple[SourceId, Token, bytes, Failure]] = []

        async def tell(*failure: Any) -> None:
            self.told.append(failure)

        self.failures = Failures(tell, self.clock, lambda: 0.5, TimesToLive())
        self.refreshes: Refreshes[Any] = Refreshes(2)
        self.at_hand = False
        self.sources = Sources(
            self.store,
            self.clock,
            self.threads,
            self.flights,
            Node("edge1", "127.0.0.1", 80),
            Spool(str(folder / "cache"), 100_000),
            self.failures,
            self.refreshes,
            is_at_hand=lambda key: self.at_hand,
        )
        self.site = Site(
            name="*",
            hosts=("img.example",),
            docroot=docroot,
            origin=self.origin,  # type: ignore[arg-type]
            grammars=(),
            extensions=(),
            prefix="",
            steps=Steps((), OffStep.ALLOW),
            max_age_s=60,
            cache_control="",
            max_source_bytes=1_000_000,
        )

    def later(self, seconds: int) -> None:
        self.now += seconds
        self.clock.tick()
        self.sources.tick()

    async def source(self, path: str = "/a.jpg", query: str = "") -> Source:
        found = await self.sources.open(self.site, path, query)
        assert isinstance(found.answer, Source)
        return found.answer

    async def passed(self, path: str = "/a.jpg") -> Passed:
        found = await self.sources.open(self.site, path)
        assert isinstance(found.answer, Passed)
        return found.answer

    async def original(self, path: str = "/a.jpg") -> Original:
        return await self.sources.open_body(self.site, await self.source(path))


def read(original: Original | Passed) -> bytes:
    body = original.body
    if isinstance(body, bytes):
        return body
    return os.pread(body.file.fd, len(body), body.start)


def run(folder: Path, test: Callable[[Bench], Awaitable[None]], docroot: Any = None) -> None:
    async def main() -> None:
        bench = Bench(folder, docroot)
        await bench.store.start()
        try:
            await test(bench)
        finally:
            await bench.refreshes.stop()
            await bench.flights.stop(5)
            await bench.sources.arrivals.stop(5)
            await bench.store.stop()
            bench.threads.shutdown()

    asyncio.run(main())


# An origin alone


def test_an_original_is_fetched_kept_and_confirmed(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        found = await bench.sources.open(bench.site, "/ä b.jpg")
        assert found.way is Way.FETCHED
        original = await bench.original("/ä b.jpg")
        assert read(original) == BODY
        assert (original.record.etag, original.record.length) == ('"one"', len(BODY))
        request = bench.origin.asked[0]
        assert (request.target, request.path, request.host) == (
            "/%C3%A4%20b.jpg",
            "/ä b.jpg",
            "img.example",
        )
        assert (request.is_for_all, request.remote_addr) == (True, "127.0.0.1")
        assert "if-none-match" not in bench.origin.fields
        bench.later(59)
        assert (await bench.sources.open(bench.site, "/ä b.jpg")).way is Way.KNOWN
        assert len(bench.origin.asked) == 1
        bench.later(1)
        bench.origin.say = lambda: Answer((("cache-control", "max-age=60"),), status=304)
        assert (await bench.sources.open(bench.site, "/ä b.jpg")).way is Way.CONFIRMED
        assert bench.origin.fields["if-none-match"] == '"one"'
        assert read(await bench.original("/ä b.jpg")) == BODY
        assert len(bench.origin.asked) == 2

    run(tmp_path, test)


def test_what_was_confirmed_survives_a_restart(tmp_path):
    async def first(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        await bench.source()

    async def second(bench: Bench) -> None:
        assert read(await bench.original()) == BODY
        assert not bench.origin.asked

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_query_is_part_of_the_question_and_no_part_of_a_path(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(cache_control="max-age=60")
        ids = {
            (await bench.source("/v", "id=1")).id,
            (await bench.source("/v", "id=2")).id,
            (await bench.source("/v?id=1")).id,
            (await bench.source("/v")).id,
        }
        assert len(ids) == 4
        assert [request.target for request in bench.origin.asked] == [
            "/v?id=1",
            "/v?id=2",
            "/v%3Fid=1",
            "/v",
        ]

    run(tmp_path, test)


NOT_KEPT = [
    (answer(status=404), 404, Storability.STORABLE),
    (answer(b"", status=204), 204, Storability.STORABLE),
    (answer(status=302, location="/b.jpg"), 302, Storability.NO_LIFETIME),
    (answer(cache_control="no-store"), 200, Storability.NO_STORE),
    (answer(cache_control="private"), 200, Storability.PRIVATE),
    (answer(cache_control="max-age=9", set_cookie="a=b"), 200, Storability.SET_COOKIE),
    (answer(cache_control="max-age=9", vary="Cookie"), 200, Storability.VARY),
]


@pytest.mark.parametrize(("said", "status", "storability"), NOT_KEPT)
def test_an_answer_that_is_not_kept(tmp_path, said, status, storability):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: said
        body = b"".join(said.pieces)
        passed = await bench.passed()
        assert (passed.status, passed.storability) == (status, storability)
        assert read(passed) == body
        assert passed.body_digest == xxhash.xxh3_128_digest(body)
        assert (passed.record is not None) == (status == 200)
        bench.later(60)  # a missing one is not asked for again at once
        bench.origin.say = lambda: answer(etag='"x"')
        assert isinstance(await bench.source(), Source)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("size", "is_in_memory"),
    [(0, True), (SHORT_BYTES, True), (SHORT_BYTES + 1, False), (100_000, False)],
)
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_short_body_that_is_not_kept_needs_no_file(tmp_path, size, is_in_memory, is_announced):
    async def test(bench: Bench) -> None:
        body = bytes(range(250)) * (size // 250 + 1)
        said = answer(body[:size], cache_control="no-store")
        bench.origin.say = lambda: said if is_announced else replace(said, content_length=None)
        passed = await bench.passed()
        assert isinstance(passed.body, bytes) is is_in_memory
        assert read(passed) == body[:size]
        assert passed.body_digest == xxhash.xxh3_128_digest(body[:size])
        file = await bench.sources.in_file(passed.body)
        assert os.pread(file.file.fd, size + 1, file.start) == body[:size]

    run(tmp_path, test)


def test_vary_on_what_is_always_the_same_is_no_hindrance(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(cache_control="max-age=9", vary="Accept-Encoding")
        await bench.source()
        assert bench.origin.fields["accept-encoding"] == "identity"

    run(tmp_path, test)


FAILING = [
    (lambda: answer(status=500), OriginBroken),
    (lambda: answer(status=599), OriginBroken),
    (lambda: answer(status=503), OriginOverloaded),
    (lambda: answer(status=429), OriginOverloaded),
    (lambda: answer(b"", status=304), OriginBroken),  # nothing was asked that it could answer
    (lambda: answer(status=206), OriginBroken),
    (lambda: Truncated((("etag", '"t"'),), pieces=[BODY[:100]]), OriginTruncated),
    (lambda: Answer((), local_redirect="/x"), OriginBroken),
]


@pytest.mark.parametrize(("say", "error"), FAILING)
def test_a_failing_origin_is_stood_in_for(tmp_path, say, error):
    async def test(bench: Bench) -> None:
        bench.origin.say = say
        with pytest.raises(error):
            await bench.source()
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        await bench.source()
        bench.later(60)
        # An unasked 304 apart: here it was asked for.
        if say().status == 304:
            return
        bench.origin.say = say
        source = await bench.source()
        assert source.is_stale
        assert read(await bench.sources.open_body(bench.site, source)) == BODY

    run(tmp_path, test)


def test_a_dead_origin_is_not_asked_per_request(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(cache_control="max-age=60, stale-if-error=100")
        await bench.source()
        bench.later(60)
        bench.origin.fails(OriginRefused("dead"))
        for _ in range(5):
            assert (await bench.source()).is_stale
        assert len(bench.origin.asked) == 2
        bench.later(RETRY_ORIGIN_S)
        assert (await bench.source()).is_stale
        assert len(bench.origin.asked) == 3
        bench.later(100 - RETRY_ORIGIN_S - 1)
        assert (await bench.source()).is_stale
        bench.later(1)  # the window is over, though the next try is not due yet
        with pytest.raises(OriginRefused):
            await bench.source()

    run(tmp_path, test)


GONE = [answer(status=404), answer(status=403), answer(OTHER, cache_control="no-store")]


@pytest.mark.parametrize("gone", GONE)
def test_what_was_taken_away_is_not_stood_in_for(tmp_path, gone):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        await bench.source()
        bench.later(60)
        bench.origin.say = lambda: gone
        await bench.passed()
        bench.later(60)
        bench.origin.fails(OriginRefused("dead"))
        with pytest.raises(OriginRefused):
            await bench.source()

    run(tmp_path, test)


def test_bytes_of_another_version_than_the_record_are_fetched_again(tmp_path):
    """As another node does it: the shared record is renewed, our file is not."""

    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        source = await bench.source()
        bench.origin.say = lambda: answer(OTHER, etag='"two"', cache_control="max-age=60")
        source.record = await other_record(bench)
        original = await bench.sources.open_body(bench.site, source)
        assert (original.record.etag, read(original)) == ('"two"', OTHER)
        assert len(bench.origin.asked) == 2

    run(tmp_path, test)


async def other_record(bench: Bench):
    import dataclasses

    source = await bench.source()
    return dataclasses.replace(source.record, validator='etag "two"', etag='"two"')


@pytest.mark.parametrize(
    ("is_evicted", "for_bytes", "is_at_hand", "is_asked_with_condition"),
    [
        (False, True, False, True),
        (True, False, False, True),  # derivatives may be there all the same
        (True, True, True, True),
        (True, True, False, False),
    ],
)
@pytest.mark.parametrize("control", ["max-age=60", "max-age=60, stale-while-revalidate=900"])
def test_a_stale_original_without_bytes_is_one_visit(
    tmp_path, is_evicted, for_bytes, is_at_hand, is_asked_with_condition, control
):
    async def test(bench: Bench) -> None:
        def say() -> Answer:
            if "if-none-match" in bench.origin.fields:
                return answer(b"", 304, etag='"one"', cache_control=control)
            return answer(etag='"one"', cache_control=control)

        bench.origin.say = say
        await bench.source()
        bench.later(61)
        bench.at_hand = is_at_hand
        if is_evicted:
            evict(tmp_path)
        found = await bench.sources.open(bench.site, "/a.jpg", for_bytes=for_bytes)
        # What goes on behind the answer is a visit, too.
        await until(lambda: not len(bench.refreshes))
        assert ("if-none-match" in bench.origin.fields) is is_asked_with_condition
        assert len(bench.origin.asked) == 2
        if not is_asked_with_condition:
            assert found.way is Way.FETCHED
            assert isinstance(found.answer, Source)
            assert not found.answer.is_stale
            assert read(await bench.sources.open_body(bench.site, found.answer)) == BODY
            assert len(bench.origin.asked) == 2

    run(tmp_path, test)


def evict(folder: Path) -> None:
    for file in (folder / "cache").glob("?/??/*"):
        file.unlink()


@pytest.mark.parametrize("after", [False, True])
def test_bytes_that_are_gone_are_stood_in_for_by_nothing(tmp_path, after):
    """What is made of them is: and the origin that failed is left alone. after: a restart."""

    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        await bench.source()
        bench.later(61)
        evict(tmp_path)
        if after:
            bench.sources._known.drop(SourceId("*", "/a.jpg"))
        bench.origin.fails(OriginRefused("dead"))
        with pytest.raises(OriginRefused):
            await bench.sources.open(bench.site, "/a.jpg", for_bytes=True)
        assert (await bench.source()).is_stale
        assert len(bench.origin.asked) == 2
        bench.later(RETRY_ORIGIN_S)
        bench.origin.say = lambda: answer(b"", 304)  # nobody asked whether it is the same
        with pytest.raises(OriginBroken):
            await bench.sources.open(bench.site, "/a.jpg", for_bytes=True)
        assert "if-none-match" not in bench.origin.fields
        bench.later(RETRY_ORIGIN_S)
        bench.origin.say = lambda: answer(b"gone", 404)
        found = await bench.sources.open(bench.site, "/a.jpg", for_bytes=True)
        assert isinstance(found.answer, Passed)
        bench.later(61)
        bench.origin.fails(OriginRefused("dead"))
        with pytest.raises(OriginRefused):  # what it gave before does not come back
            await bench.source()

    run(tmp_path, test)


def test_evicted_bytes_are_fetched_once_for_everybody(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        source = await bench.source()
        for file in (tmp_path / "cache").glob("?/??/*"):
            file.unlink()
        bench.origin.hold = asyncio.Event()
        asking = [
            asyncio.create_task(bench.sources.open_body(bench.site, source)) for _ in range(9)
        ]
        await until(lambda: bench.flights.stats.joined >= 8, pause_s=0)
        bench.origin.hold.set()
        assert {read(await one) for one in asking} == {BODY}
        assert len(bench.origin.asked) == 2

    run(tmp_path, test)


def test_evicted_bytes_that_may_no_longer_be_kept(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        source = await bench.source()
        for file in (tmp_path / "cache").glob("?/??/*"):
            file.unlink()
        bench.origin.say = lambda: answer(OTHER, cache_control="no-store")
        with pytest.raises(OriginChanged):
            await bench.sources.open_body(bench.site, source)
        assert read(await bench.passed()) == OTHER
        bench.origin.say = lambda: answer(status=404)
        with pytest.raises(NotFound):
            await bench.sources.open_body(bench.site, source)

    run(tmp_path, test)


def test_many_at_once_make_one_visit(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.hold = asyncio.Event()
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        asking = [asyncio.create_task(bench.sources.open(bench.site, "/a.jpg")) for _ in range(9)]
        await until(lambda: bench.origin.asked, pause_s=0)
        bench.origin.hold.set()
        found = [await one for one in asking]
        assert sum(one.collapsed for one in found) == 8
        assert len(bench.origin.asked) == 1
        # What was made for one client is nobody else's.
        bench.origin.say = lambda: answer(set_cookie="a=b")
        found = await asyncio.gather(*(bench.sources.open(bench.site, "/b.jpg") for _ in range(9)))
        assert len({id(one.answer) for one in found}) == 9
        assert len(bench.origin.asked) == 10

    run(tmp_path, test)


def test_a_disk_that_fills_up_in_the_middle(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        pieces = 0

        def write(self: object, data: bytes) -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 2:
                raise NoSpace("full")

        monkeypatch.setattr("cache.fill.Fill.write", write)
        passed = await bench.passed()
        assert (read(passed), passed.status) == (BODY, 200)
        assert passed.record is not None
        assert passed.record.validator == 'etag "one"'
        assert not list((tmp_path / "cache").rglob(".tmp-*"))

    run(tmp_path, test)


# The index


def test_while_the_index_is_down_the_record_in_memory_is_believed(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        await bench.source()

        async def down(*_: object, **__: object) -> Any:
            raise IndexUnavailable("down")

        monkeypatch.setattr(EmbeddedIndex, "exclusive", False)
        for name in ("open_source", "put_source", "publish"):
            monkeypatch.setattr(bench.index, name, down)
        bench.later(60)
        bench.origin.say = lambda: answer(OTHER, etag='"two"', cache_control="max-age=60")
        assert read(await bench.original()) == OTHER
        for _ in range(5):
            bench.later(STAT_TTL_S)
            assert read(await bench.original()) == OTHER
        assert len(bench.origin.asked) == 2
        bench.later(60)
        bench.origin.fails(OriginRefused("dead"))
        assert (await bench.source()).is_stale
        assert read(await bench.original()) == OTHER

    run(tmp_path, test)


def test_tags_that_were_configured_since_count_for_what_is_known(tmp_path):
    """The record is from before them, whether it comes from the index or from the file."""

    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(
            etag='"one"', cache_control="max-age=60", surrogate_key="x"
        )
        for path in ("/a.jpg", "/b.jpg"):
            assert (await bench.source(path)).record.tags == ("x",)
        bench.later(61)
        bench.origin.say = lambda: answer(b"", 304, cache_control="max-age=60")
        bench.site = replace(bench.site, tags=PathTags((("letters", ("/",)),)))
        sources = [await bench.source(path) for path in ("/a.jpg", "/b.jpg")]
        assert [source.record.tags for source in sources] == [("x", "letters")] * 2
        listed = await bench.index.sources_of(Scope.TAG, "*", "letters", 9)
        assert [source.path for source in listed] == ["/a.jpg", "/b.jpg"]
        await obeyed(bench, Order(Act.PURGE, Scope.TAG, "*", "letters", 5))
        assert [source.fresh_until for source in sources] == [0, 0]

    run(tmp_path, test)


def test_after_a_purge_nothing_is_confirmed_and_nothing_stale(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        source = await bench.source()
        bench.later(60)
        bench.origin.hold = asyncio.Event()
        bench.origin.say = lambda: Answer((("cache-control", "max-age=60"),), status=304)
        asking = asyncio.create_task(bench.sources.open(bench.site, "/a.jpg"))
        await until(lambda: len(bench.origin.asked) >= 2, pause_s=0)
        await bench.store.purge(source.id)
        bench.origin.hold.set()
        await asking  # came before the purge
        bench.origin.say = lambda: answer(OTHER, etag='"one"', cache_control="max-age=60")
        assert read(await bench.original()) == OTHER
        assert "if-none-match" not in bench.origin.fields

    run(tmp_path, test)


# A docroot


class Folder:
    """A docroot that the test breaks."""

    def __init__(self, real: Docroot) -> None:
        self.real = real
        self.error: Exception | None = None

    def stat(self, path: str):
        if self.error is not None:
            raise self.error
        return self.real.stat(path)

    def open(self, path: str):
        if self.error is not None:
            raise self.error
        return self.real.open(path)

    def open_now(self, path: str) -> None:
        return None


@pytest.fixture
def docroot(tmp_path):
    folder = tmp_path / "originals"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(BODY)
    (folder / "folder").mkdir()
    with Docroot(str(folder)) as real:
        yield Folder(real)


def test_the_docroot_is_asked_first_and_again(tmp_path, docroot):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=3600")
        assert read(await bench.original()) == BODY
        assert (await bench.source("/a.jpg", "v=2")).id == (await bench.source()).id
        assert read(await bench.original("/b.jpg")) == OTHER
        assert read(await bench.original("/folder")) == OTHER  # a folder is no original
        (tmp_path / "originals" / "b.jpg").write_bytes(BODY)
        bench.later(STAT_TTL_S)
        assert read(await bench.original("/b.jpg")) == BODY
        (tmp_path / "originals" / "b.jpg").unlink()
        bench.later(STAT_TTL_S)
        assert read(await bench.original("/b.jpg")) == OTHER
        assert len(bench.origin.asked) == 2

    run(tmp_path, test, docroot)


def test_a_dead_origin_beside_a_docroot_is_left_alone_as_long(tmp_path, docroot):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=5")
        await bench.source("/b.jpg")
        bench.later(5)
        bench.origin.fails(OriginRefused("dead"))
        for _ in range(RETRY_ORIGIN_S - 1):
            assert (await bench.source("/b.jpg")).is_stale
            bench.later(STAT_TTL_S)
        assert len(bench.origin.asked) == 2

    run(tmp_path, test, docroot)


def test_a_file_replaced_after_it_was_looked_at(tmp_path, docroot):
    async def test(bench: Bench) -> None:
        source = await bench.source()
        before = source.record
        new = tmp_path / "originals" / "new"
        new.write_bytes(OTHER)
        os.utime(new, (1, 1))
        new.rename(tmp_path / "originals" / "a.jpg")
        original = await bench.sources.open_body(bench.site, source)
        assert read(original) == OTHER
        assert original.record == source.record != before
        (tmp_path / "originals" / "a.jpg").unlink()
        with pytest.raises(NotFound):
            await bench.sources.open_body(bench.site, source)

    run(tmp_path, test, docroot)


def test_a_file_that_changed_before_it_was_opened_keeps_its_tags(tmp_path, docroot):
    """A purge by tag finds it at once, not with the next look at the file."""

    async def test(bench: Bench) -> None:
        bench.site = replace(bench.site, tags=PathTags((("letters", ("/a",)),)))
        source = await bench.source()
        (tmp_path / "originals" / "a.jpg").write_bytes(OTHER[:-1])
        original = await bench.sources.open_body(bench.site, source)
        assert read(original) == OTHER[:-1]
        assert original.record.tags == source.record.tags == ("letters",)
        await bench.sources.ask_tokens(source)
        await obeyed(bench, Order(Act.PURGE, Scope.TAG, "*", "letters", 5))
        assert source.fresh_until == 0
        assert source.opened is NOT_ASKED

    run(tmp_path, test, docroot)


async def obeyed(bench: Bench, order: Order) -> None:
    """An order, as it is heard of."""
    assert bench.store.obey(order)
    await bench.sources.obey(order)


def test_a_sick_disk_fails_no_hit(tmp_path, docroot):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=60")
        source = await bench.source()
        other = await bench.source("/b.jpg")
        bench.later(STAT_TTL_S)
        docroot.error = DocrootFailed("EIO")
        assert await bench.source() is source
        assert await bench.source("/b.jpg") is other
        assert bench.sources.stats.sick == 2
        with pytest.raises(DocrootFailed):
            await bench.source("/c.jpg")
        with pytest.raises(DocrootFailed):
            await bench.original()
        docroot.error = NotAllowed("a link", Refusal.ESCAPE)
        bench.later(STAT_TTL_S)
        with pytest.raises(NotAllowed):
            await bench.source()

    run(tmp_path, test, docroot)


# Bodies that are not kept


def test_a_spool_without_a_folder_uses_memory_up_to_its_bound(tmp_path):
    spool = Spool(str(tmp_path / "nothing"), 100)
    body = spool.open()
    body.write(b"a" * 60)
    with pytest.raises(StoreBusy):
        body.write(b"b" * 60)
    piece = body.slice()
    assert os.pread(piece.file.fd, 100, 0) == b"a" * 60
    del body, piece
    again = spool.open()  # what its readers let go of is free
    again.write(b"c" * 100)


def test_a_spool_moves_when_the_disk_refuses(tmp_path, monkeypatch):
    spool = Spool(str(tmp_path), 1000)
    body = spool.open()
    body.write(b"a" * 300)
    full = body._file.fd
    pwrite = os.pwrite

    def refuse(fd: int, data: bytes, offset: int) -> int:
        if fd == full:
            raise OSError(28, "No space left on device")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", refuse)
    body.write(b"b" * 300)
    body.write(b"c")
    piece = body.slice()
    assert os.pread(piece.file.fd, 1000, 0) == b"a" * 300 + b"b" * 300 + b"c"
