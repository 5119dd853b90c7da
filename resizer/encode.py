"""From a picture to the bytes of a derivative: one table of settings, nothing but pixels written.

EXIF, XMP, ICC profiles and comments never leave: pixels are sRGB and upright by now, and the rest
is the photographer's private life. A change in the table is a change of SETTINGS_REVISION.
"""

import io
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.geometry import Size
from resizer.transform import MAX_SIDE

# Up to here a picture is small: a second pass over it costs less than the bytes it saves.
SMALL_PIXELS: Final = 160_000


@dataclass(frozen=True, slots=True)
class Setting:
    """How one format is written. `always` goes to the encoder, and `small` or `large` by size."""

    max_side: int  # the format's own, or its encoder's
    quality: int | None
    max_pixels: int = MAX_SIDE * MAX_SIDE
    always: dict[str, object] = field(default_factory=dict)
    small: dict[str, object] = field(default_factory=dict)
    large: dict[str, object] = field(default_factory=dict)


# CPU measured on a photograph at 220x137, 400x250 and 1280x800.
SETTINGS: Final[dict[Format, Setting]] = {
    # 0.1, 0.2 and 2.0 ms. optimize doubles that and saves 6, 3 and 1 % of the bytes. Progressive
    # takes 11 ms at 1280 and saves 3 %: a fifth more CPU for a render, so baseline everywhere.
    Format.JPEG: Setting(
        max_side=65_500,
        quality=80,
        always={"subsampling": "4:2:0", "comment": b""},
        small={"optimize": True},
    ),
    # Level 4 against 1: 3.1 for 2.4 ms, 102 for 57 ms, and 8 % fewer bytes.
    Format.PNG: Setting(
        max_side=65_535, quality=None, small={"compress_level": 4}, large={"compress_level": 1}
    ),
    # Method 4 against 2: twice the time for 3 % fewer bytes.
    Format.WEBP: Setting(max_side=16_383, quality=80, always={"method": 2, "xmp": b""}),
    # Speed 8 against 9: four times the time for 4 to 9 % fewer bytes. More threads need clone().
    Format.AVIF: Setting(
        max_side=65_535,
        quality=60,
        # aom takes some 40 bytes a pixel, and where a worker's memory limit refuses them it may
        # follow a null pointer. At 4000x3000 it has room under any max_pixels.
        max_pixels=12_000_000,
        always={"speed": 9, "max_threads": 1, "xmp": b""},
    ),
    Format.GIF: Setting(max_side=65_535, quality=None, always={"comment": b""}),
}

_UNTAGGED: Final[dict[str, object]] = {"exif": b"", "icc_profile": None}


def check_size(size: Size, output: Format) -> None:
    """Raises ImpossibleTransform when the format, or its encoder here, does not go so far."""
    setting = SETTINGS[output]
    if max(size) > setting.max_side:
        raise ImpossibleTransform(f"{output} ends at {setting.max_side} a side, not {size}")
    if size[0] * size[1] > setting.max_pixels:
        raise ImpossibleTransform(f"{output} ends at {setting.max_pixels} pixels, not {size}")


def encode(image: Image.Image, output: Format, quality: int | None, max_bytes: int) -> bytes:
    """The file of an image in mode L, LA, RGB or RGBA; quality None is the format's default.

    The size has passed check_size(). Raises ImpossibleTransform when the encoder gives up, or the
    file is over max_bytes.
    """
    setting = SETTINGS[output]
    is_small = image.width * image.height <= SMALL_PIXELS
    options = {**setting.always, **(setting.small if is_small else setting.large)}
    if setting.quality is not None:
        options["quality"] = quality or setting.quality
    file = io.BytesIO()
    try:
        if output is Format.GIF:
            image, transparent = _indexed(image)
            options |= {} if transparent is None else {"transparency": transparent}
        # The encoders also read what a decoder or a conversion left behind in here.
        image.info.clear()
        image.save(file, output.name, **_UNTAGGED, **options)
    # What the encoders raise when they are refused memory, besides MemoryError.
    except (OSError, ValueError, RuntimeError) as error:
        raise ImpossibleTransform(f"{output} encoder at {image.size}: {error}") from error
    if file.tell() > max_bytes:
        raise ImpossibleTransform(f"{file.tell()} bytes of {output} are over {max_bytes}")
    return file.getvalue()


def _indexed(image: Image.Image) -> tuple[Image.Image, int | None]:
    """The image in 256 colours, and the index of the transparent one.

    An octree, because a median cut takes 64 ms where this takes 1; dithered against bands. GIF
    knows no half transparency, so alpha is cut at its middle.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert("RGB")
    room = 256 if alpha is None else 255
    palette = colours.quantize(room, Image.Quantize.FASTOCTREE)
    indexed = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if alpha is None:
        return indexed, None
    indexed.paste(255, mask=alpha.point(lambda value: 255 if value < 128 else 0))
    return indexed, 255
