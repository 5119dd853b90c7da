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
failed for want of descriptors or memory (EMFILE, ENOMEM ...) is left alone, and so is the file of a
later version of this program: it is counted, and goes only for want of room.

What else can happen to the disk: space.py says when it is too full for a fill, health.py when its
errors are too many in a row; on_lost is told then (folders.py). A folder that is removed while the
node runs is made anew by the next fill.
"""

import contextlib
import errno
import itertools
import logging
import os
import random
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import xxhash

from cache import files
from cache.durability import Durability
from cache.entry import Entry, head_size
from cache.errors import DamagedEntry, DiskFailed, NewerEntry, NoSpace, NotStored, Paused
from cache.fill import Fill, not_stored
from cache.gdsf import Victim
from cache.health import Health
from cache.index.interface import Token
from cache.key import Key
from cache.layout import (
    FOLDERS,
    folder_numbered,
    folder_of,
    maybe_digest,
    number_of,
    parents_of,
    path_of,
)
from cache.room import BLOCK, ORIGINALS, Room, allocated, kin_of, kind_of
from cache.root import Root
from cache.space import Free, Space
from cache.stored import CHUNK, StoredFile, hash_body, read_entry
from cache.temp import Owner, maybe_owner

# Entries that one fill evicts at most while there is room: about 2 ms of unlinking.
BATCH: Final = 64
# Batches for one fill when there is no room: 64 x 64 thumbnails make room for any original.
MAX_BATCHES: Final = 64
# Batches for one fill that finds the file system below its floor: some 10 ms of unlinking. Where
# others fill the disk, fills in a row must not empty the cache in a moment.
URGENT_BATCHES: Final = 4
# Whole scans of ours after which another process, that scans as often, has done so too.
LENT_SCANS: Final = 2
# Of these are remembered at 150 bytes each; older ones stay counted here until they are evicted.
MAX_LENT: Final = 262_144
# Files known to match their hash, at 200 bytes each; what is forgotten is compared again.
MAX_VERIFIED: Final = 65_536
_STRIPES: Final = 16
_LITTER: Final = 1024
# Says nothing about the file: the same read may succeed in a moment.
_PASSING: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ENOBUFS}
)

# Of temp files: no two of this process have the same name, whichever Disk they are of.
_NUMBERS = itertools.count()

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stats:
    """opens == hits + misses; misses count damaged and newer files and read errors, too."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    newer: int = 0  # met, of a later version of this program
    read_errors: int = 0
    commits: int = 0
    no_space: int = 0
    write_errors: int = 0
    evicted: int = 0
    removed: int = 0
    swept: int = 0
    adopted: int = 0
    pauses: int = 0  # begun, because the file system was full
    paused: int = 0  # fills that were refused during them
    remade: int = 0  # times that the folder was made anew, because it was gone
    scrubbed: int = 0
    scrubbed_bytes: int = 0


def _ignore(_: object) -> None:
    pass


