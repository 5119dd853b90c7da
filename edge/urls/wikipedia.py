"""Thumbnails as MediaWiki writes them.

    [/PROJECT...]/thumb[/FOLDER...]/NAME/[qlow-][lossy-|lossless-]WIDTHpx-END

The source is the path without "thumb" and without its last segment:

    /thumb/Dune.jpg/220px-Dune.jpg                              /Dune.jpg, 220 wide
    /thumb/Dune.jpg/220px-Dune.jpg.webp                         the same as WebP
    /thumb/Dune.jpg/qlow-220px-Dune.jpg                         the same at quality 40
    /wikipedia/commons/thumb/a/a9/Example.jpg/250px-Example.jpg /wikipedia/commons/a/a9/Example.jpg
    /thumb/archive/d/d3/20160729183014!1Mcolors.jpg/400px-1Mcolors.jpg
                                                    /archive/d/d3/20160729183014!1Mcolors.jpg

END is NAME (without the time stamp in an archive), or "thumbnail." and the extension of NAME where
NAME is too long to be repeated; a second extension converts. "lossy-" goes with a lossy output and
"lossless-" with a lossless one. "pageN-", "langXX-" and "seek=N-" are read in their places and
refused: no format of ours has pages, languages or time. The height follows in proportion, nothing
is enlarged, the query is dropped.

FOLDER... is most often the two shards, h[0] and h[0:2] of h = md5(NAME without time stamp, spaces
as underscores); verify_shards refuses others, as MediaWiki does.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from edge.urls.derivative import BadUrl, Derivative, NoPicture, NotExpressible
from edge.urls.ending import ENDINGS, extension, output_format, own_format
from edge.urls.number import integer
from edge.urls.path import MAX_SEGMENT_BYTES, Target, build_path
from resizer.formats import EXTENSIONS, Format
from resizer.transform import MAX_SIDE, Transform

# What WMF renders for "qlow-".
LOW_QUALITY: Final = 40

_THUMBNAIL: Final = re.compile(
    r"(?P<qlow>qlow-)?(?P<lossy>lossy-)?(?P<lossless>lossless-)?"
    r"(?:page(?P<page>[0-9]*)-)?(?:lang(?P<lang>[0-9A-Za-z-]{1,20})-)?"
    r"(?P<width>[0-9]+)px-(?P<end>.+)"
)
# Read only where END is no name of the source: a file may be called "seek=1-X.jpg".
_SEEK: Final = re.compile(r"seek(?:=|%3D)[0-9]+-.+")
_TIME_STAMP: Final = re.compile(r"[0-9]{14}!")
_SHARDS: Final = re.compile(r"[0-9a-f]/[0-9a-f]{2}")
_LOSSLESS: Final = frozenset((Format.PNG, Format.GIF))


@dataclass(frozen=True, slots=True)
class Wikipedia:
    verify_shards: bool = False
    name: str = "wikipedia"

    def parse(self, target: Target) -> Derivative | None:
        path = target.segments
        if "thumb" not in path[:-2]:
            return None
        name, thumbnail = path[-2:]
        match = _THUMBNAIL.fullmatch(thumbnail)
        if match is None:
            # A picture used as a folder can be nothing else; any other path may be an original.
            if own_format(name) is None:
                return None
            raise BadUrl("not the name of a thumbnail")
        if not extension(name):
            return None
        # The first "thumb" is the grammar's: build() puts ours before any of the source's own.
        place = path.index("thumb")
        folders = path[place + 1 : -2]
        base = _without_time_stamp(name, folders)
        self._check_folders(folders, base)
        wanted = _output(base, match["end"])
        _check_prefixes(match, wanted)
        source = "/" + "/".join((*path[:place], *folders, name))
        transform = Transform(
            width=integer(match["width"], 1, MAX_SIDE, "width"),
            quality=LOW_QUALITY if match["qlow"] else None,
            format=output_format(source, wanted),
        )
        return Derivative(source, transform)

    def _check_folders(self, folders: tuple[str, ...], base: str) -> None:
        if not _has_shards(folders):
            return
        # Thumbnails of temporary files hash another name than their originals, and are private.
        if folders[:-2] == ("temp",):
            raise BadUrl("temporary files have no public thumbnails")
        if self.verify_shards and folders[-2:] != _shards(base):
            raise BadUrl("shards do not belong to the name")

    def build(self, derivative: Derivative) -> str:
        transform, source = derivative.transform, derivative.source
        if derivative.extensions or derivative.named_size:
            raise NotExpressible("wikipedia names complete sources and free widths")
        if transform.quality not in (None, LOW_QUALITY):
            raise NotExpressible(f"wikipedia knows no quality {transform.quality}")
        width = transform.width
        if width is None or transform != Transform(
            width=width, format=transform.format, quality=transform.quality
        ):
            raise NotExpressible("wikipedia knows no more than width, format and low quality")
        *folders, name = source[1:].split("/")
        place = _place_of_thumb(folders)
        base = _without_time_stamp(name, tuple(folders[place:]))
        if own_format(base) is None:
            raise NotExpressible("wikipedia needs a source with the extension of a picture")
        if self.verify_shards and _has_shards(tuple(folders)) and (*folders[-2:],) != _shards(base):
            raise NotExpressible("shards do not belong to the name")
        start = f"{'qlow-' if transform.quality else ''}{width}px-"
        suffix = f".{ENDINGS[transform.format]}" if transform.format else ""
        if len(f"{start}{base}{suffix}".encode()) > MAX_SEGMENT_BYTES:
            base = f"thumbnail.{extension(base)}"
        path = (*folders[:place], "thumb", *folders[place:], name, start + base + suffix)
        return build_path("/" + "/".join(path))


def _without_time_stamp(name: str, folders: tuple[str, ...]) -> str:
    stamp = _TIME_STAMP.match(name) if "archive" in folders else None
    return name[stamp.end() :] if stamp else name


def _output(base: str, end: str) -> Format:
    """The format that END asks for. Raises BadUrl when END does not belong to the name."""
    own = own_format(base)
    if own is None:
        raise NoPicture("the source has no format of ours")
    for name in (base, f"thumbnail.{extension(base)}"):
        if end == name:
            return own
        if end.startswith(f"{name}."):
            wanted = EXTENSIONS.get(end[len(name) + 1 :])
            if wanted is None:
                raise BadUrl("no conversion to that extension")
            return wanted
    if _SEEK.fullmatch(end):
        raise BadUrl("seek is not supported for this format")
    raise BadUrl("the end is not the name of the source")


def _check_prefixes(match: re.Match[str], wanted: Format) -> None:
    for prefix in ("page", "lang"):
        if match[prefix] is not None:
            raise BadUrl(f"{prefix} is not supported for this format")
    if match["lossy"] and match["lossless"]:
        raise BadUrl("lossy and lossless at once")
    if match["lossy"] and wanted in _LOSSLESS:
        raise BadUrl(f"{wanted} is not lossy")
    if match["lossless"] and wanted not in _LOSSLESS:
        raise BadUrl(f"{wanted} is not lossless")


def _has_shards(folders: tuple[str, ...]) -> bool:
    return _SHARDS.fullmatch("/".join(folders[-2:])) is not None


def _shards(base: str) -> tuple[str, str]:
    digest = hashlib.md5(base.replace(" ", "_").encode(), usedforsecurity=False).hexdigest()
    return digest[0], digest[:2]


def _place_of_thumb(folders: list[str]) -> int:
    """Where "thumb" is inserted: before [archive/]shards, else in front of everything."""
    place = len(folders) - 2 if _has_shards(tuple(folders)) else len(folders)
    if place and folders[place - 1] == "archive":
        place -= 1
    if place == len(folders) or "thumb" in folders[:place]:
        return 0
    return place
