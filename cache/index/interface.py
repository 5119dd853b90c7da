"""What must be shared or ordered, behind one interface with two homes (embedded, redis).

A token is (epoch, generation). The epoch is a random name made when the memory of purges begins:
with the store (embedded) or with the first sight of a source (redis). Another epoch than before
means that purges may have been forgotten. The generation of a source only grows. A fill reads the
token before it touches the source and publishes only if the token is still current; a purge raises
the generation in one step. tests/contract runs one suite on both homes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cache.errors import DoesNotFit, IndexUnavailable
from cache.index.causes import Cause
from cache.key import SourceId
from cache.orders import MAX_ORDERS, MAX_VALUE_BYTES, Order, Scope

EPOCH_DIGITS = 16
MAX_GENERATION = 2**53 - 1  # Lua's numbers are doubles; milliseconds reach this in 287,000 years
_HEXADECIMAL = frozenset("0123456789abcdef")

# One purge answers this many digests at most, so that a script never runs long. Members are a
# hint for early removal; what is not listed is made unreachable by its token all the same.
MAX_MEMBERS = 64
# Failures of a source's derivatives that are remembered; beyond it a new one is not.
MAX_FAILURES = 64
# URLs that are remembered for one source, for the caches in front; beyond it a new one is not.
MAX_SPELLINGS = 256
# In place of a lifetime of their own for browsers.
NO_OTHER = -1
# Sources that are taken down at a time; beyond it announce() refuses, loudly.
MAX_TAKEDOWNS = 100_000
# Tags of one source that sources_of() knows it by.
MAX_LISTED_TAGS = 256
# Paths of a site, or of a tag, that sources_of() can list; beyond it a new one is not.
MAX_PATHS = 1_000_000
# Milliseconds, as seqs have them, that a source may be behind the orders that do not concern it.
# Often enough that the log's horizon, 10,000 orders back, overtakes nobody who is asked for.
SETTLE_MS = 60_000
# Sources that one question of survey() is about.
MAX_SURVEYED = 64
# What may be handed from the leader of a flight to those who wait on other nodes.
MAX_PARCEL_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the tables that all sources share. orders: of those for tags and prefixes, and as many
    again for single sources. paths: in Redis; in SQLite they are as bounded as the sources."""

    orders: int = MAX_ORDERS
    takedowns: int = MAX_TAKEDOWNS
    paths: int = MAX_PATHS


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Token:
    epoch: str  # 16 hexadecimal digits
    generation: int

    def __post_init__(self) -> None:
        if len(self.epoch) != EPOCH_DIGITS or not _HEXADECIMAL.issuperset(self.epoch):
            raise ValueError(f"epoch {self.epoch!r} is not {EPOCH_DIGITS} hexadecimal digits")
        if not 0 <= self.generation <= MAX_GENERATION:
            raise ValueError(f"generation {self.generation} is outside 0 to {MAX_GENERATION}")

    @property
    def is_raised(self) -> bool:
        """Whether the source was purged since this epoch began: generations begin even, and are
        odd once they were raised. Then what is stored of other epochs is from before a purge."""
        return self.generation % 2 == 1

    def is_older_than(self, other: "Token") -> bool:
        """True when a purge is known to lie between the two; epochs cannot be compared."""
        return self.epoch == other.epoch and self.generation < other.generation

    @property
    def is_unknown(self) -> bool:
        """What a fill carries that began without an index: current nowhere, so it never outlives
        the outage."""
        return self.epoch == UNKNOWN_TOKEN.epoch


# The first of these; its generation is the newest order that concerns the source.
UNKNOWN_TOKEN = Token("0" * EPOCH_DIGITS, 0)


