"""HTTP dates, RFC 9110 section 5.6.7: read three forms, write one.

    Sun, 06 Nov 1994 08:49:37 GMT    IMF-fixdate, the only form we write
    Sunday, 06-Nov-94 08:49:37 GMT   RFC 850, obsolete
    Sun Nov  6 08:49:37 1994         asctime(), obsolete

Names are matched without regard to case, as RFC 9111 section 4.2 asks of caches, and never through
the locale. The day of the week must be one but is not compared with the date: the grammar does not
tie them, and origins that get it wrong mean the date. What is no date is None; a caller ignores the
field or takes the answer for stale.
"""

import datetime
import functools
import re
from typing import Final

# "Now" for a caller without a clock. It puts two-digit years into 1970 to 2069.
REFERENCE_S: Final = 1_577_836_799  # 2019-12-31T23:59:59Z

_DAY_S: Final = 86_400
_EPOCH_ORDINAL: Final = datetime.date(1970, 1, 1).toordinal()
_MIN_S: Final = (datetime.date.min.toordinal() - _EPOCH_ORDINAL) * _DAY_S
_MAX_S: Final = (datetime.date.max.toordinal() - _EPOCH_ORDINAL + 1) * _DAY_S - 1

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_MONTH_NUMBERS: Final = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_DAY: Final = "(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTH_NUMBERS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FLAGS: Final = re.ASCII | re.IGNORECASE
_IMF_FIXDATE: Final = re.compile(
    f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} gmt", _FLAGS
)
_RFC_850: Final = re.compile(
    f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} gmt", _FLAGS
)
_ASCTIME: Final = re.compile(
    f"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", _FLAGS
)
# The fourth character tells the forms apart.
_FORMS: Final = {",": _IMF_FIXDATE, " ": _ASCTIME}


def parse_date(text: str, now: int = REFERENCE_S) -> int | None:
    """Seconds since 1970 (negative before), or None when text is no HTTP-date.

    now, in seconds since 1970, is used only to complete the two-digit year of an RFC 850 date.
    """
    matched = _FORMS.get(text[3:4], _RFC_850).fullmatch(text)
    if matched is None:
        return None
    month_name, day_text, year_text = matched.group("month", "day", "year")
    hour, minute, second = map(int, matched.group("hour", "minute", "second"))
    month, day, year = _MONTH_NUMBERS[month_name.lower()], int(day_text), int(year_text)
    if hour > 23 or minute > 59 or second > 60:
        return None
    # A leap second is added at the end of a UTC day and nowhere else; it counts as the next one.
    if second == 60 and (hour, minute) != (23, 59):
        return None
    seconds = hour * 3600 + minute * 60 + second
    if matched.re is _RFC_850:
        year = _complete_year(year, (month, day, seconds), now)
    try:
        ordinal = datetime.date(year, month, day).toordinal()
    except ValueError:  # 30 February, year 0
        return None
    return (ordinal - _EPOCH_ORDINAL) * _DAY_S + seconds


def _complete_year(two_digits: int, rest: tuple[int, int, int], now: int) -> int:
    """The latest year with these digits that is not over 50 years ahead.

    "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year, MUST
    interpret a timestamp that appears to be more than 50 years in the future as representing the
    most recent year in the past that had the same last two digits."
    """
    days, seconds = divmod(min(max(now, 0), _MAX_S), _DAY_S)
    today = datetime.date.fromordinal(days + _EPOCH_ORDINAL)
    limit = today.year + 50
    year = limit - (limit - two_digits) % 100
    if year == limit and rest > (today.month, today.day, seconds):
        return year - 100
    return year


def format_date(epoch_s: int) -> str:
    """IMF-fixdate. Times outside the years 1 to 9999, as broken disks report, are clamped."""
    days, seconds = divmod(min(max(epoch_s, _MIN_S), _MAX_S), _DAY_S)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_format_day(days)} {hour:02}:{minute:02}:{second:02} GMT"


# A farm's files are of some thousand days.
@functools.lru_cache(maxsize=4096)
def _format_day(days: int) -> str:
    date = datetime.date.fromordinal(days + _EPOCH_ORDINAL)
    weekday, month = _DAYS[date.weekday()], _MONTHS[date.month - 1]
    return f"{weekday}, {date.day:02} {month} {date.year:04}"
