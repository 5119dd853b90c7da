"""Steps: MediaWiki's rules, and what we add."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.steps import (
    Allowed,
    BadSteps,
    OffStep,
    Outcome,
    Redirect,
    Rejected,
    Rounded,
    Steps,
    apply,
)
from resizer.formats import Format
from resizer.transform import IDENTITY, MAX_SIDE, Fit, Gravity, Transform

WIDTHS = (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840)
ABOVE = Allowed(above_largest=True)

ROWS: list[tuple[OffStep, Transform, Outcome]] = [
    # usual: MediaWiki's own table
    (OffStep.ROUND, Transform(200), Rounded(Transform(250))),
    (OffStep.ROUND, Transform(250), Allowed()),
    (OffStep.ROUND, Transform(251), Rounded(Transform(330))),
    (OffStep.ROUND, Transform(4000), ABOVE),
    (OffStep.REDIRECT, Transform(200), Redirect(Transform(250))),
    (OffStep.REDIRECT, Transform(250), Allowed()),
    (OffStep.REDIRECT, Transform(4000), ABOVE),
    (OffStep.REJECT, Transform(200), Rejected(250)),
    (OffStep.REJECT, Transform(250), Allowed()),
    (OffStep.REJECT, Transform(4000), Rejected(3840)),
    (OffStep.ALLOW, Transform(200), Allowed()),
    (OffStep.ALLOW, Transform(4000), Allowed()),
    # edge
    (OffStep.ROUND, Transform(1), Rounded(Transform(20))),
    (OffStep.ROUND, Transform(20), Allowed()),
    (OffStep.ROUND, Transform(3840), Allowed()),
    (OffStep.ROUND, Transform(3841), ABOVE),
    (OffStep.REJECT, IDENTITY, Allowed()),
    (OffStep.REJECT, Transform(format=Format.WEBP), Allowed()),
    # heights follow, halves up
    (
        OffStep.ROUND,
        Transform(200, 100, Fit.COVER, Gravity.NORTH, quality=7),
        Rounded(Transform(250, 125, Fit.COVER, Gravity.NORTH, quality=7)),
    ),
    (OffStep.ROUND, Transform(200, 90), Rounded(Transform(250, 113))),  # 112.5
    (OffStep.REDIRECT, Transform(120 * 2, 1), Redirect(Transform(250, 1))),
    (OffStep.ROUND, Transform(250, 77, Fit.STRETCH), Allowed()),
    (OffStep.ROUND, Transform(4000, 77), ABOVE),
    # a height alone is held to the steps
    (OffStep.ROUND, Transform(height=200), Rounded(Transform(height=250))),
    (OffStep.REJECT, Transform(height=200), Rejected(250)),
    (OffStep.ROUND, Transform(height=4000), ABOVE),
    # hostile: a height that would leave its limit stays within
    (OffStep.ROUND, Transform(21, MAX_SIDE), Rounded(Transform(40, MAX_SIDE))),
]


@pytest.mark.parametrize(("off_step", "transform", "outcome"), ROWS)
def test_rows(off_step: OffStep, transform: Transform, outcome: Outcome) -> None:
    assert apply(Steps(WIDTHS, off_step), transform) == outcome


@pytest.mark.parametrize("off_step", OffStep)
def test_no_steps_allow_every_width(off_step: OffStep) -> None:
    assert apply(Steps((), off_step), Transform(201)) == Allowed()


@pytest.mark.parametrize("widths", [(40, 20), (20, 20), (0, 20), (-1,), (MAX_SIDE + 1,)])
def test_bad_steps(widths: tuple[int, ...]) -> None:
    with pytest.raises(BadSteps):
        Steps(widths)


SIDES = st.none() | st.integers(1, MAX_SIDE)


@given(st.sets(st.integers(1, MAX_SIDE), max_size=12), SIDES, SIDES)
def test_rounding_is_done_once(steps: set[int], width: int | None, height: int | None) -> None:
    setting = Steps(tuple(sorted(steps)))
    asked = Transform(width, height)
    outcome = apply(setting, asked)
    if not isinstance(outcome, Rounded):
        return
    rounded = outcome.transform
    side, was = (rounded.height, height) if width is None else (rounded.width, width)
    assert side is not None
    assert was is not None
    assert side in steps
    assert side > was
    assert not [step for step in steps if was <= step < side]
    assert apply(setting, rounded) == Allowed()
