"""Connections against a handler of the test: order, keep-alive, limits in time and number."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from edge.access import Peer
from edge.clock import Clock
from edge.connection import ConnectionSettings, Listener, listen
from edge.http.body import Descriptor, FileSlice
from edge.http.messages import Request, Response
from edge.http.parser import ParseError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Echo:
    """Answers the target as the body; /wait... waits for the event, /file sends a file."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.file: FileSlice | None = None
        self.records: list[tuple[bytes | None, int, int]] = []
        self.recorded = asyncio.Event()

    def find(self, data: bytes, peer: Peer) -> bytes | Request | None:
        return None

    def learn(self, data: bytes) -> None:
        pass

    def receive(self, request: Request, peer: Peer) -> Response | None:
        if request.target.startswith(b"/wait"):
            return None
        if request.target == b"/file":
            assert self.file is not None
            return Response(200, OK % len(self.file), (self.file,), len(self.file))
        if request.target == b"/bug":
            raise RuntimeError("a bug")
        body = request.target
        return Response(200, OK % len(body), (body,), len(body))

    async def serve(self, request: Request, peer: Peer) -> Response:
        self.waiting.set()
        await self.go.wait()
        body = request.target
        return Response(200, OK % len(body), (body,), len(body))

    def refuse(self, error: ParseError) -> Response:
        return Response(error.status, b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n" % error.status)

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, started: float
    ) -> None:
        self.records.append((request and request.target, response.status, sent))
        self.recorded.set()


