"""A node that negotiates: which variant each client gets, and what caches are told of it."""

import contextlib
import http.client
import io
import itertools
import os
import signal
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.behaviour.conftest import draw
from tests.peers.application import application, said
from tests.peers.node import Node, Reply, node, quote, until

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI_14 = "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
OLD = "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
BROWSERS = {CHROME: "image/avif", SAFARI_14: "image/webp", OLD: "image/jpeg"}
THUMB = "/photo.jpg?w=120"
FORMATS = 'formats = ["avif", "webp"]\n'
AT_ONCE = FORMATS + "upgrade = false\n"
ALL_HINTS = "Sec-CH-DPR, DPR, Sec-CH-Width, Width"


@pytest.fixture
def edge(tmp_path, originals):
    """Starts a node with these settings below [site.negotiate], and more of its site."""
    with contextlib.ExitStack() as stack:

        def start(negotiate: str, more: str = "") -> Node:
            text = f"[[site]]\nroot = {quote(originals)}\n{more}[site.negotiate]\n{negotiate}"
            return stack.enter_context(node(tmp_path, text))

        yield start


def png() -> bytes:
    out = io.BytesIO()
    draw(300, 200).save(out, "PNG")
    return out.getvalue()


def width_of(reply: Reply) -> int:
    with Image.open(io.BytesIO(reply.body)) as image:
        return image.width


def accepting(accept: str, **fields: str) -> dict[str, str]:
    return {"Accept": accept} | {name.replace("_", "-"): value for name, value in fields.items()}


def test_each_class_has_its_own_picture_and_tag(edge):
    started = edge(AT_ONCE)
    tags = {}
    for accept, media_type in BROWSERS.items():
        reply = started.get(THUMB, headers=accepting(accept))
        assert (reply.status, reply.headers["content-type"]) == (200, media_type)
        assert reply.headers["vary"] == "Accept"
        assert "accept-ch" not in reply.headers
        assert reply.headers["cache-control"] == "public, max-age=3600"
        tags[accept] = reply.headers["etag"]
        again = started.get(THUMB, headers=accepting(accept))
        assert again.is_hit
        assert (again.body, again.headers["vary"]) == (reply.body, "Accept")
    assert len(set(tags.values())) == 3
    assert started.renders() == 3
    for accept, tag in itertools.product(BROWSERS, tags.values()):
        reply = started.get(THUMB, headers=accepting(accept, If_None_Match=tag))
        assert reply.status == (304 if tag == tags[accept] else 200)
        assert (reply.headers["etag"], reply.headers["vary"]) == (tags[accept], "Accept")
    for fields, method, status in [
        ({}, "HEAD", 200),
        ({"Range": "bytes=0-9"}, "GET", 206),
        ({"Range": "bytes=0-9,50-59"}, "GET", 206),
        ({"If-Match": '"other"'}, "GET", 412),
        ({"Range": "bytes=9999999-"}, "GET", 416),
    ]:
        reply = started.get(THUMB, method, accepting(CHROME, **fields))
        assert (reply.status, reply.headers["vary"]) == (status, "Accept")
        assert reply.headers["etag"] == tags[CHROME]


def test_what_is_not_negotiated_says_nothing_of_it_and_shares_the_file(edge):
    started = edge(AT_ONCE)
    negotiated = started.get(THUMB, headers=accepting(SAFARI_14))
    for _ in range(2):  # by turns: they are one entry in memory
        named = started.get(f"{THUMB}&fm=webp", headers=accepting(CHROME))
        assert named.is_hit
        assert (named.body, named.headers["etag"]) == (
            negotiated.body,
            negotiated.headers["etag"],
        )
        assert "vary" not in named.headers
        again = started.get(THUMB, headers=accepting(SAFARI_14))
        assert again.headers["vary"] == "Accept"
    for target, media_type in [
        ("/photo.jpg", "image/jpeg"),
        (f"{THUMB}&fm=jpg", "image/jpeg"),
        ("/vi/photo/default.jpg", "image/jpeg"),
    ]:
        reply = started.get(target, headers=accepting(CHROME))
        assert (reply.status, reply.headers["content-type"]) == (200, media_type)
        assert "vary" not in reply.headers
    thumb = started.get("/thumb/photo.jpg/120px-photo.jpg", headers=accepting(SAFARI_14))
    assert (thumb.headers["content-type"], thumb.headers["vary"]) == ("image/webp", "Accept")
    assert "vary" not in started.get("/missing.jpg?w=9", headers=accepting(CHROME)).headers


