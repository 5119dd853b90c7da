"""Answers of HTTP/1.1 origins: each whole, byte by byte and with bytes behind the end."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.origin.errors import OriginBroken, OriginError, OriginTruncated
from edge.origin.http.answer import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM, AnswerParser, Framing
from edge.origin.http.chunked import MAX_LINE_BYTES, MAX_TRAILER_BYTES, MAX_TRAILERS

OK = b"HTTP/1.1 200 OK\r\n"
TYPE = b"Content-Type: image/jpeg\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Read:
    """A whole exchange, cut into pieces of step bytes."""

    def __init__(self, wire: bytes, *, step: int = 0, is_head: bool = False, eof: bool = True):
        self.parser = AnswerParser(is_head=is_head)
        self.body = b""
        step = step or len(wire) or 1
        for start in range(0, len(wire), step):
            self.body += self.parser.receive_data(wire[start : start + step])
        if eof:
            self.parser.receive_eof()


LENGTH, BY_CHUNKS, CLOSE, NONE = (
    Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE, Framing.NONE,
)  # fmt: skip

# (wire, status, headers, framing, content_length, is_kept, body)
GOOD = [
    # usual
    (OK + TYPE + b"Content-Length: 4\r\n\r\nabcd", 200, (("content-type", "image/jpeg"),),
     LENGTH, 4, True, b"abcd"),
    (OK + b"Content-Length: 0\r\n\r\n", 200, (), LENGTH, 0, True, b""),
    (CHUNKED + b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n", 200, (), BY_CHUNKS, None, True, b"abcdef"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 404, (), LENGTH, 2, True, b"no"),
    # RFC 9112 section 4: the reason may be empty; its space is often left out
    (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, (), LENGTH, 0, True, b""),
    (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, (), LENGTH, 0, True, b""),
    # section 6.3: no length and no coding
    (OK + b"\r\nabcd", 200, (), CLOSE, None, False, b"abcd"),
    (b"HTTP/1.0 200 OK\r\n\r\nabcd", 200, (), CLOSE, None, False, b"abcd"),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, (), LENGTH, 1, False, b"a"),
    # section 9.6
    (OK + b"Connection: Close\r\nContent-Length: 1\r\n\r\na", 200, (), LENGTH, 1, False, b"a"),
    (OK + b"Connection: x,  close\r\nX: 1\r\nContent-Length: 1\r\n\r\na", 200, (), LENGTH, 1,
     False, b"a"),
    # RFC 9110 section 6.4.1
    (b"HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", 204, (), NONE, None, True, b""),
    (b"HTTP/1.1 304 No\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n", 304, (("etag", '"a"'),),
     NONE, 9, True, b""),
    (b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", 304, (), NONE, None, True, b""),
    # section 15.2: interim answers are none of the head
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", 200, (), LENGTH, 1,
     True, b"a"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nSet-Cookie: a=b\r\n\r\n" * 2 + OK
     + b"Content-Length: 1\r\n\r\na", 200, (), LENGTH, 1, True, b"a"),
    # section 7.6.1: hop-by-hop, and what Connection names
    (OK + b"Connection: X-B, keep-alive\r\nX-B: 1\r\nKeep-Alive: 5\r\n"
     b"Upgrade: h2c\r\nTE: trailers\r\n"
     b"Trailer: a\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n", 200, (), LENGTH, 0,
     True, b""),
    # lines apart, in their order; nothing is folded together or decoded
    (OK + b"A: 1\r\nSet-Cookie: b\r\na: 2\r\nSet-Cookie:c\r\nContent-Encoding: gzip\r\n"
     b"Content-Length: 1\r\n\r\na", 200,
     (("a", "1"), ("set-cookie", "b"), ("a", "2"), ("set-cookie", "c"), ("content-encoding",
      "gzip")),
     LENGTH, 1, True, b"a"),
    (OK + b"X:\t a \xe9 b \t\r\nY:\r\nContent-Length: 0\r\n\r\n", 200, (("x", "a \xe9 b"), ("y",
     "")),
     LENGTH, 0, True, b""),
    (OK + b"transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200, (), BY_CHUNKS, None, True, b""),
    # RFC 9112 section 7.1: extensions, trailers, leading zeros, capital digits
    (CHUNKED + b"0a;x=y;z\r\n0123456789\r\nA ;q=\"1\"\r\n0123456789\r\n000\r\nX: y\r\n\r\n", 200,
     (),
     BY_CHUNKS, None, True, b"0123456789" * 2),
    (b"HTTP/1.1 599 \xfc\r\nContent-Length: 0\r\n\r\n", 599, (), LENGTH, 0, True, b""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "status", "headers", "framing", "length", "is_kept", "body"),
    GOOD,
    ids=range(len(GOOD)),
)
def test_good(wire, status, headers, framing, length, is_kept, body):
    for step in (0, 1, 3):
        read = Read(wire, step=step)
        head = read.parser.head
        assert (head.status, head.headers, head.framing) == (status, headers, framing)
        assert (head.content_length, head.is_kept, head.controls) == (length, is_kept, ())
        assert (read.body, read.parser.is_ended, read.parser.has_excess) == (body, True, False)
        assert read.parser.is_definite is (framing is not Framing.CLOSE)
    if framing is Framing.CLOSE:
        return
    for step in (0, 1, 5):
        read = Read(wire + b"junk", step=step)
        assert (read.body, read.parser.is_ended, read.parser.has_excess) == (body, True, True)


def test_for_head_there_is_no_body():
    for framing in (b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b""):
        read = Read(OK + framing + b"\r\n", is_head=True)
        assert (read.parser.is_ended, read.parser.has_excess) == (True, False)
        assert read.parser.head.content_length == (4 if b"Length" in framing else None)
        read = Read(OK + framing + b"\r\nabcd", is_head=True)
        assert (read.body, read.parser.is_ended, read.parser.has_excess) == (b"", True, True)


def test_commands_are_set_apart():
    read = Read(OK + b"X-Sendfile: /a\r\nX-Accel-Expires: 5\r\nContent-Length: 0\r\n\r\n")
    assert read.parser.head.headers == ()
    assert read.parser.head.controls == (("x-sendfile", "/a"), ("x-accel-expires", "5"))


BROKEN = [
    # no answer
    b"\r\n", b" ", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/0.9 200 OK\r\n\r\n", b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n", b"HTTP/1.10 200 OK\r\n\r\n", b"http/1.1 200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n", b"\x16\x03\x01\x00", b"SSH-2.0-x\r\n", b"\x00\x00\x12\x04",
    b"HTTP/1.1  200 OK\r\n\r\n", b"HTTP/1.1\t200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 +20 OK\r\n\r\n", b"HTTP/1.1 600 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n", b"HTTP/1.1 200 O\x00K\r\n\r\n", b"HTTP/1.1 200 O\rK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    # bare LF, bare CR, folded lines, spaces before the colon, no name
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", OK + b"X: a\nY: b\r\n\r\n",
    OK + b"X: a\rY: b\r\n\r\n",
    OK + b"X: a\r\r\n\r\n", OK + b"X: a\r\n folded\r\n\r\n", OK + b" X: a\r\n\r\n",
    OK + b"X: a\r\n\tb: c\r\n\r\n", OK + b"X : a\r\n\r\n", OK + b": a\r\n\r\n", OK + b"X\r\n\r\n",
    OK + b"\xc3\xa9: a\r\n\r\n", OK + b"X(: a\r\n\r\n",
    OK + b"X: \x00\r\n\r\n", OK + b"X: \x0b\r\n\r\n", OK + b"X: \x7f\r\n\r\n",
    OK + b"X: \x01a\r\n\r\n",
    # framing that can be read in two ways
    OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", OK + b"Content-Length: 1, 1\r\n\r\na",
    OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", OK + b"Transfer-Encoding: identity\r\n\r\n",
    OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: \r\n\r\n", OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Content-Length: +1\r\n\r\na", OK + b"Content-Length: 0x1\r\n\r\na",
    OK + b"Content-Length: 1_0\r\n\r\na", OK + b"Content-Length: -1\r\n\r\na",
    OK + b"Content-Length: \r\n\r\na", OK + b"Content-Length: \xb2\r\n\r\na",
    OK + b"Content-Length: 1 1\r\n\r\na", OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\na",
    OK + TYPE + TYPE + b"\r\n", OK + b"Location: /a\r\nLocation: /b\r\n\r\n",
    # sizes
    OK + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    OK + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
    OK + b"X: " + b"a" * MAX_HEAD_BYTES, b"HTTP/1.1 100 C\r\n\r\n" * (MAX_INTERIM + 1),
    # ended too soon
    b"", b"HTT", OK, OK + TYPE, b"HTTP/1.1 100 Continue\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("wire", BROKEN, ids=range(len(BROKEN)))
def test_broken_before_the_head_is_there(wire):
    for step in (0, 1):
        parser = AnswerParser()
        with pytest.raises(OriginBroken):
            for start in range(0, len(wire), step or max(1, len(wire))):
                parser.receive_data(wire[start : start + (step or len(wire))])
            parser.receive_eof()
        assert parser.head is None


def test_what_can_be_no_answer_is_told_at_once():
    for wire in (b"S", b"HTTP/1.1 200 OK\n", b"HTTP/2"):
        with pytest.raises(OriginBroken):
            AnswerParser().receive_data(wire)


# Behind a good head: (wire behind it, body that is good, the error)
CHUNKS = [
    (b"", b"", OriginTruncated),
    (b"4\r\nabcd", b"abcd", OriginTruncated),
    (b"4\r\nab", b"ab", OriginTruncated),
    (b"4\r\nabcd\r\n", b"abcd", OriginTruncated),
    (b"0\r\n", b"", OriginTruncated),
    (b"0\r\nX: y\r\n", b"", OriginTruncated),
    (b"4\r\nabcde\r\n0\r\n\r\n", None, OriginBroken),
    (b"4\r\nabc\r\n0\r\n\r\n", None, OriginBroken),
    (b"4\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"4\r\nabcd\n0\r\n\r\n", None, OriginBroken),
    (b"\r\nabcd", None, OriginBroken),
    (b"\n", None, OriginBroken),
    (b"0x4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"+4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"-4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"0_4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b" 4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"4 \r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"4 4\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"g\r\n", None, OriginBroken),
    (b"1" + b"0" * 15 + b"\r\n", None, OriginBroken),  # over 63 bits
    (b"4;a\nb\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),  # LF in an extension
    (b"4;a\rb\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"4;\x00\r\nabcd\r\n0\r\n\r\n", None, OriginBroken),
    (b"4;" + b"x" * MAX_LINE_BYTES, None, OriginBroken),
    (b"0\r\nX : y\r\n\r\n", None, OriginBroken),
    (b"0\r\n folded\r\n\r\n", None, OriginBroken),
    (b"0\r\nX: \x00\r\n\r\n", None, OriginBroken),
    (b"0\r\nX: y\n\r\n", None, OriginBroken),
    (b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER_BYTES // 6 + 1) + b"\r\n", None, OriginBroken),
]


@pytest.mark.parametrize(("wire", "body", "error"), CHUNKS, ids=range(len(CHUNKS)))
def test_chunks(wire, body, error):
    for step in (0, 1, 2):
        parser = AnswerParser()
        got = parser.receive_data(CHUNKED)
        with pytest.raises(error):
            for start in range(0, len(wire), step or max(1, len(wire))):
                got += parser.receive_data(wire[start : start + (step or len(wire))])
            parser.receive_eof()
        assert not parser.is_ended
        assert body is None or got == body


def test_a_short_body_is_a_cut_one():
    with pytest.raises(OriginTruncated, match="3 of 4 bytes"):
        Read(OK + b"Content-Length: 4\r\n\r\nabc")


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), step=st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_what_h11_writes_is_read(chunks, step):
    """The oracle shares no line with ours."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.next_event()
    wire = server.send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))
    for chunk in chunks:
        wire += server.send(h11.Data(data=chunk))
    wire += server.send(h11.EndOfMessage(headers=[("X-Trailer", "1")]))
    read = Read(wire, step=step, eof=False)
    assert (read.body, read.parser.is_ended) == (b"".join(chunks), True)


