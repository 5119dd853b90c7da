"""What Store needs of the disk tier: a Disk (disk.py) is one folder of it, Folders are several."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cache.disk import Stats
from cache.entry import Entry
from cache.fill import Fill
from cache.index.interface import Token
from cache.key import Key
from cache.room import Kind
from cache.stored import StoredFile


class Taken(Protocol):
    """How much is taken, of what: room.Room, or the sum of several."""

    @property
    def size(self) -> int: ...

    @property
    def inodes(self) -> int: ...

    @property
    def used(self) -> int: ...

    @property
    def used_inodes(self) -> int: ...

    @property
    def largest(self) -> int: ...

    @property
    def fits(self) -> bool: ...

    def used_by(self, kind: Kind) -> int: ...

    def evicted(self, kind: Kind) -> int: ...


class DiskTier(Protocol):
    """The contracts stand in cache/disk.py."""

    on_evict: Callable[[Sequence[Entry]], None]

    @property
    def room(self) -> Taken: ...

    @property
    def stats(self) -> Stats: ...

    def may_hold(self, digest: bytes) -> bool: ...

    def open(self, key: Key) -> StoredFile | None: ...

    def touch(self, digest: bytes) -> None: ...

    def verify(self, stored: StoredFile) -> bool: ...

    def reserve(self, draft: Entry, expected_bytes: int) -> Fill: ...

    def remove_older(self, digest: bytes, token: Token) -> bool: ...

    def scan(self) -> Iterator[int]: ...

    def close(self) -> None: ...
