"""Steps: the widths that a site renders, and what becomes of the others.

The rules are MediaWiki's ($wgThumbnailSteps):
1. A width that is no step becomes the smallest step above it.
2. Above the largest step a width stays as it is: there is nothing to round it to. The outcome says
   so, because such widths are not bounded by the ladder; off_step = "reject" refuses them too.
A picture narrower than the step is not enlarged, so its own width needs no rule here.

A height beside a width follows in proportion. A height alone is held to the steps itself: else
?h=1 .. ?h=16384 would be a way around them. A height beside a width on a step stays free.
Derivatives of a named size (edge/urls/derivative.py) are not asked about.
"""

import bisect
import dataclasses
import enum
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from resizer.transform import MAX_SIDE, Transform


class OffStep(enum.StrEnum):
    """What to do with a width that is no step."""

    ROUND = "round"  # render the step
    REDIRECT = "redirect"  # name the step, let the client ask again
    REJECT = "reject"  # refuse, naming the nearest step
    ALLOW = "allow"  # steps are advice


class BadSteps(ValueError):
    """The setting is wrong; the text says how."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The setting of a site: ascending widths; none at all allows every width. Raises BadSteps."""

    widths: tuple[int, ...] = ()
    off_step: OffStep = OffStep.ROUND

    def __post_init__(self) -> None:
        for width in self.widths:
            if not 1 <= width <= MAX_SIDE:
                raise BadSteps(f"step {width} is outside 1 to {MAX_SIDE}")
        if list(self.widths) != sorted(set(self.widths)):
            raise BadSteps("steps must rise, each given once")


@dataclass(frozen=True, slots=True)
class Allowed:
    """Render as asked. above_largest: rule 2 let it pass."""

    above_largest: bool = False


@dataclass(frozen=True, slots=True)
class Rounded:
    """Render this instead."""

    transform: Transform


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client to the URL of this."""

    transform: Transform


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refuse; nearest is the step that would be served instead of the side asked for."""

    nearest: int


Outcome: TypeAlias = Allowed | Rounded | Redirect | Rejected

_ALLOWED = Allowed()


def apply(steps: Steps, transform: Transform) -> Outcome:
    """What becomes of a transform under a site's steps."""
    side = transform.height if transform.width is None else transform.width
    if side is None or not steps.widths or steps.off_step is OffStep.ALLOW:
        return _ALLOWED
    place = bisect.bisect_left(steps.widths, side)
    if place == len(steps.widths):
        if steps.off_step is OffStep.REJECT:
            return Rejected(steps.widths[-1])
        return Allowed(above_largest=True)
    step = steps.widths[place]
    if step == side:
        return _ALLOWED
    match steps.off_step:
        case OffStep.ROUND:
            return Rounded(at_step(transform, step))
        case OffStep.REDIRECT:
            return Redirect(at_step(transform, step))
        case OffStep.REJECT:
            return Rejected(step)
        case _:
            assert_never(steps.off_step)


def at_step(transform: Transform, step: int) -> Transform:
    """A transform with its width, or the height that it has alone, at step."""
    width, height = transform.width, transform.height
    if width is None:
        return dataclasses.replace(transform, height=step)
    if height is None:
        return dataclasses.replace(transform, width=step)
    # Halves up, and no further than a side may be: only a box of 1:400 or more meets that limit.
    scaled = min(MAX_SIDE, max(1, (2 * height * step + width) // (2 * width)))
    return dataclasses.replace(transform, width=step, height=scaled)
