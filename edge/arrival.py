"""Bodies that are sent while they arrive from their origins.

What is kept is written into a file of the store as fast as origin and disk allow, and that file is
the buffer of everybody who reads along. The fill belongs to the node: it goes on when all of them
have left.

What is not kept has one reader, and goes through a few short files without names: the origin is
read AHEAD_BYTES further than its reader has come, and what the reader has had is let go of. So a
body of any size takes some 16 MiB of disk, a place at its origin, and no memory. The store may also
refuse a body when it has begun (a full disk, no length announced and too long in the end); from
there on it is passed like this, at the pace of its slowest reader.

A body that fails after its head was sent is cut off at every reader; nothing of it is kept.
"""

import asyncio
import functools
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, TypeVar

import xxhash

from cache.errors import CacheError, DamagedEntry, FlightLost, NotStored
from cache.fill import Fill
from cache.index.interface import SourceRecord, Token
from cache.key import SourceId
from cache.store import Opened
from edge.aside import ClientAside
from edge.http.body import UNKNOWN_LENGTH, Descriptor, FileSlice, Growing, Stretch
from edge.origin.errors import OriginBroken, OriginError, OriginTruncated
from edge.origin.messages import Headers, OriginResponse, is_live
from edge.spool import Spool
from resizer.errors import PictureTooLarge

# Bodies up to here are waited for: their heads can then name the bytes, and most originals of a
# site come within a few milliseconds. Above, a slow client would wait twice.
STREAM_BYTES: Final = 256 * 1024
# How far an origin is read ahead of who reads what is not kept: a second of a fast line.
AHEAD_BYTES: Final = 8 * 1024 * 1024
# Of one short file; what is read is let go of in such steps.
SECTION_BYTES: Final = 4 * 1024 * 1024
# Read at once where a body is needed whole.
COPY_BYTES: Final = 256 * 1024

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("halftone.arrival")


class _Abandoned(Exception):
    """Nobody is left to read what is not kept."""


class Incoming:
    """An OriginResponse that may be looked into: is it worth sending while it arrives?"""

    def __init__(
        self,
        response: OriginResponse,
        ahead: deque[bytes] | None = None,
        *,
        aside: ClientAside | None = None,
    ) -> None:
        """aside: what came beside it, where it is one client's own."""
        self.aside = aside
        self._response = response
        self._ahead: deque[bytes] = deque() if ahead is None else ahead
        self._is_handed_over = False
        # A head does not change.
        self.status = response.status
        self.headers = response.headers
        self.content_length = response.content_length
        self.local_redirect = response.local_redirect

    @property
    def controls(self) -> Headers:
        return self._response.controls

    @property
    def is_cacheable(self) -> bool:
        return self._response.is_cacheable

    @property
    def is_live(self) -> bool:
        """Made to be read while it is made: each piece is waited for, the end may never come."""
        return is_live(self)

    async def is_large(self) -> bool:
        """By its announced length, else by what comes: up to STREAM_BYTES are read. Raises what
        read() raises."""
        if self.content_length is not None:
            return self.content_length > STREAM_BYTES
        size = sum(map(len, self._ahead))
        while size <= STREAM_BYTES:
            if self._ahead and not self._ahead[-1]:
                return False  # its end
            self._ahead.append(await self._response.read())
            size += len(self._ahead[-1])
        return True

    def maybe_all(self) -> bytes | None:
        return None if self._ahead else self._response.maybe_all()

    async def read(self) -> bytes:
        return self._ahead.popleft() if self._ahead else await self._response.read()

    def hand_over(self) -> "Incoming":
        """The same to another owner, who closes it."""
        self._is_handed_over = True
        return Incoming(self._response, self._ahead, aside=self.aside)

    async def aclose(self) -> None:
        if not self._is_handed_over:
            await self._response.aclose()


@dataclass(frozen=True, slots=True, eq=False)
class Arriving(Generic[T]):
    """An original on its way into the store. record is without what the last byte tells.

    ended: what it became, for who needs all of it. Raises NotStored where the store refused it in
    the middle, OriginError and FlightLost where it never was whole.
    """

    id: SourceId
    opened: Opened
    record: SourceRecord
    fields: Headers
    body: Growing
    ended: "asyncio.Future[T]"
    status: ClassVar[int] = 200


