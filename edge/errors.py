"""The one table from what went wrong to what a client is told.

A public sentence is fixed: it never repeats a word of the request, of a path or of an exception.
The detail goes to the log, with the request id that the sentence carries. Whose fault it is decides
the level: a user's mistake is INFO, a source's WARNING, ours ERROR.
"""

import errno
import logging
from dataclasses import dataclass
from typing import Final

from cache.errors import (
    CacheError,
    FlightError,
    IndexUnavailable,
    LedElsewhere,
    NoFolder,
    NotStored,
    Paused,
    StoreBusy,
)
from edge.http.parser import ParseError
from edge.origin.errors import (
    BodyUnreadable,
    DocrootFailed,
    NotAllowed,
    OriginBroken,
    OriginDown,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    UnsendableRequest,
)
from edge.urls.derivative import BadUrl, NoPicture, NotExpressible
from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    MarkUnusable,
    PictureBarred,
    PictureTooLarge,
    QueueFull,
    ResizerUnavailable,
    UnsupportedFormat,
    WorkerCrashed,
)
from resizer.transform import BadTransform


class RequestError(Exception):
    """Base of the refusals that edge itself decides on. The text is for the log."""


class NotFound(RequestError):
    """Neither docroot nor origin has the original."""


class Gone(NotFound):
    """The origin says that it is gone for good."""


class MethodNotAllowed(RequestError):
    pass


class WidthNotAllowed(RequestError):
    """The width is no step of this site."""


class UnknownMark(RequestError):
    """The site has no watermark of this name."""


class UnknownHost(RequestError):
    """No site has this host and there is no default site."""


class TakenDown(RequestError):
    """An operator has taken the original down (cache/orders.py): refused until it is lifted."""


class BadPurge(RequestError):
    """A purge that contradicts itself, or asks for what is not to be had here. The text is one of
    a few fixed sentences: whoever may purge is told."""


class OriginSaidNo(RequestError):
    """The origin refused the original (401, 403, 451), or sent what is no answer to a GET."""


class BodyTooLarge(RequestError):
    """More than the site takes of a request's body."""


class LoopDetected(RequestError):
    """Via or CDN-Loop say that this request has been here before (RFC 8586)."""


class NotCached(RequestError):
    """only-if-cached, and it is not."""


