"""ThumbHash: a picture in some 25 bytes (Evan Wallace, https://evanw.github.io/thumbhash/).

The lowest cosine terms of lightness L, of the two colour axes P (yellow to blue) and Q (red to
green) and, where there is any, of alpha A; four bits each, behind the means and the ranges:

    24 bits   L mean 6, P mean 6, Q mean 6, L range 5, has alpha 1
    16 bits   terms of L along the shorter side 3, P range 6, Q range 6, is landscape 1
    (8 bits   A mean 4, A range 4)
    4 bits a term, low half first: L, P, Q, (A)
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Final

# The longest side that the format's author allows.
MAX_SIDE: Final = 100

# Terms of L along the longer side. With alpha there is less room for them.
_TERMS: Final = 7
_TERMS_BESIDE_ALPHA: Final = 5

Channel = Sequence[float]


def encode(width: int, height: int, rgba: bytes) -> bytes:
    """The hash of a picture of straight alpha, 4 bytes a pixel, no side over MAX_SIDE."""
    assert 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE, f"{width}x{height}"
    assert len(rgba) == 4 * width * height, "four bytes a pixel"
    alpha = [value / 255 for value in rgba[3::4]]
    seen = sum(alpha)
    has_alpha = seen < width * height
    bands = [_over_mean(rgba[band::4], alpha, seen) for band in range(3)]
    red, green, blue = bands

    limit = _TERMS_BESIDE_ALPHA if has_alpha else _TERMS
    longest = max(width, height)
    across, along = (max(1, _round(limit * side / longest)) for side in (width, height))
    lightness = _terms(
        [(r + g + b) / 3 for r, g, b in zip(red, green, blue, strict=True)],
        (width, height),
        (max(3, across), max(3, along)),
    )
    yellow = [(r + g) / 2 - b for r, g, b in zip(red, green, blue, strict=True)]
    warm = [r - g for r, g in zip(red, green, strict=True)]
    p, q = (_terms(channel, (width, height), (3, 3)) for channel in (yellow, warm))

    is_landscape = width > height
    head = (
        _round(63 * lightness[0])
        | _round(31.5 + 31.5 * p[0]) << 6
        | _round(31.5 + 31.5 * q[0]) << 12
        | _round(31 * lightness[1]) << 18
        | has_alpha << 23
        | (along if is_landscape else across) << 24
        | _round(63 * p[1]) << 27
        | _round(63 * q[1]) << 33
        | is_landscape << 39
    )
    written = bytearray(head.to_bytes(5, "little"))
    halves = [*lightness[2], *p[2], *q[2]]
    if has_alpha:
        a = _terms(alpha, (width, height), (5, 5))
        written.append(_round(15 * a[0]) | _round(15 * a[1]) << 4)
        halves += a[2]
    halves += [0] * (len(halves) % 2)
    written += bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))
    return bytes(written)


def _over_mean(band: bytes, alpha: Channel, seen: float) -> list[float]:
    """A colour laid over its own mean where it is transparent, from 0 to 1."""
    mean = sum(map(mul, band, alpha)) / seen if seen else 0.0
    return [(mean + (value - mean) * a) / 255 for value, a in zip(band, alpha, strict=True)]


def _terms(
    channel: Channel, size: tuple[int, int], terms: tuple[int, int]
) -> tuple[float, float, list[int]]:
    """The mean, the range of the other terms, and these in 15ths of it."""
    width, height = size
    rows = [channel[start : start + width] for start in range(0, len(channel), width)]
    # Along the rows first: what is left to sum down the columns is a number a row.
    sums = [[sum(map(mul, row, wave)) for row in rows] for wave in _waves(width, terms[0])]
    waves = _waves(height, terms[1])
    found = [
        sum(map(mul, sums[x], waves[y])) / len(channel)
        for y in range(terms[1])
        for x in range(terms[0])
        if x * terms[1] < terms[0] * (terms[1] - y)  # the corner of the low ones
    ]
    mean, *others = found
    reach = max(map(abs, others))
    if reach == 0:
        return mean, 0.0, [0] * len(others)
    return mean, reach, [_round(15 * (0.5 + 0.5 / reach * value)) for value in others]


def _waves(length: int, count: int) -> list[list[float]]:
    return [
        [math.cos(math.pi / length * number * (place + 0.5)) for place in range(length)]
        for number in range(count)
    ]


def _round(value: float) -> int:
    """Half up, as its author's language rounds."""
    return math.floor(value + 0.5)
