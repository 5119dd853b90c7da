"""Pictures made for the tests: named colours, every format, bombs."""

import io
import struct
import zlib

from PIL import Image

from resizer.formats import Format, InputOnly
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse

RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 30), (30, 30, 220), (128, 128, 128)


def quarters(side: int = 32) -> Image.Image:
    """Red, green / blue, grey: no two of the eight orientations of it look alike."""
    image = Image.new("RGB", (2, 2))
    image.putdata([RED, GREEN, BLUE, GREY])
    return image.resize((side, side), Image.Resampling.NEAREST)


def saved(image: Image.Image, output: Format, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, output.name, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def noise(side: int, output: Format = Format.PNG, **options: object) -> bytes:
    """A picture that no encoder makes small."""
    bands = [Image.effect_noise((side, side), 128) for _ in range(3)]
    return saved(Image.merge("RGB", bands), output, **options)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_that_claims(width: int, height: int) -> bytes:
    """A valid PNG header and next to nothing behind it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    magic = b"\x89PNG\r\n\x1a\n"
    return (
        magic + chunk(b"IHDR", head) + chunk(b"IDAT", b"x\xda\x03\0\0\0\0\1") + chunk(b"IEND", b"")
    )


def rendered(data: bytes, text: str) -> Image.Image:
    """The derivative, its result checked; every input is on."""
    body, result = render(Source(data, Limits(), inputs=tuple(InputOnly)), parse(text))
    image = opened(body)
    assert (result.length, result.width, result.height) == (len(body), *image.size)
    assert result.media_type == f"image/{str(image.format).lower()}"
    return image


def near(got: object, wanted: tuple[int, ...], by: int = 6) -> bool:
    assert isinstance(got, tuple)
    assert len(got) == len(wanted), got
    return all(abs(a - b) <= by for a, b in zip(got, wanted, strict=True))
