"""What is to be done to a picture: one frozen value, legal by construction.

Canonical text is the variant part of a cache key and of an ETag. It is unique: equal transforms
print equally, fields at their default are left out, and parse(canonical(t)) == t. It reads

    w=220,h=160,fit=cover,g=north,f=webp,q=75

with fields in the order of FIELDS. No field of it can hold a comma or an equals sign.
"""

import dataclasses
import enum
from dataclasses import dataclass
from typing import Final

from resizer.formats import Format

# A side that no decoder of ours accepts is no side to ask for (security: 16,384 a side).
MAX_SIDE: Final = 16_384
QUALITIES: Final = range(1, 101)


class Fit(enum.StrEnum):
    """How a picture meets the box of width and height (contain when one side is absent)."""

    CONTAIN = "contain"  # whole picture inside the box, box shrinks to the picture
    COVER = "cover"  # box filled, what sticks out is cropped by gravity
    STRETCH = "stretch"  # box filled, proportions given up
    LETTERBOX = "letterbox"  # whole picture inside the box, rest of the box is background


class Gravity(enum.StrEnum):
    """The point of the picture that a crop keeps."""

    CENTRE = "centre"
    NORTH = "north"
    SOUTH = "south"
    EAST = "east"
    WEST = "west"
    NORTH_EAST = "northeast"
    NORTH_WEST = "northwest"
    SOUTH_EAST = "southeast"
    SOUTH_WEST = "southwest"


class BadTransform(ValueError):
    """A field is outside its limits; the text says which and what it may be."""


@dataclass(frozen=True, slots=True)
class Transform:
    """width and height in pixels of the upright picture; None means "in proportion".

    format None keeps the source's own format. enlarge False never makes a picture larger than its
    source (a cover or stretch box is then reached only as far as the source reaches; a letterbox
    keeps its box and gets wider bars).
    background is six hexadecimal digits, used where the output has no transparency and for bars.
    Raises BadTransform.
    """

    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.CONTAIN
    gravity: Gravity = Gravity.CENTRE
    enlarge: bool = False
    format: Format | None = None
    quality: int | None = None
    background: str = "ffffff"

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = getattr(self, name)
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise BadTransform(f"{name} {side} is outside 1 to {MAX_SIDE}")
        if self.quality is not None and self.quality not in QUALITIES:
            raise BadTransform(f"quality {self.quality} is outside 1 to 100")
        if len(self.background) != 6 or not set(self.background) <= set("0123456789abcdef"):
            raise BadTransform("background is not six lower-case hexadecimal digits")
        if self.fit is not Fit.CONTAIN and (self.width is None or self.height is None):
            raise BadTransform(f"fit {self.fit} needs width and height")
        if self.gravity is not Gravity.CENTRE and self.fit is not Fit.COVER:
            raise BadTransform(f"gravity has no meaning with fit {self.fit}")

    @property
    def is_identity(self) -> bool:
        """True when the original's own bytes are the answer."""
        return self == IDENTITY

    def canonical(self) -> str:
        """The unique text of this transform; empty for the identity."""
        return ",".join(
            f"{short}={_print(value)}"
            for short, name, default in FIELDS
            if (value := getattr(self, name)) != default
        )


def _print(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


_SHORT: Final = {
    "width": "w",
    "height": "h",
    "fit": "fit",
    "gravity": "g",
    "enlarge": "up",
    "format": "f",
    "quality": "q",
    "background": "bg",
}
# (short name, field name, default) in canonical order.
FIELDS: Final = tuple((_SHORT[f.name], f.name, f.default) for f in dataclasses.fields(Transform))
IDENTITY: Final = Transform()


def parse(text: str) -> Transform:
    """Inverse of Transform.canonical(). Raises BadTransform for any other text."""
    values: dict[str, object] = {}
    names = {short: name for short, name, _ in FIELDS}
    for part in text.split(",") if text else ():
        short, _, value = part.partition("=")
        name = names.get(short)
        if name is None or name in values:
            raise BadTransform(f"unknown or repeated field {short!r}")
        values[name] = _parse_value(name, value)
    transform = Transform(**values)  # type: ignore[arg-type]
    if transform.canonical() != text:
        raise BadTransform(f"not in canonical form: {text!r}")
    return transform


def _parse_value(name: str, text: str) -> object:
    try:
        match name:
            case "fit":
                return Fit(text)
            case "gravity":
                return Gravity(text)
            case "format":
                return Format(text)
            case "background":
                return text
            case "enlarge":
                return bool(int(text))
            case _:
                return int(text)
    except ValueError:
        raise BadTransform(f"{name} cannot be {text!r}") from None
