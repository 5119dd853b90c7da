"""What a run of renders leaves behind: renders.json, renders.md, renders.png, and the figures."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean

from rich.table import Table

from tests.bench import plot
from tests.bench.likeness import Likeness, mean_gain, mean_of
from tests.bench.render_cases import (
    BARE,
    CURVE_QUALITIES,
    CURVE_WIDTHS,
    LADDER_COMMAND,
    LIBVIPS,
    NODE,
    THUMBOR,
    WIDTHS,
    Course,
    RenderCase,
)
from tests.bench.render_cases import (
    LADDERS as WITH_LADDERS,
)
from tests.bench.report import DISTURBED, grid, number, ratio_text, title_of
from tests.bench.resident import HUGE_WIDTH, Resident
from tests.bench.stats import Sample, Spread, paired_ratio, summary

COLUMNS = ("cpu_ms", "round_ms", "pictures_per_s", "bytes")
LADDER_COLUMNS = ("cpu_ms", "largest_ms", "of_largest", "bytes")
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class RenderResults:
    """A finished run. The node is compared with each of the others."""

    facts: Mapping[str, str]
    cases: Sequence[RenderCase]
    samples: Sequence[Sample]
    likeness: Sequence[Likeness] = ()
    resident: Resident | None = None
    failures: Sequence[str] = ()

    def measured(self) -> list[RenderCase]:
        seen = {sample.case for sample in self.samples}
        return [case for case in self.cases if case.name in seen]

    def ratio(self, case: str, metric: str, peer: str, subject: str = NODE) -> Spread | None:
        return paired_ratio(self.samples, case, metric, subject, peer)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was asked for, what was measured: a line of the first table."""

    what: str
    asked: str
    measured: str = "-"
    is_met: bool | None = field(default=None)

    @property
    def row(self) -> list[str]:
        unmet = "not measured" if self.measured == "-" else "-"
        met = {True: "yes", False: "no", None: unmet}[self.is_met]
        return [self.what, self.asked, self.measured, met]


# (case, peer, at most)
RATIOS = (
    *((f"first-{width}", peer, most) for width in WIDTHS for peer, most in (
        (BARE, 1.05), (THUMBOR, 1.0), (LIBVIPS, 1.0)
    )),
    ("steps", THUMBOR, 0.5),
    ("steps", LIBVIPS, 0.6),
)  # fmt: skip
# (case, contestant, at most times the largest alone)
LADDERS = (
    ("ladder-18m", LADDER_COMMAND, 1.6),
    ("ladder-18m", NODE, 1.6),
    ("youtube-18m", NODE, 1.6),
)
MOST_AT_REST = 60 * MB
MOST_AT_PEAK = 150 * MB


def figures(results: RenderResults) -> list[Figure]:
    labels = {case.name: case.label for case in results.cases}
    found = []
    for name, peer, most in RATIOS:
        what = f"{labels.get(name, name)}: CPU / {peer}"
        found.append(_at_most(what, most, results.ratio(name, "cpu_ms", peer)))
        if name == "steps":
            ladders = results.ratio(name, "cpu_ms", peer, WITH_LADDERS)
            found.append(_at_most(f"{what}, {WITH_LADDERS}", most, ladders))
    for name, contestant, most in LADDERS:
        by = contestant if contestant != NODE else "by requests"
        what = f"{labels.get(name, name)}, {by}: CPU / the largest alone"
        found.append(_at_most(what, most, summary(results.samples, name, contestant, "of_largest")))
    found += [_gain_figure(results, peer) for peer in (THUMBOR, LIBVIPS)]
    found += _memory_figures(results.resident)
    return found


def _at_most(what: str, most: float, value: Spread | None) -> Figure:
    asked = f"<= {most:g}"
    if value is None:
        return Figure(what, asked)
    return Figure(what, asked, ratio_text(value), value.median <= most)


def _gain_figure(results: RenderResults, peer: str) -> Figure:
    what = f"mean SSIM at equal bytes, less {peer}'s"
    gains = [mean_gain(results.likeness, width, NODE, peer) for width in CURVE_WIDTHS]
    if any(gain is None for gain in gains):
        return Figure(what, ">= 0")
    value = mean(gain for gain in gains if gain is not None)
    parts = ", ".join(
        f"{gain:+.4f} at {width} px"
        for width, gain in zip(CURVE_WIDTHS, gains, strict=True)
    )  # fmt: skip
    return Figure(what, ">= 0", f"{value:+.4f} ({parts})", value >= 0)


def _memory_figures(resident: Resident | None) -> list[Figure]:
    rows = (
        ("resizer at rest, resident", MOST_AT_REST, "rest"),
        ("resizer at rest again, after the ten at 1280 px", MOST_AT_REST, "after"),
        (f"50 megapixel JPEG to {HUGE_WIDTH} px, peak of the resizer", MOST_AT_PEAK, "peak"),
    )
    found = []
    for what, most, name in rows:
        asked = f"<= {most // MB} MB"
        if resident is None:
            found.append(Figure(what, asked))
            continue
        value: int = getattr(resident, name)
        found.append(Figure(what, asked, f"{value / MB:.1f} MB", value <= most))
    return found


def columns_of(case: RenderCase) -> tuple[str, ...]:
    return LADDER_COLUMNS if case.course is Course.LADDER else COLUMNS


