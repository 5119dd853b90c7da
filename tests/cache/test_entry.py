"""Heads of cache files: round trip, truncation, bit flips, files of every version."""

import dataclasses
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.entry import (
    ALIGNMENT,
    MAX_HEAD,
    VERSION,
    Entry,
    head_size,
    pack,
    stored_head_size,
    unpack,
)
from cache.errors import DamagedEntry, DoesNotFit, NewerEntry
from cache.index.interface import MAX_GENERATION, Token
from cache.key import Key, SourceId
from cache.stored import hash_body
from tests.cache.golden_entries import GOLDEN, UNKNOWN, body_of

GOLDEN_FOLDER = Path(__file__).parent / "golden"
SAMPLE = Entry(
    key=Key(SourceId("upload.example.org", "/a/ä.jpg"), "w=220,f=webp"),
    token=Token("00112233445566aa", 1_795_000_000_123),
    validator="17-62f0c",
    etag='"abc"',
    media_type="image/webp",
    length=5973,
    last_modified=1_700_000_000,
    stored_at=1_795_000_001,
    fresh_until=1_795_003_601,
    stale_until=1_795_090_001,
    cost_ms=52,
    tags=("dune", "sand"),
    width=220,
    height=146,
    headers=(("Link", "<x>; rel=canonical"), ("X-Empty", "")),
    body_hash=bytes(range(16)),
    revalidate_until=1_795_003_661,
    seen=1_795_000_000_122,
)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=60)
ENTRIES = st.builds(
    Entry,
    key=st.builds(Key, st.builds(SourceId, TEXT, TEXT), TEXT),
    token=st.builds(
        Token,
        st.text("0123456789abcdef", min_size=16, max_size=16),
        st.integers(0, MAX_GENERATION),
    ),
    validator=TEXT,
    etag=TEXT,
    media_type=TEXT,
    length=st.integers(0, 2**64 - 1),
    last_modified=st.integers(-(2**63) + 1, 2**63 - 1),
    stored_at=st.integers(-(2**63) + 1, 2**63 - 1),
    fresh_until=st.integers(-(2**63) + 1, 2**63 - 1),
    stale_until=st.integers(-(2**63) + 1, 2**63 - 1),
    cost_ms=st.integers(0, 2**32 - 1),
    tags=st.lists(TEXT, max_size=5).map(tuple),
    width=st.integers(0, 2**32 - 1),
    height=st.integers(0, 2**32 - 1),
    headers=st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple),
    body_hash=st.binary(min_size=16, max_size=16),
    revalidate_until=st.integers(-(2**63) + 1, 2**63 - 1),
    seen=st.integers(0, 2**64 - 1),
)


@given(ENTRIES, st.binary(max_size=40))
def test_round_trip_whole_and_with_a_body_behind(entry: Entry, body: bytes) -> None:
    head = pack(entry)
    assert len(head) == head_size(entry) == stored_head_size(head)
    assert len(head) % ALIGNMENT == 0
    assert unpack(head) == entry
    assert unpack(head + body) == entry


@given(ENTRIES)
def test_the_size_is_known_before_the_body(entry: Entry) -> None:
    draft = dataclasses.replace(
        entry, etag="", media_type="", length=0, cost_ms=0, width=0, height=0, body_hash=bytes(16)
    )
    room = head_size(draft)
    if len(entry.etag.encode()) <= 64 and len(entry.media_type.encode()) <= 64:
        assert unpack(pack(entry, room)) == entry


def test_every_truncation_is_damage() -> None:
    head = pack(SAMPLE)
    for end in range(len(head)):
        with pytest.raises(DamagedEntry):
            unpack(head[:end])


def test_every_flipped_bit_is_damage() -> None:
    head = pack(SAMPLE)
    for bit in range(8 * len(head)):
        flipped = bytearray(head)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedEntry):
            unpack(bytes(flipped))


