"""Ladders and derivations as arithmetic: facts of a source, transforms, what comes from what."""

import itertools

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from resizer import ladder
from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.ladder import BadLadder, Encoded, Rung, Source, box_in, may_derive, plan, scale_of
from resizer.orientation import Orientation
from resizer.transform import Fit, Gravity, Transform, parse

PIXELS = 50_000_000
PHOTO = Source((5640, 3172), Format.JPEG)
SQUARE = Source((4000, 4000), Format.JPEG)
PORTRAIT = Source((4000, 3000), Format.JPEG, Orientation.TURN_RIGHT)
ANIMATED = Source((4000, 3000), Format.GIF, is_animated=True)
DOT = Source((1, 1), Format.JPEG)
YOUTUBE = [
    f"w={size},fit=letterbox,up=1,f=jpeg,bg=000000"
    for size in ("120,h=90", "320,h=180", "480,h=360", "640,h=480", "1280,h=720")
]


def planned(source: Source, *texts: str) -> tuple[Rung, ...]:
    return plan(source, [parse(text) for text in texts], PIXELS)


def drawn(source: Source, *texts: str) -> list[str]:
    """Each rung as "made < from, a star behind what is held"."""
    rungs = planned(source, *texts)
    return [
        f"{rung.plan.inner[0]}x{rung.plan.inner[1]}{'*' if rung.is_held else ''} < "
        + (f"1/{rung.scale}" if rung.parent is None else str(rungs[rung.parent].plan.inner[0]))
        for rung in rungs
    ]


def test_a_smart_crop_is_no_rung() -> None:
    """What it shows is found among the pixels of its source."""
    smart = "w=200,h=200,fit=cover,g=smart"
    assert not ladder.is_plain(parse(smart))
    assert all(rung.parent is None for rung in planned(PHOTO, "w=1280", smart))


def test_a_long_way_has_a_short_name() -> None:
    sides = [round(3000 / 1.4**step) for step in range(14)]
    names = [rung.lineage for rung in planned(PHOTO, *(f"w={n},h={n},fit=cover" for n in sides))]
    assert max(map(len, names)) <= ladder.LINEAGE_CHARS
    hashed = [name for name in names if name.startswith("sha256:")]
    assert len(hashed) == len(set(hashed)) > 0


WIDTHS = [f"w={width}" for width in (120, 220, 250, 330, 480, 640, 960, 1280)]
# (source, transforms, the rungs)
LADDERS = [
    # usual
    (PHOTO, [], []),
    (PHOTO, ["w=220"], ["220x124 < 1/8"]),
    (PHOTO, ["w=220", "w=1280"], ["1280x720* < 1/4", "220x124 < 1280"]),
    (
        PHOTO,
        WIDTHS,
        [
            *("1280x720* < 1/4", "960x540* < 1280", "640x360* < 960", "480x270* < 640"),
            *("330x186* < 480", "250x141 < 330", "220x124* < 330", "120x67 < 220"),
        ],
    ),
    (
        PHOTO,
        YOUTUBE,
        [
            *("1280x720* < 1/4", "640x360* < 1280", "480x270* < 640"),
            *("320x180* < 480", "120x67 < 320"),
        ],
    ),
    # a portrait: turned sides
    (PORTRAIT, ["w=200", "w=600"], ["600x800* < 1/4", "200x267 < 600"]),
    # edge: too near for one another
    (SQUARE, ["w=500", "w=400"], ["500x500 < 1/8", "400x400 < 1/8"]),
    (SQUARE, ["w=520", "w=400"], ["520x520* < 1/4", "400x400 < 520"]),
    # a small one that is alone does with less of the source; here it gets what the large one needs
    (SQUARE, ["w=500", "w=400", "w=380"], ["500x500* < 1/8", "400x400 < 1/8", "380x380 < 500"]),
    # covers: of one shape, of another, and from the whole picture
    (
        SQUARE,
        ["w=800,h=400,fit=cover,g=north", "w=400,h=200,fit=cover,g=north"],
        ["800x400* < 1/4", "400x200 < 800"],
    ),
    (
        SQUARE,
        ["w=800,h=400,fit=cover,g=north", "w=400,h=200,fit=cover,g=south"],
        ["800x400 < 1/4", "400x200 < 1/4"],
    ),
    (SQUARE, ["w=800", "w=400,h=200,fit=cover"], ["800x800* < 1/4", "400x200 < 800"]),
    # a crop is held only where the whole is not needed any more
    (
        SQUARE,
        ["w=1200", "w=800,h=800,fit=cover", "w=300"],
        ["1200x1200* < 1/2", "800x800* < 1200", "300x300 < 800"],
    ),
    (
        SQUARE,
        ["w=1200", "w=800,h=400,fit=cover", "w=400,h=200,fit=cover", "w=200"],
        ["1200x1200* < 1/2", "800x400 < 1200", "400x200 < 1200", "200x200 < 1200"],
    ),
    # stretched in one direction only
    (
        SQUARE,
        ["w=800,h=200,fit=stretch", "w=200,h=100,fit=stretch", "w=190"],
        ["800x200* < 1/4", "190x190 < 1/4", "200x100 < 800"],
    ),
    # whole formats are decoded whole
    (Source((4000, 4000), Format.PNG), ["w=20"], ["20x20 < 1/1"]),
    # hostile
    (PHOTO, ["w=220"] * 20, ["220x124 < 1/8"]),
    (DOT, ["w=900,up=1", "w=300,up=1"], ["900x900 < 1/1", "300x300 < 1/1"]),
    (ANIMATED, ["w=800", "w=200"], ["800x600 < 1/1", "200x150 < 1/1"]),
    (ANIMATED, ["w=800", "w=800,f=png"], ["800x600 < 1/1", "800x600 < 1/1"]),
]


