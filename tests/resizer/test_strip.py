"""A file without its metadata: same pixels, no secrets; whole, cut at every byte, trailing."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from resizer.formats import Format, InputOnly
from resizer.rights import Rights, build_exif
from resizer.strip import strip
from tests.resizer.pictures import BLUE, GREEN, RED, chunk, noise, opened, quarters, saved

SECRET = b"Zanzibar 47"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
FORMATS = (Format.JPEG, Format.PNG, Format.WEBP, Format.GIF)
MINE = build_exif(Rights("Eva", "(c) Eva"))


def telling(source: Format, image: Image.Image | None = None, **options: object) -> bytes:
    """A picture that says where it was taken, in every way its format has."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if source is Format.GIF:
        options["comment"] = SECRET
    else:
        options |= {"exif": exif, "icc_profile": icc, "xmp": XMP}
    if source is Format.JPEG:
        options |= {"comment": SECRET}
    return saved(image or quarters(), source, **options)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def spliced() -> list[tuple[Format, bytes]]:
    jpeg, png = telling(Format.JPEG), telling(Format.PNG)
    thumbnail = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\2" + SECRET + b"!")
    webp = telling(Format.WEBP)
    return [
        *((each, telling(each)) for each in FORMATS),
        (Format.JPEG, telling(Format.JPEG, progressive=True)),
        (Format.JPEG, telling(Format.JPEG, quarters().convert("L"))),
        (Format.JPEG, telling(Format.JPEG, quarters(64), restart_marker_rows=1)),
        (Format.JPEG, jpeg[:2] + segment(0xED, b"Photoshop 3.0\0" + SECRET) + jpeg[2:]),
        (Format.JPEG, jpeg[:2] + thumbnail + jpeg[20:]),
        (Format.JPEG, jpeg[:2] + b"\xff\xff\xff" + segment(0xEE, SECRET) + jpeg[2:]),
        (Format.JPEG, jpeg + SECRET),  # a film behind the picture
        (Format.JPEG, jpeg + jpeg),
        (Format.PNG, png[:33] + chunk(b"tEXt", b"Comment\0" + SECRET) + png[33:]),
        (Format.PNG, png[:33] + chunk(b"prVt", SECRET) + png[33:]),
        (Format.PNG, png[:-12] + chunk(b"IEND", SECRET)),
        (Format.PNG, png + SECRET),
        (Format.PNG, telling(Format.PNG, quarters().quantize(4), transparency=0)),
        (Format.WEBP, telling(Format.WEBP, quarters().convert("RGBA"), lossless=True)),
        (Format.WEBP, telling(Format.WEBP, rgba())),
        (Format.WEBP, webp + SECRET),
        (Format.GIF, telling(Format.GIF) + SECRET),
    ]


def rgba() -> Image.Image:
    image = quarters().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((32, 32)))
    return image


@pytest.mark.parametrize(("source", "data"), spliced())
def test_the_same_pixels_and_no_secret(source: Format, data: bytes) -> None:
    assert SECRET in data
    bare = strip(data, source)
    assert bare is not None
    assert SECRET not in bare
    for name in (b"Exif", b"EXIF", b"eXIf", b"XMP", b"ICC", b"iCCP", b"tEXt", b"Photoshop"):
        assert name not in bare
    assert len(bare) < len(data)
    before, after = opened(data), opened(bare)
    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()
    assert strip(bare, source) == bare


@pytest.mark.parametrize("source", [Format.WEBP, Format.GIF])
def test_all_frames(source: Format) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    options = {"save_all": True, "append_images": frames[1:], "duration": [50, 60, 70], "loop": 3}
    bare = strip(telling(source, frames[0], **options), source)
    assert bare is not None
    image = opened(bare)
    assert (getattr(image, "n_frames", 1), image.info["loop"]) == (3, 3)
    for number, colour in enumerate((RED, GREEN, BLUE)):
        image.seek(number)
        assert (
            max(abs(a - b) for a, b in zip(image.convert("RGB").tobytes()[:3], colour, strict=True))
            < 12
        )


