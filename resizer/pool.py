"""The pool of workers: admission, deadlines, deaths and their consequences.

One job a worker, one loop, no thread. What a job's end means:

    reply: result            Result; the input is forgiven
    reply: failure           its error; the worker goes on
    reply: anything else     WorkerCrashed; the worker is killed; a strike
    the worker dies          WorkerCrashed; a strike
    the deadline passes      waiting: DeadlineExceeded. On a worker: killed, DeadlineExceeded, and a
                             strike when it had the worker for at least half of the deadline
    the caller is cancelled  waiting: withdrawn. On a worker: the job runs to its end or deadline
    the pool stops           ResizerStopped, after the grace

The deadline counts from run(): who waits long in the queue has less left, and no caller waits
longer than the deadline. Two strikes bar the input (bar.py). A worker that died is replaced after a
pause that doubles with each death and ends with the next job that is done.
"""

import asyncio
import enum
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from resizer import child
from resizer.admission import Admission
from resizer.bar import Bar, Input
from resizer.errors import (
    DeadlineExceeded,
    PictureBarred,
    QueueFull,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    WorkerCrashed,
)
from resizer.job import (
    BadMessage,
    Failure,
    Hello,
    Job,
    Limits,
    Refusal,
    Result,
    build,
    media_types,
    parse,
)
from resizer.process import WorkerProcess, describe
from resizer.sandbox import SandboxMode
from resizer.stats import COUNTERS, Stats
from resizer.transform import Transform

# SIGKILL needs no longer, unless the kernel holds the process in a broken disk.
_KILLED_WITHIN_S: Final = 5.0


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

    def __post_init__(self) -> None:
        if self.processes < 1 or self.queue < 0 or self.deadline_s <= 0:
            raise ValueError("a pool needs a process, a queue of 0 or more and a deadline")


class State(enum.Enum):
    DOWN = "down"  # no process; a respawn is due unless the pool stops
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDING = "ending"  # killed, its end not seen yet


class Cause(enum.StrEnum):
    """Why a worker ended; the name of its counter of restarts."""

    CRASH = "crash"
    DEADLINE = "deadline"
    GARBAGE = "garbage"
    START = "start"
    JOBS = "jobs"
    MEMORY = "memory"
    STOP = "stop"


@dataclass(slots=True, eq=False)
class _Ticket:
    job: Job
    source: int
    sink: int
    key: Input
    future: asyncio.Future[Result]
    arrived: float
    timer: asyncio.TimerHandle | None = None
    begun: float | None = None
    sink_stood_at: int | None = None


@dataclass(slots=True, eq=False)
class _Slot:
    index: int
    state: State = State.DOWN
    process: WorkerProcess | None = None
    ticket: _Ticket | None = None
    cause: Cause = Cause.CRASH
    jobs: int = 0
    deaths: int = 0  # in a row
    timer: asyncio.TimerHandle | None = None  # of the start, or of the respawn


