"""edge/http/freshness.py: RFC 9111 sections 3 and 4, RFC 5861."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.date import format_date
from edge.http.directives import MAX_DELTA_S, CacheControl, effective_control
from edge.http.freshness import (
    HEURISTIC_CAP_S,
    HEURISTICALLY_CACHEABLE,
    NO_STALE,
    Reuse,
    StaleWindows,
    Storability,
    current_age,
    initial_age,
    judge,
    lifetime,
    may_store,
    may_use_on_error,
    received_age,
    stale_windows,
)

NOW = 1_795_348_800
HOUR = 3_600
DAY = 86_400
Fields = dict[str, list[str]]


def at(offset: int) -> list[str]:
    return [format_date(NOW + offset)]


def cc(*lines: str, **others: list[str]) -> Fields:
    return {"cache-control": list(lines)} | {
        name.replace("_", "-"): value for name, value in others.items()
    }


def storability(
    fields: Fields, method: str = "GET", status: int = 200, authorization: bool = False
) -> Storability:
    control = effective_control(fields)
    return may_store(
        method, status, fields, authorization, control, key_covers=("accept", "accept-encoding")
    )


S = Storability


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # usual
        ({}, S.STORABLE),  # 200: a guess is allowed
        (cc("max-age=60"), S.STORABLE),
        (cc("public"), S.STORABLE),
        (cc("no-store"), S.NO_STORE),
        (cc("max-age=60, no-store"), S.NO_STORE),
        (cc("private"), S.PRIVATE),
        (cc('private="x-user"'), S.STORABLE),  # without that field
        (cc('private="set-cookie"', set_cookie=["a=b"]), S.STORABLE),
        (cc('private="x-user"', set_cookie=["a=b"]), S.SET_COOKIE),
        (cc('private=""', set_cookie=["a=b"]), S.PRIVATE),
        (cc("no-cache"), S.STORABLE),  # stored, and validated every time
        ({"set-cookie": ["a=b"]}, S.SET_COOKIE),
        (cc("public, max-age=60", set_cookie=["a=b"]), S.SET_COOKIE),
        # Vary
        (cc("max-age=60", vary=["Accept"]), S.STORABLE),
        (cc("max-age=60", vary=["accept-ENCODING , Accept"]), S.STORABLE),
        (cc("max-age=60", vary=["Accept", "Cookie"]), S.VARY),
        (cc("max-age=60", vary=["*"]), S.VARY),
        (cc("max-age=60", vary=["Accept, *"]), S.VARY),
        (cc("max-age=60", vary=["", " , "]), S.STORABLE),
        # malformed: a restriction holds, and otherwise the answer is merely stale
        (cc("private; max-age=60"), S.PRIVATE),
        (cc("max-age=60; no-store"), S.NO_STORE),
        (cc("public; max-age=60"), S.STORABLE),
        # RFC 9213: the targeted field alone decides
        (cc("no-store", cdn_cache_control=["max-age=60"]), S.STORABLE),
        (cc("max-age=60", cdn_cache_control=["no-store"]), S.NO_STORE),
        (cc("no-store", cdn_cache_control=["max-age: 60"]), S.NO_STORE),
        # section 5.2.2.3
        (cc("must-understand, no-store, max-age=60"), S.STORABLE),
    ],
)
def test_may_store(fields: Fields, expected: Storability) -> None:
    assert storability(fields) is expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_only_get_is_stored(method: str) -> None:
    assert storability(cc("public, max-age=60"), method=method) is S.METHOD


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (404, {}, S.STORABLE),
        (301, {}, S.STORABLE),
        (302, {}, S.NO_LIFETIME),
        (307, {}, S.NO_LIFETIME),
        (302, cc("max-age=60"), S.STORABLE),
        (302, cc("s-maxage=60"), S.STORABLE),
        (302, cc("public"), S.STORABLE),
        (302, {"expires": ["0"]}, S.STORABLE),  # explicit, if in the past
        (302, {"expires": ["0"], "cdn-cache-control": ["immutable"]}, S.NO_LIFETIME),
        (403, {}, S.NO_LIFETIME),
        (500, {}, S.NO_LIFETIME),
        (500, cc("max-age=60"), S.STORABLE),
        (206, cc("max-age=60"), S.PARTIAL),
        (304, cc("max-age=60"), S.STATUS),
        (100, cc("max-age=60"), S.STATUS),
        (199, cc("max-age=60"), S.STATUS),
        (600, cc("max-age=60"), S.STATUS),
        (599, cc("max-age=60, must-understand"), S.STATUS),
        (299, cc("max-age=60, must-understand, no-store"), S.STATUS),
    ],
)
def test_status(status: int, fields: Fields, expected: Storability) -> None:
    assert storability(fields, status=status) is expected


def test_heuristically_cacheable_statuses() -> None:
    stored = {status for status in range(100, 600) if storability({}, status=status) is S.STORABLE}
    assert stored == HEURISTICALLY_CACHEABLE - {206}


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        # section 3.5
        ("max-age=60", S.AUTHORIZATION),
        ("", S.AUTHORIZATION),
        ("proxy-revalidate", S.AUTHORIZATION),
        ("public", S.STORABLE),
        ("must-revalidate", S.STORABLE),
        ("s-maxage=0", S.STORABLE),
        ("public, private", S.PRIVATE),
    ],
)
def test_answers_to_authorized_requests(directives: str, expected: Storability) -> None:
    assert storability(cc(directives), authorization=True) is expected


# response_time is NOW in every row
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # section 4.2.1, the order of preference
        (cc("max-age=60"), 60),
        (cc("s-maxage=30, max-age=60", date=at(0), expires=at(90)), 30),
        (cc("max-age=60", date=at(0), expires=at(90)), 60),
        ({"date": at(0), "expires": at(90), "last-modified": at(-DAY)}, 90),
        ({"date": at(0), "last-modified": at(-1000)}, 100),
        ({}, 0),
        # zero and clamps
        (cc("s-maxage=0, max-age=60"), 0),
        (cc("max-age=0", expires=at(90)), 0),
        (cc(f"max-age={10**12}"), MAX_DELTA_S),
        ({"date": at(0), "expires": ["Fri, 31 Dec 9999 23:59:59 GMT"]}, MAX_DELTA_S),
        # Expires
        ({"date": at(0), "expires": at(0)}, 0),
        ({"date": at(0), "expires": at(-1)}, 0),
        ({"date": at(0), "expires": ["0"], "last-modified": at(-DAY)}, 0),
        ({"date": at(0), "expires": ["-1"]}, 0),
        ({"date": at(0), "expires": [""]}, 0),
        ({"date": at(0), "expires": at(90) + at(90)}, 90),  # says one thing twice
        ({"date": at(0), "expires": at(90) + at(91)}, 0),
        ({"date": at(0), "expires": [f"{at(90)[0]}, {at(90)[0]}"]}, 0),
        ({"date": at(-50), "expires": at(90)}, 140),  # less Date, not less our clock
        ({"date": at(50), "expires": at(90)}, 40),
        ({"expires": at(90)}, 90),  # no Date: when it arrived
        ({"date": ["soon"], "expires": at(90)}, 90),
        ({"date": at(0), "expires": [at(90)[0].upper()]}, 90),  # section 4.2, any case
        ({"date": at(0), "expires": [at(90)[0].replace("GMT", "EST")]}, 0),
        # a two-digit year, 44 years ahead of NOW and not 56 behind it
        ({"expires": ["Wednesday, 01-Jan-70 00:00:00 GMT"]}, 3_155_760_000 - NOW),
        # restrictions and contradictions
        (cc("no-cache, max-age=60"), 0),
        (cc('no-cache="x", max-age=60'), 60),
        (cc('no-cache="", max-age=60'), 0),
        (cc("max-age=60, max-age=61"), 0),
        (cc("max-age=x", expires=at(90)), 0),
        (cc("max-age=60; public"), 0),
        (cc("max-age=60, a b"), 0),
        ({"pragma": ["no-cache"], "expires": at(90)}, 0),
        (cc("max-age=60", pragma=["no-cache"]), 60),
        # RFC 9213
        (cc("max-age=60", cdn_cache_control=["max-age=600"]), 600),
        (cc("max-age=60", cdn_cache_control=["max-age=600, no-cache"]), 0),
        (cc("max-age=60", cdn_cache_control=["public"], expires=at(90)), 0),
        (cc("max-age=60", cdn_cache_control=["max-age=?1"]), 0),
        (cc("max-age=60", cdn_cache_control=["nonsense;;"]), 60),
        # the heuristic
        ({"date": at(0), "last-modified": at(-9)}, 0),
        ({"date": at(0), "last-modified": at(0)}, 0),
        ({"date": at(0), "last-modified": at(+50)}, 0),
        ({"date": at(0), "last-modified": at(-10 * DAY)}, DAY),
        ({"date": at(0), "last-modified": at(-1000 * DAY)}, HEURISTIC_CAP_S),
        ({"last-modified": at(-1000)}, 100),
        ({"date": at(-500), "last-modified": at(-1000)}, 50),
        ({"date": at(0), "last-modified": ["once"]}, 0),
        (cc("must-revalidate", date=at(0), last_modified=at(-1000)), 100),
        (cc("immutable", date=at(0)), 0),  # RFC 8246 extends nothing
    ],
)
def test_lifetime(fields: Fields, expected: int) -> None:
    assert lifetime(200, fields, effective_control(fields), NOW) == expected


@pytest.mark.parametrize(
    ("status", "directives", "expected"),
    [(404, "", 100), (302, "", 0), (302, "public", 100), (500, "", 0), (302, "max-age=7", 7)],
)
def test_the_heuristic_needs_a_status_that_allows_it(
    status: int, directives: str, expected: int
) -> None:
    fields = cc(directives, date=at(0), last_modified=at(-1000))
    assert lifetime(status, fields, effective_control(fields), NOW) == expected


def test_the_cap_is_the_operators() -> None:
    fields = {"date": at(0), "last-modified": at(-1000)}
    assert lifetime(200, fields, CacheControl(), NOW, heuristic_cap_s=99) == 99
    assert lifetime(200, fields, CacheControl(), NOW, heuristic_cap_s=0) == 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], 0),
        (["0"], 0),
        (["60"], 60),
        (["060"], 60),
        ([" 60 "], 60),
        (["60, 70"], 60),  # section 5.1: the first
        (["60", "70"], 60),
        (["x, 70"], 0),
        (["x", "70"], 0),
        (["-60"], 0),
        (["60.5"], 0),
        (["60s"], 0),
        (["+60"], 0),
        ([""], 0),
        (["9" * 5_000], MAX_DELTA_S),
        (["६०"], 0),
    ],
)
def test_received_age(lines: list[str], expected: int) -> None:
    assert received_age({"age": lines} if lines else {}) == expected


@pytest.mark.parametrize(
    ("fields", "request_time", "expected"),
    [
        # section 4.2.3, response_time NOW
        ({}, NOW, 0),
        ({"date": at(0)}, NOW, 0),
        ({"date": at(-30)}, NOW, 30),  # apparent age
        ({"date": at(30)}, NOW, 0),  # the origin's clock is ahead
        ({"date": at(0), "age": ["60"]}, NOW, 60),
        ({"date": at(0), "age": ["60"]}, NOW - 5, 65),  # plus the delay of the answer
        ({"date": at(0)}, NOW - 5, 5),
        ({"date": at(-100), "age": ["60"]}, NOW - 5, 100),  # the larger of the two
        ({"date": at(-10), "age": ["60"]}, NOW - 5, 65),
        ({"date": ["never"], "age": ["7"]}, NOW, 7),
        ({"date": at(0)}, NOW + 5, 0),  # our clock was set back between
        ({"age": [str(2**40)]}, NOW - 5, MAX_DELTA_S),
    ],
)
def test_initial_age(fields: Fields, request_time: int, expected: int) -> None:
    assert initial_age(fields, request_time, NOW) == expected


def test_current_age() -> None:
    assert current_age(5, NOW, NOW) == 5
    assert current_age(5, NOW, NOW + 60) == 65
    assert current_age(5, NOW, NOW - 60) == 5
    assert current_age(MAX_DELTA_S, NOW, NOW + 60) == MAX_DELTA_S


DEFAULT = StaleWindows(while_revalidate_s=10, if_error_s=20)


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ("", DEFAULT),
        ("max-age=60", DEFAULT),
        ("stale-while-revalidate=1", StaleWindows(1, 20)),
        ("stale-if-error=2", StaleWindows(10, 2)),
        ("stale-while-revalidate=1, stale-if-error=2", StaleWindows(1, 2)),
        ("stale-while-revalidate=0, stale-if-error=0", NO_STALE),
        ("stale-if-error=x", StaleWindows(10, 0)),
        # section 4.2.4
        ("must-revalidate", NO_STALE),
        ("proxy-revalidate", NO_STALE),
        ("no-cache", NO_STALE),
        ("s-maxage=60", NO_STALE),
        ("must-revalidate, stale-if-error=2", NO_STALE),
        ("proxy-revalidate, stale-while-revalidate=2", NO_STALE),
        ("no-cache, stale-while-revalidate=2", NO_STALE),
        ("s-maxage=60, stale-while-revalidate=2", StaleWindows(2, 0)),
        ("must-revalidate; max-age=60", NO_STALE),  # malformed, and still a restriction
    ],
)
def test_stale_windows(directives: str, expected: StaleWindows) -> None:
    assert stale_windows(effective_control(cc(directives)), DEFAULT) == expected


def test_no_window_by_default() -> None:
    assert stale_windows(CacheControl(max_age=60)) == NO_STALE


@pytest.mark.parametrize(("behind", "error"), [(-1, 0), (0, -1)])
def test_a_window_is_not_negative(behind: int, error: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        StaleWindows(behind, error)


# lifetime 60, windows 10 and 20
@pytest.mark.parametrize(
    ("age", "reuse", "on_error"),
    [
        (0, Reuse.FRESH, True),
        (59, Reuse.FRESH, True),
        (60, Reuse.STALE_WHILE_REVALIDATE, True),
        (69, Reuse.STALE_WHILE_REVALIDATE, True),
        (70, Reuse.VALIDATE, True),
        (79, Reuse.VALIDATE, True),
        (80, Reuse.VALIDATE, False),
    ],
)
def test_judge(age: int, reuse: Reuse, on_error: bool) -> None:
    assert judge(age, 60, DEFAULT) is reuse
    assert may_use_on_error(age, 60, DEFAULT) is on_error


def test_without_lifetime_and_window_everything_is_validated() -> None:
    assert judge(0, 0, NO_STALE) is Reuse.VALIDATE
    assert not may_use_on_error(0, 0, NO_STALE)


LINES = st.lists(
    st.sampled_from(
        ["max-age=5", "s-maxage=9", "public", "no-cache", "private", "0", "x y", *at(0), *at(99)]
    ),
    max_size=3,
)


@given(
    st.dictionaries(
        st.sampled_from(["cache-control", "expires", "date", "last-modified", "age", "vary"]), LINES
    ),
    st.integers(0, 2**33),
    st.integers(0, 2**33),
)
def test_any_response_has_a_lifetime_and_an_age(
    fields: dict[str, list[str]], request_time: int, response_time: int
) -> None:
    control = effective_control(fields)
    assert 0 <= lifetime(200, fields, control, response_time) <= MAX_DELTA_S
    age = initial_age(fields, request_time, response_time)
    assert received_age(fields) <= age <= MAX_DELTA_S
    assert may_store("GET", 200, fields, False, control) in Storability
