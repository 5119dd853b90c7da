"""Tests that hang, in a pytest of their own, and how it goes on without them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

HANG = """
    import asyncio, threading, time
    import pytest, uvloop

    def on_uvloop(main):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)

    def test_waits():
        async def main():
            while True:
                await asyncio.sleep(0.01)
        on_uvloop(main())

    def test_takes_no_notice():
        async def main():
            while True:
                try:
                    await asyncio.sleep(0.01)
                except BaseException:
                    pass
        on_uvloop(main())

    def test_leaves_a_thread():
        threading.Thread(target=time.sleep, args=(3600,), name="left behind").start()

    @pytest.mark.skip
    def test_is_skipped():
        pass

    def test_goes_on():
        pass
"""


def run(folder: Path, chosen: str, *options: str) -> tuple[int, str]:
    (folder / "test_hang.py").write_text(textwrap.dedent(HANG))
    (folder / "impatient.py").write_text(
        "from tests import watchdog\nwatchdog.SHARE, watchdog.LATER_S = 0.05, 1.0\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "impatient", *options]
    ended = subprocess.run(
        [*command, "-k", chosen, "-rA", "-c", folder / "pytest.ini", folder],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "CI": "true", "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )
    return ended.returncode, ended.stdout


def test_what_waits_fails_where_it_waits_and_no_thread_keeps_us(tmp_path: Path) -> None:
    status, said = run(tmp_path, "waits or thread or skipped or goes_on", "--timeout=30")
    assert status == 1, said
    assert "test_hang.py::test_waits - TimeoutError" in said
    assert "await asyncio.sleep(0.01)\n" in said
    assert "test_is_skipped is skipped under CI" in said
    assert "2 passed" in said
    assert said.rstrip().endswith("not waiting for threads that outlived their tests: left behind")


def test_what_takes_no_notice_ends_with_its_worker(tmp_path: Path) -> None:
    status, said = run(tmp_path, "no_notice or goes_on", "-n=1", "--timeout=2")
    assert status == 1, said
    assert "Timeout (0:00:03)!" in said
    assert "in test_takes_no_notice\n" in said
    assert "crashed while running 'test_hang.py::test_takes_no_notice'" in said
    assert "1 passed" in said
