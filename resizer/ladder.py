"""What is rendered from what, when more than one size of a picture is wanted. Pure.

- A *ladder* is several transforms in one job: plan() orders them, largest first, and says of each
  rung whether it is made from the decoded source or from the pixels of the rung that is held.
- A *derivation* takes a derivative's encoded file for the source of a smaller one: may_derive().

The bytes of a derivative depend on the way they were made, so the way has a text, its *lineage*:
empty for a render of this one transform from its source, as anybody would make it alone. A strong
ETag stands for bytes (RFC 9110, section 8.8.1), and If-Range puts bytes of two nodes together where
their tags are equal; so whoever tags what has a lineage must put the lineage into the tag. Source
validator, canonical transform, encoder version and lineage together fix every byte; which parent
happened to be cached where never enters a tag in any other way.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from resizer import geometry
from resizer.formats import Format
from resizer.geometry import Box, Plan, Size
from resizer.orientation import Orientation
from resizer.transform import FIELDS, Gravity, Transform

# How many pixels of a rung must become one of its child's, in each direction. Measured on 38
# photographs, 120 to 1280 wide, before any encoder, Lanczos between rungs: SSIM 0.9972 to the
# direct render; to a full Lanczos resampling 0.9975 where direct renders have 0.9978. At 1.45 the
# two are level, and a ladder to 1280 from 18 megapixels costs 1.57 of its largest rung, not 1.37,
# since 960 then needs the source. 1.3 lets 960 come from 1280, and 480 from 640, after rounding.
MIN_RATIO: Final = 1.3

# The same for encoded parents, which bring their encoder's noise, as (quality at least, ratio).
# Against the full resampling a derivation then has 0.002 less SSIM than a direct render. At q80 a
# ratio of 2 loses 0.004; WebP q80 loses 0.003 even at 4: its filter blurs what averaging can't
# bring back.
ENCODED_RATIOS: Final = ((90, 2.0), (80, 2.5))

# What encode.py writes where no quality is asked for; a test holds the two together.
USUAL_JPEG_QUALITY: Final = 80
DCT_SCALES: Final = (8, 4, 2, 1)

# How far above the widest that was asked for companions() goes: a page that shows two widths has
# them for one, one and a half and two device pixels.
REACH: Final = 2

# Four crops, or a dozen whole pictures, each from the one before.
LINEAGE_CHARS: Final = 200

# The longest of our grammars' ladders has 15 widths; with two formats each that is 30.
MAX_RUNGS: Final = 32

_LOSSLESS: Final = frozenset({Format.PNG, Format.GIF})

# What shapes size and encoding alone. A transform with anything else switched on is rendered from
# the source and nothing is made from it: effects do not commute with a resize.
_PLAIN: Final = frozenset(
    {
        *("width", "height", "fit", "gravity", "enlarge", "format", "quality", "background"),
        *("qualities", "crisp", "progressive"),
    }
)


class BadLadder(ValueError):
    """More rungs than one job may have."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a picture's header tells; stored is its size before it is turned upright."""

    stored: Size
    format: Format
    orientation: Orientation = Orientation.UPRIGHT
    is_transparent: bool = False
    is_animated: bool = False

    @property
    def upright(self) -> Size:
        return self.orientation.turn(self.stored)


