"""Cases, spellings, curves, figures and pages of a run that never took place."""

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.bench import contestants, ladder, likeness, plot, render_measure, render_report
from tests.bench.likeness import Likeness
from tests.bench.loops import bare
from tests.bench.render_cases import (
    CURVE_QUALITIES,
    CURVE_WIDTHS,
    EVERYONE,
    LADDER_COMMAND,
    LADDERS,
    LIBVIPS,
    NODE,
    PHOTOGRAPHS,
    THUMBOR,
    YOUTUBE_NAMES,
    Asked,
    Course,
    Original,
    RenderCase,
    cases,
    photographs,
)
from tests.bench.render_measure import Output
from tests.bench.resident import Resident
from tests.bench.stats import Sample

EVERY = cases()


def jpeg(width: int, height: int, kind: str = "JPEG") -> bytes:
    with io.BytesIO() as file:
        Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, kind)
        return file.getvalue()


# --- what is asked -------------------------------------------------------------------------------


def test_cases_are_named_once_and_told() -> None:
    assert len({case.name for case in EVERY}) == len(EVERY)
    known = {*EVERYONE, LADDERS, LADDER_COMMAND}
    assert all(set(case.contestants) <= known for case in EVERY)
    assert all(case.widths == tuple(sorted(case.widths)) for case in EVERY)
    assert len(PHOTOGRAPHS) == 10


def test_a_rehearsal_is_a_part_of_the_ten() -> None:
    assert photographs(quick=False) == PHOTOGRAPHS
    assert 0 < len(photographs(quick=True)) < 5
    assert photographs(quick=True).items() <= PHOTOGRAPHS.items()


def test_the_largest_is_asked_last() -> None:
    by_name = {case.name: case for case in EVERY}
    assert [asked.width for asked in by_name["steps"].asked("/a.jpg")][-1] == 1280
    names = [asked.name for asked in by_name["youtube-18m"].asked("/a.jpg")]
    assert tuple(names) == YOUTUBE_NAMES
    assert by_name["format-png"].asked("/a.png") == [Asked("/a.png", 480, "png")]


def test_cases_and_requests_without_sense_are_refused() -> None:
    good = EVERY[0]
    for wrong in ({"widths": ()}, {"contestants": ()}, {"about": "no full stop"}):
        with pytest.raises(ValueError, match="nothing to ask"):
            replace(good, **wrong)
    with pytest.raises(ValueError, match="one width"):
        replace(good, widths=(120, 220))
    for bad in (("a.jpg", 120, "jpeg"), ("/a.jpg", 120, "tiff"), ("/a.jpg", 0, "jpeg")):
        with pytest.raises(ValueError, match="nobody can render"):
            Asked(*bad)


SPELLINGS = [
    # plain; another quality; another format; the original's own format is not said
    (Asked("/a.jpg", 220), "/a.jpg?w=220", "/unsafe/fit-in/220x16000/a.jpg", "/220/a.jpg"),
    (
        Asked("/a.jpg", 220, quality=60),
        "/a.jpg?w=220&q=60",
        "/unsafe/fit-in/220x16000/filters:quality(60)/a.jpg",
        None,
    ),
    (
        Asked("/a.jpg", 480, "webp"),
        "/a.jpg?w=480&fm=webp",
        "/unsafe/fit-in/480x16000/filters:format(webp)/a.jpg",
        None,
    ),
    (Asked("/a.png", 480, "png"), "/a.png?w=480", "/unsafe/fit-in/480x16000/a.png", "/480/a.png"),
    (Asked("/7-a.jpg", 1280, name="hqdefault"), "/vi/7-a/hqdefault.jpg", None, None),
]


@pytest.mark.parametrize(("asked", "node", "thumbor", "nginx"), SPELLINGS)
def test_spellings(asked: Asked, node: str, thumbor: str | None, nginx: str | None) -> None:
    assert contestants.Node(0).target(asked) == node
    if thumbor is not None:
        assert contestants.Thumbor(0, "python").target(asked) == thumbor
    if nginx is not None:
        assert contestants.NginxFilter(0).target(asked) == nginx


def test_settings_of_the_peers_are_equal() -> None:
    thumbor = contestants.Thumbor(0, "python").config("/srv/r")
    nginx = contestants.NginxFilter(0).config("/srv/r", "/srv/f")
    assert "\nQUALITY = 80\n" in thumbor
    assert "image_filter_jpeg_quality 80;" in nginx
    assert "no_storage" in thumbor
    for config in (thumbor, nginx):
        assert "/srv/r" in config


# --- what is measured ----------------------------------------------------------------------------


class Counting:
    """A contestant that answers at once, and with nothing from its third picture on."""

    def __init__(self, name: str, good: int) -> None:
        self.name = name
        self.asked: list[Asked] = []
        self._good = good

    def version(self) -> str:
        return "1"

    def start(self, root: str, folder: str) -> None: ...

    def ask(self, asked: Asked) -> contestants.Ask:
        self.asked.append(asked)
        width = asked.width if len(self.asked) <= self._good else 1
        return lambda: jpeg(width, 30)

    def top(self) -> int:
        return os.getpid()

    def stop(self) -> None: ...


