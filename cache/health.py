"""Whether a cache folder is to be relied on: errors of its disk in a row. Pure.

Reads and writes are counted apart, because a dead disk still reads what the kernel has in memory. A
name that is not there says nothing; neither does a full disk, nor a process without descriptors.
"""

import errno
from typing import Final

# In a row, as Apache Traffic Server counts them; one bad sector is not a lost disk.
MOST_IN_A_ROW: Final = 5
# The device or its server is gone, the file system has shut itself, or refuses this user.
LOST: Final = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV, errno.EREMOTEIO, errno.EUCLEAN),
        *(errno.ENOTCONN, errno.ESHUTDOWN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOMEDIUM),
        *(errno.EACCES, errno.EPERM),
    }
)


class Health:
    """Not locked: a count that two threads change at once is off by one, which harms nobody."""

    __slots__ = ("_reads", "_writes")

    def __init__(self) -> None:
        self._reads = 0
        self._writes = 0

    def read(self) -> None:
        """A file was read."""
        self._reads = 0

    def wrote(self) -> None:
        """A file got its name."""
        self._writes = 0

    def failed_reading(self, error: OSError) -> bool:
        """True when the folder is to be given up."""
        if error.errno not in LOST:
            return False
        self._reads += 1
        return self._reads >= MOST_IN_A_ROW

    def failed_writing(self, error: OSError) -> bool:
        """True when the folder is to be given up."""
        if error.errno not in LOST:
            return False
        self._writes += 1
        return self._writes >= MOST_IN_A_ROW

    def recovered(self) -> None:
        self._reads = self._writes = 0
