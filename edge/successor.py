"""The next run of the program, started over the running one (USR2): another release, same sockets.

It is started as this one was: same interpreter, same arguments, same folder, and the environment
says which descriptors are the listening sockets and which one leads back here. PIDs in it keep the
variables from meaning anything to another process that inherits them.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from edge.listening import INHERITED, Listening
from edge.seat import Link

PREDECESSOR: Final = "HALFTONE_PREDECESSOR"


@dataclass(frozen=True, slots=True)
class Successor:
    pid: int
    pidfd: int
    link: Link

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def close(self) -> None:
        """After it has become independent, or has ended."""
        self.link.close()
        os.close(self.pidfd)


def start(listening: Listening, environ: Mapping[str, str]) -> Successor:
    """Raises OSError."""
    ours, theirs = Link.pair()
    text, descriptors = listening.describe()
    # Signals that arrive before exec() must find no handler of ours.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(theirs, text, descriptors, environ)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return Successor(pid, os.pidfd_open(pid), ours)


def _become(
    link: Link, text: str, descriptors: tuple[int, ...], environ: Mapping[str, str]
) -> None:
    """In the child: never returns."""
    try:
        for fd in (*descriptors, link.fileno()):
            os.set_inheritable(fd, True)
        pid = os.getpid()
        inherited = {INHERITED: text, PREDECESSOR: f"{pid}:{link.fileno()}"}
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(  # noqa: S606 - our own command line
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environ, **inherited}
        )
    except BaseException as error:  # noqa: BLE001 - top of a process
        os.write(2, f"halftone: cannot start {sys.executable}: {error}\n".encode())
    finally:
        os._exit(1)


def maybe_predecessor(environ: MutableMapping[str, str]) -> tuple[Link, str] | None:
    """The way back to who started us, and what it left in describe(); takes both out of environ."""
    text = environ.pop(INHERITED, None)
    pid, _, number = environ.pop(PREDECESSOR, "").partition(":")
    if text is None or pid != str(os.getpid()) or not number.isdigit():
        return None
    sock = socket.socket(fileno=int(number))
    sock.set_inheritable(False)
    return Link(sock), text
