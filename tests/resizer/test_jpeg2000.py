"""JPEG 2000: the main header that is let through, halvings, pixels."""

import struct

import pytest
from PIL import Image

from resizer.decode import load_pixels, open_picture
from resizer.errors import BadPicture, CorruptPicture, PictureTooLarge, UnsupportedFormat
from resizer.formats import InputOnly
from resizer.job import Limits
from resizer.jpeg2000 import MAX_TILES, MainHeader, read_main_header
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, io, near, quarters, rendered

ON = {InputOnly.JPEG2000}


def written(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG2000", **options)
    return file.getvalue()


def siz(
    width: int = 10,
    height: int = 10,
    tile: tuple[int, int] = (10, 10),
    components: tuple[tuple[int, int, int], ...] = ((7, 1, 1),),
    offset: tuple[int, int] = (0, 0),
    tile_offset: tuple[int, int] = (0, 0),
) -> bytes:
    body = struct.pack(">HLLLLLLLL", 0, width, height, *offset, *tile, *tile_offset)
    body += struct.pack(">H", len(components)) + b"".join(bytes(each) for each in components)
    return b"\xff\x51" + struct.pack(">H", len(body) + 2) + body


COD = b"\xff\x52\x00\x0c" + bytes([0, 0, 0, 1, 0, 5, 4, 4, 0, 0])
SOC, SOT = b"\xff\x4f", b"\xff\x90\0\x0a" + bytes(8)


def test_header_cut_and_trailing() -> None:
    data = SOC + siz() + COD
    for tail in (b"", SOT, bytes(100), data):
        assert read_main_header(data + tail, 10, 100) == MainHeader(10, 10, 5)
    for end in range(4, len(data) - 4):
        with pytest.raises(CorruptPicture):
            read_main_header(data[:end], 10, 100)


def test_other_markers_before_cod() -> None:
    comment = b"\xff\x64\0\x05abc"
    assert read_main_header(SOC + siz() + comment * 3 + COD, 10, 100).levels == 5
    with pytest.raises(CorruptPicture):
        read_main_header(SOC + siz() + comment * 1000 + COD, 10, 100)
    with pytest.raises(CorruptPicture):
        read_main_header(SOC + siz() + SOT + COD, 10, 100)
    with pytest.raises(CorruptPicture):
        read_main_header(SOC + siz() + b"\xff\x64\0\0" + COD, 10, 100)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (siz(101, 1), PictureTooLarge),
        (siz(50, 21), PictureTooLarge),
        (siz(0xFFFF_FFFF, 0xFFFF_FFFF), PictureTooLarge),
        # a corner far from the grid's origin
        (siz(0xFFFF_FFFF, 10, offset=(0xFFFF_FFF5, 0)), PictureTooLarge),
        (siz(0, 10), CorruptPicture),
        (siz(10, 10, offset=(10, 0)), CorruptPicture),
        (siz(10, 10, tile=(0, 10)), CorruptPicture),
        (siz(10, 10, tile_offset=(1, 0)), CorruptPicture),
        (siz(components=()), UnsupportedFormat),
        (siz(components=((7, 1, 1),) * 5), UnsupportedFormat),
        (siz(components=((7, 1, 1),) * 16_384), UnsupportedFormat),
        (siz(components=((37, 1, 1),)), UnsupportedFormat),  # 38 bits
        (siz(components=((0x87, 1, 1),)), UnsupportedFormat),  # signed
        (siz(components=((7, 0, 1),)), UnsupportedFormat),
        (siz(components=((7, 1, 255),)), UnsupportedFormat),
    ],
)
def test_refused(header: bytes, error: type[BadPicture]) -> None:
    data = SOC + header + COD + SOT
    with pytest.raises(error):
        read_main_header(data, 100, 1000)
    with pytest.raises(error):
        open_picture(data, Limits(max_side=100, max_pixels=1000), ON)


def test_tiles() -> None:
    assert read_main_header(SOC + siz(64, 64, (1, 1)) + COD, 100, 10_000).width == 64
    assert MAX_TILES == 64 * 64
    with pytest.raises(PictureTooLarge):
        read_main_header(SOC + siz(65, 64, (1, 1)) + COD, 100, 10_000)


def test_boxes() -> None:
    data = written(quarters(64))
    assert read_main_header(data, 100, 10_000) == MainHeader(64, 64, 5)
    at = data.index(b"jp2c") - 4
    for boxes in (
        data[:at],
        data[:at] + struct.pack(">L4s", 8, b"free") * 100 + data[at:],
        data[:at] + struct.pack(">L4s", 7, b"free") + data[at:],
        data[:at] + struct.pack(">L4sQ", 1, b"free", 0) + data[at:],
        data[:at] + struct.pack(">L4sQ", 1, b"free", 1 << 63) + data[at:],
        data[:at] + struct.pack(">L4s", 8, b"jp2c") + data[at:],
    ):
        with pytest.raises(CorruptPicture):
            read_main_header(boxes, 100, 10_000)
    long = struct.pack(">L4sQ", 1, b"free", 16)
    assert read_main_header(data[:at] + long + data[at:], 100, 10_000).width == 64


def test_box_and_codestream_that_disagree() -> None:
    data = bytearray(written(quarters(64)))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">LL", 32, 64)
    with pytest.raises(CorruptPicture):
        open_picture(bytes(data), Limits(), ON)


# (asked, decoded): halved as often as leaves 1.25 times what is asked, and as the file allows
@pytest.mark.parametrize(
    ("asked", "size", "resolutions"),
    [(256, 256, 6), (104, 256, 6), (102, 128, 6), (51, 64, 6), (1, 8, 6), (1, 64, 3), (1, 256, 1)],
)
@pytest.mark.parametrize("bare", [False, True])
def test_halvings(asked: int, size: int, resolutions: int, bare: bool) -> None:
    data = written(quarters(256), num_resolutions=resolutions, no_jp2=bare)
    picture = open_picture(data, Limits(), ON)
    pixels, box = load_pixels(picture, (0, 0, 256, 256), (asked, asked))
    assert pixels.size == (size, size)
    assert box == (0, 0, size, size)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("side", [61, 64, 200])
def test_pixels(mode: str, side: int) -> None:
    data = written(quarters(side).convert(mode))
    got = rendered(data, "w=16,f=png")
    assert got.size == (16, 16)
    if mode.startswith("RGB"):
        for at, wanted in (((2, 2), RED), ((13, 2), GREEN), ((2, 13), BLUE), ((13, 13), GREY)):
            assert near(got.convert("RGB").getpixel(at), wanted, 16)


def test_cut_short() -> None:
    noisy = written(Image.effect_noise((64, 64), 100))
    for share in (0.3, 0.5, 0.9):
        with pytest.raises(BadPicture):
            picture = open_picture(noisy[: int(len(noisy) * share)], Limits(), ON)
            load_pixels(picture, (0, 0, 64, 64), (64, 64))
