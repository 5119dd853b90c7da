"""Bodies that grow while they are sent, on connections of a listener, the test being the origin."""

import asyncio
import os
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge.access import Peer
from edge.connection import Connection
from edge.http.body import UNKNOWN_LENGTH, Descriptor, FileSlice, Growing
from edge.http.messages import Request, Response
from tests.edge.test_connection import CLOSE, OK, Bench, Echo, get, on_loop, turns_until


class Origin(Echo):
    """/grow is answered with a body that the test lets grow; /part/A-B with a part of it."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.announced = length
        self.body = Growing(length)
        self.last_chunk: Callable[[], bytes] | None = None
        self._file = Descriptor(os.memfd_create("body"))
        self._at = 100
        os.pwrite(self._file.fd, b"?" * 100, 0)
        self.body.go_on_in(self._file, self._at)

    def send(self, data: bytes) -> None:
        os.pwrite(self._file.fd, data, self._at)
        self._at += len(data)
        self.body.grow(len(data))

    def receive(self, request: Request, peer: Peer) -> Response | None:
        if request.target.startswith(b"/part/"):
            first, _, last = request.target[6:].partition(b"-")
            part = self.body.read().part(int(first), int(last))
            return Response(206, OK % len(part), (part,), len(part))
        if request.target != b"/grow":
            return super().receive(request, peer)
        reader = self.body.read()
        if self.announced != UNKNOWN_LENGTH:
            return Response(200, OK % self.announced, (reader,), self.announced)
        head = b"HTTP/1.1 200 OK\r\n"
        if request.minor == 0:
            return Response(200, head, (reader,), close=True)
        reader.is_chunked = True
        reader.last_chunk = self.last_chunk
        return Response(200, head + b"Transfer-Encoding: chunked\r\n", (reader,))


def streaming(test: Callable[[Bench, Origin], Awaitable[None]], length: int = 0) -> None:
    async def main(bench: Bench) -> None:
        origin = Origin(length)
        bench.handler = bench.listener.handler = origin
        bench.listener.find = origin.find
        await test(bench, origin)

    on_loop(main)


def connections(bench: Bench) -> list[Connection]:
    return list(bench.listener.connections)


def is_dry(bench: Bench) -> bool:
    """All that there was is sent, and nothing is asked of socket or clock meanwhile."""
    return all(not one.is_sending and one.deadline == float("inf") for one in connections(bench))


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def test_the_first_byte_comes_before_the_last_is_there():
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow") + get(b"/next", CLOSE))
        assert b"Content-Length: 10" in await head_of(reader)
        for number in range(5):
            origin.send(b"%d." % number)
            assert await reader.readexactly(2) == b"%d." % number
            await turns_until(lambda: is_dry(bench))
        origin.body.end()
        assert (await reader.read()).endswith(b"/next")
        assert origin.records == [(b"/grow", 200, 10), (b"/next", 200, 5)]

    streaming(test, 10)


UNKNOWN = [
    # version, what precedes and follows a piece, what follows all of it
    (b"1.1", b"3\r\n%b\r\n", b"0\r\n\r\n"),
    (b"1.0", b"%b", b""),
]


@pytest.mark.parametrize(("version", "framed", "end"), UNKNOWN)
def test_a_length_that_nobody_knows(version, framed, end):
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow", version=version))
        head = await head_of(reader)
        assert (b"Transfer-Encoding: chunked" in head) == (version == b"1.1")
        assert (b"Connection: close" in head) == (version == b"1.0")
        assert b"Content-Length" not in head
        sent = 0
        for piece in (b"abc", b"def"):
            origin.send(piece)
            assert await reader.readexactly(len(framed % piece)) == framed % piece
            sent += len(framed % piece)
        origin.body.end()
        await origin.recorded.wait()
        assert origin.records == [(b"/grow", 200, sent + len(end))]
        if version == b"1.1":
            assert await reader.readexactly(len(end)) == end
            writer.write(get(b"/next", CLOSE))
            assert (await reader.read()).endswith(b"/next")
        else:
            assert await reader.read() == b""

    streaming(test, UNKNOWN_LENGTH)


LAST_CHUNKS = [b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\nServer-Timing: a\r\n\r\n"]


@pytest.mark.parametrize("last", LAST_CHUNKS)
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_the_last_chunk_is_asked_for_when_all_is_there(last, body):
    async def test(bench: Bench, origin: Origin) -> None:
        asked: list[bool] = []

        def last_chunk() -> bytes:
            asked.append(origin.body.has_ended)
            return last

        origin.last_chunk = last_chunk
        reader, writer = await bench.client()
        writer.write(get(b"/grow", CLOSE))
        await head_of(reader)
        if body:
            origin.send(body)
            assert await reader.readexactly(8) == b"3\r\nabc\r\n"
        origin.body.end()
        assert await reader.read() == last
        assert asked == [True]

    streaming(test, UNKNOWN_LENGTH)


def test_an_unknown_length_may_be_nothing():
    async def test(bench: Bench, origin: Origin) -> None:
        origin.body.end()
        answer = await bench.ask(get(b"/grow", CLOSE))
        assert answer.endswith(b"\r\n\r\n0\r\n\r\n")

    streaming(test, UNKNOWN_LENGTH)


@pytest.mark.parametrize("length", [1000, UNKNOWN_LENGTH])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_that_fails_is_cut_by_a_reset_and_never_ended(length, version):
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow", version=version) + get(b"/never"))
        await head_of(reader)
        origin.send(b"x" * 100)
        await reader.readuntil(b"x" * 100)
        await turns_until(lambda: is_dry(bench))
        origin.body.fail()
        with pytest.raises(ConnectionResetError):
            while await reader.read(1000):
                pass
        assert bench.listener.stats.aborted == 1
        ((target, status, sent),) = origin.records
        assert (target, status) == (b"/grow", 200)
        assert 100 <= sent < 110
        # Who asks in the same moment is cut, too, and nobody is answered with a part.
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            reader, writer = await bench.client()
            writer.write(get(b"/grow", version=version))
            await reader.readexactly(10_000)

    streaming(test, length)


def test_many_readers_have_a_place_each():
    data = os.urandom(5_000_000)

    async def test(bench: Bench, origin: Origin) -> None:
        readers = []
        for step in range(0, len(data), 1_000_000):
            reader, writer = await bench.client(limit=1 << 23)
            writer.write(get(b"/grow", CLOSE))
            await head_of(reader)
            readers.append(reader)
            origin.send(data[step : step + 1_000_000])
        origin.body.end()
        for reader in readers:
            assert await reader.read() == data

    streaming(test, len(data))


def test_a_part_waits_for_its_bytes_and_no_further():
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/part/4-6") + get(b"/next", CLOSE))
        await head_of(reader)
        origin.send(b"abcde")
        assert await reader.readexactly(1) == b"e"
        origin.send(b"fghij")
        answer = await reader.read()  # though the body has not ended
        assert answer.startswith(b"fgHTTP/1.1 200")
        assert answer.endswith(b"/next")

    streaming(test, 1000)


def test_a_slow_reader_holds_no_bytes_and_is_given_all_of_them():
    data = os.urandom(1 << 20) * 24

    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client(limit=4096)
        writer.write(get(b"/grow", CLOSE))
        for start in range(0, len(data), 1 << 20):
            origin.send(data[start : start + (1 << 20)])
        await turns_until(lambda: any(one.is_sending for one in connections(bench)))
        origin.body.end()
        await head_of(reader)
        assert await reader.readexactly(len(data)) == data
        assert await reader.read() == b""

    streaming(test, len(data))


@pytest.mark.parametrize("length", [32 << 20, UNKNOWN_LENGTH])
def test_a_client_that_takes_nothing_is_cut_though_its_body_grows(length):
    async def test(bench: Bench, origin: Origin) -> None:
        client = socket.create_connection(bench.listener.sock.getsockname())
        client.sendall(get(b"/grow"))
        client.setblocking(False)
        await turns_until(lambda: bool(connections(bench)))
        (connection,) = connections(bench)
        while not connection.is_sending:
            origin.send(bytes(1 << 20))
            await asyncio.sleep(0)
        bench.pass_time(29)
        assert bench.listener.stats.timed_out == 0
        bench.pass_time(2)
        assert bench.listener.stats.timed_out == 1
        assert not bench.listener.connections
        assert not origin.body.has_readers
        client.close()

    streaming(test, length)


@pytest.mark.parametrize("length", [48 << 20, UNKNOWN_LENGTH])
def test_a_client_that_takes_enough_is_not_cut(length):
    """Five spans long, with pieces that come in between: what is left grows with them."""
    data = bytes(48 << 20)

    async def test(bench: Bench, origin: Origin) -> None:
        client = socket.create_connection(bench.listener.sock.getsockname())
        client.sendall(get(b"/grow", CLOSE))
        client.setblocking(False)
        origin.send(data[: 16 << 20])
        await turns_until(lambda: any(one.is_sending for one in connections(bench)))
        loop = asyncio.get_running_loop()
        got = 0
        for _ in range(5):
            for _ in range(8):
                got += len(await loop.sock_recv(client, 1 << 20))
            if origin.body.size < len(data):
                origin.send(bytes(8 << 20))
            bench.pass_time(31)
        assert bench.listener.stats.timed_out == 0
        origin.body.end()
        while piece := await loop.sock_recv(client, 1 << 20):
            got += len(piece)
        assert got > len(data)
        client.close()

    streaming(test, length)


def test_an_origin_that_takes_its_time_is_not_the_clients_fault():
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow", CLOSE))
        await head_of(reader)
        origin.send(b"abc")
        await reader.readexactly(3)
        await turns_until(lambda: is_dry(bench))
        bench.pass_time(600)
        origin.send(b"def")
        origin.body.end()
        assert await reader.read() == b"def"

    streaming(test, 6)


def test_a_client_that_leaves_is_noticed_with_the_next_piece():
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow"))
        await head_of(reader)
        assert origin.body.has_readers
        writer.transport.abort()
        while connections(bench):
            origin.send(b"more")
            await asyncio.sleep(0)
        assert not origin.body.has_readers
        assert bench.listener.stats.aborted == 1

    streaming(test, 1 << 30)


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("is_live", [True, False])
def test_a_client_that_leaves_a_silent_origin(is_live, how):
    """A reset is seen at once. An end of its input says that it left only where the answer may have
    no end: who wants a file may have no more to ask."""
    is_seen = is_live or how == "reset"

    async def test(bench: Bench, origin: Origin) -> None:
        origin.body.is_live = is_live
        reader, writer = await bench.client()
        writer.write(get(b"/grow"))
        await head_of(reader)
        origin.send(b"abc")
        assert await reader.readexactly(8) == b"3\r\nabc\r\n"
        await turns_until(lambda: is_dry(bench))
        if how == "half-close":
            writer.write_eof()
        else:
            if how == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        if is_seen:
            await turns_until(lambda: not connections(bench))
            assert not origin.body.has_readers
            assert bench.listener.stats.aborted == 1
            return
        for _ in range(20):
            await asyncio.sleep(0)
        assert origin.body.has_readers
        origin.send(b"def")
        origin.body.end()
        if how == "half-close":
            assert await reader.read() == b"3\r\ndef\r\n0\r\n\r\n"
            assert bench.listener.stats.aborted == 0

    streaming(test, UNKNOWN_LENGTH)


def test_who_asks_ahead_of_its_turn_has_not_left():
    async def test(bench: Bench, origin: Origin) -> None:
        origin.body.is_live = True
        reader, writer = await bench.client()
        writer.write(get(b"/grow"))
        await head_of(reader)
        await turns_until(lambda: is_dry(bench))
        writer.write(get(b"/next", CLOSE))
        for piece in (b"abc", b"def"):
            origin.send(piece)
            assert await reader.readexactly(8) == b"3\r\n%b\r\n" % piece
        origin.body.end()
        assert (await reader.read()).endswith(b"/next")

    streaming(test, UNKNOWN_LENGTH)


def test_a_live_answer_may_be_silent_for_long():
    """The client is not to blame, and may go on reading."""

    async def test(bench: Bench, origin: Origin) -> None:
        origin.body.is_live = True
        reader, writer = await bench.client()
        writer.write(get(b"/grow"))
        await head_of(reader)
        for piece in (b"abc", b"def"):
            await turns_until(lambda: is_dry(bench))
            bench.pass_time(4000)
            origin.send(piece)
            assert await reader.readexactly(8) == b"3\r\n%b\r\n" % piece
        assert bench.listener.stats.timed_out == 0

    streaming(test, UNKNOWN_LENGTH)


def test_a_connection_that_was_closed_meanwhile_is_left_alone():
    async def test(bench: Bench, origin: Origin) -> None:
        reader, writer = await bench.client()
        writer.write(get(b"/grow"))
        await head_of(reader)
        (connection,) = connections(bench)
        connection.abort()
        origin.send(b"more")
        assert (await bench.ask(get(b"/a", CLOSE))).endswith(b"/a")

    streaming(test, 1 << 20)


# The values, without a connection


def sections(folder: Path, *texts: bytes) -> tuple[Growing, list[Descriptor]]:
    body = Growing()
    files = []
    for number, text in enumerate(texts):
        path = folder / str(number)
        path.write_bytes(b"--" + text)
        files.append(Descriptor(os.open(path, os.O_RDONLY)))
        body.go_on_in(files[-1], 2)
        body.grow(len(text))
    return body, files


def bytes_of(pieces: object) -> bytes:
    assert isinstance(pieces, tuple)
    return b"".join(
        piece if isinstance(piece, bytes) else os.pread(piece.file.fd, len(piece), piece.start)
        for piece in pieces
    )


def test_a_body_in_several_files(tmp_path):
    body, files = sections(tmp_path, b"abc", b"defg", b"h")
    reader = body.read()
    taken = []
    while pieces := reader.take(2):
        taken.append(bytes_of(pieces))
    assert taken == [b"ab", b"c", b"de", b"fg", b"h"]
    assert not reader.is_done
    body.end()
    assert reader.is_done
    assert body.length == 8
    assert {piece.file for piece in [body.slices(3, 8)] if isinstance(piece, FileSlice)} == {
        files[1]
    }


def test_files_that_all_have_read_are_let_go_of(tmp_path):
    body, _ = sections(tmp_path, b"abc", b"defg", b"h")
    fast, slow = body.read(), body.read()
    while fast.take(100):
        pass
    assert body.unread == 8
    body.drop_read()
    assert body.is_whole
    slow.take(3)
    body.drop_read()
    assert body.is_whole  # taken, and not known to have left
    slow.take(1)
    body.drop_read()
    assert not body.is_whole
    assert body.unread == 5
    del slow
    assert body.unread == 0
    del fast
    assert not body.has_readers


def test_a_waiter_is_woken_once_and_at_once_where_there_is_something():
    body = Growing(3)
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        body.go_on_in(Descriptor(os.dup(file.fileno())), 0)
    reader = body.read()
    woken: list[int] = []
    reader.wait(lambda: woken.append(1))
    assert woken == []
    body.grow(1)
    body.grow(2)
    assert woken == [1]
    reader.wait(lambda: woken.append(2))
    assert woken == [1, 2]
    reader.take(3)
    reader.wait(lambda: woken.append(3))
    assert woken == [1, 2]
    body.fail()
    assert woken == [1, 2, 3]
    assert reader.has_failed  # though all that was announced has come
    assert not reader.is_done
