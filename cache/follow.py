"""Follows the log of orders, so that this worker obeys what others were told.

The index says when there may be news (pub/sub); the log is read then, and every POLL_S whatever it
says, so a message that was lost delays an order by that much and loses none. A worker that could
read the log POLL_S ago is current; one that could not asks the index for every token again.

    log's epoch is another    it was lost (FLUSHALL, failover to an empty server): every token is
                              read again, and what the journal answers for is carried out again
    after an outage           what the journal answers for and the log lacks (failover to an older
                              copy) is carried out again; generations only grow, so once more is
                              no harm but to what was filled since
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cache.errors import IndexUnavailable
from cache.index.interface import Index, OrderPage
from cache.journal import Journal
from cache.orders import Act, Order, Orders, Scope
from cache.store import Store

POLL_S: Final = 0.5
# Past this without a look at the log a worker no longer trusts what it remembers.
TRUST_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stats:
    looks: int = 0  # at the log
    failed: int = 0  # of these, without an answer
    lost_logs: int = 0
    repeated: int = 0  # orders of the journal, carried out again


class Follower:
    """obey(order) and forget() tell the rest of the node: an order, or that nothing that was known
    of any source holds. Both may wait. monotonic: seconds."""

    def __init__(
        self,
        index: Index,
        store: Store,
        orders: Orders,
        journal: Journal,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self.stats = Stats()
        self.obey: Callable[[Order], Awaitable[None]] = _ignore
        self.forget: Callable[[], Awaitable[None]] = _nothing
        self._index = index
        self._store = store
        self._orders = orders
        self._journal = journal
        self._monotonic = monotonic
        self._epoch = ""
        self._after = 0  # read up to here; own orders may be heard before others' older ones
        self._looked_at = float("-inf")
        self._was_away = True  # the journal is compared with the log first
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def head(self) -> int:
        """The seq of the newest order that was heard of, 0 for none."""
        return self._orders.head

    @property
    def kept(self) -> int:
        """Orders by tag or prefix that sources are compared with, MAX_ORDERS at the most."""
        return len(self._orders)

    @property
    def taken_down(self) -> int:
        return len(self._orders.taken_down)

    @property
    def journal(self) -> Journal:
        return self._journal

    def is_current(self) -> bool:
        return self._monotonic() - self._looked_at < TRUST_S

    async def start(self) -> None:
        """After the store. An index that is down is followed as soon as it answers."""
        for order in await asyncio.to_thread(self._load):
            self._store.obey(order)
        self._index.on_news = self._news.set
        with contextlib.suppress(IndexUnavailable):
            await self.catch_up()
        if not self._is_settled:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="orders")

    @property
    def _is_settled(self) -> bool:
        """The log was read, and nobody else can append to it."""
        return self._index.exclusive and not self._was_away

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def catch_up(self) -> None:
        """Obey everything that was recorded before this call. Raises IndexUnavailable."""
        async with self._lock:
            began = self._monotonic()
            self.stats.looks += 1
            try:
                await self._look()
            except IndexUnavailable:
                self.stats.failed += 1
                self._was_away = True
                raise
            self._looked_at = began

    async def announce(self, order: Order) -> Order:
        """Record an order, and obey it first of all. Raises IndexUnavailable."""
        async with self._lock:  # or the log would bring it meanwhile as somebody else's
            recorded = await self._record(order)
            await self._note([recorded], is_durable=self._must_sync(recorded))
            self._orders.add(recorded)
            await self.obey(recorded)
            return recorded

    async def _follow(self) -> None:
        while not self._is_settled:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.catch_up()
            except IndexUnavailable:
                pass  # counted; the breaker has said it in the log
            except Exception:  # noqa: BLE001
                # The top of a task that must go on: what it does not hear is not obeyed.
                _log.exception("the log of orders could not be followed")

    async def _look(self) -> None:
        page = await self._index.orders(self._after)
        if page.epoch != self._epoch:
            page = await self._meet(page.epoch)
        if self._was_away:
            await self._repeat_lost()
            page = await self._index.orders(self._after)
            self._was_away = False
        if page.horizon > self._after:
            # More was dropped from the log than was heard: anything may have been purged.
            self._orders.forget(page.horizon)
        if max(page.horizon, page.forgotten) > self._after:
            await self._doubt()
        await self._obey(page.orders)
        self._after = page.head
        await self._store.settle()

    async def _meet(self, epoch: str) -> OrderPage:
        """A log not read before: the first, or one in the place of one that was lost."""
        page = await self._index.orders(0)
        taken_down = await self._index.takedowns()
        if self._epoch:
            self.stats.lost_logs += 1
            _log.warning("the index has lost its memory: every token is asked for again")
            await self._doubt()
            self._after = 0
            self._was_away = True
            self._orders.taken_down |= taken_down
        else:
            # Nothing is remembered yet that an order about one source could be about.
            for order in page.orders:
                self._orders.add(order)
            self._orders.forget(page.horizon)
            self._orders.taken_down = set(taken_down)
            self._after = page.head
        self._epoch = epoch
        return page

    async def _doubt(self) -> None:
        self._store.doubt_all()
        await self.forget()

    async def _obey(self, orders: Sequence[Order]) -> None:
        fresh = [order for order in orders if self._store.obey(order)]
        for order in fresh:
            await self.obey(order)
        await self._note(fresh, is_own=False)

    async def _record(self, order: Order) -> Order:
        """Under a seq above everything that was heard of, whatever the log remembers."""
        above = replace(order, seq=self._orders.head)
        return replace(order, seq=await self._index.announce(above))

    def _must_sync(self, order: Order) -> bool:
        """What the embedded index has on disk need not be there twice; but what is taken down
        stays so even where that index is lost."""
        return not self._index.exclusive or order.act in (Act.TAKE_DOWN, Act.LIFT)

    async def _note(
        self,
        orders: Sequence[Order],
        *,
        is_own: bool = True,
        is_durable: bool = True,
        instead_of: int = 0,
    ) -> None:
        if not orders:
            return
        try:
            await asyncio.to_thread(
                lambda: self._journal.append(
                    orders,
                    is_own=is_own,
                    is_durable=is_own and is_durable,
                    instead_of=instead_of,
                )
            )
        except OSError as error:
            # It is recorded in the index; only a loss of that would not be made good.
            _log.error("journal of orders: %s", error)

    async def _repeat_lost(self) -> None:
        """Carry out again what the log should have and has not."""
        own = self._journal.own()
        if not own:
            return
        page = await self._index.orders(own[0].seq - 1)
        there = {order.seq for order in page.orders}
        for order in own:
            if order.seq in there or order.seq <= page.horizon:
                continue
            if order.scope is Scope.SOURCE and order.act in (Act.PURGE, Act.TAKE_DOWN):
                await self._store.purge(order.source)
            again = await self._record(order)
            await self._note([again], instead_of=order.seq)
            self.stats.repeated += 1
            if self._store.obey(again):
                await self.obey(again)
            _log.warning("carried out again, the index had lost it: %s %a", order.act, order.value)

    def _load(self) -> tuple[Order, ...]:
        try:
            return self._journal.load()
        except OSError as error:
            _log.error("journal of orders: %s", error)
            return ()


async def _ignore(order: Order) -> None:
    del order


async def _nothing() -> None:
    return
