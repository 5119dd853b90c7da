"""The cache's figures: herd, purges, hits without Redis, restart.

python -m tests.bench.cache [--quick] [--only NAME] [--out DIR]

The node has core 0, the clients core 1. Each case is a module of its own, which says what is
measured and how. Needs Debian's redis-server, php-fpm, wrk and mate-backgrounds.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException

from rich.console import Console

from tests.bench import herd, machine, purges, redis_hits, restart, sections, wrk
from tests.bench.crowd import CrowdError
from tests.bench.hits import WIDE
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.server import ServerError
from tests.peers import phpfpm

Case = Callable[[str, bool, Callable[[str], None]], sections.Section]
CASES: Mapping[str, Case] = {
    "herd": herd.measure,
    "purges": purges.measure,
    "redis": redis_hits.measure,
    "restart": restart.measure,
}
FAULTS = (CrowdError, ServerError, wrk.WrkError, HTTPException, OSError, AssertionError)


def main() -> int:
    options = _options()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    missing = [tool for tool in ("redis-server", "wrk", "taskset") if shutil.which(tool) is None]
    missing += [] if phpfpm.PROGRAM else ["php-fpm"]
    missing += [] if os.path.exists(herd.PHOTOGRAPH) else ["mate-backgrounds"]
    if missing or len(os.sched_getaffinity(0)) < 2:
        console.print(f"needs two cores and {', '.join(missing) or 'more than this one'}")
        return 1
    chosen = [name for name in CASES if options.only is None or name.startswith(options.only)]
    if not chosen:
        console.print(f"no case starts with {options.only!r}")
        return 2
    about = _facts(options.quick)  # before the run: the commit may change meanwhile
    os.sched_setaffinity(0, {GENERATOR_CORE})
    found, failures = run(chosen, options.quick, console)
    report = sections.Report("Cache: herd, purges, Redis, restart", about, found, failures)
    for table in sections.tables(report):
        console.print(table)
    for failure in failures:
        console.print(f"not measured: {failure}", style="red", markup=False)
    for path in sections.save(report, options.out, "cache"):
        console.print(f"wrote {path}")
    return 1 if failures else 0


def run(
    names: Sequence[str], quick: bool, console: Console
) -> tuple[list[sections.Section], list[str]]:
    found: list[sections.Section] = []
    failures: list[str] = []
    with console.status("") as status:
        for name in names:
            began = time.monotonic()
            with workspace() as folder:
                try:
                    found.append(CASES[name](folder, quick, status.update))
                except FAULTS as error:
                    failures.append(f"{name}: {type(error).__name__}: {error}")
            console.print(f"{name}: {time.monotonic() - began:.0f} s")
    return found, failures


@contextlib.contextmanager
def workspace() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="halftone-cache-") as folder:
        os.chmod(folder, 0o755)  # php-fpm's children may be another user
        yield folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cache")
    parser.add_argument("--quick", action="store_true", help="a few rounds: a rehearsal")
    parser.add_argument("--only", metavar="NAME", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--out", default="docs/bench", metavar="DIR", help="where results go")
    return parser.parse_args()


def _facts(quick: bool) -> dict[str, str]:
    return {
        **machine.facts(SERVER_CORE),
        "node": f"Python {sys.version.split()[0]}, one worker on one core, access log and metrics "
        "on" + (" (quick: a rehearsal, not a result)" if quick else ""),
    }


if __name__ == "__main__":
    sys.exit(main())
