"""The main header of a JPEG 2000, checked before a decoder sees it (ISO/IEC 15444-1 annex A).

A decoder makes room by what SIZ says of the picture, its tiles and its components, so that is read
here first. COD tells how often the picture can be halved while it is decoded.
"""

import struct
from dataclasses import dataclass
from typing import Final

from resizer.errors import CorruptPicture, PictureTooLarge, UnsupportedFormat

# OpenJPEG sets up 10 KB a tile before it reads one (65,025 of 1x1 took 629 MB); 50 megapixels in
# tiles of 128x128 are 3,052.
MAX_TILES: Final = 4096
MAX_COMPONENTS: Final = 4
MAX_BITS: Final = 16
# Annex A.5.1: up to 32 halvings.
_MAX_LEVELS: Final = 32
# The signature, ftyp and jp2h stand before the codestream, and some XML or UUID.
_MAX_BOXES: Final = 64
# COM markers of an encoder; COD comes second or third.
_MAX_MARKERS: Final = 64

_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
_COD, _SOT = 0xFF52, 0xFF90


@dataclass(frozen=True, slots=True)
class MainHeader:
    width: int
    height: int
    levels: int  # how often the sides can be halved


def read_main_header(data: bytes, max_side: int, max_pixels: int) -> MainHeader:
    """Raises CorruptPicture, UnsupportedFormat, PictureTooLarge."""
    start = _codestream_at(data)
    if data[start : start + 4] != _SOC_SIZ:
        raise CorruptPicture("a codestream without SOC and SIZ")
    try:
        width, height = _read_siz(data, start + 4, max_side, max_pixels)
        return MainHeader(width, height, _read_levels(data, start + 2))
    except struct.error as error:
        raise CorruptPicture(f"a main header that is cut: {error}") from error


def _codestream_at(data: bytes) -> int:
    """Annex I.4: boxes of a length, a type and a body; the codestream is the body of `jp2c`."""
    if data.startswith(_SOC_SIZ):
        return 0
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            break
        length, name = struct.unpack_from(">L4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if name == b"jp2c":
            return at + head
        if length < head:
            break
        at += length
    raise CorruptPicture("no codestream among the boxes")


def _read_siz(data: bytes, at: int, max_side: int, max_pixels: int) -> tuple[int, int]:
    (_, _, right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top, components) = (
        struct.unpack_from(">HHLLLLLLLLH", data, at)
    )
    width, height = right - left, bottom - top
    if width < 1 or height < 1 or tile_width < 1 or tile_height < 1:
        raise CorruptPicture(f"SIZ claims {width}x{height} in tiles {tile_width}x{tile_height}")
    # The grid is counted from its origin, not from the picture's corner.
    if max(right, bottom) > max_side or right * bottom > max_pixels:
        raise PictureTooLarge(f"{right}x{bottom} is over {max_side} or {max_pixels}")
    if tiles_left > left or tiles_top > top:
        raise CorruptPicture("tiles that begin inside the picture")
    tiles = -(-(right - tiles_left) // tile_width) * -(-(bottom - tiles_top) // tile_height)
    if tiles > MAX_TILES:
        raise PictureTooLarge(f"{tiles} tiles are over {MAX_TILES}")
    if not 1 <= components <= MAX_COMPONENTS:
        raise UnsupportedFormat(f"JPEG 2000 of {components} components")
    for each in range(components):
        bits, across, down = struct.unpack_from(">BBB", data, at + 38 + each * 3)
        if bits & 0x80 or (bits & 0x7F) + 1 > MAX_BITS:
            raise UnsupportedFormat(f"JPEG 2000 with a depth byte of {bits}")
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise UnsupportedFormat(f"JPEG 2000 with a sample every {across}x{down}")
    return width, height


def _read_levels(data: bytes, at: int) -> int:
    for _ in range(_MAX_MARKERS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _SOT or length < 2:
            break
        if marker == _COD:
            # Scod, progression order, layers, component transform, then the levels.
            levels: int = struct.unpack_from(">B", data, at + 9)[0]
            if levels > _MAX_LEVELS:
                raise CorruptPicture(f"{levels} levels")
            return levels
        at += 2 + length
    raise CorruptPicture("a main header without COD")
