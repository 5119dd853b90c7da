"""The header of a file, without waiting for a disk."""

import os
import tempfile

import pytest

from resizer.cost import Header
from resizer.formats import Format
from resizer.peek import maybe_header_at, size_of
from tests.resizer.pictures import quarters, saved

PICTURE = saved(quarters(64), Format.PNG)


def test_a_stretch_of_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"head" + PICTURE + b"tail")
        file.flush()
        found = Header(Format.PNG, 64, 64)
        for length in (None, len(PICTURE), 24):
            assert maybe_header_at(file.fileno(), 4, length) == found
        for offset, length in ((0, None), (4, 23), (4, 0), (1 << 40, None)):
            assert maybe_header_at(file.fileno(), offset, length) is None
        assert size_of(file.fileno(), 4, None) == len(PICTURE) + 4
        assert size_of(file.fileno(), 1 << 40, None) == 0
        assert size_of(file.fileno(), 0, 7) == 7
        assert file.tell() == len(PICTURE) + 8  # where it stood


@pytest.mark.parametrize("descriptor", [999, -1])
def test_what_is_not_open(descriptor: int) -> None:
    assert maybe_header_at(descriptor, 0, None) is None
    assert size_of(descriptor, 0, None) == 0


def test_a_pipe() -> None:
    for end in (pair := os.pipe()):
        assert maybe_header_at(end, 0, None) is None
    for end in pair:
        os.close(end)
