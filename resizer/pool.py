"""The pool: admission, deadlines, and what the end of a job or of a worker means.

One job a worker, one loop. What a job's end means:

    reply: result            Result; its overruns are forgiven
    reply: failure           its error; the worker goes on
    reply: anything else     WorkerCrashed; the worker is killed; a strike
    the worker dies          WorkerCrashed; a strike. Where it never took the job from its socket:
                             once more on another worker, and only the second time a strike
    the deadline passes      waiting: DeadlineExceeded. On a worker: killed, DeadlineExceeded, and a
                             strike when it had taken the job, and for at least half of the deadline
    the caller is cancelled  waiting: withdrawn. On a worker: the job runs to its end or deadline
    the pool stops           ResizerStopped, after the grace

The deadline counts from run(): who waits long in the queue has less left, and no caller waits
longer than the deadline. Two strikes bar the input, and a copy of it is kept (quarantine.py).

Lanes (cost.py, admission.py): with several workers one takes no dear job while cheap ones are
about, and no ladder ever. A ladder begins when nobody waits, its deadline is one of each step, and
when somebody waits its worker is asked to pause after the step in hand; the rest waits its turn
again. A ladder whose worker dies is over: the next step would meet the same bytes.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from resizer import child
from resizer.admission import Admission
from resizer.bar import Bar, Fault
from resizer.cost import Costs, Lane, lane_of
from resizer.errors import (
    DeadlineExceeded,
    PictureBarred,
    QueueFull,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    WaitExceeded,
    WorkerCrashed,
)
from resizer.evidence import Evidence
from resizer.formats import InputOnly
from resizer.job import (
    MAX_TRANSFORMS,
    Failure,
    Limits,
    Pause,
    Paused,
    Result,
    build,
    media_types,
)
from resizer.ladder import Parent
from resizer.peek import maybe_header_at, size_of
from resizer.quarantine import Quarantine
from resizer.sandbox import SandboxMode
from resizer.stats import COUNTERS, Stats
from resizer.ticket import Outcome, Ticket
from resizer.transform import Transform
from resizer.workers import Answer, Care, Cause, Slot, State, Workers

# After the last cheap job a dear one may have the last worker too. A page's thumbnails come within
# a second or two; later ones wait for one dear job at most.
QUIET_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    processes: int = 2
    deadline_s: float = 10.0
    queue: int = 64
    limits: Limits = field(default_factory=Limits)
    sandbox: SandboxMode = SandboxMode.BEST_EFFORT
    # Codecs and malloc keep what they once took. At rest a worker holds some 35 MB.
    recycle_jobs: int = 1000
    recycle_bytes: int = 384 << 20
    bar_s: float = 600.0
    bar_entries: int = 1024
    backoff_s: float = 0.1
    longest_backoff_s: float = 10.0
    start_s: float = 10.0  # from exec to sealed
    ladder_queue: int = 16
    ladder_wait_s: float = 300.0  # each time that a ladder waits its turn

    def __post_init__(self) -> None:
        if self.processes < 1 or min(self.queue, self.ladder_queue) < 0 or self.deadline_s <= 0:
            raise ValueError("a pool needs a process, a queue of 0 or more and a deadline")


class Pool:
    """Renders in sealed processes. start() and stop() once each, all calls from one loop.

    worker turns the number of a socket into the command of a worker; the default is ours. evidence:
    where barred pictures are kept; None keeps none.
    """

    def __init__(
        self,
        settings: PoolSettings,
        clock: Callable[[], float] = time.monotonic,
        worker: Callable[[int], list[str]] | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self.settings = settings
        self.stats = Stats()
        self.costs = Costs()
        self.workers = Workers(
            settings.processes,
            Care(
                settings.recycle_jobs,
                settings.recycle_bytes,
                settings.backoff_s,
                settings.longest_backoff_s,
                settings.start_s,
            ),
            self.stats,
            worker or self._worker_command,
            self._answered,
            self._rested,
            self._lost,
        )
        self._clock = clock
        self._quarantine = Quarantine(
            Bar(settings.bar_s, settings.bar_entries), evidence, self.stats, clock
        )
        self._admission: Admission[Ticket] = Admission(settings.queue, settings.ladder_queue)
        self._is_accepting = False
        self._changed = asyncio.Event()
        self._cheap_at = float("-inf")  # when the last cheap job came
        self._held_ms = 0.0  # cost of the live jobs on workers
        self._dear_busy = 0

    @property
    def sandbox_summary(self) -> str:
        return self.workers.sandbox

    @property
    def suspects(self) -> int:
        """Inputs with a strike or more."""
        return len(self._quarantine)

    def depth(self, lane: Lane) -> int:
        """How many wait in a lane."""
        return self._admission.depth(lane)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when the first worker is ready. Raises ResizerStopped when none can be."""
        try:
            await self.workers.start()
            self._is_accepting = True
        finally:
            if not self._is_accepting:
                await self.stop(0)

    async def stop(self, grace_s: float) -> None:
        """Refuse new jobs, let the admitted ones end within the grace, then end all workers.

        Ladders do not get the grace: those that wait end here, those that run after their step.
        """
        self._is_accepting = False
        for ticket in self._ladders():
            self._pause(ticket[0], ticket[1])
        await self._drained(grace_s)
        while (waiting := self._admission.take_any()) is not None:
            self._give_up(waiting, ResizerStopped("the pool stopped while the job waited"))
        await self.workers.stop()
        await self._quarantine.stop()

    async def _drained(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self.stats.waiting or self.stats.busy or self.stats.ladders_busy:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _worker_command(self, descriptor: int) -> list[str]:
        limits = self.settings.limits
        return child.command(
            "resizer.worker",
            str(descriptor),
            self.settings.sandbox,
            f"{limits.max_bytes},{limits.max_pixels},{limits.max_side},{limits.max_output_bytes}",
        )

    # --- a live job ------------------------------------------------------------------------------

    async def run(
        self,
        source_fd: int,
        sink_fd: int,
        transform: Transform,
        *,
        digest: bytes,
        offset: int = 0,
        length: int | None = None,
        client: str = "",
        mark_fd: int | None = None,
        inputs: tuple[InputOnly, ...] = (),
        parent: Parent | None = None,
    ) -> Result:
        """Render the source (length bytes from offset on; None: to its end) into the sink, where
        the sink stands. Raises ResizeError.

        All descriptors stay the caller's and must stay open until this returns or raises. digest
        identifies the source's bytes, for the bar; client who asks, for fairness; mark_fd is the
        site's watermark; inputs are the formats that are only read and are switched on; parent says
        that the source is no original but a derivative of one. After any error the sink holds
        nothing of use; after a cancellation a worker may still be writing to it.
        """
        self.stats.calls += 1
        now = self._clock()
        if not self._is_accepting:
            self.stats.refused_stopped += 1
            raise ResizerStopped("the pool is not running")
        try:
            self._quarantine.check(digest, transform, now)
        except PictureBarred:
            self.stats.refused_barred += 1
            raise
        header = maybe_header_at(source_fd, offset, length)
        size = size_of(source_fd, offset, length)
        cost_ms = self.costs.estimate_ms(header, size, transform)
        lane = lane_of(cost_ms)
        if lane is Lane.CHEAP:
            self._cheap_at = now
        if not self._may_start(lane, now) and self._admission.is_full(lane):
            self._make_room(lane, client, cost_ms)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        ticket = Ticket(
            lane,
            client,
            cost_ms,
            header,
            digest,
            (transform,),
            source_fd,
            (sink_fd,),
            mark_fd,
            offset,
            length,
            now,
            future=future,
            inputs=inputs,
            parent=parent,
        )
        self.stats.admitted += 1
        self.stats.add(lane.value)
        self.stats.waiting += 1
        ticket.timer = loop.call_later(self.settings.deadline_s, self._expire, ticket)
        if self._admission.is_empty and self._may_start(lane, now):
            self._begin(ticket)  # most of the time; it would be the one that is taken
        else:
            self._admission.put(ticket)
        self._dispatch()  # also where that worker has died meanwhile, and another one is idle
        try:
            return await future
        except asyncio.CancelledError:
            if self._admission.withdraw(ticket):
                self._withdrawn(ticket)
            raise

    def _make_room(self, lane: Lane, client: str, cost_ms: float) -> None:
        """Raises QueueFull where nobody has to give way."""
        retry_after_s = self._retry_after_s(cost_ms)
        error = QueueFull(f"{self._admission.depth(lane)} {lane} jobs wait", retry_after_s)
        greedy = self._admission.maybe_displaced(lane, client)
        if greedy is None:
            self.stats.refused_full += 1
            raise error
        self._admission.withdraw(greedy)
        self._give_up(greedy, error)

    def _retry_after_s(self, more_ms: float) -> int:
        # What is on a worker is half done, in the mean.
        return self._admission.retry_after_s(more_ms + self._held_ms / 2, self.workers.alive)

    # --- a ladder --------------------------------------------------------------------------------

    async def run_ladder(
        self,
        source_fd: int,
        sinks: Sequence[int],
        transforms: Sequence[Transform],
        *,
        digest: bytes,
        on_result: Callable[[int, Outcome], None],
        offset: int = 0,
        length: int | None = None,
        client: str = "",
        mark_fd: int | None = None,
        inputs: tuple[InputOnly, ...] = (),
    ) -> None:
        """Render several transforms of one source, in order, each into its sink, while nobody else
        waits. on_result(i, Result or ResizeError) is called for each as it is done, from here.

        Returns after the last. Raises QueueFull, PictureBarred or ResizerStopped, and what
        on_result raises: then, as after a cancellation, the step in hand may still be written, and
        the rest is not done. Descriptors as for run().
        """
        assert 0 < len(transforms) == len(sinks) <= MAX_TRANSFORMS, "a sink for each transform"
        ticket = self._admit_ladder(
            Ticket(
                Lane.IDLE,
                client,
                0.0,
                maybe_header_at(source_fd, offset, length),
                digest,
                tuple(transforms),
                source_fd,
                tuple(sinks),
                mark_fd,
                offset,
                length,
                self._clock(),
                outcomes=asyncio.Queue(len(transforms)),
                inputs=inputs,
            )
        )
        assert ticket.outcomes is not None
        try:
            for number in range(len(transforms)):
                on_result(number, await ticket.outcomes.get())
        finally:
            self._abandon(ticket)

    def _admit_ladder(self, ticket: Ticket) -> Ticket:
        self.stats.ladders += 1
        try:
            self._check_ladder(ticket)
        except ResizeError:
            self.stats.ladders_refused += 1
            raise
        self.stats.ladders_waiting += 1
        self._wait_turn(ticket)
        self._admission.put(ticket)
        self._dispatch()
        return ticket

    def _check_ladder(self, ticket: Ticket) -> None:
        if not self._is_accepting:
            raise ResizerStopped("the pool is not running")
        self._quarantine.check(ticket.digest, ticket.transform, ticket.arrived)
        if not self._may_start_ladder() and self._admission.is_full(Lane.IDLE):
            depth = self._admission.depth(Lane.IDLE)
            raise QueueFull(f"{depth} ladders wait", self._retry_after_s(0))

    def _wait_turn(self, ladder: Ticket) -> None:
        loop = asyncio.get_running_loop()
        ladder.timer = loop.call_later(self.settings.ladder_wait_s, self._expire, ladder)

    def _abandon(self, ladder: Ticket) -> None:
        """Nobody asks for the rest, if there is one."""
        ladder.is_abandoned = True
        if self._admission.withdraw(ladder):
            self._withdrawn(ladder)
            return
        for slot, running in self._ladders():
            if running is ladder:
                self._pause(slot, ladder)

    def _ladders(self) -> list[tuple[Slot, Ticket]]:
        return [
            (slot, slot.ticket)
            for slot in self.workers.slots
            if slot.ticket is not None and slot.ticket.is_ladder and slot.state is State.BUSY
        ]

    def _yield(self) -> None:
        """Somebody waits: as many ladders as that make way."""
        wanted = len(self._admission)
        for slot, ladder in self._ladders():
            if wanted <= 0:
                return
            wanted -= 1
            if not ladder.is_pausing:
                self.stats.ladders_paused += 1
                self._pause(slot, ladder)

    def _pause(self, slot: Slot, ladder: Ticket) -> None:
        if ladder.is_pausing:
            return
        ladder.is_pausing = True
        assert slot.process is not None
        try:
            slot.process.send(build(Pause()), ())
        except OSError:
            return  # it has died, and its end will be heard of

    # --- to a worker -----------------------------------------------------------------------------

    def _may_start(self, lane: Lane, now: float) -> bool:
        """Whether a live job would find a worker at once."""
        return bool(self.workers.idle) and (lane is Lane.CHEAP or self._has_room_for_dear(now))

    def _has_room_for_dear(self, now: float) -> bool:
        most = self.settings.processes
        if most > 1 and (self.stats.ladders_busy or now - self._cheap_at < QUIET_S):
            most -= 1
        return self._dear_busy + self.stats.ladders_busy < most

    def _has_room_for_ladder(self) -> bool:
        most = max(1, self.settings.processes - 1)
        return self._dear_busy + self.stats.ladders_busy < most

    def _may_start_ladder(self) -> bool:
        return bool(self.workers.idle) and not len(self._admission) and self._has_room_for_ladder()

    def _rested(self) -> None:
        self._changed.set()
        self._dispatch()

    def _dispatch(self) -> None:
        if self._admission.is_empty or not (self._is_accepting or len(self._admission)):
            return  # no ladder begins while the pool stops
        while self.workers.idle:
            ticket = self._admission.take(
                may_be_dear=self._has_room_for_dear(self._clock()),
                may_be_idle=self._is_accepting and self._has_room_for_ladder(),
            )
            if ticket is None:
                break
            if ticket.is_deserted:  # cancelled, and its caller has not run yet
                self._withdrawn(ticket)
                continue
            self._begin(ticket)
        if len(self._admission) and self.stats.ladders_busy:
            self._yield()

    def _begin(self, ticket: Ticket) -> None:
        try:
            os.fstat(ticket.source)
            if ticket.mark is not None:
                os.fstat(ticket.mark)
            ticket.stood_at = [_offset(sink) for sink in ticket.sinks]
        except OSError as error:
            self._give_up(ticket, TransferFailed(f"descriptor: {error.strerror}"))
            return
        slot = self.workers.take_idle()
        assert slot.process is not None
        try:
            slot.process.send(build(ticket.job(self.settings.limits)), ticket.descriptors())
        except OSError:
            # It died while it was idle. The job is untouched and stays first.
            self._admission.put_back(ticket)
            self.workers.kill(slot, Cause.CRASH)
            return
        slot.state, slot.ticket = State.BUSY, ticket
        ticket.begun = self._clock()
        ticket.is_pausing = False
        if ticket.is_ladder:
            self.stats.ladders_waiting -= 1
            self.stats.ladders_busy += 1
            self._set_step_deadline(ticket)
            return
        self.stats.queue_wait_us += int((ticket.begun - ticket.arrived) * 1e6)
        self.stats.waiting -= 1
        self.stats.busy += 1
        self._held_ms += ticket.cost_ms
        self._dear_busy += ticket.lane is Lane.DEAR

    def _set_step_deadline(self, ladder: Ticket) -> None:
        assert ladder.timer is not None
        ladder.timer.cancel()
        loop = asyncio.get_running_loop()
        ladder.timer = loop.call_later(self.settings.deadline_s, self._expire, ladder)

    def _expire(self, ticket: Ticket) -> None:
        if self._admission.withdraw(ticket):
            self._give_up(ticket, WaitExceeded("waited for a worker until its deadline"))
            return
        for slot in self.workers.slots:
            if slot.ticket is ticket and slot.state is State.BUSY:
                self.workers.kill(slot, Cause.DEADLINE)

    # --- from a worker ---------------------------------------------------------------------------

    def _answered(self, slot: Slot, answer: Answer) -> None:
        ticket = slot.ticket
        assert ticket is not None
        assert ticket.begun is not None
        match answer:
            case Paused() if ticket.is_pausing:
                self._paused(slot, ticket)
                return
            case Paused():
                self.workers.kill(slot, Cause.GARBAGE, "it paused and was not asked to")
                return
            case Result():
                lie = self._contradiction(ticket, answer)
                if lie is not None:
                    self.workers.kill(slot, Cause.GARBAGE, lie)
                    return
                self._quarantine.forgive(ticket)
                outcome: Outcome = answer
            case Failure():
                outcome = answer.error()
        now = self._clock()
        if isinstance(answer, Result) and not ticket.is_ladder:
            self.costs.observe(ticket.header, ticket.cost_ms, (now - ticket.begun) * 1000)
        if ticket.step + 1 < len(ticket.transforms):
            self._settle(ticket, outcome)
            ticket.begun = now
            self._set_step_deadline(ticket)
            return
        self._leave(ticket)
        self._settle(ticket, outcome)
        self._over(ticket)
        self.workers.rest(slot)

    def _paused(self, slot: Slot, ladder: Ticket) -> None:
        self._leave(ladder)
        if ladder.is_abandoned:
            self.stats.ladders_withdrawn += 1
        elif not self._is_accepting:
            self._settle_rest(ladder, ResizerStopped("the pool stopped during the ladder"))
        else:
            self._wait_again(ladder)
        self.workers.rest(slot)

    def _wait_again(self, ladder: Ticket) -> None:
        self.stats.ladders_waiting += 1
        self._wait_turn(ladder)
        self._admission.put_back(ladder)

    def _contradiction(self, ticket: Ticket, result: Result) -> str | None:
        """What a result says that can't be so. A worker may have been taken over."""
        wanted = media_types(ticket.transform, result.source_format)
        if result.media_type not in wanted:
            return f"{result.media_type} where {wanted[0]} was asked"
        if result.length > self.settings.limits.max_output_bytes:
            return f"{result.length} bytes are over the limit"
        # The offset is the caller's too, but after a cancellation the number may be another file's.
        stood_at = ticket.stood_at[ticket.step]
        if stood_at is not None and not ticket.is_deserted:
            try:
                written = (_offset(ticket.sinks[ticket.step]) or 0) - stood_at
            except OSError:
                return "the sink was closed"
            if written != result.length:
                return f"{result.length} bytes announced, {written} written"
        return None

    def _lost(self, slot: Slot, how: str, left_unread: bool) -> None:
        """A worker has ended, perhaps with a job."""
        self._changed.set()
        ticket = slot.ticket
        if ticket is None:
            return
        assert ticket.begun is not None
        begun, was_pausing = ticket.begun, ticket.is_pausing
        self._leave(ticket)
        if slot.cause is Cause.STOP:
            self._give_up_lost(ticket, ResizerStopped("the pool stopped during the job"))
            return
        # A Pause that nobody took looks the same as a job that nobody took: then the job was.
        was_taken = not left_unread or was_pausing or slot.cause is Cause.GARBAGE
        held_s = self._clock() - begun
        if slot.cause is Cause.DEADLINE:
            self.costs.observe(ticket.header, ticket.cost_ms, held_s * 1000)
            error: ResizeError = DeadlineExceeded(f"killed after {held_s:.1f} s on a worker")
            if was_taken and held_s >= self.settings.deadline_s / 2:
                self._quarantine.strike(ticket, Fault.OVERRUN)
        elif was_taken or ticket.is_retried:
            error = WorkerCrashed(f"the worker {how}")
            self._quarantine.strike(ticket, Fault.CRASH)
        elif ticket.is_deserted:
            error = WorkerCrashed("the worker ended before it took the job")
        else:
            self._retry(ticket)
            return
        self._give_up_lost(ticket, error)

    def _retry(self, ticket: Ticket) -> None:
        """Its worker was killed in the moment in which it was given the job, by somebody else."""
        ticket.is_retried = True
        self.stats.retried += 1
        if ticket.is_ladder:
            assert ticket.timer is not None
            ticket.timer.cancel()
            self._wait_again(ticket)
        else:
            self.stats.waiting += 1
            self._admission.put_back(ticket)
        self._dispatch()

    # --- the end of a job ------------------------------------------------------------------------

    def _leave(self, ticket: Ticket) -> None:
        """It is on no worker any more."""
        assert ticket.begun is not None
        if ticket.is_ladder:
            assert ticket.timer is not None
            ticket.timer.cancel()
            self.stats.ladders_busy -= 1
        else:
            self.stats.service_us += int((self._clock() - ticket.begun) * 1e6)
            self.stats.busy -= 1
            self._held_ms = self._held_ms - ticket.cost_ms if self.stats.busy else 0.0
            self._dear_busy -= ticket.lane is Lane.DEAR
        ticket.begun = None
        self._changed.set()

    def _settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """The end of a step: counted, and told to whoever waits."""
        if ticket.is_ladder:
            self.stats.add("steps_rendered" if isinstance(outcome, Result) else "steps_failed")
        else:
            is_done = isinstance(outcome, Result)
            self.stats.add("rendered" if is_done else COUNTERS[type(outcome)])  # type: ignore[index]
        ticket.settle(outcome)
        ticket.step += 1

    def _settle_rest(self, ticket: Ticket, error: ResizeError) -> None:
        while ticket.step < len(ticket.transforms):
            self._settle(ticket, error)
        self._over(ticket)

    def _over(self, ticket: Ticket) -> None:
        assert ticket.timer is not None
        ticket.timer.cancel()
        if ticket.is_ladder:
            self.stats.ladders_ended += 1

    def _give_up(self, ticket: Ticket, error: ResizeError) -> None:
        """It waited, and is not going to be done."""
        if ticket.is_ladder:
            self.stats.ladders_waiting -= 1
        else:
            self.stats.waiting -= 1
        self._settle_rest(ticket, error)
        self._changed.set()

    def _give_up_lost(self, ticket: Ticket, error: ResizeError) -> None:
        """It was on a worker that has ended."""
        if ticket.is_abandoned:
            self.stats.ladders_withdrawn += 1
        else:
            self._settle_rest(ticket, error)

    def _withdrawn(self, ticket: Ticket) -> None:
        assert ticket.timer is not None
        ticket.timer.cancel()
        if ticket.is_ladder:
            self.stats.ladders_waiting -= 1
            self.stats.ladders_withdrawn += 1
        else:
            self.stats.waiting -= 1
            self.stats.withdrawn += 1
        self._changed.set()


def _offset(descriptor: int) -> int | None:
    """Where a file stands; None for a pipe. Raises OSError for a descriptor that is not open."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        os.fstat(descriptor)
        return None
