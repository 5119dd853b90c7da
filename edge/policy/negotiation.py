"""Negotiation: which variant of a derivative a request gets. RFC 9110 section 12.

    Accept                   AVIF, WebP or the source's own format (edge/http/negotiate.py)
    Save-Data: on            a lower quality, and no sharper picture for a sharper screen
    Sec-CH-DPR, DPR          width and height times the ratio
    Sec-CH-Width, Width      in place of a width that is absent or larger

Each only where the site has switched it on, and only for a derivative whose URL leaves the format
open: an original, a placeholder and fm=webp are the same for everybody, and say so by having no
Vary. Everything is folded to a few values, because every cache in front keeps each variant apart.

A hint never makes an error of a request that is right without it. What hints ask for is rounded up
to the site's steps, and to the largest where it lies above; without steps a Width goes up to the
next multiple of WIDTH_GRID.
"""

import bisect
import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.http.client_hints import RATIOS, fold_ratio, is_saving, maybe_width
from edge.http.negotiate import AcceptClass, fold_accept
from edge.policy.steps import at_step
from edge.urls.derivative import Derivative
from edge.urls.ending import output_format, own_format
from resizer.formats import Format
from resizer.qualities import NO_QUALITIES, Qualities
from resizer.transform import MAX_SIDE, Transform, at_ratio
from resizer.words import Placeholder

# Qualities under Save-Data, for the formats that have one: about half the bytes of the usual 80, 80
# and 60. A lower one that the URL names stays.
SAVING: Final[dict[Format, int]] = {Format.AVIF: 40, Format.JPEG: 50, Format.WEBP: 50}
# Widths that hints ask for are told apart in pixels, where no steps do it.
WIDTH_GRID: Final = 80
# Spellings of Accept whose class is remembered, a site.
MAX_LINES: Final = 512

_FORMATS: Final = {AcceptClass.AVIF: Format.AVIF, AcceptClass.WEBP: Format.WEBP}
_HINTS: Final = ("Sec-CH-DPR", "DPR", "Sec-CH-Width", "Width")
_SAVE_DATA: Final = "Save-Data"


class NewerFormat(enum.StrEnum):
    """What a site may send beside a source's own format."""

    AVIF = "avif"
    WEBP = "webp"


