"""Purges: what a request asks for, what is recorded, who is told, what is answered and logged."""

import asyncio
import dataclasses
import json
import logging
import random
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from cache.errors import IndexUnavailable
from cache.key import SourceId
from cache.orders import Act, Order, Scope
from edge.admin import Admin
from edge.clock import Clock
from edge.downstream import Answers, Downstream
from edge.errors import BadPurge, NotFound, UnknownHost
from edge.http.messages import Request, Response
from edge.purging import MAX_TAGS, Purging, read_wish
from edge.site import Site, Sites
from edge.spellings import Spellings
from edge.urls.derivative import BadUrl, NoPicture
from edge.urls.grammars import GRAMMARS, make_grammars

PICTURES = Site(
    name="img.example.com",
    hosts=("img.example.com",),
    docroot=None,
    origin=None,
    grammars=make_grammars(list(GRAMMARS)),
    extensions=("jpg", "png"),
    prefix="",
    steps=None,  # type: ignore[arg-type]
    max_age_s=60,
    cache_control="",
    max_source_bytes=0,
)
MOUNTED = dataclasses.replace(
    PICTURES, name="m.example.com", hosts=("m.example.com",), prefix="/img"
)
SITES = Sites({"img.example.com": PICTURES, "m.example.com": MOUNTED})


@dataclass(frozen=True, slots=True)
class Done:
    order: Order
    entries: int
    replicas: int
    scope: str
    urls: tuple[str, ...]


class FakePurger:
    """Records orders; down names the values that it cannot record."""

    def __init__(self, urls: tuple[str, ...] = ()) -> None:
        self.urls = urls
        self.orders: list[Order] = []
        self.previews: list[Order] = []
        self.down: set[str] = set()
        self.bug = ""

    async def carry_out(self, order: Order) -> Done:
        await asyncio.sleep(0)
        if order.value in self.down:
            raise IndexUnavailable("redis: no answer in 50 ms")
        if order.value == self.bug:
            raise RuntimeError("bug")
        self.orders.append(order)
        return Done(dataclasses.replace(order, seq=len(self.orders)), 3, 1, "node", self.urls)

    async def preview(self, order: Order) -> Done:
        self.previews.append(order)
        return Done(order, 3, 0, "node", self.urls)


class Front:
    """A cache in front that takes everything, or hangs."""

    name = "http://front:80"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.may = asyncio.Event()
        self.may.set()

    async def tell(self, urls: Sequence[str]) -> Answers:
        await self.may.wait()
        self.told += urls
        return Answers(set(urls))

    def close(self) -> None:
        pass


def ask(target: str = "/", host: str = "img.example.com", **fields: str) -> Request:
    named = {name.replace("_", "-").encode(): text.encode() for name, text in fields.items()}
    return Request(b"PURGE", target.encode(), 1, named, host.encode(), True)


def purging(purger: FakePurger, **more: Any) -> Purging:
    given = {"downstream": None, "spellings": None, "sites": SITES, **more}
    return Purging(purger=purger, chance=random.Random(1), **given)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


SOURCE, PREFIX, TAG = Scope.SOURCE, Scope.PREFIX, Scope.TAG


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ("/Dune.jpg", ["/Dune.jpg"]),
        ("/thumb/Dune.jpg/220px-Dune.jpg", ["/Dune.jpg"]),
        ("/thumb/a/a9/Dune.jpg/220px-Dune.jpg.webp", ["/a/a9/Dune.jpg"]),
        ("/Dune.jpg?w=221&fm=webp", ["/Dune.jpg"]),  # 221 need be no step
        ("/vi/Dune/hqdefault.jpg", ["/Dune.jpg", "/Dune.png"]),
        ("/D%C3%BCne.jpg", ["/Düne.jpg"]),
        # what no grammar claims: an origin may have read the query, a docroot did not
        ("/page?id=3", ["/page", "/page\x1fid=3"]),
        ("/Dune.jpg?v=3", ["/Dune.jpg", "/Dune.jpg\x1fv=3"]),
        ("/*", ["/*"]),  # a star is a name like any other
    ],
)
def test_a_url_means_its_original(target, paths):
    wish = read_wish(ask(target), SITES, is_admin=False)
    assert [order.value for order in wish.orders] == paths
    assert {order.scope for order in wish.orders} == {SOURCE}
    assert {order.site for order in wish.orders} == {"img.example.com"}
    # The URL itself is told to the caches in front, whatever is on record.
    assert wish.urls[0] == f"http://img.example.com{target}"


