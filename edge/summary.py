"""A node's numbers in a few lines, from the text of its /metrics. Pure.

Series are read as Prometheus writes them (text format 0.0.4); one that this node does not have is
left out of the table, so that an older or newer node can be asked, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)")
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    number: float


def parse_metrics(text: str) -> list[Sample]:
    """What is no sample is left out."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is None:
            continue
        try:
            number = float(match[3])
        except ValueError:
            continue
        found.append(Sample(match[1], dict(_LABEL.findall(match[2] or "")), number))
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """What a line says: its name, a number, how it is written."""

    name: str
    number: float
    text: str


def summary(samples: Sequence[Sample]) -> list[Line]:
    """The lines of `halftone stats`, top to bottom."""
    lines: list[Line] = []

    def total(series: str, **labels: str) -> float | None:
        chosen = [
            sample.number
            for sample in samples
            if sample.name == series and labels.items() <= sample.labels.items()
        ]
        return sum(chosen) if chosen else None

    def add(name: str, number: float | None, unit: str = "") -> None:
        if number is not None:
            lines.append(Line(name, number, _written(number, unit)))

    def add_each(series: str, label: str, name: str) -> None:
        for sample in samples:
            if sample.name == series and label in sample.labels and sample.number:
                add(f"{name}, {sample.labels[label]}", sample.number)

    add("requests", total("halftone_requests_total"))
    add("requests a second", total("halftone_requests_per_second"))
    hits, misses = total("halftone_cache_hits_total"), total("halftone_cache_misses_total")
    add("hits, memory", total("halftone_cache_hits_total", tier="memory"))
    add("hits, disk", total("halftone_cache_hits_total", tier="disk"))
    add("misses", misses)
    if hits is not None and misses is not None and hits + misses:
        add("hit ratio since the start", hits / (hits + misses), "%")
    for sample in samples:
        if sample.name == "halftone_hit_ratio":
            add(f"hit ratio, {', '.join(sample.labels.values())}", sample.number, "%")
    add("renders", total("halftone_renders_total", result="rendered"))
    add("renders waiting", total("halftone_resize_queue_depth"))
    add("joined a flight", total("halftone_flight_joins_total"))
    add("connections", total("halftone_connections"))
    add("memory in use", total("halftone_cache_memory_bytes"), "B")
    add("disk in use", total("halftone_cache_disk_bytes"), "B")
    add("inodes in use", total("halftone_cache_disk_inodes"))
    degraded = total("halftone_index_degraded")
    if degraded is not None:
        lines.append(Line("index", degraded, "does not answer" if degraded else "answers"))
    add_each("halftone_purges_total", "act", "purges")
    told = total("halftone_downstream_urls_total", result="told")
    add("told caches in front", told)
    if told is not None:
        add("not told", total("halftone_downstream_urls_total", result="failed"))
        add("still to be told", total("halftone_downstream_pending"))
    return lines


def _written(number: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * number:.1f} %"
    if unit == "B":
        for one in _UNITS[:-1]:
            if number < 1024:
                return f"{number:.0f} {one}" if one == "B" else f"{number:.1f} {one}"
            number /= 1024
        return f"{number:.1f} {_UNITS[-1]}"
    return f"{number:,.0f}".replace(",", " ")
