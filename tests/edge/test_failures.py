"""What is remembered of failures, for how long, and what ends it."""

import asyncio
import dataclasses
import gc
import weakref
from typing import Any

import pytest

from cache.index.interface import UNKNOWN_TOKEN, Failure, Token
from cache.key import SourceId
from cache.store import Opened
from edge.clock import Clock
from edge.errors import Gone, NotFound, refusal_of
from edge.failures import Failures, Kind, Remembered, TimesToLive, failure_digest
from edge.http.freshness import Storability
from edge.origin.errors import OriginRefused
from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    MarkUnusable,
    PictureBarred,
    PictureTooLarge,
    QueueFull,
    ResizerStopped,
    UnsupportedFormat,
    WaitExceeded,
    WorkerCrashed,
)
from resizer.transform import Transform
from tests.edge.test_ladders import Bench as Renders
from tests.edge.test_ladders import run as render
from tests.edge.test_source import OTHER, Bench, Folder, answer, docroot, read, run

__all__ = ["docroot"]  # a fixture

SOURCE, ELSE = SourceId("*", "/a.jpg"), SourceId("*", "/b.jpg")
TOKEN, NEWER = Token("0123456789abcdef", 1), Token("0123456789abcdef", 2)
DIGEST = failure_digest(b"a key", "version 1")


class Memory:
    """Failures on a clock of the test; told is what others would know."""

    def __init__(self, limit: int = 100, chance: float = 0.5, **times: float) -> None:
        self.now = 1_700_000_000
        self.clock = Clock(lambda: self.now, lambda: 0.0)
        self.told: dict[bytes, Failure] = {}
        self.failures = Failures(self.tell, self.clock, lambda: chance, TimesToLive(**times), limit)

    async def tell(self, source: SourceId, token: Token, digest: bytes, failure: Failure) -> None:
        self.told[digest] = failure

    def later(self, seconds: int) -> None:
        self.now += seconds
        self.clock.tick()
        self.failures.tick()

    def meet(self, error: Exception, digest: bytes = DIGEST, source: SourceId = SOURCE) -> None:
        asyncio.run(self.failures.remember(source, TOKEN, digest, error))

    def miss(self, status: int = 404, storability: Any = Storability.STORABLE, **fields: str):
        folded = {name.replace("_", "-"): [text] for name, text in fields.items()}
        asyncio.run(self.failures.remember_missing(SOURCE, TOKEN, status, folded, storability))

    def again(
        self,
        digest: bytes = DIGEST,
        token: Token = TOKEN,
        source: SourceId = SOURCE,
        told: dict[bytes, Failure] | None = None,
    ) -> Remembered | None:
        try:
            self.failures.check(source, digest, Opened(token, token, None, failures=told or {}))
        except Remembered as error:
            return error
        return None


KINDS = [
    (CorruptPicture("bad Huffman code"), Kind.CORRUPT, 60),
    (UnsupportedFormat("a TIFF"), Kind.CORRUPT, 60),
    (PictureTooLarge("99 megapixels"), Kind.TOO_LARGE, 60),
    (DeadlineExceeded("killed after 10 s"), Kind.TIMEOUT, 5),
    (PictureBarred("twice"), Kind.CRASHED, 600),
]


@pytest.mark.parametrize(("error", "kind", "seconds"), KINDS)
def test_each_kind_for_its_time(error, kind, seconds):
    memory = Memory()
    assert memory.again() is None
    memory.meet(error)
    memory.later(seconds - 1)
    again = memory.again()
    # Whoever knows the failure, knows it again, and the client is told the same.
    assert isinstance(again, type(error))
    assert refusal_of(again) == refusal_of(error)
    assert (again.retry_after_s, str(error) in str(again)) == (1, True)
    assert memory.failures.entries()[kind] == 1
    assert memory.told[DIGEST].until == memory.now + 1
    memory.later(1)
    assert memory.again() is None
    assert len(memory.failures) == 0
    stats = memory.failures.stats
    assert (stats.remembered[kind], sum(stats.remembered.values())) == (1, 1)
    assert (stats.answered[kind], sum(stats.answered.values())) == (1, 1)


NEVER = [
    QueueFull("overload", 3),
    WaitExceeded("overload too"),
    ResizerStopped("ours"),
    WorkerCrashed("may be another's fault"),
    MarkUnusable("another file's"),
    ImpossibleTransform("the request's"),
    OriginRefused("the origin's"),
    NotFound("of a docroot, which is quick to ask"),
    ValueError("a bug"),
]


@pytest.mark.parametrize("error", NEVER, ids=lambda error: type(error).__name__)
def test_what_is_never_remembered(error):
    memory = Memory()
    memory.meet(error)
    assert memory.again() is None
    assert not memory.told


def test_an_answer_from_memory_is_no_new_failure():
    memory = Memory()
    memory.meet(CorruptPicture("x"))
    memory.later(50)
    again = memory.again()
    assert again is not None
    memory.meet(again)
    memory.later(10)
    assert memory.again() is None


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 48), (0.5, 60), (1.0, 72)])
def test_what_failed_together_is_not_tried_together(chance, seconds):
    memory = Memory(chance=chance)
    memory.meet(CorruptPicture("x"))
    assert memory.told[DIGEST].until == memory.now + seconds


