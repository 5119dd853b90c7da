"""A listening socket, the connections that came through it, and how many of them there may be.

Connections are accepted in batches. At the cap, and when descriptors run out, the one that has been
idle the longest makes room; without such a one, new ones get a 503. Once a second those over their
time are ended, a callback's share at a time.
"""

import asyncio
import contextlib
import errno
import heapq
import logging
import operator
import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import Final

from edge.clock import Clock
from edge.connection import Connection, ConnectionSettings, Handler, Stats
from edge.http.parser import RequestParser
from edge.residency import Residency

# Accepts taken per wake-up, so that a burst of new connections cannot starve the old ones.
ACCEPTS_PER_WAKE: Final = 64
BACKLOG: Final = 4096
# Above this part of the connections that we may have, an idle one is kept for a second only. The
# clock moves once a second: between one and two are kept, never less than one.
PRESSED_ABOVE: Final = 0.8
PRESSED_IDLE_S: Final = 1.5
# Idle connections that make room for new ones, at the cap, from one tick to the next. Finding them
# costs a look at every connection, so it is done once a tick.
ROOM_PER_TICK: Final = 512
# Refused connections that are kept until their answer is read; the rest is closed at once.
MAX_REFUSED: Final = 32
# The kernel gives a client up so much later than we do: deadlines are seen once a second.
KERNEL_LATER_S: Final = 5.0
# One callback's share of the tick, in looks at a connection (0.1 us); closing one costs as much as
# so many looks. A share takes about half a millisecond.
LOOKS_PER_TURN: Final = 2048
LOOKS_PER_EXPIRY: Final = 128

log = logging.getLogger("halftone.listener")


