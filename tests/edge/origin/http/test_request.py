"""Heads of requests to HTTP/1.1 origins: ours and nothing else."""

import dataclasses

import pytest

from edge.origin.errors import UnsendableRequest
from edge.origin.http.request import MAX_HEAD_BYTES, build_head
from tests.edge.origin.asking import GET, HEAD, POST

START = "GET /a/b.jpg?v=1 HTTP/1.1\r\nHost: img.example.org:8080\r\n"


def head(request=GET, *, is_kept=True, **changes):
    return build_head(
        dataclasses.replace(request, **changes), is_kept=is_kept, host=request.host
    ).decode("latin-1")


class Unread:
    def __len__(self):
        return 7

    async def read(self, size, offset):
        raise AssertionError


def test_heads():
    assert head() == START + "Accept: image/*\r\n\r\n"
    assert head(is_kept=False) == START + "Accept: image/*\r\nConnection: close\r\n\r\n"
    assert head(HEAD).startswith("HEAD /a/b.jpg?v=1 HTTP/1.1\r\n")
    # RFC 9110 section 8.6
    assert (
        head(POST) == START.replace("GET", "POST") + "Accept: image/*\r\nContent-Length: 3\r\n\r\n"
    )
    assert "Content-Length: 0\r\n" in head(POST, body=b"")
    assert "Content-Length: 7\r\n" in head(POST, body=Unread())
    assert "Content-Length" not in head(method="DELETE")


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        # order, spelling and repetition stay
        ([("X-b", "1"), ("a", "2"), ("X-B", "\xe9")], ["X-b: 1", "a: 2", "X-B: \xe9"]),
        ([("via", "1.1 edge1"), ("cdn-loop", "halftone")], ["via: 1.1 edge1",
         "cdn-loop: halftone"]),
        ([("Accept-Encoding", "gzip")], ["Accept-Encoding: gzip"]),
        # of one connection, ours, or named by Connection
        ([("Host", "evil"), ("Content-Length", "99"), ("Expect", "100-continue"), ("TE",
         "trailers"),
          ("Transfer-Encoding", "chunked"), ("Keep-Alive", "5"), ("Upgrade", "h2c")], []),
        ([("Connection", "close, X-Secret"), ("x-secret", "1"), ("y", "2")], ["y: 2"]),
    ],
)  # fmt: skip
def test_fields(fields, kept):
    lines = head(headers=tuple(fields)).removeprefix(START).removesuffix("\r\n\r\n").split("\r\n")
    assert [line for line in lines if line] == kept


def test_too_large():
    with pytest.raises(UnsendableRequest):
        head(headers=(("X", "a" * MAX_HEAD_BYTES),))


@pytest.mark.parametrize("name", ["target", "host", "method"])
@pytest.mark.parametrize("text", ["/a b", "/a\r\nX: 1", "/a\nb", "/\x00", "/é"])
def test_no_request_can_hold_what_would_split_it(name, text):
    with pytest.raises(UnsendableRequest):
        dataclasses.replace(GET, **{name: text})
