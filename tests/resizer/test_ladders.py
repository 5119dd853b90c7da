"""Several transforms of one source in one job; and the lanes, over real processes."""

import asyncio
import dataclasses
import os
import signal
import tempfile
from collections.abc import Sequence

import pytest

from resizer.cost import Lane
from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    PictureBarred,
    QueueFull,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    WaitExceeded,
    WorkerCrashed,
)
from resizer.formats import Format
from resizer.job import Result
from resizer.pool import QUIET_S, Pool
from resizer.sandbox import SandboxMode
from resizer.ticket import Outcome
from resizer.transform import parse
from tests.resizer.pictures import opened, png_that_claims, quarters, saved
from tests.resizer.test_pool import (
    ONE,
    PICTURE,
    Held,
    commented,
    faulty,
    on_both_loops,
    render,
    running,
    stop,
    until,
)

WIDTHS = [32, 16, 8, 4]


class Ladder:
    """A ladder under way, and what came of its steps so far."""

    def __init__(
        self, pool: Pool, data: bytes = PICTURE, texts: Sequence[str] = (), mark: bytes = b""
    ) -> None:
        self.texts = list(texts) or [f"w={width}" for width in WIDTHS]
        self.files = [tempfile.TemporaryFile() for _ in range(len(self.texts) + 2)]  # noqa: SIM115
        self.source, self.mark, *self.sinks = (file.fileno() for file in self.files)
        os.write(self.source, data)
        os.write(self.mark, mark)
        self.outcomes: list[Outcome] = []
        job = pool.run_ladder(
            self.source,
            self.sinks,
            [parse(text) for text in self.texts],
            digest=data[:16],
            on_result=self.hear,
            mark_fd=self.mark if mark else None,
        )
        self.task = asyncio.ensure_future(job)

    def hear(self, number: int, outcome: Outcome) -> None:
        assert number == len(self.outcomes)
        self.outcomes.append(outcome)

    def kinds(self) -> list[type[Outcome]]:
        return [type(outcome) for outcome in self.outcomes]

    def body(self, number: int) -> bytes:
        return os.pread(self.sinks[number], 1 << 24, 0)

    def close(self) -> None:
        for file in self.files:
            file.close()


async def finished(ladder: Ladder) -> list[type[Outcome]]:
    await ladder.task
    ladder.close()
    return ladder.kinds()


def test_every_step_in_order_each_in_its_own_sink() -> None:
    async def main() -> None:
        async with running() as pool:
            mark = saved(quarters(8), Format.PNG)
            for options in ({}, {"mark": mark}):
                ladder = Ladder(pool, **options)
                await ladder.task
                assert ladder.kinds() == [Result] * 4
                for number, width in enumerate(WIDTHS):
                    body = ladder.body(number)
                    assert ladder.outcomes[number].length == len(body)
                    assert opened(body).size == (width, width)
                ladder.close()
            assert (pool.stats.ladders_ended, pool.stats.steps_rendered) == (2, 8)
            assert pool.stats.rendered == pool.stats.calls == 0  # the counters of live jobs

    on_both_loops(main)


@pytest.mark.parametrize(
    ("data", "texts", "mark", "kinds"),
    [
        (PICTURE, ["w=8"], b"", [Result]),
        (PICTURE, ["w=9,f=webp", "w=9,f=png"] * 16, b"", [Result] * 32),
        (
            PICTURE,
            ["w=8", "w=16384,h=16384,fit=stretch,up=1", "w=9"],
            b"",
            [Result, ImpossibleTransform, Result],
        ),
        (PICTURE[:200], ["w=8", "w=9"], b"", [CorruptPicture] * 2),
        (png_that_claims(16_384, 16_384), ["w=8"], b"", None),
        (PICTURE, ["w=8", "w=9"], b"no picture", None),
    ],
)
def test_a_step_that_fails_is_one_step(data, texts, mark, kinds) -> None:
    async def main() -> None:
        async with running() as pool:
            found = await finished(Ladder(pool, data, texts, mark))
            assert all(issubclass(kind, ResizeError) for kind in found) if kinds is None else True
            assert kinds is None or found == kinds
            assert pool.stats.restarts_garbage == pool.stats.restarts_crash == 0

    asyncio.run(main())


def test_nobody_waits_for_a_ladder_longer_than_a_step() -> None:
    async def main() -> None:
        async with running() as pool:
            process = pool.workers.slots[0].process
            assert process is not None
            stop(process.pid)
            ladder = Ladder(pool, texts=[f"w={width}" for width in range(33, 65)])
            await until(lambda: pool.stats.ladders_busy == 1)
            live = asyncio.ensure_future(render(pool, PICTURE))
            live.add_done_callback(lambda _: steps.append(len(ladder.outcomes)))
            steps: list[int] = []
            await until(lambda: pool.stats.ladders_paused == 1)
            os.kill(process.pid, signal.SIGCONT)
            assert (await live)[0].width == 16
            # It goes on where it was.
            assert await finished(ladder) == [Result] * 32
            assert [outcome.width for outcome in ladder.outcomes] == list(range(33, 65))
            assert pool.stats.ladders_paused == 1
            assert steps[0] < 32

    on_both_loops(main)


