"""edge/http/conditional.py: RFC 9110 section 13."""

import itertools

import pytest

from edge.http.conditional import Preconditions, Verdict, evaluate
from edge.http.date import format_date

LAST_MODIFIED = 784_111_777
ETAG = '"now"'
SAME = format_date(LAST_MODIFIED)
EARLIER = format_date(LAST_MODIFIED - 1)
LATER = format_date(LAST_MODIFIED + 1)
PROCEED, NOT_MODIFIED, FAILED = (
    Verdict.PROCEED,
    Verdict.NOT_MODIFIED,
    Verdict.PRECONDITION_FAILED,
)


def judge(
    *,
    im: str | None = None,
    ius: str | None = None,
    inm: str | None = None,
    ims: str | None = None,
    is_safe: bool = True,
    etag: str | None = ETAG,
    last_modified: int | None = LAST_MODIFIED,
    exists: bool = True,
) -> Verdict:
    fields = Preconditions(
        if_match=im, if_none_match=inm, if_modified_since=ims, if_unmodified_since=ius
    )
    return evaluate(fields, is_safe=is_safe, etag=etag, last_modified=last_modified, exists=exists)


def test_no_precondition() -> None:
    assert judge() is PROCEED
    assert judge(is_safe=False) is PROCEED
    assert judge(etag=None, last_modified=None) is PROCEED


# (If-None-Match, our tag, verdict for GET and HEAD, verdict for other methods), section 13.1.2
@pytest.mark.parametrize(
    ("field", "etag", "read", "write"),
    [
        # usual
        ('"now"', '"now"', NOT_MODIFIED, FAILED),
        ('"old"', '"now"', PROCEED, PROCEED),
        ('W/"now"', '"now"', NOT_MODIFIED, FAILED),  # weak comparison
        ('"now"', 'W/"now"', NOT_MODIFIED, FAILED),
        ('W/"now"', 'W/"now"', NOT_MODIFIED, FAILED),
        ('"old", "now"', '"now"', NOT_MODIFIED, FAILED),
        ('W/"old", W/"now", "x"', '"now"', NOT_MODIFIED, FAILED),
        ("*", '"now"', NOT_MODIFIED, FAILED),
        ("*", None, NOT_MODIFIED, FAILED),  # any representation, tagged or not
        # edge
        (" * ", '"now"', NOT_MODIFIED, FAILED),
        (', ,"now",', '"now"', NOT_MODIFIED, FAILED),
        ('"a,b"', '"a,b"', NOT_MODIFIED, FAILED),
        ('"x","a,b"', '"a,b"', NOT_MODIFIED, FAILED),
        ('"a","b"', '","', PROCEED, PROCEED),  # found between two tags, and no tag
        ('"a*b"', '"now"', PROCEED, PROCEED),
        ('"*"', '"now"', PROCEED, PROCEED),
        ('"nowhere"', '"now"', PROCEED, PROCEED),
        ('"NOW"', '"now"', PROCEED, PROCEED),
        ('"now"', None, PROCEED, PROCEED),
        ("", '"now"', PROCEED, PROCEED),
        # malformed: matches nothing
        ("now", '"now"', PROCEED, PROCEED),
        ('"now" "old"', '"now"', PROCEED, PROCEED),
        ('w/"now"', '"now"', PROCEED, PROCEED),
        ('"now", *', '"now"', PROCEED, PROCEED),
        ('"a" "now"', "now", PROCEED, PROCEED),  # an origin's unquoted tag
        ('"now"', "", PROCEED, PROCEED),
        ("x" * 100_000, '"now"', PROCEED, PROCEED),
    ],
)
def test_if_none_match(field: str, etag: str | None, read: Verdict, write: Verdict) -> None:
    assert judge(inm=field, etag=etag) is read
    assert judge(inm=field, etag=etag, is_safe=False) is write


# section 13.1.1: strong comparison, for every method
@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize(
    ("field", "etag", "expected"),
    [
        ('"now"', '"now"', PROCEED),
        ('"old"', '"now"', FAILED),
        ('"old", "now"', '"now"', PROCEED),
        ("*", '"now"', PROCEED),
        ("*", None, PROCEED),
        ('W/"now"', '"now"', FAILED),
        ('"now"', 'W/"now"', FAILED),
        ('W/"now"', 'W/"now"', FAILED),
        ('"now"', None, FAILED),
        ("", '"now"', FAILED),
        ("now", '"now"', FAILED),
        ('"now" "old"', '"now"', FAILED),
    ],
)
def test_if_match(field: str, etag: str | None, expected: Verdict, is_safe: bool) -> None:
    assert judge(im=field, etag=etag, is_safe=is_safe) is expected


