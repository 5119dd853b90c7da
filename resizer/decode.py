"""From untrusted bytes to pixels, by as little decoding as the output needs.

Order: the magic number, the header's sides against the limits, JPEG's DCT scaling, then pixels.
Only the formats of DECODERS, by name: one that is not asked for can't be reached by its bytes, and
of those that are only read, a site switches on each.
A source that ends early is an error, never a picture that is half grey.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from resizer.errors import CorruptPicture, PictureTooLarge, UnsupportedFormat
from resizer.formats import SNIFF_BYTES, STAND_INS, Format, InputOnly, SourceFormat, sniff
from resizer.geometry import Box, Size, oversampling
from resizer.job import Limits
from resizer.jpeg2000 import MainHeader, read_main_header
from resizer.orientation import Orientation
from resizer.rights import EXIF_ARTIST, EXIF_COPYRIGHT, Rights, gather
from resizer.tiff import check_tiff


@dataclass(frozen=True, slots=True)
class Decoder:
    """How one format is opened. The plugin is named, so that Image.open() finds it loaded: for a
    format that is missing it imports every plugin there is.

    check raises for what must not reach the plugin at all. stands_up: the plugin turns the pixels
    by the orientation itself.
    """

    plugin: type[ImageFile.ImageFile]
    check: Callable[[bytes, Limits], object] | None = None
    stands_up: bool = False

    @property
    def name(self) -> str:
        """Pillow's for the format."""
        return str(self.plugin.format)


DECODERS: Final[dict[SourceFormat, Decoder]] = {
    Format.JPEG: Decoder(JpegImagePlugin.JpegImageFile),
    Format.PNG: Decoder(PngImagePlugin.PngImageFile),
    Format.WEBP: Decoder(WebPImagePlugin.WebPImageFile),
    Format.GIF: Decoder(GifImagePlugin.GifImageFile),
    Format.AVIF: Decoder(AvifImagePlugin.AvifImageFile),
    InputOnly.TIFF: Decoder(
        TiffImagePlugin.TiffImageFile,
        check=lambda data, limits: check_tiff(data, limits.max_side, limits.max_pixels),
        stands_up=True,
    ),
    InputOnly.JPEG2000: Decoder(
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        check=lambda data, limits: read_main_header(data, limits.max_side, limits.max_pixels),
    ),
}

# Pillow's own opener turns a JPEG with a second picture inside into an MPO, a format with a parser
# and a list of faults of its own. The first picture is all we want.
Image.register_open(
    "JPEG", JpegImagePlugin.JpegImageFile, lambda prefix: prefix.startswith(b"\xff\xd8\xff")
)
# dav1d with two threads needs clone(), which the sandbox forbids.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
ImageFile.LOAD_TRUNCATED_IMAGES = False

# Real CMYK profiles reach 2.7 MB.
MAX_PROFILE_BYTES: Final = 4 << 20

_ORIENTATION_TAG: Final = 0x0112
# Photoshop's number for IPTC-IIM in its APP13.
_IPTC_RESOURCE: Final = 0x0404
# The signature, then a length, "IHDR", width and height (PNG, third edition, section 11.2.1).
_PNG_DEPTH_AT: Final = 24

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


