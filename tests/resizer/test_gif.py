"""Blocks of a GIF: walked, counted, cut at every byte, endless."""

import pytest
from PIL import Image

from resizer.errors import CorruptPicture
from resizer.formats import Format
from resizer.gif import Kind, count_frames, walk
from tests.resizer.pictures import saved

SCREEN = b"GIF89a\2\0\2\0\x80\0\0" + b"\0\0\0\xff\xff\xff"
CONTROL = b"!\xf9\x04\0\x0a\0\0\0"
REPEATS = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
COMMENT = b"!\xfe\x03abc\x02de\0"
IMAGE = b",\0\0\0\0\2\0\2\0\0\x02\x03\x84\x8f\x05\0"
LOCAL = b",\0\0\0\0\2\0\2\0\x80" + b"\0\0\0\xff\0\0" + b"\x02\x03\x84\x8f\x05\0"
END = b";"

SCREENED = (Kind.SCREEN,)


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        # usual
        (SCREEN + IMAGE + END, (Kind.IMAGE, Kind.TRAILER)),
        (
            SCREEN + REPEATS + CONTROL + IMAGE + CONTROL + LOCAL + END,
            (Kind.REPEATS, Kind.CONTROL, Kind.IMAGE, Kind.CONTROL, Kind.IMAGE, Kind.TRAILER),
        ),
        # edge
        (SCREEN + COMMENT + IMAGE + END, (Kind.OTHER, Kind.IMAGE, Kind.TRAILER)),
        (SCREEN + END, (Kind.TRAILER,)),
        (SCREEN[:10] + b"\0\0\0" + IMAGE + END, (Kind.IMAGE, Kind.TRAILER)),
        # hostile: more than repeats in their block, or another application's
        (SCREEN + REPEATS[:-1] + b"\x02hi\0" + END, (Kind.OTHER, Kind.TRAILER)),
        (SCREEN + b"!\xff\x0bXMP DataXMP\x01a\0" + END, (Kind.OTHER, Kind.TRAILER)),
        (SCREEN + b"!\x01" + REPEATS[2:] + END, (Kind.OTHER, Kind.TRAILER)),
    ],
)
def test_walk_whole_trailing_and_cut(data: bytes, kinds: tuple[Kind, ...]) -> None:
    for tail in (b"", b"\0", b"\xff" * 9, data):
        blocks = list(walk(data + tail))
        assert tuple(block.kind for block in blocks) == SCREENED + kinds
        # Nothing lies between them.
        assert [block.start for block in blocks] == [0, *(block.end for block in blocks[:-1])]
        assert blocks[-1].end == len(data)
    for end in range(len(data)):
        with pytest.raises(CorruptPicture):
            list(walk(data[:end]))


def test_no_block() -> None:
    with pytest.raises(CorruptPicture):
        list(walk(SCREEN + IMAGE + b"\0" + END))


def test_count() -> None:
    data = SCREEN + IMAGE * 7 + END
    assert [count_frames(data, most) for most in (1, 6, 7, 100)] == [2, 7, 7, 7]
    assert count_frames(data[:-5], 100) == 6
    assert count_frames(SCREEN + END, 100) == 0
    assert count_frames(b"", 100) == 0


def test_count_as_pillow_does() -> None:
    frames = [Image.new("L", (9, 9), 20 * number) for number in range(12)]
    data = saved(frames[0], Format.GIF, save_all=True, append_images=frames[1:], loop=0)
    assert count_frames(data, 100) == 12


def test_endless() -> None:
    # Blocks of one byte: eight million of them, of which a million are walked.
    assert count_frames(SCREEN + b"!\xfe" + b"\x01a" * (8 << 20), 100) == 0
    # Frames of next to nothing: walked no further than the number asked about.
    assert count_frames(SCREEN + (IMAGE[:10] + b"\x02\0") * 1_000_000, 300) == 301
