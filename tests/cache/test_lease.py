"""Leases: who leads in a farm, who follows, and what becomes of them when something ends early."""

import asyncio
import dataclasses
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from cache.disk import Disk
from cache.entry import Entry
from cache.errors import LedElsewhere, NoSpace
from cache.index.interface import UNKNOWN_TOKEN, Delivery, Token
from cache.key import Key
from cache.lease import Errand, Leases, Pace, keep
from cache.parcel import NOTHING, wrap
from cache.store import Store
from tests import waiting
from tests.cache import kit
from tests.cache.farm import Farm, FarmLeases

BODY = os.urandom(3000)
QUICK = Pace(ttl_s=10.0, wait_s=20.0, poll_s=0.01)
IMPATIENT = dataclasses.replace(QUICK, wait_s=0.05)


class Node:
    """A process of the farm: its store, its leases, and a fill that waits to be released."""

    def __init__(self, farm: Farm, folder: Path, name: str, pace: Pace = QUICK) -> None:
        self.index = FarmLeases(farm)
        self.disk = Disk(str(folder), 10_000_000, 1000)
        self.store = Store(self.disk, self.index, lambda: 1.0, 2)  # type: ignore[arg-type]
        self.leases = Leases(self.store, name, random.Random(1), pace)
        self.fills = 0
        self.follows = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.body: bytes | None = BODY  # None: nothing comes of it that could be kept
        self.error: Exception | None = None
        self.taken: list[Entry] = []
        self.takes = True

    async def ask(self, key: Key = kit.key(), token: Token = kit.TOKEN) -> bytes:  # noqa: B008
        async def held() -> bytes | None:
            stored = await self.store.lookup(key, token)
            if stored is None:
                return None
            with stored:
                return stored.read()

        async def fill() -> bytes:
            self.fills += 1
            self.started.set()
            await self.release.wait()
            if self.error is not None:
                raise self.error
            if self.body is None:
                return b"not kept"
            entry = dataclasses.replace(
                kit.draft(),
                key=key,
                token=token,
                length=len(self.body),
                body_hash=xxhash.xxh3_128_digest(self.body),
            )
            assert await keep(self.store, entry, self.body)
            return self.body

        async def follow() -> bytes:
            self.follows += 1
            return await fill()

        async def take(entry: Entry, body: bytes) -> bytes | None:
            self.taken.append(entry)
            return body if self.takes and await keep(self.store, entry, body) else None

        return await self.leases.once(
            Errand(key, token, held, fill, follow, take, lambda answer: answer != b"not kept")
        )

    def asking(self) -> "asyncio.Task[bytes]":
        return asyncio.create_task(self.ask())

    @property
    def waits(self) -> bool:
        return self.leases.waiting > 0

    def adds_up(self) -> bool:
        stats = self.leases.stats
        ended = stats.held + stats.parcels + stats.replaced + stats.alone
        return stats.waited == ended + stats.undecided + stats.gave_up

    async def close(self) -> None:
        await self.leases.stop()
        await self.store.threads.stop()
        self.disk.close()


async def until(holds: Callable[[], bool]) -> None:
    await waiting.until(holds, pause_s=0)


def in_a_farm(
    folder: Path,
    test: Callable[..., Awaitable[None]],
    count: int = 2,
    pace: Pace = QUICK,
    *,
    is_shared: bool = False,
) -> None:
    """test(farm, node, node ...); is_shared: they are workers of one node."""

    async def main() -> None:
        farm = Farm()
        nodes = [
            Node(farm, folder / ("0" if is_shared else str(number)), f"n{number}", pace)
            for number in range(count)
        ]
        try:
            await asyncio.wait_for(test(farm, *nodes), 20)
            for node in nodes:
                assert not node.waits
                assert node.adds_up()
                await node.leases.stop()
                assert not node.leases._leading
            assert not farm.owners
        finally:
            for node in nodes:
                await node.close()

    asyncio.run(main())


async def led_and_awaited(leader: Node, *followers: Node) -> "list[asyncio.Task[bytes]]":
    """The leader fills, and the others have been refused."""
    tasks = [leader.asking()]
    await leader.started.wait()
    tasks += [follower.asking() for follower in followers]
    await until(lambda: all(follower.waits for follower in followers))
    return tasks


