"""Encoding: limits of formats, and nothing written but pixels."""

import pytest
from PIL import Image, ImageCms

from resizer.animation import Frame
from resizer.encode import LEAST_QUALITY, MAX_ATTEMPTS, check_size, encode, encode_moving
from resizer.errors import ImpossibleTransform
from resizer.formats import MOVING, Format
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
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
        body, _ = render(Source(telling(source), Limits()), parse(joined))
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


def test_progressive_where_asked() -> None:
    for progressive in (False, True):
        image = opened(encode(quarters(64), Format.JPEG, None, 1 << 20, progressive=progressive))
        assert ("progressive" in image.info) == progressive
    # It means nothing to the others.
    plain = encode(quarters(64), Format.WEBP, None, 1 << 20)
    assert encode(quarters(64), Format.WEBP, None, 1 << 20, progressive=True) == plain


@pytest.mark.parametrize("output", [Format.JPEG, Format.WEBP, Format.AVIF])
def test_a_weight_to_be_kept(output: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    image = opened(noise(96))
    weights = {
        quality: len(encode(image.copy(), output, quality, 1 << 20))
        for quality in (80, 62, 45, 27, LEAST_QUALITY)
    }
    attempts = []
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image, "save", lambda *a, **k: (attempts.append(k["quality"]), save(*a, **k))[1]
    )
    for most in weights.values():
        attempts.clear()
        body = encode(image.copy(), output, 80, 1 << 20, max_bytes=most)
        # Not over it, and not far below.
        assert most * 0.6 < len(body) <= most
        assert len(attempts) <= MAX_ATTEMPTS
    attempts.clear()
    with pytest.raises(ImpossibleTransform):
        encode(image.copy(), output, 80, 1 << 20, max_bytes=weights[LEAST_QUALITY] // 2)
    assert (len(attempts), attempts[-1]) == (MAX_ATTEMPTS, LEAST_QUALITY)
    attempts.clear()
    with pytest.raises(ImpossibleTransform):
        encode(image.copy(), output, 5, 1 << 20, max_bytes=10)
    assert attempts == [5]
    # The node's own limit is no reason to search.
    attempts.clear()
    with pytest.raises(ImpossibleTransform):
        encode(image.copy(), output, 80, weights[45])
    assert attempts == [80]


@pytest.mark.parametrize("output", [Format.PNG, Format.GIF])
def test_a_weight_where_there_is_no_quality(output: Format) -> None:
    image = opened(noise(64))
    weight = len(encode(image.copy(), output, None, 1 << 20))
    assert len(encode(image.copy(), output, None, 1 << 20, max_bytes=weight)) == weight
    with pytest.raises(ImpossibleTransform):
        encode(image.copy(), output, None, 1 << 20, max_bytes=weight - 1)


@pytest.mark.parametrize("output", sorted(MOVING))
def test_a_moving_one_to_be_kept_light(output: Format) -> None:
    frames = [Frame(opened(noise(48)), 50) for _ in range(3)]
    weight = len(encode_moving(frames, 0, output, 80, 1 << 20))
    if output is not Format.GIF:
        assert len(encode_moving(frames, 0, output, 80, 1 << 20, max_bytes=weight - 1)) < weight
    with pytest.raises(ImpossibleTransform):
        encode_moving(frames, 0, output, 80, 1 << 20, max_bytes=100)


def test_frames_of_several_modes() -> None:
    modes = ("L", "RGB", "LA", "RGBA")
    frames = [Frame(quarters(16).convert(mode), 50) for mode in modes]
    for output in MOVING:
        assert getattr(opened(encode_moving(frames[:2], 0, output, 80, 1 << 20)), "n_frames") == 2  # noqa: B009
        opened(encode_moving(frames, 0, output, 80, 1 << 20))


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
