"""What the master waits for: descriptors and signals, in one thread without an event loop.

Signals arrive as bytes on a socket (signal.set_wakeup_fd), in order, and are handled between other
things, never within them.
"""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence


class Watch:
    def __init__(self, signals: Sequence[signal.Signals]) -> None:
        self.signals = tuple(signals)
        self._selector = selectors.DefaultSelector()

    def add(self, fd: int, call: Callable[[], None]) -> None:
        """call whenever fd can be read."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def remove(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Until something has happened and was seen to; None: as long as it takes."""
        for key, _ in self._selector.select(timeout_s):
            # Seeing to one may have ended another.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def close(self) -> None:
        self._selector.close()

    @contextlib.contextmanager
    def hearing(self, call: Callable[[signal.Signals], None]) -> Iterator[None]:
        """Signals go to call meanwhile, and to nobody else."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)

        def take() -> None:
            for number in ours.recv(64):
                call(signal.Signals(number))

        before = {number: signal.signal(number, lambda *_: None) for number in self.signals}
        wakeup = signal.set_wakeup_fd(theirs.fileno())
        self.add(ours.fileno(), take)
        try:
            yield
        finally:
            self.remove(ours.fileno())
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Signals wait. Around fork(): one that came to the child before it has handlers of its own
        would end up in our socket, as if it had come to us."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def forget(self) -> None:
        """In a child, deaf until now: default signals, and none of the parent's descriptors."""
        signal.set_wakeup_fd(-1)
        for number in self.signals:
            signal.signal(number, signal.SIG_DFL)
        for key in tuple(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)
