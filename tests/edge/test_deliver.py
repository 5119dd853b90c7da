"""From a representation to a response: status, fields and body as they go out."""

import dataclasses
import os

import pytest

from edge.clock import Clock
from edge.deliver import Deliverer
from edge.errors import REFUSALS, NotFound
from edge.http.body import Descriptor, FileSlice
from edge.http.messages import Request, Response
from edge.representation import Facts, Representation
from resizer.errors import QueueFull

NOW = 1_700_000_000
BODY = bytes(range(100))
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
FACTS = Facts("public, max-age=60", "edge1; hit; ttl=60; detail=memory")
CLOCK = Clock(lambda: NOW, lambda: 0.0)


def deliverer() -> Deliverer:
    return Deliverer(CLOCK, "boundary", "edge1")


def request(method: bytes = b"GET", **fields: str) -> Request:
    named = {name.replace("_", "-").encode(): text.encode() for name, text in fields.items()}
    return Request(method, b"/a.jpg", 1, named, b"host", True)


def slice_of(data: bytes) -> FileSlice:
    fd = os.memfd_create("test")
    os.write(fd, b"head" + data)
    return FileSlice(Descriptor(fd), 4, 4 + len(data))


def representation(*, modified: int = 784111777, in_file: bool = False) -> Representation:
    return Representation(
        validator="v",
        etag='"e"',
        last_modified=modified,
        media_type="image/jpeg",
        body=slice_of(BODY) if in_file else BODY,
        fields=(("Content-Disposition", "inline"),),
    )


def fields_of(response: Response) -> dict[str, str]:
    lines = response.head.decode("latin-1").split("\r\n")
    assert lines[0].split(" ")[1] == str(response.status)
    assert lines[-1] == ""
    named = [line.split(": ", 1) for line in lines[1:-1]]
    assert len({name for name, _ in named}) == len(named), "a field is there twice"
    return {name.lower(): text for name, text in named}


def body_of(response: Response) -> bytes:
    parts = [
        part if isinstance(part, bytes) else os.pread(part.file.fd, len(part), part.start)
        for part in response.body
    ]
    assert sum(map(len, parts)) == response.length
    return b"".join(parts)


ASKED = [
    # request, status, body
    (request(), 200, BODY),
    (request(b"HEAD"), 200, b""),
    (request(if_none_match='"e"'), 304, b""),
    (request(b"HEAD", if_none_match='W/"e"'), 304, b""),
    (request(if_modified_since=LONG_AGO), 304, b""),
    (request(if_none_match='"x"', if_modified_since=LONG_AGO), 200, BODY),
    (request(if_match='"x"'), 412, b""),
    (request(if_match='"x"', if_none_match='"e"', range="bytes=0-0"), 412, b""),
    (request(range="bytes=0-9"), 206, BODY[:10]),
    (request(range="bytes=-1"), 206, BODY[-1:]),
    (request(range="bytes=100-"), 416, b""),
    (request(range="bytes=0-9", if_range='"e"'), 206, BODY[:10]),
    (request(range="bytes=0-9", if_range='"x"'), 200, BODY),
    (request(range="bytes=0-9", if_range='W/"e"'), 200, BODY),
    (request(range="bytes=0-9", if_none_match='"e"'), 304, b""),
    (request(b"HEAD", range="bytes=0-9"), 200, b""),
    (request(range="lines=0-9"), 200, BODY),
]


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("asked", "status", "body"), ASKED)
def test_preconditions_then_range(asked, status, body, in_file):
    response = deliverer().deliver(asked, representation(in_file=in_file), FACTS, cache="HIT")
    assert (response.status, body_of(response)) == (status, body)
    fields = fields_of(response)
    assert fields["etag"] == '"e"'
    assert fields["last-modified"] == LONG_AGO
    assert fields["cache-status"] == FACTS.cache_status
    # An answer to one client's fields is nobody else's.
    kept = "no-store" if status in (412, 416) else FACTS.cache_control
    assert fields["cache-control"] == kept
    if status == 200:
        assert fields["content-length"] == "100"
    if status == 304:
        assert "content-length" not in fields
    if status == 416:
        assert fields["content-range"] == "bytes */100"


def test_several_ranges():
    asked = request(range="bytes=0-1,90-91")
    response = deliverer().deliver(asked, representation(), FACTS, cache="HIT")
    body = body_of(response)
    assert fields_of(response)["content-type"] == "multipart/byteranges; boundary=boundary"
    assert body.count(b"--boundary\r\n") == 2
    assert body.endswith(b"--boundary--\r\n")
    for piece in (BODY[:2], BODY[90:92]):
        assert b"\r\n\r\n" + piece + b"\r\n" in body


