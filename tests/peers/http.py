"""An HTTP/1.1 origin that answers well, or plays one scripted fault. Counts what it sees.

Its answers are bytes, and of requests it reads what the tests need, so it shares no code with ours.
"""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from edge.origin.address import Address

BODY = b"a picture, or so" * 4
STALL_S = 0.4
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def chunked(body: bytes, size: int = 10, trailers: bytes = b"") -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (
        b"0\r\n" + trailers + b"\r\n"
    )


PLAIN = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY)
CLOSED = HEAD + b"\r\n" + BODY


@dataclass(frozen=True)
class Behaviour:
    """What goes over the wire. The defaults are a good answer; each knob spoils one thing."""

    wire: bytes = PLAIN
    chop: int = 0  # bytes per send; each waits until the last one left
    drip_s: float = 0.0  # pause before each of these
    cut_at: int | None = None  # close after this many bytes
    reset_at: int | None = None  # RST after this many bytes
    stall_at: int | None = None  # say nothing more after this many bytes
    keeps: bool = True  # leave the connection open, unless the request wants it closed
    unasked: bytes = b""  # sent on the kept connection a moment after the answer
    pause: tuple[int, Callable[[], Awaitable[object]]] | None = None  # awaited behind so many bytes


@dataclass(frozen=True)
class Manners:
    """How connections are treated, whatever is answered on them."""

    hangs_up: bool = False  # closes what it accepts
    answers_first: bool = False  # the body of the request is read behind the answer
    leaves_early: bool = False  # closes behind the answer, the body of the request unread
    reads_bytes: int | None = None  # of a body, then nothing for STALL_S
    # Takes so many requests on one connection, and closes it when the next one has been sent.
    requests_per_connection: int | None = None


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    head: str  # without its empty line
    body: bytes
    connection: int  # counted from 1

    @property
    def method(self) -> str:
        return self.head.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.head.split(" ")[1]

    def field(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == name.lower():
                return value
        return None


Application = Callable[[Seen], Behaviour]


@dataclass
class HttpPeer:
    application: Application
    address: Address
    manners: Manners = Manners()
    connections: int = 0
    is_open: set[asyncio.StreamWriter] = field(default_factory=set)
    requests: list[Seen] = field(default_factory=list)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def quiet(self) -> None:
        """Returns when no connection is open: nothing leaked."""
        while self.is_open:
            self._quiet.clear()
            await self._quiet.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.is_open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer, self.connections)
        finally:
            # A transport that closed by itself cannot be aborted any more (Python 3.11 raises).
            if not writer.transport.is_closing():
                writer.transport.abort()
            self.is_open.discard(writer)
            self._quiet.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        if self.manners.hangs_up:
            return
        served = 0
        while True:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1")
            seen = Seen(head, b"", number)
            if not self.manners.answers_first and not self.manners.leaves_early:
                seen = await self._read_body(reader, seen)
            if served == self.manners.requests_per_connection:
                return
            served += 1
            self.requests.append(seen)
            behaviour = self.application(seen)
            is_whole = await self._play(behaviour, reader, writer)
            if self.manners.answers_first:
                self.requests[-1] = await self._read_body(reader, seen)
            wants_close = seen.field("connection") == "close"
            if not is_whole or self.manners.leaves_early or wants_close or not behaviour.keeps:
                if not writer.transport.is_closing():
                    writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
            if behaviour.unasked:
                await asyncio.sleep(0.02)
                writer.write(behaviour.unasked)

    async def _read_body(self, reader: asyncio.StreamReader, seen: Seen) -> Seen:
        length = int(seen.field("content-length") or 0)
        most = self.manners.reads_bytes
        if most is not None and length > most:
            await reader.readexactly(most)
            await asyncio.sleep(STALL_S)
            raise ConnectionAbortedError
        return dataclasses.replace(seen, body=await reader.readexactly(length))

    async def _play(
        self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """True when the connection is good for another request."""
        ends = (behaviour.cut_at, behaviour.reset_at, behaviour.stall_at)
        wire = behaviour.wire
        wire = wire[: min((end for end in ends if end is not None), default=len(wire))]
        step = behaviour.chop or len(wire) or 1
        if behaviour.pause is not None:
            at, over = behaviour.pause
            writer.write(wire[:at])
            await writer.drain()
            await over()
            wire = wire[at:]
        for start in range(0, len(wire), step):
            if behaviour.drip_s:
                await asyncio.sleep(behaviour.drip_s)
            writer.write(wire[start : start + step])
            await writer.drain()
            if behaviour.chop:
                await asyncio.sleep(0)
        if behaviour.reset_at is not None:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if behaviour.stall_at is not None:
            await reader.read()  # until the client has had enough
            return False
        return behaviour.cut_at is None


@contextlib.asynccontextmanager
async def http_peer(
    behaviour: Behaviour | Application,
    *,
    path: str | None = None,
    manners: Manners = Manners(),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpPeer]:
    """Listens on a free TCP port of the loopback, or on a Unix socket at path."""

    def application(seen: Seen) -> Behaviour:
        return behaviour if isinstance(behaviour, Behaviour) else behaviour(seen)

    raw = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    raw.bind(path or ("127.0.0.1", 0))
    address = Address(path=path) if path else Address("127.0.0.1", raw.getsockname()[1])
    peer = HttpPeer(application, address, manners)
    start = asyncio.start_unix_server if path else asyncio.start_server
    server = await start(peer.serve, sock=raw, ssl=tls)
    try:
        yield peer
    finally:
        server.close()
        await peer.quiet()
        await server.wait_closed()


MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Website:
    """An origin in a thread, for whole nodes. answers has what is said by target; anything else is
    404. seen counts."""

    def __init__(self) -> None:
        self.answers: dict[str, Behaviour | Application] = {}
        self.seen: list[Seen] = []
        self.address = ""

    def visits(self, target: str) -> int:
        return sum(seen.target == target for seen in self.seen)

    def answer(self, seen: Seen) -> Behaviour:
        self.seen.append(seen)
        answer = self.answers.get(seen.target, Behaviour(MISSING))
        return answer if isinstance(answer, Behaviour) else answer(seen)


@contextlib.contextmanager
def website() -> Iterator[Website]:
    site = Website()
    is_ready = threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with http_peer(site.answer) as peer:
            site.address = str(peer.address)
            is_ready.set()
            await end.wait()
            for writer in tuple(peer.is_open):
                writer.transport.abort()  # what a node keeps is its own

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert is_ready.wait(10)
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
