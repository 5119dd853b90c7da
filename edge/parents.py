"""Parents: a stored larger derivative that is rendered from in place of a large original.

    original            rendered from a parent
    from 24 megapixels  always
    from 12 megapixels  when its bytes are not here, and an origin would have to send them

Measured on ten photographs (resizer/NOTES.md, ladder): eight sizes in random order cost 0.7 of
direct renders at 17 megapixels, 0.5 where they are progressive, 0.8 at 4 to 15. The price is
what ladder.may_derive() bounds: 0.002 of SSIM against a full resampling, in the mean. Below these
sizes that buys too little.

A parent is a width of the site's steps in the site's looks, JPEG of a JPEG, and a direct render:
its tag says so. Where these looks sharpen or set a quality there is none (ladder.may_derive).
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cache.index.interface import SourceRecord
from cache.key import Key, SourceId
from cache.stored import StoredFile
from edge.http.etag import derivative_etag
from edge.policy.rungs import STEPS
from edge.site import Site
from edge.source import Home, Original, Source, slice_of
from edge.sources import Sources
from resizer.errors import ImpossibleTransform
from resizer.formats import Format
from resizer.job import Result
from resizer.ladder import USUAL_JPEG_QUALITY, Encoded, Parent, may_derive
from resizer.ladder import Source as Facts
from resizer.transform import Transform

LARGE_PIXELS: Final = 24_000_000
FAR_PIXELS: Final = 12_000_000
# Large originals whose sides are remembered, some 300 bytes each. Of one that is not, the next
# derivative is rendered from its bytes, which tells them.
MAX_REMEMBERED: Final = 16_384
# Files looked for, the smallest that will do first: each is a question to a disk.
MAX_LOOKED_FOR: Final = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A parent's file, under the record of the source that it was made from."""

    variant: str
    parent: Parent
    file: Original

    @property
    def digest(self) -> bytes:
        return self.variant.encode()


class Parents:
    """stored: the file of a key, of the source's version and in whatever way it was made."""

    def __init__(
        self,
        sources: Sources,
        stored: Callable[[Source, SourceRecord, Key], Awaitable[StoredFile | None]],
        encoder: str,
        max_pixels: int,
    ) -> None:
        self._sources = sources
        self._stored = stored
        self._encoder = encoder
        self._max_pixels = max_pixels
        self._known: OrderedDict[tuple[bytes, str], Facts] = OrderedDict()

    def learn(self, source_id: SourceId, validator: str, result: Result) -> None:
        """What a render tells of its source, where that is of use."""
        sides = (result.source_width, result.source_height)
        if result.source_format is not Format.JPEG or sides[0] * sides[1] < FAR_PIXELS:
            return
        # A JPEG is never transparent, and does not move; upright it is by here.
        self._known[source_id.digest, validator] = Facts(sides, Format.JPEG)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    async def maybe_find(self, site: Site, source: Source, wanted: Transform) -> Found | None:
        record = source.record
        facts = self._known.get((source.id.digest, record.validator))
        if facts is None:
            return None
        candidates = self._candidates(site, facts, wanted)
        if not candidates or not await self._is_worth_it(site, source, facts):
            return None
        for made in candidates:
            variant = made.transform.canonical()
            stored = await self._stored(source, record, Key(source.id, variant))
            if stored is None:
                continue
            if stored.entry.etag != derivative_etag(record.validator, variant, self._encoder):
                stored.close()
                continue
            file = Original(record, (), slice_of(stored))
            return Found(variant, Parent(made, facts), file)
        return None

    def _candidates(self, site: Site, facts: Facts, wanted: Transform) -> list[Encoded]:
        steps = site.steps.widths or STEPS
        every = (
            Encoded(site.looks.apply(Transform(width=width)), Format.JPEG, USUAL_JPEG_QUALITY)
            for width in steps
            # As wide as the original, it may be the original's own file.
            if width < facts.upright[0]
        )
        try:
            may = [made for made in every if may_derive(made, wanted, facts, self._max_pixels)]
        except ImpossibleTransform:
            return []  # the render says so
        return may[:MAX_LOOKED_FOR]

    async def _is_worth_it(self, site: Site, source: Source, facts: Facts) -> bool:
        width, height = facts.upright
        if width * height >= LARGE_PIXELS:
            return True
        # A docroot is here, whatever disk it is on.
        if source.home is Home.DOCROOT:
            return False
        return await self._sources.maybe_open_body(site, source) is None
