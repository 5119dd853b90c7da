"""Placeholders: a JSON document that stands for a picture until the picture is there.

    {"width":1280,"height":853,"thumbhash":"1QcSHQRnh493V4dIh4eXh1h4kJUI"}
    {"width":1280,"height":853,"blurhash":"LEHV6nWB2yk8pyo0adR*.7kCMdnj"}
    {"width":1280,"height":853,"preview":"data:image/webp;base64,UklGR..."}

width and height are those of the picture that the same transform makes without the placeholder, so
that a page can reserve its place. Thumbhash is the main one: it keeps transparency and proportions.
"""

import base64
import io
import json
from dataclasses import dataclass
from typing import Final

from PIL import Image

from resizer import blurhash, thumbhash
from resizer.formats import Format
from resizer.geometry import Size
from resizer.transform import Placeholder


@dataclass(frozen=True, slots=True)
class StandIn:
    """The picture that a placeholder is made of: no side over `side`, with the transparency that
    `format` has.
    """

    side: int
    format: Format


# Seven cosine terms are told apart at 64 pixels as at 100, in a third of the time.
STAND_INS: Final = {
    Placeholder.THUMBHASH: StandIn(64, Format.PNG),
    Placeholder.BLURHASH: StandIn(32, Format.JPEG),
    Placeholder.PREVIEW: StandIn(32, Format.WEBP),
}
# What 32 pixels look like across a screen is not the encoder's fault.
PREVIEW_QUALITY: Final = 30


def placeholder(image: Image.Image, kind: Placeholder, size: Size) -> bytes:
    """The document of an image in L, LA, RGB or RGBA, as large as STAND_INS[kind] says, that
    stands for one of `size`.
    """
    width, height = size
    document = {"width": width, "height": height, kind.value: _TEXTS[kind](image)}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _thumbhash(image: Image.Image) -> str:
    rgba = image.convert("RGBA").tobytes()
    return base64.b64encode(thumbhash.encode(*image.size, rgba)).decode("ascii")


def _blurhash(image: Image.Image) -> str:
    return blurhash.encode(*image.size, image.convert("RGB").tobytes())


def _preview(image: Image.Image) -> str:
    file = io.BytesIO()
    # The encoder also reads what a decoder left behind in here.
    image.info.clear()
    image.save(file, "WEBP", quality=PREVIEW_QUALITY, method=4, exif=b"", icc_profile=None, xmp=b"")
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


_TEXTS: Final = {
    Placeholder.THUMBHASH: _thumbhash,
    Placeholder.BLURHASH: _blurhash,
    Placeholder.PREVIEW: _preview,
}
