"""Watermarks: the files that sites name, and their bytes as they were at one moment.

A mark is copied into memory that is sealed (memfd_create(2), F_SEAL_WRITE) before its digest is
taken: the digest stands in keys and entity tags before anything is rendered, so the bytes that a
resizer reads must be the very ones, whatever happens to the file meanwhile.

A file is looked at again once a second at most, and only while it is asked for. One that is gone,
or too large, or being written answers MarkUnusable to what has to be rendered; its last bytes still
name what was made with them, so hits stay hits.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import stat
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from edge.clock import Clock
from edge.http.body import Descriptor
from resizer.errors import MarkUnusable
from resizer.job import MAX_MARK_BYTES
from resizer.transform import Transform

log = logging.getLogger("halftone.marks")

LOOK_TTL_S: Final = 1
# 128 bits, as in an entity tag.
_DIGEST_BYTES: Final = 16
# O_NOFOLLOW: what takes the file's place must be a file. O_NONBLOCK: a FIFO must not hold a thread.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

# What changes when a file is written or replaced: device, inode, size, modification, change.
Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """The bytes of a watermark. They cannot change."""

    path: str
    digest: str
    file: Descriptor
    identity: Identity


def variant_of(transform: Transform, mark: Mark | None) -> str:
    """The variant part of a key: the canonical transform, and which bytes its watermark had."""
    text = transform.canonical()
    return text if mark is None else f"{text},mark={mark.digest}"


@dataclass(slots=True)
class Stats:
    """Reads of a file; failed are those after which it could not be used."""

    read: int = 0
    failed: int = 0


class _Place:
    """What is known of one path."""

    __slots__ = ("fault", "fresh_until", "lock", "mark")

    def __init__(self) -> None:
        self.mark: Mark | None = None  # the last that could be used
        self.fault = ""  # why the file cannot be used now
        self.fresh_until = 0
        self.lock = asyncio.Lock()


class Marks:
    """Paths come from the configuration alone, which bounds them."""

    def __init__(self, clock: Clock, disk_threads: Executor) -> None:
        self._clock = clock
        self._threads = disk_threads
        self._places: dict[str, _Place] = {}
        self.stats = Stats()

    async def open(self, path: str) -> Mark:
        """The mark as it is, or as it was when it could last be used; check() tells which.

        Raises MarkUnusable where it never could.
        """
        place = self._places.setdefault(path, _Place())
        async with place.lock:
            if self._clock.wall >= place.fresh_until:
                await self._look(path, place)
        if place.mark is None:
            raise MarkUnusable(f"watermark {path}: {place.fault}")
        return place.mark

    async def _look(self, path: str, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        known = place.mark
        try:
            if (
                known is None
                or place.fault
                or not await loop.run_in_executor(self._threads, _is_same, known)
            ):
                place.mark = await loop.run_in_executor(self._threads, read_mark, path)
                self.stats.read += 1
            place.fault = ""
        except OSError as error:
            self.stats.failed += 1
            if not place.fault:
                log.warning("watermark %s cannot be used: %s", path, error.strerror)
            place.fault = str(error.strerror)
        place.fresh_until = self._clock.wall + LOOK_TTL_S

    def check(self, mark: Mark) -> None:
        """Before a render. Raises MarkUnusable where the file is not what it was any more."""
        fault = self._places[mark.path].fault
        if fault:
            raise MarkUnusable(f"watermark {mark.path}: {fault}")

    def is_current(self, mark: Mark) -> bool:
        """On the loop: a stat of a file that is known, once a second. False is no verdict, open()
        finds out."""
        place = self._places[mark.path]
        if place.mark is not mark:
            return False
        if self._clock.wall < place.fresh_until:
            return True
        if place.fault or not _is_same(mark):
            return False
        place.fresh_until = self._clock.wall + LOOK_TTL_S
        return True


def read_mark(path: str) -> Mark:
    """A regular file of at most MAX_MARK_BYTES, in sealed memory. Raises OSError.

    Blocks on the disk.
    """
    fd = os.open(path, _READ)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "it is not a regular file")
        if before.st_size > MAX_MARK_BYTES:
            raise OSError(0, f"{before.st_size} bytes are over {MAX_MARK_BYTES}")
        data = os.pread(fd, MAX_MARK_BYTES + 1, 0)
        # A writer that is at it now changes the file once more, and that is seen.
        if _identity(os.fstat(fd)) != _identity(before) or len(data) != before.st_size:
            raise OSError(0, "it is being written")
    finally:
        os.close(fd)
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    return Mark(path, digest, _sealed(data), _identity(before))


def _sealed(data: bytes) -> Descriptor:
    memory = Descriptor(os.memfd_create("mark", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(memory.fd, rest) :]
    fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, _SEALS)
    return memory


def _is_same(mark: Mark) -> bool:
    try:
        found = os.stat(mark.path, follow_symlinks=False)
    except OSError:
        return False
    return _identity(found) == mark.identity


def _identity(found: os.stat_result) -> Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
