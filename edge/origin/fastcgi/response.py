"""One FastCGI exchange on one connection: the request goes up, the answer comes down.

END_REQUEST alone ends an answer. Whatever is strange about it beyond that (bytes too many, an
appStatus, a record of no known type) is logged once, and neither cached nor followed by another
exchange on the same connection.
"""

import asyncio
import logging
from typing import Final

from edge.origin.address import Address
from edge.origin.channel import Channel
from edge.origin.connect import RETRY_AFTER_S
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginTruncated,
    Phase,
)
from edge.origin.exchange import RATE, Deadlines, Result, Watcher
from edge.origin.fastcgi.idle import IdleChannels
from edge.origin.fastcgi.records import (
    COMPLETE,
    MANAGEMENT_ID,
    EndRequest,
    ProtocolStatus,
    Record,
    RecordReader,
    RecordType,
)
from edge.origin.fastcgi.reply import ReplyParser
from edge.origin.fastcgi.stderr import StderrLines
from edge.origin.messages import Headers, OriginRequest, is_live
from edge.origin.response import Delivery
from edge.origin.upload import Upload

# What an aborted exchange may still bring before its connection is closed after all. php-fpm looks
# at ABORT_REQUEST only when it reads: short answers end in this time, long ones are cut.
DRAIN_S: Final = 0.5
DRAIN_BYTES: Final = 1 << 20
_STDOUT: Final = int(RecordType.STDOUT)
_STDERR: Final = int(RecordType.STDERR)
_END_REQUEST: Final = int(RecordType.END_REQUEST)
# What php-fpm writes to STDERR, in one record ahead of its 404 or 403 (fpm_main.c).
_SCRIPTLESS: Final = (b"Primary script unknown", b"security.limit_extensions")