@dataclass(frozen=True, slots=True)
class Variant:
    """What of a request chooses among the variants. ratio is one of RATIOS, width on the grid."""

    accepts: AcceptClass = AcceptClass.BASE
    saves: bool = False
    ratio: int = RATIOS[0]
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The setting of a site. widths are its steps; upgrade: see edge/upgrades.py.

    answer_lines is what every answer of a negotiated target carries.
    """

    formats: frozenset[Format] = frozenset()
    save_data: bool = False
    client_hints: bool = False
    upgrade: bool = True
    widths: tuple[int, ...] = ()
    answer_lines: str = field(init=False, compare=False)
    _classes: dict[bytes, AcceptClass] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer_lines", self._answer_lines())

    def _answer_lines(self) -> str:
        # RFC 9110 section 12.5.5: every field that had, or might have had, a say.
        names = ["Accept"] if self.formats else []
        names += [_SAVE_DATA] if self.save_data else []
        names += _HINTS if self.client_hints else []
        lines = f"Vary: {', '.join(names)}\r\n" if names else ""
        return lines + (f"Accept-CH: {', '.join(_HINTS)}\r\n" if self.client_hints else "")

    @property
    def is_on(self) -> bool:
        return bool(self.answer_lines)

    def concerns(self, derivative: Derivative) -> bool:
        """Whether a derivative has variants."""
        transform = derivative.transform
        return (
            self.is_on
            and not transform.is_identity
            and not derivative.names_format
            and not derivative.named_size
            and transform.format is None
            and transform.placeholder is Placeholder.NONE
        )

    def variant_of(self, fields: Mapping[bytes, bytes]) -> Variant:
        """The variant for a request with these fields."""
        saves = self.save_data and is_saving(_text(fields, b"save-data"))
        ratio, width = RATIOS[0], None
        if self.client_hints:
            # The one that browsers send today counts, where a cache or client sends both.
            if not saves:
                ratio = fold_ratio(_text(fields, b"sec-ch-dpr") or _text(fields, b"dpr"))
            width = maybe_width(_text(fields, b"sec-ch-width") or _text(fields, b"width"))
            width = None if width is None else self._on_grid(width)
        return Variant(self._class_of(_text(fields, b"accept")), saves, ratio, width)

    def class_of_line(self, line: bytes) -> AcceptClass:
        """The class of an Accept line as it stands in a head, b"" for none."""
        found = self._classes.get(line)
        if found is None:
            found = self._class_of(line.partition(b":")[2].strip(b" \t").decode("latin-1"))
            if len(self._classes) >= MAX_LINES:
                self._classes.clear()
            self._classes[line] = found
        return found

    def quick(self, variant: Variant, accept: str | None) -> Variant:
        """What may be sent in place of a variant that takes long: the same without AVIF."""
        accepts = fold_accept(accept, self.formats - {Format.AVIF})
        return dataclasses.replace(variant, accepts=accepts)

    def is_slow(self, transform: Transform) -> bool:
        """Whether a variant is prepared in idle time, and something quick sent meanwhile. One whose
        source is AVIF already has no quicker form."""
        return self.upgrade and transform.format is Format.AVIF

    def adapt(self, asked: Derivative, stepped: Transform, variant: Variant) -> Transform:
        """The transform of a variant. asked is what the URL says, stepped what the site's steps
        have made of it."""
        transform = self._sized(asked, stepped, variant)
        wanted = _FORMATS.get(variant.accepts)
        if wanted is not None:
            wanted = output_format(asked.source, wanted)
            transform = dataclasses.replace(transform, format=wanted)
        return _saving(transform, asked.source) if variant.saves else transform

    def _class_of(self, accept: str | None) -> AcceptClass:
        return fold_accept(accept, self.formats) if self.formats else AcceptClass.BASE

    def _sized(self, asked: Derivative, stepped: Transform, variant: Variant) -> Transform:
        transform = asked.transform
        width, height = transform.width, transform.height
        # What must be reached exactly is no matter of taste, and a scale has no side.
        if transform.exact or transform.scale is not None:
            return stepped
        # A ratio in the URL is the page's own word on the screen.
        ratio = RATIOS[0] if asked.names_ratio else variant.ratio
        if width is None and height is not None:
            if ratio == RATIOS[0]:
                return stepped
            return at_step(transform, self._bounded(at_ratio(height, ratio), height))
        if width is None:
            if variant.width is None:
                return stepped
            return dataclasses.replace(transform, width=variant.width)
        side = at_ratio(width, ratio)
        if variant.width is not None and variant.width < side:
            return at_step(transform, variant.width)
        if ratio == RATIOS[0]:
            return stepped
        return at_step(transform, self._bounded(side, width))

    def _on_grid(self, width: int) -> int:
        if self.widths:
            return self._bounded(width, 0)
        return min(-(-width // WIDTH_GRID) * WIDTH_GRID, MAX_SIDE)

    def _bounded(self, side: int, asked: int) -> int:
        """The step for a side; above the largest step no more than that, or than what was asked."""
        if not self.widths:
            return min(side, MAX_SIDE)
        if side > self.widths[-1]:
            return max(self.widths[-1], asked)
        return self.widths[bisect.bisect_left(self.widths, side)]


NO_NEGOTIATION: Final = Negotiation()


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode("latin-1")


def _saving(transform: Transform, source: str) -> Transform:
    output = transform.format or own_format(source)
    if output is None:
        # The bytes will say which it is: a quality for each.
        by_format = dict(transform.qualities.by_format)
        by_format |= {one: _lower(transform, one) for one in SAVING}
        return dataclasses.replace(transform, qualities=Qualities(tuple(sorted(by_format.items()))))
    if output not in SAVING:
        return transform
    quality = _lower(transform, output)
    return dataclasses.replace(transform, quality=quality, qualities=NO_QUALITIES)


def _lower(transform: Transform, output: Format) -> int:
    asked = transform.quality_for(output)
    return SAVING[output] if asked is None else min(asked, SAVING[output])
