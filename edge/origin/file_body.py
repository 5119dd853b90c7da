"""A request's body in a file, as the spool leaves it. Reads block on the disk: on its threads."""

import asyncio
import os
from concurrent.futures import Executor

from edge.http.body import FileSlice


class FileBody:
    """A RequestBody. Reads at an offset of its own, so that two exchanges may read at once."""

    def __init__(self, part: FileSlice, threads: Executor) -> None:
        self._part = part
        self._threads = threads

    def __len__(self) -> int:
        return len(self._part)

    async def read(self, size: int, offset: int) -> bytes:
        size = min(size, len(self) - offset)
        part = self._part
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, os.pread, part.file.fd, size, part.start + offset
        )
