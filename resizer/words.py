"""The words of a transform: every field that is a choice from a short list, by its canonical text.

The first value of each is its default and changes nothing.
"""

import enum


class BadTransform(ValueError):
    """A field is outside its limits; the text says which and what it may be."""


class Fit(enum.StrEnum):
    """How a picture meets the box of width and height (contain when one side is absent)."""

    CONTAIN = "contain"  # whole picture inside the box, box shrinks to the picture
    COVER = "cover"  # box filled, what sticks out is cropped by gravity or focus
    STRETCH = "stretch"  # box filled, proportions given up
    LETTERBOX = "letterbox"  # whole picture inside the box, rest of the box is filled
    OUTSIDE = "outside"  # whole picture around the box, as small as covers it


class Fill(enum.StrEnum):
    """What a letterbox shows where the picture is not."""

    COLOUR = "colour"  # the background
    BLUR = "blur"  # the picture itself, covering the box, out of focus
    CLEAR = "clear"  # nothing where the format has transparency, else the background


class Gravity(enum.StrEnum):
    """The point of a picture that a crop keeps, or where in a picture something lies."""

    CENTRE = "centre"
    NORTH = "north"
    SOUTH = "south"
    EAST = "east"
    WEST = "west"
    NORTH_EAST = "northeast"
    NORTH_WEST = "northwest"
    SOUTH_EAST = "southeast"
    SOUTH_WEST = "southwest"
    SMART = "smart"  # for crops: the part that draws the eye (resizer/attention.py)

    @property
    def anchor(self) -> tuple[float, float]:
        """The share of a surplus that lies before what is kept: (left, top)."""
        return _ANCHORS[self]


_ANCHORS = {
    Gravity.CENTRE: (0.5, 0.5),
    Gravity.NORTH: (0.5, 0.0),
    Gravity.SOUTH: (0.5, 1.0),
    Gravity.EAST: (1.0, 0.5),
    Gravity.WEST: (0.0, 0.5),
    Gravity.NORTH_EAST: (1.0, 0.0),
    Gravity.NORTH_WEST: (0.0, 0.0),
    Gravity.SOUTH_EAST: (1.0, 1.0),
    Gravity.SOUTH_WEST: (0.0, 1.0),
    Gravity.SMART: (0.5, 0.5),  # until it is known
}


class Tone(enum.StrEnum):
    COLOUR = "colour"
    GREY = "grey"
    BITONAL = "bitonal"  # black and white, cut at the middle, not dithered


class Keep(enum.StrEnum):
    """Which of the source's words about itself a derivative carries."""

    NONE = "none"
    COPYRIGHT = "copyright"  # who owns it, and nothing about where and when it was taken


class Placeholder(enum.StrEnum):
    """Instead of the picture, a JSON document that stands for it (resizer/placeholder.py)."""

    NONE = "none"
    THUMBHASH = "thumbhash"
    BLURHASH = "blurhash"
    PREVIEW = "preview"  # a tiny picture as a data: URL
