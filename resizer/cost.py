"""What a render will cost, in milliseconds of CPU, before a decoder has seen the picture. Pure.

The first bytes tell format and sides: JPEG's frame header (ITU-T T.81, B.2.2), PNG's IHDR (W3C PNG
11.2.1), GIF's logical screen, WebP's VP8, VP8L or VP8X chunk (RFC 9649), AVIF's ispe property
(ISO/IEC 23008-12, 6.5.3), TIFF's first directory (TIFF 6.0 section 2), JPEG 2000's ihdr box or SIZ
(ISO/IEC 15444-1, I.5.3.1 and A.5.1). They may lie: a lie moves a job to another lane, and nothing
else. Limits on pixels are the decoder's to enforce.

The estimate is linear in pixels and bytes, and learns how far off it is on this machine.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resizer.formats import MOVING, SNIFF_BYTES, Format, InputOnly, SourceFormat, outputs_of, sniff
from resizer.transform import Placeholder, Transform

# read(offset, length): so many bytes of the picture, fewer at its end, none where it can't be read.
Reader = Callable[[int, int], bytes]

# One page: all but a JPEG with EXIF or a profile in front of its frame header is decided by it.
FIRST_BYTES: Final = 4096
# EXIF, profile (up to 64 KB each, the latter in parts) and tables; beyond it we do not look on.
_MAX_SEGMENTS: Final = 48


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes claim. moves: a GIF that says how often it repeats."""

    format: SourceFormat
    width: int
    height: int
    moves: bool = False

    @property
    def pixels(self) -> int:
        return self.width * self.height


def maybe_header(read: Reader) -> Header | None:
    """The claims of a picture, None where none can be read."""
    head = read(0, FIRST_BYTES)
    found = sniff(head[:SNIFF_BYTES])
    match found:
        case Format.JPEG:
            sides = _jpeg_sides(head, read)
        case Format.PNG:
            sides = _png_sides(head)
        case Format.GIF:
            sides = _little(head, 6, 2), _little(head, 8, 2)
        case Format.WEBP:
            sides = _webp_sides(head)
        case Format.AVIF:
            sides = _avif_sides(head)
        case InputOnly.TIFF:
            sides = _tiff_sides(head, read)
        case InputOnly.JPEG2000:
            sides = _jpeg2000_sides(head)
        case _:
            return None
    if 0 in sides:
        return None
    return Header(found, *sides, moves=found is Format.GIF and _REPEATS in head)


Sides = tuple[int, int]
_UNKNOWN: Final = (0, 0)


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big") if len(data) >= at + size else 0


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little") if len(data) >= at + size else 0


# An application extension says how often a GIF repeats, and stands before its first frame.
_REPEATS: Final = b"NETSCAPE2.0"

# SOF0 to SOF15 without DHT, JPG and DAC, which share their range.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE: Final = frozenset((0x01, *range(0xD0, 0xD9)))
# SOS and EOI: pixels, or the end, came before any frame header.
_LAST: Final = frozenset((0xD9, 0xDA))


def _jpeg_sides(head: bytes, read: Reader) -> Sides:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        segment = head[at : at + 9]
        if len(segment) < 9:
            segment = read(at, 9)
        if len(segment) < 4 or segment[0] != 0xFF:
            return _UNKNOWN
        marker = segment[1]
        if marker in _FRAMES:
            return _big(segment, 7, 2), _big(segment, 5, 2)
        if marker in _LAST:
            return _UNKNOWN
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            length = _big(segment, 2, 2)  # its own two bytes are counted
            if length < 2:
                return _UNKNOWN
            at += 2 + length
    return _UNKNOWN


def _png_sides(head: bytes) -> Sides:
    return (_big(head, 16, 4), _big(head, 20, 4)) if head[12:16] == b"IHDR" else _UNKNOWN


