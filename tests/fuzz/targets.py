"""What is fuzzed: each target takes any bytes and asserts what holds for all of them.

The first byte says where the rest is cut, so that the engine learns about cuts too. Seeds are good
input; from there the engine goes its own way.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edge.http.parser import RequestParser
from edge.http.trailers import is_passed, passed_trailers
from edge.http.writer import field_lines
from edge.origin.errors import OriginBroken, OriginError
from edge.origin.fastcgi.params import build_pairs, parse_pairs
from edge.origin.fastcgi.records import (
    HEADER_BYTES,
    MAX_CONTENT_BYTES,
    MAX_PADDING_BYTES,
    BeginRequest,
    EndRequest,
    Record,
    RecordReader,
    RecordType,
)
from edge.origin.fastcgi.reply import MAX_FIELDS, MAX_HEAD_BYTES, ReplyParser
from edge.origin.fastcgi.stderr import MAX_LINE_BYTES, MAX_STDERR_BYTES, StderrLines
from edge.origin.fastcgi.values import AnswerReader, GetValues, UnknownType, Values
from edge.origin.http.answer import AnswerParser, Framing
from edge.origin.messages import FIELD_VALUE, HOP_BY_HOP, TOKEN, Headers


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def in_pieces(data: bytes) -> list[bytes]:
    """The rest of data, in pieces of the length of its first byte."""
    step, rest = data[0] or 1, data[1:]
    return [rest[start : start + step] for start in range(0, len(rest), step)]


# Records


def _read(pieces: list[bytes]) -> tuple[list[Record], int, bool]:
    reader, records = RecordReader(), []
    for piece in pieces:
        reader.receive_data(piece)
        try:
            records.extend(reader)
        except OriginBroken:
            return records, 0, True
        assert reader.pending_bytes < HEADER_BYTES + MAX_CONTENT_BYTES + MAX_PADDING_BYTES
    return records, reader.pending_bytes, False


def records(data: bytes) -> None:
    if not data:
        return
    whole, pending, is_broken = _read([data[1:]])
    in_parts, pending_in_parts, is_broken_in_parts = _read(in_pieces(data))
    # Garbage behind good records may be seen before or after they were taken.
    assert is_broken == is_broken_in_parts
    assert whole[: len(in_parts)] == in_parts or in_parts[: len(whole)] == whole
    if not is_broken:
        assert (whole, pending) == (in_parts, pending_in_parts)
    again, left, _ = _read([record.build() for record in whole])
    assert (again, left) == (whole, 0)
    for record in whole:
        for type_, body in (
            (RecordType.BEGIN_REQUEST, BeginRequest),
            (RecordType.END_REQUEST, EndRequest),
        ):
            if record.type == type_:
                try:
                    parsed = body.parse(record.content)
                except OriginBroken:
                    continue
                assert body.parse(parsed.build()) == parsed


# The reply of an application


def _reply(pieces: list[bytes], *, is_head: bool) -> object:
    parser, body = ReplyParser(is_head=is_head), b""
    try:
        for piece in pieces:
            body += parser.receive_data(piece)
        head = parser.head
        try:
            parser.receive_eof()
        except OriginError as failed:
            return head, body, parser.has_excess, type(failed)
    except OriginBroken:
        assert parser.head is None
        return None
    assert head is not None
    assert 200 <= head.status < 600
    assert len(head.headers) + len(head.controls) <= MAX_FIELDS
    for name, value in (*head.headers, *head.controls):
        assert TOKEN.fullmatch(name) and name == name.lower() and name not in HOP_BY_HOP
        assert FIELD_VALUE.fullmatch(value)
        assert name not in ("status", "content-length")
    if head.local_redirect is not None:
        assert head.local_redirect.startswith("/") and not head.local_redirect.startswith("//")
    if is_head or head.is_bodiless:
        assert body == b""
    elif head.content_length is not None:
        assert len(body) == head.content_length
    return head, body, parser.has_excess, None


def reply(data: bytes) -> None:
    if not data or len(data) > MAX_HEAD_BYTES:  # where a head ends too late depends on the cut
        return
    is_head = data[0] >= 128
    whole = _reply([data[1:]], is_head=is_head)
    assert _reply(in_pieces(data), is_head=is_head) == whole


# Answers of an HTTP origin, and what comes beside them


def _answer(pieces: list[bytes], *, is_head: bool) -> object:
    """Equal, however the bytes are cut, but for how much of a body came ahead of its fault."""
    parser, interim, body, failure = AnswerParser(is_head=is_head), [], b"", ""
    try:
        for piece in pieces:
            body += parser.receive_data(piece)
            interim += parser.take_interim()
        parser.receive_eof()
    except OriginError as failed:
        failure = type(failed).__name__
    interim += parser.take_interim()  # a fault may have come in the piece of the head
    head = parser.head
    if head is None:
        assert failure == "OriginBroken"
        return None
    assert 200 <= head.status < 600
    for one in (*interim, head):
        _check_fields((*one.headers, *one.controls), one.own)
        assert not any(name == "content-length" for name, _ in one.headers)
    if not failure:
        assert parser.is_ended
        if head.content_length is not None and head.framing is Framing.LENGTH:
            assert len(body) == head.content_length
    else:
        assert parser.trailers == ()
        body = b""
    _check_fields(parser.trailers, head.own)
    for name, value in passed_trailers(parser.trailers):
        assert is_passed(name) and (name, value) in parser.trailers
        assert field_lines(((name, value),)).count(b"\r\n") == 1
    assert all(TOKEN.fullmatch(name) for name in head.announced)
    return interim, head, body, parser.trailers, failure


def _check_fields(fields: Headers, own: frozenset[str]) -> None:
    for name, value in fields:
        assert TOKEN.fullmatch(name) and name == name.lower()
        assert name not in HOP_BY_HOP | own and FIELD_VALUE.fullmatch(value)


def answers(data: bytes) -> None:
    if not data or len(data) > MAX_HEAD_BYTES:
        return
    is_head = data[0] >= 128
    whole = _answer([data[1:]], is_head=is_head)
    assert _answer(in_pieces(data), is_head=is_head) == whole


# Name-value pairs, and what an application writes to STDERR


def params(data: bytes) -> None:
    try:
        pairs = parse_pairs(data)
    except OriginBroken:
        pass
    else:
        assert parse_pairs(build_pairs(pairs)) == pairs
        assert len(build_pairs(pairs)) <= len(data)
    if not data:
        return
    stderr = StderrLines()
    lines = [line for piece in in_pieces(data) for line in stderr.receive_data(piece)]
    lines += stderr.end()
    for line in lines:
        assert line.isprintable() or line == ""
        assert len(line) <= 10 * MAX_LINE_BYTES  # an escape takes ten characters at the most
    assert len(lines) <= MAX_STDERR_BYTES + 1


# The answer to GET_VALUES


def _values_of(pieces: list[bytes]) -> Values | UnknownType | str:
    reader = AnswerReader()
    try:
        for piece in pieces:
            if (answer := reader.receive_data(piece)) is not None:
                return answer
        reader.receive_eof()
    except OriginBroken:
        return "broken"
    raise AssertionError("neither an answer nor broken")


def values(data: bytes) -> None:
    if not data:
        return
    whole = _values_of([data[1:]])
    assert _values_of(in_pieces(data)) == whole
    if not isinstance(whole, str):
        assert type(whole).parse(whole.build()) == whole
    try:
        question = GetValues.parse(data)
    except OriginBroken:
        return
    assert GetValues.parse(question.build()) == question


# Heads of requests


def _heads(pieces: list[bytes]) -> tuple[list[tuple[object, ...]], int | None]:
    parser = RequestParser()
    for piece in pieces:
        parser.receive_data(piece)
    found: list[tuple[object, ...]] = []
    for request in parser.requests:
        assert request.target == b"*" or request.target.startswith(b"/")
        assert not set(request.target + request.authority) & set(b"\0\r\n #")
        for name, value in request.fields.items():
            assert TOKEN.fullmatch(name.decode("latin-1")) and name == name.lower()
            assert not set(value) & set(b"\0\r\n")
        found.append(
            (
                request.method,
                request.target,
                request.authority,
                request.minor,
                request.keep_alive,
                tuple(request.fields.items()),
            )
        )
    return found, parser.error.status if parser.error else None


def heads(data: bytes) -> None:
    if data:
        assert _heads(in_pieces(data)) == _heads([data[1:]])


_JPEG = b"Content-Type: image/jpeg\n"
TARGETS = {
    "records": Target(
        records,
        (
            b"\xff\1\6\0\1\0\2\6\0hi\0\0\0\0\0\0\1\3\0\1\0\x08\0\0" + bytes(8),
            b"\1\1\6\0\1\0\0\xff\0" + bytes(255) + b"\1\x0a\0\0\0\1\0\0x",
            b"\3\1\1\0\1\0\x08\0\0\0\1\1\0\0\0\0\0\2",
        ),
    ),
    "reply": Target(
        reply,
        (
            b"\1Status: 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
            b"\x90HTTP/1.1 200 OK\n" + _JPEG + b"Connection: x-a, close\nX-A: 1\n\nbody",
            b"\7Location: /local?a=b\n\n",
            b"\7Location: https://a/b\n\n",
            b"\2X-Sendfile: /srv/a\n" + _JPEG + b"\n",
            b"\5Status: 304\nETag: \"a\"\n\nbody",
        ),
    ),
    "answers": Target(
        answers,
        (
            b"\1HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-A\r\nX-A: 1\r\n\r\nno",
            (b"\3HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
            b"HTTP/1.0 404 No\r\n\r\nup to the close"),
            (b"\7HTTP/1.1 200 OK\r\nTrailer: X, Host\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;a=b\r\nabc\r\n0\r\nX: 1\r\nHost: evil\r\nContent-Digest: a\r\n\r\n"),
            b"\x90HTTP/1.1 304 No\r\nETag: \"a\"\r\nX-Accel-Expires: 1\r\n\r\n",
        ),
    ),
    "params": Target(params, (b"\1\2ab!\0\0\1\x80\0\0\1nv", b"\4PHP \x1b[31mred\r\nsecond\n")),
    "values": Target(
        values,
        (
            b"\xff\1\x0a\0\0\0\x12\6\0\x0f\1FCGI_MPXS_CONNS0" + bytes(6),
            b"\3\1\x0a\0\0\0\x22\0\0\x0e\2FCGI_MAX_CONNS16\1\1xy\x0d\0FCGI_MAX_REQS",
            b"\2\1\x0b\0\0\0\x08\0\0\x09" + bytes(7),
        ),
    ),
    "heads": Target(
        heads,
        (
            b"\3GET /a.jpg?w=1 HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\n\r\n",
            (b"\x20POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            b"abGET / HTTP/1.1"),
            b"\1GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            (b"\x0bPUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n0\r\n\r\n"),
            b"\x0bOPTIONS * HTTP/1.1\r\nHost: [::1]\r\nX: a\r\n\tfolded\r\n\r\n",
        ),
    ),
}  # fmt: skip
