"""Tags of an original, by which it can be purged together with others. Pure.

From the origin, as Fastly spells them: Surrogate-Key, separated by spaces, over all its lines; and
from the configuration, by the start of a path. A tag is 1 to 1024 bytes of visible ASCII.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cache.orders import MAX_TAG_BYTES

# What an answer may have; further ones are not kept, since they stand in every file made of it.
MAX_TAGS: Final = 64
MAX_TAGS_BYTES: Final = 4096
_TAG: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)


def is_tag(text: str) -> bool:
    return len(text) <= MAX_TAG_BYTES and _TAG.fullmatch(text) is not None


def parse_surrogate_key(lines: Iterable[str]) -> tuple[str, ...]:
    """The tags of a field's lines, each once, in their order; what is no tag is left out."""
    tags: dict[str, None] = {}
    left = MAX_TAGS_BYTES
    for line in lines:
        for word in line.replace("\t", " ").split(" "):
            if not word or word in tags or not is_tag(word):
                continue
            if len(tags) == MAX_TAGS or len(word) > left:
                return tuple(tags)
            left -= len(word)
            tags[word] = None
    return tuple(tags)


@dataclass(frozen=True, slots=True)
class PathTags:
    """Tags by the starts of source paths: ((tag, (prefix, ...)), ...)."""

    prefixes: Sequence[tuple[str, tuple[str, ...]]] = ()

    def of(self, path: str) -> tuple[str, ...]:
        if not self.prefixes:
            return ()
        return tuple(tag for tag, prefixes in self.prefixes if path.startswith(prefixes))


NO_TAGS: Final = PathTags()
