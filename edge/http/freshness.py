"""Storing, lifetime, age and staleness of an origin's response, RFC 9111 sections 3 and 4.

Only arithmetic: times are whole seconds since 1970 and are arguments. The directives that
decide are found by edge.http.directives; what needs them takes them as control.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from edge.http.date import parse_date
from edge.http.directives import MAX_DELTA_S, CacheControl, Fields, parse_delta_seconds

# Section 15.1 of RFC 9110: statuses that may be stored without being told so.
HEURISTICALLY_CACHEABLE: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}
)
# Statuses whose caching rules we know, for must-understand (RFC 9111 section 5.2.2.3).
UNDERSTOOD: Final = (HEURISTICALLY_CACHEABLE - {206}) | {302, 303, 307}
# What is said of how one request was made, and not of what it asks for: of its length, its other
# fields, its preconditions, its Range, its client. No key holds these, and whoever gets one stored
# refuses the URL to everybody. RFC 6585 forbids it for 428, 429, 431 and 511.
OF_ONE_REQUEST: Final = frozenset(
    {400, 407, 408, 411, 412, 413, 415, 416, 417, 421, 426, 428, 429, 431, 511}
)
# RFC 5861 section 4 names these; "no answer at all" counts as 502 or 504.
STALE_IF_ERROR_STATUSES: Final = frozenset({500, 502, 503, 504})
# Section 4.2.2: "a typical setting of this fraction might be 10%".
HEURISTIC_DIVISOR: Final = 10
# A picture replaced without telling anyone is wrong for a day at most.
HEURISTIC_CAP_S: Final = 86_400


class Storability(enum.StrEnum):
    """May it be stored? The value is the word for logs and for detail= of Cache-Status."""

    STORABLE = "storable"
    METHOD = "method"  # only GET is stored
    STATUS = "status"  # interim, of one request, or must-understand and we do not
    PARTIAL = "partial"  # 206: whole pictures or nothing
    NO_STORE = "no-store"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    COOKIE = "cookie"  # who asked has one, and nothing says that it is for everybody
    SET_COOKIE = "set-cookie"
    VARY = "vary"  # varies by something that the key does not hold
    NO_LIFETIME = "no-lifetime"  # nothing says how long, and the status allows no guess


class Reuse(enum.Enum):
    """What to do with a stored response of some age."""

    FRESH = "fresh"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"  # send it, refresh behind
    VALIDATE = "validate"  # ask first; may_use_on_error says what a failure allows


@dataclass(frozen=True, slots=True)
class StaleWindows:
    """Seconds past the lifetime during which a stale response may still be sent."""

    while_revalidate_s: int = 0
    if_error_s: int = 0

    def __post_init__(self) -> None:
        if self.while_revalidate_s < 0 or self.if_error_s < 0:
            raise ValueError("a window is not negative")


NO_STALE: Final = StaleWindows()


def may_store(
    method: str,
    status: int,
    fields: Fields,
    request_has_authorization: bool,
    control: CacheControl,
    *,
    key_covers: Collection[str] = (),
) -> Storability:
    """Section 3, and the stricter rules of our own. key_covers: the lower-case request fields whose
    meaning is part of the cache key. A response cut short is the caller's to refuse."""
    if method != "GET":
        return Storability.METHOD
    # 304 updates a stored response and is none itself.
    if not 200 <= status <= 599 or status == 304 or status in OF_ONE_REQUEST:
        return Storability.STATUS
    if status == 206:
        return Storability.PARTIAL
    if control.must_understand and status not in UNDERSTOOD:
        return Storability.STATUS
    # Section 5.2.2.3: a cache that understands the status "ignores the no-store directive".
    if control.no_store and not control.must_understand:
        return Storability.NO_STORE
    if control.private:
        return Storability.PRIVATE
    # Section 3.5.
    if request_has_authorization and not (
        control.public or control.must_revalidate or control.s_maxage is not None
    ):
        return Storability.AUTHORIZATION
    if fields.get("set-cookie") and "set-cookie" not in control.withheld:
        return Storability.SET_COOKIE
    if not varying_fields(fields) <= frozenset(key_covers):
        return Storability.VARY
    if status in HEURISTICALLY_CACHEABLE or control.public or _is_explicit(fields, control):
        return Storability.STORABLE
    return Storability.NO_LIFETIME


