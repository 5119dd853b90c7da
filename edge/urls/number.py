"""Numbers in URLs: ASCII digits, one spelling, a length that is bounded before int() sees it.

int() alone also takes "+1", " 1", "1_0" and Arabic digits, and is slow on ten thousand digits.
"""

from typing import Final

from edge.urls.derivative import BadUrl

_DIGITS: Final = frozenset("0123456789")


def _is_plain(text: str, most_digits: int) -> bool:
    return 0 < len(text) <= most_digits and _DIGITS.issuperset(text)


def integer(text: str, lowest: int, highest: int, what: str) -> int:
    """A whole number from lowest (not negative) to highest. Raises BadUrl."""
    if not _is_plain(text, len(str(highest))):
        raise BadUrl(f"{what} is no whole number up to {highest}")
    # "0220" would be a second spelling of 220.
    if text[0] == "0" and len(text) > 1:
        raise BadUrl(f"{what} has a leading zero")
    value = int(text)
    if not lowest <= value <= highest:
        raise BadUrl(f"{what} {value} is outside {lowest} to {highest}")
    return value


def signed(text: str, lowest: int, highest: int, what: str) -> int:
    """A whole number that may be negative; "-0" is not one. Raises BadUrl."""
    if not text.startswith("-"):
        return integer(text, max(0, lowest), highest, what)
    if lowest >= 0:
        raise BadUrl(f"{what} is negative")
    return -integer(text[1:], 1, -lowest, what)


def decimal(text: str, places: int, lowest: int, highest: int, what: str) -> int:
    """A decimal number of at most `places` places ("1.5"), in the last of them (150 of two).
    Raises BadUrl.
    """
    whole, point, rest = text.partition(".")
    if point and not _is_plain(rest, places):
        raise BadUrl(f"{what} has not one to {places} decimal places")
    unit: int = 10**places
    value = unit * integer(whole, 0, highest // unit, what)
    value += int(rest.ljust(places, "0")) if point else 0
    if not lowest <= value <= highest:
        raise BadUrl(f"{what} is outside {lowest / unit} to {highest / unit}")
    return value


def hundredths(text: str, lowest: int, highest: int, what: str) -> int:
    """A decimal number of at most two places ("1.5"), in hundredths (150). Raises BadUrl."""
    return decimal(text, 2, lowest, highest, what)
