"""From a representation to a response: preconditions, then range, then the head.

The order is RFC 9110 section 13.2.2's, and Range comes last (section 14.2). Every response that
leaves the node is put together here.
"""

import dataclasses
from typing import Final

from cache.index.interface import SourceRecord
from edge.aside import ClientAside
from edge.clock import Clock
from edge.errors import RETRY_AFTER_STATUSES, Refusal
from edge.http.body import UNKNOWN_LENGTH, FileSlice, Stretch
from edge.http.conditional import Preconditions, Verdict, evaluate
from edge.http.date import format_date
from edge.http.messages import Body, Request, Response
from edge.http.range import (
    UNSATISFIABLE,
    ByteRange,
    can_frame,
    content_range,
    frame_multipart,
    if_range_holds,
    select_ranges,
    unsatisfied_range,
)
from edge.http.writer import BODILESS_STATUSES, field_lines, status_line
from edge.origin.messages import REMEMBERED, REMEMBERED_BYTES, Headers
from edge.remembered import remembered
from edge.representation import Facts, Representation

# Request fields that can make of a 200 something else. A request with none of them, on a picture
# in memory, is answered with the head that the representation keeps.
CONDITIONAL_FIELDS: Final = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range")
)
_OK: Final = status_line(200)
SERVER: Final = "Server: halftone\r\n"
NOSNIFF: Final = "X-Content-Type-Options: nosniff\r\n"


