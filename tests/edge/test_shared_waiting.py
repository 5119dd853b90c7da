"""The shared cache under several requests at once, and bounds of what it remembers."""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cache.key import DIGEST_BYTES
from cache.orders import Act, Scope
from edge.brief import Brief
from edge.http.messages import Request
from edge.http.parser import RequestParser
from edge.origin.messages import OriginRequest
from edge.policy.forwarded import TrustedProxies
from edge.shared import MARK_S, MAX_VARIANTS
from tests.edge.shared_bench import BODY, SharedNode, read_reply, said
from tests.edge.test_record import Answer

HOUR = "max-age=3600"


@pytest.fixture
def on_bare_node(tmp_path: Path) -> Callable[[Callable[[SharedNode], Awaitable[None]]], None]:
    """Of a site without a docroot, where a marked URL goes to its origin at once."""
    return lambda test: _run(tmp_path, test, has_docroot=False)


@pytest.fixture
def on_node(tmp_path: Path) -> Callable[[Callable[[SharedNode], Awaitable[None]]], None]:
    return lambda test: _run(tmp_path, test, has_docroot=True)


def _run(folder: Path, test: Callable[[SharedNode], Awaitable[None]], *, has_docroot: bool) -> None:
    async def whole() -> None:
        node = SharedNode(folder, has_docroot=has_docroot)
        await node.start()
        try:
            await test(node)
        finally:
            await node.stop()

    asyncio.run(whole())


def fixed(headers: dict[str, str], status: int = 200) -> Callable[..., Answer]:
    return lambda _: said(status=status, headers=headers)


