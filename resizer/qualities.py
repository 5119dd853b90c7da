"""Qualities by format, for a picture whose format is chosen later: avif:50:webp:70."""

from dataclasses import dataclass
from typing import Final

from resizer.formats import Format
from resizer.words import BadTransform

QUALITIES: Final = range(1, 101)


@dataclass(frozen=True, slots=True)
class Qualities:
    """In the order of the formats' names, each once. Raises BadTransform."""

    by_format: tuple[tuple[Format, int], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.by_format]
        if names != sorted(set(names)):
            raise BadTransform("qualities are not in the order of their formats, each once")
        for name, quality in self.by_format:
            if quality not in QUALITIES:
                raise BadTransform(f"quality {quality} of {name} is outside 1 to 100")

    def __str__(self) -> str:
        return ":".join(f"{name}:{quality}" for name, quality in self.by_format)


def parse_qualities(text: str) -> Qualities:
    """Inverse of str(); lenient about the spelling of numbers. Raises ValueError."""
    parts = text.split(":")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return Qualities(tuple((Format(name), int(quality)) for name, quality in pairs))


NO_QUALITIES: Final = Qualities()
