"""Entity tags, RFC 9110 section 8.8.3: the value, its lists, the two comparisons, and our own tags.

Text is as the parser hands it over: one character a byte (Latin-1). A tag may hold commas, so lists
are scanned and never split. Empty list members are skipped (section 5.6.1.2).
"""

import enum
import hashlib
import re
from dataclasses import dataclass
from typing import Final

# A client that keeps more variants of one picture than this is broken or hostile; the scan of a
# list stays below 0.1 ms.
MAX_MEMBERS: Final = 128

# etagc = %x21 / %x23-7E / obs-text. Everything is possessive: no backtracking, linear time.
_ETAGC: Final = r"[\x21\x23-\x7e\x80-\xff]*+"
_OPAQUE: Final = re.compile(_ETAGC)
_MEMBER: Final = re.compile(rf'[ \t]*+(?:(W/)?"({_ETAGC})"[ \t]*+)?(?:,|\Z)')

_HASH_BYTES: Final = 16  # 128 bits: no two versions of one picture collide by chance
_LINEAGE_BYTES: Final = 4  # 32 bits: one derivative has a handful of lineages
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class EntityTag:
    """opaque without its quotes. Raises ValueError where it cannot stand on the wire."""

    opaque: str
    weak: bool = False

    def __post_init__(self) -> None:
        if _OPAQUE.fullmatch(self.opaque) is None:
            raise ValueError("an opaque tag holds visible characters and no double quote")

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'


class Wildcard(enum.Enum):
    """The value "*" of If-Match and If-None-Match: any current representation."""

    ANY = "*"


ANY: Final = Wildcard.ANY


def parse_entity_tags(text: str) -> tuple[EntityTag, ...] | Wildcard | None:
    """The tags of an If-Match or If-None-Match field, ANY for "*", None when malformed.

    Several field lines are given joined by commas. A list of nothing is the empty tuple.
    """
    if text.strip(" \t") == "*":
        return ANY
    if text.count(",") >= MAX_MEMBERS:
        return None
    tags: list[EntityTag] = []
    position = 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            return None
        if member[2] is not None:
            tags.append(EntityTag(member[2], weak=member[1] is not None))
        position = member.end()
    return tuple(tags)


def strong_match(one: EntityTag, other: EntityTag) -> bool:
    """Section 8.8.3.2: "two entity tags are equivalent if both are not weak and their opaque-tags
    match character-by-character"."""
    return not one.weak and not other.weak and one.opaque == other.opaque


def weak_match(one: EntityTag, other: EntityTag) -> bool:
    """Section 8.8.3.2: equal opaque tags, "regardless of either or both being tagged as "weak" """
    return one.opaque == other.opaque


def derivative_etag(validator: str, variant: str, encoder: str) -> str:
    """The strong tag of a derivative, known before it is rendered, equal on every node.

    validator changes with the bytes of the source, variant is the canonical transform, and encoder
    names the version of every library that shapes the output: a strong tag over different bytes
    would be a lie that Range and If-Range turn into a mixed file.
    """
    return _hashed("derivative", validator, variant, encoder)


def lineage_etag(direct: str, lineage: str) -> str:
    """The strong tag of a derivative that was made in another way than by itself from its source.

    direct is its derivative_etag(), lineage the way in words (resizer/ladder.py), empty for what a
    direct render gives. Near pixels are other bytes, so each way has a tag of its own, and If-Range
    never puts two of them together; all of them begin with the direct one.
    """
    if not lineage:
        return direct
    hashed = hashlib.blake2b(lineage.encode(), digest_size=_LINEAGE_BYTES).hexdigest()
    return f'{direct[:-1]}-{hashed}"'


def is_of_derivative(etag: str, direct: str) -> bool:
    """Whether a tag is the derivative's, made in whatever way: direct, or lineage_etag() of it."""
    if etag == direct:
        return True
    start = f"{direct[:-1]}-"
    hashed = etag.removeprefix(start).removesuffix('"')
    return (
        etag == f'{start}{hashed}"'
        and len(hashed) == 2 * _LINEAGE_BYTES
        and set(hashed) <= _HEXADECIMAL
    )


def original_etag(validator: str) -> str:
    """The strong tag of an original, served byte for byte."""
    # For every file that is met, so its first part is framed already.
    return _tag(_ORIGINAL + _framed(validator))


def _hashed(*parts: str) -> str:
    return _tag(b"".join(map(_framed, parts)))


def _framed(part: str) -> bytes:
    """Length-prefixed, so that no part can imitate the border between two others."""
    raw = part.encode()
    return len(raw).to_bytes(4, "big") + raw


def _tag(text: bytes) -> str:
    return f'"{hashlib.blake2b(text, digest_size=_HASH_BYTES).hexdigest()}"'


_ORIGINAL: Final = _framed("original")
