"""An entry on its way to another node: the head of its file, then its body.

    head    what cache.entry.pack() gives, a checksum of its own in it
    body    entry.length bytes, whose xxh3-128 stands in the head

What comes out of the index is input from a wire: whoever unwraps says which key and token it
expects, and nothing else is let through.
"""

from typing import Final

import xxhash

from cache.entry import Entry, pack, stored_head_size, unpack
from cache.errors import DamagedEntry, DoesNotFit
from cache.index.interface import MAX_PARCEL_BYTES, Token
from cache.key import Key

# In place of a parcel: the leader has ended well, and there is nothing that others could take.
NOTHING: Final = b"\0"


def wrap(entry: Entry, body: bytes) -> bytes:
    """Raises DoesNotFit for what is too large to be handed over."""
    head = pack(entry)
    size = len(head) + len(body)
    if size > MAX_PARCEL_BYTES:
        raise DoesNotFit(f"parcel of {size} bytes, at most {MAX_PARCEL_BYTES} are handed over")
    return head + body


def unwrap(parcel: bytes, key: Key, token: Token) -> tuple[Entry, bytes]:
    """Raises DamagedEntry for anything that wrap() did not make of this key and token."""
    if len(parcel) > MAX_PARCEL_BYTES:
        raise DamagedEntry(f"parcel of {len(parcel)} bytes, at most {MAX_PARCEL_BYTES} are taken")
    entry = unpack(parcel)
    body = parcel[stored_head_size(parcel) :]
    if entry.key != key:
        raise DamagedEntry("parcel of another key")
    if entry.token != token:
        raise DamagedEntry("parcel of another token")
    if len(body) != entry.length:
        raise DamagedEntry(f"parcel's body is {len(body)} bytes, not {entry.length}")
    if xxhash.xxh3_128_digest(body) != entry.body_hash:
        raise DamagedEntry("parcel's body is not what its hash says")
    return entry, body
