"""No test hangs: what stands still is ended, and says where it stood.

Three bounds for every test, each for what the one before it cannot end:

    9/10 of timeout   the coroutine under way is cancelled, on whatever loop: its traceback ends at
                      the await that stood still
    timeout           pytest-timeout's signal; what it raises in a callback of uvloop may be lost
    timeout + 60 s    the process ends, with the stacks of all its threads on standard error. Under
                      xdist that is one worker: its test has failed, and a new worker goes on

And threads of tests that failed do not keep pytest from ending, once it has reported.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

SHARE = 0.9
LATER_S = 60.0
# The session's own standard error: a test may replace sys.stderr, and pytest what is behind its 2.
STDERR = pytest.StashKey[int]()
STATUS = pytest.StashKey[int]()


class Watch:
    """Of the test under way."""

    allowed_s = 0.0  # 0: as long as it likes
    began_at = 0.0

    @classmethod
    def left_s(cls) -> float:
        return cls.allowed_s * SHARE - (time.monotonic() - cls.began_at)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)
    asyncio.Runner.run = _run  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    Watch.allowed_s, Watch.began_at = _allowed_s(item), time.monotonic()
    _arm(item.config)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        Watch.allowed_s = 0.0


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """pytest has just disarmed it, since there may be a debugger; but the teardown is to come."""
    _arm(node.config)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    left = [thread.name for thread in threading.enumerate() if _keeps_us(thread)]
    if not left or hasattr(config, "workerinput"):  # xdist ends its workers
        return
    with contextlib.suppress(OSError):
        sys.stdout.flush()  # ahead of the line, which is not held back
        print(
            f"not waiting for threads that outlived their tests: {', '.join(left)}", file=sys.stderr
        )
        sys.stderr.flush()
    os._exit(config.stash.get(STATUS, 1))


def _arm(config: pytest.Config) -> None:
    if Watch.allowed_s:
        after_s = Watch.allowed_s + LATER_S
        faulthandler.dump_traceback_later(after_s, exit=True, file=config.stash[STDERR])


def _allowed_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0])
    option = item.config.getoption("timeout")
    return float(item.config.getini("timeout") if option is None else option)


def _keeps_us(thread: threading.Thread) -> bool:
    return thread is not threading.main_thread() and not thread.daemon


_run_unbounded = asyncio.Runner.run


def _run(runner: asyncio.Runner, coro: Coroutine[Any, Any, Any], **context: Any) -> Any:
    """Runner.run(), in asyncio.run() as well. Peers in threads may run for longer than a test."""
    if Watch.allowed_s and threading.current_thread() is threading.main_thread():
        coro = _bounded(coro, Watch.left_s())
    return _run_unbounded(runner, coro, **context)


async def _bounded(coro: Coroutine[Any, Any, Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await coro