def test_a_file_of_tomorrow_is_not_modified_after_now():
    response = deliverer().deliver(
        request(), representation(modified=NOW + 99_999), FACTS, cache="HIT"
    )
    fields = fields_of(response)
    assert fields["last-modified"] == fields["date"]


def test_age_and_via_tell_of_an_origin():
    facts = Facts("max-age=10", "edge1; hit; ttl=-5; detail=stale-if-error", 65, "render;dur=1")
    fields = fields_of(deliverer().deliver(request(), representation(), facts, cache="HIT"))
    assert (fields["age"], fields["via"]) == ("65", "1.1 edge1")
    assert fields["server-timing"] == "render;dur=1"
    fields = fields_of(deliverer().deliver(request(), representation(), FACTS, cache="HIT"))
    assert not {"age", "via", "server-timing"} & fields.keys()


def test_a_head_made_in_this_second_is_used_again_and_only_then():
    second = NOW
    clock = Clock(lambda: second, lambda: 0.0)
    made = Deliverer(clock, "b", "edge1")
    one = representation()
    assert made.deliver_ready(request(), one, "") is None
    made.make_ready(one, FACTS)
    ready = made.deliver_ready(request(), one, "")
    assert ready is not None
    assert ready.head == made.deliver(request(), one, FACTS, cache="HIT").head
    assert body_of(made.deliver_ready(request(b"HEAD"), one, "")) == b""
    for name in ("range", "if_none_match", "if_match", "if_modified_since", "if_unmodified_since"):
        assert made.deliver_ready(request(**{name: "x"}), one, "") is None
    second += 1
    clock.tick()
    assert made.deliver_ready(request(), one, "") is None


def test_who_negotiated_gets_no_head_of_one_who_did_not_and_the_other_way_round():
    made = deliverer()
    one = representation()
    varying = dataclasses.replace(FACTS, vary="Vary: Accept\r\n")
    for facts, other in ((FACTS, varying), (varying, FACTS), (FACTS, varying)):
        made.make_ready(one, facts)
        assert made.deliver_ready(request(), one, other.vary) is None
        ready = made.deliver_ready(request(), one, facts.vary)
        assert ready is not None
        assert ("vary" in fields_of(ready)) is bool(facts.vary)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"if_none_match": "*"}, 304),
        ({"if_match": '"x"'}, 412),
        ({"range": "bytes=0-0"}, 206),
        ({"range": "bytes=999999-"}, 416),
    ],
)
def test_every_status_says_what_it_was_chosen_by(fields, status):
    facts = dataclasses.replace(FACTS, vary="Vary: Accept\r\n")
    for method in (b"GET", b"HEAD"):
        response = deliverer().deliver(request(method, **fields), representation(), facts, cache="")
        assert fields_of(response)["vary"] == "Accept"
        if method == b"GET":
            assert response.status == status


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("status", [200, 204, 302, 404, 403, 599])
def test_what_is_passed_on(method, status):
    body = slice_of(b"" if status == 204 else b"body")
    own = (("location", "/x"), ("set-cookie", "a=b"))
    response = deliverer().pass_on(request(method), status, own, body, "edge1; fwd=uri-miss")
    fields = fields_of(response)
    assert fields["location"] == "/x"
    assert fields["via"] == "1.1 edge1"
    # RFC 9110 section 8.6: none in a 204.
    assert fields.get("content-length") == (None if status == 204 else "4")
    assert body_of(response) == (b"body" if method == b"GET" and status != 204 else b"")


def test_refusals():
    for kind, status in ((NotFound, 404), (QueueFull, 503)):
        for method in (b"GET", b"HEAD"):
            response = deliverer().refuse(
                request(method), REFUSALS[kind], "0123", "edge1; fwd=miss", retry_after_s=2
            )
            fields = fields_of(response)
            assert response.status == status
            assert fields["cache-control"] == "no-store"
            assert fields.get("retry-after") == ("2" if status == 503 else None)
            assert fields["x-request-id"] == "0123"
            body = body_of(response)
            assert (b"(request 0123)" in body) == (method == b"GET")
            assert int(fields["content-length"]) == len(body) or method == b"HEAD"
    assert deliverer().refuse(None, REFUSALS[NotFound], "1", "x", close=True).close


def test_redirect_and_options():
    response = deliverer().redirect("/thumb/a.jpg/250px-a.jpg", "edge1; fwd=bypass; detail=step")
    assert fields_of(response)["location"] == "/thumb/a.jpg/250px-a.jpg"
    assert "content-length" not in fields_of(deliverer().options("GET"))
