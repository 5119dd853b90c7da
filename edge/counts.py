"""Numbers of one worker, or of all of them together, as text that another process reads. Pure.

    c TAB halftone_requests TAB 200 TAB 1734
    g TAB halftone_connections TAB 12

A line is a series: whether it only grows (c), is an amount of the moment (g), or one of which the
largest of all workers counts (h); its name, its label values, its number. Both sides are processes
of one program, but a reader must survive whatever stands in memory that is shared: what is no line
of this form is left out. A label with a tab or a line's end makes no line of this form; see told().
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

# Name, then label values. Buckets of a histogram have their bound as label, its sum has "sum".
Series = tuple[str, ...]

_GROWING: Final = "c"
_MOMENTARY: Final = "g"
_HIGHEST: Final = "h"
# More is no exposition of ours; a bound for what damaged memory makes us keep.
MAX_SERIES: Final = 16_384
MAX_LABEL: Final = 300


@dataclass(slots=True)
class Counts:
    """growing: counters and histograms, which outlive their worker. momentary: gauges, which are
    added up. highest: gauges of which a sum would mean nothing."""

    growing: dict[Series, float] = field(default_factory=dict)
    momentary: dict[Series, float] = field(default_factory=dict)
    highest: dict[Series, float] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        _add(self.growing, other.growing)
        _add(self.momentary, other.momentary)
        for series, number in other.highest.items():
            self.highest[series] = max(number, self.highest.get(series, number))

    def encode(self) -> bytes:
        lines = [
            *_lines(_GROWING, self.growing),
            *_lines(_MOMENTARY, self.momentary),
            *_lines(_HIGHEST, self.highest),
        ]
        return "\n".join(lines).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Counts":
        """Raises nothing."""
        counts = cls()
        tables = {
            _GROWING: counts.growing,
            _MOMENTARY: counts.momentary,
            _HIGHEST: counts.highest,
        }
        for line in data.decode(errors="replace").split("\n")[:MAX_SERIES]:
            kind, *names = line.split("\t")
            table = tables.get(kind)
            if table is None or len(names) < 2:
                continue
            number = _maybe_number(names.pop())
            if number is not None:
                table[tuple(names)] = number
        return counts


def told(label: str) -> str:
    """Text of others as a label that can be told: of one line, and short."""
    return "".join(c if c.isprintable() else "?" for c in label[:MAX_LABEL])


def _add(to: dict[Series, float], more: dict[Series, float]) -> None:
    for series, number in more.items():
        to[series] = to.get(series, 0.0) + number


def _lines(kind: str, table: dict[Series, float]) -> Iterator[str]:
    for series, number in table.items():
        yield "\t".join((kind, *series, repr(number)))


def _maybe_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
