"""How long one exchange waits for its origin, and for what: the deadlines, at the reads.

One read at a time. While a request's body goes up, each piece of it is progress; the wait for an
answer begins with the last one.
"""

import asyncio
from dataclasses import dataclass

from edge.origin.errors import Phase
from edge.origin.exchange import RATE, Deadlines
from edge.origin.upload import Upload

READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Wait:
    """What is waited for, since when, and until when at the latest."""

    phase: Phase
    began_at: float
    total_at: float


class Patience:
    """Reads reader; name is for the log. budget_s is what is left of the total, which is not for an
    answer that is_live."""

    def __init__(
        self, reader: asyncio.StreamReader, name: str, deadlines: Deadlines, budget_s: float
    ) -> None:
        self.upload: Upload | None = None
        self.is_live = False
        self._reader = reader
        self._name = name
        self._deadlines = deadlines
        self._budget_s = budget_s
        self._waits: tuple[_Wait, asyncio.Timeout] | None = None

    async def read(self, phase: Phase, began_at: float) -> bytes:
        """b"" at the end. Raises OriginTimeout, OSError where the connection was lost, and
        BodyUnreadable while a body goes up."""
        loop = asyncio.get_running_loop()
        waits_from = loop.time()
        wait = _Wait(phase, began_at, waits_from + self._budget_s)
        try:
            async with asyncio.timeout_at(self._late_at(wait)[0]) as timer:
                self._waits = (wait, timer)
                data = await self._reader.read(READ_BYTES)
                if phase is not Phase.FIRST_BYTE:
                    self._budget_s += len(data) / RATE
                return data
        except TimeoutError as late:
            if not timer.expired():
                raise  # the kernel's own ETIMEDOUT: the connection is lost
            awaited = self._late_at(wait)[1]
            raise self._deadlines.late(self._name, awaited) from late
        finally:
            self._waits = None
            self._budget_s -= loop.time() - waits_from

    def _late_at(self, wait: _Wait) -> tuple[float, Phase]:
        phase, began_at, total_at = wait.phase, wait.began_at, wait.total_at
        if self.upload is not None:
            total_at += self.upload.sent_bytes / RATE
            began_at = max(began_at, self.upload.moved_at)
            if not self.upload.is_done:
                phase = Phase.PROGRESS
        is_first = phase is Phase.FIRST_BYTE
        limit_s = self._deadlines.first_byte_s if is_first else self._deadlines.progress_s
        if total_at < began_at + limit_s and not self.is_live:
            return total_at, Phase.TOTAL
        return began_at + limit_s, phase

    def note_upload(self) -> None:
        """Told by the upload: who waits for an answer waits longer now, or, after the last piece,
        another time."""
        if self._waits is None:
            return
        wait, timer = self._waits
        if not timer.expired():
            timer.reschedule(self._late_at(wait)[0])
