"""Connections against a handler of the test: order, keep-alive, limits in time and number."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_network
from typing import Self

import pytest
import uvloop

from edge.access import Peer
from edge.clock import Clock
from edge.connection import ConnectionSettings
from edge.http.body import Descriptor, FileSlice
from edge.http.messages import Request, Response
from edge.http.parser import ParseError
from edge.listener import Listener
from edge.policy.forwarded import TrustedProxies
from edge.residency import Residency
from tests.waiting import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"


def listen(address: tuple[str, int] | str) -> socket.socket:
    """As edge/listening.py does for a node: not blocking, ready to be accepted from."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen(4096)
    sock.setblocking(False)
    return sock


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


DISK = ThreadPoolExecutor(1, thread_name_prefix="disk")


class Echo:
    """Answers the target as the body; /wait... waits for the event, /file sends a file."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.file: FileSlice | None = None
        self.records: list[tuple[bytes | None, int, int]] = []
        self.recorded = asyncio.Event()

    def peer(self, address: str) -> Peer:
        return Peer(address)

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        if data.startswith(b"GET /early-bug"):
            raise RuntimeError("a bug")
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
        self.residency = Residency(DISK)
        settings = ConnectionSettings(
            header_s=limits.get("header_s", 10),
            idle_s=limits.get("idle_s", 75),
            send_s=limits.get("send_s", 30),
            max_connections=int(limits.get("max_connections", 100)),
            proxies=TrustedProxies((ip_network("127.0.0.0/8"),)) if "proxies" in limits else None,
        )
        sock = listen(("127.0.0.1", 0))
        self.listener = Listener(
            sock, self.handler, settings, self.clock, asyncio.get_running_loop(), self.residency
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


def test_what_comes_while_an_answer_is_made_waits_in_the_kernel():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/wait"))
        await bench.handler.waiting.wait()
        writer.write(get(b"/2") + get(b"/3"))
        (connection,) = bench.listener.connections
        await until(lambda: not connection._reading, "reading is paused")
        assert not bench.handler.records
        bench.handler.go.set()
        for body in (b"/wait", b"/2", b"/3"):
            assert await reader.readuntil(body) == OK % len(body) + b"\r\n" + body
        writer.write(get(b"/4"))  # and it is read again afterwards
        assert await reader.readuntil(b"/4") == OK % 2 + b"\r\n/4"

    on_loop(test)


def test_a_client_that_ends_its_side_while_its_answer_is_made_gets_it():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/wait"))
        await bench.handler.waiting.wait()
        writer.write_eof()
        (connection,) = bench.listener.connections
        await until(lambda: not connection._reading, "the end was met")
        bench.handler.go.set()
        assert await reader.read() == OK % 5 + b"\r\n/wait"

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


class Cold(Residency):
    """Nothing is in the page cache until it has been loaded, and loading waits for the test."""

    def __init__(self) -> None:
        super().__init__(DISK)
        self.asked: list[tuple[int, int]] = []
        self.disk: Future[None] = Future()

    def is_resident(self, file: Descriptor, start: int, stop: int) -> bool:
        return False

    def load(self, file: Descriptor, start: int, stop: int) -> "Future[None]":
        self.asked.append((start, stop))
        self.disk = Future()
        return self.disk


def test_a_cold_file_waits_for_its_disk_and_nobody_else_does():
    async def test(bench: Bench) -> None:
        cold = bench.listener.residency = Cold()
        data = os.urandom(5_000_000)
        bench.handler.file = a_file(data)
        reader, writer = await bench.client(limit=1 << 23)
        writer.write(get(b"/file") + get(b"/next", CLOSE))
        taken = asyncio.ensure_future(reader.read())
        for number, start in enumerate(range(0, len(data), 2 << 20)):
            await turns_until(lambda number=number: len(cold.asked) > number)
            assert cold.asked[-1] == (start, min(start + (2 << 20), len(data)))
            # What the disk has not given is not sent, and others are answered.
            assert (await bench.ask(get(b"/a", CLOSE))).endswith(b"/a")
            assert not taken.done()
            cold.disk.set_result(None)
        answer = await taken
        assert data in answer
        assert answer.endswith(b"/next")
        assert len(cold.asked) == 3

    on_loop(test)


def test_a_disk_that_fails_cuts_the_connection():
    async def test(bench: Bench) -> None:
        cold = bench.listener.residency = Cold()
        bench.handler.file = a_file(bytes(100_000))
        reader, writer = await bench.client()
        writer.write(get(b"/file") + get(b"/next"))
        await turns_until(lambda: bool(cold.asked))
        cold.disk.set_exception(OSError(errno.EIO, "sick"))
        assert (await reader.read()).endswith(b"\r\n\r\n")
        assert bench.handler.records == [(b"/file", 200, 0)]

    on_loop(test)


def test_a_client_that_leaves_does_not_wait_for_the_disk():
    async def test(bench: Bench) -> None:
        cold = bench.listener.residency = Cold()
        bench.handler.file = a_file(bytes(100_000))
        _, writer = await bench.client()
        writer.write(get(b"/file"))
        await turns_until(lambda: bool(cold.asked))
        (connection,) = bench.listener.connections
        connection.abort()
        assert not bench.listener.connections
        cold.disk.set_exception(OSError(errno.EIO, "sick"))
        assert (await bench.ask(get(b"/a", CLOSE))).endswith(b"/a")

    on_loop(test)


async def turns_until(holds: Callable[[], bool]) -> None:
    await until(holds, pause_s=0)


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
        await until(lambda: bench.listener.connections and bench.clock.monotonic != 0, pause_s=0)
        (connection,) = bench.listener.connections
        # The loop runs until the kernel's buffers are full and the connection waits for them.
        await until(lambda: connection.is_sending, pause_s=0)
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
        await until(
            lambda: (
                len(bench.listener.connections) >= 3
                and any(one.is_reading_head for one in bench.listener.connections)
            ),
            pause_s=0,
        )
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
        assert await bench.ask(get(b"/early-bug")) == b""
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
            Residency(DISK),
        )
        listener.start()
        assert listener.address == f"unix:{unix_path}"
        reader, writer = await asyncio.open_unix_connection(unix_path)
        writer.write(get(b"/a", CLOSE))
        assert (await reader.read()).endswith(b"/a")
        writer.close()
        await listener.drain(1)

    asyncio.run(main())


# Slow clients


class Reader:
    """A client with little buffer of its own, that takes only what it is told to take."""

    def __init__(self, bench: Bench, request: bytes) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(bench.listener.sock.getsockname())
        self.sock.sendall(request)
        self.sock.setblocking(False)

    def take(self, size: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while size > 0 and (data := self.sock.recv(min(size, 4096))):
                size -= len(data)

    def ending(self) -> type[Exception] | None:
        """How the connection ended, once what is left has been read."""
        self.sock.settimeout(5)
        try:
            while self.sock.recv(1 << 20):
                pass
        except OSError as error:
            return type(error)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


async def quiet(bench: Bench) -> None:
    """The kernel's buffers are full: no callback of the connection has work."""
    await until(lambda: any(one.is_sending for one in bench.listener.connections), pause_s=0)
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_client_that_takes_a_byte_a_second_is_reset():
    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(bytes(32 << 20))
        with Reader(bench, get(b"/file")) as client:
            await quiet(bench)
            for _ in range(62):
                client.take(1)
                bench.pass_time(1)
                await asyncio.sleep(0)
            assert not bench.listener.connections
            assert bench.listener.stats.timed_out == bench.listener.stats.aborted == 1
            assert client.ending() is ConnectionResetError

    on_loop(test)


