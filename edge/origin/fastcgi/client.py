"""FastCGI client: one connection, one exchange.

No multiplexing: php-fpm has none, and the request id is always 1. No kept connection either: each
would pin one php-fpm worker for as long as it idles. Without KEEP_CONN the application closes, so
END_REQUEST is what tells a complete answer from a cut one.
"""

import asyncio
import contextlib
import logging
from typing import Final

from edge.origin.address import Address
from edge.origin.connect import RETRY_AFTER_S, open_stream
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import Deadlines, Result, Watcher, result_of
from edge.origin.fastcgi.params import Script, build_params
from edge.origin.fastcgi.records import (
    MANAGEMENT_ID,
    BeginRequest,
    EndRequest,
    ProtocolStatus,
    Record,
    RecordReader,
    RecordType,
    Role,
    build_stream,
)
from edge.origin.fastcgi.reply import ReplyHead, ReplyParser
from edge.origin.fastcgi.stderr import StderrLines
from edge.origin.messages import Headers, OriginRequest

_REQUEST_ID: Final = 1
_READ_BYTES: Final = 64 * 1024
# Bytes of a body that earn a second of total_s: that bound is for answers that drip, and a film
# takes as long as a slow line needs for it.
_RATE: Final = 64 * 1024


class FastCGIClient:
    """Speaks to any host of one origin; holds settings, no state."""

    def __init__(self, script: Script, deadlines: Deadlines, logger: logging.Logger) -> None:
        self._script = script
        self._deadlines = deadlines
        self._logger = logger

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "FastCGIResponse":
        """The answer, its head complete. Raises OriginError, UnsendableRequest.

        Order: parameters are judged before a connection is made; watcher.closed() is called
        exactly once, at the latest when the response is closed.
        """
        try:
            wire = _build_request(request, self._script)
        except UnsendableRequest:
            watcher.closed(Result.UNSENDABLE)
            raise
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        try:
            stream = await open_stream(address, self._deadlines.connect_s)
        except OriginError as failed:
            watcher.closed(result_of(failed))
            raise
        except BaseException:
            watcher.closed(Result.ABANDONED)
            raise
        watcher.connected()
        response = FastCGIResponse(
            stream,
            address=address,
            is_head=request.method == "HEAD",
            deadlines=self._deadlines,
            budget_s=self._deadlines.total_s - (loop.time() - started_at),
            watcher=watcher,
            logger=self._logger,
        )
        await response.start(wire)
        return response


def _build_request(request: OriginRequest, script: Script) -> bytes:
    """BEGIN_REQUEST, PARAMS with their end, STDIN with its end, also without a body."""
    begin = Record(RecordType.BEGIN_REQUEST, _REQUEST_ID, BeginRequest(Role.RESPONDER).build())
    params = build_stream(RecordType.PARAMS, _REQUEST_ID, build_params(request, script))
    stdin = build_stream(RecordType.STDIN, _REQUEST_ID, request.body)
    return b"".join((begin.build(), params, stdin))


