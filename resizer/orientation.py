"""Orientation: how pixels are turned to stand as they shall; EXIF's eight (Exif 3.0, tag 0x0112).

A transform's mirror and right angles are the same eight, so that a picture is turned once.

Pictures are shrunk as they are stored and turned afterwards, when they are small. So a box of the
upright picture must be found among the stored pixels; that arithmetic is here.
"""

import enum
from typing import Final

# width, height; left, top, right, bottom
Size = tuple[int, int]
Box = tuple[float, float, float, float]


class Orientation(enum.Enum):
    """The eight values of the tag, named by what makes the stored picture upright."""

    UPRIGHT = 1
    MIRROR = 2
    HALF_TURN = 3
    FLIP = 4
    TRANSPOSE = 5
    TURN_RIGHT = 6
    TRANSVERSE = 7
    TURN_LEFT = 8

    @classmethod
    def of(cls, tag: object) -> "Orientation":
        """Files carry 0, 9, text and worse here; what has no meaning is upright."""
        return cls(tag) if isinstance(tag, int) and 1 <= tag <= 8 else cls.UPRIGHT

    @property
    def swaps_sides(self) -> bool:
        return self.value >= 5

    @classmethod
    def made(cls, mirror: bool, turns: int) -> "Orientation":
        """Left for right where mirror says so, then clockwise by right angles."""
        return _MADE[mirror, turns % 4]

    def then(self, next_: "Orientation") -> "Orientation":
        """This one and then another, as one."""
        mirror, turns = _PARTS[self]
        next_mirror, next_turns = _PARTS[next_]
        # A turn that is mirrored afterwards is a turn the other way round.
        turns = next_turns - turns if next_mirror else next_turns + turns
        return _MADE[mirror != next_mirror, turns % 4]

    @property
    def inverse(self) -> "Orientation":
        return _INVERSE.get(self, self)

    def turn(self, size: Size) -> Size:
        """The size of the upright picture from the stored one's, and the other way round."""
        return (size[1], size[0]) if self.swaps_sides else size

    def stored_box(self, box: Box, stored: Size) -> Box:
        """The part of the stored picture that shows what `box` holds of the upright one."""
        left, top, right, bottom = box
        if self.swaps_sides:
            left, top, right, bottom = top, left, bottom, right
        if self in _FROM_RIGHT:
            left, right = stored[0] - right, stored[0] - left
        if self in _FROM_BOTTOM:
            top, bottom = stored[1] - bottom, stored[1] - top
        return (left, top, right, bottom)


# Seen from the stored picture, whether upright coordinates count from its right, from its bottom.
_FROM_RIGHT: Final = frozenset(
    {Orientation.MIRROR, Orientation.HALF_TURN, Orientation.TRANSVERSE, Orientation.TURN_LEFT}
)
_FROM_BOTTOM: Final = frozenset(
    {Orientation.HALF_TURN, Orientation.FLIP, Orientation.TURN_RIGHT, Orientation.TRANSVERSE}
)

# Each as a mirroring of left and right, followed by right angles clockwise.
_PARTS: Final = {
    Orientation.UPRIGHT: (False, 0),
    Orientation.TURN_RIGHT: (False, 1),
    Orientation.HALF_TURN: (False, 2),
    Orientation.TURN_LEFT: (False, 3),
    Orientation.MIRROR: (True, 0),
    Orientation.TRANSVERSE: (True, 1),
    Orientation.FLIP: (True, 2),
    Orientation.TRANSPOSE: (True, 3),
}
_MADE: Final = {parts: orientation for orientation, parts in _PARTS.items()}
# All others undo themselves.
_INVERSE: Final = {
    Orientation.TURN_RIGHT: Orientation.TURN_LEFT,
    Orientation.TURN_LEFT: Orientation.TURN_RIGHT,
}