@dataclass(slots=True)
class Stats:
    """kept + passed == ended + failed + abandoned + those under way.

    joined: further requests that found one under way. diverted: of kept, those that the store
    refused in the middle. stalled: times that an origin was left unread for a slow reader.
    """

    kept: int = 0
    passed: int = 0
    joined: int = 0
    ended: int = 0
    failed: int = 0
    abandoned: int = 0
    diverted: int = 0
    stalled: int = 0


class Arrivals(Generic[T]):
    """T is what a kept body becomes. There are as many at once as origins have places for us."""

    def __init__(self, spool: Spool, disk_threads: Executor) -> None:
        self.stats = Stats()
        self._spool = spool
        self._threads = disk_threads
        self._kept: dict[tuple[SourceId, Token], Arriving[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def find(self, source_id: SourceId, token: Token) -> Arriving[T] | None:
        """What is on its way under this very token: never what began before a purge."""
        found = self._kept.get((source_id, token))
        if found is not None:
            self.stats.joined += 1
        return found

    def keep(
        self,
        response: Incoming,
        arriving: Arriving[T],
        fill: Fill,
        store: Callable[[int, bytes], Awaitable[T]],
        meaning: Callable[[OriginError], Exception],
    ) -> None:
        """Read a body into fill; both are the arrival's from now on.

        store(length, digest) publishes it; meaning() says what its failure is to who waits for it.
        """
        self.stats.kept += 1
        self._kept.setdefault((arriving.id, arriving.opened.token), arriving)
        self._start(
            arriving.body,
            response,
            functools.partial(self._keep, response, arriving, fill, store, meaning),
        )

    def pass_on(self, response: Incoming) -> Stretch:
        """Read a body for one reader; without it, not for long."""
        self.stats.passed += 1
        body = Growing(_length_of(response))
        body.is_live = response.is_live
        reader = body.read()
        self._start(body, response, functools.partial(self._window, body, response))
        return reader

    async def stop(self, grace_s: float) -> None:
        """Wait for what is under way, and give up what is left after grace_s."""
        running = set(self._tasks)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _start(
        self, body: Growing, response: Incoming, work: Callable[[], Awaitable[None]]
    ) -> None:
        task = asyncio.get_running_loop().create_task(
            self._own(body, response, work), name="arrival"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _own(
        self, body: Growing, response: Incoming, work: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await work()
            self.stats.ended += 1
        except _Abandoned:
            self.stats.abandoned += 1
        except (OriginError, CacheError) as error:
            self.stats.failed += 1
            doing = "not stored" if body.has_ended else "cut off"
            log.warning("an original is %s after %d bytes: %s", doing, body.size, error)
        except Exception:
            self.stats.failed += 1
            log.exception("a body failed to arrive")
        except asyncio.CancelledError:
            self.stats.failed += 1
            raise
        finally:
            body.on_read = None
            body.fail()  # no effect once it has ended
            await response.aclose()

    # Kept

    async def _keep(
        self,
        response: Incoming,
        arriving: Arriving[T],
        fill: Fill,
        store: Callable[[int, bytes], Awaitable[T]],
        meaning: Callable[[OriginError], Exception],
    ) -> None:
        """Order of effects: the last byte is there, it is published, nobody joins any more, those
        who wait are woken. A failure: nothing is left of it, nobody joins, those are woken."""
        refused: NotStored | None = None
        try:
            with fill:
                piece, refused, digest = await self._fill(response, arriving.body, fill)
                if refused is None:
                    arriving.body.end()
                    answer = await store(arriving.body.size, digest)
                    self._is_over(arriving)
                    arriving.ended.set_result(answer)
                    return
        except OriginError as error:
            self._is_over(arriving, meaning(error))
            raise
        except Exception as error:
            self._is_over(arriving, error)
            raise
        except BaseException:
            self._is_over(arriving, FlightLost("the node stops"))
            raise
        log.warning("%a is passed on without being stored: %s", arriving.id.path, refused)
        self.stats.diverted += 1
        self._is_over(arriving, refused)
        await self._window(arriving.body, response, piece)

    async def _fill(
        self, response: Incoming, body: Growing, fill: Fill
    ) -> tuple[bytes, NotStored | None, bytes]:
        """The piece that the store refused, and why; else the digest of the whole body."""
        hasher = xxhash.xxh3_128()
        while piece := await response.read():
            try:
                await self._in_thread(functools.partial(fill.write, piece))
            except NotStored as error:
                return piece, error, b""
            hasher.update(piece)
            body.grow(len(piece))
        _check_length(body)
        return b"", None, hasher.digest()

    def _is_over(self, arriving: Arriving[T], error: Exception | None = None) -> None:
        name = (arriving.id, arriving.opened.token)
        if self._kept.get(name) is arriving:
            del self._kept[name]
        if error is not None:
            arriving.ended.set_exception(error)
            arriving.ended.exception()  # it may well be that nobody waits

    # Not kept

    async def _window(self, body: Growing, response: Incoming, piece: bytes = b"") -> None:
        """piece: read already. Raises _Abandoned."""
        section = None
        while piece or (piece := await self._read_for_readers(body, response)):
            await self._wait_for_readers(body)
            if section is None or len(section) >= SECTION_BYTES:
                section = await self._in_thread(self._spool.open)
                body.go_on_in(section.file, 0)
            body.drop_read()
            await self._in_thread(functools.partial(section.write, piece))
            body.move_to(section.file)  # it may be in memory now
            body.grow(len(piece))
            piece = b""
        _check_length(body)
        body.end()

    async def _read_for_readers(self, body: Growing, response: Incoming) -> bytes:
        """The next piece. Raises _Abandoned as soon as the last reader leaves: an origin that is
        silent would be waited for, and kept busy, for nobody."""
        loop = asyncio.get_running_loop()
        is_reading = True
        try:
            async with asyncio.timeout(None) as timer:

                def look() -> None:
                    if is_reading and not body.has_readers:
                        timer.reschedule(loop.time())

                # A reader's end may come in any thread, and is not complete while it is told.
                body.on_left = functools.partial(loop.call_soon_threadsafe, look)
                look()
                try:
                    return await response.read()
                finally:
                    is_reading = False
                    body.on_left = None
        except TimeoutError as late:
            if not timer.expired():
                raise
            raise _Abandoned from late

    async def _wait_for_readers(self, body: Growing) -> None:
        if body.has_readers and body.unread > AHEAD_BYTES:
            self.stats.stalled += 1
            loop = asyncio.get_running_loop()
            while body.has_readers and body.unread > AHEAD_BYTES:
                goes_on = asyncio.Event()
                # A reader's end may come in any thread.
                body.on_read = functools.partial(loop.call_soon_threadsafe, goes_on.set)
                await goes_on.wait()
            body.on_read = None
        if not body.has_readers:
            raise _Abandoned

    # Whole

    async def whole(self, body: Stretch, limit: int) -> tuple[FileSlice, bytes]:
        """All that one reader gets, in one file, and its xxh3-128. Raises OriginTruncated, and
        PictureTooLarge beyond limit bytes."""
        spooled = await self._in_thread(self._spool.open)
        hasher = xxhash.xxh3_128()
        while not body.is_done:
            pieces = body.take(COPY_BYTES)
            for piece in pieces:
                assert isinstance(piece, FileSlice)
                await self._in_thread(functools.partial(_copy, piece, spooled.write, hasher.update))
            if len(spooled) > limit:
                raise PictureTooLarge(f"more than {limit} bytes, the site's limit")
            if body.has_failed:
                raise OriginTruncated("the body did not come to its end")
            if not pieces:
                more = asyncio.Event()
                body.wait(more.set)
                await more.wait()
        return spooled.slice(), hasher.digest()

    async def _in_thread(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def growing_in(fill: Fill, response: Incoming, duplicate: Descriptor) -> Growing:
    """A body that is going to be read into a fill; duplicate is of the fill's descriptor, for those
    who still read when the fill has ended."""
    body = Growing(_length_of(response))
    body.go_on_in(duplicate, fill.body_offset)
    return body


def _length_of(response: Incoming) -> int:
    return UNKNOWN_LENGTH if response.content_length is None else response.content_length


def _check_length(body: Growing) -> None:
    if body.length not in (UNKNOWN_LENGTH, body.size):
        raise OriginBroken(f"{body.size} bytes came, {body.length} were announced", has_begun=True)


def _copy(
    piece: FileSlice, write: Callable[[bytes], None], update: Callable[[bytes], None]
) -> None:
    data = os.pread(piece.file.fd, len(piece), piece.start)
    if len(data) != len(piece):
        raise DamagedEntry(f"file ends {len(piece) - len(data)} bytes early")
    write(data)
    update(data)
