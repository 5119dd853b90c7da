"""URLs under which originals were handed out, written down for the caches in front.

A Squid forgets a URL, not a picture: a purge has to name every spelling that it may hold. So the
first time that a worker answers a target, the absolute URL is noted here, and written to the index
in batches, a moment later: nobody waits for it. Nothing of it is on the way of a hit.

What cannot be written (too many at once, an index that is down) is lost and counted. Then the
caches in front keep that spelling until its lifetime is over; the purge itself loses nothing.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cache.key import SourceId

log = logging.getLogger("halftone.spellings")

# A purge that another worker carries out may miss what waits here.
FLUSH_S: Final = 0.2
# Some 300 bytes each: a cold node's worth of a second, ten times over. Clients choose how long each
# is, so their letters, and those of their sources, are bounded, too.
MAX_WAITING: Final = 20_000
MAX_BYTES: Final = 16 * 1024 * 1024
# Writes under way at once: the index answers in a millisecond, and has others to serve.
WRITERS: Final = 8
_USUAL_PORTS: Final = {"http": ":80", "https": ":443"}


@dataclass(slots=True)
class Stats:
    """noted == written + lost + those that wait."""

    noted: int = 0
    written: int = 0
    lost: int = 0


def url_of(scheme: str, authority: bytes, target: bytes) -> str:
    """As a Squid stores it: the host in lower case, a port only where it is not the usual one."""
    host = authority.decode("latin-1").lower().removesuffix(_USUAL_PORTS[scheme])
    return f"{scheme}://{host}{target.decode('latin-1')}"


def under_both_schemes(urls: Sequence[str]) -> list[str]:
    """Each URL as http and as https: where TLS ends, in Squid or before it, is not for us to see,
    and Squid stores what it was asked for."""
    found: dict[str, None] = {}
    for url in urls:
        rest = url.partition("://")[2]
        found[f"http://{rest}"] = found[f"https://{rest}"] = None
    return list(found)


class Spellings:
    """add writes some of one source, False where it could not. start() and stop() once each."""

    def __init__(
        self,
        add: Callable[[SourceId, Sequence[str]], Awaitable[bool | None]],
        limit: int = MAX_WAITING,
    ) -> None:
        self.stats = Stats()
        self._add = add
        self._limit = limit
        self._count = 0  # of those that wait
        self._bytes = 0
        self._waiting: dict[SourceId, dict[str, None]] = {}
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(), name="spellings")

    async def stop(self) -> None:
        """What waits is written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.flush()

    @property
    def depth(self) -> int:
        """How many wait."""
        return self._count

    @property
    def limit(self) -> int:
        return self._limit

    def note(self, source: SourceId, url: str) -> bool:
        """False: there is no room for it just now."""
        urls = self._waiting.get(source)
        if urls is not None and url in urls:
            return True
        size = sys.getsizeof(url) + (sys.getsizeof(source.path) if urls is None else 0)
        if self._count >= self._limit or self._bytes + size > MAX_BYTES:
            self.stats.noted += 1
            self.stats.lost += 1
            return False
        if urls is None:
            urls = self._waiting[source] = {}
        urls[url] = None
        self._count += 1
        self._bytes += size
        self.stats.noted += 1
        return True

    async def flush(self) -> None:
        """Until all that was noted before is written, or lost."""
        async with self._writing:
            waiting, self._waiting = self._waiting, {}
            left = iter(waiting.items())
            async with asyncio.TaskGroup() as group:
                for _ in range(min(WRITERS, len(waiting))):
                    group.create_task(self._write(left))

    async def _write(self, left: Iterator[tuple[SourceId, dict[str, None]]]) -> None:
        for source, urls in left:
            is_written = False
            try:
                is_written = await self._add(source, tuple(urls)) is not False
            except Exception:
                log.exception("spellings could not be written")
            finally:
                self._count -= len(urls)
                self._bytes -= sys.getsizeof(source.path) + sum(map(sys.getsizeof, urls))
                if is_written:
                    self.stats.written += len(urls)
                else:
                    self.stats.lost += len(urls)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._waiting:
                await self.flush()
