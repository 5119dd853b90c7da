"""What a run leaves behind: results.json, results.md, results.png, and a table on the terminal."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from tests.bench import plot
from tests.bench.cases import Case
from tests.bench.stats import METRICS, Sample, Spread, paired_ratio, summary

COLUMNS = ("cpu_us", "both_us", "rps", "p50_us", "p99_us", "p999_us")
IDLE_COLUMNS = (
    *("worker_rss", "tree_pss", "connection_rss", "connection_pss"),
    *("p50_us", "p99_us", "p999_us", "cpu_us"),
)
DISTURBED = 0.10  # above this share of others on the server's core, a run says little
SATURATED = 0.97  # above this share of its core, the generator sets the pace


@dataclass(frozen=True, slots=True)
class Results:
    """A finished run. subject is compared with each of peers."""

    facts: Mapping[str, str]
    cases: Sequence[Case]
    subject: str
    peers: Sequence[str]
    samples: Sequence[Sample]
    failures: Sequence[str]

    def measured(self) -> list[Case]:
        seen = {sample.case for sample in self.samples}
        return [case for case in self.cases if case.name in seen]

    def ratio(self, case: Case, metric: str, peer: str) -> Spread | None:
        return paired_ratio(self.samples, case.name, metric, self.subject, peer)


def columns_of(case: Case) -> tuple[str, ...]:
    return IDLE_COLUMNS if case.idle_connections else COLUMNS


def compared(case: Case) -> tuple[str, ...]:
    """The metrics whose ratios are told, the first the one that counts."""
    if case.idle_connections:
        return ("connection_rss", "worker_rss", "tree_pss", "p99_us", "cpu_us")
    return ("cpu_us", "both_us", "rps", "p99_us")


def number(metric: str, value: Spread | None) -> str:
    return "-" if value is None else f"{value.median:,.{METRICS[metric].digits}f}"


def ratio_text(ratio: Spread | None) -> str:
    if ratio is None:
        return "-"
    return f"{plot.short(ratio.median)} ({plot.short(ratio.low)} to {plot.short(ratio.high)})"


def rows_of(results: Results, case: Case) -> list[list[str]]:
    """A line a server: its name and the medians of its rounds."""
    servers = [results.subject, *results.peers]
    return [
        [server, *(number(m, summary(results.samples, case.name, server, m)) for m in metrics)]
        for metrics in [columns_of(case)]
        for server in servers
    ]


def titles_of(case: Case) -> list[str]:
    return ["server", *(title_of(metric) for metric in columns_of(case))]


def title_of(metric: str) -> str:
    unit = METRICS[metric].unit
    return METRICS[metric].title + (f", {unit}" if unit and unit != "/s" else "")


def doubts_of(results: Results, case: Case) -> list[str]:
    """What a reader must know before believing a case."""
    doubts = []
    for server in [results.subject, *results.peers]:
        others = summary(results.samples, case.name, server, "disturbed")
        if others is not None and others.median > DISTURBED:
            doubts.append(f"others used {others.median:.0%} of the core under {server}")
        generator = summary(results.samples, case.name, server, "generator_busy")
        if generator is not None and generator.median > SATURATED:
            doubts.append(f"wrk used all of its core, so {server} may serve more requests a second")
    return doubts


def tables(results: Results) -> list[Table]:
    """For the terminal."""
    found = []
    for case in results.measured():
        table = Table(title=case.label, title_justify="left", title_style="bold")
        for title in ["server", *(METRICS[name].short for name in columns_of(case))]:
            table.add_column(title, justify="left" if title == "server" else "right")
        metric = compared(case)[0]
        for peer in results.peers:
            table.add_column(f"{METRICS[metric].short} / {peer}", justify="right", no_wrap=True)
        for row in rows_of(results, case):
            cells = [
                ratio_text(results.ratio(case, metric, peer)) if row[0] == results.subject else ""
                for peer in results.peers
            ]
            table.add_row(*row, *cells)
        found.append(table)
    return found


def markdown(results: Results) -> str:
    lines = ["# Hits: what an answer costs", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    lines += [
        "",
        f"Ratios are {results.subject} / peer within a round; the median of the rounds is",
    ]
    lines += ["given, with the smallest and the largest. Other numbers are medians of the rounds."]
    if results.failures:
        lines += ["", "Not measured:", "", *(f"- {failure}" for failure in results.failures)]
    lines += ["", "![ratios](results.png)"]
    for case in results.measured():
        lines += ["", f"## {case.label}", "", case.about, ""]
        lines += grid(titles_of(case), rows_of(results, case))
        titles = [f"{results.subject} / peer", *(title_of(m) for m in compared(case))]
        ratios = [
            [peer, *(ratio_text(results.ratio(case, metric, peer)) for metric in compared(case))]
            for peer in results.peers
        ]
        lines += ["", *grid(titles, ratios)]
        lines += ["", *(f"Doubt: {doubt}.  " for doubt in doubts_of(results, case))]
    return "\n".join(lines).rstrip() + "\n"


def panels(results: Results) -> list[plot.Panel]:
    loads = [case for case in results.measured() if not case.idle_connections]
    idles = [case for case in results.measured() if case.idle_connections]
    return [
        plot.Panel(
            f"CPU per request: {results.subject} / peer",
            f"{results.subject} is cheaper",
            [_row(results, case, "cpu_us", case.label) for case in loads],
        ),
        plot.Panel(  # what a large answer saves its server on loopback, its receiver may pay
            f"CPU per request of server and receiver: {results.subject} / peer",
            "both together are cheaper",
            [_row(results, case, "both_us", case.label) for case in loads if case.large],
        ),
        *(
            plot.Panel(
                f"Beside {case.idle_connections:,} idle connections: {results.subject} / peer",
                f"{results.subject} needs less",
                [_row(results, case, metric, label, MEMORYLESS) for metric, label in IDLE_ROWS],
            )
            for case in idles
        ),
    ]


# The floor keeps all files in memory and nothing a connection: no yardstick for memory.
MEMORYLESS = ("floor",)
IDLE_ROWS = (
    ("connection_rss", "memory a connection"),
    ("worker_rss", "memory of a worker"),
    ("tree_pss", "memory of all"),
    ("p99_us", "p99 of a fresh client"),
)


def save(results: Results, folder: str) -> list[str]:
    """Writes the three files and returns their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"results.{kind}") for kind in ("json", "md", "png")]
    raw = {
        "facts": dict(results.facts),
        "subject": results.subject,
        "peers": list(results.peers),
        "failures": list(results.failures),
        "cases": {case.name: case.about for case in results.measured()},
        "samples": [asdict(sample) for sample in results.samples],
    }
    with open(paths[0], "w", encoding="utf-8") as file:
        json.dump(raw, file, indent=1)
        file.write("\n")
    with open(paths[1], "w", encoding="utf-8") as file:
        file.write(markdown(results))
    subtitle = (
        "Median of the ratios within each round, whisker from the smallest to the largest. "
        f"Commit {results.facts.get('commit', 'unknown')}."
    )
    title = f"{results.subject} against its peers, one core each"
    plot.draw(title, subtitle, results.peers, panels(results)).save(paths[2], optimize=True)
    return paths


def _row(
    results: Results, case: Case, metric: str, label: str, without: Sequence[str] = ()
) -> plot.Row:
    peers = [peer for peer in results.peers if peer not in without]
    ratios = {peer: results.ratio(case, metric, peer) for peer in peers}
    return plot.Row(label, {peer: ratio for peer, ratio in ratios.items() if ratio is not None})


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in titles[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows)]
