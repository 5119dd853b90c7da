"""Copies of barred pictures: whole, private, bounded, never half."""

import os
import tempfile
from pathlib import Path

import pytest

from resizer.evidence import Evidence


def keep(evidence: Evidence, name: str, data: bytes, offset: int = 0) -> str | None:
    with tempfile.TemporaryFile() as source:
        source.write(bytes(offset) + data + b"not of it")
        source.flush()
        return evidence.keep(name, source.fileno(), offset, len(data))


def names(evidence: Evidence) -> set[str]:
    return set(os.listdir(evidence.folder)) if os.path.exists(evidence.folder) else set()


def age(path: str, seconds: int) -> None:
    os.utime(path, (1_000_000 - seconds, 1_000_000 - seconds))


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(str(tmp_path / "deep" / "barred"), files=3, size=100)


def test_a_copy(evidence: Evidence) -> None:
    assert not os.path.exists(evidence.folder)  # made when it is needed
    path = keep(evidence, "0aff", b"poison", offset=5000)
    assert path == f"{evidence.folder}/0aff"
    assert Path(path).read_bytes() == b"poison"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(evidence.folder).st_mode & 0o777 == 0o700


def test_what_is_there_stays(evidence: Evidence) -> None:
    path = keep(evidence, "00", b"first")
    assert keep(evidence, "00", b"other") is None
    assert Path(path or "").read_bytes() == b"first"
    # A link in its place is not followed.
    os.symlink("/nonexistent/elsewhere", f"{evidence.folder}/01")
    assert keep(evidence, "01", b"x") is None


def test_the_oldest_give_way(evidence: Evidence) -> None:
    for number, name in enumerate(("0a", "0b", "0c")):
        age(keep(evidence, name, bytes(10)) or "", 30 - number)
    age(keep(evidence, "0d", bytes(10)) or "", 1)
    assert names(evidence) == {"0b", "0c", "0d"}
    assert keep(evidence, "0e", bytes(85))
    assert names(evidence) == {"0d", "0e"}


@pytest.mark.parametrize(("size", "is_kept"), [(100, True), (101, False)])
def test_too_large_for_all(evidence: Evidence, size: int, is_kept: bool) -> None:
    keep(evidence, "00", bytes(10))
    assert (keep(evidence, "01", bytes(size)) is not None) is is_kept
    assert names(evidence) == ({"01"} if is_kept else {"00"})


def test_switched_off(tmp_path: Path) -> None:
    evidence = Evidence(str(tmp_path / "barred"), files=0, size=100)
    assert keep(evidence, "00", b"x") is None
    assert names(evidence) == set()


def test_a_source_that_shrank_leaves_nothing(evidence: Evidence) -> None:
    with tempfile.TemporaryFile() as source:
        source.write(b"short")
        source.flush()
        with pytest.raises(OSError, match="shrank"):
            evidence.keep("00", source.fileno(), 0, 50)
    assert names(evidence) == set()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        keep(Evidence(str(tmp_path / "file" / "barred"), 3, 100), "00", b"x")
