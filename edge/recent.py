"""What the last minute has added to numbers that only grow. Pure.

Noted once a second; a look at a node asks what happens now, and its counters say what happened
since its start.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

SPAN_S: Final = 60.0
# Notes may come closer together than a second when a busy loop catches up.
MAX_NOTES: Final = 128


class Recent:
    """All notes have the same names."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=MAX_NOTES)

    def note(self, now: float, totals: Mapping[str, float]) -> None:
        """now: monotonic seconds, as at every note before or later."""
        self._notes.append((now, totals))
        # One stays that is as old as the span, to be compared with.
        while len(self._notes) > 2 and now - self._notes[1][0] >= SPAN_S:
            self._notes.popleft()

    @property
    def covered_s(self) -> float:
        """The span, or less where it is not over yet."""
        return self._notes[-1][0] - self._notes[0][0] if self._notes else 0.0

    def gained(self) -> Mapping[str, float]:
        if not self._notes:
            return {}
        (_, before), (_, now) = self._notes[0], self._notes[-1]
        return {name: number - before[name] for name, number in now.items()}

    def per_second(self, name: str) -> float:
        return self.gained()[name] / self.covered_s if self.covered_s > 0 else 0.0
