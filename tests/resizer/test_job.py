"""The messages between pool and worker: both ways, cut, trailing, hostile."""

import json
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer import errors
from resizer.formats import Format, InputOnly
from resizer.job import (
    MAX_DESCRIPTORS,
    MAX_JOB_BYTES,
    MAX_TRANSFORMS,
    TRANSFORM_CHARS,
    BadMessage,
    Failure,
    FailureKind,
    Hello,
    Job,
    Limits,
    Message,
    Pause,
    Paused,
    Refusal,
    Result,
    build,
    media_types,
    parse,
    printable,
)
from resizer.ladder import Encoded, Parent, Source
from resizer.transform import Transform
from resizer.transform import parse as parse_transform

RESULT = Result("image/webp", 5973, 220, 138, 1680, 1050, Format.JPEG, 12.5, 3.0, "1/2>640x400")
PARENT = Parent(
    Encoded(parse_transform("w=1280"), Format.JPEG, 80), Source((6000, 4000), Format.JPEG)
)
MESSAGES: list[Message] = [
    Job(Transform(), Limits()),
    Job(parse_transform("w=220,h=160,fit=cover,g=north,f=webp,q=75"), Limits(1, 2, 3, 4)),
    Job(Transform(), Limits(), 7, 8, inputs=(InputOnly.TIFF, InputOnly.JPEG2000)),
    Job(Transform(), Limits(), 4096, 5973, (), has_mark=True),
    Job(Transform(), Limits(), 1, 0, (Transform(width=9), Transform(), Transform(width=9))),
    Job(Transform(), Limits(), (1 << 62) - 1, (1 << 62) - 1, (Transform(width=9),) * 31, True),
    Job(Transform(width=9), Limits(), parent=PARENT),
    Pause(),
    Paused(),
    Hello("landlock ABI 7, seccomp, rlimits"),
    Refusal("no seccomp"),
    RESULT,
    *(Failure(kind, "why") for kind in FailureKind),
    Failure(FailureKind.CORRUPT, '"' * 300),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trip_cut_and_trailing(message: Message) -> None:
    data = build(message)
    assert parse(data) == message
    for end in range(len(data)):
        with pytest.raises(BadMessage):
            parse(data[:end])
    for tail in (b"\0", b" ", b"x", data):
        with pytest.raises(BadMessage):
            parse(data + tail)


def datagram(kind: int, fields: object, magic: bytes = b"HT", version: int = 2) -> bytes:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack(">2sBBH", magic, version, kind, len(body)) + body


GOOD = ["image/webp", 1, 1, 1, 1, 1, "jpeg", 1.0, 1.0, "1/2"]


def but(place: int, value: object) -> list[object]:
    return [*GOOD[:place], value, *GOOD[place + 1 :]]


GOOD_PARENT = ["w=1280", "jpeg", 80, 6000, 4000, "jpeg"]


def but_parent(place: int, value: object) -> list[object]:
    return [*GOOD_PARENT[:place], value, *GOOD_PARENT[place + 1 :]]


def job(
    texts: object = ("w=1", ""),
    offset: object = 0,
    length: object = None,
    has_mark: object = False,
    inputs: object = (),
    parent: object = None,
    limits: Sequence[object] = (1, 1, 1, 1, 1, 1),
) -> list[object]:
    return [texts, offset, length, has_mark, inputs, parent, *limits]


def test_the_rows_below_differ_from_a_good_one_by_one_thing() -> None:
    good = Job(Transform(width=1), Limits(1, 1, 1, 1, 1, 1), further=(Transform(),))
    assert parse(datagram(1, job())) == good
    assert parse(datagram(1, job(["w=9"], parent=GOOD_PARENT, limits=Limits().values()))) == (
        Job(Transform(width=9), Limits(), parent=PARENT)
    )
    assert (good.transforms, good.descriptors) == ((Transform(width=1), Transform()), 3)


@pytest.mark.parametrize(
    "data",
    [
        # not ours
        b"HTTP/1.1 200 OK\r\n\r\n",
        datagram(4, GOOD, magic=b"HX"),
        datagram(4, GOOD, version=1),
        datagram(0, GOOD),
        datagram(8, GOOD),
        b"\0" * 50_000,
        # no JSON, other JSON
        datagram(4, b""),
        datagram(4, b"[" * 1900),
        datagram(4, b"\xff"),
        datagram(4, b"[NaN"),
        datagram(4, {}),
        datagram(4, 7),
        datagram(4, []),
        datagram(4, GOOD[:-1]),
        datagram(4, [*GOOD, 1]),
        datagram(4, but(9, 1)),
        datagram(4, but(9, None)),
        datagram(4, but(9, "1/2\n")),
        datagram(4, but(9, "x" * 301)),
        # a worker that was taken over
        datagram(4, but(0, "text/html")),
        datagram(4, but(0, "image/webp\r\nX: 1")),
        datagram(4, but(0, ["image/webp"])),
        datagram(4, but(1, 0)),
        datagram(4, but(1, -1)),
        datagram(4, but(1, True)),
        datagram(4, but(1, 1.0)),
        datagram(4, but(1, 1 << 40)),
        datagram(4, but(6, "bmp")),
        datagram(4, but(6, {})),
        datagram(4, but(7, 1)),
        datagram(4, but(7, -1.0)),
        datagram(4, but(7, float("nan"))),
        datagram(4, but(8, float("inf"))),
        datagram(4, b'["image/webp",' + b"9" * 1500 + b"]"),
        datagram(5, ["corrupt", "two\nlines"]),
        datagram(5, ["corrupt", "x" * 301]),
        datagram(5, ["corrupt", "\u2028"]),
        datagram(5, ["corrupt", 1]),
        datagram(5, ["barred", ""]),
        datagram(2, ["\x1b[2J"]),
        datagram(3, [None]),
        datagram(6, [1]),
        datagram(7, [None]),
        datagram(7, {}),
        # no job: each row is a good one but for one thing
        datagram(1, job(["w=0"])),
        datagram(1, job([])),
        datagram(1, job(["w=1"] * 33)),
        datagram(1, job(["w=1", 7])),
        datagram(1, job(["w=1", "w=1,w=1"])),
        datagram(1, job(["q=1,w=1"])),  # not canonical
        datagram(1, job(["w=" + "1" * 999])),
        datagram(1, job("w=1")),
        datagram(1, job({"w=1": 1})),
        datagram(1, job(None)),
        datagram(1, job([["w=1"]])),
        datagram(1, job(offset=-1)),
        datagram(1, job(offset=None)),
        datagram(1, job(offset=1.0)),
        datagram(1, job(offset=1 << 62)),
        datagram(1, job(length=-1)),
        datagram(1, job(length=True)),
        datagram(1, job(length="1")),
        datagram(1, job(has_mark=1)),
        datagram(1, job(has_mark=None)),
        datagram(1, job(inputs=None)),
        datagram(1, job(inputs="tiff")),
        datagram(1, job(inputs=["png"])),
        datagram(1, job(inputs=[7])),
        datagram(1, job(inputs=[["tiff"]])),
        datagram(1, job(inputs=["tiff"] * 3)),
        datagram(1, job(["w=1"], parent=[])),
        datagram(1, job(["w=1"], parent="w=9")),
        datagram(1, job(["w=1"], parent=but_parent(0, "w=09"))),
        datagram(1, job(["w=1"], parent=but_parent(0, 9))),
        datagram(1, job(["w=1"], parent=but_parent(0, "w=1" * 400))),
        datagram(1, job(["w=1"], parent=but_parent(1, "tiff"))),
        datagram(1, job(["w=1"], parent=but_parent(2, 0))),
        datagram(1, job(["w=1"], parent=but_parent(3, 16_385))),
        datagram(1, job(["w=1"], parent=but_parent(4, True))),
        datagram(1, job(["w=1"], parent=but_parent(4, "400"))),
        datagram(1, job(["w=1"], parent=but_parent(5, None))),
        datagram(1, job(["w=1"], parent=[*GOOD_PARENT, 1])),
        datagram(1, job(["w=1", "w=2"], parent=GOOD_PARENT)),
        datagram(1, job(["w=1"], parent=GOOD_PARENT, has_mark=True)),
        datagram(1, job(limits=[1, 1, 1, 1, 1])),
        datagram(1, job(limits=[1, 1, 1, 1, 1, 1, 1])),
        datagram(1, job(limits=[1, 1, 1, 1, 1, 0])),
        datagram(1, job(limits=[1, 1, 1, 1, 1, "1"])),
        datagram(1, job(limits=[1, 1, 1, 1, 1, True])),
        # long as only a job may be
        datagram(4, b'["image/webp",' + b" " * 3000 + b"1,1,1,1,1," + b'"jpeg",1.0,1.0]'),
        datagram(1, job(["w=1" + " " * 40_000])),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        parse(data)


@pytest.mark.parametrize("kind", FailureKind)
def test_kinds_and_errors_are_one_to_one(kind: FailureKind) -> None:
    error = Failure(kind, "why").error()
    assert Failure.of(error) == Failure(kind, "why")
    assert str(error) == "why"
    assert isinstance(error, errors.ResizeError)


def test_text_for_the_log() -> None:
    assert printable("a\r\nb\x1b[0m\u202e") == "a??b?[0m?"
    assert len(printable("x" * 1000)) == 300
    failure = Failure.of(errors.CorruptPicture("bad \0 marker" + "!" * 1000))
    assert parse(build(failure)) == failure


@pytest.mark.parametrize(
    ("text", "source", "wanted"),
    [
        ("w=9", Format.GIF, "image/gif"),
        ("w=9,f=webp", Format.GIF, "image/webp"),
        ("w=9,ph=thumbhash", Format.GIF, "application/json"),
    ],
)
def test_media_type(text: str, source: Format, wanted: str) -> None:
    assert media_types(parse_transform(text), source) == (wanted,)


def test_the_longest_job_fits_its_message() -> None:
    assert MAX_JOB_BYTES <= 0xFFFF  # what the head can count
    assert MAX_DESCRIPTORS <= 253  # SCM_MAX_FD
    every = ":".join(f"{each}:100" for each in sorted(Format))
    longest = parse_transform(
        "w=16384,h=16383,fit=letterbox,up=1,q=100,bg=0a0b0c,r=ppm:100000:100000:900000:900000,"
        "fill=clear,mi=1,rot=3599,bri=-100,con=-100,tone=bitonal,blur=2500,cr=16384,"
        f"wm={'a' * 32}:southeast:100:100:8191,flat=1,qf={every},keep=copyright,mb=1073741824,"
        "fr=1000,ad=1,crisp=1,pr=1"
    )
    assert len(longest.canonical()) <= TRANSFORM_CHARS
    data = build(Job(longest, Limits(), 1 << 61, 1 << 61, (longest,) * (MAX_TRANSFORMS - 1), True))
    texts = ["a" * TRANSFORM_CHARS] * MAX_TRANSFORMS
    numbers = [1 << 62, 1 << 62, False, list(InputOnly), None, *[1 << 62] * 6]
    assert len(datagram(1, [texts, *numbers])) <= MAX_JOB_BYTES
    assert len(data) <= MAX_JOB_BYTES
    with pytest.raises(BadMessage):
        Job(longest, Limits(), further=(longest,) * MAX_TRANSFORMS)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    for kind in range(1, 8):
        try:
            message = parse(datagram(kind, body))
        except BadMessage:
            continue
        assert parse(build(message)) == message
