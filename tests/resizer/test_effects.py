"""Effects on pictures of known pixels."""

import itertools

import pytest
from PIL import Image

from resizer import effects
from resizer.formats import Format
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import Transform, parse
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, opened, quarters, saved

SEEN = (200, 100, 50)


def flat(colour: tuple[int, ...] | int, mode: str = "RGB", side: int = 16) -> Image.Image:
    return Image.new(mode, (side, side), colour)


def shown(text: str, data: bytes) -> Image.Image:
    body, result = render(Source(data, Limits()), parse(text))
    image = opened(body)
    assert (result.width, result.height) == image.size
    return image


def near(got: object, wanted: tuple[int, ...], by: int = 3) -> bool:
    assert isinstance(got, tuple)
    assert len(got) == len(wanted), got
    return all(abs(a - b) <= by for a, b in zip(got, wanted, strict=True))


# (transform, colour before, colour after)
COLOURS = [
    ("bri=50", SEEN, (255, 150, 75)),
    ("bri=-50", SEEN, (100, 50, 25)),
    ("bri=-100", SEEN, (0, 0, 0)),
    ("bri=300", (10, 20, 30), (40, 80, 120)),
    ("con=100", SEEN, (255, 72, 0)),
    ("con=-100", SEEN, (128, 128, 128)),
    ("con=-50", SEEN, (164, 114, 89)),
    ("bri=-50,con=100", SEEN, (72, 0, 0)),  # brightness first
    ("sat=-50", SEEN, (162, 112, 87)),  # luma 124
    ("sat=100", SEEN, (255, 76, 0)),
    ("tone=grey", SEEN, (124,)),
    ("tone=bitonal", SEEN, (0,)),
    ("bri=10,tone=bitonal", SEEN, (255,)),
    ("tone=bitonal", (128, 128, 128), (255,)),
]


@pytest.mark.parametrize(("text", "before", "after"), COLOURS)
def test_colours(text: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    transform = parse(text)
    got = effects.coloured(flat(before), transform).getpixel((3, 3))
    assert near(got if isinstance(got, tuple) else (got,), after)
    # The same where there is transparency, which stays as it is.
    got = effects.coloured(flat((*before, 77), "RGBA"), transform).getpixel((3, 3))
    assert near(got, (*after, 77))


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize(
    ("text", "after"), [("bri=50", 150), ("sat=200", 100), ("tone=grey", 100), ("con=-100", 128)]
)
def test_colours_of_grey(mode: str, text: str, after: int) -> None:
    image = flat(100 if mode == "L" else (100, 77), mode)
    got = effects.coloured(image, parse(text))
    assert got.mode == mode
    assert got.getpixel((0, 0)) == (after if mode == "L" else (after, 77))


def test_nothing_to_do_is_not_done() -> None:
    image = flat(SEEN)
    assert effects.focused(effects.coloured(image, Transform()), Transform()) is image


def edge(mode: str = "RGB") -> Image.Image:
    """Black, white from the middle on."""
    image = Image.new("L", (32, 32), 0)
    image.paste(255, (16, 0, 32, 32))
    return image.convert(mode)


def test_blur() -> None:
    got = effects.focused(edge("L"), parse("blur=20"))
    row = [got.getpixel((x, 16)) for x in range(32)]
    assert row == sorted(row)
    assert near((row[0], row[15] + row[16], row[31]), (0, 255, 255))  # type: ignore[operator]
    assert 20 < row[14] < row[17] < 235  # type: ignore[operator]
    wide = effects.focused(edge("L"), parse("blur=80"))
    assert wide.getpixel((8, 16)) > got.getpixel((8, 16))  # type: ignore[operator]


def test_blur_does_not_bleed_what_nobody_sees() -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 255, 0, 255), (16, 0, 32, 32))
    got = effects.focused(image, parse("blur=20"))
    assert got.mode == "RGBA"
    for x in range(32):
        red, _, _, alpha = got.getpixel((x, 16))  # type: ignore[misc]
        assert alpha < 4 or red <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_mode(mode: str) -> None:
    for text in ("blur=5", "sh=80", "tone=bitonal,blur=5", "bri=5,con=5,sat=5"):
        got = effects.focused(effects.coloured(edge(mode), parse(text)), parse(text))
        assert got.mode.endswith("A") == mode.endswith("A")
        assert got.size == (32, 32)


