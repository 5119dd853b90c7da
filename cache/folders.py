"""The disk tier in one folder or several, each on a disk of its own.

A digest belongs to the folder that wins it (rendezvous hashing over the folders' paths), so a
folder more or less moves only the keys of that one. What the winner does not have may be with the
next one, from before the winner was there or while it was lost; so the first two are asked. A file
found there is as good as any other: its token and its validator decide. A purge asks every folder.

A folder is lost after five errors in a row (health.py), or when it cannot be used at the start. It
is left alone then, so its keys are misses and are filled into the next one; every minute it is
tried, apart from all requests, since a dead server can keep a thread for as long as it likes. When
it works again, it is scanned. With no folder left, nothing is kept: every fill is refused.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Final

import xxhash

from cache.disk import Disk, Stats
from cache.entry import Entry
from cache.errors import CacheError, NoFolder
from cache.fill import Fill
from cache.index.interface import Token
from cache.key import Key
from cache.room import Kind, Room
from cache.stored import StoredFile

PROBE_EVERY_S: Final = 60.0
# The scan of a folder that came back rests so long after each of its folders, as one at start does.
SCAN_REST_S: Final = 0.02
# A probe that hangs in a dead server must not keep the node from ending.
PATIENCE_S: Final = 2.0
# Folders that a look-up asks: the digest's own, and the one that has its keys when that is lost.
ASKED: Final = 2

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Folder:
    path: str
    seed: int
    disk: Disk | None = None  # None until it could be opened once
    why_lost: str = ""  # "" while it is used

    def is_lost(self) -> bool:
        """Another thread may change it at any time."""
        return self.why_lost != ""


class Rooms:
    """The rooms of all folders as one, to be read only."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.size = sum(room.size for room in rooms)
        self.inodes = sum(room.inodes for room in rooms)
        self.used = sum(room.used for room in rooms)
        self.used_inodes = sum(room.used_inodes for room in rooms)
        self.largest = max((room.largest for room in rooms), default=0)
        self.fits = all(room.fits for room in rooms)
        self._rooms = rooms

    def used_by(self, kind: Kind) -> int:
        return sum(room.used_by(kind) for room in self._rooms)

    def evicted(self, kind: Kind) -> int:
        return sum(room.evicted(kind) for room in self._rooms)


def _ignore(entries: Sequence[Entry]) -> None:
    del entries