@contextlib.contextmanager
def typed_failures(what: str) -> Iterator[None]:
    """What Pillow raises inside, as CorruptPicture or PictureTooLarge."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise PictureTooLarge(f"{what}: {type(error).__name__}") from error
    except _UNREADABLE as error:
        raise CorruptPicture(f"{what}: {error}") from error


def settle_warnings() -> None:
    """For a worker process: Pillow's bomb warning is an error (the default decodes the picture all
    the same), and no other is shown, because showing one opens a source file.
    """
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """A source whose header is read and within the limits; its pixels may not be decoded yet.

    stored is the size before any scaling, as the pixels lie in the file. halvings: how often a JPEG
    2000 can halve its sides while it decodes.
    """

    image: ImageFile.ImageFile
    format: SourceFormat
    stored: Size
    orientation: Orientation
    profile: bytes | None
    halvings: int = 0

    @property
    def upright(self) -> Size:
        return self.orientation.turn(self.stored)

    @property
    def output(self) -> Format:
        """The format of a derivative when the request names none."""
        if isinstance(self.format, Format):
            return self.format
        opaque, transparent = STAND_INS
        return transparent if self.image.has_transparency_data else opaque


def open_picture(data: bytes, limits: Limits, inputs: Collection[InputOnly] = ()) -> Picture:
    """Read the header. inputs: the formats that are switched on besides those that we write.

    Raises UnsupportedFormat, CorruptPicture, PictureTooLarge.
    """
    if len(data) > limits.max_bytes:
        raise PictureTooLarge(f"{len(data)} bytes are over {limits.max_bytes}")
    found = sniff(data[:SNIFF_BYTES])
    if found is None:
        raise UnsupportedFormat("no magic number of ours")
    if isinstance(found, InputOnly) and found not in inputs:
        raise UnsupportedFormat(f"{found} is switched off")
    decoder = DECODERS[found]
    checked = None if decoder.check is None else decoder.check(data, limits)
    # Pillow's own check, for the decoders that allocate while they open (WebP).
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    with typed_failures(f"{found} header"):
        image = Image.open(io.BytesIO(data), formats=(decoder.name,))
    _check_sides(image.size, limits)
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) > MAX_PROFILE_BYTES:
        profile = None
    turn = Orientation.UPRIGHT if decoder.stands_up else _orientation(image)
    halvings = 0
    if isinstance(checked, MainHeader):
        if (checked.width, checked.height) != image.size:
            raise CorruptPicture(f"{image.size} around a codestream of other sides")
        halvings = checked.levels
    if found is Format.PNG:
        _scale_key(image, data[_PNG_DEPTH_AT])
    return Picture(image, found, image.size, turn, profile, halvings)


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


def _scale_key(image: ImageFile.ImageFile, depth: int) -> None:
    """Pillow scales the samples of a PNG to 8 bits, and leaves the transparent colour as the file
    has it. Grey of 16 bits is scaled later, in colour.py.
    """
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "L" and depth < 8:
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def rights_of(picture: Picture) -> Rights:
    """Whose picture it is, as far as its file says so."""
    image = picture.image
    try:
        exif = image.getexif()
        artist, notice = exif.get(EXIF_ARTIST), exif.get(EXIF_COPYRIGHT)
    except _UNREADABLE:
        artist = notice = None
    resources = image.info.get("photoshop")
    iptc = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    return gather(
        artist,
        notice,
        iptc if isinstance(iptc, bytes) else None,
        xmp if isinstance(xmp, bytes) else None,
    )


def load_pixels(picture: Picture, box: Box, size: Size) -> tuple[Image.Image, Box]:
    """Decode enough to scale `box` to `size`, both as the pixels are stored.

    Returns the pixels and the same box among them. Raises CorruptPicture and PictureTooLarge.
    """
    image = picture.image
    more = oversampling(size)
    wanted = (
        _wanted(picture.stored[0], size[0] * more, box[2] - box[0]),
        _wanted(picture.stored[1], size[1] * more, box[3] - box[1]),
    )
    scale = 1.0
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        drafted = image.draft(None, wanted)
        if drafted is not None:
            scale = drafted[1][2] / picture.stored[0]
    elif isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        image.reduce = _halvings(picture, wanted)
    with typed_failures(f"{picture.format} pixels"):
        image.load()
    check_palette(image)
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        scale = image.width / picture.stored[0]
    left, top, right, bottom = (edge * scale for edge in box)
    return image, (left, top, min(right, image.width), min(bottom, image.height))


def _wanted(stored: int, side: float, box_side: float) -> int:
    return max(1, int(stored * side / box_side))


def check_palette(image: Image.Image) -> None:
    """Raises CorruptPicture for pixels that are numbers of colours which the file does not give."""
    if image.mode in ("P", "PA") and image.palette is None:
        raise CorruptPicture("a palette picture without a palette")


def _halvings(picture: Picture, wanted: Size) -> int:
    """How often JPEG 2000 may halve its sides while it decodes."""
    times = picture.halvings
    while times and any(
        stored >> times < side for stored, side in zip(picture.stored, wanted, strict=True)
    ):
        times -= 1
    return times
