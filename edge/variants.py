"""Stored answers of URLs that are no originals for everybody, and how they are found again.

A signpost says by which request fields the answers of a URL were chosen; each of these is an entry
of the store under the URL's source and its token (answers.py), so that one purge ends all of them.
A large answer is sent while it is stored. Of one URL a worker keeps MAX_VARIANTS apart.
"""

import asyncio
import contextlib
import functools
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final

import xxhash

from cache.entry import Entry
from cache.errors import NotStored
from cache.fill import Fill
from cache.index.interface import Token
from cache.key import Key, SourceId
from cache.store import Opened, Store
from cache.stored import StoredFile
from edge.answers import SIGNPOST, Kept, Standing, names_of, signpost_of, with_body
from edge.arrival import STREAM_BYTES, Arrivals, Arriving, Incoming, growing_in
from edge.clock import Clock
from edge.http.body import Descriptor, FileSlice, Growing
from edge.origin.errors import OriginBroken
from edge.record import record_of_entry
from edge.source import slice_of
from edge.threads import in_thread

log = logging.getLogger("halftone.shared")

# Answers of one URL that this worker keeps apart; the one not asked for longest makes room.
MAX_VARIANTS: Final = 16
# URLs whose Vary is remembered: 300 bytes each, those of variants, and of the names of the URLs.
MAX_SIGNPOSTS: Final = 16_384
# Between a URL and the name of one of its variants.
MARK: Final = "\x1e"


@dataclass(slots=True)
class Signpost:
    token: Token
    names: tuple[str, ...]
    variants: "OrderedDict[str, None]"
    is_written: bool = False  # others find it, and a later start
    # Under which URLs it was handed out, as far as that was written down under this token; digests.
    noted: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Stats:
    stored: int = 0
    crowded_out: int = 0  # made room for others of their URL


