"""From the bytes of a picture to those of a derivative: one transform, no process, no file.

Order: header and limits (decode), plan (geometry), pixels, steps over them (pipeline), the file
(encode). Several transforms of one source go down a ladder (descent), from one decoding.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from resizer import animation, colour, decode, descent, encode, geometry, ladder, lean, pipeline
from resizer.decode import Picture
from resizer.errors import PictureTooLarge, ResizeError
from resizer.formats import MOVING, Format, InputOnly
from resizer.geometry import Box, Plan
from resizer.job import Failure, Limits, Result, media_types
from resizer.ladder import Parent
from resizer.orientation import Orientation
from resizer.placeholder import STAND_INS, placeholder
from resizer.rights import build_exif
from resizer.transform import Transform
from resizer.words import Keep


@dataclass(frozen=True, slots=True)
class Source:
    """What a job's transforms are applied to. mark: the site's watermark, decoded, or None; inputs:
    formats that are only read, switched on. parent: what the bytes are, where they are not the
    original's.
    """

    data: bytes
    limits: Limits
    mark: Image.Image | None = None
    inputs: tuple[InputOnly, ...] = ()
    parent: Parent | None = None


# What became of one transform: the bytes and their description, or why there are none. Never an
# exception: in a frame of its own traceback it would keep the pixels too.
Outcome = tuple[bytes, Result] | Failure


def render_all(source: Source, transforms: Sequence[Transform]) -> Iterator[Outcome]:
    """Each transform in order, as soon as it is done. Whoever stops asking stops the work.

    In what order they are asked for is the caller's: largest first lets each serve the next, and
    then no outcome waits here for its turn.
    """
    picture = _opened(source) if len(transforms) > 1 else None
    rungs = [] if picture is None else _rungs(picture, source, transforms)
    steps: Iterator[tuple[int, Outcome]] = iter(())
    if picture is not None and rungs:
        steps = _descend(picture, [transforms[place] for place in rungs], source.limits)
    outcomes: dict[int, Outcome] = {}
    for place, each in enumerate(transforms):
        if place not in rungs:
            yield _outcome(source, each)
            continue
        while place not in outcomes:
            at, outcome = next(steps)
            outcomes[rungs[at]] = outcome
        yield outcomes.pop(place)


def _opened(source: Source) -> Picture | None:
    """None where each transform finds out by itself what is wrong."""
    try:
        return decode.open_picture(source.data, source.limits, source.inputs)
    except (ResizeError, MemoryError):
        return None


def _rungs(picture: Picture, source: Source, transforms: Sequence[Transform]) -> list[int]:
    """Places of what goes down the ladder. Rendered by themselves are effects, all of what moves,
    for that is many pictures, and what has the original's size, for the original's own file may
    stand for that (lean).
    """
    if picture.format in MOVING and animation.count_frames(picture, source.data, 2) > 1:
        return []
    rungs = []
    for place, each in enumerate(transforms):
        if not ladder.is_plain(each):
            continue
        try:
            plan = geometry.plan(picture.upright, each, source.limits.max_pixels)
        except ResizeError:
            continue
        if plan.inner != picture.upright:
            rungs.append(place)
    return rungs


def _descend(
    picture: Picture, transforms: Sequence[Transform], limits: Limits
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes in the order of a ladder, each with its place among the transforms."""
    try:
        yield from descent.render_all(picture, transforms, limits)
    except (ResizeError, MemoryError) as error:
        # Before the first rung; what comes later fails alone.
        failure = Failure.of(_named(error))
        yield from ((place, failure) for place in range(len(transforms)))


def _named(error: ResizeError | MemoryError) -> ResizeError:
    if isinstance(error, ResizeError):
        return error
    return PictureTooLarge("out of the worker's memory")


def _outcome(source: Source, transform: Transform) -> Outcome:
    try:
        if source.parent is not None:
            return _derived(source, source.parent, transform)
        return render(source, transform)
    except (ResizeError, MemoryError) as error:
        return Failure.of(_named(error))


