"""The caches in front of this node, told of a purge: every URL to every one of them.

    round 1     all URLs to the first cache, then to the second, and so on: inner before outer,
                else an outer one would be filled again from an inner one's old bytes
    pause
    round 2     to each cache what it has not answered; what an inner one has answered only now is
                told once more to those behind it
    ...         ROUNDS at the most, then it is given up, counted and logged
    again       after again_s, where that is set: all of it once more, by the same rules

A cache has been told when it said so: 200 or 404 to a PURGE, forgotten or absent to a CLR. A CLR
without a reply is not told, for UDP is lost in silence. A cache that answers and will not (403) is
not asked again: that is for its operator to mend. One that cannot be reached is left alone for
HOLD_S, so that a dead one costs the purges of the others little.

Nothing of this outlives the process: the purge itself is on record, this is courtesy to others.
"""

import asyncio
import contextlib
import logging
import random
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge.http import htcp
from edge.settings.addresses import FrontCache, Means, TcpAddress

log = logging.getLogger("halftone.downstream")

# Before the second round and those that follow, with jitter: a Squid that is started again is back
# in some seconds; what is down for longer will have to be purged by its operator.
PAUSES_S: Final = (0.2, 1.0, 5.0)
HOLD_S: Final = 0.5
CONNECT_S: Final = 1.0
# From the request to the end of the answer. Squid answers in less than a millisecond.
EXCHANGE_S: Final = 2.0
REPLY_S: Final = 0.5
# Kept connections to one cache, and datagrams to one that are on their way.
CONNECTIONS: Final = 4
WINDOW: Final = 64
# URLs of all purges under way, at some 150 bytes each, their letters, and the purges themselves.
MAX_URLS: Final = 100_000
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_ERRANDS: Final = 10_000
# Squid's page for a 403 has 4 KB.
MAX_ANSWER_BYTES: Final = 64 * 1024
# Of a drain: a cache that is well is told in this time, and one that is not holds nobody up.
STOP_S: Final = 1.0

# What may stand in a request line; spellings come back from an index that others write, too.
_URL: Final = re.compile(r"https?://([!-.0-~]+)/[!-~]*", re.ASCII)
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: |\r\n)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n")
_CLOSE: Final = re.compile(rb"\r\n(?:connection:[^\r\n]*close|transfer-encoding:)")


@dataclass(slots=True)
class Answers:
    """What a cache said in one round; of URLs in neither set it said nothing, for this reason."""

    told: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    reason: str = ""