def test_progress_alone_is_not_enough():
    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(bytes(32 << 20))
        with Reader(bench, get(b"/file")) as client:
            await quiet(bench)
            (connection,) = bench.listener.connections
            for _ in range(7):
                bench.pass_time(10)
                if bench.listener.connections:
                    connection._flush()  # as when the kernel has room for a little more
            assert bench.listener.stats.timed_out == 1
            assert client.ending() is ConnectionResetError

    on_loop(test)


def test_a_slow_client_that_is_fast_enough_has_its_answer_whole():
    size = 6 << 20

    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(bytes(size))
        with Reader(bench, get(b"/file", CLOSE)) as client:
            await quiet(bench)
            # Every span something is taken, though often too little for the kernel to ask for more.
            while bench.listener.stats.closed == 0 and not bench.handler.records:
                client.take(200_000)
                bench.pass_time(29)
                for _ in range(5):
                    await asyncio.sleep(0)
            assert client.ending() is None
            assert bench.handler.records == [(b"/file", 200, size)]
            assert bench.listener.stats.timed_out == 0

    on_loop(test)


def test_an_answer_that_the_kernel_has_whole_is_not_waited_for_in_vain():
    async def test(bench: Bench) -> None:
        bench.handler.file = a_file(bytes(200_000))
        with Reader(bench, get(b"/file")) as client:
            await until(lambda: bench.handler.records, pause_s=0)
            bench.pass_time(76)
            assert bench.listener.connections  # idle for us, but it may be a slow one
            client.take(100_000)
            bench.pass_time(31)
            assert bench.listener.connections
            bench.pass_time(31)
            assert not bench.listener.connections
            assert client.ending() is ConnectionResetError

    on_loop(test)


