"""The time, read once a second: the loop never asks the kernel for it on the way of a request."""

from collections.abc import Callable

from edge.http.date import format_date


class Clock:
    """wall is whole seconds since 1970, monotonic seconds for deadlines, date_line a Date field.

    All three are as old as the last tick(), which the owner calls once a second.
    """

    __slots__ = ("_monotonic", "_wall", "date_line", "monotonic", "wall")

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self.tick()

    def tick(self) -> None:
        self.wall = int(self._wall())
        self.monotonic = self._monotonic()
        self.date_line = f"Date: {format_date(self.wall)}\r\n".encode()
