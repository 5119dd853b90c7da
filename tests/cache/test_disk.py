"""The disk tier: store and load, damage of every kind, eviction, restart."""

import dataclasses
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.disk import Disk
from cache.entry import head_size
from cache.errors import CacheError, DamagedEntry, DiskFailed, DoesNotFit
from cache.index.interface import Token
from cache.room import BLOCK
from cache.temp import Owner
from tests.cache import kit

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
    os.utime(kit.path_of(root))
    disk.close()
    disk = Disk(str(root), kit.SIZE, 1000)
    disk._started_ns += 10**9  # file times have the kernel's coarse clock
    with disk.open(kit.key()) as stored:
        assert not stored.is_verified
        assert disk.verify(stored)
    with disk.open(kit.key()) as stored:
        assert stored.is_verified
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
