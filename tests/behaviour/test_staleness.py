"""What a whole node serves after its lifetime, and which failures it does not try again."""

import contextlib
import re
import threading
from collections.abc import Callable

import pytest

from tests.behaviour.test_origin import SITE, TALL, WIDE, size_of
from tests.peers.application import Application, application, picture, said
from tests.peers.fastcgi import Behaviour, Seen
from tests.peers.node import Node, Reply, node, quote, until
from tests.peers.redis import RedisServer

STALE = re.compile(r"; hit; ttl=(0|-\d+); detail=stale-while-revalidate$")
PATIENT = 'timeout = "20s"\n'


@pytest.fixture
def app():
    with application() as started:
        yield started


def patient(app: Application) -> str:
    return app.configuration.replace('timeout = "1s"\n', PATIENT) + SITE


def hanging(gate: threading.Event, answer: Behaviour) -> Callable[[Seen], Behaviour]:
    def wait(_: Seen) -> Behaviour:
        gate.wait(20)
        return answer

    return wait


def stale_answers(edge: Node, reason: str) -> float:
    return edge.metrics()[f'halftone_stale_answers_total{{reason="{reason}"}}']


def test_nobody_waits_for_an_origin_that_hangs(tmp_path, app):
    app.answers["/a.jpg"] = picture(WIDE, '"a"', "max-age=1, stale-while-revalidate=3600")
    with node(tmp_path, patient(app)) as edge:
        assert edge.get("/a.jpg").body == WIDE
        assert size_of(edge.get("/a.jpg?w=100")) == (100, 50)
        gate = threading.Event()
        fields = ['ETag: "b"', "Cache-Control: max-age=3600"]
        app.answers["/a.jpg"] = hanging(gate, said(body=TALL, fields=fields))
        for target in ("/a.jpg", "/a.jpg?w=100"):
            until(lambda target=target: bool(STALE.search(edge.get(target).cache_status)), "stale")
        before = stale_answers(edge, "stale-while-revalidate")
        replies: list[Reply] = []
        for _ in range(10):
            replies += [edge.get("/a.jpg"), edge.get("/a.jpg?w=100")]
        assert size_of(edge.get("/a.jpg?w=50")) == (50, 25)  # made of the stale original
        for reply in replies:
            assert STALE.search(reply.cache_status), reply.cache_status
            assert reply.headers["cache-control"] == "max-age=10"
            assert int(reply.headers["age"]) >= 1
        assert replies[0].headers["etag"] == '"a"'
        assert stale_answers(edge, "stale-while-revalidate") >= before + 20
        until(lambda: app.visits("/a.jpg") == 2, "the origin is asked, once")
        assert edge.metrics()["halftone_refreshes_running"] == 1
        gate.set()
        until(lambda: edge.get("/a.jpg").body == TALL, "the new one is there")
        until(lambda: size_of(edge.get("/a.jpg?w=100")) == (100, 200), "and its derivative")
        assert app.visits("/a.jpg") == 2
        assert edge.metrics()['halftone_refreshes_total{event="done"}'] == 1


def test_an_origin_that_dies_meanwhile(tmp_path, app):
    control = "max-age=1, stale-while-revalidate=1, stale-if-error=3600"
    app.answers["/a.jpg"] = picture(WIDE, '"a"', control)
    with node(tmp_path, app.configuration + SITE) as edge:
        assert edge.get("/a.jpg").body == WIDE
        app.stop()
        until(lambda: "stale-if-error" in edge.get("/a.jpg").cache_status, "the origin has failed")
        reply = edge.get("/a.jpg")
        assert (reply.status, reply.headers["cache-control"]) == (200, "max-age=10")
        assert stale_answers(edge, "stale-if-error") >= 2


def test_a_drain_does_not_wait_for_what_is_behind_an_answer(tmp_path, app):
    app.answers["/a.jpg"] = picture(WIDE, '"a"', "max-age=1, stale-while-revalidate=3600")
    with node(tmp_path, patient(app)) as edge:
        assert edge.get("/a.jpg").body == WIDE
        app.answers["/a.jpg"] = said(body=WIDE, stall_at=0)
        until(lambda: bool(STALE.search(edge.get("/a.jpg").cache_status)), "stale")


