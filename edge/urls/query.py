"""Parameters after the original's own URL, in the words of imgix.

    /Dune.jpg?w=220                        220 wide, height in proportion
    /Dune.jpg?w=300&h=200&fit=crop&crop=top,left&fm=webp&q=75
    /Dune.jpg?w=300&h=300&fit=fill&bg=1a2b3c&dpr=2
    /Dune.jpg?rect=10,20,600,600&w=300&sharp=40&mask=corners&corner-radius=12

    w h    1 to 16384, whole numbers
    dpr    0.1 to 5, at most two decimals: multiplies w and h, halves up
    fit    clip max     whole picture inside the box (the default)
           crop min     box filled, the rest cropped
           fill fillmax whole picture, the rest of the box is bg
           scale        box filled, proportions given up
    crop   top bottom left right, or one of each joined by a comma: what fit=crop keeps; or
           faces, edges, entropy, focalpoint (edge/urls/query_looks.py)
    up     1: may enlarge (our own; imgix has clip and max, crop and min for it)
    fm     jpg jpeg png webp avif gif
    q      1 to 100
    bg     three or six hexadecimal digits

and all of edge/urls/query_looks.py: rect, flip, rot, effects, mark, placeholder.

Nothing is enlarged unless up=1 asks: of each imgix pair (clip and max, crop and min, fill and
fillmax) both words are the smaller one, because a URL with a large w must not buy a large render of
a small picture. With one side alone there is no box, and fit has nothing to say, as at imgix.

A URL is claimed when it has a known parameter and its name could be a picture's (an extension of
ours, or none). A file that is surely none (notes.txt?w=220) is refused as such; what might be a
program (app.php?w=3) is not ours to read. In a claimed URL an unknown, repeated, empty or idle
parameter is an error; the ignored ones (utm_*) are dropped.
"""

from dataclasses import dataclass
from typing import Final

from edge.urls.derivative import BadUrl, Derivative, NoPicture, NotExpressible
from edge.urls.ending import ENDINGS, extension, output_format, own_format
from edge.urls.number import hundredths, integer
from edge.urls.path import Target, build_path, decode
from edge.urls.query_looks import PARAMETERS, read_looks, write_looks
from resizer.formats import EXTENSIONS, INPUT_EXTENSIONS, Format
from resizer.transform import IDENTITY, MAX_SIDE, QUALITIES, BadTransform, Fit, Transform, at_ratio

DEFAULT_IGNORED: Final = ("utm_*",)

_PARAMETERS: Final = PARAMETERS | {"w", "h", "dpr", "fit", "crop", "up", "fm", "q", "bg"}
# Files that people keep beside pictures, or pictures that no decoder of ours reads: asking for one
# in another size is a mistake that deserves an answer. What may be a program is not here.
_OTHER_FILES: Final = frozenset(
    [
        *("txt", "md", "csv", "pdf", "svg", "bmp", "ico", "jxl", "heic"),
        *("psd", "mp4", "mov", "webm", "ogv", "mp3", "wav", "zip", "gz", "tar"),
    ]
)
# The first word of a fit is the one that build() writes.
_FITS: Final[dict[str, Fit]] = {
    "clip": Fit.CONTAIN,
    "crop": Fit.COVER,
    "fill": Fit.LETTERBOX,
    "scale": Fit.STRETCH,
    "max": Fit.CONTAIN,
    "min": Fit.COVER,
    "fillmax": Fit.LETTERBOX,
}
_FIT_WORDS: Final[dict[Fit, str]] = {fit: word for word, fit in reversed(_FITS.items())}
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
# Written beside the fit that they belong to.
_WITH_FIT: Final = frozenset(("crop", "fp-x", "fp-y", "fill"))
# Hundredths; imgix's own upper limit.
_LEAST_DPR: Final = 10
_MOST_DPR: Final = 500


