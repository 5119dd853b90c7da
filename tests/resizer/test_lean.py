"""Never heavier than the original of the same size and format, and never its metadata."""

import pytest
from PIL import Image, ImageCms

from resizer.formats import Format
from resizer.job import Limits
from resizer.lean import lighter
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import near, noise, opened, quarters, saved

SECRET = b"Zanzibar 47"


def derived(data: bytes, text: str) -> bytes:
    return render(Source(data, Limits()), parse(text))[0]


def light(source: Format, **options: object) -> bytes:
    """A picture that is written lighter than we would."""
    usual: dict[Format, dict[str, object]] = {
        Format.JPEG: {"quality": 30, "comment": SECRET},
        Format.PNG: {"optimize": True, "exif": b"Exif\0\0" + SECRET},
        Format.WEBP: {"quality": 20, "method": 6, "xmp": SECRET},
        Format.GIF: {"comment": SECRET},
        Format.AVIF: {"quality": 20, "speed": 5, "xmp": SECRET},
    }
    if source is Format.PNG:
        return saved(Image.effect_noise((64, 64), 60), source, **usual[source], **options)
    if source is Format.GIF:
        image = quarters(64).quantize(4)
        return saved(image, source, **usual[source], **options)
    return noise(64, source, **usual[source], **options)


@pytest.mark.parametrize("source", Format)
@pytest.mark.parametrize("text", ["w=64", "w=900", "h=64,f={}", "w=64,h=64,fit=cover", ""])
def test_the_size_and_format_of_the_original(source: Format, text: str) -> None:
    data = light(source)
    body = derived(data, text.format(source))
    assert SECRET in data
    assert SECRET not in body
    # An AVIF can't be taken apart here; a lower quality must do, once.
    assert len(body) < len(data) * (1.1 if source is Format.AVIF else 1)
    image, original = opened(body).convert("RGB"), opened(data).convert("RGB")
    assert image.size == (64, 64)
    if source is not Format.AVIF:
        assert image.tobytes() == original.tobytes()


def test_the_lighter_one_of_ours_stays() -> None:
    data = noise(64, Format.JPEG, quality=98, comment=SECRET)
    assert len(derived(data, "w=64")) < len(data) * 0.6
    data = light(Format.JPEG)
    assert derived(data, "w=64,q=5") != derived(data, "w=64,q=80")


@pytest.mark.parametrize(
    "text", ["w=63", "w=64,f=png", "w=64,h=32,fit=cover", "w=64,h=63,fit=stretch"]
)
def test_of_another_size_or_format(text: str) -> None:
    data = light(Format.JPEG)
    body = derived(data, text)
    assert opened(body).convert("RGB").tobytes() != opened(data).convert("RGB").tobytes() or (
        "png" in text
    )
    assert SECRET not in body


def test_a_picture_that_lies_on_its_side_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = opened(noise(64))
    image.paste((0, 0, 0), (0, 0, 64, 16))
    data = saved(image, Format.JPEG, quality=20, exif=exif)
    got = opened(derived(data, "w=64,q=90")).convert("L")
    # The black bar was above and is to the right now.
    assert max(got.crop((52, 0, 64, 64)).tobytes()) < 60 < max(got.crop((0, 0, 40, 12)).tobytes())


def swapped() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = bytearray(profile)
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def test_a_profile_that_means_something_is_applied() -> None:
    data = saved(quarters(64), Format.JPEG, quality=20, icc_profile=swapped())
    assert near(opened(derived(data, "w=64")).getpixel((5, 5)), (30, 220, 30), 60)
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = noise(64, Format.JPEG, quality=20, icc_profile=plain)
    body = derived(data, "w=64")
    assert b"ICC_PROFILE" not in body
    assert opened(body).tobytes() == opened(data).tobytes()


def test_cmyk_becomes_rgb() -> None:
    data = saved(opened(noise(64)).convert("CMYK"), Format.JPEG, quality=10)
    assert opened(derived(data, "w=64")).mode == "RGB"


@pytest.mark.parametrize("source", [Format.GIF, Format.WEBP])
def test_what_stands_still_for_its_budget_does_not_move(source: Format) -> None:
    frames = [opened(noise(48)) for _ in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "quality": 0}
    data = saved(frames[0], source, **options)
    for limits, count in ((Limits(), 3), (Limits(max_frames=2), 1)):
        # One frame at this quality is heavier than the three of the original.
        body, _ = render(Source(data, limits), parse("w=48,q=100"))
        assert getattr(opened(body), "n_frames", 1) == count
        assert count == 1 or len(body) <= len(data)


@pytest.mark.parametrize("quality", [None, 60])
def test_again_at_a_lower_quality_once(quality: int | None) -> None:
    asked: list[int] = []

    def again(quality: int) -> bytes:
        asked.append(quality)
        return bytes(120)

    # AVIF's quality is 60 where none is asked for.
    assert lighter(bytes(150), bytes(100), Format.AVIF, quality, b"", again) == bytes(120)
    assert asked == [39]
    assert lighter(bytes(99), bytes(100), Format.AVIF, quality, b"", again) == bytes(99)
    assert lighter(bytes(110), bytes(100), Format.AVIF, quality, b"", again) == bytes(110)
    assert lighter(bytes(9999), bytes(100), Format.AVIF, quality, b"", again) == bytes(120)
    assert asked == [39, 54, 10]
