"""The same picture in the same bytes, without what else its file says.

Where a derivative of the original's own size and format would weigh more than the original, the
original is the better answer, but never with its metadata. So its file is taken apart and put
together again from the parts that pixels need; comments, EXIF, XMP, profiles, thumbnails, second
pictures and whatever stands behind the end stay behind. The picture has been decoded before.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from resizer import gif
from resizer.errors import CorruptPicture
from resizer.formats import Format, SourceFormat

# Scans, tables and pieces of pictures that we would not take apart for their number.
MAX_PARTS: Final = 20_000

EXIF_PREFIX: Final = b"Exif\0\0"


def strip(data: bytes, source: SourceFormat, exif: bytes = b"") -> bytes | None:
    """The file of the same pixels and nothing else but `exif` (with its prefix; b"" for none).

    None where a file of this kind can't be told apart into what is needed and what is not. Then it
    takes an encoder.
    """
    stripper = _STRIPPERS.get(source)
    if stripper is None:
        return None
    try:
        return b"".join(stripper(data, exif))
    except (CorruptPicture, struct.error, IndexError):
        return None


# --- JPEG ----------------------------------------------------------------------------------------

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Baseline, extended and progressive by Huffman; quantisation, Huffman tables, restart interval.
# Not on the list: lossless, hierarchical, arithmetic, DNL.
_JPEG_KEPT: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, _SOS})
_APP0, _APP1, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
# ITU T.81 B.1.1.5: in a scan, FF stands before 00, a restart marker, or the next segment.
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg(data: bytes, exif: bytes) -> Iterator[bytes]:
    if data[:2] != b"\xff\xd8":
        raise CorruptPicture("no SOI")
    yield data[:2]
    at, has_exif = 2, not exif
    for _ in range(MAX_PARTS):
        if data[at] != 0xFF:
            raise CorruptPicture(f"no marker at {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte, T.81 B.1.1.2
            at += 1
            continue
        if marker == _EOI:
            yield data[at : at + 2]
            return
        length = struct.unpack_from(">H", data, at + 2)[0]
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise CorruptPicture(f"a segment of {length} bytes at {at}")
        body = data[at + 4 : end]
        if not has_exif and marker != _APP0:
            yield _segment(_APP1, exif)
            has_exif = True
        if marker in _JPEG_KEPT:
            yield data[at:end]
        elif marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            # Version and density; a thumbnail of none by none.
            yield _segment(_APP0, body[:12] + b"\0\0")
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            yield _segment(_APP14, body[:12])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            raise CorruptPicture(f"a segment {marker:02x}")
        at = end
        if marker == _SOS:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise CorruptPicture("a scan without an end")
            yield data[at : found.start()]
            at = found.start()
    raise CorruptPicture(f"more than {MAX_PARTS} segments")


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


# --- PNG -----------------------------------------------------------------------------------------

_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _png(data: bytes, exif: bytes) -> Iterator[bytes]:
    if not data.startswith(_PNG_MAGIC):
        raise CorruptPicture("no PNG signature")
    yield _PNG_MAGIC
    at, has_exif = len(_PNG_MAGIC), not exif
    for _ in range(MAX_PARTS):
        length, name = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise CorruptPicture(f"a chunk of {length} bytes at {at}")
        if name == b"IDAT" and not has_exif:
            yield _chunk(b"eXIf", exif.removeprefix(EXIF_PREFIX))
            has_exif = True
        if name == b"IEND":
            yield _chunk(name, b"")
            return
        if name in _PNG_KEPT:
            yield data[at:end]
        # PNG, third edition, section 5.4: a capital means that a reader must know the chunk.
        elif not name[0] & 0x20:
            raise CorruptPicture(f"a critical chunk {name!r}")
        at = end
    raise CorruptPicture(f"more than {MAX_PARTS} chunks")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


# --- WebP ----------------------------------------------------------------------------------------

# RFC 9649 section 2.7. Of the flags in VP8X, transparency and animation stay.
_PIXELS: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_WEBP_KEPT: Final = frozenset({*_PIXELS, b"VP8X", b"ANIM", b"ANMF"})
_FLAGS_KEPT: Final = 0x12
_ANMF_HEAD_BYTES: Final = 16


def _webp(data: bytes, exif: bytes) -> Iterator[bytes]:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise CorruptPicture("no RIFF of WebP")
    if exif:
        raise CorruptPicture("a simple WebP would have to become an extended one")
    end = 8 + struct.unpack_from("<L", data, 4)[0]
    if end > len(data):
        raise CorruptPicture("a RIFF that ends behind the file")
    chunks = b"".join(_riff(data, 12, end, _WEBP_KEPT))
    if not chunks:
        raise CorruptPicture("a WebP of nothing")
    yield b"RIFF" + struct.pack("<L", len(chunks) + 4) + b"WEBP" + chunks


def _riff(data: bytes, at: int, end: int, kept: frozenset[bytes]) -> Iterator[bytes]:
    for _ in range(MAX_PARTS):
        if at == end:
            return
        name, length = struct.unpack_from("<4sL", data, at)
        # Bodies are padded to an even length.
        after = at + 8 + length + length % 2
        if after > end:
            raise CorruptPicture(f"a chunk of {length} bytes at {at}")
        body = data[at + 8 : at + 8 + length]
        at = after
        if name not in kept:
            continue
        if name == b"VP8X":
            if length < 10:
                raise CorruptPicture(f"a VP8X of {length} bytes")
            body = bytes([body[0] & _FLAGS_KEPT]) + bytes(3) + body[4:10]
        elif name == b"ANIM":
            body = body[:6]
        elif name == b"ANMF":
            head = body[:_ANMF_HEAD_BYTES]
            body = head + b"".join(_riff(body, len(head), len(body), _PIXELS))
        yield name + struct.pack("<L", len(body)) + body + bytes(len(body) % 2)
    raise CorruptPicture(f"more than {MAX_PARTS} chunks")


# --- GIF -----------------------------------------------------------------------------------------


def _gif(data: bytes, _exif: bytes) -> Iterator[bytes]:
    # There is no place for EXIF in a GIF, and our encoder writes none either.
    for block in gif.walk(data):
        if block.kind is not gif.Kind.OTHER:
            yield data[block.start : block.end]


_STRIPPERS: Final[dict[SourceFormat, Callable[[bytes, bytes], Iterator[bytes]]]] = {
    Format.JPEG: _jpeg,
    Format.PNG: _png,
    Format.WEBP: _webp,
    Format.GIF: _gif,
}
