"""edge/http/negotiate.py: RFC 9110 section 12.5.1."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.negotiate import MAX_LENGTH, MAX_MEMBERS, AcceptClass, fold_accept
from resizer.formats import Format

AVIF, WEBP, BASE = AcceptClass.AVIF, AcceptClass.WEBP, AcceptClass.BASE
BOTH = frozenset({Format.AVIF, Format.WEBP, Format.JPEG})


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # usual: what browsers send for a picture
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", AVIF),  # Chrome
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", AVIF),  # Firefox
        ("image/webp,image/avif,image/jxl,image/heic,video/*;q=0.8,image/*;q=0.8", AVIF),  # Safari
        ("image/webp,image/apng,image/*,*/*;q=0.8", WEBP),
        ("image/webp,*/*", WEBP),
        ("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", BASE),
        (
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
                "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
            ),
            AVIF,
        ),
        ("*/*", BASE),
        ("image/*", BASE),
        ("image/*,*/*;q=0.8", BASE),
        (None, BASE),
        ("", BASE),
        # weights
        ("image/avif;q=0,image/webp,*/*", WEBP),
        ("image/avif;q=0.000,image/webp;q=0.0,*/*", BASE),
        ("image/avif;q=0.001", AVIF),
        ("image/avif;q=0.5,image/webp;q=0.6", WEBP),
        ("image/avif;q=0.5,image/webp;q=0.500", AVIF),
        ("image/avif;q=0.123,image/webp;q=0.124", WEBP),
        ("image/avif;q=1.000,image/webp;q=1", AVIF),
        ("image/avif;q=0.,image/webp;q=1.", WEBP),  # the grammar allows no digit after the dot
        ("image/webp;q=0.5,image/jpeg", BASE),
        ("image/webp;q=0.5,image/jpeg;q=0.5", WEBP),
        ("image/avif;q=0.2,image/webp;q=0.4,image/png;q=0.3", WEBP),
        ("image/avif;q=0.4,image/webp;q=0.2,image/*;q=0.3", AVIF),
        ("image/webp;q=0.5,*/*", BASE),
        ("image/avif;q=0.5,image/jpeg", BASE),
        # specificity before order
        ("*/*;q=0.1,image/*,image/webp;q=0.5", BASE),
        ("*/*,image/*;q=0.1,image/webp;q=0.5", WEBP),
        ("image/*,image/jpeg;q=0.1,image/png;q=0.1,image/gif;q=0.1,image/webp;q=0.5", WEBP),
        ("image/*;q=0,image/webp", WEBP),
        ("image/webp,image/*;q=0", WEBP),
        ("image/webp;q=0,image/*", BASE),
        # spelling
        ("IMAGE/WEBP;Q=0.5", WEBP),
        (" image/webp\t;\tq=0.5 ", WEBP),
        (",, image/webp ,,", WEBP),
        ("image/webp;", WEBP),
        ("image/webp;;q=0", BASE),
        ("image/webp;q=0;x=y", BASE),  # an extension after the weight
        ("image/webp;profile=x", BASE),  # narrower than what we serve
        ("image/webp;profile=x;q=1,image/avif;q=0.1", AVIF),
        ('image/png;x="a,image/avif",image/webp;q=0.3,image/png;q=0.1', WEBP),
        ('image/png;x="\\",image/avif",image/webp', WEBP),
        # twice: the lower
        ("image/webp,image/webp;q=0", BASE),
        ("image/webp;q=0,image/webp", BASE),
        # malformed members are skipped
        ("image/avif;q=2,image/webp", WEBP),
        ("image/avif;q=1.001,image/webp", WEBP),
        ("image/avif;q=0.1234,image/webp", WEBP),
        ("image/avif;q=-1,image/webp", WEBP),
        ("image/avif;q=.5,image/webp", WEBP),
        ("image/avif;q=,image/webp", WEBP),
        ("image/avif;q,image/webp", WEBP),
        ('image/avif;q="1",image/webp', WEBP),
        ("image/avif; q = 1,image/webp", WEBP),
        ("image/avif image/jxl,image/webp", WEBP),
        ("image / avif,image/webp", WEBP),
        ("image/avif/x,image/webp", WEBP),
        ("image,image/webp", WEBP),
        ("/,;,=,image/webp", WEBP),
        ("ximage/avif,image/avifs,image/webp", WEBP),  # no substrings
        ('image/webp,"image/avif', WEBP),
        ('"image/avif,image/webp', BASE),  # the quote swallows the rest
        ('x="\\', BASE),
        # hostile
        ("image/webp" + "," * MAX_MEMBERS, BASE),
        ("image/webp," + "x" * (MAX_LENGTH - 11), WEBP),
        ("image/webp," + "x" * (MAX_LENGTH - 10), BASE),
        ("image/webp" + ";" * 4_000, WEBP),
        ("image/webp" + " " * 4_000 + "x", BASE),
        ("image/webp" + ";a=b" * 1_000 + "!", BASE),
        ('"' * 4_001, BASE),
        ('"\\' * 2_000, BASE),
        ("image/webp;q=\u0661", BASE),
        ("image/\u212abp,image/webp", BASE),
    ],
)
def test_fold(field: str | None, expected: AcceptClass) -> None:
    assert fold_accept(field, BOTH) is expected


CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("field", "offered", "expected"),
    [
        (CHROME, {Format.WEBP}, WEBP),
        (CHROME, {Format.AVIF}, AVIF),
        (CHROME, {Format.JPEG, Format.PNG}, BASE),
        (CHROME, set(), BASE),
        ("image/avif", {Format.WEBP}, BASE),
        ("image/avif,image/webp;q=0", {Format.WEBP}, BASE),
    ],
)
def test_only_what_the_site_offers(field: str, offered: set[Format], expected: AcceptClass) -> None:
    assert fold_accept(field, frozenset(offered)) is expected


RANGES = ("image/avif", "image/webp", "image/jpeg", "image/*", "*/*", "text/html")
WEIGHTS = ("", ";q=0", ";q=0.3", ";q=1")


@given(st.lists(st.tuples(st.sampled_from(RANGES), st.sampled_from(WEIGHTS)), max_size=6))
def test_order_never_matters_and_refused_formats_are_never_sent(
    members: list[tuple[str, str]],
) -> None:
    folded = {
        fold_accept(", ".join(map("".join, ordered)), BOTH)
        for ordered in itertools.islice(itertools.permutations(members), 24)
    }
    assert len(folded) == 1
    answer = folded.pop()
    if answer is not BASE:
        weights = [weight for name, weight in members if name == f"image/{answer.value}"]
        assert weights
        assert ";q=0" not in weights


@given(st.text('image/webp,;q=01."\\ *', max_size=40))
def test_no_field_raises(field: str) -> None:
    fold_accept(field, BOTH)
