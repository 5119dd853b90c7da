"""What one client, or an origin that is careless, could make of an answer that others get.

Rows as in test_shared_cache.py.
"""

from collections.abc import Callable
from typing import Any

import pytest

from edge.origin.errors import OriginTruncated
from edge.origin.messages import OriginRequest
from tests.edge.shared_bench import BODY, said
from tests.edge.test_record import Answer as Told
from tests.edge.test_shared_cache import AUTH, COOKIE, HOUR, OLD, TAG, Step, _walk, bench, of, ok

assert bench  # a fixture

LONG = b"0123456789" * 100
ODD_CLIENT = {**AUTH, "If-Match": '"no such"', "Range": "bytes=999999-"}
SHORT = "max-age=1"


class BrokenOff(Told):
    async def read(self) -> bytes:
        if not self.pieces:
            raise OriginTruncated("gone")
        return await super().read()


def confirming(confirmation: dict[str, str], whole: dict[str, str]) -> Callable[..., Told]:
    """304 to a precondition, and 200 to who has none."""

    def answer(request: OriginRequest) -> Told:
        names = {name for name, _ in request.headers}
        if names & {"if-none-match", "if-modified-since"}:
            return said(status=304, headers=confirmation)
        return said(headers=whole)

    return answer


def cut(headers: dict[str, str]) -> Callable[..., Told]:
    """It breaks off in the middle."""

    def answer(_: OriginRequest) -> Told:
        told = said(headers=headers)
        return BrokenOff(told.headers, content_length=len(BODY), pieces=[BODY[:5]])

    return answer


def long(**headers: str) -> Callable[..., Told]:
    fields = ok(**headers)[1]
    type_ = fields.pop("content-type", None)

    def answer(_: OriginRequest) -> Told:
        told = said(LONG, headers=fields)
        pairs = [pair for pair in told.headers if pair[0] != "content-type"]
        if type_ is not None:
            pairs.append(("content-type", type_))
        return Told(tuple(pairs), content_length=len(LONG), pieces=[LONG])

    return answer


