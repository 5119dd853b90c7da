"""What an origin's answer says of an original, and how it is asked for again."""

import dataclasses
from dataclasses import dataclass, field

import pytest

from cache.index.interface import NO_OTHER, SourceRecord
from edge.origin.files import FileStatus
from edge.origin.messages import Headers
from edge.record import (
    MAX_AHEAD_S,
    STALE_DEFAULT,
    completed,
    conditional_fields,
    ended,
    is_ended,
    is_fresh,
    may_use_meanwhile,
    passed_fields,
    record_of_file,
    record_of_response,
    refreshed,
    replayed_fields,
    stale_limit,
)

NOW = 1_700_000_000
DIGEST = bytes(range(16))
HEX = DIGEST.hex()
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # NOW
DAY = STALE_DEFAULT.if_error_s


@dataclass
class Answer:
    """As much of an OriginResponse as is looked at."""

    headers: Headers
    status: int = 200
    content_length: int | None = 5
    local_redirect: str | None = None
    is_cacheable: bool = True
    pieces: list[bytes] = field(default_factory=list)
    controls: Headers = ()

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def aclose(self) -> None:
        pass


def record(*headers: tuple[str, str]) -> SourceRecord:
    told = record_of_response("/a.jpg", Answer(headers), NOW, NOW)
    return completed(told, 5, DIGEST)


VALIDATORS = [
    # fields, validator, ETag for clients, what the origin is asked
    ([("etag", '"abc"')], 'etag "abc"', '"abc"', [("if-none-match", '"abc"')]),
    (
        [("etag", '"abc"'), ("last-modified", DATE)],
        'etag "abc"',
        '"abc"',
        [("if-none-match", '"abc"')],
    ),
    ([("last-modified", DATE)], f"modified {HEX} {NOW}", None, [("if-modified-since", DATE)]),
    ([], f"hash {HEX}", None, []),
    # A weak tag may hide a change of bytes, a malformed one is no tag to tell a client.
    ([("etag", 'W/"abc"')], f'weak {HEX} W/"abc"', None, [("if-none-match", 'W/"abc"')]),
    ([("etag", "abc")], f"weak {HEX} abc", None, [("if-none-match", "abc")]),
    ([("etag", '"a","b"')], f'weak {HEX} "a","b"', None, [("if-none-match", '"a","b"')]),
    ([("etag", '"a",')], f'weak {HEX} "a",', None, [("if-none-match", '"a",')]),
    ([("etag", '"a b"')], f'weak {HEX} "a b"', None, [("if-none-match", '"a b"')]),
    # Two tags or an endless one are none.
    ([("etag", '"a"'), ("etag", '"b"')], f"hash {HEX}", None, []),
    ([("etag", f'"{"a" * 300}"')], f"hash {HEX}", None, []),
    ([("last-modified", "yesterday")], f"hash {HEX}", None, []),
]


@pytest.mark.parametrize(("headers", "validator", "etag", "asked"), VALIDATORS)
def test_validators(headers, validator, etag, asked):
    found = record(*headers)
    assert found.validator == validator
    assert found.etag == (etag or f'"{HEX}"')
    assert conditional_fields(found.validator) == asked
    # A draft's head keeps room for exactly this.
    draft = record_of_response("/a.jpg", Answer(tuple(headers)), NOW, NOW)
    assert len(draft.validator) == len(validator)


LIFETIMES = [
    # fields, fresh for, stale for
    ([("cache-control", "max-age=60")], 60, DAY),
    ([("cache-control", "max-age=60, must-revalidate")], 60, 0),
    ([("cache-control", "max-age=60, stale-if-error=5")], 60, 5),
    ([("cache-control", "s-maxage=60, max-age=5")], 60, 0),
    ([("cache-control", "no-cache")], 0, 0),
    ([], 0, DAY),
    ([("cache-control", "max-age=99999999999999999999")], 2**31, DAY),
    ([("cache-control", "max-age=60"), ("age", "20")], 40, DAY),
]


@pytest.mark.parametrize(("headers", "fresh", "stale"), LIFETIMES)
def test_lifetimes(headers, fresh, stale):
    found = record(*headers)
    assert found.fresh_until == NOW + fresh
    assert found.stale_until == found.fresh_until + stale


def test_last_modified_is_not_later_than_the_answer():
    assert record(("last-modified", "Fri, 01 Jan 2100 00:00:00 GMT")).last_modified == NOW


OLD = SourceRecord('etag "a"', '"a"', "image/jpeg", 5, NOW, NOW, NOW + 60, NOW + 60 + DAY)
REVALIDATED = [
    # fields, then seconds past the lifetime for revalidation, and for errors
    ([("cache-control", "max-age=60, stale-while-revalidate=30")], 30, DAY),
    ([("cache-control", "max-age=60, stale-while-revalidate=30, stale-if-error=5")], 30, 5),
    ([("cache-control", "s-maxage=60, stale-while-revalidate=30")], 30, 0),
    ([("cache-control", "max-age=60, stale-while-revalidate=30, must-revalidate")], 0, 0),
    ([("cache-control", "max-age=60, stale-while-revalidate=30, no-cache")], 0, 0),
    ([("cdn-cache-control", "max-age=9, stale-while-revalidate=7")], 7, DAY),
    ([("cache-control", "max-age=60")], 0, DAY),
]


