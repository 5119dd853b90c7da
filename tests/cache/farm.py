"""The leases of an index, in memory, as several processes of a test share them.

Time is what the test says. Kept in the manner of cache/index/interface.py, down to what it raises.
"""

from collections import Counter
from dataclasses import dataclass, field

from cache.errors import DoesNotFit, IndexUnavailable
from cache.index.interface import MAX_PARCEL_BYTES, Delivery, Token
from cache.key import SourceId


@dataclass
class Farm:
    """What all processes see."""

    now: float = 0.0
    owners: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    awaited: set[bytes] = field(default_factory=set)
    parcels: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)

    def owner(self, name: bytes) -> str | None:
        found = self.owners.get(name)
        return found[0] if found is not None and self.now < found[1] else None


class FarmLeases:
    """One process's access to it, which the test may cut. asked counts the calls."""

    exclusive = False

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.is_down = False
        self.asked: Counter[str] = Counter()

    def _ask(self, call: str) -> None:
        self.asked[call] += 1
        if self.is_down:
            raise IndexUnavailable("down")

    async def lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        self._ask("lease")
        if self.farm.owner(name) is not None:
            self.farm.awaited.add(name)
            return False
        self.farm.owners[name] = (owner, self.farm.now + ttl_s)
        return True

    async def renew_lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        self._ask("renew_lease")
        if self.farm.owner(name) != owner:
            return False
        self.farm.owners[name] = (owner, self.farm.now + ttl_s)
        return True

    async def end_lease(self, source: SourceId, name: bytes, owner: str) -> bool:
        self._ask("end_lease")
        if self.farm.owner(name) != owner:
            return False
        del self.farm.owners[name]
        is_awaited = name in self.farm.awaited
        self.farm.awaited.discard(name)
        return is_awaited

    async def put_parcel(self, source: SourceId, name: bytes, parcel: bytes, ttl_s: float) -> None:
        self._ask("put_parcel")
        if len(parcel) > MAX_PARCEL_BYTES:
            raise DoesNotFit("too large")
        self.farm.parcels[name] = (parcel, self.farm.now + ttl_s)

    async def delivery(self, source: SourceId, name: bytes) -> Delivery:
        self._ask("delivery")
        parcel, until = self.farm.parcels.get(name, (None, 0.0))
        return Delivery(
            is_led=self.farm.owner(name) is not None,
            parcel=parcel if self.farm.now < until else None,
        )

    # Of the rest, what publishing needs.

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def publish_now(self, source: SourceId, token: Token, digest: bytes, size: int) -> None:
        del source, token, digest, size  # as Redis: asked from the loop alone

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        return True
