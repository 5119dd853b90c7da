"""One Redis server and our connections to it.

A command in flight is never cancelled. Its reply would stay on the connection and answer the next
command: wrong bytes (redis-py #2624, #2665). A socket timeout ends it, and any exception throws its
connection away; where it was not an answer of the server, also those that lie idle, which most
often have the same end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from cache.index.address import Endpoint, Login
from cache.index.causes import Cause
from cache.index.door import Door

CONNECTIONS: Final = 4
# Of an error's text; a server may quote what it was sent.
MAX_ERROR_LENGTH: Final = 200

Part = str | bytes | int
Reply = bytes | int | list["Reply"] | None
Make = Callable[[], AbstractConnection]
T = TypeVar("T")
# Replies that are read in one turn of the loop, where many are there already: some 15 us each.
_REPLIES: Final = 32


class Script(Protocol):
    """wait_s: after it, wait so long for a replica to have what it wrote. Its result is a list
    then, whose last element turns from how many replicas are connected into how many have it."""

    text: str
    wait_s: float


class Server:
    """make: a connection, not yet connected. Raises what redis-py raises, and TimeoutError."""

    def __init__(self, door: Door, make: Make, host: str = "") -> None:
        self.door = door
        self.host = host
        self._make = make
        self._idle: list[AbstractConnection] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._is_retired = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def exchange(
        self,
        command: tuple[Part, ...],
        script: Script | None,
        *,
        deadline: float,
        is_asking: bool = False,
    ) -> Reply:
        """deadline: of the loop's time, for a connection to become free. Must not be cancelled
        once it has one."""

        async def ask(connection: AbstractConnection) -> tuple[Reply, bool]:
            reply = await _exchange(connection, command, script, is_asking=is_asking)
            if script is None or not script.wait_s:
                return reply, True
            return reply, await _wait_for_replica(connection, script.wait_s, reply)

        return await self._use_connection(ask, deadline)

    async def exchange_all(
        self, commands: Sequence[tuple[Part, ...]], *, deadline: float
    ) -> list[Reply | ResponseError]:
        """As exchange(), of many commands sent in one go. A refusal of the server stands in the
        place of the reply."""

        async def ask(connection: AbstractConnection) -> tuple[list[Reply | ResponseError], bool]:
            return await _exchange_all(connection, commands), True

        return await self._use_connection(ask, deadline)

    async def _use_connection(
        self, ask: Callable[[AbstractConnection], Awaitable[tuple[T, bool]]], deadline: float
    ) -> T:
        """ask says whether the connection may be used again."""
        if self._slots.locked():
            # Nothing is in flight while we wait for a slot, so this wait alone may be cancelled.
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        else:
            await self._slots.acquire()  # at once; a timeout would cost 5 us
        try:
            connection = self._idle.pop() if self._idle else self._make()
            try:
                reply, is_good = await ask(connection)
            except BaseException as error:
                await discard(connection)
                if not _is_answer(error):
                    await self.drop_idle()
                raise
            if is_good and not self._is_retired:
                self._idle.append(connection)
            else:
                await discard(connection)
            return reply
        finally:
            self._slots.release()

    async def connect(self) -> AbstractConnection:
        """A connection of the caller's own."""
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await discard(connection)
            raise
        return connection

    async def drop_idle(self) -> None:
        while self._idle:
            await discard(self._idle.pop())

    async def retire(self) -> None:
        """No connection is used again; those in use are thrown away when they come back."""
        self._is_retired = True
        await self.drop_idle()


def maker(where: Endpoint, login: Login, timeout_s: float, database: int = 0) -> Make:
    """Makes connections to one server, without a retry and without a greeting."""

    def make() -> AbstractConnection:
        return Connection(
            host=where.host,
            port=where.port,
            db=database,
            username=login.username or None,
            password=login.password or None,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=no_retry(),
            # CLIENT SETINFO would cost two round trips for every connection.
            driver_info=None,
        )

    return make


def no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


async def ask_once(make: Make, *command: Part) -> Reply:
    """One command over a connection of its own."""
    connection = make()
    try:
        return await _exchange(connection, command, None)
    finally:
        await discard(connection)


async def discard(connection: AbstractConnection) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)


# The first that fits; AuthenticationError and its like are connection errors to redis-py.
_CAUSES: Final[tuple[tuple[type[BaseException], Cause], ...]] = (
    (AuthenticationError, Cause.PASSWORD),
    (AuthorizationError, Cause.RIGHTS),
    (NoPermissionError, Cause.RIGHTS),
    (BusyLoadingError, Cause.LOADING),
    (OutOfMemoryError, Cause.FULL),
    (ReadOnlyError, Cause.READ_ONLY),
    (RedisTimeout, Cause.LATE),
    (TimeoutError, Cause.LATE),
    (RedisConnectionError, Cause.UNREACHABLE),
    (OSError, Cause.UNREACHABLE),
)


def cause_of(error: BaseException) -> Cause:
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), Cause.OTHER)


def tell(error: BaseException, secrets: tuple[str, ...] = ()) -> str:
    """An error for a log: one printable line without our passwords.

    A server that does not know AUTH quotes what it was sent.
    """
    text = f"{type(error).__name__}: {error}"
    for secret in secrets:
        text = text.replace(secret, "***")
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= MAX_ERROR_LENGTH else f"{shown[: MAX_ERROR_LENGTH - 3]}..."


async def _exchange(
    connection: AbstractConnection,
    command: tuple[Part, ...],
    script: Script | None,
    *,
    is_asking: bool = False,
) -> Reply:
    await connection.connect()  # type: ignore[no-untyped-call]
    try:
        return await _ask(connection, command, is_asking=is_asking)
    except NoScriptError:
        # After a failover or SCRIPT FLUSH. The error was read to its end: nothing is left over.
        if script is None:
            raise
        return await _ask(connection, ("EVAL", script.text, *command[2:]), is_asking=is_asking)


async def _exchange_all(
    connection: AbstractConnection, commands: Sequence[tuple[Part, ...]]
) -> list[Reply | ResponseError]:
    await connection.connect()  # type: ignore[no-untyped-call]
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Reply | ResponseError] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
        if len(replies) % _REPLIES == 0:
            await asyncio.sleep(0)
    return replies


async def _wait_for_replica(connection: AbstractConnection, wait_s: float, reply: Reply) -> bool:
    """Ask on the connection that wrote, since Redis answers for that one's writes only. False
    where the connection must not be used again."""
    if not isinstance(reply, list) or reply[-1] == 0:
        return True
    answer = None
    try:
        await connection.send_command("WAIT", 1, max(1, int(wait_s * 1000)))
        # redis-py answers None when a timeout that was asked for is over.
        answer = await connection.read_response(timeout=1.5 * wait_s)
    except (RedisError, OSError, TimeoutError):
        pass  # what was written is written; that no replica has it is what we say
    reply[-1] = answer if isinstance(answer, int) else 0
    return isinstance(answer, int)


async def _ask(
    connection: AbstractConnection, command: tuple[Part, ...], *, is_asking: bool
) -> Reply:
    if is_asking:  # holds for the next command alone
        await connection.send_command("ASKING")
        await connection.read_response()
    await connection.send_command(*command)
    reply: Reply = await connection.read_response()
    return reply


def _is_answer(error: BaseException) -> bool:
    """False where the server's other connections are as bad: it is gone, or no master any more."""
    return isinstance(error, ResponseError) and not isinstance(
        error, (ReadOnlyError, MasterDownError)
    )
