"""The check of cache folders: everything that can be there, with and without fix."""

import os
from pathlib import Path

import pytest

from cache.check import MAX_PROBLEMS, Fault, Found, Report, check
from cache.disk import Disk
from cache.errors import DamagedEntry
from cache.temp import Owner
from tests.cache import kit
from tests.cache.test_entry import of_version, sealed

US = Owner.of_this_process()
DEAD = Owner(US.boot, 2**22 + 1, 5)
NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    disk = Disk(str(root), kit.SIZE, 1000)
    for name in NAMES:
        kit.store(disk, name, name.encode())
    disk.close()
    return root


def run(*roots: Path, fix: bool = False) -> tuple[Report, list[Found]]:
    before = kit.descriptors()
    report = Report()
    found = list(check([str(root) for root in roots], report, fix=fix))
    assert kit.descriptors() == before
    return report, found


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def test_whole_entries_are_yielded(root: Path) -> None:
    report, found = run(root)
    assert {entry.digest for entry in found} == {kit.key(name).digest for name in NAMES}
    for entry in found:
        assert entry.key.digest == entry.digest
        assert (entry.token, entry.folder, entry.size) == (kit.TOKEN, str(root), 4096)
    assert (report.entries, report.entry_bytes, report.removed) == (4, 4 * 4096, 0)
    assert report.problems == []
    assert report.is_clean


def _flip_body(root: Path) -> Path:
    path = kit.path_of(root, "a")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def _flip_head(root: Path) -> Path:
    path = kit.path_of(root, "a")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    return path


def _truncate(root: Path) -> Path:
    path = kit.path_of(root, "a")
    os.truncate(path, 10)
    return path


def _grow(root: Path) -> Path:
    path = kit.path_of(root, "a")
    os.truncate(path, 1_000_000)
    return path


def _folder(root: Path) -> Path:
    path = kit.path_of(root, "a")
    path.unlink()
    path.mkdir()
    return path


def _symlink(root: Path) -> Path:
    path = kit.path_of(root, "a")
    path.rename(root.parent / "elsewhere")
    path.symlink_to(root.parent / "elsewhere")
    return path


def _fifo(root: Path) -> Path:
    path = kit.path_of(root, "a")
    path.unlink()
    os.mkfifo(path)
    return path


def _misname(root: Path) -> Path:
    path = kit.path_of(root, "a")
    other = path.with_name(path.name[:-1] + ("0" if path.name[-1] != "0" else "1"))
    path.rename(other)
    return other


def _misplace(root: Path) -> Path:
    path = kit.path_of(root, "a")
    folder = root / "0" / "00"
    folder.mkdir(parents=True, exist_ok=True)
    path.rename(folder / path.name)
    return folder / path.name


def _abandon(root: Path) -> Path:
    path = kit.path_of(root, "a")
    other = path.with_name(DEAD.name(3))
    path.rename(other)
    return other


def _abandon_layout(root: Path) -> Path:
    kit.path_of(root, "a").unlink()
    (root / DEAD.name(3)).write_bytes(b"half")
    return root / DEAD.name(3)


REMOVABLE = [
    *((_flip_body, Fault.DAMAGED), (_flip_head, Fault.DAMAGED), (_truncate, Fault.DAMAGED)),
    *((_grow, Fault.DAMAGED), (_folder, Fault.DAMAGED), (_symlink, Fault.DAMAGED)),
    *((_fifo, Fault.DAMAGED), (_misname, Fault.MISPLACED), (_misplace, Fault.MISPLACED)),
    *((_abandon, Fault.ABANDONED), (_abandon_layout, Fault.ABANDONED)),
]


@pytest.mark.parametrize(("damage", "fault"), REMOVABLE)
def test_what_no_node_would_serve_is_removed(root: Path, damage, fault: Fault) -> None:
    path = damage(root)
    before = snapshot(root)
    report, found = run(root)
    assert snapshot(root) == before
    assert {entry.digest for entry in found} == {kit.key(name).digest for name in NAMES[1:]}
    assert [(problem.fault, problem.path) for problem in report.problems] == [(fault, str(path))]
    assert (report.faults[fault], report.removed, report.is_clean) == (1, 0, False)

    report, found = run(root, fix=True)
    assert len(found) == 3
    assert (report.faults[fault], report.removed, report.is_clean) == (1, 1, True)
    assert report.problems[0].is_removed
    assert not os.path.lexists(path)
    report, found = run(root, fix=True)
    assert (report.problems, len(found)) == ([], 3)


def _foreign_at_the_top(root: Path) -> str:
    (root / "README").write_text("x")
    return "README"


def _foreign_folder(root: Path) -> str:
    (root / "backup").mkdir()
    (root / "backup" / ("0" * 40)).write_text("not looked at")
    return "backup"


