"""Colour on pictures of named colours: modes, 16 bits, transparency, profiles."""

import pytest
from PIL import Image, ImageCms

from resizer import colour
from resizer.formats import Format
from resizer.job import Job, Limits
from resizer.transform import parse
from resizer.worker import render
from tests.resizer.pictures import GREY, RED, near, quarters, rendered, saved


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
    job = Job(parse("w=16,f=png"), Limits())
    assert render(plain, job)[0] == render(tagged, job)[0]


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
