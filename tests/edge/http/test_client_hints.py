"""edge/http/client_hints.py: what is read, and what says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.client_hints import RATIOS, fold_ratio, is_saving, maybe_width
from resizer.transform import MAX_SIDE


@pytest.mark.parametrize(
    ("field", "ratio"),
    [
        # usual: desktops, zoomed desktops, telephones
        ("1", 100),
        ("1.0", 100),
        ("2", 200),
        ("3.0", 300),
        ("1.25", 150),
        ("1.100000023841858", 150),  # Chrome at 110 %
        ("1.75", 200),
        ("2.625", 300),
        # edge
        ("0.5", 100),
        ("1.01", 150),
        ("1.5", 150),
        ("1.51", 200),
        ("3.5", 300),
        ("999", 300),
        # says nothing
        (None, 100),
        ("", 100),
        ("0", 100),
        ("-2", 100),
        ("+2", 100),
        ("2,3", 100),
        ("2, 2", 100),  # two lines
        (".5", 100),
        ("2.", 100),
        ("2;x=1", 100),
        ("1e3", 100),
        ("9999", 100),
        ("\u0662", 100),
        ("2" * 5000, 100),
        ("2." + "0" * 5000, 100),
    ],
)
def test_ratios(field, ratio):
    assert fold_ratio(field) == ratio


@pytest.mark.parametrize(
    ("field", "width"),
    [
        *(("640", 640), ("1", 1), ("16384", MAX_SIDE), ("99999", MAX_SIDE), ("007", 7)),
        *((None, None), ("", None), ("0", None), ("-1", None), ("1.5", None), ("100000", None)),
        *(("640, 640", None), ("\u0661", None), ("64 0", None), ("9" * 5000, None)),
    ],
)
def test_widths(field, width):
    assert maybe_width(field) == width


@pytest.mark.parametrize(
    ("field", "saves"),
    [
        *(("on", True), ("ON", True), ("on; x", True), ("x;on", True), (" on ", True)),
        *((None, False), ("", False), ("off", False), ("1", False), ("one", False)),
        ("on, off", False),
    ],
)
def test_saving(field, saves):
    assert is_saving(field) is saves


@given(st.text())
def test_anything_may_be_sent(field):
    assert fold_ratio(field) in RATIOS
    width = maybe_width(field)
    assert width is None or 1 <= width <= MAX_SIDE
    is_saving(field)
