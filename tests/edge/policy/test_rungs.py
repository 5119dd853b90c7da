"""edge/policy/rungs.py: what a first miss brings along."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.rungs import STEPS, kind, rungs
from edge.urls.youtube import named_sizes
from resizer.formats import Format
from resizer.job import MAX_TRANSFORMS
from resizer.qualities import Qualities
from resizer.transform import Fit, Transform
from resizer.watermark import Watermark
from resizer.words import Keep

HQ = Transform(
    width=480, height=360, fit=Fit.LETTERBOX, enlarge=True, format=Format.WEBP, background="000000"
)
W250 = Transform(width=250)
LOW = Qualities(((Format.JPEG, 40),))
WEBP = Transform(width=250, format=Format.WEBP, quality=40)


@pytest.mark.parametrize(
    ("wanted", "steps", "source_width", "widths"),
    [
        # usual
        (W250, (100, 250, 500), 4000, [500, 100]),
        (WEBP, (100, 250, 500), 4000, [500, 100]),
        (W250, (), 4000, [1280, 960, 640, 480, 330, 220, 120]),
        # edge: the source's own width is one, a pixel less is not
        (W250, (100, 500), 500, [500, 100]),
        (W250, (100, 500), 499, [100]),
        (W250, (250,), 4000, []),
        (W250, (300, 500), 200, []),
        (Transform(width=333), (100, 250), 4000, [250, 100]),  # above the largest step
        (W250, range(1, 101), 4000, [*range(100, 100 - MAX_TRANSFORMS, -1)]),
        # in a site's looks
        (Transform(width=250, crisp=True), (100, 250, 500), 4000, [500, 100]),
        (Transform(width=250, progressive=True, qualities=LOW), (100, 250), 4000, [100]),
        # no plain widths
        (Transform(), (100, 250), 4000, []),
        (Transform(height=250), (100, 250), 4000, []),
        (Transform(width=250, height=250), (100, 250), 4000, []),
        (Transform(width=250, enlarge=True), (100, 250), 4000, []),
        (Transform(width=250, blur=10), (100, 250), 4000, []),
        (Transform(width=250, watermark=Watermark("logo")), (100, 250), 4000, []),
        (Transform(width=250, keep=Keep.COPYRIGHT), (100, 250), 4000, []),
        (HQ, (100, 250), 4000, []),  # by the query grammar
    ],
)
def test_widths(
    wanted: Transform, steps: tuple[int, ...], source_width: int, widths: list[int]
) -> None:
    made = rungs(wanted, is_named=False, steps=steps, source_width=source_width)
    assert [each.width for each in made] == widths
    for each in made:
        assert dataclasses.replace(wanted, width=each.width) == each


@pytest.mark.parametrize(
    ("wanted", "source_width", "widths"),
    [
        (HQ, 4000, [1280, 640, 320, 120]),
        (dataclasses.replace(HQ, format=None), 4000, [1280, 640, 320, 120]),
        (HQ, 500, [320, 120]),
        (HQ, 100, []),
        (dataclasses.replace(HQ, crisp=True, quality=40), 4000, [1280, 640, 320, 120]),
        (dataclasses.replace(HQ, format=None, qualities=LOW), 500, [320, 120]),
        # what no name stands for
        (dataclasses.replace(HQ, width=481), 4000, []),
        (dataclasses.replace(HQ, background="ffffff"), 4000, []),
        (W250, 4000, []),
    ],
)
def test_names(wanted: Transform, source_width: int, widths: list[int]) -> None:
    made = rungs(wanted, is_named=True, steps=(100, 250), source_width=source_width)
    assert [each.width for each in made] == widths
    for each in made:
        sides = {"width": each.width, "height": each.height}
        assert dataclasses.replace(wanted, **sides) == each


@given(st.sampled_from([WEBP, W250, HQ]), st.integers(1, 5000))
def test_rungs_of_one_ladder_are_of_one_kind(wanted: Transform, source_width: int) -> None:
    named = wanted is HQ
    for each in rungs(wanted, is_named=named, steps=(), source_width=source_width):
        assert kind(each) == kind(wanted)
        assert each != wanted


def test_kinds_are_told_apart() -> None:
    kinds = [W250, WEBP, HQ, Transform(width=250, quality=40)]
    assert not any(kind(one) == kind(other) for one, other in itertools.combinations(kinds, 2))


def test_the_usual_steps_rise_and_names_are_sizes() -> None:
    assert list(STEPS) == sorted(set(STEPS))
    assert len(named_sizes(HQ)) == 5
    assert HQ in named_sizes(HQ)
