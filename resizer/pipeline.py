"""From decoded pixels to the picture that is encoded: ordered steps over one image.

Order: a mode that can be resampled, the crop that draws the eye, crop and resize in one pass, turn,
sRGB, transparency, colours, blur or sharpening, bars, watermark, corners, odd angles. Everything
after the resize works on few pixels: an ICC transform costs 1 ms at 320x213 and 97 ms at six
megapixels.
"""

from typing import Final

from PIL import Image

from resizer import attention, effects
from resizer.colour import flatten, to_resamplable, to_srgb
from resizer.formats import Format
from resizer.geometry import Box, Plan
from resizer.orientation import Orientation
from resizer.sharpness import sharpen_reduced
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
    if transform.crisp:
        image = sharpen_reduced(image, _reduction(plan))
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


def _reduction(plan: Plan) -> float:
    """What the sides are scaled by."""
    shown = plan.window or (plan.box[2] - plan.box[0], plan.box[3] - plan.box[1])
    return sum(plan.inner) / sum(shown)


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


def resample(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """The box of the image at the given size."""
    whole: Box = (0, 0, *image.size)
    if size == image.size and box == whole:
        return image.copy()  # the steps after this one may write to it
    fine = size[0] * size[1] <= FINE_PIXELS
    filter_, gap = FINE if fine else COARSE
    return image.resize(size, filter_, box=box, reducing_gap=gap)


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
