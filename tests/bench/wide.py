"""What a purge by tag costs its worker: the walk through known sources, and the index's answer.

    python -m tests.bench.wide

No part of `make bench`: no server is asked, and no figure is a ratio. The longest step is CPU time
of the loop's thread between two turns, so that a busy machine does not count.
"""

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

import uvloop

from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index, SourceRecord
from cache.index.redis import RedisIndex
from cache.key import Key, SourceId
from cache.orders import Act, Order, Scope
from cache.purge import Purger
from edge.known import MAX_SOURCES, Known
from edge.policy.steps import OffStep, Steps
from edge.site import Site
from edge.source import NOT_ASKED, Home, Stats
from tests.peers.redis import RedisServer

SITE = Site(
    name="*",
    hosts=(),
    docroot=None,
    origin=None,
    grammars=(),
    extensions=(),
    prefix="",
    steps=Steps((), OffStep.ALLOW),
    max_age_s=60,
    cache_control="",
    max_source_bytes=1_000_000,
)
GROUPS = 100
LISTED = 10_000
MEMBERS = 4
URLS = 4
BUDGET_S = 5.0


@dataclass(slots=True)
class Still:
    """In place of store and clock: nothing is purged, no time goes by."""

    wall: int = 1000

    def is_purged(self, *_: object) -> bool:
        return False


async def longest_step_ms(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Of the loop while work runs; and how long it takes, in a run without being watched."""
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    longest, is_over = 0.0, False

    async def watch() -> None:
        nonlocal longest
        last = time.thread_time()
        while not is_over:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await work()
    is_over = True
    await watching
    return longest * 1e3, took * 1e3


def record(number: int) -> SourceRecord:
    tags = ("all", f"group{number % GROUPS}")
    return SourceRecord("v", '"v"', "image/jpeg", 1, 0, 0, 2000, tags=tags)


async def walks() -> None:
    still = Still()
    known = Known(still, still, Stats())  # type: ignore[arg-type]
    for number in range(MAX_SOURCES):
        source = SourceId("*", f"/{number % GROUPS}/{number}.jpg")
        known.remember(SITE, source, Home.ORIGIN, NOT_ASKED, record(number))
    orders = {
        "one tag": [Order(Act.PURGE, Scope.TAG, "*", "group7", 1)],
        "one prefix": [Order(Act.PURGE, Scope.PREFIX, "*", "/7/", 2)],
        "16 tags": [Order(Act.PURGE, Scope.TAG, "*", f"group{n}", 3 + n) for n in range(16)],
    }
    for name, its in orders.items():
        longest, took = await longest_step_ms(
            lambda its=its: asyncio.gather(*map(known.obey, its))  # type: ignore[misc]
        )
        print(f"{name}, {MAX_SOURCES:,} known: {took:.0f} ms, longest step {longest:.2f} ms")


async def answers(name: str, index: Index) -> None:
    await index.start()

    async def fill(number: int) -> None:
        source = SourceId("*", f"/{number}.jpg")
        token = (await index.open_source(source)).token
        await index.put_source(source, token, record(number))
        urls = [f"http://img.example.com/thumb/{number}.jpg/{width}px" for width in range(URLS)]
        await index.add_spellings(source, urls)
        for variant in range(MEMBERS):
            await index.publish(source, token, Key(source, f"w={variant}").digest, 1)

    for at in range(0, LISTED, 50):
        await asyncio.gather(*map(fill, range(at, at + 50)))
    purger = Purger(index, None, None)  # type: ignore[arg-type]
    order = Order(Act.PURGE, Scope.TAG, "*", "all")
    for _ in range(3):
        longest, took = await longest_step_ms(lambda: purger.preview(order))
        print(f"{name}, {LISTED:,} listed: {took:.0f} ms, longest step {longest:.2f} ms")
    await index.stop()


def main() -> None:
    gc.disable()  # nodes put off full collections while they are busy (edge/garbage.py)
    chance = random.Random(1)
    uvloop.run(walks())
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/index.sqlite"
        embedded = EmbeddedIndex(path, clock=time.time, random=chance, budget_s=BUDGET_S)
        uvloop.run(answers("embedded", embedded))
    with closing(RedisServer().start()) as server:
        redis = RedisIndex(
            server.url,
            clock=time.time,
            monotonic=time.monotonic,
            random=chance,
            budget_s=BUDGET_S,
        )
        uvloop.run(answers("redis", redis))


if __name__ == "__main__":
    main()
