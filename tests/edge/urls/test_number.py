"""Numbers: one spelling, bounded before they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl
from edge.urls.number import decimal, hundredths, integer, signed

NO_INTEGERS = [
    # usual mistakes
    "",
    "abc",
    "-1",
    "1.0",
    # edge
    "0",
    "16385",
    "0220",
    "00",
    # hostile: what int() would take, or would take long over
    "٣",
    "۲۲۰",
    "²",
    "+1",
    " 1",
    "1 ",
    "1\n",
    "1_0",
    "0x10",
    "1e2",
    "9" * 9999,
    "0" * 9999,
]


@pytest.mark.parametrize("text", NO_INTEGERS)
def test_no_integer(text: str) -> None:
    with pytest.raises(BadUrl):
        integer(text, 1, 16384, "width")


@given(st.integers(0, 16384))
def test_integer(value: int) -> None:
    assert integer(str(value), 0, 16384, "width") == value


HUNDREDTHS = [
    ("1", 100),
    ("2", 200),
    ("1.5", 150),
    ("1.25", 125),
    ("0.1", 10),
    ("0.10", 10),
    ("5", 500),
    ("5.00", 500),
    # refused
    ("5.01", None),
    ("0.09", None),
    ("0", None),
    ("6", None),
    ("1.", None),
    (".5", None),
    ("1.255", None),
    ("1.5.5", None),
    ("01", None),
    ("1,5", None),
    ("-1", None),
    ("1.+5", None),
    ("1.٣", None),
    ("1e0", None),
    ("inf", None),
    ("nan", None),
    ("1." + "0" * 9999, None),
]


@pytest.mark.parametrize(("text", "value"), HUNDREDTHS)
def test_hundredths(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(BadUrl):
            hundredths(text, 10, 500, "dpr")
    else:
        assert hundredths(text, 10, 500, "dpr") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", -5),
        ("-100", -100),
        ("0", 0),
        ("300", 300),
        # refused
        ("-101", None),
        ("301", None),
        ("-0", None),
        ("--5", None),
        ("-", None),
        ("- 5", None),
        ("-05", None),
        ("-5.0", None),
        ("-" + "9" * 9999, None),
    ],
)
def test_signed(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(BadUrl):
            signed(text, -100, 300, "bri")
        return
    assert signed(text, -100, 300, "bri") == value


def test_what_cannot_be_negative() -> None:
    with pytest.raises(BadUrl):
        signed("-1", 0, 9, "blur")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1000), ("0.5", 500), ("0.333", 333), ("0.3333", None), ("1.001", None), ("0.", None)],
)
def test_decimal(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(BadUrl):
            decimal(text, 3, 0, 1000, "fp-x")
        return
    assert decimal(text, 3, 0, 1000, "fp-x") == value
