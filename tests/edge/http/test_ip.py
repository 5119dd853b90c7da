"""IP addresses as text: one spelling out, nothing that is not an address in."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.ip import MAX_IP_CHARS, maybe_ip

READ = [
    # usual
    ("203.0.113.9", "203.0.113.9"),
    ("2001:db8::1", "2001:db8::1"),
    # several spellings, one text (RFC 5952)
    ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("::FFFF:c000:0201", "192.0.2.1"),
    ("::192.0.2.1", "::c000:201"),  # not the mapped form
    # edge
    ("0.0.0.0", "0.0.0.0"),
    ("255.255.255.255", "255.255.255.255"),
    ("::", "::"),
    ("0000:0000:0000:0000:0000:ffff:255.255.255.255", "255.255.255.255"),
]
NO_ADDRESS = [
    *("", " ", ".", ":", ":::", "a", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", "256.1.1.1", "1.2.3.-4"),
    *("01.2.3.4", "0x1.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "1.2.3.4/32", "1.2.3.4:80"),
    *("1_0.2.3.4", "+1.2.3.4", "\u0661.2.3.4", "\xb2.2.3.4", "3405803785"),
    *("[::1]", "::1%eth0", "fe80::1%", "::1/128", "1::2::3", "12345::", "::g", ":1", "1:"),
    *("::1.2.3", "::01.2.3.4", "::1\n", "0" * 1000, "::" + "0" * MAX_IP_CHARS),
]


@pytest.mark.parametrize(("text", "canonical"), READ)
def test_read(text, canonical):
    assert str(maybe_ip(text)) == canonical


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_no_address(text):
    assert maybe_ip(text) is None


@given(st.ip_addresses())
def test_canonical_text_is_read_as_itself(address):
    found = maybe_ip(str(address))
    assert found is not None
    assert maybe_ip(str(found)) == found
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    assert found == (mapped or address)
