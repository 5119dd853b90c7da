"""Conditional requests, RFC 9110 section 13: one verdict from four fields.

The gates stand in the order of section 13.2.2. Call this only where the answer without
preconditions would be 2xx (section 13.2.1): a 404 stays a 404. Range and If-Range come after.

A list that cannot be parsed holds no tag that matches: If-Match fails, If-None-Match passes. For a
reader of pictures both are safe: the client gets 412, or the whole picture.
"""

import enum
from dataclasses import dataclass

from edge.http.date import parse_date
from edge.http.etag import ANY, EntityTag, parse_entity_tags, strong_match, weak_match


class Verdict(enum.Enum):
    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"  # 304
    PRECONDITION_FAILED = "precondition failed"  # 412


@dataclass(frozen=True, slots=True)
class Preconditions:
    """Field values as received, several lines joined by commas, None where the field is absent."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None


def evaluate(
    preconditions: Preconditions,
    *,
    is_safe: bool,
    etag: str | None,
    last_modified: int | None,
    exists: bool = True,
) -> Verdict:
    """What the preconditions make of a request.

    is_safe: the method is GET or HEAD. etag is the current tag as it stands on the wire and
    last_modified is in seconds since 1970; each None when the representation has none. exists is
    False when there is no current representation (a PUT that would create one).
    """
    # The browser's usual revalidation: our own tag comes back, alone. No list is built.
    if (
        etag is not None
        and preconditions.if_none_match == etag
        and preconditions.if_match is None
        and preconditions.if_unmodified_since is None
        and exists
    ):
        return Verdict.NOT_MODIFIED if is_safe else Verdict.PRECONDITION_FAILED

    # Steps 1 and 2. Section 13.1.4: "A recipient MUST ignore the If-Unmodified-Since header field
    # if the request contains an If-Match header field".
    if preconditions.if_match is not None:
        if not (exists and _holds_tag(preconditions.if_match, etag, strong=True)):
            return Verdict.PRECONDITION_FAILED
    elif preconditions.if_unmodified_since is not None and last_modified is not None:
        limit = parse_date(preconditions.if_unmodified_since)
        if limit is not None and last_modified > limit:
            return Verdict.PRECONDITION_FAILED

    # Steps 3 and 4. Section 13.1.3: "A recipient MUST ignore If-Modified-Since if the request
    # contains an If-None-Match header field", whatever that field holds.
    if preconditions.if_none_match is not None:
        if exists and _holds_tag(preconditions.if_none_match, etag, strong=False):
            return Verdict.NOT_MODIFIED if is_safe else Verdict.PRECONDITION_FAILED
    elif is_safe and preconditions.if_modified_since is not None and last_modified is not None:
        limit = parse_date(preconditions.if_modified_since)
        # Equal is not modified: a client that echoes Last-Modified must get its 304.
        if limit is not None and last_modified <= limit:
            return Verdict.NOT_MODIFIED

    return Verdict.PROCEED


def _holds_tag(field: str, etag: str | None, *, strong: bool) -> bool:
    """True when field is "*" or lists etag."""
    # Most tags that do not match occur nowhere in the field: a search is cheaper than a list.
    # The converse needs the list, for '","' is found between the tags of '"a","b"'.
    if "*" not in field and (etag is None or etag.removeprefix("W/") not in field):
        return False
    listed = parse_entity_tags(field)
    if listed is ANY:
        return True
    if listed is None or etag is None:
        return False
    current = _single(etag)
    if current is None:
        return False
    match = strong_match if strong else weak_match
    return any(match(tag, current) for tag in listed)


def _single(etag: str) -> EntityTag | None:
    """etag parsed; None for an origin's malformed tag, which no list can hold."""
    parsed = parse_entity_tags(etag)
    return parsed[0] if isinstance(parsed, tuple) and len(parsed) == 1 else None
