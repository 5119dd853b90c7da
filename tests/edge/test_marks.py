"""Watermark files: what may be one, what is kept of it, and when it is looked at again."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.clock import Clock
from edge.marks import Mark, Marks, read_mark, variant_of
from edge.rendering import Terms
from resizer.errors import MarkUnusable
from resizer.job import MAX_MARK_BYTES
from resizer.transform import Transform
from resizer.watermark import Watermark


def bytes_of(mark: Mark) -> bytes:
    return os.pread(mark.file.fd, MAX_MARK_BYTES + 1, 0)


@pytest.mark.parametrize("size", [0, 1, MAX_MARK_BYTES])
def test_a_regular_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "mark"
    path.write_bytes(os.urandom(size))
    mark = read_mark(str(path))
    assert bytes_of(mark) == path.read_bytes()
    assert read_mark(str(path)).digest == mark.digest


def test_what_was_read_cannot_change(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    path.write_bytes(b"old")
    mark = read_mark(str(path))
    path.write_bytes(b"new bytes")
    assert bytes_of(mark) == b"old"
    with pytest.raises(PermissionError):
        os.pwrite(mark.file.fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(mark.file.fd, 0)


def truncated(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_MARK_BYTES + 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        truncated,
        lambda path: path.symlink_to("/etc/hostname"),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
    ],
    ids=["missing", "large", "link", "pipe", "folder", "device"],
)
def test_what_is_no_mark(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "mark")
    with pytest.raises(OSError, match=r".") as caught:
        read_mark(str(tmp_path / "mark"))
    assert caught.value.strerror


def test_the_variant_names_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    path.write_bytes(b"one")
    transform = Transform(width=9, watermark=Watermark("logo"))
    one = variant_of(transform, read_mark(str(path)))
    path.write_bytes(b"two")
    assert one != variant_of(transform, read_mark(str(path)))
    assert one.startswith(f"{transform.canonical()},mark=")
    assert variant_of(Transform(width=9), None) == Transform(width=9).canonical()


def test_a_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    path.write_bytes(b"one")
    second = 1000
    clock = Clock(lambda: second, lambda: second)

    def later() -> None:
        nonlocal second
        second += 1
        clock.tick()

    async def main(threads: ThreadPoolExecutor) -> None:
        marks = Marks(clock, threads)
        first, other = await asyncio.gather(*(marks.open(str(path)) for _ in range(2)))
        assert first is other
        assert marks.stats.read == 1
        later()
        assert marks.is_current(first)
        assert await marks.open(str(path)) is first
        # Replaced: not seen in this second, and from the next one on.
        path.rename(tmp_path / "old")
        path.write_bytes(b"two")
        assert marks.is_current(first)
        later()
        assert not marks.is_current(first)
        second_mark = await marks.open(str(path))
        assert bytes_of(second_mark) == b"two"
        assert not marks.is_current(first)
        assert marks.is_current(second_mark)
        # Gone: what is known still names what was made, and nothing is made.
        path.unlink()
        later()
        assert not marks.is_current(second_mark)
        assert await marks.open(str(path)) is second_mark
        with pytest.raises(MarkUnusable):
            marks.check(second_mark)
        assert marks.is_current(second_mark)  # for this second
        assert (marks.stats.read, marks.stats.failed) == (2, 1)
        # Back: the very bytes make the same keys.
        path.write_bytes(b"two")
        later()
        back = await marks.open(str(path))
        marks.check(back)
        assert back.digest == second_mark.digest

    with ThreadPoolExecutor(2) as threads:
        asyncio.run(main(threads))


def test_a_mark_that_never_was_there(tmp_path: Path) -> None:
    async def main(threads: ThreadPoolExecutor) -> None:
        marks = Marks(Clock(lambda: 5, lambda: 5), threads)
        for _ in range(2):
            with pytest.raises(MarkUnusable, match="No such file"):
                await marks.open(str(tmp_path / "mark"))
        assert marks.stats.failed == 1  # once a second

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(main(threads))


def test_a_mark_that_kills_a_worker_bars_no_bare_picture(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    path.write_bytes(b"one")
    one = Terms(mark=read_mark(str(path)))
    path.write_bytes(b"two")
    two = Terms(mark=read_mark(str(path)))
    assert Terms(client="192.0.2.1").barred_as(b"picture") == b"picture"
    assert len({terms.barred_as(b"picture") for terms in (Terms(), one, two)}) == 3
