"""Connecting, where it goes wrong: refused, missing, unknown, full, a black hole."""

import errno
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.origin import connect as connect_module
from edge.origin.address import Address
from edge.origin.connect import open_stream, open_unix
from edge.origin.errors import OriginOverloaded, OriginRefused, OriginTimeout, Phase
from edge.origin.names import Names
from tests.edge.origin.asking import LOGGER, LOOPS, run
from tests.peers.sockets import black_hole, full_backlog, full_unix, refusing


async def connect(address: Address, timeout_s: float = 20) -> None:
    _, writer = await open_stream(address, timeout_s, Names(LOGGER))
    writer.close()
    await writer.wait_closed()


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
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    for address in (
        refusing(),
        Address("nowhere.invalid", 80),
        Address(path=str(tmp_path / "missing")),
        Address(path=str(tmp_path / "file")),
        Address(path=str(tmp_path / "dead")),
    ):
        with pytest.raises(OriginRefused):
            run(connect(address), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_no_descriptor_is_left(loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any connection that is not to be had: what is stale is then sent, and no bug reported."""

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    address = Address(path=str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(address.path)
        unix.listen(5)
        with monkeypatch.context() as patch:
            patch.setattr(connect_module, "socket", SimpleNamespace(SocketType=full, socket=None))
            with pytest.raises(OriginRefused, match="Too many open files"):
                run(connect(address), loop)
            with pytest.raises(OriginRefused, match="Too many open files"):
                open_unix(address)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_full_unix_backlog_is_overload(loop: str, tmp_path: Path) -> None:
    with full_unix(str(tmp_path / "s")) as address, pytest.raises(OriginOverloaded) as caught:
        run(connect(address), loop)
    assert caught.value.retry_after_s >= 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_black_hole_is_a_timeout(loop: str) -> None:
    with black_hole() as address, pytest.raises(OriginTimeout) as caught:
        run(connect(address, timeout_s=0.05), loop)
    assert caught.value.phase is Phase.CONNECT


@pytest.mark.parametrize("loop", LOOPS)
def test_every_address_of_a_name_is_tried(loop: str) -> None:
    """A black hole in front has its share of the time, and the one behind it is found."""

    async def both(host: str) -> tuple[str, ...]:
        return ("127.0.0.2", "127.0.0.1") if host == "dark" else ("127.0.0.3", "127.0.0.1")

    async def main(address: Address) -> None:
        _, writer = await open_stream(address, 0.6, Names(LOGGER, both))
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as dark:
        port = good.getsockname()[1]
        run(main(Address("refusing", port)), loop)  # nobody listens on 127.0.0.3
        dark.bind(("127.0.0.2", port))
        with full_backlog(dark, ("127.0.0.2", port)):
            run(main(Address("dark", port)), loop)
