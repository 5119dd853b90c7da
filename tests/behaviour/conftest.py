"""Pictures small enough to be made for every run, each with a size of its own."""

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw


def draw(width: int, height: int) -> Image.Image:
    """Four quarters of four colours under a diagonal: orientation and crop can be read off."""
    image = Image.new("RGB", (width, height), "red")
    pen = ImageDraw.Draw(image)
    pen.rectangle((width // 2, 0, width, height // 2), "green")
    pen.rectangle((0, height // 2, width // 2, height), "blue")
    pen.rectangle((width // 2, height // 2, width, height), "white")
    pen.line((0, 0, width, height), "black", 3)
    return image


@pytest.fixture
def originals(tmp_path: Path, drawn: Path) -> Path:
    """A docroot: photo.jpg (1600x900), logo.png with transparency, notes.txt, and broken ones."""
    return shutil.copytree(drawn, tmp_path / "originals", copy_function=shutil.copyfile)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "originals"
    folder.mkdir()  # with the rights of any folder
    draw(1600, 900).save(folder / "photo.jpg", quality=90)
    draw(900, 1600).save(folder / "tall.jpg", quality=90)
    transparent = draw(300, 200).convert("RGBA")
    transparent.putalpha(128)
    transparent.save(folder / "logo.png")
    (folder / "notes.txt").write_text("These are no pixels.\n")
    (folder / "notes.jpg").write_text("These are no pixels either.\n")
    whole = (folder / "photo.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.jpg").mkdir()
    return folder
