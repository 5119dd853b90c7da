"""The point of a picture that a crop keeps, in thousandths of its sides: 500:333."""

from dataclasses import dataclass
from typing import Final

from resizer.words import BadTransform

PER_MILLE: Final = 1000


@dataclass(frozen=True, slots=True)
class Focus:
    """As near to the middle of the crop as the picture's edges allow. Raises BadTransform."""

    x: int
    y: int

    def __post_init__(self) -> None:
        for value in (self.x, self.y):
            if not 0 <= value <= PER_MILLE:
                raise BadTransform(f"focus {value} is outside 0 to {PER_MILLE}")

    def __str__(self) -> str:
        return f"{self.x}:{self.y}"


def parse_focus(text: str) -> Focus:
    """Inverse of str(); lenient about the spelling of numbers. Raises ValueError."""
    x, y = text.split(":")
    return Focus(int(x), int(y))
