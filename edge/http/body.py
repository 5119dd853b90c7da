"""Bodies as slices: bytes in memory, or a stretch of an open file. A range is then arithmetic.

A body that is still on its way is a Growing: one writer appends to files, readers follow at their
own pace, each with a Stretch of its own. The files are the buffer; nothing is held in memory.
"""

import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

# The length of a body whose end nobody knows yet.
UNKNOWN_LENGTH: Final = -1


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


@dataclass(slots=True)
class _Section:
    """Bytes of a body from begin on, which stand in file from start on."""

    begin: int
    file: Descriptor
    start: int


class Growing:
    """A body on its way. length is what was announced, or UNKNOWN_LENGTH; size is what is there.
    is_live: it is made while it is read, and may never end.

    Everything here belongs to the loop's thread, but for the end of a reader's life, which comes
    where its last reference goes.
    """

    __slots__ = (
        "_readers", "_sections", "_waiting", "has_ended", "has_failed", "is_live", "length",
        "on_left", "on_read", "size",
    )  # fmt: skip

    def __init__(self, length: int = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.size = 0
        self.has_ended = False
        self.has_failed = False
        self.is_live = False
        # For the writer: a reader went on, or is gone; one is about to be gone.
        self.on_read: Callable[[], object] | None = None
        self.on_left: Callable[[], object] | None = None
        self._sections: deque[_Section] = deque()
        self._waiting: list[Callable[[], object]] = []
        self._readers: weakref.WeakSet[Stretch] = weakref.WeakSet()

    # The writer

    def go_on_in(self, file: Descriptor, start: int) -> None:
        """What comes from here on stands in another file, from start on."""
        self._sections.append(_Section(self.size, file, start))

    def move_to(self, file: Descriptor) -> None:
        """The last file has become this one, with the same bytes at the same places."""
        self._sections[-1].file = file

    def grow(self, count: int) -> None:
        """So many bytes more are there."""
        self.size += count
        self._wake()

    def end(self) -> None:
        """All of it is there."""
        assert self.length in (UNKNOWN_LENGTH, self.size)
        self.length = self.size
        self.has_ended = True
        self._wake()

    def fail(self) -> None:
        """The rest will not come: nobody may take what is there for the whole."""
        self.has_failed = not self.has_ended
        self._wake()

    @property
    def has_readers(self) -> bool:
        return len(self._readers) > 0

    @property
    def unread(self) -> int:
        """Bytes that the slowest reader has not sent on yet."""
        return self.size - self._floor()

    def drop_read(self) -> None:
        """Let go of files that every reader has behind it; no reader may begin after that."""
        floor = self._floor()
        while len(self._sections) > 1 and self._sections[1].begin <= floor:
            self._sections.popleft()

    def _floor(self) -> int:
        return min((reader.sent for reader in self._readers), default=self.size)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    # Readers

    @property
    def is_whole(self) -> bool:
        """Whether its first byte can still be had."""
        return not self._sections or self._sections[0].begin == 0

    def read(self) -> "Stretch":
        assert self.is_whole
        return Stretch(self, 0, None)

    def slices(self, at: int, stop: int) -> FileSlice:
        """Bytes from at on, up to stop, as far as one file has them."""
        found = self._sections[0]
        for section in self._sections:
            if section.begin > at:
                stop = min(stop, section.begin)
                break
            found = section
        offset = found.start - found.begin
        return FileSlice(found.file, offset + at, offset + stop)

    def _follow(self, reader: "Stretch") -> None:
        self._readers.add(reader)

    def _unfollow(self, reader: "Stretch") -> None:
        self._readers.discard(reader)
        self._has_left()

    def _wait(self, wake: Callable[[], object]) -> None:
        self._waiting.append(wake)

    def _has_read(self) -> None:
        if self.on_read is not None:
            self.on_read()

    def _has_left(self) -> None:
        self._has_read()
        if (on_left := self.on_left) is not None:
            on_left()


class Stretch:
    """One reader's place in a growing body; it takes the bytes piece by piece.

    stop None: to the end, wherever that is. sent: what comes before it has left, which is so once
    the next piece is taken. is_chunked: pieces are framed as RFC 9112 section 7.1 wants, and
    last_chunk is asked for their end, where it is not the plain one.
    """

    __slots__ = (
        "__weakref__", "_at", "_body", "_is_closed", "_stop", "is_chunked", "last_chunk", "sent",
    )  # fmt: skip

    def __init__(self, body: Growing, first: int, stop: int | None) -> None:
        self.sent = self._at = first
        self._body = body
        self._stop = stop
        self.is_chunked = False
        self.last_chunk: Callable[[], bytes] | None = None
        self._is_closed = False  # the last chunk was taken
        body._follow(self)

    def __len__(self) -> int:
        """What is still to come; where nobody knows, as much as there can be."""
        if self._stop is not None:
            return self._stop - self._at
        return sys.maxsize if self._body.length == UNKNOWN_LENGTH else self._body.length - self._at

    def part(self, first: int, last: int) -> "Stretch":
        """Bytes first to last (both inclusive), of a body whose length is known."""
        assert 0 <= first <= last < self._body.length
        return Stretch(self._body, first, last + 1)

    @property
    def is_done(self) -> bool:
        """Nothing is left to take."""
        if self._stop is not None:
            return self._at == self._stop
        is_at_end = self._body.has_ended and self._at == self._body.size
        return is_at_end and (self._is_closed or not self.is_chunked)

    @property
    def is_live(self) -> bool:
        return self._body.is_live

    @property
    def has_failed(self) -> bool:
        """What is left will never come."""
        return self._body.has_failed and not self.is_done

    def take(self, most: int) -> Sequence[bytes | FileSlice]:
        """The next bytes, at most so many without their framing; none where none are there.

        Whoever takes has sent what was taken before.
        """
        body, at = self._body, self._at
        self.sent = at
        stop = min(at + most, body.size)
        if self._stop is not None:
            stop = min(stop, self._stop)
        body._has_read()
        if at < stop:
            piece = body.slices(at, stop)
            self._at += len(piece)
            return (b"%x\r\n" % len(piece), piece, b"\r\n") if self.is_chunked else (piece,)
        if self.is_chunked and body.has_ended and not self._is_closed:
            self._is_closed = True
            return (b"0\r\n\r\n" if self.last_chunk is None else self.last_chunk(),)
        return ()

    def wait(self, wake: Callable[[], object]) -> None:
        """Have wake called when there is more, or the end, or none to come; at once if that is so
        already."""
        if self._at < self._body.size or self._body.has_ended or self._body.has_failed:
            wake()
        else:
            self._body._wait(wake)

    def leave(self) -> None:
        """Nothing more is taken. For who is sure of it: the last reference may be in a traceback,
        and go with the collector only."""
        self._body._unfollow(self)

    def __del__(self) -> None:
        self._body._has_left()
