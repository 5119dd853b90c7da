"""What a target asks for, remembered: splitting and decoding it costs a third of a hit."""

import dataclasses
import sys
from typing import Final, TypeAlias

from cache.key import Key, SourceId
from edge.errors import NotFound, UnknownMark, WidthNotAllowed
from edge.http.messages import Request
from edge.marks import Mark
from edge.policy.negotiation import Variant
from edge.policy.steps import Allowed, Redirect, Rejected, Rounded, apply
from edge.site import Site, Sites
from edge.source import Source
from edge.urls.derivative import Derivative, NoPicture
from edge.urls.ending import resolve
from edge.urls.grammars import build_target, claim_target
from edge.urls.path import Target, split_target
from resizer.transform import IDENTITY, Transform

# Targets whose meaning is remembered, how long one and its host may be, and how much all names are.
# A route is 1.4 KB beside its names, which bounds the table at some 250 MB: 131,072 photographs are
# hot at once.
MAX_ROUTES: Final = 131_072
MAX_ROUTE_BYTES: Final = 256
MAX_BYTES: Final = 64 * 1024 * 1024


class Route:
    """What a target asks for. source, mark and key are filled in when they have been found.

    variant None: the same for everybody. vary: the lines that say what else was looked at.
    """

    __slots__ = (
        "asked", "derivative", "found", "is_noted", "is_original", "is_shared", "key", "mark",
        "mark_path", "query", "redirect", "site", "source", "source_id", "variant", "vary",
    )  # fmt: skip

    def __init__(
        self,
        site: Site,
        derivative: Derivative,
        query: str,
        redirect: str,
        mark_path: str,
        variant: Variant | None = None,
    ) -> None:
        self.site = site
        self.derivative = derivative
        self.query = query  # of a target that no grammar claims: an origin may mean something by it
        self.redirect = redirect
        self.is_noted = False  # its URL is written down for the caches in front (spellings.py)
        self.asked = 0  # times, by heads that a ready answer could have met
        # In the site's looks, and with the ending that was found where the grammar leaves it open.
        self.found = _dressed(site, derivative)
        self.is_original = not derivative.extensions and self.found.transform.is_identity
        # No derivative, and an origin may have it: what the shared cache answers.
        self.is_shared = self.is_original and site.origin is not None
        self.mark_path = mark_path  # of the site's watermark; "" for none
        self.source: Source | None = None
        self.mark: Mark | None = None  # as it was when the key was made
        self.source_id: SourceId | None = None  # of what is no derivative
        self.key: Key | None = None
        self.variant = variant
        self.vary = "" if variant is None else site.negotiation.answer_lines

    def endings(self) -> list[Derivative]:
        """The derivative under each ending that its source may have."""
        derivative = self.derivative
        return [_dressed(self.site, resolve(derivative, each)) for each in derivative.extensions]

    @property
    def is_slow(self) -> bool:
        """Something quick is sent until this variant has been prepared in idle time."""
        return self.variant is not None and self.site.negotiation.is_slow(self.derivative.transform)


class Fork:
    """A target with a Route for each variant. asked is what the URL says, stepped its transform
    after the site's steps, both in the site's looks: the format of a variant then settles which
    quality of theirs it has, and Save-Data never raises one."""

    __slots__ = ("asked", "mark_path", "query", "site", "stepped")

    def __init__(
        self, site: Site, asked: Derivative, stepped: Transform, query: str, mark_path: str
    ) -> None:
        self.site = site
        self.asked = _dressed(site, asked)
        self.stepped = site.looks.apply(stepped)
        self.query = query
        self.mark_path = mark_path

    def route(self, variant: Variant) -> Route:
        transform = self.site.negotiation.adapt(self.asked, self.stepped, variant)
        derivative = dataclasses.replace(self.asked, transform=transform)
        return Route(self.site, derivative, self.query, "", self.mark_path, variant)


# By host and target; a variant of a Fork by these and what tells it from the others.
_Memo: TypeAlias = tuple[bytes, bytes] | tuple[bytes, bytes, Variant]


def _mark_path(site: Site, derivative: Derivative) -> str:
    watermark = derivative.transform.watermark
    if watermark is None:
        return ""
    path = site.looks.maybe_mark(watermark.name)
    if path is None:
        raise UnknownMark(f"no watermark {watermark.name}")
    return path


