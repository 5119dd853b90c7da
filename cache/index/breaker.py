"""A circuit breaker: FAILURES within WINDOW_S, or in a row, open it, a success closes it. Pure.

In a row, for a node that asks little: without it nobody would be told that nothing is answered.

While it is open one caller a second (with jitter, so that nodes do not knock together) is let
through as a probe; everybody else is refused at once.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
WINDOW_S: Final = 1.0
PROBE_S: Final = 1.0
JITTER: Final = 0.2


class Breaker:
    """random answers numbers from 0 to 1; now is monotonic seconds."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.is_open = False
        self.opened = 0  # how often it went from closed to open
        self._random = random
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._in_a_row = 0
        self._probe_at = 0.0

    def allow(self, now: float) -> bool:
        """True when the caller may try, and must then report success or failure."""
        if not self.is_open:
            return True
        if now < self._probe_at:
            return False
        # Set before the outcome is known: a probe that never reports is followed by another.
        self._plan_probe(now)
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        if self.is_open:
            self.is_open = False
            self._failures.clear()

    def failed(self, now: float) -> None:
        self._failures.append(now)
        self._in_a_row += 1
        if self.is_open:
            self._plan_probe(now)
            return
        is_burst = len(self._failures) == FAILURES and now - self._failures[0] <= WINDOW_S
        if is_burst or self._in_a_row >= FAILURES:
            self.is_open = True
            self.opened += 1
            self._plan_probe(now)

    def _plan_probe(self, now: float) -> None:
        self._probe_at = now + PROBE_S * (1 - JITTER + 2 * JITTER * self._random())
