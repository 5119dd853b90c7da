"""The health of the node, as any of its workers knows it.

/healthz    stuck       a worker that has not written into the ledger for QUIET_S
/readyz     problems    the node drains
            degraded    the index does not answer, which is no reason to send clients elsewhere
"""

from collections.abc import Callable
from typing import Final

from edge.clock import Clock
from edge.counts import Counts
from edge.ledger import Ledger

# They write once a second. Clients of one that does not are waiting in its queue.
QUIET_S: Final = 5.0
DEGRADED: Final = "halftone_index_degraded"
WORKERS: Final = "halftone_workers"


class Health:
    """total: the momentary numbers of all workers. is_draining: of the node, not of this one.
    index: what it is called."""

    def __init__(
        self,
        total: Callable[[], Counts],
        ledger: Ledger,
        is_draining: Callable[[], bool],
        clock: Clock,
        index: str = "redis",
    ) -> None:
        self._total = total
        self._ledger = ledger
        self._is_draining = is_draining
        self._clock = clock
        self._index = index

    def stuck(self) -> list[str]:
        silent_s = self._ledger.silent_s(self._clock.monotonic)
        return [f"a worker has been silent for {silent_s:.0f} s"] if silent_s > QUIET_S else []

    def problems(self) -> list[str]:
        return ["draining"] if self._is_draining() else []

    def degraded(self) -> list[str]:
        numbers = self._total().momentary
        degraded = numbers.get((DEGRADED,), 0.0)
        if not degraded:
            return []
        workers = sum(number for series, number in numbers.items() if series[0] == WORKERS)
        who = f"{degraded:.0f} of {workers:.0f} workers"
        return [f"degraded: {self._index} does not answer {who}, which decide without it"]
