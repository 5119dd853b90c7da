"""What must be shared or ordered, behind one interface with two homes (embedded, redis).

A token is (epoch, generation). The epoch is a random name made when the memory of purges begins:
with the store (embedded) or with the first sight of a source (redis). Another epoch than before
means that purges may have been forgotten. The generation of a source only grows. A fill reads the
token before it touches the source and publishes only if the token is still current; a purge raises
the generation in one step. tests/contract runs one suite on both homes.
"""

from dataclasses import dataclass
from typing import Protocol

from cache.key import SourceId

EPOCH_DIGITS = 16
MAX_GENERATION = 2**53 - 1  # Lua's numbers are doubles; milliseconds reach this in 287,000 years
_HEXADECIMAL = frozenset("0123456789abcdef")

# One purge answers this many digests at most, so that a script never runs long. Members are a
# hint for early removal; what is not listed is made unreachable by its token all the same.
MAX_MEMBERS = 64


@dataclass(frozen=True, slots=True)
class Token:
    epoch: str  # 16 hexadecimal digits
    generation: int

    def __post_init__(self) -> None:
        if len(self.epoch) != EPOCH_DIGITS or not _HEXADECIMAL.issuperset(self.epoch):
            raise ValueError(f"epoch {self.epoch!r} is not {EPOCH_DIGITS} hexadecimal digits")
        if not 0 <= self.generation <= MAX_GENERATION:
            raise ValueError(f"generation {self.generation} is outside 0 to {MAX_GENERATION}")

    def is_older_than(self, other: "Token") -> bool:
        """True when a purge is known to lie between the two; epochs cannot be compared."""
        return self.epoch == other.epoch and self.generation < other.generation


# What a fill carries that began without an index: current nowhere, so it never outlives the outage.
UNKNOWN_TOKEN = Token("0" * EPOCH_DIGITS, 0)


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known of an original: enough to judge freshness and to name derivatives.

    validator is opaque text that changes when the bytes change; etag is what clients are told.
    Times are whole seconds since 1970; until stale_until the original may be used when its origin
    fails. width and height in pixels, 0 when not known yet.
    """

    validator: str
    etag: str
    media_type: str
    length: int
    last_modified: int
    stored_at: int
    fresh_until: int
    stale_until: int = 0
    width: int = 0
    height: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Purged:
    """Outcome of a purge: the new token, and digests of entries that it made unreachable.

    At most MAX_MEMBERS digests are listed; the token rules out the others.
    """

    token: Token
    digests: tuple[bytes, ...]


class IndexStats(Protocol):
    """What every home counts."""

    failed: int
    refused: int
    late: int


class Index(Protocol):
    """Every method but start and stop raises IndexUnavailable when there is no answer in budget.

    The outcome of a call that raised is unknown: it may still take place.
    """

    @property
    def stats(self) -> IndexStats: ...

    @property
    def exclusive(self) -> bool:
        """True when no other process changes this index: what was read stays current until this
        process changes it."""

    @property
    def is_degraded(self) -> bool:
        """True while it is known to give no answers, so that decisions are local."""

    async def probe(self) -> None:
        """Find out whether it answers again, where nobody else asks it. Raises nothing."""

    async def start(self) -> None:
        """Open the store. Raises IndexUnavailable only where it can never work (bad address)."""

    async def stop(self) -> None: ...

    async def open_source(self, source: SourceId) -> tuple[Token, SourceRecord | None]:
        """The current token (made on first sight) and the record, if one is stored under it."""

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        """Store the record if token is still current; True when stored. Raises DoesNotFit."""

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        """Record that an entry (size in bytes) exists, if token is still current; True when so.

        Of a source's entries the first MAX_MEMBERS are recorded; the answer is the same.
        """

    async def forget(self, source: SourceId, digest: bytes) -> None:
        """Drop an entry that was evicted or found damaged; unknown entries are no error."""

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        """Digests of the recorded entries of a source."""

    async def purge(self, source: SourceId) -> Purged:
        """Raise the generation, durably, and drop record and members in the same step."""
