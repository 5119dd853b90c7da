"""Geometry as arithmetic: a source size, a transform, a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.errors import ImpossibleTransform
from resizer.geometry import Plan, in_proportion, plan, tilted_size
from resizer.transform import Fit, Gravity, Transform, parse
from tests.resizer.transforms import transforms

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


# (transform, canvas) of 64x128
OUTSIDES = [
    ("w=32,h=32,fit=outside", (32, 64)),
    ("w=16,h=64,fit=outside", (32, 64)),
    ("w=32,h=64,fit=outside", (32, 64)),
    ("w=32,h=100,fit=outside", (50, 100)),
    ("w=100,h=100,fit=outside", (64, 128)),  # not enlarged
    ("w=100,h=100,fit=outside,up=1", (100, 200)),
    ("w=1,h=1,fit=outside", (1, 2)),
]


@pytest.mark.parametrize(("text", "canvas"), OUTSIDES)
def test_outside(text: str, canvas: tuple[int, int]) -> None:
    assert made(text) == Plan(WHOLE, canvas, canvas)


@pytest.mark.parametrize(
    ("text", "canvas"),
    [
        ("sc=5000", (32, 64)),
        ("sc=3333", (21, 43)),  # 21.3, 42.7
        ("sc=1", (1, 1)),
        ("up=1,sc=20000", (128, 256)),
    ],
)
def test_scale(text: str, canvas: tuple[int, int]) -> None:
    assert made(text).canvas == canvas


@pytest.mark.parametrize(
    ("text", "source", "canvas"),
    [
        ("w=40,h=20,fit=cover", (64, 128), (20, 40)),
        ("w=20,h=40,fit=cover", (64, 128), (20, 40)),
        ("w=40,h=20,fit=cover", (128, 64), (40, 20)),
        ("w=40,h=20,fit=cover", (64, 64), (40, 20)),  # neither
        ("w=40,h=20", (64, 128), (20, 40)),
    ],
)
def test_adaptive(text: str, source: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert made(f"{text},ad=1", source).canvas == canvas


# (transform, box) of cover with a focus, 128x64 to a square
@pytest.mark.parametrize(
    ("focus", "box"),
    [
        ("500:500", (32, 0, 96, 64)),
        ("375:0", (16, 0, 80, 64)),
        ("0:0", (0, 0, 64, 64)),  # as near as the edge allows
        ("1000:1000", (64, 0, 128, 64)),
        ("750:9", (64, 0, 128, 64)),
        ("250:9", (0, 0, 64, 64)),
    ],
)
def test_focus(focus: str, box: tuple[float, ...]) -> None:
    got = made(f"w=32,h=32,fit=cover,fp={focus}", (128, 64))
    assert got == Plan(box, (32, 32), (32, 32))  # type: ignore[arg-type]


# (transform, source, plan) of the smart crop: all there is to choose from, and how much of it
SMART = [
    ("w=32,h=32", (128, 64), Plan((0, 0, 128, 64), (32, 32), (32, 32), window=(64, 64))),
    ("w=32,h=16", (128, 64), Plan((0, 0, 128, 64), (32, 16), (32, 16))),  # no choice
    ("w=99,h=50", (128, 64), Plan((0, 0, 128, 64), (99, 50), (99, 50), window=(126.72, 64))),
    ("w=99,h=99", (128, 64), Plan((0, 0, 128, 64), (99, 64), (99, 64), window=(99, 64))),
    ("w=999,h=99", (128, 64), Plan((0, 0, 128, 64), (128, 64), (128, 64))),
]


@pytest.mark.parametrize(("text", "source", "wanted"), SMART)
def test_smart(text: str, source: tuple[int, int], wanted: Plan) -> None:
    got = made(f"{text},fit=cover,g=smart", source)
    assert got == wanted
    if got.window is not None:
        assert got.keeps_pixels == (got.window == got.inner)
        # What the decoder is told: the scale of the crop, spoken of the whole.
        assert got.boxed[0] / source[0] == pytest.approx(got.inner[0] / got.window[0], abs=0.02)


# (region, transform, box, canvas) of 64x128
REGIONS = [
    ("px:10:20:30:40", "", (10, 20, 40, 60), (30, 40)),
    ("px:10:20:30:40", "w=15", (10, 20, 40, 60), (15, 20)),
    ("px:10:20:30:40", "w=100", (10, 20, 40, 60), (30, 40)),  # enlarges no pixel of the region
    ("px:10:20:30:40", "w=60,up=1", (10, 20, 40, 60), (60, 80)),
    ("px:10:20:300:400", "", (10, 20, 64, 128), (54, 108)),  # clipped
    ("px:63:127:1:1", "", (63, 127, 64, 128), (1, 1)),
    ("px:10:20:40:40", "w=10,h=20,fit=cover", (20, 20, 40, 60), (10, 20)),
    ("px:10:20:40:40", "w=10,h=20,fit=cover,g=west", (10, 20, 30, 60), (10, 20)),
    ("square", "", (0, 32, 64, 96), (64, 64)),
    ("ppm:0:0:500000:500000", "", (0, 0, 32, 64), (32, 64)),
    ("ppm:500000:500000:500000:500000", "", (32, 64, 64, 128), (32, 64)),
    ("ppm:999999:0:1:1", "", (63, 0, 64, 1), (1, 1)),
    ("px:32:32:north", "", (16, 0, 48, 32), (32, 32)),
    ("px:320:32:southeast", "", (0, 96, 64, 128), (64, 32)),
    ("ppm:500000:250000:centre", "", (16, 48, 48, 80), (32, 32)),
]


@pytest.mark.parametrize(("region", "text", "box", "canvas"), REGIONS)
def test_region(region: str, text: str, box: tuple[float, ...], canvas: tuple[int, int]) -> None:
    parts = dict(part.split("=") for part in text.split(",") if part)
    up = ["up=1"] if parts.pop("up", None) else []
    ordered = ",".join([*(f"{k}={v}" for k, v in parts.items()), *up, f"r={region}"])
    got = made(ordered)
    assert (got.box, got.canvas) == (box, canvas)


# Boxes are those of the turned picture, regions those of the upright one: 64x128, its upper left.
@pytest.mark.parametrize(
    ("turn", "box"),
    [
        ("", (0, 0, 10, 20)),
        (",mi=1", (54, 0, 64, 20)),
        (",rot=900", (108, 0, 128, 10)),
        (",rot=1800", (54, 108, 64, 128)),
        (",rot=2700", (0, 54, 20, 64)),
        (",mi=1,rot=900", (108, 54, 128, 64)),
        (",mi=1,rot=1800", (0, 108, 10, 128)),
        (",mi=1,rot=2700", (0, 0, 20, 10)),
    ],
)
def test_region_of_turned(turn: str, box: tuple[float, ...]) -> None:
    assert made(f"r=px:0:0:10:20{turn}").box == box


@pytest.mark.parametrize(
    ("text", "canvas"),
    [
        ("rot=900", (128, 64)),
        ("w=32,rot=900", (32, 16)),
        ("w=32,rot=1800", (32, 64)),
        ("w=32,h=32,mi=1,rot=2700", (32, 16)),
    ],
)
def test_sides_of_turned(text: str, canvas: tuple[int, int]) -> None:
    assert made(text).output == canvas


@pytest.mark.parametrize(
    ("size", "tilt", "expected"),
    [
        ((100, 100), 450, (142, 142)),  # 141.42
        ((100, 50), 300, (112, 94)),  # 111.6, 93.3
        ((100, 50), 1200, (94, 112)),
        ((100, 50), 3300, (112, 94)),
        ((1, 1), 1, (2, 2)),
    ],
)
def test_tilted(size: tuple[int, int], tilt: int, expected: tuple[int, int]) -> None:
    assert tilted_size(size, tilt) == expected


def test_tilted_plan() -> None:
    got = made("w=32,rot=450")
    assert (got.canvas, got.tilted, got.output) == ((32, 64), (68, 68), (68, 68))


@pytest.mark.parametrize(
    "text",
    [
        "w=65,ex=1",
        "h=129,ex=1",
        "w=65,h=999,ex=1",
        "w=65,h=9,fit=cover,ex=1",
        "w=65,h=9,fit=stretch,ex=1",
        "w=99,h=200,fit=letterbox,ex=1",
        "w=10,r=px:0:0:9:9,ex=1",
        "w=65,ex=1,rot=1800",
        "h=65,ex=1,rot=900",
    ],
)
def test_exact_refuses(text: str) -> None:
    with pytest.raises(ImpossibleTransform):
        made(text)


@pytest.mark.parametrize(
    "text", ["w=64,ex=1", "w=65,h=10,ex=1", "w=64,h=128,fit=cover,ex=1", "w=128,ex=1,rot=900"]
)
def test_exact_lets_pass(text: str) -> None:
    assert made(text) == made(text.replace(",ex=1", ""))


@pytest.mark.parametrize("region", ["px:64:0:1:1", "px:0:128:1:1", "px:16383:16383:1:1"])
def test_region_outside(region: str) -> None:
    with pytest.raises(ImpossibleTransform):
        made(f"r={region}")


@pytest.mark.parametrize(
    ("text", "side", "wanted"),
    [
        ("", 32, Plan(WHOLE, (16, 32), (16, 32))),
        ("", 128, Plan(WHOLE, (64, 128), (64, 128))),
        ("w=64,h=64,fit=letterbox", 32, Plan(WHOLE, (16, 32), (32, 32), (8, 0))),
        ("w=60,h=30,fit=cover", 20, Plan((0, 48, 64, 80), (20, 10), (20, 10))),
    ],
)
def test_within(text: str, side: int, wanted: Plan) -> None:
    assert made(text).within(side) == wanted


@given(source=st.tuples(st.integers(1, 999), st.integers(1, 999)), transform=transforms())
def test_every_plan_is_sound(source: tuple[int, int], transform: Transform) -> None:
    try:
        got = plan(source, transform, 4_000_000)
    except ImpossibleTransform:
        return
    whole = (source[1], source[0]) if transform.turns % 2 else source
    left, top, right, bottom = got.box
    assert 0 <= left < right <= whole[0]
    assert 0 <= top < bottom <= whole[1]
    assert min(*got.inner, *got.canvas, *got.output, *got.offset) >= 0 < min(got.inner)
    assert all(a + b <= c for a, b, c in zip(got.offset, got.inner, got.canvas, strict=True))
    assert got.output[0] * got.output[1] <= 4_000_000
    assert max(got.within(32).output) <= 32
    if got.window is not None:
        assert 0 < got.window[0] <= right - left
        assert 0 < got.window[1] <= bottom - top


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
    fit=st.sampled_from([fit for fit in Fit if fit is not Fit.OUTSIDE]),
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
