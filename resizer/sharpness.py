"""Sharpness that a reduction takes, given back: Wikimedia's rule for thumbnails.

A picture that is made smaller than REDUCED of its source gets ImageMagick's `-sharpen 0x0.8`, as
Wikimedia's thumbnails do. Only brightness is sharpened: the eye looks for edges there, colours get
no fringes, and one channel costs a third of three.
"""

import math
from typing import Final

from PIL import Image, ImageFilter

# Wikimedia: (width + height) of the thumbnail over (width + height) of the source.
REDUCED: Final = 0.85
SIGMA: Final = 0.8


def _kernel(sigma: float) -> ImageFilter.Kernel:
    """ImageMagick's: a Gaussian taken off twice its sum, at radius 1 (beyond it 4 % are left)."""
    weights = [
        math.exp(-(x * x + y * y) / (2 * sigma * sigma)) for y in (-1, 0, 1) for x in (-1, 0, 1)
    ]
    total = sum(weights)
    taken = [-weight for weight in weights]
    taken[4] = 2 * total
    return ImageFilter.Kernel((3, 3), taken, sum(taken))


_KERNEL: Final = _kernel(SIGMA)


def sharpen_reduced(image: Image.Image, ratio: float) -> Image.Image:
    """The image, in mode L, LA, RGB or RGBA, sharpened where ratio is below REDUCED.

    ratio: what the sides have been scaled by. Transparency stays as it is.
    """
    if ratio >= REDUCED:
        return image
    match image.mode:
        case "L":
            return image.filter(_KERNEL)
        case "RGB":
            light, blue, red = image.convert("YCbCr").split()
            return Image.merge("YCbCr", (light.filter(_KERNEL), blue, red)).convert("RGB")
        case _:
            sharper = sharpen_reduced(image.convert(image.mode.removesuffix("A")), ratio)
            sharper.putalpha(image.getchannel("A"))
            return sharper
