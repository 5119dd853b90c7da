"""Files and index compared both ways: each difference alone, both with and without fix."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cache import reconcile as reconciling
from cache.check import remove_older
from cache.disk import Disk
from cache.errors import IndexUnavailable
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import MAX_MEMBERS, Index, Token
from cache.reconcile import Difference, Findings, account, reconcile
from tests.cache import kit

NAMES = ("a", "b", "c")


@dataclass
class World:
    roots: list[Path]
    disks: list[Disk]
    index: Any  # an Index, some of whose methods tests replace

    @property
    def root(self) -> Path:
        return self.roots[0]

    async def fill(self, name: str, disk: int = 0) -> None:
        """As Store does it: token, file, record."""
        source = kit.key(name).source
        token = (await self.index.open_source(source)).token
        assert await self.index.publish(source, token, kit.key(name).digest, 4096)
        kit.store(self.disks[disk], name, name.encode(), token)

    async def check(self, *, fix: bool = False, index: Index | None = None) -> Findings:
        before = kit.descriptors()
        found = await reconcile(
            [str(root) for root in self.roots],
            self.index if index is None else index,
            self.remove_older,
            fix=fix,
            rest=0.0,
            settle_s=0.001,
        )
        assert kit.descriptors() == before
        assert found.files.entries == sum(
            (found.listed, found.unlisted, found.stale, found.suspect, found.gone, found.uncompared)
        )
        return found

    def remove_older(self, digest: bytes, token: Token) -> bool:
        return remove_older([str(root) for root in self.roots], digest, token)


def run(folder: Path, test: Callable[[World], Awaitable[None]], folders: int = 1) -> None:
    @asynccontextmanager
    async def world() -> Any:
        roots = [folder / f"cache{number}" for number in range(folders)]
        disks = [Disk(str(root), kit.SIZE, 1000) for root in roots]
        index = EmbeddedIndex(
            str(roots[0] / "index.sqlite"),
            clock=lambda: 1_795_000_000.0,
            random=random.Random(1),
            budget_s=5.0,
        )
        await index.start()
        try:
            yield World(roots, disks, index)
        finally:
            await index.stop()
            for disk in disks:
                disk.close()

    async def main() -> None:
        async with world() as made:
            for name in NAMES:
                await made.fill(name)
            await test(made)

    asyncio.run(main())


def numbers(found: Findings) -> dict[str, int]:
    names = ("listed", "unlisted", "stale", "suspect", "missing", "gone", "uncompared", "mended")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_nothing_differs(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for fix in (False, True):
            found = await world.check(fix=fix)
            assert numbers(found) == {"listed": 3}
            assert found.is_clean
            assert found.differences == []
        answer = account(found)
        assert (answer["files"], answer["clean"], answer["problems"]) == (3, True, [])
        assert (answer["missing"], answer["others"]) == (0, [])

    run(tmp_path, test)


async def _unlisted(world: World) -> None:
    await world.index.forget(kit.key("a").source, kit.key("a").digest)


async def _missing(world: World) -> None:
    kit.path_of(world.root, "a").unlink()


async def _stale(world: World) -> None:
    await world.index.purge(kit.key("a").source)


@pytest.mark.parametrize(
    ("harm", "difference", "after"),
    [
        (_unlisted, Difference.UNLISTED, {"listed": 3}),
        (_missing, Difference.MISSING, {"listed": 2}),
        (_stale, Difference.STALE, {"listed": 2}),
    ],
)
def test_what_differs_is_found_and_put_right(
    tmp_path: Path, harm: Callable[[World], Awaitable[None]], difference: Difference, after: Any
) -> None:
    async def test(world: World) -> None:
        await harm(world)
        name = str(kit.path_of(world.root, "a").relative_to(world.root))
        for _ in range(2):  # looking changes nothing
            found = await world.check()
            assert numbers(found) == {"listed": 2, str(difference): 1}
            assert [(r.difference, r.name, r.is_mended) for r in found.differences] == [
                (difference, name, False)
            ]
            assert found.is_clean  # no problem
        found = await world.check(fix=True)
        assert numbers(found) == {"listed": 2, str(difference): 1, "mended": 1}
        assert numbers(await world.check()) == after
        assert kit.path_of(world.root, "a").exists() == (difference is Difference.UNLISTED)

    run(tmp_path, test)


def test_a_damaged_file_leaves_the_list_as_well(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        kit.path_of(world.root, "a").write_bytes(b"damaged")
        found = await world.check()
        assert (numbers(found), found.is_clean) == ({"listed": 2}, False)
        (problem,) = account(found)["problems"]  # type: ignore[misc]
        assert (problem["fault"], problem["mended"]) == ("damaged", False)
        found = await world.check(fix=True)
        assert (numbers(found), found.is_clean) == ({"listed": 2, "missing": 1, "mended": 1}, True)
        assert numbers(await world.check()) == {"listed": 2}

    run(tmp_path, test)


def test_what_an_index_that_was_lost_knew_is_suspect_and_stays(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        path = str(tmp_path / "new.sqlite")
        other = EmbeddedIndex(path, clock=lambda: 1.0, random=random.Random(2), budget_s=5.0)
        await other.start()
        await other.open_source(kit.key("a").source)  # another epoch; of the others no token
        assert numbers(await world.check(fix=True, index=other)) == {"suspect": 3}
        assert await other.look_up(kit.key("b").source) is None  # looking opened nothing
        await other.stop()
        found = await reconcile([str(world.root)], None, world.remove_older, fix=True, rest=0.0)
        assert (numbers(found), found.is_clean) == ({"suspect": 3}, True)
        assert len(kit.names(world.root)) >= 3

    run(tmp_path, test)


def test_a_file_that_is_newer_than_an_older_copy_of_the_index_is_suspect(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        source = kit.key("a").source
        token = (await world.index.open_source(source)).token
        kit.store(world.disks[0], "a", b"new", replace(token, generation=token.generation + 1))
        assert numbers(await world.check(fix=True)) == {"listed": 2, "suspect": 1}
        assert kit.path_of(world.root).exists()

    run(tmp_path, test)


def test_beyond_the_members_that_are_recorded_nothing_is_unlisted(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        source = kit.key("a").source
        token = (await world.index.open_source(source)).token
        for number in range(MAX_MEMBERS):
            await world.index.publish(source, token, kit.key("a", f"w={number}").digest, 1)
        await world.index.forget(source, kit.key("a").digest)
        await world.index.publish(source, token, kit.key("a", "w=99999").digest, 1)
        found = await world.check()
        assert numbers(found) == {"listed": 3, "missing": MAX_MEMBERS}

    run(tmp_path, test)


def test_a_file_in_any_folder_is_not_missing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.fill("d", disk=1)
        assert numbers(await world.check()) == {"listed": 4}
        (
            world.roots[1] / "layout"
        ).unlink()  # not looked through, and asked for a name all the same
        found = await world.check()
        assert (numbers(found), found.is_clean) == ({"listed": 3}, False)

    run(tmp_path, test, folders=2)


def test_where_a_folder_is_lost_nothing_is_called_missing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.fill("d", disk=1)
        world.roots.append(tmp_path / "nowhere")
        found = await world.check(fix=True)
        assert numbers(found) == {"listed": 4}
        assert not found.is_clean
        assert "cannot be read" in found.obstacle
        assert account(found)["problems"][-1]["fault"] == "uncompared"  # type: ignore[index]

    run(tmp_path, test, folders=2)


# What happens meanwhile


def test_what_is_on_its_way_does_not_differ(tmp_path: Path) -> None:
    """A fill that has recorded and not renamed; an eviction that has forgotten and not unlinked; a
    purge that has raised and not unlinked: each ends between the two looks."""

    async def test(world: World) -> None:
        index = world.index
        await index.forget(kit.key("a").source, kit.key("a").digest)
        await index.purge(kit.key("b").source)
        held = kit.path_of(world.root, "c").read_bytes()
        kit.path_of(world.root, "c").unlink()
        look_up, listed = index.look_up, index.listed
        asked = []

        async def look_up_then_end(source: Any) -> Any:
            asked.append(source)
            known = await look_up(source)
            if len(asked) == 2:
                kit.path_of(world.root, "a").unlink()
                kit.path_of(world.root, "b").unlink()
            return known

        async def listed_then_end(after: bytes, limit: int) -> Any:
            page = await listed(after, limit)
            if page and not kit.path_of(world.root, "c").exists():
                asyncio.get_running_loop().call_later(0.0005, rename)
            return page

        def rename() -> None:
            kit.path_of(world.root, "c").write_bytes(held)

        index.look_up, index.listed = look_up_then_end, listed_then_end
        reconciled = await reconcile(
            [str(world.root)], index, world.remove_older, fix=True, rest=0.0, settle_s=0.05
        )
        assert numbers(reconciled) == {"gone": 2}
        assert reconciled.differences == []

    run(tmp_path, test)


def test_a_busy_index_is_asked_again_and_a_dead_one_ends_the_comparison(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        look_up = world.index.look_up
        failures = [IndexUnavailable("busy")] * (reconciling.TRIES - 1)

        async def busy(source: Any) -> Any:
            if failures:
                raise failures.pop()
            return await look_up(source)

        world.index.look_up = busy
        assert numbers(await world.check()) == {"listed": 3}

        async def dead(source: Any) -> Any:
            failures.append(IndexUnavailable("dead"))
            raise failures[-1]

        world.index.look_up = dead
        kit.path_of(world.root, "a").write_bytes(b"damaged")
        found = await world.check(fix=True)
        assert numbers(found) == {"uncompared": 2}
        assert len(failures) == reconciling.TRIES  # once, not for every file
        assert (found.obstacle, found.is_clean) == ("the index gives no answer: dead", False)
        assert not kit.path_of(world.root, "a").exists()  # the files were seen to

    run(tmp_path, test)


def test_a_node_that_stops_is_not_kept(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        found = await reconcile(
            *([str(world.root)], world.index, world.remove_older),
            fix=False,
            is_stopping=lambda: True,
        )
        assert found.obstacle == "the node is stopping"
        assert not found.is_clean

    run(tmp_path, test)


def test_pages_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "PAGE", 3)
    monkeypatch.setattr(reconciling, "BATCH", 2)

    async def test(world: World) -> None:
        for number in range(10):
            await world.fill(f"n{number}")
        for number in range(0, 10, 3):
            kit.path_of(world.root, f"n{number}").unlink()
            await world.index.forget(kit.key(f"n{number + 1}").source, b"another")
        found = await world.check(fix=True)
        assert numbers(found) == {"listed": 9, "missing": 4, "mended": 4}
        assert numbers(await world.check()) == {"listed": 9}

    run(tmp_path, test)


def test_particulars_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "MAX_PROBLEMS", 2)

    async def test(world: World) -> None:
        for name in NAMES:
            await world.index.forget(kit.key(name).source, kit.key(name).digest)
        found = await world.check()
        assert (found.unlisted, len(found.differences)) == (3, 2)

    run(tmp_path, test)
