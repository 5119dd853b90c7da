"""Where the server of a key is: one server alone here, sentinels and clusters in their own rooms.

A topology knows servers, it asks them nothing for its callers. What it does not know it looks up in
a task of its own that no caller's budget ends; callers wait for it as long as they have time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from cache.errors import IndexUnavailable
from cache.index.address import Alone
from cache.index.door import Door
from cache.index.server import Server, no_retry

# Between two look-ups: while a server is down, each failed command wants one.
LOOKUP_PAUSE_S: Final = 0.1
# One of those that know where the servers are has this long for each of its steps: it is asked off
# the hot path, and where it is gone the next one is asked.
LOOKUP_STEP_S: Final = 0.25

_log = logging.getLogger(__name__)

MakeDoor = Callable[[str], Door]


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a command goes that had no effect where it was sent; None: to be found first."""

    server: Server | None
    is_asking: bool = False


class Topology(Protocol):
    door: Door
    """Of those who wait to hear where their server is."""

    def server(self, slot_key: str | bytes) -> Server | None:
        """As far as it is known."""

    def servers(self) -> Sequence[Server]:
        """Those that are known."""

    async def find(self, slot_key: str | bytes, deadline: float) -> Server:
        """Where it is not known. deadline: of the loop's time. Raises IndexUnavailable."""

    async def learn(self, server: Server, error: Exception) -> Onward | None:
        """Take in how a command failed there; the answer is where to send it again, if it had no
        effect and belongs elsewhere."""

    async def close(self) -> None: ...


class OneServer:
    """redis://, rediss:// and unix://. Also a name or address that moves to another server."""

    def __init__(self, where: Alone, budget_s: float, make_door: MakeDoor) -> None:
        try:
            factory = ConnectionPool.from_url(
                where.url,
                protocol=2,
                socket_timeout=budget_s,
                socket_connect_timeout=budget_s,
                retry=no_retry(),
                driver_info=None,
            )

            def make() -> AbstractConnection:
                made: AbstractConnection = factory.make_connection()  # type: ignore[no-untyped-call]
                return made

            make()
        except (ValueError, TypeError, RedisError):
            # The text of the error may quote the address, and with it the password.
            raise IndexUnavailable("the index's address cannot be read") from None
        self.door = make_door("redis")
        self._server = Server(self.door, make)

    def server(self, slot_key: str | bytes) -> Server | None:
        return self._server

    def servers(self) -> Sequence[Server]:
        return (self._server,)

    async def find(self, slot_key: str | bytes, deadline: float) -> Server:
        return self._server

    async def learn(self, server: Server, error: Exception) -> Onward | None:
        return None

    async def close(self) -> None:
        await self._server.retire()


class Lookup:
    """Finds out where servers are: one question at a time, however many want the answer.

    ask raises IndexUnavailable, whose text is what callers and the log are told.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self.done = 0
        self.failed = 0
        self._ask = ask
        self._task: asyncio.Task[str] | None = None
        self._next_at = 0.0
        self._is_failing = False

    def want(self) -> asyncio.Task[str]:
        """Soon; its result is why it failed, or empty."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="redis lookup")
        return self._task

    async def wait(self, deadline: float) -> None:
        """Raises IndexUnavailable when it failed or is not over."""
        left = deadline - asyncio.get_running_loop().time()
        task = self.want()
        await asyncio.wait((task,), timeout=max(left, 0.0))
        if not task.done() or task.cancelled():
            raise IndexUnavailable("nobody said in time where redis is")
        if why := task.result():
            raise IndexUnavailable(why)

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            # Each of its questions has a connection of its own, which ends with it.
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> str:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._next_at - loop.time(), 0.0))
        try:
            await self._ask()
        except IndexUnavailable as error:
            self.failed += 1
            if not self._is_failing:
                _log.warning("%s", error)
            self._is_failing = True
            return str(error)
        finally:
            self._next_at = loop.time() + LOOKUP_PAUSE_S
        self.done += 1
        self._is_failing = False
        return ""
