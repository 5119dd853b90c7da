"""An answer that is read from a stream: what is the same whatever the protocol.

A parser cuts the bytes; said here is when to read, what becomes of a fault, and who is told of the
end. What was read before a fault is good, and is delivered before the fault is reported: the
outcome does not depend on how the bytes were cut. Delivery says that for every protocol, and
StreamedResponse the rest for those that read asyncio's streams.
"""

import abc
import asyncio
import logging
from typing import Generic, Protocol, TypeVar

from edge.origin.address import Address
from edge.origin.errors import OriginBroken, OriginError, OriginTruncated, Phase
from edge.origin.exchange import Result, Watcher, result_of
from edge.origin.messages import Headers, OriginHead, is_live
from edge.origin.patience import Patience

H = TypeVar("H", bound=OriginHead)
H_co = TypeVar("H_co", bound=OriginHead, covariant=True)


class Parser(Protocol[H_co]):
    """head is None until it is complete; receive_data() returns bytes of the body. Raises
    OriginBroken."""

    @property
    def head(self) -> H_co | None: ...

    def receive_data(self, data: bytes) -> bytes: ...


class Delivery(abc.ABC):
    """How a body is handed to its reader: as far as it has come, and then its fault or its end."""

    __slots__ = ("_failure", "_is_closed", "_ready")

    _ready: list[bytes]  # what has come and was not read
    _failure: OriginError | None
    _is_closed: bool

    @property
    @abc.abstractmethod
    def _has_ended(self) -> bool:
        """Nothing more belongs to the answer."""

    @abc.abstractmethod
    async def _receive(self, phase: Phase) -> None:
        """What comes next. Raises OriginError, and BodyUnreadable while a body goes up; or has the
        fault in _failure."""

    @abc.abstractmethod
    def _close(self, result: Result) -> None:
        """Give up what the answer was read from, and tell who watches. The first call counts."""

    def maybe_all(self) -> bytes | None:
        """The body, where all of it came with the head; the exchange is then over, as after the
        last read()."""
        if not self._has_ended or self._failure is not None or self._is_closed:
            return None
        data = b"".join(self._ready)
        self._ready.clear()
        self._close(Result.ANSWERED)
        return data

    async def read(self) -> bytes:
        try:
            while not self._ready and self._failure is None and not self._has_ended:
                await self._receive(Phase.PROGRESS)
        except OriginError as failed:
            self._failure = failed
        except BaseException:
            self._close(Result.ABANDONED)
            raise
        if self._ready:
            data = b"".join(self._ready)
            self._ready.clear()
            return data
        if self._failure is not None:
            self._close(result_of(self._failure))
            raise self._failure
        self._close(Result.ANSWERED)
        return b""

    async def aclose(self) -> None:
        is_read = self._has_ended and not self._ready
        self._close(Result.ANSWERED if is_read else Result.ABANDONED)


class StreamedResponse(Delivery, Generic[H]):
    """An OriginResponse. Buffers at most what one read brings.

    What is the protocol's own: when the answer has ended, what the end of the stream means, what a
    piece has brought beside the body, and how what lies behind is given up.
    """

    def __init__(
        self,
        parser: Parser[H],
        patience: Patience,
        *,
        address: Address,
        watcher: Watcher,
        logger: logging.Logger,
    ) -> None:
        self._reads = parser
        self._patience = patience
        self._address = address
        self._watcher = watcher
        self._logger = logger
        self._ready: list[bytes] = []
        self._failure: OriginError | None = None
        self._has_begun = False
        self._is_closed = False
        self._is_suspect = False

    @abc.abstractmethod
    async def _end(self) -> None:
        """The stream has ended, cleanly. Raises OriginBroken, OriginTruncated."""

    @abc.abstractmethod
    def _note_piece(self) -> None:
        """A piece was read, or the end; _failure has the fault behind a head, if there is one."""

    @abc.abstractmethod
    def _let_go(self) -> None:
        """Give up what the answer was read from; _failure says whether it was whole."""

    @property
    def _head(self) -> H:
        head = self._reads.head
        assert head is not None, "start() has not returned"
        return head

    @property
    def status(self) -> int:
        return self._head.status

    @property
    def headers(self) -> Headers:
        return self._head.headers

    @property
    def content_length(self) -> int | None:
        return self._head.content_length

    @property
    def controls(self) -> Headers:
        return self._head.controls

    @property
    def is_cacheable(self) -> bool:
        """It came to its clean end, and nothing was odd. False before that."""
        return self._has_ended and not self._is_suspect and self._failure is None

    def _close(self, result: Result) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._failure is None and (self._ready or not self._has_ended):
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        self._ready.clear()
        self._let_go()
        self._watcher.closed(result)

    async def _receive_head(self) -> None:
        """Raises OriginError, BodyUnreadable."""
        began_at = asyncio.get_running_loop().time()
        while self._reads.head is None:
            await self._receive(Phase.FIRST_BYTE, began_at)
        self._patience.is_live = is_live(self._head)

    async def _receive(self, phase: Phase, began_at: float | None = None) -> None:
        """One read, and all that follows from it; began_at is now where it is not told. Before the
        head faults are raised; behind it they are kept in _failure."""
        if began_at is None:
            began_at = asyncio.get_running_loop().time()
        try:
            try:
                data = await self._patience.read(phase, began_at)
            except OSError as lost:
                # Also where the close would have been the end of the body.
                raise OriginBroken(f"connection lost: {lost}") from lost
            if data:
                self._has_begun = True
                if body := self._reads.receive_data(data):
                    self._ready.append(body)
            else:
                await self._end()
        except (OriginBroken, OriginTruncated) as failed:
            why = f"{self._address}: {failed}"
            if self._reads.head is None:
                raise OriginBroken(why, has_begun=self._has_begun) from failed
            self._failure = OriginTruncated(why)
            self._failure.__cause__ = failed
        self._note_piece()

    def _suspect(self, why: str) -> None:
        if not self._is_suspect:
            self._logger.warning("origin %s: %s; the answer is not cached", self._address, why)
        self._is_suspect = True
