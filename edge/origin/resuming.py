"""An answer whose body goes on where it broke off (resumption.py). An OriginResponse.

At most MAX_RESUMPTIONS times, within the total deadline of the first exchange, and as far as the
pool gives a place and a retry for it. Each is an exchange of its own. What breaks, and not what
stalls: an origin that is late is not to be asked for more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from edge.origin.errors import (
    OriginError,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import RATE
from edge.origin.messages import Headers, OriginRequest, OriginResponse
from edge.origin.resumption import Resumption

# A connection that breaks three times in one transfer is no accident.
MAX_RESUMPTIONS: Final = 2

T = TypeVar("T")


class ResumingResponse:
    """ask() puts a request: its answer, or None where it may not be put now; raises OriginError.
    note(is_resumed) is told what came of each that was put."""

    def __init__(
        self,
        response: OriginResponse,
        request: OriginRequest,
        resumption: Resumption,
        *,
        ask: Callable[[OriginRequest], Awaitable[OriginResponse | None]],
        note: Callable[[bool], None],
        total_s: float,
        logger: logging.Logger,
    ) -> None:
        self.status = response.status
        self.headers: Headers = response.headers
        self.content_length = response.content_length
        self.local_redirect = response.local_redirect
        self.controls = response.controls
        self._response = response
        self._request = request
        self._resumption = resumption
        self._ask = ask
        self._note = note
        self._total_s = total_s
        self._logger = logger
        self._at = 0  # bytes that came
        self._waited_s = 0.0
        self._resumptions = 0
        self._failure: OriginError | None = None
        self._is_closed = False

    @property
    def is_cacheable(self) -> bool:
        return (
            self._failure is None
            and self._at == self._resumption.length
            and self._response.is_cacheable
        )

    def maybe_all(self) -> bytes | None:
        """What came with its head cannot break off any more."""
        body = None if self._at else self._response.maybe_all()
        if body is not None:
            self._at = len(body)
        return body

    async def read(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            piece = await self._next_piece()
        except OriginError as failed:
            self._failure = failed
            raise
        self._at += len(piece)
        return piece

    async def _next_piece(self) -> bytes:
        while True:
            try:
                piece = await self._timed(self._response.read)
                break
            except OriginTruncated as failed:
                if not self._may_resume:
                    raise
                await self._resume(failed)
        # Of a 206 in chunks only this tells.
        if len(piece) > self._left or (self._left and not piece):
            raise OriginTruncated("body is not as long as it was said to be")
        return piece

    @property
    def _left(self) -> int:
        return self._resumption.length - self._at

    @property
    def _left_s(self) -> float:
        """Of the total deadline, which every 64 KiB that came have made longer."""
        return self._total_s + self._at / RATE - self._waited_s

    @property
    def _may_resume(self) -> bool:
        return (
            not self._is_closed
            and self._resumptions < MAX_RESUMPTIONS
            and self._left > 0
            and self._left_s > 0
        )

    async def _resume(self, broken: OriginTruncated) -> None:
        """Raises broken where the transfer cannot go on."""
        self._resumptions += 1
        rest = self._resumption.rest_from(self._request, self._at)
        try:
            response = await self._timed(lambda: self._ask(rest))
        except (OriginError, UnsendableRequest) as failed:
            self._note(False)
            raise OriginTruncated(f"{broken}; not resumed: {failed}") from broken
        except BaseException:  # given up meanwhile, by who reads
            self._note(False)
            raise
        if response is None:
            raise broken
        if fault := self._resumption.fault_of(response, self._at):
            self._note(False)
            await response.aclose()
            raise OriginTruncated(f"{broken}; not resumed: {fault}") from broken
        self._note(True)
        self._logger.info("origin: %s; resumed at byte %d", broken, self._at)
        self._response = response

    async def _timed(self, wait: Callable[[], Awaitable[T]]) -> T:
        """The client of each exchange keeps its deadlines; the total one of all is kept here."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            async with asyncio.timeout(self._left_s if self._resumptions else None) as timer:
                return await wait()
        except TimeoutError as late:
            if not timer.expired():
                raise
            raise OriginTimeout("no more of a body that was resumed", Phase.TOTAL) from late
        finally:
            self._waited_s += loop.time() - began_at

    async def aclose(self) -> None:
        self._is_closed = True
        await self._response.aclose()