class Cache(Protocol):
    name: str

    async def tell(self, urls: Sequence[str]) -> Answers:
        """One try for each. Raises nothing."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Stats:
    """In URLs times caches. asked == told + failed + dropped + those under way."""

    asked: int = 0
    told: dict[str, int] = field(default_factory=dict)  # by cache
    failed: dict[str, int] = field(default_factory=dict)
    dropped: int = 0  # too many were under way, or the node stopped
    retried: int = 0

    @property
    def pending(self) -> int:
        done = sum(self.told.values()) + sum(self.failed.values())
        return self.asked - done - self.dropped


class Errand:
    """The URLs of one purge on their way to the caches. In URLs times caches:
    told + failed + pending is constant, and pending only falls."""

    def __init__(self, urls: Sequence[str], caches: Sequence[Cache], purge: str) -> None:
        self.purge = purge  # its name in the log
        self.urls = tuple(dict.fromkeys(urls))
        self.bytes = sum(map(len, self.urls))
        self.told = {cache.name: set[str]() for cache in caches}
        self.refused = {cache.name: set[str]() for cache in caches}
        self._total = len(self.urls) * len(caches)
        self._ended = asyncio.Event()

    @property
    def counts(self) -> tuple[int, int, int]:
        """told, failed, pending."""
        told = sum(map(len, self.told.values()))
        if self._ended.is_set():
            return told, self._total - told, 0
        refused = sum(map(len, self.refused.values()))
        return told, refused, self._total - told - refused

    def left(self, cache: Cache) -> list[str]:
        done = self.told[cache.name] | self.refused[cache.name]
        return [url for url in self.urls if url not in done]

    def end(self) -> None:
        """Nothing more will be tried."""
        self._ended.set()

    async def wait(self, budget_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), budget_s)


class Downstream:
    """caches in the order in which they are told. Calls belong to one loop; stop() once."""

    def __init__(
        self,
        caches: Sequence[Cache],
        *,
        chance: random.Random,
        again_s: float = 0.0,
        pauses_s: Sequence[float] = PAUSES_S,
        max_urls: int = MAX_URLS,
    ) -> None:
        self.stats = Stats()
        for cache in caches:
            self.stats.told[cache.name] = self.stats.failed[cache.name] = 0
        self._caches = tuple(caches)
        self._chance = chance
        self._again_s = again_s
        self._pauses_s = tuple(pauses_s)
        self._max_urls = max_urls
        self._urls = 0
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: set[asyncio.Task[None]] = set()  # until they are told again

    def tell(self, urls: Sequence[str], purge: str) -> Errand:
        """Set out; the errand says how it goes. purge names it in the log."""
        fit = [url for url in urls if _URL.fullmatch(url)]
        if len(fit) < len(urls):
            log.warning("%s: %d URLs are no URLs", purge, len(urls) - len(fit))
        errand = Errand(fit, self._caches, purge)
        pairs = len(errand.urls) * len(self._caches)
        self.stats.asked += pairs
        is_full = (
            len(self._tasks) >= MAX_ERRANDS
            or self._urls + len(errand.urls) > self._max_urls
            or self._bytes + errand.bytes > MAX_BYTES
        )
        if is_full and pairs:
            self.stats.dropped += pairs
            log.warning(
                "%s: no cache is told of its %d URLs: too many are under way",
                purge,
                len(errand.urls),
            )
        if is_full or not pairs:
            errand.end()
            return errand
        self._urls += len(errand.urls)
        self._bytes += errand.bytes
        task = asyncio.get_running_loop().create_task(self._carry(errand), name=purge)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return errand

    async def stop(self, grace_s: float) -> None:
        """What is under way may end in this time, or STOP_S; what rests is not told again."""
        for task in self._resting:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(min(grace_s, STOP_S), 0.0))
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for cache in self._caches:
            cache.close()

    async def _carry(self, errand: Errand) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._go(errand)
            if self._again_s:
                self._resting.add(task)
                await asyncio.sleep(self._again_s)
                self._resting.discard(task)
                again = Errand(errand.urls, self._caches, f"{errand.purge} (again)")
                self.stats.asked += len(again.urls) * len(self._caches)
                await self._go(again)
        except asyncio.CancelledError:
            pass  # of our own doing, in stop()
        except Exception:
            log.exception("%s: telling the caches failed", errand.purge)
        finally:
            self._resting.discard(task)
            self._urls -= len(errand.urls)
            self._bytes -= errand.bytes

    async def _go(self, errand: Errand) -> None:
        reasons: dict[str, str] = {}
        try:
            for number, pause_s in enumerate((0.0, *self._pauses_s)):
                if number:
                    await asyncio.sleep(pause_s * self._chance.uniform(0.75, 1.25))
                await self._round(errand, reasons, is_first=not number)
                if not any(errand.left(cache) for cache in self._caches):
                    break
        except asyncio.CancelledError:
            self._count(errand, dict.fromkeys(errand.told, "the node stops"), is_cancelled=True)
            raise
        except Exception:
            self._count(errand, dict.fromkeys(errand.told, "a bug"))
            raise
        self._count(errand, reasons)

    async def _round(self, errand: Errand, reasons: dict[str, str], *, is_first: bool) -> None:
        late: set[str] = set()  # of this round, by a cache further inside
        for cache in self._caches:
            errand.told[cache.name] -= late
            left = errand.left(cache)
            if not left:
                continue
            if not is_first:
                self.stats.retried += len(left)
            answers = await cache.tell(left)
            errand.told[cache.name] |= answers.told
            errand.refused[cache.name] |= answers.refused
            reasons[cache.name] = answers.reason
            if not is_first:
                late |= answers.told

    def _count(
        self, errand: Errand, reasons: Mapping[str, str], *, is_cancelled: bool = False
    ) -> None:
        errand.end()
        for name, urls in errand.told.items():
            missed = len(errand.urls) - len(urls)
            self.stats.told[name] += len(urls)
            if is_cancelled:
                self.stats.dropped += missed
            else:
                self.stats.failed[name] += missed
            if missed:
                why = reasons.get(name) or "no answer"
                log.warning("%s: %s is not told of %d URLs: %s", errand.purge, name, missed, why)


def make_cache(cache: FrontCache, now: Callable[[], float], chance: random.Random) -> Cache:
    """now: monotonic seconds."""
    if cache.means is Means.HTCP:
        return ClrCache(str(cache), cache.address, now, chance)
    return PurgeCache(str(cache), cache.address, now)


class _Hold:
    """A cache that could not be reached is left alone for a moment."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until = 0.0
        self.reason = ""

    @property
    def is_on(self) -> bool:
        return self._now() < self._until

    def begin(self, reason: str) -> str:
        self._until = self._now() + HOLD_S
        self.reason = reason
        return reason


