"""What a successor finds in its environment. The whole of it is in behaviour/test_processes.py."""

import contextlib
import os
import socket

import pytest

from edge.listening import INHERITED
from edge.seat import Link, Message, Word
from edge.successor import PREDECESSOR, maybe_predecessor


def test_the_way_back():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.detach()
    environ = {PREDECESSOR: f"{os.getpid()}:{number}", INHERITED: "[]", "HOME": "/"}
    found = maybe_predecessor(environ)
    assert found is not None
    link, text = found
    elder = Link(ours)
    with contextlib.closing(link), contextlib.closing(elder):
        assert text == "[]"
        assert not os.get_inheritable(link.fileno())
        link.send(Word.READY)
        assert elder.receive() == ([Message(Word.READY)], True)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {INHERITED: "[]"},
        {PREDECESSOR: f"{os.getpid()}:0"},
        {PREDECESSOR: "1:0", INHERITED: "[]"},  # was meant for another process
        {PREDECESSOR: f"{os.getpid()}", INHERITED: "[]"},
        {PREDECESSOR: f"{os.getpid()}:x", INHERITED: "[]"},
    ],
)
def test_no_predecessor(environ):
    environ = dict(environ)
    assert maybe_predecessor(environ) is None
    assert environ == {}
