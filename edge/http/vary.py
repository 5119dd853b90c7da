"""Secondary keys, RFC 9111 section 4.1: which request fields chose an answer, and what they said.

Two requests choose the same answer where their named fields are equal once what has no meaning is
taken out: spaces around list members, and in fields whose order means nothing the order, case and
repetition of members. What is not known here is compared as it stands, but for its spaces.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from edge.http.directives import Fields
from edge.http.freshness import varying_fields

# Vary may name whatever it likes; a longer list than this is no list that anybody wrote.
MAX_NAMES: Final = 16
# Weighed lists of RFC 9110 section 12.5: their members are case-insensitive, and their order says
# nothing that the weights do not say.
_WEIGHED: Final = frozenset({"accept", "accept-charset", "accept-language"})
# An origin is always asked for the bytes as they are, so what it does for others is no matter.
_SETTLED: Final = frozenset({"accept-encoding"})


def vary_names(fields: Fields) -> tuple[str, ...] | None:
    """The request fields that an answer was chosen by, sorted; None where no later request can be
    known to choose the same ("*", or more names than are compared)."""
    names = varying_fields(fields) - _SETTLED
    if "*" in names or len(names) > MAX_NAMES:
        return None
    return tuple(sorted(names))


def secondary_key(names: Iterable[str], fields: Mapping[str, str]) -> str:
    """A name for all requests that choose the same answer. fields: as they are put to the origin,
    by lower-case name."""
    hashed = hashlib.blake2b(digest_size=16)
    for name in names:
        value = fields.get(name)
        # An absent field matches an absent one only.
        for part in (name, "" if value is None else f"+{_normalised(name, value)}"):
            raw = part.encode("latin-1", "backslashreplace")
            hashed.update(len(raw).to_bytes(4, "big"))
            hashed.update(raw)
    return hashed.hexdigest()


def _normalised(name: str, value: str) -> str:
    if '"' in value:
        return value.strip(" \t")  # a comma may be part of what is quoted
    members = [member.strip(" \t") for member in value.split(",")]
    members = [member for member in members if member]
    if name in _WEIGHED:
        members = sorted({member.lower().replace(" ", "").replace("\t", "") for member in members})
    return ",".join(members)