class Deliverer:
    """Builds responses; name stands in Via, boundary makes multipart delimiters."""

    def __init__(self, clock: Clock, boundary: str, name: str) -> None:
        self._clock = clock
        self._boundary = boundary
        self._via = f"Via: 1.1 {name}\r\n"

    def deliver(
        self, request: Request, representation: Representation, facts: Facts, *, cache: str
    ) -> Response:
        """The answer to GET or HEAD. cache is the access line's word."""
        verdict = Verdict.PROCEED
        fields = request.fields
        is_plain = fields.keys().isdisjoint(CONDITIONAL_FIELDS)
        if not is_plain:
            verdict = evaluate(
                Preconditions(
                    if_match=request.field(b"if-match"),
                    if_none_match=request.field(b"if-none-match"),
                    if_modified_since=request.field(b"if-modified-since"),
                    if_unmodified_since=request.field(b"if-unmodified-since"),
                ),
                is_safe=True,
                etag=representation.etag or None,
                last_modified=representation.last_modified,
            )
        if verdict is Verdict.PRECONDITION_FAILED:
            # An answer to this client's fields: a cache that kept it would refuse everyone.
            facts = dataclasses.replace(facts, cache_control="no-store")
            head = self._head(412, representation, facts, "Content-Length: 0\r\n")
            return Response(412, head, cache=cache)
        if verdict is Verdict.NOT_MODIFIED:
            # RFC 9110 section 15.4.5: what the 200 would say of caching, nothing of the body.
            head = self._head(304, representation, facts, "")
            return Response(304, head, cache=cache)
        if not is_plain and request.method == b"GET":
            ranged = self._deliver_range(request, representation, facts, cache)
            if ranged is not None:
                return ranged
        head = self._head(200, representation, facts, _entity(representation))
        return with_pieces(200, head, request, (representation.body,), representation.length, cache)

    def deliver_ready(
        self, request: Request, representation: Representation, vary: str
    ) -> Response | None:
        """deliver() of a hit whose head was made in this second; None when it must be made."""
        if representation.head_second != self._clock.wall or not request.fields.keys().isdisjoint(
            CONDITIONAL_FIELDS
        ):
            return None
        # A file that one URL negotiates may be named outright by another.
        facts = representation.facts
        if facts is None or facts.vary != vary:
            return None
        body = (representation.body,)
        return with_pieces(200, representation.head, request, body, representation.length, "HIT")

    def make_ready(self, representation: Representation, facts: Facts) -> None:
        """Put the 200's head together, for deliver_ready() in this second."""
        if representation.facts != facts:
            representation.facts = facts
            representation.head_rest = self.rest_of_head(representation, facts)
        # Where nothing else has changed since the last second, the Date has.
        representation.head = _OK + self._clock.date_line + representation.head_rest
        representation.head_second = self._clock.wall

    def rest_of_head(self, representation: Representation, facts: Facts) -> bytes:
        """What follows the Date in the head of the 200."""
        lines = self._lines(
            representation.etag, representation.last_modified, facts, _entity(representation)
        )
        return lines + field_lines(representation.fields)

    def head_of_file(self, record: SourceRecord, facts: Facts) -> bytes:
        """The 200's of an original that has no fields of its own, with its blank line."""
        entity = f"Content-Type: {record.media_type}\r\nContent-Length: {record.length}\r\n"
        lines = self._lines(record.etag, record.last_modified, facts, entity)
        return b"%b%b%b\r\n" % (_OK, self._clock.date_line, lines)

    def redated(self, head: bytes) -> bytes:
        """A 200's head with the Date of this second, which is as long as any."""
        date_line = self._clock.date_line
        return b"%b%b%b" % (_OK, date_line, head[len(_OK) + len(date_line) :])

    def _deliver_range(
        self,
        request: Request,
        representation: Representation,
        facts: Facts,
        cache: str,
    ) -> Response | None:
        """A 206 or 416, None when the whole is the answer. RFC 9110 sections 14.2 and 13.1.5."""
        field = request.field(b"range")
        if field is None:
            return None
        if_range = request.field(b"if-range")
        # When its origin said so, not when we say it again: a second version may have come within
        # the second of the first.
        said_at = self._clock.wall - (facts.age_s or 0)
        if if_range is not None and not if_range_holds(
            if_range, representation.etag, representation.last_modified, said_at
        ):
            return None
        length = representation.length
        ranges = None if length == UNKNOWN_LENGTH else select_ranges(field, length)
        if ranges is None or not can_frame(ranges, representation.media_type):
            return None
        if ranges is UNSATISFIABLE:
            facts = dataclasses.replace(facts, cache_control="no-store")  # as for a 412
            entity = f"Content-Range: {unsatisfied_range(length)}\r\nContent-Length: 0\r\n"
            head = self._head(416, representation, facts, entity)
            return Response(416, head, cache=cache)
        if len(ranges) == 1:
            one = ranges[0]
            entity = (
                f"Content-Type: {representation.media_type}\r\n"
                f"Content-Range: {content_range(one.first, one.last, length)}\r\n"
                f"Content-Length: {one.size}\r\n"
            )
            head = self._head(206, representation, facts, entity)
            part = _part(representation.body, one)
            return Response(206, head, (part,), one.size, cache=cache)
        frame = frame_multipart(representation.media_type, length, ranges, self._boundary)
        body: list[bytes | FileSlice | Stretch] = []
        for part_head, one in zip(frame.heads, frame.ranges, strict=True):
            body += (part_head, _part(representation.body, one))
        body.append(frame.closing)
        entity = f"Content-Type: {frame.content_type}\r\nContent-Length: {frame.content_length}\r\n"
        head = self._head(206, representation, facts, entity)
        return Response(206, head, body, frame.content_length, cache=cache)

    def _head(
        self, status: int, representation: Representation, facts: Facts, entity: str
    ) -> bytes:
        return (
            status_line(status)
            + self._clock.date_line
            + self._lines(representation.etag, representation.last_modified, facts, entity)
            + field_lines(representation.fields)
        )

    def _lines(self, etag: str, last_modified: int, facts: Facts, entity: str) -> bytes:
        """What every head of a representation says after its Date."""
        age = "" if facts.age_s is None else f"Age: {facts.age_s}\r\n{self._via}"
        timing = f"Server-Timing: {facts.timing}\r\n" if facts.timing else ""
        # While it arrives, the tag of what is named by its bytes is known to nobody.
        tag = f"ETag: {etag}\r\n" if etag else ""
        # RFC 9110 section 8.8.2.1: not later than Date, whatever a file's own clock said.
        modified = min(last_modified, self._clock.wall)
        return (
            f"{SERVER}{entity}"
            f"{tag}Last-Modified: {format_date(modified)}\r\n"
            "Accept-Ranges: bytes\r\n"
            f"Cache-Control: {facts.cache_control}\r\n{facts.vary}"
            f"{age}{NOSNIFF}Cache-Status: {facts.cache_status}\r\n{timing}"
        ).encode("latin-1")

    def pass_on(
        self,
        request: Request,
        status: int,
        fields: tuple[tuple[str, str], ...],
        body: bytes | FileSlice | Stretch,
        cache_status: str,
        length: int | None = None,
        *,
        has_via: bool = False,
        aside: ClientAside | None = None,
    ) -> Response:
        """An origin's answer that is not ours to keep, with the fields that may be passed on.

        length: of what is still arriving, as far as it is known. has_via: the fields name us.
        aside: what came with it for this client; without trailers a body that is here has a length.
        """
        if length is None:
            length = len(body)
        parts: Body = (body,) if length else ()
        if aside is not None and aside.has_trailers and not isinstance(body, Stretch):
            parts = _chunked(body, aside.last_chunk())
            entity = f"{aside.trailer_line()}Transfer-Encoding: chunked\r\n"
            length = sum(map(len, parts))
        elif length == UNKNOWN_LENGTH:
            entity = "" if aside is None else aside.trailer_line()
            if aside is not None and isinstance(body, Stretch):
                body.last_chunk = aside.last_chunk
        else:
            # RFC 9110 section 8.6: no Content-Length in a 204.
            entity = "" if status in BODILESS_STATUSES else f"Content-Length: {length}\r\n"
        head = (
            status_line(status)
            + self._clock.date_line
            + f"{SERVER}{entity}{'' if has_via else self._via}{NOSNIFF}"
            f"Cache-Status: {cache_status}\r\n".encode()
            + field_lines(fields)
        )
        return with_pieces(status, head, request, parts, length, "PASS")

    def pass_whole(self, status: int, fields: Headers, cache_status: str, body: bytes) -> Response:
        """pass_on() of what has come whole with its head: most of what applications say to GET.
        The fields name us."""
        head = b"%b%bContent-Length: %d\r\n%b" % (
            status_line(status),
            self._clock.date_line,
            len(body),
            _passed_lines(fields, cache_status),
        )
        if not body:
            return Response(status, head, cache="PASS")
        return Response(status, head, (body,), len(body), cache="PASS")

    def redirect(self, location: str, cache_status: str) -> Response:
        """To the step that is served instead. location is a URL of our own building."""
        lines = field_lines((("Location", location),))
        head = (
            status_line(302)
            + self._clock.date_line
            + f"{SERVER}Content-Length: 0\r\nCache-Control: public, max-age=600\r\n"
            f"Cache-Status: {cache_status}\r\n".encode()
            + lines
        )
        return Response(302, head)

    def refuse(
        self,
        request: Request | None,
        refusal: Refusal,
        request_id: str,
        cache_status: str,
        *,
        retry_after_s: int = 0,
        allow: str = "",
        close: bool = False,
    ) -> Response:
        """A fixed sentence with the id under which the log has the rest. Never stored by anyone."""
        body = f"{refusal.sentence} (request {request_id})\n".encode()
        text = (
            f"{SERVER}Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{NOSNIFF}"
            f"X-Request-Id: {request_id}\r\nCache-Status: {cache_status}\r\n"
        )
        if refusal.status in RETRY_AFTER_STATUSES:
            text += f"Retry-After: {max(1, retry_after_s)}\r\n"
        if allow:
            text += f"Allow: {allow}\r\n"
        head = status_line(refusal.status) + self._clock.date_line + text.encode("latin-1")
        if request is not None and request.method == b"HEAD":
            return Response(refusal.status, head, cache="ERROR", close=close)
        return Response(refusal.status, head, (body,), len(body), cache="ERROR", close=close)

    def receipt(self, body: bytes, request_id: str) -> Response:
        """Of a purge: JSON."""
        head = (
            status_line(200)
            + self._clock.date_line
            + f"{SERVER}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\n{NOSNIFF}X-Request-Id: {request_id}\r\n".encode()
        )
        return Response(200, head, (body,), len(body), cache="PURGE")

    def options(self, allow: str) -> Response:
        """RFC 9110 section 9.3.7."""
        head = status_line(204) + self._clock.date_line + f"{SERVER}Allow: {allow}\r\n".encode()
        return Response(204, head)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _passed_lines(fields: Headers, cache_status: str) -> bytes:
    ours = f"{SERVER}{NOSNIFF}Cache-Status: {cache_status}\r\n"
    return ours.encode() + field_lines(fields)