class Bench:
    """A listener on a free port, and clients of it."""

    def __init__(self, **limits: float) -> None:
        self.now = Now()
        self.clock = Clock(self.now, self.now)
        self.handler = Echo()
        settings = ConnectionSettings(
            header_s=limits.get("header_s", 10),
            idle_s=limits.get("idle_s", 75),
            send_s=limits.get("send_s", 30),
            max_connections=int(limits.get("max_connections", 100)),
        )
        sock = listen(("127.0.0.1", 0))
        self.listener = Listener(
            sock, self.handler, settings, self.clock, asyncio.get_running_loop()
        )
        self.listener.start()
        self.writers: list[asyncio.StreamWriter] = []

    async def client(
        self, limit: int = 1 << 20
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.listener.sock.getsockname()
        reader, writer = await asyncio.open_connection(host, port, limit=limit)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.client()
        writer.write(data)
        return await reader.read()

    def pass_time(self, seconds: float) -> None:
        self.now.seconds += seconds
        self.clock.tick()
        self.listener.tick()

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
        if not self.listener.is_draining:
            await self.listener.drain(0.01)
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def on_loop(test: Callable[[Bench], Awaitable[None]], **limits: float) -> None:
    async def main() -> None:
        bench = Bench(**limits)
        try:
            await asyncio.wait_for(test(bench), 20)
        finally:
            await bench.close()
            assert not bench.listener.connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def get(target: bytes, *fields: bytes, version: bytes = b"1.1") -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %s HTTP/%s\r\nHost: a\r\n%s\r\n" % (target, version, lines)


CLOSE = b"Connection: close"


def test_a_request_is_answered_and_the_connection_kept():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        for target in (b"/one", b"/two"):
            writer.write(get(target))
            assert await reader.readuntil(target) == OK % 4 + b"\r\n" + target
        assert bench.listener.stats.open == 1

    on_loop(test)


def test_pipelined_requests_are_answered_in_order_also_behind_a_slow_one():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/wait") + get(b"/2") + get(b"/3", CLOSE))
        await bench.handler.waiting.wait()
        bench.handler.go.set()
        answer = await reader.read()
        assert [answer.index(body) for body in (b"/wait", b"/2", b"/3")] == sorted(
            answer.index(body) for body in (b"/wait", b"/2", b"/3")
        )

    on_loop(test)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_any_cut_of_a_pipeline_gives_the_same_answers(size):
    stream = get(b"/1") + get(b"/22") + get(b"/file") + get(b"/333", CLOSE)

    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(b"x" * 5000)
        whole = await bench.ask(stream)
        reader, writer = await bench.client()
        for start in range(0, len(stream), size):
            writer.write(stream[start : start + size])
            await writer.drain()
        assert await reader.read() == whole
        assert whole.count(b"200 OK") == 4

    on_loop(test)


CLOSES = [
    (get(b"/a", CLOSE), True),
    (get(b"/a", version=b"1.0"), True),
    (get(b"/a", b"Connection: keep-alive", version=b"1.0"), False),
    (get(b"/a"), False),
    (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", True),
]


@pytest.mark.parametrize(("data", "closes"), CLOSES)
def test_who_closes(data, closes):
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert (b"Connection: close" in head) is closes
        assert (b"Connection: keep-alive" in head) is (b"HTTP/1.0" in data and not closes)
        if closes:
            assert await reader.read() == b"/a"

    on_loop(test)


def test_a_parse_error_is_answered_after_the_good_and_then_closed():
    async def test(bench: Bench) -> None:
        answer = await bench.ask(get(b"/good") + b"BAD LINE\r\n\r\n" + get(b"/never"))
        assert b"/good" in answer
        assert b"400 No" in answer or b"501 No" in answer
        assert b"/never" not in answer

    on_loop(test)


def test_the_answer_is_not_lost_though_the_client_still_sends():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(
            b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 1000
        )
        assert (await reader.readuntil(b"/up")).startswith(b"HTTP/1.1 200")
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""

    on_loop(test)


def a_file(data: bytes) -> FileSlice:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return FileSlice(Descriptor(os.dup(file.fileno())), 0, len(data))


def test_a_large_file_goes_to_a_slow_reader_whole():
    data = os.urandom(1 << 20) * 8

    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(data)
        reader, writer = await bench.client(limit=4096)
        writer.write(get(b"/file") + get(b"/next", CLOSE))
        got = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(data))
        assert body == data
        assert (await reader.read()).endswith(b"/next")
        assert bench.handler.records[0] == (b"/file", 200, len(data))
        assert got.startswith(b"HTTP/1.1 200")

    on_loop(test)


def test_a_file_that_ends_early_cuts_the_connection_and_is_never_padded():
    async def test(bench: Bench) -> None:
        short = a_file(b"x" * 100)
        bench.handler.file = FileSlice(short.file, 0, 1000)
        answer = await bench.ask(get(b"/file") + get(b"/next"))
        assert answer.endswith(b"\r\n\r\n" + b"x" * 100)
        assert bench.handler.records == [(b"/file", 200, 100)]
        assert bench.listener.stats.aborted == 1

    on_loop(test)


def test_a_client_that_takes_nothing_is_cut_after_its_time():
    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(bytes(32 << 20))
        host, port = bench.listener.sock.getsockname()
        client = socket.create_connection((host, port))
        client.sendall(get(b"/file"))
        client.setblocking(False)
        while not bench.listener.connections or bench.clock.monotonic == 0:
            await asyncio.sleep(0)
        (connection,) = bench.listener.connections
        # The loop runs until the kernel's buffers are full and the connection waits for them.
        while not connection.is_sending:
            await asyncio.sleep(0)
        bench.pass_time(29)
        assert bench.listener.stats.timed_out == 0
        bench.pass_time(2)
        assert bench.listener.stats.timed_out == 1
        assert bench.listener.stats.aborted == 1
        assert not bench.listener.connections
        client.close()

    on_loop(test)


def test_time_limits():
    async def test(bench: Bench) -> None:
        silent = await bench.client()
        half = await bench.client()
        idle = await bench.client()
        half[1].write(b"GET /a HTT")
        idle[1].write(get(b"/a"))
        await idle[0].readuntil(b"/a")
        while len(bench.listener.connections) < 3 or not any(
            one.is_reading_head for one in bench.listener.connections
        ):
            await asyncio.sleep(0)
        bench.pass_time(11)
        assert b"408" in await half[0].read()
        assert bench.listener.stats.timed_out == 1
        bench.pass_time(60)
        assert len(bench.listener.connections) >= 2  # idle, and the one that sent nothing
        bench.pass_time(10)
        assert await idle[0].read() == b""
        assert await silent[0].read() == b""

    on_loop(test)


UPGRADE = get(b"/up", b"Connection: upgrade", b"Upgrade: h2c")


def test_a_refusal_behind_an_upgrade_is_answered_and_troubles_nobody_else():
    async def test(bench: Bench) -> None:
        answer = await bench.ask(UPGRADE + get(b"/bad", b"Host: b"))
        assert (answer.count(b"/up"), answer.count(b"HTTP/1.1 400 ")) == (1, 1)
        # Connections share a parser between requests: it must not have kept any of that.
        assert (await bench.ask(get(b"/mine", CLOSE))).endswith(b"\r\n\r\n/mine")
        assert len(bench.handler.records) == 3

    on_loop(test)


def test_a_broken_body_is_answered_once():
    async def test(bench: Bench) -> None:
        head = b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await bench.ask(head + b"no chunk\r\n" + get(b"/smuggled"))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert bench.handler.records == [(b"/post", 200, 5)]

    on_loop(test)


def test_a_client_over_the_cap_is_told_so():
    async def test(bench: Bench) -> None:
        first = await bench.client()
        first[1].write(get(b"/a"))
        await first[0].readuntil(b"/a")
        reader, _ = await bench.client()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert bench.listener.stats.refused == 1
        assert bench.listener.stats.accepted == 2

    on_loop(test, max_connections=1)


def test_a_bug_in_the_handler_costs_one_connection_only():
    async def test(bench: Bench) -> None:
        assert await bench.ask(get(b"/bug")) == b""
        assert b"/fine" in await bench.ask(get(b"/fine", CLOSE))

    on_loop(test)


def test_drain_finishes_what_is_under_way_and_closes_the_idle():
    async def test(bench: Bench) -> None:
        idle = await bench.client()
        idle[1].write(get(b"/a"))
        await idle[0].readuntil(b"/a")
        busy = await bench.client()
        busy[1].write(get(b"/wait"))
        await bench.handler.waiting.wait()
        draining = asyncio.ensure_future(bench.listener.drain(10))
        assert await idle[0].read() == b""
        bench.handler.go.set()
        assert b"Connection: close" in await busy[0].read()
        await draining
        stats = bench.listener.stats
        assert (stats.accepted, stats.closed, stats.open) == (2, 2, 0)

    on_loop(test)


def test_drain_ends_at_its_grace():
    async def test(bench: Bench) -> None:
        busy = await bench.client()
        busy[1].write(get(b"/wait"))
        await bench.handler.waiting.wait()
        await bench.listener.drain(0.01)
        assert await busy[0].read() == b""

    on_loop(test)


@pytest.fixture
def unix_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "s")


def test_unix_socket(unix_path):
    async def main() -> None:
        clock = Clock(lambda: 0.0, lambda: 0.0)
        handler = Echo()
        listener = Listener(
            listen(unix_path),
            handler,
            ConnectionSettings(10, 75, 30, 10),
            clock,
            asyncio.get_running_loop(),
        )
        listener.start()
        assert listener.address == f"unix:{unix_path}"
        reader, writer = await asyncio.open_unix_connection(unix_path)
        writer.write(get(b"/a", CLOSE))
        assert (await reader.read()).endswith(b"/a")
        writer.close()
        await listener.drain(1)

    asyncio.run(main())
