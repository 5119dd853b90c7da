"""Down a ladder with pixels: each rung against its direct render, failures, memory."""

import functools
import math
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from resizer import decode, descent, encode, ladder, pipeline
from resizer.decode import open_picture
from resizer.errors import CorruptPicture
from resizer.formats import Format
from resizer.job import Failure, FailureKind, Limits, Result
from resizer.ladder import BadLadder, Encoded
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import opened, quarters, saved

LIMITS = Limits()
WIDTHS = [f"w={width}" for width in (120, 220, 250, 330, 480, 640, 960, 1280)]
YOUTUBE = [
    f"w={size},fit=letterbox,up=1,f=jpeg,bg=000000"
    for size in ("120,h=90", "320,h=180", "480,h=360", "640,h=480", "1280,h=720")
]
MIXED = [
    *("w=640", "w=640,f=webp", "w=640,h=640,fit=letterbox,bg=ff0000", "w=200,h=100,fit=cover"),
    *("w=100,h=50,fit=cover", "w=300,h=300,fit=stretch", "h=90,f=gif", "w=120,q=30", "w=64,f=png"),
    *("w=400,h=400,fit=cover,g=southeast,f=avif", "w=2000,up=1"),
]


@functools.cache
def scene(width: int = 1600, height: int = 1000) -> Image.Image:
    """Something like a photograph: large shapes, edges, fine grain."""
    ground = Image.radial_gradient("L").resize((width, height))
    grain = Image.effect_noise((width // 3, height // 3), 24).resize((width, height))
    shapes = quarters(8).resize((width, height), Image.Resampling.NEAREST)
    image = Image.merge("RGB", (ground, grain, ImageChops.invert(ground)))
    return Image.blend(image, shapes, 0.3)


@functools.cache
def source(output: Format = Format.JPEG, tag: int = 1, mode: str = "RGB") -> bytes:
    image = scene().convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = tag
    return saved(image, output, exif=exif, **({"quality": 92} if output is Format.JPEG else {}))


def down(
    data: bytes, texts: Sequence[str], limits: Limits = LIMITS
) -> dict[int, tuple[bytes, Result] | Failure]:
    steps = list(descent.render_all(open_picture(data, limits), [*map(parse, texts)], limits))
    outcomes = dict(steps)
    assert len(steps) == len(outcomes) == len(texts)
    return outcomes


def direct(data: bytes, text: str) -> tuple[bytes, Result]:
    return render(Source(data, LIMITS), parse(text))


def decibels(one: bytes, other: bytes | Image.Image) -> float:
    """PSNR on black and on white: the colour of what is transparent has no meaning."""
    images = [opened(one), opened(other) if isinstance(other, bytes) else other]
    assert images[0].size == images[1].size
    if any(image.has_transparency_data for image in images):
        images = [image.convert("RGBA") for image in images]
        grounds = [Image.new("RGBA", images[0].size, colour) for colour in ("black", "white")]
        pairs = [[Image.alpha_composite(each, image) for image in images] for each in grounds]
    else:
        pairs = [[image.convert("RGB") for image in images]]
    differences = (ImageStat.Stat(ImageChops.difference(*pair)).rms for pair in pairs)
    rms = max(0.01, *(level for levels in differences for level in levels))
    return 20 * math.log10(255 / rms)


# (format, orientation, mode, transforms, closeness in dB)
CLOSE = [
    (Format.JPEG, 1, "RGB", WIDTHS, 38),
    (Format.JPEG, 6, "RGB", WIDTHS, 37),
    (Format.JPEG, 1, "L", WIDTHS, 38),
    (Format.JPEG, 1, "RGB", YOUTUBE, 38),
    (Format.JPEG, 1, "RGB", MIXED, 30),
    (Format.JPEG, 7, "RGB", MIXED, 30),
    (Format.PNG, 6, "RGBA", MIXED, 30),
    (Format.PNG, 1, "P", WIDTHS, 38),
    (Format.WEBP, 1, "RGBA", WIDTHS[:4], 38),
    # a rung without transparency, and with bars, above some that keep theirs
    (Format.PNG, 1, "RGBA", ["w=640,h=640,fit=letterbox,f=jpeg,bg=ff0000", "w=200", "w=90"], 34),
]


@pytest.mark.parametrize(("output", "tag", "mode", "texts", "closeness"), CLOSE)
def test_every_rung_is_close_to_its_direct_render(
    output: Format, tag: int, mode: str, texts: list[str], closeness: float
) -> None:
    data = source(output, tag, mode)
    steps = list(descent.render_all(open_picture(data, LIMITS), [*map(parse, texts)], LIMITS))
    assert sorted(place for place, _ in steps) == list(range(len(texts)))
    for place, outcome in steps:
        assert not isinstance(outcome, Failure), outcome
        body, result = outcome
        alone, facts = direct(data, texts[place])
        assert (result.media_type, result.width, result.height) == (
            *(facts.media_type, facts.width, facts.height),
        )
        assert (result.source_width, result.source_height) == (
            *(facts.source_width, facts.source_height),
        )
        assert result.length == len(body)
        assert decibels(body, alone) > closeness, (texts[place], result.lineage)
        # No lineage, no difference: a tag without one is the direct render's.
        assert result.lineage or body == alone, texts[place]


@pytest.mark.parametrize("output", [Format.JPEG, Format.PNG])
@pytest.mark.parametrize("text", [*MIXED, ""])
def test_one_rung_is_the_direct_render(output: Format, text: str) -> None:
    data = source(output, 6)
    outcome = down(data, [text])[0]
    assert not isinstance(outcome, Failure)
    assert outcome[0] == direct(data, text)[0]


def test_a_profile_is_applied_once() -> None:
    """The rungs below are of sRGB pixels already."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = icc.index(b"rXYZ"), icc.index(b"gXYZ")
    icc[red : red + 4], icc[green : green + 4] = b"gXYZ", b"rXYZ"
    data = saved(quarters(512), Format.PNG, icc_profile=bytes(icc))
    for place, outcome in down(data, ["w=256", "w=128", "w=64"]).items():
        assert not isinstance(outcome, Failure)
        got = opened(outcome[0]).getpixel((8, 8))
        wanted = opened(direct(data, ["w=256", "w=128", "w=64"][place])[0]).getpixel((8, 8))
        assert isinstance(got, tuple)
        assert isinstance(wanted, tuple)
        assert all(abs(a - b) <= 2 for a, b in zip(got, wanted, strict=True)), place


def test_one_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    load = decode.load_pixels

    def counted(*args: object) -> tuple[Image.Image, tuple[float, ...]]:
        found = load(*args)  # type: ignore[arg-type]
        sizes.append(found[0].size)
        return found

    monkeypatch.setattr(decode, "load_pixels", counted)
    outcomes = down(source(), ["w=100", "w=200", "w=100", "w=300"])
    assert sizes == [(400, 250)]
    assert outcomes[0] == outcomes[2]
    # Decoding stands where it was done.
    times = [each[1].decode_ms for each in outcomes.values() if not isinstance(each, Failure)]
    assert sum(ms > 0 for ms in times) == 1


@pytest.mark.parametrize("side", [1, 7, 8, 64, 333, 1000])
@pytest.mark.parametrize("tag", [1, 3, 6, 7])
def test_the_planned_scale_is_the_decoders(side: int, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    data = saved(Image.new("RGB", (side, 400)), Format.JPEG, exif=exif)
    for text in ("w=20", "w=33", "h=100", "h=267", "w=20,h=90,fit=cover", "w=60,h=60,up=1"):
        picture = open_picture(data, LIMITS)
        (rung,) = ladder.plan(descent.source_of(picture), [parse(text)], LIMITS.max_pixels)
        turn = picture.orientation
        box = turn.stored_box(rung.plan.box, picture.stored)
        pixels, _ = decode.load_pixels(picture, box, turn.turn(rung.plan.inner))
        assert pixels.size == (-(-side // rung.scale), -(-400 // rung.scale)), text
    assert encode.SETTINGS[Format.JPEG].quality == ladder.USUAL_JPEG_QUALITY


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [WIDTHS, YOUTUBE, MIXED])
def test_two_rungs_at_once(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a picture is made, no more than one other is alive beside the source."""
    alive: list[weakref.ref[Image.Image]] = []
    most = 0
    work = pipeline.render

    def watched(*args: object, **options: object) -> Image.Image:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        made = work(*args, **options)  # type: ignore[arg-type]
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(pipeline, "render", watched)
    for _ in descent.render_all(open_picture(source(), LIMITS), [*map(parse, texts)], LIMITS):
        assert sum(ref() is not None for ref in alive) <= 1
    assert most == 1
    assert all(ref() is None for ref in alive)


def test_the_source_goes_when_no_rung_needs_it() -> None:
    picture = open_picture(source(), LIMITS)
    steps = descent.render_all(picture, [parse("w=640"), parse("w=500"), parse("w=80")], LIMITS)
    next(steps)
    assert picture.image.getpixel((0, 0)) is not None
    next(steps)
    with pytest.raises(ValueError, match="closed"):
        picture.image.getpixel((0, 0))
    assert len(list(steps)) == 1


# --- failures ------------------------------------------------------------------------------------


def kinds(outcomes: dict[int, tuple[bytes, Result] | Failure]) -> list[FailureKind | None]:
    return [
        outcome.kind if isinstance(outcome, Failure) else None
        for _, outcome in sorted(outcomes.items())
    ]


def test_the_impossible_fails_alone() -> None:
    limits = Limits(max_pixels=2_000_000)
    asked = ["w=4000,up=1", "w=640", "w=4000,up=1", "w=200", "w=16384,h=9,fit=stretch,up=1,f=webp"]
    bad = FailureKind.IMPOSSIBLE
    assert kinds(down(source(), asked, limits)) == [bad, None, bad, None, bad]
    assert kinds(down(source(), asked[:1], limits)) == [bad]
    assert down(source(), []) == {}


def test_a_file_too_long_fails_alone() -> None:
    """Those below are made from its pixels all the same."""
    outcomes = down(source(), ["w=1280", "w=640", "w=64"], Limits(max_output_bytes=20_000))
    assert kinds(outcomes) == [FailureKind.IMPOSSIBLE, FailureKind.IMPOSSIBLE, None]


def test_without_memory_for_a_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to come from it fails too, since other pixels are not what its lineage names."""
    work = pipeline.resample

    def short(image: Image.Image, box: tuple[float, ...], size: tuple[int, int]) -> Image.Image:
        if size[0] == 640:
            raise MemoryError
        return work(image, box, size)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "resample", short)
    outcomes = down(source(), ["w=1280", "w=640", "w=200"])
    assert kinds(outcomes) == [None, FailureKind.TOO_LARGE, FailureKind.TOO_LARGE]
    # 600 is too near to be made from 640, and 200 is made from 600.
    outcomes = down(source(), ["w=640", "w=600", "w=200"])
    assert kinds(outcomes) == [FailureKind.TOO_LARGE, None, None]


def test_a_source_that_ends_early_fails_all() -> None:
    data = source()[:-20_000]
    with pytest.raises(CorruptPicture):
        down(data, WIDTHS)
    with pytest.raises(BadLadder):
        down(source(), [f"w={width}" for width in range(1, 40)])


# --- from a file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [1, 6])
@pytest.mark.parametrize(
    "text",
    ["w=120", "h=200", "w=200,h=100,fit=cover", "w=99,h=99,fit=letterbox", "w=100,f=webp"],
)
def test_derived_from_a_file(tag: int, text: str) -> None:
    data = source(tag=tag)
    facts = descent.source_of(open_picture(data, LIMITS))
    made = Encoded(parse("w=960"), Format.JPEG, 80)
    assert ladder.may_derive(made, parse(text), facts, LIMITS.max_pixels)
    parent = open_picture(direct(data, "w=960")[0], LIMITS)
    body, result = descent.render_derived(parent, made, parse(text), facts, LIMITS)
    alone, expected = direct(data, text)
    assert (result.width, result.height, result.source_width, result.source_format) == (
        *(expected.width, expected.height, expected.source_width, expected.source_format),
    )
    assert decibels(body, alone) > 28


@pytest.mark.parametrize("parent", ["w=959", "w=960,f=webp", ""])
def test_a_file_that_is_not_the_parent(parent: str) -> None:
    data = source()
    facts = descent.source_of(open_picture(data, LIMITS))
    other = open_picture(direct(data, parent)[0], LIMITS)
    made = Encoded(parse("w=960"), Format.JPEG, 80)
    with pytest.raises(CorruptPicture):
        descent.render_derived(other, made, parse("w=100"), facts, LIMITS)


# --- photographs ---------------------------------------------------------------------------------

FOLDERS = (Path("/usr/share/backgrounds/mate/nature"), Path("/usr/share/wallpapers"))


@pytest.mark.photographs
@pytest.mark.timeout(300)
def test_photographs_lose_nothing_to_their_direct_renders() -> None:
    """Held against a full resampling; pixels before the encoder."""
    texts = [f"{text},f=png" for text in WIDTHS]
    paths = [
        path
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.jpg"))
        if not path.is_symlink()
    ]
    for path in paths[:10]:
        data = path.read_bytes()
        whole = opened(data).convert("RGB")
        for place, outcome in down(data, texts).items():
            assert not isinstance(outcome, Failure)
            body, result = outcome
            size = (result.width, result.height)
            full = whole.resize(size, Image.Resampling.LANCZOS)
            alone = direct(data, texts[place])[0]
            # Nobody sees what lies above 50 dB.
            bound = min(decibels(alone, full), 50) - 3
            assert decibels(body, full) > bound, (path, texts[place])
