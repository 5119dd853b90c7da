"""What a response says of its freshness: an origin's lifetime, and what is stale."""

import dataclasses

import pytest

from cache.index.interface import NO_OTHER, UNKNOWN_TOKEN, SourceRecord
from cache.key import SourceId
from cache.store import Opened
from edge.clock import Clock
from edge.lifetimes import NO_LIMIT, Lifetimes
from edge.policy.steps import Steps
from edge.site import Site
from edge.source import Home, Source, Stale

NOW = 1_700_000_000
# Fetched a minute ago, good for a minute more, then for a while where its origin fails.
RECORD = SourceRecord("v", '"v"', "image/jpeg", 5, NOW, NOW - 60, NOW + 60, NOW + 600, max_age=-1)
SITE = Site("*", (), None, None, (), (), "", Steps(()), 60, "", 1000)


def source(record: SourceRecord = RECORD, stale: Stale | None = None) -> Source:
    found = Source(SourceId("*", "/a"), Home.ORIGIN, Opened(UNKNOWN_TOKEN, None, None), record)
    found.stale = stale
    return found


CONTROLS = [
    # lifetime here, for browsers, from now on at most, what is said
    (120, NO_OTHER, NO_LIMIT, "public, max-age=120"),
    (120, 5, NO_LIMIT, "public, max-age=5, s-maxage=120"),
    (120, 0, NO_LIMIT, "public, max-age=0, s-maxage=120"),
    (120, 600, NO_LIMIT, "public, max-age=600, s-maxage=120"),
    (120, NO_OTHER, 10, "public, max-age=70"),  # it is a minute old
    (120, 600, 10, "public, max-age=70"),
    (120, 5, 10, "public, max-age=5, s-maxage=70"),
]


@pytest.mark.parametrize(("span", "browsers", "most_s", "said"), CONTROLS)
def test_what_caches_and_browsers_are_told(span, browsers, most_s, said):
    record = dataclasses.replace(
        RECORD, fresh_until=RECORD.stored_at + span, stale_until=NOW + 600, max_age=browsers
    )
    lifetimes = Lifetimes("edge1", Clock(lambda: NOW, lambda: 0.0))
    facts = lifetimes.facts(SITE, source(record), "x", most_s=most_s)
    assert (facts.cache_control, facts.age_s) == (said, 60)


@pytest.mark.parametrize(
    ("stale_until", "revalidate_until", "is_strict"),
    [(NOW + 60, 0, True), (NOW + 61, 0, False), (NOW + 60, NOW + 61, False)],
)
def test_what_the_origin_forbids_us_it_forbids_others(stale_until, revalidate_until, is_strict):
    record = dataclasses.replace(RECORD, stale_until=stale_until, revalidate_until=revalidate_until)
    lifetimes = Lifetimes("edge1", Clock(lambda: NOW, lambda: 0.0))
    facts = lifetimes.facts(SITE, source(record), "x")
    assert facts.cache_control.endswith(", must-revalidate") == is_strict


@pytest.mark.parametrize("why", list(Stale))
def test_what_is_stale_says_so_and_is_counted(why):
    now = NOW + 100
    lifetimes = Lifetimes("edge1", Clock(lambda: now, lambda: 0.0))
    found = source(dataclasses.replace(RECORD, max_age=5), why)
    facts = lifetimes.facts_of_hit(SITE, found, "memory")
    assert facts.cache_status == f"edge1; hit; ttl=-40; detail={why.value}"
    assert (facts.cache_control, facts.age_s) == ("max-age=10", 160)
    lifetimes.count_hit(found)
    tally = lifetimes.tally(found)
    assert tally is lifetimes.stale[why]
    assert {each: one.count for each, one in lifetimes.stale.items()} == {
        each: int(each is why) for each in Stale
    }
    lifetimes.count_hit(source())
    assert lifetimes.tally(source()) is None
