"""The disk tier: store and load, damage of every kind, eviction, restart."""

import contextlib
import dataclasses
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import files
from cache.disk import BATCH, URGENT_BATCHES, Disk
from cache.durability import Durability
from cache.entry import VERSION, head_size
from cache.errors import CacheError, DamagedEntry, DiskFailed, DoesNotFit, NoSpace
from cache.index.interface import Token
from cache.layout import LAYOUT, path_of
from cache.room import BLOCK
from cache.temp import Owner
from tests.cache import kit
from tests.cache.golden_entries import GOLDEN, body_of
from tests.cache.test_entry import of_version, sealed

BODY = bytes(range(256)) * 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def disk(root: Path) -> Iterator[Disk]:
    before = kit.descriptors()
    disk = Disk(str(root), kit.SIZE, 1000)
    yield disk
    disk.close()
    assert kit.descriptors() == before


def _scan(disk: Disk) -> None:
    for _ in disk.scan():
        pass


@pytest.mark.parametrize("body", [b"", b"x", BODY, b"z" * (BLOCK - 512), b"z" * (BLOCK - 511)])
def test_what_is_stored_is_found(disk: Disk, root: Path, body: bytes) -> None:
    assert disk.open(kit.key()) is None
    kit.store(disk, body=body)
    assert kit.load(disk) == body
    assert disk.open(kit.key(variant="w=221")) is None
    kit.check(disk, root)
    assert (disk.stats.hits, disk.stats.misses, disk.stats.commits) == (1, 2, 1)


def test_a_thumbnail_of_3584_bytes_takes_one_block(disk: Disk) -> None:
    kit.store(disk, body=b"z" * 3584)
    assert disk.room.used == BLOCK


def test_a_long_head_is_read_in_full(disk: Disk) -> None:
    entry = dataclasses.replace(kit.draft(), tags=tuple(f"tag-{n}" for n in range(1000)), length=4)
    with disk.reserve(entry, 4) as fill:
        assert fill.body_offset == head_size(entry) > BLOCK
        os.write(fill.fd, b"body")  # the descriptor stands where the body begins
        fill.commit(entry).close()
    with disk.open(entry.key) as stored:
        assert stored.entry.tags == entry.tags
        assert stored.read() == b"body"


def test_a_commit_hands_over_an_open_file(disk: Disk) -> None:
    entry = kit.draft()
    with disk.reserve(entry, 4) as fill:
        fill.write(b"bo")
        fill.write(b"dy")
        stored = fill.commit(kit.with_body(entry, b"body"))
    assert stored.is_verified
    copy = stored.duplicate()
    assert stored.read() == b"body"
    stored.close()
    stored.close()
    assert copy.read() == b"body"
    copy.close()


def test_an_open_file_outlives_its_name(disk: Disk, root: Path) -> None:
    kit.store(disk, body=b"first")
    with disk.open(kit.key()) as stored:
        kit.store(disk, body=b"second!")
        assert stored.read() == b"first"
        assert kit.load(disk) == b"second!"
        assert disk.remove_older(kit.key().digest, Token(kit.TOKEN.epoch, 2_000))
        assert stored.read() == b"first"
    kit.check(disk, root)


@pytest.mark.parametrize("end", ["abort", "leave", "raise"])
def test_a_fill_that_ends_early_leaves_nothing(disk: Disk, root: Path, end: str) -> None:
    kit.store(disk, body=b"old")
    fill = disk.reserve(kit.draft(), 100)
    fill.write(b"new")
    assert len(kit.temp_files(root)) == 1
    match end:
        case "abort":
            fill.abort()
            fill.abort()
        case "leave":
            with fill:
                pass
        case "raise":
            with pytest.raises(KeyError), fill:
                raise KeyError
    kit.check(disk, root)
    assert kit.load(disk) == b"old"


@pytest.mark.parametrize("announced", [0, 3, 5, 2**40])
def test_a_body_of_another_length_is_not_published(disk: Disk, root: Path, announced: int) -> None:
    with disk.reserve(kit.draft(), 4) as fill:
        fill.write(b"body")
        entry = dataclasses.replace(kit.draft(), length=announced)
        with pytest.raises(DamagedEntry):
            fill.commit(entry)
        kit.check(disk, root)
        with pytest.raises(DamagedEntry):
            fill.detach(entry)
    assert disk.open(kit.key()) is None