def test_the_mount_point_is_no_part_of_a_path():
    wish = read_wish(ask("/img/Dune.jpg?w=9", "M.example.com:80"), SITES, is_admin=True)
    assert [order.value for order in wish.orders] == ["/Dune.jpg"]
    assert wish.urls == (
        "http://m.example.com/img/Dune.jpg?w=9",
        "http://m.example.com/img/Dune.jpg",
    )
    with pytest.raises(NotFound):
        read_wish(ask("/Dune.jpg", "m.example.com"), SITES, is_admin=True)


def test_how_a_url_begins_is_believed_on_the_admin_listener_alone():
    request = ask("/a.jpg", x_forwarded_proto="https")
    assert read_wish(request, SITES, is_admin=True).urls[0].startswith("https://")
    assert read_wish(request, SITES, is_admin=False).urls[0].startswith("http://")


@pytest.mark.parametrize(
    ("fields", "act", "orders"),
    [
        ({}, Act.PURGE, [(SOURCE, "/a.jpg")]),
        ({"soft_purge": "1"}, Act.SOFTEN, [(SOURCE, "/a.jpg")]),
        ({"fastly_soft_purge": "1"}, Act.SOFTEN, [(SOURCE, "/a.jpg")]),
        ({"soft_purge": "0"}, Act.PURGE, [(SOURCE, "/a.jpg")]),
        ({"surrogate_key": "dune"}, Act.PURGE, [(TAG, "dune")]),
        ({"surrogate_key": " a  b a "}, Act.PURGE, [(TAG, "a"), (TAG, "b")]),
        ({"surrogate_key": "a", "soft_purge": "1"}, Act.SOFTEN, [(TAG, "a")]),
        ({"purge_prefix": "/2019/"}, Act.PURGE, [(PREFIX, "/2019/")]),
        ({"purge_prefix": "/2019/IMG%20"}, Act.PURGE, [(PREFIX, "/2019/IMG ")]),
        ({"purge_prefix": "/"}, Act.PURGE, [(PREFIX, "/")]),
        ({"takedown": "1"}, Act.TAKE_DOWN, [(SOURCE, "/a.jpg")]),
        ({"takedown": "lift"}, Act.LIFT, [(SOURCE, "/a.jpg")]),
        ({"takedown": "0"}, Act.PURGE, [(SOURCE, "/a.jpg")]),
    ],
)
def test_fields(fields, act, orders):
    wish = read_wish(ask("/a.jpg", **fields), SITES, is_admin=True)
    assert (wish.act, [(order.scope, order.value) for order in wish.orders]) == (act, orders)
    assert {order.act for order in wish.orders} == {act}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"soft_purge": "yes"}, "are 1, or 0"),
        ({"dry_run": ""}, "are 1, or 0"),
        ({"takedown": "please"}, "1 or lift"),
        ({"takedown": "1", "soft_purge": "1"}, "cannot be soft"),
        ({"takedown": "1", "surrogate_key": "a"}, "not of tags"),
        ({"takedown": "lift", "purge_prefix": "/"}, "not of tags"),
        ({"surrogate_key": "a", "purge_prefix": "/"}, "exclude each other"),
        ({"surrogate_key": " "}, "1 to 256 tags"),
        ({"surrogate_key": " ".join(map(str, range(MAX_TAGS + 1)))}, "1 to 256 tags"),
        ({"surrogate_key": "x" * 1025}, "1024 bytes"),
        ({"purge_prefix": "2019"}, "start of a path"),
        ({"purge_prefix": ""}, "start of a path"),
        ({"purge_prefix": "/../x"}, "start of a path"),
        ({"purge_prefix": "/%ZZ"}, "start of a path"),
        ({"purge_prefix": "/a?b"}, "start of a path"),
        ({"purge_prefix": "/é"}, "start of a path"),
    ],
)
def test_contradictions(fields, sentence):
    with pytest.raises(BadPurge, match=sentence):
        read_wish(ask("/a.jpg", **fields), SITES, is_admin=True)


@pytest.mark.parametrize(
    ("target", "host", "kind"),
    [
        ("/", "img.example.com", BadPurge),
        ("/2019/", "img.example.com", BadPurge),
        ("/a.jpg", "other.example.com", UnknownHost),
        ("/thumb/Dune.jpg/px-Dune.jpg", "img.example.com", BadUrl),
        ("/notes.txt?w=3", "img.example.com", NoPicture),
        ("/a/../b.jpg", "img.example.com", BadUrl),
    ],
)
def test_what_names_no_original(target, host, kind):
    with pytest.raises(kind):
        read_wish(ask(target, host), SITES, is_admin=True)


