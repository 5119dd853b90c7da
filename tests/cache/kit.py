"""What the tests of the disk tier share: entries, stored files, and the standing invariants."""

import dataclasses
import os
from pathlib import Path

from cache.disk import Disk
from cache.entry import Entry
from cache.errors import DamagedEntry
from cache.index.interface import Token
from cache.key import Key, SourceId
from cache.room import allocated
from cache.tier import DiskTier

TOKEN = Token("0123456789abcdef", 1_000)
SIZE = 10_000_000


def key(name: str = "a", variant: str = "w=220") -> Key:
    return Key(SourceId("site", f"/{name}.jpg"), variant)


def draft(name: str = "a", token: Token = TOKEN, variant: str = "w=220") -> Entry:
    return Entry(key(name, variant), token, "v1", etag='"e"', media_type="image/jpeg", cost_ms=50)


def with_body(entry: Entry, body: bytes) -> Entry:
    return dataclasses.replace(entry, length=len(body))


def store(
    disk: DiskTier,
    name: str = "a",
    body: bytes = b"body",
    token: Token = TOKEN,
    variant: str = "w=220",
) -> None:
    entry = draft(name, token, variant)
    with disk.reserve(entry, len(body)) as fill:
        fill.write(body)
        fill.commit(with_body(entry, body)).close()


def load(disk: DiskTier, name: str = "a") -> bytes | None:
    """The body, checked as a first use checks it; None for a miss."""
    stored = disk.open(key(name))
    if stored is None or not disk.verify(stored):
        return None
    with stored:
        try:
            return stored.read()
        except DamagedEntry:
            return None


def path_of(root: Path, name: str = "a") -> Path:
    digest = key(name).digest.hex()
    return root / digest[0] / digest[1:3] / digest


def names(root: Path) -> list[str]:
    """Every file below root but the layout file."""
    found = [name for _, _, files in os.walk(root) for name in files]
    return sorted(name for name in found if name != "layout")


def temp_files(root: Path) -> list[str]:
    return [name for name in names(root) if name.startswith(".tmp-")]


def check(disk: Disk, root: Path) -> None:
    """What holds whenever nothing is under way: counted if and only if there; no temp file."""
    found = names(root)
    sizes = [
        allocated((Path(folder) / name).stat().st_size)
        for folder, _, files in os.walk(root)
        for name in files
        if name != "layout"
    ]
    assert not [name for name in found if name.startswith(".tmp-")]
    assert disk.room.used_inodes == len(found)
    assert disk.room.used == sum(sizes)
    assert disk.room.fits


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
