"""Sites: what a host name serves, from where, in which grammars; and which site a Host means."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from edge.errors import UnknownHost
from edge.origin.files import Docroot
from edge.origin.messages import OriginRequest, OriginResponse
from edge.origin.pool import OriginPool
from edge.policy.forwarded import Network
from edge.policy.looks import PLAIN, Looks
from edge.policy.negotiation import NO_NEGOTIATION, Negotiation
from edge.policy.steps import Steps
from edge.policy.tags import NO_TAGS, PathTags
from edge.urls.grammar import Grammar


@dataclass(frozen=True, slots=True)
class Site:
    """name is part of every cache key of the site and must not change while the cache is kept."""

    name: str
    hosts: tuple[str, ...]
    docroot: Docroot | None
    origin: OriginPool | None
    grammars: tuple[Grammar, ...]
    extensions: tuple[str, ...]  # tried where a grammar names originals without one
    prefix: str
    steps: Steps
    max_age_s: int  # how long caches in front may keep what comes from the docroot
    cache_control: str
    max_source_bytes: int
    negotiation: Negotiation = NO_NEGOTIATION
    has_ladders: bool = False  # a first miss brings the other steps along
    looks: Looks = PLAIN
    tags: PathTags = NO_TAGS
    purge_from: tuple[Network, ...] = ()  # who may PURGE on the public listeners
    max_body_bytes: int = 1024 * 1024  # of a request's body
    # In place of origin.fetch, for as long as one client's request lasts (edge/asking.py).
    ask: Callable[[OriginRequest], Awaitable[OriginResponse]] | None = None


@dataclass(frozen=True, slots=True)
class Sites:
    """by_host has lower-case names without a port; default takes every other name."""

    by_host: dict[str, Site]
    default: Site | None = None
    _by_authority: dict[bytes, Site] = field(default_factory=dict)

    def all(self) -> tuple[Site, ...]:
        """Every site, once."""
        sites = [*self.by_host.values(), *([self.default] if self.default else [])]
        return tuple({site.name: site for site in sites}.values())

    def find(self, authority: bytes) -> Site:
        """The site of a Host field. Raises UnknownHost."""
        site = self._by_authority.get(authority)
        if site is not None:
            return site
        host = authority.decode("latin-1").lower()
        if not host.endswith("]"):
            name, colon, port = host.rpartition(":")
            if colon and port.isascii() and (port.isdigit() or not port):
                host = name
        host = host.removeprefix("[").removesuffix("]").removesuffix(".")
        site = self.by_host.get(host, self.default)
        if site is None:
            raise UnknownHost(f"no site for host {host!a:.100}")
        if len(self._by_authority) < 1000:  # spellings of names that we serve; the rest is noise
            self._by_authority[authority] = site
        return site
