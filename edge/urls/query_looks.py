"""What a query says about the looks of a picture, in the words of imgix where it has them.

    rect        left,top,width,height of the source, in pixels
    crop        faces edges entropy (any of them, joined by commas): the part that draws the eye
                focalpoint, with fp-x and fp-y from 0 to 1 (0.5 when absent)
    fill        solid blur: what fit=fill shows beside the picture; clear (our own): nothing
    flip        h v hv, before rot
    rot         0 to 359.9 degrees, counter-clockwise as at imgix. By right angles w and h are those
                of the turned picture; by others the canvas grows (imgix keeps it and zooms in)
    bri con sat   -100 to 300, percents of change
    monochrome  a grey (808080): without colour. tone=grey, tone=bitonal are our own
    blur        0 to 2500, tenths of a pixel         sharp   0 to 500
    mask        corners, with corner-radius in pixels
    mark        the name of one of the site's marks, never an address, with
                mark-align (top middle bottom, left center right), mark-alpha 1 to 100,
                mark-scale 1 to 100 percent of the width, mark-pad in pixels

Our own words for what imgix does not have:

    flat=1       no transparency in any format
    exact=1      refuse what would have to be enlarged, instead of a smaller picture
    keep         copyright
    frames       how many of what moves, at most: 1 stands still; all is the default
    max-bytes    the most that the file may weigh
    placeholder  thumbhash blurhash preview (resizer/placeholder.py)
"""

import re
from collections.abc import Mapping
from typing import Final

from edge.urls.derivative import BadUrl, NotExpressible
from edge.urls.number import decimal, integer, signed
from resizer.focus import PER_MILLE
from resizer.region import MAX_SIDE, Region, Unit
from resizer.transform import (
    ALL_FRAMES,
    CHANGES,
    FULL_TURN,
    MAX_BLUR,
    MAX_FRAMES,
    MAX_OUTPUT_BYTES,
    MAX_SHARPEN,
    Fill,
    Fit,
    Focus,
    Gravity,
    Keep,
    Placeholder,
    Tone,
    Transform,
    turned,
)
from resizer.watermark import Watermark

# (parameter, field, lowest, highest)
_NUMBERS: Final = (
    ("bri", "brightness", CHANGES[0], CHANGES[-1]),
    ("con", "contrast", CHANGES[0], CHANGES[-1]),
    ("sat", "saturation", CHANGES[0], CHANGES[-1]),
    ("blur", "blur", 0, MAX_BLUR),
    ("sharp", "sharpen", 0, MAX_SHARPEN),
    ("max-bytes", "max_bytes", 1, MAX_OUTPUT_BYTES),
)
# (parameter, field, word -> value); the word that is written comes first.
_WORDS: Final[tuple[tuple[str, str, Mapping[str, object]], ...]] = (
    ("fill", "fill", {"blur": Fill.BLUR, "clear": Fill.CLEAR, "solid": Fill.COLOUR}),
    ("tone", "tone", {"grey": Tone.GREY, "bitonal": Tone.BITONAL}),
    ("flat", "flatten", {"1": True}),
    ("exact", "exact", {"1": True}),
    ("keep", "keep", {"copyright": Keep.COPYRIGHT}),
    (
        "placeholder",
        "placeholder",
        {kind.value: kind for kind in Placeholder if kind is not Placeholder.NONE},
    ),
)
_FLIPS: Final = {"h": (True, False), "v": (False, True), "hv": (True, True)}
_FOCUS: Final = ("fp-x", "fp-y")
_MARKS: Final = ("mark-align", "mark-alpha", "mark-scale", "mark-pad")
_OTHERS: Final = ("rect", "flip", "rot", "monochrome", "mask", "corner-radius", "mark", "frames")
PARAMETERS: Final = frozenset(
    (*_OTHERS, *_FOCUS, *_MARKS, *(row[0] for row in _NUMBERS), *(row[0] for row in _WORDS))
)

