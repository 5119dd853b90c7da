"""Whose picture it is: the one thing of its metadata that may travel with a derivative.

Read from EXIF (Artist, Copyright), IPTC-IIM (By-line, Copyright Notice) and XMP (dc:creator,
dc:rights); written as an EXIF of our own of these two entries, so nothing else can come along.
"""

import html
import re
import struct
from dataclasses import dataclass
from typing import Final

# IIM allows 128 characters, EXIF any number; a licence with its address fits.
TEXT_CHARS: Final = 500
# XMP of photo editors holds thumbnails and histories; what we look for stands early or not at all.
XMP_BYTES: Final = 256 << 10

EXIF_ARTIST, EXIF_COPYRIGHT = 0x013B, 0x8298
_ASCII: Final = 2

_IIM_MARKER: Final = 0x1C
# Record 2, datasets 80 and 116 (IIM 4.2 section 6).
_BYLINE, _NOTICE = (2, 80), (2, 116)
_MAX_DATASETS: Final = 1000

_XMP_ITEM: Final = re.compile(r"<rdf:li(?:\s[^<>]{0,100})?>([^<>]{1,2000})</rdf:li>")


@dataclass(frozen=True, slots=True)
class Rights:
    artist: str = ""
    notice: str = ""

    def __bool__(self) -> bool:
        return bool(self.artist or self.notice)


def gather(
    artist: object, notice: object, iptc: bytes | None = None, xmp: bytes | None = None
) -> Rights:
    """What the file says first in this order: EXIF, IPTC, XMP. Damaged ones say nothing."""
    byline, iptc_notice = _read_iptc(iptc or b"")
    creator, xmp_notice = _read_xmp(xmp or b"")
    return Rights(
        clean(artist) or clean(byline) or creator, clean(notice) or clean(iptc_notice) or xmp_notice
    )


def clean(value: object) -> str:
    """Text without controls, of a length that is no smuggler's."""
    if isinstance(value, bytes):
        return clean(_decode(value))
    if not isinstance(value, str):
        return ""
    # EXIF writes "photographer NUL editor".
    text = "".join(char if char.isprintable() else " " for char in value[: 4 * TEXT_CHARS])
    return " ".join(text.split())[:TEXT_CHARS]


def _decode(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _read_iptc(data: bytes) -> tuple[bytes, bytes]:
    found: dict[tuple[int, int], bytes] = {}
    at = 0
    for _ in range(_MAX_DATASETS):
        if at + 5 > len(data) or data[at] != _IIM_MARKER:
            break
        record, dataset, length = struct.unpack_from(">BBH", data, at + 1)
        # The top bit announces a length of more than 32,767; a name is not that long.
        if length & 0x8000 or at + 5 + length > len(data):
            break
        found.setdefault((record, dataset), data[at + 5 : at + 5 + length])
        at += 5 + length
    return found.get(_BYLINE, b""), found.get(_NOTICE, b"")


def _read_xmp(data: bytes) -> tuple[str, str]:
    text = data[:XMP_BYTES].decode("utf-8", "replace")
    return _xmp_value(text, "dc:creator"), _xmp_value(text, "dc:rights")


def _xmp_value(text: str, name: str) -> str:
    """By its tags, not as XML: entities of its own are what an XML parser is attacked with."""
    start = text.find(f"<{name}>")
    end = text.find(f"</{name}>", start)
    if start < 0 or end < 0:
        return ""
    item = _XMP_ITEM.search(text, start, end)
    return clean(html.unescape(item.group(1))) if item else ""


def build_exif(rights: Rights) -> bytes:
    """An EXIF of the two, with its prefix; b"" for no rights. Text is UTF-8, as all readers take it
    for, though the standard knows ASCII only.
    """
    texts = ((EXIF_ARTIST, rights.artist), (EXIF_COPYRIGHT, rights.notice))
    entries = [(tag, text.encode("utf-8", "replace") + b"\0") for tag, text in texts if text]
    if not entries:
        return b""
    # Byte order and 42, then one directory at 8: a count, the entries, no further directory.
    head = struct.pack("<2sHLH", b"II", 42, 8, len(entries))
    at = len(head) + 12 * len(entries) + 4
    directory = values = b""
    for tag, text in entries:
        if len(text) <= 4:
            place = text.ljust(4, b"\0")
        else:
            place = struct.pack("<L", at + len(values))
            values += text + bytes(len(text) % 2)
        directory += struct.pack("<HHL", tag, _ASCII, len(text)) + place
    return b"Exif\0\0" + head + directory + bytes(4) + values
