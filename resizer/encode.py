"""From a picture to the bytes of a derivative: one table of settings, nothing but pixels written.

EXIF, XMP, ICC profiles and comments never leave: pixels are sRGB and upright by now, and the rest
is the photographer's private life; only an EXIF of our own that names the author may be given. A
change in the table is a change of SETTINGS_REVISION.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from resizer.animation import Frame
from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.geometry import Size
from resizer.transform import MAX_SIDE

# Up to here a picture is small: a second pass over it costs less than the bytes it saves.
SMALL_PIXELS: Final = 160_000

# For the sake of a request's max_bytes. Below 10 a JPEG shows its blocks and little else.
LEAST_QUALITY: Final = 10
MAX_ATTEMPTS: Final = 4

# The colours of a moving GIF are those of so many of its frames, each seen at so many pixels.
SAMPLES: Final = 8
SAMPLE_SIDE: Final = 100
TRANSPARENT_INDEX: Final = 255


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

_UNTAGGED: Final[dict[str, object]] = {"icc_profile": None}


def check_size(size: Size, output: Format) -> None:
    """Raises ImpossibleTransform when the format, or its encoder here, does not go so far."""
    setting = SETTINGS[output]
    if max(size) > setting.max_side:
        raise ImpossibleTransform(f"{output} ends at {setting.max_side} a side, not {size}")
    if size[0] * size[1] > setting.max_pixels:
        raise ImpossibleTransform(f"{output} ends at {setting.max_pixels} pixels, not {size}")


def encode(
    image: Image.Image,
    output: Format,
    quality: int | None,
    limit_bytes: int,
    *,
    max_bytes: int | None = None,
    progressive: bool = False,
    exif: bytes = b"",
) -> bytes:
    """The file of an image in mode L, LA, RGB or RGBA; quality None is the format's default.

    limit_bytes is the node's, max_bytes the request's: for its sake quality is lowered. progressive
    has a meaning for JPEG only, and GIF has no place for the EXIF. The size has passed
    check_size(). Raises ImpossibleTransform when the encoder gives up or the file is too heavy.
    """
    options = _options(output, image.width * image.height, exif)
    if output is Format.JPEG and progressive:
        options["progressive"] = True
    if output is Format.GIF:
        image, transparent = _indexed(image)
        options |= {} if transparent is None else {"transparency": transparent}
    # The encoders also read what a decoder or a conversion left behind in here.
    image.info.clear()
    return _within(
        lambda more: _save(image, output, {**options, **more}),
        output,
        quality,
        limit_bytes,
        max_bytes,
    )


def encode_moving(
    frames: Sequence[Frame],
    plays: int,
    output: Format,
    quality: int | None,
    limit_bytes: int,
    *,
    max_bytes: int | None = None,
    exif: bytes = b"",
) -> bytes:
    """The file of frames of one size, in the modes of encode(), for a format of MOVING.

    plays: how often, 0 for without end; AVIF as Pillow writes it has no place for that. Raises as
    encode() does.
    """
    images = _of_one_mode([frame.image for frame in frames])
    options = _options(output, images[0].width * images[0].height, exif)
    options["duration"] = [frame.duration_ms for frame in frames]
    if output is Format.GIF:
        images, transparent = _indexed_alike(images)
        options |= {} if plays == 1 else {"loop": max(0, plays - 1)}
        # What was transparent must be cleared, or the last frame is seen through this one.
        options |= {} if transparent is None else {"transparency": transparent, "disposal": 2}
    elif output is Format.WEBP:
        options["loop"] = plays
    for image in images:
        image.info.clear()
    options |= {"save_all": True, "append_images": images[1:]}
    return _within(
        lambda more: _save(images[0], output, {**options, **more}),
        output,
        quality,
        limit_bytes,
        max_bytes,
    )


def _options(output: Format, pixels: int, exif: bytes) -> dict[str, object]:
    setting = SETTINGS[output]
    by_size = setting.small if pixels <= SMALL_PIXELS else setting.large
    return {**_UNTAGGED, **setting.always, **by_size, "exif": exif}


def _save(image: Image.Image, output: Format, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, output.name, **options)
    # What the encoders raise when they are refused memory, besides MemoryError.
    except (OSError, ValueError, RuntimeError) as error:
        raise ImpossibleTransform(f"{output} encoder at {image.size}: {error}") from error
    return file.getvalue()


def _within(
    attempt: Callable[[dict[str, object]], bytes],
    output: Format,
    quality: int | None,
    limit_bytes: int,
    max_bytes: int | None,
) -> bytes:
    """The file of the best quality that fits, in MAX_ATTEMPTS at most: as asked, then by halves
    between that and LEAST_QUALITY, which is tried last where nothing has fitted.
    """
    most = limit_bytes if max_bytes is None else min(limit_bytes, max_bytes)
    usual = SETTINGS[output].quality
    if usual is None:
        return _checked(attempt({}), output, most)
    high = usual if quality is None else quality
    file = attempt({"quality": high})
    if len(file) <= most or max_bytes is None or high <= LEAST_QUALITY:
        return _checked(file, output, most)
    low, fitting = LEAST_QUALITY, None
    for number in range(2, MAX_ATTEMPTS + 1):
        is_last = number == MAX_ATTEMPTS
        middle = LEAST_QUALITY if is_last and fitting is None else (low + high) // 2
        file = attempt({"quality": middle})
        if len(file) <= most:
            low, fitting = middle, file
        else:
            high = middle
    return _checked(fitting or file, output, most)


def _checked(file: bytes, output: Format, most: int) -> bytes:
    if len(file) > most:
        raise ImpossibleTransform(f"{len(file)} bytes of {output} are over {most}")
    return file


def _indexed(image: Image.Image) -> tuple[Image.Image, int | None]:
    """The image in 256 colours, and the index of the transparent one.

    An octree, because a median cut takes 64 ms where this takes 1; dithered against bands.
    """
    colours = image.convert("RGB")
    palette = colours.quantize(_room(image), Image.Quantize.FASTOCTREE)
    indexed = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return indexed, _cut_alpha(image, indexed)


def _indexed_alike(images: Sequence[Image.Image]) -> tuple[list[Image.Image], int | None]:
    """The images in the same 256 colours, those of SAMPLES of them, not dithered.

    Dots that dance from frame to frame are seen where those of a picture that stands still are not,
    and what stands still inside a frame is not written again.
    """
    step = -(-len(images) // SAMPLES)
    chosen = [each.convert("RGB") for each in images[::step]]
    side = min(images[0].width, SAMPLE_SIDE), min(images[0].height, SAMPLE_SIDE)
    sheet = Image.new("RGB", (side[0], side[1] * len(chosen)))
    for number, each in enumerate(chosen):
        sheet.paste(each.resize(side, Image.Resampling.NEAREST), (0, number * side[1]))
    palette = sheet.quantize(_room(images[0]), Image.Quantize.FASTOCTREE)
    indexed = [
        each.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for each in images
    ]
    transparent = None
    for image, each in zip(images, indexed, strict=True):
        transparent = _cut_alpha(image, each)
    return indexed, transparent


def _room(image: Image.Image) -> int:
    return 256 if image.mode in ("L", "RGB") else TRANSPARENT_INDEX


def _cut_alpha(image: Image.Image, indexed: Image.Image) -> int | None:
    """GIF knows no half transparency, so alpha is cut at its middle."""
    if image.mode in ("L", "RGB"):
        return None
    alpha = image.getchannel("A")
    indexed.paste(TRANSPARENT_INDEX, mask=alpha.point(lambda value: 255 if value < 128 else 0))
    return TRANSPARENT_INDEX


def _of_one_mode(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames may differ in having transparency and colours; an encoder wants them alike."""
    mode = "RGBA" if any(image.mode in ("LA", "RGBA") for image in images) else "RGB"
    return [image if image.mode == mode else image.convert(mode) for image in images]
