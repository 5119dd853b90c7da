"""BlurHash: a picture in a short text (Wolt, https://github.com/woltapp/blurhash, Algorithm.md).

The lowest cosine terms of linear light, in digits of base 83: one for the number of terms, one for
the range, four for the mean colour, two for each other term.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Final

# Along the longer and the shorter side.
TERMS: Final = (4, 3)

_DIGITS: Final = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
)
_LINEAR: Final = [
    value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4
    for value in range(256)
]

Light = tuple[float, float, float]


def encode(width: int, height: int, rgb: bytes) -> str:
    """The hash of an opaque picture, 3 bytes a pixel."""
    assert len(rgb) == 3 * width * height > 0, "three bytes a pixel"
    across, along = TERMS if width >= height else TERMS[::-1]
    bands = [_terms(rgb[band::3], (width, height), (across, along)) for band in range(3)]
    mean, *others = zip(*bands, strict=True)
    reach = max(abs(value) for term in others for value in term)
    steps = max(0, min(82, math.floor(reach * 166 - 0.5)))
    return "".join(
        (
            _digits(across - 1 + (along - 1) * 9, 1),
            _digits(steps, 1),
            _digits(_colour(mean), 4),
            *(_digits(_term(term, (steps + 1) / 166), 2) for term in others),
        )
    )


def _terms(band: bytes, size: tuple[int, int], terms: tuple[int, int]) -> list[float]:
    width, height = size
    light = [_LINEAR[value] for value in band]
    rows = [light[start : start + width] for start in range(0, len(light), width)]
    sums = [[sum(map(mul, row, wave)) for row in rows] for wave in _waves(width, terms[0])]
    waves = _waves(height, terms[1])
    return [
        sum(map(mul, sums[x], waves[y])) * (2 if x or y else 1) / len(light)
        for y in range(terms[1])
        for x in range(terms[0])
    ]


def _waves(length: int, count: int) -> list[list[float]]:
    return [
        [math.cos(math.pi * number * place / length) for place in range(length)]
        for number in range(count)
    ]


def _colour(mean: Sequence[float]) -> int:
    red, green, blue = map(_srgb, mean)
    return red << 16 | green << 8 | blue


def _srgb(light: float) -> int:
    light = max(0.0, min(1.0, light))
    curve = light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return int(curve * 255 + 0.5)


def _term(term: Sequence[float], reach: float) -> int:
    red, green, blue = (
        max(0, min(18, math.floor(math.copysign(abs(value / reach) ** 0.5, value) * 9 + 9.5)))
        for value in term
    )
    return (red * 19 + green) * 19 + blue


def _digits(value: int, count: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(count)))
