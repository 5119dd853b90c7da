"""Thumbnails as YouTube names them.

    /vi/ID/NAME.jpg          JPEG
    /vi_webp/ID/NAME.webp    WebP

    default 120x90 (also 1 2 3)          mqdefault 320x180 (also mq1 mq2 mq3)
    hqdefault 480x360 (also 0 hq1..3)    sddefault 640x480 (also sd1 sd2 sd3)
    hq720 1280x720                       maxresdefault 1280x720

ID is the name of an original at the top of the site without its extension: /vi/Dune/hqdefault.jpg
is a thumbnail of /Dune.jpg, or else /Dune.jpeg, /Dune.png and so on. "_live" may follow a name that
is no alias. 1, 2 and 3 are frames of a video elsewhere; a picture has one. The query (sqp, rs:
signed crops of YouTube's own) is dropped.

The whole picture is shown in a box of exactly that size, the rest is black: a 16:9 picture gets
bars above and below at 4:3 and none at 16:9. Other proportions are letterboxed at 16:9 too, because
a video that is not 16:9 has its bars within its own frame: cutting a portrait to 16:9 would lose
two thirds of it, which no player does. Small pictures are enlarged, since pages lay these names out
by their size.
"""

from dataclasses import dataclass
from typing import Final

from edge.urls.derivative import BadUrl, Derivative, NotExpressible
from edge.urls.path import MAX_SEGMENT_BYTES, Target, build_path
from resizer.formats import Format
from resizer.transform import Fit, Transform

EXTENSIONS_TO_TRY: Final = ("jpg", "jpeg", "png", "webp", "avif", "gif")

# The first name of a size is the one that build() writes.
_SIZES: Final[dict[str, tuple[int, int]]] = {
    "default": (120, 90),
    "mqdefault": (320, 180),
    "hqdefault": (480, 360),
    "sddefault": (640, 480),
    "maxresdefault": (1280, 720),
    "hq720": (1280, 720),
}
_ALIASES: Final[dict[str, str]] = {
    "0": "hqdefault",
    **dict.fromkeys(("1", "2", "3"), "default"),
    **{f"{size}{frame}": f"{size}default" for size in ("mq", "hq", "sd") for frame in "123"},
    **{f"{name}_live": name for name in _SIZES},
}
_NAMES: Final[dict[tuple[int, int], str]] = {size: name for name, size in reversed(_SIZES.items())}
# First segment: the extension and the format that belong to it.
_FOLDERS: Final[dict[str, tuple[str, Format]]] = {
    "vi": ("jpg", Format.JPEG),
    "vi_webp": ("webp", Format.WEBP),
}
# What an id may have so that its longest extension still fits into a file name.
_MAX_ID_BYTES: Final = MAX_SEGMENT_BYTES - max(len(f".{end}") for end in EXTENSIONS_TO_TRY)


def _transform(size: tuple[int, int], output: Format | None) -> Transform:
    return Transform(
        width=size[0],
        height=size[1],
        fit=Fit.LETTERBOX,
        enlarge=True,
        format=output,
        background="000000",
    )


def named_sizes(like: Transform) -> tuple[Transform, ...]:
    """Every named size in the format of one of them (None: the source's own, once that is known);
    none for what is no named size."""
    sizes = tuple(_transform(size, like.format) for size in _NAMES)
    return sizes if like in sizes else ()


@dataclass(frozen=True, slots=True)
class Youtube:
    name: str = "youtube"

    def parse(self, target: Target) -> Derivative | None:
        path = target.segments
        if len(path) != 3 or path[0] not in _FOLDERS:
            return None
        folder, video, file_name = path
        ending, output = _FOLDERS[folder]
        if len(video.encode()) > _MAX_ID_BYTES:
            raise BadUrl(f"id is longer than {_MAX_ID_BYTES} bytes")
        name, _, found = file_name.partition(".")
        if found != ending:
            raise BadUrl(f"{folder} has only .{ending}")
        size = _SIZES.get(_ALIASES.get(name, name))
        if size is None:
            raise BadUrl("not the name of a thumbnail")
        return Derivative(f"/{video}", _transform(size, output), EXTENSIONS_TO_TRY, True)

    def build(self, derivative: Derivative) -> str:
        transform, video = derivative.transform, derivative.source[1:]
        if derivative.extensions != EXTENSIONS_TO_TRY or not derivative.named_size or "/" in video:
            raise NotExpressible("youtube names sources at the top, without their extension")
        if len(video.encode()) > _MAX_ID_BYTES:
            raise NotExpressible(f"id is longer than {_MAX_ID_BYTES} bytes")
        for folder, (ending, output) in _FOLDERS.items():
            for size, name in _NAMES.items():
                if transform == _transform(size, output):
                    return build_path(f"/{folder}/{video}/{name}.{ending}")
        raise NotExpressible("youtube has no name for this size")
