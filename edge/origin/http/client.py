"""HTTP/1.1 client: one connection, one exchange at a time, no pipelining.

Nothing is added to a request but what request.py names, nothing is decoded but the chunked coding,
no redirect is followed. A connection is kept where the answer told its own end, both sides want it,
and not a byte came behind that end.

A kept connection may have been closed by the origin while the request was on its way. So only GET
and HEAD use one, and are put once more, on a new connection, if not a byte came back. An exchange
that is given up costs its connection: HTTP/1.1 has no other way to stop an answer.
"""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass

from edge.origin.address import Address
from edge.origin.connect import Stream, open_stream
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import REPEATABLE, Connections, Deadlines, Result, Watcher, result_of
from edge.origin.fastcgi.kept import KeptConnections
from edge.origin.fastcgi.upload import Upload
from edge.origin.http.answer import AnswerHead, AnswerParser, Framing
from edge.origin.http.request import build_head
from edge.origin.messages import Headers, OriginRequest
from edge.origin.names import Names
from edge.origin.patience import Patience


@dataclass(frozen=True, slots=True)
class Tls:
    """name: what the certificate must be for; "" for the host of each address."""

    context: ssl.SSLContext
    name: str = ""


class HttpClient:
    """Speaks to any host of one origin. keep: idle connections per host."""

    def __init__(
        self,
        deadlines: Deadlines,
        logger: logging.Logger,
        *,
        names: Names | None = None,
        keep: int = 0,
        tls: Tls | None = None,
    ) -> None:
        self._deadlines = deadlines
        self._logger = logger
        self._names = names or Names(logger)
        self._tls = tls
        self.connections = Connections(lookups=self._names.stats)
        self._kept = KeptConnections(keep)

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "HttpResponse":
        """The answer, its head complete. Raises OriginError, UnsendableRequest, BodyUnreadable.

        watcher.closed() is called exactly once, at the latest when the response is closed.
        """
        try:
            wire = build_head(request, is_kept=self._kept.limit > 0)
        except UnsendableRequest:
            watcher.closed(Result.UNSENDABLE)
            raise
        if isinstance(request.body, bytes):
            wire += request.body
        try:
            response = await self._maybe_reuse(address, request, wire, watcher)
            if response is None:
                response = await self._put(address, request, wire, watcher)
        except OriginError as failed:
            watcher.closed(result_of(failed))
            raise
        except BaseException:
            watcher.closed(Result.ABANDONED)
            raise
        return response

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._names.aclose()

    async def _maybe_reuse(
        self, address: Address, request: OriginRequest, wire: bytes, watcher: Watcher
    ) -> "HttpResponse | None":
        """The answer on a kept connection; None where there is none, or where it was dead."""
        if request.method not in REPEATABLE:
            return None
        stream = await self._kept.maybe_take(address)
        if stream is None:
            return None
        response = self._respond(stream, address, request, self._deadlines.total_s, watcher)
        try:
            await response.start(wire, request)
        except OriginBroken as failed:
            if failed.has_begun:
                raise
            self.connections.lost += 1
            return None
        self.connections.reused += 1
        watcher.connected()
        return response

    async def _put(
        self, address: Address, request: OriginRequest, wire: bytes, watcher: Watcher
    ) -> "HttpResponse":
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        context, name = (self._tls.context, self._tls.name) if self._tls else (None, "")
        stream = await open_stream(
            address, self._deadlines.connect_s, self._names, tls=context, tls_name=name
        )
        self.connections.opened += 1
        watcher.connected()
        budget_s = self._deadlines.total_s - (loop.time() - started_at)
        response = self._respond(stream, address, request, budget_s, watcher)
        await response.start(wire, request)
        return response

    def _respond(
        self,
        stream: Stream,
        address: Address,
        request: OriginRequest,
        budget_s: float,
        watcher: Watcher,
    ) -> "HttpResponse":
        return HttpResponse(
            stream,
            Patience(stream[0], str(address), self._deadlines, budget_s),
            address=address,
            is_head=request.method == "HEAD",
            watcher=watcher,
            kept=self._kept,
            logger=self._logger,
        )


def _frame(piece: bytes) -> bytes:
    """A body whose length was told goes as it is."""
    return piece


