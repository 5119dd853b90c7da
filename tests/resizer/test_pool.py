"""The pool over real processes: results, faults, deadlines, bounds, stop."""

import asyncio
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from resizer import child
from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    PictureBarred,
    PictureTooLarge,
    QueueFull,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    UnsupportedFormat,
    WaitExceeded,
    WorkerCrashed,
)
from resizer.evidence import Evidence
from resizer.formats import Format
from resizer.job import Limits, Result
from resizer.pool import Pool, PoolSettings
from resizer.sandbox import SandboxMode
from resizer.stats import COUNTERS, Stats
from resizer.transform import parse
from tests import waiting
from tests.resizer.faulty_worker import MARK
from tests.resizer.pictures import noise, opened, png_that_claims, quarters, saved

PICTURE = saved(quarters(64), Format.JPEG)
# Its PNG is far more than a pipe holds: a job that ends when somebody reads.
HEAVY = noise(300)
ONE = PoolSettings(processes=1, backoff_s=0.01, longest_backoff_s=0.05)


def faulty(mode: SandboxMode) -> Callable[[int], list[str]]:
    here = str(Path(__file__).parent)
    limits = "33554432,50000000,16384,33554432"
    return lambda number: child.command("faulty_worker", str(number), mode, limits, home=here)


def commented(text: bytes) -> bytes:
    """A whole picture whose comment tells the faulty worker what to do."""
    comment = MARK + text + b";"
    return PICTURE[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + PICTURE[2:]


@asynccontextmanager
async def running(settings: PoolSettings = ONE, **options: object) -> AsyncIterator[Pool]:
    pool = Pool(settings, **options)  # type: ignore[arg-type]
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop(5)
        check_equations(pool.stats)
        assert pool.stats.waiting == pool.stats.busy == 0
        assert pool.stats.ladders_waiting == pool.stats.ladders_busy == 0


def check_equations(stats: Stats) -> None:
    refused = stats.refused_full + stats.refused_barred + stats.refused_stopped
    assert stats.calls == stats.admitted + refused
    assert stats.admitted == stats.cheap + stats.dear
    assert stats.ladders == (
        stats.ladders_refused
        + stats.ladders_ended
        + stats.ladders_withdrawn
        + stats.ladders_waiting
        + stats.ladders_busy
    )
    ended = sum(getattr(stats, name) for name in set(COUNTERS.values()))
    assert stats.admitted == (stats.rendered + ended + stats.withdrawn + stats.waiting + stats.busy)


async def render(
    pool: Pool, data: bytes, text: str = "w=16", head: bytes = b""
) -> tuple[Result, bytes]:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(data)
        source.flush()
        os.write(sink.fileno(), head)
        result = await pool.run(source.fileno(), sink.fileno(), parse(text), digest=data[:16])
        return result, os.pread(sink.fileno(), 1 << 24, 0)


class Held:
    """A job that a worker can't end before release()."""

    def __init__(self, pool: Pool, text: str = "f=png") -> None:
        self.reading, self.writing = os.pipe()
        self.source = tempfile.TemporaryFile()  # noqa: SIM115
        self.source.write(HEAVY)
        self.source.flush()
        job = pool.run(self.source.fileno(), self.writing, parse(text), digest=HEAVY[:16])
        self.task = asyncio.ensure_future(job)

    async def begun(self) -> None:
        """The first bytes are in the pipe."""
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        loop.add_reader(self.reading, lambda: seen.done() or seen.set_result(None))
        await seen
        loop.remove_reader(self.reading)

    async def release(self) -> bytes:
        """Read to the end; our own end of the sink must be closed for it."""
        os.close(self.writing)
        read = lambda: b"".join(iter(lambda: os.read(self.reading, 65_536), b""))  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(None, read)

    def close(self) -> None:
        self.source.close()
        os.close(self.reading)


async def until(is_reached: Callable[[], bool]) -> None:
    """Turn the loop until a counter says so."""
    await waiting.until(is_reached, pause_s=0)


def stop(pid: int) -> None:
    """Stopped for sure: one that is only about to stop still takes a message."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def on_both_loops(main: Callable[[], Awaitable[None]]) -> None:
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())  # type: ignore[arg-type]


def test_renders_and_failures() -> None:
    async def main() -> None:
        async with running(PoolSettings(processes=2)) as pool:
            assert "rlimits" in pool.sandbox_summary
            result, body = await render(pool, PICTURE, "w=16,f=webp", head=b"HEAD")
            assert body[:4] == b"HEAD"
            assert opened(body[4:]).size == (16, 16)
            assert (result.media_type, result.length) == ("image/webp", len(body) - 4)
            assert (result.source_width, result.source_format) == (64, Format.JPEG)
            for data, text, error in (
                (b"text", "w=16", UnsupportedFormat),
                (PICTURE[:200], "w=16", CorruptPicture),
                (png_that_claims(16_384, 16_384), "w=16", PictureTooLarge),
                (PICTURE, "w=16384,h=16384,fit=stretch,up=1", ImpossibleTransform),
            ):
                with pytest.raises(error):
                    await render(pool, data, text)
            bodies = await asyncio.gather(*(render(pool, PICTURE, f"w={w}") for w in range(1, 41)))
            assert [result.width for result, _ in bodies] == list(range(1, 41))
            assert pool.stats.rendered == 41
            assert pool.stats.restarts_crash == 0

    on_both_loops(main)


# (fault, sandbox, error, how the pool counts the worker's end)
FAULTS = [
    ("segv", "require", WorkerCrashed, "crash"),
    ("abort", "require", WorkerCrashed, "crash"),
    ("exit", "require", WorkerCrashed, "crash"),
    ("raise", "require", WorkerCrashed, "crash"),
    ("open", "require", WorkerCrashed, "crash"),
    ("stop", "require", WorkerCrashed, "crash"),  # kill() is not on the list
    ("segv", "off", WorkerCrashed, "crash"),
    ("abort", "off", WorkerCrashed, "crash"),
    ("memory", "require", PictureTooLarge, None),
    ("memory", "off", PictureTooLarge, None),  # the rlimits stay
    ("spin", "require", DeadlineExceeded, "deadline"),
    ("stop", "off", DeadlineExceeded, "deadline"),
    ("garbage", "require", WorkerCrashed, "garbage"),
    ("half", "require", WorkerCrashed, "garbage"),
    ("lie", "require", WorkerCrashed, "garbage"),
    ("deaf", "require", WorkerCrashed, "crash"),
]


@pytest.mark.parametrize(("fault", "mode", "error", "restart"), FAULTS)
def test_a_fault_is_its_own_jobs_only(
    fault: str, mode: str, error: type[ResizeError], restart: str | None
) -> None:
    async def main() -> None:
        settings = dataclasses.replace(ONE, deadline_s=1.0 if restart == "deadline" else 20)
        async with running(settings, worker=faulty(SandboxMode(mode))) as pool:
            await render(pool, PICTURE)
            with pytest.raises(error):
                await render(pool, MARK + fault.encode())
            if restart is not None:
                assert getattr(pool.stats, f"restarts_{restart}") <= 1
                await until(lambda: getattr(pool.stats, f"restarts_{restart}") == 1)
                # The deadline of the next job does not pay for the new worker's birth.
                await until(lambda: bool(pool.workers.idle))
            await render(pool, PICTURE)
            await render(pool, PICTURE, "w=8")
            assert pool.stats.rendered == 3
            restarts = [name for name in dir(pool.stats) if name.startswith("restarts_")]
            total = sum(getattr(pool.stats, name) for name in restarts)
            assert total == (0 if restart is None else 1)

    asyncio.run(main())


def test_the_other_worker_does_not_notice() -> None:
    async def main() -> None:
        settings = dataclasses.replace(ONE, processes=2)
        async with running(settings, worker=faulty(SandboxMode.REQUIRE)) as pool:
            held = Held(pool)
            await held.begun()
            with pytest.raises(WorkerCrashed):
                await render(pool, MARK + b"segv")
            assert len(await held.release()) > 100_000
            assert (await held.task).width == 300
            held.close()

    asyncio.run(main())


def test_killing_twice_is_barred() -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now
        worker = faulty(SandboxMode.REQUIRE)
        async with running(ONE, worker=worker, clock=lambda: now) as pool:
            with pytest.raises(WorkerCrashed):
                await render(pool, MARK + b"exit")
            with pytest.raises(WorkerCrashed):  # another size of it: the same bytes
                await render(pool, MARK + b"exit", "w=8")
            for text in ("w=16", "w=8", "w=9"):
                with pytest.raises(PictureBarred):
                    await render(pool, MARK + b"exit", text)
            assert (pool.stats.restarts_crash, pool.stats.strikes, pool.stats.barred) == (2, 2, 1)
            await render(pool, PICTURE)
            now += 600
            with pytest.raises(WorkerCrashed):
                await render(pool, MARK + b"exit")
            assert pool.stats.refused_barred == 3

    asyncio.run(main())


def test_bad_pictures_do_not_slow_the_workers_return() -> None:
    async def main() -> None:
        # Doubled each time, the last pause would be a minute.
        settings = dataclasses.replace(ONE, longest_backoff_s=60)
        async with running(settings, worker=faulty(SandboxMode.REQUIRE)) as pool:
            for number in range(6):
                with pytest.raises(WorkerCrashed):
                    await render(pool, MARK + b"exit; %d" % number)
                await until(lambda: bool(pool.workers.idle))
                assert pool.workers.slots[0].deaths == 1
            await render(pool, PICTURE)
            assert pool.workers.slots[0].deaths == 0

    asyncio.run(main())


def test_overrunning_twice_bars_that_transform_only() -> None:
    async def main() -> None:
        worker = faulty(SandboxMode.REQUIRE)
        settings = dataclasses.replace(ONE, deadline_s=0.4)
        async with running(settings, worker=worker) as pool:
            slow = commented(b"spin@16")
            for _ in range(2):
                await until(lambda: bool(pool.workers.idle))
                with pytest.raises(DeadlineExceeded):
                    await render(pool, slow)
            with pytest.raises(PictureBarred):
                await render(pool, slow)
            await until(lambda: bool(pool.workers.idle))
            assert (await render(pool, slow, "w=8"))[0].width == 8

    asyncio.run(main())


def test_a_barred_picture_is_kept_for_a_report(tmp_path: Path, caplog) -> None:
    async def main() -> None:
        evidence = Evidence(str(tmp_path / "barred"), files=2, size=1 << 20)
        worker = faulty(SandboxMode.REQUIRE)
        async with running(ONE, worker=worker, evidence=evidence) as pool:
            for _ in range(2):
                with pytest.raises(WorkerCrashed):
                    await render(pool, MARK + b"exit")
            await until(lambda: pool.stats.kept == 1)

    asyncio.run(main())
    data = MARK + b"exit"
    (kept,) = (tmp_path / "barred").iterdir()
    assert (kept.name, kept.read_bytes()) == (data[:16].hex(), data)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert any(str(kept) in message and kept.name in message for message in caplog.messages)


def test_a_job_that_its_worker_never_took_is_given_to_another() -> None:
    async def main() -> None:
        async with running() as pool:
            for _ in range(3):  # no strike in it, ever
                await until(lambda: bool(pool.workers.idle))
                process = pool.workers.slots[0].process
                assert process is not None
                stop(process.pid)
                job = asyncio.ensure_future(render(pool, PICTURE))
                await until(lambda: pool.stats.busy == 1)
                os.kill(process.pid, signal.SIGKILL)
                assert (await job)[0].width == 16
            assert (pool.stats.retried, pool.stats.crashed, pool.stats.strikes) == (3, 0, 0)

    on_both_loops(main)


def test_a_job_is_given_to_another_once() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, processes=2)) as pool:
            await until(lambda: len(pool.workers.idle) == 2)
            for slot in pool.workers.slots:
                assert slot.process is not None
                stop(slot.process.pid)
            job = asyncio.ensure_future(render(pool, PICTURE))
            await until(lambda: pool.stats.busy == 1)
            for index in (1, 0):  # the last to become idle is the first to be given a job
                slot = next(slot for slot in reversed(pool.workers.slots) if slot.ticket)
                assert slot.process is not None
                os.kill(slot.process.pid, signal.SIGKILL)
                await until(lambda slot=slot: slot.ticket is None)
                assert pool.stats.retried == 1, index
            with pytest.raises(WorkerCrashed):
                await job
            assert (pool.stats.retried, pool.stats.strikes) == (1, 1)

    asyncio.run(main())


def test_the_queue_is_bounded_and_ordered() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, queue=2)) as pool:
            held = Held(pool)
            await held.begun()
            order: list[int] = []

            async def wait(number: int) -> None:
                await render(pool, PICTURE, f"w={number}")
                order.append(number)

            waiting = [asyncio.ensure_future(wait(number)) for number in (1, 2)]
            await until(lambda: pool.stats.waiting == 2)
            with pytest.raises(QueueFull) as refused:
                await render(pool, PICTURE)
            assert 1 <= refused.value.retry_after_s <= 60
            check_equations(pool.stats)
            await held.release()
            await asyncio.gather(held.task, *waiting)
            assert order == [1, 2]
            assert pool.stats.refused_full == 1
            assert pool.stats.queue_wait_us > 0
            held.close()

    asyncio.run(main())


def test_no_queue_at_all() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, queue=0)) as pool:
            await render(pool, PICTURE)
            held = Held(pool)
            await held.begun()
            with pytest.raises(QueueFull):
                await render(pool, PICTURE)
            await held.release()
            await held.task
            held.close()

    asyncio.run(main())


def test_the_wait_counts_towards_the_deadline() -> None:
    async def main() -> None:
        # The next worker comes after both deadlines.
        settings = dataclasses.replace(ONE, deadline_s=1.0, backoff_s=60, longest_backoff_s=60)
        async with running(settings) as pool:
            held = Held(pool)
            await held.begun()
            waiting = asyncio.ensure_future(render(pool, PICTURE))
            with pytest.raises(DeadlineExceeded, match="on a worker"):
                await held.task
            with pytest.raises(WaitExceeded, match="waited"):
                await waiting
            os.close(held.writing)
            held.close()
            assert pool.stats.late == 2

    asyncio.run(main())


def test_a_cancelled_caller_that_waits() -> None:
    async def main() -> None:
        async with running() as pool:
            held = Held(pool)
            await held.begun()
            waiting = asyncio.ensure_future(render(pool, PICTURE))
            await until(lambda: pool.stats.waiting == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (pool.stats.waiting, pool.stats.withdrawn) == (0, 1)
            await held.release()
            await held.task
            held.close()

    asyncio.run(main())


def test_a_cancelled_caller_whose_job_runs() -> None:
    async def main() -> None:
        async with running() as pool:
            held = Held(pool)
            await held.begun()
            held.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held.task
            # The caller closes what is its own; the worker goes on with what it was given.
            held.source.close()
            assert pool.stats.busy == 1
            assert len(await held.release()) > 100_000
            await until(lambda: pool.stats.busy == 0)
            assert (pool.stats.rendered, pool.stats.restarts_crash) == (1, 0)
            await render(pool, PICTURE)
            held.close()

    asyncio.run(main())


def test_a_cancelled_caller_whose_job_hangs() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, deadline_s=1.0)) as pool:
            held = Held(pool)
            await held.begun()
            held.task.cancel()
            await until(lambda: pool.stats.restarts_deadline == 1)
            assert (pool.stats.busy, pool.stats.late) == (0, 1)
            os.close(held.writing)
            held.close()

    asyncio.run(main())


def test_descriptors_that_are_not_open() -> None:
    async def main() -> None:
        async with running() as pool:
            with tempfile.TemporaryFile() as file:
                for pair in ((file.fileno(), 999), (999, file.fileno())):
                    with pytest.raises(TransferFailed):
                        await pool.run(*pair, parse("w=16"), digest=b"")
            await render(pool, PICTURE)
            assert pool.stats.restarts_crash == 0

    asyncio.run(main())


def test_stop_drains_and_refuses() -> None:
    async def main() -> None:
        pool = Pool(ONE)
        with pytest.raises(ResizerStopped):
            await render(pool, PICTURE)
        await pool.start()
        held = Held(pool)
        await held.begun()
        waiting = asyncio.ensure_future(render(pool, PICTURE))
        await until(lambda: pool.stats.waiting == 1)
        stopping = asyncio.ensure_future(pool.stop(20))
        await asyncio.sleep(0)
        with pytest.raises(ResizerStopped):
            await render(pool, PICTURE)
        await held.release()
        assert (await held.task).width == 300
        assert (await waiting)[0].width == 16
        await stopping
        held.close()
        check_equations(pool.stats)

    asyncio.run(main())


def test_stop_without_grace() -> None:
    async def main() -> None:
        pool = Pool(ONE)
        await pool.start()
        held = Held(pool)
        await held.begun()
        waiting = asyncio.ensure_future(render(pool, PICTURE))
        await until(lambda: pool.stats.waiting == 1)
        await pool.stop(0)
        for task in (held.task, waiting):
            with pytest.raises(ResizerStopped):
                await task
        os.close(held.writing)
        held.close()
        check_equations(pool.stats)
        assert pool.stats.stopped == 2

    asyncio.run(main())


def test_a_worker_that_dies_idle_costs_no_job() -> None:
    async def main() -> None:
        async with running() as pool:
            process = pool.workers.slots[0].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            # Sent at once, the job meets a dead socket or a dead process; it waits for the next.
            await until(lambda: pool.stats.restarts_crash == 1)
            assert (await render(pool, PICTURE))[0].width == 16
            assert pool.stats.crashed == 0

    asyncio.run(main())


def test_recycling() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, recycle_jobs=3)) as pool:
            for _ in range(7):
                await render(pool, PICTURE)
            assert pool.stats.restarts_jobs == 2
            assert pool.stats.crashed == 0
        async with running(dataclasses.replace(ONE, recycle_bytes=1)) as pool:
            for _ in range(2):
                await render(pool, PICTURE)
            await until(lambda: pool.stats.restarts_memory == 2)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (lambda _: ["/bin/false"], "ended before it was ready: exit status 1"),
        (lambda _: ["/no/such/program"], "no process"),
        (
            lambda number: [sys.executable, "-Ic", f"import os; os.write({number}, b'hello')"],
            "a worker said",
        ),
        (lambda number: ["/bin/sh", "-c", "sleep 9"], "ready in time"),
    ],
)
def test_no_worker_can_start(worker: Callable[[int], list[str]], reason: str) -> None:
    async def main() -> None:
        start_s = 0.3 if reason == "ready in time" else 20
        settings = dataclasses.replace(ONE, processes=2, start_s=start_s)
        pool = Pool(settings, worker=worker)
        with pytest.raises(ResizerStopped, match=reason):
            await pool.start()
        with pytest.raises(ResizerStopped):
            await render(pool, PICTURE)

    asyncio.run(main())


def test_the_others_start_when_the_first_is_ready() -> None:
    async def main() -> None:
        ready: list[int] = []

        def command(number: int) -> list[str]:
            ready.append(pool.workers.alive)
            return faulty(SandboxMode.BEST_EFFORT)(number)

        pool = Pool(dataclasses.replace(ONE, processes=3), worker=command)
        await pool.start()
        try:
            assert ready == [0, 1, 1]
            await render(pool, PICTURE)
            await until(lambda: len(pool.workers.idle) == 3)
        finally:
            await pool.stop(5)
        assert len(ready) == 3

    asyncio.run(main())


@pytest.mark.parametrize("first", [["/bin/sh", "-c", "exec sleep 9"], ["/bin/false"]])
def test_the_others_need_not_the_first(first: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resizer.workers._HEAD_START_S", 0.05)
    started: list[int] = []

    def command(number: int) -> list[str]:
        started.append(number)
        return first if len(started) == 1 else faulty(SandboxMode.BEST_EFFORT)(number)

    async def main() -> None:
        pool = Pool(dataclasses.replace(ONE, processes=2), worker=command)
        await pool.start()
        try:
            await render(pool, PICTURE)
        finally:
            await pool.stop(5)

    asyncio.run(main())


def test_a_pool_that_stops_while_it_starts_starts_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resizer.workers._HEAD_START_S", 0.05)
    started: list[int] = []

    def command(number: int) -> list[str]:
        started.append(number)
        return ["/bin/sh", "-c", "exec sleep 9"]

    async def main() -> None:
        pool = Pool(dataclasses.replace(ONE, processes=2), worker=command)
        starting = asyncio.ensure_future(pool.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.sleep(0.1)  # over the head start
        assert [slot.state for slot in pool.workers.slots] == ["down", "down"]
        assert len(started) == 1

    asyncio.run(main())


def test_a_sandbox_that_is_required_and_missing() -> None:
    # A worker on a kernel without Landlock: the refusal travels as the reason.
    refuse = (
        "import sys, socket; sys.path.insert(0, {root!r}); from resizer import job; "
        "socket.socket(fileno={number}).sendmsg([job.build(job.Refusal('landlock: ENOSYS'))])"
    )
    root = str(Path(__file__).parent.parent.parent)

    def worker(number: int) -> list[str]:
        return [sys.executable, "-I", "-c", refuse.format(root=root, number=number)]

    async def main() -> None:
        with pytest.raises(
            ResizerStopped, match="sandbox is required and cannot be had here: landlock: ENOSYS"
        ):
            await Pool(ONE, worker=worker).start()

    asyncio.run(main())


def test_limits_reach_the_worker() -> None:
    async def main() -> None:
        limits = Limits(max_pixels=1000)
        async with running(dataclasses.replace(ONE, limits=limits)) as pool:
            with pytest.raises(PictureTooLarge):
                await render(pool, PICTURE)

    asyncio.run(main())


@pytest.mark.parametrize("change", [{"processes": 0}, {"queue": -1}, {"deadline_s": 0}])
def test_settings_are_checked(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needs a process"):
        dataclasses.replace(ONE, **change)
