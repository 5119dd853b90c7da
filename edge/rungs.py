"""The sizes of one file, made by hand: `halftone ladder FILE`.

One sandboxed process renders them all from one decoding, as a node does after a first miss. Nothing
wider than the picture is made. A file appears under its name when it is complete.
"""

import asyncio
import dataclasses
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import xxhash

from edge.policy.rungs import STEPS
from edge.urls.ending import ENDINGS
from resizer.cost import maybe_header
from resizer.errors import ResizeError, UnsupportedFormat
from resizer.formats import Format
from resizer.job import MAX_TRANSFORMS, Limits, Result
from resizer.pool import Pool, PoolSettings
from resizer.ticket import Outcome
from resizer.transform import Transform

# A person waits, and may give up at any time; a node's 10 s are for those who cannot.
DEADLINE_S: Final = 60.0
_DEFAULT_LIMITS: Final = Limits()


class CannotClimb(Exception):
    """The text is a sentence for whoever typed the command."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One that was made; path is None where nothing is written."""

    width: int
    height: int
    length: int
    ms: float
    parent: str  # what it was made from, in words
    path: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """folder None writes nothing; format None keeps the picture's own."""

    source: str
    folder: str | None
    steps: tuple[int, ...] = STEPS
    format: Format | None = None
    may_replace: bool = False


def climb(wish: Wish, report: Callable[[Rung], None]) -> None:
    """Make the rungs, widest first; each is reported when it is there. Raises CannotClimb."""
    if len(wish.steps) > MAX_TRANSFORMS:
        raise CannotClimb(f"{len(wish.steps)} steps are too many, {MAX_TRANSFORMS} the most")
    try:
        # Not waiting for a writer, where it is a pipe.
        source = os.open(wish.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CannotClimb(f"{wish.source}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise CannotClimb(f"{wish.source}: is no file")
        asyncio.run(_climb(wish, source, _transforms(wish, source), report))
    except OSError as error:
        raise CannotClimb(f"{error.filename or wish.source}: {error.strerror}") from error
    except UnsupportedFormat as error:
        formats = ", ".join(Format)
        raise CannotClimb(f"{wish.source}: is no picture in one of {formats}") from error
    except ResizeError as error:
        raise CannotClimb(f"{wish.source}: {error}") from error
    finally:
        os.close(source)


def _transforms(wish: Wish, source: int) -> tuple[Transform, ...]:
    """Widest first, so each serves the next. The header knows of no turn, so its longer side is the
    bound; what is still too wide is seen from the result."""
    header = maybe_header(lambda at, size: os.pread(source, size, at))
    longest = max(wish.steps) if header is None else max(header.width, header.height)
    widths = [width for width in sorted(set(wish.steps), reverse=True) if width <= longest]
    if not widths:
        raise CannotClimb(f"{wish.source}: every step is wider than its {longest} pixels")
    return tuple(Transform(width=width, format=wish.format) for width in widths)


async def _climb(
    wish: Wish, source: int, transforms: Sequence[Transform], report: Callable[[Rung], None]
) -> None:
    size = os.fstat(source).st_size
    limits = dataclasses.replace(_DEFAULT_LIMITS, max_bytes=max(size, _DEFAULT_LIMITS.max_bytes))
    pool = Pool(PoolSettings(processes=1, deadline_s=DEADLINE_S, limits=limits))
    sinks = [os.memfd_create("rung", os.MFD_CLOEXEC) for _ in transforms]
    made: list[Rung] = []

    def take(number: int, outcome: Outcome) -> None:
        if not isinstance(outcome, Result):
            raise outcome
        if outcome.width < (transforms[number].width or 0):
            return  # the picture's own width, under a name that promises more
        made.append(_keep(wish, sinks[number], outcome))
        report(made[-1])

    try:
        await pool.start()
        try:
            await pool.run_ladder(
                source,
                sinks,
                transforms,
                digest=xxhash.xxh3_128_digest(wish.source.encode(errors="surrogateescape")),
                on_result=take,
            )
        finally:
            await pool.stop(0)
    finally:
        for sink in sinks:
            os.close(sink)
    if not made:
        raise CannotClimb(f"{wish.source}: every step is wider than it is")


def _keep(wish: Wish, sink: int, result: Result) -> Rung:
    """Raises CannotClimb, OSError."""
    path = None
    if wish.folder is not None:
        stem = os.path.splitext(os.path.basename(wish.source))[0]
        ending = ENDINGS[Format(result.media_type.removeprefix("image/"))]
        path = os.path.join(wish.folder, f"{stem}-{result.width}px.{ending}")
        if not wish.may_replace and os.path.lexists(path):
            raise CannotClimb(f"{path}: is there already; --force replaces it")
        _write(path, os.pread(sink, result.length, 0))
    return Rung(
        result.width,
        result.height,
        result.length,
        result.decode_ms + result.render_ms,
        parent_of(result.lineage),
        path,
    )


def _write(path: str, body: bytes) -> None:
    unfinished = f"{path}.part"
    try:
        with open(unfinished, "wb") as file:
            file.write(body)
        os.replace(unfinished, path)
    except BaseException:
        if os.path.lexists(unfinished):
            os.unlink(unfinished)
        raise


def parent_of(lineage: str) -> str:
    """What a lineage (resizer/ladder.py) says of the last step, in words.

    "" the original; "1/2" the original, decoded at half its sides for the sake of a larger rung;
    "1/2>1280x720" that rung. Of a long one there is a digest.
    """
    if ":" in lineage:
        return "a larger one"
    above, _, last = lineage.rpartition(">")
    if above:
        return last
    return f"the original at {last}" if last else "the original"
