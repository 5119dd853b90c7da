"""The shared home of the index: Redis 7.0 or Valkey.

For a source whose digest is D in hexadecimal, all in one hash slot:

    halftone:{D}:gen      "EPOCH:GENERATION:APPLIED"; the first two are the token, compared as text
    halftone:{D}:record   the source record
    halftone:{D}:keys     hash: digest of an entry -> its size

The epoch is drawn at the first sight of a source and lives in the same value as its generation. So
a flush, an eviction by Redis or a failover to an empty server shows as another epoch, in the same
atomic step that reads the generation; there is no epoch key that could get lost alone.

A command in flight is never cancelled. Its reply would stay on the connection and answer the next
command: wrong bytes (redis-py #2624, #2665). Each command is a task of ours that callers only wait
for; a socket timeout ends it, and any exception throws its connection away.
"""

import asyncio
import hashlib
import importlib.resources
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from cache.errors import IndexUnavailable
from cache.index.breaker import Breaker
from cache.index.interface import (
    EPOCH_DIGITS,
    MAX_MEMBERS,
    Purged,
    Sight,
    SourceRecord,
    Token,
)
from cache.index.record import maybe_record, pack_record
from cache.key import SourceId

SCHEMES: Final = ("redis://", "rediss://", "unix://")
BUDGET_S: Final = 0.05
CONNECTIONS: Final = 4
# Callers that wait for a connection; at 0.2 ms a command the last one of these is out of budget.
MAX_WAITING: Final = 256
# A source that nobody asked for in a month starts afresh: its entries become misses.
KEEP_MS: Final = 30 * 86_400_000
_TOKEN: Final = re.compile(rb"([0-9a-f]{16}):([0-9]{1,16})")

_log = logging.getLogger(__name__)

Part = str | bytes | int
Reply = bytes | int | list["Reply"] | None


@dataclass(slots=True)
class Stats:
    """calls == answered + failed + refused + those still running."""

    calls: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0  # by the breaker or the bound on waiting callers
    late: int = 0  # callers that gave up before their command ended