def test_times_are_whole_seconds_and_0_remembers_nothing():
    memory = Memory(corrupt=0.2, timeout=0.0, not_found=0.0)
    memory.meet(CorruptPicture("x"))
    assert memory.told[DIGEST].until == memory.now + 1
    other = failure_digest(b"b")
    memory.meet(DeadlineExceeded("x"), other)
    memory.miss(cache_control="max-age=60")
    assert list(memory.told) == [DIGEST]


def test_what_changes_ends_it():
    memory = Memory()
    memory.meet(CorruptPicture("x"))
    assert memory.again() is not None
    assert memory.again(failure_digest(b"a key", "version 2")) is None  # the source has changed
    assert memory.again(token=NEWER) is None  # it was purged, by whomever
    assert memory.again(token=UNKNOWN_TOKEN) is None
    assert memory.again(source=ELSE) is None
    memory.failures.forget(ELSE)
    assert memory.again() is not None
    memory.failures.forget(SOURCE)
    assert memory.again() is None
    assert (len(memory.failures), memory.failures.entries()[Kind.CORRUPT]) == (0, 0)


def test_what_others_have_met():
    here, there = Memory(), Memory()
    there.meet(PictureBarred("twice"))
    assert isinstance(here.again(told=there.told), PictureBarred)
    here.later(600)
    assert here.again(told=there.told) is None
    # Words of another release, and clocks that are wrong, are left alone.
    until = here.now + 5
    assert here.again(told={DIGEST: Failure("melted", until)}) is None
    assert here.again(told={DIGEST: Failure("barred", here.now + 10_000)}) is None
    assert here.again(told={DIGEST: Failure("missing", here.now + 100_000)}) is None


