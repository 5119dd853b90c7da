"""Connecting, where it goes wrong: refused, missing, unknown, full, a black hole."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.connect import open_stream
from edge.origin.errors import OriginOverloaded, OriginRefused, OriginTimeout, Phase
from edge.origin.names import Names
from tests.edge.origin.asking import LOGGER, LOOPS, run


async def connect(address: Address, timeout_s: float = 20) -> None:
    _, writer = await open_stream(address, timeout_s, Names(LOGGER))
    writer.close()
    await writer.wait_closed()


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


@pytest.mark.parametrize("loop", LOOPS)
def test_connects(loop: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen(5)
        port = tcp.getsockname()[1]
        for address in (
            Address("127.0.0.1", port),
            Address("localhost", port),  # resolved by the loop
            Address(path=str(tmp_path / "s")),
        ):
            run(connect(address), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_refused(loop: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    for address in (
        Address("127.0.0.1", port),
        Address("nowhere.invalid", 80),
        Address(path=str(tmp_path / "missing")),
        Address(path=str(tmp_path / "file")),
        Address(path=str(tmp_path / "dead")),
    ):
        with pytest.raises(OriginRefused):
            run(connect(address), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_full_unix_backlog_is_overload(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with full_backlog(server, path), pytest.raises(OriginOverloaded) as caught:
            run(connect(Address(path=path)), loop)
    assert caught.value.retry_after_s >= 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_black_hole_is_a_timeout(loop: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
        with full_backlog(server, address), pytest.raises(OriginTimeout) as caught:
            run(connect(Address(*address), timeout_s=0.05), loop)
    assert caught.value.phase is Phase.CONNECT
