"""An entry that is open for reading: its description, and a descriptor of its file."""

import os
from types import TracebackType
from typing import Final, Self

import xxhash

from cache import files
from cache.entry import Entry
from cache.errors import DamagedEntry

_CHUNK: Final = 262_144


class StoredFile:
    """Owns fd until close(). The body is length bytes from body_offset on.

    The file is immutable and stays readable while it is open, whatever happens to its name.
    is_verified: the body is known to match its hash, or was written since this process began.
    """

    __slots__ = ("body_offset", "entry", "fd", "is_verified")

    def __init__(self, entry: Entry, fd: int, body_offset: int, *, is_verified: bool) -> None:
        self.entry = entry
        self.fd = fd
        self.body_offset = body_offset
        self.is_verified = is_verified

    @property
    def length(self) -> int:
        return self.entry.length

    def duplicate(self) -> "StoredFile":
        """Another owner of the same file: one for each request that landed on one flight."""
        return StoredFile(
            self.entry, os.dup(self.fd), self.body_offset, is_verified=self.is_verified
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
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def hash_body(fd: int, offset: int, length: int) -> bytes:
    """xxh3-128 of length bytes from offset; of fewer where the file ends early."""
    hashed = xxhash.xxh3_128()
    at, end = offset, offset + length
    while at < end and (part := files.read_at(fd, min(_CHUNK, end - at), at)):
        hashed.update(part)
        at += len(part)
    return hashed.digest()
