"""`halftone ladder FILE`: the real resizer, its files, and what is said when it cannot."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edge import cli
from edge.rungs import parent_of
from tests.behaviour.conftest import draw
from tests.bench import ladder as bench

LINE = re.compile(r" *(\d+) x (\d+) +(\d+) bytes +[0-9.]+ ms  from (.+?)(?:  (\S+))?")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["ladder", *map(str, arguments)])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "my photo.jpg"
    draw(1000, 600).save(file, quality=90)
    return file


def test_every_step_below_the_picture(tmp_path: Path, photo: Path) -> None:
    result = run(photo, "--out", tmp_path / "made" / "here")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [LINE.fullmatch(line) for line in result.stdout.splitlines()]
    widths = []
    for line in lines:
        assert line is not None, result.stdout
        file = tmp_path / "made" / "here" / f"my photo-{line[1]}px.jpg"
        assert file.stat().st_size == int(line[3])
        with Image.open(file) as image:
            image.load()
            assert (image.format, image.size) == ("JPEG", (int(line[1]), int(line[2])))
        widths.append(image.width)
    assert widths == [960, 640, 480, 330, 250, 220, 120]
    assert "from the original" in result.stdout.splitlines()[0]
    assert "from 960x576" in result.stdout.splitlines()[1]
    assert len(os.listdir(tmp_path / "made" / "here")) == len(widths)


def test_steps_format_and_no_files(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(photo, "--steps", "300,100,4000,300", "--format", "WebP", "--dry-run")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["300", "100"]
    assert os.listdir(tmp_path) == [photo.name]
    assert run(photo, "--steps", "100", "--format", "webp").exit_code == 0
    with Image.open(tmp_path / "my photo-100px.webp") as image:
        assert (image.format, image.size) == ("WEBP", (100, 60))


def test_a_turned_picture_is_as_wide_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(1000, 600).save(tmp_path / "turned.jpg", exif=exif)
    result = run(tmp_path / "turned.jpg", "--steps", "300,600,800", "--out", tmp_path / "made")
    assert result.exit_code == 0
    # 800 was within the longer side, and is wider than what is seen.
    assert sorted(os.listdir(tmp_path / "made")) == ["turned-300px.jpg", "turned-600px.jpg"]


def test_files_that_are_there_stay(tmp_path: Path, photo: Path) -> None:
    there = tmp_path / "my photo-100px.jpg"
    there.write_text("mine")
    result = run(photo, "--steps", "100", "--out", tmp_path)
    assert result.exit_code == 1
    assert "is there already; --force replaces it" in result.stderr
    assert there.read_text() == "mine"
    assert run(photo, "--steps", "100", "--out", tmp_path, "--force").exit_code == 0
    assert there.read_bytes().startswith(b"\xff\xd8")
    assert sorted(os.listdir(tmp_path)) == sorted([photo.name, there.name])


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["missing.jpg"], 1, "missing.jpg: No such file or directory"),
        (["."], 1, "is no file"),
        (["/dev/null"], 1, "is no file"),
        (["notes.jpg"], 1, "notes.jpg: is no picture in one of jpeg, png, webp, avif, gif"),
        (["half.jpg"], 1, "half.jpg: "),
        (["photo.jpg", "--steps", "5000"], 1, "every step is wider than its 200 pixels"),
        (["photo.jpg", "--steps", "150"], 1, "every step is wider than it is"),
        (["photo.jpg", "--steps", ",".join(map(str, range(1, 35)))], 1, "34 steps are too many"),
        (["photo.jpg", "--out", "/proc/none"], 1, "/proc/none: No such file or directory"),
        (["photo.jpg", "--steps", "0"], 2, "outside 1 to"),
        (["photo.jpg", "--steps", "1,"], 2, "widths with commas"),
        (["photo.jpg", "--steps", "²"], 2, "widths with commas"),
        (["photo.jpg", "--format", "ico"], 2, "'ico' is none of jpg"),
        ([], 2, "Missing argument 'FILE'"),
    ],
)
def test_what_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(100, 200).save("photo.jpg")
    Path("notes.jpg").write_text("These are no pixels.")
    Path("half.jpg").write_bytes(Path("photo.jpg").read_bytes()[:700])
    result = run(*arguments)
    assert (result.exit_code, sentence in result.stderr) == (status, True), result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(os.listdir()) == ["half.jpg", "notes.jpg", "photo.jpg"]


@pytest.mark.parametrize(
    ("lineage", "words"),
    [
        ("", "the original"),
        ("1/2", "the original at 1/2"),
        ("1/2>1280x720", "1280x720"),
        ("1/2>1280x720>640x360", "640x360"),
        ("sha256:5f1d", "a larger one"),
    ],
)
def test_a_lineage_in_words(lineage: str, words: str) -> None:
    assert parent_of(lineage) == words


def test_as_the_benchmark_calls_it(tmp_path: Path, photo: Path) -> None:
    assert bench.is_known()
    core = min(os.sched_getaffinity(0))
    assert bench.cpu_ms(str(photo), str(tmp_path / "run"), core) > 0
    assert len(os.listdir(tmp_path / "run" / "rungs")) == 7
