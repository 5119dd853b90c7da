"""Listening sockets: bound, kept, passed on, given back."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.listening import FIRST_PASSED, CannotListen, Listening, address_of
from edge.settings.addresses import Address, TcpAddress, UnixAddress, parse_address

ANY = TcpAddress("127.0.0.1", 0)
ANY6 = TcpAddress("::1", 0)


@pytest.fixture
def listening() -> Iterator[Listening]:
    made = Listening(1)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Listening]:
    made = Listening(2)
    yield made
    made.close()


def connect(address: Address) -> None:
    if isinstance(address, UnixAddress):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(address.path)
    else:
        socket.create_connection((address.host, address.port), 5).close()


def test_binds_what_is_new_and_keeps_what_is_there(listening, tmp_path):
    path = UnixAddress(str(tmp_path / "s"))
    (first,) = listening.open([ANY, ANY6], ANY)
    (second,) = listening.open([path, ANY], ANY)
    assert first.public[0] is second.public[1]
    assert first.admin is second.admin
    assert first.admin is not first.public[0]
    for sock in (*first.public, *second.public, second.admin):
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        connect(address_of(sock))
    listening.keep([path, ANY], ANY)
    assert first.public[1].fileno() == -1
    assert second.public[0].fileno() >= 0


def test_both_families_can_take_a_port(listening):
    (stand,) = listening.open([ANY], ANY)
    port = stand.public[0].getsockname()[1]
    listening.open([ANY, TcpAddress("::", port)], ANY)


def test_slots_have_sockets_of_their_own_on_one_port(pair, tmp_path):
    path = UnixAddress(str(tmp_path / "s"))
    first, second = pair.open([ANY, path], ANY)
    assert first.public[0] is not second.public[0]
    assert first.public[0].getsockname() == second.public[0].getsockname()
    assert first.public[1] is second.public[1]
    assert first.admin is second.admin
    # Another node of the same user is not let in by SO_REUSEPORT.
    other = Listening(2)
    taken = address_of(first.public[0])
    with pytest.raises(CannotListen, match="another node"):
        other.open([taken], ANY)


def test_nothing_is_left_of_an_opening_that_fails(listening, tmp_path):
    (stand,) = listening.open([ANY], ANY)
    path = UnixAddress(str(tmp_path / "s"))
    with pytest.raises(CannotListen, match="is another node running"):
        listening.open([ANY, path, address_of(stand.public[0])], ANY)
    assert not os.path.exists(path.path)
    connect(address_of(stand.public[0]))
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:1: Cannot assign"):
        listening.open([parse_address("192.0.2.1:1")], ANY)


def test_unix_sockets(listening, tmp_path):
    path, admin = UnixAddress(str(tmp_path / "s")), UnixAddress(str(tmp_path / "a"))
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path.path)  # and never removed
    listening.open([path], admin)
    connect(path)
    assert stat.S_IMODE(os.stat(path.path).st_mode) == 0o666
    assert stat.S_IMODE(os.stat(admin.path).st_mode) == 0o660
    other = Listening(1)
    with pytest.raises(CannotListen, match="another node"):
        other.open([path], ANY)
    connect(path)  # the one that listens lost nothing
    listening.close()
    assert os.listdir(tmp_path) == []


def test_what_is_no_socket_is_left_alone(listening, tmp_path):
    file = tmp_path / "precious"
    file.write_text("x")
    with pytest.raises(CannotListen, match="no socket"):
        listening.open([UnixAddress(str(file))], ANY)
    assert file.read_text() == "x"


def test_a_name_that_another_has_taken_is_not_removed(listening, tmp_path):
    path = UnixAddress(str(tmp_path / "s"))
    listening.open([path], ANY)
    os.unlink(path.path)
    other = Listening(1)
    other.open([path], ANY)
    listening.close()
    connect(path)
    other.close()


def test_a_successor_gets_all_of_it(pair, tmp_path):
    path = UnixAddress(str(tmp_path / "s"))
    before = pair.open([ANY, path], ANY)
    text, numbers = pair.describe()
    heir = Listening(2)
    copies = {number: os.dup(number) for number in numbers}
    for number, copy in copies.items():
        text = text.replace(f", {number}]", f", {copy}]")
    heir.adopt_inherited(text)
    after = heir.open([ANY, path], ANY)
    for one, other in zip(before, after, strict=True):
        assert [s.getsockname() for s in one.public] == [s.getsockname() for s in other.public]
        assert one.admin.getsockname() == other.admin.getsockname()
        assert not other.admin.get_inheritable()
    pair.close(is_handed_on=True)
    connect(path)
    connect(address_of(after[1].public[0]))
    heir.close()
    assert not os.path.exists(path.path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "[1]",
        '[["public", "a", 0]]',
        '[["other", "127.0.0.1:1", 0, 0]]',
        '[["public", "127.0.0.1:1", 0, 99999]]',  # not open
        '[["public", "127.0.0.1:1", 0, 1]]',  # no socket
    ],
)
def test_nonsense_of_a_predecessor_is_refused(listening, text):
    with pytest.raises(CannotListen):
        listening.adopt_inherited(text)


def test_a_socket_that_does_not_listen_is_refused(listening):
    with socket.socket() as sock:
        text = f'[["public", "127.0.0.1:1", 0, {sock.detach()}]]'
        with pytest.raises(CannotListen, match="no listening"):
            listening.adopt_inherited(text)


ADOPT = f"""
import os, socket
from edge.listening import Listening, address_of
from edge.settings.addresses import TcpAddress
made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
for number, sock in enumerate(made):
    os.dup2(sock.fileno(), 20 + number)
for number in range(3):
    os.dup2(20 + number, {FIRST_PASSED} + number)
environ = {{"LISTEN_PID": PID, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:admin", "HOME": "/"}}
listening = Listening(2)
listening.adopt_passed(environ)
assert environ == {{"HOME": "/"}}, environ
stands = listening.open([TcpAddress("127.0.0.1", 0)], TcpAddress("127.0.0.1", 0))
assert stands[0] == stands[1] or PID == "1"
ports = {{sock.getsockname()[1] for sock in stands[0].public}}
expected = {{20: 0, 22: 2}}
names = {{socket.socket(fileno=os.dup(fd)).getsockname()[1] for fd in expected}}
admin = socket.socket(fileno=os.dup(21)).getsockname()[1]
assert (ports == names) == (PID != "1"), (ports, names)
assert (stands[0].admin.getsockname()[1] == admin) == (PID != "1")
listening.keep([], TcpAddress("127.0.0.1", 0))
os._exit(0)
"""


@pytest.mark.parametrize("pid", ["str(os.getpid())", "'1'"])
def test_passed_sockets_are_for_the_process_that_is_named(repository: Path, pid: str):
    code = ADOPT.replace("PID,", f"{pid},").replace("PID ", f"{pid} ").replace("(PID", f"({pid}")
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True, timeout=30)
