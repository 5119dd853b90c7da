"""Names of things in the cache: a source, and one variant of it.

A key is hashed from length-prefixed parts, so no part can imitate a separator. Signatures, option
order, defaults and query noise never enter it: the same picture has one key in every URL grammar.
"""

import functools
import hashlib
from dataclasses import dataclass

DIGEST_BYTES = 20


def _digest(*parts: str) -> bytes:
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        raw = part.encode()
        hashed.update(len(raw).to_bytes(4, "big"))
        hashed.update(raw)
    return hashed.digest()


@dataclass(frozen=True)
class SourceId:
    """An original: the site's name and its canonical, decoded path ("/a/b.jpg")."""

    site: str
    path: str

    def __post_init__(self) -> None:
        # It is looked up in half a dozen tables for every request.
        object.__setattr__(self, "_hash", hash((self.site, self.path)))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    @functools.cached_property
    def digest(self) -> bytes:
        return _digest(self.site, self.path)


@dataclass(frozen=True)
class Key:
    """One variant of a source. variant is a transform's canonical text, "" the original itself."""

    source: SourceId
    variant: str

    @functools.cached_property
    def digest(self) -> bytes:
        return _digest(self.source.site, self.source.path, self.variant)
