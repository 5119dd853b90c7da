"""A connection to an origin: a non-blocking socket as the event loop sees it.

Not asyncio's streams: a transport, its protocol, a reader, a writer and a timer for each deadline
cost several times what the exchange of one small answer costs (edge/NOTES.md has the figures).
Here bytes are received while somebody waits for them, and stay in the kernel until then, so the
sender is slowed down by its own window and nothing is buffered twice.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from edge.origin.alarms import Alarms
from edge.origin.poller import Poller

READ_BYTES: Final = 64 * 1024
# What may be written ahead of the peer before drain() waits.
WRITE_AHEAD_BYTES: Final = 64 * 1024


class Channel:
    """Of one owner, who ends it by abort(). sock is non-blocking, and connected."""

    __slots__ = (
        "_alarms", "_failure", "_fd", "_has_ended", "_is_reading", "_is_writing", "_loop",
        "_lost", "_on_event", "_poller", "_sock", "_take", "_unsent", "_waiter", "_writable",
        "late_at",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.SocketType,
        loop: asyncio.AbstractEventLoop,
        alarms: Alarms,
        poller: Poller,
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._alarms = alarms
        self._poller = poller
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] = _take_nothing
        self._failure: Exception | None = None
        self._has_ended = False
        self._is_reading = False
        self._is_writing = False
        self._unsent = b""
        self._lost: OSError | None = None  # why nothing can be sent any more
        self._writable: asyncio.Future[None] | None = None
        self._on_event: Callable[[], None] | None = None
        self.late_at = float("inf")

    @property
    def is_closed(self) -> bool:
        """Ended by us."""
        return self._fd < 0

    @property
    def is_awaited(self) -> bool:
        """Somebody is in receive()."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    # Reading

    def receive(self, take: Callable[[bytes], bool], late_at: float) -> Awaitable[None]:
        """Hands to take what comes, 1 to READ_BYTES bytes at a time, and b"" when the connection is
        gone, cleanly or not; until take says that it is enough.

        take is called in the event itself: so it can finish() what is over before the peer falls
        asleep, and nothing is lost when the wait is cancelled. The wait raises what take raises,
        TimeoutError at late_at, and what set_exception() was told. Raises OSError where the kernel
        cannot watch one more.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._failure is not None:
            waiter.set_exception(self._failure)
        elif self._has_ended or self._fd < 0:
            take(b"")
            waiter.set_result(None)
        elif late_at <= self._loop.time():
            # Or whoever has always said something more when the timer rings is never late.
            waiter.set_exception(TimeoutError())
        else:
            if not self._is_reading:
                self._poller.add(self._fd, self._on_readable, self._loop)
                self._is_reading = True
            self._take = take
            self._waiter = waiter
            self.late_at = late_at
            self._alarms.add(self, self._loop)
        return waiter

    def reschedule(self, late_at: float) -> None:
        """Moves the deadline of a receive() that is under way."""
        self.late_at = late_at
        if self._waiter is not None:
            self._alarms.add(self, self._loop)

    def set_exception(self, failure: Exception) -> None:
        """Whoever receives gets it, now or next."""
        self._failure = failure
        if (waiter := self._maybe_end_wait()) is not None:
            waiter.set_exception(failure)

    def expire(self) -> None:
        if self._on_event is not None:
            self._on_event()
        elif (waiter := self._maybe_end_wait()) is not None:
            waiter.set_exception(TimeoutError())

    def _maybe_end_wait(self) -> asyncio.Future[None] | None:
        """Who waits, to be told why not any longer; None where nobody does, or not any more."""
        waiter, self._waiter, self._take = self._waiter, None, _take_nothing
        self._alarms.discard(self)
        return None if waiter is None or waiter.done() else waiter

    def _on_readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            # It stays in the kernel until somebody wants it.
            self._maybe_end_wait()
            self._is_reading = False
            self._poller.discard(self._fd)
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._has_ended = True
        self._hand_over(data, waiter)

    def _hand_over(self, data: bytes, waiter: asyncio.Future[None]) -> None:
        try:
            is_enough = self._take(data) or not data
        except Exception as failure:  # noqa: BLE001 - it is raised where take was given
            self._maybe_end_wait()
            waiter.set_exception(failure)
            return
        if is_enough:
            self._maybe_end_wait()
            waiter.set_result(None)

    # Idling

    def watch(self, on_event: Callable[[], None], late_at: float) -> None:
        """on_event is called once, when the peer closes, says something, or late_at has come.
        Raises OSError as receive() does."""
        self._poller.add(self._fd, on_event, self._loop)
        self._on_event = on_event
        self._is_reading = True
        self.late_at = late_at
        self._alarms.add(self, self._loop)

    def is_quiet_now(self) -> bool:
        """Ends watch(): nothing has come, not even an end."""
        self._on_event = None
        self._alarms.discard(self)
        self._is_reading = False
        self._poller.discard(self._fd)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    # Writing

    def write(self, data: bytes) -> None:
        """Never waits; what the kernel does not take at once is kept. A lost connection is found
        out by who reads."""
        if self._fd < 0:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as lost:
            self._lost = lost
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._is_writing = True
            self._loop.add_writer(self._fd, self._on_writable)

    async def drain(self) -> None:
        """Waits until little is left to be written. Raises OSError when the connection is lost."""
        if self._fd < 0:
            raise ConnectionResetError("the connection is closed")
        if self._lost is not None:
            raise self._lost
        while len(self._unsent) > WRITE_AHEAD_BYTES:
            self._writable = self._loop.create_future()
            await self._writable

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as lost:
            self._lost = lost
            self._stop_writing(lost)
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._stop_writing(None)
        elif len(self._unsent) <= WRITE_AHEAD_BYTES:
            self._wake_writer(None)

    def _stop_writing(self, lost: OSError | None) -> None:
        self._unsent = b""
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._fd)
        self._wake_writer(lost)

    def _wake_writer(self, lost: OSError | None) -> None:
        writable, self._writable = self._writable, None
        if writable is None or writable.done():
            return
        if lost is None:
            writable.set_result(None)
        else:
            writable.set_exception(lost)

    def abort(self) -> None:
        """Closes it now; unsent bytes are given up, and who waits is told of an end. May be called
        again."""
        waiter = self._waiter
        self.finish()
        if waiter is not None and not waiter.done():
            self._hand_over(b"", waiter)

    def finish(self) -> None:
        """abort(), for who is called by receive(), and says that it is enough."""
        if self._fd < 0:
            return
        self._alarms.discard(self)
        self._on_event = None
        if self._is_reading:
            self._is_reading = False
            self._poller.forget(self._fd)
        if self._unsent or self._is_writing:
            self._stop_writing(ConnectionAbortedError("the exchange was given up"))
        self._fd = -1
        self._sock.close()


def _take_nothing(_: bytes) -> bool:
    return False