class _Script:
    def __init__(self, name: str) -> None:
        folder = importlib.resources.files("cache.index") / "lua"
        self.text = (folder / f"{name}.lua").read_text("utf-8")
        # Redis names scripts by SHA-1; nothing here depends on its strength.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisIndex:
    """clock: seconds since 1970. monotonic: seconds. random: a source of epochs and jitter."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random: Random,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.breaker = Breaker(random.random)
        self.stats = Stats()
        self._url = url
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._budget_s = budget_s
        self._factory: ConnectionPool | None = None
        self._idle: list[AbstractConnection] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._running: set[asyncio.Task[Reply]] = set()
        self._scripts = {name: _Script(name) for name in ("open", "put", "publish", "purge")}

    @property
    def exclusive(self) -> bool:
        return False

    @property
    def is_degraded(self) -> bool:
        return self.breaker.is_open

    async def probe(self) -> None:
        with suppress(IndexUnavailable):
            await self._call("PING")

    async def start(self) -> None:
        if not self._url.startswith(SCHEMES):
            scheme = self._url.partition("://")[0]
            raise IndexUnavailable(f"index scheme {scheme!r} is none of {', '.join(SCHEMES)}")
        try:
            factory = ConnectionPool.from_url(
                self._url,
                protocol=2,
                socket_timeout=self._budget_s,
                socket_connect_timeout=self._budget_s,
                retry=Retry(NoBackoff(), 0),
                # CLIENT SETINFO would cost two round trips for every connection.
                driver_info=None,
            )
            _connection(factory)
        except (ValueError, TypeError, RedisError) as error:
            # The text of the error may quote the address, and with it the password.
            raise IndexUnavailable("the index's address cannot be read") from error
        self._factory = factory

    async def stop(self) -> None:
        self._factory = None
        while self._running:
            await asyncio.wait(self._running)
        while self._idle:
            await _discard(self._idle.pop())

    async def open_source(self, source: SourceId, *, barrier: int = 0, head: int = 0) -> Sight:
        keys = _keys(source, "gen", "record", "keys")
        now = self._now_ms()
        first = f"{self._new_epoch()}:{now}"
        # Whatever raises or makes a generation leaves nothing that is older than all of head.
        head = max(barrier, head)
        reply = await self._script("open", keys, first, now, barrier, head, KEEP_MS)
        match reply:
            case [bytes() as token, bytes() as applied, (bytes() | None) as record]:
                return Sight(_parse_token(token), maybe_record(record), int(applied))
        raise IndexUnavailable("redis answered open.lua with something else")

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        packed = pack_record(record)
        keys = _keys(source, "gen", "record")
        return await self._script("put", keys, _text(token), packed, KEEP_MS) == 1

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        keys = _keys(source, "gen", "keys")
        arguments = (_text(token), digest, size, MAX_MEMBERS, KEEP_MS)
        return await self._script("publish", keys, *arguments) == 1

    async def forget(self, source: SourceId, digest: bytes) -> None:
        await self._call("HDEL", *_keys(source, "keys"), digest)

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        return _digests(await self._call("HKEYS", *_keys(source, "keys")))

    async def purge(self, source: SourceId) -> Purged:
        keys = _keys(source, "gen", "record", "keys")
        reply = await self._script("purge", keys, self._new_epoch(), self._now_ms(), KEEP_MS)
        match reply:
            case [bytes() as token, list() as digests]:
                return Purged(_parse_token(token), _digests(digests))
        raise IndexUnavailable("redis answered purge.lua with something else")

    async def _script(self, name: str, keys: list[str], *arguments: Part) -> Reply:
        script = self._scripts[name]
        parts = (len(keys), *keys, *arguments)
        return await self._call("EVALSHA", script.sha, *parts, script=script)

    async def _call(self, *command: Part, script: _Script | None = None) -> Reply:
        """One command, within the budget. Raises IndexUnavailable."""
        self.stats.calls += 1
        if self._factory is None:
            self.stats.refused += 1
            raise IndexUnavailable("index is not started")
        if len(self._running) >= MAX_WAITING:
            self.stats.refused += 1
            raise IndexUnavailable(f"{MAX_WAITING} commands wait for redis already")
        if not self.breaker.allow(self._monotonic()):
            self.stats.refused += 1
            raise IndexUnavailable("redis failed lately, the breaker is open")
        task = asyncio.get_running_loop().create_task(
            self._run(self._factory, command, script), name="redis command"
        )
        self._running.add(task)
        task.add_done_callback(self._ended)
        # wait() cancels nothing, neither at its timeout nor when the caller is cancelled.
        await asyncio.wait((task,), timeout=self._budget_s)
        if not task.done():
            self.stats.late += 1
            raise IndexUnavailable(f"no answer from redis in {self._budget_s} s")
        if task.cancelled():
            raise IndexUnavailable("redis: the loop is ending")
        error = task.exception()
        if error is not None:
            raise IndexUnavailable(f"redis: {type(error).__name__}: {error}") from error
        return task.result()

    async def _run(
        self, factory: ConnectionPool, command: tuple[Part, ...], script: _Script | None
    ) -> Reply:
        # Nothing is in flight while we wait for a slot, so this wait alone may be cancelled.
        async with asyncio.timeout(self._budget_s):
            await self._slots.acquire()
        try:
            connection = self._idle.pop() if self._idle else _connection(factory)
            try:
                reply = await _exchange(connection, command, script)
            except BaseException:
                await _discard(connection)
                raise
            self._idle.append(connection)
            return reply
        finally:
            self._slots.release()

    def _ended(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is None:
            self.stats.answered += 1
            if self.breaker.is_open:
                _log.warning("redis answers again")
            self.breaker.succeeded()
            return
        self.stats.failed += 1
        was_open = self.breaker.is_open
        self.breaker.failed(self._monotonic())
        if self.breaker.is_open and not was_open:
            _log.warning("redis failed too often, deciding locally until it answers")

    def _new_epoch(self) -> str:
        return f"{self._random.getrandbits(4 * EPOCH_DIGITS):0{EPOCH_DIGITS}x}"

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _connection(factory: ConnectionPool) -> AbstractConnection:
    connection: AbstractConnection = factory.make_connection()  # type: ignore[no-untyped-call]
    return connection


async def _exchange(
    connection: AbstractConnection, command: tuple[Part, ...], script: _Script | None
) -> Reply:
    await connection.connect()  # type: ignore[no-untyped-call]
    await connection.send_command(*command)
    try:
        reply: Reply = await connection.read_response()
    except NoScriptError:
        # After a failover or SCRIPT FLUSH. The error was read to its end: nothing is left over.
        assert script is not None
        await connection.send_command("EVAL", script.text, *command[2:])
        reply = await connection.read_response()
    return reply


async def _discard(connection: AbstractConnection) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)


def _keys(source: SourceId, *names: str) -> list[str]:
    # The digest, not the path: no text of a client ever becomes part of a key.
    digest = source.digest.hex()
    return [f"halftone:{{{digest}}}:{name}" for name in names]


def _text(token: Token) -> str:
    return f"{token.epoch}:{token.generation}"


def _parse_token(text: bytes) -> Token:
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise IndexUnavailable("the stored token is none of ours")
    try:
        return Token(match[1].decode(), int(match[2]))
    except ValueError as error:
        raise IndexUnavailable(f"the stored token is none of ours: {error}") from error


def _digests(reply: Reply) -> tuple[bytes, ...]:
    if not isinstance(reply, list):
        raise IndexUnavailable("redis answered something else than a list")
    return tuple(digest for digest in reply if isinstance(digest, bytes))
