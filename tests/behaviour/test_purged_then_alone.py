"""P3 where the index goes down behind a purge: what was heard of is obeyed without it, too."""

import asyncio
from pathlib import Path

import pytest

from cache.orders import Act, Scope
from tests.behaviour.world import Farm, FarmNode, farm_of, version_in

PATH = "/pets/cat.jpg"  # its tag is the configuration's
TAGGED = "/plain.jpg"  # its own
ORDERS = [
    (PATH, Scope.SOURCE, PATH),
    (PATH, Scope.PREFIX, "/pets/"),
    (PATH, Scope.TAG, "blue"),
    (TAGGED, Scope.TAG, "red"),
]
# Before the purge: asked for once, in an outage, or in one and behind it.
BEFORE = [(False,), (True,), (True, False), (False, True)]


async def version_of(node: FarmNode, path: str, width: int | None) -> int:
    said = await node.get(path, width)
    await node.rest()
    assert said.status == 200
    return version_in(said.body)


async def walk(
    farm: Farm, node: FarmNode, order: tuple[str, Scope, str], act: Act, before: tuple[bool, ...]
) -> list[int]:
    path, scope, value = order
    for farm.is_index_down in before:
        for width in (None, 40):
            await version_of(node, path, width)
    farm.is_index_down = False
    await node.follower.catch_up()
    farm.publish(path)
    await node.order(act, scope, value)
    farm.is_index_down = True
    return [await version_of(node, path, width) for width in (40, None, 40, None)]


@pytest.mark.parametrize("act", [Act.PURGE, Act.SOFTEN])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("before", BEFORE)
def test_nothing_from_before_a_purge(tmp_path: Path, order, act, before):
    async def test() -> None:
        async with farm_of(tmp_path, None, 1) as (farm, nodes):
            (node,) = nodes
            versions = await walk(farm, node, order, act, before)
            assert versions == [farm.origin.versions[order[0]]] * 4
            # What came in the outage is served behind it, asked about again or not.
            farm.is_index_down = False
            await node.follower.catch_up()
            assert await version_of(node, order[0], 40) == versions[0]

    asyncio.run(test())


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_purged_twice_is_served_alone(tmp_path: Path, order):
    """P6, P4: its token was raised by the first one. What the outage brings is kept for it."""

    async def test() -> None:
        async with farm_of(tmp_path, None, 1) as (farm, nodes):
            (node,) = nodes
            path, scope, value = order
            for _ in range(2):
                await version_of(node, path, 40)
                await node.order(Act.PURGE, scope, value)
            farm.is_index_down = True
            bodies = farm.origin.bodies
            for width in (None, 40, None, 40):
                await version_of(node, path, width)
            for file in node.entries():  # from the disk, too
                node.memory.remove(bytes.fromhex(file.name))
            await version_of(node, path, None)
            assert farm.origin.bodies == bodies + 1

    asyncio.run(test())


@pytest.mark.parametrize("order", [one for one in ORDERS if one[2] != "blue"])
def test_what_was_not_purged_is_served_alone(tmp_path: Path, order):
    """P6: another picture's purge takes nothing from who has no index."""

    async def test() -> None:
        async with farm_of(tmp_path, None, 1) as (farm, nodes):
            (node,) = nodes
            await version_of(node, "/while.jpg", 40)
            path, scope, value = order
            await version_of(node, path, 40)
            await node.order(Act.PURGE, scope, value)
            farm.is_index_down, farm.origin.is_up = True, False
            assert await version_of(node, "/while.jpg", 40) == 1

    asyncio.run(test())
