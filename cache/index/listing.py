"""Lists of sources that are too long to be made in one turn of the loop."""

import asyncio
from collections.abc import Sequence
from typing import Final

from cache.key import SourceId

# Half a millisecond's worth.
_STEP: Final = 1000


async def named(site: str, paths: Sequence[str]) -> tuple[SourceId, ...]:
    sources: list[SourceId] = []
    for start in range(0, len(paths), _STEP):
        sources += [SourceId(site, path) for path in paths[start : start + _STEP]]
        await asyncio.sleep(0)
    return tuple(sources)
