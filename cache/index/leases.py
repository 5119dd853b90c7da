"""Leases and parcels of an index inside one process. Pure: takes now, in monotonic seconds."""

from dataclasses import dataclass
from typing import Final

from cache.errors import IndexUnavailable
from cache.index.interface import MAX_PARCEL_BYTES, Delivery, check_parcel

# Flights that are under way at a time; the table of flights itself is smaller.
MAX_LEASES: Final = 4096
# Parcels live for seconds; beyond this the oldest go.
MAX_PARCELS_BYTES: Final = 16 * MAX_PARCEL_BYTES

Name = tuple[bytes, bytes]  # digest of the source, name of the lease


@dataclass(slots=True)
class _Lease:
    owner: str
    until: float
    is_awaited: bool = False


class Leases:
    def __init__(self) -> None:
        self._leases: dict[Name, _Lease] = {}
        self._parcels: dict[Name, tuple[bytes, float]] = {}
        self._parcels_bytes = 0

    def lease(self, name: Name, owner: str, ttl_s: float, now: float) -> bool:
        """Raises IndexUnavailable when the table is full."""
        held = self._held(name, now)
        if held is not None and held.owner != owner:
            held.is_awaited = True
            return False
        if held is not None:
            held.until = now + ttl_s
            return True
        if len(self._leases) >= MAX_LEASES:
            self._leases = {n: one for n, one in self._leases.items() if one.until > now}
        if len(self._leases) >= MAX_LEASES:
            raise IndexUnavailable(f"{MAX_LEASES} leases are held already")
        self._leases[name] = _Lease(owner, now + ttl_s)
        return True

    def renew(self, name: Name, owner: str, ttl_s: float, now: float) -> bool:
        held = self._held(name, now)
        if held is None or held.owner != owner:
            return False
        held.until = now + ttl_s
        return True

    def end(self, name: Name, owner: str, now: float) -> bool:
        held = self._held(name, now)
        if held is None or held.owner != owner:
            return False
        del self._leases[name]
        return held.is_awaited

    def put_parcel(self, name: Name, parcel: bytes, ttl_s: float, now: float) -> None:
        """Raises DoesNotFit."""
        check_parcel(parcel)
        self._drop_parcel(name)
        for other in [n for n, (_, until) in self._parcels.items() if until <= now]:
            self._drop_parcel(other)
        self._parcels[name] = (parcel, now + ttl_s)
        self._parcels_bytes += len(parcel)
        while self._parcels_bytes > MAX_PARCELS_BYTES or len(self._parcels) > MAX_LEASES:
            self._drop_parcel(next(iter(self._parcels)))

    def delivery(self, name: Name, now: float) -> Delivery:
        held = self._held(name, now)
        if held is not None:
            held.is_awaited = True
        parcel, until = self._parcels.get(name, (None, now))
        return Delivery(held is not None, parcel if until > now else None)

    def _held(self, name: Name, now: float) -> _Lease | None:
        held = self._leases.get(name)
        if held is not None and held.until <= now:
            del self._leases[name]
            return None
        return held

    def _drop_parcel(self, name: Name) -> None:
        found = self._parcels.pop(name, None)
        if found is not None:
            self._parcels_bytes -= len(found[0])
