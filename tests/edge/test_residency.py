"""What is in the page cache is known without waiting, what is not is read in a thread."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge import residency
from edge.http.body import Descriptor
from edge.residency import Residency

SIZE = 1 << 20


@pytest.fixture
def file() -> Iterator[Descriptor]:
    """On a real disk: what lives in memory alone can never be cold."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as named:
        named.write(os.urandom(SIZE))
        named.flush()
        os.fsync(named.fileno())
        yield Descriptor(os.open(named.name, os.O_RDONLY))


def forget(file: Descriptor) -> None:
    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture(params=["cachestat", "preadv2"])
def asked(request, monkeypatch) -> Residency:
    """Both ways of asking; the second as on a kernel that has no cachestat."""
    if request.param == "preadv2":
        monkeypatch.setattr(residency, "_CACHESTAT", 100_000)
    with ThreadPoolExecutor(1) as threads:
        yield Residency(threads)


def test_warm_then_cold_then_loaded(asked, file):
    assert asked.is_resident(file, 0, SIZE)
    forget(file)
    assert not asked.is_resident(file, 0, SIZE)
    asked.load(file, 0, SIZE).result(timeout=10)
    assert asked.loads == 1
    assert asked.is_resident(file, 0, SIZE)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, SIZE // 2, True),
        (1, 2, True),
        (SIZE // 2 - 1, SIZE // 2, True),
        (0, SIZE // 2 + 1, False),
        (SIZE // 2, SIZE // 2 + 1, False),
        (SIZE - 1, SIZE, False),
        (0, SIZE, False),
    ],
)
def test_half_a_file(asked, file, start, stop, expected):
    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
    found = []
    # A preadv2 that may not wait begins to read all the same, and a disk can be as quick as that.
    while expected not in found and len(found) < 5:
        forget(file)
        os.pread(file.fd, SIZE // 2, 0)
        found.append(asked.is_resident(file, start, stop))
    assert found[-1] is expected


def test_a_file_that_ends_early_is_not_resident_and_loads_as_far_as_it_goes(asked, file):
    assert not asked.is_resident(file, 0, SIZE + 4096 * 2)
    asked.load(file, SIZE - 10, 3 * SIZE).result(timeout=10)


def test_what_is_no_file_is_an_error_of_loading(asked):
    folder = Descriptor(os.open("/var/tmp", os.O_RDONLY | os.O_DIRECTORY))
    assert not asked.is_resident(folder, 0, 1 << 30)
    with pytest.raises(OSError, match="directory"):
        asked.load(folder, 0, 10).result(timeout=10)
