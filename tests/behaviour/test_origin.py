"""Originals that only an application has: what is kept, what is passed on, what is asked again."""

import contextlib
import io

import pytest
from PIL import Image

from tests.behaviour.conftest import draw
from tests.peers.application import Application, application, picture, said
from tests.peers.node import Node, Reply, node, quote, until
from tests.peers.phpfpm import php_fpm
from tests.peers.redis import RedisServer

SITE = '[[site]]\norigin = "app"\n'


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    draw(width, height).save(out, "JPEG", quality=90)
    return out.getvalue()


WIDE, TALL = jpeg(800, 400), jpeg(400, 800)


def size_of(reply: Reply) -> tuple[int, int]:
    assert reply.status == 200, (reply.status, reply.body[:200], reply.cache_status)
    with Image.open(io.BytesIO(reply.body)) as image:
        image.load()
        return image.size


@pytest.fixture(scope="module")
def the_application():
    with application() as started:
        yield started


@pytest.fixture
def app(the_application):
    the_application.answers.clear()
    the_application.seen.clear()
    return the_application


@pytest.fixture(scope="module")
def edge(tmp_path_factory, the_application):
    """One node for the whole file: every test has names of its own."""
    forgetful = '[cache.failures]\nnot_found = "0s"\n'
    configuration = the_application.configuration + SITE + forgetful
    with node(tmp_path_factory.mktemp("edge"), configuration) as started:
        yield started


def test_php_fpm_is_asked_once_for_each_original(tmp_path, originals):
    with php_fpm(originals) as php:
        configuration = (
            f'[[origin]]\nname = "app"\nhosts = [{quote(php.address)}]\n'
            f"script_filename = {quote(php.script.filename)}\n{SITE}"
        )
        with node(tmp_path, configuration) as edge:
            head = edge.get("/photo.jpg", "HEAD")
            first = edge.get("/photo.jpg")
            assert (head.status, head.body, first.status) == (200, b"", 200)
            assert first.body == (originals / "photo.jpg").read_bytes()
            assert head.headers["content-length"] == str(len(first.body))
            assert "fwd=uri-miss; fwd-status=200; stored" in head.cache_status
            assert first.is_hit
            assert first.headers["via"] == "1.1 edge1"
            assert first.headers["cache-control"] == "public, max-age=3600"
            assert int(first.headers["age"]) < 10
            assert size_of(edge.get("/photo.jpg?w=220")) == (220, 124)
            assert size_of(edge.get("/vi/photo/hqdefault.jpg")) == (480, 360)
            assert size_of(edge.get("/thumb/tall.jpg/90px-tall.jpg")) == (90, 160)
            assert php.requests == 2
            assert edge.get("/missing.jpg").status == 404
            assert edge.get("/missing.jpg?w=100").status == 404
            assert edge.get("/notes.jpg?w=100").status == 415
            assert edge.get("/half.jpg?w=100").status == 422
            assert edge.get("/vi/missing/hqdefault.jpg").status == 404


REFUSING = [
    # answer, status of the original, of a thumbnail
    (said("404 Not Found", b"no\n", "text/plain"), 404, 404),
    (said("410 Gone", b"no\n", "text/plain"), 410, 410),
    (said("403 Forbidden", b"no\n", "text/plain"), 403, 403),
    (said("401 Unauthorized", b"?", "text/plain", ["WWW-Authenticate: Basic"]), 401, 403),
    (said("302 Found", None, fields=["Location: /elsewhere.jpg"]), 302, 403),
    (said("204 No Content", None), 204, 403),
    (said("500 Oops", b"<b>Fatal error</b>", "text/html"), 502, 502),
    (said("503 Later", b"later", "text/plain"), 503, 503),
    (said("429 Slowly", b"slowly", "text/plain"), 503, 503),
    # Answers to fields that were never sent.
    (said("304 Not Modified", None), 502, 502),
    (said("206 Partial Content", b"x", fields=["Content-Range: bytes 0-0/9"]), 502, 502),
]


def test_refusals_go_through_and_are_not_kept(app, edge):
    for number, (answer, of_original, of_thumbnail) in enumerate(REFUSING):
        target = f"/refused{number}.jpg"
        app.answers[target] = answer
        reply = edge.get(target)
        assert (reply.status, reply.is_hit) == (of_original, False), answer
        assert edge.get(f"{target}?w=100").status == of_thumbnail, answer
        assert edge.get(target, "HEAD").status == of_original
        assert app.visits(target) == 3
        if of_original == 204:
            assert "content-length" not in reply.headers
        if of_original == 302:
            assert reply.headers["location"] == "/elsewhere.jpg"
        # A picture in its place is found at once.
        app.answers[target] = said(body=WIDE)
        assert size_of(edge.get(f"{target}?w=100")) == (100, 50)


