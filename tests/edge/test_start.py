"""The start: what is imported when, resizers that start meanwhile or never, signals before all."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from edge import start
from edge.config import Config
from edge.garbage import undisturbed
from edge.start import StartingPool
from resizer.errors import ResizerStopped
from resizer.pool import Pool, PoolSettings
from tests.peers.node import END_S, Node, quote, running

# `halftone serve`, its resizers and imports as these tests want them.
LAUNCHER = """
import os, signal, sys
from edge import cli, start
from resizer import child

command, load, load_ahead = child.command, start._load, start._load_ahead

def a_command(*arguments, **more):
    if os.path.exists(os.environ["BROKEN"]):
        return [sys.executable, "-Ic", "raise SystemExit(3)"]
    return command(*arguments, **more)

def a_load():
    had = start._APP in sys.modules
    os.write(2, b"process %d had it: %s\\n" % (os.getpid(), str(had).encode()))
    # Logs were moved, and nobody has opened one yet.
    os.kill(os.getpid(), signal.SIGUSR1)
    return load()

def a_load_ahead():
    load_ahead()
    os.write(2, b"loaded ahead\\n")

child.command, start._load, start._load_ahead = a_command, a_load, a_load_ahead
cli.main(["serve", *sys.argv[1:]])
"""
# Of origins; a folder of pictures has none.
KINDS = tuple(
    f"edge.origin.{kind}" for kind in ("cgi", "fastcgi.client", "http.client", "s3.client")
)
COMMAND = (sys.executable, "-c", LAUNCHER)


def write(folder: Path) -> str:
    file = folder / "halftone.toml"
    (folder / "originals").mkdir(exist_ok=True)
    (folder / "originals" / "a.txt").write_text("hello")
    file.write_text(
        'listen = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\nlog.access = "off"\n'
        f"pid_file = {quote(folder / 'pid')}\ncache.path = {quote(folder / 'cache')}\n"
        f"resizer.processes = 2\n[[site]]\nroot = {quote(folder / 'originals')}\n"
    )
    return str(file)


def serving(folder: Path):  # type: ignore[no-untyped-def]
    environ = {"BROKEN": str(folder / "broken")}
    return running(["--config", write(folder)], environ, command=COMMAND)


def is_alive(edge: Node) -> bool:
    return edge.get("/").status in (403, 404)


def failed_start(tmp_path: Path) -> str:
    """What it says."""
    ended = subprocess.run(
        [*COMMAND, "--config", write(tmp_path)],
        env={**os.environ, "BROKEN": str(tmp_path / "broken")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "listening on" not in ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_node_whose_resizers_cannot_start_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    said = "halftone: resizer: a worker ended before it was ready: exit status 3\n"
    assert said in failed_start(tmp_path)


@pytest.mark.parametrize("has_resizers", [True, False])
def test_what_fails_while_resizers_start_is_what_is_said(
    has_resizers: bool, tmp_path: Path
) -> None:
    if not has_resizers:
        (tmp_path / "broken").touch()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "layout").write_text("something else\n")
    said = failed_start(tmp_path)
    assert "halftone: cache: " in said
    assert "never retrieved" not in said


def test_nothing_is_handed_to_a_crew_that_cannot_render(tmp_path: Path) -> None:
    with serving(tmp_path) as edge:
        (worker,) = edge.workers()
        (tmp_path / "broken").touch()
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for("the old configuration stays: resizer: a worker ended before it was ready")
        assert edge.workers() == [worker]
        assert is_alive(edge)
        edge.process.send_signal(signal.SIGUSR2)
        edge.wait_for("did not take over: exit status 1")
        assert edge.workers() == [worker]
        assert is_alive(edge)


def test_what_serves_is_imported_once_for_all_that_come_later(tmp_path: Path) -> None:
    with serving(tmp_path) as edge:
        (first,) = edge.workers()
        assert f"process {first} had it: False\n" in edge.log
        edge.wait_for("loaded ahead")
        os.kill(first, signal.SIGKILL)
        edge.wait_for("another one in")
        second = int(edge.wait_for(r"process (\d+) had it: True")[1])
        assert second not in (first, edge.process.pid)
        edge.wait_for("embedded index")
        assert is_alive(edge)


def test_the_master_does_without_what_serves() -> None:
    code = (
        "import sys, edge.cli, edge.start; "
        "print([m for m in ('edge.app', 'edge.handler', 'cache.store') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_seldom_asked_for_is_not_imported_at_the_start() -> None:
    seldom = ("prometheus_client", "edge.status.page", "edge.status.reading", "redis", *KINDS)
    code = f"import sys, edge.app; print([m for m in {seldom} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("workers", "is_first"), [(1, False), (2, True)])
def test_several_workers_share_what_the_master_imports(
    workers: int, is_first: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    class Master:
        def __init__(self, *_: object, **more: object) -> None:
            done.append("master")
            self.after_start = more["after_start"]

        def run(self) -> int:
            self.after_start()  # type: ignore[operator]
            return 7

    monkeypatch.setattr(start, "Master", Master)
    monkeypatch.setattr(start, "_load", lambda: done.append("load"))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    config = Config.for_folder(str(tmp_path), environ={"HOME": "/x"})
    assert start.serve(replace(config, workers=workers)) == 7
    assert done == (["load"] if is_first else []) + ["master", "load"]


def test_a_load_ahead_that_fails_ends_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> ModuleType:
        raise ImportError("the package is being replaced")

    monkeypatch.setattr(start, "_load", load)
    start._load_ahead()
    assert "what the next worker serves with cannot be loaded" in caplog.text


# ---- a pool that starts ----------------------------------------------------------------------

ONE = PoolSettings(processes=1, backoff_s=0.01)


def test_a_pool_starts_meanwhile() -> None:
    async def main() -> None:
        pool = Pool(ONE)
        resizers = StartingPool(pool)
        await asyncio.sleep(0)
        process = pool.workers.slots[0].process  # before anybody waits for it
        assert process is not None
        await resizers.ready()
        assert pool.workers.alive == 1
        await resizers.stop(5)
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
        await resizers.stop(5)

    asyncio.run(main())


def test_a_pool_that_cannot_start_says_so_when_it_is_asked() -> None:
    async def main() -> None:
        resizers = StartingPool(Pool(ONE, worker=lambda _: ["/bin/false"]))
        await asyncio.wait((resizers._starting,), timeout=END_S)
        with pytest.raises(ResizerStopped, match="before it was ready"):
            await resizers.ready()
        await resizers.stop(5)

    asyncio.run(main())


def test_a_start_that_is_given_up_leaves_no_process() -> None:
    async def main() -> None:
        pool = Pool(ONE, worker=lambda _: ["/bin/sh", "-c", "exec sleep 9"])
        resizers = StartingPool(pool)
        await asyncio.sleep(0)
        process = pool.workers.slots[0].process
        assert process is not None
        await resizers.stop(5)
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)

    asyncio.run(main())


def test_imports_are_undisturbed() -> None:
    assert gc.isenabled()
    with undisturbed():
        assert not gc.isenabled()
        with undisturbed():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()