def test_a_herd_on_one_variant_is_one_exchange(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a", {"X": "0"})
        node.origin.hold = asyncio.Event()
        node.origin.came.clear()
        herd = [asyncio.create_task(node.ask("/a", {"X": "1"})) for _ in range(20)]
        await node.origin.came.wait()
        while node.flights.stats.joined < 19:
            await asyncio.sleep(0)
        node.origin.hold.set()
        assert {reply.body for reply in await asyncio.gather(*herd)} == {BODY}
        assert len(node.origin.asked) == 2

    on_node(test)


def test_nobody_waits_for_what_is_not_stored(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private"})
        await node.ask("/a")
        node.origin.hold = asyncio.Event()
        herd = [asyncio.create_task(node.ask("/a")) for _ in range(10)]
        while len(node.origin.asked) < 11:  # all of them are at the origin at once
            await asyncio.sleep(0)
        node.origin.hold.set()
        await asyncio.gather(*herd)
        assert node.shared.stats.marked == 10
        # For a while only.
        node.origin.hold = None
        node.later(MARK_S + 1)
        await node.ask("/a")
        assert node.shared.stats.marked == 10

    on_node(test)


MARKED = [
    # (what the answer says now, is the next one kept)
    ({"Cache-Control": "no-store"}, False),
    ({"Cache-Control": HOUR}, True),
    ({"Cache-Control": HOUR, "Vary": "x"}, True),
    ({"Cache-Control": HOUR, "Vary": "*"}, False),
    ({"Cache-Control": HOUR, "Set-Cookie": "a=b"}, False),
]


@pytest.mark.parametrize(("headers", "is_kept"), MARKED)
def test_a_mark_goes_when_an_answer_could_have_been_stored(on_bare_node, headers, is_kept):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private"})
        await node.ask("/a")
        node.origin.say = fixed(headers)
        await node.ask("/a")
        assert node.shared.stats.marked == 1
        await node.ask("/a")
        await node.ask("/a")
        assert len(node.origin.asked) == (3 if is_kept else 4)
        assert node.shared.stats.marked == (1 if is_kept else 3)

    on_bare_node(test)


def test_a_file_that_comes_to_the_docroot_is_what_a_marked_url_means(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private"})
        for _ in range(3):
            assert (await node.ask("/late.txt")).body == BODY
        assert node.shared.stats.marked == 2
        (node.farm.docroot / "late.txt").write_bytes(b"a file")
        assert (await node.ask("/late.txt")).body == b"a file"
        assert len(node.origin.asked) == 3

    on_node(test)


def test_marks_of_what_is_asked_for_often_stay(on_bare_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private"})
        await node.ask("/a")
        for _ in range(5):
            node.later(MARK_S * 2 // 3)
            await node.ask("/a")
        assert node.shared.stats.marked == 5

    on_bare_node(test)


def test_a_marked_url_hears_the_clients_own_preconditions(on_bare_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private", "ETag": '"1"'})
        await node.ask("/a")
        await node.ask("/a", {"If-None-Match": '"1"', "Range": "bytes=0-1", "X": "y"})
        assert node.origin.fields["if-none-match"] == '"1"'
        assert node.origin.fields["range"] == "bytes=0-1"
        assert node.origin.fields["x"] == "y"
        node.origin.say = fixed({}, status=304)
        assert (await node.ask("/a", {"If-None-Match": '"1"'})).status == 304
        await node.ask("/a", method="HEAD")
        assert node.origin.asked[-1].method == "HEAD"

    on_bare_node(test)


def test_heads_that_repeat_are_read_once_and_each_client_is_its_own(on_bare_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private"})
        data = b"GET /a HTTP/1.1\r\nHost: h\r\nCookie: c=1\r\n\r\n"
        handler = node.node.handler
        asked = []
        for address in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
            for _ in range(2):
                peer = handler.peer(address)
                request = handler.find(data, peer)
                if request is None:
                    parser = RequestParser()
                    parser.receive_data(data)
                    request = parser.requests.popleft()
                    request.whole = data
                assert isinstance(request, Request)
                await handler.serve(request, peer)
                asked.append(node.origin.asked[-1])
        assert [one.remote_addr[-1] for one in asked] == ["7", "7", "8", "8", "7", "7"]
        for one in asked:
            fields = dict(one.headers)
            assert fields["x-forwarded-for"] == one.remote_addr
            assert fields["cookie"] == "c=1"
        # The first was no repeat, and the second head of each client was read already.
        assert asked[-1].headers is asked[-2].headers

    on_bare_node(test)


def test_marks_of_long_urls_take_no_more_room_than_others(on_node):
    """Anybody may ask for thousands of them."""

    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": "private", "Vary": "x"})
        for number in range(3):
            await node.ask(f"/a?{number}{'b' * 4000}")
        node.origin.say = fixed({"Cache-Control": HOUR, "Vary": "x"})
        await node.ask(f"/b?{'b' * 4000}")
        shared = node.shared
        assert (len(shared.marks), len(shared._signposts)) == (3, 1)
        for digest in (*shared.marks._until, *shared._signposts):
            assert len(digest) == DIGEST_BYTES

    on_node(test)


PROXY = "192.0.2.9"
# Blocks of heads as clients and the proxy send them, all of them under every target and from every
# peer: the field lines without the Host.
LINES = (
    b"",
    b"Cookie: c=1\r\n",
    b"Cookie: c=2\r\n",
    b"Cookie: c=1\r\nAuthorization: Basic eA==\r\n",
    b"Cookie: c=1\r\nX-Forwarded-For: 198.51.100.1\r\n",
    b"Cookie: c=1\r\nX-Forwarded-For: 198.51.100.2\r\nX-Forwarded-Proto: https\r\n",
    b"Cookie: c=1\r\nX-Forwarded-For: 198.51.100.2\r\n",
    b"Cookie: c=1\r\nReferer: http://h/\r\nX-Forwarded-For: 198.51.100.2\r\n",
)
TARGETS = (b"/a", b"/b", b"/a?b=1")


def told_of(request: OriginRequest) -> dict[str, str | None]:
    """What an application would make its answer of."""
    fields = dict(request.headers)
    names = ("cookie", "authorization", "x-forwarded-for", "referer")
    return {
        "target": request.target,
        "remote": request.remote_addr,
        "scheme": request.scheme,
        **{name: fields.get(name) for name in names},
    }


def to_be_told(target: bytes, lines: bytes, peer: str) -> dict[str, str | None]:
    """The same, by what was sent."""
    pairs = (line.split(": ", 1) for line in lines.decode().split("\r\n")[:-1])
    fields = {name.lower(): value for name, value in pairs}
    before = fields.get("x-forwarded-for") if peer == PROXY else None
    is_https = peer == PROXY and fields.get("x-forwarded-proto") == "https"
    return {
        "target": target.decode(),
        "remote": before or peer,
        "scheme": "https" if is_https else "http",
        "cookie": fields.get("cookie"),
        "authorization": fields.get("authorization"),
        "x-forwarded-for": f"{before}, {peer}" if before else peer,
        "referer": fields.get("referer"),
    }


def test_what_is_remembered_of_heads_is_never_that_of_another(on_bare_node):
    """The same lines under other targets, from other peers, for other clients of a proxy, in every
    order; each answer is made of its own request."""

    def say(request: OriginRequest) -> Answer:
        told = json.dumps(told_of(request)).encode()
        cookie = dict(request.headers).get("cookie", "none")
        return said(told, headers={"Cache-Control": "private", "Set-Cookie": f"for-{cookie}"})

    async def test(node: SharedNode) -> None:
        node.origin.say = say
        handler: Any = node.node.handler
        handler._trusted = TrustedProxies([ip_network(f"{PROXY}/32")])
        peers = ("192.0.2.7", "192.0.2.8", PROXY)
        rows = [(*row, peer) for row in itertools.product(TARGETS, LINES) for peer in peers]
        repeats = 0
        for target, lines, address in random.Random(1).choices(rows, k=600):
            data = b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (target, lines)
            peer = handler.peer(address)
            request = handler.find(data, peer)
            if request is None:
                parser = RequestParser()
                parser.receive_data(data)
                request = parser.requests.popleft()
                request.whole = data
            assert isinstance(request, Request)
            repeats += bool(request.block)
            response = handler.receive(request, peer) or await handler.serve(request, peer)
            reply = await read_reply(response)
            assert json.loads(reply.body) == to_be_told(target, lines, address)
            cookie = to_be_told(target, lines, address)["cookie"] or "none"
            assert reply.fields["set-cookie"] == f"for-{cookie}"
        assert repeats > 300

    on_bare_node(test)


def test_a_private_answer_goes_to_one_of_those_who_wait(on_node):
    async def test(node: SharedNode) -> None:
        numbers = iter(range(100))

        def own(_: object) -> Answer:
            number = next(numbers)
            headers = {"Set-Cookie": f"session={number}", "Cache-Control": HOUR}
            return said(b"page of %d" % number, headers=headers)

        node.origin.say = own
        node.origin.hold = asyncio.Event()
        herd = [
            asyncio.create_task(node.ask("/a", {"Cookie": f"who={number}"})) for number in range(10)
        ]
        await node.origin.came.wait()
        node.origin.hold.set()
        replies = await asyncio.gather(*herd)
        assert len({reply.fields["set-cookie"] for reply in replies}) == 10
        assert len({reply.body for reply in replies}) == 10
        for reply in replies:
            assert reply.fields["set-cookie"].removeprefix("session=").encode() in reply.body

    on_node(test)


def test_an_original_serves_its_derivatives(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Cache-Control": HOUR, "Content-Type": "image/jpeg"})
        await node.ask("/a.jpg", {"Cookie": "a=b"})
        (asked,) = node.origin.asked
        assert (asked.is_for_all, asked.remote_addr) == (False, "192.0.2.7")
        reply = await node.ask("/a.jpg?w=40")
        assert BODY in reply.body
        assert len(node.origin.asked) == 1

    on_node(test)


PURGES = [
    (Act.PURGE, Scope.SOURCE, "/pets/a"),
    (Act.PURGE, Scope.PREFIX, "/pets/"),
    (Act.PURGE, Scope.TAG, "cat"),
    (Act.SOFTEN, Scope.SOURCE, "/pets/a"),
    (Act.SOFTEN, Scope.PREFIX, "/pets/"),
    (Act.SOFTEN, Scope.TAG, "cat"),
]


@pytest.mark.parametrize("order", PURGES)
def test_a_purge_is_of_every_variant(on_node, order):
    async def test(node: SharedNode) -> None:
        headers = {"Vary": "x", "Cache-Control": HOUR, "Surrogate-Key": "cat"}
        node.origin.say = fixed(headers)
        for target in ("/pets/a", "/other"):
            for value in ("1", "2"):
                if target == "/other":
                    node.origin.say = fixed({**headers, "Surrogate-Key": "dog"})
                await node.ask(target, {"X": value})
        await node.node.order(*order)
        asked = len(node.origin.asked)
        for value in ("1", "2"):
            await node.ask("/other", {"X": value})
        assert len(node.origin.asked) == asked
        for value in ("1", "2"):
            await node.ask("/pets/a", {"X": value})
        assert len(node.origin.asked) == asked + 2

    on_node(test)


def test_a_purge_overtakes_an_exchange(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a", {"X": "0"})
        node.origin.hold = asyncio.Event()
        node.origin.came.clear()
        slow = asyncio.create_task(node.ask("/a", {"X": "1"}))
        await node.origin.came.wait()
        await node.node.order(Act.PURGE, Scope.SOURCE, "/a")
        node.origin.hold.set()
        assert (await slow).body == BODY  # who asked before it
        asked = len(node.origin.asked)
        await node.ask("/a", {"X": "1"})
        assert len(node.origin.asked) == asked + 1

    on_node(test)


def test_variants_of_one_url_are_bounded(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        for number in range(MAX_VARIANTS + 4):
            await node.ask("/a", {"X": str(number)})
        assert node.shared.stats.crowded_out == 4
        assert len(node.node.entries()) == MAX_VARIANTS + 1  # and the signpost
        asked = len(node.origin.asked)
        await node.ask("/a", {"X": str(MAX_VARIANTS + 3)})
        assert len(node.origin.asked) == asked
        await node.ask("/a", {"X": "0"})
        assert len(node.origin.asked) == asked + 1

    on_node(test)


def test_others_find_what_was_stored(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a", {"X": "1"})
        node.shared._signposts.clear()  # as after a restart, or in another worker
        await node.ask("/a", {"X": "1"})
        assert len(node.origin.asked) == 1
        await node.ask("/a", {"X": "2"})
        assert len(node.origin.asked) == 2

    on_node(test)


def test_a_file_of_the_docroot_comes_first(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a.txt")
        (node.farm.docroot / "a.txt").write_bytes(b"a file")
        assert (await node.ask("/a.txt")).body == b"a file"
        asked = len(node.origin.asked)
        refused = await node.ask("/a.txt", method="POST")
        assert (refused.status, refused.fields["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert len(node.origin.asked) == asked

    on_node(test)


def test_a_taken_down_url_is_refused(on_node):
    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a")
        await node.node.order(Act.TAKE_DOWN, Scope.SOURCE, "/a")
        assert (await node.ask("/a")).status == 451

    on_node(test)


def test_an_answer_in_vain_is_given_up(on_node):
    """Whoever asked has left before there was an answer."""

    async def test(node: SharedNode) -> None:
        closed = asyncio.Event()

        class Noted(Answer):
            async def aclose(self) -> None:
                closed.set()

        node.origin.say = lambda _: Noted((("cache-control", "private"),), pieces=[b"x"] * 5)
        node.origin.hold = asyncio.Event()
        gone = asyncio.create_task(node.ask("/a"))
        await node.origin.came.wait()
        gone.cancel()
        await asyncio.wait([gone])
        node.origin.hold.set()
        await asyncio.wait_for(closed.wait(), 10)

    on_node(test)


def test_brief():
    now = 100
    table: Brief[str] = Brief(2, 10, lambda: now)
    table.add("a")
    now = 109
    assert "a" in table
    now = 110
    assert "a" not in table
    assert len(table) == 0
    for name in "abc":
        table.add(name)
    assert [name for name in "abc" if name in table] == ["b", "c"]
    assert table.crowded_out == 1
    now = 50  # set back
    assert "b" not in table


def test_who_waited_in_vain_has_an_exchange_of_its_own(on_node):
    """And hears what comes beside its answer, which nobody does whose answer may be for others."""

    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({"Vary": "x", "Cache-Control": HOUR})
        await node.ask("/a", {"X": "0"})
        node.origin.say = fixed({"Vary": "x", "Cache-Control": "private"})
        node.origin.hold = asyncio.Event()
        node.origin.came.clear()
        herd = [asyncio.create_task(node.ask("/a", {"X": "1"})) for _ in range(3)]
        await node.origin.came.wait()
        for _ in range(1000):
            if node.flights.stats.joined == 2:
                break
            await asyncio.sleep(0)
        node.origin.hold.set()
        await asyncio.gather(*herd)
        has_aside = [asked.aside is not None for asked in node.origin.asked]
        assert has_aside == [False, False, True, True]

    on_node(test)
