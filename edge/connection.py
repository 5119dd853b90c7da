"""One client connection: a non-blocking socket, its timers, and nothing of HTTP's meaning.

Requests are answered in the order in which they came (RFC 9112 section 9.3.2), one at a time: while
an answer waits for the handler or for the client to read, nothing more is read from the socket, so
what one connection can hold is bounded by one receive buffer and one response.

    idle -> reading a head -> (answering) -> sending -> idle | closing | closed
"""

import asyncio
import contextlib
import enum
import errno
import fcntl
import functools
import logging
import os
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from edge.access import Peer
from edge.clock import Clock
from edge.http.body import Descriptor, FileSlice, Stretch
from edge.http.messages import Request, Response
from edge.http.parser import ParseError, RequestParser
from edge.http.proxy_protocol import INCOMPLETE, BadPreamble, Parsed
from edge.http.proxy_protocol import parse as parse_preamble
from edge.http.upload import Upload
from edge.pace import MIN_RATE, Pace
from edge.policy.forwarded import TrustedProxies
from edge.residency import Residency

RECEIVE_BYTES: Final = 8 * 1024
# One sendfile call's worth: large enough that a fast reader costs few calls, small enough that one
# connection does not keep the loop from the others.
SENDFILE_BYTES: Final = 2 * 1024 * 1024
# Answers below this size are sent from one buffer.
SHORT_BYTES: Final = 8 * 1024
# Files from this size on leave apart from their heads.
MORE_BYTES: Final = 64 * 1024
# How long, and how much, is read from a client that we have stopped listening to, so that a reset
# does not overtake the answer (RFC 9112 section 9.6).
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 256 * 1024

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_END: Final = b"\r\n"
_END_CLOSE: Final = b"Connection: close\r\n\r\n"
_END_KEEP: Final = b"Connection: keep-alive\r\n\r\n"
# A plain number: each "|" of the library's flags costs as much as a look-up.
_MSG_MORE: Final = int(socket.MSG_MORE)
# SO_LINGER of no seconds: close() resets the connection, and the kernel forgets what is unsent.
_RESET: Final = struct.pack("ii", 1, 0)
_GONE: Final = frozenset(
    (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH)
)

log = logging.getLogger("halftone.connection")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    header_s: float  # from the first byte of a head to its last
    idle_s: float  # between requests
    send_s: float  # without a byte taken by the client, or with less than MIN_RATE taken over it
    max_connections: int
    # Whose PROXY preamble is demanded and believed; None where connections begin with requests.
    proxies: TrustedProxies | None = None


@dataclass(slots=True)
class Stats:
    """accepted == open + closed; refused is the part of closed that met the connection cap."""

    accepted: int = 0
    open: int = 0
    closed: int = 0
    refused: int = 0
    no_preamble: int = 0  # of closed: from a peer not trusted, or without a PROXY preamble
    timed_out: int = 0
    shed: int = 0  # of closed: idle, and in the way of others
    aborted: int = 0  # the client left, or was cut, before it had all of a response


class Handler(Protocol):
    """Answers requests. receive() decides at once or says None; then serve() is awaited."""

    def peer(self, address: str) -> Peer:
        """The client at an address."""

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        """What one receive between requests amounts to, where that can be told at a glance: the
        answer, to be sent as it is (bytes are recorded already, a Response is not), or the one
        request in it, or None."""

    def learn(self, data: bytes) -> None:
        """The parser found in data one request that was answered from memory."""

    def receive(self, request: Request, peer: Peer) -> Response | None: ...

    async def serve(self, request: Request, peer: Peer) -> Response: ...

    def refuse(self, error: ParseError) -> Response: ...

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, took_s: float
    ) -> None:
        """The exchange is over; sent counts the body bytes that left. took_s is 0 where it was
        answered at once."""


