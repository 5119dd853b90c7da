"""What a first miss brings along: the other sizes that a page is likely to ask for.

The rungs are of the kind that was asked for, a width with a format and a quality, or the names of
the youtube grammar, each in the looks of the one that was asked for; whatever else a transform may
ask for is rare, or has a watermark, and comes alone.

    a width          the site's steps, else STEPS
    a named size     the grammar's other names in this format

None is wider than the source: such a width shows the source's own size, or pixels that were made
up, and who wants that asks for it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edge.urls import youtube
from resizer.job import MAX_TRANSFORMS
from resizer.qualities import NO_QUALITIES
from resizer.transform import Transform

# What Wikipedia's pages ask for, at one, one and a half and two device pixels.
STEPS: Final = (120, 220, 250, 330, 480, 640, 960, 1280)


def rungs(
    wanted: Transform, *, is_named: bool, steps: Sequence[int], source_width: int
) -> tuple[Transform, ...]:
    """The ladder that `wanted` belongs to, without itself, widest first: so each serves the next.

    is_named: a grammar's own name was asked for. steps: the site's, in any order.
    """
    if is_named:
        named = tuple(_dressed(each, wanted) for each in youtube.named_sizes(_bare(wanted)))
    elif wanted.width is None or wanted != plain(wanted.width, wanted):
        return ()
    else:
        named = tuple(plain(width, wanted) for width in steps or STEPS)
    others = {each: each.width or 0 for each in named if each != wanted}
    # The widest, where they are too many: a small one is soonest rendered by itself.
    fitting = [each for each, width in others.items() if width <= source_width]
    return tuple(sorted(fitting, key=lambda each: -others[each])[:MAX_TRANSFORMS])


def plain(width: int, like: Transform) -> Transform:
    """A width, in the format, the quality and the looks of another transform."""
    return _dressed(Transform(width=width, format=like.format), like)


def _dressed(size: Transform, like: Transform) -> Transform:
    return replace(
        size,
        quality=like.quality,
        qualities=like.qualities,
        crisp=like.crisp,
        progressive=like.progressive,
    )


def _bare(transform: Transform) -> Transform:
    return replace(transform, quality=None, qualities=NO_QUALITIES, crisp=False, progressive=False)


def kind(transform: Transform) -> Transform:
    """What the rungs of one ladder have in common, so that it is made once."""
    return replace(transform, width=1, height=1 if transform.height else None)
