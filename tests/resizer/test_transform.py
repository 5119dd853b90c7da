"""Transform: canonical text is unique and goes both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.formats import Format
from resizer.transform import IDENTITY, BadTransform, Fit, Gravity, Transform, parse

SIDES = st.none() | st.integers(1, 16_384)


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    width, height = draw(SIDES), draw(SIDES)
    fits = list(Fit) if width and height else [Fit.CONTAIN]
    fit = draw(st.sampled_from(fits))
    gravity = draw(st.sampled_from(Gravity)) if fit is Fit.COVER else Gravity.CENTRE
    return Transform(
        width,
        height,
        fit,
        gravity,
        draw(st.booleans()),
        draw(st.none() | st.sampled_from(Format)),
        draw(st.none() | st.integers(1, 100)),
        draw(st.text("0123456789abcdef", min_size=6, max_size=6)),
    )


@given(transforms())
def test_round_trip(transform: Transform) -> None:
    assert parse(transform.canonical()) == transform


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (IDENTITY, ""),
        (Transform(width=220), "w=220"),
        (Transform(220, 160, Fit.COVER, Gravity.NORTH), "w=220,h=160,fit=cover,g=north"),
        (Transform(height=9, enlarge=True, format=Format.AVIF), "h=9,up=1,f=avif"),
        (Transform(background="000000", quality=1), "q=1,bg=000000"),
    ],
)
def test_canonical(transform: Transform, text: str) -> None:
    assert transform.canonical() == text


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
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(BadTransform):
        parse(text)