@dataclass(slots=True)
class _Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class PurgeCache:
    """HTTP PURGE over a few kept connections."""

    def __init__(self, name: str, address: TcpAddress, now: Callable[[], float]) -> None:
        self.name = name
        self._address = address
        self._hold = _Hold(now)
        self._idle: list[_Stream] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def tell(self, urls: Sequence[str]) -> Answers:
        answers = Answers()
        waiting = deque(urls)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONNECTIONS, len(urls))):
                group.create_task(self._work(waiting, answers))
        return answers

    def close(self) -> None:
        while self._idle:
            self._idle.pop().writer.close()

    async def _work(self, waiting: deque[str], answers: Answers) -> None:
        async with self._room:
            while waiting:
                if self._hold.is_on:
                    answers.reason = self._hold.reason
                    return
                url = waiting.popleft()
                try:
                    status = await self._purge(url)
                except TimeoutError:
                    answers.reason = self._hold.begin(f"no answer in {EXCHANGE_S:.0f} s")
                except (OSError, EOFError, ValueError) as error:
                    answers.reason = self._hold.begin(str(error) or type(error).__name__)
                else:
                    if status in (200, 404):
                        answers.told.add(url)
                    elif status >= 500:
                        answers.reason = f"it answers {status}"
                    else:
                        answers.refused.add(url)
                        answers.reason = f"it answers {status}: do its ACLs allow PURGE from here?"

    async def _purge(self, url: str) -> int:
        """The status. Raises OSError, EOFError, ValueError for nonsense, TimeoutError."""
        async with asyncio.timeout(CONNECT_S + EXCHANGE_S):
            while self._idle:
                # It may have been closed for idleness meanwhile; a PURGE may be said twice.
                with contextlib.suppress(OSError, EOFError):
                    return await self._exchange(self._idle.pop(), url)
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    self._address.host, self._address.port, limit=MAX_ANSWER_BYTES
                )
            return await self._exchange(_Stream(reader, writer), url)

    async def _exchange(self, stream: _Stream, url: str) -> int:
        is_kept = False
        try:
            match = _URL.fullmatch(url)
            assert match is not None
            stream.writer.write(
                f"PURGE {url} HTTP/1.1\r\nHost: {match[1]}\r\nUser-Agent: halftone\r\n\r\n".encode()
            )
            await stream.writer.drain()
            try:
                head = await stream.reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                raise ValueError("it answers without end") from None
            status = _STATUS.match(head)
            if status is None:
                raise ValueError("it answers what is no HTTP")
            fields = head.lower()
            length = _LENGTH.search(fields)
            if length is not None and status[1] == b"1" and not _CLOSE.search(fields):
                size = int(length[1])
                if size <= MAX_ANSWER_BYTES:
                    await stream.reader.readexactly(size)
                    is_kept = len(self._idle) < CONNECTIONS
            return int(status[2])
        finally:
            if is_kept:
                self._idle.append(stream)
            else:
                stream.writer.close()