class Pool:
    """Renders in sealed processes. start() and stop() once each, all calls from one loop.

    worker turns the number of a socket into the command of a worker; the default is ours.
    """

    def __init__(
        self,
        settings: PoolSettings,
        clock: Callable[[], float] = time.monotonic,
        worker: Callable[[int], list[str]] | None = None,
    ) -> None:
        self.settings = settings
        self.stats = Stats()
        self.sandbox_summary = "not started"
        self._clock = clock
        self._argv = worker or self._worker_command
        self._slots = [_Slot(index) for index in range(settings.processes)]
        self._idle: list[_Slot] = []
        self._admission: Admission[_Ticket] = Admission(settings.queue)
        self._bar = Bar(settings.bar_s, settings.bar_entries)
        self._accepting = False
        self._stopping = False
        self._first: asyncio.Future[None] | None = None
        self._trouble = "no worker was ready in time"
        self._changed = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when the first worker is ready. Raises ResizerStopped when none can be."""
        self._first = asyncio.get_running_loop().create_future()
        for slot in self._slots:
            self._spawn(slot)
        try:
            await asyncio.wait_for(self._first, self.settings.start_s)
            self._accepting = True
        except TimeoutError:
            raise ResizerStopped(self._trouble) from None
        finally:
            if not self._accepting:
                await self.stop(0)

    async def stop(self, grace_s: float) -> None:
        """Refuse new jobs, let the admitted ones end within the grace, then end all workers."""
        self._accepting = False
        self._stopping = True
        await self._wait(lambda: self.stats.waiting == self.stats.busy == 0, grace_s)
        while (ticket := self._admission.take()) is not None:
            self._end(ticket, ResizerStopped("the pool stopped while the job waited"))
        for slot in self._slots:
            if slot.timer is not None:
                slot.timer.cancel()
            if slot.state is not State.DOWN:
                self._kill(slot, Cause.STOP)
        await self._wait(
            lambda: all(slot.state is State.DOWN for slot in self._slots), _KILLED_WITHIN_S
        )

    async def _wait(self, is_reached: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not is_reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # --- a job -----------------------------------------------------------------------------------

    async def run(
        self,
        source_fd: int,
        sink_fd: int,
        transform: Transform,
        *,
        digest: bytes,
        offset: int = 0,
        length: int | None = None,
    ) -> Result:
        """Render the source (length bytes from offset on; None: to its end) into the sink, where
        the sink stands. Raises ResizeError.

        Both descriptors stay the caller's and must stay open until this returns or raises. digest
        identifies the source's bytes, for the bar. After any error the sink holds nothing of use;
        after a cancellation a worker may still be writing to it.
        """
        self.stats.calls += 1
        now = self._clock()
        if not self._accepting:
            self.stats.refused_stopped += 1
            raise ResizerStopped("the pool is not running")
        key = (digest, transform.canonical())
        if self._bar.is_barred(key, now):
            self.stats.refused_barred += 1
            raise PictureBarred(f"killed workers; barred for up to {self._bar.seconds:.0f} s")
        if not self._idle and self._admission.is_full:
            self.stats.refused_full += 1
            raise QueueFull(f"{len(self._admission)} jobs wait", self._retry_after_s())
        self.stats.admitted += 1
        self.stats.waiting += 1
        loop = asyncio.get_running_loop()
        job = Job(transform, self.settings.limits, offset, length)
        ticket = _Ticket(job, source_fd, sink_fd, key, loop.create_future(), now)
        ticket.timer = loop.call_later(self.settings.deadline_s, self._expire, ticket)
        self._admission.put(ticket)
        self._dispatch()
        try:
            return await ticket.future
        except asyncio.CancelledError:
            if self._admission.withdraw(ticket):
                self._withdrawn(ticket)
            raise

    def _retry_after_s(self) -> int:
        alive = sum(slot.state in (State.IDLE, State.BUSY) for slot in self._slots)
        return self._admission.retry_after_s(alive)

    def _dispatch(self) -> None:
        while self._idle and (ticket := self._admission.take()) is not None:
            if ticket.future.done():  # cancelled, and its caller has not run yet
                self._withdrawn(ticket)
                continue
            # The last to become idle: its memory is warm.
            self._begin(self._idle.pop(), ticket)

    def _begin(self, slot: _Slot, ticket: _Ticket) -> None:
        assert slot.process is not None
        try:
            os.fstat(ticket.source)
            ticket.sink_stood_at = _offset(ticket.sink)
        except OSError as error:
            self._idle.append(slot)
            self._end(ticket, TransferFailed(f"descriptor: {error.strerror}"))
            return
        try:
            slot.process.send(build(ticket.job), (ticket.source, ticket.sink))
        except OSError:
            # It died while it was idle. The job is untouched and stays first.
            self._admission.put_back(ticket)
            self._kill(slot, Cause.CRASH)
            return
        slot.state, slot.ticket = State.BUSY, ticket
        ticket.begun = self._clock()
        self.stats.queue_wait_us += int((ticket.begun - ticket.arrived) * 1e6)
        self.stats.waiting -= 1
        self.stats.busy += 1

    def _expire(self, ticket: _Ticket) -> None:
        if self._admission.withdraw(ticket):
            self._end(ticket, DeadlineExceeded("waited for a worker until its deadline"))
            return
        for slot in self._slots:
            if slot.ticket is ticket:
                self._kill(slot, Cause.DEADLINE)

    # --- a worker's messages ---------------------------------------------------------------------

    def _heard(self, slot: _Slot, data: bytes) -> None:
        try:
            message = parse(data)
        except BadMessage as error:
            self._distrust(slot, str(error))
            return
        match slot.state, message:
            case State.STARTING, Hello(sandbox):
                self._ready(slot, sandbox)
            case State.STARTING, Refusal(reason):
                self._trouble = f"sandbox: {reason}"
                self._kill(slot, Cause.START)
            case State.BUSY, Result():
                self._done(slot, message)
            case State.BUSY, Failure():
                self._failed(slot, message)
            case State.ENDING, _:
                return
            case _:
                self._distrust(slot, f"{type(message).__name__} while {slot.state.value}")

    def _ready(self, slot: _Slot, sandbox: str) -> None:
        assert self._first is not None
        if slot.timer is not None:
            slot.timer.cancel()
        slot.jobs = 0
        self.sandbox_summary = sandbox
        if not self._first.done():
            self._first.set_result(None)
        self._rest(slot)

    def _done(self, slot: _Slot, result: Result) -> None:
        ticket = slot.ticket
        assert ticket is not None
        lie = self._contradiction(ticket, result)
        if lie is not None:
            self._distrust(slot, lie)
            return
        self._bar.forgive(ticket.key)
        self._end(ticket, result)
        self._after_job(slot)

    def _failed(self, slot: _Slot, failure: Failure) -> None:
        assert slot.ticket is not None
        self._end(slot.ticket, failure.error())
        self._after_job(slot)

    def _contradiction(self, ticket: _Ticket, result: Result) -> str | None:
        """What a result says that can't be so. A worker may have been taken over."""
        wanted = media_types(ticket.job.transform, result.source_format)
        if result.media_type not in wanted:
            return f"{result.media_type} where {wanted[0]} was asked"
        if result.length > ticket.job.limits.max_output_bytes:
            return f"{result.length} bytes are over the limit"
        # The offset is the caller's too, but after a cancellation the number may be another file's.
        if ticket.sink_stood_at is not None and not ticket.future.done():
            try:
                written = (_offset(ticket.sink) or 0) - ticket.sink_stood_at
            except OSError:
                return "the sink was closed"
            if written != result.length:
                return f"{result.length} bytes announced, {written} written"
        return None

    def _after_job(self, slot: _Slot) -> None:
        assert slot.process is not None
        slot.ticket = None
        slot.deaths = 0
        slot.jobs += 1
        # Spread a little, or all workers that started together would leave together.
        if slot.jobs >= self.settings.recycle_jobs + slot.index * self.settings.recycle_jobs // 16:
            self._kill(slot, Cause.JOBS)
        elif slot.process.resident_bytes() > self.settings.recycle_bytes:
            self._kill(slot, Cause.MEMORY)
        else:
            self._rest(slot)

    def _rest(self, slot: _Slot) -> None:
        slot.state = State.IDLE
        self._idle.append(slot)
        self._changed.set()
        self._dispatch()

    def _distrust(self, slot: _Slot, reason: str) -> None:
        if slot.state is State.STARTING:
            self._trouble = f"a worker said: {reason}"
        if slot.ticket is not None:
            self._strike(slot.ticket, WorkerCrashed(f"not believed: {reason}"))
            slot.ticket = None
        self._kill(slot, Cause.GARBAGE)

    # --- a worker's birth and death --------------------------------------------------------------

    def _spawn(self, slot: _Slot) -> None:
        slot.state, slot.cause = State.STARTING, Cause.CRASH
        try:
            slot.process = WorkerProcess(
                self._argv,
                lambda data: self._heard(slot, data),
                lambda status: self._gone(slot, status),
            )
        except OSError as error:
            self._trouble = f"no process: {error}"
            slot.cause = Cause.START
            self._bury(slot)
            return
        loop = asyncio.get_running_loop()
        slot.timer = loop.call_later(self.settings.start_s, self._kill, slot, Cause.START)

    def _worker_command(self, descriptor: int) -> list[str]:
        limits = self.settings.limits
        return child.command(
            "resizer.worker",
            str(descriptor),
            self.settings.sandbox,
            f"{limits.max_bytes},{limits.max_pixels},{limits.max_side},{limits.max_output_bytes}",
        )

    def _kill(self, slot: _Slot, cause: Cause) -> None:
        """Its end follows in _gone(), and with it the end of its job."""
        assert slot.process is not None
        if slot.state is State.IDLE and slot in self._idle:
            self._idle.remove(slot)
        slot.state, slot.cause = State.ENDING, cause
        slot.process.kill()

    def _gone(self, slot: _Slot, status: int) -> None:
        was_starting = slot.state is State.STARTING
        if slot.state is State.IDLE and slot in self._idle:
            self._idle.remove(slot)
        if was_starting:
            slot.cause = Cause.START
            self._trouble = f"a worker ended before it was ready: {describe(status)}"
        ticket, slot.ticket = slot.ticket, None
        if ticket is not None:
            match slot.cause:
                case Cause.DEADLINE:
                    self._overran(ticket)
                case Cause.STOP:
                    self._end(ticket, ResizerStopped("the pool stopped during the job"))
                case _:
                    self._strike(ticket, WorkerCrashed(f"the worker ended: {describe(status)}"))
        self._bury(slot)

    def _bury(self, slot: _Slot) -> None:
        """Count it, and see to its successor."""
        if slot.timer is not None:
            slot.timer.cancel()
        slot.state, slot.process, slot.timer = State.DOWN, None, None
        self._changed.set()
        if self._stopping and self.stats.waiting == 0:
            return
        counter = f"restarts_{slot.cause}"
        setattr(self.stats, counter, getattr(self.stats, counter) + 1)
        if slot.cause in (Cause.JOBS, Cause.MEMORY):
            self._spawn(slot)
            return
        slot.deaths += 1
        if (
            self._first is not None
            and not self._first.done()
            and all(s.deaths for s in self._slots)
        ):
            self._first.set_exception(ResizerStopped(self._trouble))
            return
        pause_s = min(
            self.settings.longest_backoff_s,
            self.settings.backoff_s * 2.0 ** min(slot.deaths - 1, 20),
        )
        slot.timer = asyncio.get_running_loop().call_later(pause_s, self._spawn, slot)

    # --- the end of a job ------------------------------------------------------------------------

    def _overran(self, ticket: _Ticket) -> None:
        assert ticket.begun is not None
        held_s = self._clock() - ticket.begun
        error = DeadlineExceeded(f"killed after {held_s:.1f} s on a worker")
        if held_s >= self.settings.deadline_s / 2:
            self._strike(ticket, error)
        else:
            self._end(ticket, error)

    def _strike(self, ticket: _Ticket, error: ResizeError) -> None:
        self._bar.strike(ticket.key, self._clock())
        self._end(ticket, error)

    def _withdrawn(self, ticket: _Ticket) -> None:
        assert ticket.timer is not None
        ticket.timer.cancel()
        self.stats.waiting -= 1
        self.stats.withdrawn += 1
        self._changed.set()

    def _end(self, ticket: _Ticket, outcome: Result | ResizeError) -> None:
        assert ticket.timer is not None
        ticket.timer.cancel()
        counter = "rendered" if isinstance(outcome, Result) else COUNTERS[type(outcome)]
        setattr(self.stats, counter, getattr(self.stats, counter) + 1)
        if ticket.begun is not None:
            service_s = self._clock() - ticket.begun
            self._admission.observe(service_s)
            self.stats.service_us += int(service_s * 1e6)
            self.stats.busy -= 1
        else:
            self.stats.waiting -= 1
        self._changed.set()
        if ticket.future.done():  # cancelled: nobody is told
            return
        if isinstance(outcome, Result):
            ticket.future.set_result(outcome)
        else:
            ticket.future.set_exception(outcome)


def _offset(descriptor: int) -> int | None:
    """Where a file stands; None for a pipe. Raises OSError for a descriptor that is not open."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        os.fstat(descriptor)
        return None
