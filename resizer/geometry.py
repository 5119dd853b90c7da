"""Where a picture's pixels go: from a source size and a Transform to boxes and sides.

The source is upright; a plan's box and sizes are those of the picture after the transform's mirror
and right angles, which come before everything but the region. Integers in, integers out; only the
box that is read has fractions, because a crop in proportion rarely ends on a pixel.

- A missing side is in proportion, rounded half up, never 0: MediaWiki's rule, so a thumbnail of
  ours has the size that its page reserves.
- With both sides, contain keeps the side that limits and rounds the other.
- enlarge=False: no source pixel becomes more than one output pixel. Contain then answers the
  source's own size, stretch and cover the part of the box that the source reaches. A letterbox
  keeps its canvas, because bars are what it is asked for; only the picture inside stays small.
- adaptive: a box that stands is laid down for a picture that lies, and the other way round.
- exact: what would have to be enlarged is refused (IIIF Image API 3.0, section 4.2).
"""

import dataclasses
import math
from dataclasses import dataclass
from operator import eq
from typing import Final

from resizer.errors import ImpossibleTransform
from resizer.focus import PER_MILLE
from resizer.orientation import Box as Box
from resizer.orientation import Orientation
from resizer.orientation import Size as Size
from resizer.transform import FULL_SCALE, FULL_TURN, MAX_SIDE, Fit, Gravity, Transform


