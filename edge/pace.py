"""Whether a client takes its answer fast enough. Pure: told bytes and seconds, knows no socket.

A client that takes nothing is found by silence. One that takes a byte a second makes progress for
ever, so progress alone proves nothing: what counts is bytes over a span of time. "Left" is what the
client has not acknowledged, in the kernel's buffer or not yet there. What the kernel took from us
says little: it buffers megabytes, and asks for more only when a third of them is free.
"""

from typing import Final

# Bytes a second. The worst mobile connections make several times as much; below it a picture of a
# megabyte would hold its connection for a quarter of an hour.
MIN_RATE: Final = 1024


class Pace:
    """The answer that is being sent: left bytes of it, to be taken span by span of span_s."""

    __slots__ = ("_floor", "_left", "_span_end", "_span_left", "_span_s")

    def __init__(self, left: int, now: float, span_s: float) -> None:
        self._span_s = span_s
        self._floor = MIN_RATE * span_s
        self._start_span(left, now)

    def _start_span(self, left: int, now: float) -> None:
        self._left = self._span_left = left  # at the last event, and when the span began
        self._span_end = now + self._span_s

    def goes_on(self, left: int, now: float) -> bool:
        """The kernel had room for more. False when the span that has ended saw too little."""
        self._left = left
        if now < self._span_end:
            return True
        is_enough = self._span_left - left >= self._floor
        self._start_span(left, now)
        return is_enough

    def waited(self, left: int, now: float) -> bool:
        """The kernel had no room for a whole span. False when the client took too little in it."""
        is_enough = self._left - left >= self._floor
        self._start_span(left, now)
        return is_enough
