"""Asks a FastCGI host what it can do, to see whether it can do anything.

No script runs, so nothing depends on a path or a database; but a process of the application must be
free to answer (php-fpm reads a connection only when a worker has it), so one whose workers all hang
is found. The connection is closed at once: php-fpm would keep a worker on it.
"""

import asyncio

from edge.origin.address import Address
from edge.origin.connect import open_stream
from edge.origin.fastcgi.values import AnswerReader, build_question
from edge.origin.names import Names

READ_BYTES = 4096


class ValuesCheck:
    """A Check. timeout_s is for the connect alone; whoever calls bounds all of it."""

    def __init__(self, names: Names, timeout_s: float) -> None:
        self._names = names
        self._timeout_s = timeout_s

    async def is_well(self, address: Address) -> bool:
        """True for an answer, also for the one that GET_VALUES is not known there: it speaks
        FastCGI. Raises OriginError."""
        reader, writer = await open_stream(address, self._timeout_s, self._names)
        try:
            writer.write(build_question())
            return await _has_answer(reader)
        except OSError:
            return False
        finally:
            writer.transport.abort()

    async def aclose(self) -> None:
        await self._names.aclose()


async def _has_answer(reader: asyncio.StreamReader) -> bool:
    answer = AnswerReader()
    while data := await reader.read(READ_BYTES):
        if answer.receive_data(data) is not None:
            return True
    answer.receive_eof()
    return False
