"""A master that sentinels watch: redis+sentinel://.

Which server is the master is asked of one sentinel after the other, the one that knew last time
first; then the server itself is asked for its role, because a sentinel may be behind (Sentinel
client guidelines, step 3). It is asked again after whatever a failover looks like: a lost
connection, no answer in time, READONLY, MASTERDOWN. While that goes on, commands go to the master
known so far, unless it said itself that it is none.
"""

import logging
from collections.abc import Sequence

from redis.asyncio.sentinel import Sentinel
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError, ResponseError

from cache.errors import IndexUnavailable
from cache.index.address import Endpoint, Sentinels, endpoint
from cache.index.server import Server, ask_once, maker, no_retry, tell
from cache.index.topology import LOOKUP_STEP_S, Lookup, MakeDoor, Onward

_log = logging.getLogger(__name__)


class Watched:
    def __init__(self, where: Sentinels, budget_s: float, make_door: MakeDoor) -> None:
        self.door = make_door(f"redis service {where.service!r}")
        self.lookup = Lookup(self._ask)
        self._where = where
        self._budget_s = budget_s
        self._make_door = make_door
        self._order = list(where.endpoints)
        self._known: Endpoint | None = None
        self._server: Server | None = None

    def server(self, slot_key: str | bytes) -> Server | None:
        return self._server

    def servers(self) -> Sequence[Server]:
        return () if self._server is None else (self._server,)

    async def find(self, slot_key: str | bytes, deadline: float) -> Server:
        await self.lookup.wait(deadline)
        if self._server is None:  # it has said meanwhile that it is no master
            raise IndexUnavailable(f"{self.door.name} has no master now")
        return self._server

    async def learn(self, server: Server, error: Exception) -> Onward | None:
        match error:
            case ReadOnlyError() | MasterDownError():
                if server is self._server:
                    self._server = None
                await server.retire()
                self.lookup.want()
                return Onward(self._server)
            case ResponseError():
                return None
            case _:
                self.lookup.want()
                return None

    async def close(self) -> None:
        await self.lookup.close()
        if self._server is not None:
            await self._server.retire()

    async def _ask(self) -> None:
        problems = []
        for sentinel in tuple(self._order):
            try:
                await self._adopt(await self._master_by(sentinel))
            # A sentinel's answer is taken apart by redis-py, and may be any rubbish.
            except (RedisError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                problems.append(f"{sentinel}: {tell(error, self._where.secrets)}")
                continue
            self._order.remove(sentinel)
            self._order.insert(0, sentinel)
            return
        raise IndexUnavailable(
            f"no sentinel names a master of {self._where.service!r} ({'; '.join(problems)})"
        )

    async def _master_by(self, sentinel: Endpoint) -> Endpoint:
        """The master, by the word of this sentinel and of the server itself."""
        login = self._where.sentinel_login
        watcher = Sentinel(  # type: ignore[no-untyped-call]
            [sentinel],
            sentinel_kwargs={
                "username": login.username or None,
                "password": login.password or None,
                "protocol": 2,
                "socket_timeout": LOOKUP_STEP_S,
                "socket_connect_timeout": LOOKUP_STEP_S,
                "retry": no_retry(),
                "driver_info": None,
            },
        )
        try:
            host, port = await watcher.discover_master(self._where.service)
        finally:
            await watcher.aclose()
        master = endpoint(host, port)
        where = self._where
        role = await ask_once(maker(master, where.login, LOOKUP_STEP_S), "ROLE")
        if not isinstance(role, list) or role[:1] != [b"master"]:
            raise ValueError(f"{master}, which it names, is no master")
        return master

    async def _adopt(self, master: Endpoint) -> None:
        self.door.succeeded()
        if master == self._known and self._server is not None:
            return
        old, where = self._server, self._where
        if self._known not in (None, master):
            _log.warning("the master of %r is %s now, not %s", where.service, master, self._known)
        make = maker(master, where.login, self._budget_s, where.database)
        self._known = master
        self._server = Server(self._make_door(f"redis {master}"), make, master.host)
        if old is not None:
            await old.retire()
