"""The disk half of `halftone fsck`: every file of the cache folders against what it says of itself.

Whole entries are yielded, for the caller to compare with the index; what else is there is counted
in a Report. Nothing is ever mended: a damaged file is removed, or left. With fix, files that no
node would serve are removed, and temp files that nobody writes any more. What we did not write,
what a later version wrote and what cannot be read (perhaps by this user only) is left alone.

May run beside a node. A file that is gone by the time it is opened is no problem, and no file
changes: a name is unlinked while it still is the file that was read. Between these two looks a fill
may take the name; then a good entry goes, which is a miss. A temp file's owner is looked for among
the processes that this one can see; from outside a container a fill inside may lose its file, and
is served without being kept.
"""

import enum
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cache import files
from cache.entry import Entry
from cache.errors import DamagedEntry, NewerEntry
from cache.index.interface import Token
from cache.key import Key
from cache.layout import LAYOUT, LAYOUT_NAME, folder_of, maybe_digest, path_of
from cache.room import allocated
from cache.stored import hash_body, read_entry
from cache.temp import Owner, maybe_owner

# Of these the report keeps the particulars, 500 bytes each; all are counted.
MAX_PROBLEMS: Final = 1000
# Beside the entries in the first folder: the embedded index with its journal, the journals of
# orders, and evidence of pictures that no resizer survived.
NEIGHBOURS: Final = ("index.sqlite", "journal-", "barred")
_FIRST: Final = frozenset("0123456789abcdef")
_SECOND: Final = frozenset(f"{number:02x}" for number in range(256))


class Fault(enum.StrEnum):
    DAMAGED = "damaged"  # head, length or hash is wrong, or it is no file
    MISPLACED = "misplaced"  # an entry under another one's name
    ABANDONED = "abandoned"  # a temp file whose owner is dead
    FOREIGN = "foreign"
    NEWER = "newer"  # of a later version of this program
    UNREADABLE = "unreadable"


_REMOVABLE: Final = frozenset({Fault.DAMAGED, Fault.MISPLACED, Fault.ABANDONED})


