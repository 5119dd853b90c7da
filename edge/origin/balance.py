"""Which host gets the next request. Pure: loads, latencies and chance are given.

    least-connection   smallest load in proportion to weight; tie: the first listed
    round-robin        in turn, a host of weight 3 three times a round, spread over it (nginx)
    hash               by the path: each original has its host, and keeps it when others come and go
    sticky             by the client's address, likewise; what is asked for everybody, by the path
    p2c                the better of two drawn by lot: latency x load, in proportion to weight

lighttpd XORs the hash of the path with that of the host, and the top bits decide: five hosts get
25, 12, 12, 25 and 25 %. Ours is a rendezvous hash: every host draws a number for the path, and the
highest wins, which shares by weight exactly and moves nothing but what has to move.
"""

import enum
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from edge.origin.messages import OriginRequest


class Balance(enum.StrEnum):
    LEAST_CONNECTION = "least-connection"
    ROUND_ROBIN = "round-robin"
    HASH = "hash"
    STICKY = "sticky"
    P2C = "p2c"


class Candidate(Protocol):
    """A host as far as choosing goes. load counts the requests that it has."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> int: ...

    @property
    def load(self) -> int: ...

    def maybe_latency_at(self, now: float) -> float | None: ...


H = TypeVar("H", bound=Candidate)


class Balancer(Protocol):
    def choose(self, hosts: Sequence[H], request: OriginRequest, now: float) -> H:
        """One of hosts, which is not empty and lists them in the configured order."""


class _LeastConnection:
    def choose(self, hosts: Sequence[H], request: OriginRequest, now: float) -> H:
        return min(hosts, key=lambda host: (host.load + 1) / host.weight)


class _RoundRobin:
    """Smooth weighted round-robin: every candidate gains its weight, the richest is chosen and
    pays what all have gained. Who was away rejoins where it left."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def choose(self, hosts: Sequence[H], request: OriginRequest, now: float) -> H:
        for host in hosts:
            self._credit[host.name] = self._credit.get(host.name, 0) + host.weight
        chosen = max(hosts, key=lambda host: self._credit[host.name])
        self._credit[chosen.name] -= sum(host.weight for host in hosts)
        return chosen


class _Rendezvous:
    def __init__(self, key_of: Callable[[OriginRequest], str]) -> None:
        self._key_of = key_of

    def choose(self, hosts: Sequence[H], request: OriginRequest, now: float) -> H:
        key = self._key_of(request).encode()
        return max(hosts, key=lambda host: score(key, host.name, host.weight))


_DRAW_BYTES: Final = 8


def score(key: bytes, name: str, weight: int) -> float:
    """-w / ln(u), u uniform in (0, 1): the chance to be the highest is in proportion to w."""
    digest = hashlib.blake2b(key + name.encode(), digest_size=_DRAW_BYTES).digest()
    # 53 bits are what a float holds; the half keeps u off 0 and 1, where ln has no use.
    u = ((int.from_bytes(digest, "big") >> 11) + 0.5) / (1 << 53)
    return -weight / math.log(u)


class _TwoChoices:
    """Of two, the one where the request is likely to be answered first. Nobody looks at all hosts,
    so nobody runs to the same one that looked best a moment ago."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def choose(self, hosts: Sequence[H], request: OriginRequest, now: float) -> H:
        first = self._draw(len(hosts))
        if len(hosts) == 1:
            return hosts[first]
        second = self._draw(len(hosts) - 1)
        second += second >= first
        one, other = hosts[first], hosts[second]
        one_s, other_s = one.maybe_latency_at(now), other.maybe_latency_at(now)
        # Who has not answered yet counts as being as quick as the other.
        if one_s is None or other_s is None:
            one_s = other_s = 1.0
        return one if _cost(one, one_s) <= _cost(other, other_s) else other

    def _draw(self, count: int) -> int:
        return min(count - 1, int(self._chance() * count))


def _cost(host: Candidate, latency_s: float) -> float:
    return latency_s * (host.load + 1) / host.weight


def make_balancer(balance: Balance, chance: Callable[[], float]) -> Balancer:
    """chance gives numbers from 0 to 1."""
    match balance:
        case Balance.LEAST_CONNECTION:
            return _LeastConnection()
        case Balance.ROUND_ROBIN:
            return _RoundRobin()
        case Balance.HASH:
            return _Rendezvous(lambda request: request.path)
        case Balance.STICKY:
            # Originals fetched for everybody would all come from this node's own host otherwise.
            return _Rendezvous(lambda one: one.path if one.is_for_all else one.remote_addr)
        case Balance.P2C:
            return _TwoChoices(chance)
