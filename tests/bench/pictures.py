"""The files that are served: a picture's first bytes, then noise, the same on every run.

Servers under test send files as they are, so nothing has to decode. Distinct contents make a mix-up
visible when bodies are compared.
"""

import os
import random
from collections.abc import Iterator, Sequence
from functools import cache

MAGIC = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
END = b"\xff\xd9"
SERIAL_BYTES = 8
NOISE_BYTES = 1 << 20
LEAST_BYTES = len(MAGIC) + SERIAL_BYTES + len(END)
PER_FOLDER = 1000  # a folder of 100,000 entries is nobody's docroot


@cache
def noise() -> bytes:
    return random.Random(1).randbytes(NOISE_BYTES)


def picture(serial: int, size: int) -> bytes:
    """size bytes that no other serial has."""
    return b"".join(slices(serial, size))


def slices(serial: int, size: int) -> Iterator[bytes]:
    """The same in pieces, for files larger than memory should hold."""
    if size < LEAST_BYTES:
        raise ValueError(f"{size} bytes; a picture has at least {LEAST_BYTES}")
    yield MAGIC + serial.to_bytes(SERIAL_BYTES, "big")
    left = size - LEAST_BYTES
    start = serial * 7919 % (NOISE_BYTES // 2)
    while left:
        piece = noise()[start : start + left]
        yield piece
        left -= len(piece)
        start = 0
    yield END


def sizes_between(low: int, high: int, count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randint(low, high) for _ in range(count)]


def path_of(index: int) -> str:
    """The URL path of the index-th picture of a case, always of one length per folder depth."""
    return f"/{index // PER_FOLDER:03d}/{index % PER_FOLDER:03d}.jpg"


def write(root: str, sizes: Sequence[int]) -> list[str]:
    """Writes one picture a size under root and returns their URL paths."""
    paths = [path_of(index) for index in range(len(sizes))]
    for folder in sorted({os.path.dirname(path) for path in paths}):
        os.makedirs(root + folder, exist_ok=True)
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        with open(root + path, "wb") as file:
            file.writelines(slices(index, size))
    return paths
