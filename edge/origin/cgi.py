"""CGI/1.1, RFC 3875: a process for each request, its environment, its reply on standard output.

The variables and the reply's grammar are FastCGI's (params.py, reply.py). A program inherits three
pipes, no other descriptor, and of the environment nothing but what is made here (running.py).

An answer is whole when the program closed its output, wrote what it promised, and ended with status
0; another status is logged and keeps the answer from being cached. One that was killed in a body of
unknown length has left it cut. At most limit
programs run at once, those included that were killed and are not gone yet.
"""

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

from edge.origin.address import Address, BadAddress
from edge.origin.connect import RETRY_AFTER_S
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTruncated,
    UnsendableRequest,
)
from edge.origin.exchange import Connections, Deadlines, Result, Watcher, result_of
from edge.origin.fastcgi.params import MAX_PARAMS_BYTES, Script, cgi_variables
from edge.origin.fastcgi.reply import ReplyHead, ReplyParser
from edge.origin.fastcgi.stderr import StderrLines
from edge.origin.messages import OriginRequest
from edge.origin.patience import READ_BYTES, Patience
from edge.origin.response import StreamedResponse
from edge.origin.running import Running
from edge.origin.upload import Upload

# What a shell of a script finds its commands with; RFC 3875 section 7.2 leaves it to the server.
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
# From the end of a program's output to its own end. Longer, and it hangs.
LINGER_S: Final = 1.0
# A fork that fails for want of something passes; all else is the program's fault.
_BUSY: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})


@dataclass(frozen=True, slots=True)
class Program(Address):
    """Stands in a pool where others have a host."""

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or "\0" in self.path:
            raise BadAddress(f"a program needs an absolute path: {self.path!r}")

    def __str__(self) -> str:
        return f"cgi:{self.path}"


