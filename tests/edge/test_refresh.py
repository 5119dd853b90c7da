"""What is served stale while its origin is asked behind it. The bench is that of test_source."""

import asyncio
import dataclasses
import logging

import pytest

from cache.errors import FlightLost
from cache.index.interface import Token
from cache.key import SourceId
from edge.lifetimes import Lifetimes
from edge.origin.errors import OriginRefused
from edge.refresh import Refreshes
from edge.source import RETRY_ORIGIN_S, STAT_TTL_S, Home, Source, Stale, Way
from tests.edge.test_record import Answer
from tests.edge.test_source import BODY, OTHER, Bench, Folder, answer, docroot, read, run
from tests.waiting import until

__all__ = ["docroot"]  # a fixture

MEANWHILE = "max-age=60, stale-while-revalidate=30, stale-if-error=0"
TOKEN = Token("0123456789abcdef", 1)


async def stale(bench: Bench, control: str = MEANWHILE) -> Source:
    """One original, a second past its lifetime; the origin hangs from now on."""
    bench.origin.say = lambda: answer(etag='"one"', cache_control=control)
    source = await bench.source()
    bench.later(61)
    bench.origin.hold = asyncio.Event()
    return source


async def asked(bench: Bench, times: int) -> None:
    await until(lambda: len(bench.origin.asked) >= times, pause_s=0)


async def ended(bench: Bench) -> None:
    stats = bench.refreshes.stats
    await until(lambda: stats.started == stats.done + stats.failed, pause_s=0)


def test_nobody_waits_for_an_origin_that_hangs(tmp_path):
    async def test(bench: Bench) -> None:
        source = await stale(bench)
        for _ in range(3):
            found = await bench.sources.open(bench.site, "/a.jpg")
            assert (found.way, found.answer) == (Way.KNOWN, source)
            assert source.stale is Stale.WHILE_REVALIDATE
            assert read(await bench.original()) == BODY
            bench.later(STAT_TTL_S)
        await asked(bench, 2)
        assert bench.origin.fields["if-none-match"] == '"one"'
        assert (bench.refreshes.stats.started, len(bench.refreshes)) == (1, 1)
        facts = Lifetimes("edge1", bench.clock).facts_of_hit(bench.site, source, "memory")
        assert facts.cache_control == f"max-age={RETRY_ORIGIN_S}"
        assert (facts.age_s, facts.cache_status) == (
            64,
            "edge1; hit; ttl=-4; detail=stale-while-revalidate",
        )
        bench.origin.say = lambda: answer(OTHER, etag='"two"', cache_control=MEANWHILE)
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        await ended(bench)
        assert source.stale is None
        assert (await bench.source()).record.etag == '"two"'
        assert read(await bench.original()) == OTHER
        assert len(bench.origin.asked) == 2
        assert (bench.refreshes.stats.done, bench.refreshes.stats.failed) == (1, 0)

    run(tmp_path, test)


def test_a_confirmation_behind_gives_a_new_lifetime(tmp_path):
    async def test(bench: Bench) -> None:
        source = await stale(bench)
        await bench.source()
        bench.origin.say = lambda: Answer((("cache-control", MEANWHILE),), status=304)
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        await ended(bench)
        assert (source.stale, source.record.fresh_until) == (None, bench.now + 60)
        assert source.record.revalidate_until == bench.now + 90

    run(tmp_path, test)


def test_the_window_survives_a_restart(tmp_path):
    async def first(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control=MEANWHILE)
        await bench.source()

    async def second(bench: Bench) -> None:
        bench.later(61)
        bench.origin.hold = asyncio.Event()
        assert (await bench.source()).stale is Stale.WHILE_REVALIDATE
        bench.origin.hold.set()

    run(tmp_path, first)
    run(tmp_path, second)


def test_behind_the_window_the_answer_is_waited_for(tmp_path):
    async def test(bench: Bench) -> None:
        await stale(bench)
        await bench.source()
        await asked(bench, 2)
        bench.later(29)  # 30 s past its lifetime
        waiting = asyncio.create_task(bench.source())
        await until(lambda: bench.flights.stats.led >= 3, pause_s=0)
        assert not waiting.done()
        bench.origin.say = lambda: Answer((("cache-control", MEANWHILE),), status=304)
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        assert not (await waiting).is_stale
        assert len(bench.origin.asked) == 2  # what was under way was joined

    run(tmp_path, test)


