"""Geometry as arithmetic: a source size, a transform, a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.errors import ImpossibleTransform
from resizer.geometry import Plan, in_proportion, plan
from resizer.transform import Fit, Gravity, Transform, parse

PIXELS = 50_000_000
WHOLE = (0, 0, 64, 128)


def made(text: str, source: tuple[int, int] = (64, 128)) -> Plan:
    return plan(source, parse(text), PIXELS)


# (transform, canvas) of a whole 64x128 picture
SIZES = [
    # usual
    ("", (64, 128)),
    ("w=32", (32, 64)),
    ("h=32", (16, 32)),
    ("w=32,h=32", (16, 32)),
    ("w=16,h=32", (16, 32)),
    ("w=16,h=100", (16, 32)),
    ("w=32,h=32,fit=stretch", (32, 32)),
    ("f=webp", (64, 128)),
    # not enlarged
    ("w=100", (64, 128)),
    ("w=64", (64, 128)),
    ("w=65", (64, 128)),
    ("w=100,h=10", (5, 10)),
    ("w=100,h=10,fit=stretch", (64, 10)),
    # enlarged
    ("w=100,up=1", (100, 200)),
    ("h=200,up=1", (100, 200)),
    ("w=100,h=100,up=1", (50, 100)),
    ("w=100,h=10,fit=stretch,up=1", (100, 10)),
    # edge
    ("w=1", (1, 2)),
    ("h=1", (1, 1)),  # 0.5 rounds up
]


@pytest.mark.parametrize(("text", "canvas"), SIZES)
def test_whole_picture(text: str, canvas: tuple[int, int]) -> None:
    assert made(text) == Plan(WHOLE, canvas, canvas)


# (side, other, base, result): MediaWiki's page reserves exactly this
@pytest.mark.parametrize(
    ("side", "other", "base", "result"),
    [
        (220, 1050, 1680, 138),  # 137.5 rounds up
        (220, 3000, 4000, 165),
        (120, 1023, 1024, 120),  # 119.88
        (1, 1, 16_384, 1),  # never 0
        (16_384, 1, 16_384, 1),
    ],
)
def test_missing_side(side: int, other: int, base: int, result: int) -> None:
    assert in_proportion(side, other, base) == result


# (transform, source, box, canvas)
COVERS = [
    # usual: what sticks out of the box is cut at both ends
    ("w=32,h=32,fit=cover", (64, 128), (0, 32, 64, 96), (32, 32)),
    ("w=32,h=32,fit=cover", (128, 64), (32, 0, 96, 64), (32, 32)),
    ("w=32,h=64,fit=cover", (64, 128), (0, 0, 64, 128), (32, 64)),
    # gravity
    ("w=32,h=32,fit=cover,g=north", (64, 128), (0, 0, 64, 64), (32, 32)),
    ("w=32,h=32,fit=cover,g=south", (64, 128), (0, 64, 64, 128), (32, 32)),
    ("w=32,h=32,fit=cover,g=east", (64, 128), (0, 32, 64, 96), (32, 32)),  # no surplus there
    ("w=32,h=32,fit=cover,g=west", (128, 64), (0, 0, 64, 64), (32, 32)),
    ("w=32,h=32,fit=cover,g=southeast", (128, 64), (64, 0, 128, 64), (32, 32)),
    ("w=32,h=32,fit=cover,g=northwest", (64, 128), (0, 0, 64, 64), (32, 32)),
    # edge: a crop that ends between pixels
    ("w=3,h=1,fit=cover,g=north", (64, 128), (0, 0, 64, 64 / 3), (3, 1)),
    # not enlarged: as far as the source reaches, on whole pixels
    ("w=100,h=100,fit=cover", (64, 128), (0, 14, 64, 114), (64, 100)),
    ("w=33,h=300,fit=cover", (64, 128), (15, 0, 48, 128), (33, 128)),
    ("w=300,h=300,fit=cover", (64, 128), (0, 0, 64, 128), (64, 128)),
    # enlarged
    ("w=128,h=128,fit=cover,up=1", (64, 128), (0, 32, 64, 96), (128, 128)),
]


@pytest.mark.parametrize(("text", "source", "box", "canvas"), COVERS)
def test_cover(
    text: str, source: tuple[int, int], box: tuple[float, ...], canvas: tuple[int, int]
) -> None:
    assert made(text, source) == Plan(box, canvas, canvas)  # type: ignore[arg-type]


# (transform, inner, offset) of 64x128; the canvas is what is asked
LETTERBOXES = [
    ("w=32,h=32,fit=letterbox", (16, 32), (8, 0)),
    ("w=16,h=64,fit=letterbox", (16, 32), (0, 16)),
    ("w=33,h=32,fit=letterbox", (16, 32), (8, 0)),  # the odd pixel is on the right
    ("w=200,h=200,fit=letterbox", (64, 128), (68, 36)),  # not enlarged: wider bars
    ("w=200,h=200,fit=letterbox,up=1", (100, 200), (50, 0)),
    ("w=32,h=64,fit=letterbox", (32, 64), (0, 0)),
]


@pytest.mark.parametrize(("text", "inner", "offset"), LETTERBOXES)
def test_letterbox(text: str, inner: tuple[int, int], offset: tuple[int, int]) -> None:
    transform = parse(text)
    assert plan((64, 128), transform, PIXELS) == Plan(
        WHOLE, inner, (transform.width or 0, transform.height or 0), offset
    )


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("w=16384,up=1", (1, 2)),  # the missing side
        ("h=16384,up=1", (3, 2)),
        ("w=16384,h=16384,fit=stretch,up=1", (10, 10)),  # sides legal, pixels not
        ("w=16384,h=16384,fit=letterbox", (10, 10)),
    ],
)
def test_too_large(text: str, source: tuple[int, int]) -> None:
    with pytest.raises(ImpossibleTransform):
        made(text, source)


SIDES = st.integers(1, 16_384)


@given(
    source=st.tuples(SIDES, SIDES),
    width=SIDES,
    height=SIDES,
    fit=st.sampled_from(Fit),
    gravity=st.sampled_from(Gravity),
    enlarge=st.booleans(),
)
def test_always_inside(
    source: tuple[int, int], width: int, height: int, fit: Fit, gravity: Gravity, enlarge: bool
) -> None:
    kept = gravity if fit is Fit.COVER else Gravity.CENTRE
    transform = Transform(width, height, fit, kept, enlarge)
    got = plan(source, transform, 1 << 40)
    left, top, right, bottom = got.box
    assert 0 <= left < right <= source[0]
    assert 0 <= top < bottom <= source[1]
    assert 1 <= got.inner[0] <= got.canvas[0] <= width
    assert 1 <= got.inner[1] <= got.canvas[1] <= height
    assert got.offset[0] + got.inner[0] <= got.canvas[0]
    assert got.offset[1] + got.inner[1] <= got.canvas[1]
    if not enlarge:
        assert got.inner[0] <= source[0]
        assert got.inner[1] <= source[1]
