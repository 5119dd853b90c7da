"""Parcels: what was wrapped comes out the same, and nothing else comes out at all."""

import dataclasses
import os

import pytest
import xxhash

from cache.entry import Entry
from cache.errors import DamagedEntry, DoesNotFit
from cache.index.interface import MAX_PARCEL_BYTES, Token
from cache.parcel import NOTHING, unwrap, wrap
from tests.cache import kit

BODY = os.urandom(5000)


def entry(body: bytes = BODY, **more: object) -> Entry:
    whole = dataclasses.replace(
        kit.draft(), length=len(body), body_hash=xxhash.xxh3_128_digest(body)
    )
    return dataclasses.replace(whole, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"x", BODY])
def test_there_and_back(body):
    packed = entry(body, tags=("dune", "ä"), headers=(("link", "<x>"),), width=220)
    assert unwrap(wrap(packed, body), kit.key(), kit.TOKEN) == (packed, body)


def test_only_what_fits():
    head = len(wrap(entry(b""), b""))
    most = os.urandom(MAX_PARCEL_BYTES - head)
    parcel = wrap(entry(most), most)
    assert len(parcel) == MAX_PARCEL_BYTES
    assert unwrap(parcel, kit.key(), kit.TOKEN)[1] == most
    with pytest.raises(DoesNotFit):
        wrap(entry(most + b"x"), most + b"x")


GOOD = wrap(entry(), BODY)
DAMAGED = {
    "nothing": b"",
    "the word for none": NOTHING,
    "noise": os.urandom(6000),
    "cut in the head": GOOD[:100],
    "cut in the body": GOOD[:-1],
    "no body": GOOD[: -len(BODY)],
    "one byte more": GOOD + b"x",
    "a bit of the head": GOOD[:130] + bytes([GOOD[130] ^ 1]) + GOOD[131:],
    "a bit of the body": GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
    "another key": wrap(entry(key=kit.key("b")), BODY),
    "another variant": wrap(entry(key=kit.key(variant="w=330")), BODY),
    "a token from before": wrap(entry(token=Token(kit.TOKEN.epoch, 1)), BODY),
    "another epoch": wrap(entry(token=Token("f" * 16, kit.TOKEN.generation)), BODY),
    "another body": wrap(entry(), b"y" * len(BODY)),
    "no hash": wrap(entry(body_hash=bytes(16)), BODY),
    "too large": GOOD + bytes(MAX_PARCEL_BYTES),
}


@pytest.mark.parametrize("parcel", DAMAGED.values(), ids=DAMAGED)
def test_what_is_refused(parcel):
    with pytest.raises(DamagedEntry):
        unwrap(parcel, kit.key(), kit.TOKEN)
