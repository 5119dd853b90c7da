"""Several cache folders: where things are, how a folder is lost, and how it comes back."""

import contextlib
import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cache import files
from cache.disk import Disk
from cache.errors import CacheError, DiskFailed
from cache.folders import Folders
from cache.health import MOST_IN_A_ROW
from tests.cache import kit

NAMES = [f"n{number}" for number in range(60)]
NEWER = kit.Token(kit.TOKEN.epoch, 5_000)
NEVER_S = 1e6


def open_folders(roots: list[Path], probe_every_s: float = NEVER_S) -> Folders:
    open_disk = partial(Disk, size=kit.SIZE, inodes=1000)
    return Folders([str(root) for root in roots], open_disk, probe_every_s=probe_every_s)


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in "xyz"]


@pytest.fixture
def folders(roots: list[Path]) -> Iterator[Folders]:
    before = kit.descriptors()
    with contextlib.closing(open_folders(roots)) as folders:
        yield folders
    assert kit.descriptors() == before


class Broken:
    """Every call in one folder fails, or in those that begin with what is given."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, number: int, *names: str) -> None:
        self._folder = folder
        self._number = number
        for name in names or ("open_read", "open_new", "open_folder", "make_root", "rename"):
            patch.setattr(files, name, partial(self._call, getattr(files, name)))

    def _call(self, real, *arguments):  # type: ignore[no-untyped-def]
        where = arguments[-1]
        path = where if isinstance(where, str) else os.readlink(f"/proc/self/fd/{where}")
        if Path(path) == self._folder:
            raise OSError(self._number, os.strerror(self._number))
        return real(*arguments)


def fill(folders: Folders, names: list[str] = NAMES) -> None:
    for name in names:
        kit.store(folders, name, name.encode())


def found(folders: Folders, names: list[str] = NAMES) -> set[str]:
    present = set()
    for name in names:
        body = kit.load(folders, name)
        assert body in (None, name.encode())
        if body is not None:
            present.add(name)
    return present


def lose(folders: Folders, root: Path, number: int = errno.EIO) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Broken(patch, root, number)
        for name in NAMES:
            kit.load(folders, name)
            with contextlib.suppress(CacheError):
                kit.store(folders, name, name.encode())
    assert [path for path, why in folders.states() if why] == [str(root)]


def test_every_folder_has_its_share(folders: Folders, roots: list[Path]) -> None:
    fill(folders)
    counts = [len(kit.names(root)) for root in roots]
    assert sum(counts) == len(NAMES)
    assert all(8 <= count <= 35 for count in counts)
    assert found(folders) == set(NAMES)
    for disk, root in zip(folders.disks(), roots, strict=True):
        kit.check(disk, root)
    assert folders.room.used_inodes == len(NAMES)
    assert folders.room.size == 3 * kit.SIZE
    stats = folders.stats
    assert (stats.hits, stats.misses, stats.commits) == (len(NAMES), 0, len(NAMES))


def test_one_folder_more_moves_no_other_keys(roots: list[Path]) -> None:
    with contextlib.closing(open_folders(roots[:2])) as folders:
        fill(folders)
        places = {name: root for root in roots[:2] for name in kit.names(root)}
    with contextlib.closing(open_folders(roots)) as folders:
        assert found(folders) == set(NAMES)  # what has moved is still found where it was
        fill(folders)
        moved = set(kit.names(roots[2]))
        assert 8 <= len(moved) <= 35
        for name, root in places.items():
            assert name in moved or name in kit.names(root)
            if name not in moved:
                assert sum(name in kit.names(other) for other in roots) == 1


def test_a_purge_reaches_every_copy(roots: list[Path]) -> None:
    with contextlib.closing(open_folders(roots[:2])) as folders:
        fill(folders)
    with contextlib.closing(open_folders(roots)) as folders:
        fill(folders)
        for name in NAMES:
            assert folders.remove_older(kit.key(name).digest, NEWER)
            assert not folders.remove_older(kit.key(name).digest, NEWER)
        assert found(folders) == set()
        assert [kit.names(root) for root in roots] == [[], [], []]


def test_evictions_are_told_to_whoever_listens_now(folders: Folders) -> None:
    fill(folders)
    told: list[str] = []
    folders.on_evict = lambda entries: told.extend(entry.key.source.path for entry in entries)
    for disk in folders.disks():
        disk._evict(disk.room.victims(2, urgent=True))
    assert len(told) == 6


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV])
def test_a_folder_that_fails_is_left_alone(
    folders: Folders, roots: list[Path], number: int, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folders)
    lose(folders, roots[1], number)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert str(roots[1]) in caplog.text
    assert folders.losses == 1
    # Its keys are kept by the others, the others' keys stay where they were.
    fill(folders)
    assert found(folders) == set(NAMES)
    assert len(folders.disks()) == 2
    # It is not touched until it is probed, and comes back with what it had.
    with pytest.MonkeyPatch.context() as patch:
        Broken(patch, roots[1], number)
        folders.probe()
        assert len(folders.disks()) == 2
    folders.probe()
    assert len(folders.disks()) == 3
    assert folders.recoveries == 1
    # What was counted against it is forgotten.
    with pytest.MonkeyPatch.context() as patch:
        Broken(patch, roots[1], number, "rename")
        theirs = next(name for name in NAMES if kit.path_of(roots[1], name).exists())
        with pytest.raises(DiskFailed):
            kit.store(folders, theirs, theirs.encode())
        assert len(folders.disks()) == 3
    assert found(folders) == set(NAMES)
    for disk, root in zip(folders.disks(), roots, strict=True):
        kit.check(disk, root)


def test_fewer_errors_are_no_loss(folders: Folders, roots: list[Path]) -> None:
    fill(folders)
    theirs = [name for name in NAMES if kit.path_of(roots[0], name).exists()]
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            Broken(patch, roots[0], errno.EIO)
            for name in theirs[: MOST_IN_A_ROW - 1]:
                kit.load(folders, name)
        assert kit.load(folders, theirs[-1]) == theirs[-1].encode()
    assert len(folders.disks()) == 3


def test_with_no_folder_left_nothing_is_kept(roots: list[Path]) -> None:
    with contextlib.closing(open_folders(roots[:1])) as folders:
        fill(folders)
        lose(folders, roots[0])
        assert found(folders) == set()
        with pytest.raises(DiskFailed):
            kit.store(folders, "a")
        assert not folders.remove_older(kit.key("a").digest, NEWER)
        assert list(folders.scan()) == []
        folders.probe()
        assert len(found(folders)) > len(NAMES) - 10  # what failed was unlinked where it could be
        kit.store(folders, "a")


def test_a_folder_that_cannot_be_opened_is_opened_later(
    roots: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(open_folders(roots)) as folders:
        fill(folders)
    aside = roots[0].with_name("aside")
    roots[0].rename(aside)
    roots[0].write_bytes(b"not a folder")
    with contextlib.closing(open_folders(roots)) as folders:
        assert "is not used (File exists); 2 of 3 are left" in caplog.text
        assert 0 < len(found(folders)) < len(NAMES)
        for _ in folders.scan():
            pass
        folders.probe()
        assert len(folders.disks()) == 2
        roots[0].unlink()
        aside.rename(roots[0])
        folders.probe()
        assert found(folders) == set(NAMES)
        # It was scanned, so what it holds is counted.
        kit.check(folders.disks()[0], roots[0])


def test_another_layout_is_no_reason_not_to_start(roots: list[Path]) -> None:
    roots[1].mkdir()
    (roots[1] / "layout").write_text("halftone cache 9\n")
    with contextlib.closing(open_folders(roots)) as folders:
        assert len(folders.disks()) == 2
        fill(folders)
    assert os.listdir(roots[1]) == ["layout"]
    with pytest.raises(CacheError, match="another cache layout"):
        open_folders(roots[1:2])


def test_where_no_folder_can_be_used_it_does_not_start(roots: list[Path]) -> None:
    before = kit.descriptors()
    for root in roots:
        root.write_bytes(b"")
    with pytest.raises(DiskFailed, match=str(roots[0])):
        open_folders(roots)
    assert kit.descriptors() == before


def test_lost_folders_are_tried_by_a_thread(roots: list[Path]) -> None:
    with contextlib.closing(open_folders(roots, 0.01)) as folders:
        fill(folders)
        came_back = threading.Event()
        real = folders.disks()[1].scan

        def scan() -> Iterator[int]:
            yield from real()
            came_back.set()

        with pytest.MonkeyPatch.context() as patch:
            Broken(patch, roots[1], errno.EIO)
            for name in NAMES:
                with contextlib.suppress(CacheError):
                    kit.store(folders, name, name.encode())
            assert folders.losses == 1
            folders._folders[1].disk.scan = scan  # type: ignore[union-attr,method-assign]
        assert came_back.wait(20)
        assert folders.recoveries == 1
        assert len(folders.disks()) == 3


def test_a_folder_that_is_removed_is_made_anew(
    folders: Folders, roots: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    fill(folders)
    with folders.open(kit.key(NAMES[0])) as stored:
        for root in roots:
            shutil.rmtree(root)
        assert stored.read() == NAMES[0].encode()
    assert found(folders) == set()
    fill(folders)
    assert found(folders) == set(NAMES)
    assert len(caplog.records) == folders.stats.remade == 3
    for disk, root in zip(folders.disks(), roots, strict=True):
        kit.check(disk, root)
        assert (root / "layout").exists()


def test_a_fill_under_way_when_its_folder_is_removed_is_served(folders: Folders) -> None:
    entry = kit.draft("a")
    with folders.reserve(entry, 4) as fill_under_way:
        fill_under_way.write(b"body")
        for disk in folders.disks():
            shutil.rmtree(disk.path)
        fill(folders)
        with pytest.raises(DiskFailed):
            fill_under_way.commit(kit.with_body(entry, b"body"))
        with fill_under_way.detach(kit.with_body(entry, b"body")) as stored:
            assert stored.read() == b"body"
    for disk in folders.disks():
        kit.check(disk, Path(disk.path))
