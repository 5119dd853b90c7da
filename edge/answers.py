"""Stored answers of an origin: as entries of the store, and from there to responses again.

    Key(source, "vary")           no body; by which request fields the answers were chosen
    Key(source, "as " + digest)   the answer to requests with these values of those fields

Both carry the token of the source, so that one purge of it makes all of them unreachable. What the
origin said stands in the entry's headers as it was, with ":status" in front.
"""

import dataclasses
import enum
from dataclasses import dataclass
from typing import Final

from cache.entry import Entry
from cache.index.interface import Token
from cache.key import Key, SourceId
from edge.clock import Clock
from edge.deliver import NOSNIFF, SERVER, with_pieces
from edge.http.body import UNKNOWN_LENGTH, FileSlice, Growing, Stretch
from edge.http.conditional import Preconditions, Verdict, evaluate
from edge.http.date import parse_date
from edge.http.directives import (
    SURROGATE,
    TARGETED,
    effective_control,
    parse_cache_control,
)
from edge.http.forwarding import age_of_answer, repeated_fields, via_of_answer
from edge.http.freshness import NO_STALE, initial_age, lifetime, stale_windows
from edge.http.messages import Body, Request, Response
from edge.http.range import (
    UNSATISFIABLE,
    can_frame,
    content_range,
    frame_multipart,
    if_range_holds,
    select_ranges,
    unsatisfied_range,
)
from edge.http.vary import secondary_key, vary_names
from edge.http.writer import BODILESS_STATUSES, field_lines, status_line
from edge.origin.messages import Headers
from edge.policy.tags import parse_surrogate_key
from edge.record import MAX_AHEAD_S, STALE_DEFAULT, folded, is_same_version

STATUS: Final = ":status"
NAMES: Final = ":names"
SIGNPOST: Final = "vary"
# The scheme is part of a URL (RFC 9110 section 4.2.3), and of no SourceId.
_ALWAYS: Final = (":scheme",)
# RFC 9110 section 15.4.5: what a 304 repeats of the 200.
_IN_304: Final = frozenset(
    {"cache-control", "content-location", "etag", "expires", "vary", "last-modified"}
)
# And what belongs to the exchange; Set-Cookie is there for its own client only.
_REPEATED_IN_304: Final = _IN_304 | {"set-cookie", "via"}
# RFC 9111 section 3.2: of a 304, what describes a body that is not there.
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-range", "content-type", "transfer-encoding"}
)
# Of a 200, what is not true of a part of it (RFC 9530 section 2 and RFC 9110 section 14.4).
_OF_THE_WHOLE: Final = frozenset({"content-digest", "content-md5", "content-range"})
# Asked for again soon, where what was sent is over its time.
_STALE_CONTROL: Final = ("cache-control", "max-age=10")


