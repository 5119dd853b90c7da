"""What is to be done to a picture: one frozen value, legal by construction.

Canonical text is the variant part of a cache key and of an ETag. It is unique: equal transforms
print equally, fields at their default are left out, and parse(canonical(t)) == t. It reads

    w=220,h=160,fit=cover,g=north,f=webp,q=75

with fields in the order of FIELDS. No field of it can hold a comma or an equals sign.

The order of work is fixed, whatever the order of a URL: region, mirror and right angles, sizes
with crop, colours, blur or sharpen, box, watermark, corners, other angles. So width, height,
gravity and focus speak of the turned picture, the region of the upright source.

What can have no effect is refused, so that one picture has one key. What depends on the format
alone is settled instead: which format a picture gets is often decided after its URL is read.
"""

import dataclasses
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resizer.focus import Focus as Focus
from resizer.focus import parse_focus
from resizer.formats import Format
from resizer.qualities import NO_QUALITIES, parse_qualities
from resizer.qualities import QUALITIES as QUALITIES
from resizer.qualities import Qualities as Qualities
from resizer.region import MAX_SIDE as MAX_SIDE
from resizer.region import Region, parse_region
from resizer.watermark import Watermark, parse_watermark
from resizer.words import BadTransform as BadTransform
from resizer.words import Fill as Fill
from resizer.words import Fit as Fit
from resizer.words import Gravity as Gravity
from resizer.words import Keep as Keep
from resizer.words import Placeholder as Placeholder
from resizer.words import Tone as Tone

FULL_TURN: Final = 3600
RIGHT_ANGLE: Final = 900

# The scale of a whole picture, and the largest there is: a pixel to a picture's side (100 times).
FULL_SCALE: Final = 10_000
MAX_SCALE: Final = 100 * FULL_SCALE

# Blur is a box filter: its cost does not grow with sigma. 250 px is the most a grammar knows.
MAX_BLUR: Final = 2500
MAX_SHARPEN: Final = 500
# Percents of change; -100 leaves nothing of it, 300 is four times as much.
CHANGES: Final = range(-100, 301)

# Frames of an animation. All is the default: what moves keeps moving.
ALL_FRAMES: Final = 0
MAX_FRAMES: Final = 1000
# A GiB: more than the largest output that a resizer may be set to.
MAX_OUTPUT_BYTES: Final = 1 << 30

# Fields that say how a picture is written.
_OF_FILES: Final = (
    *("format", "quality", "qualities", "keep", "max_bytes", "frames", "progressive"),
)
# Formats that have no transparency, and no second frame.
_OPAQUE: Final = frozenset({Format.JPEG})
_STILL: Final = frozenset({Format.JPEG})


