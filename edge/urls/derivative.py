"""What a URL asks for, whichever grammar it was written in."""

from dataclasses import dataclass

from resizer.transform import Transform


class BadUrl(ValueError):
    """A grammar claims this URL and finds it wrong; the text is for the log. Status 400."""


@dataclass(frozen=True, slots=True)
class Derivative:
    """A transform of a source.

    source is the canonical, decoded path of the original, starting with "/". Where a grammar names
    originals without their extension (youtube), extensions lists what to try, in order, each joined
    to source by a dot; empty means that source is complete.
    """

    source: str
    transform: Transform
    extensions: tuple[str, ...] = ()
