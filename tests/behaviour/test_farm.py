"""Two nodes and a Redis: what one of them makes or fetches, the other one is given."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.behaviour.test_origin import SITE, WIDE, size_of
from tests.peers.application import Application, Tap, application, said
from tests.peers.node import Node, Reply, node, quote, until
from tests.peers.redis import RedisServer

KEPT = ('ETag: "one"', "Cache-Control: max-age=60")
WAITING = "halftone_lease_waiting"
HERD = 8


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    with application() as started:
        yield started


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer()) as server:
        yield server.start()


def start(stack: contextlib.ExitStack, folder: Path, app: Application, redis: RedisServer) -> Node:
    folder.mkdir()
    patient = app.configuration.replace('"1s"', '"20s"')
    configuration = f"[cache]\nindex = {quote(redis.url)}\n{patient}{SITE}"
    return stack.enter_context(node(folder, configuration))


@pytest.fixture(scope="module")
def farm(tmp_path_factory, app, redis) -> Iterator[tuple[Node, Node]]:
    """For the whole file: every test has names of its own."""
    folder = tmp_path_factory.mktemp("farm")
    with contextlib.ExitStack() as stack:
        one, two = (start(stack, folder / name, app, redis) for name in ("one", "two"))
        yield one, two


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * HERD + 2) as started:
        yield started


def waits(edge: Node, result: str) -> float:
    return edge.metrics()[f'halftone_lease_waits_total{{result="{result}"}}']


def herd(
    threads: ThreadPoolExecutor, app: Application, leader: Node, follower: Node, target: str
) -> "list[Future[Reply]]":
    """Many ask both; the leader is at the origin, which waits for the test."""
    path = target.partition("?")[0]
    waiting = follower.metrics()[WAITING]
    asking = [threads.submit(leader.get, target) for _ in range(HERD)]
    until(lambda: app.visits(path) == 1, "the leader asks the origin")
    asking += [threads.submit(follower.get, target) for _ in range(HERD)]
    until(lambda: follower.metrics()[WAITING] == waiting + 1, "the other one waits")
    return asking


@pytest.mark.parametrize("query", ["", "?w=120"])
def test_a_herd_over_two_nodes_is_one_fetch_and_one_render(app, farm, threads, query):
    one, two = farm
    path = f"/herd{len(query)}.jpg"
    tap = app.answers[path] = Tap(*KEPT, length=len(WIDE))
    renders = one.renders() + two.renders()
    parcels = waits(two, "parcels")
    asking = herd(threads, app, one, two, path + query)
    tap.send(WIDE)
    tap.end()
    replies = [one.result(20) for one in asking]
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert len({reply.headers["etag"] for reply in replies}) == 1
    if query:
        assert size_of(replies[0]) == (120, 60)
    else:
        assert replies[0].body == WIDE
    assert app.visits(path) == 1
    assert one.renders() + two.renders() == renders + bool(query)
    assert waits(two, "parcels") > parcels
    # It is the other one's own from now on.
    app.answers[path] = said("500 Gone", b"", "text/plain")
    assert two.get(path + query).body == replies[0].body


def test_what_may_not_be_kept_is_handed_to_nobody(app, farm, threads):
    one, two = farm
    first, second = Tap("Cache-Control: no-store", length=5), said(body=b"other")
    app.answers["/secret.jpg"] = first
    leading = threads.submit(one.get, "/secret.jpg")
    until(lambda: app.visits("/secret.jpg") == 1, "the leader asks the origin")
    app.answers["/secret.jpg"] = second
    following = threads.submit(two.get, "/secret.jpg")
    first.send(b"first")
    first.end()
    assert leading.result(20).body == b"first"
    assert following.result(20).body == b"other"
    assert app.visits("/secret.jpg") == 2


def test_a_large_original_keeps_nobody_waiting(app, farm, threads):
    one, two = farm
    size = 400_000
    taps = [Tap(*KEPT, length=size) for _ in range(2)]
    app.answers["/large.jpg"] = taps[0]
    leading = threads.submit(one.get, "/large.jpg")
    until(lambda: one.metrics()["halftone_arrivals_under_way"] == 1, "it is on its way")
    app.answers["/large.jpg"] = taps[1]
    following = threads.submit(two.get, "/large.jpg")
    # Though the first one's is not at its end.
    until(lambda: two.metrics()["halftone_arrivals_under_way"] == 1, "the other one's, too")
    for tap in taps:
        tap.send(b"x" * size)
        tap.end()
    assert leading.result(20).body == following.result(20).body == b"x" * size


def test_leaders_that_are_killed_or_take_too_long(tmp_path, app, redis, farm, threads):
    """Both at the same time, since one waits for seconds."""
    one, two = farm
    slow = app.answers["/slow.jpg"] = Tap(*KEPT, length=len(WIDE))
    asking = herd(threads, app, one, two, "/slow.jpg")
    with contextlib.ExitStack() as stack:
        victim = start(stack, tmp_path / "victim", app, redis)
        orphan = app.answers["/orphan.jpg"] = Tap(*KEPT, length=len(WIDE))
        leading = threads.submit(victim.get, "/orphan.jpg")
        until(lambda: app.visits("/orphan.jpg") == 1, "the leader asks the origin")
        following = threads.submit(two.get, "/orphan.jpg")
        until(lambda: two.metrics()[WAITING] == 2, "the other one waits")
        app.answers["/orphan.jpg"] = said(body=WIDE, fields=KEPT)
        before = waits(two, "replaced")
        victim.kill()
        assert following.result(20).body == WIDE
        assert app.visits("/orphan.jpg") == 2
        assert waits(two, "replaced") == before + 1
        with pytest.raises(OSError, match=r"."):
            leading.result(20)
        orphan.end()
    for reply in [future.result(20) for future in asking[HERD:]]:
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert "detail=led-elsewhere" in reply.cache_status
        assert reply.headers["cache-control"] == "no-store"
    assert app.visits("/slow.jpg") == 1
    slow.send(WIDE)
    slow.end()
    assert {future.result(20).body for future in asking[:HERD]} == {WIDE}
    assert waits(two, "gave_up") >= 1


def test_a_redis_that_dies_holds_nobody_up(tmp_path, app, threads):
    with contextlib.closing(RedisServer()) as redis, contextlib.ExitStack() as stack:
        redis.start()
        one, two = (start(stack, tmp_path / name, app, redis) for name in ("one", "two"))
        tap = app.answers["/dark.jpg"] = Tap(*KEPT, length=len(WIDE))
        asking = herd(threads, app, one, two, "/dark.jpg")
        app.answers["/dark.jpg"] = said(body=WIDE, fields=KEPT)
        redis.stop()
        assert {future.result(20).body for future in asking[HERD:]} == {WIDE}
        tap.send(WIDE)
        tap.end()
        assert {future.result(20).body for future in asking[:HERD]} == {WIDE}
        assert app.visits("/dark.jpg") == 2
