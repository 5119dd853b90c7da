"""Deadlines of many waits on one timer of the event loop.

Nearly every wait for an origin ends long before its deadline, so a timer for each is made and
cancelled in vain, which costs more than the wait's own bookkeeping. Here a wait is a member of a
set; the timer is set for the earliest deadline, and where it finds nobody late it is set anew.
"""

import asyncio
from typing import Protocol


class Waiting(Protocol):
    late_at: float  # of the loop's clock; may be moved backwards at any time

    def expire(self) -> None:
        """late_at has passed. Must not raise."""


class Alarms:
    """Deadlines are exact to a turn of the loop. One for each event loop."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waiting, loop: asyncio.AbstractEventLoop) -> None:
        """Also of one whose late_at was brought forward."""
        self._waiting.add(one)
        if one.late_at < self._at:
            self._set(one.late_at, loop)

    def discard(self, one: Waiting) -> None:
        self._waiting.discard(one)

    def _set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = loop.call_at(at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._at = None, float("inf")
        now = loop.time()
        for one in [one for one in self._waiting if one.late_at <= now]:
            self._waiting.discard(one)
            one.expire()
        # Who expired may have added others, and these have set the timer.
        at = min((one.late_at for one in self._waiting), default=float("inf"))
        if at < self._at:
            self._set(at, loop)
