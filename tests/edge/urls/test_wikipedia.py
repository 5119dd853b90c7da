"""MediaWiki's thumbnail URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, Derivative, NotExpressible
from edge.urls.ending import output_format
from edge.urls.path import split_target
from edge.urls.wikipedia import Wikipedia
from resizer.formats import Format
from resizer.transform import Fit, Transform

COMMONS = "/wikipedia/commons"
OLD = "20160729183014!1Mcolors.jpg"
LONG = "n" * 250 + ".jpg"

# (URL, source, transform): parse(URL) is that, and build() gives the URL back.
ROUND_TRIPS = [
    # usual
    ("/thumb/Dune.jpg/220px-Dune.jpg", "/Dune.jpg", Transform(width=220)),
    (
        f"{COMMONS}/thumb/a/a9/Example.jpg/250px-Example.jpg",
        f"{COMMONS}/a/a9/Example.jpg",
        Transform(width=250),
    ),
    ("/thumb/a/a9/Example.jpg/250px-Example.jpg", "/a/a9/Example.jpg", Transform(width=250)),
    (f"/thumb/archive/d/d3/{OLD}/400px-1Mcolors.jpg", f"/archive/d/d3/{OLD}", Transform(width=400)),
    (
        f"{COMMONS}/thumb/archive/d/d3/{OLD}/400px-1Mcolors.jpg.webp",
        f"{COMMONS}/archive/d/d3/{OLD}",
        Transform(width=400, format=Format.WEBP),
    ),
    ("/thumb/X.jpg/250px-X.jpg.webp", "/X.jpg", Transform(width=250, format=Format.WEBP)),
    ("/thumb/X.png/250px-X.png.webp", "/X.png", Transform(width=250, format=Format.WEBP)),
    ("/thumb/X.gif/250px-X.gif.png", "/X.gif", Transform(width=250, format=Format.PNG)),
    ("/thumb/X.jpg/qlow-250px-X.jpg", "/X.jpg", Transform(width=250, quality=40)),
    (
        "/thumb/X.JPG/qlow-250px-X.JPG.avif",
        "/X.JPG",
        Transform(width=250, quality=40, format=Format.AVIF),
    ),
    (f"/thumb/{LONG}/250px-thumbnail.jpg", f"/{LONG}", Transform(width=250)),
    (
        f"/thumb/{LONG}/250px-thumbnail.jpg.webp",
        f"/{LONG}",
        Transform(width=250, format=Format.WEBP),
    ),
    # edge
    ("/thumb/X.jpg/1px-X.jpg", "/X.jpg", Transform(width=1)),
    ("/thumb/X.jpg/16384px-X.jpg", "/X.jpg", Transform(width=16384)),
    ("/thumb/X.jpg.jpg/9px-X.jpg.jpg", "/X.jpg.jpg", Transform(width=9)),
    ("/thumb/thumbnail.jpg/9px-thumbnail.jpg", "/thumbnail.jpg", Transform(width=9)),
    ("/thumb/album/X.jpg/9px-X.jpg", "/album/X.jpg", Transform(width=9)),
    ("/thumb/D%C3%BC%20ne.jpg/9px-D%C3%BC%20ne.jpg", "/Dü ne.jpg", Transform(width=9)),
    # names that look like pieces of the grammar
    ("/thumb/20px-X.jpg/30px-20px-X.jpg", "/20px-X.jpg", Transform(width=30)),
    ("/thumb/qlow-1px-X.jpg/qlow-2px-qlow-1px-X.jpg", "/qlow-1px-X.jpg", Transform(2, quality=40)),
    ("/thumb/thumb/X.jpg/9px-X.jpg", "/thumb/X.jpg", Transform(width=9)),
    ("/thumb/a/thumb/b/X.jpg/9px-X.jpg", "/a/thumb/b/X.jpg", Transform(width=9)),
    ("/thumb/thumb/a/a9/X.jpg/9px-X.jpg", "/thumb/a/a9/X.jpg", Transform(width=9)),
    ("/thumb/seek=1-X.jpg/9px-seek=1-X.jpg", "/seek=1-X.jpg", Transform(width=9)),
    ("/thumb/-X.jpg/9px--X.jpg", "/-X.jpg", Transform(width=9)),
    # the stamp belongs to an archive only
    (f"/thumb/{OLD}/9px-{OLD}", f"/{OLD}", Transform(width=9)),
    (f"/thumb/archive/{OLD}/9px-1Mcolors.jpg", f"/archive/{OLD}", Transform(width=9)),
]

# (URL, source, transform): read, but not the spelling that we write.
READ = [
    # the query is noise
    ("/thumb/X.jpg/9px-X.jpg?utm_source=x&w=300&%ff", "/X.jpg", Transform(width=9)),
    ("/thumb/X.jpg/9px-thumbnail.jpg", "/X.jpg", Transform(width=9)),
    (f"/thumb/archive/{OLD}/9px-thumbnail.jpg", f"/archive/{OLD}", Transform(width=9)),
    ("/thumb/X.jpg/9px-X.jpg.jpg", "/X.jpg", Transform(width=9)),
    ("/thumb/X.jpg/9px-X.jpg.jpeg", "/X.jpg", Transform(width=9)),
    ("/thumb/X.jpg/lossy-9px-X.jpg", "/X.jpg", Transform(width=9)),
    ("/thumb/X.jpg/qlow-lossy-9px-X.jpg", "/X.jpg", Transform(width=9, quality=40)),
    ("/thumb/X.gif/lossless-9px-X.gif.png", "/X.gif", Transform(9, format=Format.PNG)),
    ("/a/thumb/b/X.jpg/9px-X.jpg", "/a/b/X.jpg", Transform(width=9)),
    ("/%74humb/X.jpg/9p%78-X.jpg", "/X.jpg", Transform(width=9)),
]

NOT_CLAIMED = [
    "/Dune.jpg",
    "/Dune.jpg?w=220",
    "/thumb/Dune.jpg",  # an original in a folder called thumb
    "/thumb/220px-Dune.jpg",
    "/thumb/album/Dune.jpg",
    "/thumb/album/220px-Dune.jpg",
    "/a/Dune.jpg/220px-Dune.jpg",
    "/Thumb/Dune.jpg/220px-Dune.jpg",
    "/vi/Dune/hqdefault.jpg",
    "/a/thumb/220px-Dune.jpg",
]

BAD = [
    # usual mistakes
    "/thumb/X.jpg/220px-Y.jpg",
    "/thumb/X.jpg/220px-X.png",
    "/thumb/X.jpg/X.jpg",
    "/thumb/X.jpg/220-X.jpg",
    "/thumb/X.jpg/px-X.jpg",
    "/thumb/X.jpg/220px-",
    "/thumb/X.jpg/220px",
    "/thumb/X.jpg/220px-x.jpg",
    "/thumb/X.jpg/220px-X.jpg.svg",
    "/thumb/X.jpg/220px-X.jpg.WEBP",
    "/thumb/X.jpg/220px-X.jpg.",
    "/thumb/X.jpg/220px-X.jpg.webp.webp",
    "/thumb/X.jpg/220px-thumbnail.png",
    f"/thumb/archive/{OLD}/9px-{OLD}",
    # formats that we do not have
    "/thumb/X.svg/220px-X.svg.png",
    "/thumb/X.tif/lossy-page1-220px-X.tif.jpg",
    "/thumb/X.pdf/page3-220px-X.pdf.jpg",
    "/thumb/X.webm/220px--X.webm.jpg",
    # parameters without a meaning here
    "/thumb/X.jpg/page1-220px-X.jpg",
    "/thumb/X.jpg/page-220px-X.jpg",
    "/thumb/X.jpg/langde-220px-X.jpg",
    "/thumb/X.jpg/220px-seek=10-X.jpg",
    "/thumb/X.jpg/220px-seek%3D10-X.jpg",
    "/thumb/X.jpg/220px-seek%253D10-X.jpg",
    # prefixes: order, repetition, contradiction
    "/thumb/X.jpg/lossy-qlow-220px-X.jpg",
    "/thumb/X.jpg/qlow-qlow-220px-X.jpg",
    "/thumb/X.jpg/lossy-lossless-220px-X.jpg",
    "/thumb/X.jpg/lossless-220px-X.jpg",
    "/thumb/X.png/lossy-220px-X.png",
    # edge
    "/thumb/X.jpg/0px-X.jpg",
    "/thumb/X.jpg/0220px-X.jpg",
    "/thumb/X.jpg/16385px-X.jpg",
    "/thumb/temp/a/a9/X.jpg/220px-X.jpg",
    # hostile
    "/thumb/X.jpg/%D9%A3px-X.jpg",  # an Arabic three
    "/thumb/X.jpg/+1px-X.jpg",
    "/thumb/X.jpg/-1px-X.jpg",
    "/thumb/X.jpg/1_0px-X.jpg",
    "/thumb/X.jpg/0x10px-X.jpg",
    "/thumb/X.jpg/1e3px-X.jpg",
    "/thumb/X.jpg/%20220px-X.jpg",
    "/thumb/X.jpg/" + "9" * 200 + "px-X.jpg",
    "/thumb/X.jpg/220px-%252e%252e",
    "/thumb/X.jpg/220px-X.jpg;x",
    "/thumb/X.jpg/lang" + "-" * 200 + "220px-X.jpg",
]


def read(url: str, verify_shards: bool = False) -> Derivative | None:
    return Wikipedia(verify_shards).parse(split_target(url.encode()))


@pytest.mark.parametrize(("url", "source", "transform"), ROUND_TRIPS)
def test_round_trip(url: str, source: str, transform: Transform) -> None:
    assert read(url) == Derivative(source, transform)
    assert Wikipedia().build(Derivative(source, transform)) == url


@pytest.mark.parametrize(("url", "source", "transform"), READ)
def test_read(url: str, source: str, transform: Transform) -> None:
    derivative = read(url)
    assert derivative == Derivative(source, transform)
    assert read(Wikipedia().build(derivative)) == derivative


@pytest.mark.parametrize("url", NOT_CLAIMED)
def test_not_claimed(url: str) -> None:
    assert read(url) is None


@pytest.mark.parametrize("url", BAD)
def test_bad(url: str) -> None:
    with pytest.raises(BadUrl):
        read(url)


SHARDS: list[tuple[str, bool]] = [
    # usual: md5("Example.jpg") begins with a9
    ("/thumb/a/a9/Example.jpg/9px-Example.jpg", True),
    (f"/thumb/archive/e/e7/{OLD}/9px-1Mcolors.jpg", True),  # of the name without its stamp
    ("/thumb/Example.jpg/9px-Example.jpg", True),  # none to verify
    ("/thumb/album/Example.jpg/9px-Example.jpg", True),
    # edge: MediaWiki hashes underscores
    ("/thumb/c/c3/Foo%20bar.jpg/9px-Foo%20bar.jpg", True),
    ("/thumb/c/c3/Foo_bar.jpg/9px-Foo_bar.jpg", True),
    # hostile
    ("/thumb/b/b9/Example.jpg/9px-Example.jpg", False),
    ("/thumb/a/a8/Example.jpg/9px-Example.jpg", False),
    ("/thumb/b/a9/Example.jpg/9px-Example.jpg", False),
    (f"/thumb/archive/1/12/{OLD}/9px-1Mcolors.jpg", False),  # of the whole name
]


@pytest.mark.parametrize(("url", "fits"), SHARDS)
def test_shards_are_verified_where_asked(url: str, fits: bool) -> None:
    strict = Wikipedia(verify_shards=True)
    derivative = read(url)
    assert derivative is not None
    if fits:
        assert read(url, True) == derivative
        assert strict.build(derivative) == url
        return
    with pytest.raises(BadUrl):
        read(url, True)
    with pytest.raises(NotExpressible):
        strict.build(derivative)


NOT_EXPRESSIBLE = [
    Derivative("/X.jpg", Transform()),
    Derivative("/X.jpg", Transform(height=9)),
    Derivative("/X.jpg", Transform(width=9, height=9)),
    Derivative("/X.jpg", Transform(width=9, height=9, fit=Fit.COVER)),
    Derivative("/X.jpg", Transform(width=9, quality=41)),
    Derivative("/X.jpg", Transform(width=9, enlarge=True)),
    Derivative("/X.jpg", Transform(width=9, background="000000")),
    Derivative("/X", Transform(width=9)),
    Derivative("/X.svg", Transform(width=9)),
    Derivative("/archive/20160729183014!.jpg", Transform(width=9)),
    Derivative("/X", Transform(width=9), ("jpg",)),
    Derivative("/X.jpg", Transform(width=9), (), True),
]


@pytest.mark.parametrize("derivative", NOT_EXPRESSIBLE)
def test_not_expressible(derivative: Derivative) -> None:
    with pytest.raises(NotExpressible):
        Wikipedia().build(derivative)


FOLDERS = st.lists(
    st.sampled_from(
        ["thumb", "archive", "temp", "a", "a9", "b", "0f", "album", "qlow-9px-x", "Ü %"]
    ),
    max_size=5,
)
NAMES = st.builds(
    lambda stamp, stem, ending: f"{stamp}{stem}.{ending}",
    st.sampled_from(["", "20160729183014!"]),
    st.sampled_from(["X", "thumbnail", "9px-X", "X.jpg", "seek=1-X", "-X", "l" * 235, "ü" * 110]),
    st.sampled_from(["jpg", "JPEG", "png", "gif", "webp", "avif", "jpe"]),
)


@given(
    FOLDERS,
    NAMES,
    st.integers(1, 16384),
    st.sampled_from([None, 40]),
    st.sampled_from([None, *Format]),
)
def test_what_is_built_is_read(
    folders: list[str], name: str, width: int, quality: int | None, form: Format | None
) -> None:
    source = "/" + "/".join((*folders, name))
    transform = Transform(width=width, quality=quality, format=output_format(source, form))
    derivative = Derivative(source, transform)
    assert read(Wikipedia().build(derivative)) == derivative
