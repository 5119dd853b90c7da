"""Names of things in the cache: a source, and one variant of it.

A key is hashed from length-prefixed parts, so no part can imitate a separator. Signatures, option
order, defaults and query noise never enter it: the same picture has one key in every URL grammar.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DIGEST_BYTES = 20


def _digest(*parts: str) -> bytes:
    text = b""
    for part in parts:
        raw = part.encode()
        text += len(raw).to_bytes(4, "big") + raw
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


class _Once:
    """Computed when it is read first, and an attribute from then on. functools.cached_property
    holds a lock meanwhile, which costs as much as the digest."""

    def __init__(self, compute: Callable[[Any], bytes]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> bytes:
        value = self._compute(instance)
        instance.__dict__[self._name] = value
        return value


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

    @_Once
    def digest(self) -> bytes:
        return _digest(self.site, self.path)


@dataclass(frozen=True)
class Key:
    """One variant of a source. variant is a transform's canonical text, "" the original itself."""

    source: SourceId
    variant: str

    @_Once
    def digest(self) -> bytes:
        return _digest(self.source.site, self.source.path, self.variant)
