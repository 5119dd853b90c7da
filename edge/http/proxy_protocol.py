"""The preamble of a proxied connection: HAProxy's PROXY protocol, versions 1 and 2. Pure.

Sections are those of proxy-protocol.txt in HAProxy's documentation.

    PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\\r\\n       version 1, section 2.1
    signature | version, command | family | length | addresses, TLVs     version 2, section 2.2

A listener either expects a preamble on every connection or on none: section 2 forbids to guess, for
whoever may choose can forge an address. So bytes without one are refused like a broken one, as
early as they differ. Who may send one at all is for the listener to decide: this file reads.

What a preamble says of the client is believed only for TCP and UDP over IP. LOCAL, UNKNOWN, UNSPEC
and Unix sockets (which section 2.2 lets a receiver treat as UNSPEC) leave the real peer in place.
"""

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from edge.http.ip import IpAddress, maybe_ip, unmapped

# Section 2.1: the longest line, CRLF included, is that of UNKNOWN with two full IPv6 addresses.
MAX_V1_BYTES: Final = 107
# Section 2: a header is to fit in 536 bytes, the least segment that every host takes. We allow as
# much behind the fixed part: room for the TLVs that clouds add, and far below the field's 65,535.
MAX_V2_LENGTH: Final = 536

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
V2_HEADER_BYTES: Final = 16

_V1: Final = b"PROXY "
_UNKNOWN: Final = b"UNKNOWN"
# No leading zeroes, section 2.1; above 65535 is left to a comparison.
_PORT: Final = re.compile(rb"(?:0|[1-9][0-9]{0,4})\Z")
_MAX_PORT: Final = 65_535

_VERSION_LOCAL: Final = 0x20
_VERSION_PROXY: Final = 0x21
_MAX_FAMILY: Final = 3  # UNSPEC, INET, INET6, UNIX
_MAX_TRANSPORT: Final = 2  # UNSPEC, STREAM, DGRAM
# Two addresses and two ports of each family; two paths for UNIX.
_BLOCK_BYTES: Final = (0, 12, 36, 216)


class BadPreamble(Exception):
    """What a connection began with is no preamble that section 2 allows: close it, unanswered."""


class Incomplete(enum.Enum):
    INCOMPLETE = "the preamble goes on"


INCOMPLETE: Final = Incomplete.INCOMPLETE


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole preamble of consumed bytes; what follows them is the client's.

    address is the client's in canonical text (edge/http/ip.py), None where the connection's own
    peer is the client.
    """

    address: str | None
    consumed: int


def parse(data: bytes) -> Parsed | Incomplete:
    """The preamble at the beginning of a connection. Raises BadPreamble.

    data is all that was received so far; after INCOMPLETE call again with more behind it. Never
    more than MAX_V2_LENGTH + V2_HEADER_BYTES bytes are asked for.
    """
    if data.startswith(_V1):
        return _parse_v1(data)
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    if _V1.startswith(data) or SIGNATURE.startswith(data):
        return INCOMPLETE
    raise BadPreamble("the connection does not begin with a preamble")


def _parse_v1(data: bytes) -> Parsed | Incomplete:
    line, end, _ = data[:MAX_V1_BYTES].partition(b"\r\n")
    # "The receiver must not tolerate a single CR or LF character to end the line."
    if b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise BadPreamble("CR or LF alone in the line")
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise BadPreamble(f"no CRLF in the first {MAX_V1_BYTES} bytes")
        return INCOMPLETE
    return Parsed(_v1_source(line.removeprefix(_V1)), len(line) + 2)


def _v1_source(line: bytes) -> str | None:
    protocol, *rest = line.split(b" ")
    # "For UNKNOWN [...] the receiver must ignore anything presented before the CRLF."
    if protocol == _UNKNOWN:
        return None
    if protocol not in (b"TCP4", b"TCP6"):
        raise BadPreamble("protocol is neither TCP4, TCP6 nor UNKNOWN")
    if len(rest) != 4:
        raise BadPreamble(f"{len(rest)} words behind the protocol where 4 must be")
    source, destination, *ports = rest
    client = _v1_address(source, protocol)
    _v1_address(destination, protocol)
    for port in ports:
        if _PORT.match(port) is None or int(port) > _MAX_PORT:
            raise BadPreamble("a port is no number from 0 to 65535")
    return str(client)


def _v1_address(word: bytes, protocol: bytes) -> IpAddress:
    # The family is that of the spelling: ::ffff:192.0.2.1 stands under TCP6.
    address = maybe_ip(word.decode("latin-1"))
    if address is None or (b":" in word) is not (protocol == b"TCP6"):
        raise BadPreamble(f"no address of {protocol.decode()}")
    return address


def _parse_v2(data: bytes) -> Parsed | Incomplete:
    # Each byte of the fixed part is judged as soon as it is there.
    command, family, transport = _VERSION_LOCAL, 0, 0
    if len(data) > len(SIGNATURE):
        command = data[12]
        if command not in (_VERSION_LOCAL, _VERSION_PROXY):
            raise BadPreamble(f"version and command are {command:#04x}")
    # "The receiver must [...] discard the protocol block including the family which is ignored."
    if command == _VERSION_PROXY and len(data) > 13:
        family, transport = data[13] >> 4, data[13] & 0x0F
        if family > _MAX_FAMILY or transport > _MAX_TRANSPORT:
            raise BadPreamble(f"family and transport are {data[13]:#04x}")
    if len(data) < V2_HEADER_BYTES:
        return INCOMPLETE
    length = int.from_bytes(data[14:16], "big")
    if length > MAX_V2_LENGTH:
        raise BadPreamble(f"{length} bytes are announced, {MAX_V2_LENGTH} are the most")
    if length < _BLOCK_BYTES[family]:
        raise BadPreamble(f"{length} bytes hold no addresses of family {family}")
    consumed = V2_HEADER_BYTES + length
    if len(data) < consumed:
        return INCOMPLETE
    # What stands behind the addresses are TLVs: none changes who the client is.
    return Parsed(_v2_source(family, transport, data[V2_HEADER_BYTES:consumed]), consumed)


def _v2_source(family: int, transport: int, block: bytes) -> str | None:
    if transport == 0:
        return None
    if family == 1:
        return str(ipaddress.IPv4Address(block[:4]))
    if family == 2:
        return str(unmapped(ipaddress.IPv6Address(block[:16])))
    return None