def _foreign_below(root: Path) -> str:
    kit.path_of(root).with_name("A" * 40).write_text("x")
    return str(kit.path_of(root).with_name("A" * 40).relative_to(root))


def _a_file_for_a_folder(root: Path) -> str:
    name = next(digit for digit in "0123456789abcdef" if not (root / digit).exists())
    (root / name).write_text("x")
    return name


def _a_strange_second_folder(root: Path) -> str:
    name = f"{kit.path_of(root).parent.parent.name}/zz"
    (root / name).mkdir()
    return name


@pytest.mark.parametrize(
    "plant",
    [
        *(_foreign_at_the_top, _foreign_folder, _foreign_below, _a_file_for_a_folder),
        _a_strange_second_folder,
    ],
)
def test_what_is_not_ours_is_told_and_stays(root: Path, plant) -> None:
    name = plant(root)
    before = snapshot(root)
    report, found = run(root, fix=True)
    assert snapshot(root) == before
    assert len(found) == 4
    assert [(p.fault, p.path) for p in report.problems] == [(Fault.FOREIGN, f"{root}/{name}")]
    assert (report.removed, report.is_clean) == (0, True)


def test_neighbours_are_no_strangers(root: Path) -> None:
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite.corrupt-1"):
        (root / name).write_text("x")
    (root / "barred").mkdir()
    assert run(root)[0].problems == []


def test_a_later_version_stays(root: Path) -> None:
    path = kit.path_of(root)
    data = path.read_bytes()
    path.write_bytes(sealed(of_version(3, data[:512])) + data[512:])
    report, found = run(root, fix=True)
    assert path.exists()
    assert len(found) == 3
    assert (report.faults[Fault.NEWER], report.removed, report.is_clean) == (1, 0, True)


def test_a_running_fill_stays(root: Path) -> None:
    disk = Disk(str(root), kit.SIZE, 1000)
    with disk.reserve(kit.draft("e"), 4) as fill:
        fill.write(b"body")
        report, _ = run(root, fix=True)
        assert (report.running, report.removed, report.problems) == (1, 0, [])
        fill.commit(kit.with_body(kit.draft("e"), b"body")).close()
    assert len(run(root)[1]) == 5
    disk.close()


def test_what_vanishes_is_no_problem(root: Path) -> None:
    """A node evicts, replaces and makes while the check is under way."""
    disk = Disk(str(root), kit.SIZE, 1000)
    report = Report()
    walk = check([str(root)], report, fix=True)
    first = next(walk)
    names = [name for name in NAMES if kit.key(name).digest != first.digest]
    disk.remove_older(kit.key(names[0]).digest, kit.Token(kit.TOKEN.epoch, 5_000))
    kit.store(disk, names[1], b"newer")
    found = {first.digest, *(entry.digest for entry in walk)}
    assert found >= {kit.key(name).digest for name in names[1:]}
    assert report.problems == []
    assert kit.load(disk, names[1]) == b"newer"
    disk.close()


def test_a_newer_file_is_not_removed_for_a_damaged_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _flip_body(root)
    disk = Disk(str(root), kit.SIZE, 1000)
    real = check.__globals__["_read"]

    def read(fd: int) -> object:
        try:
            return real(fd)
        except DamagedEntry:
            kit.store(disk, "a", b"newer")
            raise

    monkeypatch.setitem(check.__globals__, "_read", read)
    run(root, fix=True)
    assert kit.load(disk, "a") == b"newer"
    disk.close()


def test_only_what_is_marked_as_a_cache_is_walked(root: Path, tmp_path: Path) -> None:
    _abandon(root)
    for layout in (None, b"halftone cache 9\n", b""):
        (root / "layout").unlink()
        if layout is not None:
            (root / "layout").write_bytes(layout)
        before = snapshot(root)
        report, found = run(root, tmp_path / "nothing", fix=True)
        assert snapshot(root) == before
        assert found == []
        assert len(report.problems) == 2
        assert not report.is_clean or layout is not None
        (root / "layout").touch()


def test_several_folders_are_one_report(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    disk = Disk(str(other), kit.SIZE, 1000)
    kit.store(disk, "e")
    disk.close()
    report, found = run(root, other)
    assert (report.entries, {entry.folder for entry in found}) == (5, {str(root), str(other)})


def test_the_list_of_problems_is_bounded_and_printable(root: Path) -> None:
    for number in range(MAX_PROBLEMS + 50):
        (root / f"\x1b[31m{number}").write_bytes(b"")
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    report, _ = run(root)
    assert report.faults[Fault.FOREIGN] == MAX_PROBLEMS + 51
    assert len(report.problems) == MAX_PROBLEMS
    assert all(problem.path.isprintable() for problem in report.problems)