FAILURES = [
    # control, then after a failure behind: served by, and how long past the lifetime
    (MEANWHILE, Stale.WHILE_REVALIDATE, 30),
    ("max-age=60, stale-while-revalidate=5, stale-if-error=40", Stale.IF_ERROR, 40),
    ("max-age=60, s-maxage=60, stale-while-revalidate=20", Stale.WHILE_REVALIDATE, 20),
]


@pytest.mark.parametrize(("control", "why", "window"), FAILURES)
def test_a_failure_behind(tmp_path, control, why, window, caplog):
    async def test(bench: Bench) -> None:
        await stale(bench, control)
        await bench.source()
        bench.origin.fails(OriginRefused("dead"))
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        await ended(bench)
        assert bench.refreshes.stats.failed == 1
        assert "'/a.jpg' stays stale: OriginRefused: dead" in caplog.text
        for _ in range(RETRY_ORIGIN_S - 1):
            bench.later(STAT_TTL_S)
            assert (await bench.source()).stale is why
        assert len(bench.origin.asked) == 2  # left alone for a while
        bench.later(1)
        assert (await bench.source()).is_stale
        await ended(bench)
        assert len(bench.origin.asked) == 3
        bench.later(window - 1 - RETRY_ORIGIN_S - 1)
        assert (await bench.source()).is_stale
        await ended(bench)
        bench.later(1)
        with pytest.raises(OriginRefused):
            await bench.source()

    with caplog.at_level(logging.WARNING):
        run(tmp_path, test)


GONE = [answer(status=404), answer(OTHER, cache_control="no-store")]


@pytest.mark.parametrize("gone", GONE)
def test_what_is_found_gone_behind_is_not_served_again(tmp_path, gone):
    async def test(bench: Bench) -> None:
        await stale(bench, "max-age=60, stale-while-revalidate=30")
        await bench.source()
        bench.origin.say = lambda: dataclasses.replace(gone, pieces=list(gone.pieces))
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        await ended(bench)
        if gone.status == 404:
            with pytest.raises(Exception, match="answered 404"):
                await bench.source()
        else:
            assert read(await bench.passed()) == OTHER

    run(tmp_path, test)


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_purge_meanwhile_wins(tmp_path, is_failing):
    async def test(bench: Bench) -> None:
        source = await stale(bench)
        await bench.source()
        await asked(bench, 2)
        await bench.store.purge(source.id)
        bench.sources.doubt(source.id)
        if is_failing:
            bench.origin.fails(OriginRefused("dead"))
        else:
            bench.origin.say = lambda: Answer((("cache-control", MEANWHILE),), status=304)
        assert bench.origin.hold is not None
        bench.origin.hold.set()
        await ended(bench)
        bench.origin.say = lambda: answer(OTHER, etag='"one"', cache_control=MEANWHILE)
        assert read(await bench.original()) == OTHER
        assert "if-none-match" not in bench.origin.fields

    run(tmp_path, test)


def test_after_a_purge_nobody_waits_for_what_it_overtook(tmp_path):
    async def test(bench: Bench) -> None:
        source = await stale(bench)
        await bench.source()
        await asked(bench, 2)
        before, bench.origin.hold = bench.origin.hold, None
        await bench.store.purge(source.id)
        bench.sources.doubt(source.id)
        bench.origin.say = lambda: answer(OTHER, cache_control="max-age=0, stale-if-error=0")
        assert read(await bench.original()) == OTHER
        assert read(await bench.original()) == OTHER  # stale at once: asked, not joined
        assert len(bench.origin.asked) >= 4
        assert before is not None
        before.set()

    run(tmp_path, test)


def test_all_stale_at_once_is_no_storm(tmp_path):
    """The clock jumps. The bench has room for two refreshes; who finds none asks a turn later."""

    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control=MEANWHILE)
        paths = [f"/{number}.jpg" for number in range(5)]
        for path in paths:
            await bench.source(path)
        bench.later(70)
        bench.origin.hold = asyncio.Event()
        for _ in range(2):
            for path in paths:
                assert (await bench.source(path)).is_stale
        await asked(bench, 7)
        assert (len(bench.origin.asked), bench.refreshes.stats.refused) == (7, 3)
        bench.origin.hold.set()
        for _ in range(3):
            await ended(bench)
            bench.later(STAT_TTL_S)
            for path in paths:
                await bench.source(path)
        assert len(bench.origin.asked) == 10
        assert not any([(await bench.source(path)).is_stale for path in paths])

    run(tmp_path, test)


