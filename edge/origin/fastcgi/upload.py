"""STDIN of one request, sent piece by piece while the answer is already read.

An application may answer before it has taken everything, and may stop taking until its answer is
read; with one task for each direction neither waits for the other.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from edge.origin.connect import Stream
from edge.origin.errors import BodyUnreadable
from edge.origin.fastcgi.records import MAX_ALIGNED_BYTES, Record, RecordType
from edge.origin.messages import RequestBody

_PIECE_BYTES: Final = MAX_ALIGNED_BYTES


class Upload:
    """Owns one task. moved_at says when the application last took something; moved() is told of
    it, and of the end.

    A body that cannot be read is told to whoever reads the answer, as BodyUnreadable. A connection
    that is lost is not: the reader finds that out, and may find an answer before it.
    """

    def __init__(
        self, stream: Stream, request_id: int, body: RequestBody, moved: Callable[[], None]
    ) -> None:
        self._reader, self._writer = stream
        self._request_id = request_id
        self._body = body
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self.moved_at = self._loop.time()
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
                await self._write(piece)
            await self._write(b"")
            self.is_done = True
            self._moved()
        except BodyUnreadable as failed:
            self._reader.set_exception(failed)
        except OSError:
            return

    async def _read(self, offset: int) -> bytes:
        size = min(_PIECE_BYTES, len(self._body) - offset)
        try:
            piece = await self._body.read(size, offset)
        except Exception as failed:
            raise BodyUnreadable(f"request body at byte {offset}: {failed}") from failed
        if not 0 < len(piece) <= size:
            raise BodyUnreadable(f"request body has {offset} of {len(self._body)} bytes")
        return piece

    async def _write(self, piece: bytes) -> None:
        self._writer.write(Record(RecordType.STDIN, self._request_id, piece).build())
        # Without a deadline of its own: the reader has one, and looks at moved_at.
        await self._writer.drain()
        self.moved_at = self._loop.time()
        self._moved()
