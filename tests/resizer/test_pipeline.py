"""The pipeline on pictures of named colours: orientation, crops, bars."""

import dataclasses

import pytest
from PIL import Image, ImageChops, ImageStat

from resizer.formats import Format
from resizer.transform import parse
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, near, quarters, rendered, saved


def corners(image: Image.Image) -> list[object]:
    image = image.convert("RGB")
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


# What a stored red, green / blue, grey looks like upright: upper left, upper right, lower left ...
UPRIGHT = {
    1: (RED, GREEN, BLUE, GREY),
    2: (GREEN, RED, GREY, BLUE),
    3: (GREY, BLUE, GREEN, RED),
    4: (BLUE, GREY, RED, GREEN),
    5: (RED, BLUE, GREEN, GREY),
    6: (BLUE, RED, GREY, GREEN),
    7: (GREY, GREEN, BLUE, RED),
    8: (GREEN, GREY, RED, BLUE),
}


def turned(tag: int, output: Format = Format.JPEG, size: tuple[int, int] = (256, 128)) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"quality": 95, "subsampling": 0} if output is Format.JPEG else {}
    return saved(quarters(256).resize(size), output, exif=exif, **options)


@pytest.mark.parametrize("tag", UPRIGHT)
@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG])
def test_orientation(tag: int, source: Format) -> None:
    # As Pillow itself would stand it up, and by the table.
    image = rendered(turned(tag, source), "w=64,f=png")
    assert image.size == ((64, 32) if tag <= 4 else (64, 128))
    for got, wanted in zip(corners(image), UPRIGHT[tag], strict=True):
        assert near(got, wanted, 12), (tag, got, wanted)


# Cut off three corners: what gravity keeps is meant upright.
@pytest.mark.parametrize("tag", UPRIGHT)
@pytest.mark.parametrize(
    ("gravity", "corner"), [("northwest", 0), ("northeast", 1), ("southwest", 2), ("southeast", 3)]
)
def test_crop_of_turned(tag: int, gravity: str, corner: int) -> None:
    data = turned(tag, size=(128, 128))
    image = rendered(data, f"w=64,h=128,fit=cover,g={gravity},f=png")
    assert image.size == (64, 128)
    assert near(corners(image)[corner], UPRIGHT[tag][corner], 12)
    data = turned(tag, size=(256, 256))
    image = rendered(data, f"w=60,h=20,fit=cover,g={gravity},f=png")
    assert near(corners(image)[corner], UPRIGHT[tag][corner], 12)


def grey_alpha() -> bytes:
    image = Image.new("LA", (32, 32), (128, 0))
    image.paste((128, 255), (16, 0, 32, 32))
    return saved(image, Format.PNG)


def test_letterbox() -> None:
    data = saved(quarters(64).crop((0, 0, 64, 32)), Format.PNG)
    image = rendered(data, "w=64,h=64,fit=letterbox,f=png,bg=0000ff")
    assert image.size == (64, 64)
    assert image.getpixel((0, 15)) == (0, 0, 255)
    assert near(image.getpixel((0, 16)), RED)
    assert near(image.getpixel((63, 47)), GREEN)
    assert image.getpixel((0, 48)) == (0, 0, 255)


def test_letterbox_of_the_transparent() -> None:
    image = rendered(grey_alpha(), "w=64,h=32,fit=letterbox,f=png,bg=0000ff")
    assert image.getpixel((0, 0)) == (0, 0, 255, 255)
    assert image.getpixel((20, 16))[-1] == 0  # type: ignore[index]
    image = rendered(grey_alpha(), "w=64,h=32,fit=letterbox,f=jpeg,bg=0000ff")
    assert near(image.getpixel((20, 16)), (0, 0, 255))


def edges(image: Image.Image) -> float:
    """How far neighbours are apart, in the mean."""
    grey = image.convert("L")
    here, right = grey.crop((0, 0, grey.width - 1, grey.height)), grey.crop((1, 0, *grey.size))
    return ImageStat.Stat(ImageChops.difference(here, right)).mean[0]


@pytest.mark.parametrize("text", ["w=32", "sc=2000", "w=60,h=32,fit=letterbox,cr=3"])
def test_crisp_gives_back_what_a_reduction_takes(text: str) -> None:
    data = saved(Image.effect_noise((160, 160), 60).resize((320, 320)).convert("RGB"), Format.PNG)
    wanted = parse(text)
    plain, crisp = (
        rendered(data, dataclasses.replace(wanted, crisp=crisp).canonical())
        for crisp in (False, True)
    )
    assert crisp.size == plain.size
    assert edges(crisp) > 1.2 * edges(plain)


@pytest.mark.parametrize(
    "text", ["w=64", "w=60", "w=128,up=1", "w=20,h=20,fit=cover,r=px:0:0:20:20"]
)
def test_crisp_where_nothing_is_reduced(text: str) -> None:
    data = saved(quarters(64), Format.PNG)
    wanted = parse(text)
    plain, crisp = (
        rendered(data, dataclasses.replace(wanted, crisp=crisp).canonical())
        for crisp in (False, True)
    )
    assert crisp.tobytes() == plain.tobytes()