def test_a_clock_that_is_set_back(tmp_path, caplog):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=600")
        await bench.source()
        bench.later(-59)  # a step that clocks are known to make
        await bench.source()
        assert len(bench.origin.asked) == 1
        bench.later(-61)
        bench.origin.say = lambda: Answer((("cache-control", "max-age=600"),), status=304)
        assert (await bench.sources.open(bench.site, "/a.jpg")).way is Way.CONFIRMED
        assert (await bench.sources.open(bench.site, "/a.jpg")).way is Way.KNOWN
        assert (await bench.source()).record.stored_at == bench.now
        assert "the clock was set back 61 s" in caplog.text

    run(tmp_path, test)


def test_a_record_from_the_future_is_asked_about(tmp_path):
    async def first(bench: Bench) -> None:
        bench.later(1000)
        bench.origin.say = lambda: answer(etag='"one"', cache_control="max-age=600")
        await bench.source()

    async def second(bench: Bench) -> None:
        bench.origin.say = lambda: Answer((("cache-control", "max-age=600"),), status=304)
        assert (await bench.sources.open(bench.site, "/a.jpg")).way is Way.CONFIRMED

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_file_that_appears_meanwhile_comes_first(tmp_path, docroot: Folder):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(OTHER, etag='"one"', cache_control=MEANWHILE)
        await bench.source("/b.jpg")
        bench.later(61)
        bench.origin.hold = asyncio.Event()
        assert (await bench.source("/b.jpg")).is_stale
        (tmp_path / "originals" / "b.jpg").write_bytes(BODY)
        bench.later(STAT_TTL_S)
        source = await bench.source("/b.jpg")
        assert (source.home, source.stale) == (Home.DOCROOT, None)
        bench.origin.fails(OriginRefused("dead"))
        bench.origin.hold.set()
        await ended(bench)
        assert (source.home, source.stale, source.retry_at) == (Home.DOCROOT, None, 0)

    run(tmp_path, test, docroot)


# The table alone


def test_one_a_source_and_a_bound():
    async def test() -> None:
        refreshes: Refreshes[int] = Refreshes(2)
        gate = asyncio.Event()
        begun = 0

        async def refresh() -> int:
            nonlocal begun
            begun += 1
            await gate.wait()
            return 7

        names = [(SourceId("*", f"/{number}"), TOKEN) for number in range(3)]
        for name in names * 2:
            refreshes.ask("app", name, refresh)
        assert [refreshes.is_running(name) for name in names] == [True, True, False]
        other = (SourceId("*", "/other"), TOKEN)
        refreshes.ask("another", other, refresh)  # an origin that hangs holds up no other
        assert refreshes.is_running(other)
        joined = asyncio.create_task(refreshes.join(names[0]))
        await asyncio.sleep(0)
        gate.set()
        assert await joined == 7
        assert begun == 3
        await asyncio.sleep(0)
        stats = refreshes.stats
        assert (stats.started, stats.done, stats.failed, stats.refused) == (3, 3, 0, 2)
        refreshes.ask("app", names[2], refresh)  # there is room again
        assert await refreshes.join(names[2]) == 7

    asyncio.run(test())


def test_a_stop_ends_what_is_under_way(caplog):
    async def test() -> None:
        refreshes: Refreshes[None] = Refreshes()
        name = (SourceId("*", "/a"), TOKEN)
        refreshes.ask("app", name, lambda: asyncio.Event().wait())  # type: ignore[arg-type]
        joined = asyncio.create_task(refreshes.join(name))
        await asyncio.sleep(0)
        await refreshes.stop()
        with pytest.raises(FlightLost):
            await joined
        refreshes.ask("app", name, lambda: asyncio.Event().wait())  # type: ignore[arg-type]
        assert len(refreshes) == 0
        assert (refreshes.stats.started, refreshes.stats.failed) == (1, 1)
        # One that never came to its first step.
        late: Refreshes[None] = Refreshes()
        late.ask("app", name, lambda: asyncio.Event().wait())  # type: ignore[arg-type]
        await late.stop()
        assert len(late) == 0

    asyncio.run(test())


def test_a_bug_behind_is_logged_with_its_place(caplog):
    async def test() -> None:
        refreshes: Refreshes[None] = Refreshes()

        async def refresh() -> None:
            raise ZeroDivisionError

        refreshes.ask("app", (SourceId("*", "/a"), TOKEN), refresh)
        await until(lambda: not len(refreshes), pause_s=0)
        await asyncio.sleep(0)

    asyncio.run(test())
    assert "Traceback" in caplog.text
