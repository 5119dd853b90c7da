"""Parameters in the words of imgix."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, Derivative, NotExpressible
from edge.urls.ending import output_format
from edge.urls.grammars import parse_target
from edge.urls.path import split_target
from edge.urls.query import Query
from resizer.formats import Format
from resizer.region import SQUARE, Region, Unit, share
from resizer.transform import (
    Fill,
    Fit,
    Focus,
    Gravity,
    Keep,
    Placeholder,
    Qualities,
    Tone,
    Transform,
)
from resizer.watermark import Watermark
from tests.resizer.transforms import transforms

COVER = Transform(300, 200, Fit.COVER)

# (query, transform of /Dune.jpg): parse gives it, and build() writes the same query.
ROUND_TRIPS = [
    # usual
    ("w=220", Transform(width=220)),
    ("h=220", Transform(height=220)),
    ("w=300&h=200", Transform(300, 200)),
    ("w=300&h=200&fit=crop", COVER),
    ("w=300&h=200&fit=scale", Transform(300, 200, Fit.STRETCH)),
    ("w=300&h=200&fit=fill&bg=1a2b3c", Transform(300, 200, Fit.LETTERBOX, background="1a2b3c")),
    (
        "w=300&h=200&fit=crop&crop=top,left&fm=webp&q=75",
        Transform(300, 200, Fit.COVER, Gravity.NORTH_WEST, format=Format.WEBP, quality=75),
    ),
    ("fm=avif", Transform(format=Format.AVIF)),
    ("q=75", Transform(quality=75)),
    # edge
    ("w=1", Transform(width=1)),
    ("w=16384&h=16384&up=1", Transform(16384, 16384, enlarge=True)),
    ("q=1", Transform(quality=1)),
    ("q=100", Transform(quality=100)),
    # places
    ("rect=10,20,300,200", Transform(region=Region(Unit.PIXELS, 10, 20, 300, 200))),
    ("w=300&h=200&fit=crop&crop=entropy", Transform(300, 200, Fit.COVER, Gravity.SMART)),
    (
        "w=300&h=200&fit=crop&crop=focalpoint&fp-x=0.333&fp-y=1",
        Transform(300, 200, Fit.COVER, focus=Focus(333, 1000)),
    ),
    ("w=300&h=200&fit=fill&fill=blur", Transform(300, 200, Fit.LETTERBOX, fill=Fill.BLUR)),
    ("w=300&h=200&exact=1", Transform(300, 200, exact=True)),
    ("flip=h", Transform(mirror=True)),
    ("rot=90", Transform(rotate=2700)),  # counter-clockwise
    ("flip=h&rot=22.5", Transform(mirror=True, rotate=3375)),
    # looks
    ("bri=5&con=-5&sat=300", Transform(brightness=5, contrast=-5, saturation=300)),
    ("blur=15", Transform(blur=15)),
    ("sharp=40", Transform(sharpen=40)),
    ("tone=grey", Transform(tone=Tone.GREY)),
    ("mask=corners&corner-radius=12", Transform(corners=12)),
    ("mark=logo", Transform(watermark=Watermark("logo"))),
    (
        "mark=logo&mark-align=top,left&mark-alpha=60&mark-scale=25&mark-pad=10",
        Transform(watermark=Watermark("logo", Gravity.NORTH_WEST, 60, 25, 10)),
    ),
    ("mark=logo&mark-align=middle", Transform(watermark=Watermark("logo", Gravity.CENTRE))),
    # the file
    ("flat=1&keep=copyright", Transform(flatten=True, keep=Keep.COPYRIGHT)),
    ("max-bytes=9000", Transform(max_bytes=9000)),
    ("frames=1", Transform(frames=1)),
    ("frames=7", Transform(frames=7)),
    ("w=9&placeholder=thumbhash", Transform(9, placeholder=Placeholder.THUMBHASH)),
]

READ = [
    # one picture, other spellings
    ("h=200&w=300", Transform(300, 200)),
    ("w=300&h=200&fit=clip", Transform(300, 200)),
    ("w=300&h=200&fit=max", Transform(300, 200)),
    ("w=300&h=200&fit=min", COVER),
    ("w=300&h=200&fit=fillmax", Transform(300, 200, Fit.LETTERBOX)),
    ("w=300&fit=crop", Transform(width=300)),  # one side makes no box
    ("h=300&fit=scale", Transform(height=300)),
    ("w=220&fm=jpg", Transform(width=220)),
    ("w=220&fm=jpeg", Transform(width=220)),
    ("fm=jpg", Transform()),
    ("w=9&bg=ffffff", Transform(width=9)),
    ("w=9&bg=FFF", Transform(width=9)),
    ("w=9&bg=a0F", Transform(width=9, background="aa00ff")),
    ("w=300&h=200&fit=crop&crop=right", Transform(300, 200, Fit.COVER, Gravity.EAST)),
    ("w=300&h=200&fit=crop&crop=left,top", Transform(300, 200, Fit.COVER, Gravity.NORTH_WEST)),
    ("w=300&h=200&fit=crop&crop=top%2Cleft", Transform(300, 200, Fit.COVER, Gravity.NORTH_WEST)),
    ("w=%32%32%30", Transform(width=220)),
    # noise
    ("w=220&utm_source=x&utm_medium=%ff", Transform(width=220)),
    ("utm_a=1&utm_a=2&w=220", Transform(width=220)),
    # dpr
    ("w=220&dpr=2", Transform(width=440)),
    ("w=220&h=100&dpr=1.5", Transform(330, 150)),
    ("w=5&dpr=0.5", Transform(width=3)),  # 2.5: halves up
    ("w=1&dpr=0.1", Transform(width=1)),  # never nothing
    ("w=16384&dpr=1", Transform(width=16384)),
    # looks in other words
    ("w=300&h=200&fit=crop&crop=faces,edges", Transform(300, 200, Fit.COVER, Gravity.SMART)),
    (
        "w=300&h=200&fit=crop&crop=focalpoint&fp-x=0.5",
        Transform(300, 200, Fit.COVER, focus=Focus(500, 500)),
    ),
    ("flip=v", Transform(mirror=True, rotate=1800)),
    ("flip=hv", Transform(rotate=1800)),
    ("flip=hv&rot=180", Transform()),
    ("rot=0&bri=0&blur=0", Transform()),
    ("sat=-100", Transform(tone=Tone.GREY)),
    ("monochrome=808080", Transform(tone=Tone.GREY)),
    ("monochrome=AaA", Transform(tone=Tone.GREY)),
    ("w=300&h=200&fit=fill&fill=solid", Transform(300, 200, Fit.LETTERBOX)),
    ("mark=a&mark-align=center,middle", Transform(watermark=Watermark("a", Gravity.CENTRE))),
    ("mark=a&mark-align=center,top", Transform(watermark=Watermark("a", Gravity.NORTH))),
    ("frames=all", Transform()),
    ("placeholder=preview&fm=webp&q=5", Transform(placeholder=Placeholder.PREVIEW)),
]

NOT_CLAIMED = [
    "/Dune.jpg",
    "/Dune.jpg?",
    "/Dune.jpg?utm_source=x",
    "/Dune.jpg?v=3",
    "/Dune.jpg?W=3",
    "/Dune.jpg?%77=3",  # names are compared as written
    "/app.php?w=3",
    "/style.css?w=3",
]

BAD = [
    # usual mistakes
    "w=abc",
    "w=220px",
    "w=220.5",
    "w=50%25",
    "w=0.5",  # imgix: relative; not ours
    "w=",
    "w",
    "w=220&w=220",
    "w=220&width=220",
    "w=220&auto=format",
    "w=220&fit=clamp",
    "w=220&fit=Crop",
    "w=220&fm=svg",
    "w=220&fm=JPG",
    "q=0",
    "q=101",
    "bg=red",
    "bg=12345",
    "bg=1234567",
    "bg=%23ffffff",
    "up=0",
    "up=true",
    # idle
    "w=300&h=200&crop=top",
    "w=300&fit=crop&crop=top",
    "dpr=2",
    "fit=crop",
    # edge
    "w=0",
    "w=-1",
    "h=16385",
    "w=8193&dpr=2",
    "w=220&dpr=0",
    "w=220&dpr=0.09",
    "w=220&dpr=5.01",
    "w=220&dpr=1.333",
    "w=220&",
    "w=220&&h=3",
    "&w=220",
    "w=300&h=200&fit=crop&crop=top,top",
    "w=300&h=200&fit=crop&crop=top,bottom",
    "w=300&h=200&fit=crop&crop=face",
    "w=300&h=200&fit=crop&crop=faces,top",
    "w=300&h=200&fit=crop&crop=faces,faces",
    "w=300&h=200&fit=crop&crop=",
    "w=1=2",
    # hostile
    "w=%D9%A3",
    "w=+1",
    "w=%2B1",
    "w=%201",
    "w=1_0",
    "w=0x10",
    "w=0220",
    "w=1e3",
    "w=%252e%252e",
    "w=%2e%2e",
    "w=1;h=2",
    "w=1%00",
    "w=1%0a",
    "w=%C0%B1",  # overlong "1"
    "w=%",
    "w=" + "9" * 4000,
    "dpr=" + "9" * 3999 + "&w=1",
    "w=1&" + "x" * 4000,
    "w=1&utm=2",
    "bg=%EF%BD%86ff",  # a fullwidth f
    # looks
    "rect=1,2,3",
    "rect=1,2,3,0",
    "rect=1,2,3,-4",
    "rect=1,2,3,4,5",
    "rect=left,top,3,4",
    "fp-x=0.5",
    "w=9&h=9&fit=crop&fp-x=0.5",
    "w=9&h=9&crop=focalpoint",
    "w=9&h=9&fit=crop&crop=focalpoint&fp-x=1.001",
    "w=9&h=9&fit=crop&crop=focalpoint&fp-x=0.3333",
    "w=9&h=9&fill=blur",
    "w=9&h=9&fit=fill&fill=gen",
    "flip=vh",
    "rot=360",
    "rot=-90",
    "rot=22.55",
    "bri=-101",
    "bri=-0",
    "bri=--5",
    "bri=-",
    "blur=-1",
    "sharp=501",
    "blur=1&sharp=1",
    "monochrome=ff0000",
    "monochrome=8080",
    "monochrome=808080&tone=grey",
    "tone=sepia",
    "mask=corners",
    "mask=ellipse&corner-radius=9",
    "corner-radius=9",
    "mark=https%3A%2F%2Fx%2Fy.png",
    "mark=..",
    "mark=LOGO",
    "mark=logo%0a",
    "mark-alpha=5",
    "mark=a&mark-alpha=0",
    "mark=a&mark-scale=101",
    "mark=a&mark-pad=8192",
    "mark=a&mark-align=top,bottom",
    "mark=a&mark-align=top,top",
    "mark=a&mark-align=top,middle,left",
    "frames=0",
    "frames=1001",
    "frames=first",
    "keep=all",
    "max-bytes=0",
    "flat=0",
    "placeholder=none",
    "placeholder=thumbhash&blur=5",
    "w=9&up=1&exact=1",
]


def read(query: str, source: str = "/Dune.jpg") -> Derivative | None:
    return Query().parse(split_target(f"{source}?{query}".encode()))


@pytest.mark.parametrize(("query", "transform"), ROUND_TRIPS)
def test_round_trip(query: str, transform: Transform) -> None:
    assert read(query) == Derivative("/Dune.jpg", transform)
    assert Query().build(Derivative("/Dune.jpg", transform)) == f"/Dune.jpg?{query}"


@pytest.mark.parametrize(("query", "transform"), READ)
def test_read(query: str, transform: Transform) -> None:
    assert read(query) == Derivative("/Dune.jpg", transform)


@pytest.mark.parametrize("url", NOT_CLAIMED)
def test_not_claimed(url: str) -> None:
    assert Query().parse(split_target(url.encode())) is None


@pytest.mark.parametrize("query", BAD)
def test_bad(query: str) -> None:
    with pytest.raises(BadUrl):
        read(query)


def test_a_source_without_extension_keeps_the_wanted_format() -> None:
    assert read("fm=jpg", "/media/12") == Derivative("/media/12", Transform(format=Format.JPEG))


def test_a_jpeg_stands_still_anyway() -> None:
    assert read("fm=jpg&frames=1", "/Dune.gif") == read("fm=jpg", "/Dune.gif")
    assert read("fm=webp&frames=1", "/Dune.gif") != read("fm=webp", "/Dune.gif")


@pytest.mark.parametrize("transform", [Transform(9, crisp=True), Transform(progressive=True)])
def test_what_has_no_word_here(transform: Transform) -> None:
    with pytest.raises(NotExpressible):
        Query().build(Derivative("/Dune.jpg", transform))


def test_the_ignored_parameters_are_a_setting() -> None:
    grammar = Query(ignored=("ixid", "ix*b"))
    assert grammar.parse(split_target(b"/Dune.jpg?w=9&ixid=%ff")) == read("w=9")
    for unknown in ("ixid2", "ixb", "utm_source"):  # a star counts at the end only
        with pytest.raises(BadUrl):
            grammar.parse(split_target(f"/Dune.jpg?w=9&{unknown}=1".encode()))


def test_a_known_parameter_is_never_ignored() -> None:
    assert Query(ignored=("*",)).parse(split_target(b"/Dune.jpg?w=9&x")) == read("w=9")


NOT_EXPRESSIBLE = [
    Derivative("/Dune", Transform(width=9), ("jpg",)),
    Derivative("/Dune.jpg", Transform(width=9), (), True),
    Derivative("/app.php", Transform(width=9)),
    Derivative("/Dune.jpg", Transform(region=SQUARE)),
    Derivative("/Dune.jpg", Transform(region=share(0, 0, 500_000, 500_000))),
    Derivative(
        "/Dune.jpg",
        Transform(region=Region(Unit.PIXELS, width=3, height=3, anchor=Gravity.NORTH)),
    ),
    Derivative("/Dune.jpg", Transform(scale=5000)),
    Derivative("/Dune.jpg", Transform(9, 9, Fit.OUTSIDE)),
    Derivative("/Dune.jpg", Transform(9, 8, adaptive=True)),
    Derivative("/Dune.jpg", Transform(9, qualities=Qualities(((Format.WEBP, 70),)))),
]


@pytest.mark.parametrize("derivative", NOT_EXPRESSIBLE)
def test_not_expressible(derivative: Derivative) -> None:
    with pytest.raises(NotExpressible):
        Query().build(derivative)


@st.composite
def derivatives(draw: st.DrawFn) -> Derivative:
    source = draw(st.sampled_from(["/Dune.jpg", "/a b/Düne.PNG", "/media/12", "/%2e%2e.webp"]))
    transform = draw(transforms())
    wanted = output_format(source, transform.format)
    return Derivative(source, dataclasses.replace(transform, format=wanted))


@given(derivatives())
def test_every_url_that_is_built_is_read(derivative: Derivative) -> None:
    try:
        url = Query().build(derivative)
    except NotExpressible:
        return
    assert parse_target(split_target(url.encode()), (Query(),)) == derivative


@pytest.mark.parametrize("name", ["Scan.tif", "Scan.TIFF", "Scan.jp2"])
def test_what_is_only_read_is_claimed_and_never_written(name: str) -> None:
    # Whether the site reads it is not the grammar's business.
    for query, wanted in (("w=9", None), ("w=9&fm=jpg", Format.JPEG)):
        found = Query().parse(split_target(f"/{name}?{query}".encode()))
        assert found is not None
        assert (found.source, found.transform.format) == (f"/{name}", wanted)
    with pytest.raises(BadUrl):
        Query().parse(split_target(f"/{name}?w=9&fm=tif".encode()))