# section 13.1.3: GET and HEAD only
@pytest.mark.parametrize(
    ("field", "last_modified", "expected"),
    [
        (SAME, LAST_MODIFIED, NOT_MODIFIED),  # the client echoes Last-Modified
        (LATER, LAST_MODIFIED, NOT_MODIFIED),
        (EARLIER, LAST_MODIFIED, PROCEED),
        ("Sunday, 06-Nov-94 08:49:37 GMT", LAST_MODIFIED, NOT_MODIFIED),
        ("Sun Nov  6 08:49:37 1994", LAST_MODIFIED, NOT_MODIFIED),
        (SAME, None, PROCEED),
        ("yesterday", LAST_MODIFIED, PROCEED),
        ("", LAST_MODIFIED, PROCEED),
        (f"{SAME}, {SAME}", LAST_MODIFIED, PROCEED),
        (f"{SAME}; length=1024", LAST_MODIFIED, PROCEED),  # a habit of old Netscapes
    ],
)
def test_if_modified_since(field: str, last_modified: int | None, expected: Verdict) -> None:
    assert judge(ims=field, last_modified=last_modified) is expected
    assert judge(ims=field, last_modified=last_modified, is_safe=False) is PROCEED


# section 13.1.4: every method
@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize(
    ("field", "last_modified", "expected"),
    [
        (SAME, LAST_MODIFIED, PROCEED),
        (LATER, LAST_MODIFIED, PROCEED),
        (EARLIER, LAST_MODIFIED, FAILED),
        (EARLIER, None, PROCEED),
        ("yesterday", LAST_MODIFIED, PROCEED),
    ],
)
def test_if_unmodified_since(
    field: str, last_modified: int | None, expected: Verdict, is_safe: bool
) -> None:
    assert judge(ius=field, last_modified=last_modified, is_safe=is_safe) is expected


# section 13.2.2: one row a rule of precedence
@pytest.mark.parametrize(
    ("im", "ius", "inm", "ims", "expected"),
    [
        # If-Match hides If-Unmodified-Since, whichever way either goes
        ('"now"', EARLIER, None, None, PROCEED),
        ('"old"', LATER, None, None, FAILED),
        ("malformed", LATER, None, None, FAILED),
        # If-None-Match hides If-Modified-Since, even when malformed
        (None, None, '"old"', LATER, PROCEED),
        (None, None, '"now"', EARLIER, NOT_MODIFIED),
        (None, None, "malformed", LATER, PROCEED),
        (None, None, "", LATER, PROCEED),
        # steps 1 and 2 come before 3 and 4
        ('"old"', None, '"now"', None, FAILED),
        ('"now"', None, '"now"', None, NOT_MODIFIED),
        ("*", None, "*", None, NOT_MODIFIED),
        (None, EARLIER, '"now"', None, FAILED),
        (None, LATER, '"now"', None, NOT_MODIFIED),
        (None, EARLIER, None, LATER, FAILED),
        (None, SAME, None, SAME, NOT_MODIFIED),
        ('"now"', None, None, SAME, NOT_MODIFIED),
        ('"now"', EARLIER, '"old"', LATER, PROCEED),
    ],
)
def test_order(
    im: str | None, ius: str | None, inm: str | None, ims: str | None, expected: Verdict
) -> None:
    assert judge(im=im, ius=ius, inm=inm, ims=ims) is expected


@pytest.mark.parametrize(
    ("im", "inm", "expected"),
    [
        ("*", None, FAILED),
        ('"now"', None, FAILED),
        (None, "*", PROCEED),  # "create, never overwrite"
        (None, '"now"', PROCEED),
    ],
)
def test_nothing_there_yet(im: str | None, inm: str | None, expected: Verdict) -> None:
    for etag in (None, ETAG):
        assert judge(im=im, inm=inm, is_safe=False, etag=etag, exists=False) is expected


def test_against_the_text_of_the_section() -> None:
    """Section 13.2.2 transcribed with one fact a field, against every combination."""
    truths = {"match": ('"now"', True), "no match": ('"old"', False), "absent": (None, None)}
    times = {"later": (LATER, True), "earlier": (EARLIER, False), "absent": (None, None)}
    for (im, im_true), (ius, ius_true), (inm, listed), (
        ims,
        unmodified,
    ), is_safe in itertools.product(
        truths.values(), times.values(), truths.values(), times.values(), (True, False)
    ):
        expected = PROCEED
        if im_true is False or (im_true is None and ius_true is False):
            expected = FAILED
        elif listed:
            expected = NOT_MODIFIED if is_safe else FAILED
        elif listed is None and is_safe and unmodified:
            expected = NOT_MODIFIED
        assert judge(im=im, ius=ius, inm=inm, ims=ims, is_safe=is_safe) is expected