@dataclass(frozen=True, slots=True)
class Transform:
    """width and height in pixels of the upright picture; None means "in proportion".

    format None keeps the source's own format. enlarge False never makes a picture larger than its
    source (a cover or stretch box is then reached only as far as the source reaches; a letterbox
    keeps its box and gets wider bars); exact refuses the picture instead.
    background is six hexadecimal digits, used where the output has no transparency and for bars;
    with flatten there is no transparency in any format.
    scale, in hundredths of a percent, stands instead of width and height. adaptive exchanges these
    where the picture lies and the box stands, or the other way round.
    rotate is clockwise, in tenths of a degree, after mirror (left for right). Right angles swap
    the sides before they are compared with the box; by any other angle the finished picture is
    turned, and its canvas grows to hold it.
    blur is a sigma in tenths of a pixel, sharpen and the three changes are percents, corners a
    radius in pixels. frames is a number, 1 the first alone, ALL_FRAMES all. crisp gives back the
    sharpness that a reduction takes; progressive is a way to write JPEG.
    Raises BadTransform.
    """

    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.CONTAIN
    gravity: Gravity = Gravity.CENTRE
    enlarge: bool = False
    format: Format | None = None
    quality: int | None = None
    background: str = "ffffff"
    # Order is the order of the canonical text: new fields stand at the end, or keys change.
    region: Region | None = None
    scale: int | None = None
    exact: bool = False
    focus: Focus | None = None
    fill: Fill = Fill.COLOUR
    mirror: bool = False
    rotate: int = 0
    brightness: int = 0
    contrast: int = 0
    saturation: int = 0
    tone: Tone = Tone.COLOUR
    blur: int = 0
    sharpen: int = 0
    corners: int = 0
    watermark: Watermark | None = None
    flatten: bool = False
    qualities: Qualities = NO_QUALITIES
    keep: Keep = Keep.NONE
    max_bytes: int | None = None
    frames: int = ALL_FRAMES
    placeholder: Placeholder = Placeholder.NONE
    adaptive: bool = False
    crisp: bool = False
    progressive: bool = False

    def __post_init__(self) -> None:
        for name, lowest, highest in _SIZE_LIMITS:
            self._check(name, lowest, highest)
        if len(self.background) != 6 or not set(self.background) <= _HEXADECIMAL:
            raise BadTransform("background is not six lower-case hexadecimal digits")
        if self.fit is not Fit.CONTAIN and (self.width is None or self.height is None):
            raise BadTransform(f"fit {self.fit} needs width and height")
        if self.gravity is not Gravity.CENTRE and self.fit is not Fit.COVER:
            raise BadTransform(f"gravity has no meaning with fit {self.fit}")
        # Most transforms are a size and a format, and one is built for every request.
        if _rest(self) == _PLAIN:
            return
        for name, lowest, highest in _LIMITS:
            self._check(name, lowest, highest)
        self._check_sizes()
        self._settle()
        self._check_looks()

    def _check(self, name: str, lowest: int, highest: int) -> None:
        value = getattr(self, name)
        if value is not None and not lowest <= value <= highest:
            raise BadTransform(f"{name} {value} is outside {lowest} to {highest}")

    def _check_sizes(self) -> None:
        has_side = self.width is not None or self.height is not None
        if self.focus is not None and self.fit is not Fit.COVER:
            raise BadTransform(f"focus has no meaning with fit {self.fit}")
        if self.focus is not None and self.gravity is not Gravity.CENTRE:
            raise BadTransform("a focus and a gravity both say what to keep")
        if self.fill is not Fill.COLOUR and self.fit is not Fit.LETTERBOX:
            raise BadTransform(f"fill has no meaning with fit {self.fit}")
        if self.scale is not None and has_side:
            raise BadTransform("a scale stands instead of width and height")
        if self.scale is not None and self.scale > FULL_SCALE and not self.enlarge:
            raise BadTransform(f"a scale over {FULL_SCALE} has to enlarge")
        if self.exact and self.enlarge:
            raise BadTransform("what may be enlarged is always exact")
        if self.exact and not has_side:
            raise BadTransform("exact needs width or height")
        if self.adaptive and (self.width is None or self.height is None):
            raise BadTransform("adaptive needs width and height")

    def _settle(self) -> None:
        """Give each field the one value that says what it says."""
        if self.region is not None and self.region.is_whole:
            self._set("region", None)
        if self.scale == FULL_SCALE:
            self._set("scale", None)
        if self.width == self.height:
            self._set("adaptive", False)
        if self.width is None and self.height is None and self.scale is None:
            self._set("crisp", False)  # nothing is reduced
        if self.saturation == CHANGES[0]:
            self._set("saturation", 0)
            self._set("tone", Tone.GREY if self.tone is Tone.COLOUR else self.tone)
        if self.placeholder is not Placeholder.NONE:
            # No picture is written, and what stands for one is too small to be crisp.
            for name in (*_OF_FILES, "crisp"):
                self._set(name, DEFAULTS[name])
        if self.format is None:
            return
        if self.qualities.by_format:
            self._set("quality", self.quality_for(self.format))
            self._set("qualities", NO_QUALITIES)
        if self.format in _OPAQUE:
            self._set("flatten", False)
            self._set("fill", Fill.COLOUR if self.fill is Fill.CLEAR else self.fill)
        if self.format in _STILL:
            self._set("frames", ALL_FRAMES)
        if self.format is not Format.JPEG:
            self._set("progressive", False)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_looks(self) -> None:
        if self.blur and self.sharpen:
            raise BadTransform("blur and sharpen undo each other")
        if self.saturation and self.tone is not Tone.COLOUR:
            raise BadTransform(f"saturation has no meaning with tone {self.tone}")
        if self.placeholder is Placeholder.NONE:
            return
        if self.corners or self.watermark or self.blur or self.sharpen or self.tilt:
            raise BadTransform(
                "a placeholder has no watermark, corners, blur, sharpening or odd angle"
            )

    @property
    def is_identity(self) -> bool:
        """True when the original's own bytes are the answer."""
        # Most are that very object, and nearly all others have a side; comparing makes tuples of
        # all fields.
        if self is IDENTITY:
            return True
        return self.width is None and self.height is None and self == IDENTITY

    @property
    def turns(self) -> int:
        """How many right angles the picture is turned before it is sized."""
        return 0 if self.tilt else self.rotate // RIGHT_ANGLE

    @property
    def tilt(self) -> int:
        """The angle by which the finished picture is turned; 0 where right angles do."""
        return self.rotate if self.rotate % RIGHT_ANGLE else 0

    def quality_for(self, output: Format) -> int | None:
        """The quality asked for a format that was not known to the transform."""
        return dict(self.qualities.by_format).get(output, self.quality)

    def canonical(self) -> str:
        """The unique text of this transform; empty for the identity."""
        if self is IDENTITY:
            return ""
        plain = _rest(self) == _PLAIN
        return ",".join(
            f"{short}={_print(value)}"
            for short, name, default in (FIELDS[:_PLAIN_FIELDS] if plain else FIELDS)
            if (value := getattr(self, name)) != default
        )


