"""Parameters in the words of imgix."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, Derivative, NotExpressible
from edge.urls.ending import output_format
from edge.urls.grammars import parse_target
from edge.urls.path import split_target
from edge.urls.query import Query
from resizer.formats import Format
from resizer.transform import BadTransform, Fit, Gravity, Transform

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
    "w=300&h=200&fit=crop&crop=faces",
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
]


@pytest.mark.parametrize("derivative", NOT_EXPRESSIBLE)
def test_not_expressible(derivative: Derivative) -> None:
    with pytest.raises(NotExpressible):
        Query().build(derivative)


@st.composite
def derivatives(draw: st.DrawFn) -> Derivative:
    source = draw(st.sampled_from(["/Dune.jpg", "/a b/Düne.PNG", "/media/12", "/%2e%2e.webp"]))
    sides = st.none() | st.integers(1, 16384)
    try:
        transform = Transform(
            width=draw(sides),
            height=draw(sides),
            fit=draw(st.sampled_from(Fit)),
            gravity=draw(st.just(Gravity.CENTRE) | st.sampled_from(Gravity)),
            enlarge=draw(st.booleans()),
            format=output_format(source, draw(st.none() | st.sampled_from(Format))),
            quality=draw(st.none() | st.integers(1, 100)),
            background=draw(
                st.just("ffffff") | st.text("0123456789abcdef", min_size=6, max_size=6)
            ),
        )
    except BadTransform:
        assume(False)
        raise
    return Derivative(source, transform)


@given(derivatives())
def test_every_transform_has_a_url(derivative: Derivative) -> None:
    url = Query().build(derivative)
    assert parse_target(split_target(url.encode()), (Query(),)) == derivative