@pytest.mark.parametrize(("source", "texts", "rungs"), LADDERS)
def test_ladder(source: Source, texts: list[str], rungs: list[str]) -> None:
    assert drawn(source, *texts) == rungs


def test_the_order_of_asking_changes_nothing() -> None:
    for texts in itertools.permutations(WIDTHS[:5]):
        assert planned(PHOTO, *texts) == planned(PHOTO, *WIDTHS[:5])


def test_equal_sizes_share_pixels_and_lineage() -> None:
    first, second, third = planned(PHOTO, "w=640,f=webp", "w=640", "w=640,h=700,fit=letterbox")
    assert (first.parent, second.parent, third.parent) == (None, 0, 1)
    assert {first.lineage, second.lineage, third.lineage} == {""}
    assert third.plan.canvas == (640, 700)


def test_lineage() -> None:
    texts = ["w=220", "w=640", "w=640,h=640,fit=cover", "w=100,h=100,fit=cover", "w=800,h=60"]
    lines = {rung.transform.canonical(): rung.lineage for rung in planned(SQUARE, *texts)}
    assert lines == {
        "w=640": "",
        "w=640,h=640,fit=cover": "",
        "w=220": "1/4>640x640",
        "w=100,h=100,fit=cover": "1/4>640x640>220x220",
        "w=800,h=60": "1/4>640x640>220x220>100x100",
    }
    # From the source, but from more of it than alone.
    north, south = planned(SQUARE, "w=800,h=400,fit=cover,g=north", "w=90,h=45,fit=cover,g=south")
    assert (north.lineage, south.lineage) == ("", "1/4")
    # A crop says which.
    crop = planned(SQUARE, "w=800,h=400,fit=cover", "w=80,h=40,fit=cover")[1]
    assert crop.lineage == "1/4>800x400@(0.0, 1000.0, 4000, 3000.0)"


