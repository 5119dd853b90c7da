"""Names in a cache folder: a fan-out of 16 x 256 folders, by the first digits of a digest. Pure."""

from collections.abc import Iterator
from typing import Final

from cache.key import DIGEST_BYTES

# Of the folder, not of the files in it: those say their own version (entry.py).
LAYOUT: Final = "halftone cache 1\n"
LAYOUT_NAME: Final = "layout"
FOLDERS: Final = 16 * 256


def number_of(digest: bytes) -> int:
    """Of its folder, from 0 to FOLDERS - 1."""
    return int.from_bytes(digest[:2], "big") >> 4


def folder_numbered(number: int) -> str:
    return f"{number >> 8:x}/{number & 0xFF:02x}"


def folder_of(digest: bytes) -> str:
    text = digest[:2].hex()
    return f"{text[0]}/{text[1:3]}"


def path_of(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[0]}/{text[1:3]}/{text}"


def maybe_digest(name: str) -> bytes | None:
    """The digest of which this is the name of a file, None when it is not the name of one."""
    if len(name) != 2 * DIGEST_BYTES or name != name.lower():
        return None
    try:
        return bytes.fromhex(name)
    except ValueError:
        return None


def parents_of(name: str) -> Iterator[str]:
    """The folders above "a/3f/NAME", the outer one first."""
    first, second, _ = name.split("/")
    yield first
    yield f"{first}/{second}"
