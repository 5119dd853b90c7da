"""Malformed pictures in the docroot of a whole node: refused by name, while hits go on.

tests/resizer/test_malformed.py has the mutations by the thousand; here are those with a face, and
enough others to see that no worker is lost.
"""

import random
import struct
import zlib
from pathlib import Path

import pytest

from resizer.formats import Format
from tests.behaviour.test_crashes import undisturbed
from tests.behaviour.test_serve import site
from tests.peers.node import node
from tests.resizer.pictures import chunk, noise, png_that_claims, quarters, saved
from tests.resizer.test_malformed import SEEDS

REFUSED = (413, 415, 422)
MUTATIONS = 120


def endless_gif() -> bytes:
    """A head of 16 by 16 and one frame, again and again, without a trailer."""
    file = saved(quarters(16).quantize(4), Format.GIF)
    head, frame = file[: 13 + 3 * 4], file[13 + 3 * 4 : -1]
    return head + frame * 5_000


def lying_jpeg() -> bytes:
    """Its SOF says 60,000 by 60,000."""
    file = bytearray(saved(quarters(64), Format.JPEG))
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(file)


def large_and_light_png(side: int) -> bytes:
    """side by side grey pixels in 32 KB or so: black, deflated."""
    rows = zlib.compress(bytes(side // 8 + 1) * side, 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


HOSTILE = {
    # name, bytes, status
    "empty.jpg": (b"", 415),
    "text.jpg": (b"<html>not found</html>", 415),
    "svg.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "script.png": (b"#!/bin/sh\nexit 0\n", 415),
    "cut.jpg": (noise(200, Format.JPEG)[:4_000], 422),
    "cut.png": (noise(200, Format.PNG)[:4_000], 422),
    "cut.webp": (noise(200, Format.WEBP)[:2_000], 422),
    "cut.avif": (noise(200, Format.AVIF)[:2_000], 422),
    "magic.jpg": (b"\xff\xd8\xff", 422),
    "lying.jpg": (lying_jpeg(), 413),
    "bomb.png": (png_that_claims(60_000, 60_000), 413),
    "large.png": (large_and_light_png(16_384), 413),
    "wide.png": (png_that_claims(1_000_000, 1), 413),
    "nothing.png": (png_that_claims(0, 10), 422),
}


@pytest.fixture
def pictures(originals: Path) -> Path:
    for name, (data, _) in HOSTILE.items():
        (originals / name).write_bytes(data)
    (originals / "endless.gif").write_bytes(endless_gif())
    draw = random.Random(4)
    for number in range(MUTATIONS):
        source, data = draw.choice([seed for seed in SEEDS if isinstance(seed[0], Format)])
        changed = bytearray(data)
        for _ in range(draw.randint(1, 12)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (originals / f"mutation-{number}.{source}").write_bytes(changed)
    return originals


def test_every_one_is_refused_or_rendered_and_hits_go_on(tmp_path, pictures):
    with (
        node(tmp_path, site(pictures) + "[resizer]\nprocesses = 2\n") as edge,
        undisturbed(edge, "/photo.jpg?w=120"),
    ):
        workers = set(edge.resizers())
        answers = {name: edge.get(f"/{name}?w=64") for name in HOSTILE}
        statuses = {name: reply.status for name, reply in answers.items()}
        assert statuses == {name: status for name, (_, status) in HOSTILE.items()}
        assert not [name for name, reply in answers.items() if name.encode() in reply.body]
        # Beyond the budget of frames the first stands for all.
        assert edge.get("/endless.gif?w=8").status in (200, *REFUSED)
        met = set()
        for path in sorted(pictures.glob("mutation-*")):
            reply = edge.get(f"/{path.name}?w=9")
            met.add(reply.status)
            assert reply.status in (200, *REFUSED), (path.name, edge.log[-3:])
        assert 200 in met
        assert met & set(REFUSED)
        # Refused by the decoder's word, not by the death of its process.
        assert set(edge.resizers()) == workers
