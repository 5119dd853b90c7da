"""Collecting cycles without stopping the loop.

A full collection visits every object that is kept: 0.4 s with 100,000 pictures known, in which no
request is answered. So the old generation is left alone while there is work, and collected in a
quiet second, seldom. Young cycles (a failed task and its traceback) are collected as ever; what is
kept long here (routes, sources, answers) holds no cycles, and reference counting frees it.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Final

# Objects made before the youngest are looked at (half a millisecond), and how often the next.
YOUNG: Final = 10_000
MIDDLE: Final = 10
# In effect never by itself: gc has no word for it.
NEVER: Final = 1 << 30
# Between two full collections, and what may be answered in a second that counts as quiet.
FULL_EVERY_S: Final = 600.0
QUIET_REQUESTS: Final = 5


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While modules are imported, which are never garbage: looking for some takes a tenth of the
    time, and again with every full collection.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


class Garbage:
    """tick() once a second; answered() counts the requests answered so far."""

    def __init__(
        self, answered: Callable[[], int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._answered = answered
        self._now = now
        self._seen = 0
        self._last = now()
        self.full = 0  # full collections
        self.longest_s = 0.0

    def start(self) -> None:
        gc.set_threshold(YOUNG, MIDDLE, NEVER)

    def tick(self) -> None:
        answered = self._answered()
        is_quiet = answered - self._seen <= QUIET_REQUESTS
        self._seen = answered
        if not is_quiet or self._now() - self._last < FULL_EVERY_S:
            return
        began = self._now()
        gc.collect()
        self._last = self._now()
        self.full += 1
        self.longest_s = max(self.longest_s, self._last - began)
