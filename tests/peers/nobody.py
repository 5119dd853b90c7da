"""Permissions as an ordinary user meets them, also where the tests run as root."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def nobodys_folder() -> Iterator[Path]:
    """A folder that nobody owns and can reach, unlike those of a test run by root."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root gives up its rights for a while; anybody else has none to give up."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
