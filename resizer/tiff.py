"""The first image file directory of a TIFF, checked before a decoder sees it (TIFF 6.0 section 2).

TIFF is a toolbox more than a format, and most faults of its decoders lie in the rare tools. What
passes here is what scanners and photo editors write: one picture, 1 to 16 bits a sample, grey,
palette, RGB or CMYK, without compression or by LZW, Deflate or PackBits. Fax, JPEG inside, floating
point, YCbCr and CIELab do not pass. Further pages are not looked at.
"""

import struct
from dataclasses import dataclass
from typing import Final

from resizer.errors import CorruptPicture, PictureTooLarge, UnsupportedFormat

# A camera's directory has some 30 entries, a georeferenced one 50.
MAX_ENTRIES: Final = 200

# Bytes of the types 1 to 12: byte, ascii, short, long, rational, their signed ones, float, double.
_TYPE_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)
_SHORT, _LONG = 3, 4

# Tag, what it is called, and the values that pass (None: any).
_COMPRESSION: Final = frozenset({1, 5, 8, 32_946, 32_773})
_PASSING: Final[dict[int, tuple[str, frozenset[int]]]] = {
    258: ("bits a sample", frozenset({1, 2, 4, 8, 16})),
    259: ("compression", _COMPRESSION),
    262: ("photometric interpretation", frozenset({0, 1, 2, 3, 5})),
    277: ("samples a pixel", frozenset({1, 2, 3, 4, 5})),
    284: ("planar configuration", frozenset({1, 2})),
    339: ("sample format", frozenset({1})),
}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_NUMBERS: Final = frozenset({*_PASSING, _WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT})
# Bits and sample format are given a sample; five samples are CMYK with transparency.
_MAX_VALUES: Final = 5


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    at: int  # where the values stand in the file

    @property
    def length(self) -> int:
        return self.count * _TYPE_BYTES[self.kind]


def check_tiff(data: bytes, max_side: int, max_pixels: int) -> None:
    """Raises CorruptPicture, UnsupportedFormat, PictureTooLarge."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        raise CorruptPicture(f"a TIFF of {len(data)} bytes")
    start = struct.unpack_from(order + "L", data, 4)[0]
    entries = _entries(data, order, start)
    # A decoder copies the values of every entry: together they can't be more than the file.
    if sum(entry.length for entry in entries.values()) > len(data):
        raise CorruptPicture("the entries of the directory are longer than the file")
    found = {tag: _values(data, order, entries[tag]) for tag in _NUMBERS & entries.keys()}
    for tag, (name, passing) in _PASSING.items():
        for value in found.get(tag, ()):
            if value not in passing:
                raise UnsupportedFormat(f"TIFF with {name} {value}")
    _check_sides(found, _WIDTH, _HEIGHT, max_side, max_pixels)
    if _TILE_WIDTH in found or _TILE_HEIGHT in found:
        # A decoder makes room for a whole tile, however small the picture. Sides are multiples
        # of 16, hence the rounding up.
        _check_sides(found, _TILE_WIDTH, _TILE_HEIGHT, max_side + 15, max_pixels)


def _entries(data: bytes, order: str, start: int) -> dict[int, _Entry]:
    if start + 2 > len(data):
        raise CorruptPicture(f"a directory at {start} of {len(data)} bytes")
    count = struct.unpack_from(order + "H", data, start)[0]
    if not 0 < count <= MAX_ENTRIES:
        raise CorruptPicture(f"a directory of {count} entries")
    if start + 2 + count * 12 > len(data):
        raise CorruptPicture("a directory that ends behind the file")
    entries: dict[int, _Entry] = {}
    for place in range(start + 2, start + 2 + count * 12, 12):
        tag, kind, number, at = struct.unpack_from(order + "HHLL", data, place)
        if not 1 <= kind < len(_TYPE_BYTES):
            raise CorruptPicture(f"tag {tag} of type {kind}")
        entry = _Entry(tag, kind, number, at)
        if entry.length <= 4:
            entry = _Entry(tag, kind, number, place + 8)
        elif at + entry.length > len(data):
            raise CorruptPicture(f"tag {tag} ends behind the file")
        # Two readers would not agree on which of the two counts.
        if tag in entries:
            raise CorruptPicture(f"tag {tag} stands twice")
        entries[tag] = entry
    return entries


def _values(data: bytes, order: str, entry: _Entry) -> tuple[int, ...]:
    if entry.kind not in (_SHORT, _LONG) or not 1 <= entry.count <= _MAX_VALUES:
        raise CorruptPicture(f"tag {entry.tag} is {entry.count} of type {entry.kind}")
    letter = "H" if entry.kind == _SHORT else "L"
    return struct.unpack_from(f"{order}{entry.count}{letter}", data, entry.at)


def _check_sides(
    found: dict[int, tuple[int, ...]], across: int, down: int, max_side: int, max_pixels: int
) -> None:
    try:
        (width,), (height,) = found[across], found[down]
    except (KeyError, ValueError):
        raise CorruptPicture("no width or no height") from None
    if width < 1 or height < 1:
        raise CorruptPicture(f"the directory claims {width}x{height}")
    if max(width, height) > max_side or width * height > max_pixels:
        raise PictureTooLarge(f"{width}x{height} of TIFF is over {max_side} or {max_pixels}")
