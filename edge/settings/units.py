"""Sizes and durations as people write them: "64MiB", "250ms". Pure.

A size is a whole number of bytes with one of the units of SIZE_UNITS, or with none. The units are
the powers of 1024 (IEC 80000-13), spelt exactly so: "MB" and "M" mean different things to different
people, so they are refused with the spelling that we do take.
A duration is a whole number with a unit of DURATION_UNITS, never without: "10" could be anything.
parse_ and format_ are inverses; format_ picks the largest unit that is exact.
"""

from typing import Final

SIZE_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# In milliseconds, so that both ways are exact whole numbers.
DURATION_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# Sixteen digits cover 8 PiB in bytes and stay exact as a double; more is a slip of the hand.
MAX_DIGITS: Final = 16

_SIZE_SLIPS: Final = {"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB"}


class BadValue(ValueError):
    """A setting cannot have this value; the text is a sentence for the operator."""


def parse_whole(text: str) -> int:
    """From ASCII digits only: int() also takes "１２", " 1 ", "+1", "1_000". Raises BadValue."""
    if not (text.isascii() and text.isdigit()):
        raise BadValue(f"must be a whole number, not {text!r}")
    if len(text) > MAX_DIGITS:
        raise BadValue(f"has {len(text)} digits, {MAX_DIGITS} are the most")
    return int(text)


def _split(text: str) -> tuple[str, str]:
    """Leading digits, and what follows them."""
    unit = text.lstrip("0123456789")
    return text[: len(text) - len(unit)], unit


def parse_size(text: str) -> int:
    """Bytes. Raises BadValue."""
    digits, unit = _split(text)
    if not digits:
        raise BadValue(f'must be a size like "64MiB" or "50GiB", not {text!r}')
    if unit not in SIZE_UNITS:
        meant = _SIZE_SLIPS.get(unit[:1].lower())
        hint = f'; write "{digits}{meant}"' if meant else ""
        raise BadValue(f"unit {unit!r} is none of KiB, MiB, GiB, TiB{hint}")
    return parse_whole(digits) * SIZE_UNITS[unit]


def format_size(size: int) -> str:
    unit = max(
        (u for u, n in SIZE_UNITS.items() if size and size % n == 0),
        key=SIZE_UNITS.__getitem__,
        default="",
    )
    return f"{size // SIZE_UNITS[unit]}{unit}"


def parse_duration(text: str) -> float:
    """Seconds. Raises BadValue."""
    digits, unit = _split(text)
    if not digits:
        raise BadValue(f'must be a time like "10s", "250ms" or "1h", not {text!r}')
    if not unit:
        raise BadValue(f'needs a unit: "{text}s" for seconds, "{text}ms" for milliseconds')
    if unit not in DURATION_UNITS:
        raise BadValue(f"unit {unit!r} is none of ms, s, m, h, d")
    return parse_whole(digits) * DURATION_UNITS[unit] / 1000


def format_duration(seconds: float) -> str:
    ms = round(seconds * 1000)
    if ms == 0:
        return "0s"
    unit = max(
        (u for u, n in DURATION_UNITS.items() if ms % n == 0), key=DURATION_UNITS.__getitem__
    )
    return f"{ms // DURATION_UNITS[unit]}{unit}"
