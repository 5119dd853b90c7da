"""Response heads as bytes, built from checked tokens only, RFC 9112 section 4.

Nothing of a request is ever written into a field here; values that came from an origin pass
check_value() first.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from edge.remembered import remembered

REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    code: f"HTTP/1.1 {code} {reason}\r\n".encode() for code, reason in REASONS.items()
}
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# 204, 304 and 1xx have no body (RFC 9110 section 6.4.1).
BODILESS_STATUSES: Final = frozenset((204, 304))


class BadField(ValueError):
    """A field that must not be written: the name is no token or the value could end its line."""


def status_line(status: int) -> bytes:
    line = _STATUS_LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d \r\n" % status


def field_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    """Field lines with their CRLFs. Raises BadField."""
    return _field_lines(tuple(fields))


# What was checked and encoded a moment ago need not be again. Failures are not remembered.
@remembered(512, 2 * 1024 * 1024)
def _field_lines(fields: tuple[tuple[str, str], ...]) -> bytes:
    lines = []
    for name, value in fields:
        if not name or not _TOKEN.issuperset(name):
            raise BadField("field name is no token")
        if _CONTROL.search(value):
            raise BadField(f"control character in the value of {name}")
        lines.append(f"{name}: {value}\r\n")
    try:
        return "".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        raise BadField("character beyond latin-1 in a field value") from None
