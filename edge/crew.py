"""A crew: the workers that were started together from one configuration, one in each slot."""

import contextlib
import enum
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edge.config import Config
from edge.listening import Stand
from edge.seat import Link, Message, Word

# From fork to prepared, and from go to ready: a resizer may take 10 s until it is sealed.
START_S: Final = 40.0
# To close the index. A worker that cannot is stuck, and SQLite survives what follows.
RELEASE_S: Final = 5.0
# Above the worker's own grace for a drain, 30 s; below TimeoutStopSec of the unit, 45 s.
LEAVE_S: Final = 40.0
PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
# A worker that lived so long has nothing to do with how its predecessor died.
LIVED_S: Final = 10.0
NEVER: Final = float("inf")


class Stage(enum.Enum):
    PREPARING = "preparing"
    PREPARED = "prepared"
    OPENING = "opening"
    SERVING = "serving"
    RELEASING = "releasing"
    LEAVING = "leaving"
    UNWANTED = "unwanted"  # killed by us


# How long a stage may last.
_LIMITS: Final = {
    Stage.PREPARING: START_S,
    Stage.OPENING: START_S,
    Stage.RELEASING: RELEASE_S,
    Stage.LEAVING: LEAVE_S,
}
# What a worker says, and where it is then.
_STEPS: Final = {
    (Stage.PREPARING, Word.PREPARED): Stage.PREPARED,
    (Stage.OPENING, Word.READY): Stage.SERVING,
    (Stage.RELEASING, Word.RELEASED): Stage.LEAVING,
}


@dataclass(slots=True, eq=False)
class Worker:
    slot: int
    pid: int
    pidfd: int
    link: Link
    started: float
    heard: float
    stage: Stage = Stage.PREPARING
    deadline: float = NEVER  # killed when its stage lasts longer
    reason: str = ""

    def enter(self, stage: Stage, now: float) -> None:
        self.stage = stage
        self.deadline = now + _LIMITS.get(stage, NEVER)

    def hear(self, message: Message, now: float) -> None:
        self.heard = now
        if message.word is Word.FAILED:
            self.reason = message.detail
        elif (step := _STEPS.get((self.stage, message.word))) is not None:
            self.enter(step, now)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """After its end, or up to it; the wait status."""
        os.close(self.pidfd)
        self.link.close()
        return os.waitpid(self.pid, 0)[1]


@dataclass(slots=True, eq=False)
class Crew:
    config: Config
    stands: tuple[Stand, ...]
    workers: dict[int, Worker] = field(default_factory=dict)  # by slot
    vacancies: dict[int, float] = field(default_factory=dict)  # by slot: when to fill it
    may_open: bool = False
    is_fallback: bool = False  # what served before, because what came after it failed
    _deaths: dict[int, int] = field(default_factory=dict)  # by slot, in a row

    def is_all(self, stage: Stage) -> bool:
        return len(self.workers) == len(self.stands) and all(
            worker.stage is stage for worker in self.workers.values()
        )

    def has(self, worker: Worker) -> bool:
        return self.workers.get(worker.slot) is worker

    def lose(self, worker: Worker, now: float) -> float:
        """It died: its slot is vacant. Returns the pause until it should be filled."""
        del self.workers[worker.slot]
        if worker.stage is Stage.SERVING and now - worker.started > LIVED_S:
            self._deaths[worker.slot] = 0
        deaths = self._deaths.get(worker.slot, 0) + 1
        self._deaths[worker.slot] = deaths
        pause_s = pause_after(deaths)
        self.vacancies[worker.slot] = now + pause_s
        return pause_s


def pause_after(failures: int) -> float:
    return min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(failures - 1, 20))


def hire(slot: int, become: Callable[[Link], None]) -> Worker:
    """A new process, in which become() never returns. Raises OSError."""
    ours, theirs = Link.pair()
    gc.freeze()  # what is there stays shared: the collector writes into what it looks at
    try:
        pid = os.fork()
        if pid == 0:
            ours.close()
            become(theirs)
        pidfd = _open_pidfd(pid)
    except OSError:
        ours.close()
        raise
    finally:
        gc.unfreeze()
        theirs.close()
    now = time.monotonic()
    return Worker(slot, pid, pidfd, ours, now, now, deadline=now + START_S)


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def describe(status: int) -> str:
    """A wait status, for the log."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
