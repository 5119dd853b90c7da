"""When a transfer may go on, what is asked for, and what is the rest of it."""

import dataclasses

import pytest

from edge.origin.messages import Headers
from edge.origin.resumption import Resumption, maybe_resumption
from tests.edge.origin.asking import GET, HEAD, POST

RANGES = ("accept-ranges", "bytes")
TAG = ("etag", '"a"')


@dataclasses.dataclass
class Head:
    """Of an OriginResponse; nobody reads its body."""

    status: int = 200
    headers: Headers = (RANGES, TAG)
    content_length: int | None = 1000
    local_redirect: str | None = None
    controls: Headers = ()
    is_cacheable: bool = True

    async def read(self) -> bytes:
        raise AssertionError

    async def aclose(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Head(), Resumption('"a"', 1000)),
        (Head(headers=(TAG, ("accept-ranges", "none, Bytes"))), Resumption('"a"', 1000)),
        (Head(headers=(TAG, RANGES, ("content-encoding", "gzip"))),
         Resumption('"a"', 1000, ("gzip",))),
        (Head(headers=(RANGES, ("etag", '"\xff,W/"'))), Resumption('"\xff,W/"', 1000)),
        (Head(headers=(RANGES, ("etag", '""'))), Resumption('""', 1000)),
        # may not
        (Head(headers=(RANGES, ("etag", 'W/"a"'))), None),
        (Head(headers=(RANGES, ("etag", "a"))), None),
        (Head(headers=(RANGES, ("etag", '"a", "b"'))), None),
        (Head(headers=(RANGES, TAG, TAG)), None),
        (Head(headers=(RANGES,)), None),
        (Head(headers=(TAG,)), None),
        (Head(headers=(TAG, ("accept-ranges", "none"))), None),
        (Head(headers=(TAG, ("accept-ranges", "lines, kilobytes"))), None),
        (Head(content_length=None), None),
        (Head(content_length=0), None),
        (Head(206), None),
        (Head(404), None),
    ],
)  # fmt: skip
def test_when(head: Head, expected: Resumption | None) -> None:
    assert maybe_resumption(GET, head) == expected
    assert maybe_resumption(HEAD, head) is None
    assert maybe_resumption(POST, head) is None


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ((), ()),
        ((("Host", "x"), ("Accept-Encoding", "identity")),
         (("Host", "x"), ("Accept-Encoding", "identity"))),
        ((("If-None-Match", '"z"'), ("if-modified-since", "x"), ("IF-MATCH", "*"), ("via", "1.1 x"),
          ("If-Unmodified-Since", "x"), ("Range", "bytes=0-1"), ("If-Range", '"z"')),
         (("via", "1.1 x"),)),
    ],
)  # fmt: skip
def test_what_is_asked_for(headers: Headers, kept: Headers) -> None:
    first = dataclasses.replace(GET, headers=headers)
    rest = Resumption('"a"', 1000).rest_from(first, 600)
    own = (("Range", "bytes=600-"), ("If-Range", '"a"'), ("If-Match", '"a"'))
    assert rest == dataclasses.replace(first, headers=(*kept, *own))


def part(told: str = "bytes 600-999/1000", **changes: object) -> Head:
    head = Head(206, (TAG, ("content-range", told)), 400)
    return dataclasses.replace(head, **changes)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (part(), ""),
        (part(content_length=None), ""),  # in chunks
        (part(headers=(TAG, RANGES, ("content-range", "bytes 600-999/1000"))), ""),
        # another answer
        (Head(), "status 200"),
        (Head(412), "status 412"),
        (Head(416), "status 416"),
        (Head(304), "status 304"),
        (Head(500), "status 500"),
        # other bytes
        (part("bytes 0-999/1000"), "for bytes 600 to the end"),
        (part("bytes 599-999/1000"), "for bytes 600"),
        (part("bytes 601-999/1000"), "for bytes 600"),
        (part("bytes 600-998/1000"), "for bytes 600"),
        (part("bytes 600-998/999"), "for bytes 600"),
        (part("bytes 600-999/1001"), "for bytes 600"),
        (part("bytes 600-999/*"), "for bytes 600"),
        (part("bytes 0600-999/1000"), "for bytes 600"),
        (part("bytes 600-999"), "for bytes 600"),
        (part("lines 600-999/1000"), "for bytes 600"),
        (part("bytes */1000"), "for bytes 600"),
        (part(headers=(TAG,)), "Content-Range ''"),  # multipart/byteranges
        (part(headers=(TAG, *[("content-range", "bytes 600-999/1000")] * 2)), "Content-Range"),
        (part(content_length=399), "Content-Length 399"),
        (part(content_length=1000), "Content-Length 1000"),
        # another version, or none that is told
        (part(headers=(("etag", '"b"'), ("content-range", "bytes 600-999/1000"))), "ETag"),
        (part(headers=(("etag", 'W/"a"'), ("content-range", "bytes 600-999/1000"))), "ETag"),
        (part(headers=(TAG, TAG, ("content-range", "bytes 600-999/1000"))), "ETag"),
        (part(headers=(("content-range", "bytes 600-999/1000"),)), "ETag"),
        (part(headers=(TAG, ("content-encoding", "gzip"), ("content-range", "bytes 600-999/1000"))),
         "Content-Encoding"),
    ],
)  # fmt: skip
def test_what_is_the_rest(head: Head, fault: str) -> None:
    told = Resumption('"a"', 1000).fault_of(head, 600)
    assert fault in told
    assert bool(fault) == bool(told)
    assert told.isprintable()
