"""What systemd is told, sd_notify(3): one datagram of VARIABLE=VALUE lines to the socket it names.

    READY=1                            it serves; after a reload, that the reload is over
    RELOADING=1  MONOTONIC_USEC=...    a reload begins (Type=notify-reload)
    STOPPING=1                         it drains
    MAINPID=...                        another process is the service from now on
    WATCHDOG=1                         it is well, at least once in WATCHDOG_USEC
    STATUS=...                         a sentence for `systemctl status`

Nobody who does not listen holds us up: a message that cannot be sent is dropped.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

# From the least that makes sense to the most that a loop must be woken for.
_SHORTEST_USEC: Final = 10_000
_MICROSECONDS: Final = 1_000_000


class Notifier:
    """environ: where systemd left NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.

    is_successor: WATCHDOG_PID names the process that started us, and means us from now on.
    """

    def __init__(self, environ: Mapping[str, str], *, is_successor: bool = False) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ, is_successor)

    @property
    def is_heard(self) -> bool:
        return self._path != ""

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={usec}", "STATUS=Reloading")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=Draining")

    def hand_over(self, pid: int) -> None:
        self._send(f"MAINPID={pid}", f"STATUS=Replaced by process {pid}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._path:
            return
        # "@" stands for the zero byte of an abstract name, unix(7).
        name = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        ):
            sock.sendto("\n".join(lines).encode(), name)


def _watchdog_s(environ: Mapping[str, str], is_successor: bool) -> float | None:
    """Seconds between two signs of life: half of what systemd waits. None: nobody waits."""
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        return None
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()) and not is_successor:
        return None  # meant for the process that started us
    return max(int(text), _SHORTEST_USEC) / _MICROSECONDS / 2
