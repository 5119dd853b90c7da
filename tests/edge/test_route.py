"""What targets mean, remembered: routes, forks and their bound."""

import dataclasses

import pytest

from edge.errors import UnknownMark, WidthNotAllowed
from edge.http.messages import Request
from edge.policy.looks import Looks
from edge.policy.negotiation import Negotiation
from edge.policy.steps import OffStep, Steps
from edge.route import Fork, Routes, _size_of
from edge.site import Site, Sites
from edge.urls.grammars import GRAMMARS, make_grammars
from resizer.formats import Format
from resizer.qualities import Qualities

CHROME = b"image/avif,image/webp,*/*"
CLIENTS = {CHROME: "w=250,f=avif", b"image/webp": "w=250,f=webp", b"*/*": "w=250"}
WIDTHS = (100, 250, 500)
SITE = Site(
    name="*",
    hosts=(),
    docroot=None,
    origin=None,
    grammars=make_grammars(list(GRAMMARS)),
    extensions=("jpg",),
    prefix="",
    steps=Steps(WIDTHS),
    max_age_s=60,
    cache_control="",
    max_source_bytes=1,
    negotiation=Negotiation(
        frozenset({Format.AVIF, Format.WEBP}), client_hints=True, widths=WIDTHS
    ),
)


def routes(off_step: OffStep = OffStep.ROUND) -> Routes:
    return Routes(Sites({}, dataclasses.replace(SITE, steps=Steps(WIDTHS, off_step))))


def request(target: str, **fields: bytes) -> Request:
    sent = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return Request(b"GET", target.encode(), 1, sent, b"a", True)


def test_each_variant_is_found_and_then_known():
    table = routes()
    for accept, variant in CLIENTS.items():
        asked = request("/a.jpg?w=220", accept=accept)
        found = table.find(asked)
        assert found.found.transform.canonical() == variant
        assert found.vary == SITE.negotiation.answer_lines
        assert table.known(asked) is table.find(asked) is found
    slow = table.find(request("/a.jpg?w=220", accept=CHROME))
    assert slow.is_slow
    quick = table.quick(request("/a.jpg?w=220", accept=CHROME), slow)
    assert quick is table.find(request("/a.jpg?w=220", accept=b"image/webp"))
    assert not quick.is_slow


@pytest.mark.parametrize("target", ["/a.jpg", "/a.jpg?w=220&fm=webp", "/vi/a/default.jpg"])
def test_what_is_not_negotiated_is_one_route(target):
    table = routes()
    found = {id(table.find(request(target, accept=accept, dpr=b"2"))) for accept in CLIENTS}
    assert len(found) == 1
    (route,) = table._routes.values()
    assert not isinstance(route, Fork)
    assert (route.vary, route.variant, route.is_slow) == ("", None, False)


def test_routes_and_variants_are_bounded_together(monkeypatch):
    monkeypatch.setattr("edge.route.MAX_ROUTES", 4)
    table = routes()
    for number in range(40):
        for accept, ending in CLIENTS.items():
            asked = request(f"/{number}.jpg?w=220", accept=accept)
            assert table.find(asked).found.transform.canonical() == ending
            assert len(table._routes) <= 4
    # One whose variants were forgotten, or whose fork was.
    slow = table.find(request("/0.jpg?w=220", accept=CHROME))
    table._routes.clear()
    assert not table.quick(request("/0.jpg?w=220", accept=CHROME), slow).is_slow


def test_routes_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr("edge.route.MAX_BYTES", 4000)
    table = routes()
    for letters in ("a" * 150, "%F0%9F%98%80" + "a" * 130, "a"):  # the second is four times as wide
        for number in range(40):
            table.find(request(f"/{letters}{number:02}.jpg"))
            assert table._bytes <= 4000
            held = sum(_size_of(memo, route) for memo, route in table._routes.items())
            assert table._bytes == held
        assert len(table._routes) == {"a" * 150: 7, "a": 32}.get(letters, 2)


