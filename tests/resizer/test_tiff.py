"""TIFF: the directory that is let through, and what it looks like decoded."""

import struct
import zlib

import pytest
from PIL import Image, TiffImagePlugin

from resizer.decode import load_pixels, open_picture
from resizer.errors import BadPicture, CorruptPicture, PictureTooLarge, UnsupportedFormat
from resizer.formats import InputOnly
from resizer.job import Limits
from resizer.render import Source, render
from resizer.tiff import MAX_ENTRIES, check_tiff
from resizer.transform import parse
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, io, near, quarters, rendered

SHORT, LONG = 3, 4
Tag = tuple[int, int, int, int]

# 2x2 of grey, 8 bits, its strip at 8
PLAIN: list[Tag] = [
    (256, SHORT, 1, 2),
    (257, SHORT, 1, 2),
    (258, SHORT, 1, 8),
    (259, SHORT, 1, 1),
    (262, SHORT, 1, 1),
    (273, LONG, 1, 8),
    (277, SHORT, 1, 1),
    (278, SHORT, 1, 2),
    (279, LONG, 1, 4),
]


def tiff(tags: list[Tag], order: str = "<", count: int | None = None) -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 12)
    data = (
        head + b"\0\x50\xa0\xff" + struct.pack(order + "H", len(tags) if count is None else count)
    )
    for tag, kind, number, value in tags:
        short = kind == SHORT and number <= 2
        place = struct.pack(order + "HH", value, 0) if short else struct.pack(order + "L", value)
        data += struct.pack(order + "HHL", tag, kind, number) + place
    return data + bytes(4)


def but(*changed: Tag) -> bytes:
    tags = {tag[0]: tag for tag in PLAIN} | {tag[0]: tag for tag in changed}
    return tiff([tags[number] for number in sorted(tags)])


@pytest.mark.parametrize("order", "<>")
def test_plain_cut_and_trailing(order: str) -> None:
    data = tiff(PLAIN, order)
    for tail in (b"", b"\0", data):
        check_tiff(data + tail, 2, 4)
        image = rendered(data + tail, "f=png")
        assert [image.getpixel(at) for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 80, 160, 255]
    for end in range(4, len(data) - 4):
        with pytest.raises(CorruptPicture):
            check_tiff(data[:end], 2, 4)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        # over the limits of 100 a side and 1000 pixels
        (but((256, SHORT, 1, 101)), PictureTooLarge),
        (but((256, SHORT, 1, 50), (257, SHORT, 1, 21)), PictureTooLarge),
        (but((256, LONG, 1, 0xFFFF_FFFF)), PictureTooLarge),
        (but((322, LONG, 1, 1 << 20), (323, LONG, 1, 16)), PictureTooLarge),
        (but((322, SHORT, 1, 16)), CorruptPicture),
        (but((256, SHORT, 1, 0)), CorruptPicture),
        # not what scanners write
        (but((259, SHORT, 1, 4)), UnsupportedFormat),  # fax
        (but((259, SHORT, 1, 7)), UnsupportedFormat),  # JPEG inside
        (but((259, SHORT, 1, 6)), UnsupportedFormat),
        (but((259, SHORT, 1, 50_001)), UnsupportedFormat),  # WebP inside
        (but((258, SHORT, 1, 32)), UnsupportedFormat),
        (but((339, SHORT, 1, 3)), UnsupportedFormat),  # floating point
        (but((262, SHORT, 1, 6)), UnsupportedFormat),  # YCbCr
        (but((262, SHORT, 1, 8)), UnsupportedFormat),  # CIELab
        (but((277, SHORT, 1, 9)), UnsupportedFormat),
        # a directory that lies
        (but((256, 2, 1, 2)), CorruptPicture),
        (but((256, SHORT, 2, 2)), CorruptPicture),
        (but((258, SHORT, 60_000, 8)), CorruptPicture),
        (but((700, 1, 1 << 30, 8)), CorruptPicture),
        (but((700, 1, 0xFFFF_FFFF, 0xFFFF_FFFF)), CorruptPicture),
        (but((700, 13, 1, 0)), CorruptPicture),
        (but((700, 0, 1, 0)), CorruptPicture),
        (but(*((700 + number, 1, 100, 8) for number in range(20))), CorruptPicture),
        (tiff([*PLAIN, (256, SHORT, 1, 3)]), CorruptPicture),  # twice
        (tiff(PLAIN[1:]), CorruptPicture),  # no width
        (tiff([]), CorruptPicture),
        (tiff(PLAIN, count=MAX_ENTRIES), CorruptPicture),
        (tiff(PLAIN, count=65_535) + bytes(65_535 * 12), CorruptPicture),
        (b"II*\0\xff\xff\xff\xff" + bytes(20), CorruptPicture),
    ],
)
def test_refused(data: bytes, error: type[BadPicture]) -> None:
    with pytest.raises(error):
        check_tiff(data, 100, 1000)
    with pytest.raises(error):
        open_picture(data, Limits(max_side=100, max_pixels=1000), {InputOnly.TIFF})


