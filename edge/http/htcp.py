"""HTCP's CLR, RFC 2756: telling a cache by UDP to forget a URL. Pure.

    length(2) major(1) minor(1)                                         header, section 2.3
    length(2) opcode and response(1) flags(1) transaction(4) op-data    data, section 2.4
    length(2)                                                           authentication: none

A number has the network's order, a text is counted by two bytes before it. Flags are RR (1, a
reply) and F1 (2): in a request, that a reply is wanted; in a reply, that its response is about the
message and not about the URL. Opcode and response share a byte, the opcode in its upper half: so
has Squid read version 0.1 ever since. (Its 0.0, which MediaWiki speaks, has them the other way.)

The reply of CLR repeats nothing of the request but the transaction, so that must be unguessable.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Final

PORT: Final = 4827
MAX_TRANSACTION: Final = 2**32 - 1
# What one datagram holds over IPv4 (RFC 768, RFC 791): 65,535 bytes less their heads.
MAX_DATAGRAM_BYTES: Final = 65_507

_HEADER: Final = struct.Struct("!HBB")
_DATA: Final = struct.Struct("!HBBI")
_COUNT: Final = struct.Struct("!H")
_VERSION: Final = (0, 1)
_CLR: Final = 4
_RR: Final = 0x01
_F1: Final = 0x02
_NO_AUTHENTICATION: Final = _COUNT.pack(2)


class BadReply(ValueError):
    """Not an HTCP message that answers a CLR."""


class Verdict(enum.Enum):
    """What a cache says of the URL, RFC 2756 section 6.5."""

    FORGOTTEN = "forgotten"
    KEPT = "kept"  # it has it, and means to keep it
    ABSENT = "absent"
    REFUSED = "refused"  # it did not read the message, or the sender may not ask


_VERDICTS: Final = {0: Verdict.FORGOTTEN, 1: Verdict.KEPT, 2: Verdict.ABSENT}


@dataclass(frozen=True, slots=True)
class Reply:
    transaction: int
    verdict: Verdict


def build_clr(url: str, transaction: int) -> bytes:
    """A CLR that wants a reply. Raises ValueError for a URL that is not ASCII, or too long."""
    assert 0 <= transaction <= MAX_TRANSACTION
    raw = url.encode("ascii")
    # Section 6.5: two bytes, four bits of which are the reason (0: none given), then the specifier:
    # method, URI, version, request header.
    body = b"\0\0" + _counted(b"GET") + _counted(raw) + _counted(b"HTTP/1.1") + _counted(b"")
    data = _DATA.pack(_DATA.size + len(body), _CLR << 4, _F1, transaction) + body
    message = _HEADER.size + len(data) + len(_NO_AUTHENTICATION)
    if message > MAX_DATAGRAM_BYTES:
        raise ValueError(f"a URL of {len(raw)} bytes fits into no datagram")
    return _HEADER.pack(message, *_VERSION) + data + _NO_AUTHENTICATION


def parse_reply(datagram: bytes) -> Reply:
    """Raises BadReply."""
    if len(datagram) < _HEADER.size + _DATA.size:
        raise BadReply(f"{len(datagram)} bytes are no message")
    length, *version = _HEADER.unpack_from(datagram)
    if tuple(version) != _VERSION:
        raise BadReply("of another version than 0.1")
    if length != len(datagram):
        raise BadReply(f"{length} bytes announced, {len(datagram)} there")
    data, code, flags, transaction = _DATA.unpack_from(datagram, _HEADER.size)
    if not _DATA.size <= data <= length - _HEADER.size:
        raise BadReply("its data ends outside of it")
    if not flags & _RR:
        raise BadReply("a request")
    if code >> 4 != _CLR:
        raise BadReply(f"opcode {code >> 4}, not CLR")
    if flags & _F1:
        return Reply(transaction, Verdict.REFUSED)
    verdict = _VERDICTS.get(code & 0x0F)
    if verdict is None:
        raise BadReply(f"response {code & 0x0F} to a CLR")
    return Reply(transaction, verdict)


def _counted(text: bytes) -> bytes:
    try:
        return _COUNT.pack(len(text)) + text
    except struct.error:
        raise ValueError(f"{len(text)} bytes cannot be counted in two") from None
