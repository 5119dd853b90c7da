"""From decoded pixels to the picture that is encoded: ordered steps over one image.

Order: a mode that can be resampled, the crop that draws the eye, crop and resize in one pass, turn,
sRGB, transparency, colours, blur or sharpening, bars, watermark, corners, odd angles. Everything
after the resize works on few pixels: an ICC transform costs 1 ms at 320x213 and 97 ms at six
megapixels.
"""

import hashlib
import io
from collections import OrderedDict
from typing import Final

from PIL import Image, ImageCms

from resizer import attention, effects
from resizer.formats import Format
from resizer.geometry import Box, Plan
from resizer.orientation import Orientation
from resizer.stamp import stamp
from resizer.transform import Fill, Transform

# Lanczos up to this many output pixels, bicubic above, both after a box reduction that leaves the
# factor of the gap. Measured on 12 megapixel JPEGs, against a full Lanczos resampling: at 220 px
# Lanczos costs 1.8 ms, bicubic 1.2, of 13 in all, and is 5.5 dB nearer; at 1280 px it costs 31 ms
# against 22, of 40, and is 1.2 dB nearer.
FINE_PIXELS: Final = 300_000
FINE: Final = (Image.Resampling.LANCZOS, 2.0)
COARSE: Final = (Image.Resampling.BICUBIC, 1.5)

# Formats whose encoder takes a channel of transparency. GIF's own threshold is in encode.py.
_TRANSPARENT: Final = frozenset({Format.PNG, Format.WEBP, Format.AVIF, Format.GIF})

_TURNS: Final = {
    Orientation.MIRROR: Image.Transpose.FLIP_LEFT_RIGHT,
    Orientation.HALF_TURN: Image.Transpose.ROTATE_180,
    Orientation.FLIP: Image.Transpose.FLIP_TOP_BOTTOM,
    Orientation.TRANSPOSE: Image.Transpose.TRANSPOSE,
    Orientation.TURN_RIGHT: Image.Transpose.ROTATE_270,
    Orientation.TRANSVERSE: Image.Transpose.TRANSVERSE,
    Orientation.TURN_LEFT: Image.Transpose.ROTATE_90,
}


def render(
    pixels: Image.Image,
    box: Box,
    plan: Plan,
    *,
    orientation: Orientation,
    profile: bytes | None,
    transform: Transform,
    output: Format,
    mark: Image.Image | None = None,
) -> Image.Image:
    """The sRGB picture of plan.output, in mode L, LA, RGB or RGBA.

    box is plan.box among the pixels as they are stored, orientation all that turns them: the
    file's, then the transform's. Transparency stays only where the output format has it. mark is
    the picture of the transform's watermark. Raises ImpossibleTransform without it.
    """
    image = to_resamplable(pixels, profile)
    if plan.window is not None:
        box = aim(image, box, plan, orientation)
    image = resample(image, box, orientation.turn(plan.inner))
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    image = to_srgb(image, profile)
    is_kept = output in _TRANSPARENT and not transform.flatten
    image = flatten(image, transform.background, keep=is_kept)
    image = effects.focused(effects.coloured(image, transform), transform)
    if plan.has_bars:
        image = with_bars(image, plan, transform)
    image = stamp(image, mark, transform)
    if not transform.corners and plan.tilted is None and transform.fill is not Fill.CLEAR:
        return image
    if transform.corners:
        image = effects.rounded(image, transform.corners)
    if plan.tilted is not None:
        image = effects.tilted(image, transform.tilt, plan.tilted)
    return flatten(image, transform.background, keep=is_kept)


def aim(image: Image.Image, box: Box, plan: Plan, orientation: Orientation) -> Box:
    """The part of a box with a window that is to be scaled to plan.inner.

    For all pictures of an animation it is to be asked once, since a crop must not jump about; they
    are then rendered by a plan without its window.
    """
    assert plan.window is not None, "only a window is aimed"
    width, height = plan.box[2] - plan.box[0], plan.box[3] - plan.box[1]
    share = (plan.window[0] / width, plan.window[1] / height)
    if orientation.swaps_sides:
        share = (share[1], share[0])
    window = ((box[2] - box[0]) * share[0], (box[3] - box[1]) * share[1])
    found = attention.crop(image, box, window)
    if not plan.keeps_pixels:
        return found
    size = orientation.turn(plan.inner)
    left, top = round(found[0]), round(found[1])
    return (left, top, left + size[0], top + size[1])


