"""Transform: legal by construction; canonical text is unique and goes both ways."""

import dataclasses

import pytest
from hypothesis import given

from resizer.formats import Format
from resizer.job import TRANSFORM_CHARS, Job, Limits, build
from resizer.job import parse as parse_message
from resizer.region import SQUARE, Region, Unit, share
from resizer.transform import (
    ALL_FRAMES,
    FIELDS,
    IDENTITY,
    BadTransform,
    Fill,
    Fit,
    Focus,
    Gravity,
    Keep,
    Placeholder,
    Qualities,
    Tone,
    Transform,
    at_ratio,
    parse,
    turned,
)
from resizer.watermark import Watermark
from tests.resizer.transforms import transforms


@given(transforms())
def test_round_trip(transform: Transform) -> None:
    assert parse(transform.canonical()) == transform
    assert dataclasses.replace(transform) == transform
    # It travels to a worker in a message of bounded length.
    job = Job(transform, Limits())
    assert parse_message(build(job)) == job
    assert len(transform.canonical()) <= TRANSFORM_CHARS


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        # The texts of 0.1: they are in the keys of caches that are in use.
        (IDENTITY, ""),
        (Transform(width=220), "w=220"),
        (Transform(220, 160, Fit.COVER, Gravity.NORTH), "w=220,h=160,fit=cover,g=north"),
        (Transform(height=9, enlarge=True, format=Format.AVIF), "h=9,up=1,f=avif"),
        (Transform(background="000000", quality=1), "q=1,bg=000000"),
        (Transform(9, 8, Fit.LETTERBOX), "w=9,h=8,fit=letterbox"),
        (Transform(9, 8, Fit.STRETCH, format=Format.WEBP), "w=9,h=8,fit=stretch,f=webp"),
        # places
        (Transform(region=SQUARE), "r=square"),
        (Transform(region=Region(Unit.PIXELS, 10, 20, 300, 200)), "r=px:10:20:300:200"),
        (
            Transform(region=share(416_000, 75_000, 400_000, 700_000)),
            "r=ppm:416000:75000:400000:700000",
        ),
        (
            Transform(9, region=Region(Unit.PIXELS, width=30, height=20, anchor=Gravity.EAST)),
            "w=9,r=px:30:20:east",
        ),
        (Transform(scale=5000), "sc=5000"),
        (Transform(9, exact=True), "w=9,ex=1"),
        (Transform(9, 8, Fit.COVER, focus=Focus(0, 333)), "w=9,h=8,fit=cover,fp=0:333"),
        (Transform(9, 8, Fit.COVER, Gravity.SMART), "w=9,h=8,fit=cover,g=smart"),
        (Transform(9, 8, Fit.LETTERBOX, fill=Fill.BLUR), "w=9,h=8,fit=letterbox,fill=blur"),
        (Transform(9, 8, Fit.OUTSIDE), "w=9,h=8,fit=outside"),
        (Transform(mirror=True, rotate=225), "mi=1,rot=225"),
        # looks
        (Transform(brightness=-5, contrast=300, saturation=-99), "bri=-5,con=300,sat=-99"),
        (Transform(tone=Tone.BITONAL, blur=15, corners=7), "tone=bitonal,blur=15,cr=7"),
        (Transform(watermark=Watermark("logo")), "wm=logo:southeast:100:0:0"),
        (Transform(sharpen=40, flatten=True), "sh=40,flat=1"),
        # the file
        (
            Transform(qualities=Qualities(((Format.AVIF, 50), (Format.WEBP, 70)))),
            "qf=avif:50:webp:70",
        ),
        (
            Transform(keep=Keep.COPYRIGHT, max_bytes=9000, frames=1),
            "keep=copyright,mb=9000,fr=1",
        ),
        (Transform(frames=ALL_FRAMES), ""),
        (Transform(9, placeholder=Placeholder.THUMBHASH), "w=9,ph=thumbhash"),
        (Transform(9, 8, adaptive=True), "w=9,h=8,ad=1"),
        (Transform(9, crisp=True, progressive=True), "w=9,crisp=1,pr=1"),
        (Transform(scale=9, crisp=True), "sc=9,crisp=1"),
        (Transform(format=Format.JPEG, progressive=True), "f=jpeg,pr=1"),
    ],
)
def test_canonical(transform: Transform, text: str) -> None:
    assert transform.canonical() == text
    assert parse(text) == transform


