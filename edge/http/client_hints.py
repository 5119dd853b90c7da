"""What a client says of its screen and its data plan (RFC 8942): DPR, Width, Save-Data.

    Sec-CH-DPR: 2.625   DPR: 1.100000023841858    pixels of the screen to one of CSS
    Sec-CH-Width: 640   Width: 640                what the picture will be wide on the screen
    Save-Data: on

A hint that is malformed, zero, or given twice says nothing. Ratios are folded upwards to a few, so
that no screen makes variants of its own: a picture too sharp costs bytes, one too soft is seen.
"""

import bisect
import re
from typing import Final

from resizer.transform import MAX_SIDE

# Device pixel ratios that are told apart, in hundredths. Above three nobody sees a difference.
RATIOS: Final = (100, 150, 200, 300)
# A structured decimal has three digits behind its dot (RFC 9651 section 3.3.2), but the older field
# has as many as a float prints.
_RATIO: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,20}))?")
_WIDTH: Final = re.compile(r"[0-9]{1,5}")


def fold_ratio(field: str | None) -> int:
    """The ratio in hundredths, one of RATIOS; 100 where nothing is said."""
    match = None if field is None else _RATIO.fullmatch(field)
    if match is None:
        return RATIOS[0]
    hundredths = int(match[1]) * 100 + int((match[2] or "")[:2].ljust(2, "0"))
    return RATIOS[min(bisect.bisect_left(RATIOS, hundredths), len(RATIOS) - 1)]


def maybe_width(field: str | None) -> int | None:
    """The width in pixels of the screen, 1 to MAX_SIDE; None where nothing is said."""
    if field is None or _WIDTH.fullmatch(field) is None:
        return None
    width = int(field)
    return min(width, MAX_SIDE) if width else None


def is_saving(field: str | None) -> bool:
    """Whether less data is wanted; a field line may carry parameters, and other tokens."""
    return field is not None and "on" in (token.strip(" \t") for token in field.lower().split(";"))
