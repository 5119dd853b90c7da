"""Content negotiation of picture formats, RFC 9110 section 12.5.1: Accept folded to three classes.

    image/avif,image/webp,image/apng,image/*,*/*;q=0.8  ->  AVIF, or WEBP where no AVIF is offered
    image/avif;q=0,image/webp,*/*                       ->  WEBP
    image/*  |  */*  |  (absent)                        ->  BASE

BASE is the source's own kind (JPEG, PNG, GIF), which every client of pictures reads. A newer format
is sent only to a client that names it: browsers without WebP have always sent "image/*". Among the
formats named the higher weight wins, and of equal weights AVIF before WEBP before BASE. Nothing is
ever refused with 406: a client that accepts nothing gets BASE (section 12.4.1 allows it).
"""

import enum
import functools
import re
from collections.abc import Set as AbstractSet
from typing import Final

from resizer.formats import Format

# Browsers send up to ten members in 200 characters. Past these the client is no browser: BASE.
MAX_MEMBERS: Final = 64
MAX_LENGTH: Final = 4_096
# Distinct values of Accept in use are a few dozen, none longer than 200 characters.
_REMEMBERED: Final = 512
_REMEMBERED_LENGTH: Final = 256

_NAME: Final = r"[!#$%&'*+.^_`|~0-9a-z-]++"
_QUOTED: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
# A member ends at a comma outside quotes; a quote that never closes swallows the rest.
_MEMBER: Final = re.compile(rf'((?:[^,"]++|{_QUOTED}|".*+)*)(?:,|\Z)', re.DOTALL)
_PARAMETER: Final = rf"[ \t]*+;[ \t]*+(?:{_NAME}=(?:{_NAME}|{_QUOTED}))?"
_MEDIA_RANGE: Final = re.compile(rf"[ \t]*+({_NAME}/{_NAME})((?:{_PARAMETER})*)[ \t]*+")
_NAME_VALUE: Final = re.compile(rf"({_NAME})=({_NAME}|{_QUOTED})")
# weight: section 12.4.2, at most three decimals.
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

_BASE_TYPES: Final = ("image/jpeg", "image/png", "image/gif")
_KNOWN: Final = frozenset({"image/avif", "image/webp", *_BASE_TYPES, "image/*", "*/*"})


class AcceptClass(enum.Enum):
    """The variants that negotiation can tell apart: three, not one a browser."""

    AVIF = "avif"
    WEBP = "webp"
    BASE = "base"


def fold_accept(field: str | None, offered: AbstractSet[Format]) -> AcceptClass:
    """The class to serve. field: Accept, several lines joined by commas, None when absent.
    offered: what the site is willing to send; only AVIF and WEBP in it matter."""
    if not field or len(field) > MAX_LENGTH:
        return AcceptClass.BASE
    weights = _weights(field) if len(field) <= _REMEMBERED_LENGTH else _parse_weights(field)
    avif, webp, base = weights
    if Format.AVIF not in offered:
        avif = 0
    if Format.WEBP not in offered:
        webp = 0
    if avif and avif >= webp and avif >= base:
        return AcceptClass.AVIF
    if webp and webp >= base:
        return AcceptClass.WEBP
    return AcceptClass.BASE


def _parse_weights(field: str) -> tuple[int, int, int]:
    """Weights of AVIF, WEBP and BASE in thousandths; 0 also where a newer format is not named."""
    if not field.isascii() or field.count(",") >= MAX_MEMBERS:
        return 0, 0, 0
    named: dict[str, int] = {}
    field = field.lower()
    position = 0
    while position < len(field):
        member = _MEMBER.match(field, position)
        if member is None:
            break
        position = member.end()
        parsed = _parse_member(member[1])
        if parsed is not None:
            media_range, weight = parsed
            # Named twice: the lower weight, for BASE is never wrong.
            named[media_range] = min(weight, named.get(media_range, weight))
    # Section 12.5.1: "Media ranges can be overridden by more specific media ranges".
    wildcard = named.get("image/*", named.get("*/*", 0))
    base = max(named.get(media_type, wildcard) for media_type in _BASE_TYPES)
    return named.get("image/avif", 0), named.get("image/webp", 0), base


_weights = functools.lru_cache(_REMEMBERED)(_parse_weights)


def _parse_member(text: str) -> tuple[str, int] | None:
    """A media range of ours with its weight; None for one that is malformed or not ours."""
    member = _MEDIA_RANGE.fullmatch(text)
    if member is None or member[1] not in _KNOWN:
        return None
    for name, value in _NAME_VALUE.findall(member[2]):
        # A parameter before the weight narrows the range to something that we do not serve.
        if name != "q":
            return None
        if _WEIGHT.fullmatch(value) is None:
            return None
        # What follows the weight was once an extension and has no meaning now.
        return member[1], int(value[0]) * 1000 + int(value[2:].ljust(3, "0"))
    return member[1], 1000
