"""Sizes and durations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.settings.units import BadValue, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("50GiB", 50 * 2**30),
        ("4KiB", 4096),
        ("1TiB", 2**40),
        ("123", 123),
        ("0", 0),
        # hostile
        ("64MB", None),  # 1000 or 1024? ask
        ("64M", None),
        ("64mib", None),
        ("64 MiB", None),
        ("1.5GiB", None),
        ("-1", None),
        ("+1", None),
        ("1_000", None),
        ("１２", None),
        ("²", None),
        ("", None),
        ("MiB", None),
        ("9" * 17, None),
        ("9" * 5000, None),  # above int()'s own limit on digits
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(BadValue):
            parse_size(text)
    else:
        assert parse_size(text) == size
        assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("250ms", 0.25),
        ("1h", 3600.0),
        ("2m", 120.0),
        ("7d", 604800.0),
        ("0s", 0.0),
        # hostile
        ("10", None),  # of what?
        ("10 s", None),
        ("1h30m", None),
        ("0.5s", None),
        ("-1s", None),
        ("1us", None),
        ("1M", None),
        ("٣s", None),
        ("s", None),
        ("", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(BadValue):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds
        assert parse_duration(format_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.integers(0, 10**15 - 1))
def test_units_round_trip(number: int) -> None:
    assert parse_size(format_size(number)) == number
    ms = number % 10**12
    assert parse_duration(format_duration(ms / 1000)) == ms / 1000