class FastCGIResponse:
    """An OriginResponse. Buffers at most what one read brings beyond one record."""

    def __init__(
        self,
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        address: Address,
        is_head: bool,
        deadlines: Deadlines,
        budget_s: float,
        watcher: Watcher,
        logger: logging.Logger,
    ) -> None:
        self._reader, self._writer = stream
        self._address = address
        self._deadlines = deadlines
        self._budget_s = budget_s
        self._watcher = watcher
        self._logger = logger
        self._records = RecordReader()
        self._reply = ReplyParser(is_head=is_head)
        self._stderr = StderrLines()
        self._ready: list[bytes] = []
        self._failure: OriginError | None = None
        self._has_stdout = False
        self._has_begun = False
        self._is_ended = False
        self._is_closed = False
        self._is_suspect = False

    @property
    def _head(self) -> ReplyHead:
        assert self._reply.head is not None, "start() has not returned"
        return self._reply.head

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
    def local_redirect(self) -> str | None:
        return self._head.local_redirect

    @property
    def is_cacheable(self) -> bool:
        """Clean end, appStatus 0, not a byte too many. False before the end."""
        return self._is_ended and not self._is_suspect and self._failure is None

    async def start(self, wire: bytes) -> None:
        """Send the request and read up to the end of the head. Closed when it raises.

        The write is not awaited: its size is bounded (64 KiB of parameters, 1 MiB of body), and an
        application may answer before it has read everything.
        """
        try:
            self._writer.write(wire)
            late_at = asyncio.get_running_loop().time() + self._deadlines.first_byte_s
            while self._reply.head is None:
                await self._receive(Phase.FIRST_BYTE, late_at)
            if self._reply.head.controls:
                # Sending the (empty) body instead would cache an empty picture.
                name = self._reply.head.controls[0][0]
                raise OriginBroken(f"{self._address}: {name} is not allowed for this origin")
        except OriginError as failed:
            self._close(result_of(failed))
            raise
        except BaseException:
            self._close(Result.ABANDONED)
            raise

    async def read(self) -> bytes:
        try:
            while not self._ready and self._failure is None and not self._is_ended:
                late_at = asyncio.get_running_loop().time() + self._deadlines.progress_s
                await self._receive(Phase.PROGRESS, late_at)
        except OriginError as failed:
            self._failure = failed
        except BaseException:
            self._close(Result.ABANDONED)
            raise
        # What was read before a fault is good, and is delivered before the fault is reported:
        # the outcome does not depend on how the bytes were cut.
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
        is_read = self._is_ended and not self._ready
        self._close(Result.ANSWERED if is_read else Result.ABANDONED)
        with contextlib.suppress(OSError):  # the connection was lost before, which is no news
            await self._writer.wait_closed()

    def _close(self, result: Result) -> None:
        """abort() and not close(): nothing is owed to the peer, and close() would wait for a peer
        that does not read."""
        if self._is_closed:
            return
        self._is_closed = True
        self._writer.transport.abort()
        if self._failure is None and (self._ready or not self._is_ended):
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        self._ready.clear()
        for line in self._stderr.end():
            self._log_stderr(line)
        self._watcher.closed(result)

    async def _receive(self, phase: Phase, late_at: float) -> None:
        """One read from the socket, and all that follows from it.

        Before the head faults are raised; behind it they are kept in _failure.
        """
        data = await self._read_socket(phase, late_at)
        try:
            if not data:
                raise self._early_close()
            self._has_begun = True
            self._records.receive_data(data)
            for record in self._records:
                self._take(record)
                if self._is_ended:
                    break
        except OriginError as failed:
            if self._reply.head is None:
                raise
            self._failure = _behind_head(failed)
            return
        if self._is_ended and self._records.pending_bytes:
            self._suspect(f"{self._records.pending_bytes} bytes behind the end of the answer")

    async def _read_socket(self, phase: Phase, late_at: float) -> bytes:
        """b"" when the connection is gone, cleanly or not: without END_REQUEST both are faults."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        total_at = began_at + self._budget_s
        try:
            async with asyncio.timeout_at(min(late_at, total_at)):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError as late:
            if total_at < late_at:
                phase = Phase.TOTAL
            raise OriginTimeout(f"{self._address}: no answer in time", phase) from late
        except OSError:
            return b""
        finally:
            self._budget_s -= loop.time() - began_at

    def _early_close(self) -> OriginError:
        return OriginBroken(
            f"{self._address}: connection closed before END_REQUEST", has_begun=self._has_begun
        )

    def _take(self, record: Record) -> None:
        # Management records may come at any time (FastCGI 1.0 section 3.3); we asked for none.
        if record.request_id == MANAGEMENT_ID:
            return
        if record.request_id != _REQUEST_ID:
            raise OriginBroken(f"{self._address}: record for request {record.request_id}")
        match record.type:
            case RecordType.STDOUT:
                self._take_stdout(record.content)
            case RecordType.STDERR:
                for line in self._stderr.receive_data(record.content):
                    self._log_stderr(line)
            case RecordType.END_REQUEST:
                self._take_end(EndRequest.parse(record.content))
            case _:
                self._suspect(f"record of type {record.type} skipped")

    def _take_stdout(self, content: bytes) -> None:
        if not content:
            return  # ends the stream, but only END_REQUEST ends the answer
        self._has_stdout = True
        body = self._reply.receive_data(content)
        if body:
            self._budget_s += len(body) / _RATE
            self._ready.append(body)
        if self._reply.has_excess:
            # The answer is whole; waiting for the end of what nobody wants would be a gift.
            self._suspect("body longer than Content-Length was cut")
            self._is_ended = True

    def _take_end(self, end: EndRequest) -> None:
        match end.protocol_status:
            case ProtocolStatus.REQUEST_COMPLETE:
                self._reply.receive_eof()
                self._is_ended = True
            case ProtocolStatus.OVERLOADED | ProtocolStatus.CANT_MPX_CONN if not self._has_stdout:
                raise OriginOverloaded(
                    f"{self._address}: {end.protocol_status.name}", RETRY_AFTER_S
                )
            case _:
                raise OriginBroken(f"{self._address}: {end.protocol_status.name}")
        if end.app_status:
            self._suspect(f"appStatus {end.app_status}")

    def _suspect(self, why: str) -> None:
        if not self._is_suspect:
            self._logger.warning("origin %s: %s; the answer is not cached", self._address, why)
        self._is_suspect = True

    def _log_stderr(self, line: str) -> None:
        self._logger.warning("origin %s: stderr: %s", self._address, line)


def _behind_head(failed: OriginError) -> OriginError:
    if isinstance(failed, OriginTruncated):
        return failed
    truncated = OriginTruncated(str(failed))
    truncated.__cause__ = failed
    return truncated