def rows_of(results: RenderResults, case: RenderCase) -> list[list[str]]:
    """A line a contestant: medians of the rounds, SSIM, and the node's ratios to it."""
    found = []
    for name in case.contestants:
        values = [summary(results.samples, case.name, name, m) for m in columns_of(case)]
        if all(value is None for value in values):
            continue
        like = mean_of(results.likeness, case.name, name)
        row = [name, *(number(m, v) for m, v in zip(columns_of(case), values, strict=True))]
        row.append("-" if like is None else f"{like[1]:.4f}")
        same = name in (NODE, WITH_LADDERS, LADDER_COMMAND)
        row += [
            "" if same else ratio_text(results.ratio(case.name, metric, name))
            for metric in ("cpu_ms", "pictures_per_s")
        ]
        found.append(row)
    return found


def titles_of(case: RenderCase) -> list[str]:
    titles = ["", *map(title_of, columns_of(case)), "SSIM"]
    return [*titles, "CPU: node / it", "pictures per second: node / it"]


def tables(results: RenderResults) -> list[Table]:
    """For the terminal."""
    found = [
        _table(case.label, titles_of(case), rows_of(results, case)) for case in results.measured()
    ]
    titles = ["figure", "asked for", "measured", "met"]
    return [*found, _table("Figures", titles, [figure.row for figure in figures(results)])]


def _table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(titles):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(results: RenderResults) -> str:
    lines = ["# Renders: what a picture costs", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    lines += [
        "",
        "CPU is that of the whole process tree from the request until it is quiet again; the",
        'column "with all between pictures" has what it used from the first picture of a round to',
        "the last, waiting included. Ratios are node / peer within a round: the median of the",
        "rounds, with the smallest and the largest. Other numbers are medians of the rounds. SSIM",
        "(Wang et al. 2004, luma) is against the original decoded whole and resampled once by",
        "Lanczos; it and the bytes are means over the pictures.",
    ]
    if results.failures:
        lines += ["", "Not measured:", "", *(f"- {failure}" for failure in results.failures)]
    lines += ["", "## Figures", ""]
    lines += grid(
        ["figure", "asked for", "measured", "met"], [figure.row for figure in figures(results)]
    )
    lines += ["", "![ratios](renders.png)"]
    for case in results.measured():
        lines += ["", f"## {case.label}", "", case.about, ""]
        lines += grid(titles_of(case), rows_of(results, case))
        others = summary(results.samples, case.name, NODE, "disturbed")
        if others is not None and others.median > DISTURBED:
            lines += ["", f"Doubt: others used {others.median:.0%} of the core in these rounds."]
    curves = curve_rows(results.likeness)
    if curves:
        qualities = ", ".join(map(str, CURVE_QUALITIES))
        lines += ["", "## SSIM and bytes", "", f"JPEG at qualities {qualities}: mean SSIM / mean"]
        lines += ["bytes of the photographs.", ""]
        lines += grid(["", *(f"q{quality}" for quality in CURVE_QUALITIES)], curves)
    return "\n".join(lines).rstrip() + "\n"


def curve_rows(rows: Sequence[Likeness]) -> list[list[str]]:
    """A line for each width and contestant of the curves."""
    curves = [row for row in rows if row.case == "curves"]
    found = []
    for width in CURVE_WIDTHS:
        for name in dict.fromkeys(row.contestant for row in sorted(curves, key=_by_name)):
            cells = []
            for quality in CURVE_QUALITIES:
                mine = [
                    row
                    for row in curves
                    if (row.width, row.contestant, row.quality) == (width, name, quality)
                ]
                value, size = (
                    (mean(row.ssim for row in mine), mean(row.bytes for row in mine))
                    if mine
                    else (0.0, 0.0)
                )
                cells.append(f"{value:.4f} / {size:,.0f}" if mine else "-")
            found.append([f"{name}, {width} px", *cells])
    return found


def _by_name(row: Likeness) -> tuple[bool, str]:
    return (row.contestant != NODE, row.contestant)


def panels(results: RenderResults) -> list[plot.Panel]:
    races = [case for case in results.measured() if case.course is not Course.LADDER]
    return [
        plot.Panel(
            "CPU per picture: node / peer",
            "the node is cheaper",
            [_row(results, case, "cpu_ms") for case in races],
        ),
        plot.Panel(
            "Pictures per second: node / peer",
            "the node is slower",
            [_row(results, case, "pictures_per_s") for case in races],
        ),
    ]


def peers(results: RenderResults) -> list[str]:
    names = dict.fromkeys(name for case in results.cases for name in case.contestants)
    return [name for name in names if name not in (NODE, WITH_LADDERS, LADDER_COMMAND)]


def _row(results: RenderResults, case: RenderCase, metric: str) -> plot.Row:
    ratios = {peer: results.ratio(case.name, metric, peer) for peer in peers(results)}
    return plot.Row(case.label, {peer: ratio for peer, ratio in ratios.items() if ratio})


def save(results: RenderResults, folder: str) -> list[str]:
    """Writes the three files and returns their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"renders.{kind}") for kind in ("json", "md", "png")]
    raw = {
        "facts": dict(results.facts),
        "failures": list(results.failures),
        "cases": {case.name: case.about for case in results.measured()},
        "figures": [asdict(figure) for figure in figures(results)],
        "resident": asdict(results.resident) if results.resident else None,
        "samples": [asdict(sample) for sample in results.samples],
        "likeness": [asdict(row) for row in results.likeness],
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
    title = "Renders: the node against its peers, one core each"
    plot.draw(title, subtitle, peers(results), panels(results)).save(paths[2], optimize=True)
    return paths
