"""Pictures under suspicion: the bar, what the log says of it, and the copy kept for a report."""

import asyncio
import logging
import os
from collections.abc import Callable

from resizer.bar import Bar, Fault
from resizer.errors import PictureBarred
from resizer.evidence import Evidence
from resizer.peek import size_of
from resizer.stats import Stats
from resizer.ticket import Ticket
from resizer.transform import Transform

log = logging.getLogger("halftone.resizer")


class Quarantine:
    """evidence None keeps no copies."""

    def __init__(
        self, bar: Bar, evidence: Evidence | None, stats: Stats, clock: Callable[[], float]
    ) -> None:
        self._bar = bar
        self._evidence = evidence
        self._stats = stats
        self._clock = clock
        self._keeping: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._bar)

    def check(self, digest: bytes, transform: Transform, now: float) -> None:
        """Raises PictureBarred."""
        # Empty on most days; then the canonical text is not wanted.
        if len(self._bar) and self._bar.is_barred(digest, transform.canonical(), now):
            raise PictureBarred(f"killed workers; barred for up to {self._bar.seconds:.0f} s")

    def forgive(self, ticket: Ticket) -> None:
        """The transform in hand was done."""
        if len(self._bar):
            self._bar.forgive(ticket.digest, ticket.transform.canonical())

    def strike(self, ticket: Ticket, fault: Fault) -> None:
        """The transform in hand has ended its worker."""
        self._stats.strikes += 1
        operation = ticket.transform.canonical()
        if not self._bar.strike(ticket.digest, operation, fault, self._clock()):
            return
        self._stats.barred += 1
        log.warning(
            "picture %s is barred for %.0f s: two workers ended by %s, now at %r",
            ticket.digest.hex(),
            self._bar.seconds,
            fault.value,
            operation,
        )
        if self._evidence is not None and not ticket.is_deserted:
            self._keep(self._evidence, ticket)

    async def stop(self) -> None:
        """Returns when nothing is being written any more."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    def _keep(self, evidence: Evidence, ticket: Ticket) -> None:
        """In a thread, for disks. One at a time: a flood of poison is not worth a flood of disk."""
        if self._keeping is not None:
            return
        name = ticket.digest.hex()
        size = size_of(ticket.source, ticket.offset, ticket.length)
        offset = ticket.offset
        # The caller closes its own as soon as it hears of the end.
        try:
            source = os.dup(ticket.source)
        except OSError as error:
            log.warning("picture %s is not kept: %s", name, error.strerror)
            return

        def keep() -> None:
            try:
                path = evidence.keep(name, source, offset, size)
            except OSError as error:
                log.warning("picture %s is not kept: %s", name, error)
                return
            finally:
                os.close(source)
            if path is not None:
                self._stats.kept += 1
                log.warning("picture %s is kept for a report: %s", name, path)

        self._keeping = asyncio.get_running_loop().run_in_executor(None, keep)
        self._keeping.add_done_callback(self._kept)

    def _kept(self, _: "asyncio.Future[None]") -> None:
        self._keeping = None