class Variants:
    """on_stored is told of each source of which an answer was stored."""

    def __init__(
        self,
        store: Store,
        arrivals: Arrivals[Any],
        clock: Clock,
        disk_threads: Executor,
        on_stored: Callable[[SourceId], None],
    ) -> None:
        self.stats = Stats()
        self._store = store
        self._arrivals = arrivals
        self._clock = clock
        self._threads = disk_threads
        self._on_stored = on_stored
        # Names are digests: a URL may have 8 KiB, and anybody may ask for tens of thousands.
        self.signposts: OrderedDict[bytes, Signpost] = OrderedDict()
        # Large ones, which are sent while they arrive.
        self.coming: dict[tuple[Key, Token], Kept] = {}

    def __contains__(self, source_id: SourceId) -> bool:
        return source_id.digest in self.signposts

    def known(self, source_id: SourceId) -> Signpost | None:
        """As far as this worker remembers it, under whatever token."""
        return self.signposts.get(source_id.digest)

    def drop(self, source_id: SourceId) -> None:
        """It was changed; what is stored is for the index to forget."""
        self.signposts.pop(source_id.digest, None)

    async def find(
        self, source_id: SourceId, opened: Opened, *, is_sought: bool
    ) -> Signpost | None:
        """By what the answers of a URL were chosen. is_sought: also on disk."""
        post = self.signposts.get(source_id.digest)
        if post is not None and post.token == opened.token:
            self.signposts.move_to_end(source_id.digest)
            return post
        if not is_sought:
            return None
        stored = await self._store.lookup(
            Key(source_id, SIGNPOST), opened.current, None, opened.applied
        )
        if stored is None:
            # It may have been put up while the disk was looked at.
            post = self.signposts.get(source_id.digest)
            return post if post is not None and post.token == opened.token else None
        with stored:
            post = self.put_up(source_id, opened.token, names_of(stored.entry))
            post.is_written = True
            return post

    def put_up(self, source_id: SourceId, token: Token, names: tuple[str, ...]) -> Signpost:
        post = self.signposts.pop(source_id.digest, None)
        if post is None or post.token != token:
            post = Signpost(token, names, OrderedDict())
        if post.names != names:
            post.names, post.is_written = names, False
        self.signposts[source_id.digest] = post
        if len(self.signposts) > MAX_SIGNPOSTS:
            self.signposts.popitem(last=False)
        return post

    async def look_up(self, key: Key, opened: Opened) -> Kept | None:
        stored = await self._store.lookup(key, opened.current, None, opened.applied)
        if stored is None:
            return None
        entry = stored.entry
        return Kept(entry, slice_of(stored))

    def standing(self, kept: Kept) -> Standing:
        entry = kept.entry
        softened = self._store.orders.softened(entry.key.source, entry.tags)
        return kept.standing(self._clock.wall, softened)

    def note_use(self, post: Signpost, key: Key) -> Key | None:
        """The variant that has to make room, if one has."""
        post.variants[key.variant] = None
        post.variants.move_to_end(key.variant)
        if len(post.variants) <= MAX_VARIANTS:
            return None
        oldest, _ = post.variants.popitem(last=False)
        return Key(key.source, oldest)

    async def keep(
        self,
        source_id: SourceId,
        opened: Opened,
        names: tuple[str, ...],
        draft: Entry,
        response: Incoming,
    ) -> Kept | None:
        """Store an answer, and how to find it; a large one while it is sent. None: it cannot be,
        and no byte of it was read. Raises NotStored where the disk refuses a small one."""
        is_large = await response.is_large()
        try:
            fill = await self._store.reserve(draft, response.content_length or STREAM_BYTES)
        except NotStored as error:
            log.warning("%a is passed on without being stored: %s", source_id.path, error)
            return None
        if is_large:
            return self._stream(source_id, opened, names, draft, response, fill)
        hasher, length = xxhash.xxh3_128(), 0
        with fill:
            while piece := await response.read():
                await in_thread(self._threads, functools.partial(fill.write, piece))
                hasher.update(piece)
                length += len(piece)
            if response.content_length not in (None, length):
                raise OriginBroken("the body has another length than was announced")
            digest = hasher.digest()
            stored = await self._publish(source_id, opened, names, response, fill, length, digest)
            if stored is None:
                entry = with_body(draft, length, digest)
                return Kept(entry, slice_of(fill.detach(entry)))
        return Kept(stored.entry, slice_of(stored))

    async def _publish(
        self,
        source_id: SourceId,
        opened: Opened,
        names: tuple[str, ...],
        response: Incoming,
        fill: Fill,
        length: int,
        digest: bytes,
    ) -> StoredFile | None:
        """Of a body that is whole. None: it is not kept."""
        entry = with_body(fill.draft, length, digest)
        try:
            if not response.is_cacheable:
                raise NotStored("something about the exchange was odd")
            stored = await self._store.commit(fill, entry)
        except NotStored as error:
            log.info("%a is sent without being stored: %s", source_id.path, error)
            return None
        await self._show(source_id, opened, names, entry.key)
        self._on_stored(source_id)
        self.stats.stored += 1
        return stored

    def _stream(
        self,
        source_id: SourceId,
        opened: Opened,
        names: tuple[str, ...],
        draft: Entry,
        response: Incoming,
        fill: Fill,
    ) -> Kept:
        """It arrives in the store, and whoever asks for it meanwhile reads along (arrival.py)."""
        with contextlib.ExitStack() as stack:
            stack.callback(fill.abort)
            duplicate = Descriptor(os.dup(fill.fd))
            stack.pop_all()
        incoming = response.hand_over()
        kept = Kept(draft, growing_in(fill, incoming, duplicate))
        assert isinstance(kept.body, Growing)
        arriving: Arriving[None] = Arriving(
            SourceId(source_id.site, f"{source_id.path}{MARK}{draft.key.variant}"),
            opened,
            record_of_entry(draft),
            (),
            kept.body,
            asyncio.get_running_loop().create_future(),
        )

        async def store(length: int, digest: bytes) -> None:
            stored = await self._publish(source_id, opened, names, incoming, fill, length, digest)
            if stored is not None:
                stored.close()

        name = (draft.key, opened.token)
        self.put_up(source_id, opened.token, names)
        self.coming[name] = kept
        arriving.ended.add_done_callback(lambda _: self._let_go(name, kept))
        self._arrivals.keep(incoming, arriving, fill, store, lambda error: error)
        return kept

    def _let_go(self, name: tuple[Key, Token], kept: Kept) -> None:
        if self.coming.get(name) is kept:
            del self.coming[name]

    async def _show(
        self, source_id: SourceId, opened: Opened, names: tuple[str, ...], key: Key
    ) -> None:
        """Where the answer is found from now on, also by others and after a restart."""
        post = self.put_up(source_id, opened.token, names)
        oldest = self.note_use(post, key)
        if oldest is not None:
            self.stats.crowded_out += 1
            await self._store.drop(oldest, opened.token)
        if post.is_written:
            return
        sign = signpost_of(source_id, opened.token, names, self._clock.wall)
        # Without it, whoever does not know asks the origin once more.
        with contextlib.suppress(NotStored), await self._store.reserve(sign, 0) as fill:
            (await self._store.commit(fill, sign)).close()
            post.is_written = True

    async def forget(self, entry: Entry) -> None:
        await self._store.drop(entry.key, entry.token)

    async def renew(self, kept: Kept, entry: Entry) -> None:
        """Store an entry anew, with the body that is here. Raises NotStored."""
        assert isinstance(kept.body, FileSlice), "it was looked up"
        with await self._store.reserve(entry, len(kept.body)) as fill:
            copy = functools.partial(_copy, kept.body, fill.write)
            await in_thread(self._threads, copy)
            (await self._store.commit(fill, entry)).close()


def _copy(body: FileSlice, write: Callable[[bytes], None]) -> None:
    """Blocks on the disk."""
    at = body.start
    while at < body.stop:
        data = os.pread(body.file.fd, min(256 * 1024, body.stop - at), at)
        if not data:
            raise NotStored("a stored body ended early")
        write(data)
        at += len(data)
