"""Small files of a docroot, answered where their heads are recognised: at the first asking, the
second, and from then on as ready answers. What is said is what the long way says."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from cache.orders import Act, Scope
from edge.http.messages import Request
from edge.origin import files
from edge.origin.files import Resolver
from tests.behaviour.world import FILE, Farm, FarmNode, farm_of, original

SMALL = "/pets/small.jpg"
Play = Callable[[Farm, FarmNode], Coroutine[None, None, None]]


def head_of(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def play(scene: Play) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with farm_of(Path(folder), None, 1) as (farm, (node,)):
                node.handler.learn(head_of("/"))
                await scene(farm, node)

    asyncio.run(main())


def put(farm: Farm, body: bytes, path: str = SMALL) -> None:
    """As rsync does."""
    aside = farm.docroot / "aside"
    aside.write_bytes(body)
    (farm.docroot / path[1:]).parent.mkdir(exist_ok=True)
    aside.replace(farm.docroot / path[1:])
    # By now its path is in the kernel's cache.
    (farm.docroot / path[1:]).stat()


def find(node: FarmNode, target: str = SMALL) -> object:
    return node.handler.find(head_of(target), node.handler.peer("127.0.0.1"))


def a_second_later(farm: Farm, node: FarmNode) -> None:
    farm.now += 1
    node.tick()


def body_of(found: object) -> bytes:
    """Of a whole answer, whose head is of this body."""
    assert isinstance(found, bytes), found
    head, _, body = found.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    return body


def test_every_asking_says_what_the_long_way_says():
    async def scene(farm: Farm, node: FarmNode) -> None:
        put(farm, b"small")
        found = [find(node) for _ in range(4)]
        assert {body_of(one) for one in found} == {b"small"}
        # HEAD goes the long way.
        request = Request(b"HEAD", SMALL.encode(), 1, {b"host": b"h"}, b"h", True)
        response = node.handler.receive(request, node.handler.peer("127.0.0.1"))
        assert response is not None
        assert set(found) == {response.head + b"\r\nsmall"}
        assert node.handler.requests() == {200: 4}
        assert node.handler.ready.stats.body_bytes == 4 * len(b"small")

    play(scene)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/large.jpg", bytes(64 * 1024 + 1)),
        ("/empty.jpg", b""),
        ("/page.svg", b"<svg/>"),  # has a field of its own
        ("/small.jpg?w=40", b"picture"),
        ("/none.jpg", None),
        ("/pets", None),
        ("/pets/", None),
        ("/%2e%2e/secret.jpg", b"outside"),
        ("/a/../small.jpg", b"other spelling"),
    ],
)
def test_what_is_no_small_file_goes_the_long_way(target, body):
    async def scene(farm: Farm, node: FarmNode) -> None:
        if body is not None and ".." not in target and "%" not in target:
            put(farm, body, target.partition("?")[0])
        for _ in range(3):
            assert not isinstance(find(node, target), bytes)

    play(scene)


def test_a_file_that_is_not_at_hand_is_waited_for_elsewhere(monkeypatch):
    async def scene(farm: Farm, node: FarmNode) -> None:
        put(farm, b"small")
        monkeypatch.setattr(files, "_read_whole", lambda fd, size: None)
        assert isinstance(find(node), Request)
        assert node.handler.ready._count == 0
        assert (await node.get(SMALL, None)).body == b"small"
        monkeypatch.undo()
        put(farm, b"cold", "/cold.jpg")
        monkeypatch.setattr(node.site.docroot, "resolver", Resolver.COMPONENTS)
        assert not isinstance(find(node, "/cold.jpg"), bytes)
        assert (await node.get("/cold.jpg", None)).body == b"cold"

    play(scene)


def test_head_and_body_are_of_one_version():
    async def scene(farm: Farm, node: FarmNode) -> None:
        put(farm, b"1")
        for number in range(1, 6):
            body, changed = b"%d" % number * number, b"%d" % (number + 1) * (number + 1)
            for _ in range(2):
                assert body_of(find(node)) == body
            put(farm, changed)
            # Found out by a request that no ready answer could meet, while one still stands.
            farm.now += 1
            node.tick()
            assert (await node.get(SMALL, None, range="bytes=0-")).body == changed
            found = find(node)
            if isinstance(found, bytes):
                assert body_of(found) in (body, changed)
            a_second_later(farm, node)
            assert (await node.get(SMALL, None)).body == changed

    play(scene)


def test_what_is_asked_for_again_is_looked_at_and_not_read(monkeypatch):
    reads = []
    read = files._read_whole
    monkeypatch.setattr(
        files,
        "_read_whole",
        lambda fd, size: (reads.append(size), read(fd, size))[1],
    )

    async def scene(farm: Farm, node: FarmNode) -> None:
        put(farm, b"small")
        for _ in range(3):
            assert body_of(find(node)) == b"small"
        assert len(reads) == 3
        dates = set()
        for _ in range(5):
            a_second_later(farm, node)
            for _ in range(2):
                found = find(node)
                assert body_of(found) == b"small"
                assert isinstance(found, bytes)
                dates.add(found.split(b"\r\n")[1])
        assert len(reads) == 3
        assert len(dates) == 5
        put(farm, b"changed")
        a_second_later(farm, node)
        assert not isinstance(find(node), bytes)
        assert (await node.get(SMALL, None)).body == b"changed"

    play(scene)


def test_a_file_that_is_purged_or_taken_down():
    async def scene(farm: Farm, node: FarmNode) -> None:
        for times in (1, 2, 3):
            put(farm, b"%d" % times)
            a_second_later(farm, node)
            assert (await node.get(SMALL, None)).body == b"%d" % times
            put(farm, b"new %d" % times)
            await node.order(Act.PURGE, Scope.SOURCE, SMALL)
            assert (await node.get(SMALL, None)).body == b"new %d" % times
        await node.order(Act.TAKE_DOWN, Scope.SOURCE, FILE)
        assert (await node.get(FILE, None)).status == 451
        await node.order(Act.LIFT, Scope.SOURCE, FILE)
        assert (await node.get(FILE, None)).body == original(FILE, 2)
        await node.order(Act.TAKE_DOWN, Scope.SOURCE, FILE)
        assert (await node.get(FILE, None)).status == 451

    play(scene)


def test_a_derivative_of_what_was_met_as_a_file():
    async def scene(farm: Farm, node: FarmNode) -> None:
        for _ in range(2):
            assert body_of(find(node, FILE)) == original(FILE, 2)
        made = await node.get(FILE, 40)
        assert made.status == 200
        assert (await node.get(FILE, 40)).body == made.body
        assert farm.renderer.renders == 1
        assert body_of(find(node, FILE)) == original(FILE, 2)

    play(scene)


def test_a_tail_leaves_nothing_behind_in_the_table_of_answers():
    async def scene(farm: Farm, node: FarmNode) -> None:
        for number in range(20):
            path = f"/tail/{number}.jpg"
            put(farm, b"%d" % number, path)
            assert body_of(find(node, path)) == b"%d" % number
        assert node.handler.ready._count == 0
        assert find(node, "/tail/7.jpg") is not None
        assert node.handler.ready._count == 1

    play(scene)