def test_one_fills_and_the_others_are_given_what_came_of_it(tmp_path):
    async def test(farm: Farm, *nodes: Node) -> None:
        leader, *followers = nodes
        tasks = await led_and_awaited(leader, *followers)
        await until(lambda: followers[0].index.asked["delivery"] > 3)
        leader.release.set()
        assert await asyncio.gather(*tasks) == [BODY] * len(nodes)
        assert [node.fills for node in nodes] == [1, 0, 0]
        assert leader.leases.stats.handed_over == 1
        for follower in followers:
            assert follower.leases.stats.parcels == 1
            # Kept like a fill of its own, and found by the next.
            assert kit.load(follower.disk) == BODY
            (entry,) = follower.taken
            assert (entry.key, entry.token, entry.etag) == (kit.key(), kit.TOKEN, '"e"')

    in_a_farm(tmp_path, test, 3)


def test_workers_of_a_node_find_it_on_their_disk(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader, follower)
        leader.release.set()
        assert await asyncio.gather(*tasks) == [BODY, BODY]
        assert (leader.fills, follower.fills) == (1, 0)
        stats = follower.leases.stats
        assert stats.held + stats.parcels == 1

    in_a_farm(tmp_path, test, is_shared=True)


def test_nobody_waits_and_nothing_is_handed_over(tmp_path):
    async def test(farm: Farm, leader: Node, other: Node) -> None:
        leader.release.set()
        assert await leader.ask() == BODY
        await leader.leases.stop()
        assert leader.index.asked == {"lease": 1, "end_lease": 1}
        assert not farm.parcels

    in_a_farm(tmp_path, test)


def test_the_leader_does_not_wait_for_the_index_to_answer(tmp_path):
    async def test(farm: Farm, leader: Node, other: Node) -> None:
        stuck = asyncio.Event()

        async def end_lease(*_: object) -> bool:
            await stuck.wait()
            return False

        leader.index.end_lease = end_lease  # type: ignore[method-assign]
        leader.release.set()
        assert await leader.ask() == BODY
        stuck.set()
        await leader.leases.stop()
        farm.owners.clear()

    in_a_farm(tmp_path, test)


def test_what_is_nobody_elses_asks_nobody(tmp_path):
    async def test(farm: Farm, node: Node, other: Node) -> None:
        node.release.set()
        assert await node.ask(token=UNKNOWN_TOKEN) == BODY
        node.index.exclusive = True  # type: ignore[misc]
        assert await node.ask() == BODY
        assert not node.index.asked

    in_a_farm(tmp_path, test)


def test_another_token_is_another_flight(tmp_path):
    async def test(farm: Farm, one: Node, two: Node) -> None:
        tasks = await led_and_awaited(one)
        two.release.set()
        purged = Token(kit.TOKEN.epoch, kit.TOKEN.generation + 1)
        assert await two.ask(token=purged) == BODY
        assert (one.fills, two.fills) == (1, 1)
        one.release.set()
        await asyncio.gather(*tasks)

    in_a_farm(tmp_path, test)


def test_who_asks_twice_in_one_process_is_not_made_to_wait(tmp_path):
    """Its flights see to it that this is somebody who does not want to share."""

    async def test(farm: Farm, node: Node, other: Node) -> None:
        first = node.asking()
        await node.started.wait()
        second = node.asking()
        await until(lambda: node.fills == 2)
        node.release.set()
        assert await asyncio.gather(first, second) == [BODY, BODY]
        assert node.index.asked["lease"] == 1

    in_a_farm(tmp_path, test)


def test_what_is_made_of_a_source_that_was_waited_for_is_left_for_others(tmp_path):
    """A herd comes for a thumbnail, and waits for its original first."""

    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader, follower)
        leader.release.set()
        await asyncio.gather(*tasks)
        await leader.leases.stop()
        thumbnail = kit.key(variant="w=330")
        assert await leader.ask(thumbnail) == BODY
        await leader.leases.stop()
        assert await follower.ask(thumbnail) == BODY
        assert (leader.fills, follower.fills) == (2, 0)
        assert follower.leases.stats.at_once == 1
        # Of another source nothing is left, nor looked for.
        other = kit.key("b")
        delivered = follower.index.asked["delivery"]
        follower.release.set()
        assert await leader.ask(other) == BODY
        await leader.leases.stop()
        assert await follower.ask(other) == BODY
        assert follower.index.asked["delivery"] == delivered
        assert leader.leases.stats.handed_over == 2

    in_a_farm(tmp_path, test)