def test_what_is_not_plain_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that this file does not know may be an effect."""
    monkeypatch.setattr(ladder, "_PLAIN", ladder._PLAIN - {"quality"})
    rungs = planned(PHOTO, "w=1280,q=70", "w=640", "w=220,q=70", "w=100")
    assert [rung.parent for rung in rungs] == [None, None, None, 1]


def test_limits() -> None:
    with pytest.raises(ImpossibleTransform):
        planned(PHOTO, "w=20", "w=16384,h=16384,fit=stretch,up=1")
    most = [f"w={width}" for width in range(1, ladder.MAX_RUNGS + 1)]
    assert len(planned(PHOTO, *most)) == ladder.MAX_RUNGS
    with pytest.raises(BadLadder):
        planned(PHOTO, *most, "w=400")


# (asked for, already made, the ladder)
COMPANIONS = [
    # usual: up to twice the largest that was asked for, without what is there
    ("w=220", ["w=120"], ["w=220", "w=250", "w=330"]),
    ("w=330", ["w=220"], ["w=120", "w=250", "w=330", "w=480", "w=640"]),
    ("w=120", ["w=640"], ["w=120", "w=220", "w=250", "w=330", "w=480", "w=960", "w=1280"]),
    ("w=220,f=webp,q=70", ["w=120,f=webp,q=70"], ["w=220", "w=250", "w=330"]),
    # the first of a source, or of its format, is rendered alone
    ("w=220", [], ["w=220"]),
    ("w=220", ["w=120,f=webp"], ["w=220"]),
    ("w=220", ["w=120,q=40"], ["w=220"]),
    # no step, and what steps do not describe
    ("w=200", ["w=220"], ["w=120", "w=200", "w=250", "w=330"]),
    ("w=220,h=90", ["w=120"], ["w=220,h=90"]),
    ("h=90", ["h=120"], ["h=90"]),
    ("w=90,h=80,fit=cover", ["w=120,h=80,fit=cover"], ["w=90,h=80,fit=cover"]),
    ("w=90", ["w=120,h=80,fit=cover", "h=9"], ["w=90"]),
    # hostile
    ("w=220", ["w=220"], ["w=220"]),
    ("", ["w=220"], [""]),
]


@pytest.mark.parametrize(("asked", "made", "rungs"), COMPANIONS)
def test_companions(asked: str, made: list[str], rungs: list[str]) -> None:
    steps = [int(text[2:]) for text in WIDTHS]
    found = ladder.companions(parse(asked), [parse(text) for text in made], steps)
    tail = asked.removeprefix("w=220") if asked.startswith("w=220,f") else ""
    assert [each.canonical() for each in found] == [text + tail for text in rungs]


def test_companions_are_bounded() -> None:
    found = ladder.companions(parse("w=9000"), [parse("w=8")], range(1, 5000))
    assert len(found) == ladder.MAX_RUNGS
    assert parse("w=9000") in found


# --- whatever is asked ---------------------------------------------------------------------------

sides = st.one_of(st.none(), st.integers(1, 2000))


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    fit = draw(st.sampled_from(Fit))
    side = sides if fit is Fit.CONTAIN else st.integers(1, 2000)
    return Transform(
        width=draw(side),
        height=draw(side),
        fit=fit,
        gravity=draw(st.sampled_from(Gravity)) if fit is Fit.COVER else Gravity.CENTRE,
        enlarge=draw(st.booleans()),
        format=draw(st.sampled_from([None, Format.PNG])),
    )


sources = st.builds(
    Source,
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.sampled_from([Format.JPEG, Format.PNG]),
    st.sampled_from(Orientation),
)


@given(sources, st.lists(transforms(), max_size=8))
def test_every_rung_can_be_made(source: Source, wanted: list[Transform]) -> None:
    try:
        rungs = plan(source, wanted, PIXELS)
    except ImpossibleTransform:
        reject()
    assert {rung.transform for rung in rungs} == set(wanted)
    assert len(rungs) == len(set(wanted))
    held = None
    for number, rung in enumerate(rungs):
        # From what is held by then, never from what was given up.
        assert rung.parent in (None, held)
        if rung.parent is None:
            assert scale_of(source, rung.plan) % rung.scale == 0
            assert (rung.lineage == "") == (scale_of(source, rung.plan) == rung.scale)
        else:
            above = rungs[rung.parent].plan
            left, top, right, bottom = box_in(above, rung.plan.box)
            assert 0 <= left < right <= above.inner[0]
            assert 0 <= top < bottom <= above.inner[1]
            same = above.inner == rung.plan.inner
            slack = 1e-6 * max(above.inner)
            assert same or right - left >= ladder.MIN_RATIO * rung.plan.inner[0] - slack
            assert same or bottom - top >= ladder.MIN_RATIO * rung.plan.inner[1] - slack
        held = number if rung.is_held else held
    assert plan(source, wanted, PIXELS) == rungs


# --- derivation ----------------------------------------------------------------------------------

CLEAR = Source((4000, 4000), Format.PNG, is_transparent=True)
# (source, parent, its format, its quality, wanted, whether)
DERIVATIONS = [
    # usual
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220", True),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=512", True),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=513", False),
    (PHOTO, "w=1280", Format.JPEG, 90, "w=640", True),
    (PHOTO, "w=1280", Format.JPEG, 90, "w=641", False),
    (PHOTO, "w=1280", Format.JPEG, 89, "w=640", False),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220,f=webp", True),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=480,h=360,fit=letterbox,f=jpeg", True),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=100,h=100,fit=cover", True),
    (PORTRAIT, "w=1280", Format.JPEG, 80, "h=400", True),
    (Source((4000, 4000), Format.WEBP), "w=1280,f=jpeg", Format.JPEG, 80, "w=220", True),
    # the parent's loss shows
    (PHOTO, "w=1280", Format.JPEG, 79, "w=20", False),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220,q=81", False),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220,q=80", True),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220,f=png", False),
    (PHOTO, "w=1280", Format.JPEG, 80, "w=220,qf=jpeg:90", False),
    (PHOTO, "w=1280,qf=jpeg:40", Format.JPEG, 80, "w=220", False),
    (PHOTO, "w=1280,f=webp", Format.WEBP, 100, "w=20", False),
    (PHOTO, "w=1280,f=avif", Format.AVIF, 100, "w=20", False),
    (PHOTO, "w=1280,f=gif", Format.GIF, 100, "w=20", False),
    (Source((4000, 4000), Format.PNG), "w=1280,f=jpeg", Format.JPEG, 95, "w=20", False),
    # edge: not all of it is there
    (SQUARE, "w=1280,h=640,fit=cover", Format.JPEG, 80, "w=100", False),
    (SQUARE, "w=1280,h=640,fit=cover", Format.JPEG, 80, "w=100,h=50,fit=cover", True),
    (SQUARE, "w=1280,h=640,fit=cover,g=north", Format.JPEG, 80, "w=100,h=50,fit=cover", False),
    (SQUARE, "w=1280,h=640,fit=letterbox", Format.JPEG, 80, "w=100", False),
    (SQUARE, "w=640,h=640,fit=letterbox", Format.JPEG, 80, "w=100", True),
    (SQUARE, "w=1280,h=100,fit=stretch", Format.JPEG, 80, "w=60", False),
    (SQUARE, "w=220", Format.JPEG, 80, "w=1280", False),
    (SQUARE, "w=220", Format.JPEG, 80, "w=220", False),
    # hostile
    (CLEAR, "w=1280,f=jpeg", Format.JPEG, 80, "w=20,f=jpeg", False),
    (ANIMATED, "w=1280,f=jpeg", Format.JPEG, 80, "w=20,f=jpeg", False),
    (Source((100, 100), Format.JPEG), "w=1280,up=1", Format.JPEG, 95, "w=200,up=1", False),
    (DOT, "", Format.JPEG, 95, "w=1", False),
]


@pytest.mark.parametrize(("source", "parent", "output", "quality", "wanted", "may"), DERIVATIONS)
def test_derivation(
    source: Source, parent: str, output: Format, quality: int, wanted: str, may: bool
) -> None:
    made = Encoded(parse(parent), output, quality)
    assert may_derive(made, parse(wanted), source, PIXELS) is may


def test_a_derivation_has_a_lineage() -> None:
    parents = [
        Encoded(parse(text), Format.JPEG, quality)
        for text in ("w=1280", "w=960", "")
        for quality in (80, 90)
    ]
    assert ladder.lineage_of(parents[0]) == "jpeg:80>w=1280"
    assert len({ladder.lineage_of(each) for each in parents}) == len(parents)
    assert "" not in {ladder.lineage_of(each) for each in parents}
