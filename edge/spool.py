"""Bodies that are not kept: in a file without a name, in memory where the disk refuses.

Both are gone with the last reader of their descriptor, also when the process is killed. Memory is
bounded over all bodies; beyond it a body is refused, which is a 503 and no thrashing machine.
"""

import os
import threading
from typing import Final

from cache.errors import StoreBusy
from edge.http.body import Descriptor, FileSlice

# For a full disk or a folder that is gone: two originals of the usual limit, many photographs.
MEMORY_BYTES: Final = 64 * 1024 * 1024


class Spool:
    """folder is on the cache's disk. Bodies are written from disk threads, hence the lock."""

    def __init__(self, folder: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._free_bytes = memory_bytes
        self._lock = threading.Lock()

    def open(self) -> "SpooledBody":
        """Blocks on the disk. Raises OSError for want of descriptors only."""
        try:
            fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            # No such folder any more, no inode left, or a file system without O_TMPFILE.
            return SpooledBody(self, self.open_memory())
        return SpooledBody(self, Descriptor(fd))

    def open_memory(self) -> "_InMemory":
        return _InMemory(self, os.memfd_create("body", os.MFD_CLOEXEC))

    def claim(self, size: int) -> None:
        """For SpooledBody. Raises StoreBusy."""
        with self._lock:
            if size > self._free_bytes:
                raise StoreBusy(f"{size} bytes more do not fit the memory for unkept bodies")
            self._free_bytes -= size

    def release(self, size: int) -> None:
        with self._lock:
            self._free_bytes += size


class _InMemory(Descriptor):
    """Gives its claim back when the last reader lets go."""

    __slots__ = ("_spool", "claimed")

    def __init__(self, spool: Spool, fd: int) -> None:
        super().__init__(fd)
        self._spool = spool
        self.claimed = 0

    def grow(self, size: int) -> None:
        self._spool.claim(size)
        self.claimed += size

    def __del__(self) -> None:
        super().__del__()
        self._spool.release(self.claimed)


class SpooledBody:
    """One body while it arrives. One writer at a time."""

    def __init__(self, spool: Spool, file: Descriptor) -> None:
        self._spool = spool
        self._file = file
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def file(self) -> Descriptor:
        """Another one after a write that the disk refused."""
        return self._file

    def write(self, data: bytes) -> None:
        """Append; blocks on the disk. Raises StoreBusy when neither disk nor memory has room."""
        if not isinstance(self._file, _InMemory):
            try:
                _write_at(self._file.fd, data, self._length)
            except OSError:
                self._file = self._moved()
        if isinstance(self._file, _InMemory):
            self._file.grow(len(data))
            _write_at(self._file.fd, data, self._length)
        self._length += len(data)

    def slice(self) -> FileSlice:
        return FileSlice(self._file, 0, self._length)

    def _moved(self) -> _InMemory:
        """The same bytes in memory; what the disk took of the piece that failed is left behind."""
        memory = self._spool.open_memory()
        memory.grow(self._length)
        at = 0
        while at < self._length:
            count = os.sendfile(memory.fd, self._file.fd, at, self._length - at)
            if count == 0:
                raise StoreBusy(f"a body of {self._length} bytes ended at {at}")
            at += count
        return memory


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
