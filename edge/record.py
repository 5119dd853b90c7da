"""What a file or an origin's answer says of an original: its record, and how to ask for it again.

A validator of a docroot file is the file's own. That of an origin's original is a word and values,
HASH being the xxh3-128 of the bytes:

    etag "abc"                 asked with If-None-Match
    weak HASH W/"abc"          likewise, also for a tag that is malformed
    modified HASH 1700000000   asked with If-Modified-Since
    hash HASH                  nothing to ask with

A weak tag and a date may stay the same while the bytes change (RFC 9110 section 8.8.1), and strong
tags of ours are made of validators: hence the hash in all but the first.
"""

import dataclasses
from typing import Final

from cache.entry import Entry
from cache.index.interface import NO_OTHER, SourceRecord
from edge.http.date import format_date, parse_date
from edge.http.directives import (
    SURROGATE,
    CacheControl,
    Fields,
    effective_control,
    parse_cache_control,
)
from edge.http.etag import original_etag, parse_entity_tags
from edge.http.freshness import NO_STALE, StaleWindows, initial_age, lifetime, stale_windows
from edge.http.media_types import media_type_of
from edge.http.vary import vary_names
from edge.origin.files import FileStatus, OpenedFile
from edge.origin.messages import FIELD_VALUE, Headers, OriginResponse

# What a dead origin once gave is served for a day unless it forbade it (must-revalidate and kin):
# RFC 9111 section 4.2.4 allows it to a cache that is disconnected.
STALE_DEFAULT: Final = StaleWindows(if_error_s=86_400)
# Fields of an origin's answer that describe the body or its use, and are replayed with it. What
# speaks of the exchange or of freshness is ours to say.
REPLAYED: Final = frozenset(
    (
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-security-policy",
        "link",
        "x-robots-tag",
    )
)
# Fields of an answer that is passed on which are ours to write, or which we do not make true.
OWN: Final = frozenset(
    (
        "accept-ranges",
        "cache-status",
        "cdn-cache-control",
        "content-length",
        "date",
        "server",
        "surrogate-control",
        "surrogate-key",
        "x-content-type-options",
    )
)
# A record from further ahead was made before the clock was set back: what it says of time is over.
MAX_AHEAD_S: Final = 60
# Stands for the hash until the last byte is there; a draft's head then has room for the real one.
_NO_HASH: Final = "0" * 32


def record_of_file(
    status: FileStatus | OpenedFile, path: str, tags: tuple[str, ...]
) -> SourceRecord:
    modified = status.mtime_ns // 1_000_000_000
    validator = status.validator
    return SourceRecord(
        validator=validator,
        etag=original_etag(validator),
        media_type=media_type_of(path),
        length=status.size,
        last_modified=max(0, modified),
        stored_at=0,
        fresh_until=0,
        tags=tags,
    )


def tagged(record: SourceRecord, tags: tuple[str, ...]) -> SourceRecord:
    """With these tags, too: the configured ones may be newer than the record."""
    missing = tuple(tag for tag in tags if tag not in record.tags)
    return dataclasses.replace(record, tags=record.tags + missing) if missing else record


def folded(headers: Headers) -> dict[str, list[str]]:
    """Field lines by lower-case name, kept apart."""
    fields: dict[str, list[str]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value)
    return fields


def _validator_of(fields: dict[str, list[str]], last_modified: int | None) -> str:
    tags = fields.get("etag", [])
    if len(tags) == 1 and len(tags[0]) <= 256:
        return f"etag {tags[0]}" if _is_strong(tags[0]) else f"weak {_NO_HASH} {tags[0]}"
    return f"hash {_NO_HASH}" if last_modified is None else f"modified {_NO_HASH} {last_modified}"


def _is_strong(tag: str) -> bool:
    parsed = parse_entity_tags(tag)
    return isinstance(parsed, tuple) and [str(one) for one in parsed if not one.weak] == [tag]


