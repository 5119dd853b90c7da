"""One field line of an HTTP/1.1 answer, RFC 9112 section 5. Pure.

A line that begins with a space (obs-fold), a space before the colon, a name that is no token and
any control character in a value are refused: none of them reaches a client or a key.
"""

from edge.origin.errors import OriginBroken
from edge.origin.messages import FIELD_VALUE, TOKEN


def parse_field(line: bytes) -> tuple[str, str]:
    """Lower-case name and value, for a line without its CR LF. Raises OriginBroken."""
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or TOKEN.fullmatch(name) is None:
        raise OriginBroken(f"header line without a name: {line[:80]!a}")
    value = value.strip(" \t")
    if FIELD_VALUE.fullmatch(value) is None:
        raise OriginBroken(f"control character in {name:.80}: {value!a:.80}")
    return name.lower(), value