# Never changed; not frozen, since that makes its making, for every file met, four times as dear.
@dataclass(slots=True, unsafe_hash=True)
class SourceRecord:
    """What is known of an original: enough to judge freshness and to name derivatives.

    validator is opaque text that changes when the bytes change; etag is what clients are told.
    Times are whole seconds since 1970; until stale_until the original may be used when its origin
    fails, until revalidate_until while it is asked. width and height in pixels, 0 when not known
    yet. seen is the newest order (cache/orders.py) known when the origin was asked: a later soft
    purge that concerns the source makes the record stale. max_age is the lifetime in seconds that
    the origin grants to browsers, NO_OTHER where they may have the same as we.
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
    revalidate_until: int = 0
    seen: int = 0
    max_age: int = NO_OTHER


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a derivative or an original could not be made, until when (seconds since 1970) nobody
    need try again. kind is a word of the caller's; detail is for logs, at most 200 characters."""

    kind: str
    until: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What open_source() found: the token, the record stored under it, the newest order that the
    generation was raised for, and the failures known under this token, by the digest given to
    put_failure()."""

    token: Token
    record: SourceRecord | None
    applied: int = 0
    failures: Mapping[bytes, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Purged:
    """Outcome of a purge: the new token, and digests of entries that it made unreachable.

    At most MAX_MEMBERS digests are listed; the token rules out the others. replicas: how many
    further servers have acknowledged it.
    """

    token: Token
    digests: tuple[bytes, ...]
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Outcome of overtake(). is_bare: nothing was stored of the source. token is the new one, None
    where it is not bare."""

    is_bare: bool
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What look_up() found of a source."""

    token: Token
    digests: tuple[bytes, ...]  # as members() has them


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What survey() found of a source: the number of its members(), and its spellings()."""

    entries: int
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A recorded entry. source: the digest of its source. place: where it stands in the list."""

    source: bytes
    digest: bytes
    place: bytes


@dataclass(frozen=True, slots=True)
class OrderPage:
    """The part of the log after some seq, oldest first.

    head: seq of the newest order of the log, 0 for none. horizon: seq of the newest order for a tag
    or a prefix that the log has dropped for want of room. epoch: another one than before means that
    the log was lost. forgotten: seq of the newest dropped order for one source; those are kept
    apart, so that many of them do not move the horizon. Whoever had read less has missed some, and
    may believe nothing that is remembered of any source.
    """

    orders: tuple[Order, ...]
    head: int
    horizon: int
    epoch: str
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a flight elsewhere stands: is_led while somebody holds its lease; parcel is what the
    leader left for those who wait."""

    is_led: bool
    parcel: bytes | None = None


class IndexStats(Protocol):
    """What every home counts."""

    failed: int
    refused: int
    late: int

    @property
    def causes(self) -> Mapping[Cause, int]:
        """Why, of those that failed there; every cause, from 0 on."""


@dataclass(slots=True)
class HintStats:
    """What the index could not be told while it gave no answers, and is told when it does.

    Those added since the start == waiting + dropped + overtaken + told + outdated.
    """

    waiting: int = 0
    dropped: int = 0  # for want of room
    overtaken: int = 0  # by later news of the same thing
    told: int = 0
    outdated: int = 0  # refused: the source was purged meanwhile, or is known better


@dataclass(slots=True)
class CatalogueStats:
    """What sources_of() and spellings() will never list, because the bounds are reached."""

    urls_dropped: int = 0
    paths_dropped: int = 0  # once for each tag, too


