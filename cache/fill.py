"""A body on its way into the disk tier.

    with store.reserve(draft, expected) as fill:        # abort() at the end, whatever happens
        ... the body is written to fill.fd, from fill.body_offset on ...
        try:
            stored = fill.commit(entry)
        except NotStored:
            stored = fill.detach(entry)                 # bytes for this request, no trace on disk

Order of effects: length check, hash, head, [sync,] [compare-and-set in the index], rename,
accounting [, sync of the folder]. A
step that fails removes the temp file's name and gives the claim back; the descriptor stays open
until abort() or detach(), since the bytes may still be served once.
"""

import enum
import errno
import os
import threading
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cache import files
from cache.entry import NO_HASH, Entry, pack
from cache.errors import DamagedEntry, DiskFailed, DoesNotFit, NoSpace, NotStored
from cache.room import Room, allocated, kind_of
from cache.stored import StoredFile, hash_body

if TYPE_CHECKING:
    from cache.disk import Disk

# A body up to this size is written with its head, in one system call; a larger one is not copied.
_JOINED: Final = 256 * 1024

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class State(enum.Enum):
    OPEN = "open"  # the body is being written
    SEALED = "sealed"  # head and body are complete, the name is still a temp name
    WITHDRAWN = "withdrawn"  # no name; the bytes are still readable
    ENDED = "ended"  # nothing is left to do: committed, detached or aborted


def not_stored(error: OSError, doing: str) -> NotStored:
    """What a failed system call means to a fill."""
    kind = NoSpace if error.errno in FULL else DiskFailed
    return kind(f"{doing}: {os.strerror(error.errno or 0)}")


