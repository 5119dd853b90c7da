"""One exchange with one host: its deadlines, how it ended, who is told. Pure.

A client (fastcgi/client.py and its siblings to come) is a protocol without policy: it connects,
asks, and tells a Watcher. The pool is policy without a protocol: its leases are Watchers.
"""

import enum
import math
from dataclasses import dataclass
from typing import Protocol

from edge.origin.address import Address
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
)
from edge.origin.messages import OriginRequest, OriginResponse


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. first_byte_s runs to the end of the head, so that a dripped head cannot stretch it.

    total_s counts only what was spent waiting for the origin: a slow client that reads slowly is
    not the origin's fault and must not cut its own answer. Every 64 KiB of a body earn a second.
    """

    connect_s: float = 2.0
    first_byte_s: float = 30.0
    progress_s: float = 30.0
    total_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "progress_s", "total_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite")


class Result(enum.StrEnum):
    """How an exchange ended; each ends in exactly one of these."""

    ANSWERED = "answered"  # read to its clean end
    ABANDONED = "abandoned"  # our side left: closed before the end, or cancelled
    UNSENDABLE = "unsendable"  # the request could not be written; no connection was made
    REFUSED = "refused"
    CONNECT_TIMEOUT = "connect-timeout"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    BROKEN = "broken"
    TRUNCATED = "truncated"


_RESULTS: dict[type[OriginError], Result] = {
    OriginRefused: Result.REFUSED,
    OriginTimeout: Result.TIMEOUT,
    OriginOverloaded: Result.OVERLOADED,
    OriginBroken: Result.BROKEN,
    OriginTruncated: Result.TRUNCATED,
}


def result_of(error: OriginError) -> Result:
    if isinstance(error, OriginTimeout) and error.phase is Phase.CONNECT:
        return Result.CONNECT_TIMEOUT
    return _RESULTS[type(error)]


class Watcher(Protocol):
    """Told by a client, synchronously and without fail, what becomes of one exchange."""

    def connected(self) -> None:
        """The host accepted the connection."""

    def closed(self, result: Result) -> None:
        """The exchange holds nothing any more. Called exactly once."""


class Client(Protocol):
    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> OriginResponse:
        """The answer's head. Raises OriginError, UnsendableRequest; no retry, no choice of host."""
