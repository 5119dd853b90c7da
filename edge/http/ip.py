"""IP addresses as text, RFC 3986 section 3.2.2: strict in, one canonical text out. Pure.

No zone (fe80::1%eth0), no mask, no leading zero, no digits but ASCII's. An IPv4 address in IPv6
form (::ffff:192.0.2.1, RFC 4291 section 2.5.5.2) is what a dual-stack socket calls an IPv4 client:
it is read as the IPv4 address, so that one client has one name and one network matches it.
"""

import ipaddress
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# "ffff:" six times and a dotted IPv4 address: no longer text is an address.
MAX_IP_CHARS: Final = 45


def maybe_ip(text: str) -> IpAddress | None:
    """The address, or None if text is not one."""
    if len(text) > MAX_IP_CHARS or "%" in text:
        return None
    try:
        if ":" not in text:
            return ipaddress.IPv4Address(text)
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    return unmapped(address)


def unmapped(address: ipaddress.IPv6Address) -> IpAddress:
    return address.ipv4_mapped or address
