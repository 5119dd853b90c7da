"""The master: it owns the listening sockets, starts workers and replaces them; it serves nothing.

One thread, one selector, no event loop: what it does is rare, and it must be able to fork. Workers
that were started together from one configuration are a crew. There is a current crew, at times the
next one, and those who leave.

    first start    next: prepared -> go -> ready            becomes current; the ready line
    HUP            next: prepared -> (current: release, released) -> go -> ready
                   the sockets are ours: nothing is lost with those who leave
    a death        its slot gets another worker, after a pause that doubles
    USR2           the next run of the program does to our crew what our next one would
    TERM, QUIT     drain; INT: drain for a second; INT again: kill

Only one process may have the embedded index open, so a crew that needs it opens it after the old
one has let go: from release to ready, some 10 ms, new connections wait in the kernel's queue. With
Redis the crews overlap. Whatever fails before go leaves the current crew as it was; whatever fails
later falls back on the configuration that last served. That holds for a successor, too.
"""

import contextlib
import enum
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from edge import descriptors, successor
from edge.config import Config, ConfigError
from edge.listening import CannotListen, Listening, Stand, address_of
from edge.notify import Notifier
from edge.pid_file import PidFile
from edge.rights import CannotDrop, maybe_rights, prepare_folder, prepare_log
from edge.seat import Bulletin, Link, Message, Seat, Word
from edge.settings.addresses import EmbeddedIndex
from resizer.sandbox import die_with_parent

# Runs in the worker's process until it ends; the exit status. Raises nothing.
Work = Callable[[Config, Seat], int]

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
# Silence of a worker that makes us silent towards systemd's watchdog.
QUIET_S: Final = 5.0
FAILED: Final = 1
INTERRUPTED: Final = 128 + signal.SIGINT

_SIGNALS: Final = (
    *(signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
)  # fmt: skip

log = logging.getLogger("halftone.master")


class Stage(enum.Enum):
    PREPARING = "preparing"
    PREPARED = "prepared"
    OPENING = "opening"
    SERVING = "serving"
    RELEASING = "releasing"
    LEAVING = "leaving"
    UNWANTED = "unwanted"  # killed by us


@dataclass(slots=True, eq=False)
class Worker:
    slot: int
    pid: int
    pidfd: int
    link: Link
    started: float
    deadline: float  # killed when its stage lasts longer
    stage: Stage = Stage.PREPARING
    heard: float = 0.0
    reason: str = ""


@dataclass(slots=True, eq=False)
class Vacancy:
    """A slot of the current crew without a worker."""

    due: float


@dataclass(slots=True, eq=False)
class Crew:
    config: Config
    stands: tuple[Stand, ...]
    workers: dict[int, Worker] = field(default_factory=dict)
    vacancies: dict[int, Vacancy] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)  # by slot, in a row
    may_open: bool = False
    is_fallback: bool = False  # what served before, because what came after it failed

    def is_all(self, stage: Stage) -> bool:
        return len(self.workers) == len(self.stands) and all(
            worker.stage is stage for worker in self.workers.values()
        )


