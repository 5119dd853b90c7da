"""Ladders: after the first miss of a source its other sizes, from one decoding, when nobody waits.

    offer     a miss was answered: its rungs are queued, once for a version of a source and a kind
    climb     its turn: what is neither stored nor under way -> one job of the resizer -> store

Nobody waits for a ladder. A live miss of a rung renders it itself, although the ladder may have it
in work: a ladder makes way for every live render, that one too, so the rung could be as far away as
all that is live. What was made meanwhile is left as it is. Should both publish at once, the later
file takes the other's place: each has the tag of its own bytes.

A purge between the token that is read here and a rung's publishing makes that rung stale: it is not
stored, and the ladder ends. The origin is never asked: a guess is not worth its time.
"""

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from cache.entry import Entry
from cache.errors import CacheError
from cache.fill import Fill
from cache.index.interface import Token
from cache.key import Key
from edge.errors import RequestError
from edge.http.body import Descriptor
from edge.origin.errors import DocrootFailed, NotAllowed, OriginError
from edge.policy.rungs import kind, rungs
from edge.rendering import Derivatives, Made, version_digest
from edge.site import Site
from edge.source import Original, Source
from edge.sources import Sources
from resizer.errors import QueueFull, ResizeError, ResizerStopped
from resizer.formats import Format
from resizer.job import Result
from resizer.pool import Pool
from resizer.ticket import Outcome
from resizer.transform import Transform

# Ladders that wait for their turn: half a second to three each, so the last comes within minutes.
MAX_WAITING: Final = 64
# Ladders remembered, some 400 bytes each. Of one that is forgotten the next miss asks for all rungs
# once more, and finds them stored.
MAX_REMEMBERED: Final = 16_384

log = logging.getLogger("halftone.ladders")

# A version of a source, and what the rungs have in common.
Name = tuple[bytes, str, Token, Transform]


@dataclass(slots=True)
class Stats:
    """offered == dropped + ended + those that wait or are under way, while nothing stops; rungs of
    begun ladders == held + kept + lost + those under way."""

    offered: int = 0
    dropped: int = 0  # the queue was full, here or at the resizer
    ended: int = 0
    held: int = 0  # rungs that somebody else had made, or was making
    kept: int = 0
    lost: int = 0  # not rendered, or not stored