def _folder(site: Site, target: Target) -> Route:
    """No picture, and not listed here; an application may well have a page of that name."""
    seen = target.below(site.prefix)
    if site.origin is None or seen is None:
        raise NotFound("a folder; folders are not listed")
    return Route(site, Derivative(seen.source, IDENTITY), target.query, "", "")


def _dressed(site: Site, derivative: Derivative) -> Derivative:
    # Not before the ending is known: it settles the format, and with that the quality.
    if derivative.extensions:
        return derivative
    transform = site.looks.apply(derivative.transform)
    if transform is derivative.transform:
        return derivative
    return dataclasses.replace(derivative, transform=transform)


class Routes:
    """At most MAX_ROUTES, those of variants among them."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._routes: dict[_Memo, Route | Fork] = {}
        self._bytes = 0  # of names

    def known(self, request: Request) -> Route | None:
        route = self._routes.get((request.authority, request.target))
        if not isinstance(route, Fork):
            return route
        return self._variant(request, route, route.site.negotiation.variant_of(request.fields))

    def site_of(self, request: Request) -> Site:
        """Raises UnknownHost."""
        return self._sites.find(request.authority)

    def find(self, request: Request) -> Route:
        """Raises BadUrl, BadTransform, NotFound, UnknownMark, WidthNotAllowed."""
        return self.known(request) or self.meet(request)

    def meet(self, request: Request) -> Route:
        """find() of what known() does not know."""
        route = self._make(request)
        self._remember(request, (request.authority, request.target), route)
        if isinstance(route, Fork):
            variant = route.site.negotiation.variant_of(request.fields)
            return self._variant(request, route, variant)
        return route

    def quick(self, request: Request, slow: Route) -> Route:
        """The variant to send until a slow one is there. slow is the request's own route."""
        assert slow.variant is not None
        variant = slow.site.negotiation.quick(slow.variant, request.field(b"accept"))
        fork = self._routes.get((request.authority, request.target)) or self._make(request)
        assert isinstance(fork, Fork)
        return self._variant(request, fork, variant)

    def _variant(self, request: Request, fork: Fork, variant: Variant) -> Route:
        memo = (request.authority, request.target, variant)
        route = self._routes.get(memo)
        if isinstance(route, Route):
            return route
        made = fork.route(variant)
        self._remember(request, memo, made)
        return made

    def _remember(self, request: Request, memo: _Memo, route: Route | Fork) -> None:
        if len(request.target) + len(request.authority) <= MAX_ROUTE_BYTES:
            self._bytes += _size_of(memo, route)
            while len(self._routes) >= MAX_ROUTES or self._bytes > MAX_BYTES:
                oldest = next(iter(self._routes))
                self._bytes -= _size_of(oldest, self._routes.pop(oldest))
            self._routes[memo] = route

    def _make(self, request: Request) -> Route | Fork:
        site = self._sites.find(request.authority)
        target = split_target(request.target)
        if target.is_folder:
            return _folder(site, target)
        claim = claim_target(target, site.grammars, site.prefix)
        if claim is None:
            raise NotFound("outside of the site's prefix")
        derivative, redirect = claim.derivative, ""
        if not derivative.transform.is_identity and not site.looks.may_read(derivative.source):
            raise NoPicture("of a format that is switched off")
        mark_path = _mark_path(site, derivative)
        if derivative.extensions:
            derivative = dataclasses.replace(derivative, extensions=site.extensions)
        asked = derivative
        if not derivative.transform.is_identity and not derivative.named_size:
            match apply(site.steps, derivative.transform):
                case Allowed():
                    pass
                case Rounded(transform):
                    derivative = dataclasses.replace(derivative, transform=transform)
                case Redirect(transform):
                    derivative = dataclasses.replace(derivative, transform=transform)
                    assert claim.grammar is not None
                    redirect = build_target(derivative, claim.grammar, site.prefix)
                case Rejected(nearest):
                    raise WidthNotAllowed(f"nearest step is {nearest}")
        query = target.query if claim.grammar is None else ""
        if not redirect and site.negotiation.concerns(asked):
            return Fork(site, asked, derivative.transform, query, mark_path)
        return Route(site, derivative, query, redirect, mark_path)


def _size_of(memo: _Memo, route: Route | Fork) -> int:
    """What its client has chosen. The path twice: with a query, the source's name is another."""
    derivative = route.asked if isinstance(route, Fork) else route.derivative
    return len(memo[0]) + len(memo[1]) + 2 * sys.getsizeof(derivative.source)
