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
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Final

from edge import descriptors, successor
from edge.config import Config, ConfigError
from edge.crew import LONGEST_PAUSE_S, NEVER, Crew, Stage, Worker, describe, hire, pause_after
from edge.ledger import Ledger, Page
from edge.listening import CannotListen, Listening, address_of
from edge.notify import Notifier
from edge.pid_file import PidFile, maybe_running
from edge.rights import CannotDrop, maybe_rights, maybe_unreadable, prepare_folder, prepare_log
from edge.seat import Bulletin, Link, Seat, Word
from edge.settings.addresses import EmbeddedIndex
from edge.share import share_of
from edge.watch import Watch
from resizer.sandbox import die_with_parent

# Runs in the worker's process until it ends; the exit status. Raises nothing.
Work = Callable[[Config, Seat], int]

# Silence of a worker that makes us silent towards systemd's watchdog.
QUIET_S: Final = 5.0
# The first requests and the other resizers have the processors until then.
QUIET_AFTER_START_S: Final = 1.0
FAILED: Final = 1
INTERRUPTED: Final = 128 + signal.SIGINT

_SIGNALS: Final = (
    *(signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
)  # fmt: skip

log = logging.getLogger("halftone.master")


class Master:
    """slots: how many workers; environ: what systemd or a predecessor left, taken out of it.

    after_start() is called once, in the quiet after the first crew serves: what the workers that
    come later find done.
    """

    def __init__(
        self,
        config: Config,
        work: Work,
        *,
        slots: int,
        environ: MutableMapping[str, str],
        after_start: Callable[[], object] = lambda: None,
    ) -> None:
        self._standing = config  # to fall back on: the one that serves, or is to serve first
        self._work = work
        self._slots = slots
        self._must_share = slots > 1 and not _is_exclusive(config)
        self._environ = environ
        self._listening = Listening(slots)
        self._bulletin = Bulletin()
        self._ledger = Ledger(slots)
        self._pages: dict[Worker, Page] = {}
        self._pid_file = PidFile()
        self._watch = Watch(_SIGNALS)
        self._current: Crew | None = None
        self._next: Crew | None = None
        self._leaving: set[Worker] = set()
        self._retry_at: float | None = None  # when no crew is left and one must be started
        self._retries = 0
        self._after_start = after_start
        self._after_start_at = NEVER
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
        self._watchdog_at = time.monotonic() if self._notifier.watchdog_s is not None else NEVER

    def run(self) -> int:
        """Until a signal ends the node, or its first start fails. Returns the exit status."""
        if os.geteuid() == 0 and self._standing.user is None:
            log.warning("running as root: set `user`, or start halftone as another user")
        self._allowed = descriptors.raise_limit()
        with self._watch.hearing(self._signalled):
            try:
                if self._elder is not None:
                    self._listening.adopt_inherited(self._inherited)
                    self._watch.add(self._elder.fileno(), self._hear_elder)
                else:
                    self._listening.adopt_passed(self._environ)
                self._next = self._start_crew(self._standing)
            except (CannotListen, CannotDrop, OSError) as error:
                self._fail_start(str(error))
            while self._status is None:
                self._watch.wait(self._until_next())
                self._look_at_clock()
        self._end()
        return self._status

    def _end(self) -> None:
        for worker in (*self._all_workers(), *self._leaving):
            worker.kill()
            self._end_of(worker)
        if self._heir is not None:
            self._heir.close()
        if self._elder is not None:
            self._elder.close()
        self._pid_file.remove()
        self._listening.close(is_handed_on=self._elder is not None and not self._has_served)
        self._watch.close()
        self._bulletin.close()
        self._ledger.close()

    def _fail_start(self, reason: str) -> None:
        print(f"halftone: {reason}", file=sys.stderr)  # noqa: T201 - the first start; see serve()
        self._status = FAILED

    # Signals and time

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
        times += (self._watchdog_at, self._after_start_at)
        if self._current is not None:
            times += self._current.vacancies.values()
        if self._retry_at is not None:
            times.append(self._retry_at)
        nearest = min(times)
        return None if nearest == NEVER else max(nearest - time.monotonic(), 0.0)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        for worker in (*self._all_workers(), *self._leaving):
            if worker.deadline <= now:
                worker.reason = f"was {worker.stage.value} for too long"
                worker.deadline = NEVER
                worker.kill()
        crew = self._current
        if crew is not None:
            for slot in [slot for slot, due in crew.vacancies.items() if due <= now]:
                del crew.vacancies[slot]
                self._refill(crew, slot)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._start_again()
        if self._after_start_at <= now:
            self._after_start_at = NEVER
            self._after_start()
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
            crew.vacancies[slot] = time.monotonic() + LONGEST_PAUSE_S

    # Crews

    def _start_crew(self, config: Config) -> Crew:
        """Raises CannotListen, CannotDrop, OSError."""
        config = self._fit(config)
        rights = maybe_rights(config.user, config.group)
        if rights is not None:
            if config.log.access not in ("-", "off"):
                prepare_log(config.log.access, rights)
            prepare_folder(config.cache.path, rights)
            for folder in config.cache.folders:
                try:
                    prepare_folder(folder, rights)
                except OSError as error:  # the others may do
                    log.warning("cache folder %s cannot be made: %s", folder, error.strerror)
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
            worker.kill()
            worker.enter(Stage.UNWANTED, time.monotonic())
            self._leaving.add(worker)

    def _fit(self, config: Config) -> Config:
        fitting = descriptors.fit(config, self._allowed, self._cores, self._slots)
        cap = fitting.connection.max_connections
        if cap != config.connection.max_connections:
            others = descriptors.reserve(share_of(config, 0, self._slots, self._cores), self._cores)
            log.warning(
                "connection.max_connections is %d, not %d: a process may open %d files, %d of them"
                " are for other things (ulimit -n, LimitNOFILE)",
                *(cap, config.connection.max_connections, self._allowed, others),
            )
            if self._allowed < others:
                log.error(
                    "%d open files are too few, and requests will fail (503): allow %d or more",
                    *(self._allowed, others + 100),
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
                worker.enter(Stage.OPENING, time.monotonic())
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
            worker.enter(Stage.RELEASING, time.monotonic())
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
            self._after_start_at = time.monotonic() + QUIET_AFTER_START_S
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
        self._retry_at = time.monotonic() + pause_after(self._retries)

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
        if not self._ledger.has_room(self._slots):
            # Those who leave are killed after 40 s, and we are called again for each that ends.
            log.warning("the reload waits: %d workers have not left yet", len(self._leaving))
            return
        self._is_reload_due = False
        self._notifier.reloading()
        reload = self._standing.reload
        try:
            config = self._standing if reload is None else reload()
            if self._must_share and _is_exclusive(config):
                self._keep_old(f"{self._slots} workers stay until a restart and need a redis index")
                return
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
                worker.enter(Stage.LEAVING, time.monotonic())
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
        self._watch.add(self._heir.link.fileno(), self._hear_heir)
        self._watch.add(self._heir.pidfd, self._bury_heir)

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
            self._watch.remove(heir.link.fileno())
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
        self._watch.remove(heir.link.fileno())
        self._watch.remove(heir.pidfd)
        heir.close()
        self._heir = None

    def _bury_heir(self) -> None:
        heir, self._heir = self._heir, None
        assert heir is not None
        self._watch.remove(heir.pidfd)
        self._watch.remove(heir.link.fileno())
        heir.close()
        _, status = os.waitpid(heir.pid, 0)
        log.error("process %d did not take over: %s; this one goes on", heir.pid, describe(status))
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
            self._watch.remove(elder.fileno())
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
        """Raises OSError."""
        master = os.getpid()

        page = self._ledger.take()

        def become(link: Link) -> None:
            stand = crew.stands[slot]
            seat = Seat(slot, stand, link, self._bulletin, page, self._slots)
            self._be_worker(crew, seat, master)

        try:
            with self._watch.deaf():
                worker = crew.workers[slot] = hire(slot, become)
        except OSError:
            self._ledger.retire(page)
            raise
        self._pages[worker] = page
        self._watch.add(worker.link.fileno(), lambda: self._hear(worker))
        self._watch.add(worker.pidfd, lambda: self._bury(worker))

    def _be_worker(self, crew: Crew, seat: Seat, master: int) -> None:
        """In the child: never returns."""
        status = FAILED
        try:
            self._forget_master(seat)
            rights = maybe_rights(crew.config.user, crew.config.group)
            if rights is not None:
                rights.take()
                if unreadable := maybe_unreadable():
                    log.error(
                        "user %s may not read %s, of which this program is made: install halftone"
                        " and its Python where that user may read them (not below /root)",
                        *(crew.config.user or os.geteuid(), unreadable),
                    )
                    return
            die_with_parent()  # after the rights: the kernel forgets it with them
            if os.getppid() == master:
                config = share_of(crew.config, seat.slot, self._slots, self._cores)
                status = self._work(config, seat)
        except BaseException:  # top of a process
            log.exception("a worker failed")
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def _forget_master(self, seat: Seat) -> None:
        """What is the master's would outlive it here."""
        self._watch.forget()
        # A terminal sends these to the whole group. The master says what is to be done.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        self._listening.forget_all_but(seat.stand)

    def _hear(self, worker: Worker) -> None:
        if not self._take_words(worker):
            self._watch.remove(worker.link.fileno())
        self._advance()

    def _take_words(self, worker: Worker) -> bool:
        messages, is_there = worker.link.receive()
        for message in messages:
            worker.hear(message, time.monotonic())
        return is_there

    def _bury(self, worker: Worker) -> None:
        """Its process has ended."""
        self._take_words(worker)
        status = self._end_of(worker)
        reason = worker.reason or f"a worker ended: {describe(status)}"
        if worker in self._leaving:
            self._leaving.discard(worker)
            if status != 0 and worker.stage is not Stage.UNWANTED:
                log.error("worker %d, leaving: %s", worker.pid, reason)
        elif self._next is not None and self._next.has(worker):
            del self._next.workers[worker.slot]
            self._abandon(self._next, reason)
        elif self._current is not None:
            pause_s = self._current.lose(worker, time.monotonic())
            log.error("worker %d: %s; another one in %.1f s", worker.pid, reason, pause_s)
        self._reap_orphans()
        self._maybe_reload()
        self._advance()

    def _end_of(self, worker: Worker) -> int:
        self._watch.remove(worker.pidfd)
        self._watch.remove(worker.link.fileno())
        status = worker.reap()
        if not self._ledger.retire(self._pages.pop(worker)):
            log.error("worker %d: its numbers are too many to be kept", worker.pid)
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

    def _write_pid_file(self, config: Config) -> None:
        if config.pid_file is None:
            self._pid_file.remove()
            return
        try:
            # A predecessor's is taken over: this process is its child until it has ended.
            held = self._pid_file.has(config.pid_file)
            other = None if held else maybe_running(config.pid_file)
            if other not in (None, os.getpid(), os.getppid()):
                log.error(
                    "pid file %s is that of process %d, another node: it is left alone, and"
                    " `halftone drain` does not find this one",
                    *(config.pid_file, other),
                )
                self._pid_file.remove()
                return
            self._pid_file.write(config.pid_file)
        except OSError as error:
            log.error("pid file %s: %s", config.pid_file, error.strerror)


def _is_exclusive(config: Config) -> bool:
    return isinstance(config.cache.index, EmbeddedIndex)
