"""What every URL grammar offers.

parse and build are inverses: parse(split_target(build(d))) == d for every derivative that build
can express, and all that parse returns is canonical (edge/urls/ending.py). Grammars are frozen
values that hold their options, so that they can be shared by all requests of a site.
"""

from typing import Protocol

from edge.urls.derivative import Derivative
from edge.urls.path import Target


class Grammar(Protocol):
    @property
    def name(self) -> str:
        """The name in a site's configuration."""
        ...

    def parse(self, target: Target) -> Derivative | None:
        """The derivative that target asks for; None when this grammar does not claim it.

        target is seen from the site's mount point and names no folder. Raises BadUrl for a target
        that is claimed and wrong.
        """
        ...

    def build(self, derivative: Derivative) -> str:
        """The canonical URL, from the mount point on. Raises NotExpressible."""
        ...
