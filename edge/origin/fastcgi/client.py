"""FastCGI client: one connection, one exchange at a time.

No multiplexing: php-fpm has none. Connections are closed after an exchange unless keep is above 0,
since each kept one pins one php-fpm worker for as long as it idles. Without KEEP_CONN the
application closes; with and without it END_REQUEST is what tells a complete answer from a cut one.

The request id is 1, and where connections are kept another for each exchange: what an application
says late, or twice, must not be taken for the answer to what is asked next.

A kept connection may have been closed by the application while the request was on its way. So only
GET and HEAD use one, and are put once more, on a new connection, if not a byte came back. An
exchange that is given up on a kept connection is aborted (ABORT_REQUEST) and drained for a moment,
so that the connection can be kept; any other is closed.
"""

import asyncio
import logging
from typing import Final

from edge.origin.address import Address
from edge.origin.alarms import Alarms
from edge.origin.channel import Channel
from edge.origin.connect import open_tcp, open_unix
from edge.origin.errors import OriginBroken, OriginError, UnsendableRequest
from edge.origin.exchange import REPEATABLE, Connections, Deadlines, Result, Watcher, result_of
from edge.origin.fastcgi.idle import IdleChannels
from edge.origin.fastcgi.params import Script, build_params
from edge.origin.fastcgi.records import (
    KEEP_CONN,
    MAX_REQUEST_ID,
    BeginRequest,
    Record,
    RecordType,
    Role,
    build_short_stream,
    build_stream,
)
from edge.origin.fastcgi.response import FastCGIResponse
from edge.origin.messages import OriginRequest
from edge.origin.names import Names
from edge.origin.poller import Poller

# Of every exchange whose connection is closed behind it.
FIRST_ID: Final = 1


class FastCGIClient:
    """Speaks to any host of one origin. keep: idle connections per host."""

    def __init__(
        self,
        script: Script,
        deadlines: Deadlines,
        logger: logging.Logger,
        *,
        names: Names | None = None,
        keep: int = 0,
    ) -> None:
        self._script = script
        self._deadlines = deadlines
        self._logger = logger
        self._names = names or Names(logger)
        self.connections = Connections(lookups=self._names.stats)
        self._kept = IdleChannels(keep)
        self._last_id = 0
        self._alarms = Alarms()
        self._poller = Poller()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> FastCGIResponse:
        """The answer, its head complete. Raises OriginError, UnsendableRequest, BodyUnreadable.

        Order: parameters are judged before a connection is made; watcher.closed() is called
        exactly once, at the latest when the response is closed.
        """
        request_id = FIRST_ID
        if self._kept.limit:
            request_id = self._last_id = self._last_id % MAX_REQUEST_ID + 1
        try:
            wire = _build_request(request, self._script, request_id, self._kept.limit > 0)
        except UnsendableRequest:
            watcher.closed(Result.UNSENDABLE)
            raise
        loop = asyncio.get_running_loop()
        try:
            if self._kept.limit:
                reused = await self._maybe_reuse(loop, address, request, request_id, wire, watcher)
                if reused is not None:
                    return reused
            budget_s = self._deadlines.total_s
            if address.path:
                sock = open_unix(address)
            else:
                started_at = loop.time()
                sock = await open_tcp(address, self._deadlines.connect_s, self._names)
                budget_s -= loop.time() - started_at
            channel = Channel(sock, loop, self._alarms, self._poller)
            self.connections.opened += 1
            watcher.connected()
            response = self._respond(channel, loop, address, request, request_id, budget_s, watcher)
            await response.start(wire, request)
        except OriginError as failed:
            watcher.closed(result_of(failed))
            raise
        except BaseException:
            watcher.closed(Result.ABANDONED)
            raise
        return response

    async def aclose(self) -> None:
        """Closes what idles, and ends what is drained or looked up. Exchanges under way go on."""
        await self._kept.aclose()
        await self._names.aclose()
        self._poller.close()

    async def _maybe_reuse(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        request: OriginRequest,
        request_id: int,
        wire: bytes,
        watcher: Watcher,
    ) -> FastCGIResponse | None:
        """The answer on a kept connection; None where there is none, or where it was dead."""
        if request.method not in REPEATABLE:
            return None
        channel = self._kept.maybe_take(address)
        if channel is None:
            return None
        total_s = self._deadlines.total_s
        response = self._respond(channel, loop, address, request, request_id, total_s, watcher)
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

    def _respond(
        self,
        channel: Channel,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        request: OriginRequest,
        request_id: int,
        budget_s: float,
        watcher: Watcher,
    ) -> FastCGIResponse:
        return FastCGIResponse(
            channel,
            loop,
            address=address,
            request_id=request_id,
            is_head=request.method == "HEAD",
            deadlines=self._deadlines,
            budget_s=budget_s,
            watcher=watcher,
            kept=self._kept,
            logger=self._logger,
        )


def _begin(request_id: int, flags: int) -> bytes:
    content = BeginRequest(Role.RESPONDER, flags).build()
    return Record(RecordType.BEGIN_REQUEST, request_id, content).build()


_BEGIN_AND_CLOSE: Final = _begin(FIRST_ID, 0)
_NO_BODY: Final = build_stream(RecordType.STDIN, FIRST_ID, b"")


def _build_request(request: OriginRequest, script: Script, request_id: int, is_kept: bool) -> bytes:
    """BEGIN_REQUEST, PARAMS with their end, and STDIN with its end (also without a body) if its
    content is at hand."""
    begin = _begin(request_id, KEEP_CONN) if is_kept else _BEGIN_AND_CLOSE
    params = build_short_stream(RecordType.PARAMS, request_id, build_params(request, script))
    body = b""
    if isinstance(request.body, bytes):
        is_usual = not request.body and request_id == FIRST_ID
        body = _NO_BODY if is_usual else build_stream(RecordType.STDIN, request_id, request.body)
    return b"".join((begin, params, body))
