"""What a message loses and gains on its way through this node, RFC 9110 section 7.6. Pure.

A request keeps its end-to-end fields. It loses those of the connection and what Connection names,
what this node answers by itself (preconditions, Range), and what would choose an answer unseen; it
gains this node in Via and CDN-Loop (RFC 8586), and its client in X-Forwarded-For.
"""

import re
from collections.abc import Mapping
from typing import Final

from edge.http.freshness import received_age
from edge.origin.messages import HOP_BY_HOP, REMEMBERED, REMEMBERED_BYTES, Headers
from edge.remembered import remembered

# The cdn-id of RFC 8586: the same for every node, and a parameter tells which one.
CDN_ID: Final = "halftone"
# Decided by the cache for all who share what comes of it; put to the origin only where nothing is
# shared.
OF_THE_CACHE: Final = frozenset(
    {
        *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
        *("range", "if-range", "cache-control", "pragma"),
    }
)
# Ours to write; and Proxy (httpoxy).
_OURS: Final = frozenset(
    {
        *("host", "content-length", "expect", "accept-encoding", "via", "cdn-loop"),
        *("x-forwarded-for", "max-forwards", "surrogate-capability", "proxy"),
    }
)
# An application may answer differently to these, and no answer names them in Vary: what one client
# wrote there, all others would get. A proxy in front hands them on as its client sent them.
_UNKEYED: Final = frozenset(
    {
        *("cf-visitor", "cloudfront-forwarded-proto", "forwarded", "front-end-https", "x-host"),
        *("x-http-host-override", "x-http-method", "x-http-method-override", "x-method-override"),
        *("x-override-url", "x-real-ip", "x-rewrite-url", "x-scheme", "x-url-scheme"),
    }
)
_UNKEYED_PREFIXES: Final = ("x-forwarded", "x-original-")
# As variables of a script, names that differ in these alone are one (RFC 3875 section 4.1.18).
_ODD: Final = re.compile("[^0-9a-z-]")
# Of an answer: written by us, or meant for us alone.
_NOT_REPEATED: Final = frozenset(
    {
        *("accept-ranges", "age", "cache-status", "cdn-cache-control", "content-length", "date"),
        *("server", "surrogate-control", "surrogate-key", "via", "warning"),
        "x-content-type-options",
    }
)
_COMMENT: Final = re.compile(r"\([^()]*\)")
# A whole number of section 7.6.2.
_DIGITS: Final = re.compile("[0-9]{1,9}")


def is_loop(fields: Mapping[str, str], name: str) -> bool:
    """Has this request been here before? By Via (RFC 9110 section 7.6.3: received-by is our name)
    or by CDN-Loop (RFC 8586 section 2)."""
    for member in _COMMENT.sub("", fields.get("via", "")).split(","):
        words = member.split()
        if len(words) >= 2 and words[1].lower() == name.lower():
            return True
    own = f"node={name}".lower()
    for member in fields.get("cdn-loop", "").lower().split(","):
        cdn_id, *parameters = [part.strip(" \t") for part in member.split(";")]
        if cdn_id == CDN_ID and own in [part.replace('"', "") for part in parameters]:
            return True
    return False


def marks_of(name: str, fields: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Via and CDN-Loop of what this node asks, behind those of the request it asks for."""
    fields = {} if fields is None else fields
    own = (("via", f"1.1 {name}"), ("cdn-loop", f"{CDN_ID};node={name}"))
    return [(field, _appended(fields.get(field), mark)) for field, mark in own]


def forwarded_fields(
    fields: Mapping[str, str],
    *,
    peer: str,
    is_trusted: bool,
    scheme: str,
    keep: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """The fields of a request that go on to the origin, but for Host and marks_of().

    peer is the address of who sent it; is_trusted: what it says of those before it is believed.
    keep: of those that are the cache's own.
    """
    named = {option.strip(" \t").lower() for option in fields.get("connection", "").split(",")}
    dropped = HOP_BY_HOP | _OURS | (OF_THE_CACHE - keep) | named
    found = {
        name: value
        for name, value in fields.items()
        if name not in dropped and not _is_unkeyed(name)
    }
    before = fields.get("x-forwarded-for") if is_trusted else None
    found["x-forwarded-for"] = _appended(before, peer)
    found["x-forwarded-proto"] = scheme
    return found


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _is_unkeyed(name: str) -> bool:
    """Also by what a script would take it for: X_Forwarded_Host for X-Forwarded-Host."""
    plain = _ODD.sub("-", name)
    if plain in _UNKEYED or plain.startswith(_UNKEYED_PREFIXES):
        return True
    return plain != name and plain in HOP_BY_HOP | _OURS | OF_THE_CACHE


def repeated_fields(headers: Headers) -> Headers:
    """The fields of an answer that go on to the client beside those that this node writes."""
    return tuple((name, value) for name, value in headers if name not in _NOT_REPEATED)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def passed_fields_of(headers: Headers, name: str) -> Headers:
    """Of an answer that is handed on: what is repeated, the age that it had, and Via, in which what
    lies behind comes before us."""
    return (
        *repeated_fields(headers),
        *age_of_answer(headers),
        ("via", via_of_answer(headers, name)),
    )


def age_of_answer(headers: Headers) -> Headers:
    """Its Age, as far as it says one (RFC 9111 section 5.1): without it, what is old looks new to
    who is behind us, since the Date is ours."""
    lines = [value for field, value in headers if field == "age"]
    age_s = received_age({"age": lines})
    return (("age", str(age_s)),) if age_s else ()


def max_forwards(fields: Mapping[str, str]) -> int | None:
    """RFC 9110 section 7.6.2, of OPTIONS; None where nothing is said, or nothing that counts."""
    text = fields.get("max-forwards", "")
    return int(text) if _DIGITS.fullmatch(text) else None


def via_of_answer(headers: Headers, name: str) -> str:
    """Via of an answer that is handed on."""
    before = ", ".join(value for field, value in headers if field == "via")
    return _appended(before or None, f"1.1 {name}")


def _appended(before: str | None, own: str) -> str:
    return f"{before}, {own}" if before else own