class Folders:
    """One or more Disks with the surface of one. open_disk makes one of a path, or raises
    CacheError; where it raises for every path, so does this. Methods may be called in any thread.
    """

    def __init__(
        self,
        paths: Sequence[str],
        open_disk: Callable[[str], Disk],
        *,
        probe_every_s: float = PROBE_EVERY_S,
    ) -> None:
        assert paths
        self.on_evict: Callable[[Sequence[Entry]], None] = _ignore
        self.losses = 0
        self.recoveries = 0
        self._misses = 0  # of all folders that were asked; each of them counts its own
        self._hits = 0
        self._open_disk = open_disk
        self._probe_every_s = probe_every_s
        self._folders = [_Folder(path, xxhash.xxh3_64_intdigest(path.encode())) for path in paths]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None
        try:
            self._open_all()
        except BaseException:
            self.close()
            raise

    def _open_all(self) -> None:
        errors: list[tuple[_Folder, CacheError]] = []
        for folder in self._folders:
            try:
                self._open_folder(folder)
            except CacheError as error:
                errors.append((folder, error))
        if len(errors) == len(self._folders):
            raise errors[0][1]
        for folder, reason in errors:
            self._lose(folder, str(reason).removeprefix(f"cache folder {folder.path}: "))

    def close(self) -> None:
        """After the last call; open StoredFiles stay readable."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join(PATIENCE_S)
        for folder in self._folders:
            if folder.disk is not None:
                folder.disk.close()

    # What Store calls

    def may_hold(self, digest: bytes) -> bool:
        """As Disk.may_hold(), of the folders that open() asks."""
        folders = self._in_order(digest)[:ASKED]
        return any(one.disk is None or one.disk.may_hold(digest) for one in folders)

    def open(self, key: Key) -> StoredFile | None:
        """The entry of this key, checked but for its body; None is a miss."""
        for folder in self._in_order(key.digest)[:ASKED]:
            assert folder.disk is not None
            stored = folder.disk.open(key)
            if stored is not None:
                self._hits += 1
                return stored
        self._misses += 1
        return None

    def verify(self, stored: StoredFile) -> bool:
        """As Disk.verify()."""
        assert stored.keeper is not None
        return stored.keeper.verify(stored)

    def reserve(self, draft: Entry, expected_bytes: int) -> Fill:
        """As Disk.reserve(), in the digest's own folder."""
        for folder in self._in_order(draft.key.digest):
            assert folder.disk is not None
            return folder.disk.reserve(draft, expected_bytes)
        raise NoFolder(f"no cache folder can be used: {self._folders[0].why_lost}")

    def touch(self, digest: bytes) -> None:
        """As Disk.touch(), in the folder that the digest belongs to first of all."""
        folders = self._folders if len(self._folders) == 1 else self._in_order(digest)
        if folders and folders[0].disk is not None:
            folders[0].disk.touch(digest)

    def remove_older(self, digest: bytes, token: Token) -> bool:
        """As Disk.remove_older(), wherever the entry is."""
        removed = [disk.remove_older(digest, token) for disk in self.disks()]
        return any(removed)

    def scan(self) -> Iterator[int]:
        """As Disk.scan(), one folder after the other."""
        for folder in self._folders:
            if folder.disk is None or folder.is_lost():
                continue
            for looked_at in folder.disk.scan():
                yield looked_at
                if folder.is_lost():
                    break

    @property
    def room(self) -> Rooms:
        return Rooms([folder.disk.room for folder in self._folders if folder.disk is not None])

    @property
    def stats(self) -> Stats:
        """The sums. An open is one hit or one miss, however many folders were asked for it."""
        total = Stats()
        for folder in self._folders:
            if folder.disk is not None:
                for field in fields(Stats):
                    count = getattr(folder.disk.stats, field.name)
                    setattr(total, field.name, getattr(total, field.name) + count)
        total.hits, total.misses = self._hits, self._misses
        return total

    # For the scrubber and for metrics

    def disks(self) -> list[Disk]:
        """Those that are in use."""
        return [
            folder.disk
            for folder in self._folders
            if folder.disk is not None and not folder.is_lost()
        ]

    def rooms(self) -> list[tuple[str, Room]]:
        """Each path that could be opened once, with its room."""
        return [(one.path, one.disk.room) for one in self._folders if one.disk is not None]

    def states(self) -> list[tuple[str, str]]:
        """Each path, with why it is not in use, "" when it is."""
        return [(folder.path, folder.why_lost) for folder in self._folders]

    # Placing

    def _in_order(self, digest: bytes) -> list[_Folder]:
        """The folders in use, the digest's own first."""
        usable = [folder for folder in self._folders if not folder.is_lost()]
        if len(usable) > 1:
            usable.sort(key=lambda folder: xxhash.xxh3_64_intdigest(digest, folder.seed))
        return usable

    # Losing, and coming back

    def _open_folder(self, folder: _Folder) -> None:
        disk = self._open_disk(folder.path)
        disk.on_evict = self._evicted
        disk.on_lost = partial(self._lose, folder)
        folder.disk = disk

    def _evicted(self, entries: Sequence[Entry]) -> None:
        self.on_evict(entries)

    def _lose(self, folder: _Folder, why: str) -> None:
        with self._lock:
            if folder.is_lost():
                return
            folder.why_lost = why
            self.losses += 1
            left = sum(not other.is_lost() for other in self._folders)
        _log.error(
            "cache folder %s is not used (%s); %d of %d are left; it is tried again every %.0f s",
            folder.path,
            why,
            left,
            len(self._folders),
            self._probe_every_s,
        )
        self._start_watching()

    def _start_watching(self) -> None:
        with self._lock:
            if self._watch is None and not self._stopping.is_set():
                self._watch = threading.Thread(target=self._watch_lost, name="folders", daemon=True)
                self._watch.start()

    def _watch_lost(self) -> None:
        try:
            while not self._stopping.wait(self._probe_every_s):
                self.probe()
        except Exception:  # noqa: BLE001  # top of the thread
            _log.exception("lost cache folders are not tried any more")

    def probe(self) -> None:
        """Try what is lost; scan what has come back."""
        for folder in self._folders:
            if not folder.is_lost() or self._stopping.is_set():
                continue
            try:
                if folder.disk is None:
                    self._open_folder(folder)
                else:
                    folder.disk.probe()
            except CacheError:
                continue
            folder.why_lost = ""
            self.recoveries += 1
            _log.warning("cache folder %s works again", folder.path)
            assert folder.disk is not None
            for _ in folder.disk.scan():
                if folder.is_lost() or self._stopping.wait(SCAN_REST_S):
                    break
