"""Regions of a source: clipping, shares, squares, text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.region import SQUARE, WHOLE_PPM, Region, Unit, parse_region, share
from resizer.words import BadTransform, Gravity
from tests.resizer.transforms import regions


@given(regions())
def test_round_trip(region: Region) -> None:
    assert parse_region(str(region)) == region


@given(regions(), st.tuples(st.integers(1, 16_384), st.integers(1, 16_384)))
def test_inside_or_none(region: Region, source: tuple[int, int]) -> None:
    area = region.area(source)
    if area is None:
        assert region.unit is Unit.PIXELS
        assert region.left >= source[0] or region.top >= source[1]
        return
    assert 0 <= area[0] < area[2] <= source[0]
    assert 0 <= area[1] < area[3] <= source[1]


# (region, source, area)
AREAS = [
    (Region(Unit.PIXELS, 0, 0, 10, 10), (100, 50), (0, 0, 10, 10)),
    (Region(Unit.PIXELS, 95, 45, 10, 10), (100, 50), (95, 45, 100, 50)),
    (Region(Unit.PIXELS, 100, 0, 10, 10), (100, 50), None),
    (SQUARE, (100, 50), (25, 0, 75, 50)),
    (SQUARE, (51, 100), (0, 24, 51, 75)),
    (SQUARE, (1, 1), (0, 0, 1, 1)),
    # thirds of a hundred: neighbours meet
    (share(0, 0, 333_333, WHOLE_PPM), (100, 50), (0, 0, 33, 50)),
    (share(333_333, 0, 333_333, WHOLE_PPM), (100, 50), (33, 0, 67, 50)),
    (share(666_666, 0, 333_334, WHOLE_PPM), (100, 50), (67, 0, 100, 50)),
    (share(500_000, 500_000, WHOLE_PPM, WHOLE_PPM), (100, 50), (50, 25, 100, 50)),
    (share(0, 0, 1, 1), (10, 10), (0, 0, 1, 1)),
    (Region(Unit.PIXELS, width=10, height=10, anchor=Gravity.SOUTH), (100, 50), (45, 40, 55, 50)),
]


@pytest.mark.parametrize(("region", "source", "area"), AREAS)
def test_area(region: Region, source: tuple[int, int], area: tuple[int, ...] | None) -> None:
    assert region.area(source) == area


@pytest.mark.parametrize(
    ("unit", "parts", "anchor"),
    [
        (Unit.SQUARE, (0, 0, 1, 1), None),
        (Unit.SQUARE, (0, 0, 0, 0), Gravity.NORTH),
        (Unit.PIXELS, (0, 0, 0, 1), None),
        (Unit.PIXELS, (-1, 0, 1, 1), None),
        (Unit.PIXELS, (16_384, 0, 1, 1), None),
        (Unit.PIXELS, (0, 0, 16_385, 1), None),
        (Unit.PIXELS, (1, 0, 1, 1), Gravity.NORTH),
        (Unit.PIXELS, (0, 0, 1, 1), Gravity.SMART),
        (Unit.SHARE, (1, 0, WHOLE_PPM, 1), None),
        (Unit.SHARE, (WHOLE_PPM, 0, 1, 1), None),
    ],
)
def test_refused(unit: Unit, parts: tuple[int, int, int, int], anchor: Gravity | None) -> None:
    with pytest.raises(BadTransform):
        Region(unit, *parts, anchor)
