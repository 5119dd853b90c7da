"""Traces of requests: made up, or read from Wikimedia's.

A request is (key, bytes, cost in ms); the cost is what a hit saves.

The made-up trace is that of an image farm: originals by Zipf, each in some steps and formats, and
beside them keys that are asked for once, which is what crawlers leave. An original that is dear to
decode is dear in every step.

Wikimedia's is the upload trace of November 2019 (wikitech: Data Platform/Data Lake/Caching), lines
of five columns, tabs between them:

    relative_unix  hashed_path_query  image_type  response_size  time_firstbyte

time_firstbyte, in seconds, stands for what a miss costs.
"""

import bisect
import contextlib
import gzip
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final, NamedTuple

from cache.room import allocated

# By how often they are asked for. What the sites of the gallery ask for, roughly.
STEPS: Final = (220, 320, 120, 640, 500, 960, 1280)
FORMATS: Final = ("webp", "jpeg", "avif")
# Of a format: bytes, milliseconds, in terms of JPEG's.
FORMAT_BYTES: Final = {"webp": 0.75, "jpeg": 1.0, "avif": 0.6}
FORMAT_COST: Final = {"webp": 1.0, "jpeg": 0.7, "avif": 2.2}
MEAN_BYTES: Final = 25_000
COST_P50_MS: Final = 52.0
COST_P99_MS: Final = 552.0
_Z99: Final = 2.326  # of the normal distribution
# Header names of a Wikimedia file's first line are words, its data are not.
COLUMNS: Final = 5


class Request(NamedTuple):
    key: int
    size: int
    cost: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What a made-up trace is like; the facts of eviction were simulated with these."""

    requests: int = 250_000
    originals: int = 20_000
    skew: float = 0.9
    once: float = 0.15  # of the requests: keys that nobody asks for again


def made_up(shape: Shape, seed: int) -> list[Request]:
    """Sizes in allocated blocks. Equal seeds make equal traces."""
    chance = random.Random(seed)
    variants = _variants()
    popular = [weight for _, _, weight in variants]
    ranks = list(itertools.accumulate(1 / rank**shape.skew for rank in range(1, shape.originals + 1)))
    weights = list(itertools.accumulate(popular))
    temper: dict[int, float] = {}
    known: dict[int, Request] = {}
    trace: list[Request] = []
    sigma = math.log(COST_P99_MS / COST_P50_MS) / _Z99
    once = shape.originals * len(variants)
    for _ in range(shape.requests):
        variant = bisect.bisect_left(weights, chance.random() * weights[-1])
        if chance.random() < shape.once:
            original = -1
            key, once = once, once + 1
        else:
            original = bisect.bisect_left(ranks, chance.random() * ranks[-1])
            key = original * len(variants) + variant
        request = known.get(key)
        if request is None:
            z = temper.setdefault(original, chance.gauss(0, 1)) if original >= 0 else 0.0
            if original < 0:
                z = chance.gauss(0, 1)
            size_z, cost_z, _ = variants[variant]
            cost = COST_P50_MS * math.exp(
                sigma * (0.75 * z + 0.55 * cost_z + 0.37 * chance.gauss(0, 1))
            )
            # Half of what tells sizes apart is the step; a dear original is a large one, mostly.
            spread = 0.8 * size_z + 0.4 * z + 0.4 * chance.gauss(0, 1)
            size = MEAN_BYTES * math.exp(spread - 0.48)
            request = Request(key, allocated(int(size)), cost)
            if original >= 0:
                known[key] = request
        trace.append(request)
    return trace


def _variants() -> list[tuple[float, float, float]]:
    """Of each step and format: how large, how dear (both in standard deviations), how popular."""
    found = []
    for step_rank, step in enumerate(STEPS, 1):
        for format_rank, name in enumerate(FORMATS, 1):
            found.append(
                (
                    1.5 * math.log(step) + math.log(FORMAT_BYTES[name]),
                    0.7 * math.log(step) + math.log(FORMAT_COST[name]),
                    1 / (step_rank * format_rank),
                )
            )
    sizes, costs = _standard([row[0] for row in found]), _standard([row[1] for row in found])
    return [(size, cost, row[2]) for size, cost, row in zip(sizes, costs, found, strict=True)]


def _standard(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation for value in values]


def wikimedia(path: str, limit: int | None = None) -> Iterator[Request]:
    """The lines of an upload trace, gzipped or plain, at most limit of them.

    A path is a key whatever its size was before. Raises ValueError with the number of a line that
    is none.
    """
    keys: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_open(path))
        for number, line in enumerate(itertools.islice(lines, limit), 1):
            columns = line.split()
            if number == 1 and columns[:1] == ["relative_unix"]:
                continue
            try:
                _, name, _, size, seconds = columns
                yield Request(
                    keys.setdefault(name, len(keys)),
                    allocated(max(0, int(size))),
                    max(0.0, float(seconds)) * 1000,
                )
            except ValueError:
                raise ValueError(
                    f"{path}:{number}: not the {COLUMNS} columns of an upload trace: {line[:80]!r}"
                ) from None


def _open(path: str) -> IO[str]:
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt") if is_gzip else open(path)  # noqa: SIM115 - the caller's to close
