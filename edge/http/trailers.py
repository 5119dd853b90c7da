"""Trailers, RFC 9110 section 6.5: who takes them, and which may be passed on. Pure.

A trailer is no header field: none is merged into a head here. Whoever behind us merges them all the
same must not be misled, so what frames, routes, authenticates, controls or describes a message is
left out, as section 6.5.1 wants of senders.
"""

from typing import Final

from edge.http.forwarding import repeated_fields
from edge.origin.messages import CONTROL_PREFIXES, HOP_BY_HOP, Headers

_FORBIDDEN: Final = HOP_BY_HOP | {
    # routing
    *("host", "location", "refresh", "forwarded", "max-forwards", "cdn-loop", "alt-svc"),
    # authentication
    *("authorization", "authentication-info", "www-authenticate", "cookie", "cookie2"),
    *("set-cookie", "set-cookie2", "clear-site-data", "strict-transport-security"),
    # modifiers of requests
    *("expect", "range", "origin", "referer"),
    # control of answers
    *("cache-control", "expires", "pragma", "retry-after", "vary", "last-modified"),
    *("allow", "x-frame-options"),
}
_FORBIDDEN_PREFIXES: Final = (
    *CONTROL_PREFIXES,
    *("content-", "access-control-", "cross-origin-", "if-", "proxy-", "sec-", "x-forwarded-"),
)
# RFC 9530 section 2: made for trailers, where the digest of a stream is known.
_ALLOWED: Final = frozenset({"content-digest"})


def takes_trailers(te: str | None) -> bool:
    """Does this TE say so (section 10.1.4)?"""
    members = (te or "").lower().split(",")
    return any(member.strip(" \t") == "trailers" for member in members)


def is_passed(name: str) -> bool:
    """name is in lower case."""
    if name in _ALLOWED:
        return True
    is_forbidden = name in _FORBIDDEN or name.startswith(_FORBIDDEN_PREFIXES)
    return not is_forbidden and bool(repeated_fields(((name, ""),)))


def passed_trailers(trailers: Headers) -> Headers:
    """Those that may go on to the client."""
    return tuple(pair for pair in trailers if is_passed(pair[0]))
