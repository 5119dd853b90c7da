"""Every legal transform, for tests of what must hold for all of them."""

from hypothesis import strategies as st

from resizer.formats import Format
from resizer.region import SQUARE, WHOLE_PPM, Region, Unit, share
from resizer.transform import (
    ALL_FRAMES,
    Fill,
    Fit,
    Focus,
    Gravity,
    Keep,
    Placeholder,
    Qualities,
    Tone,
    Transform,
)
from resizer.watermark import Watermark

SIDES = st.integers(1, 16_384)
PLACES = st.sampled_from([gravity for gravity in Gravity if gravity is not Gravity.SMART])
COLOURS = st.text("0123456789abcdef", min_size=6, max_size=6)


def regions() -> st.SearchStrategy[Region]:
    edges = st.integers(0, 16_383)
    parts = st.integers(0, WHOLE_PPM - 1)
    widths = st.integers(1, WHOLE_PPM)
    return st.one_of(
        st.just(SQUARE),
        st.builds(Region, st.just(Unit.PIXELS), edges, edges, SIDES, SIDES),
        st.builds(
            lambda width, height, anchor: Region(
                Unit.PIXELS, width=width, height=height, anchor=anchor
            ),
            *(SIDES, SIDES, PLACES),
        ),
        st.builds(share, parts, parts, widths, widths),
    )


def watermarks() -> st.SearchStrategy[Watermark]:
    return st.builds(
        Watermark,
        st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32),
        PLACES,
        st.integers(1, 100),
        st.integers(0, 100),
        st.integers(0, 8191),
    )


def qualities() -> st.SearchStrategy[Qualities]:
    table = st.dictionaries(st.sampled_from(Format), st.integers(1, 100))
    return table.map(lambda found: Qualities(tuple(sorted(found.items()))))


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    """Mostly plain ones: each field is at its default in half of them."""

    def maybe(strategy: st.SearchStrategy[object], otherwise: object) -> object:
        return draw(strategy) if draw(st.booleans()) else otherwise

    fields: dict[str, object] = {
        "enlarge": draw(st.booleans()),
        "format": maybe(st.sampled_from(Format), None),
        "quality": maybe(st.integers(1, 100), None),
        "background": maybe(COLOURS, "ffffff"),
        "region": maybe(regions(), None),
        "mirror": draw(st.booleans()),
        "rotate": maybe(st.sampled_from((900, 1800, 2700)) | st.integers(0, 3599), 0),
        "brightness": maybe(st.integers(-100, 300), 0),
        "contrast": maybe(st.integers(-100, 300), 0),
        "tone": maybe(st.sampled_from(Tone), Tone.COLOUR),
        "corners": maybe(st.integers(0, 16_384), 0),
        "watermark": maybe(watermarks(), None),
        "flatten": draw(st.booleans()),
        "qualities": maybe(qualities(), Qualities()),
        "keep": maybe(st.sampled_from(Keep), Keep.NONE),
        "max_bytes": maybe(st.integers(1, 1 << 30), None),
        "frames": maybe(st.integers(ALL_FRAMES, 1000), ALL_FRAMES),
        "crisp": draw(st.booleans()),
        "progressive": draw(st.booleans()),
    }
    size = draw(st.sampled_from(("whole", "scale", "width", "height", "box")))
    if size == "scale":
        fields["scale"] = draw(st.integers(1, 1_000_000 if fields["enlarge"] else 10_000))
    if size in ("width", "box"):
        fields["width"] = draw(SIDES)
    if size in ("height", "box"):
        fields["height"] = draw(SIDES)
    if size == "box":
        fields["fit"] = draw(st.sampled_from(Fit))
        fields["adaptive"] = draw(st.booleans())
    if size in ("width", "height", "box") and not fields["enlarge"]:
        fields["exact"] = draw(st.booleans())
    match fields.get("fit"):
        case Fit.LETTERBOX:
            fields["fill"] = draw(st.sampled_from(Fill))
        case Fit.COVER if draw(st.booleans()):
            fields["focus"] = Focus(draw(st.integers(0, 1000)), draw(st.integers(0, 1000)))
        case Fit.COVER:
            fields["gravity"] = draw(st.sampled_from(Gravity))
    if fields["tone"] is Tone.COLOUR:
        fields["saturation"] = maybe(st.integers(-100, 300), 0)
    fields[draw(st.sampled_from(("blur", "sharpen")))] = maybe(st.integers(1, 500), 0)
    if draw(st.integers(0, 4)) == 0:
        fields["placeholder"] = draw(st.sampled_from(Placeholder))
        fields |= {"corners": 0, "watermark": None, "blur": 0, "sharpen": 0, "rotate": 900}
    return Transform(**fields)  # type: ignore[arg-type]