def test_what_may_not_be_kept_is_passed_and_still_rendered(app, edge):
    for number, fields in enumerate(
        (
            ["Cache-Control: no-store"],
            ["Cache-Control: private, max-age=60"],
            ["Set-Cookie: a=b", "Cache-Control: max-age=60"],
            ["Vary: *", "Cache-Control: max-age=60"],
        )
    ):
        target = f"/passed{number}.jpg"
        app.answers[target] = said(
            body=WIDE,
            fields=[*fields, "Server: php", "Accept-Ranges: bytes", "Connection: x", "X: hop"],
        )
        for visit in (1, 3):
            original = edge.get(target)
            assert original.body == WIDE
            assert not original.is_hit
            assert original.headers["server"] == "halftone"
            assert "accept-ranges" not in original.headers
            for field in fields:
                name, _, value = field.partition(": ")
                assert original.headers[name.lower()] == value
            assert "x" not in original.headers  # named by Connection
            thumbnail = edge.get(f"{target}?w=100")
            assert size_of(thumbnail) == (100, 50)
            assert thumbnail.headers["cache-control"] == "no-store"
            assert app.visits(target) == visit + 1
        head = edge.get(target, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(WIDE))


def test_a_query_belongs_to_the_question(app, edge):
    app.answers["/view?id=1"] = said(body=WIDE, fields=["Cache-Control: max-age=60"])
    app.answers["/view?id=2"] = said(body=TALL, fields=["Cache-Control: max-age=60"])
    for _ in range(2):
        assert edge.get("/view?id=1").body == WIDE
        assert edge.get("/view?id=2").body == TALL
        assert edge.get("/view").status == 404
    assert (app.visits("/view?id=1"), app.visits("/view?id=2")) == (1, 1)


def test_the_docroot_comes_first_also_when_a_file_appears_later(tmp_path, app, originals):
    app.answers["/photo.jpg"] = app.answers["/new.jpg"] = picture(TALL, '"app"', "max-age=3600")
    configuration = f"{app.configuration}{SITE}root = {quote(originals)}\n"
    with node(tmp_path, configuration) as edge:
        assert size_of(edge.get("/photo.jpg?w=100")) == (100, 56)
        assert app.visits("/photo.jpg") == 0
        assert size_of(edge.get("/new.jpg?w=100")) == (100, 200)
        (originals / "new.jpg").write_bytes(WIDE)
        until(lambda: edge.get("/new.jpg").body == WIDE, "the file comes first")
        assert size_of(edge.get("/new.jpg?w=100")) == (100, 50)
        (originals / "new.jpg").unlink()
        until(lambda: edge.get("/new.jpg").body == TALL, "the origin's is there still")
        # A derivative may be what it was for the rest of the second.
        until(lambda: size_of(edge.get("/new.jpg?w=100")) == (100, 200), "and its derivative")
        assert app.visits("/new.jpg") == 1


TRUNCATED = [{"cut_at": 5000}, {"reset_at": 5000}, {"cut_at": 40}, {"stall_at": 5000}]


def test_a_truncated_answer_is_never_kept(app, edge):
    for number, spoilt in enumerate(TRUNCATED):
        target = f"/truncated{number}.jpg"
        app.answers[target] = said(body=WIDE, fields=["Cache-Control: max-age=60"], **spoilt)
        assert edge.get(target).status in (502, 504)
        assert edge.get(f"{target}?w=100").status in (502, 504)
        app.answers[target] = said(body=WIDE, fields=["Cache-Control: max-age=60"])
        assert edge.get(target).body == WIDE
        assert edge.get(target).is_hit


def test_an_odd_exchange_is_served_and_not_kept(app, edge):
    app.answers["/odd.jpg"] = said(body=WIDE, fields=["Cache-Control: max-age=60"], app_status=255)
    for _ in range(2):
        reply = edge.get("/odd.jpg")
        assert (reply.body, reply.is_hit) == (WIDE, False)
    assert app.visits("/odd.jpg") == 2


@pytest.mark.parametrize(
    "fields",
    [
        ['ETag: W/"same"', "Cache-Control: no-cache"],
        ["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Cache-Control: no-cache"],
        ["ETag: unquoted", "Cache-Control: no-cache"],
        ["Cache-Control: no-cache"],
    ],
)
def test_two_versions_under_one_weak_validator_are_told_apart(app, edge, fields):
    app.answers["/weak.jpg"] = said(body=WIDE, fields=fields)
    first = edge.get("/weak.jpg?w=100")
    assert size_of(first) == (100, 50)
    whole = edge.get("/weak.jpg")
    app.answers["/weak.jpg"] = said(body=TALL, fields=fields)
    second = edge.get("/weak.jpg?w=100")
    assert size_of(second) == (100, 200)
    assert first.headers["etag"] != second.headers["etag"]
    for reply in (whole, edge.get("/weak.jpg")):
        assert reply.headers["etag"].startswith('"')
    assert whole.headers["etag"] != edge.get("/weak.jpg").headers["etag"]