@dataclass(frozen=True, slots=True)
class Rung:
    """One transform of a ladder. Its size is that of its direct render, whatever it is made from.

    parent is the place of the rung whose pixels it is made from, the one that is held by then; with
    None it is made from the source, decoded at 1/scale. is_held: its own pixels, upright, in sRGB,
    before background, bars and encoder, are held from here on, instead of those held before.
    """

    transform: Transform
    plan: Plan
    parent: int | None
    scale: int
    is_held: bool
    lineage: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A derivative as a file: what was asked, and the format and the quality it was written in."""

    transform: Transform
    format: Format
    quality: int


@dataclass(frozen=True, slots=True)
class Parent:
    """What a file is, when it stands in for its original: a derivative, and of what."""

    made: Encoded
    source: Source


def plan(source: Source, transforms: Sequence[Transform], max_pixels: int) -> tuple[Rung, ...]:
    """The rungs in the order in which they are made, equal transforms once.

    One rung is held at a time; so a rung comes from the one that is held or from the source. The
    held one is given up for a smaller that does for all that is still to come as well as it does.
    Raises ImpossibleTransform when one of them is, and BadLadder.
    """
    if len(transforms) > MAX_RUNGS:
        raise BadLadder(f"{len(transforms)} rungs are over {MAX_RUNGS}")
    steps = [
        (each, geometry.plan(source.upright, each, max_pixels))
        for each in dict.fromkeys(transforms)
    ]
    # Sorted is stable: equal sizes stay as they were asked for.
    steps.sort(key=lambda step: -step[1].inner[0] * step[1].inner[1])
    parents, holds = _descend(source, steps)
    own = [scale_of(source, made) for _, made in steps]
    # The one decoding does for the rung that needs most of it.
    scale = min((own[n] for n, parent in enumerate(parents) if parent is None), default=1)
    rungs: list[Rung] = []
    for number, (transform, made) in enumerate(steps):
        above = parents[number]
        if above is None:
            lineage = "" if own[number] == scale else f"1/{scale}"
        elif _is_same(rungs[above].plan, made):
            lineage = rungs[above].lineage
        else:
            before = rungs[above].lineage or f"1/{scale}"
            lineage = _bounded(f"{before}>{_view(source, rungs[above].plan)}")
        rungs.append(Rung(transform, made, above, scale, number in holds, lineage))
    return tuple(rungs)


def _descend(
    source: Source, steps: Sequence[tuple[Transform, Plan]]
) -> tuple[list[int | None], frozenset[int]]:
    """Each step's parent, and the steps that are held."""
    parents: list[int | None] = []
    holds: set[int] = set()
    held: int | None = None
    for number in range(len(steps)):
        after = range(number + 1, len(steps))
        served = {n for n in after if held is not None and _serves(source, steps, held, n)}
        parents.append(held if held is not None and _serves(source, steps, held, number) else None)
        serves = {n for n in after if _serves(source, steps, number, n)}
        if serves and serves >= served:
            held = number
            holds.add(number)
    return parents, frozenset(holds)


def _serves(
    source: Source, steps: Sequence[tuple[Transform, Plan]], parent: int, child: int
) -> bool:
    (above, above_plan), (below, below_plan) = steps[parent], steps[child]
    # Of an animated source, a still is its first picture and a moving one is another job.
    if source.is_animated or not is_plain(above) or not is_plain(below):
        return False
    return _is_same(above_plan, below_plan) or shows(above_plan, below_plan, MIN_RATIO)


def is_plain(transform: Transform) -> bool:
    """Whether it does nothing but size and encode, a part that is known without the pixels."""
    return transform.gravity is not Gravity.SMART and all(
        name in _PLAIN or getattr(transform, name) == default for _, name, default in FIELDS
    )


def shows(parent: Plan, child: Plan, ratio: float) -> bool:
    """Whether all that the child shows is in the parent's inner picture, with at least `ratio`
    pixels for each of its own in both directions, and none that an enlargement made up.
    """
    inside = (
        parent.box[0] <= child.box[0]
        and parent.box[1] <= child.box[1]
        and parent.box[2] >= child.box[2]
        and parent.box[3] >= child.box[3]
    )
    if not inside:
        return False
    for near, far in ((0, 2), (1, 3)):
        wide = parent.box[far] - parent.box[near]
        if parent.inner[near] > wide:
            return False
        pixels = (child.box[far] - child.box[near]) * parent.inner[near] / wide
        if pixels < ratio * child.inner[near]:
            return False
    return True


def box_in(parent: Plan, box: Box) -> Box:
    """Where a box of the upright source lies among the pixels of the parent's inner picture."""
    across = parent.inner[0] / (parent.box[2] - parent.box[0])
    down = parent.inner[1] / (parent.box[3] - parent.box[1])
    return (
        max(0.0, (box[0] - parent.box[0]) * across),
        max(0.0, (box[1] - parent.box[1]) * down),
        min(parent.inner[0], (box[2] - parent.box[0]) * across),
        min(parent.inner[1], (box[3] - parent.box[1]) * down),
    )


