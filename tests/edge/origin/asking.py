"""What every test of an exchange needs: a request, a watcher that remembers, an event loop."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import uvloop

from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.params import Script
from edge.origin.messages import OriginRequest, OriginResponse

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
LOGGER = logging.getLogger("tests.origin")
SCRIPT = Script("/srv/app/index.php")
# Long enough to pass on a slow machine; tests of a deadline shorten the one that they are about.
PATIENT = Deadlines(20, 20, 20, 20)

GET = OriginRequest(
    method="GET",
    target="/a/b.jpg?v=1",
    path="/a/b.jpg",
    query="v=1",
    headers=(("Accept", "image/*"),),
    host="img.example.org:8080",
    scheme="http",
    remote_addr="192.0.2.1",
    remote_port=50000,
    server_addr="192.0.2.2",
    server_port=8080,
    server_protocol="HTTP/1.1",
)
HEAD = dataclasses.replace(GET, method="HEAD")
POST = dataclasses.replace(GET, method="POST", body=b"a=b")


@dataclass
class Witness:
    connects: int = 0
    results: list[Result] = field(default_factory=list)

    def connected(self) -> None:
        self.connects += 1

    def closed(self, result: Result) -> None:
        self.results.append(result)


def run(main: Coroutine[object, object, T], loop: str = "asyncio") -> T:
    """Like asyncio.run, on either loop; debug mode stays off so that both behave alike."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main)


async def read_all(response: OriginResponse) -> bytes:
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)
