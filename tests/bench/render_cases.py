"""What is rendered: ten photographs, the widths and formats asked for, and by whom."""

import enum
import os
from dataclasses import dataclass

MATE = "/usr/share/backgrounds/mate/nature"
PLASMA = "/usr/share/wallpapers/{}/contents/images/2560x1600.jpg"

# Baseline JPEG without a colour profile, wider than 1280. Six are 2560 wide, twice the largest
# width and four times another, which is kind to whoever decodes at the smallest scale that covers;
# the other four (1680 to 1920) are not. Under which name each is served, and where Debian has it.
PHOTOGRAPHS = {
    **{f"{name}.jpg": f"{MATE}/{name}.jpg" for name in ("Aqua", "Dune", "Garden", "Blinds")},
    **{f"{name}.jpg": f"{MATE}/{name}.jpg" for name in ("TwoWings", "RainDrops", "Storm")},
    **{f"{name}.jpg": PLASMA.format(name) for name in ("BytheWater", "EveningGlow", "FallenLeaf")},
}
# 17.9 megapixels, progressive, 16 MB. And the smallest of the ten.
LARGE = "/usr/share/backgrounds/mate/abstract/Elephants_5640x3172.jpg"
SMALL = f"{MATE}/Dune.jpg"

WIDTHS = (120, 220, 480, 1280)
STEPS = (120, 220, 250, 330, 480, 640, 960, 1280)
FORMAT_WIDTH = 480  # below 160,000 pixels for all of the ten: one setting of every encoder
PNG_WIDTH = 1280  # of the PNG originals, drawn from the photographs
CURVE_WIDTHS = (220, 1280)
CURVE_QUALITIES = (60, 70, 80, 90)
ENDINGS = {"jpeg": ".jpg", "png": ".png"}  # of the originals
QUALITY = {"jpeg": 80, "webp": 80, "avif": 60, "png": 80}
YOUTUBE_NAMES = ("default", "mqdefault", "hqdefault", "sddefault", "hq720", "maxresdefault")

NODE, BARE, THUMBOR, NGINX, LIBVIPS, SHARP = "node", "bare", "thumbor", "nginx", "libvips", "sharp"
# The node with a site setting: after a first miss the other steps, from one decoding.
LADDERS = "node with ladders"
EVERYONE = (NODE, BARE, THUMBOR, NGINX, LIBVIPS, SHARP)
WITH_CHOICE = (NODE, BARE, THUMBOR, LIBVIPS, SHARP)  # of an output format
FEW = (NODE, BARE, THUMBOR, LIBVIPS)  # those that a figure names
LADDER_COMMAND = "halftone ladder"


class Original(enum.Enum):
    PHOTOGRAPH = "a photograph as Debian packs it"
    PNG = f"a photograph as PNG, {PNG_WIDTH} pixels wide"
    LARGE = "17.9 megapixels"
    SMALL = "1.8 megapixels"


class Course(enum.Enum):
    """What one picture of a round is."""

    ONE = "one derivative of an original that was never asked for"
    STEPS = "all widths of an original, in random order"
    LADDER = "all derivatives of one original, against its largest alone"


@dataclass(frozen=True, slots=True)
class Asked:
    """One derivative. path is below the root; name is YouTube's, in place of a width."""

    path: str
    width: int
    format: str = "jpeg"
    quality: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.format not in QUALITY or self.width < 1:
            raise ValueError(f"nobody can render {self}")

    @property
    def own_format(self) -> bool:
        """The format is the original's own, so a URL need not say it."""
        return self.path.endswith(ENDINGS.get(self.format, "/"))

    @property
    def effective_quality(self) -> int:
        return self.quality or QUALITY[self.format]


