"""The scrubber: reads the whole cache again and again, slowly, and compares it with its hashes.

A disk that has lost a bit says nothing until it is read. A first use after a start is compared
anyway; this finds what goes bad later, and what is not used until somebody needs it. Each folder is
read at its own pace; in a folder that several processes share, each reads its part.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cache.disk import Disk

# A small cache need not be read over and over.
SHORTEST_PASS_S: Final = 3600.0
# Folders may come back in between.
_IDLE_S: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pass:
    steps: Iterator[int]
    began: float
    due: float


class Scrubber:
    """rate: bytes a second from each folder. disks: those to read, asked before each step. clock is
    monotonic."""

    def __init__(
        self,
        disks: Callable[[], Sequence[Disk]],
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert rate > 0
        self.passes = 0  # folders read to the end
        self._disks = disks
        self._rate = rate
        self._clock = clock
        self._running: dict[Disk, _Pass] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for the read that is under way. Before the folders are closed."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._running.clear()

    def step(self) -> float:
        """Read a piece of every folder that is due; the seconds until the next one is."""
        disks = self._disks()
        for gone in self._running.keys() - set(disks):
            del self._running[gone]
        for disk in disks:
            now = self._clock()
            running = self._running.get(disk)
            if running is None:
                running = self._running[disk] = _Pass(disk.scrub(), now, now)
            if running.due > now:
                continue
            read = next(running.steps, None)
            if read is not None:
                running.due = now + read / self._rate
                continue
            self.passes += 1
            began = max(now, running.began + SHORTEST_PASS_S)
            self._running[disk] = _Pass(disk.scrub(), began, began)
        now = self._clock()
        waits = [running.due - now for running in self._running.values()]
        return min([*waits, _IDLE_S])

    def _run(self) -> None:
        try:
            while not self._stopping.wait(max(0.0, self.step())):
                pass
        except Exception:  # noqa: BLE001  # top of the thread
            _log.exception("the scrubber ended early")
