"""edge/http/directives.py: Cache-Control, CDN-Cache-Control, Surrogate-Control."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.directives import (
    MAX_DELTA_S,
    MAX_DIRECTIVES,
    CacheControl,
    effective_control,
    parse_cache_control,
    parse_cdn_cache_control,
    parse_delta_seconds,
    parse_surrogate_control,
)

NOTHING = CacheControl()
MALFORMED = CacheControl(malformed=True)
TARGETED = CacheControl(targeted=True)


def withheld(*names: str, **others: Any) -> CacheControl:
    return CacheControl(withheld=frozenset(names), **others)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # usual
        (["max-age=60"], CacheControl(max_age=60)),
        (["public, max-age=60"], CacheControl(public=True, max_age=60)),
        (["s-maxage=60,max-age=5"], CacheControl(s_maxage=60, max_age=5)),
        (["no-store"], CacheControl(no_store=True)),
        (["no-cache"], CacheControl(no_cache=True)),
        (["private"], CacheControl(private=True)),
        (["must-revalidate"], CacheControl(must_revalidate=True)),
        (["proxy-revalidate"], CacheControl(proxy_revalidate=True)),
        (["must-understand, no-store"], CacheControl(must_understand=True, no_store=True)),
        (["max-age=60, immutable"], CacheControl(max_age=60, immutable=True)),
        (
            ["max-age=1, stale-while-revalidate=2, stale-if-error=3"],
            CacheControl(max_age=1, stale_while_revalidate=2, stale_if_error=3),
        ),
        (["public", "max-age=60"], CacheControl(public=True, max_age=60)),
        # edge
        ([], NOTHING),
        ([""], NOTHING),
        ([" , ,"], NOTHING),
        (["MAX-AGE=60, No-Store"], CacheControl(max_age=60, no_store=True)),
        (['max-age="60"'], CacheControl(max_age=60)),
        (['max-age="6\\0"'], CacheControl(max_age=60)),
        (["\tmax-age=60 ,\tpublic "], CacheControl(public=True, max_age=60)),
        (["max-age=060"], CacheControl(max_age=60)),
        (["max-age=0"], CacheControl(max_age=0)),
        (["no-store=1"], CacheControl(no_store=True)),
        # qualified, sections 5.2.2.4 and 5.2.2.7
        (['private="set-cookie, x", max-age=1'], withheld("set-cookie", "x", max_age=1)),
        (['no-cache="x"'], withheld("x")),
        (["private=Set-Cookie"], withheld("set-cookie")),
        (['PRIVATE="X-A"', 'no-cache="x-b"'], withheld("x-a", "x-b")),
        (['private=" x ,, Y,\t"'], withheld("x", "y")),
        (['private="\\x"'], withheld("x")),
        (['private="x", private'], withheld("x", private=True)),
        (['no-cache, no-cache="x"'], withheld("x", no_cache=True)),
        # what names nothing is the whole
        (['no-cache=""'], CacheControl(no_cache=True)),
        (['private=" , "'], CacheControl(private=True)),
        (['private="x y"'], CacheControl(private=True)),
        (['private="x, \\"y\\""'], CacheControl(private=True)),
        (['private="x, é"'], CacheControl(private=True)),
        (['private="x\r\ny"'], CacheControl(private=True)),
        (['private="x, Vary"'], CacheControl(private=True)),
        (['no-cache="Content-Encoding"'], CacheControl(no_cache=True)),
        (['private="' + ",".join(f"x{n}" for n in range(33)) + '"'], CacheControl(private=True)),
        (['private="x'], replace(MALFORMED, private=True)),
        (["private='x'"], withheld("'x'")),
        (["private="], replace(MALFORMED, private=True)),
        (['private="x"y'], replace(MALFORMED, private=True)),
        (['no-cache = "x"'], replace(MALFORMED, no_cache=True)),
        (['x="max-age=5, no-store", max-age=1'], CacheControl(max_age=1)),
        (["unknown, x-max-age=9, max-agex=9"], NOTHING),
        ([f"max-age={2**31}"], CacheControl(max_age=MAX_DELTA_S)),
        ([f"max-age={2**31 + 1}"], CacheControl(max_age=MAX_DELTA_S)),
        ([f"max-age={2**64}"], CacheControl(max_age=MAX_DELTA_S)),
        (["max-age=" + "9" * 5_000], CacheControl(max_age=MAX_DELTA_S)),
        # contradictions, section 4.2.1
        (["max-age=60, max-age=120"], CacheControl(max_age=0)),
        (["max-age=60", "max-age=120"], CacheControl(max_age=0)),
        (["max-age=60, max-age=120, max-age=60"], CacheControl(max_age=0)),
        (["max-age=60, max-age=60"], CacheControl(max_age=60)),  # says one thing twice
        (["max-age=60, max-age=x"], CacheControl(max_age=0)),
        (["max-age=x, max-age=60"], CacheControl(max_age=0)),
        (["stale-if-error=1, stale-if-error=2"], CacheControl(stale_if_error=0)),
        # no number: stale
        (["max-age"], CacheControl(max_age=0)),
        (["max-age=-1"], CacheControl(max_age=0)),
        (["max-age=1.5"], CacheControl(max_age=0)),
        (["max-age=+1"], CacheControl(max_age=0)),
        (["max-age=1_0"], CacheControl(max_age=0)),
        (["max-age=0x10"], CacheControl(max_age=0)),
        (["max-age='60'"], CacheControl(max_age=0)),
        (['max-age=" 60"'], CacheControl(max_age=0)),
        (['max-age=""'], CacheControl(max_age=0)),
        # malformed members: restrictions survive, permissions do not
        (["max-age =60"], MALFORMED),
        (["max-age= 60"], MALFORMED),
        (["max-age=60 public"], MALFORMED),
        (["public; max-age=60"], MALFORMED),
        (["private; max-age=60"], CacheControl(private=True, malformed=True)),
        (["max-age=60; No-Store, public"], replace(MALFORMED, no_store=True, public=True)),
        (['x="no-store, max-age=60'], replace(MALFORMED, no_store=True, max_age=60)),
        (["x-no-store-y z"], MALFORMED),
        (["=60"], MALFORMED),
        (['x="', "no-store"], replace(MALFORMED, no_store=True)),  # a line stands alone
        (["max-age=٦٠"], MALFORMED),
        (["max-age=60\n"], MALFORMED),
        # hostile
        (["x," * MAX_DIRECTIVES], NOTHING),
        (["x," * MAX_DIRECTIVES + "no-store,max-age=5"], replace(MALFORMED, no_store=True)),
        (["," * 100_000], MALFORMED),
        ([" " * 100_000 + "?"], MALFORMED),
        (['x="' * 20_000], MALFORMED),
    ],
)
def test_cache_control(lines: list[str], expected: CacheControl) -> None:
    assert parse_cache_control(lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["max-age=600"], replace(TARGETED, max_age=600)),
        (["max-age=600, no-store"], replace(TARGETED, max_age=600, no_store=True)),
        (["max-age=600", "public"], replace(TARGETED, max_age=600, public=True)),
        (["max-age=1, max-age=2"], replace(TARGETED, max_age=2)),  # the last, RFC 9651
        (["max-age=60;x=1"], replace(TARGETED, max_age=60)),
        (["max-age=-1"], replace(TARGETED, max_age=0)),
        (["max-age=9999999999"], replace(TARGETED, max_age=MAX_DELTA_S)),
        (['private="x"'], replace(TARGETED, withheld=frozenset({"x"}))),
        (['no-cache="x, Y", max-age=1'], replace(TARGETED, max_age=1, withheld=frozenset("xy"))),
        (['private=""'], replace(TARGETED, private=True)),
        (["private=x"], TARGETED),  # a token is no string
        (["unknown=1"], TARGETED),
        # a value of the wrong type: that directive alone is ignored
        (["max-age=1.5, public"], replace(TARGETED, public=True)),
        (['max-age="60"'], TARGETED),
        (["max-age"], TARGETED),
        (["no-store=?0"], TARGETED),
        (["no-store=1"], TARGETED),
        # as if absent
        ([], None),
        ([""], None),
        (["  "], None),
        (["max-age: 60"], None),
        (["MAX-AGE=60"], None),
        (["max-age=60,"], None),
        (["max-age=60", ""], None),
        (["max-age=60 no-store"], None),
    ],
)
def test_cdn_cache_control(lines: list[str], expected: CacheControl | None) -> None:
    assert parse_cdn_cache_control(lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["max-age=3600"], replace(TARGETED, max_age=3600)),
        (["max-age=3600+600"], replace(TARGETED, max_age=3600, stale_while_revalidate=600)),
        (["no-store"], replace(TARGETED, no_store=True)),
        (["max-age=60;img-farm"], replace(TARGETED, max_age=60)),
        (["max-age=60 ; img-farm"], replace(TARGETED, max_age=60)),
        (["max-age=9, max-age=60;img-farm"], replace(TARGETED, max_age=60)),
        (["max-age=60;img-farm, max-age=9"], replace(TARGETED, max_age=60)),
        (["max-age=60;img-farm", 'content="ESI/1.0"'], replace(TARGETED, max_age=60)),
        (["max-age=9, no-store;img-farm"], replace(TARGETED, max_age=9, no_store=True)),
        (["max-age=x"], replace(TARGETED, max_age=0)),
        (["Max-Age=5"], replace(TARGETED, max_age=5)),
        (["no-store;other, max-age=7"], replace(TARGETED, max_age=7)),
        # says nothing to us
        ([], None),
        ([""], None),
        (["max-age=60;other"], None),
        (["no-store;img-farm2"], None),
        (['content="ESI/1.0"'], None),
        (["no-store-remote"], None),
        (["max-age = 60"], None),
        (["max-age=60;"], None),
        (["," * 100_000 + "max-age=60"], None),
    ],
)
def test_surrogate_control(lines: list[str], expected: CacheControl | None) -> None:
    assert parse_surrogate_control(lines, "img-farm") == expected


CC, CDN, SC, PRAGMA = "cache-control", "cdn-cache-control", "surrogate-control", "pragma"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, NOTHING),
        ({CC: ["max-age=1"]}, CacheControl(max_age=1)),
        ({CC: ["no-store"], CDN: ["max-age=2"]}, replace(TARGETED, max_age=2)),
        ({CC: ["max-age=1"], CDN: ["no-store"]}, replace(TARGETED, no_store=True)),
        ({CC: ["max-age=1"], CDN: [""]}, CacheControl(max_age=1)),
        ({CC: ["max-age=1"], CDN: ["&"]}, CacheControl(max_age=1)),
        ({CC: ["max-age=1"], SC: ["max-age=3"]}, replace(TARGETED, max_age=3)),
        ({CC: ["max-age=1"], SC: ["max-age=3;x"]}, CacheControl(max_age=1)),
        ({CDN: ["max-age=2"], SC: ["max-age=3"]}, replace(TARGETED, max_age=2)),
        ({PRAGMA: ["no-cache"]}, CacheControl(no_cache=True)),
        ({PRAGMA: ["x, No-Cache"]}, CacheControl(no_cache=True)),
        ({PRAGMA: ["no-store"]}, NOTHING),
        ({PRAGMA: ["no-cache"], CC: ["max-age=1"]}, CacheControl(max_age=1)),
        ({PRAGMA: ["no-cache"], CDN: ["max-age=2"]}, replace(TARGETED, max_age=2)),
    ],
)
def test_which_field_decides(fields: dict[str, list[str]], expected: CacheControl) -> None:
    assert effective_control(fields, surrogate="img-farm") == expected


def test_surrogate_control_is_left_alone_without_a_name() -> None:
    fields = {CC: ["max-age=1"], SC: ["max-age=3"]}
    assert effective_control(fields) == CacheControl(max_age=1)


@pytest.mark.parametrize(
    "name", ["max_age", "s_maxage", "stale_while_revalidate", "stale_if_error"]
)
@pytest.mark.parametrize("seconds", [-1, MAX_DELTA_S + 1])
def test_seconds_have_limits(name: str, seconds: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        replace(NOTHING, **{name: seconds})  # type: ignore[arg-type]


@given(st.integers(0, 10**30))
def test_delta_seconds(value: int) -> None:
    assert parse_delta_seconds(str(value)) == min(value, MAX_DELTA_S)


@given(st.lists(st.text('no-store=", \\;1', max_size=20), max_size=3))
def test_no_text_raises(lines: list[str]) -> None:
    parse_cache_control(lines)
    parse_cdn_cache_control(lines)
    parse_surrogate_control(lines, "us")


@given(
    st.lists(st.sampled_from(["max-age=5", "public", "x", 'y="', "z z", ""]), max_size=6),
    st.sampled_from(["no-store", "private", "no-cache", "No-Store", 'private="x"']),
    st.integers(0, 6),
)
def test_a_restriction_survives_any_neighbour(
    members: list[str], restriction: str, at: int
) -> None:
    members.insert(at, restriction)
    control = parse_cache_control([", ".join(members)])
    # Inside a quoted string that two strays happen to make it is text, not a directive.
    if sum(member.count('"') for member in members if member != 'private="x"') < 2:
        assert control.no_store or control.private or control.no_cache or control.withheld
