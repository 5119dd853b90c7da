"""The head of a cache file: how an entry describes itself on disk. Pure.

A file is head, padding, body; it is immutable once it has its name. Version 2, big-endian:

    offset  bytes  field
         0      8  magic "HALFTONE"
         8      2  format version
        10      2  reserved, zero
        12      4  head size: where the body starts, a multiple of 512, at most 65,536
        16      4  CRC-32 of the head, padding included, these four bytes left out
        20      8  body length
        28     16  xxh3-128 of the body
        44      8  token: epoch
        52      8  token: generation
        60      8  last modified, seconds since 1970, signed
        68      8  stored at, likewise
        76     24  fresh until, stale until, revalidate until, likewise
       100      8  seen: position in the log of orders when the fill began
       108      4  render cost in ms
       112      8  width, height in pixels
       120     12  lengths of site, path, variant, validator, etag, media type, 2 bytes each
       132      4  number of tags, number of headers
       136      -  lengths of the tags, then of each header's name and value, 2 bytes each
         -      -  all those texts in that order, UTF-8
         -      -  zeros up to the head size

Version 1 lacks revalidate until and seen: what follows stale until stands 16 bytes earlier. Both
are read, the newest is written. The first 20 bytes mean the same in every version, so that a head
of a later one is told from a damaged one: its CRC is right. NOTES.md has the rules.

head_size() needs nothing that is known only after the body exists, and leaves room for a media type
and an ETag that are not known yet, so a body can be written at its final offset first. With 512 a
step, a thumbnail of 3.5 KB and its head share one 4 KiB block.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cache.errors import DamagedEntry, DoesNotFit, NewerEntry
from cache.index.interface import EPOCH_DIGITS, Token
from cache.key import Key, SourceId

MAGIC: Final = b"HALFTONE"
VERSION: Final = 2
ALIGNMENT: Final = 512
# Longer than any request head the node accepts (32 KiB), so a key always fits; a bound for readers.
MAX_HEAD: Final = 65_536
# Room kept for a media type and an ETag not known yet: both are under 40 bytes when we make them.
RESERVED_TEXT: Final = 64
HASH_BYTES: Final = 16
# Stands for "not computed yet" in a draft.
NO_HASH: Final = bytes(HASH_BYTES)

_PREFIX: Final = struct.Struct(">8sHHI")
_FIXED: Final = struct.Struct(">8sHHIIQ16s8sQqqqqqQIII6HHH")
_FIXED_1: Final = struct.Struct(">8sHHIIQ16s8sQqqqqIII6HHH")
# Where version 1 has nothing: after stale until, counted in fields.
_NEW_AT: Final = 13
_NEW_IN_2: Final = (0, 0)
_VERSION_AT: Final = 8
_RESERVED_AT: Final = 10
_CRC_AT: Final = _PREFIX.size
_CRC_END: Final = _CRC_AT + 4
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one stored body. Raises ValueError for what a head cannot hold.

    length is the body's bytes, times are seconds since 1970, headers are extra (name, value) pairs
    to replay. fresh_until, stale_until (usable until then when its origin fails) and
    revalidate_until (usable until then while its origin is asked) speak of an original that an
    origin gave; they are 0 for what this node made. seen is the newest order (cache/orders.py)
    known when the fill began, 0 for none. A draft is an Entry made before its body: length,
    body_hash, cost_ms, width, height, media_type and etag may still be empty in it.
    """

    key: Key
    token: Token
    validator: str
    etag: str = ""
    media_type: str = ""
    length: int = 0
    last_modified: int = 0
    stored_at: int = 0
    fresh_until: int = 0
    stale_until: int = 0
    cost_ms: int = 0
    tags: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body_hash: bytes = NO_HASH
    revalidate_until: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        # Written out, not looped over: this runs for every hit on disk.
        if not (
            0 <= self.length <= _U64
            and 0 <= self.cost_ms <= _U32
            and 0 <= self.width <= _U32
            and 0 <= self.height <= _U32
            and -_I64 <= self.last_modified <= _I64
            and -_I64 <= self.stored_at <= _I64
            and -_I64 <= self.fresh_until <= _I64
            and -_I64 <= self.stale_until <= _I64
            and -_I64 <= self.revalidate_until <= _I64
            and 0 <= self.seen <= _U64
        ):
            raise ValueError("a number does not fit its field in the head")
        if len(self.body_hash) != HASH_BYTES:
            raise ValueError(f"body hash is {len(self.body_hash)} bytes, not {HASH_BYTES}")
        # These texts go back into response heads; one that could split a head is never kept.
        texts = self.etag + self.media_type
        for name, value in self.headers:
            texts += name + value
        if "\n" in texts or "\r" in texts or "\0" in texts:
            raise ValueError("a text for the response head has CR, LF or NUL in it")


