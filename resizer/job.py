"""What the pool and a worker say to each other: values, and their form on the socket.

A message is one datagram of a SOCK_SEQPACKET pair: a head (magic, version, kind, length of the
body), then the body as JSON. Descriptors travel beside a Job: the source, the mark where the job
has one, a sink for each transform. A datagram arrives whole or not at all, so half a message is
seen at once and never waited for.

    pool     Job [Pause]
    worker   Hello | Refusal, then for each job a Result or Failure a transform, in order; Paused
             instead of the next one when it was asked to pause, and the rest is not done

A Pause may cross the last answer. A worker with nothing to do takes no notice of it.

A worker decodes hostile bytes and may be taken over by them; the pool believes only what parse()
and the constructors here let through.
"""

import enum
import json
import struct
from dataclasses import dataclass
from typing import Final

from resizer import transform as transforms
from resizer.errors import (
    CorruptPicture,
    ImpossibleTransform,
    MarkUnusable,
    PictureTooLarge,
    ResizeError,
    TransferFailed,
    UnsupportedFormat,
)
from resizer.formats import Format, InputOnly, SourceFormat, outputs_of, parse_source_format
from resizer.ladder import Encoded, Parent
from resizer.ladder import Source as SourceFacts
from resizer.transform import Transform

MIB: Final = 1 << 20

# A watermark is a logo, not a photograph.
MAX_MARK_BYTES: Final = 2 * MIB

# Longest message of a worker: a head, and a body whose only long part is a text of TEXT_CHARS.
MAX_MESSAGE_BYTES: Final = 2048
TEXT_CHARS: Final = 300

# The sizes of a ladder, or of all names of a grammar: YouTube has 9, Wikipedia 8.
MAX_TRANSFORMS: Final = 32
# Canonical text with every field at its longest is well below it.
TRANSFORM_CHARS: Final = 1000
# Longest message of the pool: a Job of so many transforms, each in quotes with a comma, and its
# numbers. The head counts up to 65,535.
MAX_JOB_BYTES: Final = MAX_TRANSFORMS * (TRANSFORM_CHARS + 3) + 512

_HEAD: Final = struct.Struct(">2sBBH")
# json.dumps() with separators makes an encoder each time, and json.loads() guesses the encoding.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode
_MAGIC: Final = b"HT"
# 2: several transforms, a mark, a parent. A worker of another release than its pool's must not
# guess.
_VERSION: Final = 2


