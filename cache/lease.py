"""One flight for a key in the whole farm: leases, and parcels for those who wait elsewhere.

Inside a flight of this process, after its own look-up:

    granted     this process leads: it fills, and renews its lease meanwhile. When it has ended and
                somebody waits, it leaves the entry as a parcel, or word that there is none.
    refused     it follows: it looks at its own disk (workers of a node share a folder), then for
                a parcel, every POLL_S. When the leader is gone without a word, one of those who
                wait gets the lease and leads.
    no answer   the index is down: it fills for itself, as a node without a farm does.

A follower waits WAIT_S at most and then says so: to go on all the same would make every slow fill a
herd. A lease decides who works, never what is true: what an overtaken leader publishes is judged by
its token, like any fill.

Order of effects at the end: the entry is published, the lease ends (which tells whether somebody
waits), the parcel is left. Between the last two a follower finds neither leader nor parcel; hence
it looks twice before it takes the lease. Who has waited itself, and took the place of a leader that
was gone, knows that others wait, too, and leaves the parcel first.

Nothing is asked where the index belongs to this process alone.
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cache.entry import Entry
from cache.errors import DamagedEntry, DoesNotFit, IndexUnavailable, LedElsewhere, NotStored
from cache.index.interface import MAX_PARCEL_BYTES, Delivery, Token
from cache.key import DIGEST_BYTES, Key, SourceId
from cache.parcel import NOTHING, unwrap, wrap
from cache.store import Store

T = TypeVar("T")

log = logging.getLogger(__name__)

# A leader that dies is missed for this long at most: less than WAIT_S, so that those who wait when
# it dies still see one of them take its place.
TTL_S: Final = 4.0
# A third of it: two renewals may be lost.
RENEWALS: Final = 3
# Longer than nearly all renders and fetches take; nobody should hold a connection for more.
WAIT_S: Final = 5.0
# A fifth of what a visitor notices; each poll is one question to the index.
POLL_S: Final = 0.05
# Who polls in step would ask in step.
JITTER: Final = 0.3
# How long a parcel lies there: as long as a follower may wait, and then some.
PARCEL_S: Final = 10.0
# Sources that were waited for lately, and are remembered.
MAX_SHARED: Final = 1024
# Looks without leader and parcel, after which the leader is taken for dead.
LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, each with its reason above."""

    ttl_s: float = TTL_S
    wait_s: float = WAIT_S
    poll_s: float = POLL_S
    parcel_s: float = PARCEL_S


DEFAULT_PACE: Final = Pace()


@dataclass(slots=True)
class Stats:
    """waited == held + parcels + replaced + alone + undecided + gave_up + those who wait or were
    cancelled.

    led: leases granted, those of replaced among them. held: a follower found the entry on its own
    disk. replaced: it took a dead leader's place. alone: nothing could be handed over, and it
    filled for itself. undecided: the index fell silent, and so did it. refused: parcels that were
    not what they should be, or of no use any more. lost: leases that could not be renewed.
    """

    led: int = 0
    waited: int = 0
    held: int = 0
    parcels: int = 0
    replaced: int = 0
    alone: int = 0
    undecided: int = 0
    gave_up: int = 0
    at_once: int = 0  # parcels that were there before a lease was asked for
    without: int = 0  # fills without a lease, because the index did not answer at all
    handed_over: int = 0
    refused: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Errand(Generic[T]):
    """What is to be done once in the farm, under a key and a token.

    held() is the answer, where it is here already. fill() makes it; follow() does so after another
    process has, and may find that there is nothing left to do. take(entry, body) makes the answer
    of a parcel, None where it is of no use. is_kept(answer): the store has the entry now.
    """

    key: Key
    token: Token
    held: Callable[[], Awaitable[T | None]]
    fill: Callable[[], Awaitable[T]]
    follow: Callable[[], Awaitable[T]]
    take: Callable[[Entry, bytes], Awaitable[T | None]]
    is_kept: Callable[[T], bool]

    @property
    def name(self) -> bytes:
        token = f"{self.token.epoch}{self.token.generation}".encode()
        return hashlib.blake2b(self.key.digest + token, digest_size=DIGEST_BYTES).digest()