class Listener:
    """A listening socket and the connections that came through it."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: ConnectionSettings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        residency: Residency,
    ) -> None:
        self.sock = sock
        self.address = format_address(sock.getsockname())  # its numbers outlive the socket
        self.handler = handler
        self.settings = settings
        self.clock = clock
        self.loop = loop
        self.residency = residency
        self.stats = Stats()
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.find = handler.find
        # Between requests every connection parses with this one; see Connection.on_readable.
        self.idle_parser = RequestParser()
        self.idle_deadline = clock.monotonic + settings.idle_s
        self._drained: asyncio.Event = asyncio.Event()
        self._paused = False
        self._sweeping: Iterator[Connection] | None = None  # what this tick has not looked at yet
        self._longest_idle: deque[Connection] | None = None  # as found since the last tick
        self._refused: deque[socket.socket] = deque()
        self._refused_before: deque[socket.socket] = deque()  # the last tick
        if sock.family != socket.AF_UNIX:
            # Inherited, so it costs a request nothing: what we have closed, or handed to the kernel
            # whole, is given up as well when the client leaves without a word or takes no more.
            # Later than we would: the kernel forgets silently, we send a reset (Connection._cut).
            timeout_ms = int(max(2 * settings.send_s, settings.send_s + KERNEL_LATER_S) * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    def start(self) -> None:
        self.loop.add_reader(self.sock.fileno(), self._accept)

    def _accept(self) -> bool:
        """Take what waits to be accepted; False when there is no more, or no more can be taken."""
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    if self._make_room():
                        continue
                    # The listener stays readable: pause, or the loop spins. tick() resumes.
                    log.error("cannot accept: %s; pausing for a second", os.strerror(error.errno))
                    self.loop.remove_reader(self.sock.fileno())
                    self._paused = True
                    return False
                continue  # the client left before we came to it
            sock.setblocking(False)
            self.stats.accepted += 1
            if len(self.connections) >= self.settings.max_connections and not self._make_room():
                self._refuse(sock)
                continue
            self.stats.open += 1
            connection = Connection(self, sock, self.handler.peer(format_peer(address)))
            self.connections.add(connection)
            connection.start()
        return True

    def _refuse(self, sock: socket.socket) -> None:
        self.stats.refused += 1
        self.stats.closed += 1
        with contextlib.suppress(OSError):
            sock.send(OVERLOADED)
            sock.shutdown(socket.SHUT_WR)
        # Closed at once, its request would be answered by a reset that overtakes the 503.
        self._refused.append(sock)
        if len(self._refused) > MAX_REFUSED:
            self._refused.popleft().close()

    def _forget_refused(self) -> None:
        """Close those that have had a second to read their answer."""
        for sock in self._refused_before:
            sock.close()
        self._refused_before.clear()
        self._refused, self._refused_before = self._refused_before, self._refused

    def _make_room(self) -> bool:
        """Close the connection that has been idle the longest, for at least a tick."""
        if self._longest_idle is None:
            since = self.idle_deadline
            idle = [one for one in self.connections if one.deadline < since and one.is_idle]
            self._longest_idle = deque(
                heapq.nsmallest(ROOM_PER_TICK, idle, key=operator.attrgetter("deadline"))
            )
        while self._longest_idle:
            one = self._longest_idle.popleft()
            if one.deadline < self.idle_deadline and one.shed():
                return True
        return False

    def tick(self) -> None:
        """Once a second: cut what is over its time, and go on accepting after a shortage."""
        if self._paused and not self.is_draining:
            self._paused = False
            self.loop.add_reader(self.sock.fileno(), self._accept)
        self.idle_deadline = self.clock.monotonic + self.settings.idle_s
        self._longest_idle = None
        self._forget_refused()
        if self._sweeping is None:
            self._sweeping = iter(tuple(self.connections))
        self._sweep()

    def _sweep(self) -> None:
        """A callback's share of the connections: ten thousand that end together are ended in many
        turns of the loop, with the requests of others between them."""
        if self._sweeping is None:
            return
        now = self.clock.monotonic
        is_pressed = len(self.connections) > self.settings.max_connections * PRESSED_ABOVE
        # Every idle connection has the deadline of the tick before which it became idle.
        pressed_before = self.idle_deadline - PRESSED_IDLE_S if is_pressed else 0.0
        looks = 0
        for connection in self._sweeping:
            looks += 1
            if connection.deadline <= now:
                connection.expire()
                looks += LOOKS_PER_EXPIRY
            elif connection.deadline < pressed_before and connection.is_idle:
                connection.shed()
                looks += LOOKS_PER_EXPIRY
            if looks >= LOOKS_PER_TURN:
                self.loop.call_soon(self._sweep)
                return
        self._sweeping = None

    def closed(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.stats.open -= 1
        self.stats.closed += 1
        if self.is_draining and not self.connections:
            self._drained.set()

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let answers under way finish, close the rest after grace_s seconds."""
        self.is_draining = True
        # What the kernel has already queued is ours to answer.
        for _ in range(BACKLOG // ACCEPTS_PER_WAKE):
            if not self._accept():
                break
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()
        for connection in tuple(self.connections):
            connection.close_if_idle()
        try:
            if self.connections:
                await asyncio.wait_for(self._drained.wait(), grace_s)
        except TimeoutError:
            log.warning("closing %d connections at the end of the grace", len(self.connections))
        for connection in tuple(self.connections):
            connection.abort()
        self._forget_refused()
        self._forget_refused()


OVERLOADED: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 29\r\nCache-Control: no-store\r\nRetry-After: 2\r\n"
    b"Connection: close\r\n\r\nToo many connections for now.\n"[:-1]
)


def format_address(name: object) -> str:
    """A socket's name as HOST:PORT, [IPv6]:PORT or unix:PATH."""
    match name:
        case (str() as host, int() as port, *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case str() as path:
            return f"unix:{path}"
        case _:
            return "unknown"


def format_peer(name: object) -> str:
    """A client's address without its port, as it stands in access lines."""
    match name:
        case (str() as host, int(), *_):
            return host
        case _:
            return "unix"