def test_a_pause_that_crosses_the_last_answer() -> None:
    async def main() -> None:
        async with running() as pool:
            process = pool.workers.slots[0].process
            assert process is not None
            stop(process.pid)
            ladder = Ladder(pool, texts=["w=8"])
            await until(lambda: pool.stats.ladders_busy == 1)
            live = asyncio.ensure_future(render(pool, PICTURE))
            await until(lambda: pool.stats.ladders_paused == 1)
            os.kill(process.pid, signal.SIGCONT)
            assert await finished(ladder) == [Result]
            assert (await live)[0].width == 16
            assert await finished(Ladder(pool)) == [Result] * 4  # not paused by the old word
            assert pool.stats.restarts_garbage == pool.stats.restarts_crash == 0

    asyncio.run(main())


def test_ladders_leave_a_worker_alone() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, processes=3)) as pool:
            await until(lambda: len(pool.workers.idle) == 3)
            for slot in pool.workers.slots:
                assert slot.process is not None
                stop(slot.process.pid)
            ladders = [Ladder(pool) for _ in range(4)]
            await until(lambda: pool.stats.ladders == 4)
            assert (pool.stats.ladders_busy, pool.depth(Lane.IDLE)) == (2, 2)
            for slot in pool.workers.slots:
                os.kill(slot.process.pid, signal.SIGCONT)
            for ladder in ladders:
                assert await finished(ladder) == [Result] * 4

    asyncio.run(main())


def test_the_places_of_ladders_are_bounded() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, ladder_queue=1)) as pool:
            held = Held(pool)
            await held.begun()
            waiting, refused = Ladder(pool), Ladder(pool)
            with pytest.raises(QueueFull) as full:
                await refused.task
            assert 1 <= full.value.retry_after_s <= 60
            assert not pool._admission.is_full(Lane.CHEAP)
            refused.close()
            await held.release()
            await held.task
            held.close()
            assert await finished(waiting) == [Result] * 4

    asyncio.run(main())


def test_a_ladder_waits_only_so_long() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, ladder_wait_s=0.05)) as pool:
            held = Held(pool)
            await held.begun()
            assert await finished(Ladder(pool)) == [WaitExceeded] * 4
            await held.release()
            await held.task
            held.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("segv@8", [Result, Result, WorkerCrashed, WorkerCrashed]),
        ("lie@8", [Result, Result, WorkerCrashed, WorkerCrashed]),
        ("spin@8", [Result, Result, DeadlineExceeded, DeadlineExceeded]),
        ("segv", [WorkerCrashed] * 4),
        ("paused@8", [Result, Result, WorkerCrashed, WorkerCrashed]),
    ],
)
def test_a_death_ends_the_ladder_and_keeps_what_was_done(fault: str, kinds: list[type]) -> None:
    async def main() -> None:
        settings = dataclasses.replace(ONE, deadline_s=0.5)
        async with running(settings, worker=faulty(SandboxMode.REQUIRE)) as pool:
            data = commented(fault.encode())
            ladder = Ladder(pool, data)
            assert await finished(ladder) == kinds
            assert pool.stats.strikes == 1
            await until(lambda: bool(pool.workers.idle))
            assert (await render(pool, PICTURE))[0].width == 16
            if kinds[-1] is WorkerCrashed:
                assert await finished(Ladder(pool, data)) == kinds
                again = Ladder(pool, data)
                with pytest.raises(PictureBarred):
                    await again.task
                again.close()

    asyncio.run(main())


def test_the_deadline_is_one_of_each_step() -> None:
    async def main() -> None:
        # Together they take longer.
        settings = dataclasses.replace(ONE, deadline_s=0.6)
        async with running(settings, worker=faulty(SandboxMode.OFF)) as pool:
            ladder = Ladder(pool, commented(b"nap"), [f"w={width}" for width in (1, 2, 3, 4)])
            assert await finished(ladder) == [Result] * 4

    asyncio.run(main())


def test_a_ladder_that_its_worker_never_took_is_given_to_another() -> None:
    async def main() -> None:
        async with running() as pool:
            process = pool.workers.slots[0].process
            assert process is not None
            stop(process.pid)
            ladder = Ladder(pool)
            await until(lambda: pool.stats.ladders_busy == 1)
            os.kill(process.pid, signal.SIGKILL)
            assert await finished(ladder) == [Result] * 4
            assert (pool.stats.retried, pool.stats.strikes) == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_caller_that_leaves(is_begun: bool) -> None:
    async def main() -> None:
        async with running() as pool:
            process = pool.workers.slots[0].process
            assert process is not None
            held = None
            if not is_begun:
                held = Held(pool)
                await held.begun()
            else:
                stop(process.pid)
            ladder = Ladder(pool)
            await until(lambda: pool.stats.ladders == 1)
            ladder.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ladder.task
            ladder.close()
            if held is not None:
                assert pool.stats.ladders_withdrawn == 1
                await held.release()
                await held.task
                held.close()
            else:
                os.kill(process.pid, signal.SIGCONT)
            await until(lambda: pool.stats.ladders_withdrawn == 1)
            assert pool.stats.ladders_busy == pool.stats.ladders_waiting == 0
            assert (await render(pool, PICTURE))[0].width == 16
            assert pool.stats.restarts_garbage == 0

    asyncio.run(main())


