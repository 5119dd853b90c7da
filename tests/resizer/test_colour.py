"""Colour on pictures of named colours: modes, 16 bits, transparency, profiles."""

import struct
import zlib

import pytest
from PIL import Image, ImageCms

from resizer import colour
from resizer.formats import Format
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import GREY, RED, chunk, near, quarters, rendered, saved


def grey16() -> bytes:
    image = Image.new("I;16", (32, 32), 32_896)  # 128 x 257
    return saved(image, Format.PNG)


def palette(transparent: bool) -> bytes:
    image = quarters().quantize(4)
    options = {"transparency": image.getpixel((0, 0))} if transparent else {}
    return saved(image, Format.PNG, **options)


def grey_alpha() -> bytes:
    image = Image.new("LA", (32, 32), (128, 0))
    image.paste((128, 255), (16, 0, 32, 32))
    return saved(image, Format.PNG)


def keyed() -> bytes:
    return saved(quarters(), Format.PNG, transparency=RED)


# (source, output, mode, upper left, lower right)
MODES = [
    (saved(quarters().convert("L"), Format.JPEG), "jpeg", "L", (77,), (128,)),
    (saved(quarters().convert("1"), Format.PNG), "png", "L", None, None),
    (saved(quarters().convert("CMYK"), Format.JPEG, quality=95), "png", "RGB", RED, GREY),
    (saved(quarters().convert("CMYK"), Format.JPEG, quality=95), "jpeg", "RGB", RED, GREY),
    (grey16(), "png", "L", (128,), (128,)),
    (grey16(), "jpeg", "L", (128,), (128,)),
    (palette(False), "png", "RGB", RED, GREY),
    (palette(True), "png", "RGBA", (*RED[:0], 0, 0, 0, 0), (*GREY, 255)),
    (palette(True), "jpeg", "RGB", (0, 0, 255), GREY),
    (keyed(), "png", "RGBA", None, (*GREY, 255)),
    (keyed(), "webp", "RGBA", None, (*GREY, 255)),
    (keyed(), "jpeg", "RGB", (0, 0, 255), GREY),
    (grey_alpha(), "png", "LA", (128, 0), (128, 255)),
    (grey_alpha(), "jpeg", "RGB", (0, 0, 255), GREY),
    (grey_alpha(), "avif", "RGBA", None, (*GREY, 255)),
    (saved(quarters().convert("RGBA"), Format.PNG), "png", "RGB", RED, GREY),  # opaque after all
    (saved(quarters().quantize(4), Format.GIF), "png", "RGB", RED, GREY),
]


@pytest.mark.parametrize(("data", "output", "mode", "first", "last"), MODES)
def test_modes(
    data: bytes,
    output: str,
    mode: str,
    first: tuple[int, ...] | None,
    last: tuple[int, ...] | None,
) -> None:
    image = rendered(data, f"w=16,f={output},q=95,bg=0000ff")
    assert (image.mode, image.size) == (mode, (16, 16))
    for at, wanted in (((2, 2), first), ((14, 14), last)):
        got = image.getpixel(at)
        got = got if isinstance(got, tuple) else (got,)
        if wanted is not None and wanted[-1] == 0 and mode in ("LA", "RGBA"):
            assert got[-1] == 0  # a colour that nobody sees
        elif wanted is not None:
            assert near(got, wanted, 14), (at, got, wanted)


def test_gif_keeps_its_transparency() -> None:
    image = rendered(palette(True), "w=16,f=gif").convert("RGBA")
    assert near(image.getpixel((2, 2)), (0, 0, 0, 0), 255)
    assert image.getpixel((2, 2))[-1] == 0  # type: ignore[index]
    assert near(image.getpixel((14, 14)), (*GREY, 255), 14)


def test_transparent_pixels_do_not_bleed() -> None:
    # Red that nobody sees beside green: resampled without premultiplying, the edge turns brown.
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 255, 0, 255), (32, 0, 64, 64))
    got = rendered(saved(image, Format.PNG), "w=15,f=png")
    for x in range(15):
        red, _, _, alpha = got.getpixel((x, 7))  # type: ignore[misc]
        assert alpha == 0 or red <= 2


# --- colour --------------------------------------------------------------------------------------


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def swapped() -> bytes:
    """The sRGB profile with red and green exchanged: nobody can mistake whether it was applied."""
    data = bytearray(profile("sRGB"))
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG, Format.WEBP, Format.AVIF])
def test_profile_is_applied_and_dropped(source: Format) -> None:
    data = saved(quarters(), source, icc_profile=swapped(), quality=95)
    image = rendered(data, "w=16,f=png")
    # A green of the swapped profile is shown as red.
    assert near(image.getpixel((2, 2)), (30, 220, 30), 24)
    assert near(image.getpixel((14, 14)), GREY, 12)
    assert "icc_profile" not in image.info


