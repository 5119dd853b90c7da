"""Who the client is behind proxies: X-Forwarded-For, and Forwarded of RFC 7239.

    X-Forwarded-For: 203.0.113.9, 10.0.0.7                 client, first proxy; the peer is the last
    Forwarded: for="[2001:db8::1]:4711";proto=https, for=10.0.0.7

1. Nothing is believed of a peer that is no trusted proxy.
2. Each proxy adds to the right who it was asked by. So the walk goes from the right, over trusted
   proxies, to the first address that is none: that is the client. All to its left is hearsay.
3. A hop that cannot be read ("unknown", "_hidden", nonsense) ends the walk where it is: the client
   is then the last proxy that could be named, for nobody left of it is vouched for.
4. Whatever a client writes must not hide what a proxy wrote to the right of it: else a long or
   broken field would make the client look like the proxy. Limits cut from the left, and Forwarded
   is read from the right too, although its quoted strings may hold commas.
5. One of the two fields counts, by setting. Most proxies write one and pass the other on as the
   client sent it.
"""

import enum
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from edge.http.ip import maybe_ip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Scheme = Literal["http", "https"]

# No chain of proxies is longer; Squid and CDNs together make three or four.
MAX_HOPS: Final = 32
# No head that edge/http/parser.py takes holds more. Less would let a client with a long Host push
# the address out of the element of a proxy that repeats Host in it.
MAX_FIELD_CHARS: Final = 32 * 1024
# Addresses whose trust is remembered: some 150 bytes each. What does not fit starts anew.
MAX_REMEMBERED: Final = 4096
# "[", an address, "]:" and a port, or an obfuscated identifier and one.
MAX_NODE_CHARS: Final = 64

# What edge/listener.py calls the peer on a Unix socket.
UNIX_PEER: Final = "unix"
UNKNOWN_PEER: Final = "unknown"

# RFC 7239 section 4, whose grammar allows no white space inside an element; it is taken around ";".
# A character decides each choice and what repeats inside a repetition is possessive, so a match is
# linear. Groups are not possessive: Python before 3.11.5 matches those wrongly.
_TCHARS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]++|\\[\t \x21-\x7e\x80-\xff])*"'
_PAIR: Final = re.compile(rf"[ \t]*({_TCHARS})=({_TCHARS}|{_QUOTED})[ \t]*(?:;|\Z)")
# A list member, last character first.
_MEMBER_BACKWARDS: Final = re.compile(r'(?:[^",]++|"(?:[^"]++|"\\)*")*')
_EMPTY_PAIR: Final = re.compile(r"[ \t]*(?:;|\Z)")
_ESCAPED: Final = re.compile(r"\\(.)")
# RFC 7239 section 6: a port, or an obfuscated one.
_NODE_PORT: Final = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)\Z")


class ForwardingField(enum.StrEnum):
    """Which field the trusted proxies write."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"


class _Hop:
    """An address and whether it is a trusted proxy's."""

    __slots__ = ("address", "is_trusted")

    def __init__(self, address: str, is_trusted: bool) -> None:
        self.address = address
        self.is_trusted = is_trusted


