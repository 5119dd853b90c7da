"""Cache directives of a response: Cache-Control (RFC 9111 section 5.2.2), CDN-Cache-Control
(RFC 9213) and Surrogate-Control, folded into the one CacheControl that decides.

A targeted field that is present, parseable and not empty decides alone: Cache-Control, Expires and
Pragma are then not looked at (RFC 9213 section 2.2). Otherwise it is as if absent.

An origin that contradicts itself gets the stricter reading: two different values of one directive,
or one that is no number, count as 0, and a member that cannot be parsed makes the answer stale
while any restriction in it still holds. A permission is taken only from what is well-formed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from edge.http.structured import parse_dictionary

# Header fields by lower-case name, each line by itself.
Fields = Mapping[str, Sequence[str]]

# RFC 9111 section 1.2.2: larger delta-seconds are taken for 2**31.
MAX_DELTA_S: Final = 2**31
# Directives in one field; the longest real ones have ten.
MAX_DIRECTIVES: Final = 64

# Names that one qualified directive may list.
MAX_WITHHELD: Final = 32
# A stored answer without these would be misread: who withholds one of them withholds all of it.
INDISPENSABLE: Final = frozenset(
    {
        *("age", "cache-control", "content-encoding", "content-length", "content-range"),
        *("content-type", "date", "etag", "expires", "last-modified", "location"),
        *("transfer-encoding", "vary"),
    }
)

# Fields for us alone, or for caches of a kind.
TARGETED: Final = frozenset({"cdn-cache-control", "surrogate-control"})

# What we are called in Surrogate-Control: max-age=60;halftone
SURROGATE: Final = "halftone"

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = r'[^"\\]*+(?:\\.[^"\\]*+)*'
_DIRECTIVE: Final = rf'({_NAME})(?:=(?:({_NAME})|"({_QUOTED})"))?'
_MEMBER: Final = re.compile(rf"[ \t]*+(?:{_DIRECTIVE}[ \t]*+)?(?:,|\Z)")
_SURROGATE_MEMBER: Final = re.compile(
    rf"[ \t]*+(?:{_DIRECTIVE}(?:[ \t]*+;[ \t]*+({_NAME}))?[ \t]*+)?(?:,|\Z)"
)
_ESCAPED: Final = re.compile(r"\\(.)")
_DIGITS: Final = re.compile("[0-9]++")
_FIELD_NAME: Final = re.compile(_NAME)

_FLAGS: Final = frozenset(
    {
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
    }
)
_QUALIFIED: Final = frozenset({"no-cache", "private"})
_SECONDS: Final = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})
_RESTRICTION: Final = re.compile(
    r"(?<![\w-])(?:no-store|no-cache|private|must-revalidate|proxy-revalidate)(?![\w-])",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What an origin allows a shared cache. Seconds lie in 0 to MAX_DELTA_S; else ValueError.

    no_cache and private are the unqualified forms. withheld: fields that the qualified ones name,
    lower-case: they are for who asked, and are not stored (section 3.1). A list that cannot be
    read, or that names what is INDISPENSABLE, counts as the unqualified form. malformed: some of it
    could not be read; the answer is stale. targeted: read from a field meant for us, so Expires has
    no say.
    """

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    malformed: bool = False
    targeted: bool = False
    withheld: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for seconds in (
            self.max_age,
            self.s_maxage,
            self.stale_while_revalidate,
            self.stale_if_error,
        ):
            if seconds is not None and not 0 <= seconds <= MAX_DELTA_S:
                raise ValueError(f"{seconds} s is outside 0 to {MAX_DELTA_S}")


def effective_control(fields: Fields, surrogate: str | None = None) -> CacheControl:
    """The directives that decide for this response.

    surrogate is our name as a target of Surrogate-Control; None leaves that field alone.
    """
    targeted = parse_cdn_cache_control(fields.get("cdn-cache-control", ()))
    if targeted is not None:
        return targeted
    if surrogate is not None:
        targeted = parse_surrogate_control(fields.get("surrogate-control", ()), surrogate)
        if targeted is not None:
            return targeted
    lines = fields.get("cache-control", ())
    if lines:
        return parse_cache_control(lines)
    # RFC 9111 section 5.4: Pragma counts only where there is no Cache-Control.
    pragma = parse_cache_control(fields.get("pragma", ()))
    return CacheControl(no_cache=pragma.no_cache)


def parse_cache_control(lines: Iterable[str]) -> CacheControl:
    """Cache-Control; never fails, see malformed."""
    flags: set[str] = set()
    seconds: dict[str, int] = {}
    withheld: set[str] = set()
    malformed = False
    for line in lines:
        position = 0
        budget = MAX_DIRECTIVES
        while position < len(line):
            member = _MEMBER.match(line, position) if budget else None
            if member is None:
                malformed = True
                end = line.find(",", position) + 1 if budget else 0
                rest = line[position : end or len(line)]
                flags.update(found.lower() for found in _RESTRICTION.findall(rest))
                position += len(rest)
            else:
                position = member.end()
                _take(member, flags, seconds, withheld)
            budget = max(budget - 1, 0)
    return _build(flags, seconds, withheld, malformed=malformed)


