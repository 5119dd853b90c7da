"""The home of the index inside one process: SQLite, one connection, one thread at a time.

One connection, because SQLite 3.7.0 to 3.51.2 can corrupt a WAL file that two connections reset at
an unlucky moment; EXCLUSIVE locking makes sure that nobody opens a second one. A tool that wants to
look asks the running node.

Calls queue up for the thread. It puts what is waiting, at most BATCH calls, into one transaction
and answers after the commit, so no answer is ever taken back; while it commits, the next batch
gathers. What belongs to a purge does not queue up behind the others: it makes a batch of its own,
which comes next, and whose commit is durable where one of its calls asks for that.

A disk thread that completes a fill may use the connection itself (publish_now), in a transaction of
its own, as long as nobody else does and nobody waits for it: it saves two ways between threads. A
lock parts the two, and a disk thread never waits for that.
"""

import asyncio
import enum
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from random import Random
from typing import Final, TypeVar, cast

from cache.errors import IndexUnavailable
from cache.index.causes import Cause
from cache.index.database import Database
from cache.index.interface import (
    BOUNDS,
    Bounds,
    CatalogueStats,
    Delivery,
    Failure,
    HintStats,
    Known,
    Member,
    OrderPage,
    Overtaken,
    Purged,
    Sight,
    SourceRecord,
    Surveyed,
    Token,
    keepable,
    too_many_takedowns,
)
from cache.index.leases import Leases
from cache.index.listing import named
from cache.index.record import maybe_failure, maybe_record, pack_failure, pack_record
from cache.key import SourceId
from cache.orders import Act, Order, Scope

T = TypeVar("T")

BATCH: Final = 100
# Calls that wait for the thread; at 20 us each the last one waits 80 ms.
MAX_WAITING: Final = 4096
# Calls of purges that wait; BATCH of them share a commit.
MAX_URGENT: Final = 1024
# A checkpoint may sync the disk for some 100 ms; a purge waits for a sync of its own.
BUDGET_S: Final = 0.25
PURGE_BUDGET_S: Final = 5.0
# Sources whose token is remembered, oldest dropped first: 4 million are about 500 MB of file.
MAX_SOURCES: Final = 4_000_000
# The first release without the WAL-reset bug.
_SOUND: Final = (3, 51, 3)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stats:
    """calls == answered + failed + refused + those still waiting."""

    calls: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    late: int = 0  # callers that gave up before their answer
    causes: Mapping[Cause, int] = field(default_factory=dict)  # the database writes them


class _Word(enum.Enum):
    """What stands in the queue in place of a call."""

    LOOK = "look"  # something urgent has come
    END = "end"


class _Call:
    """A step for the thread, and where its answer goes."""

    __slots__ = ("answer", "error", "future", "is_durable", "step")

    def __init__(
        self, step: Callable[[], object], future: asyncio.Future[object], *, is_durable: bool
    ) -> None:
        self.step = step
        self.future = future
        self.is_durable = is_durable
        self.answer: object = None
        self.error: Exception | None = None


