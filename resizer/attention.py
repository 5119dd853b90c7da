"""Attention: where in a picture the eye goes, for crops that have to choose.

Worth of a pixel = edges + skin + saturation, in the manner of libvips' attention crop, looked up on
a copy of some 64 pixels a side. The window that holds most of it is taken, not the one around the
highest peak: a face at the edge of a crowd should not cut the crowd. Skin is the box of Cb and Cr
of Chai and Ngan, "Face segmentation using skin-color map in videophone applications" (IEEE
Transactions on Circuits and Systems for Video Technology 9(4), 1999), softened at its edges.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from PIL import Image, ImageChops, ImageFilter

from resizer.geometry import Box

# The longer side of the copy. On 24 photographs, most of them 16:10, cropped to a square: with
# twice as many pixels 7 crops moved, all but one by less than 5 % of the width; with half, 12 did.
SIDE: Final = 64
# It is averaged from this many times the pixels each way, picked out of the source: to average all
# of a source that is decoded whole would cost more than all the rest. Eight times moved one crop,
# by less than 1 %.
SAMPLES: Final = 3

# Worth in 255ths. Skin outweighs: a face has few edges.
EDGES: Final = 1.0
SKIN: Final = 0.8
SATURATION: Final = 0.25

# What a window in the middle has over one at the edge, as a share of the worth of all: without it a
# picture of nothing (sky, paper) is cropped by its noise.
CENTRED: Final = 0.04


def _slope(low: int, high: int, soft: int) -> list[int]:
    """255 from low to high, falling to 0 within `soft` on both sides."""
    return [
        round(255 * max(0.0, min(1.0, 1 - max(low - value, value - high) / soft)))
        for value in range(256)
    ]


_SKIN_CB: Final = _slope(77, 127, 12)
_SKIN_CR: Final = _slope(137, 173, 12)
# Nearly black and nearly white have no colour to speak of, whatever their Cb and Cr.
_LIT: Final = _slope(50, 235, 30)
# Edges of noise are worth nothing.
_EDGES: Final = [min(255, round(EDGES * max(0, value - 12))) for value in range(256)]
_SATURATION: Final = [round(SATURATION * value) for value in range(256)]
_SHARE_OF_SKIN: Final = [round(SKIN * value) for value in range(256)]


def crop(image: Image.Image, box: Box, window: tuple[float, float]) -> Box:
    """The part of `box`, as large as the window, that draws the eye. Any mode."""
    worth = map_of(image, box)
    width, height = box[2] - box[0], box[3] - box[1]
    left = best(_means(worth, (worth.width, 1)), min(1.0, window[0] / width))
    top = best(_means(worth, (1, worth.height)), min(1.0, window[1] / height))
    left, top = box[0] + left * width, box[1] + top * height
    return (left, top, min(box[2], left + window[0]), min(box[3], top + window[1]))


def map_of(image: Image.Image, box: Box) -> Image.Image:
    """What each part of the box is worth, in mode L."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(1.0, SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale * SAMPLES < 1:
        image = image.resize(
            (size[0] * SAMPLES, size[1] * SAMPLES), Image.Resampling.NEAREST, box=box
        )
        box = (0, 0, *image.size)
    small = image.resize(size, Image.Resampling.BOX, box=box)
    alpha = small.getchannel("A") if small.mode in ("LA", "RGBA") else None
    colours = small.convert("RGB")
    luma, cb, cr = colours.convert("YCbCr").split()
    worth = _edges(luma)
    if image.mode not in ("L", "LA"):
        lit = luma.point(_LIT)
        skin = ImageChops.multiply(cb.point(_SKIN_CB), cr.point(_SKIN_CR))
        skin = ImageChops.multiply(skin, lit).point(_SHARE_OF_SKIN)
        vivid = ImageChops.multiply(colours.convert("HSV").getchannel("S"), lit)
        worth = ImageChops.add(worth, skin)
        worth = ImageChops.add(worth, vivid.point(_SATURATION))
    # What nobody sees draws nobody's eye.
    return worth if alpha is None else ImageChops.multiply(worth, alpha)


def _edges(luma: Image.Image) -> Image.Image:
    """How much each pixel differs from its neighbourhood. The filter leaves the outermost pixels as
    they are, so it is given a frame of repeated ones to leave.
    """
    width, height = luma.size
    framed = luma.resize(
        (width + 2, height + 2), Image.Resampling.NEAREST, box=(0, 0, width, height)
    )
    framed.paste(luma, (1, 1))
    found = framed.filter(ImageFilter.FIND_EDGES).crop((1, 1, width + 1, height + 1))
    return found.point(_EDGES)


def _means(worth: Image.Image, size: tuple[int, int]) -> Sequence[float]:
    """The means of the columns, or of the rows."""
    # In mode F, because 8 bits would round a small face in a tall picture away.
    means = worth.convert("F").resize(size, Image.Resampling.BOX)
    return array("f", means.tobytes())


def best(worths: Sequence[float], share: float) -> float:
    """Where the window of the worthiest `share` begins, as a share of the whole."""
    count = len(worths)
    room = 1 - share
    if room <= 0:
        return 0.0
    before = [0.0, *accumulate(worths)]
    whole = before[-1] or 1.0

    def until(place: float) -> float:
        full = min(int(place), count - 1)
        return before[full] + worths[full] * (place - full)

    # Half a pixel of the copy apart, and both ends among them.
    steps = max(2, 2 * round(room * count))

    def worth(step: int) -> float:
        place = room * step / steps
        held = until((place + share) * count) - until(place * count)
        away = abs(2 * step / steps - 1)
        return held + (1 - away) * CENTRED * whole

    return room * (
        max(range(steps + 1), key=worth) / steps
    )  # of all of them: room, to the last bit
