"""The master's file: believed as long as its process holds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.pid_file import PidFile, maybe_running

HOLD = """
import sys
from edge.pid_file import PidFile
held = PidFile()
held.write(sys.argv[1])
held.write(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_it_is_believed_while_it_is_held(tmp_path):
    path = tmp_path / "pid"
    assert maybe_running(str(path)) is None
    with hold(path) as process:
        assert maybe_running(str(path)) == process.pid
        assert maybe_running(str(path)) == process.pid  # asking takes nothing away
        process.kill()
        process.wait()
        assert path.exists()
        assert maybe_running(str(path)) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]


def test_a_successor_takes_the_name(tmp_path):
    path = tmp_path / "pid"
    first = PidFile()
    first.write(str(path))
    with hold(path) as process:
        first.remove()
        assert maybe_running(str(path)) == process.pid
        process.kill()


def test_it_moves_and_goes(tmp_path):
    held = PidFile()
    held.remove()
    held.write(str(tmp_path / "a"))
    held.write(str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["b"]
    held.remove()
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        held.write(str(tmp_path / "no" / "pid"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        held.write(str(tmp_path / "folder"))
    assert os.listdir(tmp_path) == ["folder"]
