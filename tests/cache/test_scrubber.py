"""The scrubber: what it finds, and its pace."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.disk import Disk
from cache.room import BLOCK
from cache.scrubber import SHORTEST_PASS_S, Scrubber
from cache.stored import CHUNK
from tests.cache import kit

NAMES = [f"n{number}" for number in range(20)]


def open_disk(root: Path, part: int = 0, parts: int = 1) -> Disk:
    return Disk(str(root), kit.SIZE, 1000, part=part, parts=parts, chance=lambda: 0.5)


def damage(root: Path, name: str) -> None:
    path = kit.path_of(root, name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_pass_removes_what_is_damaged(tmp_path: Path) -> None:
    with contextlib.closing(open_disk(tmp_path)) as disk:
        for name in NAMES:
            kit.store(disk, name, name.encode())
        for name in NAMES[:3]:
            damage(tmp_path, name)
        assert sum(disk.scrub()) > 20 * 512
        assert (disk.stats.scrubbed, disk.stats.damaged) == (20, 3)
        for name in NAMES:
            assert kit.load(disk, name) == (None if name in NAMES[:3] else name.encode())
        kit.check(disk, tmp_path)
        kit.store(disk, NAMES[0], b"healed")
        assert sum(disk.scrub()) > 0
        assert disk.stats.damaged == 3


def test_what_is_replaced_while_it_is_read_stays(tmp_path: Path) -> None:
    with contextlib.closing(open_disk(tmp_path)) as disk:
        kit.store(disk, "a", b"old" * CHUNK)
        damage(tmp_path, "a")
        scrub = disk.scrub()
        next(scrub)
        next(scrub)
        kit.store(disk, "a", b"new")
        for _ in scrub:
            pass
        assert kit.load(disk, "a") == b"new"
        kit.check(disk, tmp_path)


def test_a_pass_that_was_left_is_gone_on_with(tmp_path: Path) -> None:
    with contextlib.closing(open_disk(tmp_path)) as disk:
        for name in NAMES:
            kit.store(disk, name, name.encode())
        read: list[bytes] = []
        real = disk._scrub

        def scrub(digest: bytes) -> Iterator[int]:
            read.append(digest)
            return real(digest)

        disk._scrub = scrub  # type: ignore[method-assign]
        while len(read) < 20:
            steps = disk.scrub()
            for _ in range(5):
                next(steps)
            steps.close()
        # Each time the folder that was begun is read anew, and no other.
        assert len(set(read)) >= 12


def test_no_step_reads_much(tmp_path: Path) -> None:
    with contextlib.closing(open_disk(tmp_path)) as disk:
        kit.store(disk, "a", b"z" * (3 * CHUNK + 5))
        assert list(disk.scrub()) == [512, CHUNK, CHUNK, CHUNK, 5]


def test_each_process_reads_its_part(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(contextlib.closing(open_disk(tmp_path, n, 2))) for n in (0, 1)]
        for name in NAMES:
            kit.store(disks[0], name)
        for disk in disks:
            for _ in disk.scrub():
                pass
        assert sum(disk.stats.scrubbed for disk in disks) == 20
        assert all(disk.stats.scrubbed for disk in disks)


def test_the_pace(tmp_path: Path) -> None:
    now = 0.0
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(contextlib.closing(open_disk(tmp_path / x))) for x in "xy"]
        kit.store(disks[0], "a", b"z" * 2 * CHUNK)
        kit.store(disks[1], "b", b"z" * (BLOCK - 512))
        scrubber = Scrubber(lambda: disks, rate=1000, clock=lambda: now)
        spans = []
        while scrubber.passes < 2:
            wait_s = scrubber.step()
            spans.append(wait_s)
            now += wait_s
        # 512 KiB and two heads at 1,000 bytes a second, both folders at once.
        assert now == pytest.approx((2 * CHUNK + 512) / 1000, abs=60)
        read = [disk.stats.scrubbed_bytes for disk in disks]
        assert read == [2 * CHUNK + 512, BLOCK]
        # Small caches are not read over and over.
        assert scrubber.step() > 0
        began = now
        while scrubber.passes < 3:
            now += scrubber.step()
        assert now >= SHORTEST_PASS_S > began
        # A folder that is lost is left out, and no trouble.
        disks.clear()
        assert scrubber.step() > 0
        scrubber.stop()


def test_a_thread_of_its_own(tmp_path: Path) -> None:
    with contextlib.closing(open_disk(tmp_path)) as disk:
        kit.store(disk, "a")
        damage(tmp_path, "a")
        is_read = threading.Event()
        unlink = disk._unlink

        def watched(*arguments: object) -> bool:
            is_read.set()
            return unlink(*arguments)  # type: ignore[arg-type]

        disk._unlink = watched  # type: ignore[method-assign]
        scrubber = Scrubber(lambda: [disk], rate=1e9)
        scrubber.start()
        assert is_read.wait(20)
        scrubber.stop()
        assert kit.load(disk, "a") is None
