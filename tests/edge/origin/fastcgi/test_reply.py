import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.origin.errors import OriginBroken, OriginError, OriginTruncated
from edge.origin.fastcgi.reply import MAX_FIELDS, MAX_HEAD_BYTES, ReplyHead, ReplyParser

JPEG = ("content-type", "image/jpeg")
T = b"Content-Type: image/jpeg\n"

HEADS = [
    # usual
    (b"Status: 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", ReplyHead(200, (JPEG,))),
    (T + b"\n", ReplyHead(200, (JPEG,))),
    (b"Status: 404 Not Found\n" + T + b"\n", ReplyHead(404, (JPEG,))),
    (T + b"Content-Length: 4\n\n", ReplyHead(200, (JPEG,), 4)),
    (b'Status: 304\r\nETag: "a"\r\n\r\n', ReplyHead(304, (("etag", '"a"'),))),
    # edge: line ends mixed, empty values, spaces, repeated fields, latin-1
    (b"Content-Type:image/jpeg\r\nX-A:\nx-a: \t b \t\r\n\r\n",
     ReplyHead(200, (JPEG, ("x-a", ""), ("x-a", "b")))),
    (b"STATUS: 599\n" + T + b"\n", ReplyHead(599, (JPEG,))),
    (T + b"X: caf\xe9\n\n", ReplyHead(200, (JPEG, ("x", "caf\xe9")))),
    (b"Content-Length: 0\n\n", ReplyHead(200, (), 0)),
    # redirects
    (b"Location: https://a/b\n\n", ReplyHead(302, (("location", "https://a/b"),))),
    (b"Location: //evil/b\n\n", ReplyHead(302, (("location", "//evil/b"),))),
    (b"Status: 301\nLocation: /b\n\n", ReplyHead(301, (("location", "/b"),))),
    (b"Location: /b?c=1\n\n", ReplyHead(200, (), 0, local_redirect="/b?c=1")),
    (b"Location: /b\n" + T + b"\n", ReplyHead(302, (("location", "/b"), JPEG))),
    # NPH
    (b"HTTP/1.1 404 Not Found\r\n" + T + b"\n", ReplyHead(404, (JPEG,))),
    (b"HTTP/1.0 200\n" + T + b"\n", ReplyHead(200, (JPEG,))),
    # hop-by-hop, and what Connection names
    (b"Connection: close, X-B\nX-B: 1\nKeep-Alive: 5\nTransfer-Encoding: chunked\n" + T + b"\n",
     ReplyHead(200, (JPEG,))),
    # a length without a body
    (b"Status: 204\nContent-Length: 5\n\n", ReplyHead(204, ())),
    (b"Status: 304\nContent-Length: 5\n\n", ReplyHead(304, (), 5)),
    # commands to us
    (b"X-Sendfile: /srv/a.jpg\n\n", ReplyHead(200, (), controls=(("x-sendfile", "/srv/a.jpg"),))),
    (b"X-Accel-Redirect: /i\n" + T + b"\n",
     ReplyHead(200, (JPEG,), controls=(("x-accel-redirect", "/i"),))),
]  # fmt: skip

BROKEN = [
    b"\n",
    b"\r\n\r\n",
    b"X: y\n\n",  # no Content-Type
    b"Status: 999\n" + T + b"\n",
    b"Status: 600\n" + T + b"\n",
    b"Status: 101\n" + T + b"\n",
    b"Status: 100\n" + T + b"\n",
    b"Status: 20\n" + T + b"\n",
    b"Status: 2000\n" + T + b"\n",
    b"Status: +20\n" + T + b"\n",
    b"Status: \xb2\xb2\xb2\n" + T + b"\n",
    b"Status: 200OK\n" + T + b"\n",
    b"Status:\n" + T + b"\n",
    b"Status: 200\nStatus: 404\n" + T + b"\n",
    b"HTTP/1.1 200 OK\nStatus: 404\n" + T + b"\n",
    b"HTTP/2 200\n" + T + b"\n",
    T + b"HTTP/1.1 200 OK\n\n",  # not the first line
    T + b"X: a\rb\n\n",
    T + b"X: a\r\r\n\n",
    T + b"X: a\0b\n\n",
    T + b"X: a\x1bb\n\n",
    T + b"X: a\x7f\n\n",
    T + b"no colon\n\n",
    T + b": no name\n\n",
    T + b"sp ace: 1\n\n",
    T + b"X : 1\n\n",
    T + b" folded\n\n",
    T + b"X: 1\n\tfolded\n\n",
    T + b"caf\xe9: 1\n\n",
    T + T + b"\n",
    T + b"Content-Length: 1\nContent-Length: 1\n\n",
    *(T + b"Content-Length: " + bad + b"\n\n"
      for bad in (b"", b"-1", b"+1", b"1_0", b"0x1", b"1 1", b"1,1", b"\xb2", b"9" * 19)),
    b"Location: a\nLocation: b\n\n",
    T + b"X: y\n" * MAX_FIELDS + b"\n",
    T + b"X: " + b"y" * MAX_HEAD_BYTES + b"\n\n",
    b"<b>Warning</b>: something\n\n",
]  # fmt: skip


