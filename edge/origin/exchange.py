"""One exchange with one host: its deadlines, how it ended, who is told. Pure.

A client (fastcgi/client.py and its siblings to come) is a protocol without policy: it connects,
asks, and tells a Watcher. The pool is policy without a protocol: its leases are Watchers.
"""

import enum
import math
from dataclasses import dataclass, field
from typing import Final, Protocol

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

# Bytes of a body that earn a second of total_s: that bound is for answers that drip, and a film
# takes as long as a slow line needs for it, up or down.
RATE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. first_byte_s runs to the end of the head, so that a dripped head cannot stretch it.

    total_s counts only what was spent waiting for the origin: a slow client that reads slowly is
    not the origin's fault and must not cut its own answer. Every 64 KiB of a body earn a second,
    of a request's as of an answer's. To a live answer (messages.is_live) it does not apply.
    """

    connect_s: float = 2.0
    first_byte_s: float = 30.0
    progress_s: float = 30.0
    total_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "progress_s", "total_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite")

    def late(self, name: str, phase: Phase) -> OriginTimeout:
        """What is raised when the time of a phase after the connect is over; it says which
        setting was meant."""
        match phase:
            case Phase.FIRST_BYTE:
                said = f"no answer within {self.first_byte_s:g} s (timeout)"
            case Phase.PROGRESS:
                said = f"nothing more within {self.progress_s:g} s (timeout)"
            case _:
                said = f"no end of its answer within {self.total_s:g} s (total_timeout)"
        return OriginTimeout(f"{name}: {said}", phase)


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


# May be put twice where nobody knows whether the first was acted upon (RFC 9110 section 9.2.2).
REPEATABLE: Final = frozenset({"GET", "HEAD"})

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


@dataclass(slots=True)
class Lookups:
    """Of hosts' names, by how they ended."""

    resolved: int = 0
    failed: int = 0


@dataclass(slots=True)
class Connections:
    """Of one client: requests put on new connections and on kept ones. lost: kept ones that were
    dead, whose request was put once more on a new one and is counted there."""

    opened: int = 0
    reused: int = 0
    lost: int = 0
    lookups: Lookups = field(default_factory=Lookups)


class Watcher(Protocol):
    """Told by a client, synchronously and without fail, what becomes of one exchange."""

    def connected(self) -> None:
        """The host accepted the connection."""

    def closed(self, result: Result) -> None:
        """The exchange holds nothing any more. Called exactly once."""


class Client(Protocol):
    @property
    def connections(self) -> Connections: ...

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> OriginResponse:
        """The answer's head. Raises OriginError, UnsendableRequest, BodyUnreadable; no choice of
        host, and no second try but for a kept connection that was dead."""

    async def aclose(self) -> None:
        """Closes what idles, and ends what is still under way."""