class Entrance(Protocol):
    """What a connection needs of the listener that it came through (listener.py)."""

    settings: ConnectionSettings
    handler: Handler
    clock: Clock
    loop: asyncio.AbstractEventLoop
    residency: Residency
    stats: Stats
    is_draining: bool
    idle_parser: RequestParser  # of all connections between requests
    idle_deadline: float  # of a connection that becomes idle now

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        """handler.find, bound once."""

    def closed(self, connection: "Connection") -> None: ...


class Progress(enum.Enum):
    """How far sending went."""

    DONE = "done"
    FULL = "full"  # the client must take some of it first
    COLD = "cold"  # what comes next is on the disk
    DRY = "dry"  # what comes next has not arrived from its origin
    BROKEN = "broken"  # what comes next never will


class Connection:
    __slots__ = (
        "_active", "_body_since", "_closing", "_head_until", "_interim", "_listener", "_out",
        "_pace", "_parser", "_reading", "_request", "_response", "_sock", "_started", "_task",
        "_unsent", "_upload", "_writing", "deadline", "peer",
    )  # fmt: skip

    def __init__(self, listener: Entrance, sock: socket.socket, peer: Peer) -> None:
        self._listener = listener
        self._sock = sock
        self.peer = peer
        self._parser: RequestParser | None = None  # a head that is not complete, or not answered
        self._out: deque[bytes | memoryview | FileSlice | Stretch] | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: Request | None = None  # being answered
        self._response: Response | None = None
        self._active = False  # a response is under way
        self._closing = False  # no more requests are taken
        self._reading = False
        self._writing = False
        # Bytes not sent yet; below zero by what was sent of a body whose length nobody knows.
        self._unsent = 0
        self._started = 0.0
        self._upload: Upload | None = None  # the body that is being read
        self._interim = b""  # of 1xx answers, what the kernel did not take: ahead of the answer
        self._pace: Pace | None = None  # of an answer that the kernel did not take at once
        self._body_since = 0.0  # when its reading began
        self._head_until = 0.0  # when the head that has begun must be complete
        self.deadline = 0.0

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, as far as we have read."""
        return not self._active and self._parser is None and not self._closing

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
        callback: Callable[[], None] = self.on_readable
        if self._listener.settings.proxies is not None:
            callback = functools.partial(self._on_preamble, bytearray())
        self._listener.loop.add_reader(self._sock.fileno(), callback)

    # Reading

    def _on_preamble(self, received: bytearray) -> None:
        """The first bytes say for whom a proxy speaks (edge/http/proxy_protocol.py)."""
        listener = self._listener
        proxies = listener.settings.proxies
        assert proxies is not None
        try:
            data = self._sock.recv(RECEIVE_BYTES)
            received += data
            parsed = parse_preamble(bytes(received)) if data else None
            if parsed is INCOMPLETE:
                if len(received) == len(data):
                    self.deadline = listener.clock.monotonic + listener.settings.header_s
                return
            if not isinstance(parsed, Parsed) or not proxies.trusts(self.peer.address):
                raise BadPreamble("from a peer that is no trusted proxy")
        except BlockingIOError:
            return
        except (OSError, BadPreamble):
            listener.stats.no_preamble += 1
            self.close()
            return
        self.deadline = listener.idle_deadline
        if parsed.address is not None:
            self.peer = listener.handler.peer(parsed.address)
        listener.loop.remove_reader(self._sock.fileno())
        listener.loop.add_reader(self._sock.fileno(), self.on_readable)
        rest = bytes(received[parsed.consumed :])
        if rest:
            self.on_readable(rest)

    def on_readable(self, data: bytes = b"") -> None:
        """data: what came behind a preamble, and is dealt with as if it had just been received."""
        if not data:
            if self._active and self._upload is None:
                # More, or an end, behind what is being answered: it waits in the kernel. Reading
                # is paused only here, since most clients say nothing until they have their answer.
                if self._is_dry:
                    self._look_for_end()
                else:
                    self._pause_reading()
                return
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
                try:
                    found = listener.find(data, self.peer)
                except Exception:
                    # Top of a callback, as in _answer().
                    log.exception("a request failed")
                    self.abort()
                    return
                if type(found) is bytes:
                    try:
                        sent = self._sock.send(found)
                    except BlockingIOError:
                        sent = 0
                    except OSError as error:
                        self._fail(error)
                        return
                    if sent == len(found):
                        self.deadline = listener.idle_deadline
                    else:
                        self._send_rest(found, sent)
                    return
                if found is not None:
                    if type(found) is Request:
                        self._answer(found)
                    else:
                        self._deliver_ready(found)  # type: ignore[arg-type]
                    return
            # Between requests a connection owns no parser: they all share the listener's, as long
            # as a receive ends where a request ends. One that does not keeps it, and the listener
            # makes a new one. Ten thousand idle connections then hold one parser, not as many.
            parser = listener.idle_parser
            try:
                parser.receive_data(data)
            except Exception:
                # What it holds of this client must never meet the next one.
                listener.idle_parser = RequestParser()
                self.abort()
                raise
            if not parser.is_between_requests or parser.requests:
                if len(parser.requests) == 1 and parser.is_between_requests:
                    request = parser.requests.popleft()
                    if not request.keep_alive:
                        listener.idle_parser = RequestParser()  # this one takes no more
                    request.whole = data
                    response = self._answer(request)
                    if response is not None and response.status == 200 and request.keep_alive:
                        listener.handler.learn(data)
                    return
                listener.idle_parser = RequestParser()
                self._parser = parser
        else:
            parser.receive_data(data)
        if self._upload is not None:
            self._go_on_reading(self._upload)
            return
        self._advance()

    def _end_of_input(self) -> None:
        """The client will send no more. What it asked for before is still answered."""
        if self._upload is not None:
            self.abort()  # in the middle of what it wants done
            return
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
                self._head_until = 0.0
                self._answer(parser.requests.popleft())
                continue
            if parser.error is not None:
                self._closing = True
                self._deliver(None, self._listener.handler.refuse(parser.error))
                return
            if parser.is_between_requests:
                self._parser = None
                return
            if not self._head_until:
                # From its first byte, or from the end of the answer behind which it waited: we did
                # not read then. What trickles in later changes nothing.
                listener = self._listener
                self._head_until = listener.clock.monotonic + listener.settings.header_s
            self.deadline = self._head_until
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
        if request.minor:
            # RFC 9110 section 15.2: none for a client of HTTP/1.0.
            request.send_interim = self._send_interim
        upload = request.upload
        if upload is not None and not upload.is_complete:
            self._pause_reading()
            self._upload = upload
            upload.on_taken = self._read_on
            if request.minor and b"expect" in request.fields and not upload.received:
                upload.on_wanted = self._send_continue
            if self._parser is not None and self._parser.error is not None:
                self._upload = None
                upload.fail(self._parser.error)
        self._task = self._listener.loop.create_task(self._serve(request))
        return None

    # A body

    def _send_continue(self) -> None:
        """RFC 9110 section 10.1.1."""
        if self._upload is not None and not self._upload.received:
            self._send_interim(_CONTINUE)

    def _send_interim(self, wire: bytes) -> bool:
        """A 1xx, ahead of the answer that is waited for; False where the client is gone. What the
        kernel does not take leaves with the answer; whoever sends bounds it."""
        if self._request is None or self._response is not None:
            return False
        if not self._interim:
            try:
                wire = wire[self._sock.send(wire) :]
            except BlockingIOError:
                pass
            except OSError:
                return False  # found out by what is received or sent next
        self._interim += wire
        return True

    def _read_on(self) -> None:
        """Whoever answers has taken what there was, and wants more."""
        upload, now = self._upload, self._listener.clock.monotonic
        if upload is None or self._reading or self._sock.fileno() < 0:
            return
        self._reading = True
        self.deadline = self._latest_piece(upload, now)
        self._listener.loop.add_reader(self._sock.fileno(), self.on_readable)

    def _go_on_reading(self, upload: Upload) -> None:
        """Some of the body has come, or its framing is broken."""
        parser = self._parser
        if parser is not None and parser.error is not None:
            upload.fail(parser.error)
        elif not upload.is_complete and not upload.is_full:
            self.deadline = self._latest_piece(upload, self._listener.clock.monotonic)
            return
        self.deadline = float("inf")
        self._pause_reading()
        if upload.is_complete or parser is None or parser.error is not None:
            self._upload = None

    def _latest_piece(self, upload: Upload, now: float) -> float:
        """When more must have come: neither silence nor a trickle holds a place for long."""
        if not self._body_since:
            self._body_since = now
        send_s = self._listener.settings.send_s
        # All of what has come, at the least rate, and one span of patience more.
        return min(now, self._body_since + upload.received / MIN_RATE) + send_s

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

    def _send_rest(self, wire: bytes, sent: int) -> None:
        """Of an answer in one piece, recorded already."""
        self._active = True
        self._out = deque([memoryview(wire)[sent:]])
        self._unsent = len(wire) - sent
        self._flush()

    def _deliver_ready(self, response: Response) -> None:
        """A response with its blank line, to a request that keeps the connection."""
        self._active = True
        self._response = response
        self._send(response.head, response)

    def _deliver(self, request: Request | None, response: Response) -> None:
        listener = self._listener
        self._active = True
        self._response = response
        if request is not None:
            request.send_interim = None  # too late
        if self._upload is not None:
            # Answered without it; what still comes of it is dropped after the answer.
            self._upload = None
            self._pause_reading()
        if response.close or listener.is_draining or request is None or not request.keep_alive:
            self._closing = True
        if self._closing:
            end = _END_CLOSE
        elif request is not None and request.minor == 0:
            end = _END_KEEP
        else:
            end = _END
        interim, self._interim = self._interim, b""
        self._send(interim + response.head + end, response)

    def _send(self, head: bytes, response: Response) -> None:
        body = response.body
        self._unsent = len(head) + response.length
        # The common case in one call: a head and a small body, all of it taken by the kernel.
        if not body or (len(body) == 1 and type(body[0]) is bytes):
            data = body[0] if body else b""
            assert isinstance(data, bytes)
            # Copying what is short costs less than a vector of buffers.
            wire = head + data if len(data) < SHORT_BYTES else b""
            try:
                sent = self._sock.send(wire) if wire else self._sock.sendmsg((head, data))
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            self._unsent -= sent
            if not self._unsent:
                self._finish()
                return
            self._out = deque([memoryview(wire or head + data)[sent:]])
        else:
            self._out = deque([head, *body])
        self._flush()

    def _flush(self) -> None:
        try:
            progress = self._send_some()
        except BlockingIOError:
            progress = Progress.FULL
        except OSError as error:
            self._fail(error)
            return
        if progress is Progress.DONE:
            self._finish()
            return
        if progress is Progress.COLD:
            self._load()
            return
        if progress is Progress.DRY:
            self._wait_for_more()
            return
        if progress is Progress.BROKEN:
            # Its head is out: the client must see that this is not the whole.
            self._cut()
            return
        now, send_s = self._listener.clock.monotonic, self._listener.settings.send_s
        left = self._unsent + self._unacknowledged()
        if not self._writing or self._pace is None:
            self._pace = Pace(left, now, send_s)
        elif not self._pace.goes_on(left, now):
            self._listener.stats.timed_out += 1
            self._cut()
            return
        self.deadline = now + send_s
        self._pause_reading()
        if not self._writing:
            self._writing = True
            self._listener.loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._flush()
        if self._out is None:
            self._advance()

    def _send_some(self) -> Progress:
        """Send until all is sent, the kernel takes no more, a turn's worth is sent, or a disk or an
        origin would have to be waited for."""
        out = self._out
        assert out is not None
        turn = SENDFILE_BYTES
        while out:
            chunk = out[0]
            if isinstance(chunk, FileSlice):
                asked = self._resident(chunk, turn)
                if asked == 0:
                    return Progress.COLD
                sent = os.sendfile(self._sock.fileno(), chunk.file.fd, chunk.start, asked)
                if sent == 0:
                    # The file is shorter than its head said: never pad, cut the connection.
                    raise OSError(errno.EIO, "file ended before the length that was announced")
                if chunk.start + sent < chunk.stop:
                    out[0] = FileSlice(chunk.file, chunk.start + sent, chunk.stop)
                else:
                    out.popleft()
            elif isinstance(chunk, Stretch):
                pieces = chunk.take(SENDFILE_BYTES)
                if chunk.is_done:
                    out.popleft()
                elif not pieces:
                    return Progress.BROKEN if chunk.has_failed else Progress.DRY
                out.extendleft(reversed(pieces))
                continue
            else:
                # A head and a small file behind it leave in one segment. Before a large one that
                # costs more than the segment it saves (17 us against 21 at 100 KB, 72 against 117
                # at 1 MB, of a bare loop): the kernel then cuts the file's pages anew.
                more = _MSG_MORE if len(out) > 1 and len(out[1]) < MORE_BYTES else 0
                asked = len(chunk)
                sent = self._sock.send(chunk, more)
                if sent < asked:
                    out[0] = memoryview(chunk)[sent:]
                else:
                    out.popleft()
            self._unsent -= sent
            turn -= sent
            if out and (sent < asked or turn <= 0):
                return Progress.FULL
        return Progress.DONE

    def _resident(self, chunk: FileSlice, most: int) -> int:
        """How many of the next bytes can be sent without waiting for a disk; 0: it must be asked.

        What was seen holds for the second: a picture that many ask for is looked at once.
        """
        file, start, second = chunk.file, chunk.start, self._listener.clock.wall
        if file.resident_at == second and file.resident_from <= start < file.resident_to:
            return min(chunk.stop - start, most, file.resident_to - start)
        stop = min(chunk.stop, start + SENDFILE_BYTES)
        if not self._listener.residency.is_resident(file, start, stop):
            return 0
        file.resident_at, file.resident_from, file.resident_to = second, start, stop
        return min(stop - start, most)

    def _load(self) -> None:
        """Have a disk thread read what is to be sent next; nothing else goes on here meanwhile."""
        listener = self._listener
        assert self._out is not None
        chunk = self._out[0]
        assert isinstance(chunk, FileSlice)
        self._pause_reading()
        if self._writing:
            self._writing = False
            listener.loop.remove_writer(self._sock.fileno())
        self.deadline = float("inf")  # a disk has no deadline, and the client is not to blame
        stop = min(chunk.stop, chunk.start + SENDFILE_BYTES)
        loading = asyncio.wrap_future(
            listener.residency.load(chunk.file, chunk.start, stop), loop=listener.loop
        )
        loading.add_done_callback(functools.partial(self._on_loaded, chunk.file, chunk.start, stop))

    def _on_loaded(
        self, file: Descriptor, start: int, stop: int, loading: "asyncio.Future[None]"
    ) -> None:
        if self._sock.fileno() < 0 or self._out is None:
            # The client left meanwhile.
            if not loading.cancelled():
                loading.exception()
            return
        error = loading.exception()
        if isinstance(error, OSError):
            self._fail(error)
            return
        # Not asked again: under pressure it may be gone already, and then one wait is better than
        # reading it for ever.
        file.resident_at = self._listener.clock.wall
        file.resident_from, file.resident_to = start, stop
        self._on_writable()

    def _wait_for_more(self) -> None:
        """What there was of a growing body is sent; the origin has deadlines of its own, and the
        client is not to blame. Nothing is written meanwhile that would tell whether it has left: so
        it is listened to."""
        listener = self._listener
        assert self._out is not None
        rest = self._out[0]
        assert isinstance(rest, Stretch)
        if not self._reading:
            self._reading = True
            listener.loop.add_reader(self._sock.fileno(), self.on_readable)
        if self._writing:
            self._writing = False
            listener.loop.remove_writer(self._sock.fileno())
        self._pace = None
        self.deadline = float("inf")
        # Not in the middle of what the writer of the body does.
        rest.wait(functools.partial(listener.loop.call_soon, self._on_more))

    @property
    def _is_dry(self) -> bool:
        out = self._out
        if not out or self._writing:
            return False
        return isinstance(out[0], Stretch)

    def _look_for_end(self) -> None:
        """Of a client, in the middle of an answer of which there is no more yet.

        An end of its input alone does not say that it has left. Of an answer that may never end it
        is taken for that, as nginx takes it always: else nobody would find out before the next
        piece. Behind a request that came ahead of its turn nothing is seen.
        """
        assert self._out is not None
        rest = self._out[0]
        assert isinstance(rest, Stretch)
        try:
            has_more = self._sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if has_more or not rest.is_live:
            self._pause_reading()
        else:
            self.abort()

    def _on_more(self) -> None:
        if self._sock.fileno() >= 0 and self._out is not None:
            self._on_writable()

    def _finish(self) -> None:
        """A response has left whole."""
        listener = self._listener
        response, request = self._response, self._request
        self._out = self._pace = None
        unsent, self._unsent = self._unsent, 0
        if response is not None:
            sent = response.length - unsent
            took_s = listener.loop.time() - self._started if self._started else 0.0
            listener.handler.record(self.peer, request, response, sent, took_s)
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

    def _unacknowledged(self) -> int:
        """Bytes that the kernel keeps for the client (tcp(7), SIOCOUTQ)."""
        try:
            answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def _has_input(self) -> bool:
        """A request is on its way to us, unread; closing now would answer it with a reset."""
        try:
            return self._sock.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def expire(self) -> None:
        """Called after the deadline: too slow a head, too long idle, or too little taken."""
        if self._sock.fileno() < 0:
            return
        listener = self._listener
        if self._is_taking():
            self.deadline = listener.clock.monotonic + listener.settings.send_s
            return
        listener.stats.timed_out += 1
        if self._upload is not None:
            upload, self._upload = self._upload, None
            self.deadline = float("inf")
            self._pause_reading()
            upload.fail(ParseError(408, "body not complete in time"))
        elif self._parser is not None and not self._active and not self._closing:
            self._parser.error = ParseError(408, "head not complete in time")
            self._advance()
        elif self._active or (self.is_idle and self._unacknowledged()):
            self._cut()
        else:
            self.close()

    def _is_taking(self) -> bool:
        """The client takes an answer, and fast enough; also one that the kernel has had whole."""
        if not (self._writing or self.is_idle):
            return False
        listener = self._listener
        now = listener.clock.monotonic
        left = self._unsent + self._unacknowledged()
        is_owed = self._writing or left > 0
        if self._pace is not None:
            return is_owed and self._pace.waited(left, now)
        if is_owed:
            self._pace = Pace(left, now, listener.settings.send_s)
        return is_owed

    def shed(self) -> bool:
        """Close an idle connection before its time, for others need its place; False if it stays,
        as it does while there is a request to read or an answer is still on its way."""
        listener = self._listener
        if not self.is_idle or self._has_input():
            return False
        left = self._unacknowledged()
        if left and listener.idle_deadline - self.deadline < listener.settings.send_s:
            return False
        listener.stats.shed += 1
        if left:
            self._cut()
        else:
            self.close()
        return True

    def close_if_idle(self) -> None:
        if not self._active and self._parser is None and not self._has_input():
            self.close()

    def _cut(self) -> None:
        """Abort by a reset: neither a descriptor nor a buffer of the kernel goes on waiting."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def abort(self) -> None:
        """Close now, in the middle of whatever is under way; unsent bytes are given up."""
        if self._sock.fileno() < 0:
            return
        if self._response is not None:
            self._listener.stats.aborted += 1
            sent = max(self._response.length - self._unsent, 0)
            took_s = self._listener.loop.time() - self._started if self._started else 0.0
            self._listener.handler.record(self.peer, self._request, self._response, sent, took_s)
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
        self._closing = True
        for rest in self._out or ():
            if isinstance(rest, Stretch):
                rest.leave()
        self._out = self._pace = self._parser = None
        self._interim = b""
        self._response = self._request = self._task = self._upload = None
        self._listener.closed(self)