def to_resamplable(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in L, LA, RGB, RGBA, or in CMYK where a profile will convert it later."""
    match image.mode:
        case "L" | "RGB":
            if not image.has_transparency_data:
                return image
            return image.convert("LA" if image.mode == "L" else "RGBA")
        case "LA" | "RGBA":
            return image
        case "1":
            return image.convert("L")
        case "CMYK" if profile is not None:
            return image
        case "I" | "I;16" | "I;16B" | "I;16L":
            # convert() clips 16 bits at 255 where scaling is meant; 65535 / 257 is 255.
            return image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        case _:
            return image.convert("RGBA" if image.has_transparency_data else "RGB")


def resample(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """The box of the image at the given size."""
    whole: Box = (0, 0, *image.size)
    if size == image.size and box == whole:
        return image.copy()  # the steps after this one may write to it
    fine = size[0] * size[1] <= FINE_PIXELS
    filter_, gap = FINE if fine else COARSE
    return image.resize(size, filter_, box=box, reducing_gap=gap)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in L, LA, RGB or RGBA with the meaning that sRGB gives to its numbers.

    A profile that is broken or of another colour space than the pixels is ignored, as browsers do.
    """
    if profile is not None:
        colours = _transform_of(profile, image.mode.removesuffix("A"))
        if colours is not None:
            return _apply(colours, image)
    return image.convert("RGB") if image.mode == "CMYK" else image


def flatten(image: Image.Image, background: str, *, keep: bool) -> Image.Image:
    """The image without its transparency: where nothing is transparent, or when not to be kept."""
    if image.mode not in ("LA", "RGBA"):
        return image
    alpha = image.getchannel("A")
    opaque = image.convert(image.mode.removesuffix("A"))
    if alpha.getextrema() == (255, 255):
        return opaque
    if keep:
        return image
    ground = Image.new("RGB", image.size, f"#{background}")
    ground.paste(opaque.convert("RGB"), mask=alpha)
    return ground


def with_bars(image: Image.Image, plan: Plan, transform: Transform) -> Image.Image:
    """The image on a canvas of its fill; what is transparent inside it stays so."""
    has_alpha = image.mode in ("LA", "RGBA") or transform.fill is Fill.CLEAR
    image = image.convert("RGBA" if has_alpha else "RGB")
    if transform.fill is Fill.BLUR:
        canvas = effects.out_of_focus(image, plan.canvas)
    else:
        alpha = "00" if transform.fill is Fill.CLEAR else ""
        canvas = Image.new(image.mode, plan.canvas, f"#{transform.background}{alpha}")
    canvas.paste(image, plan.offset)
    return canvas


# --- ICC -----------------------------------------------------------------------------------------

_SRGB: Final = ImageCms.createProfile("sRGB")
_SPACES: Final = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}

# Building a transform costs 4 ms and a farm sees few profiles. None: leave the numbers alone.
MAX_TRANSFORMS: Final = 64
transforms: OrderedDict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = OrderedDict()


def _transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    key = (hashlib.blake2b(profile, digest_size=16).digest(), mode)
    if key in transforms:
        transforms.move_to_end(key)
        return transforms[key]
    if len(transforms) >= MAX_TRANSFORMS:
        transforms.popitem(last=False)
    transforms[key] = _build(profile, mode)
    return transforms[key]


def _build(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        colours = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    # A damaged profile; the picture may still be good.
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return None if _changes_nothing(colours, mode) else colours


def _changes_nothing(colours: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the profile is sRGB, whatever it calls itself: there are dozens of spellings."""
    if mode != "RGB":
        return False
    steps = range(0, 256, 51)
    raw = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    probe = Image.frombytes("RGB", (len(raw) // 3, 1), raw)
    seen = _apply(colours, probe).tobytes()
    return max(abs(a - b) for a, b in zip(raw, seen, strict=True)) <= 2


def _apply(colours: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    base = image.mode.removesuffix("A")
    plain = image if alpha is None else image.convert(base)
    converted = colours.apply(plain)
    if base == "L":
        # Grey stays grey through any profile of grey; one channel weighs less.
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
