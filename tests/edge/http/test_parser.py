"""Request heads: what is taken, what is refused with which status, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.parser import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
    RequestParser,
)

HOST = b"Host: pics.example\r\n"


def head(line: bytes, *fields: bytes) -> bytes:
    return line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def parse(*pieces: bytes) -> tuple[list[tuple[bytes, ...]], int | None]:
    """(method, target, authority, close or keep) of each request, and the status of an error."""
    parser = RequestParser()
    for piece in pieces:
        parser.receive_data(piece)
    found = [
        (r.method, r.target, r.authority, b"keep" if r.keep_alive else b"close")
        for r in parser.requests
    ]
    return found, parser.error.status if parser.error else None


TAKEN = [
    # usual
    (head(b"GET /a.jpg HTTP/1.1", b"Host: a"), (b"GET", b"/a.jpg", b"a", b"keep")),
    (head(b"HEAD / HTTP/1.1", b"Host: a:8080"), (b"HEAD", b"/", b"a:8080", b"keep")),
    (head(b"GET /a?w=1&h=%20 HTTP/1.1", b"host:a"), (b"GET", b"/a?w=1&h=%20", b"a", b"keep")),
    (head(b"GET / HTTP/1.1", b"Host: [::1]:80"), (b"GET", b"/", b"[::1]:80", b"keep")),
    # HTTP/1.0 (RFC 9112 section 9.3)
    (head(b"GET / HTTP/1.0"), (b"GET", b"/", b"", b"close")),
    (head(b"GET / HTTP/1.0", b"Connection: keep-alive"), (b"GET", b"/", b"", b"keep")),
    (head(b"GET / HTTP/1.0", b"Connection: Keep-Alive, X"), (b"GET", b"/", b"", b"keep")),
    # Connection options in any case and place
    (head(b"GET / HTTP/1.1", b"Host: a", b"Connection: x, CLOSE"), (b"GET", b"/", b"a", b"close")),
    (
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: keep-alive", b"Connection: close"),
        (b"GET", b"/", b"a", b"close"),
    ),
    # absolute form: its authority replaces Host (section 3.2.2)
    (head(b"GET http://b/x?y HTTP/1.1", b"Host: a"), (b"GET", b"/x?y", b"b", b"keep")),
    (head(b"GET HTTP://b HTTP/1.1", b"Host: a"), (b"GET", b"/", b"b", b"keep")),
    (head(b"GET http://b?q HTTP/1.1", b"Host: a"), (b"GET", b"/?q", b"b", b"keep")),
    # the rest of section 2.2 and 3
    (b"\r\n" + head(b"GET / HTTP/1.1", b"Host: a"), (b"GET", b"/", b"a", b"keep")),
    (head(b"OPTIONS * HTTP/1.1", b"Host: a"), (b"OPTIONS", b"*", b"a", b"keep")),
    (head(b"PURGE /a HTTP/1.1", b"Host: a"), (b"PURGE", b"/a", b"a", b"keep")),
    (head(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 0"), (b"GET", b"/", b"a", b"keep")),
    # a protocol that we do not switch to (RFC 9110 section 7.8)
    (
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: upgrade", b"Upgrade: h2c"),
        (b"GET", b"/", b"a", b"keep"),
    ),
]

REFUSED = [
    # version
    (head(b"GET / HTTP/1.2", b"Host: a"), 505),
    (head(b"GET / HTTP/2.0", b"Host: a"), 505),
    (head(b"GET / HTTP/1.32", b"Host: a"), 505),
    (head(b"GET /", b"Host: a"), 505),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 501),  # a TLS hello on a plain port
    # Host (section 3.2)
    (head(b"GET / HTTP/1.1"), 400),
    (head(b"GET / HTTP/1.1", b"Host: a", b"Host: a"), 400),
    (head(b"GET / HTTP/1.1", b"Host: a", b"host: b"), 400),
    (head(b"GET / HTTP/1.1", b"Host: a/b"), 400),
    (head(b"GET / HTTP/1.1", b"Host: a@b"), 400),
    (head(b"GET / HTTP/1.1", b"Host: a b"), 400),
    (head(b"OPTIONS * HTTP/1.1", b"Host: a /b"), 400),
    # also where an absolute target stands for it: its line may be met again without (familiar.py)
    (head(b"GET http://b/x HTTP/1.1", b"Host: a/b"), 400),
    (head(b"GET http://b/x HTTP/1.1", b"Host: u@a"), 400),
    # target
    (head(b"GET /a#b HTTP/1.1", b"Host: a"), 400),
    (head(b"GET /a\\b HTTP/1.1", b"Host: a"), 400),
    (head(b"GET /\xe4 HTTP/1.1", b"Host: a"), 400),
    (head(b"GET /a b HTTP/1.1", b"Host: a"), 400),
    (head(b"GET * HTTP/1.1", b"Host: a"), 400),
    (head(b"GET ftp://b/x HTTP/1.1", b"Host: a"), 400),
    (head(b"GET http:///x HTTP/1.1", b"Host: a"), 400),
    (head(b"GET http://u@b/x HTTP/1.1", b"Host: a"), 400),
    (head(b"GET a.jpg HTTP/1.1", b"Host: a"), 400),
    (head(b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1", b"Host: a"), 414),
    # methods
    (head(b"BAN / HTTP/1.1", b"Host: a"), 501),
    (head(b"GET / HTTP/1.1", b"Host: a", b"Expect: 200-ok"), 417),
    (head(b"GET / HTTP/1.1", b"Host: a", b"Expect: 100-continue", b"Expect: more"), 417),
    (head(b"get / HTTP/1.1", b"Host: a"), 501),
    (head(b"CONNECT a:80 HTTP/1.1", b"Host: a"), 501),
    # framing: whoever may be a smuggler is one (section 6)
    (head(b"GET / HTTP/1.1", HOST.strip(), b"Content-Length: 5"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: 5, 5"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: 5", b"Content-Length: 5"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: +5"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: 0x5"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: 1_0"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: -1"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length:"), 400),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Content-Length: " + b"9" * 19), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"Transfer-Encoding: chunked"), 400),
    (head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"), 400),
    (
        head(b"POST / HTTP/1.1", HOST.strip(), b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        400,
    ),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Transfer-Encoding: gzip, chunked"), 501),
    (head(b"POST / HTTP/1.1", HOST.strip(), b"Transfer-Encoding: xchunked"), 501),
    # lines
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X : a"), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X: a", b" b"), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X: a\x00b"), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X: a\rb"), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X: a\x01b"), 400),
    (head(b"GET / HTTP/1.1", HOST.strip(), b": a"), 400),
    (head(b"GET / HTTP/1.1", b" Host: a"), 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    # sizes
    (head(b"GET / HTTP/1.1", HOST.strip(), *[b"X: a"] * MAX_FIELDS), 431),
    (head(b"GET / HTTP/1.1", HOST.strip(), b"X: " + b"a" * MAX_HEAD_BYTES), 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (6 * MAX_HEAD_BYTES), 431),
]


def cuts(data: bytes) -> list[list[bytes]]:
    """The same bytes whole, byte by byte, and in two at every place of the first 200."""
    one_by_one = [data[i : i + 1] for i in range(len(data))]
    halves = [[data[:i], data[i:]] for i in range(1, min(len(data), 200))]
    return [[data], one_by_one, *halves]


def in_receives(data: bytes) -> list[bytes]:
    """As a socket gives them: no more than a receive buffer at once."""
    return [data[i : i + 65536] for i in range(0, len(data), 65536)]


@pytest.mark.parametrize(("data", "expected"), TAKEN, ids=lambda v: repr(v)[:50])
def test_taken(data, expected):
    for pieces in cuts(data):
        assert parse(*pieces) == ([expected], None)


@pytest.mark.parametrize(("data", "expected"), TAKEN, ids=lambda v: repr(v)[:50])
def test_trailing_bytes_belong_to_the_next_request(data, expected):
    if expected[3] == b"keep":
        found, error = parse(data + b"GET /next HTTP/1.1\r\nHo")
        assert (found, error) == ([expected], None)


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=lambda v: repr(v)[:60])
def test_refused(data, status):
    for piece in [in_receives(data)] if len(data) > 5000 else cuts(data):
        assert parse(*piece) == ([], status)


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=lambda v: repr(v)[:60])
def test_good_requests_before_a_bad_one_are_still_taken(data, status):
    good = head(b"GET /good HTTP/1.1", b"Host: a")
    assert parse(*in_receives(good + data)) == ([(b"GET", b"/good", b"a", b"keep")], status)


def test_nothing_is_taken_after_an_error():
    parser = RequestParser()
    parser.receive_data(b"BAD\r\n\r\n")
    parser.receive_data(head(b"GET / HTTP/1.1", b"Host: a"))
    assert not parser.requests
    assert parser.error is not None


def test_nothing_is_taken_after_close():
    close = head(b"GET / HTTP/1.1", b"Host: a", b"Connection: close")
    found, error = parse(close + head(b"GET /more HTTP/1.1", b"Host: a"))
    assert found == [(b"GET", b"/", b"a", b"close")]
    assert error == 400


def test_pipeline_is_bounded():
    one = head(b"GET / HTTP/1.1", b"Host: a")
    found, error = parse(one * MAX_PIPELINED)
    assert (len(found), error) == (MAX_PIPELINED, None)
    assert parse(one * (MAX_PIPELINED + 1))[1] == 400


def test_repeated_lists_are_joined_in_order():
    parser = RequestParser()
    parser.receive_data(head(b"GET / HTTP/1.1", b"Host: a", b"Accept: x", b"ACCEPT: y, z"))
    assert parser.requests[0].fields[b"accept"] == b"x, y, z"


def test_a_body_makes_the_request_the_last():
    parser = RequestParser()
    parser.receive_data(head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 4") + b"ab")
    assert not parser.requests[0].keep_alive
    assert not parser.is_between_requests


@given(
    st.lists(st.sampled_from([row[0] for row in TAKEN if row[1][3] == b"keep"]), max_size=5),
    st.data(),
)
def test_any_cut_of_a_pipeline_gives_the_same_requests(requests, data):
    stream = b"".join(requests)
    places = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert parse(*pieces) == parse(stream)
    assert len(parse(stream)[0]) == len(requests)


# Trailers of a request (RFC 9110 section 6.5): read, bounded, and merged into nothing

CHUNKED = head(b"POST /a HTTP/1.1", b"Host: a", b"X: 1", b"Transfer-Encoding: chunked")
BODY = b"3;ext=1\r\nabc\r\n0\r\n"

# (what follows the last chunk, the status of an error)
TRAILERS = [
    (b"\r\n", None),
    (b"X: 2\r\nY: 3\r\n\r\n", None),
    (b"Host: evil\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", None),
    (b"Authorization: a\r\nCookie: b\r\nX-Forwarded-For: c\r\nTE: trailers\r\n\r\n", None),
    (b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", None),
    (b"X: " + b"a" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n", None),
    (b"X: a\r\n" * 2000 + b"\r\n", None),
    # hostile
    (b"X: a\x00b\r\n\r\n", 400),
    (b"X: a\rY: b\r\n\r\n", 400),
    (b"X : a\r\n\r\n", 400),
    (b"X: a\r\n b\r\n\r\n", 400),
    (b"X: a\n\r\n", 400),
    (b"X: a\r\n" * 10_000 + b"\r\n", 431),
    (b"X: " + b"a" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    (b"a" * 3 * MAX_HEAD_BYTES, 431),
    (b"X: " + b"a" * 3 * MAX_HEAD_BYTES, 431),  # which never ends
]


@pytest.mark.parametrize(("trailers", "status"), TRAILERS, ids=range(len(TRAILERS)))
def test_trailers_become_nothing(trailers, status):
    data = CHUNKED + BODY + trailers
    size = 8 * 1024  # of a receive buffer
    cut = [
        [data[at : at + size] for at in range(0, len(data), size)],
        [CHUNKED, BODY, *(trailers[at : at + size] for at in range(0, len(trailers), size))],
    ]
    if len(data) < 1000:
        cut.append([data[at : at + 1] for at in range(len(data))])
    for pieces in cut:
        parser = RequestParser()
        for piece in pieces:
            parser.receive_data(piece)
        (request,) = parser.requests
        names = {b"host": b"a", b"x": b"1", b"transfer-encoding": b"chunked"}
        assert (request.fields, request.authority) == (names, b"a")
        assert request.upload.take() == b"abc"
        assert request.upload.is_complete is (status is None)
        assert (parser.error and parser.error.status) == status


def test_a_trailer_that_never_ends_is_not_kept():
    """The tokenizer keeps what has not ended: it is fed no more than a head may have, twice."""
    parser = RequestParser()
    parser.receive_data(CHUNKED + BODY + b"X: ")
    fed = 0
    while parser.error is None:
        parser.receive_data(b"a" * 8192)
        fed += 8192
    assert fed <= 2 * MAX_HEAD_BYTES + 8192
    assert parser.error.status == 431


def test_a_body_in_many_small_chunks_is_no_trailer():
    parser = RequestParser()
    parser.receive_data(CHUNKED)
    (request,) = parser.requests
    for _ in range(2 * MAX_HEAD_BYTES // 16):
        parser.receive_data(b"00000000000001\r\n")
        parser.receive_data(b"a\r\n")
    parser.receive_data(b"0\r\n\r\n")
    assert parser.error is None
    assert request.upload.is_complete
    assert request.upload.received == 2 * MAX_HEAD_BYTES // 16
