"""The rules of a shared cache, each row under the section that it comes from.

A row is a sequence of steps on one URL. Every step may change what the origin would say, and says
whether the origin is asked and what the client gets.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge.origin.messages import OriginRequest
from tests.edge.shared_bench import BODY, SharedNode, refused, said
from tests.edge.test_record import Answer as Told


@dataclass(frozen=True)
class Step:
    """says: (status, headers), None as before, "down" for no answer. asked: how often the origin
    was, in this step. "DATE+60" in a header stands for that date."""

    says: Any = None
    fields: dict[str, str] = field(default_factory=dict)
    method: str = "GET"
    wait: int = 0
    asked: int | None = None
    status: int | None = None
    body: bytes | None = None
    has: dict[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    sent: dict[str, str] = field(default_factory=dict)
    not_sent: tuple[str, ...] = ()
    target: str = ""


def ok(**headers: str) -> tuple[int, dict[str, str]]:
    return 200, {name.replace("_", "-"): text for name, text in headers.items()}


def of(status: int, **headers: str) -> tuple[int, dict[str, str]]:
    return status, ok(**headers)[1]


HIT: dict[str, Any] = {"asked": 0}
MISS: dict[str, Any] = {"asked": 1}
OLD, NEW = "DATE-100000", "DATE+0"
HOUR = "max-age=3600"


def twice(says: Any, second: dict[str, Any], **fields: Any) -> list[Step]:
    """The same request again."""
    return [Step(says, asked=1, **fields), Step(**{**fields, **second})]


def chosen(vary: str, first: dict[str, str], then: dict[str, str], is_hit: bool) -> list[Step]:
    return [
        Step(ok(cache_control=HOUR, vary=vary), fields=first, asked=1),
        Step(fields=then, asked=0 if is_hit else 1),
    ]


PICTURE = ok(cache_control=HOUR, content_type="image/jpeg")
KEPT_ONLY = {"Cache-Control": "max-age=9, Only-If-Cached"}
AUTH = {"Authorization": "Basic eDp5"}
COOKIE = {"Cookie": "a=1"}
TAG = '"one"'

ROWS: list[tuple[str, str, list[Step]]] = [
    # --- RFC 9111 section 3: may it be stored
    ("9111 3", "max-age", twice(ok(cache_control=HOUR), HIT)),
    ("9111 3", "s-maxage", twice(ok(cache_control="s-maxage=60"), HIT)),
    ("9111 3", "Expires", twice(ok(expires="DATE+60", date=NEW), HIT)),
    ("9111 3", "public without a lifetime is stale", twice(ok(cache_control="public"), MISS)),
    ("9111 3", "nothing said, no Last-Modified", twice(ok(), MISS)),
    ("9111 3", "301 by heuristic has no lifetime without Last-Modified", twice(of(301), MISS)),
    ("9111 3", "301 explicit", twice(of(301, cache_control=HOUR, location="/x"), HIT)),
    ("9111 3", "302 silent", twice(of(302, location="/x"), MISS)),
    ("9111 3", "302 explicit", twice(of(302, cache_control=HOUR, location="/x"), HIT)),
    ("9111 3", "303 explicit", twice(of(303, cache_control=HOUR, location="/x"), HIT)),
    ("9111 3", "307 explicit", twice(of(307, cache_control=HOUR, location="/x"), HIT)),
    ("9111 3", "308 explicit", twice(of(308, cache_control=HOUR, location="/x"), HIT)),
    ("9111 3", "404 explicit", twice(of(404, cache_control=HOUR), HIT)),
    ("9111 3", "410 explicit", twice(of(410, cache_control=HOUR), HIT)),
    ("9111 3", "403 explicit", twice(of(403, cache_control=HOUR), HIT)),
    ("9111 3", "403 silent", twice(of(403), MISS)),
    ("9111 3", "401 silent", twice(of(401, www_authenticate="Basic"), MISS)),
    ("9111 3", "405 explicit", twice(of(405, cache_control=HOUR), HIT)),
    ("9111 3", "414 explicit", twice(of(414, cache_control=HOUR), HIT)),
    ("9111 3", "299 explicit", twice(of(299, cache_control=HOUR), HIT)),
    ("9111 3", "299 silent", twice(of(299, last_modified=OLD), MISS)),
    ("9111 3", "203 explicit", twice(of(203, cache_control=HOUR), HIT)),
    ("9111 3", "204 explicit", twice(of(204, cache_control=HOUR), {"asked": 0, "status": 204})),
    ("9111 3", "300 explicit", twice(of(300, cache_control=HOUR), HIT)),
    ("9111 3", "422 explicit", twice(of(422, cache_control=HOUR), HIT)),
    (
        "9111 3.1",
        "Connection and what it names are not repeated",
        [
            Step(ok(cache_control=HOUR, vary="x"), lacks=("connection", "keep-alive", "trailer")),
        ],
    ),
    (
        "9111 3.1",
        "fields are stored with the answer",
        [
            Step(ok(cache_control=HOUR, vary="accept", content_language="de", x_own="1"), asked=1),
            Step(asked=0, has={"content-language": "de", "x-own": "1", "vary": "accept"}),
        ],
    ),
    ("9111 3.1", "the status is stored", twice(of(404, cache_control=HOUR), {"status": 404})),
    ("9111 3.1", "the body is stored", twice(of(404, cache_control=HOUR), {"body": BODY})),
    (
        "9111 3.1",
        "Location is stored",
        twice(of(301, cache_control=HOUR, location="/to"), {"has": {"location": "/to"}}),
    ),
    (
        "9111 3.3",
        "206 is not stored",
        [
            Step(
                (206, {"Cache-Control": HOUR, "Content-Range": "bytes 0-1/9"}), asked=1, status=502
            ),
            Step(asked=1),
        ],
    ),
    # --- 3.5 Authorization
    ("9111 3.5", "Authorization alone", twice(ok(cache_control=HOUR), MISS, fields=AUTH)),
    ("9111 3.5", "with public", twice(ok(cache_control=f"public, {HOUR}"), HIT, fields=AUTH)),
    ("9111 3.5", "with s-maxage", twice(ok(cache_control="s-maxage=60"), HIT, fields=AUTH)),
    (
        "9111 3.5",
        "with must-revalidate",
        twice(ok(cache_control=f"must-revalidate, {HOUR}"), HIT, fields=AUTH),
    ),
    (
        "9111 3.5",
        "with proxy-revalidate is not enough",
        twice(ok(cache_control=f"proxy-revalidate, {HOUR}"), MISS, fields=AUTH),
    ),
    (
        "9111 3.5",
        "another's is not given to who has none",
        [
            Step(ok(cache_control=HOUR), fields=AUTH, asked=1),
            Step(asked=1),
        ],
    ),
    (
        "9111 3.5",
        "what was stored without it serves who has it",
        [
            Step(ok(cache_control=HOUR), asked=1),
            Step(fields=AUTH, asked=0),
        ],
    ),
    (
        "9111 3.5",
        "public: also those without get it",
        [
            Step(ok(cache_control=f"public, {HOUR}"), fields=AUTH, asked=1),
            Step(asked=0),
        ],
    ),
    (
        "9111 3.5",
        "it goes to the origin",
        [Step(ok(), fields=AUTH, sent={"authorization": "Basic eDp5"})],
    ),
    # --- 4.1 Vary
    ("9111 4.1", "same value", chosen("Accept", {"Accept": "a/b"}, {"Accept": "a/b"}, True)),
    ("9111 4.1", "another value", chosen("Accept", {"Accept": "a/b"}, {"Accept": "a/c"}, False)),
    ("9111 4.1", "absent and absent", chosen("Accept-Language", {}, {}, True)),
    (
        "9111 4.1",
        "absent and present",
        chosen("Accept-Language", {}, {"Accept-Language": "de"}, False),
    ),
    (
        "9111 4.1",
        "present and absent",
        chosen("Accept-Language", {"Accept-Language": "de"}, {}, False),
    ),
    ("9111 4.1", "absent and empty", chosen("X-A", {}, {"X-A": ""}, False)),
    ("9111 4.1", "spaces", chosen("Accept", {"Accept": "a/b,c/d"}, {"Accept": "a/b ,  c/d"}, True)),
    (
        "9111 4.1",
        "order of a weighed list",
        chosen(
            "Accept-Language",
            {"Accept-Language": "de, en;q=0.5"},
            {"Accept-Language": "en;q=0.5,de"},
            True,
        ),
    ),
    (
        "9111 4.1",
        "case of a weighed list",
        chosen("Accept-Language", {"Accept-Language": "de-AT"}, {"Accept-Language": "de-at"}, True),
    ),
    (
        "9111 4.1",
        "weights",
        chosen("Accept", {"Accept": "a/b;q=1"}, {"Accept": "a/b;q=0.1"}, False),
    ),
    ("9111 4.1", "order elsewhere counts", chosen("X-A", {"X-A": "1, 2"}, {"X-A": "2, 1"}, False)),
    ("9111 4.1", "case elsewhere counts", chosen("X-A", {"X-A": "a"}, {"X-A": "A"}, False)),
    ("9111 4.1", "quoted commas", chosen("X-A", {"X-A": '"1,2"'}, {"X-A": '"1, 2"'}, False)),
    ("9111 4.1", "* never matches", chosen("*", {}, {}, False)),
    ("9111 4.1", "* beside a name", chosen("Accept, *", {}, {}, False)),
    (
        "9111 4.1",
        "names in any case",
        chosen("aCCEPT", {"Accept": "a/b"}, {"Accept": "a/c"}, False),
    ),
    (
        "9111 4.1",
        "two names",
        chosen("Accept, X-A", {"Accept": "a/b", "X-A": "1"}, {"Accept": "a/b", "X-A": "1"}, True),
    ),
    (
        "9111 4.1",
        "two names, one differs",
        chosen("Accept, X-A", {"Accept": "a/b", "X-A": "1"}, {"Accept": "a/b", "X-A": "2"}, False),
    ),
    (
        "9111 4.1",
        "a name that is not there does not matter",
        chosen("Accept", {"X-A": "1"}, {"X-A": "2"}, True),
    ),
    ("9111 4.1", "two lines", chosen("Accept\nX-A", {"X-A": "1"}, {"X-A": "2"}, False)),
    ("9111 4.1", "Cookie", chosen("Cookie", {"Cookie": "a=1"}, {"Cookie": "a=2"}, False)),
    ("9111 4.1", "Cookie, the same", chosen("Cookie", COOKIE, COOKIE, True)),
    (
        "9111 4.1",
        "Accept-Encoding is settled here",
        [
            Step(
                ok(cache_control=HOUR, vary="Accept-Encoding"),
                fields={"Accept-Encoding": "gzip"},
                asked=1,
                sent={"accept-encoding": "identity"},
            ),
            Step(fields={"Accept-Encoding": "br"}, asked=0),
        ],
    ),
    (
        "9111 4.1",
        "both variants are there",
        [
            Step(ok(cache_control=HOUR, vary="x-a"), fields={"X-A": "1"}, asked=1),
            Step(fields={"X-A": "2"}, asked=1),
            Step(fields={"X-A": "1"}, asked=0),
            Step(fields={"X-A": "2"}, asked=0),
        ],
    ),
    (
        "9111 4.1",
        "more names than are compared",
        chosen(", ".join(f"x-{n}" for n in range(17)), {}, {}, False),
    ),
    # --- 4.2 freshness
    ("9111 4.2", "until its end", twice(ok(cache_control="max-age=60"), {"asked": 0, "wait": 59})),
    ("9111 4.2", "at its end", twice(ok(cache_control="max-age=60"), {"asked": 1, "wait": 60})),
    (
        "9111 4.2.1",
        "s-maxage before max-age",
        twice(ok(cache_control="max-age=1, s-maxage=60"), {"asked": 0, "wait": 30}),
    ),
    (
        "9111 4.2.1",
        "s-maxage before max-age, shorter",
        twice(ok(cache_control="max-age=60, s-maxage=1"), {"asked": 1, "wait": 30}),
    ),
    (
        "9111 4.2.1",
        "max-age before Expires",
        twice(ok(cache_control="max-age=60", expires="DATE+1"), {"asked": 0, "wait": 30}),
    ),
    (
        "9111 4.2.1",
        "max-age before Expires, shorter",
        twice(ok(cache_control="max-age=1", expires="DATE+600"), {"asked": 1, "wait": 30}),
    ),
    (
        "9111 4.2.1",
        "Expires less Date",
        twice(ok(expires="DATE+60", date="DATE+0"), {"asked": 1, "wait": 60}),
    ),
    (
        "9111 4.2.1",
        "two different max-age",
        twice(ok(cache_control="max-age=60, max-age=90"), MISS),
    ),
    ("9111 4.2.1", "two equal max-age", twice(ok(cache_control="max-age=60, max-age=60"), HIT)),
    ("9111 4.2.1", "max-age that is no number", twice(ok(cache_control="max-age=a"), MISS)),
    ("9111 4.2.1", "negative max-age", twice(ok(cache_control="max-age=-5"), MISS)),
    ("9111 1.2.2", "beyond 2^31", twice(ok(cache_control="max-age=99999999999"), HIT)),
    ("9111 4.2.1", "quoted argument", twice(ok(cache_control='max-age="60"'), HIT)),
    ("9111 5.2", "names in any case", twice(ok(cache_control="MaX-aGe=60"), HIT)),
    ("9111 5.2", "unknown directives", twice(ok(cache_control="x=1, y, max-age=60"), HIT)),
    ("9111 5.3", "Expires: 0", twice(ok(expires="0"), MISS)),
    ("9111 5.3", "Expires in the past", twice(ok(expires="DATE-60"), MISS)),
    (
        "9111 4.2.2",
        "a tenth of the time since Last-Modified",
        twice(of(200, last_modified=OLD), {"asked": 0, "wait": 9000}),
    ),
    ("9111 4.2.2", "and no longer", twice(of(200, last_modified=OLD), {"asked": 1, "wait": 10001})),
    ("9111 4.2.2", "of a 301", twice(of(301, last_modified=OLD, location="/x"), HIT)),
    (
        "9111 4.2.2",
        "no heuristic with no-cache",
        twice(of(301, last_modified=OLD, cache_control="no-cache"), MISS),
    ),
    (
        "9111 4.2.3",
        "Age as received",
        twice(of(301, cache_control="max-age=60", age="50"), {"asked": 1, "wait": 10}),
    ),
    (
        "9111 4.2.3",
        "Age is counted on",
        twice(
            of(301, cache_control=HOUR, age="50"), {"asked": 0, "wait": 10, "has": {"age": "60"}}
        ),
    ),
    (
        "9111 4.2.3",
        "apparent age",
        twice(of(301, cache_control="max-age=60", date="DATE-50"), {"asked": 1, "wait": 10}),
    ),
    ("9111 5.1", "Age that is no number", twice(of(301, cache_control="max-age=60", age="x"), HIT)),
    (
        "9111 5.1",
        "Age of a hit",
        twice(of(301, cache_control=HOUR), {"wait": 7, "has": {"age": "7"}}),
    ),
    (
        "9111 5.1",
        "Age of a variant",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(wait=9, has={"age": "9"}, asked=0),
        ],
    ),
    # --- 4.2.4 stale
    (
        "9111 4.2.4",
        "must-revalidate and no answer",
        [
            Step(ok(cache_control="max-age=1, must-revalidate", vary="x"), asked=1),
            Step("down", wait=5, status=502),
        ],
    ),
    (
        "9111 4.2.4",
        "proxy-revalidate and no answer",
        [
            Step(ok(cache_control="max-age=1, proxy-revalidate", vary="x"), asked=1),
            Step("down", wait=5, status=502),
        ],
    ),
    (
        "9111 4.2.4",
        "s-maxage and no answer",
        [
            Step(ok(cache_control="s-maxage=1", vary="x"), asked=1),
            Step("down", wait=5, status=502),
        ],
    ),
    (
        "9111 4.2.4",
        "no-cache and no answer",
        [
            Step(ok(cache_control="no-cache", vary="x", etag=TAG), asked=1),
            Step("down", status=502),
        ],
    ),
    (
        "9111 4.2.4",
        "disconnected",
        [
            Step(ok(cache_control="max-age=1", vary="x"), asked=1),
            Step("down", wait=5, status=200, body=BODY, has={"cache-control": "max-age=10"}),
        ],
    ),
    (
        "9111 4.2.4",
        "an old redirect is no answer for a day",
        [
            Step(of(301, cache_control="max-age=1"), asked=1),
            Step("down", wait=5, status=502),
        ],
    ),
    # --- 4.3 validation
    (
        "9111 4.3.1",
        "If-None-Match",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(of(304), wait=5, asked=1, status=200, body=BODY, sent={"if-none-match": TAG}),
        ],
    ),
    (
        "9111 4.3.1",
        "weak tags are good for it",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag='W/"w"'), asked=1),
            Step(of(304), wait=5, status=200, sent={"if-none-match": 'W/"w"'}),
        ],
    ),
    (
        "9111 4.3.1",
        "If-Modified-Since",
        [
            Step(
                ok(
                    cache_control="max-age=1",
                    vary="x",
                    last_modified="Tue, 14 Nov 2023 22:13:20 GMT",
                ),
                asked=1,
            ),
            Step(
                of(304),
                wait=5,
                status=200,
                sent={"if-modified-since": "Tue, 14 Nov 2023 22:13:20 GMT"},
            ),
        ],
    ),
    (
        "9111 4.3.1",
        "nothing to ask with",
        [
            Step(ok(cache_control="max-age=1", vary="x"), asked=1),
            Step(wait=5, asked=1, not_sent=("if-none-match", "if-modified-since")),
        ],
    ),
    (
        "9111 4.3.1",
        "a client's own are not put in its place",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(
                of(304),
                fields={"If-None-Match": '"mine"'},
                wait=5,
                status=200,
                sent={"if-none-match": TAG},
            ),
        ],
    ),
    (
        "9111 4.3.2",
        "If-None-Match of a client",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(
                fields={"If-None-Match": TAG},
                asked=0,
                status=304,
                body=b"",
                has={"etag": TAG},
                lacks=("content-length",),
            ),
        ],
    ),
    (
        "9111 4.3.2",
        "If-None-Match in a list",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(fields={"If-None-Match": f'"a,b", W/{TAG}'}, asked=0, status=304),
        ],
    ),
    (
        "9111 4.3.2",
        "If-None-Match: *",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(fields={"If-None-Match": "*"}, asked=0, status=304),
        ],
    ),
    (
        "9111 4.3.2",
        "another tag",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(fields={"If-None-Match": '"two"'}, asked=0, status=200),
        ],
    ),
    (
        "9110 13.1.3",
        "If-Modified-Since equal to Last-Modified",
        [
            Step(
                ok(cache_control=HOUR, vary="x", last_modified="Tue, 14 Nov 2023 22:13:20 GMT"),
                asked=1,
            ),
            Step(
                fields={"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}, asked=0, status=304
            ),
        ],
    ),
    (
        "9110 13.1.3",
        "ignored beside If-None-Match",
        [
            Step(
                ok(
                    cache_control=HOUR,
                    vary="x",
                    etag=TAG,
                    last_modified="Tue, 14 Nov 2023 22:13:20 GMT",
                ),
                asked=1,
            ),
            Step(
                fields={
                    "If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT",
                    "If-None-Match": '"two"',
                },
                asked=0,
                status=200,
            ),
        ],
    ),
    (
        "9110 13.1.1",
        "If-Match fails",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(
                fields={"If-Match": '"two"'}, asked=0, status=412, has={"cache-control": "no-store"}
            ),
        ],
    ),
    (
        "9110 13.1.1",
        "If-Match is strong",
        [
            Step(ok(cache_control=HOUR, vary="x", etag='W/"w"'), asked=1),
            Step(fields={"If-Match": 'W/"w"'}, asked=0, status=412),
        ],
    ),
    (
        "9110 13.1.4",
        "If-Unmodified-Since fails",
        [
            Step(
                ok(cache_control=HOUR, vary="x", last_modified="Tue, 14 Nov 2023 22:13:20 GMT"),
                asked=1,
            ),
            Step(
                fields={"If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, asked=0, status=412
            ),
        ],
    ),
    (
        "9110 13.2.1",
        "a 404 stays a 404",
        [
            Step(of(404, cache_control=HOUR, etag=TAG), asked=1),
            Step(fields={"If-None-Match": TAG, "If-Match": '"x"'}, asked=0, status=404),
        ],
    ),
    (
        "9111 4.3.3",
        "another answer replaces it",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(ok(cache_control=HOUR, vary="x", etag='"two"'), wait=5, asked=1),
            Step(asked=0, has={"etag": '"two"'}),
        ],
    ),
    (
        "9111 4.3.3",
        "also one that is not stored",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(ok(cache_control="private"), wait=5, asked=1),
            Step("down", status=502),
        ],
    ),
    (
        "9111 4.3.4",
        "a 304 makes it fresh",
        [
            Step(ok(cache_control="max-age=9", vary="x", etag=TAG), asked=1),
            Step(of(304), wait=10, asked=1),
            Step(asked=0, wait=8),
        ],
    ),
    (
        "9111 4.3.4",
        "for as long as it says",
        [
            Step(ok(cache_control="max-age=9", vary="x", etag=TAG), asked=1),
            Step(of(304, cache_control="max-age=100"), wait=10, asked=1),
            Step(asked=0, wait=90, has={"cache-control": "max-age=100"}),
        ],
    ),
    (
        "9111 3.2",
        "fields of a 304 replace",
        [
            Step(ok(cache_control="max-age=9", vary="x", etag=TAG, x_a="1", x_b="1"), asked=1),
            Step(of(304, x_a="2"), wait=10, has={"x-a": "2", "x-b": "1"}),
            Step(asked=0, has={"x-a": "2", "x-b": "1"}),
        ],
    ),
    (
        "9111 3.2",
        "but not those of the body",
        [
            Step(ok(cache_control="max-age=9", vary="x", etag=TAG, content_encoding="br"), asked=1),
            Step(of(304, content_encoding="gzip"), wait=10),
            Step(asked=0, has={"content-encoding": "br", "content-type": "text/plain"}),
        ],
    ),
    (
        "9111 4.3.4",
        "of another version it confirms nothing",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(of(304, etag='"two"'), wait=5, status=502),
        ],
    ),
    (
        "9111 4.3.4",
        "that says no-store keeps nothing",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(of(304, cache_control="no-store"), wait=5, asked=1, status=200, body=BODY),
            Step(ok(cache_control=HOUR, vary="x"), asked=1, not_sent=("if-none-match",)),
        ],
    ),
    (
        "9111 4.3.4",
        "Set-Cookie of a 304 is nobody's",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(of(304, set_cookie="a=b"), wait=5, lacks=("set-cookie",)),
            Step(lacks=("set-cookie",)),
        ],
    ),
    (
        "9111 4.3.5",
        "HEAD is answered from a GET",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(
                method="HEAD", asked=0, status=200, body=b"", has={"content-length": str(len(BODY))}
            ),
        ],
    ),
    (
        "9111 4",
        "a miss of HEAD is asked with GET and stored",
        [
            Step(ok(cache_control=HOUR, vary="x"), method="HEAD", asked=1, body=b""),
            Step(asked=0, body=BODY),
        ],
    ),
    # --- 4.4 invalidation
    *(
        (
            "9111 4.4",
            f"{method} {status}",
            [
                Step(ok(cache_control=HOUR, vary="x"), asked=1),
                Step(of(status), method=method, asked=1, status=status),
                Step(ok(cache_control=HOUR), asked=1 if status < 400 else 0),
            ],
        )
        for method, status in (
            ("POST", 200),
            ("POST", 201),
            ("POST", 204),
            ("POST", 303),
            ("PUT", 200),
            ("PUT", 204),
            ("DELETE", 200),
            ("DELETE", 204),
            ("PATCH", 200),
            ("POST", 400),
            ("POST", 404),
            ("POST", 500),
            ("DELETE", 403),
            ("PUT", 503),
        )
    ),
    (
        "9111 4.4",
        "of an original, too",
        [
            Step(ok(cache_control=HOUR), asked=1),
            Step(of(204), method="DELETE", asked=1),
            Step(ok(cache_control=HOUR), asked=1),
        ],
    ),
    (
        "9111 4.4",
        "OPTIONS is safe",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(of(204), method="OPTIONS", asked=1),
            Step(asked=0),
        ],
    ),
    (
        "9111 4.4",
        "Location of the same origin",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(of(201, location="TARGET"), method="POST", target="/other", asked=1),
            Step(ok(cache_control=HOUR), asked=1),
        ],
    ),
    (
        "9111 4.4",
        "Content-Location of the same origin",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(of(200, content_location="TARGET"), method="PUT", target="/other", asked=1),
            Step(ok(cache_control=HOUR), asked=1),
        ],
    ),
    (
        "9111 4.4",
        "Location elsewhere",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(
                of(201, location="http://elsewhere.exampleTARGET"),
                method="POST",
                target="/other",
                asked=1,
            ),
            Step(asked=0),
        ],
    ),
    (
        "9111 4.4",
        "Location of an error",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(of(409, location="TARGET"), method="POST", target="/other", asked=1),
            Step(asked=0),
        ],
    ),
    # --- 5.2.1 directives of requests
    *(
        (
            "9111 5.2.1",
            f"{control} is advice",
            [
                Step(ok(cache_control=HOUR, vary="x"), asked=1),
                Step(fields={"Cache-Control": control}, wait=10, asked=0),
            ],
        )
        for control in (
            "no-cache",
            "max-age=0",
            "max-age=259200",
            "min-fresh=9999",
            "max-stale=0",
            "no-transform",
        )
    ),
    (
        "9111 5.2.1.2",
        "max-stale serves nothing stale",
        [
            Step(ok(cache_control="max-age=1", vary="x"), asked=1),
            Step(fields={"Cache-Control": "max-stale=100"}, wait=5, asked=1),
        ],
    ),
    (
        "9111 5.2.1.5",
        "no-store",
        [
            Step(ok(cache_control=HOUR), fields={"Cache-Control": "no-store"}, asked=1),
            Step(asked=1),
        ],
    ),
    (
        "9111 5.2.1.5",
        "no-store may be answered from what is there",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Cache-Control": "no-store"}, asked=0),
        ],
    ),
    (
        "9111 5.2.1.5",
        "no-store of something that varies",
        [
            Step(ok(cache_control=HOUR, vary="x"), fields={"Cache-Control": "no-store"}, asked=1),
            Step(asked=1),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, and it is not",
        [
            Step(
                ok(cache_control=HOUR),
                fields={"Cache-Control": "only-if-cached"},
                asked=0,
                status=504,
            )
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, and it is",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Cache-Control": "only-if-cached"}, asked=0, status=200),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, an original",
        [
            Step(ok(cache_control=HOUR), asked=1),
            Step(fields={"Cache-Control": "only-if-cached"}, asked=0, status=200),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, another variant",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Cache-Control": "only-if-cached", "X": "1"}, asked=0, status=504),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, stale",
        [
            Step(ok(cache_control="max-age=1", vary="x"), asked=1),
            Step(fields={"Cache-Control": "only-if-cached"}, wait=5, asked=0, status=504),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, a derivative of what is not here",
        [
            Step(PICTURE, fields=KEPT_ONLY, target="TARGET?w=40", asked=0, status=504),
            Step(target="TARGET?w=40", asked=1, status=200),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, a derivative that is not here of an original that is",
        [
            Step(PICTURE, asked=1),
            Step(fields=KEPT_ONLY, target="TARGET?w=40", asked=0, status=504),
            Step(fields=KEPT_ONLY, asked=0, status=200),
            Step(
                fields=KEPT_ONLY,
                method="HEAD",
                target="TARGET?w=40",
                asked=0,
                status=504,
                has={"cache-status": "edge1; fwd=miss; detail=only-if-cached"},
            ),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, a derivative that is here",
        [
            Step(PICTURE, target="TARGET?w=40", asked=1),
            Step(fields=KEPT_ONLY, target="TARGET?w=40", asked=0, status=200),
            Step(fields=KEPT_ONLY, target="TARGET?w=80", asked=0, status=504),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, a derivative of what is stale",
        [
            Step(ok(cache_control="max-age=5", content_type="image/jpeg"), target="TARGET?w=40"),
            Step(fields=KEPT_ONLY, target="TARGET?w=40", wait=9, asked=0, status=504),
            Step(target="TARGET?w=40", asked=1, status=200),
        ],
    ),
    (
        "9111 5.2.1.7",
        "only-if-cached, a derivative of what may not be stored",
        [
            Step(ok(cache_control="private", content_type="image/jpeg"), target="TARGET?w=40"),
            Step(fields=KEPT_ONLY, target="TARGET?w=40", asked=0, status=504),
        ],
    ),
    (
        "9111 5.4",
        "Pragma: no-cache of a request is advice",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Pragma": "no-cache"}, asked=0),
        ],
    ),
    # --- 5.2.2 directives of responses
    ("9111 5.2.2.1", "max-age=0", twice(ok(cache_control="max-age=0"), MISS)),
    (
        "9111 5.2.2.2",
        "must-revalidate while fresh",
        twice(ok(cache_control="max-age=60, must-revalidate", vary="x"), HIT),
    ),
    (
        "9111 5.2.2.3",
        "must-understand, understood",
        twice(ok(cache_control="max-age=60, must-understand, no-store", vary="x"), HIT),
    ),
    (
        "9111 5.2.2.3",
        "must-understand, not understood",
        twice(of(299, cache_control="max-age=60, must-understand, no-store"), MISS),
    ),
    (
        "9111 5.2.2.4",
        "no-cache is validated",
        [
            Step(ok(cache_control="no-cache", vary="x", etag=TAG), asked=1),
            Step(of(304), asked=1, status=200, body=BODY, sent={"if-none-match": TAG}),
        ],
    ),
    (
        "9111 5.2.2.4",
        "no-cache beats max-age",
        twice(ok(cache_control="no-cache, max-age=60", vary="x"), MISS),
    ),
    *(
        (
            "9111 5.2.2.4",
            f"{control} is for who asked{', and it varies' if vary else ''}",
            [
                Step(
                    ok(
                        cache_control=f"{control}, {HOUR}",
                        x_a="1",
                        x_b="2",
                        set_cookie="s=1",
                        **vary,
                    ),
                    asked=1,
                    has={"x-a": "1", "x-b": "2", "set-cookie": "s=1"},
                ),
                Step(asked=0, has={"x-b": "2"}, lacks=("x-a", "set-cookie"), body=BODY),
                Step(
                    asked=0,
                    method="HEAD",
                    has={"cache-control": f"{control}, {HOUR}"},
                    lacks=("x-a", "set-cookie"),
                ),
            ],
        )
        for control in (
            'no-cache="x-a, Set-Cookie"',
            'private="X-A,set-cookie"',
            'private="set-cookie", no-cache=x-a',
        )
        for vary in ({}, {"vary": "x"})
    ),
    (
        "9111 5.2.2.4",
        "no-cache with names is no no-cache",
        twice(ok(cache_control='no-cache="x-a", max-age=60'), {"asked": 0, "wait": 59}),
    ),
    (
        "9111 5.2.2.4",
        "nor does it forbid to be stale",
        [
            Step(ok(cache_control='no-cache="x-a", max-age=1', vary="x", x_a="1"), asked=1),
            Step("down", wait=5, status=200, lacks=("x-a",)),
        ],
    ),
    (
        "9111 5.2.2.4",
        "a 304 brings them for who asked",
        [
            Step(
                ok(cache_control='no-cache="x-a", max-age=9', vary="x", etag=TAG, x_a="1"), asked=1
            ),
            Step(of(304, x_a="2", x_b="3"), wait=10, asked=1, has={"x-a": "2", "x-b": "3"}),
            Step(asked=0, has={"x-b": "3"}, lacks=("x-a",)),
        ],
    ),
    (
        "9111 5.2.2.4",
        "a 304 that names them takes them away",
        [
            Step(ok(cache_control="max-age=9", vary="x", etag=TAG, x_a="1"), asked=1),
            Step(asked=0, has={"x-a": "1"}),
            Step(of(304, cache_control='private="x-a", max-age=9'), wait=10, asked=1),
            Step(asked=0, lacks=("x-a",)),
        ],
    ),
    (
        "9111 5.2.2.4",
        "Set-Cookie of who asked, also where it is told that nothing has changed",
        [
            Step(
                ok(cache_control=f'private="set-cookie", {HOUR}', etag=TAG, set_cookie="s=1"),
                fields={"If-None-Match": TAG},
                asked=1,
                status=304,
                has={"set-cookie": "s=1"},
            ),
            Step(fields={"If-None-Match": TAG}, asked=0, status=304, lacks=("set-cookie",)),
        ],
    ),
    (
        "9111 5.2.2.7",
        "Set-Cookie that nobody names is nobody else's",
        twice(ok(cache_control=f'private="x-a", {HOUR}', set_cookie="s=1", x_a="1"), MISS),
    ),
    *(
        (
            "9111 5.2.2.7",
            f"{control!a} is taken whole",
            twice(ok(cache_control=f"{control}, max-age=60", x_a="1", **vary), MISS),
        )
        for control in (
            'no-cache=""',
            'private=""',
            'private="x a"',
            'private="x-a',
            "private=",
            'no-cache="x-a"b',
            'private="x-a, cache-control"',
            'no-cache="Vary"',
            'private="content-encoding"',
            'private="x-a", private',
        )
        for vary in ({}, {"vary": "x"})
    ),
    (
        "9213 2.2",
        "names in CDN-Cache-Control",
        [
            Step(
                ok(
                    cdn_cache_control='max-age=60, private="x-a"', cache_control="no-store", x_a="1"
                ),
                asked=1,
                has={"x-a": "1"},
            ),
            Step(asked=0, lacks=("x-a",)),
        ],
    ),
    ("9111 5.2.2.5", "no-store", twice(ok(cache_control="no-store"), MISS)),
    (
        "9111 5.2.2.5",
        "no-store beats max-age",
        twice(ok(cache_control="max-age=60, no-store"), MISS),
    ),
    ("9111 5.2.2.7", "private", twice(ok(cache_control="private"), MISS)),
    ("9111 5.2.2.7", "private beats max-age", twice(ok(cache_control="private, max-age=60"), MISS)),
    (
        "9111 5.2.2.7",
        "private beats public",
        twice(ok(cache_control="private, public, max-age=60"), MISS),
    ),
    (
        "9111 5.2.2.9",
        "public and a heuristic",
        twice(of(299, cache_control="public", last_modified=OLD), HIT),
    ),
    ("9111 5.2.2.10", "s-maxage=0", twice(ok(cache_control="s-maxage=0, max-age=60"), MISS)),
    (
        "9111 5.4",
        "Pragma without Cache-Control",
        twice(ok(pragma="no-cache", expires="DATE+60"), MISS),
    ),
    (
        "9111 5.4",
        "Pragma beside Cache-Control",
        twice(ok(pragma="no-cache", cache_control=HOUR), HIT),
    ),
    (
        "9111 5.5",
        "Warning is not read, nor sent on",
        [
            Step(
                ok(cache_control=HOUR, vary="x", warning='110 - "old"'), asked=1, lacks=("warning",)
            ),
            Step(asked=0, lacks=("warning",)),
        ],
    ),
    (
        "9111 7.3",
        "Set-Cookie is never stored",
        [
            Step(ok(cache_control=HOUR, set_cookie="a=b"), asked=1, has={"set-cookie": "a=b"}),
            Step(asked=1),
        ],
    ),
    (
        "9111 7.3",
        "Set-Cookie of a redirect",
        twice(of(302, cache_control=HOUR, set_cookie="a=b"), MISS),
    ),
    (
        "9111 7.3",
        "Set-Cookie beside public",
        twice(ok(cache_control=f"public, {HOUR}", set_cookie="a=b"), MISS),
    ),
    ("9111 7.3", "Cookie and a guess", twice(ok(last_modified=OLD), MISS, fields=COOKIE)),
    ("9111 7.3", "Cookie and a promise", twice(ok(cache_control=HOUR), HIT, fields=COOKIE)),
    # --- RFC 9213
    (
        "9213 2.2",
        "CDN-Cache-Control decides",
        twice(ok(cache_control="no-store", cdn_cache_control="max-age=60"), HIT),
    ),
    (
        "9213 2.2",
        "also to the contrary",
        twice(ok(cache_control=HOUR, cdn_cache_control="no-store"), MISS),
    ),
    ("9213 2.2", "empty is as if absent", twice(ok(cache_control=HOUR, cdn_cache_control=""), HIT)),
    (
        "9213 2.2",
        "not to be parsed is as if absent",
        twice(ok(cache_control=HOUR, cdn_cache_control="max-age=60,,;"), HIT),
    ),
    (
        "9213 2.1",
        "a value of a wrong type is ignored",
        twice(ok(cache_control=HOUR, cdn_cache_control='max-age="60"'), MISS),
    ),
    (
        "9213 2.2",
        "Expires has no say then",
        twice(ok(expires="DATE+600", cdn_cache_control="max-age=5"), {"asked": 1, "wait": 6}),
    ),
    ("9213 2.2", "private in it", twice(ok(cache_control=HOUR, cdn_cache_control="private"), MISS)),
    (
        "9213 3.1",
        "it is not passed on",
        [
            Step(
                ok(cdn_cache_control="max-age=60", vary="x"), asked=1, lacks=("cdn-cache-control",)
            ),
            Step(asked=0, lacks=("cdn-cache-control",)),
        ],
    ),
    (
        "edge-arch",
        "Surrogate-Control decides",
        twice(ok(cache_control="no-store", surrogate_control="max-age=60"), HIT),
    ),
    (
        "edge-arch",
        "for another surrogate",
        twice(ok(cache_control="no-store", surrogate_control="max-age=60;elsewhere"), MISS),
    ),
    (
        "edge-arch",
        "for us",
        twice(ok(cache_control=HOUR, surrogate_control="no-store;halftone"), MISS),
    ),
    (
        "edge-arch",
        "it is not passed on",
        [
            Step(
                ok(surrogate_control="max-age=60", vary="x", surrogate_key="k"),
                asked=1,
                lacks=("surrogate-control", "surrogate-key"),
            ),
            Step(asked=0, lacks=("surrogate-control", "surrogate-key")),
        ],
    ),
    # --- RFC 5861
    (
        "5861 3",
        "stale-while-revalidate",
        [
            Step(ok(cache_control="max-age=1, stale-while-revalidate=60", vary="x"), asked=1),
            Step(
                wait=5,
                asked=1,
                status=200,
                has={"cache-status": "edge1; hit; ttl=-4; detail=stale-while-revalidate"},
            ),
            Step(asked=0),
        ],
    ),
    (
        "5861 3",
        "after its end",
        [
            Step(ok(cache_control="max-age=1, stale-while-revalidate=6", vary="x"), asked=1),
            Step(wait=8, asked=1, has={"age": "0"}),
        ],
    ),
    (
        "5861 3",
        "must-revalidate wins",
        [
            Step(
                ok(cache_control="max-age=1, stale-while-revalidate=60, must-revalidate", vary="x"),
                asked=1,
            ),
            Step(wait=5, asked=1, has={"age": "0"}),
        ],
    ),
    *(
        (
            "5861 4",
            f"stale-if-error and {status}",
            [
                Step(ok(cache_control="max-age=1, stale-if-error=60", vary="x"), asked=1),
                Step(
                    of(status),
                    wait=5,
                    asked=1,
                    status=200,
                    body=BODY,
                    has={"cache-status": "edge1; hit; ttl=-4; detail=stale-if-error", "age": "5"},
                ),
                Step(asked=0, status=200),  # the origin is left alone for a while
            ],
        )
        for status in (500, 502, 503, 504)
    ),
    (
        "5861 4",
        "stale-if-error and no answer",
        [
            Step(ok(cache_control="max-age=1, stale-if-error=60", vary="x"), asked=1),
            Step("down", wait=5, status=200, body=BODY),
            Step(asked=0),
        ],
    ),
    (
        "5861 4",
        "stale-if-error and 404",
        [
            Step(ok(cache_control="max-age=1, stale-if-error=60", vary="x"), asked=1),
            Step(of(404), wait=5, asked=1, status=404),
        ],
    ),
    (
        "5861 4",
        "after its end",
        [
            Step(ok(cache_control="max-age=1, stale-if-error=6", vary="x"), asked=1),
            Step("down", wait=8, status=502),
        ],
    ),
    (
        "5861 4",
        "beside s-maxage the particular statement is followed",
        [
            Step(ok(cache_control="s-maxage=1, stale-if-error=60", vary="x"), asked=1),
            Step("down", wait=5, status=200),
        ],
    ),
    (
        "5861 4",
        "also of a redirect, where it says so",
        [
            Step(of(301, cache_control="max-age=1, stale-if-error=60"), asked=1),
            Step("down", wait=5, status=301),
        ],
    ),
    # --- RFC 9211
    (
        "9211 2.1",
        "hit",
        twice(
            of(301, cache_control="max-age=60"),
            {"has": {"cache-status": "edge1; hit; ttl=60; detail=shared"}},
        ),
    ),
    (
        "9211 2.4",
        "ttl",
        twice(
            of(301, cache_control="max-age=60"),
            {"wait": 20, "has": {"cache-status": "edge1; hit; ttl=40; detail=shared"}},
        ),
    ),
    (
        "9211 2.2",
        "uri-miss, stored",
        [
            Step(
                of(301, cache_control=HOUR),
                has={"cache-status": "edge1; fwd=uri-miss; fwd-status=301; stored; detail=shared"},
            ),
        ],
    ),
    (
        "9211 2.2",
        "vary-miss",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(
                fields={"X": "1"},
                has={"cache-status": "edge1; fwd=vary-miss; fwd-status=200; stored; detail=shared"},
            ),
        ],
    ),
    (
        "9211 2.2",
        "stale",
        [
            Step(ok(cache_control="max-age=1", vary="x", etag=TAG), asked=1),
            Step(
                of(304),
                wait=5,
                has={"cache-status": "edge1; fwd=stale; fwd-status=304; stored; detail=shared"},
            ),
        ],
    ),
    (
        "9211 2.2",
        "method",
        [
            Step(
                of(200),
                method="POST",
                has={"cache-status": "edge1; fwd=method; fwd-status=200; detail=method"},
            ),
        ],
    ),
    (
        "9211 2.8",
        "why it is not stored",
        [
            Step(
                ok(cache_control="private"),
                has={"cache-status": "edge1; fwd=uri-miss; fwd-status=200; detail=private"},
            ),
        ],
    ),
    # --- RFC 9110: forwarding
    (
        "9110 7.6.1",
        "Connection and what it names",
        [
            Step(
                ok(),
                fields={"Connection": "X-Hop, close", "X-Hop": "1", "Keep-Alive": "1"},
                not_sent=("connection", "x-hop", "keep-alive"),
            ),
        ],
    ),
    (
        "9110 7.6.1",
        "what Connection names chooses nothing",
        [
            Step(ok(cache_control=HOUR, vary="x-hop"), fields={"X-Hop": "1"}, asked=1),
            Step(fields={"X-Hop": "1", "Connection": "x-hop"}, asked=1, not_sent=("x-hop",)),
        ],
    ),
    ("9110 10.1.4", "TE", [Step(ok(), fields={"TE": "trailers"}, not_sent=("te",))]),
    (
        "9110 7.8",
        "Upgrade",
        [
            Step(
                ok(),
                fields={"Upgrade": "websocket", "Connection": "upgrade"},
                not_sent=("upgrade",),
            )
        ],
    ),
    (
        "9110 11.7",
        "Proxy-Authorization",
        [
            Step(
                ok(),
                fields={"Proxy-Authorization": "Basic eDp5"},
                not_sent=("proxy-authorization",),
            ),
        ],
    ),
    (
        "9110 7.6.3",
        "Via is appended",
        [
            Step(ok(), fields={"Via": "1.0 squid"}, sent={"via": "1.0 squid, 1.1 edge1"}),
        ],
    ),
    (
        "9110 7.6.3",
        "Via of an answer",
        [
            Step(
                ok(via="1.1 behind", cache_control=HOUR, vary="x"),
                has={"via": "1.1 behind, 1.1 edge1"},
            ),
            Step(asked=0, has={"via": "1.1 behind, 1.1 edge1"}),
        ],
    ),
    (
        "9110 7.6.3",
        "our own Via is a loop",
        [Step(ok(), fields={"Via": "1.1 squid (a, b), 1.1 edge1"}, asked=0, status=508)],
    ),
    (
        "9110 7.6.3",
        "a name that begins like ours is not",
        [Step(ok(), fields={"Via": "1.1 edge12, 1.1 (edge1)"}, asked=1, status=200)],
    ),
    (
        "8586 2",
        "CDN-Loop is appended",
        [
            Step(
                ok(), fields={"CDN-Loop": "other"}, sent={"cdn-loop": "other, halftone;node=edge1"}
            ),
        ],
    ),
    (
        "8586 2",
        "our own is a loop",
        [Step(ok(), fields={"CDN-Loop": "other, halftone; node=edge1"}, asked=0, status=508)],
    ),
    (
        "8586 2",
        "another node of ours is none",
        [Step(ok(), fields={"CDN-Loop": "halftone;node=edge2"}, asked=1, status=200)],
    ),
    (
        "8586 2",
        "a loop of a POST",
        [
            Step(
                ok(), method="POST", fields={"CDN-Loop": "halftone;node=edge1"}, asked=0, status=508
            )
        ],
    ),
    (
        "9110 14.2",
        "Range is served from the whole",
        [
            Step(
                ok(cache_control=HOUR, vary="x"),
                fields={"Range": "bytes=0-3"},
                asked=1,
                status=206,
                body=BODY[:4],
                not_sent=("range",),
            ),
            Step(asked=0, status=200, body=BODY),
        ],
    ),
    (
        "9110 14.2",
        "a suffix",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Range": "bytes=-4"}, asked=0, status=206, body=BODY[-4:]),
        ],
    ),
    (
        "9110 15.5.17",
        "no satisfiable range",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(
                fields={"Range": "bytes=999-"},
                asked=0,
                status=416,
                has={"content-range": f"bytes */{len(BODY)}"},
            ),
        ],
    ),
    (
        "9110 14.2",
        "of a 404 there is no range",
        [
            Step(of(404, cache_control=HOUR), asked=1),
            Step(fields={"Range": "bytes=0-3"}, asked=0, status=404, body=BODY),
        ],
    ),
    (
        "9110 13.1.5",
        "If-Range with another tag",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(
                fields={"Range": "bytes=0-3", "If-Range": '"two"'}, asked=0, status=200, body=BODY
            ),
        ],
    ),
    (
        "9110 13.1.5",
        "If-Range with its tag",
        [
            Step(ok(cache_control=HOUR, vary="x", etag=TAG), asked=1),
            Step(fields={"Range": "bytes=0-3", "If-Range": TAG}, asked=0, status=206),
        ],
    ),
    (
        "9110 7.6.2",
        "Max-Forwards: 0 of OPTIONS",
        [
            Step(of(200), method="OPTIONS", fields={"Max-Forwards": "0"}, asked=0, status=204),
        ],
    ),
    (
        "9110 7.6.2",
        "Max-Forwards is counted down",
        [
            Step(
                of(200), method="OPTIONS", fields={"Max-Forwards": "7"}, sent={"max-forwards": "6"}
            ),
        ],
    ),
    ("9110 9.3.8", "TRACE is not passed", [Step(ok(), method="TRACE", asked=0, status=405)]),
    (
        "9111 4.3.3",
        "an error that is handed on replaces nothing",
        [
            Step(ok(cache_control="max-age=1, must-revalidate", vary="x", etag=TAG), asked=1),
            Step(of(500), wait=5, asked=1, status=500),
            Step(of(304), asked=1, status=200, body=BODY, sent={"if-none-match": TAG}),
        ],
    ),
    # --- what is ours: nothing unseen chooses an answer
    *(
        (
            "9111 7.1",
            f"{name} is not put to the origin",
            [Step(ok(), fields={name: "evil.example"}, not_sent=(name.lower(),))],
        )
        for name in ("X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "Proxy")
    ),
    (
        "9111 7.1",
        "X-Forwarded-For of who is not trusted",
        [Step(ok(), fields={"X-Forwarded-For": "10.0.0.1"}, sent={"x-forwarded-for": "192.0.2.7"})],
    ),
    (
        "9111 4",
        "end-to-end fields go on",
        [
            Step(
                ok(),
                fields={"User-Agent": "x", "Accept": "a/b", "Accept-Language": "de", **COOKIE},
                sent={"user-agent": "x", "accept": "a/b", "accept-language": "de", "cookie": "a=1"},
            ),
        ],
    ),
    (
        "9111 4",
        "hit-for-miss: preconditions go on, and a 304 comes back",
        [
            Step(ok(cache_control="private", etag=TAG), asked=1),
            Step(
                of(304, etag=TAG),
                fields={"If-None-Match": TAG},
                asked=1,
                status=304,
                sent={"if-none-match": TAG},
            ),
        ],
    ),
    (
        "9111 4",
        "hit-for-miss: HEAD is put as HEAD",
        [
            Step(ok(cache_control="private"), asked=1),
            Step(method="HEAD", asked=1, body=b""),
        ],
    ),
    (
        "9111 4",
        "hit-for-miss ends with an answer that is stored",
        [
            Step(ok(cache_control="private"), asked=1),
            Step(ok(cache_control=HOUR), asked=1),
            Step(),  # where nothing was prepared for storing, this is the one that is stored
            Step(asked=0),
        ],
    ),
]


def test_there_are_enough():
    assert len(ROWS) >= 150
    assert all(section for section, _, _ in ROWS)


@pytest.fixture(scope="module", params=[True, False], ids=["docroot", "bare"])
def bench(request, tmp_path_factory) -> Iterator[tuple[asyncio.Runner, SharedNode]]:
    with asyncio.Runner() as runner:

        async def make() -> SharedNode:
            folder = tmp_path_factory.mktemp("shared")
            made = SharedNode(folder, has_docroot=request.param)
            await made.start()
            return made

        node = runner.run(make())
        yield runner, node
        runner.run(node.stop())


def _dated(node: SharedNode, text: str) -> str:
    if not text.startswith("DATE"):
        return text
    return node.date(int(text[4:]))


def _reply(node: SharedNode, says: Any, target: str) -> Any:
    if says == "down":
        return refused
    if callable(says):
        return says
    status, headers = says
    headers = {name: _dated(node, text).replace("TARGET", target) for name, text in headers.items()}

    def answer(_: OriginRequest) -> Told:
        return said(status=status, headers=headers)

    return answer


async def _walk(node: SharedNode, own: str, steps: list[Step]) -> None:
    for number, step in enumerate(steps):
        node.later(step.wait)
        if step.says is not None:
            node.origin.say = _reply(node, step.says, own)
        before = len(node.origin.asked)
        target = step.target.replace("TARGET", own) or own
        fields = {name: _dated(node, text) for name, text in step.fields.items()}
        reply = await node.ask(target, fields, step.method)
        await node.rest()
        where = f"step {number}: {reply}"
        if step.asked is not None:
            assert len(node.origin.asked) - before == step.asked, where
        if step.status is not None:
            assert reply.status == step.status, where
        if step.body is not None:
            assert reply.body == step.body, where
        for name, text in step.has.items():
            assert reply.fields.get(name) == text, where
        for name in step.lacks:
            assert name not in reply.fields, where
        assert "cache-status" in reply.fields or step.method == "OPTIONS", where
        if step.sent or step.not_sent:
            sent = node.origin.fields
            assert step.sent.items() <= sent.items(), (where, sent)
            assert not set(step.not_sent) & sent.keys(), (where, sent)


@pytest.mark.parametrize(
    ("number", "steps"),
    [
        pytest.param(number, steps, id=f"{section}: {name}")
        for number, (section, name, steps) in enumerate(ROWS)
    ],
)
def test_rule(bench, number, steps):
    runner, node = bench
    runner.run(_walk(node, f"/row/{number}", steps))
