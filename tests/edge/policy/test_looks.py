"""Looks: what a site adds, and what a URL keeps for itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.looks import PLAIN, Looks
from resizer.formats import Format, InputOnly
from resizer.transform import IDENTITY, Qualities, Transform, parse
from tests.resizer.transforms import transforms

QUALITIES = Qualities(((Format.AVIF, 40), (Format.JPEG, 80)))
FULL = Looks(
    sharpen=True,
    progressive=True,
    qualities=QUALITIES,
    inputs=(InputOnly.TIFF,),
    marks=(("logo", "/a/logo.png"), ("seal", "/a/seal.png")),
)

ROWS = [
    # usual
    (FULL, "w=220", "w=220,qf=avif:40:jpeg:80,crisp=1,pr=1"),
    (Looks(sharpen=True), "w=220", "w=220,crisp=1"),
    (Looks(progressive=True), "w=220", "w=220,pr=1"),
    (Looks(qualities=QUALITIES), "w=220", "w=220,qf=avif:40:jpeg:80"),
    # what depends on the format alone is settled where it is known
    (FULL, "w=220,f=jpeg", "w=220,f=jpeg,q=80,crisp=1,pr=1"),
    (FULL, "w=220,f=avif", "w=220,f=avif,q=40,crisp=1"),
    (FULL, "w=220,f=webp", "w=220,f=webp,crisp=1"),
    # the URL's own words win
    (FULL, "w=220,q=33", "w=220,q=33,crisp=1,pr=1"),
    (Looks(qualities=QUALITIES), "w=220,qf=jpeg:9:webp:8", "w=220,qf=avif:40:jpeg:9:webp:8"),
    (FULL, "w=220,f=jpeg,q=33", "w=220,f=jpeg,q=33,crisp=1,pr=1"),
    (Looks(sharpen=True), "w=220,blur=10", "w=220,blur=10"),
    (Looks(sharpen=True), "w=220,sh=10", "w=220,sh=10"),
    # untouched
    (FULL, "", ""),
    (FULL, "w=9,ph=thumbhash", "w=9,ph=thumbhash"),
    (PLAIN, "w=220,q=5", "w=220,q=5"),
]


@pytest.mark.parametrize(("looks", "text", "expected"), ROWS)
def test_apply(looks: Looks, text: str, expected: str) -> None:
    assert looks.apply(parse(text)).canonical() == expected


LOOKS = st.builds(
    Looks,
    sharpen=st.booleans(),
    progressive=st.booleans(),
    qualities=st.sampled_from((Qualities(), QUALITIES)),
)


@given(LOOKS, transforms())
def test_any_transform_can_be_dressed_and_only_once(looks: Looks, transform: Transform) -> None:
    dressed = looks.apply(transform)
    assert parse(dressed.canonical()) == dressed
    assert looks.apply(dressed) == dressed
    assert PLAIN.apply(transform) == transform
    assert dressed.is_identity is transform.is_identity
    assert (dressed == IDENTITY) is (transform == IDENTITY)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a.tif", True),
        ("/a.TIFF", True),
        ("/a.jpg", True),
        ("/a", True),
        ("/a.jp2", False),
        ("/a.JP2", False),
        ("/jp2", True),
        ("/.jp2", True),  # hidden, and no ending
        ("/a.jp2/b.jpg", True),
    ],
)
def test_what_may_be_read(path: str, expected: bool) -> None:
    assert FULL.may_read(path) is expected
    assert PLAIN.may_read(path) is (path.lower() not in ("/a.tif", "/a.tiff", "/a.jp2"))


def test_marks_are_names() -> None:
    assert FULL.maybe_mark("seal") == "/a/seal.png"
    assert FULL.maybe_mark("/a/seal.png") is None
    assert PLAIN.maybe_mark("logo") is None
