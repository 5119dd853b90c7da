"""Stamping: where a mark lies, how large, how strong."""

import pytest
from PIL import Image

from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.geometry import plan
from resizer.orientation import Orientation
from resizer.pipeline import render
from resizer.stamp import stamp
from resizer.transform import Transform, parse
from resizer.words import Gravity
from tests.resizer.pictures import quarters

WHITE, BLACK, BLUE = (255, 255, 255), (0, 0, 0), (0, 0, 255)
MARK = Image.new("RGB", (10, 5), BLACK)


def stamped(text: str, size: tuple[int, int] = (100, 50), mark: Image.Image = MARK) -> Image.Image:
    return stamp(Image.new("RGB", size, WHITE), mark, parse(f"wm=logo:{text}"))


def covered(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box of what is darker than half."""
    return image.convert("L").point(lambda value: 255 if value < 128 else 0).getbbox()


# (watermark, box of the mark on 100x50)
PLACES = [
    ("northwest:100:0:0", (0, 0, 10, 5)),
    ("north:100:0:0", (45, 0, 55, 5)),
    ("northeast:100:0:0", (90, 0, 100, 5)),
    ("west:100:0:0", (0, 22, 10, 27)),
    ("centre:100:0:0", (45, 22, 55, 27)),
    ("east:100:0:0", (90, 22, 100, 27)),
    ("southwest:100:0:0", (0, 45, 10, 50)),
    ("south:100:0:0", (45, 45, 55, 50)),
    ("southeast:100:0:0", (90, 45, 100, 50)),
    # margin
    ("northwest:100:0:3", (3, 3, 13, 8)),
    ("southeast:100:0:3", (87, 42, 97, 47)),
    ("centre:100:0:3", (45, 22, 55, 27)),
    # scale, of the picture's width
    ("northwest:100:50:0", (0, 0, 50, 25)),
    ("northwest:100:1:0", (0, 0, 1, 1)),
    # shrunk to the room there is
    ("northwest:100:100:0", (0, 0, 100, 50)),
    ("northwest:100:100:20", (20, 20, 40, 30)),
    ("southeast:100:0:24", (72, 24, 76, 26)),
    ("northwest:100:0:25", None),  # no room
    ("northwest:100:0:8191", None),
]


@pytest.mark.parametrize(("text", "box"), PLACES)
def test_place(text: str, box: tuple[int, ...] | None) -> None:
    assert covered(stamped(text)) == box


def test_every_position_is_in_the_table() -> None:
    positions = {text.split(":")[0] for text, _ in PLACES}
    assert positions == {gravity.value for gravity in Gravity} - {"smart"}


@pytest.mark.parametrize(("opacity", "value"), [(100, 0), (50, 127), (1, 252)])
def test_opacity(opacity: int, value: int) -> None:
    got = stamped(f"northwest:{opacity}:0:0").getpixel((2, 2))
    assert got[0] == pytest.approx(value, abs=1)  # type: ignore[index]


def test_a_transparent_mark() -> None:
    mark = Image.new("RGBA", (10, 10), (*BLACK, 0))
    mark.paste((*BLACK, 255), (0, 0, 5, 10))
    got = stamped("northwest:50:0:0", mark=mark)
    assert (got.getpixel((2, 2)), got.getpixel((7, 2))) == ((127, 127, 127), WHITE)


@pytest.mark.parametrize(
    ("mode", "colour", "got_mode", "at_mark"),
    [
        ("L", 255, "RGB", BLUE),
        ("RGB", WHITE, "RGB", BLUE),
        ("LA", (255, 0), "RGBA", (*BLUE, 255)),
        ("RGBA", (255, 255, 255, 0), "RGBA", (*BLUE, 255)),
    ],
)
def test_modes(
    mode: str, colour: int | tuple[int, ...], got_mode: str, at_mark: tuple[int, ...]
) -> None:
    image = Image.new(mode, (20, 20), colour)
    before = image.tobytes()
    got = stamp(image, Image.new("RGB", (5, 5), BLUE), parse("wm=a:northwest:100:0:0"))
    assert (got.mode, got.getpixel((2, 2))) == (got_mode, at_mark)
    assert got.getchannel(got.getbands()[-1]).getpixel((15, 15)) == (0 if "A" in got_mode else 255)
    assert image.tobytes() == before


def test_without_a_mark() -> None:
    image = Image.new("RGB", (9, 9))
    assert stamp(image, MARK, Transform()) is image
    with pytest.raises(ImpossibleTransform):
        stamp(image, None, parse("wm=logo:centre:100:0:0"))


def test_in_the_pipeline() -> None:
    transform = parse("w=32,wm=logo:northwest:100:0:0")
    got = render(
        quarters(64),
        (0, 0, 64, 64),
        plan((64, 64), transform, 1 << 20),
        orientation=Orientation.UPRIGHT,
        profile=None,
        transform=transform,
        output=Format.PNG,
        mark=MARK,
    )
    assert (got.getpixel((9, 4)), got.getpixel((9, 6))) == (BLACK, (220, 30, 30))
