"""Exchanges with HTTP origins that break, stall, are left and cancelled in every order: what a
client reads is what it asked for, a pool's numbers add up, and nothing stays behind."""

import asyncio
import dataclasses
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.origin.errors import OriginError
from edge.origin.exchange import Deadlines
from edge.origin.http.client import HttpClient
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, POST, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.edge.origin.fastcgi.test_hostile import Plan as AnyPlan
from tests.edge.origin.fastcgi.test_hostile import check, read
from tests.peers.http import HEAD as START
from tests.peers.http import Behaviour, Seen, chunked, http_peer

DEADLINES = Deadlines(20, 0.08, 0.08, 20)
# In a body: the end of a chunked one, and another answer behind it.
FORGED = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@dataclasses.dataclass(frozen=True)
class Plan(AnyPlan):
    def content(self) -> bytes:
        return b"answer %d " % self.number + FORGED * self.body

    def wire(self) -> bytes:
        body = self.content()
        if self.has_length:
            head, sent = START + b"Content-Length: %d\r\n\r\n" % len(body), body
        else:
            head = START + b"Transfer-Encoding: chunked\r\n\r\n"
            sent = chunked(body, self.records)
        return head if self.request is HEAD else head + sent

    def reply(self) -> Behaviour:
        fault: dict[str, object] = {}
        match self.fault:
            case "cut_at" | "reset_at" | "stall_at":
                fault = {self.fault: self.at}
            case "unasked":
                fault = {"unasked": b"unasked"}
            case "closes":
                fault = {"keeps": False}
        made = Behaviour(self.wire(), chop=self.chop)
        return dataclasses.replace(made, **fault)  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    return [
        Plan(
            number,
            draw(st.sampled_from([GET, GET, HEAD, POST])),
            draw(st.sampled_from(["", "", "cut_at", "reset_at", "stall_at", "unasked", "closes"])),
            draw(st.integers(0, 300)),
            draw(st.sampled_from([1, 24, 65_535])),
            draw(st.sampled_from([0, 0, 56, 8])),
            draw(st.integers(0, 4)),
            draw(st.booleans()),
            draw(st.sampled_from(["never", "cancelled", "cancelled", "closes"])),
            draw(st.integers(0, 12)),
        )
        for number in range(draw(st.integers(1, 8)))
    ]


async def play(pool: OriginPool, plan: Plan) -> None:
    got: list[bytes] = []
    is_whole = False
    task = asyncio.ensure_future(
        read(pool, plan, got, plan.turns if plan.leaves == "closes" else 1 << 20)
    )
    if plan.leaves == "cancelled":
        for _ in range(plan.turns):
            await asyncio.sleep(0)
        task.cancel()
    try:
        is_whole = await task
    except (OriginError, asyncio.CancelledError):
        is_whole = False
    check(pool)
    expected = b"" if plan.request is HEAD else plan.content()
    body = b"".join(got)
    assert expected.startswith(body), (plan, body[:200])
    assert body == expected or not is_whole, plan


async def all_of(wanted: list[Plan], keep: int, folder: Path, *, in_turn: bool) -> None:
    by_target = {f"/{plan.number}": plan for plan in wanted}

    def application(seen: Seen) -> Behaviour:
        return by_target[seen.target].reply()

    before = open_sockets()
    async with (
        http_peer(application, path=str(folder / "one")) as one,
        http_peer(application, path=str(folder / "other")) as other,
    ):
        client = HttpClient(DEADLINES, LOGGER, keep=keep)
        pool = OriginPool(
            "app", [one.address, other.address], client, logger=LOGGER,
            clock=asyncio.get_running_loop().time, chance=lambda: 0.5,
        )  # fmt: skip
        players: list[Awaitable[None]] = [play(pool, plan) for plan in wanted]
        if in_turn:
            for player in players:
                await player
        else:
            await asyncio.gather(*players)
        await client.aclose()
        for _ in range(20):  # who was left at once may stand in a backlog
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await one.quiet()
            await other.quiet()
        check(pool)
        assert [host.load for host in pool.hosts] == [0, 0]
        assert not any(client._kept._waiting.values())
    for _ in range(200):
        if open_sockets() == before:
            break
        await asyncio.sleep(0)
    assert open_sockets() == before


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("keep", [0, 1, 3])
def test_nobody_gets_what_is_anothers_and_nothing_is_left(keep: int, loop: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(plans(), st.booleans())
    def attempt(wanted: list[Plan], in_turn: bool) -> None:
        with TemporaryDirectory() as folder:
            run(asyncio.wait_for(all_of(wanted, keep, Path(folder), in_turn=in_turn), 20), loop)

    attempt()
