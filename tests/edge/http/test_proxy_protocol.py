"""Preambles: what is read, what is waited for, what is refused and how early."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.proxy_protocol import (
    INCOMPLETE,
    MAX_V1_BYTES,
    MAX_V2_LENGTH,
    SIGNATURE,
    V2_HEADER_BYTES,
    BadPreamble,
    Incomplete,
    Parsed,
    parse,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX = 0x11, 0x12, 0x21, 0x22, 0x31
V4 = bytes((203, 0, 113, 9, 198, 51, 100, 1)) + b"\xdc\x04\x01\xbb"
V6 = ipaddress.ip_address("2001:db8::7").packed + b"\x00" * 15 + b"\x01" + b"\xdc\x04\x01\xbb"
MAPPED = ipaddress.ip_address("::ffff:203.0.113.9").packed + V6[16:]
PATHS = b"/run/front.sock".ljust(108, b"\x00") * 2
FULL6 = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def v1(line: bytes) -> bytes:
    return b"PROXY " + line + b"\r\n"


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


READ = [
    # version 1, usual
    (v1(b"TCP4 203.0.113.9 198.51.100.1 56324 443"), "203.0.113.9"),
    (v1(b"TCP6 2001:db8::7 ::1 56324 443"), "2001:db8::7"),
    # version 1, edge
    (v1(b"TCP4 0.0.0.0 255.255.255.255 0 65535"), "0.0.0.0"),
    (v1(b"TCP6 2001:DB8:0:0:0:0:0:7 ::1 1 1"), "2001:db8::7"),
    (v1(b"TCP6 ::ffff:203.0.113.9 ::ffff:198.51.100.1 1 1"), "203.0.113.9"),
    (v1(b"TCP6 " + FULL6 + b" " + FULL6 + b" 65535 65535"), FULL6.decode()),
    (v1(b"UNKNOWN"), None),
    (v1(b"UNKNOWN "), None),
    (v1(b"UNKNOWN anything \x00\xff at all"), None),
    (v1(b"UNKNOWN " + FULL6 + b" " + FULL6 + b" 65535 65535"), None),  # the longest line
    # version 2, usual
    (v2(PROXY, TCP4, V4), "203.0.113.9"),
    (v2(PROXY, TCP6, V6), "2001:db8::7"),
    (v2(LOCAL, 0, b""), None),
    # version 2, edge
    (v2(PROXY, UDP4, V4), "203.0.113.9"),
    (v2(PROXY, UDP6, V6), "2001:db8::7"),
    (v2(PROXY, TCP6, MAPPED), "203.0.113.9"),
    (v2(PROXY, UNIX, PATHS), None),
    (v2(PROXY, 0x32, PATHS), None),
    (v2(PROXY, 0x00, b""), None),
    (v2(PROXY, 0x00, b"what is this"), None),
    (v2(PROXY, 0x01, b""), None),  # unspecified family
    (v2(PROXY, 0x10, V4), None),  # unspecified transport
    (v2(LOCAL, TCP4, V4), None),
    (v2(LOCAL, 0xFF, b"abc"), None),  # the block of LOCAL is discarded, family included
    # TLVs are skipped: ALPN, authority, a wrong CRC, and what is no TLV at all
    (v2(PROXY, TCP4, V4 + tlv(1, b"h2") + tlv(2, b"pics.example")), "203.0.113.9"),
    (v2(PROXY, TCP6, V6 + tlv(3, b"\x00" * 4) + tlv(4, b"")), "2001:db8::7"),
    (v2(PROXY, TCP4, V4 + b"\x01\xff\xff"), "203.0.113.9"),
    (v2(PROXY, TCP4, V4.ljust(MAX_V2_LENGTH, b"\x00")), "203.0.113.9"),
    # what follows may look like anything
    (v2(PROXY, TCP4, V4 + b"\r\n\r\n" + SIGNATURE), "203.0.113.9"),
]

# The first bytes after which no more can make a preamble of it: (bytes, how many are needed).
REFUSED = [
    # no preamble
    (REQUEST, 1),
    (b"PURGE / HTTP/1.1\r\n\r\n", 2),
    (b"\x16\x03\x01\x02\x00", 1),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3),
    (b"\r\n" + REQUEST, 3),
    (b" PROXY UNKNOWN\r\n", 1),
    (b"proxy unknown\r\n", 1),
    (b"PROXY\tUNKNOWN\r\n", 6),
    (b"PROXY\r\n", 6),
    (b"\x00", 1),
    # line ends
    (b"PROXY UNKNOWN\n" + REQUEST, 14),
    (b"PROXY UNKNOWN\r" + REQUEST, 15),
    (b"PROXY TCP4 203.0.113.9 198.51.100.1 1 1\n\r\n", 40),
    (b"PROXY TCP4 203.0.113.9 198.51.100.1 1 1\r\r\n", 41),
    (b"PROXY " + b"x" * 200, MAX_V1_BYTES),
    (b"PROXY UNKNOWN " + b"x" * (MAX_V1_BYTES - 15) + b"\r\n", MAX_V1_BYTES),
    # words of version 1
    *((v1(line), len(v1(line))) for line in (
        b"", b" ", b"UNKNOWNX", b" UNKNOWN", b"unknown", b"TCP4", b"TCP",
        b"UDP4 1.2.3.4 1.2.3.4 1 1", b"tcp4 1.2.3.4 1.2.3.4 1 1",
        b"TCP4 1.2.3.4 1.2.3.4 1", b"TCP4 1.2.3.4 1.2.3.4 1 1 1", b"TCP4 1.2.3.4 1.2.3.4 1 1 ",
        b"TCP4  1.2.3.4 1.2.3.4 1 1", b"TCP4 1.2.3.4\t1.2.3.4 1 1", b"TCP4 1.2.3.4 1.2.3.4  1",
        b"TCP4 1.2.3 1.2.3.4 1 1", b"TCP4 01.2.3.4 1.2.3.4 1 1", b"TCP4 1.2.3.4 1.2.3.256 1 1",
        b"TCP4 1.2.3.4 host 1 1", b"TCP4 ::1 ::1 1 1", b"TCP4 1.2.3.4 ::1 1 1",
        b"TCP6 1.2.3.4 1.2.3.4 1 1", b"TCP6 ::1 1.2.3.4 1 1", b"TCP6 [::1] ::1 1 1",
        b"TCP6 ::1%lo ::1 1 1", b"TCP6 1::2::3 ::1 1 1", b"TCP6 ::12345 ::1 1 1",
        b"TCP4 1.2.3.4 1.2.3.4 -1 1", b"TCP4 1.2.3.4 1.2.3.4 +1 1", b"TCP4 1.2.3.4 1.2.3.4 01 1",
        b"TCP4 1.2.3.4 1.2.3.4 1_0 1", b"TCP4 1.2.3.4 1.2.3.4 1 65536",
        b"TCP4 1.2.3.4 1.2.3.4 1 0x1", b"TCP4 1.2.3.4 1.2.3.4 1 99999999",
        b"TCP4 1.2.3.4 1.2.3.4 \xb2 1",
        b"TCP4 1.2.3.\xb2 1.2.3.4 1 1", b"TCP4 1.2.3.4\x00 1.2.3.4 1 1",
    )),
    # version 2: version, command, family, transport, length
    (SIGNATURE[:-1] + b"\r" + REQUEST, 12),
    (v2(0x11, TCP4, V4), 13),
    (v2(0x31, TCP4, V4), 13),
    (v2(0x22, TCP4, V4), 13),
    (v2(0x2F, TCP4, V4), 13),
    (v2(0x00, 0, b""), 13),
    (v2(PROXY, 0x41, V4), 14),
    (v2(PROXY, 0xF1, V4), 14),
    (v2(PROXY, 0x13, V4), 14),
    (v2(PROXY, 0x0F, b""), 14),
    (v2(PROXY, TCP4, V4[:-1]), 16),
    (v2(PROXY, TCP4, b""), 16),
    (v2(PROXY, TCP6, V6[:-1]), 16),
    (v2(PROXY, TCP6, V4), 16),
    (v2(PROXY, UNIX, PATHS[:-1]), 16),
    (v2(PROXY, TCP4, V4, MAX_V2_LENGTH + 1), 16),
    (v2(PROXY, 0, b"", 65_535), 16),
    (v2(LOCAL, 0, b"", MAX_V2_LENGTH + 1), 16),
]  # fmt: skip


def read(data: bytes) -> Parsed | Incomplete | None:
    try:
        return parse(data)
    except BadPreamble:
        return None


def check_read(preamble: bytes, address: str | None) -> None:
    """Whole, byte by byte, and with what a client sends behind it."""
    parsed = Parsed(address, len(preamble))
    assert parse(preamble) == parsed
    for end in range(len(preamble)):
        assert parse(preamble[:end]) is INCOMPLETE
    for behind in (b"\x00", REQUEST, preamble, b"\r\n", b"x" * 2000):
        assert parse(preamble + behind) == parsed


@pytest.mark.parametrize(("preamble", "address"), READ, ids=lambda v: repr(v)[:60])
def test_read(preamble, address):
    check_read(preamble, address)


def test_the_longest_line_is_the_specifications():
    assert max(len(preamble) for preamble, _ in READ if preamble.startswith(b"PROXY")) == 107


@pytest.mark.parametrize(("data", "needed"), REFUSED, ids=lambda v: repr(v)[:60])
def test_refused_as_soon_as_it_can_be(data, needed):
    for end in range(needed):
        assert parse(data[:end]) is INCOMPLETE
    for end in range(needed, len(data) + 1):
        assert read(data[:end]) is None
    assert read(data + REQUEST) is None


@given(st.ip_addresses(), st.data(), st.binary(max_size=40))
def test_round_trip(source, data, behind):
    version = source.version
    other = data.draw(st.ip_addresses(v=version))
    ports = data.draw(st.tuples(*[st.integers(0, 65_535)] * 2))
    mapped = version == 6 and source.ipv4_mapped
    address = str(mapped or source)
    line = v1(b"TCP%d %s %s %d %d" % (version, str(source).encode(), str(other).encode(), *ports))
    assert parse(line + behind) == Parsed(address, len(line))
    block = source.packed + other.packed + struct.pack("!HH", *ports)
    room = MAX_V2_LENGTH - len(block)
    transport = data.draw(st.sampled_from((1, 2)))
    tlvs = data.draw(st.binary(max_size=room))
    header = v2(PROXY, (0x10 if version == 4 else 0x20) + transport, block + tlvs)
    assert parse(header + behind) == Parsed(address, len(header))


STARTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])


@given(STARTS, st.binary(max_size=700))
def test_any_bytes_are_read_refused_or_waited_for(start, rest):
    data = start + rest
    outcome = read(data)
    if outcome is INCOMPLETE:
        assert len(data) < V2_HEADER_BYTES + MAX_V2_LENGTH
    if isinstance(outcome, Parsed):
        assert outcome.consumed <= len(data)
        assert read(data[: outcome.consumed]) == outcome
        assert read(data[: outcome.consumed - 1]) is INCOMPLETE
        assert outcome.address is None or str(ipaddress.ip_address(outcome.address))
    # What was refused stays refused, what was read stays read.
    if outcome is not INCOMPLETE:
        assert read(data + b"\r\n") == outcome