def varying_fields(fields: Fields) -> frozenset[str]:
    """The lower-case members of Vary, "*" among them."""
    members = ",".join(fields.get("vary", ())).lower().split(",")
    return frozenset(stripped for member in members if (stripped := member.strip(" \t")))


def _is_explicit(fields: Fields, control: CacheControl) -> bool:
    if control.max_age is not None or control.s_maxage is not None:
        return True
    return bool(fields.get("expires")) and not control.targeted


def lifetime(
    status: int,
    fields: Fields,
    control: CacheControl,
    response_time: int,
    *,
    heuristic_cap_s: int = HEURISTIC_CAP_S,
) -> int:
    """Freshness lifetime in seconds, section 4.2.1; 0 where every use needs validation.

    s-maxage, else max-age, else Expires less Date, else a tenth of the time since Last-Modified.
    """
    # "Caches are encouraged to consider responses that have invalid freshness information [...] to
    # be stale", and of max-age beside no-cache "the most restrictive directive" counts.
    if control.malformed or control.no_cache:
        return 0
    if control.s_maxage is not None:
        return control.s_maxage
    if control.max_age is not None:
        return control.max_age
    date = _date(fields, "date", response_time)
    if date is None:
        date = response_time
    if fields.get("expires") and not control.targeted:
        # Section 5.3: an invalid date, "especially including the value "0"", is in the past.
        expires = _date(fields, "expires", response_time)
        return _clamp(expires - date) if expires is not None else 0
    if status not in HEURISTICALLY_CACHEABLE and not control.public:
        return 0
    last_modified = _date(fields, "last-modified", response_time)
    if last_modified is None:
        return 0
    return min(_clamp((date - last_modified) // HEURISTIC_DIVISOR), heuristic_cap_s)


def initial_age(fields: Fields, request_time: int, response_time: int) -> int:
    """corrected_initial_age of section 4.2.3: the age of a response when it reached us."""
    date = _date(fields, "date", response_time)
    apparent = max(0, response_time - date) if date is not None else 0
    corrected = received_age(fields) + max(0, response_time - request_time)
    return _clamp(max(apparent, corrected))


def received_age(fields: Fields) -> int:
    """Section 5.1: the first member of a list; what is no non-negative integer is ignored."""
    lines = fields.get("age", ())
    if not lines:
        return 0
    return parse_delta_seconds(lines[0].partition(",")[0].strip(" \t")) or 0


def current_age(corrected_initial_age: int, response_time: int, now: int) -> int:
    """Section 4.2.3. A clock set back makes nothing younger than it arrived."""
    return _clamp(corrected_initial_age + max(0, now - response_time))


def stale_windows(control: CacheControl, default: StaleWindows = NO_STALE) -> StaleWindows:
    """How long past its lifetime a response may be used: RFC 5861, within section 4.2.4.

    default is the site's own wish, for origins that say nothing. must-revalidate,
    proxy-revalidate and no-cache forbid everything. s-maxage alone forbids the default; a window
    that the origin itself wrote beside s-maxage is followed, being the more particular statement.
    """
    if control.must_revalidate or control.proxy_revalidate or control.no_cache:
        return NO_STALE
    if control.s_maxage is not None:
        default = NO_STALE
    while_revalidate, if_error = control.stale_while_revalidate, control.stale_if_error
    return StaleWindows(
        default.while_revalidate_s if while_revalidate is None else while_revalidate,
        default.if_error_s if if_error is None else if_error,
    )


def judge(age: int, lifetime_s: int, windows: StaleWindows) -> Reuse:
    """Section 4.2: "response_is_fresh = (freshness_lifetime > current_age)"."""
    if age < lifetime_s:
        return Reuse.FRESH
    # A window of N seconds is open for the N seconds that follow the lifetime.
    if age - lifetime_s < windows.while_revalidate_s:
        return Reuse.STALE_WHILE_REVALIDATE
    return Reuse.VALIDATE


def may_use_on_error(age: int, lifetime_s: int, windows: StaleWindows) -> bool:
    """May a stored response stand in for STALE_IF_ERROR_STATUSES or for no answer?"""
    return age < lifetime_s or age - lifetime_s < windows.if_error_s


def _date(fields: Fields, name: str, now: int) -> int | None:
    """The one date of a field. Two different values are none at all (section 4.2.1)."""
    lines = fields.get(name, ())
    if not lines or any(line != lines[0] for line in lines[1:]):
        return None
    return parse_date(lines[0], now)


def _clamp(seconds: int) -> int:
    return min(max(seconds, 0), MAX_DELTA_S)