class Fill:
    """Made by Disk.reserve(). fd stands at body_offset; writing moves it, or use write()."""

    def __init__(
        self,
        disk: "Disk",
        room: Room,
        draft: Entry,
        fd: int,
        name: str,
        claim: int,
        body_offset: int,
    ) -> None:
        self.draft = draft
        self.fd = fd
        self.body_offset = body_offset
        self.state = State.OPEN
        self._disk = disk
        self._room = room  # that the claim is in: the disk may have begun another one since
        self._name = name
        self._claim = claim
        self._written = 0
        # A stop may abort while a disk thread commits; whoever comes second waits.
        self._lock = threading.RLock()
        self._entry: Entry | None = None

    def write(self, data: bytes) -> None:
        """Append to the body. Raises NotStored, also when more comes than was expected and there is
        no room for it."""
        with self._lock:
            assert self.state is State.OPEN
            needed = allocated(self.body_offset + self._written + len(data))
            if needed > self._claim:
                self._claim_more(needed)
            try:
                files.write_all_at(self.fd, data, self.body_offset + self._written)
            except OSError as error:
                raise self._withdrawn(error, "writing a body") from error
            self._written += len(data)

    def seal(self, entry: Entry) -> Entry:
        """Complete the temp file: check the length, hash the body, write the head.

        Returns the entry as written. Raises NotStored; DamagedEntry when the body's length is not
        entry.length.
        """
        with self._lock:
            assert self.state is State.OPEN
            assert entry.key == self.draft.key
            try:
                self._check_length(entry)
                if entry.body_hash == NO_HASH:
                    hashed = hash_body(self.fd, self.body_offset, entry.length)
                    entry = replace(entry, body_hash=hashed)
                files.write_all_at(self.fd, pack(entry, self.body_offset), 0)
                if self._disk.durability.syncs_files:
                    files.sync_data(self.fd)
            except OSError as error:
                raise self._withdrawn(error, "completing a file") from error
            except (DamagedEntry, DoesNotFit):
                self.withdraw()
                raise
            self._entry = entry
            self.state = State.SEALED
            return entry

    def put(self, entry: Entry, body: bytes) -> None:
        """write() and seal() of a body that is at hand with its hash. Raises NotStored."""
        with self._lock:
            assert self.state is State.OPEN
            assert entry.key == self.draft.key
            assert entry.length == len(body)
            assert entry.body_hash != NO_HASH
            assert not self._written
            needed = allocated(self.body_offset + len(body))
            if needed > self._claim:
                self._claim_more(needed)
            try:
                head = pack(entry, self.body_offset)
                if len(body) <= _JOINED:
                    files.write_all_at(self.fd, head + body, 0)
                else:
                    files.write_all_at(self.fd, body, self.body_offset)
                    files.write_all_at(self.fd, head, 0)
                if self._disk.durability.syncs_files:
                    files.sync_data(self.fd)
            except OSError as error:
                raise self._withdrawn(error, "completing a file") from error
            except DoesNotFit:
                self.withdraw()
                raise
            self._written = len(body)
            self._entry = entry
            self.state = State.SEALED

    def publish(self) -> StoredFile:
        """Give a sealed file its name. Raises NotStored, also for a fill that was withdrawn by
        another thread since."""
        with self._lock:
            if self.state in (State.WITHDRAWN, State.ENDED):
                raise NotStored("the fill was given up")
            assert self.state is State.SEALED
            assert self._entry is not None
            size = allocated(self.body_offset + self._entry.length)
            try:
                self._disk.publish(self._name, self.fd, self._entry, self._room, self._claim, size)
            except OSError as error:
                raise self._withdrawn(error, "renaming a file") from error
            self.state = State.ENDED
            return self._hand_over(self._entry)

    def commit(self, entry: Entry) -> StoredFile:
        """seal() and publish(). The StoredFile owns the descriptor."""
        with self._lock:
            self.seal(entry)
            return self.publish()

    def withdraw(self) -> None:
        """Leave nothing on disk; the bytes stay readable here. No-op once published."""
        with self._lock:
            if self.state in (State.WITHDRAWN, State.ENDED):
                return
            self.state = State.WITHDRAWN
            self._disk.drop_temp(self._name)
            self._room.release(self._claim, kind_of(self.draft.key))

    def detach(self, entry: Entry) -> StoredFile:
        """The bytes without a name, to be served once. Raises DamagedEntry as seal() does, and
        DiskFailed when even that cannot be asked of the disk."""
        with self._lock:
            self.withdraw()
            assert self.state is State.WITHDRAWN
            try:
                self._check_length(entry)
            except OSError as error:
                raise not_stored(error, "reading a status") from error
            self.state = State.ENDED
            return self._hand_over(entry)

    def abort(self) -> None:
        """Leave nothing. Idempotent, and a no-op after commit() or detach()."""
        with self._lock:
            self.withdraw()
            self.state = State.ENDED
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
        self.abort()

    def _claim_more(self, needed: int) -> None:
        """Twice as much each time, so that a film of unknown length asks a dozen times."""
        larger = max(needed, min(2 * self._claim, self._disk.room.largest))
        try:
            self._room.extend(self._claim, larger, kind_of(self.draft.key))
            self._claim = larger
            self._disk.make_room()
        except NotStored:
            self.withdraw()
            raise

    def _check_length(self, entry: Entry) -> None:
        # Nothing written: the file ends before the place where a body would begin.
        found = max(0, files.status(self.fd).st_size - self.body_offset)
        if found != entry.length:
            raise DamagedEntry(f"body is {found} bytes, {entry.length} were announced")
        if allocated(self.body_offset + found) > self._room.largest and (self.state is State.OPEN):
            raise DoesNotFit(f"body of {found} bytes, at most {self._room.largest} are kept")

    def _withdrawn(self, error: OSError, doing: str) -> NotStored:
        self.withdraw()
        return self._disk.failed_write(error, doing)

    def _hand_over(self, entry: Entry) -> StoredFile:
        fd, self.fd = self.fd, -1
        return StoredFile(entry, fd, self.body_offset, is_verified=True)