def turned(rotate: int, *, horizontal: bool, vertical: bool) -> tuple[bool, int]:
    """mirror and rotate for a picture that is flipped and then rotated clockwise, in tenths of a
    degree of any size and sign. Upside down is mirrored and half a turn: one spelling of each.
    """
    if vertical:
        rotate += FULL_TURN // 2
    return horizontal != vertical, rotate % FULL_TURN


def at_ratio(side: int, ratio: int) -> int:
    """A side in CSS pixels at a device pixel ratio in hundredths: rounded half up, at least 1."""
    return max(1, (side * ratio + 50) // 100)


def _print(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


_SHORT: Final = {
    "width": "w",
    "height": "h",
    "fit": "fit",
    "gravity": "g",
    "enlarge": "up",
    "format": "f",
    "quality": "q",
    "background": "bg",
    "region": "r",
    "scale": "sc",
    "exact": "ex",
    "focus": "fp",
    "fill": "fill",
    "mirror": "mi",
    "rotate": "rot",
    "brightness": "bri",
    "contrast": "con",
    "saturation": "sat",
    "tone": "tone",
    "blur": "blur",
    "sharpen": "sh",
    "corners": "cr",
    "watermark": "wm",
    "flatten": "flat",
    "qualities": "qf",
    "keep": "keep",
    "max_bytes": "mb",
    "frames": "fr",
    "placeholder": "ph",
    "adaptive": "ad",
    "crisp": "crisp",
    "progressive": "pr",
}
# What is read by int() is not here.
_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "fit": Fit,
    "gravity": Gravity,
    "enlarge": lambda text: bool(int(text)),
    "format": Format,
    "background": str,
    "region": parse_region,
    "exact": lambda text: bool(int(text)),
    "focus": parse_focus,
    "fill": Fill,
    "mirror": lambda text: bool(int(text)),
    "tone": Tone,
    "watermark": parse_watermark,
    "flatten": lambda text: bool(int(text)),
    "qualities": parse_qualities,
    "keep": Keep,
    "placeholder": Placeholder,
    "adaptive": lambda text: bool(int(text)),
    "crisp": lambda text: bool(int(text)),
    "progressive": lambda text: bool(int(text)),
}
_SIZE_LIMITS: Final = (
    ("width", 1, MAX_SIDE),
    ("height", 1, MAX_SIDE),
    ("quality", QUALITIES[0], QUALITIES[-1]),
)
_LIMITS: Final = (
    ("scale", 1, MAX_SCALE),
    ("rotate", 0, FULL_TURN - 1),
    ("brightness", CHANGES[0], CHANGES[-1]),
    ("contrast", CHANGES[0], CHANGES[-1]),
    ("saturation", CHANGES[0], CHANGES[-1]),
    ("blur", 0, MAX_BLUR),
    ("sharpen", 0, MAX_SHARPEN),
    ("corners", 0, MAX_SIDE),
    ("max_bytes", 1, MAX_OUTPUT_BYTES),
    ("frames", ALL_FRAMES, MAX_FRAMES),
)
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
DEFAULTS: Final[dict[str, object]] = {f.name: f.default for f in dataclasses.fields(Transform)}
# (short name, field name, default) in canonical order.
FIELDS: Final = tuple((_SHORT[name], name, default) for name, default in DEFAULTS.items())
_NAMES: Final = {short: name for short, name, _ in FIELDS}
# The fields up to background, and what all others are at in a transform of these alone.
_PLAIN_FIELDS: Final = 8
_rest: Final = operator.attrgetter(*(name for _, name, _ in FIELDS[_PLAIN_FIELDS:]))
_PLAIN: Final = tuple(default for _, _, default in FIELDS[_PLAIN_FIELDS:])
IDENTITY: Final = Transform()


def parse(text: str) -> Transform:
    """Inverse of Transform.canonical(). Raises BadTransform for any other text."""
    values: dict[str, object] = {}
    for part in text.split(",") if text else ():
        short, _, value = part.partition("=")
        name = _NAMES.get(short)
        if name is None or name in values:
            raise BadTransform(f"unknown or repeated field {short!r}")
        values[name] = _parse_value(name, value)
    transform = Transform(**values)  # type: ignore[arg-type]
    if transform.canonical() != text:
        raise BadTransform(f"not in canonical form: {text!r}")
    return transform


def _parse_value(name: str, text: str) -> object:
    try:
        return _PARSERS.get(name, int)(text)
    except BadTransform:
        raise
    except ValueError:
        raise BadTransform(f"{name} cannot be {text!r}") from None
