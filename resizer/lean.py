"""A derivative is never heavier than the original of its own size and format.

Such a one shows what the original shows, so the original's file without its metadata may stand for
it. Where that can't be made, quality goes down by the share of the surplus, once.
"""

from collections.abc import Callable

from resizer import animation, colour
from resizer.decode import Picture
from resizer.encode import LEAST_QUALITY, SETTINGS
from resizer.formats import Format
from resizer.geometry import Box, Plan
from resizer.orientation import Orientation
from resizer.strip import strip


def shows_the_same(
    picture: Picture, plan: Plan, output: Format, data: bytes, frame_count: int
) -> bool:
    """Whether the plan, without any effect, asks for the picture just as its file shows it."""
    whole: Box = (0, 0, *picture.stored)
    return (
        picture.format is output
        and picture.orientation is Orientation.UPRIGHT
        and plan.canvas == plan.inner == picture.stored
        and plan.box == whole
        and picture.image.mode != "CMYK"
        and (picture.profile is None or colour.is_neutral(picture.profile, picture.image.mode))
        # Of a PNG that moves we show the picture that does not, and strip() leaves only that.
        and (
            output in (Format.JPEG, Format.PNG)
            or animation.count_frames(picture, data, frame_count) == frame_count
        )
    )


def lighter(
    body: bytes,
    data: bytes,
    output: Format,
    quality: int | None,
    exif: bytes,
    encode_again: Callable[[int], bytes],
) -> bytes:
    """The derivative, or what may stand for it and is lighter. `body` shows the same as `data`, and
    encode_again(quality) is the derivative at another quality.
    """
    stripped = strip(data, output, exif)
    if stripped is not None:
        # Of two of one weight, the one that was not encoded once more.
        return min(stripped, body, key=len)
    usual = SETTINGS[output].quality
    if len(body) < len(data) or usual is None:
        return body
    lower = (quality or usual) * len(data) // (len(body) + 1)
    return min(body, encode_again(max(LEAST_QUALITY, lower)), key=len)
