"""Listeners that are in the way of a connection rather than in that of an exchange."""

import contextlib
import socket
from collections.abc import Iterator

from edge.origin.address import Address


def refusing() -> Address:
    """A port of the loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return Address("127.0.0.1", closed.getsockname()[1])


@contextlib.contextmanager
def full_backlog(server: socket.socket, address: str | tuple[str, int]) -> Iterator[None]:
    """Fills the backlog of a server that never accepts."""
    server.listen(0)
    waiting = []
    try:
        for _ in range(20):
            client = socket.socket(server.family)
            waiting.append(client)
            client.settimeout(0.02)
            try:
                client.connect(address)
            except (BlockingIOError, TimeoutError):
                break
        else:
            raise AssertionError("the backlog never filled")
        yield
    finally:
        for client in waiting:
            client.close()


@contextlib.contextmanager
def full_unix(path: str) -> Iterator[Address]:
    """A Unix socket with backlog 1, filled: a connect gives EAGAIN."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with full_backlog(server, path):
            yield Address(path=path)


@contextlib.contextmanager
def black_hole() -> Iterator[Address]:
    """A port that answers no SYN: a connect never ends."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
        with full_backlog(server, address):
            yield Address(*address)
