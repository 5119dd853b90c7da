"""What a response says of its freshness: Cache-Control, Age, Cache-Status."""

from edge.clock import Clock
from edge.http.cache_status import build_hit
from edge.representation import Facts
from edge.site import Site
from edge.source import RETRY_ORIGIN_S, Home, Source


class Lifetimes:
    """name stands in Cache-Status (RFC 9211)."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._docroot_hits: dict[tuple[str, str], Facts] = {}

    def facts(self, site: Site, source: Source, cache_status: str, timing: str = "") -> Facts:
        if source.home is Home.DOCROOT:
            return Facts(site.cache_control, cache_status, None, timing)
        record = source.record
        age_s = max(self._clock.wall - record.stored_at, 0)
        if source.is_stale:
            # The caches in front shall soon ask again, whatever lifetime it once had.
            return Facts(f"max-age={RETRY_ORIGIN_S}", cache_status, age_s, timing)
        span = max(record.fresh_until - record.stored_at, 0)
        control = f"public, max-age={span}"
        if record.stale_until <= record.fresh_until:
            # What the origin forbids us, it forbids the caches in front of us.
            control += ", must-revalidate"
        return Facts(control, cache_status, age_s, timing)

    def facts_of_hit(self, site: Site, source: Source, detail: str) -> Facts:
        if source.home is Home.DOCROOT:
            known = self._docroot_hits.get((site.name, detail))
            if known is None:
                status = build_hit(self._name, site.max_age_s, detail)
                known = self._docroot_hits[site.name, detail] = self.facts(site, source, status)
            return known
        if source.is_stale:
            detail = "stale-if-error"
        ttl = source.record.fresh_until - self._clock.wall
        return self.facts(site, source, build_hit(self._name, ttl, detail))
