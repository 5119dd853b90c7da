"""Word from Redis that the log of orders has grown: one subscriber, on a connection of its own.

Messages get lost while nobody is connected, so each connect counts as one. Nothing may depend on
them: who listens reads the log on a timer as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from cache.errors import IndexUnavailable

CHANNEL: Final = "halftone:orders"
# A silent connection is asked for a sign of life so often; a dead one is known after twice that.
PING_S: Final = 10.0
# Between attempts: doubled from the first to the last, times 1 to 2 by chance.
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
# A listener that was told to stop and goes on is told again.
STOP_AGAIN_S: Final = 0.1

_log = logging.getLogger(__name__)


class News:
    """connect answers a connection that is open and authenticated, or raises IndexUnavailable."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[AbstractConnection]],
        heard: Callable[[], None],
        random: Random,
        ping_s: float = PING_S,
    ) -> None:
        self.connects = 0
        self._connect = connect
        self._heard = heard
        self._random = random
        self._ping_s = ping_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="news")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        # Nobody else uses the connection, so nothing can read a reply that was left on it. Once may
        # not be enough: redis-py sends with wait_for(), which up to Python 3.11 loses a
        # cancellation that comes when what it waits for is done.
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=STOP_AGAIN_S)

    async def _serve(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            before = self.connects
            try:
                await self._listen()
            except (IndexUnavailable, RedisError, OSError, TimeoutError) as error:
                _log.info("news of orders: connection lost (%s)", type(error).__name__)
            except Exception:  # noqa: BLE001  # top of the task
                _log.exception("news of orders: unexpected failure")
            pause_s = FIRST_PAUSE_S if self.connects > before else min(2 * pause_s, LAST_PAUSE_S)
            await asyncio.sleep(pause_s * (1 + self._random.random()))

    async def _listen(self) -> None:
        connection = await self._connect()
        try:
            await connection.send_command("SUBSCRIBE", CHANNEL)
            await connection.read_response()
            self.connects += 1
            self._heard()
            is_asked = False
            while True:
                reply = await connection.read_response(timeout=self._ping_s)
                if reply is not None:
                    is_asked = False
                    if isinstance(reply, list) and reply[:1] == [b"message"]:
                        self._heard()
                    continue
                # redis-py answers None when a timeout that was asked for is over.
                if is_asked:
                    raise TimeoutError
                await connection.send_command("PING")
                is_asked = True
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                await connection.disconnect(nowait=True)