@settings(max_examples=300)
@given(st.binary(max_size=2000))
def test_noise_is_damage(noise: bytes) -> None:
    with pytest.raises(DamagedEntry):
        unpack(noise)


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        (120, b"\xff\xff"),  # a site longer than the head
        (132, b"\xff\xff"),  # more tags than there are bytes
        (134, b"\xff\xff"),  # more headers likewise
        (52, b"\xff" * 8),  # a generation that never was
        (136 + 12, b"\xff\xfe"),  # no UTF-8
    ],
)
def test_a_valid_checksum_does_not_excuse_nonsense(at: int, patch: bytes) -> None:
    head = bytearray(pack(SAMPLE))
    head[at : at + len(patch)] = patch
    with pytest.raises(DamagedEntry):
        unpack(sealed(head))


def sealed(head: bytearray) -> bytes:
    """With a checksum that is right."""
    crc = zlib.crc32(head[20:], zlib.crc32(head[:16]))
    head[16:20] = struct.pack(">I", crc)
    return bytes(head)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
@pytest.mark.parametrize("name", GOLDEN)
def test_files_of_every_version_are_read(version: int, name: str) -> None:
    path = GOLDEN_FOLDER / f"v{version}-{name}"
    data = path.read_bytes()
    body = body_of(name)
    found = unpack(data)
    expected = dataclasses.replace(
        GOLDEN[name], length=len(body), body_hash=found.body_hash, **UNKNOWN[version]
    )
    assert found == expected
    offset = stored_head_size(data)
    assert data[offset:] == body
    with path.open("rb") as file:
        assert hash_body(file.fileno(), offset, len(body)) == found.body_hash


@pytest.mark.parametrize("name", GOLDEN)
def test_the_newest_version_is_written(name: str) -> None:
    data = (GOLDEN_FOLDER / f"v{VERSION}-{name}").read_bytes()
    offset = stored_head_size(data)
    assert pack(unpack(data), offset) == data[:offset]


def of_version(version: int, head: bytes | None = None) -> bytearray:
    changed = bytearray(pack(SAMPLE) if head is None else head)
    changed[8:10] = struct.pack(">H", version)
    return changed


@pytest.mark.parametrize("version", [VERSION + 1, 0xFFFF])
def test_a_later_version_is_not_damage(version: int) -> None:
    with pytest.raises(NewerEntry):
        unpack(sealed(of_version(version)))
    # Whatever it may hold behind the prefix.
    with pytest.raises(NewerEntry):
        unpack(sealed(of_version(version, pack(SAMPLE)[:20] + b"\xff" * 492)))
    # One that does not even have its own checksum is a damaged one of ours.
    with pytest.raises(DamagedEntry):
        unpack(bytes(of_version(version)))


def test_there_never_was_a_version_0() -> None:
    with pytest.raises(DamagedEntry):
        unpack(sealed(of_version(0)))


def test_a_thumbnail_of_3584_bytes_shares_one_block_with_its_head() -> None:
    source = SourceId("upload.example.org", "/wikipedia/commons/a/a9/" + "n" * 80 + ".jpg")
    draft = Entry(Key(source, "w=220,f=webp"), SAMPLE.token, "65f2d7c1-2f1a3b")
    assert head_size(draft) == 512


@pytest.mark.parametrize(
    "changes",
    [
        {"length": -1},
        {"cost_ms": 2**32},
        {"stored_at": 2**63},
        {"revalidate_until": -(2**63)},
        {"seen": -1},
        {"seen": 2**64},
        {"body_hash": b"short"},
        {"etag": '"a"\r\nSet-Cookie: x'},
        {"media_type": "image/png\n"},
        {"headers": (("Link", "a\0b"),)},
    ],
)
def test_illegal_entries_cannot_be_made(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        dataclasses.replace(SAMPLE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", ["", "0" * 15, "0" * 17, "0" * 15 + "G", "0" * 15 + "A"])
def test_illegal_tokens_cannot_be_made(epoch: str) -> None:
    with pytest.raises(ValueError):
        Token(epoch, 1)


def test_what_is_too_long_does_not_fit() -> None:
    headers = (("X", "v" * 65_000),)
    with pytest.raises(DoesNotFit):
        head_size(dataclasses.replace(SAMPLE, headers=(*headers, *headers)))
    with pytest.raises(DoesNotFit):
        pack(dataclasses.replace(SAMPLE, etag='"' + "e" * 600 + '"'), head_size(SAMPLE))
    with pytest.raises(DoesNotFit):
        head_size(dataclasses.replace(SAMPLE, validator="v" * MAX_HEAD))
