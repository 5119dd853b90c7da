"""What must be shared or ordered, behind one interface with two homes (embedded, redis).

A token is (epoch, generation). The epoch is a random name made with the store; the generation of a
source only grows. A fill reads the token before it touches the source and publishes only if the
token is still current; a purge raises the generation in one step. tests/contract runs one suite on
both homes.
"""

from dataclasses import dataclass
from typing import Protocol

from cache.key import SourceId


@dataclass(frozen=True, slots=True)
class Token:
    epoch: str  # 16 hexadecimal digits
    generation: int


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known of an original: enough to judge freshness and to name derivatives.

    validator is opaque text that changes when the bytes change. Times are whole seconds since 1970.
    width and height in pixels, 0 when not known yet.
    """

    validator: str
    media_type: str
    length: int
    last_modified: int
    stored_at: int
    fresh_until: int
    width: int = 0
    height: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Purged:
    """Outcome of a purge: the new token, and the digests of the entries that it made unreachable."""

    token: Token
    digests: tuple[bytes, ...]


class Index(Protocol):
    """Every method but start and stop raises IndexUnavailable when there is no answer in budget."""

    async def start(self) -> None:
        """Open the store. Raises IndexUnavailable only where it can never work (bad address)."""

    async def stop(self) -> None: ...

    async def open_source(self, source: SourceId) -> tuple[Token, SourceRecord | None]:
        """The current token (made on first sight) and the record, if one is stored under it."""

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        """Store the record if token is still current; True when stored."""

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        """Record that an entry (size in bytes) exists, if token is still current; True when so."""

    async def forget(self, source: SourceId, digest: bytes) -> None:
        """Drop an entry that was evicted or found damaged; unknown entries are no error."""

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        """Digests of the recorded entries of a source."""

    async def purge(self, source: SourceId) -> Purged:
        """Raise the generation, durably, and drop record and members in the same step."""