def test_between_the_end_of_a_lease_and_its_parcel_nobody_takes_over(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        put_parcel, delivery = leader.index.put_parcel, follower.index.delivery
        looks, is_left = 0, asyncio.Event()

        async def put_late(*parcel: Any) -> None:
            assert not farm.owners
            await until(lambda: looks > 0)
            await put_parcel(*parcel)
            is_left.set()

        async def look(*about: Any) -> Delivery:
            nonlocal looks
            if not farm.owners:
                looks += 1
                if looks == 2:  # a third one would be too many
                    await is_left.wait()
            return await delivery(*about)

        leader.index.put_parcel = put_late  # type: ignore[method-assign]
        follower.index.delivery = look  # type: ignore[method-assign]
        tasks = await led_and_awaited(leader, follower)
        leader.release.set()
        follower.release.set()
        assert await asyncio.gather(*tasks) == [BODY, BODY]
        assert (leader.fills, follower.fills) == (1, 0)

    in_a_farm(tmp_path, test)


# Leaders that end otherwise


def test_a_dead_leader_is_replaced_by_exactly_one(tmp_path):
    async def test(farm: Farm, *nodes: Node) -> None:
        leader, *followers = nodes
        tasks = await led_and_awaited(leader, *followers)
        leader.index.is_down = True  # as if it were gone
        farm.now += 9.9
        asked = followers[0].index.asked["delivery"]
        await until(lambda: followers[0].index.asked["delivery"] > asked + 3)
        assert sum(node.fills for node in followers) == 0
        farm.now += 0.2
        await until(lambda: sum(node.fills for node in followers) == 1)
        for node in followers:
            node.release.set()
        assert await asyncio.gather(*tasks[1:]) == [BODY] * 3
        assert sum(node.fills for node in followers) == 1
        assert sum(node.leases.stats.replaced for node in followers) == 1
        assert sum(node.leases.stats.parcels for node in followers) == 2
        leader.release.set()
        await tasks[0]

    in_a_farm(tmp_path, test, 4)


def test_a_leader_that_fails_is_followed_by_one_who_tries_again(tmp_path):
    async def test(farm: Farm, *nodes: Node) -> None:
        leader, *followers = nodes
        leader.error = ValueError("broken")
        tasks = await led_and_awaited(leader, *followers)
        for node in followers:
            node.release.set()
        leader.release.set()
        with pytest.raises(ValueError, match="broken"):
            await tasks[0]
        assert await asyncio.gather(*tasks[1:]) == [BODY] * 2
        assert sum(node.fills for node in followers) == 1
        assert not any(node.leases.stats.alone for node in followers)

    in_a_farm(tmp_path, test, 3)


def test_a_slow_leader_keeps_its_lease(tmp_path):
    """Renewed at a third of its time, as often as the clock of the farm goes on."""

    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader, follower)
        for _ in range(5):
            renewed = leader.index.asked["renew_lease"]
            await until(lambda was=renewed: leader.index.asked["renew_lease"] > was)
            farm.now += 0.02
        assert farm.now > 0.05
        assert follower.fills == 0
        leader.release.set()
        assert await asyncio.gather(*tasks) == [BODY, BODY]
        assert leader.leases.stats.lost == 0

    in_a_farm(tmp_path, test, pace=dataclasses.replace(QUICK, ttl_s=0.03))


def test_a_lease_that_was_lost_ends_nobody_elses(tmp_path):
    async def test(farm: Farm, leader: Node, other: Node) -> None:
        tasks = await led_and_awaited(leader)
        farm.now += 60
        second = other.asking()
        await other.started.wait()
        await until(lambda: leader.leases.stats.lost == 1)
        leader.release.set()
        assert await tasks[0] == BODY
        await leader.leases.stop()
        assert len(farm.owners) == 1
        other.release.set()
        assert await second == BODY

    in_a_farm(tmp_path, test, pace=dataclasses.replace(QUICK, ttl_s=0.03))


def test_who_has_waited_long_enough_says_so_and_does_not_go_on(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader)
        with pytest.raises(LedElsewhere):
            await follower.ask()
        assert follower.fills == 0
        assert follower.leases.stats.gave_up == 1
        leader.release.set()
        await asyncio.gather(*tasks)

    in_a_farm(tmp_path, test, pace=IMPATIENT)


def test_a_client_that_leaves_takes_its_wait_along(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader, follower)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        follower.leases.stats.gave_up += 1  # for the equation
        leader.release.set()
        assert await tasks[0] == BODY

    in_a_farm(tmp_path, test)


@pytest.mark.parametrize("size", [None, 1 << 20])
def test_what_cannot_be_handed_over_is_filled_by_each(tmp_path, size):
    """Not kept by the leader, or larger than a parcel."""

    async def test(farm: Farm, *nodes: Node) -> None:
        leader, *followers = nodes
        body = None if size is None else os.urandom(size)
        for node in nodes:
            node.body = body
        tasks = await led_and_awaited(leader, *followers)
        for node in nodes:
            node.release.set()
        assert await asyncio.gather(*tasks) == [body or b"not kept"] * 3
        await leader.leases.stop()
        assert [node.follows for node in followers] == [1, 1]
        assert [node.leases.stats.alone for node in followers] == [1, 1]
        assert leader.leases.stats.handed_over == 0

    in_a_farm(tmp_path, test, 3)