def conditional_fields(validator: str) -> list[tuple[str, str]]:
    """The precondition with which an origin is asked whether this version still holds."""
    word, _, rest = validator.partition(" ")
    value = rest.partition(" ")[2]
    match word:
        case "etag":
            return [("if-none-match", rest)]
        case "weak":
            return [("if-none-match", value)]
        case "modified":
            return [("if-modified-since", format_date(int(value)))]
        case _:
            return []


class ConfirmsNothing(Exception):
    """A 304, and what it says cannot be of what was asked about. The whole is to be asked for."""


def is_confirmed_by(record: SourceRecord, confirmation: Headers) -> bool:
    """Is a 304 about this version, and about one for everybody? Of another one it updates nothing
    (RFC 9111 section 4.3.4), and fields that choose between several (section 4.1) cannot be told
    from it."""
    word, _, rest = record.validator.partition(" ")
    own = {"etag": rest, "weak": rest.partition(" ")[2]}.get(word, "")
    return is_same_version(own, confirmation) and vary_names(folded(confirmation)) == ()


def is_same_version(etag: str, confirmation: Headers) -> bool:
    """False where both name one, and not the same."""
    told = folded(confirmation).get("etag", [])
    return not (told and etag) or told[0].removeprefix("W/") == etag.removeprefix("W/")


def completed(record: SourceRecord, length: int, digest: bytes) -> SourceRecord:
    """The record of a response whose last byte is there; digest is their xxh3-128.

    Clients are told the origin's own tag where it is strong, else one of the bytes (RFC 9110
    section 8.8.3).
    """
    word, _, rest = record.validator.partition(" ")
    if word == "etag":
        return dataclasses.replace(record, length=length, etag=rest)
    value = rest.partition(" ")[2]
    validator = f"{word} {digest.hex()} {value}".rstrip()
    return dataclasses.replace(record, length=length, validator=validator, etag=f'"{digest.hex()}"')


def named_early(record: SourceRecord) -> SourceRecord:
    """The record of what is still arriving: only the origin's own strong tag is known."""
    word, _, rest = record.validator.partition(" ")
    return dataclasses.replace(record, etag=rest if word == "etag" else "")


def record_of_response(
    path: str, response: OriginResponse, asked_at: int, answered_at: int
) -> SourceRecord:
    """The record but for what is known with the last byte only: see completed()."""
    fields = folded(response.headers)
    control = effective_control(fields, SURROGATE)
    stored_at = answered_at - initial_age(fields, asked_at, answered_at)
    span = lifetime(response.status, fields, control, answered_at)
    fresh_until = stored_at + span
    windows = stale_windows(control, STALE_DEFAULT)
    modified = fields.get("last-modified", [])
    last_modified = parse_date(modified[0], answered_at) if len(modified) == 1 else None
    types = fields.get("content-type", [])
    return SourceRecord(
        validator=_validator_of(fields, last_modified),
        etag="",
        media_type=types[0] if len(types) == 1 else media_type_of(path),
        length=response.content_length or 0,
        # RFC 9110 section 8.8.2.1: never later than the time of the response.
        last_modified=min(last_modified, answered_at) if last_modified is not None else stored_at,
        stored_at=stored_at,
        fresh_until=fresh_until,
        stale_until=fresh_until + windows.if_error_s,
        revalidate_until=fresh_until + windows.while_revalidate_s,
        max_age=_max_age(response.status, fields, control, span, answered_at),
    )


