"""How long a host takes to answer, of late. Pure.

An average that forgets: each answer weighs a fifth, and what was learnt halves in FORGET_S without
an answer, so that a host that was slow once is tried again and not avoided for ever.
"""

from typing import Final

_WEIGHT: Final = 0.2
FORGET_S: Final = 10.0


class Latency:
    def __init__(self) -> None:
        self._average_s = 0.0
        self._noted_at: float | None = None

    def note(self, seconds: float, now: float) -> None:
        if self._noted_at is None:
            self._average_s = seconds
        else:
            self._average_s += _WEIGHT * (seconds - self._average_s)
        self._noted_at = now

    def maybe_at(self, now: float) -> float | None:
        """Seconds; None before the first answer."""
        if self._noted_at is None:
            return None
        return float(self._average_s * 0.5 ** ((now - self._noted_at) / FORGET_S))
