"""One folder, several processes: each is a Disk of its own here."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.disk import LENT_SCANS, Disk
from cache.room import BLOCK
from tests.cache import kit

PARTS = 2
NAMES = [f"n{number}" for number in range(24)]


def open_part(root: Path, part: int, size: int = kit.SIZE, parts: int = PARTS) -> Disk:
    return Disk(str(root), size, 1000, part=part, parts=parts)


def scan(disk: Disk) -> None:
    for _ in disk.scan():
        pass


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[Disk]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(open_part(tmp_path, part)))
            for part in range(PARTS)
        ]


def settle(disks: list[Disk]) -> None:
    """Until what was made for others is theirs."""
    for _ in range(LENT_SCANS + 2):
        for disk in disks:
            scan(disk)


def counted(disks: list[Disk]) -> int:
    return sum(disk.room.used_inodes for disk in disks)


def test_every_file_is_counted_by_one_in_the_end(disks, tmp_path):
    for number, name in enumerate(NAMES):
        kit.store(disks[number % 2], name)
    assert counted(disks) == len(NAMES)  # by who made it
    scan(disks[0])
    assert counted(disks) >= len(NAMES)  # some twice, none not at all
    settle(disks)
    assert counted(disks) == len(NAMES)
    assert sum(disk.room.used for disk in disks) == len(NAMES) * BLOCK
    for disk in disks:
        assert 0 < disk.room.used_inodes < len(NAMES)
        assert [kit.load(disk, name) for name in NAMES] == [b"body"] * len(NAMES)
    assert len(kit.names(tmp_path)) == len(NAMES)


def test_what_was_made_for_another_is_counted_until_that_one_has_seen_it(disks):
    for name in NAMES:
        kit.store(disks[0], name)
    for _ in range(LENT_SCANS):
        scan(disks[0])
        assert disks[0].room.used_inodes == len(NAMES)
    scan(disks[1])
    scan(disks[0])
    assert counted(disks) == len(NAMES)
    assert disks[0].room.used_inodes < len(NAMES)


def test_what_one_evicts_is_a_miss_for_the_other(disks):
    kit.store(disks[0], "a")
    assert kit.load(disks[1], "a") == b"body"
    disks[0]._evict(disks[0].room.victims(1, urgent=True))
    assert kit.load(disks[1], "a") is None
    kit.store(disks[1], "a", b"again")
    assert kit.load(disks[0], "a") == b"again"


def test_the_folder_is_bounded_whoever_fills_it(tmp_path):
    size = 64 * BLOCK
    with contextlib.ExitStack() as stack:
        disks = [
            stack.enter_context(contextlib.closing(open_part(tmp_path, part, size)))
            for part in range(PARTS)
        ]
        for number in range(200):
            kit.store(disks[number % 3 % 2], f"m{number}")
            if number % 40 == 0:
                scan(disks[number // 40 % 2])
            assert len(kit.names(tmp_path)) <= 64
        settle(disks)
        assert 32 <= len(kit.names(tmp_path)) <= 64


def test_what_a_dead_process_made_is_found(tmp_path):
    """It counted files of the other's part, which that one meets in its next scan."""
    with contextlib.closing(open_part(tmp_path, 1)) as other:
        scan(other)
        with contextlib.closing(open_part(tmp_path, 0)) as dead:
            for name in NAMES:
                kit.store(dead, name)
        with contextlib.closing(open_part(tmp_path, 0)) as successor:
            scan(successor)
            assert counted([successor, other]) < len(NAMES)
            scan(other)
            assert counted([successor, other]) == len(NAMES)


def test_a_fill_of_a_living_neighbour_is_left_alone(disks, tmp_path):
    entry = kit.draft("a")
    with disks[0].reserve(entry, 4) as fill:
        fill.write(b"body")
        settle([disks[1]])
        (name,) = kit.temp_files(tmp_path)
        assert f"-{os.getpid()}-" in name
        fill.commit(kit.with_body(entry, b"body")).close()
    assert kit.load(disks[1], "a") == b"body"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["store", "load", "scan", "restart", "evict"]),
        st.integers(0, PARTS - 1),
        st.sampled_from(NAMES[:6]),
    ),
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_right_bytes_or_a_miss_and_nothing_uncounted(steps):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder)
        disks = [open_part(root, part) for part in range(PARTS)]
        stack.callback(lambda: [disk.close() for disk in disks])
        for verb, part, name in steps:
            disk = disks[part]
            match verb:
                case "store":
                    kit.store(disk, name, name.encode())
                case "load":
                    assert kit.load(disk, name) in (None, name.encode())
                case "scan":
                    scan(disk)
                case "restart":
                    disk.close()
                    disks[part] = open_part(root, part)
                case "evict":
                    disk._evict(disk.room.victims(1, urgent=True))
        settle(disks)
        there = kit.names(root)
        assert kit.temp_files(root) == []
        for name in there:
            assert any(bytes.fromhex(name) in disk.room for disk in disks)
        for name in NAMES[:6]:
            found = kit.load(disks[0], name)
            assert found == (name.encode() if kit.path_of(root, name).exists() else None)