ROWS: list[tuple[str, str, list[Step]]] = [
    # --- what is said of one request is nobody else's answer
    *(
        (
            section,
            f"{status} to a client's own fields is not stored",
            [
                Step(
                    of(status, cache_control=f"public, {HOUR}"),
                    fields=ODD_CLIENT,
                    asked=1,
                    status=status,
                ),
                Step(ok(cache_control=HOUR), asked=1, status=200),
                Step(asked=0),
            ],
        )
        for section, status in (
            ("9110 15.5.1", 400),
            ("9110 15.5.9", 408),
            ("9110 15.5.13", 412),
            ("9110 15.5.14", 413),
            ("9110 15.5.17", 416),
            ("9110 15.5.18", 417),
            ("9110 15.5.20", 421),
            ("6585 3", 428),
            ("6585 4", 429),
            ("6585 5", 431),
            ("6585 6", 511),
        )
    ),
    *(
        (
            section,
            f"{status} is not stored beside variants",
            [
                Step(ok(cache_control=HOUR, vary="x-a"), asked=1),
                Step(
                    of(status, cache_control=HOUR, vary="x-a"),
                    fields={"x-a": "1"},
                    asked=1,
                    status=status,
                ),
                Step(ok(cache_control=HOUR, vary="x-a"), fields={"x-a": "1"}, asked=1, status=200),
            ],
        )
        for section, status in (("6585 4", 429), ("6585 5", 431), ("6585 6", 511))
    ),
    *(
        (
            "9111 4.2.2",
            f"a Cookie keeps nothing, and ends nothing that others have{name}",
            [
                Step(ok(last_modified=OLD, **vary), fields=COOKIE, asked=1),
                Step(asked=1),
                Step(asked=0),
                Step(ok(last_modified=OLD, **vary), fields=COOKIE, wait=90_000, asked=1),
                Step("down", status=200, body=BODY),
            ],
        )
        for name, vary in ((": an original", {}), (": a variant", {"vary": "x"}))
    ),
    (
        "9111 4.2.4",
        "and what was stored may still stand in for a failing origin",
        [
            Step(ok(cache_control=f"{SHORT}, stale-if-error=99", vary="x"), asked=1),
            Step(of(431), wait=5, status=431),
            Step("down", status=200, body=BODY),
        ],
    ),
    *(
        (
            "9111 7.1",
            f"{name} is not put to the origin",
            [Step(ok(), fields={name: "evil.example"}, not_sent=(name.lower(),))],
        )
        for name in (
            "X-Forwarded-Scheme",
            "X-Forwarded-Ssl",
            "X-Forwarded-Path",
            "X-Forwarded",
            "X-Original-Host",
            "X-Original-URI",
            "X-HTTP-Method",
            "X-Method-Override",
            "Front-End-Https",
            "CF-Visitor",
            # as a script would spell it, another field
            "X_Forwarded_Host",
            "X.Forwarded_Host",
            "X_Original_URL",
            "If_None_Match",
            "X_HTTP_Method_Override",
            "Cache_Control",
            "Transfer_Encoding",
            "X_Forwarded_For",
        )
    ),
    (
        "9110 5.1",
        "a name with an underscore that nobody could mistake goes on",
        [Step(ok(), fields={"X_Own": "1"}, sent={"x_own": "1"})],
    ),
    # --- 304
    (
        "9111 4.1",
        "a 304 that adds a name to Vary chooses anew",
        [
            Step(ok(cache_control=SHORT, vary="x-a", etag=TAG), asked=1),
            Step(
                confirming(
                    {"cache-control": HOUR, "vary": "x-a, x-b"},
                    {"cache-control": HOUR, "vary": "x-a, x-b"},
                ),
                wait=5,
                asked=2,
                status=200,
                body=BODY,
            ),
            Step(asked=0),
            Step(fields={"x-b": "1"}, asked=1),
        ],
    ),
    (
        "9111 4.1",
        "a 304 with Vary: * confirms nothing",
        [
            Step(ok(cache_control=SHORT, vary="x-a", etag=TAG), asked=1),
            Step(
                confirming(
                    {"cache-control": HOUR, "vary": "*"}, {"cache-control": HOUR, "vary": "*"}
                ),
                wait=5,
                status=200,
            ),
            Step(asked=1),
        ],
    ),
    (
        "9111 4.1",
        "a 304 with Vary of what was everybody's original",
        [
            Step(ok(cache_control=SHORT, etag=TAG), asked=1),
            Step(
                confirming(
                    {"cache-control": HOUR, "vary": "x-b"}, {"cache-control": HOUR, "vary": "x-b"}
                ),
                wait=5,
                asked=2,
                status=200,
                body=BODY,
            ),
            Step(fields={"x-b": "1"}, asked=1),
        ],
    ),
    (
        "9111 4.1",
        "Vary: Accept-Encoding of a 304 is nothing new",
        [
            Step(ok(cache_control=SHORT, etag=TAG), asked=1),
            Step(of(304, cache_control=HOUR, vary="Accept-Encoding"), wait=5, asked=1, status=200),
            Step(asked=0),
        ],
    ),
    *(
        (
            "9111 4.3.4",
            f"of another version: the whole is asked for{name}",
            [
                Step(ok(cache_control=SHORT, etag=TAG, **vary), asked=1),
                Step(
                    confirming(
                        {"cache-control": HOUR, "etag": '"two"'},
                        {"cache-control": HOUR, "etag": '"two"', **vary},
                    ),
                    wait=5,
                    asked=2,
                    status=200,
                    has={"etag": '"two"'},
                ),
                Step(asked=0, has={"etag": '"two"'}),
            ],
        )
        for name, vary in ((" of an original", {}), (" of a variant", {"vary": "x"}))
    ),
    *(
        (
            "9110 15.4.5",
            f"304 to no precondition{name}",
            [
                Step(ok(cache_control=f"{SHORT}, must-revalidate", **vary), asked=1),
                Step(of(304, cache_control=HOUR), wait=5, asked=1, status=502),
            ],
        )
        for name, vary in ((" of an original", {}), (" of a variant", {"vary": "x"}))
    ),
    (
        "9110 15.4.5",
        "304 to no precondition, of another variant",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(of(304, cache_control=HOUR), fields={"x": "1"}, asked=1, status=502),
        ],
    ),
    (
        "9110 15.4.5",
        "304 to no precondition, hit-for-miss",
        [
            Step(ok(cache_control="private"), asked=1),
            Step(of(304), asked=1, status=502),
            Step(of(304), fields={"If-None-Match": TAG}, asked=1, status=304),
        ],
    ),
    (
        "9110 15.3.7",
        "206 to no Range, of a variant",
        [
            Step(ok(cache_control=f"{SHORT}, must-revalidate", vary="x"), asked=1),
            Step(
                of(206, cache_control=HOUR, content_range="bytes 0-1/9"),
                fields={"Range": "bytes=0-1"},
                wait=5,
                status=502,
            ),
        ],
    ),
    (
        "9110 15.3.7",
        "206 to no Range, hit-for-miss",
        [
            Step(ok(cache_control="private"), asked=1),
            Step(of(206, content_range="bytes 0-1/9"), asked=1, status=502),
            Step(
                of(206, content_range="bytes 0-1/9"),
                fields={"Range": "bytes=0-1"},
                asked=1,
                status=206,
            ),
        ],
    ),
    (
        "5861 4",
        "206 to no Range is a failure that what is stored stands in for",
        [
            Step(ok(cache_control=SHORT, vary="x"), asked=1),
            Step(of(206, content_range="bytes 0-1/9"), wait=5, asked=1, status=200, body=BODY),
        ],
    ),
    (
        "5861 4",
        "and so is a body that breaks off before any of it was sent",
        [
            Step(ok(cache_control=f"{SHORT}, stale-if-error=99", vary="x"), asked=1),
            Step(cut({"cache-control": HOUR, "vary": "x"}), wait=5, status=200, body=BODY),
            Step(asked=0, status=200),
        ],
    ),
    (
        "9111 5.2.2.2",
        "not under must-revalidate",
        [
            Step(ok(cache_control=f"{SHORT}, must-revalidate", vary="x"), asked=1),
            Step(cut({"cache-control": HOUR, "vary": "x"}), wait=5, status=502),
        ],
    ),
    (
        "9111 3.2",
        "a 304 need not say again what is told to us alone",
        [
            Step(
                ok(cache_control="no-store", cdn_cache_control="max-age=9", vary="x", etag=TAG),
                asked=1,
                lacks=("cdn-cache-control",),
            ),
            Step(of(304), wait=10, asked=1, lacks=("cdn-cache-control",)),
            Step(asked=0, has={"cache-control": "no-store"}, lacks=("cdn-cache-control",)),
        ],
    ),
    (
        "9111 4.3.4",
        "Surrogate-Control: no-store of a 304 keeps nothing",
        [
            Step(ok(cache_control=SHORT, vary="x", etag=TAG, last_modified=OLD), asked=1),
            Step(of(304, surrogate_control="no-store"), wait=5, asked=1),
            Step(ok(cache_control=HOUR, vary="x"), asked=1, not_sent=("if-none-match",)),
        ],
    ),
    # --- what others behind us are told
    *(
        (
            "9111 5.1",
            f"Age of what is handed on{name}",
            [
                Step(ok(cache_control="max-age=60", vary="*", age="50, 3"), has={"age": "50"}),
                Step(asked=1, has={"age": "50"}, method=method),
                Step(ok(cache_control="max-age=60", vary="*", age="-1"), lacks=("age",)),
            ],
        )
        for name, method in (("", "GET"), (" to HEAD", "HEAD"))
    ),
    *(
        (
            "9213 2.2",
            f"{control} stays forbidden to others when it is sent stale",
            [
                Step(
                    ok(
                        cache_control=control,
                        cdn_cache_control="max-age=9, stale-if-error=99",
                        vary="x",
                    ),
                    asked=1,
                ),
                Step("down", wait=20, status=200, has={"cache-control": control}),
            ],
        )
        for control in ("no-store", "private, max-age=60", "no-cache", "max-age=0, must-revalidate")
    ),
    # --- ranges of what is stored
    *(
        (
            "9110 15.3.7.2",
            f"parts of {type_!a}{name} cannot be labelled: the whole",
            [
                Step(long(cache_control=HOUR, content_type=type_, **vary), asked=1),
                Step(fields={"Range": "bytes=0-0,900-900"}, asked=0, status=200, body=LONG),
                Step(fields={"Range": "bytes=1-2"}, asked=0, status=206, body=LONG[1:3]),
            ],
        )
        for name, vary in ((" of an original", {}), (" of a variant", {"vary": "x"}))
        for type_ in ("text", "", 'text/html; t="\xe9"')
    ),
    (
        "9110 15.3.7.2",
        "parts of no type at all: the whole",
        [
            Step(long(cache_control=HOUR, vary="x"), asked=1),
            Step(fields={"Range": "bytes=0-0,900-900"}, asked=0, status=200, body=LONG),
        ],
    ),
    (
        "9530 2",
        "a digest of the whole content is none of a part's",
        [
            Step(
                ok(
                    cache_control=HOUR,
                    vary="x",
                    content_digest="sha-256=:aGk=:",
                    content_range="bytes 5-6/7",
                ),
                asked=1,
            ),
            Step(
                fields={"Range": "bytes=0-1"},
                asked=0,
                status=206,
                has={"content-range": f"bytes 0-1/{len(BODY)}"},
                lacks=("content-digest",),
            ),
            Step(asked=0, status=200, has={"content-digest": "sha-256=:aGk=:"}),
        ],
    ),
    (
        "9110 13.1.5",
        "If-Range by a date that nothing has",
        [
            Step(ok(cache_control=HOUR, vary="x"), asked=1),
            Step(
                fields={"Range": "bytes=0-1", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"},
                asked=0,
                status=200,
            ),
        ],
    ),
    *(
        (
            "9110 8.8.2.2",
            f"a date within the second in which its origin sent it is weak{name}",
            [
                Step(ok(cache_control=HOUR, last_modified="DATE+0", **vary), asked=1),
                Step(
                    fields={"Range": "bytes=0-1", "If-Range": "DATE-9"},
                    wait=9,
                    asked=0,
                    status=200,
                ),
            ],
        )
        for name, vary in ((", of an original", {}), (", of a variant", {"vary": "x"}))
    ),
    *(
        (
            "9110 8.8.2.2",
            f"an older one is strong{name}",
            [
                Step(ok(cache_control=HOUR, last_modified="DATE-1", **vary), asked=1),
                Step(
                    fields={"Range": "bytes=0-1", "If-Range": "DATE-10"},
                    wait=9,
                    asked=0,
                    status=206,
                ),
            ],
        )
        for name, vary in ((", of an original", {}), (", of a variant", {"vary": "x"}))
    ),
]


@pytest.mark.parametrize(
    ("number", "steps"),
    [
        pytest.param(number, steps, id=f"{section}: {name}")
        for number, (section, name, steps) in enumerate(ROWS)
    ],
)
def test_rule(bench: Any, number: int, steps: list[Step]):
    runner, node = bench
    runner.run(_walk(node, f"/abuse/{number}", steps))