@pytest.mark.parametrize(("headers", "window", "limit"), REVALIDATED)
def test_the_time_to_use_it_while_its_origin_is_asked(headers, window, limit):
    found = record(*headers)
    assert found.revalidate_until == found.fresh_until + window
    ends = found.fresh_until
    assert not is_fresh(found, ends)
    assert is_fresh(found, ends - 1)
    assert may_use_meanwhile(found, ends + window - 1) == bool(window)
    assert not may_use_meanwhile(found, ends + window)
    assert stale_limit(found) == ends + max(window, limit)
    # A 304 without fields keeps the window, one with fields brings its own.
    later = NOW + 1000
    same = refreshed(found, Answer((), status=304), later, later)
    assert same.revalidate_until == same.fresh_until + window
    fields = (("cache-control", "max-age=5, stale-while-revalidate=3"),)
    other = refreshed(found, Answer(fields, status=304), later, later)
    assert other.revalidate_until == later + 8
    taken = ended(found)
    assert is_ended(taken)
    assert not may_use_meanwhile(taken, 1)
    assert stale_limit(taken) == 0


def test_a_record_of_the_future_is_not_fresh():
    found = record(("cache-control", "max-age=600"))
    assert is_fresh(found, NOW - MAX_AHEAD_S)
    assert not is_fresh(found, NOW - MAX_AHEAD_S - 1)


BROWSERS = [
    # fields, lifetime here, lifetime for browsers
    ([("cache-control", "max-age=5, s-maxage=60")], 60, 5),
    ([("cache-control", "max-age=60, s-maxage=5")], 5, 60),
    ([("cache-control", "max-age=60, s-maxage=60")], 60, NO_OTHER),
    ([("cache-control", "s-maxage=60")], 60, NO_OTHER),
    ([("cache-control", "max-age=60")], 60, NO_OTHER),
    ([("cache-control", "s-maxage=60"), ("date", DATE), ("expires", DATE)], 60, 0),
    ([("cache-control", "s-maxage=60, max-age=5, no-cache")], 0, NO_OTHER),
    ([("cdn-cache-control", "max-age=60"), ("cache-control", "max-age=5")], 60, 5),
    ([("cdn-cache-control", "max-age=60"), ("cache-control", "max-age=5, s-maxage=9")], 60, 5),
    ([("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], 60, 0),
    ([("cdn-cache-control", "max-age=60"), ("cache-control", "private, max-age=9")], 60, 0),
    ([("cdn-cache-control", "max-age=60")], 60, NO_OTHER),
]


@pytest.mark.parametrize(("headers", "here", "browsers"), BROWSERS)
def test_browsers_may_have_another_lifetime(headers, here, browsers):
    found = record(*headers)
    assert (found.fresh_until - NOW, found.max_age) == (here, browsers)
    later = NOW + 1000
    assert refreshed(found, Answer((), status=304), later, later).max_age == browsers


CONFIRMED = [
    # stored windows (fresh, stale), fields of the 304, windows from now on
    ((60, DAY), [], (60, DAY)),
    ((60, 0), [], (60, 0)),  # must-revalidate was said with the 200
    ((60, 0), [("etag", '"a"')], (60, 0)),
    ((60, 0), [("cache-control", "max-age=5")], (5, DAY)),
    ((60, DAY), [("cache-control", "max-age=5, must-revalidate")], (5, 0)),
    ((60, DAY), [("cache-control", "no-store, max-age=5")], (0, 0)),
    ((60, DAY), [("cache-control", "private")], (0, 0)),
]


@pytest.mark.parametrize(("stored", "headers", "expected"), CONFIRMED)
def test_a_304_renews(stored, headers, expected):
    fresh, stale = stored
    old = dataclasses.replace(OLD, fresh_until=NOW + fresh, stale_until=NOW + fresh + stale)
    later = NOW + 1000
    new = refreshed(old, Answer(tuple(headers), status=304), later, later)
    assert (new.validator, new.etag, new.length) == (old.validator, old.etag, old.length)
    assert new.stored_at == later
    assert (new.fresh_until - later, new.stale_until - new.fresh_until) == expected


def test_a_file_from_before_1970():
    found = record_of_file(FileStatus(5, -5_000_000_000, 1, 1), "/a.png")
    assert (found.last_modified, found.media_type) == (0, "image/png")


def test_fields_that_go_on():
    headers = (
        ("content-disposition", "inline"),
        ("content-encoding", "gzip"),
        ("cache-control", "no-store"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("date", DATE),
        ("server", "php"),
        ("accept-ranges", "bytes"),
        ("cache-status", "inner; hit"),
        ("age", "5"),
    )
    assert replayed_fields(headers) == headers[:2]
    assert passed_fields(headers) == (*headers[:5], ("age", "5"))
