"""Lines into files and pipes that several processes append to."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.access import AccessLog, Combined
from edge.whole_lines import whole_lines

LONG = b"y" * (select.PIPE_BUF + 10) + b"\n"
MANY = b"x\n" * select.PIPE_BUF


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("data", "limit", "taken"),
    [
        # usual
        (b"ab\ncd\n", 100, 6),
        (b"ab\ncd\n", 6, 6),
        (b"ab\ncd\n", 5, 3),
        # edge
        (b"ab\ncd\n", 3, 3),
        (b"abcdef\ng\n", 3, 7),  # one line, however long
        (b"abcdef", 3, 6),
        (MANY, 1_000_000, len(MANY)),
    ],
)
def test_into_a_file(file, data, limit, taken):
    assert bytes(whole_lines(data, file, limit)) == data[:taken]


@pytest.mark.parametrize(
    ("data", "taken"),
    [(b"ab\ncd\n", 6), (MANY, select.PIPE_BUF), (LONG + b"z\n", len(LONG)), (b"z\n" + LONG, 2)],
)
def test_into_a_pipe(pipe, data, taken):
    assert bytes(whole_lines(data, pipe, 1_000_000)) == data[:taken]


def test_a_shared_log_is_written_in_whole_lines(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(bytes(data)) or len(data))
    monkeypatch.setattr("edge.access.WRITE_BYTES", 100)
    log = AccessLog(str(tmp_path / "log"), Combined())
    log.is_shared = True
    log._open()
    log._pieces += [b"l" * 60 + b"\n"] * 5
    log.stop()
    assert written == [b"l" * 60 + b"\n"] * 5