class Disk:
    """One folder, at most size bytes and inodes files. Raises DiskFailed when it cannot be used.

    part, of parts: this process among those that share the folder. originals: see Room. min_free:
    bytes of the file system that fills leave free. clock is monotonic, chance gives 0 to 1.
    """

    def __init__(
        self,
        root: str,
        size: int,
        inodes: int,
        *,
        originals: int = ORIGINALS,
        part: int = 0,
        parts: int = 1,
        min_free: int = 0,
        durability: Durability = Durability.NONE,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._limits = (max(size // parts, BLOCK), max(inodes // parts, 1), originals)
        self.room = self._new_room()
        self.stats = Stats()
        self.durability = durability
        # Told which entries are about to be unlinked for room; may block, must not raise.
        self.on_evict: Callable[[Sequence[Entry]], None] = _ignore
        # Told why this folder is not to be relied on; may be told again.
        self.on_lost: Callable[[str], None] = _ignore
        self._health = Health()
        self._space = Space(min_free, clock, chance)
        self._admission = threading.Lock()
        self._chance = chance
        self._owner = Owner.of_this_process()
        self._names = tuple(threading.Lock() for _ in range(_STRIPES))
        self._litter: deque[str] = deque(maxlen=_LITTER)
        self._part = part
        self._parts = parts
        # Files of others' parts that were made here, by the number of scans begun before.
        self._lent: deque[tuple[int, bytes]] = deque(maxlen=MAX_LENT)
        self._scans = 0
        # Whether all that is in the folder is counted.
        self._is_known = False
        # By digest, which file it was: one that was changed or replaced since is compared again.
        self._verified: dict[bytes, int] = {}
        self._verifying = threading.Lock()
        # Where the next pass of scrub() begins; anywhere, so that a node that is often started
        # anew does not look at the same files each time.
        self._scrub_at = int(chance() * FOLDERS)
        self._renewal = threading.Lock()
        self._root = Root(root, self._own_name, self._litter.append)

    @property
    def path(self) -> str:
        return self._root.path

    def _new_room(self) -> Room:
        return Room(*self._limits, seed=time.time_ns())

    def close(self) -> None:
        """After the last call; open StoredFiles stay readable."""
        self._root.close()

    # Reading

    def may_hold(self, digest: bytes) -> bool:
        """False where it is known that the folder has no such entry, without asking the disk: all
        that is there is counted. Never waits. A folder that is shared is not known."""
        return not self._is_known or digest in self.room

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

    def touch(self, digest: bytes) -> None:
        """Count a hit that was served without open(). Never waits."""
        self.room.touch(digest)

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
                self._health.read()
                stored.is_verified = True
                self._remember_verified(digest, stored.fd)
                return True
            self.stats.damaged += 1
            self._unlink(digest, stored.fd)
        stored.close()
        return False

    def _open(self, digest: bytes, key: Key | None) -> StoredFile | None:
        try:
            return self._open_any(digest, key)
        except NewerEntry:
            return None

    def _open_any(self, digest: bytes, key: Key | None) -> StoredFile | None:
        """Raises NewerEntry, and nothing else."""
        try:
            fd = files.open_read(path_of(digest), self._root.fd)
        except FileNotFoundError:
            return None
        except OSError as error:  # ELOOP: a symlink
            self._read_failed(digest, None, error)
            return None
        try:
            stored = self._describe(digest, key, fd)
        except DamagedEntry:
            self.stats.damaged += 1
            self._unlink(digest, fd)
        except NewerEntry:
            self.stats.newer += 1
            files.close_quietly(fd)
            raise
        except OSError as error:
            self._read_failed(digest, fd, error)
        else:
            self._health.read()
            return stored
        files.close_quietly(fd)
        return None

    def _describe(self, digest: bytes, key: Key | None, fd: int) -> StoredFile:
        entry, offset, status = read_entry(fd)
        if entry.key != key if key is not None else entry.key.digest != digest:
            raise DamagedEntry("file describes another key than its name")
        is_verified = self._verified.get(digest) == _identity(status)
        return StoredFile(entry, fd, offset, is_verified=is_verified, keeper=self)

    def _read_failed(self, digest: bytes, fd: int | None, error: OSError) -> None:
        self.stats.read_errors += 1
        if self._health.failed_reading(error):
            self._lost("reading", error)
        elif error.errno not in _PASSING:
            self._unlink(digest, fd)

    def _lost(self, doing: str, error: OSError) -> None:
        self.on_lost(f"{doing}: {os.strerror(error.errno or 0)}, too often in a row")

    # Writing

    def reserve(self, draft: Entry, expected_bytes: int) -> Fill:
        """Room for an entry, and a temp file to write its body to. Evicts first.

        Raises DoesNotFit for what can never fit, NoSpace or DiskFailed for what the disk refuses.
        """
        try:
            return self._reserve(draft, expected_bytes)
        except DiskFailed:
            if not self._root.is_gone():
                raise
        self._renew()
        return self._reserve(draft, expected_bytes)

    def _reserve(self, draft: Entry, expected_bytes: int) -> Fill:
        head = head_size(draft)
        claim = allocated(head + expected_bytes)
        room = self.room
        room.claim(claim, kind_of(draft.key))
        name = ""
        fd = -1
        try:
            self._sweep_litter()
            self._admit(claim)
            self.make_room()
            name = self._temp_name(draft.key.digest)
            fd = self._create(name)
            files.seek(fd, head)
            return Fill(self, room, draft, fd, name, claim, head)
        except BaseException as error:
            if fd >= 0:
                files.close_quietly(fd)
                self.drop_temp(name)
            room.release(claim, kind_of(draft.key))
            if isinstance(error, OSError):
                raise self.failed_write(error, "creating a file") from error
            raise

    def publish(
        self, temp_name: str, fd: int, entry: Entry, room: Room, claim: int, size: int
    ) -> None:
        """For Fill: rename and count in one step. Raises OSError."""
        digest = entry.key.digest
        with self._name_lock(digest):
            files.rename(temp_name, path_of(digest), self._root.fd)
            key = entry.key
            room.settle(claim, digest, size, entry.cost_ms, kind_of(key), kin_of(key))
            self._remember_verified(digest, fd)
        self.stats.commits += 1
        self._health.wrote()
        self._space.stored()
        if not self._is_ours(number_of(digest)):
            self._lent.append((self._scans, digest))
        if self.durability is Durability.FULL:
            try:
                files.sync_folder(folder_of(digest), self._root.fd)
            except OSError as error:
                # The entry is whole, and served; a power cut may take its name, as without "full".
                self._write_failed("syncing a folder", error)

    def _remember_verified(self, digest: bytes, fd: int) -> None:
        """The very file of fd has been compared with its hash, or was hashed as it was written."""
        try:
            identity = _identity(files.status(fd))
        except OSError:
            return  # it is compared once more
        with self._verifying:
            self._verified.pop(digest, None)
            self._verified[digest] = identity
            if len(self._verified) > MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]

    def failed_write(self, error: OSError, doing: str) -> NotStored:
        """Count a failed write; what it means to its caller."""
        meaning = not_stored(error, doing)
        if not isinstance(meaning, NoSpace):
            self._write_failed(doing, error)
            return meaning
        self.stats.no_space += 1
        # EFBIG is a limit of this process, not of the disk.
        if error.errno != errno.EFBIG and self._space.refused():
            self._begin_pause()
        return meaning

    def _write_failed(self, doing: str, error: OSError) -> None:
        self.stats.write_errors += 1
        if self._health.failed_writing(error):
            self._lost(doing, error)

    def drop_temp(self, name: str) -> None:
        """Unlink a temp file, later if not now."""
        try:
            files.unlink(name, self._root.fd)
        except FileNotFoundError:
            pass
        except OSError:
            self._litter.append(name)

    def _create(self, name: str) -> int:
        try:
            return files.open_new(name, self._root.fd)
        except FileNotFoundError:
            pass
        above = "."
        for folder in parents_of(name):
            with contextlib.suppress(FileExistsError):
                files.make_folder(folder, self._root.fd)
                if self.durability is Durability.FULL:
                    files.sync_folder(above, self._root.fd)
            above = folder
        return files.open_new(name, self._root.fd)

    def _temp_name(self, digest: bytes) -> str:
        return f"{folder_of(digest)}/{self._own_name()}"

    def _own_name(self) -> str:
        return self._owner.name(next(_NUMBERS))

    def _sweep_litter(self) -> None:
        for _ in range(len(self._litter)):
            with contextlib.suppress(IndexError):  # another thread was faster
                self.drop_temp(self._litter.popleft())

    # The folder itself

    def probe(self) -> None:
        """Find out whether the folder works again after on_lost. Raises CacheError.

        Its files are still counted as they were; scan() counts what came to them meanwhile.
        """
        if self._root.is_gone():
            self._renew()
        self._root.try_out()
        self._health.recovered()

    def _renew(self) -> None:
        """Another folder is under the path by now, or none: use that one, with nothing counted."""
        with self._renewal:
            if not self._root.is_gone():
                return  # another thread was faster
            try:
                self._root.renew()
            except DiskFailed as error:
                cause = error.__cause__
                if isinstance(cause, OSError):
                    self._write_failed("making the folder anew", cause)
                raise
            # Fills that are under way have lost their temp files; they release the claims that
            # they hold in the room that they began in.
            self._is_known = False
            self.room = self._new_room()
            self._verified.clear()
            self._lent.clear()
            self._litter.clear()
        self.stats.remade += 1
        _log.warning("cache folder %s was gone; it was opened anew", self.path)

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

    def _admit(self, need: int) -> None:
        """Raises NoSpace while the file system is too full. Evicts first where it may help."""
        pause_s = self._space.pause_s
        if pause_s:
            self.stats.paused += 1
            raise Paused(f"disk was full; nothing is taken in for {pause_s:.1f} s")
        if not self._space.is_due():
            return
        with self._admission:
            if not self._space.is_due():
                return  # another thread has looked
            batches = URGENT_BATCHES
            if self._space.take_refusal():
                self._evict(self.room.victims(BATCH, urgent=True))
                batches -= 1
            while (free := self._free()) is not None and not self._space.has_room(free, need):
                victims = self.room.victims(BATCH, urgent=True) if batches else []
                if not victims:
                    self._space.pause()
                    self._begin_pause()
                    raise NoSpace(f"{free.bytes} bytes and {free.inodes} inodes are free on disk")
                self._evict(victims)
                batches -= 1

    def _begin_pause(self) -> None:
        self.stats.pauses += 1
        _log.warning(
            "disk of %s is full: nothing is stored for %.0f s", self.path, self._space.pause_s
        )

    def _free(self) -> Free | None:
        """None where it cannot be told: then a write will show."""
        try:
            found = files.free(self._root.fd)
        except OSError as error:
            self.stats.read_errors += 1
            if self._health.failed_reading(error):
                self._lost("asking for free space", error)
            return None
        return Free(found.f_bavail * found.f_frsize, found.f_favail, found.f_files)

    def make_room(self) -> None:
        """Evict until what is claimed fits. Raises NoSpace."""
        if self.room.is_at_ease:
            return
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
                if self._unlink_locked(victim.key, None, was_counted=True):
                    self.stats.evicted += 1

    def _unlink(self, digest: bytes, fd: int | None) -> bool:
        with self._name_lock(digest):
            return self._unlink_locked(digest, fd)

    def _unlink_locked(self, digest: bytes, fd: int | None, *, was_counted: bool = False) -> bool:
        """Unlink the name if it is still the file of fd (any file, when fd is None).

        was_counted: until a moment ago, and still is if it cannot be unlinked.
        """
        name = path_of(digest)
        is_there = was_counted
        try:
            found = files.status_of(name, self._root.fd)
            is_there = True
            if fd is not None and not os.path.samestat(found, files.status(fd)):
                return False
            if stat.S_ISDIR(found.st_mode):
                files.remove_folder(name, self._root.fd)
            else:
                files.unlink(name, self._root.fd)
        except FileNotFoundError:
            self.room.remove(digest)
            return False
        except OSError as error:
            # It stays on disk and must stay counted, so that eviction tries again later.
            self._write_failed("removing a file", error)
            if is_there and digest not in self.room:
                self.room.adopt(digest, BLOCK, 0)
            return False
        self.room.remove(digest)
        self._verified.pop(digest, None)
        self.stats.removed += 1
        return True

    def _open_locked(self, digest: bytes) -> StoredFile | None:
        """As _open(), for a caller that holds the name's lock: damage is left for others."""
        try:
            fd = files.open_read(path_of(digest), self._root.fd)
        except OSError:
            return None
        try:
            return self._describe(digest, None, fd)
        except (DamagedEntry, NewerEntry, OSError):
            files.close_quietly(fd)
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
        room, errors = self.room, self.stats.read_errors
        for name in self._list("."):
            self._maybe_sweep(name)
        for number in filter(self._is_ours, range(FOLDERS)):
            folder = folder_numbered(number)
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
        if self._parts == 1 and errors == self.stats.read_errors:
            with self._renewal:  # another folder may be under the path by now
                self._is_known = self.room is room

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
            return list(files.list_folder(folder, self._root.fd))
        except FileNotFoundError:
            return []
        except OSError as error:
            self.stats.read_errors += 1
            if self._health.failed_reading(error):
                self._lost("listing a folder", error)
            return []

    def _maybe_sweep(self, name: str, folder: str = ".") -> bool:
        """True when it is a temp file; it is unlinked if its owner is dead."""
        owner = maybe_owner(name)
        if owner is None:
            return False
        if owner.is_dead(self._owner.boot):
            self.drop_temp(f"{folder}/{name}")
            self.stats.swept += 1
        return True

    def _examine(self, folder: str, name: str) -> None:
        if self._maybe_sweep(name, folder):
            return
        digest = maybe_digest(name)
        if digest is None or folder_of(digest) != folder or digest in self.room:
            return
        try:
            stored = self._open_any(digest, None)  # unlinks what is damaged
        except NewerEntry:
            self._adopt_newer(digest)
            return
        if stored is None:
            return
        with stored, self._name_lock(digest):
            # Evicted, replaced or committed since it was opened: then whoever did it has counted.
            if digest in self.room or not self._is_named(digest, stored.fd):
                return
            size = allocated(stored.body_offset + stored.length)
            key = stored.entry.key
            self.room.adopt(digest, size, stored.entry.cost_ms, kind_of(key), kin_of(key))
            self.stats.adopted += 1

    def _adopt_newer(self, digest: bytes) -> None:
        """What it is worth is not known here: counted as cheap, so it goes before our own."""
        with self._name_lock(digest), contextlib.suppress(OSError):
            if digest not in self.room:
                size = files.status_of(path_of(digest), self._root.fd).st_size
                self.room.adopt(digest, allocated(size), 0)
                self.stats.adopted += 1

    def _is_named(self, digest: bytes, fd: int) -> bool:
        try:
            found = files.status_of(path_of(digest), self._root.fd)
            return os.path.samestat(found, files.status(fd))
        except OSError:
            return False

    # Scrubbing

    def scrub(self) -> Iterator[int]:
        """Compare every body with its hash, once around; what is damaged is unlinked.

        Yields the bytes that were read since the last yield, never many, so that the caller sets
        the pace. Another call goes on in the folder where the last one was left.
        """
        for _ in range(FOLDERS):
            number = self._scrub_at
            if self._is_ours(number):
                folder = folder_numbered(number)
                for name in self._list(folder):
                    digest = maybe_digest(name)
                    if digest is not None and folder_of(digest) == folder:
                        yield from self._scrub(digest)
            self._scrub_at = (number + 1) % FOLDERS

    def _scrub(self, digest: bytes) -> Iterator[int]:
        stored = self._open(digest, None)  # unlinks what has a damaged head
        if stored is None:
            return
        with stored:
            hashed = xxhash.xxh3_128()
            at, end = stored.body_offset, stored.body_offset + stored.length
            yield at
            try:
                while at < end and (part := files.read_at(stored.fd, min(CHUNK, end - at), at)):
                    hashed.update(part)
                    at += len(part)
                    yield len(part)
            except OSError as error:
                self._read_failed(digest, stored.fd, error)
                return
            self.stats.scrubbed += 1
            self.stats.scrubbed_bytes += at
            if hashed.digest() == stored.entry.body_hash:
                return
            self.stats.damaged += 1
            self._unlink(digest, stored.fd)
            _log.warning(
                "cache file %s/%s was damaged on disk; it was removed", self.path, path_of(digest)
            )


def _identity(status: os.stat_result) -> int:
    """Of a file and its content: writing to it changes the time, replacing it the inode."""
    return hash((status.st_ino, status.st_ctime_ns, status.st_size))