def test_of_a_png_that_moves_the_first_picture_stays() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN)]
    data = saved(frames[0], Format.PNG, save_all=True, append_images=frames[1:])
    bare = strip(data, Format.PNG)
    assert bare is not None
    assert b"acTL" in data
    assert b"fdAT" not in bare
    assert opened(bare).getpixel((3, 3)) == RED


@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG])
def test_rights_may_stay(source: Format) -> None:
    bare = strip(telling(source), source, MINE)
    assert bare is not None
    assert SECRET not in bare
    assert dict(opened(bare).getexif()) == {0x013B: "Eva", 0x8298: "(c) Eva"}


def test_no_place_for_rights() -> None:
    assert strip(telling(Format.WEBP), Format.WEBP, MINE) is None
    assert strip(telling(Format.GIF), Format.GIF, MINE) == strip(telling(Format.GIF), Format.GIF)


@pytest.mark.parametrize("source", FORMATS)
def test_cut_at_every_byte(source: Format) -> None:
    data = telling(source, quarters(8))
    for end in range(len(data)):
        assert strip(data[:end], source) is None, end


@pytest.mark.parametrize(
    ("source", "data"),
    [
        # no file of its kind
        *((each, b"") for each in (*Format, *InputOnly)),
        *((each, b"\xff\xd8\xff") for each in FORMATS),
        (Format.AVIF, saved(quarters(), Format.AVIF)),
        # JPEG of kinds that we would not take apart
        *(
            (Format.JPEG, b"\xff\xd8" + segment(marker, bytes(9)) + b"\xff\xd9")
            for marker in (0xC3, 0xC5, 0xC9, 0xCC, 0xDC, 0xDF, 0xF0, 0x01)
        ),
        (Format.JPEG, b"\xff\xd8" + segment(0xFE, b"") * 20_001 + b"\xff\xd9"),
        (Format.JPEG, b"\xff\xd8\xff\xfe\0\1\xff\xd9"),
        (Format.JPEG, b"\xff\xd8" + b"\xff" * 100_000),
        (Format.JPEG, b"\xff\xd8" + segment(0xDA, b"") + b"\xff\0" * 100),
        # an unknown chunk that a reader must know; too many chunks
        (Format.PNG, b"\x89PNG\r\n\x1a\n" + chunk(b"CRIT", b"") + chunk(b"IEND", b"")),
        (Format.PNG, b"\x89PNG\r\n\x1a\n" + chunk(b"abCd", b"") * 20_001 + chunk(b"IEND", b"")),
        (Format.WEBP, b"RIFF\xff\xff\xff\xffWEBP"),
        (Format.WEBP, b"RIFF\x0c\0\0\0WEBPVP8 \xff\xff\xff\xff"),
        (Format.WEBP, b"RIFF\x0e\0\0\0WEBPVP8X\2\0\0\0ab"),
        (
            Format.WEBP,
            b"RIFF" + struct.pack("<L", 4 + 8 * 20_001) + b"WEBP" + b"free\0\0\0\0" * 20_001,
        ),
    ],
)
def test_no_file_to_take_apart(source: Format, data: bytes) -> None:
    assert strip(data, source) is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_mutations(source: Format, data: st.DataObject) -> None:
    """Whatever the bytes: nothing raised, nothing grown, nothing left to strip."""
    changed = bytearray(telling(source, quarters(8)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    bare = strip(bytes(changed), source)
    if bare is not None:
        assert len(bare) <= len(changed)
        assert strip(bare, source) == bare


def test_a_large_one() -> None:
    data = noise(400, Format.JPEG, quality=95, comment=SECRET)
    bare = strip(data, Format.JPEG)
    assert bare is not None
    assert Image.open(io.BytesIO(bare)).size == (400, 400)
