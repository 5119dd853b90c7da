"""A node with a shared cache, in one process, with an origin and a clock of the test."""

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.http.body import FileSlice, Stretch
from edge.http.date import format_date
from edge.http.messages import Request, Response
from edge.origin.errors import OriginRefused
from edge.origin.messages import OriginRequest
from tests.behaviour.world import Farm, FarmNode, Said
from tests.edge.test_record import Answer
from tests.peers.redis import RedisServer
from tests.waiting import until

BODY = b"what the origin said"
Reply = Callable[[OriginRequest], Answer]


class Scripted:
    """say is what the next request is answered with."""

    name = "app"

    def __init__(self) -> None:
        self.asked: list[OriginRequest] = []
        self.say: Reply = lambda _: Answer((), status=404, content_length=0)
        self.hold: asyncio.Event | None = None
        self.came = asyncio.Event()

    async def fetch(self, request: OriginRequest) -> Answer:
        self.asked.append(request)
        answer = self.say(request)
        self.came.set()
        if self.hold is not None:
            await self.hold.wait()
        return answer

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.asked[-1].headers)


def said(body: bytes = BODY, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    pairs = [("content-type", "text/plain")]
    for name, text in (headers or {}).items():
        pairs += [(name.lower(), line) for line in text.split("\n")]
    is_empty = status in (204, 304)
    return Answer(
        tuple(pairs),
        status=status,
        content_length=None if is_empty else len(body),
        pieces=[] if is_empty else [body],
    )


def refused(_: OriginRequest) -> Answer:
    raise OriginRefused("down")


class SharedNode:
    def __init__(
        self, folder: Path, server: RedisServer | None = None, *, has_docroot: bool = True
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.farm = Farm(folder, server)
        self.farm.has_docroot = has_docroot
        self.origin = Scripted()
        self.farm.origin = self.origin  # type: ignore[assignment]
        self._folder = folder / "node"
        self.chance = random.Random(1)
        self.restart()

    def restart(self) -> None:
        """Another node on the same files; it is not started."""
        self.node = node = FarmNode(self.farm, self._folder)
        self.flights, self.refreshes = node.shared_flights, node.shared_refreshes
        self.changes, self.shared = node.changes, node.shared

    @property
    def now(self) -> int:
        return int(self.farm.now)

    def date(self, offset: int = 0) -> str:
        return format_date(self.now + offset)

    async def start(self) -> None:
        await self.node.start()

    async def stop(self) -> None:
        await self.node.stop()
        self.farm.threads.shutdown()

    def later(self, seconds: int) -> None:
        self.farm.now += seconds
        self.node.tick()

    async def rest(self) -> None:
        await until(lambda: not len(self.refreshes) and not len(self.node.refreshes), pause_s=0)

    async def ask(
        self,
        target: str,
        fields: Mapping[str, str] | None = None,
        method: str = "GET",
        upload: Any = None,
    ) -> Said:
        named = {name.lower().encode(): text.encode() for name, text in (fields or {}).items()}
        named = {b"host": b"h", **named}
        request = Request(method.encode(), target.encode(), 1, named, named[b"host"], True)
        request.upload = upload
        peer = self.node.handler.peer("192.0.2.7")
        response = self.node.handler.receive(request, peer)
        if response is None:
            response = await self.node.handler.serve(request, peer)
        return await read_reply(response)


async def read_reply(response: Response) -> Said:
    body = b""
    for piece in response.body:
        if isinstance(piece, Stretch):
            piece.is_chunked = False
            while not piece.is_done:
                for part in piece.take(1 << 20):
                    assert isinstance(part, FileSlice)
                    body += os.pread(part.file.fd, len(part), part.start)
                assert not piece.has_failed
                await asyncio.sleep(0)
        elif isinstance(piece, FileSlice):
            body += os.pread(piece.file.fd, len(piece), piece.start)
        else:
            body += piece
    return Said.of(response.status, response.head, body)