def test_a_site_that_switches_nothing_on_looks_at_nothing(edge):
    started = edge("")
    fields = accepting(CHROME, Save_Data="on", DPR="2", Width="40")
    reply = started.get(THUMB, headers=fields)
    assert (reply.headers["content-type"], width_of(reply)) == ("image/jpeg", 120)
    assert not {"vary", "accept-ch"} & reply.headers.keys()
    assert started.get(THUMB).is_hit
    assert started.renders() == 1


@contextlib.contextmanager
def kept_alive(started: Node) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(started.public, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, target: str, fields: dict[str, str]) -> Reply:
    connection.request("GET", target, headers=fields)
    response = connection.getresponse()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, names, response.read())


@pytest.mark.parametrize("behind_squid", [False, True])
def test_ready_answers_are_told_apart(edge, behind_squid):
    """The same lines again and again, so that heads are familiar and answers ready."""
    started = edge(AT_ONCE)
    more = {"User-Agent": "b/1"}
    around = {"Referer": "http://a/b", "Via": "1.1 squid", "X-Forwarded-For": "192.0.2.7"}
    clients: list[tuple[dict[str, str], str]] = [
        *(({"Accept": accept} | more, media_type) for accept, media_type in BROWSERS.items()),
        (more, "image/jpeg"),
    ]
    with kept_alive(started) as connection:
        bodies: dict[str, bytes] = {}
        for turn in range(5):
            for own, media_type in clients:
                reply = ask(connection, THUMB, own | around if behind_squid else own)
                assert reply.headers["content-type"] == media_type
                assert reply.headers["vary"] == "Accept"
                assert reply.is_hit or turn == 0
                assert bodies.setdefault(media_type, reply.body) == reply.body
        # The tag of another class is met by the parser, not by an answer that is ready.
        tag = reply.headers["etag"]
        fields = accepting(CHROME, If_None_Match=tag)
        assert ask(connection, THUMB, fields).headers["content-type"] == "image/avif"
    assert started.renders() == 3


def test_less_data(edge):
    started = edge(AT_ONCE + "save_data = true\n")
    with kept_alive(started) as connection:
        sizes: dict[str, set[int]] = {"on": set(), "off": set()}
        for saves in ("off", "on") * 5:
            fields = {"Accept": OLD, "Save-Data": saves} if saves == "on" else {"Accept": OLD}
            reply = ask(connection, "/photo.jpg?w=400", fields)
            assert reply.headers["vary"] == "Accept, Save-Data"
            sizes[saves].add(len(reply.body))
    assert len(sizes["on"]) == len(sizes["off"]) == 1
    assert sizes["on"].pop() < sizes["off"].pop()
    assert started.renders() == 2


def test_hints(edge):
    started = edge("client_hints = true\n", "steps = [100, 200, 400]\n")
    with kept_alive(started) as connection:
        for fields, width in [
            ({}, 200),
            ({"DPR": "2"}, 400),
            ({}, 200),
            ({"Sec-CH-DPR": "1.5"}, 200),
            ({"Sec-CH-DPR": "3"}, 400),
            ({"Width": "90"}, 100),
            ({"DPR": "3", "Sec-CH-Width": "101"}, 200),
            ({"DPR": "nonsense"}, 200),
            ({}, 200),
        ]:
            reply = ask(connection, THUMB, {"Accept": CHROME} | fields)
            assert (reply.headers["content-type"], width_of(reply)) == ("image/jpeg", width)
            assert reply.headers["vary"] == reply.headers["accept-ch"] == ALL_HINTS
    assert started.renders() == 3


DONE = 'halftone_upgrades_total{result="done"}'


def test_a_slow_format_is_upgraded_in_idle_time(edge):
    started = edge(FORMATS)
    first = started.get(THUMB, headers=accepting(CHROME))
    assert first.headers["content-type"] == "image/webp"
    assert first.headers["cache-control"] == "public, max-age=60"
    assert first.headers["vary"] == "Accept"
    # For those who get no better one, it is the picture.
    usual = started.get(THUMB, headers=accepting(SAFARI_14))
    assert usual.headers["cache-control"] == "public, max-age=3600"
    assert (usual.is_hit, usual.headers["etag"]) == (True, first.headers["etag"])
    until(lambda: started.metrics()[DONE] == 1, "the AVIF is kept")
    with kept_alive(started) as connection:
        for _ in range(5):
            then = ask(connection, THUMB, accepting(CHROME))
            assert (then.is_hit, then.headers["content-type"]) == (True, "image/avif")
            assert then.headers["cache-control"] == "public, max-age=3600"
            assert then.headers["etag"] != first.headers["etag"]
            quick = ask(connection, THUMB, accepting(SAFARI_14))
            assert (quick.is_hit, quick.headers["content-type"]) == (True, "image/webp")
    # What a client kept of the quick one is no longer current.
    fields = accepting(CHROME, If_None_Match=first.headers["etag"])
    assert started.get(THUMB, headers=fields).status == 200
    metrics = started.metrics()
    assert metrics["halftone_upgrade_queue_depth"] == 0
    assert metrics[DONE] == 1