def _entity(representation: Representation) -> str:
    if representation.length == UNKNOWN_LENGTH:
        return f"Content-Type: {representation.media_type}\r\n"
    return (
        f"Content-Type: {representation.media_type}\r\nContent-Length: {representation.length}\r\n"
    )


def _part(body: bytes | FileSlice | Stretch, one: ByteRange) -> bytes | FileSlice | Stretch:
    if isinstance(body, FileSlice | Stretch):
        return body.part(one.first, one.last)
    return body[one.first : one.last + 1]


def _chunked(body: bytes | FileSlice, last_chunk: bytes) -> Body:
    """All of it in one chunk, RFC 9112 section 7.1."""
    if not len(body):
        return (last_chunk,)
    return (b"%x\r\n" % len(body), body, b"\r\n", last_chunk)


def with_pieces(
    status: int, head: bytes, request: Request, body: Body, length: int, cache: str
) -> Response:
    """RFC 9110 section 9.3.2: HEAD has the fields of GET and no body. length may be unknown; then
    head is without it."""
    if request.method == b"HEAD" or length == 0:
        return Response(status, head, cache=cache)
    if length != UNKNOWN_LENGTH:
        return Response(status, head, body, length, cache=cache)
    if request.minor == 0:
        # RFC 9112 section 6.1: no Transfer-Encoding for who may not know it; the end of the
        # connection is the end of the body, and a body that fails is cut by a reset.
        return Response(status, head, body, cache=cache, close=True)
    for part in body:
        assert isinstance(part, Stretch)
        part.is_chunked = True
    head += b"Transfer-Encoding: chunked\r\n"
    return Response(status, head, body, cache=cache)
