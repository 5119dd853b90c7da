"""The jobs that wait for a worker: first in, first out, up to a bound.

It also knows how fast the queue drains, so a refusal can say honestly when to come back.
"""

import math
from collections import deque
from typing import Final, Generic, TypeVar

Ticket = TypeVar("Ticket")

# A new render weighs a tenth: the mean follows a change of load within some ten renders.
_WEIGHT: Final = 0.1
# Before the first render is measured.
_FIRST_GUESS_S: Final = 0.5
# Retry-After above a minute tells a browser nothing.
_LONGEST_RETRY_S: Final = 60


class Admission(Generic[Ticket]):
    """Bounded FIFO. Every method but withdraw() takes constant time."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.service_s = _FIRST_GUESS_S
        self._waiting: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self.bound

    def put(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """A ticket that was taken and not begun; the bound does not hold for it."""
        self._waiting.appendleft(ticket)

    def take(self) -> Ticket | None:
        return self._waiting.popleft() if self._waiting else None

    def withdraw(self, ticket: Ticket) -> bool:
        """False when the ticket does not wait here (any more)."""
        try:
            self._waiting.remove(ticket)
        except ValueError:
            return False
        return True

    def observe(self, service_s: float) -> None:
        """A worker was busy for so long with a job, whatever came of it."""
        self.service_s += _WEIGHT * (service_s - self.service_s)

    def retry_after_s(self, workers: int) -> int:
        """Whole seconds until the queue of now is drained."""
        drained_s = (len(self._waiting) + 1) * self.service_s / max(1, workers)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(drained_s)))