# Spellings that a hostile origin would combine.
PIECES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b":",
    b"\x00",
     b"Content-Length", b"Transfer-Encoding", b"chunked", b": ", b"5", b"0", b"\r\n0\r\n\r\n", b"a",
     b"Connection", b"close", b"HTTP/1.1 100 C\r\n\r\n", b"Set-Cookie: a=b"]
)  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=16), lead=st.booleans(), step=st.integers(1, 9))
@settings(max_examples=400, deadline=None)
def test_the_outcome_does_not_depend_on_how_the_bytes_were_cut(pieces, lead, step):
    wire = (OK if lead else b"") + b"".join(pieces)
    outcomes = []
    for cut in (0, step):
        parser, body, error = AnswerParser(), b"", None
        try:
            for start in range(0, len(wire), cut or max(1, len(wire))):
                body += parser.receive_data(wire[start : start + (cut or len(wire))])
            parser.receive_eof()
        except OriginError as failed:
            error = type(failed)
        # What stands before a fault in the same piece is not told with it.
        outcomes.append((parser.head, error, parser.is_ended, None if error else body))
        for name, value in parser.head.headers if parser.head else ():
            assert "\r" not in name + value
            assert "\n" not in name + value
            assert "\0" not in name + value
    assert outcomes[0] == outcomes[1]