class FastCGIResponse(Delivery):
    """An OriginResponse, and the exchange behind it. Buffers at most what one read brings beyond
    one record."""

    __slots__ = (
        "_address", "_budget_s", "_channel", "_deadlines", "_has_begun", "_has_ended",
        "_has_stdout", "_is_scriptless", "_is_suspect", "_kept", "_logger", "_loop", "_phase",
        "_records", "_reply", "_request_id", "_stderr", "_upload", "_waits_from", "_watcher",
        "content_length", "controls", "headers", "local_redirect", "status",
    )  # fmt: skip

    _has_ended: bool  # an attribute, since it is asked for with each record

    def __init__(
        self,
        channel: Channel,
        loop: asyncio.AbstractEventLoop,
        *,
        address: Address,
        request_id: int,
        is_head: bool,
        deadlines: Deadlines,
        budget_s: float,
        watcher: Watcher,
        kept: IdleChannels,
        logger: logging.Logger,
    ) -> None:
        self._channel = channel
        self._loop = loop
        self._address = address
        self._request_id = request_id
        self._deadlines = deadlines
        self._budget_s = budget_s
        self._watcher = watcher
        self._kept = kept
        self._logger = logger
        self._records = RecordReader()
        self._reply = ReplyParser(is_head=is_head)
        self._stderr: StderrLines | None = None
        self._upload: Upload | None = None
        self._phase = Phase.FIRST_BYTE  # what is waited for, or was
        self._waits_from = 0.0
        self._ready: list[bytes] = []
        self._failure: OriginError | None = None
        self._has_stdout = False
        self._has_begun = False
        self._has_ended = False
        self._is_closed = False
        self._is_suspect = False
        self._is_scriptless = False  # php-fpm says that the program is not there
        # The head, from the return of start() on. Plain attributes: they are asked for ten times.
        self.status = 0
        self.headers: Headers = ()
        self.content_length: int | None = None
        self.local_redirect: str | None = None
        self.controls: Headers = ()

    @property
    def is_cacheable(self) -> bool:
        """Clean end, appStatus 0, not a byte too many. False before the end."""
        return self._has_ended and not self._is_suspect and self._failure is None

    async def start(self, wire: bytes, request: OriginRequest) -> None:
        """Send the request and read up to the end of the head.

        When it raises the connection is closed, and the watcher is left to the caller. The write
        of wire is not awaited: its size is bounded (64 KiB of parameters, 1 MiB of body), and an
        application may answer before it has read everything.
        """
        try:
            self._channel.write(wire)
            if not isinstance(request.body, bytes):
                ends = (self._channel, self._channel)
                self._upload = Upload(ends, request.body, self._note_upload, self._frame)
            await self._receive(Phase.FIRST_BYTE)
            head = self._reply.head
            assert head is not None
            if self._is_scriptless and head.status in (403, 404):
                # Of the program, not of what was asked for: no 404 that may be believed, or kept.
                raise OriginBroken(
                    f"{self._address}: php-fpm answers {head.status} for the program itself: is"
                    " script_filename right on that host, and may it be run there?"
                )
        except BaseException:
            self._is_closed = True
            self._hang_up()
            raise
        self.status = head.status
        self.headers = head.headers
        self.content_length = head.content_length
        self.local_redirect = head.local_redirect
        self.controls = head.controls

    def _close(self, result: Result) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        is_broken = self._failure is not None
        if self._failure is None and (self._ready or not self._has_ended):
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        self._ready.clear()
        if is_broken or self._is_suspect or not self._can_be_kept:
            self._hang_up()
        elif self._channel.is_awaited:
            # Somebody still reads, and is told of the end: two cannot wait for one connection.
            self._hang_up()
        elif self._has_ended:
            self._log_rest()
            self._kept.put(self._address, self._channel)
        else:
            # The place is given back when the application is rid of the request, not before.
            self._kept.own(self._drain(result))
            return
        self._watcher.closed(result)

    @property
    def _can_be_kept(self) -> bool:
        """A request that was not sent to its end cannot be followed by another."""
        return (
            self._kept.limit > 0
            and (self._upload is None or self._upload.is_done)
            and not self._channel.has_unsent
        )

    def _hang_up(self) -> None:
        if self._upload is not None:
            self._upload.stop()
        self._channel.abort()
        self._log_rest()

    def _log_rest(self) -> None:
        if self._stderr is not None:
            for line in self._stderr.end():
                self._log_stderr(line)

    async def _drain(self, result: Result) -> None:
        """Abort the exchange, and keep its connection if it ends soon and cleanly."""
        is_clean = False
        try:
            self._channel.write(Record(RecordType.ABORT_REQUEST, self._request_id).build())
            is_clean = await self._skip_to_end(self._loop.time() + DRAIN_S)
        except (OriginError, OSError):  # the time is over, too
            pass
        finally:
            if is_clean:
                self._log_rest()
                self._kept.put(self._address, self._channel)
            else:
                self._hang_up()
            self._watcher.closed(result)

    async def _skip_to_end(self, late_at: float) -> bool:
        """False when it was lost, or too much came. Raises TimeoutError, OriginBroken."""
        left = DRAIN_BYTES
        is_clean = False

        def skip(data: bytes) -> bool:
            nonlocal left, is_clean
            left -= len(data)
            self._records.receive_data(data)
            for record in self._records:
                if record.request_id not in (MANAGEMENT_ID, self._request_id):
                    return True
                if record.request_id and record.type == RecordType.END_REQUEST:
                    is_clean = not self._records.pending_bytes
                    return True
            return left <= 0

        await self._channel.receive(skip, late_at)
        return is_clean

    async def _receive(self, phase: Phase) -> None:
        """What comes up to the end of the head, or what comes next behind it. Raises OriginTimeout,
        OriginTruncated, before the head any OriginError, and BodyUnreadable while a body goes up.
        """
        self._phase = phase
        self._waits_from = self._loop.time()
        try:
            await self._channel.receive(self._take, self._late_at()[0])
        except TimeoutError as late:
            raise self._deadlines.late(str(self._address), self._late_at()[1]) from late
        except OSError as failed:
            why = f"{self._address}: {failed}"
            if self._reply.head is None:
                raise OriginBroken(why, has_begun=self._has_begun) from failed
            raise OriginTruncated(why) from failed
        finally:
            self._budget_s -= self._loop.time() - self._waits_from

    def _take(self, data: bytes) -> bool:
        """All that follows from what came; True where there is something for who waits.

        Before the head faults are raised; behind it they are kept in _failure.
        """
        records = self._records
        try:
            if not data:
                # The connection is gone, cleanly or not: without END_REQUEST both are faults.
                raise self._early_close()
            self._has_begun = True
            records.receive_data(data)
            while not self._has_ended and (record := records.maybe_next()) is not None:
                self._take_record(record)
        except OriginError as failed:
            if self._reply.head is None:
                raise self._named(failed) from None
            self._failure = _behind_head(failed)
            return True
        if not self._has_ended:
            return self._reply.head is not None
        if records.pending_bytes:
            self._suspect(f"{records.pending_bytes} bytes behind the end of the answer")
        if self._upload is None and not self._can_be_kept:
            # The application does nothing else until we close: now it is not yet asleep, and to
            # wake it later costs as much as to receive its answer.
            self._channel.finish()
        return True

    def _named(self, failed: OriginError) -> OriginError:
        """What a parser found, with who said it."""
        if isinstance(failed, OriginBroken) and not str(failed).startswith(str(self._address)):
            return OriginBroken(f"{self._address}: {failed}", has_begun=failed.has_begun)
        return failed

    def _late_at(self) -> tuple[float, Phase]:
        """While a body goes up each piece of it is progress; the wait for an answer begins with
        the last one."""
        phase, began_at = self._phase, self._waits_from
        total_at = began_at + self._budget_s
        if self._upload is not None:
            total_at += self._upload.sent_bytes / RATE
            began_at = max(began_at, self._upload.moved_at)
            if not self._upload.is_done:
                phase = Phase.PROGRESS
        is_first = phase is Phase.FIRST_BYTE
        limit_s = self._deadlines.first_byte_s if is_first else self._deadlines.progress_s
        if total_at < began_at + limit_s and not is_live(self):
            return total_at, Phase.TOTAL
        return began_at + limit_s, phase

    def _frame(self, piece: bytes) -> bytes:
        return Record(RecordType.STDIN, self._request_id, piece).build()

    def _note_upload(self) -> None:
        """Whoever waits for an answer waits longer now, or, after the last piece, another time."""
        self._channel.reschedule(self._late_at()[0])

    def _early_close(self) -> OriginError:
        return OriginBroken(
            f"{self._address}: connection closed before END_REQUEST", has_begun=self._has_begun
        )

    def _take_record(self, record: Record) -> None:
        # Management records may come at any time (FastCGI 1.0 section 3.3); we asked for none.
        if record.request_id == MANAGEMENT_ID:
            return
        if record.request_id != self._request_id:
            # Of an exchange from before, if the connection was kept: not a byte of it is ours.
            raise OriginBroken(
                f"{self._address}: record for request {record.request_id}, not {self._request_id}"
            )
        # Plain numbers: this is done for every record, and a pattern of names costs as much again.
        if record.type == _STDOUT:
            self._take_stdout(record.content)
        elif record.type == _END_REQUEST:
            if record.content == COMPLETE:
                self._reply.receive_eof()
                self._has_ended = True
            else:
                self._take_end(EndRequest.parse(record.content))
        elif record.type == _STDERR:
            if self._stderr is None:
                self._stderr = StderrLines()
            self._is_scriptless |= any(words in record.content for words in _SCRIPTLESS)
            for line in self._stderr.receive_data(record.content):
                self._log_stderr(line)
        else:
            self._suspect(f"record of type {record.type} skipped")

    def _take_stdout(self, content: bytes) -> None:
        if not content:
            return  # ends the stream, but only END_REQUEST ends the answer
        self._has_stdout = True
        body = self._reply.receive_data(content)
        if body:
            self._budget_s += len(body) / RATE
            self._ready.append(body)
        if self._reply.has_excess:
            # The answer is whole; waiting for the end of what nobody wants would be a gift.
            self._suspect("body longer than Content-Length was cut")
            self._has_ended = True

    def _take_end(self, end: EndRequest) -> None:
        match end.protocol_status:
            case ProtocolStatus.REQUEST_COMPLETE:
                self._reply.receive_eof()
                self._has_ended = True
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