def written(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF", **options)
    return file.getvalue()


def test_off_unless_switched_on() -> None:
    with pytest.raises(UnsupportedFormat):
        open_picture(written(quarters()), Limits())
    with pytest.raises(UnsupportedFormat):
        open_picture(written(quarters()), Limits(), {InputOnly.JPEG2000})
    with pytest.raises(UnsupportedFormat):
        render(Source(written(quarters()), Limits()), parse("f=png"))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes(mode: str, compression: str | None) -> None:
    image = quarters(64)
    source = image.quantize(4) if mode == "P" else image.convert(mode.replace("I;16", "L"))
    if mode == "I;16":
        source = Image.new("I;16", (64, 64), 30 * 257)
    data = written(source, compression=compression)
    got = rendered(data, "w=16,f=png").convert("RGB")
    for at, wanted in (((2, 2), RED), ((13, 2), GREEN), ((2, 13), BLUE), ((13, 13), GREY)):
        if mode in ("RGB", "RGBA", "CMYK", "P"):
            assert near(got.getpixel(at), wanted, 14), (at, got.getpixel(at))
        elif mode == "I;16":
            assert near(got.getpixel(at), (30, 30, 30), 1)


def test_what_becomes_of_it() -> None:
    """JPEG where the request names no format, PNG where something is transparent."""
    assert rendered(written(quarters()), "w=8").format == "JPEG"
    assert rendered(written(quarters().convert("RGBA")), "w=8").format == "PNG"


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_orientation(tag: int) -> None:
    # Pillow turns a TIFF by itself, and once must be enough.
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[274] = tag
    data = written(quarters(64).crop((0, 0, 64, 32)), tiffinfo=directory)
    image = rendered(data, "w=32,f=png")
    first = {1: RED, 3: GREEN, 6: RED, 8: GREEN}[tag]
    assert image.size == ((32, 16) if tag < 5 else (32, 64))
    assert near(image.getpixel((2, 2)), first, 8)


def test_only_the_first_page() -> None:
    pages = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN)]
    data = written(pages[0], save_all=True, append_images=pages[1:])
    assert near(rendered(data, "w=8,f=gif").convert("RGB").getpixel((4, 4)), RED)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", None])
def test_cut_short(compression: str | None) -> None:
    noisy = Image.effect_noise((64, 64), 100)
    data = written(noisy, compression=compression)
    limits = Limits()
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(BadPicture):
            picture = open_picture(data[: int(len(data) * share)], limits, {InputOnly.TIFF})
            load_pixels(picture, (0, 0, 64, 64), (64, 64))


def test_a_bomb_is_no_larger_than_its_sides() -> None:
    # A strip that holds 64 MiB of zeros, for a picture of 2x2.
    strip = zlib.compress(bytes(64 << 20))
    at = len(tiff(PLAIN))
    data = but((259, SHORT, 1, 8), (273, LONG, 1, at), (279, LONG, 1, len(strip))) + strip
    assert len(data) < 70_000
    assert rendered(data, "f=png").getpixel((1, 1)) == 0
