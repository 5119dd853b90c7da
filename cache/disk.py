"""The disk tier: immutable files that describe themselves, in a fan-out of two levels.

    ROOT/layout                 "halftone cache 1"
    ROOT/a/3f/a3f09c...         one entry, named by its key's digest: 16 x 256 folders
    ROOT/a/3f/.tmp-...          a fill that is not published yet

Every method may block on the disk and belongs in a disk thread. Publishing is a rename and removing
an unlink; each is one step with its accounting under the lock of that name (one of 16, by digest),
so a file is counted if and only if it is there. A name is unlinked because of what was read from
its file only while it still is that file: a newer one that took the name meanwhile stays.

Several processes may use one folder: files are whole before they have a name, and a temp file is
left alone while its owner lives. Each process bounds a part of the folder by an equal part of the
size. A file is counted by the process whose part its folder belongs to, and until that one has seen
it, in a later scan, by the process that made it; a little room may be counted twice, none is
forgotten for longer than it takes from one scan to the next.

A read that fails is a miss, never an error: what is damaged or cannot be read is unlinked; what
failed for want of descriptors or memory (EMFILE, ENOMEM ...) is left alone.
"""

import contextlib
import errno
import itertools
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cache import files
from cache.entry import ALIGNMENT, Entry, head_size, stored_head_size, unpack
from cache.errors import CacheError, DamagedEntry, DiskFailed, NoSpace, NotStored
from cache.fill import Fill, not_stored
from cache.gdsf import Victim
from cache.index.interface import Token
from cache.key import DIGEST_BYTES, Key
from cache.room import BLOCK, Room, allocated
from cache.stored import StoredFile, hash_body
from cache.temp import Owner, maybe_owner

LAYOUT: Final = "halftone cache 1\n"
# Entries that one fill evicts at most while there is room: about 2 ms of unlinking.
BATCH: Final = 64
# Batches for one fill when there is no room: 64 x 64 thumbnails make room for any original.
MAX_BATCHES: Final = 64
FOLDERS: Final = 16 * 256
# Whole scans of ours after which another process, that scans as often, has done so too.
LENT_SCANS: Final = 2
# Of these are remembered at 150 bytes each; older ones stay counted here until they are evicted.
MAX_LENT: Final = 262_144
_STRIPES: Final = 16
_LITTER: Final = 1024
# Says nothing about the file: the same read may succeed in a moment.
_PASSING: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ENOBUFS}
)


