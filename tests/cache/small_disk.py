"""Run by test_disk_full.py in a mount namespace of its own: a disk that is really full.

python -m tests.cache.small_disk FOLDER bytes|inodes|floor
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cache.disk import Disk
from cache.errors import NoSpace
from cache.folders import Folders
from cache.space import LONGEST_PAUSE_S
from tests.cache import kit

BODY = b"z" * 3000
FLOOR = 16 * 1024


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(disk: Disk, name: str) -> bool:
    """True when it was stored. Whatever happens, the bytes are in hand, or never were."""
    entry = kit.draft(name)
    try:
        reserved = disk.reserve(entry, len(BODY))
    except NoSpace:
        return False
    with reserved as fill:
        try:
            fill.write(BODY)
        except NoSpace:
            return False
        finished = kit.with_body(entry, BODY)
        try:
            stored = fill.commit(finished)
        except NoSpace:
            with fill.detach(finished) as stored:
                assert stored.read() == BODY
            return False
        with stored:
            assert stored.read() == BODY
        return True


def names(what: str) -> Iterator[str]:
    """Where inodes are short, of few folders of the fan-out: those take inodes, too."""
    for number in itertools.count():
        if what != "inodes" or kit.key(f"n{number}").digest < b"\x00\x40":
            yield f"n{number}"


def check(disk: Disk, root: Path, known: list[str]) -> None:
    disk._sweep_litter()
    kit.check(disk, root)
    for name in known:
        assert kit.load(disk, name) in (BODY, None)


def main(root: Path, what: str) -> None:
    clock = Clock()
    # The cache may take far more than the disk has: the disk alone says no.
    floor = FLOOR if what == "floor" else 0
    disk = Disk(str(root), 10**9, 10**6, min_free=floor, clock=clock, chance=lambda: 1.0)
    known = list(itertools.islice(names(what), 70))
    stored = 0
    for number, name in enumerate(known):
        stored += fill(disk, name)
        if floor:
            free = os.statvfs(root)
            assert free.f_bavail * free.f_frsize >= floor
        # Refusals evict, and a pause ends: fills go on.
        clock.now += LONGEST_PAUSE_S / 4
        if number % 10 == 0:
            check(disk, root, known)
    check(disk, root, known)
    assert stored >= 30, (stored, disk.stats)
    if floor:
        assert (disk.stats.no_space, disk.stats.evicted > 0) == (0, True), disk.stats
    else:
        assert disk.stats.no_space > 0, disk.stats
    others_fill_the_disk(disk, root, clock, known)
    disk.close()
    with contextlib.closing(Folders([str(root)], lambda path: Disk(path, 10**9, 10**6))) as folders:
        for _ in folders.scan():
            pass
        check(folders.disks()[0], root, known)


def take_all(root: Path) -> None:
    with contextlib.suppress(OSError):
        for number in itertools.count():
            path = root / f"somebody's{number}"
            if not path.exists() or not path.stat().st_size:
                path.write_bytes(b"x" * 4096)


def others_fill_the_disk(disk: Disk, root: Path, clock: Clock, known: list[str]) -> None:
    disk._evict(disk.room.victims(1000, urgent=True))  # nothing of ours is left that could go
    take_all(root)
    pauses = disk.stats.pauses
    for _ in range(3):
        assert not fill(disk, known[0])
    assert disk.stats.pauses > pauses
    # During the pause nothing is asked of the disk.
    paused = disk.stats.paused
    assert not fill(disk, known[0])
    assert disk.stats.paused == paused + 1
    for path in root.glob("somebody's*"):
        path.unlink()
    assert not fill(disk, known[0])
    clock.now += LONGEST_PAUSE_S
    assert fill(disk, known[0])
    check(disk, root, known)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    print("done")
