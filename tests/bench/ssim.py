"""Structural similarity of two pictures: Wang, Bovik, Sheikh and Simoncelli 2004, IEEE TIP 13(4).

Mean SSIM of luma over an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, only where the
window lies inside the picture. No downscaling beforehand: what is compared are thumbnails, seen at
their own size. Done in floats with Pillow alone, the window in two passes.
"""

import math
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageMath

RADIUS = 5
SIGMA = 1.5
PEAK = 255.0
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2
LEAST_SIDE = 2 * RADIUS + 1


def _weights() -> list[float]:
    """Of the window's middle row, the middle first; the whole row sums to 1."""
    raw = [math.exp(-(d * d) / (2 * SIGMA * SIGMA)) for d in range(RADIUS + 1)]
    whole = raw[0] + 2 * sum(raw[1:])
    return [weight / whole for weight in raw]


WEIGHTS = _weights()


def luma(image: Image.Image) -> Image.Image:
    """The picture in floats of ITU-R 601 luma; transparency on white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB").convert("L").convert("F")


def ssim(one: Image.Image, other: Image.Image) -> float:
    """1 for equal pictures. Raises ValueError for unequal or too small sizes."""
    if one.size != other.size or min(one.size) < LEAST_SIDE:
        raise ValueError(f"{one.size} and {other.size} cannot be compared")
    x, y = luma(one), luma(other)
    mean_x, mean_y = _window(x), _window(y)
    square_x = _window(_eval(lambda a: a["x"] * a["x"], x=x))
    square_y = _window(_eval(lambda a: a["y"] * a["y"], y=y))
    product = _window(_eval(lambda a: a["x"] * a["y"], x=x, y=y))
    values = _eval(
        lambda a: (
            ((a["mx"] * a["my"] * 2 + C1) * ((a["xy"] - a["mx"] * a["my"]) * 2 + C2))
            / (
                (a["mx"] * a["mx"] + a["my"] * a["my"] + C1)
                * (a["xx"] - a["mx"] * a["mx"] + a["yy"] - a["my"] * a["my"] + C2)
            )
        ),
        mx=mean_x,
        my=mean_y,
        xx=square_x,
        yy=square_y,
        xy=product,
    )
    return _mean(values)


def _window(image: Image.Image) -> Image.Image:
    return _blur(_blur(image, (1, 0)), (0, 1))


def _blur(image: Image.Image, step: tuple[int, int]) -> Image.Image:
    """Weighted sum of shifted copies along one direction, smaller by the window's overhang."""
    width = image.width - 2 * RADIUS * step[0]
    height = image.height - 2 * RADIUS * step[1]

    def shifted(by: int) -> Image.Image:
        left, top = by * step[0], by * step[1]
        return image.crop((left, top, left + width, top + height))

    total = _eval(lambda a: a["m"] * WEIGHTS[0], m=shifted(RADIUS))
    for distance in range(1, RADIUS + 1):
        total = _eval(
            lambda a, weight=WEIGHTS[distance]: a["t"] + (a["l"] + a["r"]) * weight,
            t=total,
            l=shifted(RADIUS - distance),
            r=shifted(RADIUS + distance),
        )
    return total


def _mean(image: Image.Image) -> float:
    pixels = image.get_flattened_data()
    return math.fsum(pixels) / len(pixels)


def _eval(expression: Callable[[dict[str, Any]], Any], **images: Image.Image) -> Image.Image:
    made: Image.Image = ImageMath.lambda_eval(expression, **images)
    return made
