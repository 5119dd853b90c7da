"""Is a stretch of a file in the page cache? Then sending it does not wait for a disk.

cachestat(2) counts the pages of a stretch that are there: exact, and one call. It came with Linux
6.5 and answers only for files that are ours or that we may write. Elsewhere preadv2(2) with
RWF_NOWAIT, which answers EAGAIN where a page is missing, is asked for a byte in every PROBE_BYTES
and for the last: the kernel reads ahead and evicts in runs, and to ask for each page would cost as
much as sending it. A stretch that is not there is read once on a disk thread.
"""

import ctypes
import os
from concurrent.futures import Executor, Future
from typing import Final

from edge.http.body import Descriptor

PROBE_BYTES: Final = 128 * 1024
# One read of a disk thread.
READ_BYTES: Final = 256 * 1024
_CACHESTAT: Final = 451  # the same number on every architecture but alpha
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    *(ctypes.c_long, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint),
)


class Residency:
    """What listeners ask before sendfile. loads counts the stretches that a disk thread read."""

    def __init__(self, disk_threads: Executor) -> None:
        self._threads = disk_threads
        self.loads = 0
        # struct cachestat_range and struct cachestat, used for one call at a time.
        self._range = (ctypes.c_uint64 * 2)()
        self._counts = (ctypes.c_uint64 * 5)()
        self._range_at = ctypes.addressof(self._range)
        self._counts_at = ctypes.addressof(self._counts)

    def is_resident(self, file: Descriptor, start: int, stop: int) -> bool:
        """False also where the file ends before stop, or cannot be read: loading it will tell."""
        first = start // _PAGE
        self._range[0] = first * _PAGE
        self._range[1] = stop - first * _PAGE
        if _syscall(_CACHESTAT, file.fd, self._range_at, self._counts_at, 0) == 0:
            return self._counts[0] >= (stop - 1) // _PAGE + 1 - first
        return _seems_resident(file, start, stop)

    def load(self, file: Descriptor, start: int, stop: int) -> "Future[None]":
        """Bring a stretch into the page cache. The future raises OSError when the disk fails."""
        self.loads += 1
        return self._threads.submit(_read, file, start, stop)


def _seems_resident(file: Descriptor, start: int, stop: int) -> bool:
    byte = bytearray(1)
    try:
        for at in (*range(start, stop, PROBE_BYTES), stop - 1):
            if os.preadv(file.fd, (byte,), at, os.RWF_NOWAIT) != 1:
                return False
    except OSError:
        return False
    return True


def _read(file: Descriptor, start: int, stop: int) -> None:
    room = bytearray(min(READ_BYTES, stop - start))
    while start < stop:
        read = os.preadv(file.fd, (memoryview(room)[: stop - start],), start)
        if read == 0:
            return  # the file ends here: sendfile says so
        start += read