class Index(Protocol):
    """Every method but start and stop raises IndexUnavailable when there is no answer in budget.

    The outcome of a call that raised is unknown: it may still take place.
    """

    @property
    def stats(self) -> IndexStats: ...

    @property
    def hints(self) -> HintStats: ...

    @property
    def catalogue(self) -> CatalogueStats: ...

    @property
    def times_degraded(self) -> int:
        """How often is_degraded became true."""

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

    async def open_source(
        self, source: SourceId, *, barrier: int = 0, head: int = 0, settled: int = 0
    ) -> Sight:
        """The current token (made on first sight), and what is stored under it.

        barrier is the newest order that concerns the source: where it is newer than the last one
        applied, the generation is raised and record, members and failures are dropped in the same
        step, as by purge(). A source seen first, and one whose generation was raised here, has
        applied head: nothing of it is older. settled: of the orders up to this one none but barrier
        concerns the source, so applied follows it, once it is SETTLE_MS behind.
        """

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        """Store the record if token is still current; True when stored. Raises DoesNotFit."""

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        """Record that an entry (size in bytes) exists, if token is still current; True when so.

        Of a source's entries the first MAX_MEMBERS are recorded; the answer is the same.
        """

    def publish_now(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool | None:
        """publish() for a thread that may block on a disk, and without waiting for other calls.
        None where that cannot be had, now or ever: then nothing was done."""

    async def forget(self, source: SourceId, digest: bytes) -> None:
        """Drop an entry that was evicted or found damaged; unknown entries are no error."""

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        """Digests of the recorded entries of a source."""

    # For a check of what is recorded against what is there. Changes nothing that a fill reads.

    async def look_up(self, source: SourceId) -> Known | None:
        """The token and the recorded entries; None where nobody has opened the source. As
        open_source() without any order, but for that nothing is made or applied."""

    async def listed(self, after: bytes, limit: int) -> tuple[Member, ...] | None:
        """The recorded entries of all sources, up to limit of them, from the place after on; b"" is
        the beginning, an empty answer the end. None: it is not exclusive, so most of them may be
        others', and it keeps no list."""

    async def unlist(self, members: Sequence[Member]) -> None:
        """forget() for each of them."""

    async def purge(self, source: SourceId) -> Purged:
        """Raise the generation, durably, and drop record and members in the same step."""

    async def overtake(self, source: SourceId) -> Overtaken:
        """Of a source of which nothing is stored: raise the generation, so that what is being
        filled is refused. Not durable, since there is nothing to come back. Where something may be
        stored, by whomever, nothing is changed: that is for purge()."""

    async def put_failure(
        self, source: SourceId, token: Token, digest: bytes, failure: Failure
    ) -> bool:
        """Remember a failure until its time is over or the source is purged; True when stored,
        False when the token is old. digest is of the key and of the source's version, so a changed
        source has none. Of a source's failures the first MAX_FAILURES are kept; the answer is the
        same."""

    # The log of orders. Also for callers that hear of nothing: see on_news.

    on_news: Callable[[], None]
    """Called in the loop's thread when the log may have grown, by whomever. Nothing may be lost
    for want of it: who sets it polls orders() as well."""

    async def announce(self, order: Order) -> int:
        """Append to the log, durably; its seq, which is above the one that the order has already: a
        log that was lost does not know what was there. A take-down stands until it is lifted, even
        when the log has forgotten the order. Raises IndexUnavailable as purge() does.

        The purge of one source comes after purge() of it, which was durable: of such orders the log
        of one node may lose the last ones with its power."""

    async def orders(self, after: int) -> OrderPage: ...

    async def takedowns(self) -> frozenset[SourceId]: ...

    # Leases: one flight for a key in the whole farm. A lease is named by a source and the digest
    # of a key and its token, so that the token is its fence: what an overtaken leader publishes is
    # refused like any old fill. owner is a name that nobody else has.

    async def lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        """True: the caller leads, for ttl_s or until it renews. False: another one does, and has
        been told that somebody waits."""

    async def renew_lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        """False: it was lost, and somebody else may lead by now."""

    async def end_lease(self, source: SourceId, name: bytes, owner: str) -> bool:
        """Give it back, where it is still the owner's. True when somebody elsewhere waits."""

    async def put_parcel(self, source: SourceId, name: bytes, parcel: bytes, ttl_s: float) -> None:
        """Leave the outcome of a flight for those who wait. Raises DoesNotFit."""

    async def delivery(self, source: SourceId, name: bytes) -> Delivery: ...

    # URLs under which a source was handed out, for the caches in front of this node.

    async def add_spellings(self, source: SourceId, urls: Sequence[str]) -> None:
        """Of a source's URLs the first MAX_SPELLINGS are kept."""

    async def spellings(self, source: SourceId) -> tuple[str, ...]: ...

    async def survey(self, sources: Sequence[SourceId]) -> tuple[Surveyed, ...]:
        """Of each of up to MAX_SURVEYED sources, in their order, in one question to each server."""

    async def sources_of(
        self, scope: Scope, site: str, value: str, limit: int
    ) -> tuple[SourceId, ...]:
        """Up to limit sources with spellings, or with a record that has tags, by the start of
        their path or by a tag. It may list sources that have lost them since."""


def keepable(urls: Sequence[str]) -> list[str]:
    """Those that are no longer than a path may be."""
    return [url for url in urls if len(url.encode()) <= MAX_VALUE_BYTES]


def too_many_takedowns(bounds: Bounds) -> IndexUnavailable:
    return IndexUnavailable(f"{bounds.takedowns} sources are taken down already: lift some first")


def check_parcel(parcel: bytes) -> None:
    if len(parcel) > MAX_PARCEL_BYTES:
        raise DoesNotFit(f"parcel of {len(parcel)} bytes, at most {MAX_PARCEL_BYTES} are kept")


def catalogue_of(site: str, tag: str | None = None) -> bytes:
    """The name of a site's paths, or of a tag's in the site. No text of a client is in it."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in (site,) if tag is None else (site, tag):
        raw = part.encode()
        hashed.update(len(raw).to_bytes(4, "big"))
        hashed.update(raw)
    return hashed.digest()
