"""What a cache is made of, as the configuration says: index, folders, store; and its check.

Beside app.py the only place that knows the homes of the index by name.
"""

import os
import random
from collections.abc import Callable, Mapping
from functools import partial

from cache.check import remove_older
from cache.disk import Disk
from cache.folders import Folders
from cache.follow import Follower
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index
from cache.journal import Journal
from cache.orders import Orders
from cache.reconcile import account, reconcile
from cache.store import Store
from edge.settings.addresses import EmbeddedIndex as EmbeddedIndexAddress
from edge.settings.sections import Cache

Reading = Callable[[], float]


def make_index(
    section: Cache, *, wall: Reading, monotonic: Reading, chance: random.Random
) -> Index:
    where = section.index
    if isinstance(where, EmbeddedIndexAddress):
        return EmbeddedIndex(_path_of(section), clock=wall, random=chance)
    # Not for a node without Redis: its library is a tenth of what a start takes.
    from cache.index.redis import RedisIndex

    return RedisIndex(where.url, clock=wall, monotonic=monotonic, random=chance)


def is_index_lost(section: Cache) -> bool:
    """Is there none to open? To open it would make one."""
    is_embedded = isinstance(section.index, EmbeddedIndexAddress)
    return is_embedded and not os.path.exists(_path_of(section))


def _path_of(section: Cache) -> str:
    return os.path.join(section.path, "index.sqlite")


def make_storage(
    section: Cache,
    index: Index,
    *,
    slot: int,
    slots: int,
    threads: int,
    wall: Reading,
    monotonic: Reading,
    chance: random.Random,
) -> tuple[Folders, Store, Follower]:
    """Of the worker in this slot. Raises CacheError."""
    paths = (section.path, *section.folders)

    def open_disk(path: str) -> Disk:
        return Disk(
            path,
            size=section.size // len(paths),
            inodes=section.inodes // len(paths),
            originals=section.originals,
            part=slot,
            parts=slots,
            min_free=section.min_free,
            durability=section.durability,
            clock=monotonic,
            chance=chance.random,
        )

    folders = Folders(paths, open_disk)
    orders = Orders()
    store = Store(folders, index, clock=wall, threads=threads, orders=orders)
    journal = Journal(os.path.join(section.path, f"journal-{slot}"), wall)
    follower = Follower(index, store, orders, journal, monotonic=monotonic)
    store.follows = follower.is_current
    return folders, store, follower


async def check_in_use(
    section: Cache,
    index: Index,
    folders: Folders,
    is_stopping: Callable[[], bool],
    fix: bool,
) -> Mapping[str, object]:
    """See reconcile.account()."""
    paths = (section.path, *section.folders)
    return account(
        await reconcile(paths, index, folders.remove_older, fix=fix, is_stopping=is_stopping)
    )


async def check_at_rest(section: Cache, index: Index | None, *, fix: bool) -> Mapping[str, object]:
    """Of a cache that no node uses. index None: it is lost, and without it a node asks for every
    original anew. Raises CacheError where it cannot get at the index."""
    paths = (section.path, *section.folders)
    remove = partial(remove_older, paths)
    if index is None:
        return account(await reconcile(paths, None, remove, fix=fix, rest=0.0))
    try:
        await index.start()
        await index.takedowns()  # now it is open, and nobody else's
        return account(await reconcile(paths, index, remove, fix=fix, rest=0.0))
    finally:
        await index.stop()
