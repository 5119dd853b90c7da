"""Effects: what changes the colours or the outline of a finished picture, not its place.

Pictures are in L, LA, RGB or RGBA and sRGB. Transparency is never recoloured, and colours that
nobody sees never bleed into those that are seen. Each function answers a picture of its own and
leaves the one it was given as it is.
"""

import math
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageChops, ImageFilter

from resizer.geometry import Size
from resizer.transform import FULL_TURN, Tone, Transform

# A corner has this many rows for each of the picture's.
CORNER_SAMPLES: Final = 4

# Unsharp mask of this radius: what a resize to a screen's pixels loses is within one pixel.
SHARPEN_RADIUS: Final = 1.0

# The ground of a letterbox is blurred at this size, by this share of its longer side.
GROUND_SIDE: Final = 96
GROUND_BLUR: Final = 0.04

_MIDDLE: Final = 128
_BITONAL: Final = [0] * _MIDDLE + [255] * (256 - _MIDDLE)


def coloured(image: Image.Image, transform: Transform) -> Image.Image:
    """Brightness, contrast, saturation, tone, in that order."""
    if transform.brightness or transform.contrast:
        table = _levels(transform.brightness, transform.contrast)
        image = _opaquely(image, lambda plain: plain.point(table * len(plain.getbands())))
    if transform.saturation:
        factor = 1 + transform.saturation / 100
        image = _opaquely(image, lambda plain: _saturated(plain, factor))
    match transform.tone:
        case Tone.COLOUR:
            return image
        case Tone.GREY:
            return _opaquely(image, lambda plain: plain.convert("L"))
        case Tone.BITONAL:
            return _opaquely(image, lambda plain: plain.convert("L").point(_BITONAL))


def focused(image: Image.Image, transform: Transform) -> Image.Image:
    """Blurred or sharpened."""
    if transform.blur:
        blurred = _premultiplied(image).filter(ImageFilter.GaussianBlur(transform.blur / 10))
        return blurred.convert(image.mode)
    if transform.sharpen:
        mask = ImageFilter.UnsharpMask(SHARPEN_RADIUS, transform.sharpen, threshold=0)
        return _opaquely(image, lambda plain: plain.filter(mask))
    return image


def rounded(image: Image.Image, radius: int) -> Image.Image:
    """The picture with transparent corners; a radius over half a side is half a side."""
    radius = min(radius, image.width // 2, image.height // 2)
    if radius == 0:
        return image
    corner = _corner(radius)
    mask = Image.new("L", image.size, 255)
    for right, bottom in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if right else corner
        part = part.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if bottom else part
        at = (right * (image.width - radius), bottom * (image.height - radius))
        mask.paste(part, at)
    if _has_alpha(image):
        mask = ImageChops.multiply(mask, image.getchannel("A"))
    shaped = image.copy()
    shaped.putalpha(mask)
    return shaped


def _corner(radius: int) -> Image.Image:
    """The upper left quarter of a disc. Across, a row ends between two pixels exactly; down, it is
    averaged over a few samples. (ImageDraw would need all of it at four times the size, and costs
    every worker 8 ms to import.)
    """
    rows = []
    for sample in range(radius * CORNER_SAMPLES):
        below = radius - (sample + 0.5) / CORNER_SAMPLES
        outside = radius - math.sqrt(radius * radius - below * below)
        whole = int(outside)
        edge = round(255 * (1 - outside + whole))
        rows.append(bytes(whole) + bytes((edge,)) + b"\xff" * (radius - whole - 1))
    drawn = Image.frombytes("L", (radius, radius * CORNER_SAMPLES), b"".join(rows))
    return drawn.reduce((1, CORNER_SAMPLES))


def tilted(image: Image.Image, tilt: int, size: Size) -> Image.Image:
    """The picture turned clockwise about its middle, on a transparent canvas of `size`."""
    # A frame of one transparent pixel: without it the outline would have steps, because only
    # between two pixels of the picture is anything interpolated.
    framed = Image.new("RGBA", (image.width + 2, image.height + 2))
    framed.paste(image.convert("RGBA"), (1, 1))
    angle = math.radians(tilt * 360 / FULL_TURN)
    across, along = math.cos(angle), math.sin(angle)
    x, y = size[0] / 2, size[1] / 2
    # Where the pixel of a place in the output comes from.
    where = (
        *(across, along, framed.width / 2 - across * x - along * y),
        *(-along, across, framed.height / 2 + along * x - across * y),
    )
    return framed.transform(
        size, Image.Transform.AFFINE, where, Image.Resampling.BICUBIC, fillcolor=(0, 0, 0, 0)
    )


def out_of_focus(image: Image.Image, size: Size) -> Image.Image:
    """A ground for a letterbox: the picture covering `size`, blurred beyond recognition."""
    # Nothing finer survives, so it is blurred small and drawn large.
    scale = min(1.0, GROUND_SIDE / max(size))
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    if size[0] * image.height >= size[1] * image.width:
        kept: tuple[float, float] = (image.width, size[1] * image.width / size[0])
    else:
        kept = (size[0] * image.height / size[1], image.height)
    left, top = (image.width - kept[0]) / 2, (image.height - kept[1]) / 2
    box = (left, top, min(image.width, left + kept[0]), min(image.height, top + kept[1]))
    ground = image.resize(small, Image.Resampling.BOX, box=box)
    ground = _premultiplied(ground).filter(ImageFilter.GaussianBlur(GROUND_BLUR * max(small)))
    return ground.convert(image.mode).resize(size, Image.Resampling.BICUBIC)


def _levels(brightness: int, contrast: int) -> list[int]:
    light, spread = 1 + brightness / 100, 1 + contrast / 100
    # About the middle of the scale, not the picture's mean: the same for every part of a picture.
    return [
        min(255, max(0, round((value * light - _MIDDLE) * spread + _MIDDLE)))
        for value in range(256)
    ]


def _saturated(plain: Image.Image, factor: float) -> Image.Image:
    if plain.mode == "L":
        return plain
    return Image.blend(plain.convert("L").convert("RGB"), plain, factor)


def _opaquely(image: Image.Image, step: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The step done to the colours alone."""
    if not _has_alpha(image):
        return step(image)
    done = step(image.convert(image.mode.removesuffix("A")))
    done.putalpha(image.getchannel("A"))
    return done


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA")


def _premultiplied(image: Image.Image) -> Image.Image:
    return image.convert({"LA": "La", "RGBA": "RGBa"}.get(image.mode, image.mode))
