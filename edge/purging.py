"""PURGE: from a request to orders (cache/orders.py), and from what became of them to an answer.

    PURGE /thumb/Dune.jpg/220px-Dune.jpg    the original that this URL is made from, with all of its
                                            derivatives, in whichever grammar they were asked for
    Surrogate-Key: dune desert              originals with one of these tags; the path says nothing
    Purge-Prefix: /2019/                    originals whose path, as in a URL, starts like this
    Soft-Purge: 1, Fastly-Soft-Purge: 1     not thrown away: stale, to be validated before use
    Takedown: 1, Takedown: lift             purged, and 451 until it is lifted
    Dry-Run: 1                              what it would do; nothing is changed

A public listener has only the first two, and Soft-Purge. What contradicts itself is refused whole.

1. What was handed out by this worker is written down, so that the next step finds it.
2. The orders are recorded. One that cannot be: 503, whatever the others did; it may be repeated.
3. The caches in front are told, and waited for TOLD_WITHIN_S; what is open then is "pending".
4. An audit line for each order.
"""

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from cache.errors import CacheError
from cache.key import SourceId
from cache.orders import MAX_TAG_BYTES, Act, Order, Scope
from edge.downstream import Downstream
from edge.errors import BadPurge, NotFound
from edge.http.messages import Request
from edge.site import Site, Sites
from edge.source import source_id_of
from edge.spellings import Spellings, under_both_schemes, url_of
from edge.urls.derivative import BadUrl
from edge.urls.grammars import claim_target
from edge.urls.path import build_path, split_target

log = logging.getLogger("halftone.purge")

# A purge is asked for by programs that wait; a Squid next door has answered long before.
TOLD_WITHIN_S: Final = 1.0
# Each is one durable write. Fastly takes 256 in a batch; a head of 32 KiB holds no more of use.
MAX_TAGS: Final = 256
# Of one purge; with ten thousand the caches are busy for some seconds.
MAX_TOLD: Final = 10_000
# Of what an order is for, in the log.
MAX_LOGGED_CHARS: Final = 300

_SWITCHES: Final = {None: False, "0": False, "1": True}
_TAKEDOWNS: Final = {None: None, "0": None, "1": Act.TAKE_DOWN, "lift": Act.LIFT}


class Outcome(Protocol):
    """What became of an order, or would."""

    @property
    def order(self) -> Order: ...
    @property
    def entries(self) -> int: ...
    @property
    def replicas(self) -> int: ...
    @property
    def scope(self) -> str: ...
    @property
    def urls(self) -> tuple[str, ...]: ...


class Purger(Protocol):
    async def carry_out(self, order: Order) -> Outcome:
        """Raises IndexUnavailable when it could not be recorded."""
        ...

    async def preview(self, order: Order) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for. urls: spellings that it names itself."""

    act: Act
    orders: tuple[Order, ...]
    urls: tuple[str, ...] = ()
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a purge that was carried out. body is JSON."""

    id: str
    body: bytes


@dataclass(slots=True)
class Stats:
    """Orders by what they do, the refused ones among failed: not recorded."""

    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Act), 0))
    failed: int = 0
    previews: int = 0


def read_wish(request: Request, sites: Sites, *, is_admin: bool) -> Wish:
    """Raises BadPurge, BadUrl, UnknownHost, NotFound."""
    site = sites.find(request.authority)
    tags, prefix = request.field(b"surrogate-key"), request.field(b"purge-prefix")
    is_soft = _switch(request, b"soft-purge") or _switch(request, b"fastly-soft-purge")
    is_dry = _switch(request, b"dry-run")
    takedown = request.field(b"takedown")
    if not is_admin and (is_dry or prefix is not None or takedown is not None):
        raise BadPurge("Dry-Run, Purge-Prefix and Takedown are for the admin listener.")
    if takedown not in _TAKEDOWNS:
        raise BadPurge("Takedown is 1 or lift.")
    act = _TAKEDOWNS[takedown] or (Act.SOFTEN if is_soft else Act.PURGE)
    if act in (Act.TAKE_DOWN, Act.LIFT):
        if is_soft:
            raise BadPurge("A takedown cannot be soft.")
        if tags is not None or prefix is not None:
            raise BadPurge("A takedown is of a URL, not of tags or prefixes.")
    if tags is not None and prefix is not None:
        raise BadPurge("Surrogate-Key and Purge-Prefix exclude each other.")
    if tags is not None:
        return Wish(act, _of_tags(act, site, tags), is_dry=is_dry)
    if prefix is not None:
        return Wish(act, (_of_prefix(act, site, prefix),), is_dry=is_dry)
    sources, urls = _named(request, site, is_admin=is_admin)
    orders = tuple(Order(act, Scope.SOURCE, one.site, one.path) for one in sources)
    return Wish(act, orders, urls, is_dry)