@dataclass(frozen=True, slots=True)
class Ladder:
    """Widest first."""

    name: Name
    site: Site
    source: Source
    rungs: tuple[Transform, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    key: Key
    transform: Transform
    draft: Entry
    fill: Fill


class _Ended(Exception):
    """A rung could not be stored; the next ones could not either."""


class Ladders:
    def __init__(
        self, sources: Sources, derivatives: Derivatives, pool: Pool, limit: int = MAX_WAITING
    ) -> None:
        self._sources = sources
        self._derivatives = derivatives
        self._pool = pool
        self._limit = limit
        self._queue: deque[Ladder] = deque()
        self._known: OrderedDict[Name, None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.stats = Stats()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def limit(self) -> int:
        return self._limit

    def offer(
        self, site: Site, source: Source, wanted: Transform, made: Made, *, is_named: bool
    ) -> None:
        """After the miss of `wanted`; is_named: by a grammar's own name."""
        result = made.result
        if not site.has_ladders or self._is_stopping or result is None or not made.stored:
            return
        # A moving picture is decoded anew for each of its sizes: nothing would be saved.
        if result.source_format is Format.GIF:
            return
        steps = rungs(
            wanted,
            is_named=is_named,
            steps=site.steps.widths,
            source_width=result.source_width,
        )
        name = (source.id.digest, source.record.validator, source.opened.token, kind(wanted))
        if not steps or name in self._known:
            return
        self.stats.offered += 1
        if len(self._queue) >= self._limit:
            self.stats.dropped += 1  # and not remembered: another miss may find room
            return
        self._known[name] = None
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        self._queue.append(Ladder(name, site, source, steps))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="ladders")

    async def stop(self) -> None:
        """At once: what waits is forgotten, and of what is under way the rest is not done."""
        self._is_stopping = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        """One ladder after the other, until none waits."""
        while self._queue:
            ladder = self._queue.popleft()
            try:
                await self._climb(ladder)
            except (QueueFull, ResizerStopped):
                self.stats.dropped += 1
                self._known.pop(ladder.name, None)
                continue
            except (
                *(CacheError, RequestError, OriginError, DocrootFailed, NotAllowed),
                *(ResizeError, OSError),
            ) as error:
                log.info("the ladder of %a ended early: %s", ladder.source.id.path, error)
            except Exception:
                # The top of a task: the next ladder is another picture's.
                log.exception("the ladder of %a failed", ladder.source.id.path)
            self.stats.ended += 1

    async def _climb(self, ladder: Ladder) -> None:
        site, source = ladder.site, ladder.source
        await self._sources.ask_tokens(source)
        opened = source.opened
        original = await self._sources.maybe_open_body(site, source)
        if original is None or len(original.body) > site.max_source_bytes:
            return
        # Of a version that came meanwhile, the first miss offers a ladder of its own.
        if original.record.validator != ladder.name[1]:
            return
        missing: list[tuple[Key, Transform]] = []
        for transform in ladder.rungs:
            # rungs() gives none with a watermark, whose bytes would stand in the key.
            key = Key(source.id, transform.canonical())
            if await self._derivatives.is_held(source, key):
                self.stats.held += 1
            else:
                missing.append((key, transform))
        if not missing:
            return
        kept_before = self.stats.kept + self.stats.held
        with contextlib.ExitStack() as fills:
            try:
                reserved = []
                for key, transform in missing:
                    draft = self._derivatives.draft(key, opened, original.record)
                    fill = fills.enter_context(await self._derivatives.reserve(draft))
                    reserved.append(Rung(key, transform, draft, fill))
                await self._render(site, source, original, reserved)
            finally:
                done = self.stats.kept + self.stats.held - kept_before
                self.stats.lost += len(missing) - done

    async def _render(
        self, site: Site, source: Source, original: Original, reserved: list[Rung]
    ) -> None:
        """Each rung is published as it comes, beside the rendering of the next."""
        outcomes: asyncio.Queue[tuple[Rung, Outcome]] = asyncio.Queue(len(reserved))
        keeping = asyncio.get_running_loop().create_task(
            self._keep(source, outcomes, len(reserved)), name="rungs"
        )

        def take(number: int, outcome: Outcome) -> None:
            if keeping.done():
                raise _Ended
            outcomes.put_nowait((reserved[number], outcome))

        body = original.body
        # The resizer needs all of them to the end; a rung that is published is closed before.
        sinks = [Descriptor(os.dup(rung.fill.fd)) for rung in reserved]
        try:
            await self._pool.run_ladder(
                body.file.fd,
                [sink.fd for sink in sinks],
                [rung.transform for rung in reserved],
                digest=version_digest(source.id, original.record.validator),
                on_result=take,
                offset=body.start,
                length=len(body),
                inputs=site.looks.inputs,
            )
            await keeping
        except _Ended:
            await keeping  # raises what it has met
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(
        self, source: Source, outcomes: "asyncio.Queue[tuple[Rung, Outcome]]", count: int
    ) -> None:
        """Returns after so many, or when one could not be stored."""
        for _ in range(count):
            rung, outcome = await outcomes.get()
            if not isinstance(outcome, Result):
                log.info("a rung of %a: %s", source.id.path, outcome)
            elif await self._derivatives.is_held(source, rung.key):
                self.stats.held += 1
            else:
                _, is_stored = await self._derivatives.publish(rung.fill, rung.draft, outcome)
                if not is_stored:
                    return
                self.stats.kept += 1
            rung.fill.abort()  # its descriptor is not needed any longer
