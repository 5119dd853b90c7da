"""Who has which slot of a Redis Cluster, as CLUSTER SLOTS tells it. Pure.

The reply is a list of [first slot, last slot, master, replica ...], a node being [host, port, id,
...]. A host that is nil or empty is the one that was asked; "?" is a node that has no name to be
reached by. CLUSTER SLOTS is spoken by Redis 3 to 8 and Valkey alike; CLUSTER SHARDS came with 7.
"""

from dataclasses import dataclass
from typing import Final

from cache.index.address import Endpoint, endpoint

SLOTS: Final = 16_384
# A cluster is at most a thousand nodes by its authors' advice; each master may have a server here.
MAX_NODES: Final = 1000


@dataclass(frozen=True, slots=True)
class SlotMap:
    owners: list[Endpoint | None]  # one for each slot; None: nobody has it
    nodes: tuple[Endpoint, ...]  # masters, then replicas


def parse_slots(reply: object, asked: str) -> SlotMap:
    """asked: the host that gave the reply. Raises ValueError."""
    if not isinstance(reply, list) or not reply:
        raise ValueError("knows of no slots")
    owners: list[Endpoint | None] = [None] * SLOTS
    masters: dict[Endpoint, None] = {}
    replicas: dict[Endpoint, None] = {}
    for row in reply:
        match row:
            case [int() as first, int() as last, list() as master, *others]:
                pass
            case _:
                raise ValueError("tells of slots in another form than ours")
        if not 0 <= first <= last < SLOTS:
            raise ValueError(f"tells of slots {first} to {last}")
        owner = _parse_node(master, asked)
        owners[first : last + 1] = [owner] * (last + 1 - first)
        if owner is not None:
            masters[owner] = None
        for other in others:
            replica = _parse_node(other, asked)
            if replica is not None:
                replicas[replica] = None
    nodes = tuple(masters | replicas)
    if len(nodes) > MAX_NODES:
        raise ValueError(f"tells of {len(nodes)} nodes, {MAX_NODES} are the most")
    return SlotMap(owners, nodes)


def _parse_node(node: object, asked: str) -> Endpoint | None:
    match node:
        case [(bytes() | None) as host, int() as port, *_]:
            pass
        case _:
            raise ValueError("tells of nodes in another form than ours")
    if host == b"?":
        return None
    return endpoint(host.decode("ascii") if host else asked, port)