# What stands beside an answer

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"

# (wire, interim answers); RFC 9110 section 15.2
INTERIM = [
    (EMPTY, []),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + EMPTY, [(100, ())]),
    (HINTS + b"\r\n" + HINTS + b"\r\n" + EMPTY, [(103, (("link", "</a>"),))] * 2),
    (b"HTTP/1.1 102\r\n\r\nHTTP/1.1 199 X\r\nA: 1\r\nA: 2\r\n\r\n" + EMPTY,
     [(102, ()), (199, (("a", "1"), ("a", "2")))]),
    # HTTP/1.0 has none, but what comes is understood
    (b"HTTP/1.0 100 C\r\n\r\n" + EMPTY, [(100, ())]),
    # section 7.6.1, and commands to the server in front
    (HINTS + b"Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
     b"X-Accel-Redirect: /secret\r\nX-Sendfile: /etc/passwd\r\n\r\n" + EMPTY,
     [(103, (("link", "</a>"),))]),
    # section 8.6: no framing in 1xx; what is there frames nothing
    (HINTS + b"Content-Length: 9\r\n\r\n" + EMPTY, [(103, (("link", "</a>"),))]),
    (HINTS + b"Transfer-Encoding: chunked\r\n\r\n" + EMPTY, [(103, (("link", "</a>"),))]),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "expected"), INTERIM, ids=range(len(INTERIM)))
