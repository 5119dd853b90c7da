"""The start of a node: its processes, before what they serve with is imported.

    master    its own few modules -> fork -> ready -> a second later: imports the rest, too
    worker    hears the master -> its first resizer's process -> imports edge.app -> serves
    resizer   interpreter, Pillow, every codec once, sealed

A single worker imports while its resizer starts, on another processor: neither waits for the other.
Several workers would each do so; they share what the master has imported before. So do those that
come later: no death and no reload costs the imports again, and none mixes two releases.
"""

import asyncio
import importlib
import logging
import os
import sys
import time
from typing import Any, Final

import uvloop

from edge.config import Config
from edge.garbage import undisturbed
from edge.master import Master
from edge.resizers import make_pool
from edge.seat import Seat, Word
from edge.tenure import Tenure
from resizer.pool import Pool

# By name: what imports it would import what serves.
_APP: Final = "edge.app"

log = logging.getLogger("halftone")


class CannotStart(Exception):
    """The node cannot serve; the text says what to do."""


def serve(config: Config) -> int:
    """Run a node until a signal ends it. Returns the exit status."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.raiseExceptions = False  # a closed standard error must not stop a request
    if config.workers > 1:
        _load()
    return Master(
        config, work, slots=config.workers, environ=os.environ, after_start=_load_ahead
    ).run()


def work(config: Config, seat: Seat) -> int:
    """Be a worker until the master ends it, or is gone. Returns the exit status."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_work(config, seat))
    except CannotStart as error:
        seat.link.send(Word.FAILED, str(error))
        return 1


async def _work(config: Config, seat: Seat) -> int:
    tenure = Tenure(seat.link)
    tenure.hear(asyncio.get_running_loop())
    resizers = StartingPool(make_pool(config, time.monotonic))
    try:
        await asyncio.sleep(0)  # now its process is there
        status: int = await _load().App(config, seat, tenure, resizers).run()
        return status
    finally:
        await resizers.stop(0)  # where the app did not come to it


def _load() -> Any:
    """What serves."""
    with undisturbed():
        return importlib.import_module(_APP)


def _load_ahead() -> None:
    """For the workers that come later, which would see to it themselves."""
    try:
        _load()
    except Exception:  # whatever has become of the files, the node serves
        log.exception("what the next worker serves with cannot be loaded")


class StartingPool:
    """A pool that starts while other things are done. Constructed in a loop; stop() at any time,
    and again.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._starting = asyncio.get_running_loop().create_task(pool.start())
        self._is_stopped = False

    async def ready(self) -> None:
        """Raises ResizerStopped where no resizer can start, OSError."""
        await self._starting

    async def stop(self, grace_s: float) -> None:
        """Of a start that failed the pool has seen to the end itself."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._starting.cancel()
        await asyncio.wait((self._starting,))
        if not self._starting.cancelled() and self._starting.exception() is None:
            await self.pool.stop(grace_s)
