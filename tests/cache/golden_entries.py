"""What the files in golden/ hold, but for the fields that their version did not know.

A file of golden/ is written once, by the program of its version, and never again: caches in the
field are full of such files, and every later version must go on reading them.
"""

from typing import Final

from cache.entry import Entry
from cache.index.interface import Token
from cache.key import Key, SourceId

_TOKEN: Final = Token("00112233445566aa", 1_795_000_000_123)

GOLDEN: Final = {
    "plain": Entry(
        key=Key(SourceId("upload.example.org", "/a/ä.jpg"), "w=220,f=webp"),
        token=_TOKEN,
        validator="17-62f0c",
        etag='"abc"',
        media_type="image/webp",
        last_modified=1_700_000_000,
        stored_at=1_795_000_001,
        fresh_until=1_795_003_601,
        stale_until=1_795_090_001,
        cost_ms=52,
        tags=("dune", "sand"),
        width=220,
        height=146,
        headers=(("Link", "<x>; rel=canonical"), ("X-Empty", "")),
        revalidate_until=1_795_003_661,
        seen=2**64 - 1,
    ),
    # An original, from before 1970, with nothing that may be left out.
    "bare": Entry(
        key=Key(SourceId("s", "/"), ""),
        token=Token("f" * 16, 0),
        validator="",
        last_modified=-1,
        revalidate_until=-1,
    ),
    "empty": Entry(
        key=Key(SourceId("site", "/empty.gif"), "w=1"),
        token=_TOKEN,
        validator="v1",
        media_type="image/gif",
    ),
    # The head is longer than one block.
    "long": Entry(
        key=Key(SourceId("site", "/long.jpg"), "w=1"),
        token=_TOKEN,
        validator="v1",
        etag='"l"',
        media_type="image/jpeg",
        tags=tuple(f"tag-{n:04}" for n in range(600)),
    ),
}


# By version: the fields that it did not know, with what is read for them.
UNKNOWN: Final = {1: {"revalidate_until": 0, "seen": 0}, 2: {}}


def body_of(name: str) -> bytes:
    return b"" if name == "empty" else f"the body of {name}\n".encode() * 7
