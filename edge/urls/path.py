"""Request targets in origin-form, RFC 9112 section 3.2.1, decoded exactly once.

The path is split on "/" before anything is decoded and each segment is decoded once, so no escape
can make a segment boundary and "%252e" stays the three letters "%2e". One spelling an object: what
has a second reading anywhere behind us (dot segments, empty segments, encoded slashes, backslashes,
NUL, overlong UTF-8) is refused, never repaired.

    /a/D%C3%BCne.jpg?w=220
    segments ("a", "Düne.jpg"), raw_path "/a/D%C3%BCne.jpg", query "w=220"
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from edge.urls.derivative import BadUrl, NotExpressible

# NAME_MAX and PATH_MAX of every Linux file system: a longer name can be no file.
MAX_SEGMENT_BYTES: Final = 255
MAX_PATH_BYTES: Final = 4096
# All our parameters together need 100; the worst 4,096 bytes take query.py half a millisecond.
MAX_QUERY_BYTES: Final = 4096

# Printable ASCII, but for two characters that peers read in two ways.
_OF_TARGETS: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#\\")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# C0, DEL, C1 (with NEL) and the two line separators of Unicode: they would break lines of a log.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# RFC 3986 section 3.3, pchar without percent, and the slash between segments.
_SAFE_IN_PATH: Final = "/-._~!$&'()*+,;=:@"


# Never changed; not frozen, since that makes its making, for every URL met, four times as dear.
@dataclass(slots=True)
class Target:
    """A request target. raw_path is the path as received, for signatures.

    A trailing slash leaves an empty last segment, as the root "/" does: see is_folder.
    """

    segments: tuple[str, ...]
    raw_path: str
    query: str = ""

    @property
    def is_folder(self) -> bool:
        """True when no file is named: a trailing slash or nothing at all."""
        return not self.segments or not self.segments[-1]

    @property
    def source(self) -> str:
        """The canonical, decoded path; "/" for a target with no segment."""
        return "/" + "/".join(self.segments)

    def below(self, prefix: str) -> "Target | None":
        """This target as seen from a mount point ("/images"), None when it lies outside of it.

        Whole segments are compared, after decoding: "/images2" does not lie below "/images".
        """
        if not prefix.strip("/"):
            return self
        mount = tuple(prefix.strip("/").split("/"))
        depth = len(mount)
        if self.segments[:depth] != mount:
            return None
        # The raw text may spell the prefix differently; only its slashes count.
        rest = self.raw_path.split("/", depth + 1)[depth + 1 :]
        return Target(self.segments[depth:], "/" + "".join(rest), self.query)


def split_target(target: bytes) -> Target:
    """Split and decode an origin-form target. Raises BadUrl."""
    if not target.startswith(b"/"):
        raise BadUrl("target is not in origin-form")
    if target.translate(None, _OF_TARGETS):
        raise BadUrl("target holds a byte that must be percent-encoded")
    raw_path, _, query = target.decode("ascii").partition("?")
    if len(query) > MAX_QUERY_BYTES:
        raise BadUrl(f"query has {len(query)} bytes, limit {MAX_QUERY_BYTES}")
    # An escape is three bytes for one, so this bounds the work before any decoding.
    if len(raw_path) > 3 * MAX_PATH_BYTES:
        raise BadUrl(f"raw path has {len(raw_path)} bytes, limit {3 * MAX_PATH_BYTES}")
    segments = tuple(raw_path[1:].split("/"))
    if "%" in raw_path:
        segments = tuple(map(decode, segments))
    elif len(raw_path) <= MAX_SEGMENT_BYTES and not ("//" in raw_path or "/." in raw_path):
        # Nearly every path: short, and no segment is empty or begins with a dot.
        return Target(segments, raw_path, query)
    _check_segments(segments)
    return Target(segments, raw_path, query)


def decode(raw: str) -> str:
    """Decode one raw segment, or one raw value of a query, once. Raises BadUrl."""
    if "%" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw):
        raise BadUrl("percent sign without two hexadecimal digits")
    try:
        # Strict UTF-8 refuses overlong forms, surrogates and code points past U+10FFFF.
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadUrl("escapes are not UTF-8") from None
    if "/" in text or "\\" in text:
        raise BadUrl("encoded slash or backslash")
    if _CONTROLS.search(text):
        raise BadUrl("encoded control character")
    return text


def _check_segments(segments: tuple[str, ...]) -> None:
    total = 0
    for segment in segments:
        size = len(segment) if segment.isascii() else len(segment.encode())
        if size > MAX_SEGMENT_BYTES:
            raise BadUrl(f"segment has {size} bytes, limit {MAX_SEGMENT_BYTES}")
        if segment in (".", ".."):
            raise BadUrl("dot segment")
        total += size + 1
    if total > MAX_PATH_BYTES:
        raise BadUrl(f"path has {total} bytes, limit {MAX_PATH_BYTES}")
    # Only the last segment may be empty: a trailing slash.
    if "" in segments[:-1]:
        raise BadUrl("empty segment")


def build_path(source: str) -> str:
    """Percent-encode a canonical path for a URL: the inverse of split_target.

    Raises NotExpressible for a path longer than split_target takes back.
    """
    assert source.startswith("/"), "a canonical path is absolute"
    if len(source.encode()) > MAX_PATH_BYTES:
        raise NotExpressible(f"path is longer than {MAX_PATH_BYTES} bytes")
    return quote(source, safe=_SAFE_IN_PATH)