def head_size(entry: Entry) -> int:
    """Bytes from the start of the file to the body. Raises DoesNotFit above MAX_HEAD."""
    texts = _texts(entry)
    size = _FIXED.size + 2 * (len(entry.tags) + 2 * len(entry.headers))
    size += sum(map(len, texts))
    size += max(0, RESERVED_TEXT - len(texts[4])) + max(0, RESERVED_TEXT - len(texts[5]))
    size = -(-size // ALIGNMENT) * ALIGNMENT
    if size > MAX_HEAD or any(len(text) > _U16 for text in texts):
        raise DoesNotFit(f"head of {size} bytes, at most {MAX_HEAD} are kept")
    return size


def pack(entry: Entry, size: int | None = None) -> bytes:
    """The head as bytes, size of them (head_size() of the draft that the body was laid out for).

    Raises DoesNotFit where the finished entry needs more room than its draft had reserved.
    """
    if size is None:
        size = head_size(entry)
    texts = _texts(entry)
    lengths = [len(text) for text in texts]
    used = _FIXED.size + 2 * (len(lengths) - 6) + sum(lengths)
    if used > size or size > MAX_HEAD or size % ALIGNMENT:
        raise DoesNotFit(f"head needs {used} bytes, {size} are reserved")
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        0,
        size,
        0,
        entry.length,
        entry.body_hash,
        bytes.fromhex(entry.token.epoch),
        entry.token.generation,
        entry.last_modified,
        entry.stored_at,
        entry.fresh_until,
        entry.stale_until,
        entry.revalidate_until,
        entry.seen,
        entry.cost_ms,
        entry.width,
        entry.height,
        *lengths[:6],
        len(entry.tags),
        len(entry.headers),
    )
    rest = struct.pack(f">{len(lengths) - 6}H", *lengths[6:]) + b"".join(texts)
    head = bytearray((fixed + rest).ljust(size, b"\0"))
    head[_CRC_AT:_CRC_END] = _checksum(head).to_bytes(4, "big")
    return bytes(head)


def stored_head_size(prefix: bytes) -> int:
    """What the first bytes of a file say its head's size is. Raises DamagedEntry."""
    if len(prefix) < _CRC_END:
        raise DamagedEntry(f"{len(prefix)} bytes are no head")
    magic, version, reserved, size = _PREFIX.unpack_from(prefix)
    if magic != MAGIC:
        raise DamagedEntry("magic number is wrong")
    if not version or reserved:
        raise DamagedEntry(f"format version {version}, reserved field {reserved}")
    if size % ALIGNMENT or not ALIGNMENT <= size <= MAX_HEAD:
        raise DamagedEntry(f"head size {size} is impossible")
    return int(size)


def unpack(buffer: bytes) -> Entry:
    """The entry whose head starts the buffer; bytes after the head are not looked at.

    Raises NewerEntry for a whole head of a later version, DamagedEntry for anything else that no
    version of pack() wrote.
    """
    size = stored_head_size(buffer)
    if len(buffer) < size:
        raise DamagedEntry(f"head of {size} bytes is cut off at {len(buffer)}")
    head = buffer[:size]
    if _checksum(head) != int.from_bytes(head[_CRC_AT:_CRC_END], "big"):
        raise DamagedEntry("checksum of the head is wrong")
    version = int.from_bytes(head[_VERSION_AT:_RESERVED_AT], "big")
    if version > VERSION:
        raise NewerEntry(f"format version {version}, this program reads up to {VERSION}")
    try:
        return _decode(head, version)
    except (ValueError, struct.error) as error:  # UnicodeDecodeError is a ValueError
        raise DamagedEntry(f"head cannot be read: {error}") from error


def _decode(head: bytes, version: int) -> Entry:
    if version == VERSION:
        fixed = _FIXED
        numbers = fixed.unpack_from(head)
    else:
        fixed = _FIXED_1
        numbers = fixed.unpack_from(head)
        numbers = (*numbers[:_NEW_AT], *_NEW_IN_2, *numbers[_NEW_AT:])
    (
        *_,
        length,
        body_hash,
        epoch,
        generation,
        last_modified,
        stored_at,
        fresh_until,
        stale_until,
        revalidate_until,
        seen,
        cost_ms,
        width,
        height,
        site_n,
        path_n,
        variant_n,
        validator_n,
        etag_n,
        media_type_n,
        tag_count,
        header_count,
    ) = numbers
    more = tag_count + 2 * header_count
    lengths = struct.unpack_from(f">{more}H", head, fixed.size) if more else ()
    texts = []
    start = fixed.size + 2 * more
    for n in (site_n, path_n, variant_n, validator_n, etag_n, media_type_n, *lengths):
        texts.append(head[start : start + n].decode())
        start += n
    if start > len(head):
        raise ValueError(f"texts end at {start}, head at {len(head)}")
    pairs = texts[6 + tag_count :]
    return Entry(
        key=Key(SourceId(texts[0], texts[1]), texts[2]),
        token=Token(epoch.hex(), generation),
        validator=texts[3],
        etag=texts[4],
        media_type=texts[5],
        length=length,
        last_modified=last_modified,
        stored_at=stored_at,
        fresh_until=fresh_until,
        stale_until=stale_until,
        cost_ms=cost_ms,
        tags=tuple(texts[6 : 6 + tag_count]),
        width=width,
        height=height,
        headers=tuple(zip(pairs[::2], pairs[1::2], strict=True)),
        body_hash=body_hash,
        revalidate_until=revalidate_until,
        seen=seen,
    )


def _texts(entry: Entry) -> list[bytes]:
    source = entry.key.source
    texts = [source.site, source.path, entry.key.variant]
    texts += [entry.validator, entry.etag, entry.media_type, *entry.tags]
    for pair in entry.headers:
        texts += pair
    return [text.encode() for text in texts]


def _checksum(head: bytes | bytearray) -> int:
    view = memoryview(head)
    return zlib.crc32(view[_CRC_END:], zlib.crc32(view[:_CRC_AT]))


assert _FIXED_1.size == 120
assert _FIXED.size == 136
assert len(bytes.fromhex("0" * EPOCH_DIGITS)) == 8
