"""The jobs that wait for a worker, in three lanes, each fair between clients. Pure.

cheap   first
dear    after at most PASSED cheap ones; at most half of the places
idle    ladders: when neither of the others waits; places of their own

It also knows what all that waits will cost, so a refusal can say honestly when to come back.
"""

import math
from typing import Final, Generic, Protocol, TypeVar

from resizer.cost import Lane
from resizer.fair import FairQueue

# A dear job that may run is passed by no more cheap ones than this. Four of the dearest cheap ones
# take as long as the cheapest of the dear ones twice over: neither lane starves the other.
PASSED: Final = 4
# Retry-After above a minute tells a browser nothing.
_LONGEST_RETRY_S: Final = 60


class Waiting(Protocol):
    """What Admission has to know of a ticket."""

    @property
    def lane(self) -> Lane: ...
    @property
    def client(self) -> str: ...
    @property
    def cost_ms(self) -> float: ...


Ticket = TypeVar("Ticket", bound=Waiting)


class Admission(Generic[Ticket]):
    """bound: places of live jobs, cheap and dear together; idle_bound: of ladders."""

    def __init__(self, bound: int, idle_bound: int) -> None:
        self.bound = bound
        self.dear_bound = (bound + 1) // 2
        self.idle_bound = idle_bound
        self.cost_ms = 0.0  # of all live jobs that wait
        self._lanes: dict[Lane, FairQueue[Ticket]] = {lane: FairQueue() for lane in Lane}
        self._cheap = self._lanes[Lane.CHEAP]
        self._dear = self._lanes[Lane.DEAR]
        self._idle = self._lanes[Lane.IDLE]
        self._passed = 0

    def __len__(self) -> int:
        """Live jobs that wait."""
        return self._cheap.size + self._dear.size

    @property
    def is_empty(self) -> bool:
        """Nothing waits, no ladder either."""
        return not (self._cheap.size or self._dear.size or self._idle.size)

    def depth(self, lane: Lane) -> int:
        return len(self._lanes[lane])

    def is_full(self, lane: Lane) -> bool:
        if lane is Lane.IDLE:
            return len(self._idle) >= self.idle_bound
        if lane is Lane.DEAR and len(self._dear) >= self.dear_bound:
            return True
        return len(self) >= self.bound

    def maybe_displaced(self, lane: Lane, client: str) -> Ticket | None:
        """Who should give way in a full lane for a client that holds less of it: the newest of the
        client that holds the most, if that leaves it no less than the other. Not withdrawn yet.
        """
        queue = self._lanes[lane]
        ticket = queue.newest_of_greediest()
        if ticket is None or queue.of(ticket.client) < queue.of(client) + 2:
            return None
        return ticket

    def put(self, ticket: Ticket) -> None:
        self._lanes[ticket.lane].put(ticket.client, ticket)
        self._add(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """A ticket that was taken and has not come to its end; the bound does not hold for it."""
        self._lanes[ticket.lane].put_back(ticket.client, ticket)
        self._add(ticket)

    def take(self, *, may_be_dear: bool, may_be_idle: bool) -> Ticket | None:
        """The next one to begin, of a lane that has a worker."""
        ticket: Ticket | None = None
        if self._dear and may_be_dear and (not self._cheap or self._passed >= PASSED):
            self._passed = 0
            ticket = self._dear.take()
        elif self._cheap:
            if self._dear:
                self._passed += 1
            ticket = self._cheap.take()
        elif not self._dear and may_be_idle:
            ticket = self._idle.take()
        if ticket is not None:
            self._subtract(ticket)
        return ticket

    def take_any(self) -> Ticket | None:
        """For the end of the pool."""
        for lane in Lane:
            ticket = self._lanes[lane].take()
            if ticket is not None:
                self._subtract(ticket)
                return ticket
        return None

    def withdraw(self, ticket: Ticket) -> bool:
        """False when the ticket does not wait here (any more)."""
        if not self._lanes[ticket.lane].withdraw(ticket.client, ticket):
            return False
        self._subtract(ticket)
        return True

    def retry_after_s(self, more_ms: float, workers: int) -> int:
        """Whole seconds until what waits, and so much more, is done."""
        drained_s = (self.cost_ms + more_ms) / 1000 / max(1, workers)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(drained_s)))

    def _add(self, ticket: Ticket) -> None:
        if ticket.lane is not Lane.IDLE:
            self.cost_ms += ticket.cost_ms

    def _subtract(self, ticket: Ticket) -> None:
        # Sums of floats drift; an empty queue costs nothing.
        if ticket.lane is not Lane.IDLE:
            self.cost_ms = self.cost_ms - ticket.cost_ms if len(self) else 0.0
