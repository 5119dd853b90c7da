"""edge/policy/negotiation.py: which requests have variants, and what each of them is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.negotiate import AcceptClass
from edge.policy.negotiation import MAX_LINES, NO_NEGOTIATION, Negotiation, Variant
from edge.policy.steps import Rounded, Steps, apply
from edge.urls.grammars import GRAMMARS, make_grammars, parse_target
from edge.urls.path import split_target
from resizer.formats import Format
from resizer.transform import MAX_SIDE, BadTransform, Transform, parse

GRAMMAR = make_grammars(list(GRAMMARS))
STEPS = (100, 250, 500, 960)
FORMATS = frozenset({Format.AVIF, Format.WEBP})
ALL = Negotiation(FORMATS, save_data=True, client_hints=True)
STEPPED = Negotiation(FORMATS, save_data=True, client_hints=True, widths=STEPS)
CHROME = b"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def derivative(target: str):
    found = parse_target(split_target(target.encode()), GRAMMAR)
    assert found is not None
    return found


def adapted(negotiation: Negotiation, target: str, **fields: str) -> str:
    """Canonical text of what a request gets."""
    asked = derivative(target)
    outcome = apply(Steps(negotiation.widths), asked.transform)
    stepped = outcome.transform if isinstance(outcome, Rounded) else asked.transform
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return negotiation.adapt(asked, stepped, negotiation.variant_of(sent)).canonical()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # usual
        ("/a.jpg?w=220", True),
        ("/a.jpg?q=60", True),
        ("/a?w=220", True),
        ("/thumb/a.jpg/220px-a.jpg", True),  # the name, said again
        ("/a.webp?w=220", True),
        # the format is named
        ("/a.jpg?w=220&fm=webp", False),
        ("/a.jpg?w=220&fm=jpg", False),  # its own
        ("/a.jpg?fm=avif", False),
        ("/thumb/a.jpg/220px-a.jpg.webp", False),
        ("/vi/a/hqdefault.jpg", False),
        ("/vi_webp/a/hqdefault.webp", False),
        # nothing is encoded
        ("/a.jpg", False),
        ("/a.jpg?utm_source=x", False),
        ("/a.jpg?placeholder=thumbhash", False),
    ],
)
def test_what_is_negotiated(target, expected):
    assert ALL.concerns(derivative(target)) is expected
    assert not NO_NEGOTIATION.concerns(derivative(target))


@pytest.mark.parametrize(
    ("negotiation", "lines"),
    [
        (NO_NEGOTIATION, ""),
        (Negotiation(FORMATS), "Vary: Accept\r\n"),
        (Negotiation(save_data=True), "Vary: Save-Data\r\n"),
        (
            Negotiation(client_hints=True),
            (
                "Vary: Sec-CH-DPR, DPR, Sec-CH-Width, Width\r\n"
                "Accept-CH: Sec-CH-DPR, DPR, Sec-CH-Width, Width\r\n"
            ),
        ),
        (
            ALL,
            (
                "Vary: Accept, Save-Data, Sec-CH-DPR, DPR, Sec-CH-Width, Width\r\n"
                "Accept-CH: Sec-CH-DPR, DPR, Sec-CH-Width, Width\r\n"
            ),
        ),
    ],
)
def test_what_answers_say(negotiation, lines):
    assert negotiation.answer_lines == lines
    assert negotiation.is_on is bool(lines)


@pytest.mark.parametrize(
    ("target", "fields", "expected"),
    [
        # formats
        ("/a.jpg?w=220", {}, "w=220"),
        ("/a.jpg?w=220", {"accept": "image/avif,image/webp"}, "w=220,f=avif"),
        ("/a.jpg?w=220", {"accept": "image/avif;q=0,image/webp"}, "w=220,f=webp"),
        ("/a.jpg?w=220", {"accept": "image/*,*/*"}, "w=220"),
        ("/a.webp?w=220", {"accept": "image/webp"}, "w=220"),  # its own
        ("/a.avif?w=220", {"accept": "image/avif"}, "w=220"),
        ("/a?w=220", {"accept": "image/webp"}, "w=220,f=webp"),
        # Save-Data
        ("/a.jpg?w=220", {"save_data": "on"}, "w=220,q=50"),
        ("/a.jpg?w=220", {"save_data": "off"}, "w=220"),
        ("/a.jpg?w=220&q=90", {"save_data": "on"}, "w=220,q=50"),
        ("/a.jpg?w=220&q=30", {"save_data": "on"}, "w=220,q=30"),
        ("/a.png?w=220", {"save_data": "on"}, "w=220"),  # has no quality
        ("/a.png?w=220", {"save_data": "on", "accept": "image/avif"}, "w=220,f=avif,q=40"),
        ("/a?w=220", {"save_data": "on"}, "w=220,qf=avif:40:jpeg:50:webp:50"),
        ("/a.jpg?w=220", {"save_data": "on", "dpr": "3"}, "w=220,q=50"),
        ("/a.jpg?w=220", {"save_data": "on", "width": "100"}, "w=160,q=50"),
        # DPR
        ("/a.jpg?w=220", {"dpr": "2"}, "w=440"),
        ("/a.jpg?w=220", {"dpr": "2.625"}, "w=660"),
        ("/a.jpg?w=220", {"dpr": "100"}, "w=660"),
        ("/a.jpg?w=220", {"sec_ch_dpr": "2", "dpr": "3"}, "w=440"),
        ("/a.jpg?h=100", {"dpr": "2"}, "h=200"),
        ("/a.jpg?w=300&h=200&fit=crop", {"dpr": "1.5"}, "w=450,h=300,fit=cover"),
        ("/a.jpg?q=60", {"dpr": "2"}, "q=60"),
        ("/a.jpg?w=16384&h=2", {"dpr": "3"}, "w=16384,h=2"),
        ("/a.jpg?w=2&h=16384", {"dpr": "3"}, "w=6,h=16384"),
        ("/a.jpg?w=220&dpr=1", {"dpr": "3"}, "w=220"),  # the page has said it
        ("/a.jpg?w=300&h=200&exact=1", {"dpr": "2"}, "w=300,h=200,ex=1"),
        # Width
        ("/a.jpg?w=900", {"width": "320"}, "w=320"),
        ("/a.jpg?w=900", {"width": "321"}, "w=400"),
        ("/a.jpg?w=300", {"width": "640"}, "w=300"),
        ("/a.jpg?w=300", {"width": "640", "dpr": "3"}, "w=640"),
        ("/a.jpg?w=300", {"sec_ch_width": "160", "width": "80"}, "w=160"),
        ("/a.jpg?q=60", {"width": "640"}, "w=640,q=60"),
        ("/a.jpg?h=200", {"width": "80"}, "h=200"),
        ("/a.jpg?w=300&h=200&fit=crop", {"width": "160"}, "w=160,h=107,fit=cover"),
        ("/a.jpg?w=300", {"width": "99999"}, "w=300"),
        # nonsense is as nothing
        ("/a.jpg?w=220", {"dpr": "x", "width": "-1", "save_data": "?", "accept": "\\"}, "w=220"),
    ],
)
def test_variants(target, fields, expected):
    assert adapted(ALL, target, **fields) == expected


@pytest.mark.parametrize(
    ("target", "fields", "expected"),
    [
        ("/a.jpg?w=220", {}, "w=250"),
        ("/a.jpg?w=130", {"dpr": "1.5"}, "w=250"),  # of what was asked, not of its step
        ("/a.jpg?w=220", {"dpr": "2"}, "w=500"),
        ("/a.jpg?w=900", {"dpr": "2"}, "w=960"),
        ("/a.jpg?w=2000", {}, "w=2000"),  # above the largest, as without hints
        ("/a.jpg?w=2000", {"dpr": "2"}, "w=2000"),
        ("/a.jpg?w=2000", {"width": "700"}, "w=960"),
        ("/a.jpg?w=2000", {"width": "1200"}, "w=960"),
        ("/a.jpg?w=900", {"width": "101"}, "w=250"),
        ("/a.jpg?h=90", {"dpr": "2"}, "h=250"),
        ("/a.jpg?w=200&h=100", {"dpr": "2"}, "w=500,h=250"),
        ("/a.jpg?q=9", {"width": "5000"}, "w=960,q=9"),
    ],
)
def test_hints_keep_to_the_steps(target, fields, expected):
    assert adapted(STEPPED, target, **fields) == expected


@pytest.mark.parametrize("off", [NO_NEGOTIATION, Negotiation(FORMATS)])
def test_what_is_off_is_not_looked_at(off):
    fields = {b"save-data": b"on", b"dpr": b"2", b"width": b"9"}
    assert off.variant_of(fields) == Variant()
    if off is NO_NEGOTIATION:
        assert off.variant_of({b"accept": CHROME}) == Variant()


def test_the_class_of_a_line_is_that_of_its_value_and_few_are_remembered():
    negotiation = Negotiation(FORMATS)
    for line, expected in [
        (b"Accept: " + CHROME, AcceptClass.AVIF),
        (b"accept:image/webp", AcceptClass.WEBP),
        (b"Accept:", AcceptClass.BASE),
        (b"", AcceptClass.BASE),
    ]:
        assert negotiation.class_of_line(line) is expected
        assert negotiation.class_of_line(line) is expected
    for number in range(2 * MAX_LINES):
        negotiation.class_of_line(b"Accept: image/webp;q=0.%d" % number)
        assert len(negotiation._classes) <= MAX_LINES


@pytest.mark.parametrize(
    ("accept", "quick"),
    [
        (CHROME.decode(), AcceptClass.WEBP),
        ("image/avif", AcceptClass.BASE),
        ("image/avif,image/webp;q=0", AcceptClass.BASE),
    ],
)
def test_what_stands_in_for_avif(accept, quick):
    slow = ALL.variant_of({b"accept": accept.encode(), b"dpr": b"2"})
    assert slow.accepts is AcceptClass.AVIF
    assert ALL.quick(slow, accept) == Variant(quick, ratio=200)
    assert ALL.is_slow(Transform(format=Format.AVIF))
    assert not ALL.is_slow(Transform(format=Format.WEBP))
    assert not Negotiation(FORMATS, upgrade=False).is_slow(Transform(format=Format.AVIF))


VALUES = st.sampled_from(
    ["", "2", "1.5", "3", "80", "640", "on", "x", "99999", "image/avif", "*/*"]
)
TARGETS = st.builds(
    lambda pairs: "/a.jpg?" + "&".join(f"{name}={value}" for name, value in pairs.items()),
    st.fixed_dictionaries(
        {"w": st.integers(1, MAX_SIDE)},
        optional={
            "h": st.integers(1, MAX_SIDE),
            "fit": st.sampled_from(["crop", "fill", "scale"]),
            "up": st.just(1),
            "q": st.integers(1, 100),
            "rot": st.just(90),
        },
    ),
)


@given(
    TARGETS,
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["accept", "save_data", "dpr", "width"], VALUES)
    ),
    st.sampled_from([ALL, STEPPED]),
)
def test_every_variant_is_legal_and_no_larger_than_allowed(target, fields, negotiation):
    asked = derivative(target).transform
    found = parse(adapted(negotiation, target, **fields))
    assert found.width is not None
    assert asked.width is not None
    if negotiation.widths:
        assert found.width in STEPS or found.width == asked.width > STEPS[-1]
    else:
        assert found.width <= 3 * asked.width


def test_a_variant_is_never_worse_off_than_the_url():
    """A hint that has no meaning for a transform changes nothing; it raises nothing either."""
    for target in ("/a.jpg?rect=1,2,3,4", "/a.jpg?w=9&h=8&fit=crop&crop=top", "/a.jpg?flip=h"):
        try:
            assert adapted(ALL, target, dpr="3", width="80", save_data="on", accept="image/avif")
        except BadTransform as error:
            pytest.fail(str(error))
