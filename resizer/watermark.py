"""A watermark: which of the site's marks lies on a picture, and how.

Its text is name:position:opacity:scale:margin, as in logo:southeast:60:25:10. The mark is a name
from the site's configuration and never an address: whoever writes URLs cannot fetch with it.
"""

import re
from dataclasses import dataclass
from typing import Final

from resizer.region import MAX_SIDE
from resizer.words import BadTransform, Gravity

_NAME: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Watermark:
    """opacity and scale are percents, scale of the picture's width; scale 0 is the mark's own size.
    margin is in pixels, and idle in the centre. Raises BadTransform.
    """

    name: str
    position: Gravity = Gravity.SOUTH_EAST
    opacity: int = 100
    scale: int = 0
    margin: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadTransform("watermark: a name is 1 to 32 of a-z, 0-9 and -")
        if self.position is Gravity.SMART:
            raise BadTransform("watermark: smart is a gravity of fit cover")
        if not 1 <= self.opacity <= 100:
            raise BadTransform(f"watermark: opacity {self.opacity} is outside 1 to 100")
        if not 0 <= self.scale <= 100:
            raise BadTransform(f"watermark: scale {self.scale} is outside 0 to 100")
        if not 0 <= self.margin < MAX_SIDE // 2:
            raise BadTransform(f"watermark: margin {self.margin} is outside 0 to {MAX_SIDE // 2}")

    def __str__(self) -> str:
        return f"{self.name}:{self.position}:{self.opacity}:{self.scale}:{self.margin}"


def parse_watermark(text: str) -> Watermark:
    """Inverse of str(); lenient about the spelling of numbers. Raises ValueError."""
    name, position, opacity, scale, margin = text.split(":")
    return Watermark(name, Gravity(position), int(opacity), int(scale), int(margin))
