"""One case, measured: start the servers, check their answers, warm them, then round by round."""

import contextlib
import http.client
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench import heads, pictures, proc, wrk
from tests.bench.cases import SQUID_HEADS, Case, Heads
from tests.bench.node import RENDERER, Node
from tests.bench.render_cases import PHOTOGRAPHS
from tests.bench.server import Server, ServerError, Setup
from tests.bench.stats import Sample, rotation

SERVER_CORE = 0
GENERATOR_CORE = 1
CHECKED_BODIES = 200
CHUNK = 1 << 20
PHOTOGRAPH = "/photograph.jpg"
IDLE_SETUP_S = 120.0
# A server is at rest when all of it has used less than this of its core.
REST_S = 1.5
REST_CPU_NS = 20_000_000
REST_WITHIN_S = 15.0
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class WrongAnswerError(Exception):
    """A server does not return 200 with the bytes of the file: nothing to measure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    warm_s: float


@dataclass(frozen=True, slots=True)
class Ground:
    """The files of a case on disk, and the requests for them."""

    case: Case
    root: str
    paths: tuple[str, ...]
    pool: str | None

    def pool_of(self, round_number: int) -> wrk.Pool | None:
        if self.pool is None:
            return None
        draws = self.case.heads is Heads.RANDOM
        return wrk.Pool(self.pool, round_number + 1 if draws else None)


def prepare(case: Case, folder: str) -> Ground:
    root = os.path.join(folder, "root")
    paths = pictures.write(root, case.sizes)
    if case.misses:
        shutil.copyfile(next(iter(PHOTOGRAPHS.values())), root + PHOTOGRAPH)
    pool = None
    if case.heads is not Heads.BARE:
        pool = os.path.join(folder, "requests")
        made = (
            heads.squid_heads(paths, SQUID_HEADS, seed=3)
            if case.heads is Heads.SQUID
            else [heads.short_head(path) for path in paths]
        )
        with open(pool, "wb") as file:
            file.write(heads.pool_text(made))
    return Ground(case, root, tuple(paths), pool)


class Course:
    """All rounds of one case. A server that fails leaves the case, with its reason in failures."""

    def __init__(
        self,
        ground: Ground,
        servers: Sequence[Server],
        folder: str,
        plan: Plan,
        say: Callable[[str], None],
    ) -> None:
        self.failures: list[str] = []
        self._ground = ground
        self._running = {server.name: server for server in servers}
        self._names = list(self._running)
        self._folder = folder
        self._plan = plan
        self._say = say
        self._spare: Node | None = None

    def samples(self) -> Iterator[Sample]:
        return self._idle_rounds() if self._ground.case.idle_connections else self._load_rounds()

    def _load_rounds(self) -> Iterator[Sample]:
        """All servers run from first to last: only the measured one has work."""
        with contextlib.ExitStack() as stack:
            if self._ground.case.misses:
                # Born on the other core, whoever is measured.
                self._spare = Node(GENERATOR_CORE, RENDERER)
                stack.enter_context(started(self._spare, self._ground, self._folder))
                proc.pin(self._spare.pids(), GENERATOR_CORE)
            for name in self._names:
                with self._blamed(name):
                    server = self._running[name]
                    stack.enter_context(started(server, self._ground, self._folder))
                    self._say(f"{self._ground.case.name}: checking and warming {name}")
                    check_answers(server, self._ground)
                    _load(server, self._ground, self._plan.warm_s, 0)
                    proc.pin(server.pids(), SERVER_CORE)
                    if self._ground.case.misses and isinstance(server, Node):
                        proc.pin(server.resizers(), GENERATOR_CORE)
            yield from self._rounds(self._load_once)

    def _idle_rounds(self) -> Iterator[Sample]:
        """Fresh processes for every measurement.

        An allocator keeps what the connections of an earlier round needed: the second round would
        find that connections cost nothing.
        """
        yield from self._rounds(self._idle_once)

    def _rounds(self, once: Callable[[Server, int], Mapping[str, float]]) -> Iterator[Sample]:
        case, rounds = self._ground.case.name, self._plan.rounds
        for number in range(rounds):
            for name in rotation(self._names, number):
                if name not in self._running:
                    continue
                self._say(f"{case}: round {number + 1} of {rounds}, {name}")
                with self._blamed(name):
                    yield Sample(case, number, name, once(self._running[name], number))

    def _load_once(self, server: Server, number: int) -> Mapping[str, float]:
        if not self._ground.case.misses:
            return _load(server, self._ground, self._plan.seconds, number)
        renderer = server if isinstance(server, Node) else self._spare
        assert renderer is not None
        with _misses(renderer.port()):
            return _load(server, self._ground, self._plan.seconds, number)

    def _idle_once(self, server: Server, number: int) -> Mapping[str, float]:
        with started(server, self._ground, self._folder):
            return _idle(server, self._ground, self._plan, number)

    @contextlib.contextmanager
    def _blamed(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ServerError, WrongAnswerError, wrk.WrkError, OSError) as error:
            self.failures.append(f"{self._ground.case.name}, {name}: {error}")
            del self._running[name]


@contextlib.contextmanager
def started(server: Server, ground: Ground, folder: str) -> Iterator[None]:
    own = os.path.join(folder, server.name)
    os.makedirs(own, exist_ok=True)
    case = ground.case
    connections = case.connections + case.idle_connections
    try:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = len(ground.paths)
        server.start(Setup(ground.root, own, connections, files, descriptors, case.large))
        proc.pin(server.pids(), SERVER_CORE)
        yield
    finally:
        server.stop()


def check_answers(server: Server, ground: Ground) -> None:
    """Compares whole bodies with the files: all of them, or a fixed draw of many."""
    paths = list(ground.paths)
    if len(paths) > CHECKED_BODIES:
        paths = random.Random(4).sample(paths, CHECKED_BODIES)
    connection = http.client.HTTPConnection("127.0.0.1", server.port(), timeout=30)
    with contextlib.closing(connection):
        for path in paths:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                raise WrongAnswerError(f"{server.name} answers {path} with {answer.status}")
            with open(ground.root + path, "rb") as file:
                while expected := file.read(CHUNK):
                    if answer.read(len(expected)) != expected:
                        raise WrongAnswerError(f"{server.name} sends other bytes for {path}")
            if answer.read():
                raise WrongAnswerError(f"{server.name} sends more than {path} holds")


def _load(server: Server, ground: Ground, seconds: float, number: int) -> Mapping[str, float]:
    """One run of wrk, and what the server paid for it."""
    case = ground.case
    url = server.url(ground.paths[0])
    words = wrk.command(url, case.connections, seconds, ground.pool_of(number))
    pids = server.pids()
    core_before, before = proc.core_busy_s(SERVER_CORE), proc.cpu_ns_of(pids)
    run = wrk.run(words, GENERATOR_CORE, seconds)
    # whoever was born meanwhile counts in full; whoever ended makes this raise
    used_s = (proc.cpu_ns_of(pids | server.pids()) - before) / 1e9
    core_s = proc.core_busy_s(SERVER_CORE) - core_before
    # a draw of many sizes is only close to their mean
    slack = 0.9 if len(set(case.sizes)) > 1 else 1.0
    wrk.check_report(run.report, case.mean_bytes * slack)
    answers = run.report.bytes / case.mean_bytes if case.count_by_bytes else run.report.requests
    if not answers:
        raise wrk.WrkError(f"no answer was whole within {seconds} s")
    return {
        "cpu_us": used_s * 1e6 / answers,
        "both_us": (used_s + run.cpu_s) * 1e6 / answers,
        "rps": answers * 1e6 / run.report.duration_us,
        "p50_us": run.report.p50_us,
        "p99_us": run.report.p99_us,
        "p999_us": run.report.p999_us,
        "server_busy": used_s / run.wall_s,
        "generator_busy": run.cpu_s / run.wall_s,
        "disturbed": max(0.0, core_s - used_s) / run.wall_s,
    }


def _idle(server: Server, ground: Ground, plan: Plan, number: int) -> Mapping[str, float]:
    count = ground.case.idle_connections
    pids = server.pids()
    _await_rest(pids)
    before = {pid: proc.cpu_ns(pid) for pid in pids}
    check_answers(server, ground)  # also: what is loaded on first use is not the connections' due
    worker = max(pids, key=lambda pid: proc.cpu_ns(pid) - before[pid])
    fresh = proc.memory(worker)
    tree_before = _tree_pss(pids)
    with _holder(server.port(), count, ground.paths[0]):
        held = proc.memory(worker)
        tree_held = _tree_pss(pids)
        values = dict(_load(server, ground, plan.seconds, number))
    values["worker_rss"] = fresh.rss / 1024
    values["tree_pss"] = tree_before / 1024
    values["connection_rss"] = (held.rss - fresh.rss) / count
    values["connection_pss"] = (tree_held - tree_before) / count
    return values


def _await_rest(pids: frozenset[int]) -> None:
    """Until a start is over, all that goes on behind the first answer included: the node's master
    imports what later workers need a second after the first one serves."""
    late_at = time.monotonic() + REST_WITHIN_S
    used = -REST_CPU_NS  # never at rest at the first look
    while (now := proc.cpu_ns_of(pids)) - used >= REST_CPU_NS and time.monotonic() < late_at:
        used = now
        time.sleep(REST_S)


@contextlib.contextmanager
def _holder(port: int, count: int, path: str) -> Iterator[None]:
    """count connections, open and idle inside the block.

    Raises WrongAnswerError if the server shut any.
    """
    command = [sys.executable, "-m", "tests.bench.idle", str(port), str(count), path]
    child = subprocess.Popen(
        ["taskset", "-c", str(GENERATOR_CORE), "timeout", str(IDLE_SETUP_S * 2), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        if child.stdout.readline() != "ready\n":  # timeout(1) bounds this wait
            raise WrongAnswerError(f"{count} idle connections could not be opened")
        try:
            yield
        finally:
            child.stdin.close()
            kept = child.stdout.readline()
        if kept != f"kept {count}\n":
            raise WrongAnswerError(f"of {count} idle connections: {kept!r}")


@contextlib.contextmanager
def _misses(port: int) -> Iterator[None]:
    """A node renders one miss after another inside the block. Raises WrongAnswerError if not."""
    command = [sys.executable, "-m", "tests.bench.misses", str(port), PHOTOGRAPH]
    child = subprocess.Popen(
        ["taskset", "-c", str(GENERATOR_CORE), "timeout", str(IDLE_SETUP_S), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise WrongAnswerError("nobody asks for misses")
        try:
            yield
        finally:
            child.stdin.close()
            made = child.stdout.readline()
        if not made.startswith("made ") or made == "made 0\n":
            raise WrongAnswerError(f"misses: {made!r}")


def _tree_pss(pids: frozenset[int]) -> int:
    return sum(proc.memory(pid).pss for pid in pids)
