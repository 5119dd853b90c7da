"""Encoding: limits of formats, and nothing written but pixels."""

import pytest
from PIL import Image, ImageCms

from resizer.encode import check_size, encode
from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.job import Job, Limits
from resizer.transform import parse
from resizer.worker import render
from tests.resizer.pictures import noise, opened, quarters, saved

SECRET = b"Zanzibar 47"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"


def telling(source: Format) -> bytes:
    """A picture that says where it was taken, in every way its format has."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x0112] = 3
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, object] = {"exif": exif, "icc_profile": icc, "xmp": XMP}
    if source in (Format.JPEG, Format.GIF):
        options["comment"] = SECRET
    if source is Format.GIF:
        options = {"comment": SECRET}
    data = saved(quarters(), source, **options)
    assert SECRET in data
    return data


@pytest.mark.parametrize("source", Format)
@pytest.mark.parametrize("output", Format)
def test_metadata_stays_behind(source: Format, output: Format) -> None:
    for text in ("w=16", ""):
        joined = ",".join(filter(None, (text, f"f={output}")))
        body, _ = render(telling(source), Job(parse(joined), Limits()))
        assert SECRET not in body
        for name in (b"Exif\0\0", b"ICC_PROFILE", b"iCCP", b"ICCP", b"eXIf", b"tEXt", b"iTXt"):
            assert name not in body
        image = opened(body)
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)
        assert not image.getexif()


@pytest.mark.parametrize("output", [Format.JPEG, Format.WEBP, Format.AVIF])
def test_quality(output: Format) -> None:
    image = opened(noise(64))
    weights = [len(encode(image.copy(), output, quality, 1 << 20)) for quality in (10, None, 95)]
    assert weights == sorted(weights)
    assert len(set(weights)) == 3


def test_jpeg_is_subsampled_and_baseline() -> None:
    image = opened(encode(quarters(64), Format.JPEG, 100, 1 << 20))
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]
    assert "progressive" not in image.info


def test_too_heavy() -> None:
    with pytest.raises(ImpossibleTransform):
        encode(opened(noise(64)), Format.PNG, None, 5000)


@pytest.mark.parametrize(
    ("output", "size"), [(Format.WEBP, (16_384, 1)), (Format.AVIF, (4000, 3001))]
)
def test_a_size_that_the_format_lacks(output: Format, size: tuple[int, int]) -> None:
    with pytest.raises(ImpossibleTransform):
        check_size(size, output)
    check_size((size[0], size[1] - 1) if size[1] > 1 else (size[0] - 1, 1), output)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("output", [Format.PNG, Format.WEBP, Format.AVIF, Format.GIF])
def test_modes(mode: str, output: Format) -> None:
    image = Image.new(mode, (9, 5))
    assert opened(encode(image, output, None, 1 << 20)).size == (9, 5)
