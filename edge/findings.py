"""What `halftone fsck` prints, from the answer of POST /fsck: particulars, counts, a verdict. Pure.

The verdict is the last line, since it is what is on the screen when a long list has scrolled by.
Answers of an older or newer node may lack numbers or have more; what is not known is left out.
"""

from collections.abc import Mapping
from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")

# Each number that is not 0, with what it means to whoever reads it at night.
_MEANINGS: Final = (
    ("being_written", "temp files of fills under way"),
    ("damaged", "never served; made anew when asked for; --fix removes them"),
    ("misplaced", "under another one's name, never served; --fix removes them"),
    ("abandoned", "temp files of processes that are dead; --fix and every start remove them"),
    ("unreadable", "see the reasons above; never removed"),
    ("foreign", "not made by halftone, left alone"),
    ("newer", "of a later version of halftone, left alone"),
    ("unlisted", "whole, and the index does not list them. Harmless; --fix lists them"),
    ("missing", "listed in the index, and not there. Harmless; --fix takes them off the list"),
    ("stale", "purged, served to nobody; they go when room is needed; --fix removes them"),
    ("suspect", "the index does not know them; served once their originals have been asked"),
    ("uncompared", "not compared with the index"),
)
_HARMFUL: Final = ("damaged", "misplaced", "abandoned", "unreadable")


def report(found: Mapping[str, object]) -> list[str]:
    """The lines, top to bottom."""
    lines = [
        _particular(one)
        for group in ("others", "differences", "problems")
        for one in _list(found, group)
    ]
    counts = {name: _count(found, name) for name in ("files", "bytes", "listed")}
    lines.append(f"{counts['files']:>9,} whole files, {_size(counts['bytes'])}")
    lines.append(f"{counts['listed']:>9,} of them current and known to the index")
    for name, meaning in _MEANINGS:
        number = _count(found, name)
        if number:
            lines.append(f"{number:>9,} {name.replace('_', ' ')}: {meaning}")
    if found.get("missing", 0) is None:
        lines.append("the index is shared: what it lists of other nodes was not looked for here")
    lines.append(verdict(found))
    return lines


def is_clean(found: Mapping[str, object]) -> bool:
    return found.get("clean") is True


def verdict(found: Mapping[str, object]) -> str:
    harmful = sum(_count(found, name) for name in _HARMFUL)
    removed, mended = _count(found, "removed"), _count(found, "mended")
    differences = sum(_count(found, name) for name in ("unlisted", "missing", "stale"))
    if not is_clean(found):
        left = harmful - removed
        parts = [f"{_number(left, 'problem')} left"] if left else []
        parts += ["the comparison with the index is not complete"] if _is_cut(found) else []
        return f"not clean: {'; '.join(parts) or 'see above'}"
    if not harmful + differences:
        return "clean"
    if removed + mended:
        put_right = f"{_number(removed, 'file')} removed, {_number(mended, 'difference')} put right"
        return f"clean now: {put_right}"
    return f"clean, but for {_number(differences, 'harmless difference')}"


def _is_cut(found: Mapping[str, object]) -> bool:
    return any(one.get("fault") == "uncompared" for one in _list(found, "problems"))


def _particular(one: Mapping[str, object]) -> str:
    place = one.get("path") or "index"
    detail = f": {one['detail']}" if one.get("detail") else ""
    mended = " (put right)" if one.get("mended") is True else ""
    return _printable(f"{one.get('fault')}: {place}{detail}{mended}")


def _list(found: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = found.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _count(found: Mapping[str, object], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) else 0


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    size, unit = float(number), _UNITS[0]
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == _UNITS[0] else f"{size:,.1f} {unit}"


def _printable(text: str) -> str:
    """It comes from another process, and goes to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