class HttpResponse:
    """An OriginResponse. Buffers at most what one read brings."""

    local_redirect = None  # of scripts alone

    def __init__(
        self,
        stream: Stream,
        patience: Patience,
        *,
        address: Address,
        is_head: bool,
        watcher: Watcher,
        kept: KeptConnections,
        logger: logging.Logger,
    ) -> None:
        self._stream = stream
        self._patience = patience
        self._writer = stream[1]
        self._address = address
        self._watcher = watcher
        self._kept = kept
        self._logger = logger
        self._parser = AnswerParser(is_head=is_head)
        self._ready = b""
        self._failure: OriginError | None = None
        self._has_begun = False
        self._is_closed = False
        self._is_suspect = False

    @property
    def _head(self) -> AnswerHead:
        assert self._parser.head is not None, "start() has not returned"
        return self._parser.head

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
        """A body that told its end came to it, and nothing behind it. False before that."""
        return (
            self._parser.is_ended
            and self._parser.is_definite
            and not self._is_suspect
            and self._failure is None
        )

    async def start(self, wire: bytes, request: OriginRequest) -> None:
        """Send the request and read up to the end of the head.

        When it raises the connection is closed, and the watcher is left to the caller. The write
        of wire is not awaited: its size is bounded, and an origin may answer before it has read
        everything.
        """
        try:
            self._writer.write(wire)
            if not isinstance(request.body, bytes):
                self._patience.upload = Upload(
                    self._stream, _frame, request.body, self._patience.note_upload
                )
            began_at = asyncio.get_running_loop().time()
            while self._parser.head is None:
                await self._receive(Phase.FIRST_BYTE, began_at)
        except BaseException:
            self._is_closed = True
            self._hang_up()
            raise

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        try:
            while not self._ready and self._failure is None and not self._parser.is_ended:
                await self._receive(Phase.PROGRESS, asyncio.get_running_loop().time())
        except OriginError as failed:
            self._failure = failed
        except BaseException:
            self._close(Result.ABANDONED)
            raise
        # What was read before a fault is good, and is delivered before the fault is reported.
        if self._ready:
            data, self._ready = self._ready, b""
            return data
        if self._failure is not None:
            self._close(result_of(self._failure))
            raise self._failure
        self._close(Result.ANSWERED)
        return b""

    async def aclose(self) -> None:
        is_read = self._parser.is_ended and not self._ready
        self._close(Result.ANSWERED if is_read else Result.ABANDONED)
        if self._writer.is_closing():
            with contextlib.suppress(OSError):  # the connection was lost before, which is no news
                await self._writer.wait_closed()

    def _close(self, result: Result) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._failure is None and (self._ready or not self._parser.is_ended):
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        self._ready = b""
        if self._failure is None and self._can_be_kept:
            self._kept.put(self._address, self._stream)
        else:
            self._hang_up()
        self._watcher.closed(result)

    @property
    def _can_be_kept(self) -> bool:
        """A request that was not sent to its end cannot be followed by another."""
        upload = self._patience.upload
        return (
            self._kept.limit > 0
            and self._head.is_kept
            and not self._parser.has_excess
            and (upload is None or upload.is_done)
        )

    def _hang_up(self) -> None:
        """abort() and not close(): nothing is owed to the peer, and close() would wait for a peer
        that does not read."""
        if self._patience.upload is not None:
            self._patience.upload.stop()
        self._writer.transport.abort()

    async def _receive(self, phase: Phase, began_at: float) -> None:
        """One read from the socket, and all that follows from it.

        Before the head faults are raised; behind it they are kept in _failure.
        """
        try:
            try:
                data = await self._patience.read(phase, began_at)
            except OSError as lost:
                # Also where the close would have been the end of the body.
                raise OriginBroken(f"connection lost: {lost}") from lost
            if data:
                self._has_begun = True
                self._ready += self._parser.receive_data(data)
            else:
                self._parser.receive_eof()
        except (OriginBroken, OriginTruncated) as failed:
            if self._parser.head is None:
                raise self._broken(str(failed)) from failed
            self._failure = OriginTruncated(f"{self._address}: {failed}")
            self._failure.__cause__ = failed
            return
        # A body for HEAD is common and harmless, though its connection is not kept.
        has_body = self._parser.head is not None and self._head.framing is not Framing.NONE
        if self._parser.has_excess and has_body and not self._is_suspect:
            self._is_suspect = True
            self._logger.warning(
                "origin %s: bytes behind the end of the body were cut; the answer is not cached",
                self._address,
            )

    def _broken(self, why: str) -> OriginBroken:
        return OriginBroken(f"{self._address}: {why}", has_begun=self._has_begun)
