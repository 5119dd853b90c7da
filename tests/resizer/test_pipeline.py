"""The pipeline on pictures of named colours: orientation, modes, profiles, transparency, bars."""

import io

import pytest
from PIL import Image, ImageCms

from resizer import pipeline
from resizer.formats import Format
from resizer.job import Job, Limits
from resizer.transform import parse
from resizer.worker import render
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, opened, quarters, saved


def rendered(data: bytes, text: str) -> Image.Image:
    body, result = render(data, Job(parse(text), Limits()))
    image = opened(body)
    assert (result.length, result.width, result.height) == (len(body), *image.size)
    assert result.media_type == f"image/{str(image.format).lower()}"
    return image


def near(got: object, wanted: tuple[int, ...], by: int = 6) -> bool:
    assert isinstance(got, tuple)
    assert len(got) == len(wanted), got
    return all(abs(a - b) <= by for a, b in zip(got, wanted, strict=True))


def corners(image: Image.Image) -> list[object]:
    image = image.convert("RGB")
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


# What a stored red, green / blue, grey looks like upright: upper left, upper right, lower left ...
UPRIGHT = {
    1: (RED, GREEN, BLUE, GREY),
    2: (GREEN, RED, GREY, BLUE),
    3: (GREY, BLUE, GREEN, RED),
    4: (BLUE, GREY, RED, GREEN),
    5: (RED, BLUE, GREEN, GREY),
    6: (BLUE, RED, GREY, GREEN),
    7: (GREY, GREEN, BLUE, RED),
    8: (GREEN, GREY, RED, BLUE),
}


def turned(tag: int, output: Format = Format.JPEG, size: tuple[int, int] = (256, 128)) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"quality": 95, "subsampling": 0} if output is Format.JPEG else {}
    return saved(quarters(256).resize(size), output, exif=exif, **options)


@pytest.mark.parametrize("tag", UPRIGHT)
@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG])
def test_orientation(tag: int, source: Format) -> None:
    # As Pillow itself would stand it up, and by the table.
    image = rendered(turned(tag, source), "w=64,f=png")
    assert image.size == ((64, 32) if tag <= 4 else (64, 128))
    for got, wanted in zip(corners(image), UPRIGHT[tag], strict=True):
        assert near(got, wanted, 12), (tag, got, wanted)


# Cut off three corners: what gravity keeps is meant upright.
@pytest.mark.parametrize("tag", UPRIGHT)
@pytest.mark.parametrize(
    ("gravity", "corner"), [("northwest", 0), ("northeast", 1), ("southwest", 2), ("southeast", 3)]
)
def test_crop_of_turned(tag: int, gravity: str, corner: int) -> None:
    data = turned(tag, size=(128, 128))
    image = rendered(data, f"w=64,h=128,fit=cover,g={gravity},f=png")
    assert image.size == (64, 128)
    assert near(corners(image)[corner], UPRIGHT[tag][corner], 12)
    data = turned(tag, size=(256, 256))
    image = rendered(data, f"w=60,h=20,fit=cover,g={gravity},f=png")
    assert near(corners(image)[corner], UPRIGHT[tag][corner], 12)


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


def test_the_first_frame() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert near(rendered(file.getvalue(), "w=8,f=png").getpixel((4, 4)), RED)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = rendered(file.getvalue(), "w=8")
    assert (image.format, getattr(image, "n_frames", 1)) == ("GIF", 1)
    assert near(image.convert("RGB").getpixel((4, 4)), RED)


def test_letterbox() -> None:
    data = saved(quarters(64).crop((0, 0, 64, 32)), Format.PNG)
    image = rendered(data, "w=64,h=64,fit=letterbox,f=png,bg=0000ff")
    assert image.size == (64, 64)
    assert image.getpixel((0, 15)) == (0, 0, 255)
    assert near(image.getpixel((0, 16)), RED)
    assert near(image.getpixel((63, 47)), GREEN)
    assert image.getpixel((0, 48)) == (0, 0, 255)


def test_letterbox_of_the_transparent() -> None:
    image = rendered(grey_alpha(), "w=64,h=32,fit=letterbox,f=png,bg=0000ff")
    assert image.getpixel((0, 0)) == (0, 0, 255, 255)
    assert image.getpixel((20, 16))[-1] == 0  # type: ignore[index]
    image = rendered(grey_alpha(), "w=64,h=32,fit=letterbox,f=jpeg,bg=0000ff")
    assert near(image.getpixel((20, 16)), (0, 0, 255))


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
    pipeline.transforms.clear()
    small = Image.new("RGB", (1, 1))
    for number in range(pipeline.MAX_TRANSFORMS + 10):
        pipeline.to_srgb(small, b"%d" % number)
    assert len(pipeline.transforms) == pipeline.MAX_TRANSFORMS
    for _ in range(3):
        pipeline.to_srgb(small, swapped())
    assert len(pipeline.transforms) == pipeline.MAX_TRANSFORMS