def test_while_it_waits_the_quick_one_is_sent_from_memory(edge):
    started = edge(FORMATS)
    assert started.get(THUMB, headers=accepting(SAFARI_14)).status == 200
    resizers = started.resizers()
    for pid in resizers:
        os.kill(pid, signal.SIGSTOP)
    try:
        with kept_alive(started) as connection:
            for _ in range(5):
                reply = ask(connection, THUMB, accepting(CHROME))
                assert (reply.is_hit, reply.headers["content-type"]) == (True, "image/webp")
                assert reply.headers["cache-control"] == "public, max-age=60"
                assert "ttl=60" in reply.cache_status
        metrics = started.metrics()
        assert metrics['halftone_upgrades_total{result="joined"}'] == 0  # nothing was looked up
    finally:
        for pid in resizers:
            os.kill(pid, signal.SIGCONT)
    until(lambda: started.metrics()[DONE] == 1, "the AVIF is kept")
    assert started.get(THUMB, headers=accepting(CHROME)).headers["content-type"] == "image/avif"


def test_without_webp_the_own_format_is_the_quick_one(edge):
    started = edge('formats = ["avif"]\n')
    assert started.get(THUMB, headers=accepting(CHROME)).headers["content-type"] == "image/jpeg"
    until(lambda: started.metrics()[DONE] == 1, "the AVIF is kept")
    assert started.get(THUMB, headers=accepting(CHROME)).headers["content-type"] == "image/avif"


def test_an_upgrade_that_fails_leaves_the_quick_one(edge):
    """AVIF by name is rendered for who asks, at once; a broken source is refused as ever."""
    started = edge(FORMATS)
    assert started.get("/half.jpg?w=120", headers=accepting(CHROME)).status == 422
    named = started.get(f"{THUMB}&fm=avif", headers=accepting(CHROME))
    assert (named.headers["content-type"], named.is_hit) == ("image/avif", False)
    found = started.get(THUMB, headers=accepting(CHROME))
    assert (found.headers["content-type"], found.is_hit) == ("image/avif", True)
    failed = 'halftone_upgrades_total{result="failed"}'
    until(lambda: started.metrics()[failed] == 1, "the upgrade of the broken one has failed")
    assert started.get("/half.jpg?w=120", headers=accepting(CHROME)).status == 422
    assert started.metrics()['halftone_upgrades_total{result="held_down"}'] == 1


@pytest.mark.parametrize(
    ("control", "cache_control"),
    [
        ("max-age=3600", "public, max-age=60"),
        ("max-age=30", "public, max-age=30"),  # no longer than the origin says
        ("max-age=3600, must-revalidate", "public, max-age=60, must-revalidate"),
    ],
)
def test_a_quick_answer_of_an_origins_picture_is_short_lived(tmp_path, control, cache_control):
    with application() as app:
        app.answers["/a.png"] = said(
            body=png(), kind="image/png", fields=[f"Cache-Control: {control}"]
        )
        text = f'{app.configuration}[[site]]\norigin = "app"\n[site.negotiate]\n{FORMATS}'
        with node(tmp_path, text) as started:
            first = started.get("/a.png?w=90", headers=accepting(CHROME))
            assert first.headers["content-type"] == "image/webp"
            age = int(first.headers["age"])
            assert first.headers["cache-control"] == cache_control.replace("=60", f"={60 + age}")
            until(lambda: started.metrics()[DONE] == 1, "the AVIF is kept")
            then = started.get("/a.png?w=90", headers=accepting(CHROME))
            assert (then.is_hit, then.headers["content-type"]) == (True, "image/avif")
            assert app.visits("/a.png") == 1


def test_what_may_not_be_kept_is_sent_in_the_quick_format(tmp_path):
    with application() as app:
        app.answers["/a.png"] = said(
            body=png(), kind="image/png", fields=["Cache-Control: no-store"]
        )
        text = f'{app.configuration}[[site]]\norigin = "app"\n[site.negotiate]\n{FORMATS}'
        with node(tmp_path, text) as started:
            for accept, media_type in [(CHROME, "webp"), (SAFARI_14, "webp"), (OLD, "png")]:
                reply = started.get("/a.png?w=90", headers=accepting(accept))
                assert reply.headers["content-type"] == f"image/{media_type}"
                assert reply.headers["cache-control"] == "no-store"
                assert reply.headers["vary"] == "Accept"
            results = [v for n, v in started.metrics().items() if n.startswith("halftone_upgrades")]
            assert sum(results) == 0