def test_the_order_of_fields_is_part_of_every_key() -> None:
    assert [short for short, _, _ in FIELDS][:8] == ["w", "h", "fit", "g", "up", "f", "q", "bg"]


BOTH = Qualities(((Format.AVIF, 50), (Format.WEBP, 70)))

# (what is said, the same said once and for all)
SETTLED = [
    (Transform(region=share(0, 0, 1_000_000, 1_000_000)), IDENTITY),
    (Transform(scale=10_000), IDENTITY),
    (Transform(9, 9, adaptive=True), Transform(9, 9)),
    (Transform(saturation=-100), Transform(tone=Tone.GREY)),
    (Transform(saturation=-100, tone=Tone.BITONAL), Transform(tone=Tone.BITONAL)),
    # known once the format is
    (Transform(format=Format.WEBP, qualities=BOTH), Transform(format=Format.WEBP, quality=70)),
    (
        Transform(format=Format.WEBP, quality=9, qualities=BOTH),
        Transform(format=Format.WEBP, quality=70),
    ),
    (
        Transform(format=Format.JPEG, quality=9, qualities=BOTH),
        Transform(format=Format.JPEG, quality=9),
    ),
    (Transform(format=Format.JPEG, flatten=True, frames=1), Transform(format=Format.JPEG)),
    (Transform(format=Format.AVIF, progressive=True), Transform(format=Format.AVIF)),
    (Transform(crisp=True), IDENTITY),
    (Transform(scale=10_000, crisp=True), IDENTITY),
    (
        Transform(9, 8, Fit.LETTERBOX, format=Format.JPEG, fill=Fill.CLEAR),
        Transform(9, 8, Fit.LETTERBOX, format=Format.JPEG),
    ),
    # a document has no format
    (
        Transform(
            *(9, 8, Fit.CONTAIN, Gravity.CENTRE, False, Format.WEBP, 70),
            keep=Keep.COPYRIGHT,
            max_bytes=9,
            frames=3,
            placeholder=Placeholder.PREVIEW,
            crisp=True,
            progressive=True,
        ),
        Transform(9, 8, placeholder=Placeholder.PREVIEW),
    ),
]


@pytest.mark.parametrize(("said", "settled"), SETTLED)
def test_one_spelling_for_one_picture(said: Transform, settled: Transform) -> None:
    assert said == settled
    assert said.canonical() == settled.canonical()


def test_a_format_that_is_chosen_later_settles_what_hung_on_it() -> None:
    open_ = Transform(9, quality=40, qualities=BOTH, flatten=True)
    assert [open_.quality_for(f) for f in (Format.AVIF, Format.WEBP, Format.JPEG)] == [50, 70, 40]
    webp = dataclasses.replace(open_, format=Format.WEBP)
    assert webp.canonical() == "w=9,f=webp,q=70,flat=1"
    assert dataclasses.replace(open_, format=Format.JPEG).canonical() == "w=9,f=jpeg,q=40"


