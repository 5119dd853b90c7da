"""From untrusted bytes to pixels, by as little decoding as the output needs.

Order: the magic number, the header's sides against the limits, JPEG's DCT scaling, then pixels.
Only five formats, by name: a format that is not asked for can't be reached by its bytes.
A source that ends early is an error, never a picture that is half grey.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from resizer.errors import CorruptPicture, PictureTooLarge, UnsupportedFormat
from resizer.formats import SNIFF_BYTES, Format, sniff
from resizer.geometry import Box, Size
from resizer.job import Limits
from resizer.orientation import Orientation

# Named, so that Image.open() finds them loaded: for a format that is missing it imports every
# plugin there is.
PLUGINS: Final = {
    Format.JPEG: JpegImagePlugin,
    Format.PNG: PngImagePlugin,
    Format.WEBP: WebPImagePlugin,
    Format.GIF: GifImagePlugin,
    Format.AVIF: AvifImagePlugin,
}

# Pillow's own opener turns a JPEG with a second picture inside into an MPO, a format with a parser
# and a list of faults of its own. The first picture is all we want.
Image.register_open(
    "JPEG", JpegImagePlugin.JpegImageFile, lambda prefix: prefix.startswith(b"\xff\xd8\xff")
)
# dav1d with two threads needs clone(), which the sandbox forbids.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
ImageFile.LOAD_TRUNCATED_IMAGES = False

# JPEG is decoded at the smallest DCT scale that leaves this many times the pixels that are wanted
# in each direction. At 2 a 4000 px picture for 1280 px is decoded whole: 94 ms against 38 ms of
# CPU, for a difference of 1 dB at 53 dB.
OVERSAMPLING: Final = 1.5

# Real CMYK profiles reach 2.7 MB.
MAX_PROFILE_BYTES: Final = 4 << 20

_ORIENTATION_TAG: Final = 0x0112

# What Pillow raises on hostile bytes besides its own classes; each was seen or is documented.
_UNREADABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
)


def settle_warnings() -> None:
    """For a worker process: Pillow's bomb warning is an error (the default decodes the picture all
    the same), and no other is shown, because showing one opens a source file.
    """
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """A source whose header is read and within the limits; its pixels may not be decoded yet.

    stored is the size before any DCT scaling, as the pixels lie in the file.
    """

    image: ImageFile.ImageFile
    format: Format
    stored: Size
    orientation: Orientation
    profile: bytes | None

    @property
    def upright(self) -> Size:
        return self.orientation.turn(self.stored)


def open_picture(data: bytes, limits: Limits) -> Picture:
    """Read the header. Raises UnsupportedFormat, CorruptPicture, PictureTooLarge."""
    if len(data) > limits.max_bytes:
        raise PictureTooLarge(f"{len(data)} bytes are over {limits.max_bytes}")
    found = sniff(data[:SNIFF_BYTES])
    if found is None:
        raise UnsupportedFormat("no magic number of ours")
    # Pillow's own check, for the decoders that allocate while they open (WebP).
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        image = Image.open(io.BytesIO(data), formats=(found.name,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise PictureTooLarge(f"header: {error}") from error
    except _UNREADABLE as error:
        raise CorruptPicture(f"{found} header: {error}") from error
    _check_sides(image.size, limits)
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) > MAX_PROFILE_BYTES:
        profile = None
    return Picture(image, found, image.size, _orientation(image), profile)


def _check_sides(size: Size, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptPicture(f"the header claims {width}x{height}")
    if max(width, height) > limits.max_side:
        raise PictureTooLarge(f"{width}x{height} is over {limits.max_side} a side")
    if width * height > limits.max_pixels:
        raise PictureTooLarge(f"{width}x{height} is over {limits.max_pixels} pixels")


def _orientation(image: ImageFile.ImageFile) -> Orientation:
    # Reading EXIF may decode a PNG, whose EXIF can stand after its pixels: hence after the limits.
    # Broken EXIF does not make a picture broken, but a PNG that fails here fails in load() too.
    try:
        return Orientation.of(image.getexif().get(_ORIENTATION_TAG))
    except _UNREADABLE:
        return Orientation.UPRIGHT


def load_pixels(picture: Picture, box: Box, size: Size) -> tuple[Image.Image, Box]:
    """Decode enough to scale `box` to `size`, both as the pixels are stored.

    Returns the pixels and the same box among them. Raises CorruptPicture and PictureTooLarge.
    """
    image = picture.image
    scale = 1.0
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        wanted = (
            _wanted(picture.stored[0], size[0], box[2] - box[0]),
            _wanted(picture.stored[1], size[1], box[3] - box[1]),
        )
        drafted = image.draft(None, wanted)
        if drafted is not None:
            scale = drafted[1][2] / picture.stored[0]
    try:
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise PictureTooLarge(f"{picture.format} pixels: {type(error).__name__}") from error
    except _UNREADABLE as error:
        raise CorruptPicture(f"{picture.format} pixels: {error}") from error
    left, top, right, bottom = (edge * scale for edge in box)
    return image, (left, top, min(right, image.width), min(bottom, image.height))


def _wanted(stored: int, side: int, box_side: float) -> int:
    return max(1, int(stored * side * OVERSAMPLING / box_side))
