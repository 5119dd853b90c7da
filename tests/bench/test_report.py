"""Tables, text and picture of a run that never took place."""

import io
import itertools
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.bench import plot, report
from tests.bench.cases import cases
from tests.bench.stats import Sample, Spread

EVERY = cases(20_000, quick=True)


def results() -> report.Results:
    load = {"p50_us": 700.0, "p99_us": 900.0, "p999_us": 1000.0, "rps": 50_000.0, "both_us": 30.0}
    idle = {"worker_rss": 9e3, "tree_pss": 8e3, "connection_rss": 800.0, "connection_pss": 790.0}
    samples = [
        Sample(
            case.name,
            number,
            server,
            {**load, **(idle if case.idle_connections else {}), "cpu_us": cpu + number}
            | {"disturbed": 0.5 if server == "nginx" else 0.0, "generator_busy": 0.5},
        )
        for case in (EVERY[0], EVERY[-1])
        for number in range(3)
        for server, cpu in (("node", 12.0), ("lighttpd", 10.0), ("nginx", 15.0), ("floor", 8.0))
    ]
    facts = {"commit": "0123abc", "kernel": "6.1"}
    peers = ["lighttpd", "nginx", "floor"]
    return report.Results(facts, EVERY, "node", peers, samples, ["1m, nginx: 3 errors"])


def test_markdown_tells_everything() -> None:
    text = report.markdown(results())
    for expected in (
        "- commit: 0123abc",
        "- 1m, nginx: 3 errors",
        "![ratios](results.png)",
        f"## {EVERY[0].label}",
        EVERY[0].about,
        EVERY[-1].about,
        "| node | 13.0 | 30.0 | 50,000 | 700 | 900 | 1,000 |",
        "| lighttpd | 1.18 (1.17 to 1.20) | 1.00 (1.00 to 1.00) |",
        "Doubt: others used 50% of the core under nginx.",
    ):
        assert expected in text
    assert EVERY[1].about not in text  # was not measured
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_terminal_tables() -> None:
    output = io.StringIO()
    console = Console(width=130, file=output)
    for table in report.tables(results()):
        console.print(table)
    text = output.getvalue()
    assert "1.18 (1.17 to 1.20)" in text
    assert EVERY[0].label in text


def test_files(tmp_path: Path) -> None:
    paths = report.save(results(), str(tmp_path / "bench"))
    with open(paths[0], encoding="utf-8") as file:
        raw = json.load(file)
    assert len(raw["samples"]) == 24
    assert raw["samples"][0]["values"]["cpu_us"] == 12.0
    with Image.open(paths[2]) as image:
        assert image.width == plot.WIDTH * plot.SCALE


def test_memory_is_not_compared_with_the_floor() -> None:
    load, both, idle = report.panels(results())
    assert both.rows == []  # no large case was measured
    assert set(load.rows[0].ratios) == {"lighttpd", "nginx", "floor"}
    assert all(set(row.ratios) == {"lighttpd", "nginx"} for row in idle.rows)


def test_axis_is_logarithmic_and_keeps_to_its_ends() -> None:
    axis = plot.Axis(0.25, 4.0, 0.0, 400.0)
    assert [axis.place(ratio) for ratio in (0.25, 0.5, 1.0, 2.0, 4.0)] == [0, 100, 200, 300, 400]
    assert axis.place(0.001) == 0
    assert axis.place(1000) == 400


@pytest.mark.parametrize(("low", "high"), [(0.99, 1.01), (0.5, 3.0), (0.02, 40.0)])
def test_ticks_hold_one_and_do_not_touch(low: float, high: float) -> None:
    row = plot.Row("r", {"nginx": Spread(1.0, low, high, 3)})
    axis = plot.axis_of([row], 0, 600)
    ticks = axis.ticks()
    assert 1.0 in ticks
    assert len(ticks) >= 3
    places = [axis.place(tick) for tick in ticks]
    assert all(b - a >= plot.TICK_ROOM for a, b in itertools.pairwise(places))


def test_bars_are_drawn_on_their_side_of_one() -> None:
    peers = ["lighttpd"]
    for ratio, left in ((0.5, True), (2.0, False)):
        row = plot.Row("r", {"lighttpd": Spread(ratio, ratio, ratio, 1)})
        panel = plot.Panel("t", "l", [row])
        image = plot.draw("t", "s", peers, [panel])
        axis = plot.axis_of(
            [row], plot.MARGIN + plot.LABELS, plot.WIDTH - plot.MARGIN - plot.NUMBERS
        )
        y = (plot.TITLE_HEIGHT + plot.PANEL_HEAD + plot.ROW_GAP / 2 + 2) * plot.SCALE
        for side in (0.75, 1.4):
            drawn = image.getpixel((round(axis.place(side) * plot.SCALE), round(y)))
            assert (drawn == (0x2F, 0x6D, 0xB5)) is ((side < 1) is left)


def test_what_has_no_ratio_takes_no_room() -> None:
    row = plot.Row("r", {"nginx": Spread(2.0, 1.0, 3.0, 3)})
    full = plot.draw("t", "s", ["nginx"], [plot.Panel("p", "l", [row])])
    panels = [plot.Panel("p", "l", [plot.Row("e", {}), row]), plot.Panel("q", "l", [])]
    assert plot.draw("t", "s", ["nginx"], panels).size == full.size


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.987, "0.99"), (9.994, "9.99"), (10.0, "10.0"), (138.86, "139")]
)
def test_short_numbers(ratio: float, text: str) -> None:
    assert plot.short(ratio) == text
