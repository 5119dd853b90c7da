"""Messages to systemd, by a socket of our own."""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    is_path = request.param == "path"
    name = str(tmp_path / "n") if is_path else f"@halftone-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name if is_path else "\0" + name[1:])
        sock.settimeout(10)
        yield sock, name


def test_messages(inbox):
    sock, name = inbox
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.is_heard
    for call, expected in [
        (lambda: notifier.ready("All is well"), r"READY=1\nSTATUS=All is well"),
        (notifier.reloading, r"RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=.+"),
        (notifier.stopping, r"STOPPING=1\nSTATUS=.+"),
        (lambda: notifier.hand_over(77), r"MAINPID=77\nSTATUS=.+"),
        (notifier.watchdog, r"WATCHDOG=1"),
    ]:
        call()
        assert re.fullmatch(expected, sock.recv(4096).decode())


def test_nobody_listens(tmp_path):
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        Notifier(environ).ready("x")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # somebody else's
        ({"WATCHDOG_USEC": "0"}, 0.005),  # never so often that nothing else is done
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_USEC": "9" * 40}, None),
    ],
)
def test_the_watchdogs_pace(environ, expected):
    assert Notifier(environ).watchdog_s == expected


def test_a_successor_inherits_the_watchdog():
    environ = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    assert Notifier(environ, is_successor=True).watchdog_s == 1.0
