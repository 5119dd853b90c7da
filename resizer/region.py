"""The part of a source that a transform looks at.

Its text is one of

    px:10:20:300:200                 left, top, width, height in pixels
    ppm:416000:75000:400000:700000   the same in millionths of the source's sides
    px:300:200:north                 a size, laid into the source by a gravity
    ppm:500000:500000:centre
    square                           the largest square, from the middle

Millionths, because IIIF's percentages come with decimals: 41.6 % is 416000.
"""

import enum
from dataclasses import dataclass
from typing import Final

from resizer.words import BadTransform, Gravity

# A side that no decoder of ours accepts is no side to ask for (security: 16,384 a side).
MAX_SIDE: Final = 16_384
WHOLE_PPM: Final = 1_000_000

# left, top, right, bottom in whole pixels
Area = tuple[int, int, int, int]


class Unit(enum.StrEnum):
    PIXELS = "px"
    SHARE = "ppm"
    SQUARE = "square"


_LIMITS: Final = {Unit.PIXELS: MAX_SIDE, Unit.SHARE: WHOLE_PPM}


@dataclass(frozen=True, slots=True)
class Region:
    """anchor lays the size into the source; without one left and top do. Raises BadTransform."""

    unit: Unit
    left: int = 0
    top: int = 0
    width: int = 0
    height: int = 0
    anchor: Gravity | None = None

    def __post_init__(self) -> None:
        if self.unit is Unit.SQUARE:
            if (self.left, self.top, self.width, self.height, self.anchor) != (0, 0, 0, 0, None):
                raise BadTransform("region: the square has no sides of its own")
            return
        limit = _LIMITS[self.unit]
        for edge, side in ((self.left, self.width), (self.top, self.height)):
            if not 1 <= side <= limit:
                raise BadTransform(f"region: side {side} is outside 1 to {limit}")
            if not 0 <= edge < limit:
                raise BadTransform(f"region: edge {edge} is outside 0 to {limit - 1}")
            # Whether pixels end outside only the source can say, and they are clipped there. A
            # share that does is a second spelling of one that does not: see share().
            if self.unit is Unit.SHARE and edge + side > limit:
                raise BadTransform(f"region: {edge} and {side} end outside of {limit}")
        if self.anchor is Gravity.SMART:
            raise BadTransform("region: smart is a gravity of fit cover")
        if self.anchor is not None and (self.left or self.top):
            raise BadTransform("region: a gravity and an edge both say where it lies")

    @property
    def is_whole(self) -> bool:
        return self.unit is Unit.SHARE and (self.width, self.height) == (WHOLE_PPM, WHOLE_PPM)

    def area(self, source: tuple[int, int]) -> Area | None:
        """The region of a source, clipped to it, at least a pixel; None when it lies outside."""
        if self.unit is Unit.SQUARE:
            side = min(source)
            left, top = (source[0] - side) // 2, (source[1] - side) // 2
            return (left, top, left + side, top + side)
        horizontal = self._stretch(source[0], self.left, self.width, 0)
        vertical = self._stretch(source[1], self.top, self.height, 1)
        if horizontal is None or vertical is None:
            return None
        return (horizontal[0], vertical[0], horizontal[1], vertical[1])

    def _stretch(self, whole: int, near: int, side: int, axis: int) -> tuple[int, int] | None:
        if self.unit is Unit.SHARE:
            # Both edges are rounded, so that neighbouring tiles neither overlap nor leave a gap.
            far = _of(whole, near + side)
            near = min(_of(whole, near), whole - 1)
            side = max(1, far - near)
        if self.anchor is not None:
            side = min(side, whole)
            near = int((whole - side) * self.anchor.anchor[axis])
        return (near, min(whole, near + side)) if near < whole else None

    def __str__(self) -> str:
        if self.unit is Unit.SQUARE:
            return self.unit.value
        if self.anchor is not None:
            return f"{self.unit}:{self.width}:{self.height}:{self.anchor}"
        return f"{self.unit}:{self.left}:{self.top}:{self.width}:{self.height}"


SQUARE: Final = Region(Unit.SQUARE)


def share(left: int, top: int, width: int, height: int) -> Region:
    """A region in millionths, clipped to the source as IIIF has it. Raises BadTransform."""
    return Region(Unit.SHARE, left, top, min(width, WHOLE_PPM - left), min(height, WHOLE_PPM - top))


def parse_region(text: str) -> Region:
    """Inverse of str(); lenient about the spelling of numbers. Raises ValueError."""
    unit, *parts = text.split(":")
    if len(parts) == 3:
        return Region(
            Unit(unit), width=int(parts[0]), height=int(parts[1]), anchor=Gravity(parts[2])
        )
    if not parts:
        return Region(Unit(unit))
    left, top, width, height = map(int, parts)
    return Region(Unit(unit), left, top, width, height)


def _of(whole: int, ppm: int) -> int:
    """Rounded half up."""
    return (2 * whole * ppm + WHOLE_PPM) // (2 * WHOLE_PPM)
