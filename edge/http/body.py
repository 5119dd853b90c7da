"""Bodies as slices: bytes in memory, or a stretch of an open file. A range is then arithmetic."""

import os
from dataclasses import dataclass


class Descriptor:
    """An open file, closed with its last reference.

    Several responses may be sending from one descriptor while the cache has already unlinked the
    file; whoever finishes last closes it. Reference counting says exactly when that is.
    """

    __slots__ = ("fd", "resident_at", "resident_from", "resident_to")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # This stretch was in the page cache in that second; see edge/residency.py.
        self.resident_from = self.resident_to = 0
        self.resident_at = -1

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Bytes start to stop (exclusive) of an open file."""

    file: Descriptor
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, first: int, last: int) -> "FileSlice":
        """Bytes first to last (both inclusive, as in Content-Range), counted from start."""
        assert 0 <= first <= last < len(self)
        return FileSlice(self.file, self.start + first, self.start + last + 1)