@dataclass(frozen=True, slots=True)
class Problem:
    """path and detail are printable."""

    fault: Fault
    path: str
    detail: str
    is_removed: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A whole entry."""

    key: Key
    token: Token
    digest: bytes
    folder: str
    size: int  # of the file, in allocated bytes


@dataclass(slots=True)
class Report:
    """files == entries + running + vanished + the faults, but for folders that are at fault."""

    entries: int = 0
    entry_bytes: int = 0  # allocated
    running: int = 0  # temp files of living owners
    vanished: int = 0  # gone between being listed and opened: a node works here
    removed: int = 0
    faults: dict[Fault, int] = field(default_factory=lambda: dict.fromkeys(Fault, 0))
    problems: list[Problem] = field(default_factory=list)  # the first MAX_PROBLEMS

    @property
    def is_clean(self) -> bool:
        """Nothing that fix would remove is left, and everything could be read."""
        faults = sum(self.faults[fault] for fault in (*_REMOVABLE, Fault.UNREADABLE))
        return faults == self.removed


def check(folders: Sequence[str], report: Report, *, fix: bool = False) -> Iterator[Found]:
    """Look at everything in these folders, once; report is complete when this has ended."""
    for path in folders:
        try:
            root = files.open_folder(path)
        except OSError as error:
            _note(report, Fault.UNREADABLE, path, os.strerror(error.errno or 0))
            continue
        try:
            yield from _Walk(path, root, report, fix=fix).run()
        finally:
            files.close_quietly(root)


class _Walk:
    def __init__(self, path: str, root: int, report: Report, *, fix: bool) -> None:
        self._path = path
        self._root = root
        self._report = report
        self._fix = fix
        self._boot = Owner.of_this_process().boot

    def run(self) -> Iterator[Found]:
        # What is not marked as ours is not walked through with the power to remove.
        if not self._is_cache():
            return
        for name in sorted(self._list(".")):
            if name in _FIRST:
                yield from self._look_into(name)
            elif name != LAYOUT_NAME and not name.startswith(NEIGHBOURS):
                self._look_at_other(name)

    def _look_into(self, first: str) -> Iterator[Found]:
        for second in sorted(self._list(first)):
            folder = f"{first}/{second}"
            if second not in _SECOND:
                self._look_at_other(folder)
                continue
            for name in self._list(folder):
                digest = maybe_digest(name)
                if digest is None:
                    self._look_at_other(f"{folder}/{name}")
                    continue
                found = self._look_at_entry(f"{folder}/{name}", folder, digest)
                if found is not None:
                    yield found

    def _is_cache(self) -> bool:
        try:
            fd = files.open_read(LAYOUT_NAME, self._root)
            try:
                found = files.read_at(fd, len(LAYOUT) + 1, 0)
            finally:
                files.close_quietly(fd)
        except OSError as error:
            detail = os.strerror(error.errno or 0)
            self._note(Fault.UNREADABLE, LAYOUT_NAME, f"{detail}; is it a cache folder?")
            return False
        if found != LAYOUT.encode():
            self._note(Fault.FOREIGN, LAYOUT_NAME, "of another layout; nothing was looked at")
            return False
        return True

    def _list(self, folder: str) -> list[str]:
        try:
            return list(files.list_folder(folder, self._root))
        except FileNotFoundError:
            self._report.vanished += 1
        except NotADirectoryError:
            self._note(Fault.FOREIGN, folder, "is not a folder")
        except OSError as error:
            self._note(Fault.UNREADABLE, folder, os.strerror(error.errno or 0))
        return []

    def _look_at_other(self, name: str) -> None:
        owner = maybe_owner(name.rpartition("/")[2])
        if owner is None:
            self._note(Fault.FOREIGN, name, "halftone did not make it")
        elif not owner.is_dead(self._boot):
            self._report.running += 1
        else:
            self._fault(Fault.ABANDONED, name, f"process {owner.pid} was writing it", None)

    def _look_at_entry(self, name: str, folder: str, digest: bytes) -> Found | None:
        try:
            fd = files.open_read(name, self._root)
        except FileNotFoundError:
            self._report.vanished += 1
            return None
        except OSError as error:
            if self._is_a_file(name):
                self._note(Fault.UNREADABLE, name, os.strerror(error.errno or 0))
            else:  # a symlink, a socket
                self._fault(Fault.DAMAGED, name, "not a regular file", None)
            return None
        try:
            entry, size = _read(fd)
            if entry.key.digest != digest or folder_of(digest) != folder:
                detail = f"is the entry {entry.key.digest.hex()}"
                self._fault(Fault.MISPLACED, name, detail, fd)
                return None
        except DamagedEntry as error:
            self._fault(Fault.DAMAGED, name, str(error), fd)
        except NewerEntry as error:
            self._note(Fault.NEWER, name, str(error))
        except OSError as error:
            self._note(Fault.UNREADABLE, name, os.strerror(error.errno or 0))
        else:
            self._report.entries += 1
            self._report.entry_bytes += size
            return Found(entry.key, entry.token, digest, self._path, size)
        finally:
            files.close_quietly(fd)
        return None

    def _is_a_file(self, name: str) -> bool:
        try:
            return stat.S_ISREG(files.status_of(name, self._root).st_mode)
        except OSError:
            return True  # who knows: left alone

    def _fault(self, fault: Fault, name: str, detail: str, fd: int | None) -> None:
        """Note what fix removes. fd: of the file that was found to be so."""
        is_removed = self._fix and self._remove(name, fd)
        self._note(fault, name, detail, is_removed=is_removed)

    def _remove(self, name: str, fd: int | None) -> bool:
        try:
            found = files.status_of(name, self._root)
            if fd is not None and not os.path.samestat(found, files.status(fd)):
                return True  # it has been replaced since
            if stat.S_ISDIR(found.st_mode):
                files.remove_folder(name, self._root)
            else:
                files.unlink(name, self._root)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _note(self, fault: Fault, name: str, detail: str, *, is_removed: bool = False) -> None:
        _note(self._report, fault, f"{self._path}/{name}", detail, is_removed=is_removed)


def maybe_token(root: int, digest: bytes) -> Token | None:
    """Of the entry that has this name, by its head; None where there is no whole one."""
    try:
        fd = files.open_read(path_of(digest), root)
    except OSError:
        return None
    try:
        return read_entry(fd)[0].token
    except (DamagedEntry, NewerEntry, OSError):
        return None
    finally:
        files.close_quietly(fd)


def remove_older(folders: Sequence[str], digest: bytes, token: Token) -> bool:
    """For folders that no node uses: unlink this entry wherever it is older; True when it was."""
    removed = 0
    for folder in folders:
        try:
            root = files.open_folder(folder)
        except OSError:
            continue
        try:
            found = maybe_token(root, digest)
            if found is not None and found.is_older_than(token):
                files.unlink(path_of(digest), root)
                removed += 1
        except OSError:
            continue
        finally:
            files.close_quietly(root)
    return removed > 0


def _read(fd: int) -> tuple[Entry, int]:
    """Entry and allocated bytes. Raises DamagedEntry for a body of another hash, too."""
    entry, offset, _ = read_entry(fd)
    if hash_body(fd, offset, entry.length) != entry.body_hash:
        raise DamagedEntry("hash of the body is wrong")
    return entry, allocated(offset + entry.length)


def _note(
    report: Report, fault: Fault, path: str, detail: str, *, is_removed: bool = False
) -> None:
    report.faults[fault] += 1
    report.removed += is_removed
    if len(report.problems) < MAX_PROBLEMS:
        # A name may be any bytes but "/" and NUL; this is going to a terminal.
        shown = path if path.isprintable() else ascii(path)
        report.problems.append(Problem(fault, shown, detail, is_removed))