@dataclass(slots=True)
class Stats:
    """opens == hits + misses; misses count damaged files and read errors, too."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    read_errors: int = 0
    commits: int = 0
    no_space: int = 0
    write_errors: int = 0
    evicted: int = 0
    removed: int = 0
    swept: int = 0
    adopted: int = 0


def _ignore(entries: Sequence[Entry]) -> None:
    del entries


class Disk:
    """One folder, at most size bytes and inodes files. Raises DiskFailed when it cannot be used.

    part, of parts: this process among those that share the folder.
    """

    def __init__(self, root: str, size: int, inodes: int, *, part: int = 0, parts: int = 1) -> None:
        self.room = Room(max(size // parts, BLOCK), max(inodes // parts, 1))
        self.stats = Stats()
        # Told which entries are about to be unlinked for room; may block, must not raise.
        self.on_evict: Callable[[Sequence[Entry]], None] = _ignore
        self._owner = Owner.of_this_process()
        self._counter = itertools.count()
        self._names = tuple(threading.Lock() for _ in range(_STRIPES))
        self._litter: deque[str] = deque(maxlen=_LITTER)
        self._is_full = False
        self._part = part
        self._parts = parts
        # Files of others' parts that were made here, by the number of scans begun before.
        self._lent: deque[tuple[int, bytes]] = deque(maxlen=MAX_LENT)
        self._scans = 0
        # Files changed after this moment were written by a process that hashed what it wrote.
        self._started_ns = time.time_ns()
        self._verified: set[bytes] = set()
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            self._root = files.open_folder(root)
        except OSError as error:
            raise DiskFailed(f"cache folder {root}: {error.strerror}") from error
        try:
            self._check_layout(root)
        except BaseException:
            os.close(self._root)
            raise

    def close(self) -> None:
        """After the last call; open StoredFiles stay readable."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    # Reading

    def open(self, key: Key) -> StoredFile | None:
        """The entry of this key, checked but for its body; None is a miss."""
        digest = key.digest
        stored = self._open(digest, key)
        if stored is None:
            self.stats.misses += 1
            return None
        self.stats.hits += 1
        self.room.touch(digest)
        return stored

    def verify(self, stored: StoredFile) -> bool:
        """Compare the body with its hash, for the first use of a file after a start.

        False: it must not be served; it is closed and unlinked.
        """
        digest = stored.entry.key.digest
        try:
            found = hash_body(stored.fd, stored.body_offset, stored.length)
        except OSError as error:
            self._read_failed(digest, stored.fd, error)
        else:
            if found == stored.entry.body_hash:
                stored.is_verified = True
                self._verified.add(digest)
                return True
            self.stats.damaged += 1
            self._unlink(digest, stored.fd)
        stored.close()
        return False

    def _open(self, digest: bytes, key: Key | None) -> StoredFile | None:
        try:
            fd = files.open_read(_path(digest), self._root)
        except FileNotFoundError:
            return None
        except OSError as error:  # ELOOP: a symlink
            self._read_failed(digest, None, error)
            return None
        try:
            return self._describe(digest, key, fd)
        except DamagedEntry:
            self.stats.damaged += 1
            self._unlink(digest, fd)
        except OSError as error:
            self._read_failed(digest, fd, error)
        self.close_quietly(fd)
        return None

    def _describe(self, digest: bytes, key: Key | None, fd: int) -> StoredFile:
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
        if entry.key != key if key is not None else entry.key.digest != digest:
            raise DamagedEntry("file describes another key than its name")
        is_verified = status.st_ctime_ns > self._started_ns or digest in self._verified
        return StoredFile(entry, fd, offset, is_verified=is_verified)

    def _read_failed(self, digest: bytes, fd: int | None, error: OSError) -> None:
        self.stats.read_errors += 1
        if error.errno not in _PASSING:
            self._unlink(digest, fd)

    # Writing

    def reserve(self, draft: Entry, expected_bytes: int) -> Fill:
        """Room for an entry, and a temp file to write its body to. Evicts first.

        Raises DoesNotFit for what can never fit, NoSpace or DiskFailed for what the disk refuses.
        """
        head = head_size(draft)
        claim = allocated(head + expected_bytes)
        self.room.claim(claim)
        name = ""
        fd = -1
        try:
            self._sweep_litter()
            self.make_room()
            name = self._temp_name(draft.key.digest)
            fd = self._create(name)
            files.seek(fd, head)
            return Fill(self, draft, fd, name, claim)
        except BaseException as error:
            if fd >= 0:
                self.close_quietly(fd)
                self.drop_temp(name)
            self.room.release(claim)
            if isinstance(error, OSError):
                raise self.failed_write(error, "creating a file") from error
            raise

    def publish(self, temp_name: str, entry: Entry, claim: int, size: int) -> None:
        """For Fill: rename and count in one step. Raises OSError."""
        digest = entry.key.digest
        with self._name_lock(digest):
            files.rename(temp_name, _path(digest), self._root)
            self.room.settle(claim, digest, size, entry.cost_ms)
        self._verified.discard(digest)
        self.stats.commits += 1
        if not self._is_ours(_number(digest)):
            self._lent.append((self._scans, digest))

    def failed_write(self, error: OSError, doing: str) -> NotStored:
        """Count a failed write; what it means to its caller."""
        meaning = not_stored(error, doing)
        if isinstance(meaning, NoSpace):
            self.stats.no_space += 1
            self._is_full = error.errno != errno.EFBIG
        else:
            self.stats.write_errors += 1
        return meaning

    def drop_temp(self, name: str) -> None:
        """Unlink a temp file, later if not now."""
        try:
            files.unlink(name, self._root)
        except FileNotFoundError:
            pass
        except OSError:
            self._litter.append(name)

    def close_quietly(self, fd: int) -> None:
        """close(2) frees the descriptor even where it reports an error; nothing is left to do."""
        with contextlib.suppress(OSError):
            files.close(fd)

    def _create(self, name: str) -> int:
        try:
            return files.open_new(name, self._root)
        except FileNotFoundError:
            pass
        first, second, _ = name.split("/")
        for folder in (first, f"{first}/{second}"):
            with contextlib.suppress(FileExistsError):
                files.make_folder(folder, self._root)
        return files.open_new(name, self._root)

    def _temp_name(self, digest: bytes) -> str:
        return f"{_folder(digest)}/{self._owner.name(next(self._counter))}"

    def _sweep_litter(self) -> None:
        for _ in range(len(self._litter)):
            with contextlib.suppress(IndexError):  # another thread was faster
                self.drop_temp(self._litter.popleft())

    # Removing

    def remove_older(self, digest: bytes, token: Token) -> bool:
        """Unlink the entry if its token is older than the given one; True when it was."""
        with self._name_lock(digest):
            stored = self._open_locked(digest)
            if stored is None:
                return False
            with stored:
                if not stored.entry.token.is_older_than(token):
                    return False
                return self._unlink_locked(digest, stored.fd)

    def make_room(self) -> None:
        """Evict until what is claimed fits. Raises NoSpace."""
        if self._is_full:
            self._is_full = False
            self._evict(self.room.victims(BATCH, urgent=True))
        for _ in range(MAX_BATCHES):
            victims = self.room.victims(BATCH)
            self._evict(victims)
            if self.room.fits:
                return
        raise NoSpace(f"{self.room.used} of {self.room.size} bytes are taken by running fills")

    def _evict(self, victims: Sequence[Victim]) -> None:
        """Forget in the index, then unlink: a crash between leaves a file that is merely not
        listed. The other way round the index would list what is gone."""
        if not victims:
            return
        entries = []
        for victim in victims:
            stored = self._open(victim.key, None)
            if stored is not None:
                entries.append(stored.entry)
                stored.close()
        self.on_evict(entries)
        for victim in victims:
            with self._name_lock(victim.key):
                # A fill published this key again meanwhile, or the scan found the file: it stays.
                if victim.key in self.room:
                    continue
                if self._unlink_locked(victim.key, None):
                    self.stats.evicted += 1

    def _unlink(self, digest: bytes, fd: int | None) -> bool:
        with self._name_lock(digest):
            return self._unlink_locked(digest, fd)

    def _unlink_locked(self, digest: bytes, fd: int | None) -> bool:
        """Unlink the name if it is still the file of fd (any file, when fd is None)."""
        name = _path(digest)
        try:
            found = files.status_of(name, self._root)
            if fd is not None and not os.path.samestat(found, files.status(fd)):
                return False
            if stat.S_ISDIR(found.st_mode):
                files.remove_folder(name, self._root)
            else:
                files.unlink(name, self._root)
        except FileNotFoundError:
            self.room.remove(digest)
            return False
        except OSError:
            # It stays on disk and must stay counted, so that eviction tries again later.
            self.stats.write_errors += 1
            if digest not in self.room:
                self.room.adopt(digest, BLOCK, 0)
            return False
        self.room.remove(digest)
        self._verified.discard(digest)
        self.stats.removed += 1
        return True

    def _open_locked(self, digest: bytes) -> StoredFile | None:
        """As _open(), for a caller that holds the name's lock: damage is left for others."""
        try:
            fd = files.open_read(_path(digest), self._root)
        except OSError:
            return None
        try:
            return self._describe(digest, None, fd)
        except (DamagedEntry, OSError):
            self.close_quietly(fd)
            return None

    def _name_lock(self, digest: bytes) -> threading.Lock:
        return self._names[digest[-1] % _STRIPES]

    # Starting

    def scan(self) -> Iterator[int]:
        """Count what is on disk, a folder at a time; yields the files looked at in each.

        The tier works meanwhile, with too low a count: it may take in more than it should until
        the scan has caught up, and evicts then. Sweeps temp files whose owner is dead. Again and
        again where the folder is shared: others' files are found like this.
        """
        self._scans += 1
        self._give_back()
        for number in filter(self._is_ours, range(FOLDERS)):
            folder = f"{number >> 8:x}/{number & 0xFF:02x}"
            names = self._list(folder)
            if not names:
                continue
            for name in names:
                self._examine(folder, name)
            for _ in range(MAX_BATCHES):
                if self.room.fits:
                    break
                self._evict(self.room.victims(BATCH))
            yield len(names)

    def _is_ours(self, number: int) -> bool:
        return number % self._parts == self._part

    def _give_back(self) -> None:
        """Files that the process whose part they are in has met by now, or removed."""
        while self._lent and self._lent[0][0] < self._scans - LENT_SCANS:
            _, digest = self._lent.popleft()
            with self._name_lock(digest):
                self.room.remove(digest)

    def _list(self, folder: str) -> list[str]:
        try:
            return list(files.list_folder(folder, self._root))
        except FileNotFoundError:
            return []
        except OSError:
            self.stats.read_errors += 1
            return []

    def _examine(self, folder: str, name: str) -> None:
        owner = maybe_owner(name)
        if owner is not None:
            if owner.is_dead(self._owner.boot):
                self.drop_temp(f"{folder}/{name}")
                self.stats.swept += 1
            return
        digest = _maybe_digest(name)
        if digest is None or _folder(digest) != folder or digest in self.room:
            return
        stored = self._open(digest, None)  # unlinks what is damaged
        if stored is None:
            return
        with stored, self._name_lock(digest):
            # Evicted, replaced or committed since it was opened: then whoever did it has counted.
            if digest in self.room or not self._is_named(digest, stored.fd):
                return
            self.room.adopt(
                digest, allocated(stored.body_offset + stored.length), stored.entry.cost_ms
            )
            self.stats.adopted += 1

    def _is_named(self, digest: bytes, fd: int) -> bool:
        try:
            return os.path.samestat(files.status_of(_path(digest), self._root), files.status(fd))
        except OSError:
            return False

    def _check_layout(self, root: str) -> None:
        try:
            fd = files.open_read("layout", self._root)
        except FileNotFoundError:
            self._write_layout(root)
            return
        except OSError as error:
            raise DiskFailed(f"{root}/layout: {error.strerror}") from error
        try:
            found = files.read_at(fd, ALIGNMENT, 0)
        except OSError as error:
            raise DiskFailed(f"{root}/layout: {error.strerror}") from error
        finally:
            self.close_quietly(fd)
        if found != LAYOUT.encode():
            raise CacheError(f"{root} holds another cache layout; empty it or name another folder")

    def _write_layout(self, root: str) -> None:
        name = self._owner.name(next(self._counter))
        try:
            fd = files.open_new(name, self._root)
            try:
                files.write_all_at(fd, LAYOUT.encode(), 0)
            finally:
                self.close_quietly(fd)
            files.rename(name, "layout", self._root)
        except OSError as error:
            self.drop_temp(name)
            raise DiskFailed(f"{root}/layout: {error.strerror}") from error


def _number(digest: bytes) -> int:
    """Of its folder, from 0 to FOLDERS - 1."""
    return int.from_bytes(digest[:2], "big") >> 4


def _folder(digest: bytes) -> str:
    text = digest[:2].hex()
    return f"{text[0]}/{text[1:3]}"


def _path(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[0]}/{text[1:3]}/{text}"


def _maybe_digest(name: str) -> bytes | None:
    if len(name) != 2 * DIGEST_BYTES or name != name.lower():
        return None
    try:
        return bytes.fromhex(name)
    except ValueError:
        return None