def _webp_sides(head: bytes) -> Sides:
    match head[12:16]:
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            return _little(head, 26, 2) & 0x3FFF, _little(head, 28, 2) & 0x3FFF
        case b"VP8L" if head[20:21] == b"\x2f" and len(head) >= 25:
            bits = _little(head, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if len(head) >= 30:
            return _little(head, 24, 3) + 1, _little(head, 27, 3) + 1
        case _:
            return _UNKNOWN


def _avif_sides(head: bytes) -> Sides:
    """The largest of the first ispe properties: the tiles of a grid and the alpha have theirs."""
    best, at = _UNKNOWN, 0
    for _ in range(_MAX_SEGMENTS):
        at = head.find(b"ispe", at) + 4
        if at < 4:
            break
        sides = _big(head, at + 4, 4), _big(head, at + 8, 4)  # after version and flags
        if sides[0] * sides[1] > best[0] * best[1]:
            best = sides
    return best


# The entries of a TIFF's directory that are looked through; width and height stand first.
_MAX_ENTRIES: Final = 200
_TIFF_WIDTH: Final = 256
_TIFF_HEIGHT: Final = 257


def _tiff_sides(head: bytes, read: Reader) -> Sides:
    number = _little if head[:2] == b"II" else _big
    start = number(head, 4, 4)
    # Most writers put the directory behind the pixels.
    count = number(read(start, 2), 0, 2)
    entries = read(start + 2, 12 * min(count, _MAX_ENTRIES))
    sides = dict.fromkeys((_TIFF_WIDTH, _TIFF_HEIGHT), 0)
    for at in range(0, len(entries) - 11, 12):
        tag = number(entries, at, 2)
        if tag in sides:
            sides[tag] = number(entries, at + 8, 2 if number(entries, at + 2, 2) == 3 else 4)
    return sides[_TIFF_WIDTH], sides[_TIFF_HEIGHT]


def _jpeg2000_sides(head: bytes) -> Sides:
    if head.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = (_big(head, 8 + 4 * place, 4) for place in range(4))
        return max(right - left, 0), max(bottom - top, 0)
    at = head.find(b"ihdr")
    return (_big(head, at + 8, 4), _big(head, at + 4, 4)) if at >= 0 else _UNKNOWN


# --- the estimate --------------------------------------------------------------------------------


class Lane(enum.StrEnum):
    CHEAP = "cheap"
    DEAR = "dear"
    IDLE = "idle"  # ladders: only when nobody waits


# A thumbnail of a camera's JPEG takes 5 to 80 ms, what takes longer is a large output, or a source
# in a format that has to be decoded whole.
DEAR_MS: Final = 100.0

# Milliseconds a megapixel and a mebibyte of source, and a megapixel of output. Fitted on 2026-11-22
# to renders of a smooth and a detailed photograph of 6 megapixels at 16, 320, 1280 and 2900 px, on
# one core of the bench machine.
_DECODE_MP: Final[dict[SourceFormat, float]] = {
    Format.JPEG: 0.25,
    Format.PNG: 8.3,
    Format.WEBP: 6.0,
    Format.AVIF: 3.0,
    Format.GIF: 2.5,
    InputOnly.TIFF: 0.5,
    InputOnly.JPEG2000: 0.5,
}
_DECODE_MIB: Final[dict[SourceFormat, float]] = {
    Format.JPEG: 8.0,
    Format.PNG: 17.0,
    Format.WEBP: 40.0,
    Format.AVIF: 70.0,
    Format.GIF: 6.0,
    InputOnly.TIFF: 1.2,
    InputOnly.JPEG2000: 30.0,
}
_ENCODE_MP: Final = {
    Format.JPEG: 6.0,
    Format.PNG: 60.0,
    Format.WEBP: 22.0,
    Format.AVIF: 25.0,
    Format.GIF: 25.0,
}
# The inverse transform of what is scaled while it is decoded, a megapixel that is really decoded.
_INVERSE_MP: Final[dict[SourceFormat, float]] = {Format.JPEG: 4.0, InputOnly.JPEG2000: 27.0}
# Resampling, a megapixel that is read. A source is first reduced, or scaled by its decoder, to some
# six times the pixels that are wanted.
_RESAMPLE_MP: Final = 5.0
_REACH: Final = 6.0
_FIXED_MS: Final = 0.3
# A GIF that moves has so many bytes a pixel of each frame: between the 0.7 of noise and the 0.05 of
# a drawing in which little changes. Nobody counts frames before a decoder does.
_FRAME_BYTES: Final = 0.25
# Of these and of a picture's pixels, animation.py renders no more.
_MOST_FRAMES: Final = 300
_MOST_FRAME_PIXELS: Final = 50_000_000
# What nothing is known of but its bytes.
_UNKNOWN_MIB: Final = 40.0
# No estimate is above it: one lie must not make every Retry-After a minute.
_MOST_MS: Final = 10_000.0


def estimate_ms(header: Header | None, source_bytes: int, transform: Transform) -> float:
    """CPU of a render, before any correction."""
    mib = source_bytes / (1 << 20)
    if header is None:
        return min(_FIXED_MS + mib * _UNKNOWN_MIB, _MOST_MS)
    found = header.format
    output = transform.format or outputs_of(found)[0]
    frames = _frames(header, source_bytes, transform, output)
    source = header.pixels / 1e6 * frames
    made = _output_pixels(header, transform) / 1e6 * frames
    read = min(source, made * _REACH)
    cost = _FIXED_MS + source * _DECODE_MP[found] + mib * _DECODE_MIB[found]
    cost += read * (_INVERSE_MP.get(found, 0.0) + _RESAMPLE_MP) + made * _ENCODE_MP[output]
    return min(cost, _MOST_MS)


def _frames(header: Header, source_bytes: int, transform: Transform, output: Format) -> float:
    """How many are decoded and written, roughly, by the bytes that there are."""
    if not header.moves or output not in MOVING or transform.placeholder is not Placeholder.NONE:
        return 1.0
    frames = source_bytes / (header.pixels * _FRAME_BYTES)
    most = min(transform.frames or _MOST_FRAMES, _MOST_FRAME_PIXELS / header.pixels)
    return max(1.0, min(frames, most))


def _output_pixels(header: Header, transform: Transform) -> float:
    """Near enough: orientation and rounding change nothing that matters here."""
    width, height = transform.width, transform.height
    if width is None and height is None:
        return header.pixels
    wide = width if width is not None else header.width * (height or 1) / header.height
    high = height if height is not None else header.height * (width or 1) / header.width
    pixels = wide * high
    return pixels if transform.enlarge else min(pixels, header.pixels)


# A new render weighs a tenth: the mean follows a change of load within some ten renders.
_WEIGHT: Final = 0.1
# Beyond it the machine is not slower, but the estimate wrong for one picture.
_LEAST: Final = 0.25
_MOST: Final = 4.0
# Below it a job is mostly what a job costs at all, and says nothing of the constants.
_TELLING_MS: Final = 2.0


class Costs:
    """Estimates with what was learned: the mean ratio of true to estimated time, a format."""

    def __init__(self) -> None:
        kinds = (None, *Format, *InputOnly)
        self.corrections: dict[SourceFormat | None, float] = dict.fromkeys(kinds, 1.0)

    def estimate_ms(self, header: Header | None, source_bytes: int, transform: Transform) -> float:
        found = None if header is None else header.format
        return estimate_ms(header, source_bytes, transform) * self.corrections[found]

    def observe(self, header: Header | None, estimated_ms: float, true_ms: float) -> None:
        """What a job of this estimate (its correction included) took, or at least took."""
        if estimated_ms < _TELLING_MS:
            return
        found = None if header is None else header.format
        old = self.corrections[found]
        ratio = min(max(old * true_ms / estimated_ms, _LEAST), _MOST)
        self.corrections[found] = old + _WEIGHT * (ratio - old)


def lane_of(cost_ms: float) -> Lane:
    return Lane.CHEAP if cost_ms < DEAR_MS else Lane.DEAR