def test_sharpen() -> None:
    image = edge("L").point(lambda value: 100 + value // 5)  # 100 beside 151
    got = effects.focused(image, parse("sh=100"))
    row = [got.getpixel((x, 16)) for x in range(32)]
    assert (row[2], row[29]) == (100, 151)
    assert row[15] < 90 < 160 < row[16]  # type: ignore[operator]


# --- outlines ------------------------------------------------------------------------------------


def test_corners() -> None:
    got = effects.rounded(flat(SEEN, side=40), 10)
    assert got.mode == "RGBA"
    alpha = got.getchannel("A")
    for x, y in ((0, 0), (39, 0), (0, 39), (39, 39), (2, 2), (37, 2)):
        assert alpha.getpixel((x, y)) <= 2, (x, y)  # type: ignore[operator]
    for x, y in ((10, 0), (29, 0), (0, 10), (39, 29), (20, 20), (4, 4), (35, 35)):
        assert alpha.getpixel((x, y)) == 255, (x, y)
    # An outline without steps, and four corners alike.
    assert len(set(alpha.get_flattened_data())) > 5
    for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
        assert alpha.transpose(turn).tobytes() == alpha.tobytes()
    lying = alpha.transpose(Image.Transpose.ROTATE_90).tobytes()
    assert max(abs(a - b) for a, b in zip(lying, alpha.tobytes(), strict=True)) < 16
    area = sum(alpha.get_flattened_data()) / 255
    assert area == pytest.approx(1600 - (4 - 3.14159) * 100, abs=3)


def test_corners_of_the_transparent_and_of_the_small() -> None:
    got = effects.rounded(flat((*SEEN, 100), "RGBA", 40), 10)
    assert (got.getpixel((0, 0))[-1], got.getpixel((20, 20))[-1]) == (0, 100)  # type: ignore[index]
    disc = effects.rounded(flat(SEEN, side=20), 16_384).getchannel("A")
    assert sum(disc.get_flattened_data()) / 255 == pytest.approx(314, abs=4)
    assert effects.rounded(flat(SEEN, side=1), 5).mode == "RGB"


SQUARE = saved(flat(SEEN, side=40), Format.PNG)


@pytest.mark.parametrize(
    ("text", "mode", "corner"),
    [
        ("cr=10", "RGBA", (*SEEN, 0)),
        ("f=webp,cr=10", "RGBA", None),
        ("f=jpeg,bg=0000ff,cr=10", "RGB", (0, 0, 255)),
        ("bg=0000ff,cr=10,flat=1", "RGB", (0, 0, 255)),
        ("rot=450", "RGBA", (0, 0, 0, 0)),
        ("f=jpeg,bg=0000ff,rot=450", "RGB", (0, 0, 255)),
        ("w=60,h=40,fit=letterbox,bg=0000ff", "RGB", (0, 0, 255)),
        ("w=60,h=40,fit=letterbox,fill=clear", "RGBA", (255, 255, 255, 0)),
        ("w=60,h=40,fit=letterbox,f=jpeg,bg=0000ff", "RGB", (0, 0, 255)),
        ("w=60,h=40,fit=letterbox,fill=blur", "RGB", SEEN),
        ("tone=grey", "L", None),
        ("tone=grey,cr=10", "LA", None),
    ],
)
def test_what_shows_at_the_corner(text: str, mode: str, corner: tuple[int, ...] | None) -> None:
    image = shown(text, SQUARE)
    assert image.mode == mode
    assert corner is None or near(image.getpixel((0, 0)), corner, 26)


def test_flatten_a_transparent_source() -> None:
    data = saved(flat((*SEEN, 0), "RGBA"), Format.PNG)
    assert shown("bg=0000ff,flat=1", data).getpixel((3, 3)) == (0, 0, 255)
    assert shown("bg=0000ff", data).getpixel((3, 3))[-1] == 0  # type: ignore[index]


def test_tilted() -> None:
    image = quarters(64)
    got = effects.tilted(image, 450, (92, 92))
    # Clockwise: the upper left goes to the top, the upper right to the right.
    for at, colour in (((46, 14), RED), ((77, 46), GREEN), ((46, 77), GREY), ((14, 46), BLUE)):
        assert near(got.getpixel(at), (*colour, 255)), at
    for at in ((3, 3), (88, 3), (3, 88), (88, 88)):
        assert got.getpixel(at)[-1] == 0, at  # type: ignore[index]
    alphas = set(effects.tilted(image, 300, (88, 88)).getchannel("A").get_flattened_data())
    assert len(alphas) > 8  # no steps
    assert sum(got.getchannel("A").get_flattened_data()) / 255 == pytest.approx(4096, rel=0.01)


@pytest.mark.parametrize("tilt", [1, 899, 901, 1799, 2250, 3599])
def test_tilted_by_nearly_a_right_angle(tilt: int) -> None:
    body, _ = render(Source(saved(quarters(64), Format.PNG), Limits()), parse(f"rot={tilt}"))
    got = opened(body)
    turned = quarters(64).rotate(-tilt / 10, expand=True)
    middle = (got.width // 4, got.height // 4)
    if tilt != 2250:
        at = (turned.width // 4, turned.height // 4)
        assert near(got.getpixel(middle)[:3], turned.getpixel(at), 4)  # type: ignore[index, arg-type]
    assert got.getchannel("A").getpixel((got.width // 2, got.height // 2)) == 255


def test_fill_with_blur() -> None:
    data = saved(quarters(64), Format.PNG)
    image = shown("w=96,h=48,fit=letterbox,fill=blur", data)
    assert image.size == (96, 48)
    # The whole picture, sharp, in the middle.
    inner = image.crop((24, 0, 72, 48))
    for at, colour in (((4, 4), RED), ((43, 4), GREEN), ((4, 43), BLUE), ((43, 43), GREY)):
        assert near(inner.getpixel(at), colour), at
    # Beside it what lies behind, covering the box and blurred: the same halves, no edges.
    assert near(image.getpixel((2, 2)), RED, 40)
    assert near(image.getpixel((93, 45)), GREY, 40)
    column = [image.getpixel((2, y)) for y in range(48)]
    assert max(abs(a[0] - b[0]) for a, b in itertools.pairwise(column)) < 40  # type: ignore[index]
    assert 60 < column[24][0] < 190  # type: ignore[index]


def test_fill_with_blur_of_the_transparent() -> None:
    image = quarters(64).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 32, 32))
    got = shown("w=96,h=48,fit=letterbox,fill=blur", saved(image, Format.PNG))
    assert (got.mode, got.size) == ("RGBA", (96, 48))