class Verdict(enum.Enum):
    """On a follower that was given nothing."""

    LEAD = "lead"  # in the place of a leader that is gone
    ALONE = "alone"  # what the leader had is not for others
    UNDECIDED = "undecided"  # nobody knows: the index is silent


class Leases:
    """owner is a name that no other process has, nor this one after a restart."""

    def __init__(
        self, store: Store, owner: str, chance: random.Random, pace: Pace = DEFAULT_PACE
    ) -> None:
        self.stats = Stats()
        self.waiting = 0
        self._store = store
        self._index = store.index
        self._owner = owner
        self._chance = chance
        self._pace = pace
        self._leading: set[bytes] = set()
        self._shared: dict[bytes, float] = {}  # until when, by the source's digest; oldest first
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def has_others(self) -> bool:
        """Whether there is anybody to share work with; without, once() is fill()."""
        return not self._index.exclusive

    async def once(self, errand: Errand[T]) -> T:
        """Raises what errand's calls raise, and LedElsewhere."""
        # Without a token nobody knows whether two mean the same.
        if self._index.exclusive or errand.token.is_unknown:
            return await errand.fill()
        # Who asks for what is being filled here already does not want to share it.
        name = errand.name
        if name in self._leading:
            return await errand.fill()
        if self._is_shared(errand.key.source):
            parcel = await self._left_already(errand, name)
            if parcel is not None:
                return parcel
        try:
            is_granted = await self._lease(errand, name)
        except IndexUnavailable:
            self.stats.without += 1
            return await errand.fill()
        if is_granted:
            return await self._lead(errand, name, errand.fill)
        self.stats.waited += 1
        self._share(errand.key.source)
        self.waiting += 1
        try:
            found = await self._wait(errand, name)
        finally:
            self.waiting -= 1
        match found:
            case Verdict.LEAD:
                return await self._lead(errand, name, errand.follow)
            case Verdict.ALONE:
                return await errand.follow()
            case Verdict.UNDECIDED:
                return await errand.fill()
            case _:
                return found

    async def stop(self) -> None:
        """After the last flight: what is being handed over is. Each step has the index's budget."""
        if self._ending:
            await asyncio.wait(self._ending)

    # Sources that were waited for lately. A herd that comes for a thumbnail of what nobody has
    # waits for the original first; whoever led that is done with the thumbnail, too, before the
    # others have begun with it. So what is made of such a source is left for others unasked, and
    # looked for before it is made.

    def _share(self, source: SourceId) -> None:
        self._shared.pop(source.digest, None)
        while len(self._shared) >= MAX_SHARED:
            del self._shared[next(iter(self._shared))]
        self._shared[source.digest] = asyncio.get_running_loop().time() + self._pace.parcel_s

    def _is_shared(self, source: SourceId) -> bool:
        until = self._shared.get(source.digest)
        return until is not None and asyncio.get_running_loop().time() < until

    async def _left_already(self, errand: Errand[T], name: bytes) -> T | None:
        delivery = await self._maybe_delivery(errand, name)
        if delivery is None or delivery.parcel in (None, NOTHING):
            return None
        assert delivery.parcel is not None
        taken = await self._take(errand, delivery.parcel)
        self.stats.at_once += taken is not None
        return taken

    # Leading

    async def _lease(self, errand: Errand[T], name: bytes) -> bool:
        source = errand.key.source
        return await self._index.lease(source, name, self._owner, self._pace.ttl_s)

    async def _lead(self, errand: Errand[T], name: bytes, fill: Callable[[], Awaitable[T]]) -> T:
        self.stats.led += 1
        self._leading.add(name)
        ended = asyncio.Event()
        renewing = asyncio.get_running_loop().create_task(
            self._renew(errand, name, ended), name="lease"
        )
        answer: T | None = None
        try:
            answer = await fill()
            return answer
        finally:
            ended.set()
            # Nobody who asked here waits for that.
            ending = asyncio.get_running_loop().create_task(
                self._end(errand, name, renewing, answer), name="end of a lease"
            )
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _renew(self, errand: Errand[T], name: bytes, ended: asyncio.Event) -> None:
        """Ends by itself: a question to the index is never broken off in the middle."""
        ttl_s = self._pace.ttl_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ttl_s / RENEWALS):
                    await ended.wait()
            if ended.is_set():
                return
            try:
                is_ours = await self._index.renew_lease(errand.key.source, name, self._owner, ttl_s)
            except IndexUnavailable:
                continue
            if not is_ours:
                self.stats.lost += 1
                return

    async def _end(
        self, errand: Errand[T], name: bytes, renewing: "asyncio.Task[None]", answer: T | None
    ) -> None:
        await asyncio.wait([renewing])
        source = errand.key.source
        try:
            # Of a fill that failed, the next one finds out whether it still does.
            is_shared = self._is_shared(source)
            if is_shared and answer is not None:
                await self._hand_over(errand, name, answer)
            is_awaited = await self._index.end_lease(source, name, self._owner)
            if is_awaited:
                self._share(source)
            if is_awaited and not is_shared and answer is not None:
                await self._hand_over(errand, name, answer)
        except IndexUnavailable:
            log.info("%a: the index has not taken the end of a lease", source.path)
        except Exception:
            log.exception("a parcel failed")
        finally:
            self._leading.discard(name)

    async def _hand_over(self, errand: Errand[T], name: bytes, answer: T) -> None:
        parcel = await self._parcel(errand) if errand.is_kept(answer) else NOTHING
        await self._index.put_parcel(errand.key.source, name, parcel, self._pace.parcel_s)
        self.stats.handed_over += parcel is not NOTHING

    async def _parcel(self, errand: Errand[T]) -> bytes:
        stored = await self._store.lookup(errand.key, errand.token)
        if stored is None:
            return NOTHING
        with stored:
            if stored.length >= MAX_PARCEL_BYTES:
                return NOTHING
            body = await self._store.threads.run(stored.read)
            with contextlib.suppress(DoesNotFit):
                return wrap(stored.entry, body)
            return NOTHING

    # Following

    async def _wait(self, errand: Errand[T], name: bytes) -> "T | Verdict":
        """The answer, or how it is to be had by this process."""
        loop = asyncio.get_running_loop()
        wait_s = self._pace.wait_s
        late_at = loop.time() + wait_s
        refused: bytes | None = None  # a parcel that was looked at, and is of no use
        leaderless = 0
        while True:
            found = await errand.held()
            if found is not None:
                self.stats.held += 1
                return found
            delivery = await self._maybe_delivery(errand, name)
            if delivery is None:
                self.stats.undecided += 1
                return Verdict.UNDECIDED
            if delivery.parcel == NOTHING:
                self.stats.alone += 1
                return Verdict.ALONE
            if delivery.parcel is not None and delivery.parcel != refused:
                taken = await self._take(errand, delivery.parcel)
                if taken is not None:
                    self.stats.parcels += 1
                    return taken
                refused = delivery.parcel
            leaderless = 0 if delivery.is_led else leaderless + 1
            if leaderless >= LOOKS and await self._succeeds(errand, name):
                self.stats.replaced += 1
                return Verdict.LEAD
            if loop.time() >= late_at:
                self.stats.gave_up += 1
                raise LedElsewhere(f"{errand.key.source.path!a} is not there in {wait_s} s")
            jitter = 1 + JITTER * (2 * self._chance.random() - 1)
            await asyncio.sleep(self._pace.poll_s * jitter)

    async def _maybe_delivery(self, errand: Errand[T], name: bytes) -> Delivery | None:
        try:
            return await self._index.delivery(errand.key.source, name)
        except IndexUnavailable:
            return None

    async def _succeeds(self, errand: Errand[T], name: bytes) -> bool:
        """Whether this one of those who wait takes the place of a leader that is gone."""
        try:
            return await self._lease(errand, name)
        except IndexUnavailable:
            return False  # the next look tells

    async def _take(self, errand: Errand[T], parcel: bytes) -> T | None:
        try:
            entry, body = unwrap(parcel, errand.key, errand.token)
        except DamagedEntry as error:
            log.warning("%a: a parcel is refused: %s", errand.key.source.path, error)
            taken = None
        else:
            taken = await errand.take(entry, body)
        self.stats.refused += taken is None
        return taken


async def keep(store: Store, entry: Entry, body: bytes) -> bool:
    """Store what came in a parcel; False where the store does not take it. Raises StoreBusy."""
    try:
        await store.keep(entry, body)
    except NotStored as error:
        log.info("%a came in a parcel and was not stored: %s", entry.key.source.path, error)
        return False
    return True