class ClrCache:
    """HTCP CLR, a datagram a URL; only what is replied to counts."""

    def __init__(
        self, name: str, address: TcpAddress, now: Callable[[], float], chance: random.Random
    ) -> None:
        self.name = name
        self._address = address
        self._hold = _Hold(now)
        self._chance = chance
        self._transport: asyncio.DatagramTransport | None = None
        self._room = asyncio.Semaphore(WINDOW)
        self._asked: dict[int, asyncio.Future[htcp.Verdict]] = {}

    async def tell(self, urls: Sequence[str]) -> Answers:
        answers = Answers()
        try:
            await self._connect()
        except OSError as error:
            self._hold.begin(str(error) or "its name cannot be resolved in time")
        waiting = deque(urls)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(WINDOW, len(urls))):
                group.create_task(self._work(waiting, answers))
        return answers

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def _work(self, waiting: deque[str], answers: Answers) -> None:
        async with self._room:
            while waiting:
                if self._hold.is_on:
                    answers.reason = self._hold.reason
                    return
                url = waiting.popleft()
                try:
                    verdict = await self._clear(url)
                except ValueError as error:
                    answers.refused.add(url)
                    answers.reason = str(error)
                except (TimeoutError, OSError):
                    answers.reason = self._hold.begin(
                        "no reply to a CLR: htcp_port and htcp_clr_access of Squid?"
                    )
                else:
                    if verdict in (htcp.Verdict.FORGOTTEN, htcp.Verdict.ABSENT):
                        answers.told.add(url)
                    else:
                        answers.refused.add(url)
                        answers.reason = f"it says: {verdict.value}"

    async def _connect(self) -> None:
        """Raises OSError, TimeoutError among them."""
        if self._transport is not None and not self._transport.is_closing():
            return
        async with asyncio.timeout(CONNECT_S):
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Replies(self._asked),
                remote_addr=(self._address.host, self._address.port),
            )
        self._transport = transport

    async def _clear(self, url: str) -> htcp.Verdict:
        """Raises ValueError for a URL that no datagram can hold, TimeoutError, OSError."""
        transport = self._transport
        if transport is None:
            raise OSError("no socket")
        # Whoever forges a reply has to guess it.
        transaction = self._chance.getrandbits(32)
        while transaction in self._asked:
            transaction = self._chance.getrandbits(32)
        datagram = htcp.build_clr(url, transaction)
        reply: asyncio.Future[htcp.Verdict] = asyncio.get_running_loop().create_future()
        self._asked[transaction] = reply
        try:
            transport.sendto(datagram)
            return await asyncio.wait_for(reply, REPLY_S)
        finally:
            del self._asked[transaction]


class _Replies(asyncio.DatagramProtocol):
    """The socket is connected: the kernel lets through what comes from the cache's address."""

    def __init__(self, asked: dict[int, asyncio.Future[htcp.Verdict]]) -> None:
        self._asked = asked

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            reply = htcp.parse_reply(data)
        except htcp.BadReply as error:
            log.debug("a datagram that is no reply: %s", error)
            return
        waiting = self._asked.get(reply.transaction)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply.verdict)

    def error_received(self, error: Exception) -> None:
        """ICMP says that nobody listens. Those who wait need not."""
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(OSError(str(error)))
