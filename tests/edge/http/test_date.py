"""edge/http/date.py: RFC 9110 section 5.6.7."""

import calendar
import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.date import format_date, parse_date

SAMPLE = 784_111_777  # the example of section 5.6.7
NOW_2026 = calendar.timegm((2026, 11, 22, 12, 0, 0))


def seconds(*parts: int) -> int:
    return calendar.timegm((*parts, 0, 0, 0)[:6])  # year, month, day, then what is given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # usual: the three forms of the RFC's own example
        ("Sun, 06 Nov 1994 08:49:37 GMT", SAMPLE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", SAMPLE),
        ("Sun Nov  6 08:49:37 1994", SAMPLE),
        ("Wed Nov 16 08:49:37 1994", SAMPLE + 10 * 86_400),
        ("Wednesday, 16-Nov-94 08:49:37 GMT", SAMPLE + 10 * 86_400),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        # edge
        ("Thu, 29 Feb 2024 23:59:59 GMT", seconds(2024, 2, 29, 23, 59, 59)),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Tue, 19 Jan 2038 03:14:08 GMT", 2**31),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ("Mon, 01 Jan 0001 00:00:00 GMT", -62_135_596_800),
        ("Sat, 31 Dec 2016 23:59:60 GMT", seconds(2017, 1, 1)),  # a leap second that was
        ("sun, 06 nov 1994 08:49:37 gmt", SAMPLE),  # RFC 9111 4.2: without regard to case
        ("Mon, 06 Nov 1994 08:49:37 GMT", SAMPLE),  # it was a Sunday; the date counts
        # wrong
        ("", None),
        ("0", None),  # the usual Expires of origins
        ("-1", None),
        ("Sun", None),
        ("Sun,", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 8:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06-Nov-1994 08:49:37 GMT", None),
        ("Sun, 30 Feb 1994 08:49:37 GMT", None),
        ("Thu, 29 Feb 2023 00:00:00 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:60:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 06 Nov 1994 08:49:60 GMT", None),  # no leap second at ten to nine
        ("Sun, 06 Nov 1994 08:49:37 GMT ", None),
        (" Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun,  06 Nov 1994 08:49:37 GMT", None),
        ("Sun Nov 06 08:49:37 1994 GMT", None),
        ("Sun Nov 6 08:49:37 1994", None),  # a one-digit day is padded with a space
        ("Sunday, 06 Nov 1994 08:49:37 GMT", None),
        ("Tuesay, 06-Nov-94 08:49:37 GMT", None),
        ("Son, 06 Nov 1994 08:49:37 GMT", None),  # a German locale's Sunday
        ("1994-11-06T08:49:37Z", None),
        ("784111777", None),
        # hostile
        ("Sun, 06 Nov 1994 08:49:37 GMT\n", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT\r\nX: y", None),
        ("Sun, 0६ Nov 1994 08:49:37 GMT", None),  # a Devanagari digit
        ("\u017fun, 06 Nov 1994 08:49:37 GMT", None),  # a long s folds to s outside ASCII
        ("Sun, +6 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1_94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("S" * 100_000, None),
    ],
)
def test_parse(text: str, expected: int | None) -> None:
    assert parse_date(text) == expected


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Sunday, 22-Nov-76 12:00:00 GMT", 2076),  # 50 years ahead to the second
        ("Sunday, 22-Nov-76 12:00:01 GMT", 1976),  # one second more is the past
        ("Sunday, 21-Nov-76 23:59:59 GMT", 2076),
        ("Tuesday, 01-Dec-76 00:00:00 GMT", 1976),
        ("Friday, 01-Jan-77 00:00:00 GMT", 1977),
        ("Friday, 31-Dec-99 23:59:59 GMT", 1999),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 2000),
        ("Sunday, 22-Nov-26 12:00:01 GMT", 2026),
    ],
)
def test_two_digit_years_are_at_most_fifty_years_ahead(text: str, year: int) -> None:
    parsed = parse_date(text, NOW_2026)
    assert parsed is not None
    assert datetime.datetime.fromtimestamp(parsed, datetime.UTC).year == year


def test_without_a_clock_two_digit_years_lie_in_1970_to_2069() -> None:
    assert parse_date("Thursday, 01-Jan-70 00:00:00 GMT") == 0
    assert parse_date("Tuesday, 31-Dec-69 23:59:59 GMT") == seconds(2069, 12, 31, 23, 59, 59)


@pytest.mark.parametrize("now", [-(2**70), 0, 2**70])
def test_any_clock_is_survived(now: int) -> None:
    parse_date("Thursday, 01-Jan-70 00:00:00 GMT", now)


@pytest.mark.parametrize(
    ("epoch_s", "expected"),
    [
        (SAMPLE, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (2**31, "Tue, 19 Jan 2038 03:14:08 GMT"),
        (2**80, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (-(2**80), "Mon, 01 Jan 0001 00:00:00 GMT"),
    ],
)
def test_format(epoch_s: int, expected: str) -> None:
    assert format_date(epoch_s) == expected


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_round_trip(epoch_s: int) -> None:
    text = format_date(epoch_s)
    assert len(text) == 29
    assert parse_date(text) == epoch_s


@given(st.integers(0, 253_402_300_799))
def test_format_agrees_with_the_standard_library(epoch_s: int) -> None:
    assert format_date(epoch_s) == email.utils.formatdate(epoch_s, usegmt=True)


@given(st.integers(0, 3_000_000_000), st.integers(0, 4_000_000_000))
def test_obsolete_forms_agree_with_the_new_one(epoch_s: int, now: int) -> None:
    moment = datetime.datetime.fromtimestamp(epoch_s, datetime.UTC)
    assert parse_date(moment.ctime()) == epoch_s
    long_day = ("Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun")[moment.weekday()] + "day"
    month = moment.ctime()[4:7]
    text = f"{long_day}, {moment:%d}-{month}-{moment:%y} {moment:%H:%M:%S} GMT"
    parsed = parse_date(text, now)
    if parsed is None:
        assert "29-Feb" in text  # 1900 and 2100 have none
        return
    found = datetime.datetime.fromtimestamp(parsed, datetime.UTC)
    assert (found.year - moment.year) % 100 == 0
    assert (found.month, found.day, found.hour) == (moment.month, moment.day, moment.hour)
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    assert -50 <= found.year - today.year <= 50


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    parse_date(text)