class Standing(enum.Enum):
    FRESH = "fresh"
    MEANWHILE = "meanwhile"  # stale, and may be sent while the origin is asked
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored answer and its body. The slice may be sent many times. A Growing is still on its way
    into the store; then entry is without what the last byte tells."""

    entry: Entry
    body: FileSlice | Growing

    @property
    def length(self) -> int:
        """Of the body, or UNKNOWN_LENGTH."""
        return len(self.body) if isinstance(self.body, FileSlice) else self.body.length

    @property
    def can_be_sent(self) -> bool:
        """A body that the store refused in its middle is there for its first readers only."""
        body = self.body
        return isinstance(body, FileSlice) or (body.is_whole and not body.has_failed)

    def read(self) -> FileSlice | Stretch:
        return self.body if isinstance(self.body, FileSlice) else self.body.read()

    @property
    def status(self) -> int:
        return int(next(value for name, value in self.entry.headers if name == STATUS))

    @property
    def headers(self) -> Headers:
        return tuple(pair for pair in self.entry.headers if pair[0] != STATUS)

    def standing(self, now: int, softened: int) -> Standing:
        """softened: the newest soft purge that concerns it."""
        entry = self.entry
        is_whole = softened <= entry.seen and entry.stored_at <= now + MAX_AHEAD_S
        if is_whole and now < entry.fresh_until:
            return Standing.FRESH
        if entry.fresh_until < entry.revalidate_until and now < entry.revalidate_until:
            return Standing.MEANWHILE
        return Standing.OVER

    def with_own(self, own: Headers) -> "Kept":
        """For who asked: with what is not stored."""
        return Kept(dataclasses.replace(self.entry, headers=(*self.entry.headers, *own)), self.body)

    def without(self, names: frozenset[str]) -> "Kept":
        headers = tuple(pair for pair in self.entry.headers if pair[0] not in names)
        return Kept(dataclasses.replace(self.entry, headers=headers), self.body)

    def conditions(self) -> list[tuple[str, str]]:
        """The preconditions with which its origin is asked whether it still holds (RFC 9111
        section 4.3.1)."""
        fields = folded(self.headers)
        found = []
        for name, condition in (("etag", "if-none-match"), ("last-modified", "if-modified-since")):
            lines = fields.get(name, [])
            if len(lines) == 1:
                found.append((condition, lines[0]))
        return found


def key_of(source: SourceId, names: tuple[str, ...], selecting: dict[str, str]) -> Key:
    return Key(source, f"as {secondary_key((*_ALWAYS, *names), selecting)}")


def draft_of(
    key: Key,
    token: Token,
    status: int,
    headers: Headers,
    *,
    asked_at: int,
    answered_at: int,
    tags: tuple[str, ...],
    seen: int,
) -> Entry:
    """What is stored of an answer, but for its length and hash."""
    fields = folded(headers)
    control = effective_control(fields, SURROGATE)
    stored_at = answered_at - initial_age(fields, asked_at, answered_at)
    fresh_until = stored_at + lifetime(status, fields, control, answered_at)
    # A redirect or an error from before is no answer for a day.
    windows = stale_windows(control, STALE_DEFAULT if status == 200 else NO_STALE)
    etag, types = fields.get("etag", []), fields.get("content-type", [])
    modified = fields.get("last-modified", [])
    last_modified = parse_date(modified[0], answered_at) if len(modified) == 1 else None
    own_tags = parse_surrogate_key(fields.get("surrogate-key", ()))
    via = ("via", via) if (via := ", ".join(fields.get("via", []))) else None
    # RFC 9111 section 3.1: what no-cache and private name is not stored. What is told to us alone
    # is, since a 304 need not say it again (section 3.2); it goes no further.
    kept = tuple(
        pair
        for pair in headers
        if (pair[0] in TARGETED or repeated_fields((pair,))) and pair[0] not in control.withheld
    )
    return Entry(
        key=key,
        token=token,
        validator="",
        etag=etag[0] if len(etag) == 1 else "",
        media_type=types[0] if len(types) == 1 else "",
        last_modified=0 if last_modified is None else min(last_modified, answered_at),
        stored_at=stored_at,
        fresh_until=fresh_until,
        stale_until=fresh_until + windows.if_error_s,
        revalidate_until=fresh_until + windows.while_revalidate_s,
        headers=((STATUS, str(status)), *kept, *([via] if via else [])),
        tags=tuple(dict.fromkeys((*own_tags, *tags))),
        seen=seen,
    )


def withheld_of(headers: Headers, answer: Headers) -> Headers:
    """The fields of an answer that are for who asked alone. headers: those that say so, with the
    stored ones where the answer is a 304."""
    withheld = effective_control(folded(headers), SURROGATE).withheld - _OF_THE_BODY
    if not withheld:
        return ()
    return tuple(pair for pair in repeated_fields(answer) if pair[0] in withheld)


def signpost_of(source: SourceId, token: Token, names: tuple[str, ...], now: int) -> Entry:
    return Entry(
        key=Key(source, SIGNPOST),
        token=token,
        validator="",
        stored_at=now,
        headers=((NAMES, ",".join(names)),),
    )


def names_of(entry: Entry) -> tuple[str, ...]:
    """Of a signpost."""
    text = next((value for name, value in entry.headers if name == NAMES), "")
    return tuple(name for name in text.split(",") if name)


def confirmed_headers(kept: Kept, confirmation: Headers) -> Headers:
    """RFC 9111 sections 3.2 and 4.3.4: what a 304 says replaces what was stored, but for what
    belongs to the body."""
    new = tuple(pair for pair in confirmation if pair[0] not in _OF_THE_BODY | {"set-cookie"})
    replaced = {name for name, _ in new}
    return (*(pair for pair in kept.headers if pair[0] not in replaced), *new)


def is_confirmed_by(kept: Kept, confirmation: Headers) -> bool:
    """Is a 304 about the stored version (section 4.3.4), and is that chosen as it was before
    (section 4.1)? Else it confirms nothing that is here."""
    names = vary_names(folded(confirmed_headers(kept, confirmation)))
    return is_same_version(kept.entry.etag, confirmation) and names == vary_names(
        folded(kept.headers)
    )


class Writer:
    """Responses of stored answers, and of those that are passed. name stands in Via."""

    def __init__(self, clock: Clock, boundary: str, name: str) -> None:
        self._clock = clock
        self._boundary = boundary
        self._name = name

    def deliver(
        self,
        request: Request,
        kept: Kept,
        cache_status: str,
        cache: str,
        *,
        age_s: int | None,
        is_stale: bool = False,
    ) -> Response:
        """RFC 9110 section 13.2.2: preconditions, then Range, and both for a 200 only."""
        status, entry = kept.status, kept.entry
        if status == 200:
            verdict = evaluate(
                Preconditions(
                    if_match=request.field(b"if-match"),
                    if_none_match=request.field(b"if-none-match"),
                    if_modified_since=request.field(b"if-modified-since"),
                    if_unmodified_since=request.field(b"if-unmodified-since"),
                ),
                is_safe=True,
                etag=entry.etag or None,
                last_modified=entry.last_modified or None,
            )
            if verdict is Verdict.NOT_MODIFIED:
                fields = tuple(pair for pair in kept.headers if pair[0] in _REPEATED_IN_304)
                head = self._head(304, fields, "", cache_status, age_s, is_stale)
                return Response(304, head, cache=cache)
            if verdict is Verdict.PRECONDITION_FAILED:
                lines = "Content-Length: 0\r\n"
                head = self._head(412, (("cache-control", "no-store"),), lines, cache_status, None)
                return Response(412, head, cache=cache)
            ranged = self._ranged(request, kept, cache_status, cache, age_s, is_stale)
            if ranged is not None:
                return ranged
        length = kept.length
        ranges = "Accept-Ranges: bytes\r\n" if status == 200 else ""
        is_told = status not in BODILESS_STATUSES and length != UNKNOWN_LENGTH
        told = f"Content-Length: {length}\r\n" if is_told else ""
        head = self._head(status, kept.headers, told + ranges, cache_status, age_s, is_stale)
        if request.method == b"HEAD" or length == 0:
            return Response(status, head, cache=cache)
        return with_pieces(status, head, request, (kept.read(),), length, cache)

    def _ranged(
        self,
        request: Request,
        kept: Kept,
        cache_status: str,
        cache: str,
        age_s: int | None,
        is_stale: bool,
    ) -> Response | None:
        """RFC 9110 sections 14.2 and 13.1.5."""
        field, entry, length = request.field(b"range"), kept.entry, kept.length
        if field is None or request.method != b"GET" or length == UNKNOWN_LENGTH:
            return None
        if_range = request.field(b"if-range")
        if if_range is not None and not if_range_holds(
            if_range, entry.etag, entry.last_modified or None, entry.stored_at
        ):
            return None
        ranges = select_ranges(field, length)
        if ranges is None or not can_frame(ranges, entry.media_type):
            return None
        if ranges is UNSATISFIABLE:
            lines = f"Content-Range: {unsatisfied_range(length)}\r\nContent-Length: 0\r\n"
            head = self._head(416, (("cache-control", "no-store"),), lines, cache_status, None)
            return Response(416, head, cache=cache)
        kept = kept.without(_OF_THE_WHOLE)
        if len(ranges) == 1:
            one = ranges[0]
            lines = (
                f"Content-Range: {content_range(one.first, one.last, length)}\r\n"
                f"Content-Length: {one.size}\r\n"
            )
            head = self._head(206, kept.headers, lines, cache_status, age_s, is_stale)
            part = kept.read().part(one.first, one.last)
            return Response(206, head, (part,), one.size, cache=cache)
        frame = frame_multipart(entry.media_type, length, ranges, self._boundary)
        body: list[bytes | FileSlice | Stretch] = []
        for part_head, one in zip(frame.heads, frame.ranges, strict=True):
            body += (part_head, kept.read().part(one.first, one.last))
        body.append(frame.closing)
        fields = tuple(pair for pair in kept.headers if pair[0] != "content-type")
        lines = f"Content-Type: {frame.content_type}\r\nContent-Length: {frame.content_length}\r\n"
        head = self._head(206, fields, lines, cache_status, age_s, is_stale)
        parts: Body = tuple(body)
        return Response(206, head, parts, frame.content_length, cache=cache)

    def bare(
        self, request: Request, status: int, headers: Headers, length: int | None, cache_status: str
    ) -> Response:
        """An answer without a body that is passed on: to HEAD, or a 204 or 304."""
        is_told = length is not None and status not in BODILESS_STATUSES
        lines = f"Content-Length: {length}\r\n" if is_told else ""
        lines += "".join(f"Age: {age}\r\n" for _, age in age_of_answer(headers))
        return Response(
            status, self._head(status, headers, lines, cache_status, None), cache="PASS"
        )

    def _head(
        self,
        status: int,
        headers: Headers,
        lines: str,
        cache_status: str,
        age_s: int | None,
        is_stale: bool = False,
    ) -> bytes:
        via = via_of_answer(headers, self._name)
        fields = repeated_fields(headers)
        if is_stale and _may_be_kept(fields):
            fields = tuple(pair for pair in fields if pair[0] not in ("cache-control", "expires"))
            fields += (_STALE_CONTROL,)
        age = "" if age_s is None else f"Age: {max(age_s, 0)}\r\n"
        own = f"{SERVER}{lines}{age}Via: {via}\r\n{NOSNIFF}Cache-Status: {cache_status}\r\n"
        return (
            status_line(status)
            + self._clock.date_line
            + own.encode("latin-1")
            + field_lines(fields)
        )


def _may_be_kept(fields: Headers) -> bool:
    """By others than us: what the origin forbids them stays forbidden, whatever it has told us
    apart (RFC 9213 section 2.2). Its own words are then the right ones."""
    control = parse_cache_control(folded(fields).get("cache-control", ()))
    return not (
        control.no_store
        or control.private
        or control.no_cache
        or control.must_revalidate
        or control.proxy_revalidate
    )


def with_body(entry: Entry, length: int, digest: bytes) -> Entry:
    return dataclasses.replace(entry, length=length, body_hash=digest)