def parse(pieces: list[bytes], *, is_head: bool = False) -> tuple[ReplyParser, bytes]:
    parser = ReplyParser(is_head=is_head)
    return parser, b"".join(parser.receive_data(piece) for piece in pieces)


def single(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


@pytest.mark.parametrize(("block", "head"), HEADS, ids=lambda case: str(case)[:40])
def test_heads(block: bytes, head: ReplyHead) -> None:
    for pieces in ([block], single(block)):
        parser, body = parse(pieces)
        assert parser.head == head
        assert body == b""
        assert not parser.has_excess
    parser, body = parse([block + b"\nabc"])
    length = 0 if head.is_bodiless else head.content_length
    assert body == b"\nabc"[:length]
    assert parse([block[:-1]])[0].head is None


@pytest.mark.parametrize("block", BROKEN, ids=lambda block: str(block)[:40])
def test_broken(block: bytes) -> None:
    for pieces in ([block], single(block), [block + b"body"]):
        with pytest.raises(OriginBroken):
            parse(pieces)


@pytest.mark.parametrize("block", [b"", b"X: y", T, T + b"\r", b"\0" * 100, b"body only"])
def test_eof_before_the_head(block: bytes) -> None:
    parser, _ = parse([block])
    with pytest.raises(OriginBroken):
        parser.receive_eof()


def test_a_block_without_end_is_bounded() -> None:
    parser = ReplyParser()
    with pytest.raises(OriginBroken):
        for _ in range(2 * MAX_HEAD_BYTES // 10):
            parser.receive_data(b"X: 345678\n")


# (Content-Length, HEAD, status, sent) -> (body, excess, truncated)
BODIES = [
    (None, False, 200, b"", b"", False, False),
    (None, False, 200, b"abc", b"abc", False, False),
    (3, False, 200, b"abc", b"abc", False, False),
    (3, False, 200, b"ab", b"ab", False, True),
    (3, False, 200, b"", b"", False, True),
    (3, False, 200, b"abcd", b"abc", True, False),
    (0, False, 200, b"a", b"", True, False),
    (3, True, 200, b"", b"", False, False),
    (3, True, 200, b"abcd", b"", False, False),
    (3, False, 304, b"", b"", False, False),
    (None, False, 204, b"abc", b"", False, False),
]


@pytest.mark.parametrize(
    ("length", "is_head", "status", "sent", "body", "excess", "truncated"), BODIES
)
def test_body_accounting(
    length: int | None,
    is_head: bool,
    status: int,
    sent: bytes,
    body: bytes,
    excess: bool,
    truncated: bool,
) -> None:
    block = T + b"Status: %d\n" % status
    if length is not None:
        block += b"Content-Length: %d\n" % length
    wire = block + b"\n" + sent
    for pieces in ([wire], single(wire)):
        parser, found = parse(pieces, is_head=is_head)
        assert (found, parser.has_excess) == (body, excess)
        if truncated:
            with pytest.raises(OriginTruncated):
                parser.receive_eof()
        else:
            parser.receive_eof()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_cut_anywhere_give_one_outcome(data: bytes, cuts: list[int]) -> None:
    data = T + data
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]

    def outcome(pieces: list[bytes]) -> object:
        try:
            parser, body = parse(pieces)
        except OriginError as failed:
            return type(failed)
        return parser.head, body, parser.has_excess

    assert outcome(pieces) == outcome([data])