class CgiClient:
    """Runs script.filename, whatever the address."""

    def __init__(
        self, script: Script, deadlines: Deadlines, logger: logging.Logger, *, limit: int
    ) -> None:
        self._script = script
        self._deadlines = deadlines
        self._logger = logger
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Running] = set()
        self.connections = Connections()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "CgiResponse":
        """The answer, its head complete. Raises OriginError, UnsendableRequest, BodyUnreadable.

        watcher.closed() is called exactly once, at the latest when the response is closed. A
        program that was killed counts as running until it is gone.
        """
        try:
            environment = _build_environment(request, self._script)
        except UnsendableRequest:
            watcher.closed(Result.UNSENDABLE)
            raise
        try:
            run = await self._start(address, environment)
        except OriginError as failed:
            watcher.closed(result_of(failed))
            raise
        except BaseException:
            watcher.closed(Result.ABANDONED)
            raise
        self.connections.opened += 1
        watcher.connected()
        response = CgiResponse(
            run,
            client=self,
            address=address,
            request=request,
            deadlines=self._deadlines,
            watcher=watcher,
            logger=self._logger,
        )
        await response.start()
        return response

    async def aclose(self) -> None:
        """Kills what runs, and waits until it is gone."""
        for run in list(self._running):
            run.leave()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """For the exchanges of this client: what happens behind one, ended by aclose()."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start(self, address: Address, environment: dict[str, str]) -> Running:
        if len(self._running) >= self._limit:
            raise OriginOverloaded(f"{address}: {self._limit} run already", RETRY_AFTER_S)
        try:
            run = await Running.start(self._script.filename, environment)
        except OSError as failed:
            why = f"{address}: {failed.strerror or failed}"
            if failed.errno in _BUSY:
                raise OriginOverloaded(why, RETRY_AFTER_S) from failed
            raise OriginRefused(why) from failed
        self._running.add(run)
        self.own(self._bury(run))
        return run

    async def _bury(self, run: Running) -> None:
        await run.buried()
        self._running.discard(run)


def _build_environment(request: OriginRequest, script: Script) -> dict[str, str]:
    """surrogateescape carries bytes that are no UTF-8 through to execve() as they came."""
    pairs = cgi_variables(request, script)
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > MAX_PARAMS_BYTES:
        raise UnsendableRequest(f"variables are {size} bytes, limit {MAX_PARAMS_BYTES}")
    return {"PATH": PATH, **{os.fsdecode(name): os.fsdecode(value) for name, value in pairs}}


class CgiResponse(StreamedResponse[ReplyHead]):
    """An OriginResponse."""

    def __init__(
        self,
        run: Running,
        *,
        client: CgiClient,
        address: Address,
        request: OriginRequest,
        deadlines: Deadlines,
        watcher: Watcher,
        logger: logging.Logger,
    ) -> None:
        self._reply = ReplyParser(is_head=request.method == "HEAD")
        patience = Patience(run.stdout, str(address), deadlines, deadlines.total_s)
        super().__init__(self._reply, patience, address=address, watcher=watcher, logger=logger)
        self._run = run
        self._client = client
        self._body = request.body
        self._complaints: asyncio.Task[None] | None = None
        self._is_ended = False

    @property
    def local_redirect(self) -> str | None:
        return self._head.local_redirect

    @property
    def _has_ended(self) -> bool:
        return self._is_ended

    async def start(self) -> None:
        """Give the program its input and read up to the end of the head. When it raises, the
        exchange is closed."""
        self._complaints = self._client.own(self._log_stderr())
        try:
            self._send()
            await self._receive_head()
        except OriginError as failed:
            self._failure = failed
            self._close(result_of(failed))
            raise
        except BaseException:
            self._close(Result.ABANDONED)
            raise

    def _send(self) -> None:
        stdin = self._run.stdin
        if isinstance(self._body, bytes):
            # Not awaited: its size is bounded, and a program may answer before it has read it.
            if self._body:
                stdin.write(self._body)
            stdin.close()
            return
        self._patience.upload = Upload((self._run.stdout, stdin), self._body, self._note_upload)

    def _note_upload(self) -> None:
        upload = self._patience.upload
        if upload is not None and upload.is_done:
            self._run.stdin.close()
        self._patience.note_upload()

    def _let_go(self) -> None:
        if self._patience.upload is not None:
            self._patience.upload.stop()
        is_over = self._is_ended and self._run.has_exited
        if not is_over:
            self._run.kill()
        self._client.own(self._leave(is_over=is_over))

    async def _leave(self, *, is_over: bool) -> None:
        if is_over and self._complaints is not None:
            # The rest of them is in the pipe already.
            await asyncio.wait((self._complaints,), timeout=LINGER_S)
        self._run.leave(is_killed=not is_over)
        await self._run.buried()

    def _note_piece(self) -> None:
        if self._reply.has_excess:
            # The answer is whole; waiting for the end of what nobody wants would be a gift.
            self._suspect("body longer than Content-Length was cut")
            self._is_ended = True

    async def _end(self) -> None:
        status = await self._exit_status()
        if status != "0" and self._reply.head is None:
            raise OriginBroken(f"ended with {status} before its head was complete")
        self._reply.receive_eof()
        if status.startswith("signal") and self._head.content_length is None:
            raise OriginTruncated(f"ended with {status} in a body without a length")
        self._is_ended = True
        if status != "0":
            self._suspect(f"ended with {status}")

    async def _exit_status(self) -> str:
        try:
            async with asyncio.timeout(LINGER_S):
                number = await self._run.exit_status()
        except TimeoutError:
            return f"its output, but still ran {LINGER_S:g} s later"
        return f"signal {-number}" if number < 0 else str(number)

    async def _log_stderr(self) -> None:
        """To the end: a program must not wait for a reader of its complaints."""
        lines = StderrLines()
        with contextlib.suppress(OSError):
            while data := await self._run.stderr.read(READ_BYTES):
                for line in lines.receive_data(data):
                    self._logger.warning("origin %s: stderr: %s", self._address, line)
        for line in lines.end():
            self._logger.warning("origin %s: stderr: %s", self._address, line)
