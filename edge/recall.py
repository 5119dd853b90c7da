"""What is on record of an original, beyond what this worker knows."""

import dataclasses

from cache.index.interface import SourceRecord
from cache.key import Key, SourceId
from cache.store import Opened, Store
from edge.record import record_of_entry, tagged
from edge.site import Site
from edge.source import Home, Source, path_of


async def recall(
    store: Store, site: Site, source_id: SourceId, known: Source | None
) -> tuple[Opened, SourceRecord | None]:
    """What the index knows; where it knows nothing, what the stored original says of itself.

    One from before the index lost its memory says what to ask the origin with, no more: it may have
    been purged in between.
    """
    tags = site.tags.of(path_of(source_id))
    opened = None
    if store.index.exclusive:  # else the record may have been renewed by others
        opened = store.opened_now(source_id, tags)
    if opened is None:
        opened = await store.open_source(source_id, tags)
    if opened.current is None and known is not None and known.home is Home.ORIGIN:
        # Newer than what the index said last: it could not be told.
        record = tagged(known.record, tags)
        if store.is_overtaken(source_id, record.seen, record.tags):
            return store.opened_alone(source_id, record.tags), None
        return opened, store.softened(source_id, tags, record)
    if opened.record is not None:
        return opened, tagged(opened.record, tags)
    entry = await store.describe(Key(source_id, ""), opened)
    if entry is None:
        return opened, None
    record = tagged(record_of_entry(entry), tags)
    if opened.current is not None and entry.token.epoch != opened.current.epoch:
        record = dataclasses.replace(record, fresh_until=0, revalidate_until=0)
    return opened, record
