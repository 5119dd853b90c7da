"""How commands reach Redis: within a budget, behind breakers, never cancelled.

    redis://, rediss://, unix://    one server              topology.py
    redis+sentinel://               whoever is the master   sentinel.py
    redis+cluster://                the node of a slot      cluster.py

Each command is a task of ours that callers only wait for (server.py says why). Each server has a
breaker and a bound of its own, so that one that stands still costs nobody the others. A command is
sent again only where it had no effect: READONLY, MOVED and ASK say so, a lost connection does not.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, RedisError, ResponseError, TryAgainError

from cache.errors import IndexUnavailable
from cache.index.address import Alone, BadAddress, Cluster, Sentinels, Where, parse_where
from cache.index.breaker import Breaker
from cache.index.causes import Cause
from cache.index.cluster import Sharded
from cache.index.door import Door
from cache.index.sentinel import Watched
from cache.index.server import Part, Reply, Script, Server, cause_of, tell
from cache.index.topology import OneServer, Topology

BUDGET_S: Final = 0.05
# MOVED by a map that is old, then ASK because the slot is on its way again.
MAX_REDIRECTS: Final = 2

T = TypeVar("T")


@dataclass(slots=True)
class Stats:
    """calls == answered + failed + refused + those still running."""

    calls: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0  # by a breaker or the bound on waiting callers
    late: int = 0  # callers that gave up before their command ended
    redirected: int = 0  # commands sent again because they belong elsewhere
    # Of those that failed at a server. They grow from 0, and every cause is told.
    causes: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(Cause, 0))


class Link:
    """monotonic: seconds. random: for jitter. Calls outside start() and stop() are refused."""

    def __init__(
        self,
        url: str,
        *,
        monotonic: Callable[[], float],
        random: Random,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.stats = Stats()
        self.monotonic = monotonic
        self._url = url
        self._random = random
        self._budget_s = budget_s
        self._secrets: tuple[str, ...] = ()
        self._topology: Topology | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self.times_degraded = 0
        """How often a breaker opened."""

    @property
    def is_degraded(self) -> bool:
        """True while a breaker is open: for some keys at least there are no answers."""
        return any(door.breaker.is_open for door in self._doors())

    @property
    def idle(self) -> int:
        """Connections that wait for a command."""
        return 0 if self._topology is None else sum(s.idle for s in self._topology.servers())

    async def start(self) -> None:
        """Raises IndexUnavailable where the address can never work."""
        try:
            where = parse_where(self._url)
        except BadAddress as error:
            raise IndexUnavailable(f"the index's address: {error}") from None
        self._secrets = where.secrets
        self._topology = self._build(where)

    async def stop(self) -> None:
        topology, self._topology = self._topology, None
        while self._running:
            await asyncio.wait(self._running)
        if topology is not None:
            await topology.close()

    async def call(
        self, slot_key: str | bytes, *command: Part, script: Script | None = None
    ) -> Reply:
        """One command, within the budget, sent to the server of slot_key. Raises IndexUnavailable.

        All keys of the command share slot_key's slot. script: the command is its EVALSHA; what it
        waits for a replica comes on top of the budget. The outcome of a call that raised is
        unknown: it may still take place.
        """
        self.stats.calls += 1
        topology = self._topology
        if topology is None:
            self.stats.refused += 1
            raise IndexUnavailable("index is not started")
        return await self._call(topology, topology.server(slot_key), slot_key, command, script)

    async def call_each(self, questions: Sequence[tuple[str, tuple[Part, ...]]]) -> list[Reply]:
        """The replies to commands that only read, each with its slot_key as for call(): those for
        one server are sent in one go, and have the budget together. Raises IndexUnavailable."""
        topology = self._topology
        if topology is None:
            self.stats.calls += 1
            self.stats.refused += 1
            raise IndexUnavailable("index is not started")
        replies: list[Reply | ResponseError | None] = [None] * len(questions)
        places: dict[Server, list[int]] = {}
        alone: list[int] = []
        for place, (slot_key, _) in enumerate(questions):
            server = topology.server(slot_key)
            (alone if server is None else places.setdefault(server, [])).append(place)

        async def ask(server: Server, its: list[int]) -> None:
            self.stats.calls += 1
            commands = [questions[place][1] for place in its]
            found = await self._send(server.door, self._run_all(topology, server, commands), 0.0)
            for place, reply in zip(its, found, strict=True):
                replies[place] = reply
                if isinstance(reply, ResponseError):
                    alone.append(place)

        asked = [ask(server, its) for server, its in places.items()]
        for failure in await asyncio.gather(*asked, return_exceptions=True):
            if failure is not None:
                raise failure
        # Where the server is to be found first, or is another one by now.
        for place in alone:
            slot_key, command = questions[place]
            replies[place] = await self.call(slot_key, *command)
        return [reply for reply in replies if not isinstance(reply, ResponseError)]

    async def probe(self) -> None:
        """Ask every server whose breaker is open, as far as it lets us, or else any. Raises
        nothing."""
        topology = self._topology
        if topology is None:
            return
        failing = [server for server in topology.servers() if server.door.breaker.is_open]
        self.stats.calls += max(len(failing), 1)
        asked: list[Server | None] = [*failing] or [topology.server("")]
        pings = (self._call(topology, server, "", ("PING",), None) for server in asked)
        await asyncio.gather(*pings, return_exceptions=True)

    async def connect(self, slot_key: str | bytes) -> AbstractConnection:
        """A fresh connection of the caller's own, connected, to a server that sees what is
        published under slot_key: its master. In a cluster PUBLISH reaches subscribers of every
        node, so any server would do. Its reads have the budget as their timeout unless they are
        given one. The caller ends it, and throws it away on any exception. Raises
        IndexUnavailable."""
        topology = self._topology
        if topology is None:
            raise IndexUnavailable("index is not started")
        server = topology.server(slot_key)
        if server is None:
            deadline = asyncio.get_running_loop().time() + self._budget_s
            server = await topology.find(slot_key, deadline)
        if server.door.breaker.is_open:
            raise server.door.shut()
        try:
            return await server.connect()
        except (RedisError, OSError, TimeoutError) as error:
            await topology.learn(server, error)
            raise self._unavailable(server.door.name, error) from None

    async def _call(
        self,
        topology: Topology,
        server: Server | None,
        slot_key: str | bytes,
        command: tuple[Part, ...],
        script: Script | None,
    ) -> Reply:
        door = topology.door if server is None else server.door
        wait_s = 0.0 if script is None else script.wait_s
        return await self._send(
            door, self._run(topology, server, slot_key, command, script), 2 * wait_s
        )

    async def _send(self, door: Door, exchange: Coroutine[Any, Any, T], more_s: float) -> T:
        """Within the budget, and more_s on top of it."""
        try:
            door.enter()
        except IndexUnavailable:
            exchange.close()
            self.stats.refused += 1
            raise
        task = asyncio.get_running_loop().create_task(exchange, name="redis command")
        self._running.add(task)
        task.add_done_callback(partial(self._ended, door))
        # wait() cancels nothing, neither at its timeout nor when the caller is cancelled.
        await asyncio.wait((task,), timeout=self._budget_s + more_s)
        if not task.done():
            self.stats.late += 1
            raise IndexUnavailable(f"no answer from {door.name} in {self._budget_s} s")
        if task.cancelled():
            raise IndexUnavailable("redis: the loop is ending")
        error = task.exception()
        if error is None:
            return task.result()
        # Without its cause: a traceback would tell the error's own text.
        raise self._unavailable(door.name, error) from None

    async def _run(
        self,
        topology: Topology,
        server: Server | None,
        slot_key: str | bytes,
        command: tuple[Part, ...],
        script: Script | None,
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._budget_s
        is_asking = False
        for redirects in range(MAX_REDIRECTS, -1, -1):
            if server is None:
                server = await self._find(topology, slot_key, deadline)
            try:
                reply = await server.exchange(
                    command, script, deadline=deadline, is_asking=is_asking
                )
            except Exception as error:
                if isinstance(error, (AskError, TryAgainError)):
                    server.door.succeeded()  # the server is well, the key is elsewhere
                else:
                    server.door.failed(tell(error, self._secrets))
                onward = await topology.learn(server, error)
                if onward is None or not redirects or loop.time() >= deadline:
                    raise
                server, is_asking = onward.server, onward.is_asking
                self.stats.redirected += 1
                if server is not None:
                    server.door.allow()
            else:
                server.door.succeeded()
                return reply
        raise AssertionError("the last turn answers or raises")

    async def _run_all(
        self, topology: Topology, server: Server, commands: Sequence[tuple[Part, ...]]
    ) -> list[Reply | ResponseError]:
        deadline = asyncio.get_running_loop().time() + self._budget_s
        try:
            replies = await server.exchange_all(commands, deadline=deadline)
        except Exception as error:
            server.door.failed(tell(error, self._secrets))
            await topology.learn(server, error)
            raise
        server.door.succeeded()
        return replies

    async def _find(self, topology: Topology, slot_key: str | bytes, deadline: float) -> Server:
        try:
            return await topology.find(slot_key, deadline)
        except IndexUnavailable as error:
            topology.door.failed(str(error))
            raise

    def _ended(self, door: Door, task: asyncio.Task[Any]) -> None:
        door.leave()
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            self.stats.answered += 1
            return
        self.stats.failed += 1
        if error is not None and not isinstance(error, IndexUnavailable):
            self.stats.causes[cause_of(error)] += 1

    def _unavailable(self, name: str, error: BaseException) -> IndexUnavailable:
        if isinstance(error, IndexUnavailable):
            return error
        return IndexUnavailable(f"{name}: {tell(error, self._secrets)}")

    def _doors(self) -> list[Door]:
        topology = self._topology
        if topology is None:
            return []
        return [topology.door, *(server.door for server in topology.servers())]

    def _build(self, where: Where) -> Topology:
        match where:
            case Alone():
                return OneServer(where, self._budget_s, self._make_door)
            case Sentinels():
                return Watched(where, self._budget_s, self._make_door)
            case Cluster():
                return Sharded(where, self._budget_s, self._make_door)

    def _make_door(self, name: str) -> Door:
        return Door(name, Breaker(self._random.random), self.monotonic, self._opened)

    def _opened(self) -> None:
        self.times_degraded += 1