def refreshed(
    record: SourceRecord, response: OriginResponse, asked_at: int, answered_at: int
) -> SourceRecord:
    """RFC 9111 section 4.3.4: a 304 brings a new lifetime to the stored response."""
    fields = folded(response.headers)
    control = effective_control(fields, SURROGATE)
    stored_at = answered_at - initial_age(fields, asked_at, answered_at)
    told = {"cache-control", "expires", "cdn-cache-control", "surrogate-control"}
    if not told & fields.keys():
        # Section 3.2: fields that the 304 does not have stay as they were stored.
        span = max(record.fresh_until - record.stored_at, 0)
        windows = StaleWindows(
            max(record.revalidate_until - record.fresh_until, 0),
            max(record.stale_until - record.fresh_until, 0),
        )
        max_age = record.max_age
    elif control.no_store or control.private:
        # True for those who wait for this answer, and for nobody later.
        span, windows, max_age = 0, NO_STALE, NO_OTHER
    else:
        span = lifetime(200, fields, control, answered_at)
        windows = stale_windows(control, STALE_DEFAULT)
        max_age = _max_age(200, fields, control, span, answered_at)
    fresh_until = stored_at + span
    return dataclasses.replace(
        record,
        stored_at=stored_at,
        fresh_until=fresh_until,
        stale_until=fresh_until + windows.if_error_s,
        revalidate_until=fresh_until + windows.while_revalidate_s,
        max_age=max_age,
    )


def _max_age(
    status: int, fields: Fields, control: CacheControl, span: int, answered_at: int
) -> int:
    """What the origin grants browsers, where it names another lifetime, span, for shared caches
    (s-maxage) or for us alone (CDN-Cache-Control)."""
    own = parse_cache_control(fields.get("cache-control", ())) if control.targeted else control
    if control.targeted and (own.no_store or own.private or own.no_cache):
        return 0
    if not control.targeted and control.s_maxage is None:
        return NO_OTHER
    if own.max_age is None and not fields.get("expires"):
        return NO_OTHER
    granted = lifetime(status, fields, dataclasses.replace(own, s_maxage=None), answered_at)
    return NO_OTHER if granted == span else granted


def is_fresh(record: SourceRecord, now: int) -> bool:
    return now < record.fresh_until and record.stored_at <= now + MAX_AHEAD_S


def ended(record: SourceRecord) -> SourceRecord:
    """Of an original that its origin has taken away, or keeps to itself from now on."""
    return dataclasses.replace(record, fresh_until=0, stale_until=0, revalidate_until=0)


def is_ended(record: SourceRecord) -> bool:
    return record.fresh_until == 0


def may_use_meanwhile(record: SourceRecord, now: int) -> bool:
    """May it be used while its origin is asked? RFC 5861 section 3."""
    return record.fresh_until < record.revalidate_until and now < record.revalidate_until


def stale_limit(record: SourceRecord) -> int:
    """The end of all permission: until then it may be used in one way or the other."""
    if record.fresh_until < record.revalidate_until:
        return max(record.stale_until, record.revalidate_until)
    return record.stale_until


def record_of_entry(entry: Entry) -> SourceRecord:
    return SourceRecord(
        validator=entry.validator,
        etag=entry.etag,
        media_type=entry.media_type,
        length=entry.length,
        last_modified=entry.last_modified,
        stored_at=entry.stored_at,
        fresh_until=entry.fresh_until,
        stale_until=entry.stale_until,
        width=entry.width,
        height=entry.height,
        tags=entry.tags,
        revalidate_until=entry.revalidate_until,
        seen=entry.seen,
    )


def replayed_fields(headers: Headers) -> Headers:
    names = REPLAYED - effective_control(folded(headers), SURROGATE).withheld
    return tuple((name, value) for name, value in headers if name in names)


def passed_fields(headers: Headers) -> Headers:
    """An uncacheable answer goes through with its own fields, but for those we write ourselves."""
    return tuple((name, value) for name, value in headers if name not in OWN)


def is_replayable(entry: Entry) -> bool:
    """Whether an original that another node has stored may go into response heads of ours: its
    texts are what completed() and replayed_fields() leave."""
    record = record_of_entry(entry)
    named = completed(record, entry.length, entry.body_hash)
    texts = (entry.etag, entry.media_type, *(value for _, value in entry.headers))
    return (
        (named.validator, named.etag) == (entry.validator, entry.etag)
        and all(name in REPLAYED for name, _ in entry.headers)
        and all(FIELD_VALUE.fullmatch(text) is not None for text in texts)
    )
