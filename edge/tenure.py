"""How long a worker has its seat: by the words of the master, or by signals to this process.

May it go, is it to end and by when, and do others take its place meanwhile?
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from edge.seat import Link, Message, Word

# Longer than the slowest render and fetch together should take; beyond it clients are cut.
DRAIN_GRACE_S: Final = 30.0
# After INT, which asks to stop.
HASTY_GRACE_S: Final = 1.0


class Tenure:
    """ends_at is on the loop's clock. reopen() is called when the log files have been moved; at
    first there are none.
    """

    def __init__(self, link: Link, reopen: Callable[[], None] = lambda: None) -> None:
        self._link = link
        self.reopen = reopen
        self.may_go = asyncio.Event()
        self.stopping = asyncio.Event()
        self.ends_at = float("inf")
        self.is_released = False  # another worker takes the place of this one
        self.ended: frozenset[int] = frozenset()  # listeners that nobody takes over

    def hear(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._link.fileno(), self._read)
        loop.add_signal_handler(signal.SIGTERM, self._end_within, DRAIN_GRACE_S)
        loop.add_signal_handler(signal.SIGQUIT, self._end_within, DRAIN_GRACE_S)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)

    def _reopen(self) -> None:
        self.reopen()  # as it is by then

    def stop_hearing(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._link.fileno())
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the end is near already

    def _read(self) -> None:
        messages, is_there = self._link.receive()
        for message in messages:
            self._obey(message)
        if not is_there:  # the master is gone; the kernel should have ended us
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._end_within(HASTY_GRACE_S)

    def _obey(self, message: Message) -> None:
        match message.word:
            case Word.GO:
                self.may_go.set()
            case Word.RELEASE:
                self.is_released = not self.stopping.is_set()
                self.ended = frozenset(map(int, message.detail.split()))
                self._end_within(DRAIN_GRACE_S)
            case Word.DRAIN:
                self._end_within(DRAIN_GRACE_S)
            case Word.HASTEN:
                self._end_within(HASTY_GRACE_S)
            case Word.REOPEN:
                self.reopen()
            case _:
                pass

    def _end_within(self, grace_s: float) -> None:
        self.ends_at = min(self.ends_at, asyncio.get_running_loop().time() + grace_s)
        self.stopping.set()
        self.may_go.set()

    def left_s(self) -> float:
        """Of the grace; a start that failed has nothing to wait for."""
        left_s = self.ends_at - asyncio.get_running_loop().time()
        return max(left_s, 0.0) if self.stopping.is_set() else 0.0

    def is_draining(self) -> bool:
        """The node, that is: whoever was released has others in its place."""
        return self.stopping.is_set() and not self.is_released
