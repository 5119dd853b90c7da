"""When an origin is asked about what it gave before: at once, behind the answer, or not yet.

Losing the origin does not turn what can be served into an error (RFC 5861 section 4).
"""

from cache.index.interface import SourceRecord
from cache.key import SourceId
from cache.store import Opened
from edge.clock import Clock
from edge.failures import Failures
from edge.fetching import Fetching
from edge.known import Known
from edge.origin.errors import OriginError
from edge.record import folded, may_use_meanwhile, stale_limit
from edge.refresh import Refreshes
from edge.site import Site
from edge.source import RETRY_ORIGIN_S, Found, Home, Passed, Stale


class Revalidation:
    def __init__(
        self,
        clock: Clock,
        known: Known,
        failures: Failures,
        refreshes: Refreshes[Found],
        fetching: Fetching,
    ) -> None:
        self._clock = clock
        self._known = known
        self._failures = failures
        self._refreshes = refreshes
        self._fetching = fetching

    async def ask_origin(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> Found:
        if record is None:
            return await self._ask(site, source_id, opened, record)
        now = self._clock.wall
        known = self._known.get(source_id)
        if known is not None and now < known.retry_at and now < stale_limit(record):
            is_error = now < record.stale_until
            why = Stale.IF_ERROR if is_error else Stale.WHILE_REVALIDATE
            return self._known.use_stale(site, source_id, opened, record, why, known.retry_at)
        if may_use_meanwhile(record, now):
            name = (source_id, opened.token)
            assert site.origin is not None
            self._refreshes.ask(
                site.origin.name, name, lambda: self._refresh(site, source_id, opened, record)
            )
            return self._known.use_stale(site, source_id, opened, record, Stale.WHILE_REVALIDATE)
        if now >= record.stale_until:
            return await self._joined_or_asked(site, source_id, opened, record)
        try:
            return await self._joined_or_asked(site, source_id, opened, record)
        except OriginError:
            retry_at = self._clock.wall + RETRY_ORIGIN_S
            return self._known.use_stale(site, source_id, opened, record, Stale.IF_ERROR, retry_at)

    async def _refresh(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Found:
        """Behind what is served stale. What is known changes by an answer alone: after a failure
        fresh_until stays as it is, since a purge may have come meanwhile."""
        try:
            return await self._ask(site, source_id, opened, record)
        except Exception:
            known = self._known.get(source_id)
            if known is not None and known.home is Home.ORIGIN:
                known.retry_at = self._clock.wall + RETRY_ORIGIN_S
            raise

    async def _joined_or_asked(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord
    ) -> Found:
        """A refresh may be under way, begun while the source could be served without it. One from
        before a purge is not waited for."""
        name = (source_id, opened.token)
        if self._refreshes.is_running(name):
            return await self._refreshes.join(name)
        return await self._ask(site, source_id, opened, record)

    async def _ask(
        self, site: Site, source_id: SourceId, opened: Opened, record: SourceRecord | None
    ) -> Found:
        """fetch(), and a missing original is remembered."""
        found = await self._fetching.fetch(site, source_id, opened, record)
        if isinstance(found.answer, Passed):
            passed = found.answer
            await self._failures.remember_missing(
                source_id, opened.token, passed.status, folded(passed.fields), passed.storability
            )
        return found
