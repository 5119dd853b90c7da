"""The body of one request, sent piece by piece while the answer is already read.

An origin may answer before it has taken everything, and may stop taking until its answer is read;
with one task for each direction neither waits for the other.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from edge.origin.errors import BodyUnreadable
from edge.origin.messages import RequestBody

# The most that one FastCGI record holds without padding; elsewhere as good as any.
PIECE_BYTES: Final = 65_528


class Reader(Protocol):
    def set_exception(self, exc: Exception) -> None:
        """Whoever reads gets it."""


class Writer(Protocol):
    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Raises OSError when the connection is lost."""


def as_it_is(piece: bytes) -> bytes:
    """Where the length was told ahead."""
    return piece


class Upload:
    """Owns one task. frame() writes a piece for the wire, and the end of the body when it is empty.

    moved_at says when the origin last took something, sent_bytes how much in all; moved() is told
    of it, and of the end.

    A body that cannot be read is told to whoever reads the answer, as BodyUnreadable. A connection
    that is lost is not: the reader finds that out, and may find an answer before it.
    """

    def __init__(
        self,
        ends: tuple[Reader, Writer],
        body: RequestBody,
        moved: Callable[[], None],
        frame: Callable[[bytes], bytes] = as_it_is,
    ) -> None:
        self._reader, self._writer = ends
        self._body = body
        self._moved = moved
        self._frame = frame
        self._loop = asyncio.get_running_loop()
        self.moved_at = self._loop.time()
        self.sent_bytes = 0
        self.is_done = False
        self._task = self._loop.create_task(self._send())

    def stop(self) -> None:
        self._task.cancel()

    async def _send(self) -> None:
        try:
            offset = 0
            while offset < len(self._body):
                piece = await self._read(offset)
                offset += len(piece)
                await self._write(self._frame(piece))
            if end := self._frame(b""):
                await self._write(end)
        except BodyUnreadable as failed:
            self._reader.set_exception(failed)
        except OSError:
            return
        else:
            self.is_done = True
            self._moved()

    async def _write(self, wire: bytes) -> None:
        self._writer.write(wire)
        # Without a deadline of its own: the reader has one, and looks at moved_at.
        await self._writer.drain()
        self.sent_bytes += len(wire)
        self.moved_at = self._loop.time()
        self._moved()

    async def _read(self, offset: int) -> bytes:
        size = min(PIECE_BYTES, len(self._body) - offset)
        try:
            piece = await self._body.read(size, offset)
        except Exception as failed:
            raise BodyUnreadable(f"request body at byte {offset}: {failed}") from failed
        if not 0 < len(piece) <= size:
            raise BodyUnreadable(f"request body has {offset} of {len(self._body)} bytes")
        return piece
