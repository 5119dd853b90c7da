"""Hits while Redis runs, is stopped (SIGSTOP), and is dead (SIGKILL): they must not know.

One node, one thumbnail in its memory. Each round measures the three states in an order that
rotates; ratios are made within a round.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from tests.bench import heads, pictures, proc, wrk
from tests.bench.cache_node import CacheNode
from tests.bench.cases import PICTURES, SMALL_CONNECTIONS, SQUID_HEADS, THUMBNAILS
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.render_report import Figure
from tests.bench.report import ratio_text
from tests.bench.sections import Section
from tests.bench.server import ServerError
from tests.bench.stats import rotation, spread
from tests.peers.redis import RedisServer

RUNNING, STOPPED, KILLED = "running", "stopped", "killed"
STATES = (RUNNING, STOPPED, KILLED)
ROUNDS = 9
SECONDS = 2.0
QUICK_ROUNDS = 3
QUICK_SECONDS = 1.0
# What is the same on a shared machine: medians of ratios are told to two digits.
MOST = 1.03
BYTES = THUMBNAILS[1]


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk. commands: what Redis was told meanwhile, by anybody; None: nobody can ask."""

    round: int
    state: str
    cpu_us: float
    requests: int
    p99_us: int
    commands: int | None


def measure(folder: str, quick: bool, say: Callable[[str], None]) -> Section:
    root = os.path.join(folder, "root")
    paths = pictures.write(root, [BYTES] * PICTURES)
    pool = os.path.join(folder, "requests")
    with open(pool, "wb") as file:
        file.write(heads.pool_text(heads.squid_heads(paths, SQUID_HEADS, seed=3)))
    own = os.path.join(folder, "node")
    os.mkdir(own)
    with closing(RedisServer().start()) as server:
        node = CacheNode(SERVER_CORE, root=root, redis=server.url)
        try:
            node.begin(own)
            seconds = QUICK_SECONDS if quick else SECONDS
            _load(node, pool, seconds)
            rounds = QUICK_ROUNDS if quick else ROUNDS
            loads = list(_rounds(node, server, pool, rounds, seconds, say))
        finally:
            node.stop()
    return section(loads, seconds)


def _rounds(
    node: CacheNode,
    server: RedisServer,
    pool: str,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> Iterator[Load]:
    for number in range(rounds):
        for state in rotation(STATES, number):
            say(f"redis: round {number + 1} of {rounds}, {state}")
            node.await_well()
            if state is STOPPED:
                server.pause()
            elif state is KILLED:
                server.kill()
            try:
                before = _commands(server) if state is RUNNING else None
                cpu_us, report = _load(node, pool, seconds)
                commands = None if before is None else _commands(server) - before - 1
            finally:
                if state is STOPPED:
                    server.resume()
                elif state is KILLED:
                    server.start()
            yield Load(number, state, cpu_us, report.requests, report.p99_us, commands)


def _load(node: CacheNode, pool: str, seconds: float) -> tuple[float, wrk.Report]:
    """CPU of the node a request, in us."""
    words = wrk.command(node.url("/"), SMALL_CONNECTIONS, seconds, wrk.Pool(pool))
    pids = node.pids()
    before = proc.cpu_ns_of(pids)
    run = wrk.run(words, GENERATOR_CORE, seconds)
    used_ns = proc.cpu_ns_of(pids | node.pids()) - before
    wrk.check_report(run.report, BYTES)
    return used_ns / 1000 / run.report.requests, run.report


def _commands(server: RedisServer) -> int:
    return commands_in(server.command("INFO", "stats"))


def commands_in(info: bytes) -> int:
    """total_commands_processed of INFO stats."""
    for line in info.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"total_commands_processed":
            return int(value)
    raise ServerError("Redis does not tell how many commands it had")


def section(loads: Sequence[Load], seconds: float) -> Section:
    by = {(load.round, load.state): load for load in loads}
    numbers = sorted({load.round for load in loads})
    figures = []
    rows = []
    for state in STATES:
        mine = [load for load in loads if load.state == state]
        ratio = spread(
            [by[number, state].cpu_us / by[number, RUNNING].cpu_us for number in numbers]
        )
        assert ratio is not None
        cpu = spread([load.cpu_us for load in mine])
        tail = spread([float(load.p99_us) for load in mine])
        assert cpu is not None and tail is not None
        rows.append(
            [
                state,
                f"{cpu.median:.2f}",
                f"{tail.median:,.0f}",
                "-" if state == RUNNING else ratio_text(ratio),
                _told(mine, seconds),
            ]
        )
        if state != RUNNING:
            figures.append(
                Figure(
                    f"CPU of a hit, Redis {state} / running",
                    f"the same: <= {MOST:g}",
                    ratio_text(ratio),
                    ratio.median <= MOST,
                )
            )
    about = (
        f"{PICTURES:,} thumbnails of {BYTES:,} bytes in the node's memory, heads as Squid sends "
        f"them, {SMALL_CONNECTIONS} connections, {len(numbers)} rounds of {seconds:g} s a state "
        "in an order that rotates; CPU is the node's whole process tree. Before each run the node "
        "finds Redis well; it is stopped (SIGSTOP) or killed (SIGKILL) just before. Commands are "
        "what Redis was told meanwhile by anybody, by its own count: the node asks for news of "
        "purges once a second."
    )
    titles = ("Redis", "CPU us", "p99 us", "CPU / running", "commands a second; a million hits")
    raw = {"loads": [asdict(load) for load in loads]}
    return Section("redis", "Hits without Redis", about, figures, titles, rows, raw)


def _told(loads: Sequence[Load], seconds: float) -> str:
    counted = [load for load in loads if load.commands is not None]
    if not counted:
        return "-"
    told = sum(load.commands or 0 for load in counted)
    asked = sum(load.requests for load in counted)
    return f"{told / seconds / len(counted):.1f}; {told * 1e6 / asked:.0f}"
