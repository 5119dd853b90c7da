"""Every input, damaged in every way we can think of: a picture or a typed error, in bounded memory.

HALFTONE_EXAMPLES=20000 makes a longer run of the mutations.
"""

import os
import resource
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from resizer.decode import DECODERS
from resizer.errors import BadPicture, ImpossibleTransform
from resizer.formats import MOVING, Format, InputOnly, SourceFormat
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import chunk, io, quarters

# As a worker has them, settle_warnings().
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "error::PIL.Image.DecompressionBombWarning"
)

EXAMPLES = int(os.environ.get("HALFTONE_EXAMPLES", "120"))
# What a mutation may claim and still be decoded: 1 MB a channel.
LIMITS = Limits(
    max_bytes=1 << 20,
    max_pixels=1_000_000,
    max_side=4000,
    max_frames=20,
    max_animation_pixels=2_000_000,
)
# 24 bytes a pixel as the worker's memory limit has it, the files, and what Hypothesis remembers.
GROWTH_BYTES = 24 * LIMITS.max_pixels + (100 << 20)


def file_of(image: Image.Image, source: SourceFormat, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, DECODERS[source].name, **options)
    return file.getvalue()


def seeds() -> list[tuple[SourceFormat, bytes]]:
    image = quarters(24)
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "(c)"
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    noise = Image.effect_noise((24, 24), 90)
    found: list[tuple[SourceFormat, bytes]] = [
        (Format.JPEG, file_of(image, Format.JPEG, exif=exif, comment=b"text")),
        (Format.JPEG, file_of(image, Format.JPEG, progressive=True, restart_marker_rows=1)),
        (Format.JPEG, file_of(image.convert("CMYK"), Format.JPEG)),
        (Format.PNG, file_of(alpha, Format.PNG, exif=exif)),
        (Format.PNG, file_of(image.quantize(4), Format.PNG, transparency=b"\0\x80\xff")),
        (Format.PNG, file_of(Image.new("I;16", (24, 24), 999), Format.PNG, transparency=999)),
        (Format.WEBP, file_of(alpha, Format.WEBP, exif=exif)),
        (Format.WEBP, file_of(noise, Format.WEBP, lossless=True)),
        (Format.GIF, file_of(image.quantize(4), Format.GIF, comment=b"text")),
        (Format.AVIF, file_of(alpha, Format.AVIF, exif=exif)),
        (InputOnly.TIFF, file_of(image, InputOnly.TIFF, exif=exif)),
        (InputOnly.TIFF, file_of(noise, InputOnly.TIFF, compression="tiff_lzw")),
        (InputOnly.TIFF, file_of(alpha, InputOnly.TIFF, compression="packbits")),
        (InputOnly.TIFF, file_of(image.quantize(4), InputOnly.TIFF, compression="tiff_deflate")),
        (InputOnly.JPEG2000, file_of(alpha, InputOnly.JPEG2000)),
        (InputOnly.JPEG2000, file_of(noise, InputOnly.JPEG2000, no_jp2=True, tile_size=(8, 8))),
    ]
    frames = [alpha, alpha.rotate(90), image.convert("RGBA")]
    for each in sorted(MOVING):
        data = file_of(frames[0], each, save_all=True, append_images=frames[1:], duration=50)
        found.append((each, data))
    return found


SEEDS = seeds()
ASKED = ("w=9", "", "w=9,h=5,fit=cover,f=webp", "w=30,h=30,fit=letterbox,up=1,f=png", "f=gif")


def tried(data: bytes, text: str) -> None:
    """Anything but a picture and a typed error fails the test."""
    try:
        body, result = render(Source(data, LIMITS, inputs=tuple(InputOnly)), parse(text))
    except (BadPicture, ImpossibleTransform):
        return
    assert result.length == len(body) > 0


def test_the_seeds_are_good() -> None:
    assert {source for source, _ in SEEDS} == set(DECODERS)
    for source, data in SEEDS:
        for text in ASKED:
            _, result = render(Source(data, LIMITS, inputs=tuple(InputOnly)), parse(text))
            assert result.source_format is source


