"""The node against lighttpd, nginx and a floor, on one machine in one run.

python -m tests.bench.hits [--quick] [--only NAME] [--rounds N] [--out DIR] [--without-node]

The server has core 0, the load generator core 1. See cases.py for what is compared, stats.py for
how rounds are paired, proc.py for how time is read. Needs Debian's wrk, lighttpd, nginx and a C
compiler.
"""

import argparse
import contextlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence

from rich.console import Console

from tests.bench import machine, measure, report
from tests.bench.cases import IDLE_CONNECTIONS, TAILS, cases, chosen
from tests.bench.node import Node
from tests.bench.peers import SPARE, Floor, Lighttpd, Nginx
from tests.bench.server import Server
from tests.bench.stats import Sample

FULL = measure.Plan(rounds=7, seconds=4, warm_s=2)
QUICK = measure.Plan(rounds=3, seconds=1, warm_s=1)
WIDE = 130  # columns of a log file
TOOLS = ("wrk", "lighttpd", "nginx", "cc", "taskset", "timeout")
DESCRIPTORS = max(TAILS) + 2 * IDLE_CONNECTIONS + 4 * SPARE


def main() -> int:
    options = _options()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or len(os.sched_getaffinity(0)) < 2:
        console.print(f"needs two cores and {', '.join(missing) or 'more than this one'}")
        return 1
    plan = QUICK if options.quick else FULL
    plan = measure.Plan(options.rounds or plan.rounds, plan.seconds, plan.warm_s)
    descriptors = _allow_descriptors()
    selected = chosen(cases(descriptors, options.quick), options.only)
    if not selected:
        console.print(f"no case starts with {options.only!r}")
        return 2
    os.sched_setaffinity(0, {measure.GENERATOR_CORE})
    servers = _servers(options.without_node)
    samples: list[Sample] = []
    failures: list[str] = []
    with console.status("") as status:
        for case in selected:
            with _workspace() as folder:
                try:
                    status.update(f"{case.name}: writing files")
                    ground = measure.prepare(case, folder)
                    course = measure.Course(ground, servers, folder, plan, status.update)
                    samples.extend(course.samples())
                    failures.extend(course.failures)
                except OSError as error:
                    failures.append(f"{case.name}: {error}")
    facts = _facts(servers, plan, options.quick)
    subject, *peers = [server.name for server in servers]
    results = report.Results(facts, selected, subject, peers, samples, failures)
    for table in report.tables(results):
        console.print(table)
    for case in results.measured():
        for doubt in report.doubts_of(results, case):
            console.print(f"{case.label}: {doubt}")
    for failure in failures:
        console.print(f"failed: {failure}", style="red", markup=False)
    for path in report.save(results, options.out):
        console.print(f"wrote {path}")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hits")
    parser.add_argument("--quick", action="store_true", help="short runs, fewer files: a rehearsal")
    parser.add_argument("--only", metavar="NAME", help="cases whose name starts with NAME")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds a case")
    parser.add_argument("--out", default="docs/bench", metavar="DIR", help="where results go")
    parser.add_argument("--without-node", action="store_true", help="the peers among themselves")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def _servers(without_node: bool) -> list[Server]:
    """The subject of all comparisons first."""
    core = measure.SERVER_CORE
    peers: list[Server] = [Lighttpd(core), Nginx(core), Floor(core)]
    return peers if without_node else [Node(core), *peers]


@contextlib.contextmanager
def _workspace() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="halftone-bench-") as folder:
        os.chmod(folder, 0o755)  # a worker under another user must reach its docroot
        yield folder


def _allow_descriptors() -> int:
    """As many as idle connections and caches of open files need, or all we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (DESCRIPTORS, min(hard, DESCRIPTORS)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(hard, limit)))
            return limit
    return soft


def _facts(servers: Sequence[Server], plan: measure.Plan, quick: bool) -> dict[str, str]:
    return {
        **machine.facts(measure.SERVER_CORE),
        "versions": "; ".join(f"{server.name}: {server.version()}" for server in servers),
        "rounds": f"{plan.rounds} of {plan.seconds:g} s a server, {plan.warm_s:g} s of warm-up"
        + (" (quick: a rehearsal, not a result)" if quick else ""),
        "open files": f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} a process; nginx caches "
        "open files where all of a case fit",
        "logs": "the peers and the floor write none; the node writes its access log and metrics",
        "wrk": "one thread, closed loop, p50 to p99.9 as it reports them",
    }


if __name__ == "__main__":
    sys.exit(main())
