"""Where a picture's pixels go: from a source size and a Transform to boxes and sides.

All sizes are those of the upright picture. Integers in, integers out; only the box that is read
from the source has fractions, because a crop in proportion rarely ends on a pixel.

- A missing side is in proportion, rounded half up, never 0: MediaWiki's rule, so a thumbnail of
  ours has the size that its page reserves.
- With both sides, contain keeps the side that limits and rounds the other.
- enlarge=False: no source pixel becomes more than one output pixel. Contain then answers the
  source's own size, stretch and cover the part of the box that the source reaches. A letterbox
  keeps its canvas, because bars are what it is asked for; only the picture inside stays small.
"""

from dataclasses import dataclass
from typing import Final

from resizer.errors import ImpossibleTransform
from resizer.transform import MAX_SIDE, Fit, Gravity, Transform

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """Read `box` of the source, scale it to `inner`, lay it at `offset` on a `canvas`."""

    box: Box
    inner: Size
    canvas: Size
    offset: tuple[int, int] = (0, 0)

    @property
    def has_bars(self) -> bool:
        return self.inner != self.canvas


# Gravity as the share of the surplus that is cut before the kept part: (left, top).
_ANCHORS: Final[dict[Gravity, tuple[float, float]]] = {
    Gravity.CENTRE: (0.5, 0.5),
    Gravity.NORTH: (0.5, 0.0),
    Gravity.SOUTH: (0.5, 1.0),
    Gravity.EAST: (1.0, 0.5),
    Gravity.WEST: (0.0, 0.5),
    Gravity.NORTH_EAST: (1.0, 0.0),
    Gravity.NORTH_WEST: (0.0, 0.0),
    Gravity.SOUTH_EAST: (1.0, 1.0),
    Gravity.SOUTH_WEST: (0.0, 1.0),
}


def plan(source: Size, transform: Transform, max_pixels: int) -> Plan:
    """The plan for an upright source. Raises ImpossibleTransform when the output is too large."""
    assert source[0] > 0 and source[1] > 0, f"source size {source}"
    made = _FITS[transform.fit](source, transform)
    width, height = made.canvas
    if max(width, height) > MAX_SIDE:
        raise ImpossibleTransform(f"output {width}x{height} is over {MAX_SIDE} a side")
    if width * height > max_pixels:
        raise ImpossibleTransform(f"output {width}x{height} is over {max_pixels} pixels")
    return made


def in_proportion(side: int, other: int, base: int) -> int:
    """other * side / base, rounded half up, at least 1."""
    return max(1, (2 * other * side + base) // (2 * base))


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


def _cover(source: Size, transform: Transform) -> Plan:
    width, height = _asked(transform)
    if (width > source[0] or height > source[1]) and not transform.enlarge:
        # Scaled by 1, the source already covers what it reaches of the box.
        size = (min(width, source[0]), min(height, source[1]))
        left, top = _surplus(source, size, transform.gravity)
        # On whole pixels: nothing is resampled, so nothing may get blurred.
        box = (int(left), int(top), int(left) + size[0], int(top) + size[1])
        return Plan(box, size, size)
    if width * source[1] >= height * source[0]:
        kept: tuple[float, float] = (source[0], height * source[0] / width)
    else:
        kept = (width * source[1] / height, source[1])
    left, top = _surplus(source, kept, transform.gravity)
    right, bottom = min(source[0], left + kept[0]), min(source[1], top + kept[1])
    return Plan((left, top, right, bottom), (width, height), (width, height))


_FITS: Final = {
    Fit.CONTAIN: _contain,
    Fit.STRETCH: _stretch,
    Fit.LETTERBOX: _letterbox,
    Fit.COVER: _cover,
}


def _inside(source: Size, transform: Transform) -> Size:
    """The largest size in proportion inside the asked sides, not above the source's own unless
    enlarge says so.
    """
    width, height = transform.width, transform.height
    if width is None and height is None:
        return source
    by_width = height is None or (width is not None and width * source[1] <= height * source[0])
    if by_width:
        assert width is not None
        size = (width, in_proportion(width, source[1], source[0]))
    else:
        assert height is not None
        size = (in_proportion(height, source[0], source[1]), height)
    grows = size[0] > source[0] or size[1] > source[1]
    return source if grows and not transform.enlarge else size


def _surplus(source: Size, kept: tuple[float, float], gravity: Gravity) -> tuple[float, float]:
    anchor = _ANCHORS[gravity]
    return ((source[0] - kept[0]) * anchor[0], (source[1] - kept[1]) * anchor[1])


def _asked(transform: Transform) -> Size:
    # Transform's constructor demands both sides for every fit but contain.
    assert transform.width is not None and transform.height is not None
    return (transform.width, transform.height)


def _whole(source: Size) -> Box:
    return (0, 0, source[0], source[1])