def test_what_is_missing_is_asked_for_once(tmp_path, app):
    nothing = said("404 Not Found", b"no\n", "text/plain", ["Cache-Control: max-age=60"])
    app.answers["/long.jpg"] = nothing
    app.answers["/short.jpg"] = said("404 Not Found", b"no\n", "text/plain")
    app.answers["/secret.jpg"] = said(
        "404 Not Found", b"no\n", "text/plain", ["Cache-Control: no-store"]
    )
    configuration = f'{app.configuration}{SITE}[cache.failures]\nnot_found = "1s"\n'
    with node(tmp_path, configuration) as edge:
        first = edge.get("/long.jpg")
        assert (first.status, first.body, first.is_hit) == (404, b"no\n", False)
        for target in ("/long.jpg", "/long.jpg?w=100", "/vi/long/hqdefault.jpg") * 5:
            reply = edge.get(target)
            assert reply.status == 404
            # What the origin said is an answer like any other; an error of ours is not stored.
            own = "max-age=60" if target == "/long.jpg" else "no-store"
            assert reply.headers["cache-control"] == own
        again = edge.get("/long.jpg?w=100")
        assert re.search(r"; hit; ttl=\d+; detail=not-found$", again.cache_status)
        assert b"There is no picture at this address." in again.body
        assert app.visits("/long.jpg") == 1
        numbers = edge.metrics()
        assert numbers['halftone_failure_answers_total{kind="not_found"}'] >= 11
        assert numbers['halftone_failures{kind="not_found"}'] >= 1
        # For its time; and not at all where the origin says so.
        assert edge.get("/short.jpg").status == 404
        until(lambda: edge.get("/short.jpg").is_hit or app.visits("/short.jpg") > 9, "remembered")
        asked = app.visits("/short.jpg")
        app.answers["/short.jpg"] = picture(WIDE, '"s"', "max-age=60")
        until(lambda: edge.get("/short.jpg").body == WIDE, "asked for again")
        assert app.visits("/short.jpg") == asked + 1
        for _ in range(3):
            assert edge.get("/secret.jpg").status == 404
        assert app.visits("/secret.jpg") == 3


def test_a_damaged_picture_is_decoded_once(tmp_path, originals):
    with node(tmp_path, f"[[site]]\nroot = {quote(originals)}\n") as edge:
        for file, status, detail in (("half", 422, "corrupt"), ("notes", 415, "unsupported")):
            target = f"/{file}.jpg?w=100"
            first = edge.get(target)
            assert (first.status, first.is_hit) == (status, False)
            for _ in range(5):
                reply = edge.get(target)
                assert reply.status == status
                assert re.search(rf"; hit; ttl=\d+; detail={detail}$", reply.cache_status)
                assert reply.body.split(b"(")[0] == first.body.split(b"(")[0]
        numbers = edge.metrics()
        assert numbers['halftone_renders_total{result="corrupt"}'] == 1
        assert numbers['halftone_renders_total{result="unsupported"}'] == 1
        assert numbers['halftone_failure_answers_total{kind="corrupt"}'] == 10
        assert numbers["halftone_cache_misses_total"] == 2
        (originals / "half.jpg").write_bytes((originals / "photo.jpg").read_bytes())
        until(lambda: edge.get("/half.jpg?w=100").status == 200, "another version is another one")


def test_nodes_of_a_farm_share_what_failed(tmp_path, originals):
    with contextlib.closing(RedisServer().start()) as server, contextlib.ExitStack() as stack:
        nodes: list[Node] = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            configuration = (
                f"[cache]\nindex = {quote(server.url)}\n[[site]]\nroot = {quote(originals)}\n"
            )
            nodes.append(stack.enter_context(node(tmp_path / name, configuration)))
        one, two = nodes
        assert not one.get("/half.jpg?w=100").is_hit
        known = two.get("/half.jpg?w=100")
        assert (known.status, known.is_hit) == (422, True)
        assert two.metrics()['halftone_renders_total{result="corrupt"}'] == 0
