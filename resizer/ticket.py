"""A caller's errand in the pool: one transform with somebody waiting, or a ladder of several."""

import asyncio
from dataclasses import dataclass, field

from resizer.cost import Header, Lane
from resizer.errors import ResizeError
from resizer.formats import InputOnly
from resizer.job import Job, Limits, Result
from resizer.ladder import Parent
from resizer.transform import Transform

Outcome = Result | ResizeError


@dataclass(slots=True, eq=False)
class Ticket:
    """Descriptors are the caller's. One of future and outcomes is there: a live job has a future, a
    ladder a queue with a place for each of its steps.
    """

    lane: Lane
    client: str
    cost_ms: float
    header: Header | None
    digest: bytes
    transforms: tuple[Transform, ...]
    source: int
    sinks: tuple[int, ...]
    mark: int | None
    offset: int
    length: int | None
    arrived: float
    future: "asyncio.Future[Result] | None" = None
    outcomes: "asyncio.Queue[Outcome] | None" = None
    inputs: tuple[InputOnly, ...] = ()
    step: int = 0  # transforms that have come to an end
    timer: asyncio.TimerHandle | None = None
    begun: float | None = None  # the step in hand, on a worker; None while it waits
    stood_at: list[int | None] = field(default_factory=list)  # where each sink stood
    is_retried: bool = False
    is_abandoned: bool = False  # a ladder whose caller has gone
    parent: Parent | None = None
    is_pausing: bool = False  # a ladder whose worker was asked to pause

    @property
    def transform(self) -> Transform:
        """The one in hand, or next."""
        return self.transforms[self.step]

    @property
    def is_ladder(self) -> bool:
        return self.outcomes is not None

    @property
    def is_deserted(self) -> bool:
        """Nobody waits for it: its descriptors may be closed, or other files by now."""
        return self.is_abandoned or (self.future is not None and self.future.done())

    def job(self, limits: Limits) -> Job:
        """What is left of it."""
        first, *further = self.transforms[self.step :]
        return Job(
            first,
            limits,
            self.offset,
            self.length,
            tuple(further),
            has_mark=self.mark is not None,
            inputs=self.inputs,
            parent=self.parent,
        )

    def descriptors(self) -> tuple[int, ...]:
        """In the order in which they travel."""
        mark = () if self.mark is None else (self.mark,)
        return (self.source, *mark, *self.sinks[self.step :])

    def settle(self, outcome: Outcome) -> None:
        """Tell the caller of the transform in hand, unless it has gone."""
        if self.outcomes is not None:
            self.outcomes.put_nowait(outcome)
        elif self.future is not None and not self.future.done():
            if isinstance(outcome, Result):
                self.future.set_result(outcome)
            else:
                self.future.set_exception(outcome)
