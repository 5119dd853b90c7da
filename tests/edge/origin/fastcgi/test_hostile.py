"""Exchanges that break, stall, are left and cancelled in every order: what a client reads is what
it asked for, a pool's numbers add up at every step, and nothing stays behind."""

import asyncio
import dataclasses
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.origin.errors import OriginError
from edge.origin.exchange import Deadlines
from edge.origin.fastcgi import response as response_module
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.messages import OriginRequest, OriginResponse
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, POST, SCRIPT, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.peers.fastcgi import END, STDOUT, Behaviour, Seen, fastcgi_peer

DEADLINES = Deadlines(20, 0.08, 0.08, 20)
# In a body: the end of an answer, and another one behind it, for whoever has lost the thread.
FORGED_END = struct.pack("!BBHHBx", 1, END, 1, 8, 0) + bytes(8)
FORGED = (
    FORGED_END
    + struct.pack("!BBHHBx", 1, STDOUT, 1, 40, 0)
    + b"Content-Type: text/html\r\n\r\nforged!!!!!!!"
    + FORGED_END
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One request, what the application does with it, and when its client leaves."""

    number: int
    request: OriginRequest
    fault: str  # a knob of Behaviour, "" for none
    at: int
    records: int  # bytes of content in each
    chop: int
    body: int  # pieces of forgery in it
    has_length: bool
    leaves: str  # "never", "cancelled", "closes"
    turns: int  # of the loop, or reads, before that

    def content(self) -> bytes:
        return b"answer %d " % self.number + FORGED * self.body

    def behaviour(self) -> Behaviour:
        body = self.content()
        length = b"Content-Length: %d\r\n" % len(body) if self.has_length else b""
        stdout = b"Content-Type: image/jpeg\r\n" + length + b"\r\n" + body
        fault: dict[str, object] = {}
        match self.fault:
            case "cut_at" | "reset_at" | "stall_at":
                fault = {self.fault: self.at}
            case "app_status":
                fault = {"app_status": 1}
            case "behind_end" | "unasked":
                # A whole answer that comes in the middle of the next exchange cannot be told from
                # its own: all have the same request id.
                fault = {self.fault: FORGED_END}
            case "no_end":
                fault = {"has_end": False}
        made = Behaviour(stdout=stdout, record_bytes=self.records, chop=self.chop)
        return dataclasses.replace(made, obeys_abort=self.at % 2 == 0, **fault)  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    faults = ["", "", "cut_at", "reset_at", "stall_at", "app_status", "behind_end", "unasked"]
    return [
        Plan(
            number,
            draw(st.sampled_from([GET, GET, HEAD, POST])),
            draw(st.sampled_from([*faults, "no_end"])),
            draw(st.integers(0, 300)),
            draw(st.sampled_from([24, 100, 65_535])),
            draw(st.sampled_from([0, 0, 56, 8])),
            draw(st.integers(0, 4)),
            draw(st.booleans()),
            draw(st.sampled_from(["never", "cancelled", "cancelled", "closes"])),
            draw(st.integers(0, 12)),
        )
        for number in range(draw(st.integers(1, 8)))
    ]


def check(pool: OriginPool) -> None:
    for host in pool.hosts:
        assert host.load >= 0
        assert host.stats.assigned == host.load + sum(host.stats.results.values())


async def read(pool: OriginPool, plan: Plan, got: list[bytes], most: int) -> bool:
    """True when the answer came to its clean end."""
    request = dataclasses.replace(plan.request, target=f"/{plan.number}", query="")
    response: OriginResponse = await pool.fetch(request)
    try:
        if plan.at % 3 == 0 and (whole := response.maybe_all()) is not None:
            got.append(whole)
            return True
        for _ in range(most):
            check(pool)
            piece = await response.read()
            if not piece:
                return True
            got.append(piece)
        return False
    finally:
        await response.aclose()
        check(pool)


async def play(pool: OriginPool, plan: Plan) -> None:
    got: list[bytes] = []
    is_whole = False
    most = plan.turns if plan.leaves == "closes" else 1 << 20
    task = asyncio.ensure_future(read(pool, plan, got, most))
    if plan.leaves == "cancelled":
        for _ in range(plan.turns):
            await asyncio.sleep(0)
        task.cancel()
    with suppress(OriginError, asyncio.CancelledError):
        is_whole = await task
    check(pool)
    expected = b"" if plan.request is HEAD else plan.content()
    body = b"".join(got)
    assert expected.startswith(body), (plan, body[:200])
    if is_whole:
        assert body == expected, plan


@asynccontextmanager
async def pool_of(
    application: Callable[[Seen], Behaviour], keep: int, folder: Path
) -> AsyncIterator[OriginPool]:
    """Two hosts; nothing is left of them and their clients behind it."""
    before = open_sockets()
    async with (
        fastcgi_peer(application, path=str(folder / "one")) as one,
        fastcgi_peer(application, path=str(folder / "other")) as other,
    ):
        client = FastCGIClient(SCRIPT, DEADLINES, LOGGER, keep=keep)
        pool = OriginPool(
            "app", [one.address, other.address], client, logger=LOGGER,
            clock=asyncio.get_running_loop().time, chance=lambda: 0.5,
        )  # fmt: skip
        yield pool
        await client.aclose()
        for _ in range(20):  # who was left at once may stand in a backlog
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await one.quiet()
            await other.quiet()
        check(pool)
        assert [host.load for host in pool.hosts] == [0, 0]
        assert client._kept.count == 0
        assert not len(client._alarms)
        assert not len(client._poller)
        assert client._poller._epoll is None
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
        by_target = {f"/{plan.number}": plan for plan in wanted}

        def application(seen: Seen) -> Behaviour:
            return by_target[seen.params["REQUEST_URI"].decode()].behaviour()

        async def main() -> None:
            with TemporaryDirectory() as folder:
                async with pool_of(application, keep, Path(folder)) as pool:
                    players: list[Awaitable[None]] = [play(pool, plan) for plan in wanted]
                    if not in_turn:
                        await asyncio.gather(*players)
                        return
                    for player in players:
                        await player

        run(asyncio.wait_for(main(), 20), loop)

    with mock.patch.object(response_module, "DRAIN_S", 0.03):
        attempt()
