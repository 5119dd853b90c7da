"""FastCGI client: one connection, one exchange at a time.

No multiplexing: php-fpm has none, and the request id is always 1. Connections are closed after an
exchange unless keep is above 0, since each kept one pins one php-fpm worker for as long as it
idles. Without KEEP_CONN the application closes; with and without it END_REQUEST is what tells a
complete answer from a cut one.

A kept connection may have been closed by the application while the request was on its way. So only
GET and HEAD use one, and are put once more, on a new connection, if not a byte came back. An
exchange that is given up on a kept connection is aborted (ABORT_REQUEST) and drained for a moment,
so that the connection can be kept; any other is closed.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from edge.origin.address import Address
from edge.origin.connect import RETRY_AFTER_S, Stream, open_stream
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import REPEATABLE, Connections, Deadlines, Result, Watcher, result_of
from edge.origin.fastcgi.kept import KeptConnections
from edge.origin.fastcgi.params import Script, build_params
from edge.origin.fastcgi.records import (
    KEEP_CONN,
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
from edge.origin.fastcgi.upload import Upload
from edge.origin.messages import Headers, OriginRequest
from edge.origin.names import Names

_REQUEST_ID: Final = 1
_READ_BYTES: Final = 64 * 1024
# What an aborted exchange may still bring before its connection is closed after all. php-fpm looks
# at ABORT_REQUEST only when it reads: short answers end in this time, long ones are cut.
DRAIN_S: Final = 0.5
DRAIN_BYTES: Final = 1 << 20


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
        self._kept = KeptConnections(keep)

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "FastCGIResponse":
        """The answer, its head complete. Raises OriginError, UnsendableRequest, BodyUnreadable.

        Order: parameters are judged before a connection is made; watcher.closed() is called
        exactly once, at the latest when the response is closed.
        """
        try:
            wire = _build_request(request, self._script, is_kept=self._kept.limit > 0)
        except UnsendableRequest:
            watcher.closed(Result.UNSENDABLE)
            raise
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
        """Closes what idles, and ends what is drained or looked up."""
        await self._kept.aclose()
        await self._names.aclose()

    async def _maybe_reuse(
        self, address: Address, request: OriginRequest, wire: bytes, watcher: Watcher
    ) -> "FastCGIResponse | None":
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
    ) -> "FastCGIResponse":
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        stream = await open_stream(address, self._deadlines.connect_s, self._names)
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
    ) -> "FastCGIResponse":
        return FastCGIResponse(
            stream,
            address=address,
            is_head=request.method == "HEAD",
            deadlines=self._deadlines,
            budget_s=budget_s,
            watcher=watcher,
            kept=self._kept,
            logger=self._logger,
        )


def _build_request(request: OriginRequest, script: Script, *, is_kept: bool) -> bytes:
    """BEGIN_REQUEST, PARAMS with their end, and STDIN with its end (also without a body) if its
    content is at hand."""
    begin = BeginRequest(Role.RESPONDER, KEEP_CONN if is_kept else 0)
    parts = [
        Record(RecordType.BEGIN_REQUEST, _REQUEST_ID, begin.build()).build(),
        build_stream(RecordType.PARAMS, _REQUEST_ID, build_params(request, script)),
    ]
    if isinstance(request.body, bytes):
        parts.append(build_stream(RecordType.STDIN, _REQUEST_ID, request.body))
    return b"".join(parts)


def _frame(piece: bytes) -> bytes:
    return Record(RecordType.STDIN, _REQUEST_ID, piece).build()


@dataclass(frozen=True, slots=True)
class _Wait:
    """What is waited for, since when, and until when at the latest."""

    phase: Phase
    began_at: float
    total_at: float


class FastCGIResponse:
    """An OriginResponse. Buffers at most what one read brings beyond one record."""

    def __init__(
        self,
        stream: Stream,
        *,
        address: Address,
        is_head: bool,
        deadlines: Deadlines,
        budget_s: float,
        watcher: Watcher,
        kept: KeptConnections,
        logger: logging.Logger,
    ) -> None:
        self._stream = stream
        self._reader, self._writer = stream
        self._address = address
        self._deadlines = deadlines
        self._budget_s = budget_s
        self._watcher = watcher
        self._kept = kept
        self._logger = logger
        self._records = RecordReader()
        self._reply = ReplyParser(is_head=is_head)
        self._stderr = StderrLines()
        self._upload: Upload | None = None
        self._waits: tuple[_Wait, asyncio.Timeout] | None = None
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
    def controls(self) -> Headers:
        return self._head.controls

    @property
    def is_cacheable(self) -> bool:
        """Clean end, appStatus 0, not a byte too many. False before the end."""
        return self._is_ended and not self._is_suspect and self._failure is None

    async def start(self, wire: bytes, request: OriginRequest) -> None:
        """Send the request and read up to the end of the head.

        When it raises the connection is closed, and the watcher is left to the caller. The write
        of wire is not awaited: its size is bounded (64 KiB of parameters, 1 MiB of body), and an
        application may answer before it has read everything.
        """
        try:
            self._writer.write(wire)
            if not isinstance(request.body, bytes):
                self._upload = Upload(self._stream, _frame, request.body, self._note_upload)
            began_at = asyncio.get_running_loop().time()
            while self._reply.head is None:
                await self._receive(Phase.FIRST_BYTE, began_at)
        except BaseException:
            self._is_closed = True
            self._hang_up()
            raise

    async def read(self) -> bytes:
        try:
            while not self._ready and self._failure is None and not self._is_ended:
                await self._receive(Phase.PROGRESS, asyncio.get_running_loop().time())
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
        if self._writer.is_closing():
            with contextlib.suppress(OSError):  # the connection was lost before, which is no news
                await self._writer.wait_closed()

    def _close(self, result: Result) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        is_broken = self._failure is not None
        if self._failure is None and (self._ready or not self._is_ended):
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        self._ready.clear()
        if is_broken or self._is_suspect or not self._can_be_kept:
            self._hang_up()
        elif self._is_ended:
            self._log_rest()
            self._kept.put(self._address, self._stream)
        else:
            # The place is given back when the application is rid of the request, not before.
            self._kept.own(self._drain(result))
            return
        self._watcher.closed(result)

    @property
    def _can_be_kept(self) -> bool:
        """A request that was not sent to its end cannot be followed by another."""
        return self._kept.limit > 0 and (self._upload is None or self._upload.is_done)

    def _hang_up(self) -> None:
        """abort() and not close(): nothing is owed to the peer, and close() would wait for a peer
        that does not read."""
        if self._upload is not None:
            self._upload.stop()
        self._writer.transport.abort()
        self._log_rest()

    def _log_rest(self) -> None:
        for line in self._stderr.end():
            self._log_stderr(line)

    async def _drain(self, result: Result) -> None:
        """Abort the exchange, and keep its connection if it ends soon and cleanly."""
        is_clean = False
        try:
            self._writer.write(Record(RecordType.ABORT_REQUEST, _REQUEST_ID).build())
            async with asyncio.timeout(DRAIN_S):
                is_clean = await self._skip_to_end()
        except (OriginError, OSError):  # the time is over, too
            pass
        finally:
            if is_clean:
                self._log_rest()
                self._kept.put(self._address, self._stream)
            else:
                self._hang_up()
            self._watcher.closed(result)

    async def _skip_to_end(self) -> bool:
        """False when the connection was lost, or too much came."""
        left = DRAIN_BYTES
        while left > 0 and (data := await self._reader.read(_READ_BYTES)):
            left -= len(data)
            self._records.receive_data(data)
            for record in self._records:
                if record.request_id not in (MANAGEMENT_ID, _REQUEST_ID):
                    return False
                if record.request_id and record.type == RecordType.END_REQUEST:
                    return not self._records.pending_bytes
        return False

    async def _receive(self, phase: Phase, began_at: float) -> None:
        """One read from the socket, and all that follows from it.

        Before the head faults are raised; behind it they are kept in _failure.
        """
        data = await self._read_socket(phase, began_at)
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

    async def _read_socket(self, phase: Phase, began_at: float) -> bytes:
        """b"" when the connection is gone, cleanly or not: without END_REQUEST both are faults."""
        loop = asyncio.get_running_loop()
        waits_from = loop.time()
        wait = _Wait(phase, began_at, waits_from + self._budget_s)
        try:
            async with asyncio.timeout_at(self._late_at(wait)[0]) as timer:
                self._waits = (wait, timer)
                return await self._reader.read(_READ_BYTES)
        except TimeoutError as late:
            awaited = self._late_at(wait)[1]
            raise OriginTimeout(f"{self._address}: no answer in time", awaited) from late
        except OSError:
            return b""
        finally:
            self._waits = None
            self._budget_s -= loop.time() - waits_from

    def _late_at(self, wait: _Wait) -> tuple[float, Phase]:
        """While a body goes up each piece of it is progress; the wait for an answer begins with
        the last one."""
        phase, began_at = wait.phase, wait.began_at
        if self._upload is not None:
            began_at = max(began_at, self._upload.moved_at)
            if not self._upload.is_done:
                phase = Phase.PROGRESS
        is_first = phase is Phase.FIRST_BYTE
        limit_s = self._deadlines.first_byte_s if is_first else self._deadlines.progress_s
        return min((began_at + limit_s, phase), (wait.total_at, Phase.TOTAL), key=lambda one: one[0])

    def _note_upload(self) -> None:
        """Whoever waits for an answer waits longer now, or, after the last piece, another time."""
        if self._waits is None:
            return
        wait, timer = self._waits
        if not timer.expired():
            timer.reschedule(self._late_at(wait)[0])

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