@dataclass(frozen=True, slots=True)
class Plan:
    """Read `box` of the picture, scale it to `inner`, lay it at `offset` on a `canvas`.

    With a window the box is what there is to choose from: a part of it, as large as the window, is
    to be found in the pixels and scaled to inner (resizer/attention.py).
    tilted is the canvas that holds the canvas turned by an angle that is not right.
    """

    box: Box
    inner: Size
    canvas: Size
    offset: tuple[int, int] = (0, 0)
    window: tuple[float, float] | None = None
    tilted: Size | None = None

    @property
    def has_bars(self) -> bool:
        return self.inner != self.canvas

    @property
    def output(self) -> Size:
        """The size of the finished picture."""
        return self.tilted or self.canvas

    @property
    def keeps_pixels(self) -> bool:
        """Whether nothing is resampled: then nothing may get blurred."""
        return self.window is not None and all(map(eq, self.window, self.inner))

    @property
    def boxed(self) -> Size:
        """The size that the whole box would have if it were all scaled like inner."""
        if self.window is None:
            return self.inner
        return (
            math.ceil(self.inner[0] * (self.box[2] - self.box[0]) / self.window[0]),
            math.ceil(self.inner[1] * (self.box[3] - self.box[1]) / self.window[1]),
        )

    def within(self, side: int) -> "Plan":
        """The same picture, small: no side of its output over `side`."""
        longest = max(self.output)
        if longest <= side:
            return self

        def shrunk(size: Size) -> Size:
            return (in_proportion(side, size[0], longest), in_proportion(side, size[1], longest))

        canvas, inner = shrunk(self.canvas), shrunk(self.inner)
        return dataclasses.replace(
            self,
            inner=inner,
            canvas=canvas,
            offset=((canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2),
            tilted=None if self.tilted is None else shrunk(self.tilted),
        )


def turn_of(transform: Transform) -> Orientation:
    """How the upright source is turned before it is sized."""
    return Orientation.made(transform.mirror, transform.turns)


# JPEG is decoded at the smallest DCT scale that leaves this many times the pixels that are wanted
# in each direction. CPU for ten photographs, most of them 2560 px wide, with 1.5, 1.25 and 1.0:
# 34.0, 33.5 and 18.9 ms at 1280 px; 14.9, 11.3 and 8.2 at 480; 8.3, 7.2 and 6.5 at 220. What 1.0
# loses of SSIM at equal bytes is 0.0008 at 1280 px and 0.0007 at 220, 1.25 a fifth of that.
OVERSAMPLING: Final = 1.0
OVERSAMPLING_SMALL: Final = 1.25
SMALL_PIXELS: Final = 90_000


def oversampling(size: Size) -> float:
    """How many times the pixels of an output, in each direction, a decoder should leave."""
    return OVERSAMPLING_SMALL if size[0] * size[1] <= SMALL_PIXELS else OVERSAMPLING


def plan(source: Size, transform: Transform, max_pixels: int) -> Plan:
    """The plan for an upright source. Raises ImpossibleTransform when the output is too large, or
    there is none.
    """
    assert source[0] > 0 and source[1] > 0, f"source size {source}"
    turn = turn_of(transform)
    if transform.region is None:
        made = _sized(turn.turn(source), transform)
    else:
        area = transform.region.area(source)
        if area is None:
            raise ImpossibleTransform(f"region {transform.region} is outside of {source}")
        left, top, right, bottom = turn.inverse.stored_box(area, turn.turn(source))
        made = _sized((int(right - left), int(bottom - top)), transform)
        box = made.box
        box = (left + box[0], top + box[1], left + box[2], top + box[3])
        made = dataclasses.replace(made, box=box)
    if transform.tilt:
        tilted = tilted_size(made.canvas, transform.tilt)
        made = dataclasses.replace(made, tilted=tilted)
    width, height = made.output
    if max(width, height) > MAX_SIDE:
        raise ImpossibleTransform(f"output {width}x{height} is over {MAX_SIDE} a side")
    if width * height > max_pixels:
        raise ImpossibleTransform(f"output {width}x{height} is over {max_pixels} pixels")
    return made


def in_proportion(side: int, other: int, base: int) -> int:
    """other * side / base, rounded half up, at least 1."""
    return max(1, (2 * other * side + base) // (2 * base))


def tilted_size(size: Size, tilt: int) -> Size:
    """The sides of the upright box around a picture turned by tenths of a degree."""
    angle = math.radians(tilt * 360 / FULL_TURN)
    across, along = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = size
    return (
        math.ceil(width * across + height * along),
        math.ceil(width * along + height * across),
    )


def _sized(source: Size, transform: Transform) -> Plan:
    if transform.adaptive:
        width, height = _asked(transform)
        if (width > height) != (source[0] > source[1]) and source[0] != source[1]:
            width, height = height, width
        transform = dataclasses.replace(transform, width=width, height=height, adaptive=False)
    made = _FITS[transform.fit](source, transform)
    if transform.exact:
        wanted = dataclasses.replace(transform, exact=False, enlarge=True)
        if _FITS[transform.fit](source, wanted) != made:
            raise ImpossibleTransform(f"{source} would have to be enlarged")
    return made


def _contain(source: Size, transform: Transform) -> Plan:
    size = _inside(source, transform)
    return Plan(_whole(source), size, size)


def _stretch(source: Size, transform: Transform) -> Plan:
    size = _asked(transform)
    if not transform.enlarge:
        size = (min(size[0], source[0]), min(size[1], source[1]))
    return Plan(_whole(source), size, size)


def _letterbox(source: Size, transform: Transform) -> Plan:
    canvas = _asked(transform)
    inner = _inside(source, transform)
    offset = ((canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2)
    return Plan(_whole(source), inner, canvas, offset)


def _outside(source: Size, transform: Transform) -> Plan:
    width, height = _asked(transform)
    if width * source[1] >= height * source[0]:
        size = (width, max(height, in_proportion(width, source[1], source[0])))
    else:
        size = (max(width, in_proportion(height, source[0], source[1])), height)
    if _grows(source, size) and not transform.enlarge:
        size = source
    return Plan(_whole(source), size, size)


def _cover(source: Size, transform: Transform) -> Plan:
    width, height = _asked(transform)
    if (width > source[0] or height > source[1]) and not transform.enlarge:
        # Scaled by 1, the source already covers what it reaches of the box.
        size = (min(width, source[0]), min(height, source[1]))
        if transform.gravity is Gravity.SMART and size != source:
            return Plan(_whole(source), size, size, window=size)
        left, top = _surplus(source, size, transform)
        # On whole pixels: nothing is resampled, so nothing may get blurred.
        box = (int(left), int(top), int(left) + size[0], int(top) + size[1])
        return Plan(box, size, size)
    if width * source[1] >= height * source[0]:
        kept: tuple[float, float] = (source[0], height * source[0] / width)
    else:
        kept = (width * source[1] / height, source[1])
    if transform.gravity is Gravity.SMART and kept != source:
        return Plan(_whole(source), (width, height), (width, height), window=kept)
    left, top = _surplus(source, kept, transform)
    right, bottom = min(source[0], left + kept[0]), min(source[1], top + kept[1])
    return Plan((left, top, right, bottom), (width, height), (width, height))


_FITS: Final = {
    Fit.CONTAIN: _contain,
    Fit.STRETCH: _stretch,
    Fit.LETTERBOX: _letterbox,
    Fit.OUTSIDE: _outside,
    Fit.COVER: _cover,
}


def _inside(source: Size, transform: Transform) -> Size:
    """The largest size in proportion inside the asked sides, not above the source's own unless
    enlarge says so.
    """
    width, height = transform.width, transform.height
    if width is None and height is None:
        if transform.scale is None:
            return source
        scale = transform.scale
        return (
            in_proportion(scale, source[0], FULL_SCALE),
            in_proportion(scale, source[1], FULL_SCALE),
        )
    by_width = height is None or (width is not None and width * source[1] <= height * source[0])
    if by_width:
        assert width is not None
        size = (width, in_proportion(width, source[1], source[0]))
    else:
        assert height is not None
        size = (in_proportion(height, source[0], source[1]), height)
    return source if _grows(source, size) and not transform.enlarge else size


def _grows(source: Size, size: Size) -> bool:
    return size[0] > source[0] or size[1] > source[1]


def _surplus(source: Size, kept: tuple[float, float], transform: Transform) -> tuple[float, float]:
    """The upper left corner of what is kept of a source."""
    if transform.focus is not None:
        return (
            _centred(source[0], kept[0], transform.focus.x),
            _centred(source[1], kept[1], transform.focus.y),
        )
    anchor = transform.gravity.anchor
    return ((source[0] - kept[0]) * anchor[0], (source[1] - kept[1]) * anchor[1])


def _centred(whole: int, kept: float, per_mille: int) -> float:
    return max(0.0, min(whole * per_mille / PER_MILLE - kept / 2, whole - kept))


def _asked(transform: Transform) -> Size:
    # Transform's constructor demands both sides for every fit but contain.
    assert transform.width is not None and transform.height is not None
    return (transform.width, transform.height)


def _whole(source: Size) -> Box:
    return (0, 0, source[0], source[1])