@pytest.mark.parametrize(
    "fields", [{"dry_run": "1"}, {"purge_prefix": "/"}, {"takedown": "1"}, {"takedown": "lift"}]
)
def test_what_the_public_listener_does_not_do(fields):
    with pytest.raises(BadPurge, match="admin listener"):
        read_wish(ask("/a.jpg", **fields), SITES, is_admin=False)


def test_a_purge_is_recorded_then_told_then_answered(caplog):
    caplog.set_level(logging.INFO, "halftone.purge")

    async def test() -> None:
        front = Front()
        down = Downstream([front], chance=random.Random(1))
        purger = FakePurger(("http://img.example.com/a.jpg?w=1", "http://img.example.com/a.jpg"))
        desk = purging(purger, downstream=down)
        receipt = await desk.purge(ask("/a.jpg"), "192.0.2.1", is_admin=True)
        answer = json.loads(receipt.body)
        assert answer == {
            "purged": 3,
            "scope": "node",
            "replicas_acked": 1,
            "act": "purge",
            "dry_run": False,
            "seq": 1,
            "urls": 2,
            "downstream": {"told": 2, "failed": 0, "pending": 0},
            "id": receipt.id,
        }
        assert front.told == ["http://img.example.com/a.jpg", "http://img.example.com/a.jpg?w=1"]
        assert desk.stats.done["purge"] == 1
        (line,) = caplog.messages
        assert re.fullmatch(
            rf"{receipt.id}: purge source '/a\.jpg' of site img\.example\.com, asked by"
            r" 192\.0\.2\.1 \(admin\): seq 1, 3 entries, node, 1 replicas;"
            r" caches in front: 2 told, 0 failed, 0 pending",
            line,
        )
        await down.stop(0)

    run(test())


def test_what_hangs_is_pending(monkeypatch):
    monkeypatch.setattr("edge.purging.TOLD_WITHIN_S", 0.01)

    async def test() -> None:
        front = Front()
        front.may.clear()
        down = Downstream([front], chance=random.Random(1))
        receipt = await purging(FakePurger(), downstream=down).purge(
            ask("/a.jpg"), "unix", is_admin=True
        )
        assert json.loads(receipt.body)["downstream"] == {"told": 0, "failed": 0, "pending": 1}
        front.may.set()
        await down.stop(5)
        assert front.told == ["http://img.example.com/a.jpg"]

    run(test())


def test_what_waits_to_be_written_is_written_before():
    async def test() -> None:
        order: list[str] = []

        async def add(source: SourceId, urls: Sequence[str]) -> None:
            order.append("written")

        class Purger(FakePurger):
            async def carry_out(self, one: Order) -> Done:
                order.append("recorded")
                return await super().carry_out(one)

        spellings = Spellings(add)
        spellings.note(SourceId("img.example.com", "/a.jpg"), "http://img.example.com/a.jpg?w=1")
        await purging(Purger(), spellings=spellings).purge(ask("/a.jpg"), "c", is_admin=True)
        assert order == ["written", "recorded"]

    run(test())


def test_both_schemes_where_tls_may_end_in_front():
    async def test() -> None:
        front = Front()
        down = Downstream([front], chance=random.Random(1))
        desk = purging(FakePurger(), downstream=down, has_both_schemes=True)
        await desk.purge(ask("/a.jpg"), "c", is_admin=True)
        assert front.told == ["http://img.example.com/a.jpg", "https://img.example.com/a.jpg"]
        await down.stop(0)

    run(test())


def test_a_dry_run_changes_nothing(caplog):
    caplog.set_level(logging.INFO, "halftone.purge")

    async def test() -> None:
        front = Front()
        down = Downstream([front], chance=random.Random(1))
        purger = FakePurger(("http://img.example.com/a.jpg?w=1",))
        desk = purging(purger, downstream=down)
        receipt = await desk.purge(ask("/a.jpg", dry_run="1"), "c", is_admin=True)
        answer = json.loads(receipt.body)
        assert (answer["dry_run"], answer["purged"], answer["urls"]) == (True, 3, 2)
        assert (purger.orders, len(purger.previews), front.told) == ([], 1, [])
        assert (sum(desk.stats.done.values()), desk.stats.previews) == (0, 1)
        assert "would purge" in caplog.text
        await down.stop(0)

    run(test())


