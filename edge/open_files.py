"""Representations whose bodies are open files, kept open while they are asked for.

What is too large for the memory tier leaves by sendfile; opening it for every request costs more
than sending a small stretch of it. The one not asked for longest is closed when room is needed.
"""

from collections import OrderedDict
from dataclasses import dataclass

from edge.representation import Representation


@dataclass(slots=True)
class Stats:
    """gets == hits + misses."""

    hits: int = 0
    misses: int = 0
    closed: int = 0


class OpenFiles:
    """At most limit files, by the digest of their keys."""

    def __init__(self, limit: int) -> None:
        self.stats = Stats()
        self._limit = limit
        self._files: OrderedDict[bytes, Representation] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._files

    def __len__(self) -> int:
        return len(self._files)

    def get(self, digest: bytes) -> Representation | None:
        found = self._files.get(digest)
        if found is None:
            self.stats.misses += 1
            return None
        self.stats.hits += 1
        self._files.move_to_end(digest)
        return found

    def remove(self, digest: bytes) -> None:
        if self._files.pop(digest, None) is not None:
            self.stats.closed += 1

    def put(self, digest: bytes, representation: Representation) -> None:
        """Keep it in place of what was there. A descriptor closes with its last response."""
        self._files[digest] = representation
        self._files.move_to_end(digest)
        if len(self._files) > self._limit:
            self._files.popitem(last=False)
            self.stats.closed += 1
