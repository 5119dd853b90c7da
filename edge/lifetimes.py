"""What a response says of its freshness: Cache-Control, Age, Cache-Status."""

from typing import Final

from cache.index.interface import NO_OTHER
from edge.clock import Clock
from edge.http.cache_status import build_hit
from edge.ready import Tally
from edge.record import stale_limit
from edge.representation import Facts
from edge.site import Site
from edge.source import RETRY_ORIGIN_S, Home, Source, Stale

# Of a lifetime: as long as the site or the origin says.
NO_LIMIT: Final = -1


class Lifetimes:
    """name stands in Cache-Status (RFC 9211)."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._docroot_hits: dict[tuple[str, str, str, int], Facts] = {}
        # Answers from what was kept though its lifetime was over, by why.
        self.stale = {why: Tally() for why in Stale}

    def facts(
        self,
        site: Site,
        source: Source,
        cache_status: str,
        timing: str = "",
        *,
        vary: str = "",
        most_s: int = NO_LIMIT,
    ) -> Facts:
        """most_s: the answer is not to be kept longer than so many seconds from now."""
        if source.home is Home.DOCROOT:
            control = site.cache_control
            if most_s != NO_LIMIT:
                control = f"public, max-age={min(most_s, site.max_age_s)}"
            return Facts(control, cache_status, None, timing, vary)
        record = source.record
        age_s = max(self._clock.wall - record.stored_at, 0)
        if source.is_stale:
            # The caches in front shall soon ask again, whatever lifetime it once had.
            return Facts(f"max-age={RETRY_ORIGIN_S}", cache_status, age_s, timing, vary)
        span = max(record.fresh_until - record.stored_at, 0)
        browsers_s = span if record.max_age == NO_OTHER else record.max_age
        if most_s != NO_LIMIT:
            span, browsers_s = min(span, age_s + most_s), min(browsers_s, age_s + most_s)
        control = f"public, max-age={browsers_s}"
        if browsers_s != span:
            control += f", s-maxage={span}"
        if stale_limit(record) <= record.fresh_until:
            # What the origin forbids us, it forbids the caches in front of us.
            control += ", must-revalidate"
        return Facts(control, cache_status, age_s, timing, vary)

    def tally(self, source: Source) -> Tally | None:
        """Where answers from this source are counted, if it is stale."""
        return None if source.stale is None else self.stale[source.stale]

    def count_hit(self, source: Source) -> None:
        if source.stale is not None:
            self.stale[source.stale].count += 1

    def facts_of_hit(
        self, site: Site, source: Source, detail: str, vary: str = "", most_s: int = NO_LIMIT
    ) -> Facts:
        if source.home is Home.DOCROOT:
            known = self._docroot_hits.get((site.name, detail, vary, most_s))
            if known is None:
                ttl = site.max_age_s if most_s == NO_LIMIT else min(most_s, site.max_age_s)
                status = build_hit(self._name, ttl, detail)
                known = self.facts(site, source, status, vary=vary, most_s=most_s)
                self._docroot_hits[site.name, detail, vary, most_s] = known
            return known
        if source.stale is not None:
            detail = source.stale.value
        ttl = source.record.fresh_until - self._clock.wall
        if most_s != NO_LIMIT:
            ttl = min(ttl, most_s)
        status = build_hit(self._name, ttl, detail)
        return self.facts(site, source, status, vary=vary, most_s=most_s)
