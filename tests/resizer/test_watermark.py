"""Watermarks as values: names that are no addresses, limits, text."""

import pytest
from hypothesis import given

from resizer.watermark import Watermark, parse_watermark
from resizer.words import BadTransform, Gravity
from tests.resizer.transforms import watermarks


@given(watermarks())
def test_round_trip(mark: Watermark) -> None:
    assert parse_watermark(str(mark)) == mark


@pytest.mark.parametrize("name", ["", "A", "a" * 33, "a.png", "../a", "a\n", "ä", "a:b", "a b"])
def test_names(name: str) -> None:
    with pytest.raises(BadTransform):
        Watermark(name)


@pytest.mark.parametrize(
    ("position", "opacity", "scale", "margin"),
    [
        (Gravity.SMART, 100, 0, 0),
        (Gravity.CENTRE, 0, 0, 0),
        (Gravity.CENTRE, 101, 0, 0),
        (Gravity.CENTRE, 100, -1, 0),
        (Gravity.CENTRE, 100, 101, 0),
        (Gravity.CENTRE, 100, 0, -1),
        (Gravity.CENTRE, 100, 0, 8192),
    ],
)
def test_limits(position: Gravity, opacity: int, scale: int, margin: int) -> None:
    with pytest.raises(BadTransform):
        Watermark("logo", position, opacity, scale, margin)