def test_an_origin_that_confirms_is_not_asked_for_the_bytes_again(app, edge):
    app.answers["/confirmed.jpg"] = picture(WIDE, '"one"', "no-cache")
    first = edge.get("/confirmed.jpg")
    assert first.headers["etag"] == '"one"'
    assert first.headers["cache-control"] == "public, max-age=0, must-revalidate"
    again = edge.get("/confirmed.jpg")
    assert "fwd=stale; fwd-status=304" in again.cache_status
    assert again.body == WIDE
    assert edge.get("/confirmed.jpg", headers={"If-None-Match": '"one"'}).status == 304
    assert [seen.params.get("HTTP_IF_NONE_MATCH") for seen in app.seen] == [
        None,
        b'"one"',
        b'"one"',
    ]


def test_answers_to_one_clients_fields_are_kept_by_nobody(app, edge):
    app.answers["/fields.jpg"] = picture(WIDE, '"one"', "max-age=60")
    for fields, status in (({"If-Match": '"two"'}, 412), ({"Range": "bytes=999999-"}, 416)):
        reply = edge.get("/fields.jpg", headers=fields)
        assert reply.status == status
        assert reply.headers["cache-control"] == "no-store"


def test_codings_and_documents(app, edge):
    coded = ["Cache-Control: max-age=60", "Content-Encoding: gzip", "Vary: Accept-Encoding"]
    app.answers["/coded.jpg"] = said(body=b"\x1f\x8b not really", fields=coded)
    svg = said(body=b"<svg/>", kind="image/svg+xml", fields=["Cache-Control: max-age=60"])
    app.answers["/a.svg"] = svg
    for _ in range(2):
        reply = edge.get("/coded.jpg")
        assert reply.headers["content-encoding"] == "gzip"
        drawing = edge.get("/a.svg")
        assert drawing.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert reply.is_hit
    assert drawing.is_hit
    assert {seen.params["HTTP_ACCEPT_ENCODING"] for seen in app.seen} == {b"identity"}
    assert edge.get("/coded.jpg?w=100").status == 415


def test_a_youtube_name_finds_another_ending_when_the_first_is_gone(app, edge):
    app.answers["/film.jpg"] = picture(WIDE, '"one"', "no-cache")
    assert edge.get("/vi/film/hqdefault.jpg").status == 200
    del app.answers["/film.jpg"]
    app.answers["/film.png"] = picture(TALL, '"two"', "no-cache")
    assert edge.get("/vi/film/hqdefault.jpg").status == 200


def test_nodes_of_a_farm_never_mix_versions(tmp_path, app: Application):
    """Redis tells one node of a version that only the other one has fetched."""
    with contextlib.closing(RedisServer().start()) as server, contextlib.ExitStack() as stack:
        nodes: list[Node] = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            configuration = f"[cache]\nindex = {quote(server.url)}\n{app.configuration}{SITE}"
            nodes.append(stack.enter_context(node(tmp_path / name, configuration)))
        one, two = nodes
        app.answers["/a.jpg"] = picture(WIDE, '"wide"', "max-age=1")
        assert one.get("/a.jpg").body == WIDE
        assert size_of(one.get("/a.jpg?w=100")) == (100, 50)
        app.answers["/a.jpg"] = picture(TALL, '"tall"', "max-age=3600")
        until(lambda: two.get("/a.jpg").body == TALL, "the record is over its time")

        def moved_on() -> bool:
            reply = one.get("/a.jpg")
            assert (reply.headers["etag"], reply.body) in (('"wide"', WIDE), ('"tall"', TALL))
            return reply.body == TALL

        until(moved_on, "the other node has the new version")
        assert size_of(one.get("/a.jpg?w=100")) == (100, 200)
        assert app.visits("/a.jpg") <= 5


def test_concurrent_requests_for_one_original_make_one_visit(app, edge):
    from concurrent.futures import ThreadPoolExecutor

    rendered = edge.renders()
    app.answers["/herd.jpg"] = picture(WIDE, '"one"', "max-age=60")
    targets = ["/herd.jpg", "/herd.jpg?w=100", "/herd.jpg?w=200", "/vi/herd/hqdefault.jpg"] * 8
    with ThreadPoolExecutor(len(targets)) as threads:
        replies = list(threads.map(edge.get, targets))
    assert {reply.status for reply in replies} == {200}
    assert app.visits("/herd.jpg") == 1
    assert edge.renders() == rendered + 3