def test_detached_bytes_are_readable_and_have_no_name(disk: Disk, root: Path) -> None:
    with disk.reserve(kit.draft(), 4) as fill:
        fill.write(b"body")
        stored = fill.detach(kit.with_body(kit.draft(), b"body"))
    kit.check(disk, root)
    assert disk.open(kit.key()) is None
    with stored:
        assert stored.read() == b"body"


def test_what_can_never_fit_is_refused(disk: Disk, root: Path) -> None:
    with pytest.raises(DoesNotFit):
        disk.reserve(kit.draft(), disk.room.largest)
    with disk.reserve(kit.draft(), 1) as fill:  # announced small, became large
        body = b"z" * disk.room.largest
        os.pwrite(fill.fd, body, fill.body_offset)  # as a resizer does
        with pytest.raises(DoesNotFit):
            fill.commit(kit.with_body(kit.draft(), body))
        with fill.detach(kit.with_body(kit.draft(), body)) as stored:
            assert stored.read() == body
    kit.check(disk, root)


def test_a_body_of_unknown_length_claims_what_it_takes(disk: Disk, root: Path) -> None:
    piece = b"z" * 65_536
    with disk.reserve(kit.draft(), 1) as fill:
        written = 0
        while written + len(piece) < disk.room.largest - 4096:
            fill.write(piece)
            written += len(piece)
            assert written < disk.room.used <= disk.room.largest
        with pytest.raises(DoesNotFit):
            fill.write(piece)
        assert (disk.room.used, disk.room.used_inodes) == (0, 0)
        assert not kit.temp_files(root)
        # The bytes are still there for whoever reads along.
        assert os.pread(fill.fd, len(piece), fill.body_offset + written - len(piece)) == piece
    with disk.reserve(kit.draft(), 1) as fill:
        fill.write(piece * 3)
        fill.commit(kit.with_body(kit.draft(), piece * 3)).close()
    kit.check(disk, root)


def test_a_body_that_grows_makes_room(root: Path) -> None:
    disk = Disk(str(root), size=1_000_000, inodes=100)
    body = b"z" * 60_000
    for number in range(12):
        kit.store(disk, str(number), body)
    with disk.reserve(kit.draft("film"), 1) as first, disk.reserve(kit.draft("next"), 1) as second:
        for fill in (first, second):
            fill.write(b"z" * 50_000)
            fill.write(b"z" * 50_000)
        assert disk.room.fits
        assert disk.stats.evicted
    kit.check(disk, root)
    disk.close()


# Damage. Each leaves nothing servable where the entry was, and must not be served.


def _truncate_head(path: Path) -> None:
    os.truncate(path, 100)


