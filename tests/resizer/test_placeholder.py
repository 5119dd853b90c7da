"""Placeholders: documents instead of pictures."""

import base64
import json

import pytest
from PIL import Image

from resizer.formats import Format
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import RED, opened, quarters, saved

PICTURE = saved(quarters(320).resize((320, 200)), Format.JPEG, quality=95)


def document(text: str, data: bytes = PICTURE) -> dict[str, object]:
    body, result = render(Source(data, Limits()), parse(text))
    assert (result.media_type, result.length) == ("application/json", len(body))
    found = json.loads(body)
    assert isinstance(found, dict)
    assert (result.width, result.height) == (found["width"], found["height"])
    return found


# (transform, size of the picture that the document stands for)
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", (320, 200)),
        ("w=160,", (160, 100)),
        ("w=100,h=100,fit=cover,", (100, 100)),
        ("w=640,", (320, 200)),
        ("w=640,up=1,", (640, 400)),
        ("rot=900,", (200, 320)),
        ("r=px:0:0:160:100,", (160, 100)),
        ("w=8,", (8, 5)),
        ("w=99,h=99,fit=letterbox,", (99, 99)),
    ],
)
@pytest.mark.parametrize("kind", ["thumbhash", "blurhash", "preview"])
def test_size(text: str, size: tuple[int, int], kind: str) -> None:
    found = document(f"{text}ph={kind}")
    assert (found["width"], found["height"]) == size
    assert list(found) == ["width", "height", kind]


def test_thumbhash_shows_the_part_that_is_asked_for() -> None:
    code = base64.b64decode(str(document("r=px:0:0:150:90,ph=thumbhash")["thumbhash"]))
    head = int.from_bytes(code[:3], "little")
    assert (head & 63) / 63 == pytest.approx(sum(RED) / 3 / 255, abs=0.03)
    assert (head >> 12 & 63) / 31.5 - 1 == pytest.approx((RED[0] - RED[1]) / 255, abs=0.05)


def test_thumbhash_keeps_transparency_that_the_sources_format_would_not() -> None:
    image = quarters(64).convert("RGBA")
    image.putalpha(100)
    code = base64.b64decode(str(document("ph=thumbhash", saved(image, Format.PNG))["thumbhash"]))
    assert code[2] >> 7 == 1
    flat = str(document("flat=1,ph=thumbhash", saved(image, Format.PNG))["thumbhash"])
    assert base64.b64decode(flat)[2] >> 7 == 0


def test_blurhash_stands_on_the_background() -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    found = document("bg=0000ff,ph=blurhash", saved(image, Format.PNG))
    assert str(found["blurhash"])[2:6] == "0036"  # base 83 of 0000ff


def test_preview() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Somebody"
    data = saved(quarters(320), Format.JPEG, exif=exif, comment=b"secret")
    text = str(document("ph=preview", data)["preview"])
    head, _, body = text.partition(",")
    assert head == "data:image/webp;base64"
    file = base64.b64decode(body)
    image = opened(file)
    assert (image.format, image.size) == ("WEBP", (32, 32))
    assert len(file) < 400
    assert not image.getexif()
    assert set(image.info) <= {"loop", "background", "timestamp", "duration"}
    got = image.convert("RGB").getpixel((6, 6))
    assert all(abs(a - b) < 40 for a, b in zip(got, RED, strict=True))  # type: ignore[arg-type]
