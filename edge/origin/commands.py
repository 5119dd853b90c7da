"""What an application tells the server in front, beside its answer. Pure.

    X-Sendfile: /srv/files/a%20b.jpg             this file in place of the body
    X-LIGHTTPD-send-file: /srv/files/a.jpg       likewise, by its older name
    X-Sendfile2: /srv/a.jpg 0-499,/srv/b.jpg 0-  parts of files, one behind the other
    X-Accel-Redirect: /protected/a.jpg           likewise, by a URI of the inside
    X-Accel-Expires: 60                          how long we keep it; 0: not at all, @T: until T
    X-Accel-Charset: utf-8                       completes Content-Type
    X-Accel-Buffering: no                        each piece leaves at once (edge/arrival.py)
    X-Accel-Limit-Rate                           says nothing to us: accepted and dropped
    Surrogate-Control: max-age=60;halftone       as CDN-Cache-Control

A path is decoded once and simplified, and then has to lie below a root (SendfileRoot). None of
these fields goes further.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from edge.http.directives import (
    CacheControl,
    parse_cdn_cache_control,
    parse_delta_seconds,
    parse_surrogate_control,
)
from edge.origin.errors import OriginBroken
from edge.origin.messages import TOKEN, Headers

# Our name as a target of Surrogate-Control.
SURROGATE: Final = "halftone"
# Of X-Sendfile2; each is a file that is held open.
MAX_PARTS: Final = 16

_BY_PATH: Final = frozenset({"x-sendfile", "x-lighttpd-send-file"})
_BY_PARTS: Final = "x-sendfile2"
_BY_URI: Final = "x-accel-redirect"
_SENDING: Final = _BY_PATH | {_BY_PARTS, _BY_URI}
_PART: Final = re.compile(r"([^ ]+) ([0-9]{1,18})-([0-9]{0,18})", re.ASCII)
# The fields that say how long an answer holds, where it is for us alone.
_TARGETED: Final = "cdn-cache-control"


@dataclass(frozen=True, slots=True)
class SendfileRoot:
    """A folder of which applications may have files sent. prefix: where its files are found by
    URIs of the inside, as nginx's location and alias; "" for the folder's own path."""

    folder: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}={self.folder}" if self.prefix else self.folder

    def maybe_below(self, path: str, *, is_uri: bool) -> str | None:
        """path as seen from the folder; whole segments are compared."""
        start = (self.prefix or self.folder) if is_uri else self.folder
        start = start.rstrip("/") + "/"
        return path[len(start) - 1 :] if path.startswith(start) and path != start else None


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or some of it: from start to before stop. path is simplified."""

    path: str
    is_uri: bool = False
    start: int = 0
    stop: int | None = None

    def maybe_place(self, roots: Iterable[SendfileRoot]) -> tuple[SendfileRoot, str] | None:
        """The innermost root that it lies in, and its path there."""
        found = [
            (root, below)
            for root in roots
            if (below := root.maybe_below(self.path, is_uri=self.is_uri)) is not None
        ]
        return min(found, key=lambda one: len(one[1]), default=None)


@dataclass(frozen=True, slots=True)
class Commands:
    """parts: what to send in place of the body; empty for the body itself. name: of the field that
    said so. expires, charset: as they were written."""

    name: str = ""
    parts: tuple[Part, ...] = ()
    expires: str | None = None
    charset: str | None = None


def parse_commands(controls: Headers) -> Commands:
    """Raises OriginBroken where two fields, or none, could be meant, and for a malformed path."""
    sending = [(name, value) for name, value in controls if name in _SENDING]
    if len(sending) > 1:
        raise OriginBroken(f"{' and '.join(name for name, _ in sending)} in one answer")
    values = dict(controls)
    if not sending:
        return Commands(
            expires=values.get("x-accel-expires"), charset=values.get("x-accel-charset")
        )
    name, value = sending[0]
    parts = _parse_parts(name, value)
    return Commands(name, parts, values.get("x-accel-expires"), values.get("x-accel-charset"))


def _parse_parts(name: str, value: str) -> tuple[Part, ...]:
    if name == _BY_URI:
        return (Part(_simplified(value.partition("?")[0]), is_uri=True),)
    if name != _BY_PARTS:
        return (Part(_simplified(value)),)
    written = [one.strip(" \t") for one in value.split(",")]
    if len(written) > MAX_PARTS:
        raise OriginBroken(f"{len(written)} parts in {name}, limit {MAX_PARTS}")
    return tuple(_parse_part(one) for one in written)


def _parse_part(text: str) -> Part:
    match = _PART.fullmatch(text)
    if match is None:
        raise OriginBroken(f"{_BY_PARTS}: not a path with its range: {text!a:.200}")
    start, last = int(match[2]), match[3]
    if last and int(last) < start:
        raise OriginBroken(f"{_BY_PARTS}: ends before it begins: {text!a:.200}")
    return Part(_simplified(match[1]), start=start, stop=int(last) + 1 if last else None)


def _simplified(raw: str) -> str:
    """An absolute path without ".", ".." and empty segments, decoded once."""
    try:
        text = unquote_to_bytes(raw.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise OriginBroken(f"path that is not UTF-8: {raw!a:.200}") from None
    if not text.startswith("/") or not text.isprintable():
        raise OriginBroken(f"not an absolute path: {raw!a:.200}")
    segments: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


def with_lifetime(headers: Headers, expires: str | None, now: int) -> Headers:
    """headers with what was told to us alone in CDN-Cache-Control, which decides alone (RFC 9213):
    X-Accel-Expires before CDN-Cache-Control before Surrogate-Control."""
    surrogate = [value for name, value in headers if name == "surrogate-control"]
    targeted = [value for name, value in headers if name == _TARGETED]
    rest = tuple(field for field in headers if field[0] != "surrogate-control")
    control = None if expires is None else _of_expires(expires, now)
    if control is None and surrogate and parse_cdn_cache_control(targeted) is None:
        control = _of_surrogate(parse_surrogate_control(surrogate, SURROGATE))
    if control is None:
        return rest
    return (*(field for field in rest if field[0] != _TARGETED), (_TARGETED, control))


def _of_expires(text: str, now: int) -> str | None:
    seconds = parse_delta_seconds(text.removeprefix("@"))
    if seconds is None:
        return None
    seconds -= now if text.startswith("@") else 0
    return f"max-age={seconds}" if seconds > 0 else "no-store"


def _of_surrogate(control: CacheControl | None) -> str | None:
    if control is None:
        return None
    if control.no_store:
        return "no-store"
    grace = control.stale_while_revalidate
    return f"max-age={control.max_age}" + (
        "" if grace is None else f", stale-while-revalidate={grace}"
    )


def with_charset(media_type: str, charset: str | None) -> str:
    is_wanted = charset is not None and TOKEN.fullmatch(charset) and "charset=" not in media_type
    return f"{media_type}; charset={charset}" if is_wanted else media_type


def without(headers: Headers, names: Sequence[str]) -> Headers:
    return tuple(field for field in headers if field[0] not in names)