class OriginChanged(RequestError):
    """The origin's answer changed between two looks at it. Whoever meets it looks once more."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """status, a token for Cache-Status and counters, the public sentence, the log level."""

    status: int
    detail: str
    sentence: str
    level: int


def _refusal(status: int, detail: str, sentence: str, level: int = logging.INFO) -> Refusal:
    return Refusal(status, detail, sentence, level)


# Searched along the method resolution order of an exception: the most particular class decides.
REFUSALS: Final[dict[type[BaseException], Refusal]] = {
    BadUrl: _refusal(400, "bad-url", "This address does not ask for a picture in a known way."),
    NoPicture: _refusal(415, "unsupported", "Only pictures can be asked for in other sizes."),
    NotExpressible: _refusal(
        400, "bad-url", "This address does not ask for a picture in a known way."
    ),
    UnsendableRequest: _refusal(400, "unsendable", "This address cannot be put to the origin."),
    BadTransform: _refusal(400, "bad-url", "This address asks for an impossible picture."),
    ImpossibleTransform: _refusal(
        400, "bad-transform", "This picture cannot be made in the way that was asked for."
    ),
    WidthNotAllowed: _refusal(
        400, "off-step", "This width is not served here; ask for one of the site's steps."
    ),
    UnknownMark: _refusal(400, "unknown-mark", "This site has no watermark of this name."),
    UnknownHost: _refusal(404, "unknown-host", "No site of this name is served here."),
    NotFound: _refusal(404, "not-found", "There is no picture at this address."),
    Gone: _refusal(410, "gone", "There is no picture at this address any more."),
    MethodNotAllowed: _refusal(405, "method", "This method is not allowed here."),
    BodyTooLarge: _refusal(413, "body-too-large", "This is more than can be sent here."),
    LoopDetected: _refusal(
        508, "loop", "This request has come back to where it was.", logging.WARNING
    ),
    NotCached: _refusal(504, "only-if-cached", "This is not in the cache."),
    TakenDown: _refusal(
        451, "taken-down", "This picture is unavailable for legal reasons.", logging.INFO
    ),
    NotAllowed: _refusal(403, "forbidden", "This file may not be read."),
    OriginSaidNo: _refusal(403, "forbidden", "The original may not be read."),
    UnsupportedFormat: _refusal(415, "unsupported", "The original is not a picture we can read."),
    CorruptPicture: _refusal(422, "corrupt", "The original is a damaged picture.", logging.WARNING),
    PictureTooLarge: _refusal(413, "too-large", "The original is too large to be resized."),
    PictureBarred: _refusal(422, "poison", "The original cannot be resized.", logging.WARNING),
    QueueFull: _refusal(
        503, "queue-full", "Too many pictures are being made; try again.", logging.WARNING
    ),
    DeadlineExceeded: _refusal(
        503, "deadline", "Making this picture took too long; try again.", logging.WARNING
    ),
    WorkerCrashed: _refusal(500, "crash", "Making this picture failed.", logging.ERROR),
    MarkUnusable: _refusal(
        503, "mark", "This picture cannot be marked at the moment; try again.", logging.ERROR
    ),
    ResizerUnavailable: _refusal(
        503, "resizer", "No picture can be made at the moment; try again.", logging.ERROR
    ),
    OriginTimeout: _refusal(
        504, "origin-timeout", "The original did not arrive in time.", logging.WARNING
    ),
    OriginRefused: _refusal(
        502, "origin-refused", "The original could not be fetched.", logging.WARNING
    ),
    OriginBroken: _refusal(
        502, "origin-broken", "The original could not be fetched.", logging.WARNING
    ),
    OriginTruncated: _refusal(
        502, "origin-truncated", "The original could not be fetched.", logging.WARNING
    ),
    OriginDown: _refusal(
        503, "origin-down", "The original cannot be fetched now; try again.", logging.WARNING
    ),
    OriginOverloaded: _refusal(
        503, "origin-overloaded", "The origin is busy; try again.", logging.WARNING
    ),
    OriginError: _refusal(502, "origin", "The original could not be fetched.", logging.WARNING),
    OriginChanged: _refusal(
        503, "changing", "The original is being changed; try again.", logging.WARNING
    ),
    BodyUnreadable: _refusal(
        503, "body", "This cannot be passed on at the moment; try again.", logging.ERROR
    ),
    DocrootFailed: _refusal(
        503, "docroot", "The original cannot be read at the moment; try again.", logging.ERROR
    ),
    StoreBusy: _refusal(503, "busy", "Too much is being done here; try again.", logging.WARNING),
    FlightError: _refusal(503, "busy", "Too much is being done here; try again.", logging.WARNING),
    LedElsewhere: _refusal(
        503, "led-elsewhere", "This is being made at another place; try again.", logging.WARNING
    ),
    CacheError: _refusal(
        503, "cache", "This cannot be answered at the moment; try again.", logging.ERROR
    ),
    IndexUnavailable: _refusal(
        503, "index", "This cannot be recorded at the moment; try again.", logging.ERROR
    ),
}
UNEXPECTED: Final = _refusal(500, "bug", "Something went wrong here.", logging.ERROR)
# Not a bug, and over when others are done: no descriptors are left, of ours or of the machine.
OUT_OF_FILES: Final = _refusal(
    503, "descriptors", "Too much is being done here; try again.", logging.ERROR
)
# What is counted by the reason, as far as it is a failure.
FAILURES: Final = tuple(
    sorted(
        {row.detail for row in (*REFUSALS.values(), UNEXPECTED, OUT_OF_FILES) if row.status >= 500}
    )
)


def level_of_unstored(error: NotStored) -> int:
    """Of a line about one answer. A state that was told of when it began is no news: while a disk
    is full for a night, a line for each picture would fill the next one."""
    return logging.DEBUG if isinstance(error, (Paused, NoFolder)) else logging.WARNING


_PARSE_SENTENCES: Final = {
    400: "This is not a request that we understand.",
    408: "The request did not arrive in time.",
    414: "This address is too long.",
    417: "What the request expects is not known here.",
    431: "The request's head is too large.",
    501: "This method is not known here.",
    505: "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
}

# What may be repeated later with hope; jitter keeps the repeaters apart.
RETRY_AFTER_STATUSES: Final = frozenset((429, 503))


def refusal_of(error: BaseException) -> Refusal:
    """The table's row for an exception; UNEXPECTED for one that nobody foresaw."""
    if isinstance(error, ParseError):
        sentence = _PARSE_SENTENCES.get(error.status, _PARSE_SENTENCES[400])
        return Refusal(error.status, "parse", sentence, logging.INFO)
    if isinstance(error, BadPurge):
        return Refusal(400, "bad-purge", str(error), logging.INFO)
    for kind in type(error).__mro__:
        refusal = REFUSALS.get(kind)
        if refusal is not None:
            return refusal
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return OUT_OF_FILES
    return UNEXPECTED
