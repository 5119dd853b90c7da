"""How like its original an output is, and whether a contestant needs more bytes for it.

The reference is decoded whole and resampled once, by Lanczos, at the output's own size.
"""

import io
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean

from PIL import Image

from tests.bench.render_measure import Output
from tests.bench.ssim import ssim

POINTS = 50  # of the common range, where two curves are compared

# bytes and SSIM of the same picture at several qualities
Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Likeness:
    """One output, compared."""

    case: str
    contestant: str
    original: str
    width: int
    quality: int
    bytes: int
    ssim: float


def compare(outputs: Iterable[Output], file_of: Callable[[str], str]) -> list[Likeness]:
    """In order of originals, so that few references are held."""
    found = []
    for output in sorted(outputs, key=lambda output: (output.original, output.asked.width)):
        with Image.open(io.BytesIO(output.body)) as image:
            image.load()
            value = ssim(image, _reference(file_of(output.original), image.size))
        asked = output.asked
        found.append(
            Likeness(
                output.case,
                output.contestant,
                output.original,
                asked.width,
                asked.effective_quality,
                len(output.body),
                value,
            )
        )
    return found


def mean_of(rows: Iterable[Likeness], case: str, contestant: str) -> tuple[float, float] | None:
    """Mean bytes and mean SSIM; None where there is no output."""
    mine = [row for row in rows if (row.case, row.contestant) == (case, contestant)]
    if not mine:
        return None
    return mean(row.bytes for row in mine), mean(row.ssim for row in mine)


def gain_at_equal_bytes(ours: Curve, theirs: Curve) -> float | None:
    """Mean SSIM of ours above theirs, over the logarithm of bytes that both curves cover.

    Straight lines between the points. None where they have no range in common.
    """
    if len(ours) < 2 or len(theirs) < 2:
        return None
    mine, other = _by_log(ours), _by_log(theirs)
    low = max(mine[0][0], other[0][0])
    high = min(mine[-1][0], other[-1][0])
    if low >= high:
        return None
    places = [low + (high - low) * number / (POINTS - 1) for number in range(POINTS)]
    return mean(_at(mine, place) - _at(other, place) for place in places)


def mean_gain(rows: Sequence[Likeness], width: int, subject: str, peer: str) -> float | None:
    """The mean of gain_at_equal_bytes over the pictures of the curves of one width."""
    gains = []
    for original in sorted({row.original for row in rows if row.case == "curves"}):
        ours, theirs = (
            [
                (row.bytes, row.ssim)
                for row in rows
                if (row.case, row.contestant, row.original, row.width)
                == ("curves", contestant, original, width)
            ]
            for contestant in (subject, peer)
        )
        gain = gain_at_equal_bytes(ours, theirs)
        if gain is not None:
            gains.append(gain)
    return mean(gains) if gains else None


def _by_log(curve: Curve) -> list[tuple[float, float]]:
    return sorted((math.log(size), value) for size, value in curve)


def _at(curve: Sequence[tuple[float, float]], place: float) -> float:
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if place <= x1:
            share = (place - x0) / (x1 - x0) if x1 > x0 else 0.0
            return y0 + (y1 - y0) * share
    return curve[-1][1]


@lru_cache(maxsize=1)
def _decoded(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


@lru_cache(maxsize=4)
def _reference(path: str, size: tuple[int, int]) -> Image.Image:
    return _decoded(path).resize(size, Image.Resampling.LANCZOS)