def test_interim_answers_stand_apart(wire, expected):
    for step in (0, 1, 7):
        read = Read(wire, step=step)
        heads = read.parser.take_interim()
        assert [(head.status, head.headers) for head in heads] == expected
        assert read.parser.take_interim() == []
        assert (read.parser.head.status, read.parser.head.headers) == (200, ())


HOSTILE_INTERIM = [
    HINTS + b"X: a\0\r\n\r\n",
    HINTS + b"X: a\rSet-Cookie: b\r\n\r\n",
    HINTS + b"X: a\r\n b\r\n\r\n",
    HINTS + b"X : a\r\n\r\n",
    HINTS + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    HINTS + b"X: y\r\n" * MAX_FIELDS + b"\r\n",
    HINTS + b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    (HINTS + b"\r\n") * (MAX_INTERIM + 1),
]


@pytest.mark.parametrize("wire", HOSTILE_INTERIM, ids=range(len(HOSTILE_INTERIM)))
def test_interim_answers_are_as_strictly_read_as_others(wire):
    for step in (0, 1) if len(wire) < 4000 else (0,):
        with pytest.raises(OriginBroken):
            Read(wire + EMPTY, step=step)


WITH_TRAILERS = CHUNKED + b"4\r\nabcd\r\n0\r\n"

# (wire, trailers, announced); RFC 9110 sections 6.5 and 6.6.2
TRAILERS = [
    (WITH_TRAILERS + b"\r\n", (), ()),
    (WITH_TRAILERS + b"Server-Timing: a;dur=1\r\nX:\r\n\r\n",
     (("server-timing", "a;dur=1"), ("x", "")), ()),
    # apart and in their order; no head field, also where it has the same name
    (WITH_TRAILERS + b"X: 1\r\nx:\t2 \r\nContent-Length: 99\r\n\r\n",
     (("x", "1"), ("x", "2"), ("content-length", "99")), ()),
    # hop-by-hop, and what Connection named ahead
    (WITH_TRAILERS.replace(b"\r\n\r\n", b"\r\nConnection: X-Hop\r\n\r\n", 1)
     + b"X-Hop: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTE: a\r\nX: 1\r\n\r\n",
     (("x", "1"),), ()),
    (WITH_TRAILERS.replace(b"\r\n\r\n", b"\r\nTrailer: X-A , x-a,,Y\r\nTrailer: TE\r\n\r\n", 1)
     + b"X-A: 1\r\n\r\n", (("x-a", "1"),), ("x-a", "y")),
    (WITH_TRAILERS.replace(b"\r\n\r\n", b"\r\nTrailer: a b, \xe9, (, c\r\n\r\n", 1) + b"\r\n",
     (), ("c",)),
    # announced where none can come
    (OK + b"Trailer: X\r\nContent-Length: 4\r\n\r\nabcd", (), ()),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "trailers", "announced"), TRAILERS, ids=range(len(TRAILERS)))
def test_trailers_stand_apart(wire, trailers, announced):
    for step in (0, 1, 5):
        for junk in (b"", b"junk"):
            read = Read(wire + junk, step=step)
            assert (read.body, read.parser.is_ended) == (b"abcd", True)
            assert (read.parser.trailers, read.parser.head.announced) == (trailers, announced)
            assert not {"x", "x-a", "server-timing"} & {
                name for name, _ in read.parser.head.headers
            }


def test_there_are_no_trailers_before_the_end():
    read = Read(WITH_TRAILERS + b"X: 1\r\n", eof=False)
    assert read.parser.trailers == ()
    read.parser.receive_data(b"\r\n")
    assert read.parser.trailers == (("x", "1"),)


def test_how_many_trailers_there_may_be():
    most = WITH_TRAILERS + b"X: 1\r\n" * MAX_TRAILERS
    assert len(Read(most + b"\r\n").parser.trailers) == MAX_TRAILERS
    for step in (0, 1):
        with pytest.raises(OriginBroken, match="trailers"):
            Read(most + b"X: 1\r\n\r\n", step=step)