def parse_cdn_cache_control(lines: Sequence[str]) -> CacheControl | None:
    """CDN-Cache-Control, a structured dictionary; None when it is as if absent."""
    members = parse_dictionary(", ".join(lines))
    if not members:
        return None
    flags: set[str] = set()
    seconds: dict[str, int] = {}
    withheld: set[str] = set()
    for name, value in members.items():
        # "If a directive's value is of the wrong type, that directive is ignored." But the
        # qualified forms of private and no-cache carry strings.
        if name in _FLAGS:
            if value is True:
                flags.add(name)
            elif name in _QUALIFIED and isinstance(value, str):
                _withhold(name, value, flags, withheld)
        elif name in _SECONDS and isinstance(value, int) and not isinstance(value, bool):
            seconds[name] = min(max(value, 0), MAX_DELTA_S)
    return _build(flags, seconds, withheld, targeted=True)


def parse_surrogate_control(lines: Iterable[str], target: str) -> CacheControl | None:
    """Surrogate-Control of the Edge Architecture 1.0 note; None when it says nothing to us.

        max-age=3600+600, max-age=60;img-farm, no-store;elsewhere

    A directive with a target is for that surrogate only and beats the one without. The number
    behind "+" is how long a stale answer may stand in while it is renewed.
    """
    general: tuple[set[str], dict[str, int]] = set(), {}
    ours: tuple[set[str], dict[str, int]] = set(), {}
    for line in lines:
        if line.count(",") >= MAX_DIRECTIVES:
            return None
        position = 0
        while position < len(line):
            member = _SURROGATE_MEMBER.match(line, position)
            if member is None:
                return None
            position = member.end()
            if member[4] is None:
                _take_surrogate(member, *general)
            elif member[4] == target:
                _take_surrogate(member, *ours)
    flags, seconds = general[0] | ours[0], general[1] | ours[1]
    if not flags and not seconds:
        return None
    return _build(flags, seconds, targeted=True)


def parse_delta_seconds(text: str) -> int | None:
    """RFC 9111 section 1.2.2, clamped to MAX_DELTA_S; None when text is no number."""
    if _DIGITS.fullmatch(text) is None:
        return None
    # int() refuses very long numbers, so the clamp comes first: 2**31 has ten digits.
    significant = text.lstrip("0")
    return MAX_DELTA_S if len(significant) > 10 else min(int(significant or "0"), MAX_DELTA_S)


def _take(
    member: re.Match[str], flags: set[str], seconds: dict[str, int], withheld: set[str]
) -> None:
    if member[1] is None:
        return
    name = member[1].lower()
    if name in _QUALIFIED and (member[2] is not None or member[3] is not None):
        _withhold(name, _argument(member), flags, withheld)
    elif name in _FLAGS:
        flags.add(name)
    elif name in _SECONDS:
        # Section 4.2.1 on two values of one directive, or an invalid one: stale, that is 0.
        # Equal values say one thing and are taken as one.
        value = parse_delta_seconds(_argument(member)) or 0
        seconds[name] = value if seconds.get(name, value) == value else 0


def _withhold(name: str, text: str, flags: set[str], withheld: set[str]) -> None:
    """A list of field names; what is none makes the directive an unqualified one."""
    names = {one for part in text.lower().split(",") if (one := part.strip(" \t"))}
    if (
        0 < len(names) <= MAX_WITHHELD
        and all(map(_FIELD_NAME.fullmatch, names))
        and not names & INDISPENSABLE
    ):
        withheld |= names
    else:
        flags.add(name)


def _take_surrogate(member: re.Match[str], flags: set[str], seconds: dict[str, int]) -> None:
    if member[1] is None:
        return
    name = member[1].lower()
    if name == "no-store":
        flags.add(name)
    elif name == "max-age":
        lifetime, plus, grace = _argument(member).partition("+")
        seconds["max-age"] = parse_delta_seconds(lifetime) or 0
        if plus:
            seconds["stale-while-revalidate"] = parse_delta_seconds(grace) or 0


def _argument(member: re.Match[str]) -> str:
    if member[3] is not None:
        return _ESCAPED.sub(r"\1", member[3])
    return member[2] or ""


def _build(
    flags: set[str],
    seconds: dict[str, int],
    withheld: AbstractSet[str] = frozenset(),
    *,
    malformed: bool = False,
    targeted: bool = False,
) -> CacheControl:
    return CacheControl(
        no_store="no-store" in flags,
        no_cache="no-cache" in flags,
        private="private" in flags,
        public="public" in flags,
        must_revalidate="must-revalidate" in flags,
        proxy_revalidate="proxy-revalidate" in flags,
        must_understand="must-understand" in flags,
        immutable="immutable" in flags,
        max_age=seconds.get("max-age"),
        s_maxage=seconds.get("s-maxage"),
        stale_while_revalidate=seconds.get("stale-while-revalidate"),
        stale_if_error=seconds.get("stale-if-error"),
        malformed=malformed,
        targeted=targeted,
        withheld=frozenset(withheld),
    )