# What crop may say of a picture's content; we have one answer to all three.
_SMART: Final = frozenset(("faces", "edges", "entropy"))
_GRAVITIES: Final[dict[frozenset[str], Gravity]] = {
    frozenset(("top",)): Gravity.NORTH,
    frozenset(("bottom",)): Gravity.SOUTH,
    frozenset(("right",)): Gravity.EAST,
    frozenset(("left",)): Gravity.WEST,
    frozenset(("top", "right")): Gravity.NORTH_EAST,
    frozenset(("top", "left")): Gravity.NORTH_WEST,
    frozenset(("bottom", "right")): Gravity.SOUTH_EAST,
    frozenset(("bottom", "left")): Gravity.SOUTH_WEST,
}
# "top,left", vertical word first, whatever order a URL has.
_CROP_WORDS: Final[dict[Gravity, str]] = {
    Gravity.SMART: "entropy",
    **{
        gravity: ",".join(w for w in ("top", "bottom", "left", "right") if w in words)
        for words, gravity in _GRAVITIES.items()
    },
}
_MIDDLES: Final = frozenset(("middle", "center"))
_GREY: Final = re.compile(r"([0-9a-f])\1{2}|([0-9a-f]{2})\2{2}", re.ASCII | re.IGNORECASE)


def read_looks(values: Mapping[str, str]) -> dict[str, object]:
    """The fields of a Transform that decoded parameters set. Raises BadUrl, BadTransform."""
    fields: dict[str, object] = {
        field: signed(values[name], lowest, highest, name)
        for name, field, lowest, highest in _NUMBERS
        if name in values
    }
    for name, field, words in _WORDS:
        if name in values:
            if values[name] not in words:
                raise BadUrl(f"{name} has an unknown value")
            fields[field] = words[values[name]]
    fields |= _read_crop(values) | _read_turn(values)
    if "rect" in values:
        fields["region"] = _region(values["rect"])
    if "monochrome" in values:
        if not _GREY.fullmatch(values["monochrome"]) or "tone" in values:
            raise BadUrl("monochrome is not a grey, or not alone")
        fields["tone"] = Tone.GREY
    if ("mask" in values) != ("corner-radius" in values) or values.get("mask") not in _MASKS:
        raise BadUrl("mask and corner-radius go together")
    if "corner-radius" in values:
        fields["corners"] = integer(values["corner-radius"], 0, MAX_SIDE, "corner-radius")
    if "frames" in values:
        is_all = values["frames"] == "all"
        number = ALL_FRAMES if is_all else integer(values["frames"], 1, MAX_FRAMES, "frames")
        fields["frames"] = number
    if "mark" in values:
        fields["watermark"] = _read_mark(values)
    elif not values.keys().isdisjoint(_MARKS):
        raise BadUrl("there is no mark to lay anywhere")
    return fields


_MASKS: Final = (None, "corners")


def _read_crop(values: Mapping[str, str]) -> dict[str, object]:
    crop = values.get("crop")
    if crop == "focalpoint":
        x, y = (decimal(values.get(name, "0.5"), 3, 0, PER_MILLE, name) for name in _FOCUS)
        return {"focus": Focus(x, y)}
    if not values.keys().isdisjoint(_FOCUS):
        raise BadUrl("fp-x and fp-y are for crop=focalpoint")
    if crop is None:
        return {}
    words = crop.split(",")
    gravity = Gravity.SMART if _SMART.issuperset(words) else _GRAVITIES.get(frozenset(words))
    if gravity is None or len(words) != len(set(words)):
        raise BadUrl("crop has an unknown value")
    return {"gravity": gravity}


def _read_turn(values: Mapping[str, str]) -> dict[str, object]:
    horizontal, vertical = False, False
    if "flip" in values:
        if values["flip"] not in _FLIPS:
            raise BadUrl("flip has an unknown value")
        horizontal, vertical = _FLIPS[values["flip"]]
    degrees = decimal(values["rot"], 1, 0, FULL_TURN - 1, "rot") if "rot" in values else 0
    mirror, rotate = turned(-degrees, horizontal=horizontal, vertical=vertical)
    return {"mirror": mirror, "rotate": rotate}