class BadMessage(ValueError):
    """The other end sent what is no message; the text says which part."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may be and a result may weigh. The defaults are those of the security page:
    32 MiB holds every camera's JPEG, 50 megapixels every camera's sensor but the largest.
    """

    max_bytes: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_side: int = transforms.MAX_SIDE
    max_output_bytes: int = 32 * MIB
    # A picture that moves costs 15 ms a megapixel of its frames to decode and scale, and as much
    # again to write; beyond either limit its first frame stands for it.
    max_frames: int = 300
    max_animation_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        for value in self.values():
            if type(value) is not int or value < 1:
                raise BadMessage(f"limit {value!r} is not a positive number")

    def values(self) -> tuple[int, ...]:
        """In the order of the fields."""
        return (
            *(self.max_bytes, self.max_pixels, self.max_side, self.max_output_bytes),
            *(self.max_frames, self.max_animation_pixels),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """Read the source, apply the transform, write to the sink where it stands; then the further
    transforms, each to a sink of its own.

    The picture is `length` bytes of the source from `offset` on (it may stand behind the head of a
    cache file); length None is all the rest. has_mark: the site's watermark comes along. inputs:
    formats that are only read, switched on. parent: the source is the file of a derivative, and the
    one transform is of its original (ladder.may_derive() allowed it).
    """

    transform: Transform
    limits: Limits
    offset: int = 0
    length: int | None = None
    further: tuple[Transform, ...] = ()
    has_mark: bool = False
    inputs: tuple[InputOnly, ...] = ()
    parent: Parent | None = None

    def __post_init__(self) -> None:
        for value in (self.offset, 0 if self.length is None else self.length):
            if type(value) is not int or not 0 <= value < 1 << 62:
                raise BadMessage("a stretch of the source is out of range")
        if len(self.further) >= MAX_TRANSFORMS:
            raise BadMessage(f"{len(self.further) + 1} transforms are over {MAX_TRANSFORMS}")
        if type(self.has_mark) is not bool:
            raise BadMessage("has_mark is neither true nor false")
        if self.parent is not None and (self.further or self.has_mark):
            raise BadMessage("a parent serves one transform, and no mark")

    @property
    def transforms(self) -> tuple[Transform, ...]:
        return (self.transform, *self.further)

    @property
    def descriptors(self) -> int:
        """How many travel with it."""
        return 2 + len(self.further) + self.has_mark


# What may be received at once.
MAX_DESCRIPTORS: Final = 2 + MAX_TRANSFORMS


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker is warmed up and sealed; the text says how far the sandbox reached."""

    sandbox: str

    def __post_init__(self) -> None:
        _check_text(self.sandbox)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A worker can't start, and why."""

    reason: str

    def __post_init__(self) -> None:
        _check_text(self.reason)


@dataclass(frozen=True, slots=True)
class Result:
    """`length` bytes of `media_type` stand in the sink. Source sides are those of the upright
    picture; the times are wall time, decoding and then all that followed. lineage says what it was
    made from (resizer/ladder.py); empty for a render by itself.
    """

    media_type: str
    length: int
    width: int
    height: int
    source_width: int
    source_height: int
    source_format: SourceFormat
    decode_ms: float
    render_ms: float
    lineage: str = ""

    def __post_init__(self) -> None:
        _check_text(self.lineage)
        if self.media_type not in _MEDIA_TYPES:
            raise BadMessage("a media type of none of our encoders")
        for size in (
            self.length,
            self.width,
            self.height,
            self.source_width,
            self.source_height,
        ):
            if type(size) is not int or not 0 < size < 1 << 40:
                raise BadMessage("a length or side is out of range")
        for time_ms in (self.decode_ms, self.render_ms):
            # Above a day it is no time; NaN fails the comparison.
            if type(time_ms) is not float or not 0 <= time_ms < 86_400_000:
                raise BadMessage("a time is out of range")


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop after the transform in hand: somebody waits."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The transforms that are not answered for yet are not going to be."""


class FailureKind(enum.StrEnum):
    """Why there is no result; one error class each."""

    UNSUPPORTED = "unsupported"
    CORRUPT = "corrupt"
    TOO_LARGE = "too large"
    IMPOSSIBLE = "impossible"
    TRANSFER = "transfer"
    MARK = "mark"


_ERRORS: Final[dict[FailureKind, type[ResizeError]]] = {
    FailureKind.UNSUPPORTED: UnsupportedFormat,
    FailureKind.CORRUPT: CorruptPicture,
    FailureKind.TOO_LARGE: PictureTooLarge,
    FailureKind.IMPOSSIBLE: ImpossibleTransform,
    FailureKind.TRANSFER: TransferFailed,
    FailureKind.MARK: MarkUnusable,
}
_KINDS: Final = {error: kind for kind, error in _ERRORS.items()}


@dataclass(frozen=True, slots=True)
class Failure:
    """There is no result, and the sink holds nothing of use. The message is for the log."""

    kind: FailureKind
    message: str

    def __post_init__(self) -> None:
        _check_text(self.message)

    @classmethod
    def of(cls, error: ResizeError) -> "Failure":
        return cls(_KINDS[type(error)], printable(str(error)))

    def error(self) -> ResizeError:
        return _ERRORS[self.kind](self.message)


Message = Job | Hello | Refusal | Result | Failure | Pause | Paused

# The kind on the wire is the place in this tuple, counted from 1.
_TYPES: Final = (Job, Hello, Refusal, Result, Failure, Pause, Paused)
# A placeholder is a document (resizer/placeholder.py).
PLACEHOLDER_MEDIA_TYPE: Final = "application/json"
_MEDIA_TYPES: Final = frozenset((PLACEHOLDER_MEDIA_TYPE, *(each.media_type for each in Format)))


def media_types(transform: Transform, source: SourceFormat) -> tuple[str, ...]:
    """What a transform of a source of this format may be answered with."""
    if transform.placeholder is not transforms.Placeholder.NONE:
        return (PLACEHOLDER_MEDIA_TYPE,)
    if transform.format is not None:
        return (transform.format.media_type,)
    return tuple(each.media_type for each in outputs_of(source))


def printable(text: str) -> str:
    """Text that is safe in a log line and short enough for a message."""
    cut = text[:TEXT_CHARS]
    return "".join(char if " " <= char <= "~" else "?" for char in cut)


def build(message: Message) -> bytes:
    """The datagram of a message; inverse of parse()."""
    body = _encode(_fields(message)).encode("ascii")
    kind = _TYPES.index(type(message)) + 1
    data = _HEAD.pack(_MAGIC, _VERSION, kind, len(body)) + body
    assert len(data) <= _longest(kind), f"message of {len(data)} bytes"
    return data


def parse(data: bytes) -> Message:
    """The message in one datagram. Raises BadMessage for anything else."""
    if not _HEAD.size <= len(data) <= MAX_JOB_BYTES:
        raise BadMessage(f"{len(data)} bytes are no message")
    magic, version, kind, length = _HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise BadMessage("wrong magic or version")
    if length != len(data) - _HEAD.size:
        raise BadMessage(f"body of {len(data) - _HEAD.size} bytes where {length} were announced")
    if not 1 <= kind <= len(_TYPES):
        raise BadMessage(f"unknown kind {kind}")
    if len(data) > _longest(kind):
        raise BadMessage(f"{len(data)} bytes are too many for kind {kind}")
    try:
        # Escapes stand for all that is not ASCII.
        fields: object = _decode(data[_HEAD.size :].decode("ascii"))
        if not isinstance(fields, list):
            raise BadMessage("the body is no list")
        return _message(_TYPES[kind - 1], fields)
    except BadMessage:
        raise
    # The JSON reader recurses on hostile nesting; the constructors refuse wrong types and counts.
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise BadMessage(f"unreadable body: {type(error).__name__}") from error


def _longest(kind: int) -> int:
    return MAX_JOB_BYTES if kind == _JOB else MAX_MESSAGE_BYTES


_LIMITS: Final = len(Limits().values())
_JOB: Final = _TYPES.index(Job) + 1


def _fields(message: Message) -> list[object]:
    match message:
        case Job(transform, limits, offset, length, further, has_mark, inputs, parent):
            texts = [each.canonical() for each in (transform, *further)]
            assert all(len(text) <= TRANSFORM_CHARS for text in texts), "a transform that long"
            told = _parent_fields(parent)
            return [texts, offset, length, has_mark, list(inputs), told, *limits.values()]
        case _:
            # Not astuple(), which copies each value deeply: 10 us of the smallest job's 320.
            return [getattr(message, name) for name in type(message).__slots__]


def _parent_fields(parent: Parent | None) -> list[object] | None:
    """An upright source that is neither transparent nor moving: no other has a parent."""
    if parent is None:
        return None
    made, source = parent.made, parent.source
    assert source == SourceFacts(source.upright, source.format), "may_derive() refuses it"
    text = made.transform.canonical()
    assert len(text) <= TRANSFORM_CHARS, "a transform that long"
    return [text, made.format, made.quality, *source.upright, source.format]


def _parent(fields: object) -> Parent | None:
    """Inverse of _parent_fields()."""
    if fields is None:
        return None
    if not isinstance(fields, list) or len(fields) != 6:
        raise BadMessage("no parent")
    text, made, quality, width, height, source = fields
    if not isinstance(text, str) or len(text) > TRANSFORM_CHARS:
        raise BadMessage("a parent's transform is no text, or too long")
    for number in (quality, width, height):
        if type(number) is not int or not 1 <= number <= transforms.MAX_SIDE:
            raise BadMessage("a parent's number is out of range")
    return Parent(
        Encoded(transforms.parse(text), Format(str(made)), quality),
        SourceFacts((width, height), Format(str(source))),
    )


def _message(kind: type[Message], fields: list[object]) -> Message:
    if kind is Job:
        return _job(*fields)
    if len(fields) != len(kind.__slots__):
        raise BadMessage(f"{len(fields)} fields are not those of {kind.__name__}")
    if kind is Result:
        fields[6] = parse_source_format(str(fields[6]))
    if kind is Failure:
        fields[0] = FailureKind(str(fields[0]))
    return kind(*fields)  # type: ignore[arg-type]


def _job(
    texts: object,
    offset: object,
    length: object,
    has_mark: object,
    inputs: object,
    parent: object,
    *limits: object,
) -> Job:
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TRANSFORMS:
        raise BadMessage("no list of transforms")
    if not all(isinstance(text, str) and len(text) <= TRANSFORM_CHARS for text in texts):
        raise BadMessage("a transform is no text, or too long")
    if not isinstance(inputs, list) or len(inputs) > len(InputOnly):
        raise BadMessage("no list of inputs")
    if len(limits) != _LIMITS:
        raise BadMessage("the limits are not all there")
    first, *further = map(transforms.parse, texts)
    return Job(
        first,
        Limits(*limits),  # type: ignore[arg-type]
        offset,  # type: ignore[arg-type]
        length,  # type: ignore[arg-type]
        tuple(further),
        has_mark,  # type: ignore[arg-type]
        tuple(InputOnly(str(name)) for name in inputs),
        _parent(parent),
    )


def _check_text(text: object) -> None:
    if text != "" and (not isinstance(text, str) or text != printable(text)):
        raise BadMessage("a text that is too long or not printable")
