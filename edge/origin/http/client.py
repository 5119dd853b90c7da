"""HTTP/1.1 client: one connection, one exchange at a time, no pipelining.

Nothing is added to a request but what request.py names, nothing is decoded but the chunked coding,
no redirect is followed. A connection is kept where the answer told its own end, both sides want it,
and not a byte came behind that end.

A kept connection may have been closed by the origin while the request was on its way. So only GET
and HEAD use one, and are put once more, on a new connection, if not a byte came back. An exchange
that is given up costs its connection: HTTP/1.1 has no other way to stop an answer.

Interim answers and trailers are told to the request's aside, where it has one (messages.py), and
dropped where it has none.
"""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass

from edge.origin.address import Address
from edge.origin.connect import Stream, open_stream
from edge.origin.errors import OriginBroken, OriginError, UnsendableRequest
from edge.origin.exchange import REPEATABLE, Connections, Deadlines, Result, Watcher, result_of
from edge.origin.http.answer import AnswerHead, AnswerParser, Framing
from edge.origin.http.request import build_head
from edge.origin.kept import KeptStreams
from edge.origin.messages import OriginRequest
from edge.origin.names import Names
from edge.origin.patience import Patience
from edge.origin.response import StreamedResponse
from edge.origin.upload import Upload


@dataclass(frozen=True, slots=True)
class Tls:
    """name: what the certificate must be for; "" for the host of each address."""

    context: ssl.SSLContext
    name: str = ""


class HttpClient:
    """Speaks to any host of one origin. keep: idle connections per host. host_header: what every
    Host is; "" for the request's own."""

    def __init__(
        self,
        deadlines: Deadlines,
        logger: logging.Logger,
        *,
        names: Names | None = None,
        keep: int = 0,
        tls: Tls | None = None,
        host_header: str = "",
    ) -> None:
        self._deadlines = deadlines
        self._logger = logger
        self._names = names or Names(logger)
        self._tls = tls
        self._host_header = host_header
        self.connections = Connections(lookups=self._names.stats)
        self._kept = KeptStreams(keep)

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "HttpResponse":
        """The answer, its head complete. Raises OriginError, UnsendableRequest, BodyUnreadable.

        watcher.closed() is called exactly once, at the latest when the response is closed.
        """
        try:
            wire = build_head(
                request, is_kept=self._kept.limit > 0, host=self._host_header or request.host
            )
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
            await response.start(wire)
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
        await response.start(wire)
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
            budget_s,
            address=address,
            request=request,
            deadlines=self._deadlines,
            watcher=watcher,
            kept=self._kept,
            logger=self._logger,
        )


class HttpResponse(StreamedResponse[AnswerHead]):
    """An OriginResponse. What comes beside the answer is told to the request's aside."""

    local_redirect = None  # of scripts alone

    def __init__(
        self,
        stream: Stream,
        budget_s: float,
        *,
        address: Address,
        request: OriginRequest,
        deadlines: Deadlines,
        watcher: Watcher,
        kept: KeptStreams,
        logger: logging.Logger,
    ) -> None:
        self._parser = AnswerParser(is_head=request.method == "HEAD")
        patience = Patience(stream[0], str(address), deadlines, budget_s)
        super().__init__(self._parser, patience, address=address, watcher=watcher, logger=logger)
        self._stream = stream
        self._writer = stream[1]
        self._request = request
        self._kept = kept
        self._is_announced = False

    @property
    def _has_ended(self) -> bool:
        return self._parser.is_ended

    @property
    def is_cacheable(self) -> bool:
        """Only where the body told its end: else a cut could not be told from it."""
        return self._parser.is_definite and super().is_cacheable

    async def start(self, wire: bytes) -> None:
        """Send the request and read up to the end of the head.

        When it raises the connection is closed, and the watcher is left to the caller. The write
        of wire is not awaited: its size is bounded, and an origin may answer before it has read
        everything.
        """
        body, patience = self._request.body, self._patience
        try:
            self._writer.write(wire)
            if not isinstance(body, bytes):
                patience.upload = Upload(self._stream, body, patience.note_upload)
            await self._receive_head()
        except BaseException:
            self._is_closed = True
            self._hang_up()
            raise

    async def aclose(self) -> None:
        await super().aclose()
        if self._writer.is_closing():
            with contextlib.suppress(OSError):  # the connection was lost before, which is no news
                await self._writer.wait_closed()

    async def _end(self) -> None:
        self._parser.receive_eof()

    def _note_piece(self) -> None:
        self._tell_aside()
        # A body for HEAD is common and harmless, though its connection is not kept.
        head = self._parser.head
        if self._parser.has_excess and head is not None and head.framing is not Framing.NONE:
            self._suspect("bytes behind the end of the body were cut")

    def _tell_aside(self) -> None:
        aside, parser = self._request.aside, self._parser
        interim = parser.take_interim()
        if aside is None:
            return
        for head in interim:
            aside.interim(head.status, head.headers)
        if parser.head is not None and parser.head.announced and not self._is_announced:
            self._is_announced = True
            aside.announced(parser.head.announced)
        if parser.is_ended and parser.trailers:
            aside.trailers(parser.trailers)

    def _let_go(self) -> None:
        if self._failure is None and self._can_be_kept:
            self._kept.put(self._address, self._stream)
        else:
            self._hang_up()

    @property
    def _can_be_kept(self) -> bool:
        """A request that was not sent to its end cannot be followed by another."""
        upload = self._patience.upload
        return (
            self._kept.limit > 0
            and self._head.is_kept
            and not self._parser.has_excess
            and (upload is None or upload.is_done)
            and not self._writer.transport.get_write_buffer_size()
        )

    def _hang_up(self) -> None:
        """abort() and not close(): nothing is owed to the peer, and close() would wait for a peer
        that does not read."""
        if self._patience.upload is not None:
            self._patience.upload.stop()
        self._writer.transport.abort()
