"""The homes of the index, for the suite that runs on all, and a proxy that delays a reply."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cache.index.embedded import EmbeddedIndex
from cache.index.interface import BOUNDS, Bounds, Index, SourceRecord
from cache.index.redis import RedisIndex
from cache.key import Key, SourceId
from tests.peers.redis import RedisServer
from tests.peers.redis_farm import ClusterFarm, SentinelFarm

SOURCE = SourceId("site", "/a.jpg")
OTHER = SourceId("site", "/b.jpg")
RECORD = SourceRecord(
    "v1", '"v1"', "image/jpeg", 123_456, 1_700_000_000, 1_795_000_000, 1_795_000_600
)
FULL_RECORD = SourceRecord(
    *("v2", '"v2"', "image/png", 2**40, -5, 1, 2, 9, 4000, 3000, ("dune", "ä,\n{}")),
    *(2**33, 2**53 - 1),
)


# Of indexes in tests that are about answers: the machine may be busy, and so may its disk.
GENEROUS_S = 10.0

Peer = RedisServer | SentinelFarm | ClusterFarm


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


class Home:
    """One of the homes: makes an index over the same state, any number of times."""

    def __init__(self, name: str, folder: Path, server: Peer | None) -> None:
        self.name = name
        self.clock = Clock()
        self.path = folder / "index.sqlite"
        self.server = server
        self.bounds = BOUNDS

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Index]:
        index = self.make()
        await index.start()
        try:
            yield index
        finally:
            await index.stop()

    def make(self) -> Index:
        if self.server is None:
            return EmbeddedIndex(
                str(self.path),
                clock=self.clock,
                random=random.Random(),
                bounds=self.bounds,
                budget_s=GENEROUS_S,
            )
        return redis_index(self.server, budget_s=GENEROUS_S, clock=self.clock, bounds=self.bounds)

    def flush(self) -> None:
        """Lose everything, as an operator or a damaged disk does."""
        if self.server is None:
            for file in self.path.parent.glob("index.sqlite*"):
                file.unlink()
        else:
            self.server.command("FLUSHALL")


def redis_index(
    server: Peer,
    *,
    budget_s: float = 0.05,
    clock: Callable[[], float] | None = None,
    url: str = "",
    bounds: Bounds = BOUNDS,
) -> RedisIndex:
    return RedisIndex(
        url or server.url,
        clock=clock or Clock(),
        monotonic=Clock(),  # stands still: failures are always within a second
        random=random.Random(),
        budget_s=budget_s,
        bounds=bounds,
    )


def run(home: Home, test: Callable[[Index], Awaitable[None]]) -> None:
    async def main() -> None:
        async with home.open() as index:
            await test(index)

    asyncio.run(main())


def digest(number: int) -> bytes:
    return Key(SOURCE, f"w={number}").digest


class DelayingProxy:
    """Between index and server; holds the reply to one chosen request until released: the next
    one (hold_next), or the first with some word in it (hold_at)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.hold_next = False
        self.hold_at: bytes | None = None
        self.held = asyncio.Event()
        self.release = asyncio.Event()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while data := await reader.read(65_536):
                upstream_writer.write(data)
                reply = await upstream_reader.read(65_536)
                if self.hold_next or (self.hold_at is not None and self.hold_at in data):
                    self.hold_next, self.hold_at = False, None
                    self.held.set()
                    await self.release.wait()
                writer.write(reply)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._tasks.discard(task)
            for stream in (writer, upstream_writer):
                stream.close()