def _switch(request: Request, name: bytes) -> bool:
    text = request.field(name)
    if text not in _SWITCHES:
        raise BadPurge("Soft-Purge and Dry-Run are 1, or 0, which is as if they were not there.")
    return _SWITCHES[text]


def _of_tags(act: Act, site: Site, text: str) -> tuple[Order, ...]:
    # Not split(): what a tag of other letters looks like byte by byte, it may take for white space.
    tags = tuple(dict.fromkeys(tag for tag in text.replace("\t", " ").split(" ") if tag))
    if not 0 < len(tags) <= MAX_TAGS:
        raise BadPurge(f"Surrogate-Key has 1 to {MAX_TAGS} tags, with spaces between.")
    if max(len(tag.encode()) for tag in tags) > MAX_TAG_BYTES:
        raise BadPurge(f"A tag has {MAX_TAG_BYTES} bytes at most.")
    return tuple(Order(act, Scope.TAG, site.name, tag) for tag in tags)


def _of_prefix(act: Act, site: Site, text: str) -> Order:
    """Percent-encoded, as in a URL, and below the site's mount point, which is no part of paths."""
    try:
        raw = text.encode("ascii")
        seen = split_target(raw).below(site.prefix) if b"?" not in raw else None
    except (UnicodeEncodeError, BadUrl):
        seen = None
    if seen is None:
        raise BadPurge("Purge-Prefix is the start of a path below the site's own, like /2019/.")
    return Order(act, Scope.PREFIX, site.name, seen.source)


def _named(
    request: Request, site: Site, *, is_admin: bool
) -> tuple[list[SourceId], tuple[str, ...]]:
    """The originals that a URL means, and the URLs that the request itself gives away."""
    target = split_target(request.target)
    if target.is_folder:
        if site.origin is None:
            raise BadPurge(
                "This is a folder; Purge-Prefix or Surrogate-Key say what of it to purge."
            )
        seen = target.below(site.prefix)
        if seen is None:
            raise NotFound("outside of the site's prefix")
        # An application's page, which may have such a name.
        return [source_id_of(site, seen.source, target.query)], ()
    # Not by the site's steps: what was asked for in a width that is no step now is purged, too.
    claim = claim_target(target, site.grammars, site.prefix)
    if claim is None:
        raise NotFound("outside of the site's prefix")
    path, ends = claim.derivative.source, claim.derivative.extensions
    paths = [f"{path}.{end}" for end in site.extensions] if ends else [path]
    sources = [source_id_of(site, one, "") for one in paths]
    if claim.grammar is None and target.query:
        # An origin may mean something by it; a file has none.
        sources.append(source_id_of(site, path, target.query))
    # Who may reach the admin listener may say how the URL begins; nobody else is believed here.
    is_tls = is_admin and request.field(b"x-forwarded-proto") == "https"
    scheme = "https" if is_tls else "http"
    targets = [request.target, *(build_path(site.prefix + one).encode() for one in paths)]
    if not request.authority:
        return sources, ()
    return sources, tuple(url_of(scheme, request.authority, one) for one in targets)


