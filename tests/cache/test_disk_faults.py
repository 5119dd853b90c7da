"""The n-th system call fails, for every n and every way to fail, after SQLite's manner.

Whatever fails: what is served is right, what was stored before is not lost for good, descriptors
and temp files do not leak, and the next attempt without a fault works.
"""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache import files
from cache.check import Report, check
from cache.disk import Disk
from cache.durability import Durability
from cache.errors import CacheError, DiskFailed, NoSpace
from cache.folders import Folders
from tests.cache import kit

CALLS = [
    *("open_read", "open_new", "open_folder", "make_root", "make_folder", "status", "status_of"),
    *("status_of_root", "free", "read_at", "write_at", "seek", "rename", "unlink", "remove_folder"),
    *("list_folder", "sync_data", "sync_folder", "duplicate", "put_behind", "close"),
]
FAULTS = [
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES),
    *(errno.EINTR, errno.EROFS),
]
SEVERE = [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES]
SHORT = -1  # a write that moves some bytes only


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


class NthFails:
    """Counts the calls of cache.files and makes one of them, or all from it on, fail."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int, fault: int, *, stays: bool) -> None:
        self.n = n
        self.fault = fault
        self.stays = stays
        self.calls = 0
        self.names: list[str] = []  # of them
        self.is_on = True
        for name in CALLS:
            patch.setattr(files, name, self._wrap(name, getattr(files, name)))

    @property
    def was_reached(self) -> bool:
        return self.calls >= self.n

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not self.is_on:
                return real(*arguments)
            self.calls += 1
            self.names.append(name)
            if self.calls < self.n or (self.calls > self.n and not self.stays):
                return real(*arguments)
            if self.fault == SHORT:
                if name != "write_at":
                    return real(*arguments)
                fd, data, offset = arguments
                return real(fd, memoryview(data)[: (len(data) + 1) // 2], offset)
            if name == "close":
                real(*arguments)  # Linux frees the descriptor, whatever it reports
            raise OSError(self.fault, os.strerror(self.fault))

        return call


OLD, NEW = b"old body", b"new body, longer"


def _replace(disk: Disk) -> None:
    """Store a new version of a; whatever happens, its bytes are in hand."""
    entry = kit.draft("a")
    with disk.reserve(entry, len(NEW)) as fill:
        fill.write(NEW)
        try:
            stored = fill.commit(kit.with_body(entry, NEW))
        except CacheError:
            try:
                stored = fill.detach(kit.with_body(entry, NEW))
            except DiskFailed:
                return
        with stored:
            assert os.pread(stored.fd, len(NEW), stored.body_offset) == NEW


def _verify(disk: Disk) -> None:
    stored = disk.open(kit.key("a"))
    if stored is not None and disk.verify(stored):
        with stored, stored.duplicate():
            pass


def _reserve(disk: Disk) -> None:
    disk.reserve(kit.draft("a"), 100).abort()


def _evict(disk: Disk) -> None:
    disk.room.inodes = 3
    kit.store(disk, "d")


def _evict_urgently(disk: Disk) -> None:
    disk._space.refused()
    kit.store(disk, "d")


def _remove(disk: Disk) -> None:
    disk.remove_older(kit.key("a").digest, kit.Token(kit.TOKEN.epoch, 5_000))


def _rescan(disk: Disk) -> None:
    for _ in disk.scan():
        pass


def _scrub(disk: Disk) -> None:
    for _ in disk.scrub():
        pass


def _probe(disk: Disk) -> None:
    disk.probe()


def _lose_the_folder(disk: Disk) -> None:
    shutil.rmtree(disk.path)
    _replace(disk)


OPERATIONS: dict[str, tuple[Callable[[Disk], object], tuple[bytes | None, ...]]] = {
    # what is done, and what a may be afterwards
    "load": (lambda disk: kit.load(disk, "a"), (OLD, None)),
    "verify": (_verify, (OLD, None)),
    "reserve": (_reserve, (OLD,)),
    "replace": (_replace, (OLD, NEW, None)),
    "evict": (_evict, (OLD, None)),
    "evict urgently": (_evict_urgently, (OLD, None)),
    "remove": (_remove, (OLD, None)),
    "scan": (_rescan, (OLD, None)),
    "scrub": (_scrub, (OLD, None)),
    "probe": (_probe, (OLD,)),
    "lose the folder": (_lose_the_folder, (NEW, None)),
}
# These make 4,096 calls for folders that are not there; a sample of them will do.
LONG = {"scan", "scrub"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("stays", [False, True])
def test_the_nth_call_fails(tmp_path: Path, operation: str, stays: bool) -> None:
    run, allowed = OPERATIONS[operation]
    # What fails once may be anything; of what goes on failing, each kind is tried once.
    for fault in [*(SEVERE if stays else FAULTS), SHORT]:
        n = 1
        while _one(tmp_path / f"{fault}-{n}", run, allowed, n, fault, stays):
            n += 1 if operation not in LONG or n < 8 else 1301
    assert n > 3


def _one(
    root: Path,
    run: Callable[[Disk], object],
    allowed: tuple[bytes | None, ...],
    n: int,
    fault: int,
    stays: bool,
) -> bool:
    """True when the n-th call was reached."""
    before = kit.descriptors()
    # Every step is taken: syncs, and a look at the file system before each fill.
    disk = Disk(
        str(root), kit.SIZE, 1000, min_free=1, durability=Durability.FULL, clock=ticks().__next__
    )
    for name in ("a", "b", "c"):
        kit.store(disk, name, OLD)
    with pytest.MonkeyPatch.context() as patch:
        shim = NthFails(patch, n, fault, stays=stays)
        with contextlib.suppress(CacheError):
            run(disk)
        shim.is_on = False
    # A pause after two refusals would be over by now.
    disk._space._paused_until = 0
    disk.room.inodes = 1000
    assert kit.load(disk, "a") in allowed
    for name in ("b", "c"):
        assert kit.load(disk, name) in (OLD, None)
    # One more fill takes away what could not be removed then.
    kit.store(disk, "e", b"works again")
    assert kit.load(disk, "e") == b"works again"
    kit.check(disk, root)
    disk.close()
    assert kit.descriptors() == before
    return shim.was_reached


def ticks() -> Iterator[float]:
    """A clock that goes on by a minute whenever it is read."""
    return itertools.count(1e6, 60.0)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_the_nth_call_of_a_start_fails(tmp_path: Path, stays: bool, is_new: bool) -> None:
    for fault in [*FAULTS, SHORT]:
        for n in itertools.count(1):
            root = tmp_path / f"{fault}-{n}"
            if not is_new:
                disk = Disk(str(root), kit.SIZE, 1000)
                kit.store(disk, "a", OLD)
                disk.close()
            before = kit.descriptors()
            with pytest.MonkeyPatch.context() as patch:
                shim = NthFails(patch, n, fault, stays=stays)
                with contextlib.suppress(DiskFailed):
                    Disk(str(root), kit.SIZE, 1000).close()
                shim.is_on = False
            assert kit.descriptors() == before
            # Whatever is left over has the name of a temp file, and the next start works.
            assert len(kit.temp_files(root)) <= 1
            disk = Disk(str(root), kit.SIZE, 1000)
            assert kit.load(disk, "a") == (None if is_new else OLD)
            disk.close()
            if not shim.was_reached:
                break
        assert n > 3


@pytest.mark.parametrize("stays", [False, True])
def test_the_nth_call_in_two_folders_fails(tmp_path: Path, stays: bool) -> None:
    for fault in (errno.EIO, errno.ENOSPC, errno.EMFILE):
        for n in (*range(1, 10), *range(10, 1000, 7)):
            before = kit.descriptors()
            roots = [tmp_path / f"{fault}-{n}-{name}" for name in "xy"]
            folders = Folders(
                [str(root) for root in roots],
                lambda path: Disk(path, kit.SIZE, 1000, durability=Durability.FULL),
                probe_every_s=1e6,
            )
            for name in ("a", "b", "c", "d"):
                kit.store(folders, name, OLD)
            with pytest.MonkeyPatch.context() as patch:
                shim = NthFails(patch, n, fault, stays=stays)
                for name in ("a", "b", "e", "f"):
                    with contextlib.suppress(CacheError):
                        kit.store(folders, name, OLD)
                    assert kit.load(folders, name) in (OLD, None)
                _remove(folders)
                folders.probe()
                shim.is_on = False
            folders.probe()
            assert [why for _, why in folders.states()] == ["", ""]
            for name in ("b", "c", "d", "e", "f"):
                assert kit.load(folders, name) in (OLD, None)
            for disk, root in zip(folders.disks(), roots, strict=True):
                disk._sweep_litter()
                kit.check(disk, root)
            folders.close()
            assert kit.descriptors() == before
            if not shim.was_reached:
                break
        assert n > 20


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("fix", [False, True])
def test_the_nth_call_of_a_check_fails(tmp_path: Path, stays: bool, fix: bool) -> None:
    disk = Disk(str(tmp_path), kit.SIZE, 1000)
    for name in ("a", "b"):
        kit.store(disk, name, OLD)
    disk.close()
    before = kit.descriptors()
    for fault in FAULTS:
        for n in itertools.count(1):
            report = Report()
            with pytest.MonkeyPatch.context() as patch:
                shim = NthFails(patch, n, fault, stays=stays)
                found = list(check([str(tmp_path)], report, fix=fix))
            if not shim.was_reached:
                break
            # What cannot be read is not taken for damage: nothing is removed, whatever fails.
            assert len(found) <= 2
            assert report.removed == 0
            assert kit.descriptors() == before
        assert (len(found), report.is_clean) == (2, True)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EFBIG, NoSpace),
        (errno.EIO, DiskFailed),
        (errno.EROFS, DiskFailed),
    ],
)
def test_what_a_failed_write_is_called(tmp_path: Path, fault: int, kind: type[Exception]) -> None:
    disk = Disk(str(tmp_path), kit.SIZE, 1000)
    for call in ("open_new", "write_at", "rename"):
        with pytest.MonkeyPatch.context() as patch:

            def fail(*_: object) -> None:
                raise OSError(fault, os.strerror(fault))

            patch.setattr(files, call, fail)
            with pytest.raises(kind):
                kit.store(disk)
        kit.check(disk, tmp_path)
    disk.close()


def test_a_full_disk_evicts_a_batch_before_the_next_fill(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), kit.SIZE, 1000)
    for number in range(100):
        kit.store(disk, f"n{number}")
    with pytest.MonkeyPatch.context() as patch:
        NthFails(patch, 1, errno.ENOSPC, stays=True)
        with pytest.raises(NoSpace):
            kit.store(disk, "more")
    assert disk.stats.evicted == 0
    kit.store(disk, "more")
    assert disk.stats.evicted == 64
    kit.check(disk, tmp_path)
    disk.close()


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR])
def test_a_passing_fault_costs_a_miss_but_not_the_file(tmp_path: Path, fault: int) -> None:
    disk = Disk(str(tmp_path), kit.SIZE, 1000)
    kit.store(disk)
    for n in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            NthFails(patch, n, fault, stays=False)
            assert disk.open(kit.key()) is None
    assert kit.load(disk) == b"body"
    assert disk.stats.read_errors == 3
    disk.close()
