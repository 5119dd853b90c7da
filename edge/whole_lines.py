"""How much of a log one write(2) takes, where other processes append to the same file or pipe.

A write to a file opened with O_APPEND goes behind what is there in one step (POSIX.1-2017, write(),
"no intervening file modification operation"). A write to a pipe is whole up to PIPE_BUF bytes, also
without waiting; a longer one may stop in the middle and let another process's line in. So lines
stay whole as long as each write ends with one. Two cases remain: a single line above PIPE_BUF into
a pipe, and the line that a full disk cuts.
"""

import os
import select
import stat


def whole_lines(data: bytes, fd: int, limit: int) -> memoryview:
    """The lines to write first: as many as fit, at least one however long it is."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        limit = min(limit, select.PIPE_BUF)
    if len(data) <= limit:
        return memoryview(data)
    end = data.rfind(b"\n", 0, limit) + 1 or data.find(b"\n", limit) + 1 or len(data)
    return memoryview(data)[:end]