def test_a_heads_time_is_not_extended_by_what_trickles_in():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        for byte in b"GET /a HTT":
            writer.write(bytes((byte,)))
            await until(
                lambda: any(one.is_reading_head for one in bench.listener.connections), pause_s=0
            )
            await asyncio.sleep(0.001)
            assert bench.listener.stats.timed_out == 0
            bench.pass_time(1.0)
        bench.pass_time(1)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert bench.listener.stats.timed_out == 1

    on_loop(test)


def test_a_preambles_time_is_not_extended_by_what_trickles_in():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        await until(lambda: bench.listener.connections, pause_s=0)
        (connection,) = bench.listener.connections
        bench.pass_time(30)
        begun = connection.deadline
        for byte in b"PROXY TC":
            writer.write(bytes((byte,)))
            await until(lambda: connection.deadline != begun, pause_s=0)
            await asyncio.sleep(0.001)
            bench.pass_time(1)
        assert connection.deadline == bench.clock.monotonic + 2
        bench.pass_time(2)
        assert await reader.read() == b""
        assert bench.listener.stats.timed_out == 1

    on_loop(test, proxies=1)


@pytest.mark.parametrize("first", [b"/wait", b"/at-once"])
def test_a_head_behind_an_answer_has_its_time_from_the_answers_end(first):
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        writer.write(get(first) + b"GET /b HT")
        if first == b"/wait":
            await bench.handler.waiting.wait()
            bench.pass_time(60)
            bench.handler.go.set()
        await reader.readuntil(b"\r\n\r\n" + first)
        bench.pass_time(9)
        assert bench.listener.stats.timed_out == 0
        writer.write(b"T")
        await asyncio.sleep(0.001)
        bench.pass_time(2)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    on_loop(test)


def test_the_next_head_has_a_time_of_its_own():
    async def test(bench: Bench) -> None:
        reader, writer = await bench.client()
        for _ in range(5):
            writer.write(b"GET /a HTTP/1.1\r\n")
            await until(
                lambda: any(one.is_reading_head for one in bench.listener.connections), pause_s=0
            )
            bench.pass_time(9)
            writer.write(b"Host: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n/a")
        assert bench.listener.stats.timed_out == 0

    on_loop(test)


EXPECTATIONS = [
    (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 200),
    (get(b"/a", b"Expect: 100-Continue", CLOSE), 200),
    (get(b"/a", b"Expect: ,100-continue,", CLOSE), 200),
    (get(b"/a", b"Expect: a-miracle"), 417),
    (get(b"/a", b"Expect: 100-continue, a-miracle"), 417),
    (get(b"/a", b"Expect: 100-continue=1"), 417),
]


