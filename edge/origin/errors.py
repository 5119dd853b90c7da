"""What can go wrong on the way to an original, as facts; no status is known here.

OriginError              the origin's fault, or the way to it
|- OriginRefused         no connection: refused, no such socket, no such name, unreachable
|- OriginTimeout         nothing in time; carries the phase
|- OriginBroken          connected, and what came before the head was complete was no answer
|- OriginTruncated       the head was good and the body did not come to its end
`- OriginOverloaded      alive and full: try again after retry_after_s
   `- OriginDown         every host is held down, having failed lately
UnsendableRequest        the request's fault: it cannot be put to an origin unambiguously
BodyUnreadable           our own fault: the request's body, which is here, could not be read
DocrootError
|- NotAllowed            the name exists, or might, and is not to be served; carries why
`- DocrootFailed         the file system failed (EIO, ESTALE, EMFILE): says nothing of the file
"""

import enum


class OriginError(Exception):
    """Base of everything that an exchange with an origin raises. The text is for the log."""


class OriginRefused(OriginError):
    pass


class Phase(enum.StrEnum):
    """What was waited for when the time was up."""

    CONNECT = "connect"
    FIRST_BYTE = "first-byte"  # from the request to the end of the head
    PROGRESS = "progress"  # from one piece of the body to the next
    TOTAL = "total"


class OriginTimeout(OriginError):
    def __init__(self, message: str, phase: Phase) -> None:
        super().__init__(message)
        self.phase = phase


class OriginBroken(OriginError):
    """has_begun: at least one byte of an answer was read, so the request must not be repeated."""

    def __init__(self, message: str, *, has_begun: bool = True) -> None:
        super().__init__(message)
        self.has_begun = has_begun


class OriginTruncated(OriginError):
    pass


class OriginOverloaded(OriginError):
    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OriginDown(OriginOverloaded):
    pass


class UnsendableRequest(Exception):
    pass


class BodyUnreadable(Exception):
    pass


class DocrootError(Exception):
    """Base of everything that a docroot raises. The text is for the log."""


class Refusal(enum.StrEnum):
    """Why a docroot does not serve a name."""

    PATH = "path"  # no canonical path: "..", empty segment, NUL
    ESCAPE = "escape"  # a symbolic link leads out, or links are not allowed
    DIRECTORY = "directory"
    NOT_REGULAR = "not regular"  # FIFO, socket, device
    PERMISSION = "permission"


class NotAllowed(DocrootError):
    def __init__(self, message: str, why: Refusal) -> None:
        super().__init__(message)
        self.why = why


class DocrootFailed(DocrootError):
    pass
