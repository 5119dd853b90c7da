"""The end of a listener: nobody who is connected is turned away."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.access import Peer
from edge.clock import Clock
from edge.connection import ConnectionSettings
from edge.drain import IDLE_S, accept_rest, drain, stop_accepting
from edge.http.messages import Request, Response
from edge.http.parser import ParseError
from edge.http.writer import status_line
from edge.listener import Listener
from edge.residency import Residency

DISK = ThreadPoolExecutor(1, thread_name_prefix="disk")


class Hello:
    def peer(self, address: str) -> Peer:
        return Peer(address)

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        return None

    def learn(self, data: bytes) -> None: ...

    def receive(self, request: Request, peer: Peer) -> Response | None:
        return Response(200, status_line(200) + b"Content-Length: 2\r\n", (b"hi",), 2)

    async def serve(self, request: Request, peer: Peer) -> Response:
        raise AssertionError

    def refuse(self, error: ParseError) -> Response:
        raise AssertionError

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, started: float
    ) -> None: ...


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SETTINGS = ConnectionSettings(header_s=10, idle_s=10, send_s=10, max_connections=1000)


def listener_on(sock: socket.socket) -> Listener:
    loop = asyncio.get_running_loop()
    listener = Listener(
        sock, Hello(), SETTINGS, Clock(time.time, time.monotonic), loop, Residency(DISK)
    )
    listener.start()
    return listener


def a_socket() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    sock.setblocking(False)
    return sock


def test_the_queue_is_emptied_before_the_socket_closes():
    async def main() -> None:
        sock = a_socket()
        # More than one wake-up accepts, all there before the loop looks at the first.
        clients = [socket.create_connection(sock.getsockname()) for _ in range(150)]
        listener = listener_on(sock)
        await accept_rest(listener)
        stop_accepting(listener)
        assert listener.stats.accepted == 150
        loop = asyncio.get_running_loop()
        draining = loop.create_task(drain([listener], lambda: loop.time() + 10))
        for client in clients:  # connected, and quiet until now
            client.setblocking(False)
            await loop.sock_sendall(client, GET)
            answer = await loop.sock_recv(client, 4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"Connection: close" in answer
            client.close()
        assert await draining == 0

    asyncio.run(main())


def test_idle_connections_are_closed_after_a_while():
    async def main() -> None:
        sock = a_socket()
        loop = asyncio.get_running_loop()
        listener = listener_on(sock)
        with socket.create_connection(sock.getsockname()) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, GET)
            assert await loop.sock_recv(client, 4096)
            stop_accepting(listener)
            before = loop.time()
            assert await drain([listener], lambda: before + 30) == 0
            assert loop.time() - before >= IDLE_S
            assert await loop.sock_recv(client, 1) == b""

    asyncio.run(main())


def test_a_queue_that_lives_on_is_not_touched():
    async def main() -> None:
        sock = a_socket()
        heir = sock.dup()
        heir.setblocking(False)
        listener = listener_on(sock)
        stop_accepting(listener)
        with socket.create_connection(heir.getsockname()) as client:
            client.setblocking(False)
            successor = listener_on(heir)
            await asyncio.get_running_loop().sock_sendall(client, GET)
            assert await asyncio.get_running_loop().sock_recv(client, 4096)
            assert (listener.stats.accepted, successor.stats.accepted) == (0, 1)
            stop_accepting(successor)
        ends = asyncio.get_running_loop().time() + 10
        assert await drain([listener, successor], lambda: ends) == 0

    asyncio.run(main())


@pytest.mark.parametrize("is_nearer", [False, True])
def test_the_grace_ends_and_may_come_nearer(is_nearer):
    async def main() -> None:
        sock = a_socket()
        loop = asyncio.get_running_loop()
        listener = listener_on(sock)
        with socket.create_connection(sock.getsockname()) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, GET[:10])  # a head that never ends
            await accept_rest(listener)
            stop_accepting(listener)
            ends = [loop.time() + (60 if is_nearer else 0.1)]
            if is_nearer:
                loop.call_later(0.1, lambda: ends.append(loop.time()))
            assert await drain([listener], lambda: ends[-1]) == 1
            assert listener.stats.open == 0

    asyncio.run(main())
