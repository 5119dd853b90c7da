"""The bytes of originals, with what is true of them.

Bytes and what is said of them come from one place: the docroot file that was opened, or a stored
original that names the same version as the record. Other workers and nodes change the record, never
our files, so the two can differ, and then the bytes are fetched again.
"""

import asyncio
import dataclasses

from cache.errors import NotStored
from cache.flight import Flights, Role
from cache.key import Key
from cache.store import Store
from cache.stored import StoredFile
from edge.arrival import Arriving
from edge.docroots import Docroots
from edge.errors import OriginChanged
from edge.fetching import Fetching
from edge.http.freshness import Storability
from edge.site import Site
from edge.source import (
    Found,
    Home,
    Original,
    Passed,
    Passing,
    Settled,
    Source,
    UnderWay,
    guarded,
    is_for_one,
    raise_for_status,
    slice_of,
)
from edge.unkept import Unkept
from resizer.errors import PictureTooLarge


class Bodies:
    def __init__(
        self,
        store: Store,
        flights: Flights[Found],
        docroots: Docroots,
        fetching: Fetching,
        unkept: Unkept,
    ) -> None:
        self._store = store
        self._flights = flights
        self._docroots = docroots
        self._fetching = fetching
        self._unkept = unkept

    async def open_body(self, site: Site, source: Source) -> Original:
        """The original's bytes, with what is true of them.

        A docroot file that changed since it was looked at is taken as it is: source is renewed.
        Raises what open() raises, and OriginChanged when it has to be opened again.
        """
        original = await self.maybe_open_body(site, source)
        if original is not None:
            return original
        return await self.original_of(site, source, await self.refetch(site, source))

    async def refetch(self, site: Site, source: Source) -> Settled | UnderWay:
        """Evicted, or of another version than the record: the bytes are fetched, all of them, once
        for everybody. The key's digest is no source's, so this joins no open()."""
        landing = await self._flights.do(
            Key(source.id, "").digest,
            source.opened.token,
            lambda: self._fetching.fetch(site, source.id, source.opened, None),
        )
        answer = landing.value.answer
        if landing.role is Role.LED or not is_for_one(answer):
            return answer
        del landing, answer
        return (await self._fetching.fetch(site, source.id, source.opened, None)).answer

    async def settled(self, site: Site, answer: UnderWay) -> Settled:
        """What becomes of it, for who needs it whole. Raises PictureTooLarge, OriginError, and
        OriginChanged when it has to be opened again."""
        length = answer.length if isinstance(answer, Passing) else answer.body.length
        if length > site.max_source_bytes:
            raise PictureTooLarge(f"{length} bytes, the site's limit {site.max_source_bytes}")
        if isinstance(answer, Passing):
            return await self._unkept.whole(site, answer)
        try:
            return await asyncio.shield(answer.ended)
        except NotStored:
            # Refused in the middle. It is fetched around the store, once for all who wait.
            landing = await self._flights.do(
                Key(answer.id, "").digest,
                answer.opened.token,
                lambda: self._fetch_whole(site, answer),
            )
            settled = landing.value.answer
            if isinstance(settled, Arriving | Passing):
                raise OriginChanged(f"{answer.id.path!a} is on its way again") from None
            return settled

    async def _fetch_whole(self, site: Site, gone: Arriving[Settled]) -> Found:
        found = await self._fetching.fetch(site, gone.id, gone.opened, None, is_kept=False)
        if not isinstance(found.answer, Passing):
            return found
        return dataclasses.replace(found, answer=await self._unkept.whole(site, found.answer))

    async def original_of(self, site: Site, source: Source, answer: Settled | UnderWay) -> Original:
        """What open_body() says, of the answer to refetch()."""
        if isinstance(answer, Arriving | Passing):
            answer = await self.settled(site, answer)
        if isinstance(answer, Passed):
            raise_for_status(answer)
            if answer.record is None or answer.storability is not Storability.STORABLE:
                raise OriginChanged(f"{source.id.path!a} may no longer be kept")
            return Original(answer.record, (), await self._unkept.in_file(answer.body))
        original = await self.maybe_open_body(site, answer)
        if original is None:
            raise OriginChanged(f"{source.id.path!a} was stored and is gone again")
        return original

    async def maybe_open_body(self, site: Site, source: Source) -> Original | None:
        """open_body() of what this node has: None where an origin would have to be asked."""
        if source.home is Home.DOCROOT:
            return await self._docroots.open_file(site, source)
        stored = await self._stored(source)
        if stored is None:
            return None
        fields = guarded(source.record.media_type, stored.entry.headers)
        return Original(source.record, fields, slice_of(stored))

    async def _stored(self, source: Source) -> StoredFile | None:
        """The stored original, if it is the version that the record speaks of."""
        key = Key(source.id, "")
        opened = source.opened
        stored = await self._store.lookup(
            key, opened.current, source.record.validator, opened.applied
        )
        if stored is not None and stored.entry.validator != source.record.validator:
            stored.close()
            return None
        return stored