def test_profile_and_transparency() -> None:
    image = quarters().convert("RGBA")
    image.putalpha(100)
    got = rendered(saved(image, Format.PNG, icc_profile=swapped()), "w=16,f=png")
    assert near(got.getpixel((2, 2)), (30, 220, 30, 100), 12)


def test_srgb_changes_nothing() -> None:
    plain = saved(quarters(), Format.PNG)
    tagged = saved(quarters(), Format.PNG, icc_profile=profile("sRGB"))
    wanted = parse("w=16,f=png")
    assert render(Source(plain, Limits()), wanted)[0] == render(Source(tagged, Limits()), wanted)[0]


@pytest.mark.parametrize(
    "icc",
    [b"rubbish" * 50, profile("LAB"), profile("XYZ"), profile("sRGB")[:300], bytes(128)],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_useless_profiles_are_ignored(icc: bytes, mode: str) -> None:
    data = saved(quarters().convert(mode), Format.JPEG, icc_profile=icc, quality=95)
    got = rendered(data, "w=16,f=png").convert("RGB").getpixel((14, 14))
    assert near(got, GREY, 12)


def test_profiles_are_remembered_and_bounded() -> None:
    colour.transforms.clear()
    small = Image.new("RGB", (1, 1))
    for number in range(colour.MAX_TRANSFORMS + 10):
        colour.to_srgb(small, b"%d" % number)
    assert len(colour.transforms) == colour.MAX_TRANSFORMS
    for _ in range(3):
        colour.to_srgb(small, swapped())
    assert len(colour.transforms) == colour.MAX_TRANSFORMS


# --- more bits, and one colour that is transparent ---

GREYS, COLOURS, GREYS_ALPHA, COLOURS_ALPHA = 0, 2, 4, 6
MID = 32_896  # 128 x 257


def png(kind: int, depth: int, row: bytes, transparent: bytes = b"") -> bytes:
    """16 rows alike, 16 pixels each: eight of one colour, eight of another."""
    head = struct.pack(">LLBBBBB", 16, 16, depth, kind, 0, 0, 0)
    key = chunk(b"tRNS", transparent) if transparent else b""
    pixels = zlib.compress((b"\0" + row) * 16)
    parts = (chunk(b"IHDR", head), key, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def halves(*values: tuple[int, ...]) -> bytes:
    return b"".join(struct.pack(f">{len(each)}H", *each) * 8 for each in values)


# (source, mode, left, right); None: a colour that nobody sees
DEEP = [
    (png(GREYS, 16, halves((MID,), (65_535,))), "L", (128,), (255,)),
    (png(GREYS, 16, halves((MID,), (1000,)), b"\x80\x80"), "LA", None, (4, 255)),
    # the same high byte, another low one: not the transparent grey
    (png(GREYS, 16, halves((MID,), (MID + 1,)), b"\x80\x80"), "LA", None, (128, 255)),
    (png(GREYS, 16, halves((MID,), (1000,)), b"\x80\x81"), "L", (128,), (4,)),
    (png(COLOURS, 16, halves((MID, 0, 65_535), (0, MID, 0))), "RGB", (128, 0, 255), (0, 128, 0)),
    (
        png(COLOURS, 16, halves((MID, 0, 65_535), (0, MID, 0)), b"\x80\x80\0\0\xff\xff"),
        *("RGBA", None, (0, 128, 0, 255)),
    ),
    (png(GREYS_ALPHA, 16, halves((MID, 0), (MID, 65_535))), "RGBA", None, (128, 128, 128, 255)),
    (
        png(COLOURS_ALPHA, 16, halves((0, 0, 0, 0), (MID, 0, 65_535, MID))),
        *("RGBA", None, (128, 0, 255, 128)),
    ),
    # Grey of 1, 2 and 4 bits: the transparent value counts in steps of its depth.
    (png(GREYS, 1, b"\0\xff", b"\0\1"), "LA", (0, 255), None),
    (png(GREYS, 2, b"\x55\x55\xaa\xaa", b"\0\1"), "LA", None, (170, 255)),
    (png(GREYS, 4, b"\x11\x11\x11\x11\xee\xee\xee\xee", b"\0\x0e"), "LA", (17, 255), None),
    (png(GREYS, 8, b"\x11" * 8 + b"\xee" * 8, b"\0\x11"), "LA", None, (238, 255)),
]


@pytest.mark.parametrize(("data", "mode", "left", "right"), DEEP)
def test_depths_and_transparent_colours(
    data: bytes, mode: str, left: tuple[int, ...] | None, right: tuple[int, ...] | None
) -> None:
    image = rendered(data, "w=8,f=png")
    assert image.mode == mode
    for x, wanted in ((1, left), (6, right)):
        got = image.getpixel((x, 4))
        got = got if isinstance(got, tuple) else (got,)
        if wanted is None:
            assert got[-1] <= 4, (x, got)  # the filter rings a little
        else:
            assert near(got, wanted, 3), (x, got, wanted)


@pytest.mark.parametrize(
    "mode", ["1", "L", "La", "LA", "P", "PA", "RGBa", "RGBX", "I;16B", "YCbCr"]
)
def test_every_mode_can_be_resampled(mode: str) -> None:
    image = colour.to_resamplable(Image.new(mode, (4, 4)), None)
    assert image.mode in ("L", "LA", "RGB", "RGBA")
    assert image.resize((2, 2), Image.Resampling.LANCZOS).size == (2, 2)


def test_a_palette_whose_colours_are_half_transparent() -> None:
    image = quarters().quantize(4)
    data = saved(image, Format.PNG, transparency=bytes([128] * 4))
    assert near(rendered(data, "w=16,f=png").getpixel((14, 14)), (*GREY, 128), 14)


# --- CMYK and wide gamuts ------------------------------------------------------------------------


def tagged(entries: dict[bytes, bytes], space: bytes, connection: bytes, kind: bytes) -> bytes:
    """A profile of these tags (ICC.1 section 7)."""
    at = 128 + 4 + 12 * len(entries)
    table = values = b""
    for name, value in entries.items():
        table += struct.pack(">4sLL", name, at + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    length = at + len(values)
    head = struct.pack(">L4sL4s4s4s", length, b"lcms", 0x0240_0000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">lll", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + struct.pack(">L", len(entries)) + table + values


def inks() -> bytes:
    """CMYK whose cyan ink is red, and whose other inks but black are invisible."""
    white, red, black = (255, 128, 128), (136, 208, 195), (0, 128, 128)  # Lab in bytes
    nodes = [
        black if key else red if cyan else white
        for cyan in (0, 1)
        for _ in range(4)
        for key in (0, 1)
    ]
    curve = bytes(range(256))
    matrix = struct.pack(">9l", *(65_536 if place % 4 == 0 else 0 for place in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix
    lut += curve * 4 + bytes(value for node in nodes for value in node) + curve * 3
    return tagged({b"A2B0": lut}, b"CMYK", b"Lab ", b"prtr")


def test_cmyk_by_its_profile() -> None:
    ink = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    data = saved(ink, Format.JPEG, quality=95)
    assert near(rendered(data, "w=16,f=png").getpixel((8, 8)), (0, 255, 255), 6)
    data = saved(ink, Format.JPEG, quality=95, icc_profile=inks())
    for output in ("png", "jpeg", "webp"):
        assert near(rendered(data, f"w=16,f={output},q=95").getpixel((8, 8)), (255, 0, 0), 24)
    key = Image.new("CMYK", (32, 32), (0, 0, 0, 255))
    data = saved(key, Format.JPEG, quality=95, icc_profile=inks())
    assert near(rendered(data, "w=16,f=png").getpixel((8, 8)), (0, 0, 0), 8)


def test_cmyk_as_adobe_and_others_write_it() -> None:
    """Adobe's programs store inks inverted and say so by an APP14; everybody does as they do."""
    data = saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), Format.JPEG, quality=95)
    at = data.index(b"\xff\xee\x00\x0eAdobe")
    for source in (data, data[:at] + data[at + 16 :]):
        assert near(rendered(source, "w=16,f=png").getpixel((8, 8)), (255, 0, 0), 6)


def display_p3() -> bytes:
    """The sRGB profile with the primaries of Display P3, which shares its curve and white."""
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    data = bytearray(profile("sRGB"))
    for number in range(struct.unpack_from(">L", data, 128)[0]):
        name, at, _ = struct.unpack_from(">4sLL", data, 132 + 12 * number)
        if name in primaries:
            struct.pack_into(">3l", data, at + 8, *(round(v * 65_536) for v in primaries[name]))
    return bytes(data)


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def curved(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


# From CSS Color 4: linear Display P3 to linear sRGB.
P3_TO_SRGB = ((1.22494, -0.22494, 0.0), (-0.04206, 1.04206, 0.0), (-0.01964, -0.07864, 1.09827))


@pytest.mark.parametrize("pixel", [(200, 100, 50), (128, 128, 128), (234, 51, 35), (90, 160, 200)])
@pytest.mark.parametrize("source", [Format.PNG, Format.AVIF])
def test_display_p3(pixel: tuple[int, int, int], source: Format) -> None:
    light = [linear(value / 255) for value in pixel]
    wanted = tuple(
        round(255 * curved(sum(a * b for a, b in zip(row, light, strict=True))))
        for row in P3_TO_SRGB
    )
    data = saved(Image.new("RGB", (32, 32), pixel), source, icc_profile=display_p3(), quality=95)
    assert near(rendered(data, "w=16,f=png").getpixel((8, 8)), wanted, 6)
    assert not colour.is_neutral(display_p3(), "RGB")
    assert colour.is_neutral(profile("sRGB"), "RGB")
    assert colour.is_neutral(profile("sRGB"), "P")
