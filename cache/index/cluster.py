"""A Redis Cluster: redis+cluster://. Keys are spread over masters by 16,384 slots.

The map of slots is read from any node that answers, and again after whatever may have changed it:
MOVED, CLUSTERDOWN, a lost connection, no answer in time. MOVED also corrects its slot at once. ASK
concerns one command: the slot is on its way to another node, which takes commands for it only after
ASKING. TRYAGAIN, of a script some of whose keys have arrived and some not, fails like any error.
"""

import logging
from collections.abc import Sequence

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from cache.errors import IndexUnavailable
from cache.index.address import Cluster, Endpoint, endpoint
from cache.index.server import Server, ask_once, maker, tell
from cache.index.slots import MAX_NODES, SLOTS, SlotMap, parse_slots
from cache.index.topology import LOOKUP_STEP_S, Lookup, MakeDoor, Onward

# Nodes that one look-up asks at most: each that is gone costs it LOOKUP_STEP_S.
MAX_ASKED = 16

_log = logging.getLogger(__name__)


class Sharded:
    def __init__(self, where: Cluster, budget_s: float, make_door: MakeDoor) -> None:
        self.door = make_door("redis cluster")
        self.lookup = Lookup(self._ask)
        self._where = where
        self._budget_s = budget_s
        self._make_door = make_door
        self._map = SlotMap([None] * SLOTS, ())
        self._servers: dict[Endpoint, Server] = {}

    def server(self, slot_key: str | bytes) -> Server | None:
        owner = self._map.owners[slot_of(slot_key)]
        return None if owner is None else self._server_at(owner)

    def servers(self) -> Sequence[Server]:
        return tuple(self._servers.values())

    async def find(self, slot_key: str | bytes, deadline: float) -> Server:
        await self.lookup.wait(deadline)
        server = self.server(slot_key)
        if server is None:
            raise IndexUnavailable(f"no node of the redis cluster has slot {slot_of(slot_key)}")
        return server

    async def learn(self, server: Server, error: Exception) -> Onward | None:
        match error:
            case AskError():  # MovedError is one
                return self._redirected(server, error)
            case ClusterDownError() | ReadOnlyError():
                self.lookup.want()
                return None
            case ResponseError():
                return None
            case _:
                self.lookup.want()
                return None

    async def close(self) -> None:
        await self.lookup.close()
        for server in self._servers.values():
            await server.retire()

    def _redirected(self, server: Server, error: AskError) -> Onward | None:
        is_moved = isinstance(error, MovedError)
        if is_moved:
            self.lookup.want()
        try:
            # Without a host it is another port of the same one.
            owner = endpoint(error.host or server.host, error.port)
        except ValueError:
            return None
        if not 0 <= error.slot_id < SLOTS or len(self._servers) >= MAX_NODES:
            return None
        if is_moved:
            self._map.owners[error.slot_id] = owner
        return Onward(self._server_at(owner), is_asking=not is_moved)

    def _server_at(self, where: Endpoint) -> Server:
        server = self._servers.get(where)
        if server is None:
            make = maker(where, self._where.login, self._budget_s)
            server = Server(self._make_door(f"redis {where}"), make, where.host)
            self._servers[where] = server
        return server

    async def _ask(self) -> None:
        problems = []
        for node in self._to_ask():
            try:
                make = maker(node, self._where.login, LOOKUP_STEP_S)
                await self._adopt(parse_slots(await ask_once(make, "CLUSTER", "SLOTS"), node.host))
            except (RedisError, OSError, ValueError) as error:
                problems.append(f"{node}: {tell(error, self._where.secrets)}")
                continue
            return
        raise IndexUnavailable(f"no node tells of the cluster's slots ({'; '.join(problems)})")

    def _to_ask(self) -> list[Endpoint]:
        """Nodes that are known to answer first, those of the address among the last."""

        def is_failing(node: Endpoint) -> bool:
            server = self._servers.get(node)
            return server is not None and server.door.breaker.is_open

        known = sorted(self._map.nodes, key=is_failing)
        return list(dict.fromkeys((*known[: MAX_ASKED // 2], *self._where.endpoints)))[:MAX_ASKED]

    async def _adopt(self, found: SlotMap) -> None:
        self.door.succeeded()
        was, self._map = self._map, found
        owners = {owner for owner in found.owners if owner is not None}
        gone = [where for where in self._servers if where not in owners]
        if was.nodes and set(was.nodes) != set(found.nodes):
            _log.warning("the redis cluster's nodes are %s now", ", ".join(map(str, found.nodes)))
        for where in gone:
            await self._servers.pop(where).retire()


def slot_of(key: str | bytes) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)
