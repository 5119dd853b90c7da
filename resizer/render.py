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
from resizer.orientation import Orientation
from resizer.placeholder import STAND_INS, placeholder
from resizer.rights import build_exif
from resizer.transform import Transform
from resizer.words import Keep


@dataclass(frozen=True, slots=True)
class Source:
    """What a job's transforms are applied to. mark: the site's watermark, decoded, or None; inputs:
    formats that are only read, switched on.
    """

    data: bytes
    limits: Limits
    mark: Image.Image | None = None
    inputs: tuple[InputOnly, ...] = ()


# What became of one transform: the bytes and their description, or why there are none. Never an
# exception: in a frame of its own traceback it would keep the pixels too.
Outcome = tuple[bytes, Result] | Failure


def render_all(source: Source, transforms: Sequence[Transform]) -> Iterator[Outcome]:
    """Each transform in order, as soon as it is done. Whoever stops asking stops the work.

    In what order they are asked for is the caller's: largest first lets each serve the next.
    """
    if len(transforms) == 1:
        yield _outcome(source, transforms[0])
        return
    outcomes: dict[int, Outcome] = {}
    plain = [place for place, each in enumerate(transforms) if ladder.is_plain(each)]
    steps = _descend(source, [transforms[place] for place in plain])
    for place, each in enumerate(transforms):
        if place not in plain:
            yield _outcome(source, each)
            continue
        while place not in outcomes:
            at, outcome = next(steps)
            outcomes[plain[at]] = outcome
        yield outcomes.pop(place)


def _descend(source: Source, transforms: Sequence[Transform]) -> Iterator[tuple[int, Outcome]]:
    """Plain transforms, in the order of a ladder, each with its place among them."""
    try:
        picture = decode.open_picture(source.data, source.limits, source.inputs)
        rungs, alone = _sorted(picture, source, transforms)
        for place in alone:
            yield place, _outcome(source, transforms[place])
        if not rungs:
            return
        steps = descent.render_all(picture, [transforms[place] for place in rungs], source.limits)
        for at, outcome in steps:
            yield rungs[at], outcome
    except (ResizeError, MemoryError) as error:
        # Before the first rung; what comes later fails alone.
        if isinstance(error, MemoryError):
            error = PictureTooLarge("out of the worker's memory")
        for place in range(len(transforms)):
            yield place, Failure.of(error)


def _sorted(
    picture: Picture, source: Source, transforms: Sequence[Transform]
) -> tuple[list[int], list[int]]:
    """Places of what goes down the ladder, and of what is rendered by itself: all of what moves,
    for that is many pictures, and what has the original's size, for the original's own file may
    stand for that (lean).
    """
    if picture.format in MOVING and animation.count_frames(picture, source.data, 2) > 1:
        return [], list(range(len(transforms)))
    rungs: list[int] = []
    alone: list[int] = []
    for place, each in enumerate(transforms):
        try:
            plan = geometry.plan(picture.upright, each, source.limits.max_pixels)
        except ResizeError:
            alone.append(place)
            continue
        (alone if plan.inner == picture.upright else rungs).append(place)
    return rungs, alone


def _outcome(source: Source, transform: Transform) -> Outcome:
    try:
        return render(source, transform)
    except ResizeError as error:
        return Failure.of(error)


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