@dataclass(frozen=True, slots=True)
class Query:
    """ignored: names of parameters to drop; a star at the end stands for any rest.

    A known parameter cannot be ignored: it would change the picture of a URL that is in use.
    """

    ignored: tuple[str, ...] = DEFAULT_IGNORED
    name: str = "query"

    def parse(self, target: Target) -> Derivative | None:
        if not target.query:
            return None
        pairs = [part.partition("=") for part in target.query.split("&")]
        if _PARAMETERS.isdisjoint(pair[0] for pair in pairs):
            return None
        if not _may_be_picture(target.source):
            if extension(target.source).lower() in _OTHER_FILES:
                raise NoPicture("not a file that we can read as a picture")
            return None
        values: dict[str, str] = {}
        for name, _, value in pairs:
            if name not in _PARAMETERS:
                if self._is_ignored(name):
                    continue
                raise BadUrl(f"unknown parameter {name[:32]!r}")
            if name in values:
                raise BadUrl(f"{name} is repeated")
            if not value:
                raise BadUrl(f"{name} is empty")
            values[name] = decode(value)
        return Derivative(
            target.source,
            _read(target.source, values),
            names_format="fm" in values,
            names_ratio="dpr" in values,
        )

    def _is_ignored(self, name: str) -> bool:
        return any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
            for pattern in self.ignored
        )

    def build(self, derivative: Derivative) -> str:
        if derivative.extensions or derivative.named_size:
            raise NotExpressible("query names complete sources and free sizes")
        path = build_path(derivative.source)
        transform = derivative.transform
        if transform == IDENTITY:
            return path
        if not _may_be_picture(derivative.source):
            raise NotExpressible("query claims only names that a picture could have")
        pairs = _write(transform)
        own = own_format(derivative.source)
        # What has no say in the picture, but in who else may choose its format or size.
        if derivative.names_format and transform.format is None and own is not None:
            pairs.append(("fm", ENDINGS[own]))
        if derivative.names_ratio and (transform.width or transform.height):
            pairs.append(("dpr", "1"))
        return f"{path}?{'&'.join(f'{name}={value}' for name, value in pairs)}"


def _may_be_picture(source: str) -> bool:
    ending = extension(source).lower()
    # Whether a site reads the latter is for its looks to say.
    return not ending or ending in EXTENSIONS or ending in INPUT_EXTENSIONS


def _read(source: str, values: dict[str, str]) -> Transform:
    ratio = hundredths(values["dpr"], _LEAST_DPR, _MOST_DPR, "dpr") if "dpr" in values else 100
    width, height = (_side(name, values.get(name), ratio) for name in ("w", "h"))
    if width is None and height is None and values.keys() & {"dpr", "fit"}:
        raise BadUrl("dpr and fit need w or h")
    # Read although there may be no box: a wrong word is an error in any company.
    fit = _word(_FITS, values.get("fit", "clip"), "fit")
    try:
        return Transform(
            width=width,
            height=height,
            fit=Fit.CONTAIN if width is None or height is None else fit,
            enlarge=bool(integer(values["up"], 1, 1, "up")) if "up" in values else False,
            format=output_format(source, _format(values.get("fm"))),
            quality=integer(values["q"], QUALITIES[0], QUALITIES[-1], "q")
            if "q" in values
            else None,
            background=_background(values["bg"]) if "bg" in values else IDENTITY.background,
            **read_looks(values),  # type: ignore[arg-type]
        )
    except BadTransform as error:
        raise BadUrl(str(error)) from error


def _side(name: str, text: str | None, ratio: int) -> int | None:
    if text is None:
        return None
    side = at_ratio(integer(text, 1, MAX_SIDE, name), ratio)
    if side > MAX_SIDE:
        raise BadUrl(f"{name} times dpr is {side}, limit {MAX_SIDE}")
    return side


def _word(table: dict[str, Fit], text: str, what: str) -> Fit:
    found = table.get(text)
    if found is None:
        raise BadUrl(f"{what} has an unknown value")
    return found


def _format(text: str | None) -> Format | None:
    if text is None:
        return None
    wanted = EXTENSIONS.get(text)
    if wanted is None:
        raise BadUrl("fm has an unknown value")
    return wanted


def _background(text: str) -> str:
    digits = text.lower()
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    if len(digits) != 6 or not _HEXADECIMAL.issuperset(digits):
        raise BadUrl("bg is not three or six hexadecimal digits")
    return digits


def _write(transform: Transform) -> list[tuple[str, str]]:
    looks = write_looks(transform)
    fields = (
        ("w", transform.width),
        ("h", transform.height),
        ("fit", None if transform.fit is Fit.CONTAIN else _FIT_WORDS[transform.fit]),
        *(pair for pair in looks if pair[0] in _WITH_FIT),
        ("up", 1 if transform.enlarge else None),
        ("fm", ENDINGS[transform.format] if transform.format else None),
        ("q", transform.quality),
        ("bg", None if transform.background == IDENTITY.background else transform.background),
        *(pair for pair in looks if pair[0] not in _WITH_FIT),
    )
    return [(name, str(value)) for name, value in fields if value is not None]
