"""`halftone fsck` of a real cache: beside a running node and without one, looking and fixing."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cache.temp import Owner
from tests.behaviour.test_failures import ask_all, entries, folder_site
from tests.peers.node import Node, ask, node, quote, until
from tests.peers.redis import RedisServer

WIDTHS = range(100, 106)
FOREIGN = "notes of the administrator"


def fsck(folder: Path, *options: str, edge: Node | None = None) -> subprocess.CompletedProcess[str]:
    """As an operator types it."""
    # The configuration's admin has port 0, which nobody can find a node by.
    where = ["--cache", str(folder / "cache")] if edge is None else ["--admin", edge.admin]
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", "fsck", *where, *options],
        capture_output=True,
        text=True,
        timeout=60,
    )


def found(folder: Path, *options: str, edge: Node | None = None) -> dict[str, object]:
    if edge is not None:
        fix = int("--fix" in options)
        return json.loads(ask(edge.admin, f"/fsck?fix={fix}", "POST").body)
    done = fsck(folder, "--json", *options)
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["clean"] else 1), done.stderr
    return answer


def numbers(answer: dict[str, object]) -> dict[str, object]:
    """Those that are not 0."""
    names = ("being_written", "bytes", "clean")
    return {
        name: number
        for name, number in answer.items()
        if name not in names and number and not isinstance(number, list)
    }


def fill(edge: Node) -> list[bytes]:
    bodies = [edge.get(f"/photo.jpg?w={width}").body for width in WIDTHS]
    assert len(set(bodies)) == len(WIDTHS)
    return bodies


def harm(folder: Path) -> None:
    """One file is damaged, one is lost, an orphan and a stranger are there."""
    files = sorted(entries(folder))
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"!")
    files[1].unlink()
    dead = Owner(Owner.of_this_process().boot, 2**22 + 1, 5)
    files[2].with_name(dead.name(0)).write_bytes(b"half")
    (folder / "cache" / FOREIGN).write_text("mine")


HARMED = {
    "files": len(WIDTHS) - 2,
    "listed": len(WIDTHS) - 2,
    "missing": 1,
    "damaged": 1,
    "abandoned": 1,
    "foreign": 1,
}


@pytest.mark.parametrize("is_running", [True, False])
def test_harm_is_found_and_put_right(tmp_path, originals, is_running):
    with node(tmp_path, folder_site(originals)) as edge:
        bodies = fill(edge)
        assert numbers(found(tmp_path, edge=edge)) == {
            "files": len(WIDTHS),
            "listed": len(WIDTHS),
        }
        if is_running:
            harm(tmp_path)
            check(tmp_path, edge)
            assert fill(edge) == bodies
            assert edge.renders() == len(WIDTHS)  # they are in memory
            return
    harm(tmp_path)
    check(tmp_path, None)
    with node(tmp_path, folder_site(originals)) as edge:
        assert fill(edge) == bodies
        assert edge.renders() == 2
        assert fsck(tmp_path, edge=edge).stdout.splitlines()[-1] == "clean"


def check(folder: Path, edge: Node | None) -> None:
    before = [path.name for path in entries(folder)]
    answer = found(folder, edge=edge)
    assert numbers(answer) == HARMED
    assert not answer["clean"]
    assert [path.name for path in entries(folder)] == before
    done = fsck(folder, edge=edge)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "not clean: 2 problems left"
    assert f"foreign: {folder}/cache/{FOREIGN}: halftone did not make it" in done.stdout
    mended = found(folder, "--fix", edge=edge)
    assert numbers(mended) == {**HARMED, "missing": 2, "removed": 2, "mended": 2}
    assert mended["clean"]
    left = {"files": len(WIDTHS) - 2, "listed": len(WIDTHS) - 2, "foreign": 1}
    assert numbers(found(folder, edge=edge)) == left
    assert (folder / "cache" / FOREIGN).read_text() == "mine"


def test_a_node_keeps_its_index_to_itself(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        fill(edge)
        done = fsck(tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "have that one look: --admin" in done.stderr
        assert "locked" in done.stderr
        assert ask_all(edge)
        assert numbers(found(tmp_path, edge=edge))["listed"] == len(entries(tmp_path))


def test_what_was_purged_is_gone_and_what_an_index_lost_is_told(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        fill(edge)
        assert ask(edge.admin, "/photo.jpg", "PURGE", {"Host": "any"}).status == 200
        until(lambda: not entries(tmp_path), "what was purged is unlinked")
        assert numbers(found(tmp_path, edge=edge)) == {}
        fill(edge)
    # With its journal the node would carry the purge out again.
    for name in ("index*", "journal*"):
        for file in (tmp_path / "cache").glob(name):
            file.unlink()
    assert numbers(found(tmp_path, "--fix")) == {"files": len(WIDTHS), "suspect": len(WIDTHS)}
    with node(tmp_path, folder_site(originals)) as edge:
        fill(edge)
        assert edge.renders() == 0  # the originals are as they were
        assert numbers(found(tmp_path, edge=edge)) == {
            "files": len(WIDTHS),
            "suspect": len(WIDTHS),
        }


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with closing(RedisServer()) as server:
        yield server.start()


def test_two_workers_and_a_shared_index(tmp_path, originals, redis):
    head = f"workers = 2\n[cache]\nindex = {quote(redis.url)}\n"
    with node(tmp_path, f"{head}{folder_site(originals)}") as edge:
        fill(edge)
        until(lambda: len(entries(tmp_path)) == len(WIDTHS), "all are stored")
        all_listed = {"files": len(WIDTHS), "listed": len(WIDTHS)}
        assert numbers(found(tmp_path, edge=edge)) == all_listed
        # Another node's entries, for all this one knows.
        entries(tmp_path)[0].unlink()
        answer = found(tmp_path, edge=edge)
        assert (answer["listed"], answer["missing"]) == (len(WIDTHS) - 1, None)
        assert "the index is shared" in fsck(tmp_path, edge=edge).stdout
        # What Redis was not told.
        (key,) = re.findall(rb"halftone:\{\w+\}:keys", redis.command("KEYS", "*:keys"))
        redis.command("DEL", key)
        assert numbers(found(tmp_path, edge=edge))["unlisted"] == len(WIDTHS) - 1
        assert numbers(found(tmp_path, "--fix", edge=edge))["mended"] == len(WIDTHS) - 1
        assert numbers(found(tmp_path, edge=edge))["listed"] == len(WIDTHS) - 1
        redis.stop()
        done = fsck(tmp_path, edge=edge)
        assert "uncompared: index: the index gives no answer" in done.stdout
        assert "the comparison with the index is not complete" in done.stdout.splitlines()[-1]