@dataclass(frozen=True, slots=True)
class RenderCase:
    """One row of the result. names stand in place of widths where a ladder is YouTube's."""

    name: str
    label: str
    about: str
    course: Course
    original: Original
    widths: tuple[int, ...]
    contestants: tuple[str, ...]
    format: str = "jpeg"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.widths or not self.contestants or not self.about.endswith("."):
            raise ValueError(f"case {self.name} has nothing to ask, nobody to ask, or no words")
        if self.course is Course.ONE and len(self.widths) != 1:
            raise ValueError(f"case {self.name}: one derivative has one width")

    def asked(self, path: str) -> list[Asked]:
        """All derivatives of one original, the largest last."""
        if self.names:
            return [Asked(path, self.widths[0], self.format, name=name) for name in self.names]
        return [Asked(path, width, self.format) for width in self.widths]


def cases() -> list[RenderCase]:
    return [*(_first(width) for width in WIDTHS), _steps(), *_formats(), *_ladders()]


def photographs(quick: bool) -> dict[str, str]:
    """A rehearsal takes every third."""
    chosen = list(PHOTOGRAPHS.items())
    return dict(chosen[::3] if quick else chosen)


def missing() -> list[str]:
    return [path for path in (*PHOTOGRAPHS.values(), LARGE) if not os.path.exists(path)]


def _first(width: int) -> RenderCase:
    return RenderCase(
        name=f"first-{width}",
        label=f"first, {width} px",
        about=f"The first miss of each photograph, {width} pixels wide, JPEG at quality 80: from "
        "the request to the last byte.",
        course=Course.ONE,
        original=Original.PHOTOGRAPH,
        widths=(width,),
        contestants=EVERYONE,
    )


def _steps() -> RenderCase:
    return RenderCase(
        name="steps",
        label=f"{len(STEPS)} steps",
        about=f"Each photograph in all steps ({', '.join(map(str, STEPS))}), one request after "
        "the other in an order drawn anew for each round and picture, the same for everyone; each "
        "is a miss, but of the node with ladders: there the first brings the others along. CPU "
        "is the sum of the eight.",
        course=Course.STEPS,
        original=Original.PHOTOGRAPH,
        widths=STEPS,
        contestants=(NODE, LADDERS, *FEW[1:]),
    )


def _formats() -> list[RenderCase]:
    def case(output: str, original: Original, contestants: tuple[str, ...]) -> RenderCase:
        return RenderCase(
            name=f"format-{output}",
            label=f"{output.upper()}, {FORMAT_WIDTH} px",
            about=f"The first miss, {FORMAT_WIDTH} pixels wide, {output.upper()} "
            f"from {original.value}. Encoders at the node's effort: WebP method 2, AVIF speed 9, "
            "PNG level 4; WebP quality 80, AVIF quality 60.",
            course=Course.ONE,
            original=original,
            widths=(FORMAT_WIDTH,),
            contestants=contestants,
            format=output,
        )

    return [
        case("png", Original.PNG, EVERYONE),
        case("webp", Original.PHOTOGRAPH, WITH_CHOICE),
        case("avif", Original.PHOTOGRAPH, WITH_CHOICE),
    ]


def _ladders() -> list[RenderCase]:
    found = []
    for original, size in ((Original.LARGE, "18m"), (Original.SMALL, "2m")):
        found.append(
            RenderCase(
                name=f"ladder-{size}",
                label=f"ladder, {original.value}",
                about=f"The widths {', '.join(map(str, STEPS))} of one original of "
                f"{original.value} (JPEG), by requests in random order; CPU of all of them, and "
                "how many times that of the first miss of the largest alone. `halftone ladder` "
                "makes the whole Wikipedia ladder in one job, its start included.",
                course=Course.LADDER,
                original=original,
                widths=STEPS,
                contestants=(NODE, LADDER_COMMAND, THUMBOR, LIBVIPS),
            )
        )
        found.append(
            RenderCase(
                name=f"youtube-{size}",
                label=f"YouTube, {original.value}",
                about=f"YouTube's names ({', '.join(YOUTUBE_NAMES)}) of one original of "
                f"{original.value}, by requests in random order, against maxresdefault alone.",
                course=Course.LADDER,
                original=original,
                widths=(1280,),
                contestants=(NODE,),
                names=YOUTUBE_NAMES,
            )
        )
    return found
