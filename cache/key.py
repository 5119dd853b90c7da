"""Names of things in the cache: a source, and one variant of it.

A key is hashed from length-prefixed parts, so no part can imitate a separator. Signatures, option
order, defaults and query noise never enter it: the same picture has one key in every URL grammar.
"""

import hashlib

DIGEST_BYTES = 20


def _digest(*parts: str) -> bytes:
    text = b""
    for part in parts:
        raw = part.encode()
        text += len(raw).to_bytes(4, "big") + raw
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


class SourceId:
    """An original: the site's name and its canonical, decoded path ("/a/b.jpg").

    A value, written out: one is made for every file that is met, and as a frozen dataclass whose
    digest is a cached property it would take three times as long and twice the memory.
    """

    __slots__ = ("_digest", "_hash", "path", "site")

    def __init__(self, site: str, path: str) -> None:
        self.site = site
        self.path = path
        # It is looked up in half a dozen tables for every request.
        self._hash = hash((site, path))
        self._digest = b""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceId):
            return NotImplemented
        return self.path == other.path and self.site == other.site

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"SourceId(site={self.site!r}, path={self.path!r})"

    @property
    def digest(self) -> bytes:
        digest = self._digest
        if not digest:
            digest = self._digest = _digest(self.site, self.path)
        return digest


class Key:
    """One variant of a source. variant is a transform's canonical text, "" the original itself.
    A value like SourceId."""

    __slots__ = ("_digest", "source", "variant")

    def __init__(self, source: SourceId, variant: str) -> None:
        self.source = source
        self.variant = variant
        self._digest = b""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return self.variant == other.variant and self.source == other.source

    def __hash__(self) -> int:
        return hash((self.source, self.variant))

    def __repr__(self) -> str:
        return f"Key(source={self.source!r}, variant={self.variant!r})"

    @property
    def digest(self) -> bytes:
        digest = self._digest
        if not digest:
            source = self.source
            digest = self._digest = _digest(source.site, source.path, self.variant)
        return digest