def _truncate_body(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _sparse(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 512)
    os.truncate(path, size)


def _flip_head(path: Path) -> None:
    _flip(path, 130)


def _flip_body(path: Path) -> None:
    _flip(path, 700)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _symlink(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


DAMAGE = [
    *(_truncate_head, _truncate_body, _append, _empty, _sparse, _flip_head, _flip_body),
    *(_folder, _symlink, _fifo, _socket),
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_damage_is_a_miss_and_is_removed(
    root: Path, damage: Callable[[Path], None], is_restarted: bool
) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    kit.store(disk, body=BODY)
    damage(kit.path_of(root))
    if is_restarted:
        disk.close()
        disk = Disk(str(root), kit.SIZE, 1000)
        _scan(disk)
    assert kit.load(disk) is None
    assert not os.path.lexists(kit.path_of(root))
    assert kit.key().digest not in disk.room
    kit.store(disk, body=b"again")
    assert kit.load(disk) == b"again"
    disk.close()


def test_damage_found_late_does_not_take_a_newer_file_away(disk: Disk, root: Path) -> None:
    kit.store(disk, body=BODY)
    _flip_body(kit.path_of(root))
    damaged = disk.open(kit.key())
    kit.store(disk, body=b"newer")
    assert not disk.verify(damaged)
    assert kit.load(disk) == b"newer"
    kit.check(disk, root)


def test_swapped_files_are_misses(disk: Disk, root: Path) -> None:
    kit.store(disk, "a", b"of a")
    kit.store(disk, "b", b"of b")
    a, b = kit.path_of(root, "a"), kit.path_of(root, "b")
    a.rename(root / "aside")
    b.rename(a)
    (root / "aside").rename(b)
    assert kit.load(disk, "a") is None
    assert kit.load(disk, "b") is None
    assert disk.stats.damaged == 2
    kit.check(disk, root)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_right_bytes_or_a_miss(disk: Disk, root: Path, data: st.DataObject) -> None:
    kit.store(disk, body=BODY)
    path = kit.path_of(root)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        match data.draw(st.sampled_from(["cut", "flip", "insert", "zero"])):
            case "cut":
                del raw[data.draw(st.integers(0, len(raw))) :]
            case "flip" if raw:
                raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "insert":
                at = data.draw(st.integers(0, len(raw)))
                raw[at:at] = data.draw(st.binary(max_size=20))
            case "zero":
                at = data.draw(st.integers(0, len(raw)))
                raw[at : at + 64] = bytes(len(raw[at : at + 64]))
    path.write_bytes(raw)
    assert kit.load(disk) in (None, BODY)


# Room


def test_size_is_bounded_and_the_dear_stay(root: Path) -> None:
    disk = Disk(str(root), 200 * BLOCK, 1000)
    for number in range(600):
        name = f"n{number}"
        entry = dataclasses.replace(kit.draft(name), cost_ms=1 if number % 2 else 500, length=4)
        with disk.reserve(entry, 4) as fill:
            fill.write(b"body")
            fill.commit(entry).close()
        assert disk.room.used <= 200 * BLOCK
    kit.check(disk, root)
    assert disk.stats.evicted == 600 - disk.room.used_inodes
    dear = sum(f"n{n}" in _present(disk, 600) for n in range(0, 600, 2))
    cheap = sum(f"n{n}" in _present(disk, 600) for n in range(1, 600, 2))
    assert dear > 3 * cheap
    disk.close()


def _present(disk: Disk, count: int) -> set[str]:
    return {f"n{n}" for n in range(count) if kit.key(f"n{n}").digest in disk.room}


def test_inodes_are_bounded(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 50)
    for number in range(120):
        kit.store(disk, f"n{number}")
        assert disk.room.used_inodes <= 50
    kit.check(disk, root)
    disk.close()


def test_one_insert_evicts_a_batch_and_the_next_ones_go_on(root: Path) -> None:
    disk = Disk(str(root), 2000 * BLOCK, 10_000)
    number = 0
    while disk.stats.evicted == 0:
        kit.store(disk, f"n{number}")
        number += 1
    assert number == 1901  # the first above 95 %
    assert disk.stats.evicted == 64
    kit.store(disk, "more")
    assert disk.stats.evicted > 64  # not at the low mark yet
    kit.store(disk, "and more")
    assert disk.room.used <= 2000 * BLOCK * 0.9 + 2 * BLOCK
    disk.close()


def test_running_fills_count_and_can_take_all_the_room(root: Path) -> None:
    disk = Disk(str(root), 10 * BLOCK, 100)
    fills = [disk.reserve(kit.draft(f"n{n}"), 4) for n in range(10)]
    with pytest.raises(CacheError):
        disk.reserve(kit.draft("late"), 4)
    for fill in fills:
        fill.abort()
    kit.store(disk, "late")
    kit.check(disk, root)
    disk.close()


def test_the_evicted_are_told_before_they_are_unlinked(root: Path) -> None:
    disk = Disk(str(root), 20 * BLOCK, 100)
    told: list[str] = []

    def on_evict(entries: object) -> None:
        for entry in entries:
            name = entry.key.source.path[1:-4]
            assert kit.path_of(root, name).exists()
            told.append(name)

    disk.on_evict = on_evict
    for number in range(40):
        kit.store(disk, f"n{number}")
    assert len(told) == len(set(told)) == disk.stats.evicted > 0
    assert not any(kit.path_of(root, name).exists() for name in told)
    disk.close()


@pytest.mark.parametrize("is_scanned", [False, True])
def test_who_has_popular_kin_is_evicted_later(root: Path, is_scanned: bool) -> None:
    disk = Disk(str(root), 100 * BLOCK, 10_000)
    variants = [f"w={width}" for width in range(200, 212)]
    for number, variant in enumerate(variants):
        kit.store(disk, f"alone{number}")
        kit.store(disk, "popular", variant=variant)
    if is_scanned:  # with what was counted so far, but for the files: as the folder's next scan
        for number, variant in enumerate(variants):
            disk.room.remove(kit.key("popular", variant).digest)
            disk.room.remove(kit.key(f"alone{number}").digest)
        _scan(disk)
    number = 0
    while any(kit.key(f"alone{n}").digest in disk.room for n in range(12)):
        kit.store(disk, f"n{number}")
        number += 1
    assert sum(kit.key("popular", variant).digest in disk.room for variant in variants[2:]) == 10
    disk.close()


def test_a_key_that_is_filled_again_during_its_eviction_stays(root: Path) -> None:
    disk = Disk(str(root), 100 * BLOCK, 10)
    for number in range(8):
        kit.store(disk, f"n{number}")

    def on_evict(entries: object) -> None:
        disk.on_evict = lambda _: None
        assert entries[0].key == kit.key("n0")
        with again as fill:
            fill.write(b"newer")
            fill.commit(kit.with_body(kit.draft("n0"), b"newer")).close()

    again = disk.reserve(kit.draft("n0"), 5)
    disk.on_evict = on_evict
    disk.reserve(kit.draft("more"), 4).abort()
    assert kit.load(disk, "n0") == b"newer"
    kit.check(disk, root)
    disk.close()


def test_only_older_generations_of_the_same_epoch_are_removed(disk: Disk) -> None:
    kit.store(disk)
    digest = kit.key().digest
    assert not disk.remove_older(digest, kit.TOKEN)
    assert not disk.remove_older(digest, Token("f" * 16, 2_000))
    assert not disk.remove_older(kit.key("other").digest, Token(kit.TOKEN.epoch, 2_000))
    assert disk.remove_older(digest, Token(kit.TOKEN.epoch, 1_001))
    assert disk.open(kit.key()) is None


# Restart


def test_a_scan_rebuilds_the_accounting(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    for number in range(100):
        kit.store(disk, f"n{number}", b"z" * 100 * number)
    used = disk.room.used
    disk.close()

    disk = Disk(str(root), kit.SIZE, 1000)
    assert kit.load(disk, "n7") == b"z" * 700  # served before it is counted
    scan = disk.scan()
    next(scan)
    kit.store(disk, "during", b"the scan")
    for _ in scan:
        pass
    assert disk.room.used == used + BLOCK
    assert disk.stats.adopted == 100
    _scan(disk)
    assert disk.stats.adopted == 100
    kit.check(disk, root)
    disk.close()


def test_after_a_whole_scan_it_is_known_what_is_not_there(root: Path) -> None:
    absent, stored = kit.key("absent").digest, kit.key("a").digest
    with contextlib.closing(Disk(str(root), kit.SIZE, 1000)) as disk:
        kit.store(disk)
        kit.store(disk, "b")
        scan = disk.scan()
        next(scan)
        assert disk.may_hold(absent)
        for _ in scan:
            pass
        assert not disk.may_hold(absent)
        assert disk.may_hold(stored)
        disk.remove_older(stored, Token(kit.TOKEN.epoch, 5_000))
        assert not disk.may_hold(stored)
        kit.store(disk)
        assert disk.may_hold(stored)
        # Another folder is under the path: what is in there nobody has seen.
        shutil.rmtree(root)
        kit.store(disk)
        assert disk.stats.remade == 1
        assert disk.may_hold(absent)
        _scan(disk)
        assert not disk.may_hold(absent)
        assert disk.may_hold(stored)


def test_of_a_shared_folder_or_one_that_cannot_be_listed_nothing_is_known(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = kit.key("absent").digest
    with contextlib.closing(Disk(str(root), kit.SIZE, 1000, part=0, parts=2)) as disk:
        _scan(disk)
        assert disk.may_hold(absent)
    with contextlib.closing(Disk(str(root), kit.SIZE, 1000)) as disk:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("cache.files.list_folder", fail)
        _scan(disk)
        assert disk.may_hold(absent)


def test_a_smaller_size_takes_effect_during_the_scan(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    for number in range(300):
        kit.store(disk, f"n{number}")
    disk.close()
    disk = Disk(str(root), 100 * BLOCK, 1000)
    _scan(disk)
    kit.check(disk, root)
    disk.close()


def test_temp_files_of_the_dead_are_swept_and_others_stay(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    kit.store(disk)
    alive = disk.reserve(kit.draft("b"), 4)
    folder = kit.path_of(root).parent
    us = Owner.of_this_process()
    dead = [
        Owner("00000000", us.pid, us.start),  # before the last boot
        Owner(us.boot, us.pid, us.start + 1),  # our process id, another process
        Owner(us.boot, 2**22 + 1, 5),  # nobody: above the kernel's highest
    ]
    for owner in dead:
        (folder / owner.name(1)).write_bytes(b"half")
    for foreign in (".tmp-x", "README", "A" * 40):
        (folder / foreign).write_bytes(b"not ours")
    _scan(disk)
    assert disk.stats.swept == 3
    assert sorted(kit.names(root)) == sorted(
        [
            *(".tmp-x", "README", "A" * 40, kit.key().digest.hex()),
            *(name for name in kit.temp_files(root) if name.startswith(f".tmp-{us.boot}-{us.pid}")),
        ]
    )
    assert len(kit.temp_files(root)) == 2
    alive.abort()
    disk.close()


def test_a_first_use_after_a_start_is_not_verified_yet(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    kit.store(disk)
    with disk.open(kit.key()) as stored:
        assert stored.is_verified, "hashed as it was written"
    disk.close()
    disk = Disk(str(root), kit.SIZE, 1000)
    with disk.open(kit.key()) as stored:
        assert not stored.is_verified
        assert disk.verify(stored)
    with disk.open(kit.key()) as stored:
        assert stored.is_verified
    disk.close()


def test_a_file_that_was_changed_is_verified_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    kit.store(disk, body=b"right")
    path = kit.path_of(root)
    os.utime(path)  # only its time has changed
    assert not disk.open(kit.key()).is_verified
    assert kit.load(disk) == b"right"
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    assert kit.load(disk) is None
    monkeypatch.setattr("cache.disk.MAX_VERIFIED", 2)
    for name in "abc":
        kit.store(disk, name)
    assert [disk.open(kit.key(name)).is_verified for name in "abc"] == [False, True, True]
    disk.close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    before = kit.descriptors()
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(DiskFailed):
        Disk(str(file), kit.SIZE, 10)
    with pytest.raises(DiskFailed):
        Disk(str(file / "below"), kit.SIZE, 10)
    other = tmp_path / "other"
    other.mkdir()
    (other / "layout").write_text("halftone cache 2\n")
    with pytest.raises(CacheError):
        Disk(str(other), kit.SIZE, 10)
    assert kit.descriptors() == before


def test_folders_removed_under_a_running_node(disk: Disk, root: Path) -> None:
    kit.store(disk)
    path = kit.path_of(root)
    path.unlink()
    path.parent.rmdir()
    assert disk.open(kit.key()) is None
    kit.store(disk, body=b"again")
    assert kit.load(disk) == b"again"


def test_a_file_that_may_not_be_read_is_a_miss_and_is_removed(disk: Disk, root: Path) -> None:
    kit.store(disk, body=BODY)
    path = kit.path_of(root)
    path.chmod(0)
    with not_root(root):
        assert kit.load(disk) is None
    assert not path.exists()
    kit.store(disk, body=b"again")
    assert kit.load(disk) == b"again"
    kit.check(disk, root)


@contextlib.contextmanager
def not_root(root: Path) -> Iterator[None]:
    """As a user whom modes concern. The folder is open already, so those above do not matter."""
    if os.geteuid() != 0:
        yield
        return
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class Damaged:
    """Whatever may lie under an entry's name; what Hypothesis draws is done in turn."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = kit.path_of(root)

    def truncate(self, data: st.DataObject) -> None:
        if self._path.is_file():
            os.truncate(self._path, data.draw(st.integers(0, self._path.stat().st_size)))

    def grow(self, data: st.DataObject) -> None:
        if self._path.is_file():
            size = self._path.stat().st_size
            os.truncate(self._path, size + data.draw(st.integers(1, 3 * BLOCK)))

    def append(self, data: st.DataObject) -> None:
        if self._path.is_file():  # opening a FIFO would wait for a reader
            with self._path.open("ab") as file:
                file.write(data.draw(st.binary(min_size=1, max_size=20)))

    def flip(self, data: st.DataObject) -> None:
        if self._path.is_file() and self._path.stat().st_size:
            raw = bytearray(self._path.read_bytes())
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
            self._path.write_bytes(raw)

    def hole(self, data: st.DataObject) -> None:
        if self._path.is_file():
            size = self._path.stat().st_size
            os.truncate(self._path, data.draw(st.integers(0, size)))
            os.truncate(self._path, size)

    def swap(self, data: st.DataObject) -> None:
        other = kit.path_of(self._root, "b")
        if self._path.is_file() and other.is_file():
            self._path.rename(self._root / "aside")
            other.rename(self._path)
            (self._root / "aside").rename(other)

    def copy_of_another(self, data: st.DataObject) -> None:
        if self._path.is_file() and kit.path_of(self._root, "b").is_file():
            self._path.write_bytes(kit.path_of(self._root, "b").read_bytes())

    def empty(self, data: st.DataObject) -> None:
        self._replace()
        self._path.touch()

    def folder(self, data: st.DataObject) -> None:
        self._replace()
        self._path.mkdir()

    def symlink(self, data: st.DataObject) -> None:
        self._replace()
        self._path.symlink_to(kit.path_of(self._root, "b"))

    def fifo(self, data: st.DataObject) -> None:
        self._replace()
        os.mkfifo(self._path)

    def remove(self, data: st.DataObject) -> None:
        self._replace()

    def _replace(self) -> None:
        if self._path.is_dir() and not self._path.is_symlink():
            self._path.rmdir()
        self._path.unlink(missing_ok=True)


WAYS = sorted(name for name in vars(Damaged) if not name.startswith("_"))


@settings(max_examples=80, deadline=None)
@given(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=3), data=st.data())
def test_whatever_lies_there_is_healed_by_the_next_fill(
    ways: list[str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "cache"
        disk = Disk(str(root), kit.SIZE, 1000)
        kit.store(disk, body=BODY)
        kit.store(disk, "b", b"of b")
        for way in ways:
            getattr(Damaged(root), way)(data)
        if data.draw(st.integers(0, 3)) == 0:
            for _ in disk.scrub():
                pass
        assert kit.load(disk) in (None, BODY)
        assert kit.load(disk, "b") in (None, b"of b")
        kit.store(disk, body=b"again")
        kit.store(disk, "b", b"of b again")
        assert kit.load(disk) == b"again"
        assert kit.load(disk, "b") == b"of b again"
        kit.check(disk, root)
        disk.close()


# A later version of the program was here


def _make_newer(path: Path) -> bytes:
    data = path.read_bytes()
    newer = sealed(of_version(VERSION + 1, data[:512])) + data[512:]
    path.write_bytes(newer)
    return newer


def test_a_file_of_a_later_version_is_a_miss_and_stays(root: Path) -> None:
    with contextlib.closing(Disk(str(root), kit.SIZE, 1000)) as disk:
        for name in ("a", "b", "c"):
            kit.store(disk, name)
    path = kit.path_of(root)
    newer = _make_newer(path)
    with contextlib.closing(Disk(str(root), kit.SIZE, 1000)) as disk:
        _scan(disk)
        kit.check(disk, root)  # it takes room, and is counted
        assert kit.load(disk) is None
        for _ in disk.scrub():
            pass
        assert not disk.remove_older(kit.key().digest, Token(kit.TOKEN.epoch, 5_000))
        assert path.read_bytes() == newer
        assert (disk.stats.damaged, disk.stats.newer) == (0, 3)
        # For want of room it goes, like all others.
        disk._evict(disk.room.victims(10, urgent=True))
        assert kit.names(root) == []
        assert disk.stats.evicted == 3
        kit.check(disk, root)


def test_a_fill_takes_the_place_of_a_later_version(disk: Disk, root: Path) -> None:
    kit.store(disk)
    _make_newer(kit.path_of(root))
    assert kit.load(disk) is None
    kit.store(disk, body=b"ours")
    assert kit.load(disk) == b"ours"
    kit.check(disk, root)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
@pytest.mark.parametrize("name", GOLDEN)
def test_files_of_every_version_are_served(disk: Disk, root: Path, version: int, name: str) -> None:
    key = GOLDEN[name].key
    path = root / path_of(key.digest)
    path.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "golden" / f"v{version}-{name}", path)
    with disk.open(key) as stored:
        assert disk.verify(stored)
        assert stored.read() == body_of(name)
    _scan(disk)
    kit.check(disk, root)


# Durability


@pytest.mark.parametrize(
    ("durability", "expected"),
    [
        (Durability.NONE, ["rename"]),
        (Durability.DATA, ["sync_data", "rename"]),
        (Durability.FULL, ["sync_data", "rename", "sync_folder"]),
    ],
)
def test_what_is_synced_when(
    root: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, expected: list[str]
) -> None:
    disk = Disk(str(root), kit.SIZE, 1000, durability=durability)
    kit.store(disk, "a")
    calls: list[str] = []

    def call(name: str, real: Callable[..., None], *arguments: object) -> None:
        calls.append(name)
        real(*arguments)

    for name in ("sync_data", "sync_folder", "rename"):
        monkeypatch.setattr(files, name, partial(call, name, getattr(files, name)))
    kit.store(disk, "a")
    assert calls == expected
    calls.clear()
    kit.store(disk, "b")  # two new folders, each made known to the one above
    assert calls == ["sync_folder"] * 2 * (durability is Durability.FULL) + expected
    disk.close()


def test_a_body_that_cannot_be_synced_is_served_and_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(str(root), kit.SIZE, 1000, durability=Durability.DATA)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "sick")

    monkeypatch.setattr(files, "sync_data", fail)
    entry = kit.with_body(kit.draft(), b"body")
    with disk.reserve(entry, 4) as fill:
        fill.write(b"body")
        with pytest.raises(DiskFailed):
            fill.commit(entry)
        with fill.detach(entry) as stored:
            assert stored.read() == b"body"
    kit.check(disk, root)
    disk.close()


def test_a_layout_file_that_a_power_cut_emptied(root: Path) -> None:
    Disk(str(root), kit.SIZE, 1000).close()
    os.truncate(root / "layout", 0)
    Disk(str(root), kit.SIZE, 1000).close()
    assert (root / "layout").read_text() == LAYOUT


# The floor of free space


class FileSystem:
    """Reports what is free as it is told, a block for each entry that goes."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, free_blocks: int) -> None:
        self._root = root
        self._all = free_blocks
        self.asked = 0
        patch.setattr(files, "free", self)

    def __call__(self, _: int) -> os.statvfs_result:
        self.asked += 1
        free = self._all - len(kit.names(self._root))
        return os.statvfs_result((BLOCK, BLOCK, 10**6, free, free, 0, 0, 0, 0, 255))


def test_below_the_floor_fills_evict(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = FileSystem(monkeypatch, root, 90)
    now = 0.0
    disk = Disk(str(root), kit.SIZE, 1000, min_free=10 * BLOCK, clock=lambda: now)
    for number in range(150):
        kit.store(disk, f"n{number}")
        now += 1.0
        assert len(kit.names(root)) <= 80
    assert disk.stats.evicted == 2 * BATCH
    assert disk.stats.pauses == 0
    assert system.asked == 150 + 2  # once for each fill, and again after evicting
    disk.close()


def test_where_evicting_does_not_help_nothing_is_taken_in(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    FileSystem(monkeypatch, root, 10_000)
    disk = Disk(
        str(root), kit.SIZE, 1000, min_free=100 * BLOCK, clock=lambda: now, chance=lambda: 0.5
    )
    for number in range(900):
        kit.store(disk, f"n{number}")
    system = FileSystem(monkeypatch, root, 50)  # others have taken what was free
    now += 1.0
    with pytest.raises(NoSpace):
        kit.store(disk, "a")
    # Fills in a row do not empty the cache in a moment.
    assert disk.stats.evicted == URGENT_BATCHES * BATCH
    assert (disk.stats.pauses, system.asked) == (1, URGENT_BATCHES + 1)
    for _ in range(3):
        with pytest.raises(NoSpace, match=r"for 17\.5 s"):
            kit.store(disk, "a")
    assert (disk.stats.paused, system.asked) == (3, URGENT_BATCHES + 1)
    assert kit.load(disk, "n899") is not None or kit.load(disk, "n0") is not None  # hits go on
    now += 17.5
    with pytest.raises(NoSpace):
        kit.store(disk, "a")
    assert disk.stats.pauses == 2
    FileSystem(monkeypatch, root, 10_000)
    now += 17.5
    kit.store(disk, "a")
    assert kit.load(disk, "a") == b"body"
    kit.check(disk, root)
    disk.close()


def test_a_folder_that_is_removed_and_made_again(disk: Disk, root: Path) -> None:
    """By hand, say: the one that is open is not the one under the path."""
    kit.store(disk, "a")
    shutil.rmtree(root)
    root.mkdir()
    assert kit.load(disk, "a") is None
    kit.store(disk, "b")
    assert kit.load(disk, "b") == b"body"
    kit.check(disk, root)
    assert disk.stats.remade == 1
