"""An entry that is open for reading: its description, and a descriptor of its file."""

import os
import stat
from types import TracebackType
from typing import Final, Protocol, Self

import xxhash

from cache import files
from cache.entry import Entry, stored_head_size, unpack
from cache.errors import DamagedEntry, DiskFailed
from cache.room import BLOCK

# Read in one piece where a whole body is read only to be hashed.
CHUNK: Final = 262_144


class Keeper(Protocol):
    """Whose file it is: cache.disk.Disk is one."""

    def verify(self, stored: "StoredFile") -> bool: ...


class StoredFile:
    """Owns fd until close(). The body is length bytes from body_offset on.

    The file is immutable and stays readable while it is open, whatever happens to its name.
    is_verified: the body is known to match its hash, or was written since this process began.
    keeper: whose folder it was found in, None for what was written just now.
    """

    __slots__ = ("body_offset", "entry", "fd", "is_verified", "keeper")

    def __init__(
        self,
        entry: Entry,
        fd: int,
        body_offset: int,
        *,
        is_verified: bool,
        keeper: Keeper | None = None,
    ) -> None:
        self.entry = entry
        self.fd = fd
        self.body_offset = body_offset
        self.is_verified = is_verified
        self.keeper = keeper

    @property
    def length(self) -> int:
        return self.entry.length

    def duplicate(self) -> "StoredFile":
        """Another owner of the same file: one for each request that landed on one flight.

        Raises DiskFailed where descriptors have run out."""
        try:
            fd = files.duplicate(self.fd)
        except OSError as error:
            raise DiskFailed(f"opening a file again: {error.strerror}") from error
        return StoredFile(
            self.entry, fd, self.body_offset, is_verified=self.is_verified, keeper=self.keeper
        )

    def read(self) -> bytes:
        """The whole body. Raises DamagedEntry when it cannot be had in full."""
        parts = []
        at, end = self.body_offset, self.body_offset + self.length
        try:
            while at < end and (part := files.read_at(self.fd, end - at, at)):
                parts.append(part)
                at += len(part)
        except OSError as error:
            raise DamagedEntry(f"reading a body: {error.strerror}") from error
        if at < end:
            raise DamagedEntry(f"body ends {end - at} bytes early")
        return b"".join(parts)

    def close(self) -> None:
        """Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            files.close_quietly(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def read_entry(fd: int) -> tuple[Entry, int, os.stat_result]:
    """What an open file says of itself, where its body starts, and its status.

    Raises OSError; DamagedEntry for what is no whole file of ours, its body not looked at;
    NewerEntry for one of a later version.
    """
    status = files.status(fd)
    if not stat.S_ISREG(status.st_mode):
        raise DamagedEntry("not a regular file")
    # One block holds nearly every head, and usually the whole of a small thumbnail.
    head = files.read_at(fd, BLOCK, 0)
    offset = stored_head_size(head)
    if offset > len(head):
        head = files.read_at(fd, offset, 0)
    entry = unpack(head)
    if status.st_size - offset != entry.length:
        raise DamagedEntry(f"file is {status.st_size} bytes, not {offset + entry.length}")
    return entry, offset, status


def hash_body(fd: int, offset: int, length: int) -> bytes:
    """xxh3-128 of length bytes from offset; of fewer where the file ends early."""
    hashed = xxhash.xxh3_128()
    at, end = offset, offset + length
    while at < end and (part := files.read_at(fd, min(CHUNK, end - at), at)):
        hashed.update(part)
        at += len(part)
    return hashed.digest()
