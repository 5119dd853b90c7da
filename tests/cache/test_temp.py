"""Owners of temp files: real processes, ended and not."""

import contextlib
import os
import signal
import subprocess
import sys

from cache import temp
from cache.temp import Owner, maybe_owner


def test_names_read_back():
    us = Owner.of_this_process()
    assert maybe_owner(us.name(7)) == us
    assert maybe_owner(us.name(7) + "x") is None
    assert not us.is_dead(us.boot)
    assert us.is_dead("00000000")


def test_a_process_is_dead_before_it_is_reaped():
    us = Owner.of_this_process()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child, contextlib.ExitStack() as stack:
        stack.callback(child.kill)
        start = temp._start_of(child.pid)
        assert start is not None
        owner = Owner(us.boot, child.pid, start)
        assert not owner.is_dead(us.boot)
        os.kill(child.pid, signal.SIGSTOP)
        assert not owner.is_dead(us.boot)  # it may go on at any time
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not taken note of
        assert owner.is_dead(us.boot)
    assert owner.is_dead(us.boot)
