"""A FastCGI responder that answers well, or plays one scripted fault. Counts what it sees.

Written from the specification with struct alone, so that it shares no mistake with our codec.
"""

import asyncio
import contextlib
import dataclasses
import email.utils
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from edge.origin.address import Address

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
KEEP_CONN = 1
STALL_S = 0.4
GET_VALUES_RESULT, UNKNOWN = 10, 99

BODY = b"a picture, or so" * 4
PLAIN = b"Status: 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@dataclass(frozen=True)
class Behaviour:
    """What goes over the wire. The defaults are a good answer; each knob spoils one thing."""

    stdout: bytes = PLAIN + BODY
    raw: bytes | None = None  # instead of everything below
    # Content of STDOUT bit by bit, instead of stdout; a None ends the connection there.
    bits: Callable[[], AsyncIterator[bytes | None]] | None = None
    stderr_before: bytes = b""
    stderr_after: bytes = b""
    record_bytes: int = 65_535  # content of each STDOUT record
    padding: int = 0
    version: int = 1
    request_id: int | None = None  # the request's own; 1 where it is not known
    foreign_id: int | None = None  # a STDOUT record of another request after the first of ours
    length_lie: int = 0  # added to contentLength of the first STDOUT record
    noise: bool = False  # management, unknown and empty records between all others
    has_end: bool = True
    app_status: int = 0
    protocol_status: int = 0
    behind_end: bytes = b""
    chop: int = 0  # bytes per send; each waits until the last one left
    drip_s: float = 0.0  # pause before each of these
    cut_at: int | None = None  # close after this many bytes
    reset_at: int | None = None  # RST after this many bytes
    stall_at: int | None = None  # say nothing more after this many bytes
    obeys_abort: bool = False  # when stalled: ABORT_REQUEST is answered by END_REQUEST
    keeps: bool = True  # leave the connection open where KEEP_CONN asks for it
    unasked: bytes = b""  # sent on the kept connection a moment after the answer

    def wire(self) -> bytes:
        if self.raw is not None:
            return self.raw
        parts: list[bytes] = [self.record(STDERR, self.stderr_before)] if self.stderr_before else []
        for start in range(0, len(self.stdout), self.record_bytes):
            content = self.stdout[start : start + self.record_bytes]
            parts.append(self.record(STDOUT, content, lie=0 if start else self.length_lie))
            if start == 0 and self.foreign_id is not None:
                parts.append(self.record(STDOUT, b"another's", request_id=self.foreign_id))
        if self.stderr_after:
            parts.append(self.record(STDERR, self.stderr_after))
        if self.has_end:
            status = struct.pack("!IB3x", self.app_status, self.protocol_status)
            parts.append(self.record(STDOUT, b"") if self.stdout else b"")
            parts.append(self.record(END, status))
        if self.noise:
            noise = (
                self.record(GET_VALUES_RESULT, b"\x0f\x01FCGI_MPXS_CONNS0", request_id=0)
                + self.record(STDERR, b"")
                + self.record(UNKNOWN, b"?")
            )
            parts = [noise + part for part in parts]
        return b"".join(parts) + self.behind_end

    def record(
        self, kind: int, content: bytes, *, request_id: int | None = None, lie: int = 0
    ) -> bytes:
        pieces = [content[i : i + 65_535] for i in range(0, len(content), 65_535)] or [b""]
        own = 1 if self.request_id is None else self.request_id
        number = own if request_id is None else request_id
        return b"".join(
            struct.pack("!BBHHBx", self.version, kind, number, len(piece) + lie, self.padding)
            + piece
            + bytes(self.padding)
            for piece in pieces
        )


@dataclass(frozen=True)
class Manners:
    """How connections are treated, whatever is answered on them."""

    hangs_up: bool = False  # closes what it accepts
    answers_first: bool = False  # STDIN is read behind the answer
    leaves_early: bool = False  # closes behind the answer, STDIN unread
    reads_bytes: int | None = None  # of STDIN, then nothing for STALL_S
    # Takes so many requests on one connection, and closes it when the next one has been sent.
    requests_per_connection: int | None = None


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    params: dict[str, bytes]
    order: tuple[str, ...]
    stdin: bytes
    flags: int
    connection: int  # counted from 1
    request_id: int


Application = Callable[[Seen], Behaviour]