@pytest.mark.parametrize(("data", "status"), EXPECTATIONS)
def test_an_expectation_is_answered_at_once_and_never_by_100(data, status):
    async def test(bench: Bench) -> None:
        answer = await bench.ask(data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1

    on_loop(test)


# Interim answers (RFC 9110 section 15.2)

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Hinting(Echo):
    """Waits for the test, with the request at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.came: asyncio.Queue[Request] = asyncio.Queue()
        self.goes_on = asyncio.Event()

    def receive(self, request: Request, peer: Peer) -> Response | None:
        return None

    async def serve(self, request: Request, peer: Peer) -> Response:
        self.came.put_nowait(request)
        await self.goes_on.wait()
        response = super().receive(request, peer)
        assert response is not None
        return response


def hinting(test: Callable[[Bench, Hinting], Awaitable[None]]) -> None:
    async def main(bench: Bench) -> None:
        handler = Hinting()
        bench.handler = bench.listener.handler = handler
        bench.listener.find = handler.find
        await test(bench, handler)

    on_loop(main)


def test_an_interim_answer_leaves_at_once():
    async def test(bench: Bench, handler: Hinting) -> None:
        reader, writer = await bench.client()
        for last in (b"", CLOSE):
            handler.goes_on.clear()
            writer.write(get(b"/a", last) if last else get(b"/a"))
            request = await handler.came.get()
            send = request.send_interim
            assert send is not None
            assert send(HINTS)
            assert await reader.readexactly(len(HINTS)) == HINTS
            assert send(HINTS)
            handler.goes_on.set()
            assert await reader.readexactly(len(HINTS)) == HINTS
            assert (await reader.readuntil(b"/a")).startswith(b"HTTP/1.1 200 OK\r\n")
            # Never behind its answer.
            assert request.send_interim is None
            assert not send(HINTS)
        assert await reader.read() == b""
        assert [sent for _, _, sent in handler.records] == [2, 2]

    hinting(test)


def test_a_client_of_http_1_0_gets_none():
    async def test(bench: Bench, handler: Hinting) -> None:
        asking = asyncio.create_task(bench.ask(get(b"/a", version=b"1.0")))
        assert (await handler.came.get()).send_interim is None
        handler.goes_on.set()
        assert (await asking).endswith(b"/a")

    hinting(test)


def test_what_the_kernel_does_not_take_leaves_with_the_answer():
    """Whole and in order, whatever was sent of it before."""

    async def test(bench: Bench, handler: Hinting) -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(bench.listener.sock.getsockname())
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, get(b"/a", CLOSE))
        request = await handler.came.get()
        assert request.send_interim is not None
        (connection,) = bench.listener.connections
        sent = b""
        for number in range(200):
            wire = b"HTTP/1.1 103 %d\r\n\r\n" % number + b"x" * 100_000
            is_last = bool(connection._interim)
            assert request.send_interim(wire)
            sent += wire
            if is_last:
                break
        assert is_last  # it held some, and some more
        handler.goes_on.set()
        answer = b""
        while piece := await loop.sock_recv(client, 1 << 16):
            answer += piece
        assert answer.startswith(sent)
        assert answer[len(sent) :].startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"/a")
        await handler.recorded.wait()
        assert [count for _, _, count in handler.records] == [2]
        client.close()

    hinting(test)


def test_a_client_that_left_is_told_nothing():
    async def test(bench: Bench, handler: Hinting) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/a"))
        request = await handler.came.get()
        assert request.send_interim is not None
        (connection,) = bench.listener.connections
        connection.abort()
        assert not request.send_interim(HINTS)
        assert await reader.read() == b""

    hinting(test)


# Pressure


async def idle_client(bench: Bench) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await bench.client()
    writer.write(get(b"/a"))
    await reader.readuntil(b"\r\n\r\n/a")
    return reader, writer


def test_under_pressure_idle_connections_are_kept_for_a_second_only():
    async def test(bench: Bench) -> None:
        clients = [await idle_client(bench) for _ in range(8)]
        bench.pass_time(10)
        assert bench.listener.stats.open == 8  # at 80 %
        clients[0][1].write(get(b"/b"))
        await clients[0][0].readuntil(b"/b")
        clients.append(await idle_client(bench))
        bench.pass_time(1)
        assert bench.listener.stats.open == 2  # who was there in the last second
        assert bench.listener.stats.shed == 7
        bench.pass_time(10)
        assert bench.listener.stats.open == 2  # no pressure any more
        assert bench.listener.stats.timed_out == 0

    on_loop(test, max_connections=10)


def test_who_works_is_not_shed():
    async def test(bench: Bench) -> None:
        waiting = [await bench.client() for _ in range(5)]
        for _, writer in waiting:
            writer.write(get(b"/wait", CLOSE))
        bench.handler.file = a_file(bytes(32 << 20))
        with Reader(bench, get(b"/file")):
            await quiet(bench)
            bench.pass_time(5)
            assert bench.listener.stats.open == 6
            late = await bench.client()
            assert (await late[0].read()).startswith(b"HTTP/1.1 503 ")
            bench.handler.go.set()
            for reader, _ in waiting:
                assert (await reader.read()).endswith(b"/wait")
            assert bench.listener.stats.shed == 0

    on_loop(test, max_connections=6)


def test_at_the_cap_the_longest_idle_makes_room():
    async def test(bench: Bench) -> None:
        old = await idle_client(bench)
        bench.pass_time(0.4)
        young = await idle_client(bench)
        bench.pass_time(0.4)
        new = await idle_client(bench)
        assert await old[0].read() == b""
        assert bench.listener.stats.refused == 0
        third = await idle_client(bench)
        assert await young[0].read() == b""
        # Nobody has been idle since before the last tick.
        assert (await (await bench.client())[0].read()).startswith(b"HTTP/1.1 503 ")
        for reader, writer in (new, third):
            writer.write(get(b"/again"))
            await reader.readuntil(b"/again")
        stats = bench.listener.stats
        assert (stats.shed, stats.refused, stats.open) == (2, 1, 2)
        assert stats.accepted == stats.open + stats.closed

    on_loop(test, max_connections=2)


def test_who_has_become_busy_makes_no_room():
    async def test(bench: Bench) -> None:
        clients = [await idle_client(bench) for _ in range(3)]
        bench.pass_time(0.4)
        first = await idle_client(bench)  # one of the three is gone, two are known to be idle
        left = [client for client in clients if not client[0].at_eof()]
        for _, writer in left:
            writer.write(get(b"/wait"))
        await until(
            lambda: sum(not one.is_idle for one in bench.listener.connections) >= 2, pause_s=0
        )
        late = await bench.client()
        assert (await late[0].read()).startswith(b"HTTP/1.1 503 ")
        bench.handler.go.set()
        del first

    on_loop(test, max_connections=3)


def test_a_request_on_its_way_is_not_shed():
    async def test(bench: Bench) -> None:
        reader, writer = await idle_client(bench)
        bench.pass_time(0.1)
        (connection,) = bench.listener.connections
        writer.write(get(b"/again"))
        # Nothing runs between its coming and the wish to close: the kernel has it, we do not.
        assert not connection.shed()
        connection.close_if_idle()
        await reader.readuntil(b"/again")
        # Until the client's kernel has acknowledged the answer.
        await until(connection.shed, pause_s=0)

    on_loop(test)


def test_a_refused_clients_request_does_not_cost_it_the_answer():
    async def test(bench: Bench) -> None:
        await idle_client(bench)
        reader, writer = await bench.client()
        writer.write(get(b"/a"))
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.write(get(b"/a"))
        await writer.drain()

    on_loop(test, max_connections=1)


def test_many_that_end_together_are_ended_in_turns():
    async def test(bench: Bench) -> None:
        for _ in range(100):
            await bench.client()
        await until(lambda: bench.listener.stats.open >= 100, pause_s=0)
        bench.pass_time(76)
        assert 0 < bench.listener.stats.timed_out < 100
        bench.pass_time(1)  # a tick meanwhile changes nothing
        await until(lambda: not bench.listener.stats.open, pause_s=0)
        assert bench.listener.stats.timed_out == 100

    on_loop(test)


# Descriptors


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def no_more_files(spare: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_clients_wait_and_hits_go_on():
    async def test(bench: Bench) -> None:
        host, port = bench.listener.sock.getsockname()
        reader, writer = await bench.client()
        writer.write(get(b"/a"))
        await reader.readuntil(b"/a")
        late = [socket.socket() for _ in range(5)]
        for sock in late:
            sock.setblocking(False)
        with no_more_files(2):
            for sock in late:
                sock.connect_ex((host, port))
                sock.send(get(b"/late", CLOSE))
            await until(lambda: bench.listener.stats.accepted >= 3, pause_s=0)
            for _ in range(10):
                writer.write(get(b"/hit"))
                await reader.readuntil(b"/hit")
            assert bench.listener.stats.accepted == 3
            # The busy client keeps its place; the answers to the two have given theirs back.
            bench.pass_time(1)
            await until(lambda: bench.listener.stats.accepted >= 5, pause_s=0)
        bench.pass_time(1)
        loop = asyncio.get_running_loop()
        for sock in late:
            assert (await loop.sock_recv(sock, 1000)).endswith(b"/late")
            sock.close()

    on_loop(test)


def test_without_descriptors_the_longest_idle_makes_room():
    async def test(bench: Bench) -> None:
        old = await idle_client(bench)
        bench.pass_time(1)
        sock = socket.socket()
        sock.setblocking(False)
        with no_more_files(0):
            sock.connect_ex(bench.listener.sock.getsockname())
            sock.send(get(b"/new", CLOSE))
            data = await asyncio.get_running_loop().sock_recv(sock, 1000)
        assert data.endswith(b"/new")
        assert await old[0].read() == b""
        sock.close()

    on_loop(test)


@pytest.mark.parametrize("how", ["drain", "abort"])
def test_nothing_stays_open(how):
    gc.collect()
    before = descriptors()

    async def test(bench: Bench) -> None:
        clients = [await bench.client() for _ in range(4)]
        clients[0][1].write(get(b"/a"))
        clients[1][1].write(b"GET /half")
        clients[2][1].write(get(b"/wait") + get(b"/behind"))
        clients[3][1].write(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
        await bench.handler.waiting.wait()
        bench.handler.file = a_file(bytes(32 << 20))
        readers = [Reader(bench, get(b"/file") + get(b"/wait")) for _ in range(4)]
        await quiet(bench)
        bench.handler.file = None
        over = await bench.client()
        assert (await over[0].read()).startswith(b"HTTP/1.1 503 ")
        unseen = [Reader(bench, get(b"/a")) for _ in range(100)]  # the kernel has accepted them
        if how == "abort":
            for connection in tuple(bench.listener.connections):
                connection.abort()
            assert not bench.listener.connections
        await bench.listener.drain(0.05)
        assert not bench.listener.connections
        stats = bench.listener.stats
        assert (stats.open, stats.accepted) == (0, stats.closed)
        assert stats.accepted == 109
        for reader in (*readers, *unseen):
            reader.sock.close()

    on_loop(test, max_connections=8)
    gc.collect()
    assert descriptors() == before


def test_a_parser_that_failed_is_shared_with_nobody(monkeypatch):
    async def test(bench: Bench) -> None:
        broken = bench.listener.idle_parser

        def fail(data: bytes) -> None:
            raise RuntimeError("a bug in the parser")

        monkeypatch.setattr(type(broken), "receive_data", lambda self, data: fail(data))
        assert await bench.ask(get(b"/first", CLOSE)) == b""
        monkeypatch.undo()
        assert bench.listener.idle_parser is not broken
        assert b"/second" in await bench.ask(get(b"/second", CLOSE))

    on_loop(test)
