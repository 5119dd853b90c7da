"""The blocks of a GIF, walked without decoding a pixel (GIF89a sections 15 to 27).

A file may claim nothing and hold frames without end, in blocks of one byte each: the walk ends
after MAX_BLOCKS, and counting ends at the number that is asked about.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from resizer.errors import CorruptPicture

# 32 MiB in blocks of 255 bytes are 132,000; a million takes 0.1 s.
MAX_BLOCKS: Final = 1_000_000

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_SCREEN_BYTES, _IMAGE_BYTES = 13, 10
_CONTROL, _APPLICATION = 0xF9, 0xFF
# The one application extension that says how a picture is shown: its repeats.
_REPEATS: Final = (b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01")
_REPEATS_BYTES: Final = 19


class Kind(enum.Enum):
    SCREEN = "signature, screen and its colours"
    IMAGE = "one frame"
    CONTROL = "how the next frame is shown"
    REPEATS = "how often all of them are"
    OTHER = "a comment, a text, an application's own"
    TRAILER = "the end"


@dataclass(frozen=True, slots=True)
class Block:
    """data[start:end], sub-blocks and their terminator included."""

    kind: Kind
    start: int
    end: int


def walk(data: bytes) -> Iterator[Block]:
    """All blocks up to the trailer, if there is one. Raises CorruptPicture where a block is cut or
    is none, and where there are more than MAX_BLOCKS.
    """
    try:
        yield from _walk(data)
    except IndexError:
        raise CorruptPicture(f"a GIF cut at {len(data)} bytes") from None


def _walk(data: bytes) -> Iterator[Block]:
    at = _SCREEN_BYTES + _table_bytes(data[10])
    yield Block(Kind.SCREEN, 0, at)
    left = MAX_BLOCKS
    while True:
        start, introducer = at, data[at]
        if introducer == _TRAILER:
            yield Block(Kind.TRAILER, at, at + 1)
            return
        if introducer == _EXTENSION:
            kind = _kind_of(data, at)
            at += 2
        elif introducer == _IMAGE:
            kind = Kind.IMAGE
            # The minimum code size stands between the colours and the blocks.
            at += _IMAGE_BYTES + _table_bytes(data[at + _IMAGE_BYTES - 1]) + 1
        else:
            raise CorruptPicture(f"{introducer} introduces no block of a GIF")
        while length := data[at]:
            at += 1 + length
            left -= 1
            if left < 0:
                raise CorruptPicture(f"a GIF of more than {MAX_BLOCKS} blocks")
        at += 1
        left -= 1
        yield Block(kind, start, at)


def _kind_of(data: bytes, at: int) -> Kind:
    label = data[at + 1]
    if label == _CONTROL:
        return Kind.CONTROL
    is_repeats = data.startswith(_REPEATS, at + 2) and data[at + _REPEATS_BYTES - 1] == 0
    return Kind.REPEATS if label == _APPLICATION and is_repeats else Kind.OTHER


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def count_frames(data: bytes, most: int) -> int:
    """The number of whole frames, at most most + 1: then there are more than were asked about."""
    frames = 0
    try:
        for block in walk(data):
            frames += block.kind is Kind.IMAGE
            if frames > most:
                break
    except CorruptPicture:
        # What stands before the damage counts; a decoder will say what it thinks of the rest.
        return frames
    return frames
