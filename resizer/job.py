"""What the pool and a worker say to each other: values, and their form on the socket.

A message is one datagram of a SOCK_SEQPACKET pair: a head (magic, version, kind, length of the
body), then the body as JSON. Descriptors travel beside a Job, source first, sink second. A datagram
arrives whole or not at all, so half a message is seen at once and never waited for.

A worker decodes hostile bytes and may be taken over by them; the pool believes only what parse()
and the constructors here let through.
"""

import enum
import json
import struct
from dataclasses import astuple, dataclass
from typing import Final

from resizer import transform as transforms
from resizer.errors import (
    CorruptPicture,
    ImpossibleTransform,
    PictureTooLarge,
    ResizeError,
    TransferFailed,
    UnsupportedFormat,
)
from resizer.formats import Format, InputOnly, SourceFormat, parse_source_format
from resizer.transform import Transform

MIB: Final = 1 << 20

# Longest message: a head, and a body whose only long part is a text of TEXT_CHARS.
MAX_MESSAGE_BYTES: Final = 2048
TEXT_CHARS: Final = 300

_HEAD: Final = struct.Struct(">2sBBH")
_MAGIC: Final = b"HT"
_VERSION: Final = 1


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
        for value in astuple(self):
            if type(value) is not int or value < 1:
                raise BadMessage(f"limit {value!r} is not a positive number")


@dataclass(frozen=True, slots=True)
class Job:
    """Read the source, apply the transform, write to the sink where it stands.

    The picture is `length` bytes of the source from `offset` on (it may stand behind the head of a
    cache file); length None is all the rest. inputs: formats that are only read, switched on.
    """

    transform: Transform
    limits: Limits
    offset: int = 0
    length: int | None = None
    inputs: tuple[InputOnly, ...] = ()

    def __post_init__(self) -> None:
        for value in (self.offset, self.length):
            if value is not None and (type(value) is not int or not 0 <= value < 1 << 62):
                raise BadMessage("a stretch of the source is out of range")


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
    picture; the times are wall time, decoding and then all that followed.
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

    def __post_init__(self) -> None:
        if self.media_type not in _MEDIA_TYPES:
            raise BadMessage("a media type of none of our encoders")
        for name in ("length", "width", "height", "source_width", "source_height"):
            value = getattr(self, name)
            if type(value) is not int or not 0 < value < 1 << 40:
                raise BadMessage(f"{name} is out of range")
        for name in ("decode_ms", "render_ms"):
            value = getattr(self, name)
            # Above a day it is no time; NaN fails the comparison.
            if type(value) is not float or not 0 <= value < 86_400_000:
                raise BadMessage(f"{name} is out of range")


class FailureKind(enum.StrEnum):
    """Why there is no result; one error class each."""

    UNSUPPORTED = "unsupported"
    CORRUPT = "corrupt"
    TOO_LARGE = "too large"
    IMPOSSIBLE = "impossible"
    TRANSFER = "transfer"


_ERRORS: Final[dict[FailureKind, type[ResizeError]]] = {
    FailureKind.UNSUPPORTED: UnsupportedFormat,
    FailureKind.CORRUPT: CorruptPicture,
    FailureKind.TOO_LARGE: PictureTooLarge,
    FailureKind.IMPOSSIBLE: ImpossibleTransform,
    FailureKind.TRANSFER: TransferFailed,
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


Message = Job | Hello | Refusal | Result | Failure

# The kind on the wire is the place in this tuple, counted from 1.
_TYPES: Final = (Job, Hello, Refusal, Result, Failure)
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
    body = json.dumps(_fields(message), separators=(",", ":")).encode("ascii")
    kind = _TYPES.index(type(message)) + 1
    data = _HEAD.pack(_MAGIC, _VERSION, kind, len(body)) + body
    assert len(data) <= MAX_MESSAGE_BYTES, f"message of {len(data)} bytes"
    return data


def parse(data: bytes) -> Message:
    """The message in one datagram. Raises BadMessage for anything else."""
    if not _HEAD.size <= len(data) <= MAX_MESSAGE_BYTES:
        raise BadMessage(f"{len(data)} bytes are no message")
    magic, version, kind, length = _HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise BadMessage("wrong magic or version")
    if length != len(data) - _HEAD.size:
        raise BadMessage(f"body of {len(data) - _HEAD.size} bytes where {length} were announced")
    if not 1 <= kind <= len(_TYPES):
        raise BadMessage(f"unknown kind {kind}")
    try:
        fields: object = json.loads(data[_HEAD.size :])
        if not isinstance(fields, list):
            raise BadMessage("the body is no list")
        return _message(_TYPES[kind - 1], fields)
    except BadMessage:
        raise
    # The JSON reader recurses on hostile nesting; the constructors refuse wrong types and counts.
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise BadMessage(f"unreadable body: {type(error).__name__}") from error


def _fields(message: Message) -> list[object]:
    match message:
        case Job(transform, limits, offset, length, inputs):
            return [transform.canonical(), offset, length, list(inputs), *astuple(limits)]
        case _:
            return list(astuple(message))


def _message(kind: type[Message], fields: list[object]) -> Message:
    if kind is Job:
        text, offset, length, inputs, *limits = fields
        if not isinstance(text, str) or not isinstance(inputs, list):
            raise BadMessage("the transform is no text, or the inputs are no list")
        if len(limits) != len(astuple(Limits())):
            raise BadMessage("the limits are not all there")
        on = tuple(InputOnly(str(name)) for name in inputs)
        return Job(transforms.parse(text), Limits(*limits), offset, length, on)  # type: ignore[arg-type]
    if kind is Result:
        fields[6] = parse_source_format(str(fields[6]))
    if kind is Failure:
        fields[0] = FailureKind(str(fields[0]))
    return kind(*fields)  # type: ignore[arg-type]


def _check_text(text: object) -> None:
    if not isinstance(text, str) or text != printable(text):
        raise BadMessage("a text that is too long or not printable")
