"""One worker process as the event loop sees it: its socket, its pidfd, its end.

Messages come through the socket; the end comes through the pidfd, once and last, after whatever the
worker still had said. Only add_reader and remove_reader are asked of the loop, so asyncio's and
uvloop's both serve.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from resizer import child
from resizer.job import MAX_MESSAGE_BYTES

_PAGE_BYTES: Final = resource.getpagesize()


class WorkerProcess:
    """Running from construction until `on_end`; both callbacks run in the loop.

    argv turns the number of the worker's socket into its command. Raises OSError when the process
    can't be started, and leaves nothing behind then.
    """

    def __init__(
        self,
        argv: Callable[[int], list[str]],
        on_message: Callable[[bytes], None],
        on_end: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_end = on_end
        # Sequenced packets: a message is whole or absent, and the end of the peer is readable.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._child = child.start(argv(theirs.fileno()), keep=(theirs.fileno(),))
            except OSError:
                ours.close()
                raise
        try:
            # Kept open: it is read after each job. It stays this process's, even when its
            # number has become another's.
            self._statm = os.open(f"/proc/{self._child.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            ours.close()
            self._child.kill()
            self._child.wait()
            raise
        try:
            self._pidfd = os.pidfd_open(self._child.pid)
        except OSError:
            os.close(self._statm)
            ours.close()
            self._child.kill()
            self._child.wait()
            raise
        ours.setblocking(False)
        # True once the worker has ended with a message in its socket that it never took: the
        # kernel resets the peer then (net/unix/af_unix.c, unix_release_sock).
        self.left_unread = False
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Hand over a message; the kernel then holds the descriptors too. Raises OSError.

        Never waits: a worker with one job at a time leaves its socket's buffer empty.
        """
        socket.send_fds(self._socket, [data], list(descriptors))

    def kill(self) -> None:
        """SIGKILL, which a stopped process obeys too. on_end follows."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def resident_bytes(self) -> int:
        """What the kernel says the worker holds; 0 when it is gone."""
        try:
            return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def _read(self) -> None:
        # recv, not recvmsg: descriptors that a worker sends are closed by the kernel.
        try:
            data = self._socket.recv(MAX_MESSAGE_BYTES + 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.left_unread = True
            return  # told once; what it had said before, or its end, is read next
        except OSError:
            data = b""
        if data:
            self._on_message(data)
            return
        # The worker closed its end, or is about to be seen dead. It is of no use either way.
        self._loop.remove_reader(self._socket.fileno())
        self.kill()

    def _reap(self) -> None:
        status = self._child.wait()  # the pidfd is readable: it has ended
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._socket.fileno())
        self._last_words()
        os.close(self._pidfd)
        os.close(self._statm)
        self._socket.close()
        self._on_end(status)

    def _last_words(self) -> None:
        # The pidfd may be served before the socket in one turn of the loop. One message: whoever
        # sends more while it dies is not believed.
        for _ in range(2):
            try:
                data = self._socket.recv(MAX_MESSAGE_BYTES + 1)
            except ConnectionResetError:
                self.left_unread = True
                continue
            except OSError:
                return
            if data:
                self._on_message(data)
            return


def describe(status: int) -> str:
    """How a process ended, for the log."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