class Master:
    """slots: how many workers; environ: what systemd or a predecessor left, taken out of it."""

    def __init__(
        self, config: Config, work: Work, *, slots: int, environ: MutableMapping[str, str]
    ) -> None:
        self._standing = config  # to fall back on: the one that serves, or is to serve first
        self._work = work
        self._slots = slots
        self._environ = environ
        self._listening = Listening(slots)
        self._bulletin = Bulletin()
        self._pid_file = PidFile()
        self._selector = selectors.DefaultSelector()
        self._current: Crew | None = None
        self._next: Crew | None = None
        self._leaving: set[Worker] = set()
        self._retry_at: float | None = None  # when no crew is left and one must be started
        self._retries = 0
        self._has_served = False
        self._is_reload_due = False
        self._is_stopping = False
        self._interrupts = 0
        self._is_heir_released = False
        self._heir: successor.Successor | None = None
        self._elder: Link | None = None
        self._status: int | None = None
        self._allowed = 0
        self._cores = os.cpu_count() or 1
        found = successor.maybe_predecessor(environ)
        self._inherited = ""
        if found is not None:
            self._elder, self._inherited = found
        self._notifier = Notifier(environ, is_successor=found is not None)
        self._watchdog_at = 0.0 if self._notifier.watchdog_s is not None else float("inf")

    def run(self) -> int:
        """Until a signal ends the node, or its first start fails. Returns the exit status."""
        if os.geteuid() == 0 and self._standing.user is None:
            log.warning("running as root: set `user`, or start halftone as another user")
        self._allowed = descriptors.raise_limit()
        with self._wakeups():
            try:
                if self._elder is not None:
                    self._listening.adopt_inherited(self._inherited)
                    self._watch(self._elder.fileno(), self._hear_elder)
                else:
                    self._listening.adopt_passed(self._environ)
                self._next = self._start_crew(self._standing)
            except (CannotListen, CannotDrop, OSError) as error:
                self._fail_start(str(error))
            while self._status is None:
                for key, _ in self._selector.select(self._until_next()):
                    key.data()
                self._look_at_clock()
        self._end()
        return self._status

    def _end(self) -> None:
        for worker in (*self._all_workers(), *self._leaving):
            self._kill(worker)
            self._reap(worker)
        if self._heir is not None:
            self._heir.close()
        if self._elder is not None:
            self._elder.close()
        self._pid_file.remove()
        self._listening.close(is_handed_on=self._elder is not None and not self._has_served)
        self._selector.close()
        self._bulletin.close()

    def _fail_start(self, reason: str) -> None:
        print(f"halftone: {reason}", file=sys.stderr)  # noqa: T201 - the first start; see serve()
        self._status = FAILED

    # Signals and time

    @contextlib.contextmanager
    def _wakeups(self) -> Iterator[None]:
        """Signals arrive as bytes on a socket, in order, and nowhere else."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)

        def take() -> None:
            for number in ours.recv(64):
                self._signalled(signal.Signals(number))

        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(theirs.fileno())
        self._watch(ours.fileno(), take)
        try:
            yield
        finally:
            self._unwatch(ours.fileno())
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()

    def _signalled(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGQUIT:
                self._stop(number, Word.DRAIN)
            case signal.SIGINT:
                self._interrupts += 1
                if self._interrupts > 1:
                    self._status = INTERRUPTED
                else:
                    self._stop(number, Word.HASTEN)
            case signal.SIGHUP:
                self._is_reload_due = True
                self._maybe_reload()
            case signal.SIGUSR1:
                self._reopen_logs()
            case signal.SIGUSR2:
                self._replace_program()
            case signal.SIGCHLD:
                self._reap_orphans()
            case _:
                pass

    def _until_next(self) -> float | None:
        times = [worker.deadline for worker in (*self._all_workers(), *self._leaving)]
        times.append(self._watchdog_at)
        if self._current is not None:
            times += [vacancy.due for vacancy in self._current.vacancies.values()]
        if self._retry_at is not None:
            times.append(self._retry_at)
        nearest = min(times)
        return None if nearest == float("inf") else max(nearest - time.monotonic(), 0.0)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        for worker in (*self._all_workers(), *self._leaving):
            if worker.deadline <= now:
                worker.reason = f"was {worker.stage.value} for too long"
                worker.deadline = float("inf")
                self._kill(worker)
        crew = self._current
        if crew is not None:
            for slot in [slot for slot, vacancy in crew.vacancies.items() if vacancy.due <= now]:
                del crew.vacancies[slot]
                self._refill(crew, slot)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._start_again()
        if self._watchdog_at <= now:
            assert self._notifier.watchdog_s is not None
            self._watchdog_at = now + self._notifier.watchdog_s
            serving = [w for w in self._all_workers() if w.stage is Stage.SERVING]
            if self._elder is None and all(now - w.heard < QUIET_S for w in serving):
                self._notifier.watchdog()

    def _refill(self, crew: Crew, slot: int) -> None:
        self._bulletin.restarted()
        try:
            self._hire(crew, slot)
        except OSError as error:
            log.error("cannot start a worker: %s", error)
            crew.vacancies[slot] = Vacancy(time.monotonic() + LONGEST_PAUSE_S)

    # Crews

    def _start_crew(self, config: Config) -> Crew:
        """Raises CannotListen, CannotDrop, OSError."""
        config = self._fit(config)
        rights = maybe_rights(config.user, config.group)
        if rights is not None:
            if config.log.access not in ("-", "off"):
                prepare_log(config.log.access, rights)
            prepare_folder(config.cache.path, rights)
        crew = Crew(config, self._listening.open(config.listen, config.admin))
        try:
            for slot in range(self._slots):
                self._hire(crew, slot)
        except OSError:
            self._dismiss(crew)
            raise
        return crew

    def _dismiss(self, crew: Crew) -> None:
        for worker in crew.workers.values():
            self._kill(worker)
            worker.stage = Stage.UNWANTED
            self._leaving.add(worker)

    def _fit(self, config: Config) -> Config:
        fitting = descriptors.fit(config, self._allowed, self._cores)
        cap = fitting.connection.max_connections
        if cap != config.connection.max_connections:
            log.warning(
                "connection.max_connections is %d, not %d: a process may open %d files, %d of them"
                " are for other things (ulimit -n, LimitNOFILE)",
                *(cap, config.connection.max_connections, self._allowed),
                descriptors.reserve(config, self._cores),
            )
        return fitting

    def _advance(self) -> None:
        """Whatever has changed: take the next step that is possible."""
        crew = self._next
        if crew is not None and not crew.may_open and crew.is_all(Stage.PREPARED):
            self._ask_to_release(crew)
            if self._is_released(crew):
                crew.may_open = True
        if crew is not None and crew.may_open:
            self._let_open(crew)
            if crew.is_all(Stage.SERVING):
                self._settle(crew)
        if self._current is not None:
            self._let_open(self._current)
        self._serve_heir()
        if self._is_stopping and not self._leaving:
            self._status = 0

    def _let_open(self, crew: Crew) -> None:
        for worker in crew.workers.values():
            if worker.stage is Stage.PREPARED:
                worker.stage = Stage.OPENING
                worker.deadline = time.monotonic() + START_S
                worker.link.send(Word.GO)

    def _ask_to_release(self, crew: Crew) -> None:
        if not _is_exclusive(crew.config):
            return
        if self._elder is not None:
            self._elder.send(Word.PREPARED)  # said again is said once
        elif self._current is not None and _is_exclusive(self._current.config):
            self._listening.keep(crew.config.listen, crew.config.admin)
            self._release(self._current)

    def _is_released(self, crew: Crew) -> bool:
        if not _is_exclusive(crew.config):
            return True
        return self._elder is None and not self._is_releasing()

    def _is_releasing(self) -> bool:
        return any(worker.stage is Stage.RELEASING for worker in self._leaving)

    def _release(self, crew: Crew) -> None:
        """This crew takes no more connections, and lets go of the index."""
        assert crew is self._current
        self._current = None
        for worker in crew.workers.values():
            # Nobody will empty the queues of addresses that were given up: it must.
            public = crew.stands[worker.slot].public
            ended = [str(n) for n, sock in enumerate(public) if sock.fileno() < 0]
            worker.link.send(Word.RELEASE, " ".join(ended))
            worker.stage = Stage.RELEASING
            worker.deadline = time.monotonic() + RELEASE_S
            self._leaving.add(worker)

    def _settle(self, crew: Crew) -> None:
        """The next crew serves: it is the current one."""
        config = crew.config
        self._listening.keep(config.listen, config.admin)
        if self._current is not None:
            self._release(self._current)
        self._current, self._next = crew, None
        self._standing = config
        self._retries = 0
        if not crew.is_fallback:
            self._bulletin.reloaded(is_successful=True)
        self._write_pid_file(config)
        public = ", ".join(f"http://{address_of(sock)}" for sock in crew.stands[0].public)
        admin = address_of(crew.stands[0].admin)
        if self._has_served:
            log.info("configuration %s is in effect: %s admin http://%s",
                     config.digest(), public, admin)  # fmt: skip
        else:
            self._has_served = True
            first = address_of(crew.stands[0].public[0])
            # The one line that a script may wait for; DESIGN fixes its form.
            print(  # noqa: T201
                f"halftone: listening on http://{first} admin http://{admin}",
                file=sys.stderr,
                flush=True,
            )
        self._tell_elder()
        self._notifier.ready(f"Serving on {public}")
        self._maybe_reload()

    def _abandon(self, crew: Crew, reason: str) -> None:
        """The next crew does not come to serve."""
        self._next = None
        self._dismiss(crew)
        if not self._has_served:
            self._fail_start(reason)
            return
        if crew.is_fallback:
            log.error("cannot serve: %s", reason)
            self._retry_later()
        else:
            self._keep_old(reason)
        self._maybe_reload()

    def _keep_old(self, reason: str) -> None:
        self._bulletin.reloaded(is_successful=False)
        log.error("reload failed, the old configuration stays: %s", reason)
        self._listening.keep(self._standing.listen, self._standing.admin)
        self._notifier.ready("Serving; the last reload failed")
        if self._current is None:
            self._retry_later()

    def _retry_later(self) -> None:
        self._retries += 1
        self._retry_at = time.monotonic() + _pause_s(self._retries)

    def _start_again(self) -> None:
        """Nobody serves: a crew with what served last."""
        if self._is_stopping or self._current is not None or self._next is not None:
            return
        try:
            self._next = self._start_crew(self._standing)
        except (CannotListen, CannotDrop, OSError) as error:
            log.error("cannot serve: %s", error)
            self._retry_later()
        else:
            self._next.is_fallback = True

    # Reload

    def _maybe_reload(self) -> None:
        if not self._is_reload_due or self._is_stopping:
            return
        if self._next is not None or self._heir is not None or self._elder is not None:
            return  # after it
        self._is_reload_due = False
        self._notifier.reloading()
        reload = self._standing.reload
        try:
            config = self._standing if reload is None else reload()
            self._next = self._start_crew(config)
        except ConfigError as error:
            for problem in error.problems:
                log.error("%s", problem)
            self._keep_old("the configuration is wrong")
        except (CannotListen, CannotDrop, OSError) as error:
            self._keep_old(str(error))
        else:
            self._retry_at = None
            if config.workers != self._standing.workers:
                log.warning("workers stays %d until a restart", self._slots)

    def _reopen_logs(self) -> None:
        config = self._standing
        try:
            rights = maybe_rights(config.user, config.group)
            if rights is not None and config.log.access not in ("-", "off"):
                prepare_log(config.log.access, rights)
        except (CannotDrop, OSError) as error:
            log.error("access log %s: %s", config.log.access, error)
        for worker in (*self._all_workers(), *self._leaving):
            worker.link.send(Word.REOPEN)

    # The end

    def _stop(self, number: signal.Signals, word: Word) -> None:
        log.info("%s: draining%s", number.name, " for a second" if word is Word.HASTEN else "")
        if not self._is_stopping:
            self._is_stopping = True
            self._notifier.stopping()
            # The workers' copies are the last ones: once they are closed, clients are refused and
            # go elsewhere, instead of waiting in a queue that nobody empties.
            self._listening.close(is_handed_on=self._elder is not None)
            self._retry_at = None
            for worker in self._all_workers():
                worker.stage = Stage.LEAVING
                worker.deadline = time.monotonic() + LEAVE_S
                self._leaving.add(worker)
            self._current = self._next = None
            if self._heir is not None:
                self._heir.end()
        for worker in self._leaving:
            worker.link.send(word)
        self._advance()

    # The next run of the program

    def _replace_program(self) -> None:
        if self._is_stopping or self._heir is not None or self._elder is not None:
            log.error("the program is being replaced or stopped already")
            return
        if self._next is not None or self._current is None:
            log.error("the program is not replaced: workers are starting; send USR2 again")
            return
        if os.getpid() == 1:
            log.error("the program is not replaced: a container ends with its first process")
            return
        try:
            self._heir = successor.start(self._listening, self._environ)
        except OSError as error:
            log.error("the program cannot be started: %s", error)
            return
        log.info("process %d takes over", self._heir.pid)
        self._is_heir_released = False
        self._watch(self._heir.link.fileno(), self._hear_heir)
        self._watch(self._heir.pidfd, self._bury_heir)

    def _hear_heir(self) -> None:
        heir = self._heir
        assert heir is not None
        messages, is_there = heir.link.receive()
        for message in messages:
            match message.word:
                case Word.PREPARED:
                    self._is_heir_released = True
                    if self._current is not None:
                        self._release(self._current)
                case Word.READY:
                    self._abdicate(heir)
                case _:
                    pass
        if not is_there:
            self._unwatch(heir.link.fileno())
        self._advance()

    def _serve_heir(self) -> None:
        if self._heir is None or not self._is_heir_released or self._is_releasing():
            return
        self._is_heir_released = False
        self._heir.link.send(Word.RELEASED)

    def _abdicate(self, heir: successor.Successor) -> None:
        """The next run serves. We are the service no longer, and wait for our workers."""
        log.info("process %d has taken over", heir.pid)
        self._notifier.hand_over(heir.pid)
        heir.link.send(Word.ADOPTED)
        self._is_stopping = True
        self._listening.close(is_handed_on=True)
        if self._current is not None:
            self._release(self._current)
        self._unwatch(heir.link.fileno())
        self._unwatch(heir.pidfd)
        heir.close()
        self._heir = None

    def _bury_heir(self) -> None:
        heir, self._heir = self._heir, None
        assert heir is not None
        self._unwatch(heir.pidfd)
        self._unwatch(heir.link.fileno())
        heir.close()
        _, status = os.waitpid(heir.pid, 0)
        log.error("process %d did not take over: %s; this one goes on", heir.pid, _how(status))
        if self._current is None and not self._is_stopping:
            self._start_again()
        self._maybe_reload()

    def _tell_elder(self) -> None:
        if self._elder is not None:
            self._elder.send(Word.READY)

    def _hear_elder(self) -> None:
        elder = self._elder
        assert elder is not None
        messages, is_there = elder.receive()
        words = [message.word for message in messages]
        if Word.RELEASED in words and self._next is not None:
            self._next.may_open = True
        if Word.ADOPTED in words or not is_there:
            # Where it died, the kernel has released what it held.
            self._unwatch(elder.fileno())
            elder.close()
            self._elder = None
            if self._has_served:
                self._notifier.ready("Serving, as successor")
                self._maybe_reload()
        self._advance()

    # Workers

    def _all_workers(self) -> list[Worker]:
        crews = [crew for crew in (self._current, self._next) if crew is not None]
        return [worker for crew in crews for worker in crew.workers.values()]

    def _hire(self, crew: Crew, slot: int) -> None:
        ours, theirs = Link.pair()
        master = os.getpid()
        # A signal between fork and the child's own handlers would end up in our wakeup socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        gc.freeze()  # what is there stays shared: the collector writes into what it looks at
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._be_worker(crew, Seat(slot, crew.stands[slot], theirs, self._bulletin), master)
        except OSError:
            ours.close()
            raise
        finally:
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            ours.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        now = time.monotonic()
        worker = Worker(slot, pid, pidfd, ours, now, now + START_S, heard=now)
        crew.workers[slot] = worker
        self._watch(ours.fileno(), lambda: self._hear(worker))
        self._watch(worker.pidfd, lambda: self._bury(worker))

    def _be_worker(self, crew: Crew, seat: Seat, master: int) -> None:
        """In the child: never returns."""
        status = FAILED
        try:
            self._forget_master(seat)
            rights = maybe_rights(crew.config.user, crew.config.group)
            if rights is not None:
                rights.take()
            die_with_parent()  # after the rights: the kernel forgets it with them
            if os.getppid() == master:
                status = self._work(crew.config, seat)
        except BaseException:  # top of a process
            log.exception("a worker failed")
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def _forget_master(self, seat: Seat) -> None:
        """Close what is the master's, or a link would outlive it here; default signals."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # A terminal sends these to the whole group. The master says what is to be done.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for key in tuple(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        self._listening.forget_all_but(seat.stand)

    def _hear(self, worker: Worker) -> None:
        messages, is_there = worker.link.receive()
        for message in messages:
            self._heard(worker, message)
        if not is_there:
            self._unwatch(worker.link.fileno())
        self._advance()

    def _heard(self, worker: Worker, message: Message) -> None:
        now = time.monotonic()
        worker.heard = now
        match worker.stage, message.word:
            case Stage.PREPARING, Word.PREPARED:
                worker.stage = Stage.PREPARED
                worker.deadline = float("inf")
            case Stage.OPENING, Word.READY:
                worker.stage = Stage.SERVING
                worker.deadline = float("inf")
            case Stage.RELEASING, Word.RELEASED:
                worker.stage = Stage.LEAVING
                worker.deadline = now + LEAVE_S
            case _, Word.FAILED:
                worker.reason = message.detail
            case _:
                pass

    def _bury(self, worker: Worker) -> None:
        """Its process has ended."""
        self._hear_last(worker)
        status = self._reap(worker)
        reason = worker.reason or f"a worker ended: {_how(status)}"
        if worker in self._leaving:
            self._leaving.discard(worker)
            if status != 0 and worker.stage is not Stage.UNWANTED:
                log.error("worker %d, leaving: %s", worker.pid, reason)
        elif self._next is not None and self._next.workers.get(worker.slot) is worker:
            del self._next.workers[worker.slot]
            self._abandon(self._next, reason)
        elif self._current is not None:
            del self._current.workers[worker.slot]
            self._replace(self._current, worker, reason)
        self._reap_orphans()
        self._advance()

    def _hear_last(self, worker: Worker) -> None:
        for message in worker.link.receive()[0]:
            self._heard(worker, message)

    def _replace(self, crew: Crew, worker: Worker, reason: str) -> None:
        now = time.monotonic()
        if worker.stage is Stage.SERVING and now - worker.started > LIVED_S:
            crew.deaths[worker.slot] = 0
        crew.deaths[worker.slot] = deaths = crew.deaths.get(worker.slot, 0) + 1
        pause_s = _pause_s(deaths)
        crew.vacancies[worker.slot] = Vacancy(now + pause_s)
        log.error("worker %d: %s; another one in %.1f s", worker.pid, reason, pause_s)

    def _reap(self, worker: Worker) -> int:
        self._unwatch(worker.pidfd)
        self._unwatch(worker.link.fileno())
        os.close(worker.pidfd)
        worker.link.close()
        _, status = os.waitpid(worker.pid, 0)
        return status

    def _reap_orphans(self) -> None:
        """As process 1 of a container we inherit the resizers of a worker that was killed."""
        known = {worker.pid for worker in (*self._all_workers(), *self._leaving)}
        if self._heir is not None:
            known.add(self._heir.pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in known:
                    return  # a worker's turn comes by its pidfd; after it, we are called again
                os.waitpid(ended.si_pid, 0)

    def _kill(self, worker: Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

    # The selector, and a file for scripts

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, call)

    def _unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _write_pid_file(self, config: Config) -> None:
        if config.pid_file is None:
            self._pid_file.remove()
            return
        try:
            self._pid_file.write(config.pid_file)
        except OSError as error:
            log.error("pid file %s: %s", config.pid_file, error.strerror)


def _is_exclusive(config: Config) -> bool:
    return isinstance(config.cache.index, EmbeddedIndex)


def _pause_s(deaths: int) -> float:
    return min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(deaths - 1, 20))


def _how(status: int) -> str:
    """A wait status, for the log."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
