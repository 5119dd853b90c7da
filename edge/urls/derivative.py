"""What a URL asks for, whichever grammar it was written in."""

from dataclasses import dataclass, field

from resizer.transform import Transform


class BadUrl(ValueError):
    """A grammar claims this URL and finds it wrong; the text is for the log. Status 400."""


class NoPicture(BadUrl):
    """A derivative is asked for of a source whose ending is no picture's of ours. Status 415."""


class NotExpressible(ValueError):
    """A grammar has no URL for this derivative; the text says what it cannot say."""


# Never changed; not frozen, since that makes its making, for every URL met, four times as dear.
@dataclass(slots=True, unsafe_hash=True)
class Derivative:
    """A transform of a source.

    source is the canonical, decoded path of the original, starting with "/". Where a grammar names
    originals without their extension (youtube), extensions lists what to try, in order, each joined
    to source by a dot; empty means that source is complete. named_size says that the size came from
    the grammar's own short table, so a site's steps have nothing to bound: hqdefault is 480 wide
    whether or not 480 is a step.
    names_format and names_ratio: the URL itself says which format or pixel ratio it is for, which
    transform need not show. They are of how something was asked for, so they tell no two apart.
    """

    source: str
    transform: Transform
    extensions: tuple[str, ...] = ()
    named_size: bool = False
    names_format: bool = field(default=False, compare=False)
    names_ratio: bool = field(default=False, compare=False)
