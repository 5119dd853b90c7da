"""Heads that repeat: what is read again is what the parser made of it, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.messages import Request
from edge.http.parser import RequestParser
from edge.http.repeats import MAX_BLOCK_BYTES, MAX_BLOCKS, Repeats

BLOCK = b"Host: h.example\r\nAccept: */*\r\nCookie: a=b\r\n\r\n"


def parsed(data: bytes) -> Request:
    parser = RequestParser()
    parser.receive_data(data)
    assert parser.error is None
    return parser.requests.popleft()


def head(
    target: bytes = b"/a", block: bytes = BLOCK, line: bytes = b"GET %b HTTP/1.1\r\n"
) -> bytes:
    return line % target + block


def learnt(*heads: bytes) -> Repeats:
    repeats = Repeats()
    for data in heads:
        repeats.learn(data, parsed(data))
    return repeats


def test_another_target_in_the_same_words():
    repeats = learnt(head())
    found = repeats.maybe_request(head(b"/b/c?d=1&e"))
    told = parsed(head(b"/b/c?d=1&e"))
    assert found is not None
    for name in ("method", "target", "minor", "fields", "authority", "keep_alive", "upload"):
        assert getattr(found, name) == getattr(told, name)
    again = repeats.maybe_request(head(b"/x"))
    assert again is not None and again.block is found.block


UNKNOWN = [
    head(block=BLOCK.replace(b"a=b", b"a=c")),
    head(block=BLOCK.replace(b"Cookie", b"cookie")),
    head(line=b"HEAD %b HTTP/1.1\r\n"),
    head(line=b"POST %b HTTP/1.1\r\n"),
    head(line=b"GET %b HTTP/1.0\r\n"),
    head(line=b"GET  %b HTTP/1.1\r\n"),
    head(line=b"GET %b HTTP/1.1\n"),
    head(line=b"get %b HTTP/1.1\r\n"),
    head(b"http://other.example/a"),
    head(b"*"),
    head(b""),
    head(b"/a b"),
    head(b"/a\x00"),
    head(b"/a#b"),
    head(b"/\xc3\xa4"),
    head(b"/a HTTP/1.1\r\nHost: other\r\nX: y"),
    head(b"/" + b"a" * 9000),
    head()[:-2],
    head() + b"x",
    head() + head(),
    b"\r\n" + head(),
    b"",
    BLOCK,
]


@pytest.mark.parametrize("data", UNKNOWN)
def test_anything_else_is_for_the_parser(data):
    assert learnt(head()).maybe_request(data) is None


NOT_LEARNT = [
    head(line=b"HEAD %b HTTP/1.1\r\n"),
    head(line=b"GET %b HTTP/1.0\r\n"),
    head(b"http://other.example/a"),  # its authority is not the block's
    head(line=b"GET  %b HTTP/1.1\r\n"),
    head(line=b"GET %b  HTTP/1.1\r\n"),
    head(line=b"\r\nGET %b HTTP/1.1\r\n"),
    head(block=b"Host: h\r\nConnection: close\r\n\r\n"),
    head(block=b"Host: h\r\nContent-Length: 3\r\n\r\nabc", line=b"POST %b HTTP/1.1\r\n"),
    head(block=b"Host: h\r\nX: " + b"x" * MAX_BLOCK_BYTES + b"\r\n\r\n"),
]


@pytest.mark.parametrize("data", NOT_LEARNT)
def test_what_is_not_learnt(data):
    assert len(learnt(data)) == 0


def test_a_line_that_was_read_in_another_way_is_not_learnt():
    """Were a tokenizer to end lines elsewhere, a field above the block would be part of it for all
    who send the block."""
    request = Request(b"GET", b"/a", 1, {b"host": b"h", b"x": b"y HTTP/1.1"}, b"h", True)
    repeats = Repeats()
    repeats.learn(b"GET /a HTTP/1.1\nX: y HTTP/1.1\r\nHost: h\r\n\r\n", request)
    assert len(repeats) == 0


def test_the_table_is_bounded():
    repeats = Repeats()
    for number in range(3 * MAX_BLOCKS):
        data = head(block=BLOCK.replace(b"a=b", b"a=%d" % number))
        repeats.learn(data, parsed(data))
        assert 0 < len(repeats) <= MAX_BLOCKS
    assert repeats.maybe_request(data) is not None


@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 80))
def test_never_what_the_parser_would_not_say(noise, start, length):
    """A learnt head with noise in place of a piece of it."""
    data = head()
    data = data[:start] + noise + data[start + length :]
    found = learnt(head()).maybe_request(data)
    if found is None:
        return
    told = parsed(data)
    assert (found.target, found.fields, found.authority) == (
        told.target,
        told.fields,
        told.authority,
    )
