"""Waiting for descriptors and signals, with real ones."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from edge.watch import Watch

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


# Alone, as the master is: where there are other threads, a signal that waits here goes there.
IN_ORDER = """
import os, signal
from edge.watch import Watch

watch = Watch((signal.SIGUSR1, signal.SIGUSR2))
heard = []
before = signal.getsignal(signal.SIGUSR1)
with watch.hearing(heard.append):
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    assert heard == []
    watch.wait(10)
    assert heard == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]
    with watch.deaf():
        os.kill(os.getpid(), signal.SIGUSR1)
        watch.wait(0)
        assert len(heard) == 3
    watch.wait(10)
    assert len(heard) == 4
assert signal.getsignal(signal.SIGUSR1) is before
watch.close()
"""


def test_signals_come_in_order_and_between_other_things(repository: Path):
    subprocess.run([sys.executable, "-c", IN_ORDER], cwd=repository, check=True, timeout=30)


def test_what_ended_meanwhile_is_not_called():
    watch = Watch(SIGNALS)
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def seen(own: int) -> None:
        called.append(own)
        for ours, _ in pairs:
            watch.remove(ours.fileno())

    for number, (ours, theirs) in enumerate(pairs):
        watch.add(ours.fileno(), lambda number=number: seen(number))
        theirs.send(b"x")
    watch.wait(10)
    assert len(called) == 1
    watch.wait(0)
    assert len(called) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()
    watch.close()


def test_a_child_forgets():
    """A signal for the child, sent before it was ready for one, is its own and not ours."""
    watch = Watch(SIGNALS)
    heard: list[signal.Signals] = []
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours), contextlib.closing(theirs), watch.hearing(heard.append):
        watch.add(ours.fileno(), lambda: None)
        with watch.deaf():
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    os.kill(os.getpid(), signal.SIGUSR1)
                    watch.forget()  # and with that, it arrives
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGUSR1
        watch.wait(0)
        assert heard == []
        watch.remove(ours.fileno())
    watch.close()
