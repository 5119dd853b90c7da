"""Traces of requests: made up, or read from Wikimedia's.

A request is (key, bytes, cost in ms, source); the cost is what a hit saves, and the source what a
derivative is made of. Wikimedia's paths are hashes, so nobody knows the source of a key there.

The made-up trace is that of an image farm: originals by Zipf, each in some steps and formats, and
beside them keys that are asked for once, which is what crawlers leave. An original of many pixels
is dear in every step, one of much detail is large in every step, and the two go not together.

Wikimedia's is the upload trace of November 2019 (wikitech: Data Platform/Data Lake/Caching), lines
of five columns, tabs between them:

    relative_unix  hashed_path_query  image_type  response_size  time_firstbyte

time_firstbyte, in seconds, stands for what a miss costs.
"""

import bisect
import contextlib
import functools
import gzip
import itertools
import math
import operator
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
SIZE_P50: Final = 12_500  # so that the mean is 25 KB
COST_P50_MS: Final = 52.0
COST_P99_MS: Final = 552.0
# The p99 of a normal distribution lies 2.326 deviations above its median.
COST_SIGMA: Final = math.log(COST_P99_MS / COST_P50_MS) / 2.326
SIZE_SIGMA: Final = 1.0
# Originals: a photograph of some 8 megapixels; an origin that is near, at 400 Mbit/s.
ORIGINAL_P50: Final = 1_500_000
ORIGINAL_SIGMA: Final = 0.9
ORIGIN_MS: Final = 20.0
ORIGIN_BYTES_PER_MS: Final = 50_000
COLUMNS: Final = 5


class Request(NamedTuple):
    key: int
    size: int
    cost: float
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a made-up trace is like; the facts of eviction were simulated with these."""

    requests: int = 250_000
    originals: int = 20_000
    skew: float = 0.9
    once: float = 0.15  # of the requests: keys that nobody asks for again
    drift: float = 0.0  # how often an original gets another's popularity in the course of the trace


def made_up(shape: Shape, seed: int) -> list[Request]:
    """Sizes in allocated blocks. Equal seeds make equal traces."""
    chance = random.Random(seed)
    variants = _variants()
    ranks = list(itertools.accumulate((n + 1) ** -shape.skew for n in range(shape.originals)))
    weights = list(itertools.accumulate(popularity for _, _, popularity in variants))
    by_rank = list(range(shape.originals))
    tempers: dict[int, tuple[float, float]] = {}
    known: dict[int, Request] = {}
    trace: list[Request] = []
    swaps = 0.0
    for _ in range(shape.requests):
        swaps += shape.drift * shape.originals / shape.requests / 2
        while swaps >= 1:
            one, other = chance.randrange(shape.originals), chance.randrange(shape.originals)
            by_rank[one], by_rank[other] = by_rank[other], by_rank[one]
            swaps -= 1
        variant = bisect.bisect_left(weights, chance.random() * weights[-1])
        if chance.random() < shape.once:
            key = (shape.originals + len(trace)) * len(variants) + variant
            temper = (chance.gauss(0, 1), chance.gauss(0, 1))
        else:
            number = by_rank[bisect.bisect_left(ranks, chance.random() * ranks[-1])]
            key = number * len(variants) + variant
            temper = tempers.get(number) or (chance.gauss(0, 1), chance.gauss(0, 1))
            tempers[number] = temper
        request = known.get(key)
        if request is None:
            request = known[key] = _request(key, temper, variants[variant], chance)
        trace.append(request)
    return trace


def original_of(key: int) -> int:
    """Of a key of a made-up trace; those that are asked for once have originals of their own."""
    return key // (len(STEPS) * len(FORMATS))


def rate(key: int, shape: Shape) -> float:
    """How often a made-up key is asked for, in terms of others; 0 for what nobody asks for again.

    Of traces that do not drift.
    """
    number, variant = divmod(key, len(STEPS) * len(FORMATS))
    if number >= shape.originals:
        return 0.0
    return (number + 1) ** -shape.skew * _variants()[variant][2]


def original(number: int, seed: int) -> Request:
    """An original behind made-up keys: its bytes, and what it takes to fetch it."""
    chance = random.Random(number << 32 | seed)
    size = ORIGINAL_P50 * math.exp(ORIGINAL_SIGMA * chance.gauss(0, 1))
    fetch_ms = ORIGIN_MS * math.exp(0.5 * chance.gauss(0, 1)) + size / ORIGIN_BYTES_PER_MS
    return Request(number, allocated(int(size)), fetch_ms)


def _request(
    key: int,
    temper: tuple[float, float],
    variant: tuple[float, float, float],
    chance: random.Random,
) -> Request:
    """temper: how many pixels the original has, which decides over the cost, and how detailed it
    is, which decides over the size of everything made from it; in standard deviations."""
    pixels, detail = temper
    larger, dearer, _ = variant
    size_z = 0.75 * larger + 0.55 * detail + 0.37 * chance.gauss(0, 1)
    cost_z = 0.75 * pixels + 0.55 * dearer + 0.37 * chance.gauss(0, 1)
    size = SIZE_P50 * math.exp(SIZE_SIGMA * size_z)
    cost = COST_P50_MS * math.exp(COST_SIGMA * cost_z)
    return Request(key, allocated(int(size)), cost, original_of(key))


@functools.cache
def _variants() -> list[tuple[float, float, float]]:
    """Of each step and format: how large, how dear (both in standard deviations), how popular."""
    pairs = list(itertools.product(enumerate(STEPS, 1), enumerate(FORMATS, 1)))
    popularity = [1 / (step_rank * format_rank) for (step_rank, _), (format_rank, _) in pairs]
    sizes = [1.5 * math.log(step) + math.log(FORMAT_BYTES[name]) for (_, step), (_, name) in pairs]
    costs = [0.7 * math.log(step) + math.log(FORMAT_COST[name]) for (_, step), (_, name) in pairs]
    sizes, costs = _standard(sizes, popularity), _standard(costs, popularity)
    return list(zip(sizes, costs, popularity, strict=True))


def _standard(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    whole = sum(weights)
    mean = sum(map(operator.mul, values, weights)) / whole
    squares = ((value - mean) ** 2 for value in values)
    deviation = math.sqrt(sum(map(operator.mul, squares, weights)) / whole)
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
    return gzip.open(path, "rt") if is_gzip else open(path)
