"""What the index stores, as bytes: a version digit, then a JSON array that an operator can read.

Arrays, because the names of fields would be half of each record. The fields stand in the order of
the dataclass; any change of it is a new version.
"""

from dataclasses import fields
from typing import Any, Final, get_type_hints

import msgspec

from cache.errors import DoesNotFit
from cache.index.interface import Failure, SourceRecord
from cache.key import SourceId
from cache.orders import Act, Order, Scope

VERSION: Final = b"2"
# Records travel on every open_source(); one this long is no description of a picture.
MAX_BYTES: Final = 16_384
# What a failure may say to the log.
MAX_DETAIL: Final = 200

_FIELDS: Final = tuple(field.name for field in fields(SourceRecord))
_hints = get_type_hints(SourceRecord)
_encoder = msgspec.json.Encoder()
_record: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    tuple.__class_getitem__(tuple(_hints[name] for name in _FIELDS))
)
_failure = msgspec.json.Decoder(tuple[int, str, str])
_order = msgspec.json.Decoder(tuple[Act, Scope, str, str])
_source = msgspec.json.Decoder(tuple[str, str])
_DAMAGE: Final = (msgspec.MsgspecError, UnicodeDecodeError)


def pack_record(record: SourceRecord) -> bytes:
    """Raises DoesNotFit above MAX_BYTES."""
    packed = VERSION + _encoder.encode([getattr(record, name) for name in _FIELDS])
    if len(packed) > MAX_BYTES:
        raise DoesNotFit(f"source record of {len(packed)} bytes, at most {MAX_BYTES} are kept")
    return packed


def maybe_record(packed: bytes | None) -> SourceRecord | None:
    """None for no bytes, another version or damage: what is not known is asked for again."""
    if packed is None or not packed.startswith(VERSION):
        return None
    try:
        return SourceRecord(*_record.decode(packed[len(VERSION) :]))
    except _DAMAGE:
        return None


def pack_failure(failure: Failure) -> bytes:
    return _encoder.encode((failure.until, failure.kind, failure.detail[:MAX_DETAIL]))


def maybe_failure(packed: bytes, now: float) -> Failure | None:
    """None when its time is over, and for damage."""
    try:
        until, kind, detail = _failure.decode(packed)
    except _DAMAGE:
        return None
    return Failure(kind, until, detail) if until > now else None


def pack_order(order: Order) -> bytes:
    """Without its seq, which only the log knows."""
    return _encoder.encode((order.act, order.scope, order.site, order.value))


def maybe_order(packed: bytes, seq: int) -> Order | None:
    """None for damage, and for an act of a version to come."""
    try:
        act, scope, site, value = _order.decode(packed)
        return Order(act, scope, site, value, seq)
    except (*_DAMAGE, ValueError):
        return None


def pack_source(source: SourceId) -> bytes:
    return _encoder.encode((source.site, source.path))


def maybe_source(packed: bytes) -> SourceId | None:
    try:
        return SourceId(*_source.decode(packed))
    except _DAMAGE:
        return None
