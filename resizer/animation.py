"""Pictures that move: whether one is kept moving, and its frames, each whole.

A picture moves on where the output can, and its frames are within the limits on their number and on
their pixels, those that are read and those that are written together. Beyond, its first frame is
the answer: a thumbnail that stands still is of more use than none, and what is asked of the node
stays bounded. Frames are read in order, once, and one at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image

from resizer import gif
from resizer.decode import Picture, check_palette, typed_failures
from resizer.formats import MOVING, Format
from resizer.geometry import Size
from resizer.job import Limits

# Browsers show a frame of up to 10 ms for 100: old files say 0 and mean "some time".
HASTY_MS: Final = 10
USUAL_MS: Final = 100
# GIF counts hundredths of a second in 16 bits.
LONGEST_MS: Final = 655_350
MOST_PLAYS: Final = 65_535


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of many, as large as all of them, and how long it is to be seen."""

    image: Image.Image
    duration_ms: int


def frames_kept(
    picture: Picture, data: bytes, output: Format, canvas: Size, limits: Limits, asked: int | None
) -> int:
    """How many frames of the picture the derivative shows: 1 for one that stands still.

    asked: the most that the request wants, None for all.
    """
    most = limits.max_frames if asked is None else min(asked, limits.max_frames)
    if most < 2 or output not in MOVING or picture.format not in MOVING:
        return 1
    count = count_frames(picture, data, limits.max_frames)
    if count > limits.max_frames:
        return 1
    count = min(count, most)
    pixels = picture.stored[0] * picture.stored[1] + canvas[0] * canvas[1]
    return count if count * pixels <= limits.max_animation_pixels else 1


def count_frames(picture: Picture, data: bytes, most: int) -> int:
    """How many frames the file holds, at least 1; above `most` the number need not be right."""
    # Pillow counts the frames of a GIF by reading all of them; the other two know from the header.
    if picture.format is Format.GIF:
        return max(1, gif.count_frames(data, most))
    return max(1, int(getattr(picture.image, "n_frames", 1)))


def plays(picture: Picture) -> int:
    """How often the picture is to be played, 0 for without end."""
    loop = picture.image.info.get("loop")
    if picture.format is Format.AVIF:
        return 0
    if not isinstance(loop, int):
        return 1
    # GIF says how often to begin anew.
    again = loop + 1 if picture.format is Format.GIF and loop else loop
    return min(again, MOST_PLAYS)


def read_frames(picture: Picture, count: int) -> Iterator[Frame]:
    """The first `count` frames. An image is good until the next one is asked for.

    Raises CorruptPicture, also where there are fewer, and PictureTooLarge.
    """
    image = picture.image
    for number in range(count):
        with typed_failures(f"{picture.format} frame {number}"):
            image.seek(number)
            image.load()
        check_palette(image)
        # A frame of a GIF may reach beyond the screen; then Pillow makes the screen larger.
        inside = image.size == picture.stored
        seen = image if inside else image.crop((0, 0, *picture.stored))
        yield Frame(seen, _duration_ms(image.info.get("duration")))


def _duration_ms(value: object) -> int:
    if not isinstance(value, int | float) or not value > HASTY_MS:
        return USUAL_MS
    return int(min(value, LONGEST_MS))