def test_a_listener_that_fails_ends_its_ladder_only() -> None:
    async def main() -> None:
        async with running() as pool:
            ladder = Ladder(pool)
            ladder.outcomes.append(CorruptPicture("not of this ladder"))  # hear() objects
            with pytest.raises(AssertionError):
                await ladder.task
            ladder.close()
            assert (await render(pool, PICTURE))[0].width == 16

    asyncio.run(main())


def test_descriptors_that_are_not_open() -> None:
    async def main() -> None:
        async with running() as pool:
            ladder = Ladder(pool)
            os.close(ladder.sinks[2])
            await ladder.task
            assert ladder.kinds() == [TransferFailed] * 4
            assert pool.stats.restarts_crash == 0
            os.dup2(0, ladder.sinks[2])
            ladder.close()

    asyncio.run(main())


def test_stop_ends_ladders_at_their_step() -> None:
    async def main() -> None:
        pool = Pool(ONE)
        await pool.start()
        process = pool.workers.slots[0].process
        assert process is not None
        stop(process.pid)
        running_one, waiting = Ladder(pool), Ladder(pool)
        await until(lambda: pool.stats.ladders == 2)
        stopping = asyncio.ensure_future(pool.stop(20))
        await asyncio.sleep(0)
        os.kill(process.pid, signal.SIGCONT)
        await stopping
        assert await finished(running_one) == [Result, *[ResizerStopped] * 3]
        assert await finished(waiting) == [ResizerStopped] * 4
        refused = Ladder(pool)
        with pytest.raises(ResizerStopped):
            await refused.task
        refused.close()
        assert pool.stats.ladders_busy == pool.stats.ladders_waiting == 0

    asyncio.run(main())


# --- lanes ---------------------------------------------------------------------------------------

# A header that promises much work: its job ends at once, in an error.
DEAR = png_that_claims(7000, 7000) + bytes(100_000)


def test_a_worker_is_kept_for_cheap_jobs_while_they_are_about() -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now
        settings = dataclasses.replace(ONE, processes=2)
        async with running(settings, clock=lambda: now) as pool:
            await until(lambda: len(pool.workers.idle) == 2)
            await render(pool, PICTURE)
            for slot in pool.workers.slots:
                assert slot.process is not None
                stop(slot.process.pid)
            dear = [asyncio.ensure_future(render(pool, DEAR)) for _ in range(3)]
            await until(lambda: pool.stats.dear == 3)
            assert (pool.stats.busy, pool.depth(Lane.DEAR)) == (1, 2)
            now += QUIET_S
            dear.append(asyncio.ensure_future(render(pool, DEAR)))  # nobody cheap for a while
            await until(lambda: pool.stats.dear == 4)
            assert (pool.stats.busy, pool.depth(Lane.DEAR)) == (2, 2)
            cheap = asyncio.ensure_future(render(pool, PICTURE))
            await until(lambda: pool.depth(Lane.CHEAP) == 1)
            for slot in pool.workers.slots:
                os.kill(slot.process.pid, signal.SIGCONT)
            assert (await cheap)[0].width == 16
            for job in dear:
                with pytest.raises(CorruptPicture):
                    await job
            assert (pool.stats.cheap, pool.stats.dear) == (2, 4)

    asyncio.run(main())


def test_a_client_gives_way_to_one_that_holds_less() -> None:
    async def main() -> None:
        async with running(dataclasses.replace(ONE, queue=3)) as pool:
            held = Held(pool)
            await held.begun()

            def ask(client: str) -> "asyncio.Task[Result]":
                return asyncio.ensure_future(small_job(pool, client))

            many = [ask("many") for _ in range(3)]
            await until(lambda: pool.stats.waiting == 3)
            few = ask("few")
            with pytest.raises(QueueFull):
                await many[2]
            with pytest.raises(QueueFull):  # nobody holds two more than it
                await ask("many")
            assert (pool.stats.displaced, pool.stats.refused_full) == (1, 1)
            await held.release()
            for job in (held.task, few, *many[:2]):
                await job
            held.close()

    asyncio.run(main())


async def small_job(pool: Pool, client: str) -> Result:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        os.write(source.fileno(), PICTURE)
        return await pool.run(
            source.fileno(), sink.fileno(), parse("w=8"), digest=b"", client=client
        )


def test_what_is_learned_comes_from_renders() -> None:
    async def main() -> None:
        async with running() as pool:
            data = saved(quarters(900), Format.PNG)
            before = dict(pool.costs.corrections)
            with pytest.raises(CorruptPicture):
                await render(pool, data[: len(data) // 2])
            assert pool.costs.corrections == before
            await render(pool, data, "f=png")
            assert pool.costs.corrections[Format.PNG] != 1.0

    asyncio.run(main())