MISSING = [
    # status, storability, fields, seconds
    (404, Storability.STORABLE, {}, 10),
    (410, Storability.STORABLE, {}, 10),
    (404, Storability.STORABLE, {"cache_control": "max-age=3600"}, 3600),
    (404, Storability.STORABLE, {"cache_control": "max-age=3600", "age": "600"}, 3000),
    (404, Storability.STORABLE, {"cache_control": "max-age=3"}, 3),
    (404, Storability.STORABLE, {"cache_control": "max-age=3, s-maxage=7"}, 7),
    (404, Storability.STORABLE, {"cache_control": "max-age=99999999"}, 86_400),
    (404, Storability.STORABLE, {"cdn_cache_control": "max-age=20"}, 20),
    (404, Storability.STORABLE, {"cache_control": "public"}, 10),
    # A page's own date is no promise of absence.
    (404, Storability.STORABLE, {"last_modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, 10),
    (404, Storability.STORABLE, {"cache_control": "max-age=0"}, 0),
    (404, Storability.STORABLE, {"cache_control": "no-cache"}, 0),
    (404, Storability.STORABLE, {"expires": "0"}, 0),
    (404, Storability.NO_STORE, {"cache_control": "no-store"}, 0),
    (404, Storability.PRIVATE, {"cache_control": "private, max-age=9"}, 0),
    (404, Storability.SET_COOKIE, {"set_cookie": "a=b"}, 0),
    (404, Storability.VARY, {"vary": "cookie"}, 0),
    (403, Storability.STORABLE, {}, 0),
    (204, Storability.STORABLE, {}, 0),
    (200, Storability.STORABLE, {"cache_control": "max-age=9"}, 0),
]


@pytest.mark.parametrize(("status", "storability", "fields", "seconds"), MISSING)
def test_what_an_origin_has_not(status, storability, fields, seconds):
    memory = Memory()
    memory.miss(status, storability, **fields)
    digest = failure_digest(SOURCE.digest)
    if not seconds:
        assert not memory.told
        return
    assert memory.told[digest].until == memory.now + seconds
    again = memory.again(digest)
    assert isinstance(again, Gone if status == 410 else NotFound)
    assert refusal_of(again).status == status


def test_a_bound_and_who_makes_room():
    memory = Memory(limit=3)
    names = [failure_digest(b"%d" % number) for number in range(4)]
    memory.meet(CorruptPicture("x"), names[0])
    memory.meet(DeadlineExceeded("x"), names[1], ELSE)  # over soonest
    memory.meet(CorruptPicture("x"), names[2])
    memory.meet(CorruptPicture("x"), names[3])
    assert len(memory.failures) == 3
    assert memory.again(names[1], source=ELSE) is None
    assert all(memory.again(names[number]) for number in (0, 2, 3))
    assert memory.failures.stats.crowded_out == 1
    # What was forgotten and met anew keeps its own end.
    memory.failures.forget(SOURCE)
    memory.later(30)
    memory.meet(CorruptPicture("x"), names[0])
    memory.later(30)
    assert memory.again(names[0]) is not None
    memory.later(30)
    assert len(memory.failures) == 0


def test_ends_of_what_was_forgotten_do_not_pile_up():
    memory = Memory(limit=3)
    for _ in range(50):
        memory.meet(CorruptPicture("x"))
        memory.failures.forget(SOURCE)
    memory.meet(CorruptPicture("x"))
    assert len(memory.failures._ends) <= 6
    assert memory.again() is not None
    assert memory.failures.stats.crowded_out == 0


class Name(str):
    """Whose end can be seen."""


def test_long_names_are_not_held():
    """Anybody may ask for thousands of URLs of 8 KiB that are not there."""
    memory = Memory()
    path = Name("/" + "a" * 8000)
    source = SourceId("*", path)
    held = weakref.ref(path)
    memory.meet(CorruptPicture("x"), source=source)
    assert memory.again(source=source) is not None
    del source, path
    gc.collect()
    assert len(memory.failures) == 1
    assert held() is None


def test_a_clock_that_is_set_back_forgets():
    memory = Memory()
    memory.meet(CorruptPicture("x"))
    memory.later(-60)
    assert memory.again() is not None
    memory.later(-61)
    assert memory.again() is None
    assert (len(memory.failures), memory.failures.entries()[Kind.CORRUPT]) == (0, 0)


def test_a_detail_is_cut():
    memory = Memory()
    memory.meet(CorruptPicture("x" * 1000))
    assert len(memory.told[DIGEST].detail) == 200


# With sources


def test_a_missing_original_is_asked_for_once(tmp_path):
    async def test(bench: Bench) -> None:
        passed = await bench.passed()
        assert passed.status == 404
        for _ in range(20):
            with pytest.raises(NotFound):
                await bench.source()
        with pytest.raises(Remembered):
            await bench.source()
        assert len(bench.origin.asked) == 1
        assert [failure.kind for *_, failure in bench.told] == ["missing"]
        await bench.passed("/b.jpg")  # another one is another question
        bench.later(10)
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=60")
        assert read(await bench.original()) == OTHER
        assert len(bench.origin.asked) == 3

    run(tmp_path, test)


def test_a_purge_lets_it_be_asked_for_again(tmp_path):
    async def test(bench: Bench) -> None:
        await bench.passed()
        await bench.store.purge(SOURCE)
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=60")
        assert read(await bench.original()) == OTHER

    run(tmp_path, test)


def test_a_file_that_appears_is_seen(tmp_path, docroot: Folder):
    async def test(bench: Bench) -> None:
        await bench.passed("/b.jpg")
        with pytest.raises(NotFound):
            await bench.source("/b.jpg")
        (tmp_path / "originals" / "b.jpg").write_bytes(OTHER)
        assert read(await bench.original("/b.jpg")) == OTHER

    run(tmp_path, test, docroot)


def test_what_came_back_elsewhere_is_no_longer_missing(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=60")
        record = (await bench.source()).record
        bench.later(60)
        bench.origin.say = lambda: answer(status=404)
        await bench.passed()
        with pytest.raises(Remembered):
            await bench.source()
        # As another node does it.
        token = (await bench.store.open_source(SOURCE)).token
        fresh_until = bench.now + 2
        record = dataclasses.replace(record, fresh_until=fresh_until, stale_until=fresh_until)
        assert await bench.store.put_source(SOURCE, token, record)
        await bench.source()
        assert len(bench.origin.asked) == 2
        bench.later(2)
        await bench.passed()
        assert len(bench.origin.asked) == 3

    run(tmp_path, test)


# With derivatives


@pytest.mark.parametrize("error", [each[0] for each in KINDS], ids=lambda e: type(e).__name__)
def test_a_render_that_failed_is_not_tried_again(tmp_path, error):
    async def test(bench: Renders) -> None:
        bench.pool.live_error = error
        for number in range(5):
            with pytest.raises(type(error)) as met:
                await bench.miss()
            assert isinstance(met.value, Remembered) == (number > 0)
        assert (bench.pool.live, bench.derivatives.stats.misses) == ([200], 1)
        assert len(bench.told) == 1
        # Another size is another question, and so is another version.
        with pytest.raises(type(error)):
            await bench.miss(transform=Transform(width=61))
        assert bench.pool.live == [200, 61]
        bench.pool.live_error = None
        (bench.root / "a.jpg").write_text("another picture, of another size")
        bench.sources.doubt(SourceId("*", "/a.jpg"))
        await bench.miss()

    render(tmp_path, test)


@pytest.mark.parametrize("error", [QueueFull("full", 2), WaitExceeded("full"), WorkerCrashed("1")])
def test_a_render_that_may_work_at_once(tmp_path, error):
    async def test(bench: Renders) -> None:
        bench.pool.live_error = error
        for _ in range(3):
            with pytest.raises(type(error)):
                await bench.miss()
        assert bench.pool.live == [200, 200, 200]
        bench.pool.live_error = None
        await bench.miss()

    render(tmp_path, test)


def test_an_original_over_the_sites_limit_is_not_opened_again(tmp_path):
    async def test(bench: Renders) -> None:
        (bench.root / "a.jpg").write_bytes(b"x" * 2000)
        for _ in range(3):
            with pytest.raises(PictureTooLarge):
                await bench.miss()
        assert bench.derivatives.stats.misses == 1

    render(tmp_path, test)
