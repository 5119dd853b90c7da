"""The workers of a pool: their births, their rest, their deaths.

A worker that died is replaced after a pause that doubles with each death in a row; one that was
recycled, at once. A death with a job is the picture's doing, which the bar sees to: it makes no
row, or a few bad pictures would leave the pool half empty for seconds. What the job comes to is the
pool's affair: it hears of each message and of each end. Whatever a worker says that it cannot say
in its state ends it.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resizer.errors import ResizerStopped
from resizer.job import BadMessage, Failure, Hello, Paused, Refusal, Result, parse
from resizer.process import WorkerProcess, describe
from resizer.stats import Stats
from resizer.ticket import Ticket

# The others start when the first is ready, or has failed, or after so long: all at once they would
# keep each other, and whoever started them, from the processor.
_HEAD_START_S: Final = 1.0
# SIGKILL needs no longer, unless the kernel holds the process in a broken disk.
_KILLED_WITHIN_S: Final = 5.0


class State(enum.StrEnum):
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


# The pool's own wish, and no fault.
_RECYCLED: Final = (Cause.JOBS, Cause.MEMORY)

Answer = Result | Failure | Paused


@dataclass(slots=True, eq=False)
class Slot:
    """A place for a worker, and its job. reason: why it is not believed any more."""

    index: int
    state: State = State.DOWN
    process: WorkerProcess | None = None
    ticket: Ticket | None = None
    cause: Cause = Cause.CRASH
    reason: str = ""
    jobs: int = 0
    deaths: int = 0  # in a row
    timer: asyncio.TimerHandle | None = None  # of the start, or of the respawn


@dataclass(frozen=True, slots=True)
class Care:
    """How workers are kept; see PoolSettings."""

    recycle_jobs: int
    recycle_bytes: int
    backoff_s: float
    longest_backoff_s: float
    start_s: float


class Workers:
    """on_answer: of a busy slot. on_idle: a slot can take a job. on_end: a process has ended; slot
    is DOWN, its cause and ticket still stand; it says how the process left.
    """

    def __init__(
        self,
        count: int,
        care: Care,
        stats: Stats,
        argv: Callable[[int], list[str]],
        on_answer: Callable[[Slot, Answer], None],
        on_idle: Callable[[], None],
        on_end: Callable[[Slot, str, bool], None],
    ) -> None:
        self.slots = [Slot(index) for index in range(count)]
        self.idle: list[Slot] = []
        self.sandbox = "not started"
        self._care = care
        self._stats = stats
        self._argv = argv
        self._on_answer = on_answer
        self._on_idle = on_idle
        self._on_end = on_end
        self._is_leaving = False
        self._first: asyncio.Future[None] | None = None
        self._others: asyncio.TimerHandle | None = None  # they wait for the first
        self._down = asyncio.Event()
        self._trouble = "no worker was ready in time"

    @property
    def alive(self) -> int:
        return sum(slot.state in (State.IDLE, State.BUSY) for slot in self.slots)

    def count(self, state: State) -> int:
        return sum(slot.state is state for slot in self.slots)

    async def start(self) -> None:
        """Returns when the first is ready. Raises ResizerStopped when none can be."""
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        self._others = loop.call_later(_HEAD_START_S, self._spawn_others)
        self._spawn(self.slots[0])
        try:
            await asyncio.wait_for(self._first, self._care.start_s)
        except TimeoutError:
            raise ResizerStopped(self._trouble) from None

    async def stop(self) -> None:
        """End them all, whatever they do."""
        self._is_leaving = True
        if self._others is not None:
            self._others.cancel()
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
            if slot.state is not State.DOWN:
                self.kill(slot, Cause.STOP)
        try:
            async with asyncio.timeout(_KILLED_WITHIN_S):
                while self.count(State.DOWN) < len(self.slots):
                    self._down.clear()
                    await self._down.wait()
        except TimeoutError:
            return

    # --- jobs ------------------------------------------------------------------------------------

    def take_idle(self) -> Slot:
        """The last to become idle: its memory is warm."""
        return self.idle.pop()

    def rest(self, slot: Slot) -> None:
        """Its job is done: idle again, or replaced where it is time."""
        assert slot.process is not None
        slot.ticket = None
        slot.deaths = 0
        slot.jobs += 1
        # Spread a little, or all workers that started together would leave together.
        most = self._care.recycle_jobs + slot.index * self._care.recycle_jobs // 16
        if slot.jobs >= most:
            self.kill(slot, Cause.JOBS)
        elif slot.process.resident_bytes() > self._care.recycle_bytes:
            self.kill(slot, Cause.MEMORY)
        else:
            self._lie_down(slot)

    def _lie_down(self, slot: Slot) -> None:
        slot.state = State.IDLE
        self.idle.append(slot)
        self._on_idle()

    def kill(self, slot: Slot, cause: Cause, reason: str = "") -> None:
        """Its end follows, and with it the end of its job."""
        assert slot.process is not None
        if slot.state is State.IDLE and slot in self.idle:
            self.idle.remove(slot)
        slot.state, slot.cause, slot.reason = State.ENDING, cause, reason
        slot.process.kill()

    # --- messages --------------------------------------------------------------------------------

    def _heard(self, slot: Slot, data: bytes) -> None:
        if slot.state is State.ENDING:
            return
        try:
            message = parse(data)
        except BadMessage as error:
            self._distrust(slot, str(error))
            return
        match slot.state, message:
            case State.STARTING, Hello(sandbox):
                self._ready(slot, sandbox)
            case State.STARTING, Refusal(reason):
                self._trouble = (
                    f"the sandbox is required and cannot be had here: {reason}"
                    " (see halftone sandbox-check)"
                )
                self.kill(slot, Cause.START)
            case State.BUSY, Result() | Failure() | Paused():
                self._on_answer(slot, message)
            case _:
                self._distrust(slot, f"{type(message).__name__} while {slot.state.value}")

    def _ready(self, slot: Slot, sandbox: str) -> None:
        assert self._first is not None
        if slot.timer is not None:
            slot.timer.cancel()
        slot.jobs = 0
        self.sandbox = sandbox
        if not self._first.done():
            self._first.set_result(None)
        self._lie_down(slot)
        self._spawn_others()

    def _distrust(self, slot: Slot, reason: str) -> None:
        if slot.state is State.STARTING:
            self._trouble = f"a worker said: {reason}"
        self.kill(slot, Cause.GARBAGE, reason)

    # --- birth and death -------------------------------------------------------------------------

    def _spawn_others(self) -> None:
        """The first has had its head start."""
        if self._others is None:
            return
        self._others.cancel()
        self._others = None
        for slot in self.slots[1:]:
            self._spawn(slot)

    def _spawn(self, slot: Slot) -> None:
        slot.state, slot.cause, slot.reason = State.STARTING, Cause.CRASH, ""
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
        slot.timer = loop.call_later(self._care.start_s, self.kill, slot, Cause.START)

    def _gone(self, slot: Slot, status: int) -> None:
        assert slot.process is not None
        if slot.state is State.IDLE and slot in self.idle:
            self.idle.remove(slot)
        if slot.state is State.STARTING:
            slot.cause = Cause.START
            self._trouble = f"a worker ended before it was ready: {describe(status)}"
        left_unread = slot.process.left_unread
        self._bury(slot)
        how = f"not believed: {slot.reason}" if slot.reason else f"ended: {describe(status)}"
        self._on_end(slot, how, left_unread)
        slot.ticket = None

    def _bury(self, slot: Slot) -> None:
        """Count it, and see to its successor."""
        if slot.timer is not None:
            slot.timer.cancel()
        slot.state, slot.process, slot.timer = State.DOWN, None, None
        self._down.set()
        if self._is_leaving:
            return
        self._spawn_others()
        counter = f"restarts_{slot.cause}"
        setattr(self._stats, counter, getattr(self._stats, counter) + 1)
        loop = asyncio.get_running_loop()
        if slot.cause in _RECYCLED:
            # Not here: what is told of this end is told of a slot that is down.
            slot.timer = loop.call_later(0, self._spawn, slot)
            return
        slot.deaths = 1 if slot.ticket is not None else slot.deaths + 1
        if (
            self._first is not None
            and not self._first.done()
            and all(each.deaths for each in self.slots)
        ):
            self._first.set_exception(ResizerStopped(self._trouble))
            return
        pause_s = min(
            self._care.longest_backoff_s,
            self._care.backoff_s * 2.0 ** min(slot.deaths - 1, 20),
        )
        slot.timer = loop.call_later(pause_s, self._spawn, slot)