def test_one_order_that_is_not_recorded_fails_the_purge(caplog):
    caplog.set_level(logging.INFO, "halftone.purge")

    async def test() -> None:
        purger = FakePurger()
        purger.down = {"b"}
        desk = purging(purger)
        with pytest.raises(IndexUnavailable):
            await desk.purge(ask(surrogate_key="a b c"), "c", is_admin=True)
        assert [order.value for order in purger.orders] == ["a", "c"]
        assert (desk.stats.done["purge"], desk.stats.failed) == (2, 1)
        assert "NOT recorded: purge tag 'b'" in caplog.text
        purger.bug = "c"
        with pytest.raises(RuntimeError):
            await desk.purge(ask(surrogate_key="a b c"), "c", is_admin=True)

    run(test())


def test_the_log_has_no_bytes_of_the_wire(caplog):
    caplog.set_level(logging.INFO, "halftone.purge")

    async def test() -> None:
        desk = purging(FakePurger())
        hostile = "\x1b[31m\x85\u2028" + "x" * 1000
        await desk.purge(ask(surrogate_key=hostile), "c", is_admin=True)
        (line,) = caplog.messages
        assert line.isascii() and line.isprintable()
        assert len(line) < 700

    run(test())


# ---- the admin listener -------------------------------------------------------------------------


def admin(desk: Purging | None, fsck: Any = None) -> Admin:
    nothing: Any = None
    return Admin(nothing, nothing, Clock(lambda: 1.7e9, lambda: 1.0), desk, fsck)


async def answer(listener: Admin, request: Request) -> Response:
    peer = listener.peer("127.0.0.1")
    return listener.receive(request, peer) or await listener.serve(request, peer)


def text_of(response: Response) -> str:
    (body,) = response.body
    assert isinstance(body, bytes)
    return body.decode()


def test_the_admin_listener_purges():
    async def test() -> None:
        purger = FakePurger()
        listener = admin(purging(purger))
        response = await answer(listener, ask("/a.jpg", takedown="1"))
        assert response.status == 200
        assert b"Content-Type: application/json" in response.head
        assert json.loads(text_of(response))["act"] == "take-down"
        assert [order.act for order in purger.orders] == [Act.TAKE_DOWN]

    run(test())


@pytest.mark.parametrize("origin", ["http://evil.example", "http://a.example.com", "null", ""])
def test_a_page_in_a_browser_purges_nothing(origin):
    async def test() -> None:
        purger = FakePurger()
        response = await answer(admin(purging(purger)), ask("/a.jpg", origin=origin))
        assert response.status == 403
        assert purger.orders == []

    run(test())


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (ask("/a.jpg", takedown="please"), 400, "Takedown is 1 or lift."),
        (ask("/a.jpg", "other.example.com"), 404, "No site of this name"),
        (ask("/a.jpg", "m.example.com"), 404, "no picture at this address"),
        (ask("/a/../b"), 400, "does not ask for a picture"),
        (ask("/down.jpg"), 503, "cannot be recorded"),
        (ask("/bug.jpg"), 500, "went wrong"),
    ],
)
def test_refusals(request_, status, sentence):
    async def test() -> None:
        purger = FakePurger()
        purger.down, purger.bug = {"/down.jpg"}, "/bug.jpg"
        response = await answer(admin(purging(purger)), request_)
        assert response.status == status
        assert sentence in text_of(response)
        assert (b"Retry-After: 2" in response.head) == (status == 503)
        assert b"no-store" in response.head

    run(test())


def post(target: str = "/fsck", method: str = "POST", **fields: str) -> Request:
    made = ask(target, **fields)
    made.method = method.encode()
    return made


def test_a_check_one_at_a_time():
    async def test() -> None:
        asked: list[bool] = []
        may, begun = asyncio.Event(), asyncio.Event()

        async def fsck(is_fixing: bool) -> dict[str, object]:
            asked.append(is_fixing)
            begun.set()
            await may.wait()
            return {"files": 3, "damaged": 0}

        listener = admin(None, fsck)
        first = asyncio.create_task(answer(listener, post("/fsck?fix=1")))
        await begun.wait()
        assert (await answer(listener, post())).status == 409
        may.set()
        assert json.loads(text_of(await first)) == {"files": 3, "damaged": 0}
        assert (await answer(listener, post("/fsck?fix=0"))).status == 200
        assert asked == [True, False]
        assert (await answer(listener, post(method="GET"))).status == 405
        # hostile: a page of another site has its reader's browser ask
        assert (await answer(listener, post(origin="http://evil.example"))).status == 403
        assert (await answer(listener, ask("/a.jpg"))).status == 405  # no purges here
        assert asked == [True, False]

    run(test())