class Purging:
    """chance: for request ids. has_both_schemes: clients may have come by TLS, unseen by us."""

    def __init__(
        self,
        *,
        purger: Purger,
        sites: Sites,
        downstream: Downstream | None,
        spellings: Spellings | None,
        chance: random.Random,
        has_both_schemes: bool = False,
    ) -> None:
        self.sites = sites
        self.stats = Stats()
        self._purger = purger
        self._downstream = downstream
        self._spellings = spellings
        self._has_both_schemes = has_both_schemes
        self._id_prefix = f"p{chance.getrandbits(40):010x}"
        self._ids = 0

    async def purge(self, request: Request, client: str, *, is_admin: bool) -> Receipt:
        """Raises what read_wish() raises, and IndexUnavailable: it could not be recorded."""
        wish = read_wish(request, self.sites, is_admin=is_admin)
        self._ids += 1
        purge_id = f"{self._id_prefix}{self._ids:06x}"
        if self._spellings is not None:
            await self._spellings.flush()
        step = self._purger.preview if wish.is_dry else self._purger.carry_out
        # All are awaited, whatever becomes of one: what is recorded is recorded.
        found = await asyncio.gather(*map(step, wish.orders), return_exceptions=True)
        outcomes = [one for one in found if not isinstance(one, BaseException)]
        errors = [one for one in found if isinstance(one, BaseException)]
        told, failed, pending = 0, 0, 0
        urls = self._urls(wish, outcomes)
        if self._downstream is not None and not wish.is_dry and outcomes:
            errand = self._downstream.tell(urls, f"purge {purge_id}")
            await errand.wait(TOLD_WITHIN_S)
            told, failed, pending = errand.counts
        if wish.is_dry:
            self.stats.previews += len(outcomes)
        else:
            self.stats.done[wish.act] += len(outcomes)
            self.stats.failed += len(errors)
        place = "admin" if is_admin else "public"
        for order, one in zip(wish.orders, found, strict=True):
            what = (
                f"{'would ' if wish.is_dry else ''}{order.act} {order.scope}"
                f" {order.value[:MAX_LOGGED_CHARS]!a} of site {order.site}"
            )
            if isinstance(one, BaseException):
                log.warning("%s: NOT recorded: %s, asked by %s: %s", purge_id, what, client, one)
                continue
            log.info(
                "%s: %s, asked by %s (%s): seq %d, %d entries, %s, %d replicas;"
                " caches in front: %d told, %d failed, %d pending",
                purge_id, what, client, place, one.order.seq, one.entries, one.scope, one.replicas,
                told, failed, pending,
            )  # fmt: skip
        for error in errors:
            if not isinstance(error, CacheError):
                raise error  # a bug comes first
        if errors:
            raise errors[0]
        return Receipt(
            purge_id, _body(purge_id, wish, outcomes, len(urls), (told, failed, pending))
        )

    def _urls(self, wish: Wish, outcomes: Sequence[Outcome]) -> list[str]:
        """Each once, bounded."""
        urls = dict.fromkeys(wish.urls)
        for outcome in outcomes:
            urls.update(dict.fromkeys(outcome.urls))
        all_of_them = under_both_schemes(list(urls)) if self._has_both_schemes else list(urls)
        if len(all_of_them) > MAX_TOLD:
            log.warning(
                "a purge of %d URLs: caches in front are told of %d", len(all_of_them), MAX_TOLD
            )
        return all_of_them[:MAX_TOLD]


def _body(
    purge_id: str,
    wish: Wish,
    outcomes: Sequence[Outcome],
    urls: int,
    counts: tuple[int, int, int],
) -> bytes:
    """Nothing of the request is repeated."""
    told, failed, pending = counts
    answer = {
        "purged": sum(outcome.entries for outcome in outcomes),
        "scope": min(outcome.scope for outcome in outcomes),
        "replicas_acked": min(outcome.replicas for outcome in outcomes),
        "act": wish.act.value,
        "dry_run": wish.is_dry,
        "seq": max(outcome.order.seq for outcome in outcomes),
        "urls": urls,
        "downstream": {"told": told, "failed": failed, "pending": pending},
        "id": purge_id,
    }
    return json.dumps(answer).encode() + b"\n"
