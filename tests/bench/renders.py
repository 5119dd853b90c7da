"""The node against thumbor, nginx's image_filter, libvips and sharp on ten photographs, in one run.

python -m tests.bench.renders [--quick] [--only NAME] [--rounds N] [--out DIR] [--peers DIR]

Contestants have core 0, this program core 1. See render_cases.py for what is rendered,
contestants.py for how each is set up, render_measure.py for what is measured. Needs what `make
bench` installs: Debian's nginx with image_filter, Node.js, wallpapers, and make-peers.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from tests.bench import ladder, likeness, machine, render_report, resident
from tests.bench.cases import chosen
from tests.bench.contestants import Contestant, everyone
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.render_cases import (
    LADDER_COMMAND,
    LIBVIPS,
    NODE,
    THUMBOR,
    Course,
    RenderCase,
    cases,
    missing,
    photographs,
)
from tests.bench.render_measure import FAULTS, Originals, Races
from tests.bench.stats import Sample, values_of

WIDE = 150  # columns of a log file
PEERS = os.path.join(machine.REPOSITORY, "var", "peers")
ROUNDS = {Course.ONE: 5, Course.STEPS: 3, Course.LADDER: 3}
QUICK_ROUNDS = 1


@dataclass(frozen=True, slots=True)
class Plan:
    cases: Sequence[RenderCase]
    rounds: int | None
    quick: bool
    only: str | None

    def rounds_of(self, case: RenderCase) -> int:
        return self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS[case.course])


def main() -> int:
    options = _options()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    absent = missing()
    if absent or len(os.sched_getaffinity(0)) < 2:
        console.print(f"needs two cores and {', '.join(absent) or 'more than this one'}")
        return 1
    plan = Plan(chosen(cases(), options.only), options.rounds, options.quick, options.only)
    if not plan.cases:
        console.print(f"no case starts with {options.only!r}")
        return 2
    os.sched_setaffinity(0, {GENERATOR_CORE})
    with tempfile.TemporaryDirectory(prefix="halftone-renders-") as folder:
        os.chmod(folder, 0o755)  # a worker under another user must reach its docroot
        with console.status("") as status:
            results = _run(plan, folder, options.peers, status.update)
    for table in render_report.tables(results):
        console.print(table)
    for failure in results.failures:
        console.print(f"not measured: {failure}", style="red", markup=False)
    for path in render_report.save(results, options.out):
        console.print(f"wrote {path}")
    return 1 if results.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.renders")
    parser.add_argument("--quick", action="store_true", help="a round of few pictures: a rehearsal")
    parser.add_argument("--only", metavar="NAME", help="cases whose name starts with NAME")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds a case")
    parser.add_argument("--out", default="docs/bench", metavar="DIR", help="where results go")
    parser.add_argument("--peers", default=PEERS, metavar="DIR", help="what make-peers filled")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def _run(
    plan: Plan, folder: str, peers: str, say: Callable[[str], None]
) -> render_report.RenderResults:
    say("copying photographs")
    originals = Originals(folder, photographs(plan.quick))
    failures: list[str] = []
    samples: list[Sample] = []
    with _started(everyone(SERVER_CORE, peers), originals.root, folder, failures, say) as running:
        facts = _facts(running, plan)
        races = Races(originals, running, say)
        for case in plan.cases:
            samples.extend(races.samples(case, plan.rounds_of(case)))
            if LADDER_COMMAND in case.contestants:
                samples.extend(_ladders(case, originals, samples, folder, failures))
        if plan.only is None:
            races.curves([name for name in (NODE, THUMBOR, LIBVIPS) if name in _names(running)])
        failures += races.failures
    say("comparing outputs")
    alike = likeness.compare(races.outputs, originals.file)
    memory = None
    if plan.only is None:
        say("memory of the resizers")
        try:
            memory = resident.measure(SERVER_CORE, f"{folder}/resident")
        except FAULTS as error:
            failures.append(f"memory: {error}")
    return render_report.RenderResults(facts, cases(), samples, alike, memory, failures)


@contextlib.contextmanager
def _started(
    contestants: Sequence[Contestant],
    root: str,
    folder: str,
    failures: list[str],
    say: Callable[[str], None],
) -> Iterator[list[Contestant]]:
    """All of them, from first to last: only the one that is asked has work."""
    running = []
    try:
        for contestant in contestants:
            say(f"starting {contestant.name}")
            own = os.path.join(folder, contestant.name)
            os.makedirs(own)
            try:
                contestant.start(root, own)
                running.append(contestant)
            except FAULTS as error:
                failures.append(f"{contestant.name}: {error}")
        yield running
    finally:
        for contestant in contestants:
            contestant.stop()


def _ladders(
    case: RenderCase,
    originals: Originals,
    samples: Sequence[Sample],
    folder: str,
    failures: list[str],
) -> Iterator[Sample]:
    """The command, against the node's first miss of the largest in the same round."""
    if not ladder.is_known():
        failures.append(f"{case.name}, {LADDER_COMMAND}: this release has no such command")
        return
    source = originals.file(originals.of(case)[0])
    for number, largest in values_of(samples, case.name, NODE, "largest_ms").items():
        try:
            own = f"{folder}/{case.name}-{number}"
            cpu_ms = ladder.cpu_ms(source, own, SERVER_CORE)
        except FAULTS as error:
            failures.append(f"{case.name}, {LADDER_COMMAND}: {error}")
            return
        values = {"cpu_ms": cpu_ms, "largest_ms": largest, "of_largest": cpu_ms / largest}
        yield Sample(case.name, number, LADDER_COMMAND, values)


def _names(contestants: Sequence[Contestant]) -> list[str]:
    return [contestant.name for contestant in contestants]


def _facts(running: Sequence[Contestant], plan: Plan) -> dict[str, str]:
    rounds = dict.fromkeys(
        f"{case.course.name.lower()} {plan.rounds_of(case)}" for case in plan.cases
    )
    return {
        **machine.facts(SERVER_CORE),
        "versions": "; ".join(f"{one.name}: {one.version()}" for one in running),
        "licences": "thumbor MIT, pyvips MIT, libvips LGPL-2.1-or-later, sharp Apache-2.0, nginx "
        "BSD-2-Clause; run, not distributed",
        "photographs": f"{len(photographs(plan.quick))} of Debian's mate-backgrounds and "
        "plasma-workspace-wallpapers, 1.8 to 4.1 megapixels",
        "rounds": ", ".join(rounds)
        + (" (quick: a rehearsal, not a result)" if plan.quick else "")
        + "; each picture by each contestant in turn, the order rotates",
        "settings": "one picture at a time on one core; JPEG quality 80 and baseline for all",
    }


if __name__ == "__main__":
    sys.exit(main())
