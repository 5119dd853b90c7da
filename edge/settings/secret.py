"""A secret of the configuration: written where it is used, and shown nowhere. Pure."""

from dataclasses import dataclass, field
from typing import Final

MASK: Final = "***"


@dataclass(frozen=True, slots=True)
class Secret:
    """str() and repr() hide it; reveal() does not."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        return MASK if self.text else ""

    def reveal(self) -> str:
        return self.text
