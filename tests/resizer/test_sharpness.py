"""Sharpness after a reduction: where, how much, and what stays as it is."""

import pytest
from PIL import Image

from resizer.sharpness import REDUCED, sharpen_reduced

# ImageMagick's `-sharpen 0x0.8` at radius 1: a step from 100 to 150 seen from both sides of it.
BEFORE, AFTER = 100 - 50 * 0.188, 150 + 50 * 0.188


def step(mode: str) -> Image.Image:
    image = Image.new("L", (8, 8), 100)
    image.paste(150, (4, 0, 8, 8))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_step_gets_steeper(mode: str) -> None:
    got = sharpen_reduced(step(mode), 0.2)
    assert got.mode == mode
    grey = got.convert("L")
    # There and back through YCbCr costs 1.
    for x, wanted in ((2, 100), (3, BEFORE), (4, AFTER), (5, 150)):
        assert grey.getpixel((x, 4)) == pytest.approx(wanted, abs=1.5)


@pytest.mark.parametrize("ratio", [REDUCED, 0.9, 1.0, 3.0])
def test_what_is_hardly_reduced_stays(ratio: float) -> None:
    image = step("RGB")
    assert sharpen_reduced(image, ratio) is image
    assert sharpen_reduced(image, REDUCED - 0.001).tobytes() != image.tobytes()


def test_transparency_stays() -> None:
    image = step("RGBA")
    image.putalpha(step("L"))
    assert sharpen_reduced(image, 0.1).getchannel("A").tobytes() == step("L").tobytes()


def test_colours_get_no_fringes() -> None:
    # Two colours of the same brightness: there is nothing to sharpen.
    image = Image.new("YCbCr", (8, 8), (120, 100, 150))
    image.paste((120, 150, 100), (4, 0, 8, 8))
    before = image.convert("RGB")
    after = sharpen_reduced(before, 0.1)
    pairs = zip(before.tobytes(), after.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 3


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9)])
def test_the_smallest(size: tuple[int, int]) -> None:
    assert sharpen_reduced(Image.new("RGB", size), 0.1).size == size
