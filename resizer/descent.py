"""Down a ladder: several derivatives of one picture from one decoding.

ladder.plan() says what is made from what; here it is done, each rung by the same steps as a render
of its own, but for the filter between rungs. At any time there are the decoded source (until its
last rung), the rung that is held and the one in work, with what its last steps make of it.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from PIL import Image

from resizer import decode, encode, geometry, ladder, pipeline
from resizer.decode import Picture
from resizer.errors import CorruptPicture, ImpossibleTransform, PictureTooLarge, ResizeError
from resizer.formats import Format
from resizer.geometry import Box, Plan
from resizer.job import Failure, Limits, Result
from resizer.ladder import Encoded, Rung, Source
from resizer.orientation import Orientation
from resizer.transform import Transform

# (place among the transforms asked for, its bytes and facts or why there are none)
Step = tuple[int, tuple[bytes, Result] | Failure]

# A rung that is held keeps what any child may need: no bars, no effect, and its transparency.
_BARE: Final = Transform()
_KEEPING: Final = Format.PNG


def source_of(picture: Picture) -> Source:
    """The facts that a ladder is planned from; of several pictures in a file, the first is meant,
    as everywhere in the pipeline.
    """
    return Source(
        stored=picture.stored,
        format=picture.output,
        orientation=picture.orientation,
        is_transparent=picture.image.has_transparency_data,
    )


def render_all(picture: Picture, transforms: Sequence[Transform], limits: Limits) -> Iterator[Step]:
    """Every transform's derivative, largest first; equal transforms share theirs.

    What is impossible fails alone. The picture is spent: it is closed after the last rung that
    needs it. decode_ms stands in the first result only. Raises CorruptPicture, PictureTooLarge,
    BadLadder, all before the first derivative.
    """
    places: dict[Transform, list[int]] = {}
    for place, each in enumerate(transforms):
        places.setdefault(each, []).append(place)
    refused = {each: failure for each in places if (failure := _refusal(picture, each, limits))}
    rungs = ladder.plan(
        source_of(picture), [each for each in places if each not in refused], limits.max_pixels
    )
    for each, failure in refused.items():
        yield from ((place, failure) for place in places[each])
    if not rungs:
        return
    descent = _Descent(picture, rungs, limits)
    for number, rung in enumerate(rungs):
        outcome = descent.outcome(number, rung)
        yield from ((place, outcome) for place in places[rung.transform])


def _refusal(picture: Picture, transform: Transform, limits: Limits) -> Failure | None:
    try:
        made = geometry.plan(picture.upright, transform, limits.max_pixels)
        encode.check_size(made.canvas, transform.format or picture.output)
    except ImpossibleTransform as error:
        return Failure.of(error)
    return None


def render_derived(
    parent: Picture, made: Encoded, wanted: Transform, source: Source, limits: Limits
) -> tuple[bytes, Result]:
    """The derivative `wanted` of a source, from the file of a larger one; may_derive() allowed it.

    Size and crop are those of the source, not of the parent's rounded sides. Raises CorruptPicture,
    PictureTooLarge, ImpossibleTransform; the first two mean the parent, and CorruptPicture also a
    parent that has not the size it should.
    """
    started = time.perf_counter()
    above = geometry.plan(source.upright, made.transform, limits.max_pixels)
    below = geometry.plan(source.upright, wanted, limits.max_pixels)
    output = wanted.format or source.format
    encode.check_size(below.canvas, output)
    if parent.format is not made.format or parent.upright != above.inner:
        raise CorruptPicture(f"{parent.format} {parent.upright} is not {made.format} {above.inner}")
    pixels, box = decode.load_pixels(parent, ladder.box_in(above, below.box), below.inner)
    decoded = time.perf_counter()
    try:
        image = pipeline.render(
            pixels,
            box,
            below,
            orientation=Orientation.UPRIGHT,
            profile=None,
            transform=wanted,
            output=output,
        )
        body = _encode(image, output, wanted, limits)
    except MemoryError as error:
        raise PictureTooLarge(f"{parent.stored} does not fit the worker's memory") from error
    return body, Result(
        media_type=output.media_type,
        length=len(body),
        width=image.width,
        height=image.height,
        source_width=source.upright[0],
        source_height=source.upright[1],
        source_format=source.format,
        decode_ms=(decoded - started) * 1000,
        render_ms=(time.perf_counter() - decoded) * 1000,
    )


class _Descent:
    """What is at hand on the way down: the decoded source while it is needed, one rung's pixels."""

    def __init__(self, picture: Picture, rungs: Sequence[Rung], limits: Limits) -> None:
        self._picture = picture
        self._limits = limits
        self._last = max(number for number, rung in enumerate(rungs) if rung.parent is None)
        self._held: tuple[Image.Image, Plan] | None = None
        started = time.perf_counter()
        self._pixels: Image.Image | None = _decode(picture, rungs)
        self._decode_ms = (time.perf_counter() - started) * 1000

    def outcome(self, number: int, rung: Rung) -> tuple[bytes, Result] | Failure:
        try:
            return self._derivative(number, rung)
        except ResizeError as error:
            return Failure.of(error)
        except MemoryError:
            return Failure.of(PictureTooLarge(f"{rung.plan.inner} does not fit the memory"))

    def _derivative(self, number: int, rung: Rung) -> tuple[bytes, Result]:
        started = time.perf_counter()
        output = rung.transform.format or self._picture.output
        image = self._image(number, rung, output)
        body = _encode(image, output, rung.transform, self._limits)
        result = Result(
            media_type=output.media_type,
            length=len(body),
            width=image.width,
            height=image.height,
            source_width=self._picture.upright[0],
            source_height=self._picture.upright[1],
            source_format=self._picture.format,
            decode_ms=self._decode_ms,
            render_ms=(time.perf_counter() - started) * 1000,
            lineage=rung.lineage,
        )
        self._decode_ms = 0.0
        return body, result

    def _image(self, number: int, rung: Rung, output: Format) -> Image.Image:
        """The rung as it is encoded. Order: make the pixels, let go of what nobody below needs,
        hold what somebody does; only then is there a third picture, with background and bars.
        """
        bare = Plan(rung.plan.box, rung.plan.inner, rung.plan.inner)
        try:
            image = self._resampled(
                rung,
                bare if rung.is_held else rung.plan,
                _BARE if rung.is_held else rung.transform,
                _KEEPING if rung.is_held else output,
            )
        except BaseException:
            # Others are not made from what was to be given up: their bytes would not be those
            # that their lineage names.
            if rung.is_held:
                self._held = None
            raise
        finally:
            if number == self._last:
                self._pixels = None
                self._picture.image.close()
        if not rung.is_held:
            return image
        image.info.clear()  # what a decoder left there means nothing any more
        self._held = image, rung.plan
        return pipeline.render(
            image,
            (0, 0, *image.size),
            rung.plan,
            orientation=Orientation.UPRIGHT,
            profile=None,
            transform=rung.transform,
            output=output,
        )

    def _resampled(
        self, rung: Rung, made: Plan, transform: Transform, output: Format
    ) -> Image.Image:
        if rung.parent is None:
            assert self._pixels is not None, "a rung from the source after the last one"
            turn = self._picture.orientation
            box = turn.stored_box(made.box, self._picture.stored)
            return pipeline.render(
                self._pixels,
                _scaled(box, rung.scale, self._pixels),
                made,
                orientation=turn,
                profile=self._picture.profile,
                transform=transform,
                output=output,
            )
        if self._held is None:
            raise PictureTooLarge("the rung that this one is made from did not fit the memory")
        pixels, above = self._held
        box = ladder.box_in(above, made.box)
        if made.inner != pixels.size or box != (0, 0, *pixels.size):
            # Always the fine filter: a step down is short, and what bicubic takes away at each is
            # gone for all below. 960 from 1280 loses 0.0025 SSIM by it, 0.0009 by Lanczos; 2 ms.
            filter_, gap = pipeline.FINE
            pixels = pixels.resize(made.inner, filter_, box=box, reducing_gap=gap)
        return pipeline.render(
            pixels,
            (0, 0, *pixels.size),
            made,
            orientation=Orientation.UPRIGHT,
            profile=None,
            transform=transform,
            output=output,
        )


def _encode(image: Image.Image, output: Format, transform: Transform, limits: Limits) -> bytes:
    return encode.encode(
        image,
        output,
        transform.quality_for(output),
        limits.max_output_bytes,
        progressive=transform.progressive,
    )


def _decode(picture: Picture, rungs: Sequence[Rung]) -> Image.Image:
    """The source at the scale of the ladder: that of the rung that needs most of it."""
    source = source_of(picture)
    made = next(
        rung.plan
        for rung in rungs
        if rung.parent is None and ladder.scale_of(source, rung.plan) == rung.scale
    )
    turn = picture.orientation
    box = turn.stored_box(made.box, picture.stored)
    pixels, _ = decode.load_pixels(picture, box, turn.turn(made.inner))
    return pixels


def _scaled(box: Box, scale: int, pixels: Image.Image) -> Box:
    left, top, right, bottom = (edge / scale for edge in box)
    return (left, top, min(right, pixels.width), min(bottom, pixels.height))