def small_case(course: Course, widths: tuple[int, ...]) -> RenderCase:
    return RenderCase("c", "c", "c.", course, Original.PHOTOGRAPH, widths, (NODE, THUMBOR))


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> render_measure.Originals:
    source = tmp_path / "source.jpg"
    source.write_bytes(jpeg(64, 48))
    monkeypatch.setattr(render_measure, "LARGE", str(source))
    monkeypatch.setattr(render_measure, "SMALL", str(source))
    monkeypatch.setattr(render_measure, "SETTLED_WITHIN_S", 0.0)
    return render_measure.Originals(str(tmp_path), {"A.jpg": str(source), "B.jpg": str(source)})


def test_no_path_is_asked_twice(originals: render_measure.Originals) -> None:
    both = [Counting(NODE, 99), Counting(THUMBOR, 99)]
    races = render_measure.Races(originals, both, lambda _: None)
    case = small_case(Course.STEPS, (40, 20, 60))
    samples = list(races.samples(case, 2))
    assert [(sample.round, sample.server) for sample in samples] == [
        *((0, NODE), (0, THUMBOR)),
        *((1, NODE), (1, THUMBOR)),
    ]
    assert not races.failures
    paths = {asked.path for one in both for asked in one.asked}
    # two originals each: warm-up and two rounds
    assert len(paths) == 2 * 2 * 3
    assert all((Path(originals.root) / path[1:]).exists() for path in paths)
    # the same order for both, and all widths
    orders = [[asked.width for asked in one.asked[4:]] for one in both]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted((20, 40, 60) * 4)
    assert len(races.outputs) == 2 * 2 * 3  # of the first round


def test_who_fails_leaves_the_case(originals: render_measure.Originals) -> None:
    both = [Counting(NODE, 99), Counting(THUMBOR, 3)]
    races = render_measure.Races(originals, both, lambda _: None)
    samples = list(races.samples(small_case(Course.ONE, (40,)), 2))
    assert {sample.server for sample in samples} == {NODE}
    assert len(samples) == 2
    assert len(races.failures) == 1
    assert races.failures[0].startswith("c, thumbor: ")


def test_a_ladder_is_compared_with_its_largest(originals: render_measure.Originals) -> None:
    one = Counting(NODE, 99)
    races = render_measure.Races(originals, [one], lambda _: None)
    (sample,) = races.samples(small_case(Course.LADDER, (20, 40)), 1)
    assert sample.values.keys() >= {"cpu_ms", "largest_ms", "of_largest"}
    assert not races.outputs  # its likeness is that of the steps


WRONG = [b"", b"\xff\xd8\xff", jpeg(41, 30), jpeg(40, 30, "PNG")]


@pytest.mark.parametrize("body", WRONG)
def test_wrong_pictures(body: bytes) -> None:
    render_measure.check(Asked("/a.jpg", 40), jpeg(40, 30))
    with pytest.raises(contestants.NoPictureError):
        render_measure.check(Asked("/a.jpg", 40), body)


def test_the_bare_loop_renders_as_the_node_does(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(64, 48))
    render_measure.check(Asked("/a.jpg", 40), bare.render(str(path), 40, "jpeg", 80))
    render_measure.check(Asked("/a.jpg", 40, "webp"), bare.render(str(path), 40, "webp", 80))


def test_ladder_among_the_commands() -> None:
    assert ladder.lists_command("Commands:\n  check  Check.\n  ladder  Make a ladder.\n")
    assert not ladder.lists_command("Commands:\n  check  Check the ladder.\n")


# --- what is compared ----------------------------------------------------------------------------


def curve(*points: tuple[int, float]) -> list[tuple[int, float]]:
    return list(points)


GAINS = [
    # equal, better by a constant, worse; points in any order
    (curve((100, 0.9), (400, 0.95)), curve((100, 0.9), (400, 0.95)), 0.0),
    (curve((400, 0.97), (100, 0.92)), curve((100, 0.9), (400, 0.95)), 0.02),
    (curve((100, 0.9), (400, 0.95)), curve((100, 0.91), (400, 0.96)), -0.01),
    # half the bytes for the same: half a step of the curve
    (curve((100, 0.9), (400, 1.0)), curve((200, 0.9), (800, 1.0)), 0.05),
    # only the common range counts
    (curve((100, 0.9), (400, 0.9), (800, 0.1)), curve((100, 0.8), (400, 0.8)), 0.1),
    # nothing in common, too few points, one size
    (curve((100, 0.9), (200, 0.95)), curve((300, 0.9), (400, 0.95)), None),
    (curve((100, 0.9)), curve((100, 0.9), (400, 0.95)), None),
    (curve((100, 0.9), (100, 0.9)), curve((100, 0.9), (400, 0.95)), None),
]


@pytest.mark.parametrize(("ours", "theirs", "gain"), GAINS)
def test_gain_at_equal_bytes(ours, theirs, gain: float | None) -> None:
    found = likeness.gain_at_equal_bytes(ours, theirs)
    assert found is None if gain is None else math.isclose(found, gain, abs_tol=1e-6)


