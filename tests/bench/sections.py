"""A report of sections: each a case with its figures, a table, and the raw numbers behind them."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from tests.bench.render_report import Figure
from tests.bench.report import grid

FIGURE_TITLES = ("figure", "asked for", "measured", "met")


@dataclass(frozen=True, slots=True)
class Section:
    """What a case found. about says how it was measured; raw is what JSON can hold."""

    name: str
    title: str
    about: str
    figures: Sequence[Figure]
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Mapping[str, object]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.titles) for row in self.rows):
            raise ValueError(f"a row of {self.name} has not {len(self.titles)} cells")


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run."""

    title: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    failures: Sequence[str]

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed (nearest rank)."""
    if not values or not 0 < part <= 1:
        raise ValueError(f"the {part} quantile of {len(values)} values")
    return sorted(values)[math.ceil(part * len(values)) - 1]


def markdown(report: Report) -> str:
    lines = [f"# {report.title}", ""]
    lines += [f"- {name}: {value}" for name, value in report.facts.items()]
    if report.failures:
        lines += ["", "Not measured:", "", *(f"- {failure}" for failure in report.failures)]
    if report.figures:
        rows = [figure.row for figure in report.figures]
        lines += ["", "## Figures", "", *grid(FIGURE_TITLES, rows)]
    for section in report.sections:
        lines += ["", f"## {section.title}", "", section.about, ""]
        lines += grid(section.titles, section.rows)
    return "\n".join(lines).rstrip() + "\n"


def tables(report: Report) -> list[Table]:
    """For the terminal."""
    found = [_table(section.title, section.titles, section.rows) for section in report.sections]
    return [*found, _table("Figures", FIGURE_TITLES, [figure.row for figure in report.figures])]


def save(report: Report, folder: str, name: str) -> list[str]:
    """Writes name.json and name.md and returns their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"{name}.{kind}") for kind in ("json", "md")]
    raw = {
        "facts": dict(report.facts),
        "failures": list(report.failures),
        "figures": [asdict(figure) for figure in report.figures],
        "sections": {
            section.name: {"about": section.about, **section.raw} for section in report.sections
        },
    }
    with open(paths[0], "w", encoding="utf-8") as file:
        json.dump(raw, file, indent=1)
        file.write("\n")
    with open(paths[1], "w", encoding="utf-8") as file:
        file.write(markdown(report))
    return paths


def _table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(titles):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    return table
