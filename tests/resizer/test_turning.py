"""Where every pixel goes: orientation, region, mirror, rotation, fit and gravity together.

The witness is Pillow, step by step and without any of our arithmetic: stand the file up, crop the
region, mirror, rotate, fit.
"""

import itertools

import pytest
from PIL import Image, ImageOps

from resizer.decode import load_pixels, open_picture
from resizer.formats import Format
from resizer.geometry import plan
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import opened, saved

WIDTH, HEIGHT = 24, 12
TAGS = range(1, 9)
TURNS = list(itertools.product((False, True), (0, 900, 1800, 2700)))


def places() -> Image.Image:
    """Each pixel says where it is: red from left to right, green from top to bottom."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    image.putdata([(10 * x, 20 * y, 0) for y in range(HEIGHT) for x in range(WIDTH)])
    return image


def stored(tag: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = tag
    return saved(places(), Format.PNG, exif=exif)


SOURCES = {tag: stored(tag) for tag in TAGS}


def rendered(tag: int, *parts: str) -> Image.Image:
    text = ",".join(part for part in parts if part)
    body, result = render(Source(SOURCES[tag], Limits()), parse(text))
    image = opened(body).convert("RGB")
    assert (result.width, result.height) == image.size
    return image


def upright(tag: int) -> Image.Image:
    return ImageOps.exif_transpose(opened(SOURCES[tag])).convert("RGB")


def turned(image: Image.Image, mirror: bool, rotate: int) -> Image.Image:
    image = ImageOps.mirror(image) if mirror else image
    return image.rotate(-rotate / 10, expand=True)


def said(mirror: bool, rotate: int) -> str:
    return ",".join(("mi=1",) * mirror + (f"rot={rotate}",) * bool(rotate))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("mirror", "rotate"), TURNS)
def test_turned(tag: int, mirror: bool, rotate: int) -> None:
    wanted = turned(upright(tag), mirror, rotate)
    assert rendered(tag, said(mirror, rotate)).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("mirror", "rotate"), TURNS)
def test_turned_region(tag: int, mirror: bool, rotate: int) -> None:
    got = rendered(tag, "r=px:2:3:9:5", said(mirror, rotate))
    wanted = turned(upright(tag).crop((2, 3, 11, 8)), mirror, rotate)
    assert got.size == wanted.size
    assert got.tobytes() == wanted.tobytes()


GRAVITIES = {
    "centre": (0.5, 0.5),
    "north": (0.5, 0),
    "south": (0.5, 1),
    "east": (1, 0.5),
    "west": (0, 0.5),
    "northeast": (1, 0),
    "northwest": (0, 0),
    "southeast": (1, 1),
    "southwest": (0, 1),
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("gravity", GRAVITIES)
@pytest.mark.parametrize("size", [(6, 6), (10, 2)])
def test_cover(tag: int, gravity: str, size: tuple[int, int]) -> None:
    """To half of the size and less, of a region that is turned: within what a filter smooths."""
    mirror, rotate = TURNS[tag - 1]
    asked = "" if gravity == "centre" else f"g={gravity}"
    box = f"w={size[0]},h={size[1]},fit=cover"
    got = rendered(tag, box, asked, "r=px:0:0:12:12", said(mirror, rotate))
    whole = turned(upright(tag).crop((0, 0, 12, 12)), mirror, rotate)
    wanted = ImageOps.fit(whole, size, Image.Resampling.LANCZOS, centering=GRAVITIES[gravity])
    assert got.size == size
    far = max(abs(a - b) for a, b in zip(got.tobytes(), wanted.tobytes(), strict=True))
    assert far <= 8, (got.tobytes(), wanted.tobytes())


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ("w=12,h=12", lambda image: ImageOps.contain(image, (12, 12), Image.Resampling.LANCZOS)),
        (
            "w=12,h=12,fit=outside",
            lambda image: ImageOps.cover(image, (12, 12), Image.Resampling.LANCZOS),
        ),
        (
            "w=6,h=12,fit=stretch",
            lambda image: image.resize((6, 12), Image.Resampling.LANCZOS),
        ),
        (
            "w=12,h=12,fit=letterbox,bg=0000ff",
            lambda image: ImageOps.pad(image, (12, 12), Image.Resampling.LANCZOS, "#0000ff"),
        ),
    ],
)
def test_whole(tag: int, asked: str, method: object) -> None:
    mirror, rotate = TURNS[-tag]
    got = rendered(tag, asked, said(mirror, rotate))
    wanted = method(turned(upright(tag), mirror, rotate))  # type: ignore[operator]
    assert got.size == wanted.size
    far = max(abs(a - b) for a, b in zip(got.tobytes(), wanted.tobytes(), strict=True))
    assert far <= 8


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("focus", ["0:0", "1000:1000", "300:600"])
def test_focus(tag: int, focus: str) -> None:
    """Unscaled: the pixel of the focus is in the crop, and in its middle where there is room."""
    got = rendered(tag, "w=4,h=4,fit=cover,up=1", f"fp={focus}")
    whole = upright(tag)
    x, y = (int(part) / 1000 for part in focus.split(":"))
    side = min(whole.size)
    left = min(max(x * whole.width - side / 2, 0), whole.width - side)
    top = min(max(y * whole.height - side / 2, 0), whole.height - side)
    box = (left, top, left + side, top + side)
    wanted = whole.resize((4, 4), Image.Resampling.LANCZOS, box=box)
    far = max(abs(a - b) for a, b in zip(got.tobytes(), wanted.tobytes(), strict=True))
    assert far <= 2


# A face's colour in one corner of a dull picture: the crop goes there, however it is turned.
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("mirror", "rotate"), TURNS[::2])
@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG])
def test_smart(tag: int, mirror: bool, rotate: int, source: Format) -> None:
    image = Image.new("RGB", (160, 80), (90, 100, 110))
    image.paste((224, 172, 140), (120, 20, 150, 60))
    exif = Image.Exif()
    exif[0x0112] = tag
    data = saved(image, source, exif=exif)
    for size, share in (((40, 40), 0.18), ((80, 80), 0.18)):
        text = f"w={size[0]},h={size[1]},fit=cover,g=smart,f=png"
        turn = said(mirror, rotate)
        body, _ = render(Source(data, Limits()), parse(f"{text},{turn}" if turn else text))
        got = opened(body).convert("RGB")
        assert got.size == size
        skin = sum(1 for r, g, _ in got.get_flattened_data() if r > g + 25)
        assert skin / (size[0] * size[1]) >= share, (tag, mirror, rotate)


def test_a_smart_crop_that_is_not_scaled_keeps_its_pixels() -> None:
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    data = saved(image, Format.PNG)
    body, _ = render(Source(data, Limits()), parse("w=40,h=200,fit=cover,g=smart"))
    got = opened(body).convert("RGB").tobytes()
    assert got in [image.crop((left, 0, left + 40, 64)).tobytes() for left in range(25)]


def test_a_region_of_a_large_jpeg_is_decoded_small() -> None:
    data = saved(Image.linear_gradient("L").resize((1600, 1600)), Format.JPEG)
    transform = parse("w=80,f=png,r=px:0:800:800:800")
    picture = open_picture(data, Limits())
    made = plan(picture.upright, transform, Limits().max_pixels)
    pixels, box = load_pixels(picture, made.box, made.boxed)
    assert (pixels.size, box) == ((200, 200), (0, 100, 100, 200))
    got = opened(render(Source(data, Limits()), transform)[0])
    assert got.size == (80, 80)
    assert got.getpixel((40, 0)) == pytest.approx(128, abs=4)
    assert got.getpixel((40, 79)) == pytest.approx(254, abs=4)


def test_a_smart_crop_is_decoded_as_small_as_any_other() -> None:
    data = saved(Image.linear_gradient("L").resize((1600, 800)), Format.JPEG)
    sizes = []
    for gravity in ("", ",g=smart"):
        picture = open_picture(data, Limits())
        made = plan(picture.upright, parse(f"w=80,h=80,fit=cover{gravity}"), 1 << 30)
        sizes.append(load_pixels(picture, made.box, made.boxed)[0].size)
    assert sizes == [(200, 100), (200, 100)]