class EmbeddedIndex:
    """clock: seconds since 1970. monotonic: seconds. random: a source of epochs."""

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float],
        random: Random,
        monotonic: Callable[[], float] = time.monotonic,
        max_sources: int = MAX_SOURCES,
        bounds: Bounds = BOUNDS,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.hints = HintStats()  # nothing is told later: what failed once was the disk
        self.catalogue = CatalogueStats()
        self.on_news: Callable[[], None] = _nobody_listens
        self.database = Database(
            path, clock=clock, random=random, max_sources=max_sources, bounds=bounds
        )
        self._stats = Stats(causes=self.database.causes)
        self._clock = clock
        self._monotonic = monotonic
        self._bounds = bounds
        self._leases = Leases()
        self._path = path
        self._budget_s = budget_s
        self._queue: SimpleQueue[_Call | _Word] = SimpleQueue()
        self._urgent: deque[_Call] = deque()
        self._waiting = 0  # calls that are not settled, urgent ones among them
        self._thread: threading.Thread | None = None
        # Held for a transaction.
        self._using = threading.Lock()
        # Of publish_now(), counted under it: other counters belong to the loop's thread.
        self._now_answered = 0
        self._now_failed = 0

    @property
    def stats(self) -> Stats:
        answered, failed = self._now_answered, self._now_failed
        counted = self._stats
        return replace(
            counted,
            calls=counted.calls + answered + failed,
            answered=counted.answered + answered,
            failed=counted.failed + failed,
        )

    @property
    def times_degraded(self) -> int:
        return self.database.times_shut

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def is_degraded(self) -> bool:
        return self.database.is_shut

    async def probe(self) -> None:
        with suppress(IndexUnavailable):
            await self._call(self.database.takedowns)

    async def start(self) -> None:
        _prepare_folder(self._path)
        sound = "" if sqlite3.sqlite_version_info >= _SOUND else ", which needs a single opener"
        _log.info("embedded index %s, SQLite %s%s", self._path, sqlite3.sqlite_version, sound)
        loop = asyncio.get_running_loop()
        # A daemon: if the node dies of an exception, this thread must not keep the process.
        self._thread = threading.Thread(target=self._serve, args=(loop,), name="index", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Answers what waits, then closes the file."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await asyncio.to_thread(self._queue.put, _Word.END)
        await asyncio.to_thread(thread.join)

    async def open_source(
        self, source: SourceId, *, barrier: int = 0, head: int = 0, settled: int = 0
    ) -> Sight:
        found = await self._call(
            lambda: self.database.open_source(source.digest, barrier, head, settled)
        )
        now = self._clock()
        read = ((digest, maybe_failure(packed, now)) for digest, packed in found.failures)
        failures = {digest: failure for digest, failure in read if failure is not None}
        return Sight(found.token, maybe_record(found.record), found.applied, failures)

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        packed = pack_record(record)
        is_stored, refused = await self._call(
            lambda: self.database.put_source(source, token, packed, record.tags)
        )
        self.catalogue.paths_dropped += refused
        return is_stored

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        return await self._call(lambda: self.database.publish(source.digest, token, digest, size))

    def publish_now(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool | None:
        if self._waiting or not self._using.acquire(blocking=False):
            return None
        try:
            if self._thread is None:
                return None
            answer = self.database.publish_alone(source.digest, token, digest, size)
            self._now_answered += 1
        except IndexUnavailable:
            self._now_failed += 1
            raise
        finally:
            self._using.release()
        return answer

    async def forget(self, source: SourceId, digest: bytes) -> None:
        await self._call(lambda: self.database.forget(source.digest, digest))

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        return await self._call(lambda: self.database.members(source.digest))

    async def look_up(self, source: SourceId) -> Known | None:
        return await self._call(lambda: self.database.look_up(source.digest))

    async def listed(self, after: bytes, limit: int) -> tuple[Member, ...]:
        return await self._call(lambda: self.database.all_members(after, limit))

    async def unlist(self, members: Sequence[Member]) -> None:
        await self._call(lambda: self.database.unlist(members))

    async def purge(self, source: SourceId) -> Purged:
        token, digests = await self._call(
            lambda: self.database.purge(source.digest), is_urgent=True, is_durable=True
        )
        return Purged(token, digests)

    async def overtake(self, source: SourceId) -> Overtaken:
        return await self._call(lambda: self.database.overtake(source.digest))

    async def put_failure(
        self, source: SourceId, token: Token, digest: bytes, failure: Failure
    ) -> bool:
        packed, until = pack_failure(failure), failure.until
        return await self._call(
            lambda: self.database.put_failure(source.digest, token, digest, until, packed)
        )

    async def announce(self, order: Order) -> int:
        # What a purge of one source stands for is durable already: see Index.announce().
        is_purged = order.scope is Scope.SOURCE and order.act is Act.PURGE
        seq = await self._call(
            lambda: self.database.announce(order), is_urgent=True, is_durable=not is_purged
        )
        if seq == 0:
            raise too_many_takedowns(self._bounds)
        self.on_news()
        return seq

    async def orders(self, after: int) -> OrderPage:
        return await self._call(lambda: self.database.orders(after))

    async def takedowns(self) -> frozenset[SourceId]:
        return await self._call(self.database.takedowns)

    async def lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        self._check_started()
        return self._leases.lease((source.digest, name), owner, ttl_s, self._monotonic())

    async def renew_lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        self._check_started()
        return self._leases.renew((source.digest, name), owner, ttl_s, self._monotonic())

    async def end_lease(self, source: SourceId, name: bytes, owner: str) -> bool:
        self._check_started()
        return self._leases.end((source.digest, name), owner, self._monotonic())

    async def put_parcel(self, source: SourceId, name: bytes, parcel: bytes, ttl_s: float) -> None:
        self._check_started()
        self._leases.put_parcel((source.digest, name), parcel, ttl_s, self._monotonic())

    async def delivery(self, source: SourceId, name: bytes) -> Delivery:
        self._check_started()
        return self._leases.delivery((source.digest, name), self._monotonic())

    async def add_spellings(self, source: SourceId, urls: Sequence[str]) -> None:
        kept = keepable(urls)
        refused = await self._call(lambda: self.database.add_spellings(source, kept))
        self.catalogue.urls_dropped += refused + len(urls) - len(kept)

    async def spellings(self, source: SourceId) -> tuple[str, ...]:
        # A purge asks first of all: it would wait for its turn twice.
        return await self._call(lambda: self.database.spellings(source.digest), is_urgent=True)

    async def survey(self, sources: Sequence[SourceId]) -> tuple[Surveyed, ...]:
        return await self._call(lambda: self.database.survey([one.digest for one in sources]))

    async def sources_of(
        self, scope: Scope, site: str, value: str, limit: int
    ) -> tuple[SourceId, ...]:
        if scope is Scope.SOURCE:
            return (SourceId(site, value),)[:limit]
        paths = await self._call(lambda: self.database.listed(scope, site, value, limit))
        return await named(site, paths)

    def _check_started(self) -> None:
        if self._thread is None:
            raise IndexUnavailable("index is not started")

    async def _call(
        self, step: Callable[[], T], *, is_urgent: bool = False, is_durable: bool = False
    ) -> T:
        self._stats.calls += 1
        if self._thread is None:
            self._stats.refused += 1
            raise IndexUnavailable("index is not started")
        most, waiting = MAX_WAITING, self._waiting
        if is_urgent:
            most, waiting = MAX_URGENT, len(self._urgent)
        if waiting >= most:
            self._stats.refused += 1
            raise IndexUnavailable(f"{most} calls wait for the index already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        call = _Call(step, future, is_durable=is_durable)
        self._waiting += 1
        if is_urgent:
            self._urgent.append(call)
        self._queue.put(_Word.LOOK if is_urgent else call)
        budget = PURGE_BUDGET_S if is_urgent else self._budget_s
        # asyncio.timeout() costs more than most of what is asked.
        timer = loop.call_later(budget, _give_up, future)
        try:
            return cast("T", await future)
        except TimeoutError:
            self._stats.late += 1
            raise IndexUnavailable(f"no answer from the index in {budget} s") from None
        finally:
            timer.cancel()

    def _settle(self, batch: list[_Call]) -> None:
        self._waiting -= len(batch)
        for call in batch:
            if call.error is None:
                self._stats.answered += 1
            else:
                self._stats.failed += 1
            if call.future.done():  # its caller gave up
                continue
            if call.error is None:
                call.future.set_result(call.answer)
            else:
                call.future.set_exception(call.error)

    # In the thread

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._gather()
            # One of each in turn, so that neither starves the other.
            self._carry_out(self._gather_urgent(), loop)
            self._carry_out(batch, loop)
        while self._urgent:
            self._carry_out(self._gather_urgent(), loop)
        with self._using:
            self.database.close()

    def _gather(self) -> tuple[list[_Call], bool]:
        """Wait for a call, then take what else is there; True when the thread should end."""
        batch: list[_Call] = []
        item = _Word.LOOK if self._urgent else self._queue.get()
        while item is not _Word.END:
            if item is not _Word.LOOK:
                batch.append(item)
            if len(batch) == BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _gather_urgent(self) -> list[_Call]:
        return [self._urgent.popleft() for _ in range(min(len(self._urgent), BATCH))]

    def _carry_out(self, batch: list[_Call], loop: asyncio.AbstractEventLoop) -> None:
        if not batch:
            return
        with self._using:
            self._transact(batch)
        with suppress(RuntimeError):  # the loop was closed over us
            loop.call_soon_threadsafe(self._settle, batch)

    def _transact(self, batch: list[_Call]) -> None:
        def steps() -> None:
            for call in batch:
                call.answer = call.step()

        try:
            self.database.transact(steps, is_durable=any(call.is_durable for call in batch))
        except Exception as error:  # noqa: BLE001  # top of the thread: it must go on serving
            if not isinstance(error, IndexUnavailable):
                _log.exception("a step of the index failed")
            for call in batch:
                call.error = IndexUnavailable(str(error))


def _give_up(future: asyncio.Future[object]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _prepare_folder(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise IndexUnavailable(f"index folder {folder}: {error.strerror}") from error
    if os.path.isdir(path):
        raise IndexUnavailable(f"index {path} is a folder")


def _nobody_listens() -> None:
    pass
