"""A process with three pipes, as the event loop sees it: its input, its output, its end.

Not the loop's own subprocesses: uvloop's hand a program sockets for pipes, which cannot be opened
by name (/dev/stdin), and every descriptor that happens to be inheritable.

The process has a session of its own, and its id is not given back before leave(): until then it
stands for the process and its group and nobody else, so a kill hits what was meant, also what the
program has started and left behind.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Final, Self

from edge.origin.connect import BUFFER_BYTES

_EXITED: Final = os.WEXITED | os.WNOWAIT


class Running:
    """Make one with start()."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        outputs: tuple[asyncio.ReadTransport, ...],
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._process = process
        self._outputs = outputs
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(process.pid)
        self._has_exited = asyncio.Event()
        self._is_left = False
        self._is_buried = asyncio.Event()
        self._loop.add_reader(self._pidfd, self._note_exit)

    @classmethod
    async def start(cls, filename: str, environment: Mapping[str, str]) -> Self:
        """In the program's own folder. Raises OSError. Blocks for a vfork and an exec."""
        process = _spawn(filename, environment)
        try:
            stdin = await _writer(process)
            stdout, output = await _reader(process.stdout)
            stderr, errors = await _reader(process.stderr)
            return cls(process, stdin, stdout, stderr, (output, errors))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
            process.wait()
            raise

    @property
    def has_exited(self) -> bool:
        return self._has_exited.is_set()

    async def exit_status(self) -> int:
        """Waits for the end; a signal is negative. Before leave() the process stays a zombie."""
        await self._has_exited.wait()
        if self._process.returncode is not None:
            return self._process.returncode
        found = os.waitid(os.P_PID, self._process.pid, _EXITED)  # noqa: ASYNC222 - it has ended
        assert found is not None, "its pidfd was readable"
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def kill(self) -> None:
        """With all that it has started."""
        if not self._is_buried.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def leave(self, *, is_killed: bool = True) -> None:
        """Nobody looks at it any more: its pipes are closed, and it is buried when it ends. May be
        called again."""
        if is_killed:
            self.kill()
        transport = self.stdin.transport
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
        for output in self._outputs:
            output.close()
        self._is_left = True
        self._maybe_bury()

    async def buried(self) -> None:
        """Waits until it is gone; somebody has to leave() it."""
        await self._is_buried.wait()

    def _note_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._has_exited.set()
        self._maybe_bury()

    def _maybe_bury(self) -> None:
        if self._is_left and self._has_exited.is_set() and not self._is_buried.is_set():
            self._process.wait()
            self._is_buried.set()


def _spawn(filename: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [filename],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=os.path.dirname(filename),
        start_new_session=True,
    )


async def _writer(process: subprocess.Popen[bytes]) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _reader(pipe: object) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BUFFER_BYTES)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader, transport
