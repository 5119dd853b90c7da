"""A picture's header, read without ever waiting for a disk."""

import os
from typing import Final

from resizer.cost import Header, maybe_header

# In one system call: a camera's EXIF data, with its own thumbnail, and what stands behind.
_FIRST_BYTES: Final = 16 * 1024


def maybe_header_at(descriptor: int, offset: int, length: int | None) -> Header | None:
    """The claims of the picture at offset; None where its pages are not in memory (RWF_NOWAIT,
    preadv2(2)), where the file system cannot tell, and where there is no header of ours.
    """
    first = b""

    def read(at: int, size: int) -> bytes:
        nonlocal first
        if at + size > _FIRST_BYTES:
            return read_at(at, size)
        first = first or read_at(0, _FIRST_BYTES)
        return first[at : at + size]

    def read_at(at: int, size: int) -> bytes:
        if length is not None:
            size = min(size, length - at)
        if size <= 0:
            return b""
        data = bytearray(size)
        try:
            got = os.preadv(descriptor, [data], offset + at, os.RWF_NOWAIT)
        except OSError:
            return b""
        return bytes(data[:got])

    return maybe_header(read)


def size_of(descriptor: int, offset: int, length: int | None) -> int:
    """Bytes from offset on; 0 for what cannot be asked."""
    if length is not None:
        return length
    try:
        return max(0, os.fstat(descriptor).st_size - offset)
    except OSError:
        return 0