def test_a_long_target_is_not_remembered():
    table = routes()
    for accept, ending in CLIENTS.items():
        asked = request(f"/{'a' * 200}/{'a' * 99}.jpg?w=220", accept=accept)
        found = table.find(asked)
        assert found.found.transform.canonical() == ending
        if found.is_slow:
            assert not table.quick(asked, found).is_slow
    assert not table._routes


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/a.jpg?w=220", set()),
        ("/a.jpg?w=220&fm=webp", {"fm=webp"}),
        # What was named must stay so, or the picture would be negotiated after all.
        ("/a.jpg?w=220&fm=jpg", {"fm=jpg"}),
        ("/a.jpg?w=110&dpr=2", {"dpr=1"}),
    ],
)
def test_a_redirect_is_for_everybody_and_keeps_what_was_named(target, kept):
    table = routes(OffStep.REDIRECT)
    (location,) = {table.find(request(target, accept=accept)).redirect for accept in CLIENTS}
    pairs = set(location.partition("?")[2].split("&"))
    assert {"w=250"} | kept <= pairs
    assert {pair for pair in pairs if pair[:2] in ("fm", "dp")} == kept
    there = table.find(request(location, accept=CHROME, dpr=b"3"))
    assert there.redirect == ""
    assert (there.variant is None) is any(pair.startswith("fm=") for pair in kept)
    assert there.found.transform.width == (250 if kept else 500)


def test_hints_are_neither_redirected_nor_refused():
    for off_step in (OffStep.REDIRECT, OffStep.REJECT):
        table = routes(off_step)
        hinted = table.find(request("/a.jpg?w=250", dpr=b"1.5", width=b"310"))
        assert (hinted.redirect, hinted.found.transform.width) == ("", 500)
    with pytest.raises(WidthNotAllowed):
        table.find(request("/a.jpg?w=220", dpr=b"2"))


LOOKS = Looks(
    sharpen=True,
    progressive=True,
    qualities=Qualities(((Format.AVIF, 44), (Format.JPEG, 30), (Format.WEBP, 55))),
    marks=(("logo", "/logo.png"),),
)


@pytest.mark.parametrize(
    ("target", "fields", "variant"),
    [
        ("/a.jpg?w=220", {"accept": CHROME}, "w=250,f=avif,q=44,crisp=1"),
        ("/a.jpg?w=220", {"accept": b"image/webp"}, "w=250,f=webp,q=55,crisp=1"),
        ("/a.jpg?w=220", {}, "w=250,qf=avif:44:jpeg:30:webp:55,crisp=1,pr=1"),
        # the URL's quality stands, its sharpening takes the place of the site's
        ("/a.jpg?w=220&q=70", {"accept": CHROME}, "w=250,f=avif,q=70,crisp=1"),
        ("/a.jpg?w=220&sharp=20", {"accept": CHROME}, "w=250,f=avif,q=44,sh=20"),
        # less where data are to be saved, and never more
        ("/a.jpg?w=220", {"accept": CHROME, "save_data": b"on"}, "w=250,f=avif,q=40,crisp=1"),
        ("/a.jpg?w=220", {"save_data": b"on"}, "w=250,q=30,crisp=1,pr=1"),
        ("/a?w=220", {"save_data": b"on"}, "w=250,qf=avif:40:jpeg:30:webp:50,crisp=1,pr=1"),
        ("/a.jpg?w=220", {"save_data": b"on", "width": b"90"}, "w=100,q=30,crisp=1,pr=1"),
        # a hint reduces what the URL does not
        ("/a.jpg?q=70", {"width": b"200"}, "w=250,q=70,crisp=1,pr=1"),
    ],
)
def test_variants_have_the_looks_of_their_site(target, fields, variant):
    negotiation = dataclasses.replace(SITE.negotiation, save_data=True)
    table = Routes(Sites({}, dataclasses.replace(SITE, looks=LOOKS, negotiation=negotiation)))
    assert table.find(request(target, **fields)).found.transform.canonical() == variant


def test_variants_have_the_mark_of_their_target():
    table = Routes(Sites({}, dataclasses.replace(SITE, looks=LOOKS)))
    for accept in CLIENTS:
        asked = request("/a.jpg?w=220&mark=logo", accept=accept)
        assert table.find(asked).mark_path == "/logo.png"
    slow = table.find(request("/a.jpg?w=220&mark=logo", accept=CHROME))
    assert slow.is_slow
    assert table.quick(request("/a.jpg?w=220&mark=logo", accept=CHROME), slow).mark_path
    with pytest.raises(UnknownMark):
        table.find(request("/a.jpg?w=220&mark=other", accept=CHROME))
