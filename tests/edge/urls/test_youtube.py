"""YouTube's thumbnail names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, Derivative, NotExpressible
from edge.urls.path import split_target
from edge.urls.youtube import EXTENSIONS_TO_TRY, Youtube
from resizer.formats import Format
from resizer.transform import Fit, Transform

# (name, width, height, name that build() writes)
NAMES = [
    # usual
    ("default", 120, 90, "default"),
    ("mqdefault", 320, 180, "mqdefault"),
    ("hqdefault", 480, 360, "hqdefault"),
    ("sddefault", 640, 480, "sddefault"),
    ("hq720", 1280, 720, "maxresdefault"),
    ("maxresdefault", 1280, 720, "maxresdefault"),
    # aliases
    ("0", 480, 360, "hqdefault"),
    ("1", 120, 90, "default"),
    ("2", 120, 90, "default"),
    ("3", 120, 90, "default"),
    ("mq1", 320, 180, "mqdefault"),
    ("mq2", 320, 180, "mqdefault"),
    ("mq3", 320, 180, "mqdefault"),
    ("hq1", 480, 360, "hqdefault"),
    ("hq2", 480, 360, "hqdefault"),
    ("hq3", 480, 360, "hqdefault"),
    ("sd1", 640, 480, "sddefault"),
    ("sd2", 640, 480, "sddefault"),
    ("sd3", 640, 480, "sddefault"),
    ("hqdefault_live", 480, 360, "hqdefault"),
    ("maxresdefault_live", 1280, 720, "maxresdefault"),
    ("hq720_live", 1280, 720, "maxresdefault"),
]

NOT_CLAIMED = [
    "/vi/Dune.jpg",
    "/vi/a/b/hqdefault.jpg",
    "/a/vi/Dune/hqdefault.jpg",
    "/VI/Dune/hqdefault.jpg",
    "/an_webp/Dune/mqdefault_6s.webp",
    "/Dune.jpg",
]

BAD = [
    # usual mistakes
    "/vi/Dune/hqdefault.webp",
    "/vi_webp/Dune/hqdefault.jpg",
    "/vi/Dune/hqdefault",
    "/vi/Dune/hqdefault.JPG",
    "/vi/Dune/hqdefault.jpeg",
    "/vi/Dune/photo.jpg",
    "/vi/Dune/HQDEFAULT.jpg",
    # edge
    "/vi/Dune/.jpg",
    "/vi/Dune/4.jpg",
    "/vi/Dune/00.jpg",
    "/vi/Dune/mq0.jpg",
    "/vi/Dune/mq4.jpg",
    "/vi/Dune/hq1_live.jpg",
    "/vi/Dune/_live.jpg",
    "/vi/Dune/hqdefault_live_live.jpg",
    "/vi/Dune/hqdefault.jpg.jpg",
    "/vi/" + "a" * 251 + "/hqdefault.jpg",
    # hostile
    "/vi/Dune/%D9%A3.jpg",
    "/vi/Dune/+1.jpg",
    "/vi/Dune/1_0.jpg",
    "/vi/Dune/0x1.jpg",
    "/vi/Dune/%252e%252e",
    "/vi/Dune/hqdefault;x.jpg",
    "/vi/Dune/" + "9" * 250 + ".jpg",
]


def read(url: str) -> Derivative | None:
    return Youtube().parse(split_target(url.encode()))


def box(width: int, height: int, form: Format) -> Transform:
    return Transform(width, height, Fit.LETTERBOX, enlarge=True, format=form, background="000000")


@pytest.mark.parametrize(("name", "width", "height", "written"), NAMES)
@pytest.mark.parametrize(
    ("folder", "ending", "form"), [("vi", "jpg", Format.JPEG), ("vi_webp", "webp", Format.WEBP)]
)
def test_names(
    folder: str, ending: str, form: Format, name: str, width: int, height: int, written: str
) -> None:
    derivative = read(f"/{folder}/Dune/{name}.{ending}")
    expected = box(width, height, form)
    assert derivative == Derivative("/Dune", expected, EXTENSIONS_TO_TRY, named_size=True)
    assert Youtube().build(derivative) == f"/{folder}/Dune/{written}.{ending}"


def test_the_query_is_dropped() -> None:
    assert read("/vi/Dune/0.jpg?sqp=-oaymw&rs=AOn4CL&w=9") == read("/vi/Dune/hqdefault.jpg")


@pytest.mark.parametrize("url", NOT_CLAIMED)
def test_not_claimed(url: str) -> None:
    assert read(url) is None


@pytest.mark.parametrize("url", BAD)
def test_bad(url: str) -> None:
    with pytest.raises(BadUrl):
        read(url)


GOOD = box(480, 360, Format.JPEG)
NOT_EXPRESSIBLE = [
    Derivative("/Dune.jpg", GOOD),
    Derivative("/a/Dune", GOOD, EXTENSIONS_TO_TRY, True),
    Derivative("/Dune", GOOD, ("jpg",), True),
    Derivative("/Dune", GOOD, EXTENSIONS_TO_TRY, False),
    Derivative("/" + "a" * 251, GOOD, EXTENSIONS_TO_TRY, True),
    Derivative("/Dune", box(481, 360, Format.JPEG), EXTENSIONS_TO_TRY, True),
    Derivative("/Dune", box(480, 360, Format.PNG), EXTENSIONS_TO_TRY, True),
    Derivative("/Dune", Transform(width=480), EXTENSIONS_TO_TRY, True),
]


@pytest.mark.parametrize("derivative", NOT_EXPRESSIBLE)
def test_not_expressible(derivative: Derivative) -> None:
    with pytest.raises(NotExpressible):
        Youtube().build(derivative)


@given(
    st.text(
        st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\\u2028\u2029"),
        min_size=1,
        max_size=60,
    ).filter(lambda video: video not in (".", "..")),
    st.sampled_from([(row[1], row[2]) for row in NAMES]),
    st.sampled_from([Format.JPEG, Format.WEBP]),
)
def test_what_is_built_is_read(video: str, size: tuple[int, int], form: Format) -> None:
    derivative = Derivative(f"/{video}", box(*size, form), EXTENSIONS_TO_TRY, True)
    assert read(Youtube().build(derivative)) == derivative