def _derived(source: Source, parent: Parent, transform: Transform) -> tuple[bytes, Result]:
    picture = decode.open_picture(source.data, source.limits)
    body, result = descent.render_derived(
        picture, parent.made, transform, parent.source, source.limits
    )
    return body, dataclasses.replace(result, lineage=ladder.lineage_of(parent.made))


def render(source: Source, transform: Transform) -> tuple[bytes, Result]:
    """The bytes of one derivative. Raises ResizeError."""
    started = time.perf_counter()
    data, limits = source.data, source.limits
    picture = decode.open_picture(data, limits, source.inputs)
    plan = geometry.plan(picture.upright, transform, limits.max_pixels)
    whole = plan.output
    stand_in = STAND_INS.get(transform.placeholder)
    if stand_in is None:
        output = transform.format or picture.output
    else:
        output = stand_in.format
        plan = plan.within(stand_in.side)
    encode.check_size(plan.output, output)
    turn = picture.orientation.then(geometry.turn_of(transform))
    box = turn.stored_box(plan.box, picture.stored)
    frames = 1
    if stand_in is None:
        asked = transform.frames or None
        frames = animation.frames_kept(picture, data, output, plan.canvas, limits, asked)
    exif = b""
    write: Callable[..., bytes]
    if transform.keep is Keep.COPYRIGHT:
        exif = build_exif(decode.rights_of(picture))

    try:
        if frames > 1:
            decoded = time.perf_counter()
            write = _moving(picture, source.mark, box, plan, turn, transform, output, frames)
        else:
            pixels, box = decode.load_pixels(picture, box, turn.turn(plan.boxed))
            decoded = time.perf_counter()
            image = pipeline.render(
                pixels,
                box,
                plan,
                orientation=turn,
                profile=picture.profile,
                transform=transform,
                output=output,
                mark=source.mark,
            )
            write = partial(encode.encode, image, output, progressive=transform.progressive)
        if stand_in is not None:
            body = placeholder(image, transform.placeholder, whole)
        else:
            quality = transform.quality_for(output)
            write = partial(write, max_bytes=transform.max_bytes, exif=exif)
            body = write(quality, limits.max_output_bytes)
            if ladder.is_plain(transform) and lean.shows_the_same(
                picture, plan, output, data, frames
            ):
                again = partial(write, limit_bytes=limits.max_output_bytes)
                body = lean.lighter(body, data, output, quality, exif, again)
    except MemoryError as error:
        raise PictureTooLarge(f"{picture.stored} does not fit the worker's memory") from error
    return body, Result(
        media_type=(
            output.media_type if stand_in is None else media_types(transform, picture.format)[0]
        ),
        length=len(body),
        width=whole[0],
        height=whole[1],
        source_width=picture.upright[0],
        source_height=picture.upright[1],
        source_format=picture.format,
        decode_ms=(decoded - started) * 1000,
        render_ms=(time.perf_counter() - decoded) * 1000,
    )


def _moving(
    picture: Picture,
    mark: Image.Image | None,
    box: Box,
    plan: Plan,
    turn: Orientation,
    transform: Transform,
    output: Format,
    count: int,
) -> Callable[..., bytes]:
    """encode_moving() of so many rendered frames."""
    frames = []
    for frame in animation.read_frames(picture, count):
        if plan.window is not None:
            # Asked once: a crop must not jump about.
            first = colour.to_resamplable(frame.image, picture.profile)
            box = pipeline.aim(first, box, plan, turn)
            plan = dataclasses.replace(plan, window=None)
        image = pipeline.render(
            frame.image,
            box,
            plan,
            orientation=turn,
            profile=picture.profile,
            transform=transform,
            output=output,
            mark=mark,
        )
        frames.append(animation.Frame(image, frame.duration_ms))
    return partial(encode.encode_moving, frames, animation.plays(picture), output)
