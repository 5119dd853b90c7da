"""One client connection: a non-blocking socket, its timers, and nothing of HTTP's meaning.

Requests are answered in the order in which they came (RFC 9112 section 9.3.2), one at a time: while
an answer waits for the handler or for the client to read, nothing more is read from the socket, so
what one connection can hold is bounded by one receive buffer and one response.

    idle -> reading a head -> (answering) -> sending -> idle | closing | closed
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from edge.access import Peer
from edge.clock import Clock
from edge.http.body import FileSlice
from edge.http.messages import Request, Response
from edge.http.parser import ParseError, RequestParser

RECEIVE_BYTES: Final = 8 * 1024
# Client addresses whose objects are shared; beyond it they are made anew.
MAX_PEERS: Final = 10_000
# One sendfile call's worth: large enough that a fast reader costs few calls, small enough that one
# connection does not keep the loop from the others.
SENDFILE_BYTES: Final = 1024 * 1024
# Accepts taken per wake-up, so that a burst of new connections cannot starve the old ones.
ACCEPTS_PER_WAKE: Final = 64
# How long, and how much, is read from a client that we have stopped listening to, so that a reset
# does not overtake the answer (RFC 9112 section 9.6).
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 256 * 1024

_END: Final = b"\r\n"
_END_CLOSE: Final = b"Connection: close\r\n\r\n"
_END_KEEP: Final = b"Connection: keep-alive\r\n\r\n"
_GONE: Final = frozenset(
    (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH)
)

log = logging.getLogger("halftone.connection")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    header_s: float  # from the first byte of a head to its last
    idle_s: float  # between requests
    send_s: float  # without a byte taken by the client
    max_connections: int


@dataclass(slots=True)
class Stats:
    """accepted == open + closed; refused is the part of closed that met the connection cap."""

    accepted: int = 0
    open: int = 0
    closed: int = 0
    refused: int = 0
    timed_out: int = 0
    aborted: int = 0  # the client left, or was cut, before it had all of a response


class Handler(Protocol):
    """Answers requests. receive() decides at once or says None; then serve() is awaited."""

    def find(self, data: bytes, peer: Peer) -> bytes | Request | None:
        """What one receive between requests amounts to, where that can be told at a glance: the
        answer, to be sent as it is (it is recorded already), or the one request in it, or None."""

    def learn(self, data: bytes) -> None:
        """The parser found in data one request that was answered from memory."""

    def receive(self, request: Request, peer: Peer) -> Response | None: ...

    async def serve(self, request: Request, peer: Peer) -> Response: ...

    def refuse(self, error: ParseError) -> Response: ...

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, started: float
    ) -> None:
        """The exchange is over; sent counts the body bytes that left."""


class Listener:
    """A listening socket and the connections that came through it."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: ConnectionSettings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.sock = sock
        self.handler = handler
        self.settings = settings
        self.clock = clock
        self.loop = loop
        self.stats = Stats()
        self.connections: set[Connection] = set()
        self.is_draining = False
        # Between requests every connection parses with this one; see Connection.on_readable.
        self.idle_parser = RequestParser()
        self.idle_deadline = clock.monotonic + settings.idle_s
        self._peers: dict[str, Peer] = {}
        self._drained: asyncio.Event = asyncio.Event()
        self._paused = False

    @property
    def address(self) -> str:
        return format_address(self.sock.getsockname())

    def start(self) -> None:
        self.loop.add_reader(self.sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The listener stays readable: pause, or the loop spins. tick() resumes.
                    log.error("cannot accept: %s; pausing for a second", os.strerror(error.errno))
                    self.loop.remove_reader(self.sock.fileno())
                    self._paused = True
                    return
                continue  # the client left before we came to it
            sock.setblocking(False)
            self.stats.accepted += 1
            if len(self.connections) >= self.settings.max_connections:
                self._refuse(sock)
                continue
            self.stats.open += 1
            connection = Connection(self, sock, self._peer(format_peer(address)))
            self.connections.add(connection)
            connection.start()

    def _peer(self, address: str) -> Peer:
        """One object a client address: its access lines share how they begin."""
        peer = self._peers.get(address)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._peers.clear()
            peer = self._peers[address] = Peer(address)
        return peer

    def _refuse(self, sock: socket.socket) -> None:
        self.stats.refused += 1
        self.stats.closed += 1
        try:
            sock.send(OVERLOADED)
        except OSError:
            pass
        finally:
            sock.close()

    def tick(self) -> None:
        """Once a second: cut what is over its time, and go on accepting after a shortage."""
        if self._paused and not self.is_draining:
            self._paused = False
            self.loop.add_reader(self.sock.fileno(), self._accept)
        now = self.clock.monotonic
        self.idle_deadline = now + self.settings.idle_s
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.expire()

    def closed(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.stats.open -= 1
        self.stats.closed += 1
        if self.is_draining and not self.connections:
            self._drained.set()

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let answers under way finish, close the rest after grace_s seconds."""
        self.is_draining = True
        self._accept()  # what the kernel has already queued is ours to answer
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()
        for connection in tuple(self.connections):
            connection.close_if_idle()
        if not self.connections:
            return
        try:
            await asyncio.wait_for(self._drained.wait(), grace_s)
        except TimeoutError:
            log.warning("closing %d connections at the end of the grace", len(self.connections))
        for connection in tuple(self.connections):
            connection.abort()


OVERLOADED: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 29\r\nCache-Control: no-store\r\nRetry-After: 2\r\n"
    b"Connection: close\r\n\r\nToo many connections for now.\n"[:-1]
)


class Connection:
    __slots__ = (
        "_active", "_closing", "_listener", "_out", "_parser", "_reading", "_request", "_response",
        "_sock", "_started", "_task", "_unsent", "_writing", "deadline", "peer",
    )  # fmt: skip

    def __init__(self, listener: Listener, sock: socket.socket, peer: Peer) -> None:
        self._listener = listener
        self._sock = sock
        self.peer = peer
        self._parser: RequestParser | None = None  # a head that is not complete, or not answered
        self._out: deque[bytes | memoryview | FileSlice] | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: Request | None = None  # being answered
        self._response: Response | None = None
        self._active = False  # a response is under way
        self._closing = False  # no more requests are taken
        self._reading = False
        self._writing = False
        self._unsent = 0
        self._started = 0.0
        self.deadline = 0.0

    @property
    def is_reading_head(self) -> bool:
        return self._parser is not None and not self._active

    @property
    def is_sending(self) -> bool:
        """A response is under way and waits for the client to take some of it."""
        return self._writing

    def start(self) -> None:
        # Who has sent nothing yet is idle, not slow: a browser connects ahead of its requests.
        self.deadline = self._listener.idle_deadline
        self._reading = True
        self._listener.loop.add_reader(self._sock.fileno(), self.on_readable)

    # Reading

    def on_readable(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if not data:
            self._end_of_input()
            return
        listener = self._listener
        parser = self._parser
        if parser is None:
            if not listener.is_draining:
                found = listener.handler.find(data, self.peer)
                if found is not None:
                    if type(found) is bytes:
                        self._send_ready(found)
                    else:
                        self._answer(found)  # type: ignore[arg-type]
                    return
            # Between requests a connection owns no parser: they all share the listener's, as long
            # as a receive ends where a request ends. One that does not keeps it, and the listener
            # makes a new one. Ten thousand idle connections then hold one parser, not as many.
            parser = listener.idle_parser
            parser.receive_data(data)
            if not parser.is_between_requests or parser.requests:
                if len(parser.requests) == 1 and parser.is_between_requests:
                    request = parser.requests.popleft()
                    if not request.keep_alive:
                        listener.idle_parser = RequestParser()  # this one takes no more
                    response = self._answer(request)
                    if response is not None and response.status == 200 and request.keep_alive:
                        listener.handler.learn(data)
                    return
                listener.idle_parser = RequestParser()
                self._parser = parser
                self.deadline = listener.clock.monotonic + listener.settings.header_s
        else:
            parser.receive_data(data)
        self._advance()

    def _end_of_input(self) -> None:
        """The client will send no more. What it asked for before is still answered."""
        self._closing = True
        if not self._active:
            self.close()
            return
        self._pause_reading()

    def _advance(self) -> None:
        """Answer the next request that is complete, if nothing is under way."""
        # Behind an answer that closes nothing is a request any more: the rest of a body, say.
        while not self._active and not self._closing:
            parser = self._parser
            if parser is None:
                return
            if parser.requests:
                self._answer(parser.requests.popleft())
                continue
            if parser.error is not None:
                self._closing = True
                self._deliver(None, self._listener.handler.refuse(parser.error))
                return
            if parser.is_between_requests:
                self._parser = None
            return

    def _answer(self, request: Request) -> Response | None:
        """Have a request answered; the response, where the handler had it at once."""
        self._active = True
        self._request = request
        self._started = 0.0
        try:
            response = self._listener.handler.receive(request, self.peer)
        except Exception:
            # Top of a callback: the loop would log it and leave the client waiting.
            log.exception("a request failed")
            self.abort()
            return None
        if response is not None:
            self._deliver(request, response)
            return response
        self._started = self._listener.loop.time()
        self.deadline = float("inf")  # the handler has deadlines of its own
        self._pause_reading()
        self._task = self._listener.loop.create_task(self._serve(request))
        return None

    async def _serve(self, request: Request) -> None:
        try:
            response = await self._listener.handler.serve(request, self.peer)
        except Exception:
            log.exception("a request failed")
            self.abort()
            return
        self._task = None
        self._deliver(request, response)
        self._advance()

    # Writing

    def _send_ready(self, wire: bytes) -> None:
        """An answer in one piece, recorded already."""
        try:
            sent = self._sock.send(wire)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if sent == len(wire):
            self.deadline = self._listener.idle_deadline
            return
        self._active = True
        self._out = deque([memoryview(wire)[sent:]])
        self._unsent = len(wire) - sent
        self._flush()

    def _deliver(self, request: Request | None, response: Response) -> None:
        listener = self._listener
        self._active = True
        self._response = response
        if response.close or listener.is_draining or request is None or not request.keep_alive:
            self._closing = True
        if self._closing:
            end = _END_CLOSE
        elif request is not None and request.minor == 0:
            end = _END_KEEP
        else:
            end = _END
        body = response.body
        # The common case in one call: a head and a small body, all of it taken by the kernel.
        if not body or (len(body) == 1 and type(body[0]) is bytes):
            buffers = [response.head, end, *body]
            total = len(response.head) + len(end) + response.length
            try:
                sent = self._sock.sendmsg(buffers, (), socket.MSG_NOSIGNAL)  # type: ignore[arg-type]
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent == total:
                self._finish()
                return
            self._out = deque([memoryview(b"".join(buffers))[sent:]])  # type: ignore[arg-type]
            self._unsent = total - sent
        else:
            self._out = deque([response.head + end, *body])
            self._unsent = len(response.head) + len(end) + response.length
        self._flush()

    def _flush(self) -> None:
        try:
            done = self._send_some()
        except BlockingIOError:
            done = False
        except OSError as error:
            self._fail(error)
            return
        if done:
            self._finish()
            return
        self.deadline = self._listener.clock.monotonic + self._listener.settings.send_s
        self._pause_reading()
        if not self._writing:
            self._writing = True
            self._listener.loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._flush()
        if self._out is None:
            self._advance()

    def _send_some(self) -> bool:
        """Send until the kernel takes no more or a turn's worth is sent; True when all is sent."""
        out = self._out
        assert out is not None
        turn = SENDFILE_BYTES
        while out:
            chunk = out[0]
            if isinstance(chunk, FileSlice):
                sent = os.sendfile(
                    self._sock.fileno(), chunk.file.fd, chunk.start, min(len(chunk), turn)
                )
                if sent == 0:
                    # The file is shorter than its head said: never pad, cut the connection.
                    raise OSError(errno.EIO, "file ended before the length that was announced")
            else:
                # A head and the file behind it leave in one segment.
                more = socket.MSG_MORE if len(out) > 1 else 0
                sent = self._sock.send(chunk, socket.MSG_NOSIGNAL | more)
            self._unsent -= sent
            turn -= sent
            if sent < len(chunk):
                if isinstance(chunk, FileSlice):
                    out[0] = FileSlice(chunk.file, chunk.start + sent, chunk.stop)
                else:
                    out[0] = memoryview(chunk)[sent:]
            else:
                out.popleft()
            if turn <= 0 and out:
                return False
        return True

    def _finish(self) -> None:
        """A response has left whole."""
        listener = self._listener
        response, request = self._response, self._request
        self._out = None
        self._unsent = 0
        if response is not None:
            listener.handler.record(self.peer, request, response, response.length, self._started)
        self._response = self._request = None
        self._active = False
        if self._writing:
            self._writing = False
            listener.loop.remove_writer(self._sock.fileno())
        if self._closing:
            is_more_coming = self._parser is not None and not self._parser.is_between_requests
            if is_more_coming or (response is not None and response.close):
                self._linger()
            else:
                self.close()
            return
        self.deadline = listener.idle_deadline
        if not self._reading:
            self._reading = True
            listener.loop.add_reader(self._sock.fileno(), self.on_readable)

    def _fail(self, error: OSError) -> None:
        if error.errno not in _GONE:
            log.error("sending to %s: %s", self.peer.address, os.strerror(error.errno or errno.EIO))
        self.abort()

    # Ending

    def _linger(self) -> None:
        """Say that no more will come, then read what the client is still sending, for a while."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.deadline = self._listener.clock.monotonic + LINGER_S
        self._pause_reading()
        self._reading = True
        taken = 0

        def drop() -> None:
            nonlocal taken
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            taken += len(data)
            if not data or taken > LINGER_BYTES:
                self.close()

        self._listener.loop.add_reader(self._sock.fileno(), drop)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._listener.loop.remove_reader(self._sock.fileno())

    def expire(self) -> None:
        """Called after the deadline: too slow a head, too long idle, or nothing taken."""
        self._listener.stats.timed_out += 1
        if self._parser is not None and not self._active and not self._closing:
            self._parser.error = ParseError(408, "head not complete in time")
            self._advance()
        elif self._active:
            self.abort()
        else:
            self.close()

    def close_if_idle(self) -> None:
        if not self._active and self._parser is None:
            self.close()

    def abort(self) -> None:
        """Close now, in the middle of whatever is under way; unsent bytes are given up."""
        if self._sock.fileno() < 0:
            return
        if self._response is not None:
            self._listener.stats.aborted += 1
            sent = max(self._response.length - self._unsent, 0)
            self._listener.handler.record(
                self.peer, self._request, self._response, sent, self._started
            )
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self.close()

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._pause_reading()
        if self._writing:
            self._writing = False
            self._listener.loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._out = self._parser = self._response = self._request = self._task = None
        self._listener.closed(self)


def listen(address: tuple[str, int] | str, backlog: int = 4096) -> socket.socket:
    """A non-blocking listening socket on (host, port) or on the path of a Unix socket.

    TCP_NODELAY is inherited by what it accepts: a head and a body that do not leave together would
    otherwise wait 40 ms for an acknowledgement. Raises OSError.
    """
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


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