@dataclass
class FastCGIPeer:
    application: Application
    address: Address
    manners: Manners = Manners()
    connections: int = 0
    aborts: int = 0
    stdin_bytes: int = 0
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
            seen = await self._read_params(reader, number)
            is_early = self.manners.answers_first or self.manners.leaves_early
            if not is_early:
                seen = await self._read_stdin(reader, seen)
            if served == self.manners.requests_per_connection:
                return
            served += 1
            self.requests.append(seen)
            behaviour = self.application(seen)
            if behaviour.request_id is None:
                behaviour = dataclasses.replace(behaviour, request_id=seen.request_id)
            is_whole = await self._play(behaviour, reader, writer)
            if self.manners.answers_first:
                seen = await self._read_stdin(reader, seen)
                self.requests[-1] = seen
            if not is_whole:
                return
            if self.manners.leaves_early or not (seen.flags & KEEP_CONN and behaviour.keeps):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
            if behaviour.unasked:
                await asyncio.sleep(0.02)
                writer.write(behaviour.unasked)

    async def _read_params(self, reader: asyncio.StreamReader, number: int) -> Seen:
        block = bytearray()
        flags = own_id = -1
        while True:
            kind, request_id, content = await _read_record(reader)
            if kind == ABORT and flags == -1:
                continue  # for an answer that had left already
            if kind == BEGIN:
                own_id = request_id
                role, flags = struct.unpack("!HB5x", content)
                assert role == 1
                continue
            assert (kind, request_id) == (PARAMS, own_id)
            if not content:
                break
            block += content
        pairs = _parse_pairs(bytes(block))
        return Seen(dict(pairs), tuple(name for name, _ in pairs), b"", flags, number, own_id)

    async def _read_stdin(self, reader: asyncio.StreamReader, seen: Seen) -> Seen:
        stdin = bytearray()
        while True:
            kind, request_id, content = await _read_record(reader)
            assert (kind, request_id) == (STDIN, seen.request_id)
            if not content:
                return dataclasses.replace(seen, stdin=bytes(stdin))
            stdin += content
            self.stdin_bytes += len(content)
            most = self.manners.reads_bytes
            if most is not None and len(stdin) >= most:
                # Not "until the client has gone": who does not read does not see that.
                await asyncio.sleep(STALL_S)
                raise ConnectionAbortedError

    async def _play(
        self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """True when the connection is good for another request."""
        if behaviour.bits is not None:
            async for bit in behaviour.bits():
                if bit is None:
                    writer.transport.abort()
                    return False
                writer.write(behaviour.record(STDOUT, bit))
                await writer.drain()
        wire = behaviour.wire()
        ends = (behaviour.cut_at, behaviour.reset_at, behaviour.stall_at)
        wire = wire[: min((end for end in ends if end is not None), default=len(wire))]
        step = behaviour.chop or len(wire) or 1
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
            while (await _read_record(reader))[0] != ABORT:
                pass
            self.aborts += 1
            if behaviour.obeys_abort:
                writer.write(behaviour.record(END, bytes(8)))
                return True
            await reader.read()  # until the client has had enough
            return False
        is_cut = behaviour.raw is not None or behaviour.cut_at is not None
        if is_cut or behaviour.length_lie or not behaviour.has_end:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return False
        return True


async def _read_record(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    head = await reader.readexactly(8)
    version, kind, number, length, padding = struct.unpack("!BBHHBx", head)
    content = (await reader.readexactly(length + padding))[:length]
    assert version == 1 and number > 0
    assert (length + padding) % 8 == 0, "our client pads to eight"
    return kind, number, content


def _parse_pairs(block: bytes) -> list[tuple[str, bytes]]:
    pairs = []
    at = 0
    while at < len(block):
        lengths = []
        for _ in range(2):
            size = 4 if block[at] & 0x80 else 1
            lengths.append(int.from_bytes(block[at : at + size], "big") & 0x7FFFFFFF)
            at += size
        name, value = lengths
        pairs.append((block[at : at + name].decode(), block[at + name : at + name + value]))
        at += name + value
    return pairs


@contextlib.asynccontextmanager
async def fastcgi_peer(
    behaviour: Behaviour | Application,
    *,
    path: str | None = None,
    manners: Manners = Manners(),
) -> AsyncIterator[FastCGIPeer]:
    """Listens on a free TCP port of the loopback, or on a Unix socket at path."""

    def application(seen: Seen) -> Behaviour:
        return behaviour if isinstance(behaviour, Behaviour) else behaviour(seen)

    raw = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    raw.bind(path or ("127.0.0.1", 0))
    address = Address(path=path) if path else Address("127.0.0.1", raw.getsockname()[1])
    peer = FastCGIPeer(application, address, manners)
    start = asyncio.start_unix_server if path else asyncio.start_server
    server = await start(peer.serve, sock=raw)
    try:
        yield peer
    finally:
        server.close()
        await peer.quiet()
        await server.wait_closed()


def pictures(folder: Path) -> Application:
    """The same application as deploy/origin/index.php, as far as its contract goes."""
    count = 0

    def answer(seen: Seen) -> Behaviour:
        nonlocal count
        count += 1
        fields = [f"X-Requests: {count}", "X-Content-Type-Options: nosniff"]
        method = seen.params["REQUEST_METHOD"].decode()
        name = unquote(seen.params["REQUEST_URI"].decode().partition("?")[0])
        file = folder / name.lstrip("/")
        if method not in ("GET", "HEAD"):
            return _reply("405 Method Not Allowed", [*fields, "Allow: GET, HEAD"], b"no\n")
        if ".." in name or not file.is_file():
            return _reply("404 Not Found", [*fields, "Cache-Control: public, max-age=10"], b"no\n")
        status, body = file.stat(), file.read_bytes()
        modified = email.utils.formatdate(int(status.st_mtime), usegmt=True)
        etag = f'"{int(status.st_mtime):x}-{len(body):x}"'
        fields += [f"ETag: {etag}", f"Last-Modified: {modified}"]
        fields += ["Cache-Control: public, max-age=3600"]
        if seen.params.get("HTTP_IF_NONE_MATCH", b"").decode() == etag:
            return _reply("304 Not Modified", fields, None)
        if "HTTP_IF_NONE_MATCH" not in seen.params and (
            seen.params.get("HTTP_IF_MODIFIED_SINCE", b"").decode() == modified
        ):
            return _reply("304 Not Modified", fields, None)
        kind = {".jpg": "image/jpeg", ".png": "image/png"}[file.suffix]
        return _reply("200 OK", fields, body, kind, send=method == "GET")

    return answer


def _reply(
    status: str, fields: list[str], body: bytes | None, kind: str = "text/plain", send: bool = True
) -> Behaviour:
    lines = [f"Status: {status}", *fields]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
    return Behaviour(stdout=head + (body if body is not None and send else b""))