def test_outputs_are_compared_with_their_originals(tmp_path: Path) -> None:
    for name, size in (("A.png", (120, 90)), ("B.png", (90, 120))):
        (tmp_path / name).write_bytes(jpeg(*size, "PNG"))
    outputs = [
        Output("c", NODE, "B.png", Asked("/1-B.png", 45), jpeg(45, 60)),
        Output("c", NODE, "A.png", Asked("/2-A.png", 60), jpeg(60, 45)),
        Output("c", THUMBOR, "A.png", Asked("/3-A.png", 60), jpeg(60, 45, "PNG")),
    ]
    rows = likeness.compare(outputs, lambda name: str(tmp_path / name))
    assert [row.original for row in rows] == ["A.png", "A.png", "B.png"]
    assert all(row.ssim > 0.95 for row in rows)
    size, value = likeness.mean_of(rows, "c", NODE)
    assert size == (len(outputs[0].body) + len(outputs[1].body)) / 2
    assert 0.95 < value <= 1
    assert likeness.mean_of(rows, "d", NODE) is None


# --- what is told --------------------------------------------------------------------------------


def results() -> render_report.RenderResults:
    samples = [
        Sample(
            name,
            number,
            server,
            {"cpu_ms": cpu, "pictures_per_s": 1000 / cpu, "bytes": 5_000.0, "round_ms": cpu + 1}
            | ({"of_largest": 1.5, "largest_ms": 9.0} if name.startswith("ladder") else {})
            | {"disturbed": 0.4 if name == "steps" else 0.0},
        )
        for name in ("first-220", "steps", "ladder-18m")
        for number in range(3)
        for server, cpu in ((NODE, 10.0 + number), ("bare", 10.0 + number), (THUMBOR, 25.0))
    ]
    rows = [
        Likeness("curves", name, "Dune.jpg", width, quality, quality * size, quality / 100)
        for width in CURVE_WIDTHS
        for quality in CURVE_QUALITIES
        for name, size in ((NODE, 90), (THUMBOR, 100), (LIBVIPS, 80))
    ]
    rows.append(Likeness("first-220", NODE, "Dune.jpg", 220, 80, 5_000, 0.9876))
    memory = Resident(40_000_000, 62_500_000, 100_000_000)
    facts = {"commit": "0123abc"}
    return render_report.RenderResults(facts, EVERY, samples, rows, memory, ["sharp: not there"])


def test_figures_say_met_missed_and_not_measured() -> None:
    found = {figure.what: figure for figure in render_report.figures(results())}
    assert found["first, 220 px: CPU / bare"].row[1:] == ["<= 1.05", "1.00 (1.00 to 1.00)", "yes"]
    assert found["first, 220 px: CPU / thumbor"].is_met
    assert found["first, 120 px: CPU / bare"].row[1:] == ["<= 1.05", "-", "not measured"]
    assert found["8 steps: CPU / thumbor"].measured == "0.44 (0.40 to 0.48)"
    assert found["resizer at rest, resident"].row[1:] == ["<= 60 MB", "40.0 MB", "yes"]
    assert found["resizer at rest again, after the ten at 1280 px"].is_met is False
    assert found["mean SSIM at equal bytes, less thumbor's"].is_met
    assert found["mean SSIM at equal bytes, less libvips's"].is_met is False
    by_requests = [figure for what, figure in found.items() if "by requests" in what]
    assert [figure.is_met for figure in by_requests] == [True, None]


def test_markdown_tells_everything() -> None:
    text = render_report.markdown(results())
    by_name = {case.name: case for case in EVERY}
    for expected in (
        "- commit: 0123abc",
        "- sharp: not there",
        "![ratios](renders.png)",
        by_name["steps"].about,
        "| node | 11.0 | 12.0 | 90.9 | 5,000 | 0.9876 |",
        "Doubt: others used 40% of the core in these rounds.",
        "| node, 220 px | 0.6000 / 5,400 |",
    ):
        assert expected in text
    assert by_name["format-avif"].about not in text  # was not measured
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_an_empty_run_is_told_too(tmp_path: Path) -> None:
    empty = render_report.RenderResults({}, EVERY, [])
    assert "not measured" in render_report.markdown(empty)
    assert len(render_report.save(empty, str(tmp_path))) == 3


def test_terminal_and_files(tmp_path: Path) -> None:
    console = Console(width=150, file=io.StringIO())
    for table in render_report.tables(results()):
        console.print(table)
    paths = render_report.save(results(), str(tmp_path / "bench"))
    assert [Path(path).name for path in paths] == ["renders.json", "renders.md", "renders.png"]
    raw = json.loads(Path(paths[0]).read_text())
    assert len(raw["samples"]) == 27
    assert raw["resident"]["peak"] == 100_000_000
    with Image.open(paths[2]) as image:
        assert image.width == plot.WIDTH * plot.SCALE


def test_every_peer_has_a_colour() -> None:
    assert len(render_report.peers(results())) <= len(plot.COLOURS)
