"""Waiting for what nothing announces, and never for ever: whoever gives up says for what."""

import asyncio
import inspect
import time
from collections.abc import Callable

# Far beyond anything that is waited for, also where the machine has other things to do; and less
# than a test may take, so that it fails here and says so.
PATIENCE_S = 30.0


async def until(
    holds: Callable[[], object],
    what: str = "",
    *,
    pause_s: float = 0.001,
    seconds: float = PATIENCE_S,
) -> None:
    """Look once a pause; a pause of 0 is a turn of the loop. what: else it is read off the test."""
    late_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > late_at:
            raise TimeoutError(f"not in {seconds:g} s: {what or inspect.getsource(holds).strip()}")
        await asyncio.sleep(pause_s)