def _region(text: str) -> Region:
    parts = text.split(",")
    if len(parts) != 4:
        raise BadUrl("rect is not left,top,width,height")
    left, top, width, height = (integer(part, 0, MAX_SIDE, "rect") for part in parts)
    return Region(Unit.PIXELS, left, top, width, height)


def _read_mark(values: Mapping[str, str]) -> Watermark:
    def number(name: str, lowest: int, highest: int, otherwise: int) -> int:
        return integer(values[name], lowest, highest, name) if name in values else otherwise

    position = Gravity.SOUTH_EAST
    if "mark-align" in values:
        words = values["mark-align"].split(",")
        sides = frozenset(words) - _MIDDLES
        found = _GRAVITIES.get(sides) if sides else Gravity.CENTRE
        if found is None or len(words) != len(set(words)) or len(words) > 2:
            raise BadUrl("mark-align has an unknown value")
        position = found
    return Watermark(
        values["mark"],
        position,
        number("mark-alpha", 1, 100, 100),
        number("mark-scale", 1, 100, 0),
        number("mark-pad", 0, MAX_SIDE, 0),
    )


def write_looks(transform: Transform) -> list[tuple[str, object]]:
    """Inverse of read_looks(). Raises NotExpressible."""
    region = transform.region
    if region is not None and (region.unit is not Unit.PIXELS or region.anchor is not None):
        raise NotExpressible(f"query has no word for the region {region}")
    if transform.scale is not None or transform.fit is Fit.OUTSIDE or transform.adaptive:
        raise NotExpressible("query has no word for scale, adaptive, or the outside of a box")
    if transform.qualities.by_format:
        raise NotExpressible("query has one quality for all formats")
    if transform.crisp or transform.progressive:
        raise NotExpressible("query has no word for crisp or progressive")
    crop: str | None = _CROP_WORDS.get(transform.gravity)
    focus = transform.focus
    if focus is not None:
        crop = "focalpoint"
    pairs: list[tuple[str, object]] = [
        ("rect", region and f"{region.left},{region.top},{region.width},{region.height}"),
        ("crop", crop),
        ("fp-x", focus and _point(focus.x, 3)),
        ("fp-y", focus and _point(focus.y, 3)),
        ("flip", "h" if transform.mirror else None),
        ("rot", _point(FULL_TURN - transform.rotate, 1) if transform.rotate else None),
    ]
    pairs += [(name, getattr(transform, field) or None) for name, field, _, _ in _NUMBERS]
    pairs += [
        (name, next((word for word, value in words.items() if value == set_), None))
        for name, field, words in _WORDS
        if (set_ := getattr(transform, field)) != _UNSET.get(field)
    ]
    if transform.corners:
        pairs += [("mask", "corners"), ("corner-radius", transform.corners)]
    if transform.watermark is not None:
        pairs += _write_mark(transform.watermark)
    if transform.frames != ALL_FRAMES:
        pairs.append(("frames", transform.frames))
    return [(name, value) for name, value in pairs if value is not None]


_UNSET: Final = {field: getattr(Transform(), field) for _, field, _ in _WORDS}


def _write_mark(mark: Watermark) -> list[tuple[str, object]]:
    align = "middle" if mark.position is Gravity.CENTRE else _CROP_WORDS[mark.position]
    return [
        ("mark", mark.name),
        ("mark-align", None if mark.position is Gravity.SOUTH_EAST else align),
        ("mark-alpha", None if mark.opacity == 100 else mark.opacity),
        ("mark-scale", mark.scale or None),
        ("mark-pad", mark.margin or None),
    ]


def _point(value: int, places: int) -> str:
    """A number of 10 ** -places, without zeros at its end."""
    whole, rest = divmod(value, 10**places)
    digits = f"{rest:0{places}}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
