"""The door of one server: who may ask it now, and how many wait already.

Behind it stand a breaker and a bound. A farm of servers has one door each, so that one that fails
or stands still costs nobody the others.
"""

import logging
from collections.abc import Callable
from typing import Final

from cache.errors import IndexUnavailable
from cache.index.breaker import Breaker

# Callers that wait for a connection; at 0.2 ms a command the last one of these is out of budget.
MAX_WAITING: Final = 256

_log = logging.getLogger(__name__)


class Door:
    """name: of the server, for errors and the log. monotonic: seconds. on_open: called when the
    breaker opens."""

    def __init__(
        self,
        name: str,
        breaker: Breaker,
        monotonic: Callable[[], float],
        on_open: Callable[[], None],
    ) -> None:
        self.name = name
        self.breaker = breaker
        self.waiting = 0
        self._monotonic = monotonic
        self._on_open = on_open
        self._why = ""  # it failed last

    def enter(self) -> None:
        """Raises IndexUnavailable. Who came in must leave(), and say how it went."""
        if self.waiting >= MAX_WAITING:
            raise IndexUnavailable(f"{MAX_WAITING} commands wait for {self.name} already")
        self.allow()
        self.waiting += 1

    def leave(self) -> None:
        self.waiting -= 1

    def allow(self) -> None:
        """For who stands in another door already. Raises IndexUnavailable."""
        if not self.breaker.allow(self._monotonic()):
            raise self.shut()

    def shut(self) -> IndexUnavailable:
        return IndexUnavailable(f"{self.name} failed lately, the breaker is open: {self._why}")

    def succeeded(self) -> None:
        if self.breaker.is_open:
            _log.warning("%s answers again", self.name)
        self.breaker.succeeded()

    def failed(self, why: str) -> None:
        """why: one line for the log, without secrets."""
        was_open = self.breaker.is_open
        self._why = why
        self.breaker.failed(self._monotonic())
        if self.breaker.is_open and not was_open:
            _log.warning(
                "%s failed too often (%s), deciding locally until it answers", self.name, why
            )
            self._on_open()
