"""The sample pictures: what each one is there to show is really in it."""

import hashlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageOps

SCRIPT = Path(__file__).parents[2] / "deploy" / "gallery.py"
SCALE = 0.1


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(gallery: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gallery")
    assert gallery.make(str(path), SCALE) == list(gallery.PICTURES)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "mode", "size"),
    [
        ("chart.jpg", "JPEG", "RGB", (400, 300)),
        ("landscape.jpg", "JPEG", "RGB", (360, 240)),
        ("orientation6.jpg", "JPEG", "RGB", (200, 150)),
        ("transparent.png", "PNG", "RGBA", (120, 90)),
        ("animated.gif", "GIF", "P", (48, 36)),
    ],
)
def test_each_is_what_its_name_says(
    folder: Path, name: str, kind: str, mode: str, size: tuple[int, int]
) -> None:
    with Image.open(folder / name) as picture:
        picture.load()
        assert (picture.format, picture.mode, picture.size) == (kind, mode, size)


def test_the_arrow_points_up_only_when_the_orientation_is_obeyed(folder: Path) -> None:
    with Image.open(folder / "orientation6.jpg") as picture:
        assert picture.getexif()[0x0112] == 6
        upright = ImageOps.exif_transpose(picture)
    assert upright.size == (150, 200)
    # The arrow is red and symmetrical; its head is wider than its shaft.
    head, shaft = (_red(upright, 0.37), _red(upright, 0.65))
    assert head > shaft > 0


def _red(picture: Image.Image, height: float) -> int:
    y = round(picture.size[1] * height)
    pixels = (picture.getpixel((x, y)) for x in range(picture.size[0]))
    return sum(1 for p in pixels if isinstance(p, tuple) and p[0] > 180 and p[1] < 110)


def test_alpha_has_both_ends_and_the_middle(folder: Path) -> None:
    with Image.open(folder / "transparent.png") as picture:
        alpha = picture.getchannel("A").histogram()
    assert alpha[0] > 100 and sum(alpha[250:]) > 50
    assert sum(1 for count in alpha if count) > 100


def test_the_animation_moves_and_loops(folder: Path, gallery: ModuleType) -> None:
    with Image.open(folder / "animated.gif") as picture:
        assert getattr(picture, "n_frames", 1) == gallery.FRAMES >= 12
        assert picture.info["loop"] == 0
        frames = set()
        for number in range(gallery.FRAMES):
            picture.seek(number)
            frames.add(picture.convert("RGB").tobytes())
    assert len(frames) == gallery.FRAMES


def test_the_same_bytes_every_time_and_existing_files_are_left_alone(
    gallery: ModuleType, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "chart.jpg").write_bytes(b"mine")
    written = gallery.make(str(tmp_path), SCALE)
    assert written == [name for name in gallery.PICTURES if name != "chart.jpg"]
    assert (tmp_path / "chart.jpg").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == sorted(gallery.PICTURES)
    for name in written:
        assert _digest(tmp_path / name) == _digest(folder / name), name


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
