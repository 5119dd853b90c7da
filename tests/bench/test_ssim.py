"""SSIM: what must hold for any such measure, and one value computed by hand."""

import itertools

import pytest
from PIL import Image, ImageFilter

from tests.bench.ssim import C1, WEIGHTS, ssim


def picture() -> Image.Image:
    """Gradients and edges, 96x64."""
    image = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    for column in range(8, 96, 16):
        image.paste((200, 60, column), (column, 10, column + 6, 54))
    return image


def noisy(strength: int) -> Image.Image:
    noise = Image.effect_noise((96, 64), strength).convert("RGB")
    return Image.blend(picture(), noise, 0.3)


def test_the_window_is_a_whole() -> None:
    assert WEIGHTS[0] + 2 * sum(WEIGHTS[1:]) == pytest.approx(1)
    assert sorted(WEIGHTS, reverse=True) == WEIGHTS


def test_equal_pictures() -> None:
    assert ssim(picture(), picture()) == pytest.approx(1, abs=1e-6)


def test_flat_pictures_by_hand() -> None:
    # No variance: only the luminance term is left.
    one, other = Image.new("L", (32, 32), 100), Image.new("L", (32, 32), 140)
    expected = (2 * 100 * 140 + C1) / (100**2 + 140**2 + C1)
    assert ssim(one, other) == pytest.approx(expected, abs=1e-4)


def test_it_is_symmetric() -> None:
    for other in (noisy(40), picture().filter(ImageFilter.GaussianBlur(2))):
        assert ssim(picture(), other) == pytest.approx(ssim(other, picture()), abs=1e-6)


DEGRADATIONS = [
    [picture().filter(ImageFilter.GaussianBlur(radius)) for radius in (0.5, 1, 2, 4)],
    [Image.blend(picture(), Image.new("RGB", (96, 64), "grey"), share) for share in (0.2, 0.5, 1)],
    [picture().quantize(colours, dither=Image.Dither.NONE) for colours in (32, 8, 2)],
]


@pytest.mark.parametrize("worse", DEGRADATIONS, ids=["blur", "contrast", "colours"])
def test_more_damage_is_less_similar(worse: list[Image.Image]) -> None:
    values = [ssim(picture(), image) for image in worse]
    assert values[0] < 1
    assert all(a > b for a, b in itertools.pairwise(values))


def test_opposites_are_negative() -> None:
    inverted = picture().convert("L").point(lambda value: 255 - value)
    assert ssim(picture(), inverted) < 0.2


@pytest.mark.parametrize("sizes", [((32, 32), (32, 31)), ((10, 40), (10, 40))])
def test_what_cannot_be_compared(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        ssim(*(Image.new("L", size) for size in sizes))
