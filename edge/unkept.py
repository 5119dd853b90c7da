"""Answers of origins that are not kept: gone with their last reader."""

import functools
from concurrent.futures import Executor
from typing import Final

import xxhash

from cache.index.interface import SourceRecord
from edge.arrival import Arrivals, Incoming
from edge.http.body import UNKNOWN_LENGTH, FileSlice
from edge.http.freshness import Storability
from edge.record import completed, passed_fields
from edge.site import Site
from edge.source import Passed, Passing, Settled
from edge.spool import Spool
from edge.threads import in_thread

# Of a body that is not kept. A page's answer, an error: a file for it costs as much as all the rest
# of the exchange. With every flight the node takes under way these are 64 MiB.
SHORT_BYTES: Final = 16 * 1024


class Unkept:
    def __init__(self, spool: Spool, disk_threads: Executor, arrivals: Arrivals[Settled]) -> None:
        self._spool = spool
        self._threads = disk_threads
        self._arrivals = arrivals

    async def pass_on(
        self, response: Incoming, record: SourceRecord | None, storability: Storability
    ) -> Passed | Passing:
        """A body that is not kept: gone with its last reader."""
        if response.is_live or await response.is_large():
            length = response.content_length
            return Passing(
                response.status,
                passed_fields(response.headers),
                self._arrivals.pass_on(response.hand_over()),
                UNKNOWN_LENGTH if length is None else length,
                storability,
                record,
            )
        body, digest = await self._body(response)
        return Passed(
            response.status,
            passed_fields(response.headers),
            body,
            digest,
            storability,
            None if record is None else completed(record, len(body), digest),
        )

    async def _body(self, response: Incoming) -> tuple[FileSlice | bytes, bytes]:
        """All of it, in memory while it is short, and its xxh3-128."""
        pieces: list[bytes] = []
        size = 0
        while size <= SHORT_BYTES and (piece := await response.read()):
            pieces.append(piece)
            size += len(piece)
        begun = b"".join(pieces)
        if size <= SHORT_BYTES:
            return begun, xxhash.xxh3_128_digest(begun)
        spooled = await in_thread(self._threads, self._spool.open)
        hasher = xxhash.xxh3_128()
        piece = begun
        while piece:
            await in_thread(self._threads, functools.partial(spooled.write, piece))
            hasher.update(piece)
            piece = await response.read()
        return spooled.slice(), hasher.digest()

    async def in_file(self, body: FileSlice | bytes) -> FileSlice:
        """For a resizer, which is given a descriptor. Raises StoreBusy."""
        if isinstance(body, FileSlice):
            return body
        spooled = await in_thread(self._threads, self._spool.open)
        await in_thread(self._threads, functools.partial(spooled.write, body))
        return spooled.slice()

    async def whole(self, site: Site, passing: Passing) -> Passed:
        body, digest = await self._arrivals.whole(passing.body, site.max_source_bytes)
        record = passing.record
        return Passed(
            passing.status,
            passing.fields,
            body,
            digest,
            passing.storability,
            None if record is None else completed(record, len(body), digest),
        )