@pytest.mark.parametrize(
    "text",
    [
        # a second spelling of a legal transform
        "h=1,w=1",
        "w=01",
        "w=+1",
        "up=0",
        "fit=contain",
        "bg=ffffff",
        "w=1,",
        "w=1,w=1",
        "r=ppm:0:0:1000000:1000000",
        "r=px:0:0:01:1",
        "sc=10000",
        "ex=0",
        "rot=0",
        "sat=-100",
        "qf=",
        "fr=0",
        "f=jpeg,fr=1",
        "ph=none",
        "f=webp,qf=webp:70",
        "f=jpeg,flat=1",
        "crisp=0",
        "crisp=1",
        "sc=10000,crisp=1",
        "pr=0",
        "f=webp,pr=1",
        "w=9,pr=1,ph=preview",
        "w=9,ph=preview,crisp=1",
        "w=9,pr=1,crisp=1",
        "f=webp,ph=thumbhash",
        "wm=logo:southeast:100:00:0",
        # outside the limits
        "w=0",
        "w=-1",
        "w=16385",
        "q=0",
        "q=101",
        "bg=FFFFFF",
        "bg=fff",
        "fit=cover",
        "w=1,fit=cover",
        "w=1,g=north",
        "sc=0",
        "sc=1000001,up=1",
        "rot=3600",
        "rot=-1",
        "bri=-101",
        "con=301",
        "sat=301",
        "blur=-1",
        "blur=2501",
        "sh=501",
        "cr=16385",
        "mb=0",
        "mb=1073741825",
        "fr=-1",
        "fr=1001",
        "qf=webp:0",
        "qf=webp:101",
        "qf=webp:70:avif:50",
        "qf=webp:70:webp:70",
        "w=1,h=1,fit=cover,fp=1001:0",
        "w=1,h=1,fit=cover,fp=-1:0",
        # without effect, or twice
        "w=1,fp=1:1",
        "w=1,h=1,fit=cover,g=north,fp=1:1",
        "w=1,h=1,g=smart",
        "w=1,h=1,fill=blur",
        "w=1,sc=500",
        "sc=20000",
        "up=1,ex=1",
        "w=1,up=1,ex=1",
        "ex=1",
        "blur=1,sh=1",
        "w=9,ad=1",
        "w=9,h=9,ad=1",
        "sat=5,tone=grey",
        "blur=1,ph=thumbhash",
        "cr=1,ph=preview",
        "rot=15,ph=blurhash",
        "wm=a:centre:100:0:0,ph=preview",
        # hostile
        "=",
        ",",
        "w",
        "w=",
        "w=1=1",
        "w=१",
        "x=1",
        "f=tiff",
        "w=" + "9" * 5000,
        "r=",
        "r=px",
        "r=px:1",
        "r=px:1:2:3:4:5",
        "r=em:1:2:3:4",
        "r=square:1:2:3:4",
        "r=px:1:2:3:" + "9" * 5000,
        "fp=1",
        "fp=1:2:3",
        "wm=logo",
        "wm=../x:centre:100:0:0",
        "wm=http://x:centre:100:0:0",
        "wm=LOGO:centre:100:0:0",
        "wm=a:smart:100:0:0",
        "wm=a:b:c:d:e:f",
        "qf=webp",
        "qf=tiff:5",
        "ph=eval",
        "keep=all",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(BadTransform):
        parse(text)


@pytest.mark.parametrize(
    ("rotate", "flips", "expected"),
    [
        (0, "", (False, 0)),
        (0, "h", (True, 0)),
        (0, "v", (True, 1800)),
        (0, "hv", (False, 1800)),
        (900, "v", (True, 2700)),
        (-900, "", (False, 2700)),
        (3600, "", (False, 0)),
        (1800, "hv", (False, 0)),
        (150, "v", (True, 1950)),
    ],
)
def test_turned(rotate: int, flips: str, expected: tuple[bool, int]) -> None:
    assert turned(rotate, horizontal="h" in flips, vertical="v" in flips) == expected


@pytest.mark.parametrize(
    ("side", "ratio", "expected"), [(220, 200, 440), (5, 50, 3), (1, 10, 1), (100, 100, 100)]
)
def test_at_ratio(side: int, ratio: int, expected: int) -> None:
    assert at_ratio(side, ratio) == expected


@pytest.mark.parametrize(
    ("rotate", "turns", "tilt"), [(0, 0, 0), (900, 1, 0), (2700, 3, 0), (901, 0, 901), (1, 0, 1)]
)
def test_right_angles_and_others(rotate: int, turns: int, tilt: int) -> None:
    transform = Transform(rotate=rotate)
    assert (transform.turns, transform.tilt) == (turns, tilt)
