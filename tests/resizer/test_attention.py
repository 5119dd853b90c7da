"""Attention: crops that go where the eye goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resizer.attention import SIDE, best, crop, map_of

SKIN, DULL = (224, 172, 140), (90, 100, 110)


def dull(size: tuple[int, int] = (300, 100)) -> Image.Image:
    return Image.new("RGB", size, DULL)


def checks(size: tuple[int, int]) -> Image.Image:
    image = Image.new("L", (size[0] // 5, size[1] // 5))
    image.putdata([255 * ((x + y) % 2) for y in range(image.height) for x in range(image.width)])
    return image.resize(size, Image.Resampling.NEAREST)


def holds(box: tuple[float, ...], what: tuple[int, int, int, int], slack: float = 6) -> bool:
    return (
        box[0] <= what[0] + slack
        and box[1] <= what[1] + slack
        and box[2] >= what[2] - slack
        and box[3] >= what[3] - slack
    )


@pytest.mark.parametrize("left", [0, 40, 130, 210, 260])
@pytest.mark.parametrize("colour", [SKIN, (250, 20, 20), (141, 85, 54)])
def test_a_patch_of_colour(left: int, colour: tuple[int, int, int]) -> None:
    image = dull()
    image.paste(colour, (left, 30, left + 40, 70))
    box = crop(image, (0, 0, 300, 100), (100, 100))
    assert holds(box, (left, 30, left + 40, 70))
    assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((100, 100))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("top", [0, 100, 240])
def test_texture_in_every_mode(mode: str, top: int) -> None:
    image = dull((100, 300))
    image.paste(checks((60, 60)).convert("RGB"), (20, top))
    box = crop(image.convert(mode), (0, 0, 100, 300), (100, 100))
    assert holds(box, (20, top, 80, top + 60))


def test_a_face_outweighs_a_brick_wall_of_half_contrast() -> None:
    image = dull()
    wall = checks((60, 100)).point(lambda value: 95 + value // 16)
    image.paste(wall.convert("RGB"), (0, 0))
    image.paste(SKIN, (230, 30, 270, 70))
    assert holds(crop(image, (0, 0, 300, 100), (100, 100)), (230, 30, 270, 70))


def test_skin_outweighs_a_colour_as_strong() -> None:
    image = dull()
    image.paste((140, 200, 224), (0, 30, 40, 70))  # the same, but blue
    image.paste((140, 200, 224), (50, 30, 90, 70))
    image.paste(SKIN, (240, 30, 280, 70))
    assert holds(crop(image, (0, 0, 300, 100), (100, 100)), (240, 30, 280, 70))


def test_the_map_says_where() -> None:
    image = Image.new("L", (60, 60))
    image.paste(255, (50, 8, 51, 9))
    assert map_of(image, (0, 0, 60, 60)).getbbox() == (50, 8, 51, 9)


def test_only_the_box_counts() -> None:
    image = dull()
    image.paste(SKIN, (260, 0, 300, 100))
    image.paste(SKIN, (10, 40, 30, 60))
    box = crop(image, (0, 0, 200, 100), (100, 100))
    assert holds(box, (10, 40, 30, 60))
    assert box[2] <= 200


def test_what_nobody_sees_draws_nobody() -> None:
    image = dull().convert("RGBA")
    image.paste((*SKIN, 0), (0, 0, 60, 100))
    image.paste((*SKIN, 255), (250, 40, 270, 60))
    assert holds(crop(image, (0, 0, 300, 100), (100, 100)), (250, 40, 270, 60))


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (1, 300), (16_000, 1), (1, 1)])
def test_of_nothing_the_middle(size: tuple[int, int]) -> None:
    side = min(size)
    box = crop(dull(size), (0, 0, *size), (side, side))
    assert box[0] == pytest.approx((size[0] - side) / 2, abs=0.51)
    assert box[1] == pytest.approx((size[1] - side) / 2, abs=0.51)


@pytest.mark.parametrize("size", [(4000, 3000), (300, 100), (40, 30), (16_000, 1)])
def test_the_map_is_small(size: tuple[int, int]) -> None:
    found = map_of(Image.new("L", size), (0, 0, *size))
    assert found.mode == "L"
    assert max(found.size) == min(SIDE, max(size))


def test_a_frame_is_no_edge() -> None:
    """Where the picture ends there is nothing to see."""
    assert map_of(Image.new("L", (60, 60), 255), (0, 0, 60, 60)).getextrema() == (0, 0)


@pytest.mark.parametrize(
    ("worths", "share", "expected"),
    [
        ([0, 0, 0, 9], 0.25, 0.75),
        ([9, 0, 0, 0], 0.25, 0.0),
        ([0, 9, 9, 0], 0.5, 0.25),
        ([9, 0, 0, 8], 0.5, 0.0),
        ([0, 0, 0, 0], 0.5, 0.25),  # nothing: the middle
        ([5, 5, 5, 5], 0.5, 0.25),
        ([1, 2, 3], 1.0, 0.0),
        ([7], 0.5, 0.25),
    ],
)
def test_best(worths: list[float], share: float, expected: float) -> None:
    assert best(worths, share) == pytest.approx(expected)


@given(
    st.lists(st.floats(0, 255), min_size=1, max_size=64), st.floats(0.001, 1), st.integers(1, 9999)
)
def test_always_inside(worths: list[float], share: float, side: int) -> None:
    assert 0 <= best(worths, share) <= 1 - share
