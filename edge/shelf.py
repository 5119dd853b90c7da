"""Representations at hand: in memory, in a file that is open, in a small file that is resident.

What is asked for here is answered inside the readable callback, so nothing here waits for a disk
but remember(), which reads what is small on a disk thread.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from cache.errors import DamagedEntry
from cache.key import Key
from cache.memory import Memory
from edge.http.body import FileSlice
from edge.open_files import OpenFiles
from edge.representation import Representation
from edge.route import Route
from edge.site import Site
from edge.source import Source

# Files kept open for what is too large for memory: a small part of what a process may open.
MAX_OPEN_FILES: Final = 32


def _ignore(digest: bytes) -> None:
    del digest


class Shelf:
    def __init__(
        self,
        memory: Memory[Representation],
        disk_threads: Executor,
        touch: Callable[[bytes], None] = _ignore,
    ) -> None:
        """touch is told of hits, by digest; it must not wait."""
        self._memory = memory
        self._touch = touch
        self._threads = disk_threads
        self.files = OpenFiles(MAX_OPEN_FILES)

    def in_memory(self, source: Source, key: Key) -> Representation | None:
        representation = self._memory.get(key.digest)
        return representation if _holds(representation, source) else None

    def in_open_file(self, source: Source, key: Key) -> Representation | None:
        representation = self.files.get(key.digest)
        return representation if _holds(representation, source) else None

    def has(self, key: Key) -> bool:
        """In memory or in an open file, whatever version."""
        return key.digest in self._memory or key.digest in self.files

    def drop(self, key: Key) -> None:
        """What was purged; without this it would stay unused until it is evicted."""
        self._memory.remove(key.digest)
        self.files.remove(key.digest)

    def touch(self, source: Source, key: Key) -> None:
        """A hit that asked no disk. Told to the disk tier, or it would evict what is asked for most
        as if nobody wanted it."""
        if key.variant or source.file is None:  # a docroot's originals are not in there
            self._touch(key.digest)

    @property
    def most_bytes(self) -> int:
        """Of what is small."""
        return self._memory.cut_off

    def is_small_file(self, route: Route, source: Source) -> bool:
        """An original of the docroot that may be read on the loop, when its pages are resident."""
        file = source.file
        return (
            file is not None
            and route.is_original
            and 0 < file.size <= self._memory.cut_off
            and source.record.media_type != "image/svg+xml"  # has fields of its own
        )

    def read_small_file(self, site: Site, source: Source) -> Representation | None:
        """A small docroot file, if its pages are resident; see Docroot.read_now().

        It is not put into memory: the kernel has it there, and ready.py keeps what is hot.
        """
        if source.file is None or site.docroot is None:
            return None
        data = site.docroot.read_now(source.id.path, source.file)
        if data is None:
            return None
        record = source.record
        return Representation(
            validator=record.validator,
            etag=record.etag,
            last_modified=record.last_modified,
            media_type=record.media_type,
            body=data,
        )

    async def remember(self, key: Key, representation: Representation) -> None:
        """Keep it in memory where it is small enough to be worth it, else its file open.

        Raises DamagedEntry, OSError.
        """
        body = representation.body
        if len(body) > self._memory.cut_off:
            self.files.put(key.digest, representation)
            return
        if isinstance(body, FileSlice):
            piece = body
            representation.body = await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: read_exactly(piece.file.fd, piece.start, len(piece))
            )
        self._memory.put(key.digest, representation, len(body))


def _holds(representation: Representation | None, source: Source) -> bool:
    if representation is None or representation.validator != source.record.validator:
        return False
    token = source.opened.token
    # Usually the same object; another one that is equal comes of asking the index again.
    return representation.token is token or representation.token == token


def read_exactly(fd: int, offset: int, length: int) -> bytes:
    """Raises DamagedEntry for a file that was cut off behind our back: nothing can be sent as what
    its head says."""
    data = os.pread(fd, length, offset)
    if len(data) != length:
        raise DamagedEntry(f"file ends {length - len(data)} bytes early")
    return data


def read_now(fd: int, offset: int, length: int) -> bytes | None:
    """read_exactly() if it waits for no disk; None otherwise, and where the file is shorter."""
    data = bytearray(length)
    try:
        if os.preadv(fd, (data,), offset, os.RWF_NOWAIT) != length:
            return None
    except OSError:
        return None
    return bytes(data)
