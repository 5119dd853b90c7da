"""Decoding: formats, limits, cut files, JPEG's scale."""

import struct

import pytest
from PIL import Image

from resizer.decode import load_pixels, open_picture
from resizer.errors import BadPicture, CorruptPicture, PictureTooLarge, UnsupportedFormat
from resizer.formats import Format
from resizer.job import Limits
from resizer.orientation import Orientation
from tests.resizer import pictures

# As a worker's settle_warnings() has it.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "error::PIL.Image.DecompressionBombWarning"
)

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, max_side=2000)


def decoded(data: bytes, limits: Limits = LIMITS) -> Image.Image:
    picture = open_picture(data, limits)
    whole = (0, 0, *picture.stored)
    return load_pixels(picture, whole, picture.stored)[0]


@pytest.mark.parametrize("source", Format)
def test_every_format(source: Format) -> None:
    picture = open_picture(pictures.saved(pictures.quarters(), source), LIMITS)
    assert (picture.format, picture.stored, picture.upright) == (source, (32, 32), (32, 32))


@pytest.mark.parametrize("source", Format)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_cut_short(source: Format, share: float) -> None:
    data = pictures.noise(64, source)
    with pytest.raises(BadPicture):
        decoded(data[: max(40, int(len(data) * share))])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"Once upon a time there was a file of text. " * 10,
        b"<?xml version='1.0'?><svg/>" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n" + bytes(100),
        b"P6 2 2 255 " + bytes(100),
        b"BM" + bytes(100),
        b"II*\0" + bytes(100),
    ],
)
def test_no_format_of_ours(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        open_picture(data, LIMITS)


@pytest.mark.parametrize("source", Format)
def test_magic_and_rubbish(source: Format) -> None:
    data = pictures.saved(pictures.quarters(), source)
    with pytest.raises(CorruptPicture):
        decoded(data[:16] + bytes(200))
    with pytest.raises(CorruptPicture):
        decoded(data[:16] + b"\xff" * 200)


@pytest.mark.parametrize(
    "data",
    [
        pictures.png_that_claims(16_384, 16_384),
        pictures.png_that_claims(2001, 1),  # a side
        pictures.png_that_claims(1001, 1000),  # pixels
        pictures.png_that_claims(0x7FFF_FFFF, 0x7FFF_FFFF),
        b"GIF89a" + struct.pack("<HH3xc4HB", 65_535, 65_535, b",", 0, 0, 9, 9, 0) + b"\x02\x01D\0;",
        # an extended WebP whose canvas is 16,384 a side
        b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(20),
        b"\xff\xd8\xff" + bytes(1 << 20),  # bytes
    ],
)
def test_over_the_limits(data: bytes) -> None:
    with pytest.raises(PictureTooLarge):
        open_picture(data, LIMITS)


def test_the_bomb_is_small() -> None:
    assert len(pictures.png_that_claims(16_384, 16_384)) < 80


def test_at_the_limits() -> None:
    picture = open_picture(pictures.png_that_claims(2000, 500), LIMITS)
    assert picture.stored == (2000, 500)
    with pytest.raises(CorruptPicture):
        load_pixels(picture, (0, 0, 2000, 500), (2000, 500))


def test_sides_of_nothing() -> None:
    with pytest.raises(CorruptPicture):
        open_picture(pictures.png_that_claims(0, 10), LIMITS)


# (asked size of the whole, size that is decoded): the largest scale that leaves as much, and 1.25
# times as much of what is small
@pytest.mark.parametrize(
    ("asked", "size"),
    [(401, 800), (400, 400), (301, 400), (300, 400), (160, 200), (161, 400), (80, 100), (1, 100)],
)
def test_jpeg_scale(asked: int, size: int) -> None:
    data = pictures.saved(pictures.quarters(800), Format.JPEG)
    picture = open_picture(data, LIMITS)
    pixels, box = load_pixels(picture, (0, 0, 800, 800), (asked, asked))
    assert pixels.size == (size, size)
    assert box == (0, 0, size, size)


def test_jpeg_scale_of_a_crop() -> None:
    # A quarter of the picture at 50: as fine as the whole at 100.
    picture = open_picture(pictures.saved(pictures.quarters(801), Format.JPEG), LIMITS)
    pixels, box = load_pixels(picture, (400, 0, 801, 400), (50, 50))
    assert pixels.size == (201, 201)
    assert box == (100, 0, 200.25, 100)


def with_orientation(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG, Format.WEBP, Format.AVIF])
@pytest.mark.parametrize("tag", [1, 6, 8])
def test_orientation(source: Format, tag: int) -> None:
    image = pictures.quarters(32).crop((0, 0, 32, 16))
    data = pictures.saved(image, source, exif=with_orientation(tag))
    picture = open_picture(data, LIMITS)
    assert picture.orientation is Orientation(tag)
    assert picture.upright == ((32, 16) if tag == 1 else (16, 32))


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"])
def test_broken_exif_is_no_broken_picture(exif: bytes) -> None:
    data = pictures.saved(pictures.quarters(), Format.JPEG, exif=exif)
    picture = open_picture(data, LIMITS)
    assert picture.orientation is Orientation.UPRIGHT


def test_only_the_first_of_a_jpeg_with_two() -> None:
    image = pictures.quarters()
    file = pictures.io.BytesIO()
    image.save(file, "MPO", save_all=True, append_images=[image.rotate(90)])
    picture = open_picture(file.getvalue(), LIMITS)
    assert type(picture.image).__name__ == "JpegImageFile"


@pytest.mark.parametrize("source", Format)
def test_mutations_end_in_a_picture_or_an_error(source: Format) -> None:
    data = pictures.saved(pictures.quarters(), source)
    for place in range(0, len(data), max(1, len(data) // 150)):
        for value in (0, 0xFF, data[place] ^ 0x80):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                decoded(changed)
            except BadPicture:
                continue