# Parcels that are not what they should be


def damaged() -> bytes:
    entry = dataclasses.replace(
        kit.draft(), length=len(BODY), body_hash=xxhash.xxh3_128_digest(BODY)
    )
    return wrap(entry, BODY)[:-1] + b"!"


@pytest.mark.parametrize("parcel", [damaged(), b"", b"noise" * 1000])
def test_a_damaged_parcel_is_none_and_one_of_them_fills(tmp_path, parcel):
    async def test(farm: Farm, *nodes: Node) -> None:
        leader, *followers = nodes
        tasks = await led_and_awaited(leader, *followers)
        (name,) = farm.owners
        farm.parcels[name] = (parcel, 1e9)
        await until(lambda: all(node.leases.stats.refused for node in followers))
        asked = followers[0].index.asked["delivery"]
        await until(lambda: followers[0].index.asked["delivery"] > asked + 3)
        assert [node.leases.stats.refused for node in followers] == [1, 1]  # looked at once

        async def put_parcel(*_: object) -> None:
            farm.parcels[name] = (parcel, 1e9)

        leader.index.put_parcel = put_parcel  # type: ignore[method-assign]
        leader.release.set()
        await until(lambda: sum(node.fills for node in followers) == 1)
        for node in followers:
            node.release.set()
        assert await asyncio.gather(*tasks) == [BODY] * 3
        assert sum(node.fills for node in followers) == 1
        assert not any(node.taken for node in followers if node.fills)

    in_a_farm(tmp_path, test, 3)


def test_a_parcel_of_no_use_is_not_taken(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        follower.takes = False
        tasks = await led_and_awaited(leader, follower)
        leader.release.set()
        follower.release.set()
        assert await asyncio.gather(*tasks) == [BODY, BODY]
        assert len(follower.taken) == 1
        assert (follower.fills, follower.leases.stats.replaced) == (1, 1)

    in_a_farm(tmp_path, test)


def test_the_word_for_none_may_be_there_already(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader)
        (name,) = farm.owners
        farm.parcels[name] = (NOTHING, 1e9)
        follower.release.set()
        assert await follower.ask() == BODY
        assert follower.leases.stats.alone == 1
        assert follower.index.asked["delivery"] == 1  # without a pause
        leader.release.set()
        await asyncio.gather(*tasks)

    in_a_farm(tmp_path, test)


# An index that falls silent


def test_without_an_index_everybody_fills(tmp_path):
    async def test(farm: Farm, one: Node, two: Node) -> None:
        for node in (one, two):
            node.index.is_down = True
            node.release.set()
        assert await asyncio.gather(one.ask(), two.ask()) == [BODY, BODY]
        assert (one.leases.stats.without, two.leases.stats.without) == (1, 1)

    in_a_farm(tmp_path, test)


def test_an_index_that_falls_silent_in_the_middle(tmp_path):
    async def test(farm: Farm, leader: Node, follower: Node) -> None:
        tasks = await led_and_awaited(leader, follower)
        follower.index.is_down = True
        await until(lambda: follower.fills == 1)
        follower.release.set()
        assert await tasks[1] == BODY
        assert follower.leases.stats.undecided == 1
        leader.index.is_down = True
        leader.release.set()
        assert await tasks[0] == BODY
        await leader.leases.stop()
        farm.owners.clear()

    in_a_farm(tmp_path, test)


def test_an_index_that_comes_back_renews(tmp_path):
    async def test(farm: Farm, leader: Node, other: Node) -> None:
        tasks = await led_and_awaited(leader)
        leader.index.is_down = True
        await until(lambda: leader.index.asked["renew_lease"] > 2)
        leader.index.is_down = False
        (before,) = farm.owners.values()
        farm.now += 0.01
        await until(lambda: next(iter(farm.owners.values())) > before)
        leader.release.set()
        await asyncio.gather(*tasks)
        assert leader.leases.stats.lost == 0

    in_a_farm(tmp_path, test, pace=dataclasses.replace(QUICK, ttl_s=0.03))


def test_a_store_that_refuses_a_parcel(tmp_path, monkeypatch):
    async def main() -> None:
        node = Node(Farm(), tmp_path, "n")
        entry = dataclasses.replace(
            kit.draft(), length=len(BODY), body_hash=xxhash.xxh3_128_digest(BODY)
        )

        def refuse(*_: object) -> None:
            raise NoSpace("full")

        monkeypatch.setattr("cache.fill.Fill.put", refuse)
        assert not await keep(node.store, entry, BODY)
        kit.check(node.disk, tmp_path)
        await node.close()

    asyncio.run(main())