class TrustedProxies:
    """The setting: networks whose word is taken, and the field in which they give it.

    A peer on a Unix socket is trusted unless told otherwise: see NOTES.
    """

    __slots__ = ("_field", "_known", "_masks", "_unix")

    def __init__(
        self,
        networks: Iterable[Network],
        field: ForwardingField = ForwardingField.X_FORWARDED_FOR,
        *,
        unix: bool = True,
    ) -> None:
        # (version, network, mask) as integers: containment is one "and" and one comparison.
        self._masks = tuple(
            (network.version, int(network.network_address), int(network.netmask))
            for network in networks
        )
        self._field = field
        self._unix = _Hop(UNIX_PEER, unix)
        self._known: dict[str, _Hop] = {}

    def trusts(self, peer: str) -> bool:
        """Is this peer a trusted proxy?"""
        return self._peer(peer).is_trusted

    def client_of(self, peer: str, x_forwarded_for: str | None, forwarded: str | None) -> str:
        """The client's address in canonical text; UNIX_PEER where a Unix socket has no better."""
        hop = self._peer(peer)
        if not hop.is_trusted:
            return hop.address
        if self._field is ForwardingField.FORWARDED:
            return hop.address if forwarded is None else self._walk(hop, forwarded)[0].address
        if x_forwarded_for is None:
            return hop.address
        # The usual case: a proxy names one client.
        known = self._known.get(x_forwarded_for)
        if known is not None:
            return known.address
        for text in _list_from_right(x_forwarded_for):
            behind = self._hop(text)
            if behind is None:
                return hop.address
            hop = behind
            if not hop.is_trusted:
                break
        return hop.address

    def scheme_of(self, peer: str, x_forwarded_proto: str | None, forwarded: str | None) -> Scheme:
        """How the client asked. "http", as we are asked, where nobody trusted says otherwise.

        Of several X-Forwarded-Proto the last counts, which the peer wrote. In Forwarded it is the
        element at which the walk ends, whether it names the client or hides it.
        """
        hop = self._peer(peer)
        if not hop.is_trusted:
            return "http"
        if self._field is ForwardingField.FORWARDED:
            proto = "" if forwarded is None else self._walk(hop, forwarded)[1].get("proto", "")
        else:
            proto = next(_list_from_right(x_forwarded_proto or ""), "")
        return "https" if proto.lower() == "https" else "http"

    def _walk(self, hop: _Hop, forwarded: str) -> tuple[_Hop, Mapping[str, str]]:
        """Where the walk over Forwarded ends, and the last element that a trusted proxy wrote."""
        told: Mapping[str, str] = {}
        for told in _elements_from_right(forwarded):
            behind = self._hop(told["for"])
            if behind is None:
                break
            hop = behind
            if not hop.is_trusted:
                break
        return hop, told

    def _peer(self, peer: str) -> _Hop:
        known = self._known.get(peer)
        if known is not None:
            return known
        if peer == UNIX_PEER:
            return self._unix
        # The kernel names the interface of a link-local peer (fe80::1%eth0); networks do not.
        return self._hop(peer.partition("%")[0]) or _Hop(UNKNOWN_PEER, False)

    def _hop(self, node: str) -> _Hop | None:
        """What a proxy calls a node: an address, perhaps with a port. None: it names nobody."""
        known = self._known.get(node)
        if known is not None:
            return known
        if len(node) > MAX_NODE_CHARS:
            return None
        address = maybe_ip(_without_port(node))
        if address is None:
            return None
        number, version = int(address), address.version
        is_trusted = any(
            number & mask == network and version == of for of, network, mask in self._masks
        )
        hop = _Hop(str(address), is_trusted)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[node] = hop
        return hop


def _without_port(node: str) -> str:
    """192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:80; else "" or no IP."""
    host = _NODE_PORT.sub("", node) if node.count(":") == 1 or "]:" in node else node
    if not host.startswith("["):
        return host
    bare = host[1:-1]
    return bare if host.endswith("]") and ":" in bare else ""


def _bounded(field: str) -> str:
    """The last MAX_FIELD_CHARS, without the list member that the cut went through."""
    if len(field) <= MAX_FIELD_CHARS:
        return field
    return field[-MAX_FIELD_CHARS:].partition(",")[2]


def _list_from_right(field: str) -> Iterator[str]:
    """Members of a list, last first; empty ones are none (RFC 9110 section 5.6.1)."""
    members = _bounded(field).rsplit(",", MAX_HOPS)
    for member in members[: -MAX_HOPS - 1 : -1]:
        text = member.strip(" \t")
        if text:
            yield text


def _elements_from_right(field: str) -> Iterator[dict[str, str]]:
    """Elements of Forwarded, last first: their "for" and "proto", "" where there is none.

    From the right, a quote ends a string that begins at the next quote without a backslash before
    it: inside a string each has one, and before the first stands "=". So an element that a proxy
    wrote is found whole whatever stands left of it, a quote that was never closed for example.
    Ends, having given what was good, at what is no element.
    """
    backwards = _bounded(field)[::-1]
    at = 0
    for _ in range(MAX_HOPS):
        member = _MEMBER_BACKWARDS.match(backwards, at)
        assert member is not None  # it may be empty
        end = member.end()
        if end < len(backwards) and backwards[end] != ",":
            return  # a quote that opens nothing
        if member[0].strip(" \t"):
            element = _maybe_element(member[0][::-1])
            if element is None:
                return
            yield {name: _unquoted(element.get(name, "")) for name in ("for", "proto")}
        if end == len(backwards):
            return
        at = end + 1


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _maybe_element(text: str) -> dict[str, str] | None:
    """RFC 7239 section 4: pairs between semicolons, no name twice. Names in lower case."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            empty = _EMPTY_PAIR.match(text, at)
            if empty is None:
                return None
            at = empty.end()
            continue
        name, value = pair[1].lower(), pair[2]
        if name in found:
            return None
        found[name] = value
        at = pair.end()
    return found
