"""How many requests one host may have at once, learnt from how it answers. Pure.

Additive increase, multiplicative decrease, as TCP finds the width of a path. A host says that it
has too much by refusing (full backlog, FCGI_OVERLOADED), or by answering much later than when it
had little to do. Only evidence from a limit that is used counts: a slow answer to a lone request is
a slow script, and a quick one says nothing of what more of them would do. And each decrease is
waited for: what was asked before it says nothing new.

The numbers are cautious, because turning away what would have been answered is worse than letting
some requests wait in the host's own backlog. So a host begins at the ceiling, which is what the
operator allows it, and only one that comes back from the dead begins below.
"""

from typing import Final

# What a host begins with that was dead: what it can take now is not known, and all wait for it.
REVIVED: Final = 32
# Of a host with fewer requests than this an answer is what it takes when there is little to do.
CALM_LOAD: Final = 16
BACK_OFF: Final = 0.7
# Late: this many times the answers of a host with little to do, and never what is quicker than a
# second, as the mixture of a site's scripts alone varies by as much.
LATE_FACTOR: Final = 8.0
LATE_S: Final = 1.0
_WEIGHT: Final = 0.05


class Limit:
    """From 1 to ceiling, where it begins. Grows by one per answer until the first decrease, then by
    one per round of answers."""

    def __init__(self, ceiling: int) -> None:
        if ceiling < 1:
            raise ValueError(f"a limit of {ceiling} lets nothing through")
        self._ceiling = ceiling
        self.decreases = 0
        self._begin(ceiling)

    def forget(self) -> None:
        """Begin anew, with a host that was away."""
        self._begin(min(REVIVED, self._ceiling))

    def _begin(self, value: int) -> None:
        self._value = float(value)
        self._calm_s: float | None = None  # what answers take when there is little to do
        self._has_decreased = False
        self._decreased_at = float("-inf")

    @property
    def value(self) -> int:
        return int(self._value)

    def note_answer(self, latency_s: float, load: int, asked_at: float, now: float) -> None:
        """load counts this request too."""
        is_used = load * 2 >= self.value
        if self._calm_s is None or (load < CALM_LOAD and not is_used):
            calm_s = latency_s if self._calm_s is None else self._calm_s
            self._calm_s = calm_s + _WEIGHT * (latency_s - calm_s)
        if not is_used:
            return
        if latency_s > max(LATE_S, LATE_FACTOR * self._calm_s):
            self._decrease(self._value, asked_at, now)
        else:
            step = 1 / self._value if self._has_decreased else 1
            self._value = min(float(self._ceiling), self._value + step)

    def note_timeout(self, load: int, asked_at: float, now: float) -> None:
        """No connection or no answer in time: as a late answer, of a limit that is used."""
        if load * 2 >= self.value:
            self._decrease(self._value, asked_at, now)

    def note_overload(self, load: int, asked_at: float, now: float) -> None:
        """The host said itself that load is too much."""
        self._decrease(min(self._value, load), asked_at, now)

    def _decrease(self, base: float, asked_at: float, now: float) -> None:
        if asked_at < self._decreased_at:
            return
        self._value = max(1.0, base * BACK_OFF)
        self._has_decreased = True
        self._decreased_at = now
        self.decreases += 1
