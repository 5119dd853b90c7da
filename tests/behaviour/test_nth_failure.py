"""The n-th system call of the cache fails, for every n, while a node answers.

Whatever fails: what can be served is, with the right bytes; a purge that was answered holds; no
descriptor and no temp file is left; and without a fault all is as it was.
"""

import asyncio
import errno
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.orders import Act, Scope
from tests.behaviour.world import Farm, FarmNode, Said, original, rendered, version_in
from tests.cache import kit
from tests.cache.test_disk_faults import SHORT, NthFails

PLAIN = "/plain.jpg"
FAULTS = [errno.ENOSPC, errno.EIO, errno.EMFILE, SHORT]
# So many calls more than any answer makes; the loop has to end before.
MOST_CALLS = 300


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    logging.getLogger("halftone").setLevel(logging.CRITICAL)


@asynccontextmanager
async def life(farm: Farm) -> AsyncIterator[FarmNode]:
    """Of the one node, whose cache outlives it."""
    node = FarmNode(farm, farm.folder / "node")
    # The scan after a start makes 4,097 calls of its own, at any time; tests/cache has it.
    node.disk.scan = lambda: iter(())
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        assert node.site.docroot is not None
        node.site.docroot.close()


def check(farm: Farm, path: str, width: int | None, said: Said) -> None:
    """The newest version, whole, as no other one."""
    assert said.status == 200, said.fields
    version = version_in(said.body)
    assert version == farm.origin.versions[path]
    source = original(path, version)
    if width is None:
        assert said.body == source
    else:
        variant = said.body[1:].partition(b" of ")[0].decode()
        assert said.body == rendered(variant, source)


Scenario = Callable[[Farm, FarmNode], Awaitable[None]]


def get(path: str, width: int | None) -> Scenario:
    async def run(farm: Farm, node: FarmNode) -> None:
        check(farm, path, width, await node.get(path, width))

    return run


async def revalidate(farm: Farm, node: FarmNode) -> None:
    farm.now += 3600
    node.tick()
    check(farm, PLAIN, 40, await node.get(PLAIN, 40))


async def purge(farm: Farm, node: FarmNode) -> None:
    """The origin has had a new version for a while; once the purge is answered nobody gets the old
    one."""
    farm.publish(PLAIN)
    await node.order(Act.PURGE, Scope.SOURCE, PLAIN)
    for width in (40, None):
        check(farm, PLAIN, width, await node.get(PLAIN, width))


# What is in the cache before, and what happens.
SCENARIOS: dict[str, tuple[list[tuple[str, int | None]], Scenario]] = {
    "cold thumbnail": ([], get(PLAIN, 40)),
    "original from the origin": ([], get(PLAIN, None)),
    "hit on disk": ([(PLAIN, 40)], get(PLAIN, 40)),
    "revalidation": ([(PLAIN, 40)], revalidate),
    "purge": ([(PLAIN, 40), (PLAIN, None)], purge),
}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: every run makes an index."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        yield Path(name)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: errno.errorcode.get(f, "short"))
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_nth_call_fails(memory: Path, name: str, fault: int) -> None:
    before, scenario = SCENARIOS[name]
    prepared = memory / "prepared"
    prepared.mkdir()
    asyncio.run(prepare(prepared, before))
    gc.collect()
    descriptors = kit.descriptors()
    calls = asyncio.run(go(memory / "none", prepared, MOST_CALLS, fault, scenario))
    assert 0 < len(calls) < MOST_CALLS
    # What is stored takes other ways after a failure, but not more than half as many.
    for n in range(1, len(calls) * 3 // 2):
        if fault != SHORT or calls[n - 1 : n] == ["write_at"]:
            asyncio.run(go(memory / str(n), prepared, n, fault, scenario))
    gc.collect()
    assert kit.descriptors() == descriptors


async def prepare(folder: Path, before: list[tuple[str, int | None]]) -> None:
    farm = Farm(folder, None)
    async with life(farm) as node:
        for path, width in before:
            check(farm, path, width, await node.get(path, width))
    farm.threads.shutdown()


async def go(folder: Path, prepared: Path, n: int, fault: int, scenario: Scenario) -> list[str]:
    """The names of the calls that were made. The node has nothing in memory."""
    shutil.copytree(prepared / "node", folder / "node")
    farm = Farm(folder, None)
    try:
        async with life(farm) as node:
            with pytest.MonkeyPatch.context() as patch:
                nth = NthFails(patch, n, fault, stays=False)
                await scenario(farm, node)
                await node.rest()
            node.check()
            for width in (40, None):
                check(farm, PLAIN, width, await node.get(PLAIN, width))
            node.check()
    finally:
        farm.threads.shutdown()
    return nth.names
