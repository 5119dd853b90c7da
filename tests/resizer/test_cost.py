"""Headers read without a decoder, and what they are taken to cost."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resizer.cost import (
    DEAR_MS,
    FIRST_BYTES,
    Costs,
    Header,
    Lane,
    estimate_ms,
    lane_of,
    maybe_header,
)
from resizer.formats import Format, InputOnly, SourceFormat
from resizer.transform import Transform, parse
from tests.resizer.pictures import noise, quarters, saved


def header(data: bytes) -> Header | None:
    return maybe_header(lambda at, size: data[at : at + size])


def written(name: str, size: tuple[int, int], **options: object) -> bytes:
    with io.BytesIO() as file:
        Image.new("RGBA" if options.pop("alpha", False) else "RGB", size).save(
            file, name, **options
        )
        return file.getvalue()


EXIF = Image.Exif()
EXIF[0x010E] = "x" * 60_000

PICTURES = [
    *((Format(name.lower()), written(name, (300, 200))) for name in ("JPEG", "PNG", "GIF")),
    (Format.JPEG, written("JPEG", (300, 200), progressive=True)),
    # The frame header stands behind what does not fit the first page.
    (Format.JPEG, written("JPEG", (300, 200), exif=EXIF, icc_profile=bytes(150_000))),
    (Format.WEBP, written("WEBP", (300, 200))),
    (Format.WEBP, written("WEBP", (300, 200), lossless=True)),
    (Format.WEBP, written("WEBP", (300, 200), exif=EXIF)),  # VP8X
    (Format.WEBP, written("WEBP", (300, 200), alpha=True)),
    (Format.AVIF, written("AVIF", (300, 200))),
    (Format.AVIF, written("AVIF", (300, 200), alpha=True)),
    (InputOnly.TIFF, written("TIFF", (300, 200))),
    (InputOnly.TIFF, written("TIFF", (300, 200), compression="tiff_lzw")),  # directory at the end
    (InputOnly.TIFF, written("TIFF", (300, 200), big_endian=True)),
    (InputOnly.JPEG2000, written("JPEG2000", (300, 200))),
    (InputOnly.JPEG2000, written("JPEG2000", (300, 200), no_jp2=True)),  # a bare codestream
]


@pytest.mark.parametrize(("kind", "data"), PICTURES)
def test_real_pictures(kind: SourceFormat, data: bytes) -> None:
    assert header(data) == Header(kind, 300, 200)
    # Cut anywhere: the same, or nothing; never an exception, never other sides.
    for end in [*range(64), *range(64, min(len(data), 5000), 97)]:
        assert header(data[:end]) in (None, Header(kind, 300, 200))


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


SOF = segment(0xC2, struct.pack(">BHHB", 8, 200, 300, 3) + bytes(9))
SOI = b"\xff\xd8"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # usual
        (SOI + segment(0xE0, bytes(14)) + SOF, Header(Format.JPEG, 300, 200)),
        (SOI + segment(0xC4, bytes(20)) + SOF, Header(Format.JPEG, 300, 200)),  # DHT is no frame
        # edge
        (SOI + b"\xff\xff\xff" + SOF, Header(Format.JPEG, 300, 200)),  # fill bytes
        (SOI + b"\xff\x01" + SOF, Header(Format.JPEG, 300, 200)),  # TEM has no length
        (SOI + segment(0xFE, bytes(FIRST_BYTES - 10)) + SOF, Header(Format.JPEG, 300, 200)),
        (SOI + segment(0xE1) * 47 + SOF, Header(Format.JPEG, 300, 200)),
        (PNG + struct.pack(">II", 2**32 - 1, 1), Header(Format.PNG, 2**32 - 1, 1)),
        # hostile
        (SOI + segment(0xE1) * 48 + SOF, None),
        (SOI + b"\xff\xe1\0\0" + SOF, None),  # a length below its own
        (SOI + b"\xff" * 9000, None),
        (SOI + segment(0xDA, bytes(10)) + SOF, None),  # pixels first
        (SOI + b"\xff\xd9" + SOF, None),
        (SOI + b"\0" + SOF, None),
        (SOI + SOF[:8], None),
        (SOI + segment(0xC0, struct.pack(">BHHB", 8, 0, 300, 3)), None),  # height in a DNL
        (PNG + struct.pack(">II", 0, 1), None),
        (PNG.replace(b"IHDR", b"IDAT") + bytes(8), None),
        (b"GIF89a\0\0\1\0", None),
        (b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0bad" + bytes(9), None),
        (b"RIFF\0\0\0\0WEBPALPH" + bytes(30), None),
        (b"\0\0\0\x1cftypavif\0\0\0\0avif" + b"ispe" * 2000, Header),
        (b"\0\0\0\x1cftypavif" + bytes(5000), None),
        (b"", None),
        (b"text", None),
    ],
)
def test_made_headers(data: bytes, expected: Header | type | None) -> None:
    found = header(data)
    assert found == expected or (expected is Header and isinstance(found, Header))


STARTS = (SOI, PNG, b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"\0\0\0\x1cftypavif\0\0\0\0avifispe")


@given(st.sampled_from(STARTS), st.binary(max_size=200), st.integers(0, 1 << 40))
def test_any_bytes_have_a_cost_within_bounds(start: bytes, rest: bytes, size: int) -> None:
    found = header(start + rest)
    for text in ("", "w=220", "h=1", "w=16384,h=16384,fit=stretch,up=1,f=png"):
        assert 0 < estimate_ms(found, size, parse(text)) <= 10_000


MIB = 1 << 20
ORDERED = [
    # what is cheaper, what is dearer: (header, bytes, transform)
    ((Header(Format.JPEG, 16, 16), 500, "w=8"), (Header(Format.JPEG, 4000, 3000), MIB, "w=8")),
    ((Header(Format.JPEG, 4000, 3000), MIB, "w=220"), (Header(Format.JPEG, 4000, 3000), MIB, "")),
    (
        (Header(Format.JPEG, 4000, 3000), MIB, "w=220"),
        (Header(Format.PNG, 4000, 3000), MIB, "w=220"),
    ),
    (
        (Header(Format.JPEG, 4000, 3000), MIB, "w=1280"),
        (Header(Format.JPEG, 4000, 3000), MIB, "w=1280,f=png"),
    ),
    ((Header(Format.GIF, 99, 99), 9000, "w=9"), (Header(Format.GIF, 99, 99), 9 * MIB, "w=9")),
    ((None, 1000, "w=9"), (None, MIB, "w=9")),
    # Larger than the source is only what asks for it.
    ((Header(Format.PNG, 9, 9), 99, "w=999"), (Header(Format.PNG, 9, 9), 99, "w=999,up=1")),
]


@pytest.mark.parametrize(("cheaper", "dearer"), ORDERED)
def test_order(cheaper, dearer) -> None:
    less, more = (estimate_ms(found, size, parse(t)) for found, size, t in (cheaper, dearer))
    assert less < more


@pytest.mark.parametrize(
    ("found", "size", "text", "lane"),
    [
        (Header(Format.JPEG, 4000, 3000), 3 * MIB, "w=220", Lane.CHEAP),
        (Header(Format.JPEG, 4000, 3000), 3 * MIB, "w=640", Lane.CHEAP),
        (Header(Format.PNG, 800, 600), MIB // 2, "w=220", Lane.CHEAP),
        (Header(Format.JPEG, 8660, 5773), 12 * MIB, "w=1280", Lane.DEAR),
        (Header(Format.PNG, 4000, 3000), 12 * MIB, "w=220", Lane.DEAR),
        (Header(Format.PNG, 16_384, 16_384), 32_000, "w=220", Lane.DEAR),
        (None, 32 * MIB, "w=220", Lane.DEAR),
    ],
)
def test_lanes(found: Header | None, size: int, text: str, lane: Lane) -> None:
    assert lane_of(estimate_ms(found, size, parse(text))) is lane


def test_learning_follows_the_machine_and_only_so_far() -> None:
    costs = Costs()
    found = Header(Format.PNG, 1000, 1000)

    def estimate() -> float:
        return costs.estimate_ms(found, MIB, Transform(width=100))

    first = estimate()
    for _ in range(100):
        costs.observe(found, estimate(), first * 2)
    assert estimate() == pytest.approx(first * 2, rel=0.01)
    assert costs.estimate_ms(None, MIB, Transform()) == estimate_ms(None, MIB, Transform())
    for _ in range(200):
        costs.observe(found, estimate(), 1e9)
    assert estimate() == pytest.approx(first * 4, rel=0.01)
    for _ in range(200):
        costs.observe(found, estimate(), 0)
    assert estimate() == pytest.approx(first / 4, rel=0.01)
    before = dict(costs.corrections)
    costs.observe(found, 1.0, 1e9)  # a job that small is all overhead
    assert costs.corrections == before


def test_the_pool_s_own_pictures_are_cheap() -> None:
    for data in (noise(300), saved(quarters(64), Format.WEBP)):
        assert estimate_ms(header(data), len(data), Transform()) < DEAR_MS


def moving(frames: int, side: int = 300) -> bytes:
    pictures = [Image.effect_noise((side, side), 128).convert("P") for _ in range(frames)]
    return saved(pictures[0], Format.GIF, save_all=True, append_images=pictures[1:], loop=0)


def test_a_gif_that_moves_costs_by_its_frames() -> None:
    still, data = saved(Image.effect_noise((300, 300), 128), Format.GIF), moving(20)
    assert header(still) == Header(Format.GIF, 300, 300)
    found = header(data)
    assert found == Header(Format.GIF, 300, 300, moves=True)

    def estimate(text: str) -> float:
        return estimate_ms(found, len(data), parse(text))

    one = estimate_ms(header(still), len(still), parse("w=100"))
    assert estimate("w=100") > 10 * one
    assert estimate("w=100,f=webp") > 10 * one
    # What stands still is not multiplied: one frame is decoded.
    assert estimate("w=100,f=jpeg") < estimate("w=100") / 3
    assert estimate("w=100,fr=1") < estimate("w=100") / 3
    assert estimate("w=100,ph=thumbhash") < estimate("w=100") / 3


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0\xff\xff\xff\xff",  # a directory far behind the file
        b"II*\0\x08\0\0\0\xff\xff" + bytes(4000),
        b"MM\0*\0\0\0\x08\0\0",
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"ihdr",
        b"\xff\x4f\xff\x51" + bytes(36),
        b"\xff\x4f\xff\x51\0\x29\0\0"
        + b"\0\0\0\x01" * 2
        + b"\0\0\0\x02" * 2,  # ends before it begins
    ],
)
def test_hostile_headers_of_what_is_only_read(data: bytes) -> None:
    assert header(data) is None


@pytest.mark.parametrize(
    # Measured: 12 megapixels at 220 and 1280 px, to JPEG.
    ("found", "size", "text", "true_ms"),
    [
        (Header(InputOnly.JPEG2000, 4000, 3000), 18 * MIB // 10, "w=220", 67),
        (Header(InputOnly.JPEG2000, 4000, 3000), 18 * MIB // 10, "w=1280", 315),
        (Header(InputOnly.TIFF, 4000, 3000), 45 * MIB, "w=220", 96),
        (Header(InputOnly.TIFF, 4000, 3000), 45 * MIB, "w=1280", 122),
        (Header(InputOnly.TIFF, 4000, 3000), 36 * MIB, "w=1280", 44),
    ],
)
def test_what_is_only_read(found: Header, size: int, text: str, true_ms: float) -> None:
    assert 0.4 < estimate_ms(found, size, parse(text)) / true_ms < 2.5
