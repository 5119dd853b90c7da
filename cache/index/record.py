"""SourceRecord as stored bytes: a version digit, then JSON that an operator can read."""

from typing import Final

import msgspec

from cache.errors import DoesNotFit
from cache.index.interface import SourceRecord

VERSION: Final = b"1"
# Records travel on every open_source(); one this long is no description of a picture.
MAX_BYTES: Final = 16_384

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SourceRecord)


def pack_record(record: SourceRecord) -> bytes:
    """Raises DoesNotFit above MAX_BYTES."""
    packed = VERSION + _encoder.encode(record)
    if len(packed) > MAX_BYTES:
        raise DoesNotFit(f"source record of {len(packed)} bytes, at most {MAX_BYTES} are kept")
    return packed


def maybe_record(packed: bytes | None) -> SourceRecord | None:
    """None for no bytes, another version or damage: what is not known is asked for again."""
    if packed is None or not packed.startswith(VERSION):
        return None
    try:
        return _decoder.decode(packed[len(VERSION) :])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
