"""The table of URL grammars, and the one way from a request target to a derivative.

A site lists its grammars in order; the first that claims a target decides. What none claims is the
original itself. Its query is not part of that derivative: whoever asks an origin about a target
that no grammar claimed must decide whether target.query belongs to the question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.urls.derivative import BadUrl, Derivative
from edge.urls.grammar import Grammar
from edge.urls.path import Target, build_path
from edge.urls.query import DEFAULT_IGNORED, Query
from edge.urls.wikipedia import Wikipedia
from edge.urls.youtube import Youtube
from resizer.transform import IDENTITY


@dataclass(frozen=True, slots=True)
class Options:
    """What a site may say about its grammars."""

    verify_shards: bool = False
    ignored_parameters: tuple[str, ...] = DEFAULT_IGNORED


# In their customary order: those with a place of their own first, then what any path may carry.
GRAMMARS: Final[dict[str, Callable[[Options], Grammar]]] = {
    "wikipedia": lambda options: Wikipedia(verify_shards=options.verify_shards),
    "youtube": lambda _: Youtube(),
    "query": lambda options: Query(ignored=options.ignored_parameters),
}
DEFAULT_OPTIONS: Final = Options()


class UnknownGrammar(ValueError):
    """A site names a grammar that the table does not have."""


@dataclass(slots=True)
class Claim:
    """A derivative and the grammar that read it, None when no grammar claimed the target."""

    derivative: Derivative
    grammar: Grammar | None


def make_grammars(names: Sequence[str], options: Options = DEFAULT_OPTIONS) -> tuple[Grammar, ...]:
    """The grammars of a site, in the order given. Raises UnknownGrammar."""
    for name in names:
        if name not in GRAMMARS:
            raise UnknownGrammar(f"no grammar {name!r}; there are {', '.join(GRAMMARS)}")
    return tuple(GRAMMARS[name](options) for name in names)


def claim_target(target: Target, grammars: tuple[Grammar, ...], prefix: str = "") -> Claim | None:
    """Who claims target, and as what; None when target lies outside of prefix.

    prefix is the site's mount point, "" or "/images"; it is no part of the source. Raises BadUrl,
    also for a folder: it names no picture.
    """
    seen = target.below(prefix) if prefix else target
    if seen is None:
        return None
    if seen.is_folder:
        raise BadUrl("a folder is no picture")
    for grammar in grammars:
        derivative = grammar.parse(seen)
        if derivative is not None:
            return Claim(derivative, grammar)
    return Claim(Derivative(seen.source, IDENTITY), None)


def parse_target(
    target: Target, grammars: tuple[Grammar, ...], prefix: str = ""
) -> Derivative | None:
    """The derivative that target asks for: claim_target without the grammar."""
    claim = claim_target(target, grammars, prefix)
    return claim.derivative if claim else None


def build_target(derivative: Derivative, grammar: Grammar, prefix: str = "") -> str:
    """The canonical URL of a derivative under a mount point. Raises NotExpressible."""
    mount = prefix.strip("/")
    return (build_path(f"/{mount}") if mount else "") + grammar.build(derivative)