def scale_of(source: Source, made: Plan) -> int:
    """The DCT scale, as a divisor, at which the plan alone would have its source decoded."""
    if source.format is not Format.JPEG:
        return 1
    box = source.orientation.stored_box(made.box, source.stored)
    inner = source.orientation.turn(made.inner)
    more = geometry.oversampling(inner)
    room = min(
        source.stored[axis]
        // max(1, int(source.stored[axis] * inner[axis] * more / (box[axis + 2] - box[axis])))
        for axis in (0, 1)
    )
    return next((scale for scale in DCT_SCALES if room >= scale), 1)


def companions(
    wanted: Transform, made: Sequence[Transform], steps: Sequence[int]
) -> tuple[Transform, ...]:
    """What to render in one job with `wanted`, when `made` are the derivatives of its source that
    there are: itself among them, by width.

    Alone while it is the first of its kind (same format, same quality), so that a first miss costs
    what it costs anywhere. A second width tells of a page with several: then all steps come that
    are missing, up to REACH times the widest that was asked for.
    """
    if wanted.width is None or not _is_width(wanted):
        return (wanted,)
    others = {each.width for each in made if replace(wanted, width=each.width) == each}
    widths = {width for width in others if width is not None and width != wanted.width}
    if not widths:
        return (wanted,)
    top = REACH * max(wanted.width, *widths)
    missing = sorted({step for step in steps if step <= top} - widths - {wanted.width})
    # The widest: a step that is left out is soonest rendered from its original when it is small.
    chosen = sorted([wanted.width, *missing[-(MAX_RUNGS - 1) :]])
    return tuple(replace(wanted, width=width) for width in chosen)


def _is_width(transform: Transform) -> bool:
    """Whether it asks for a width, a format and a quality, and nothing else."""
    return transform == Transform(
        width=transform.width, format=transform.format, quality=transform.quality
    )


def may_derive(parent: Encoded, wanted: Transform, source: Source, max_pixels: int) -> bool:
    """Whether the parent's file, a direct render, may be the source of `wanted`.

    Never through two generations: a parent that has a lineage is none. False where the file shows
    bars or was made crisp, where background may have taken the place of transparency, for a quality
    above the parent's and for a format that would keep the parent's noise without loss. Raises
    ImpossibleTransform.
    """
    if source.is_transparent or source.is_animated or parent.format is not Format.JPEG:
        return False
    if (wanted.format or source.format) in _LOSSLESS:
        return False
    if wanted.quality is not None and wanted.quality > parent.quality:
        return False
    if wanted.qualities.by_format or parent.transform.qualities.by_format:
        return False  # which of them counts is settled by the bytes
    if not is_plain(parent.transform) or not is_plain(wanted):
        return False
    if parent.transform.crisp:
        return False  # its edges would be made crisp twice
    ratio = next((least for quality, least in ENCODED_RATIOS if parent.quality >= quality), None)
    above = geometry.plan(source.upright, parent.transform, max_pixels)
    below = geometry.plan(source.upright, wanted, max_pixels)
    return ratio is not None and not above.has_bars and shows(above, below, ratio)


def lineage_of(parent: Encoded) -> str:
    """The lineage of what is made from this file; it has none of its own."""
    return f"{parent.format}:{parent.quality}>{parent.transform.canonical()}"


def _is_same(one: Plan, other: Plan) -> bool:
    return one.inner == other.inner and one.box == other.box


def _bounded(lineage: str) -> str:
    """A text that stands for it where it is too long for a message: it is only ever compared."""
    if len(lineage) <= LINEAGE_CHARS:
        return lineage
    return f"sha256:{hashlib.sha256(lineage.encode('ascii')).hexdigest()}"


def _view(source: Source, made: Plan) -> str:
    """A plan's inner picture in the text of a lineage."""
    size = f"{made.inner[0]}x{made.inner[1]}"
    whole: Box = (0, 0, *source.upright)
    return size if made.box == whole else f"{size}@{made.box}"