@pytest.mark.parametrize(("source", "data"), SEEDS)
def test_cut_at_many_places(source: SourceFormat, data: bytes) -> None:
    for end in range(0, len(data), max(1, len(data) // 60)):
        tried(data[:end], "w=9")
        tried(data[:end] + bytes(64), "w=9")


PNG_HEAD = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)


@st.composite
def mutations(draw: st.DrawFn, source: SourceFormat) -> bytes:
    """Bytes, numbers and stretches of a good file changed, taken out, repeated, swapped."""
    data = bytearray(draw(st.sampled_from([data for each, data in SEEDS if each is source])))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 32))
        match draw(st.integers(0, 5)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                order = draw(st.sampled_from("<>"))
                form, width = draw(st.sampled_from((("H", 2), ("L", 4))))
                number = draw(st.sampled_from(NUMBERS)) & ((1 << 8 * width) - 1)
                data[at : at + width] = struct.pack(order + form, number)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size] * draw(st.integers(1, 40))
            case 4:
                data[at : at + size] = draw(st.binary(max_size=32))
            case _:
                other = draw(st.sampled_from(SEEDS))[1]
                start = draw(st.integers(0, len(other) - 1))
                data[at : at + size] = other[start : start + size]
    is_mended = source is Format.PNG and draw(st.booleans())
    return mended(bytes(data)) if is_mended else bytes(data)


def mended(data: bytes) -> bytes:
    """A PNG with right checksums, or no damage would get beyond them."""
    at, parts = len(PNG_HEAD), [data[: len(PNG_HEAD)]]
    while at + 12 <= len(data):
        length = min(struct.unpack_from(">L", data, at)[0], len(data) - at - 12)
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts)


@pytest.mark.parametrize("source", sorted(DECODERS))
def test_mutations(source: SourceFormat) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(mutations(source), st.sampled_from(ASKED))
    def run(data: bytes, text: str) -> None:
        tried(data, text)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < GROWTH_BYTES, f"{grown >> 20} MiB"


def ihdr(width: int, height: int, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, *rest))


HEAD, IEND = PNG_HEAD + ihdr(8, 8, 8, 0, 0, 0, 0), chunk(b"IEND", b"")
ZEROS = zlib.compress(bytes(10 << 20), 9)


@pytest.mark.parametrize(
    "data",
    [
        # bombs: what is behind the header is larger than it says, or next to nothing
        HEAD + chunk(b"IDAT", ZEROS) + IEND,
        PNG_HEAD + ihdr(1000, 1000, 8, 6, 0, 0, 0) + chunk(b"IDAT", ZEROS[:99]) + IEND,
        PNG_HEAD + ihdr(8, 8, 8, 0, 0, 0, 0) + chunk(b"iCCP", b"x\0\0" + ZEROS) + IEND,
        PNG_HEAD + ihdr(8, 8, 8, 0, 0, 0, 0) + chunk(b"zTXt", b"x\0\0" + ZEROS) + IEND,
        HEAD + chunk(b"tEXt", b"x\0y") * 9999 + IEND,
        # headers of no sense
        PNG_HEAD + ihdr(8, 8, 99, 0, 0, 0, 0) + IEND,
        PNG_HEAD + ihdr(8, 8, 8, 3, 0, 0, 0) + chunk(b"IDAT", zlib.compress(bytes(72))),
        PNG_HEAD + chunk(b"IHDR", b""),
        PNG_HEAD,
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff\xfe\0\2" * 9999 + b"\xff\xd9",
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0MM\0*\0\0\0\x08" + b"\xff\xff" * 40_000,
        b"\xff\xd8" + b"\xff\xe2\0\x12ICC_PROFILE\0\1\xff" * 999 + b"\xff\xd9",
        b"GIF89a\1\0\1\0\xf7\0\0",
        b"GIF89a\0\0\0\0\0\0\0;",
        b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\xff" + b"a" * 255 * 1000,
        b"GIF89a\1\0\1\0\0\0\0" + b"!\xf9\0\0" * 9999 + b";",
        b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\xff\0\0\0\1\0\0\1\0\0",
        b"RIFF\x10\0\0\0WEBPVP8L\4\0\0\0/\xff\xff\xff",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08meta",
        b"\0\0\0\x1cftypavis\0\0\0\0avismif1miaf" + b"\xff" * 99,
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
        b"\xff\x4f\xff\x51" + bytes(99),
        b"II*\0\x08\0\0\0" + bytes(99),
    ],
)
def test_malformed(data: bytes) -> None:
    for text in ("w=4", ""):
        tried(data, text)
