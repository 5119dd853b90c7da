"""Clients behind proxies: who is believed, and that nothing written on the left changes it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.forwarded import (
    MAX_FIELD_CHARS,
    MAX_HOPS,
    MAX_NODE_CHARS,
    MAX_REMEMBERED,
    UNIX_PEER,
    UNKNOWN_PEER,
    ForwardingField,
    TrustedProxies,
)

NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "192.0.2.1/32", "fd00::/8")]
PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"
BYTES = "".join(map(chr, range(256)))  # a field's bytes, each as one character


def x_proxies(**more: bool) -> TrustedProxies:
    return TrustedProxies(NETWORKS, **more)


def rfc_proxies() -> TrustedProxies:
    return TrustedProxies(NETWORKS, ForwardingField.FORWARDED)


def x_client(value: str | None, peer: str = PROXY) -> str:
    """Asked twice of one instance: what it remembers must not change what it says."""
    proxies = x_proxies()
    found = proxies.client_of(peer, value, "for=198.51.100.66")
    assert proxies.client_of(peer, value, None) == found
    return found


def rfc_client(value: str | None, peer: str = PROXY) -> str:
    proxies = rfc_proxies()
    found = proxies.client_of(peer, "198.51.100.66", value)
    assert proxies.client_of(peer, None, value) == found
    return found


X_FORWARDED_FOR = [
    # usual
    (None, PROXY),
    ("203.0.113.9", CLIENT),
    ("203.0.113.9, 10.0.0.7", CLIENT),
    ("203.0.113.9,10.0.0.7,fd00::7, 192.0.2.1", CLIENT),
    # what a client wrote itself stands left of its address
    ("127.0.0.1, 203.0.113.9", CLIENT),
    ("10.0.0.9, 203.0.113.9, 10.0.0.7", CLIENT),
    # inside the farm: the farthest that is known
    ("10.0.0.9", "10.0.0.9"),
    ("10.0.0.9, 10.0.0.8", "10.0.0.9"),
    # spellings
    ("2001:DB8:0::1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("[2001:db8::1]:4711", "2001:db8::1"),
    ("203.0.113.9:4711", CLIENT),
    ("::ffff:203.0.113.9", CLIENT),
    ("203.0.113.9, ::ffff:10.0.0.7", CLIENT),
    ("203.0.113.9, 10.0.0.7:80", CLIENT),
    (" \t203.0.113.9\t ", CLIENT),
    ("203.0.113.9, , ,\t,10.0.0.7, ", CLIENT),  # empty members are none
    # a hop without a name ends the walk where it is
    ("", PROXY),
    (",", PROXY),
    ("unknown", PROXY),
    ("203.0.113.9, unknown, 10.0.0.7", "10.0.0.7"),
    ("203.0.113.9, unix:, 10.0.0.7", "10.0.0.7"),
    ("unix", PROXY),
    ("203.0.113.9, _hidden", PROXY),
    ("203.0.113.9 10.0.0.7", PROXY),
    ("203.0.113.9;10.0.0.7", PROXY),
    # hostile
    ("203.0.113.9\r\n", PROXY),
    ('"203.0.113.9"', PROXY),
    ("for=203.0.113.9", PROXY),
    ("203.0.113.09", PROXY),
    ("203.0.113.9%eth0", PROXY),
    ("fe80::1%eth0", PROXY),
    ("203.0.113.9:", PROXY),
    ("203.0.113.9:123456", PROXY),
    ("203.0.113.9:8_0", PROXY),
    ("203.0.113.9:80:80", PROXY),
    ("[203.0.113.9]", PROXY),
    ("[2001:db8::1", PROXY),
    ("2001:db8::1]", PROXY),
    ("[[2001:db8::1]]", PROXY),
    ("[2001:db8::1]4711", PROXY),
    ("[]", PROXY),
    ("[", PROXY),
    ("\xb2.0.113.9", PROXY),
    ("9" * MAX_NODE_CHARS, PROXY),
    ("9" * 30_000, PROXY),
    # however long the left is, the right is read
    ("9" * 30_000 + ", 203.0.113.9", CLIENT),
    ("9," * 15_000 + "203.0.113.9, 10.0.0.7", CLIENT),
    ("10.0.0.9, " * 3_000 + "203.0.113.9", CLIENT),
    # at most so many hops
    ("203.0.113.9" + ", 10.0.0.7" * (MAX_HOPS - 1), CLIENT),
    ("203.0.113.9" + ", 10.0.0.7" * MAX_HOPS, "10.0.0.7"),
    # a cut goes through no address: 203.0.113.9 must not become 3.0.113.9
    ("203.0.113.9,10.0.0.7".ljust(MAX_FIELD_CHARS), CLIENT),
    ("203.0.113.9,10.0.0.7".ljust(MAX_FIELD_CHARS + 2), "10.0.0.7"),
    (",".ljust(MAX_FIELD_CHARS + 2), PROXY),
]


@pytest.mark.parametrize(("value", "client"), X_FORWARDED_FOR, ids=lambda v: repr(v)[:60])
def test_x_forwarded_for(value, client):
    assert x_client(value) == client


@pytest.mark.parametrize(("value", "client"), X_FORWARDED_FOR, ids=lambda v: repr(v)[:60])
def test_an_untrusted_peer_is_the_client_itself(value, client):
    assert x_client(value, "198.51.100.7") == "198.51.100.7"
    assert x_client(value, "192.0.2.2") == "192.0.2.2"


FORWARDED = [
    # usual
    (None, PROXY),
    ("for=203.0.113.9", CLIENT),
    ("for=203.0.113.9, for=10.0.0.7", CLIENT),
    ("for=203.0.113.9;proto=https;by=10.0.0.7", CLIENT),
    ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
    ('proto=http;FOR="203.0.113.9:_port";host=pics.example', CLIENT),
    ("for=127.0.0.1, for=203.0.113.9,for=10.0.0.7", CLIENT),
    # spellings
    ('for="203.0.113.9"', CLIENT),
    (r'for="203.0.113\.9"', CLIENT),
    ("for=203.0.113.9; proto=https ;", CLIENT),
    (";;for=203.0.113.9;;", CLIENT),
    (" , for=203.0.113.9 ,, for=10.0.0.7,", CLIENT),
    ('for=203.0.113.9;host="a,b"', CLIENT),
    ('for=203.0.113.9;host=",,";x="\\",\\"", for=10.0.0.7;host=","', CLIENT),
    # names nobody
    ("", PROXY),
    ("for=unknown", PROXY),
    ("for=203.0.113.9, for=_hidden, for=10.0.0.7", "10.0.0.7"),
    ('for="_hidden:80"', PROXY),
    ("for=203.0.113.9, proto=https", PROXY),
    ('for=""', PROXY),
    # a comma in a string is no comma
    ('for=203.0.113.9;host="a,for=127.0.0.1"', CLIENT),
    (r'for=203.0.113.9;host="a,for=127.0.0.1;x=\""', CLIENT),
    (r'for=203.0.113.9;host="a,for=127.0.0.1;x=\"y;z=\"b"', CLIENT),
    (r'for=203.0.113.9;x="a,for=127.0.0.1;b\\"', CLIENT),
    # the client leaves a string open, or closes one that it did not open
    ('for=", for=203.0.113.9', CLIENT),
    ('for="127.0.0.1, for=203.0.113.9;host="a,b"', CLIENT),
    ('for=127.0.0.1;x="\\, for=203.0.113.9', CLIENT),
    # no element
    ("203.0.113.9", PROXY),
    ("for", PROXY),
    ("for=", PROXY),
    ("=203.0.113.9", PROXY),
    ("for =203.0.113.9", PROXY),
    ("for=203.0.113.9;for=127.0.0.1", PROXY),
    ("for=203.0.113.9;For=203.0.113.9", PROXY),
    ("for=203.0.113.9:80", PROXY),  # a colon asks for quotes
    ("for=[2001:db8::1]", PROXY),
    ('for="203.0.113.9', PROXY),
    ('for="203.0.113.9\\"', PROXY),
    ('for="203.0.113.9"x', PROXY),
    ('for="203.0.113.9\n"', PROXY),
    ("for=203.0.113.9 10.0.0.7", PROXY),
    ('for=127.0.0.1"for=203.0.113.9', PROXY),
    ('for=127.0.0.1", for="203.0.113.9', PROXY),
    ('for=127.0.0.1"for=10.0.0.9, for=10.0.0.7', "10.0.0.7"),
    # long
    ("x" * 30_000 + ", for=203.0.113.9", CLIENT),
    ('"' * 30_000 + ", for=203.0.113.9", CLIENT),
    ("for=10.0.0.9, " * 3_000 + "for=203.0.113.9", CLIENT),
    ("for=203.0.113.9" + ", for=10.0.0.7" * (MAX_HOPS - 1), CLIENT),
    ("for=203.0.113.9" + ", for=10.0.0.7" * MAX_HOPS, "10.0.0.7"),
    ('for=127.0.0.1, for=203.0.113.9;host="' + "," * 8_000 + '"', CLIENT),
    ('for=127.0.0.1, for=203.0.113.9;host="' + '\\"' * 8_000 + '"', CLIENT),
]


@pytest.mark.parametrize(("value", "client"), FORWARDED, ids=lambda v: repr(v)[:60])
def test_forwarded(value, client):
    assert rfc_client(value) == client
    assert rfc_client(value, "198.51.100.7") == "198.51.100.7"


PEERS = [
    ("10.0.0.1", True, "10.0.0.1"),
    ("11.0.0.1", False, "11.0.0.1"),
    ("192.0.2.1", True, "192.0.2.1"),
    ("192.0.2.0", False, "192.0.2.0"),
    ("::ffff:10.0.0.1", True, "10.0.0.1"),  # a dual-stack listener's spelling
    ("fd12::1", True, "fd12::1"),
    ("fe80::1%eth0", False, "fe80::1"),
    ("::a00:1", False, "::a00:1"),  # 10.0.0.1 as a number, but IPv6
    ("unknown", False, UNKNOWN_PEER),
    ("", False, UNKNOWN_PEER),
    ("a\nb", False, UNKNOWN_PEER),
]


@pytest.mark.parametrize(("peer", "is_trusted", "name"), PEERS)
def test_peers(peer, is_trusted, name):
    proxies = x_proxies()
    assert proxies.trusts(peer) is is_trusted
    assert proxies.client_of(peer, None, None) == name
    assert proxies.client_of(peer, CLIENT, None) == (CLIENT if is_trusted else name)
    assert proxies.scheme_of(peer, "https", None) == ("https" if is_trusted else "http")


def test_a_unix_peer_is_a_proxy_unless_the_setting_says_no():
    assert x_proxies().client_of(UNIX_PEER, None, None) == UNIX_PEER
    assert x_proxies().client_of(UNIX_PEER, CLIENT, None) == CLIENT
    assert x_proxies().client_of(UNIX_PEER, "203.0.113.9, 10.0.0.1", None) == CLIENT
    assert x_proxies(unix=False).client_of(UNIX_PEER, CLIENT, None) == UNIX_PEER
    assert x_proxies(unix=False).scheme_of(UNIX_PEER, "https", None) == "http"


def test_without_networks_nobody_is_believed():
    proxies = TrustedProxies(())
    for peer in ("127.0.0.1", "::1", PROXY):
        assert proxies.client_of(peer, CLIENT, f"for={CLIENT}") == peer


X_PROTO = [
    (None, "http"),
    ("https", "https"),
    ("HTTPS", "https"),
    ("http", "http"),
    (" https ", "https"),
    ("https, http", "http"),  # the peer's own word is the last
    ("http, https", "https"),
    ("", "http"),
    (",", "http"),
    ("https\r\nX: y", "http"),
    ("https://", "http"),
    ("wss", "http"),
    ("x" * 30_000 + ",https", "https"),
]


@pytest.mark.parametrize(("value", "scheme"), X_PROTO, ids=lambda v: repr(v)[:40])
def test_x_forwarded_proto(value, scheme):
    assert x_proxies().scheme_of(PROXY, value, "proto=https") == scheme
    assert x_proxies().scheme_of(CLIENT, value, None) == "http"


FORWARDED_PROTO = [
    (None, "http"),
    ("for=203.0.113.9;proto=https", "https"),
    ("for=203.0.113.9;proto=HTTPS", "https"),
    ('proto="https";for=203.0.113.9', "https"),
    ("for=203.0.113.9", "http"),
    # of the element that names the client, not of those before or behind it
    ("for=203.0.113.9;proto=https, for=10.0.0.7;proto=http", "https"),
    ("for=127.0.0.1;proto=https, for=203.0.113.9;proto=http", "http"),
    ("for=203.0.113.9;proto=http, for=10.0.0.7;proto=https", "http"),
    ("for=unknown;proto=http, for=10.0.0.7;proto=https", "http"),
    ("for=_hidden;proto=https", "https"),
    ("proto=https", "https"),
    ("nonsense, for=10.0.0.7;proto=https", "https"),
    ("for=203.0.113.9;proto=https://", "http"),
    ('for=203.0.113.9;proto="https\t"', "http"),
]


@pytest.mark.parametrize(("value", "scheme"), FORWARDED_PROTO)
def test_forwarded_proto(value, scheme):
    assert rfc_proxies().scheme_of(PROXY, "https", value) == scheme
    assert rfc_proxies().scheme_of(CLIENT, None, value) == "http"


def test_what_is_remembered_is_bounded_and_right_when_it_starts_anew():
    proxies = x_proxies()
    first = ipaddress.ip_address("198.18.0.0")
    for number in range(2 * MAX_REMEMBERED + 10):
        client = str(first + number)
        assert proxies.client_of(PROXY, client, None) == client
        assert len(proxies._known) <= MAX_REMEMBERED
    assert proxies.client_of(str(first), CLIENT, None) == str(first)


ADDRESSES = st.ip_addresses().map(str)
VALUES = st.text(BYTES, max_size=60)


@given(st.lists(st.sampled_from(["10.0.0.7", "fd00::7"]), max_size=5), ADDRESSES, VALUES)
def test_nothing_on_the_left_changes_who_the_proxies_name(behind, client, left):
    name = TrustedProxies(()).client_of(client, None, None)
    if x_proxies().trusts(client):
        return
    assert x_client(", ".join([left, client, *behind])) == name
    elements = [left, *(f'for="{"[" + a + "]" if ":" in a else a}"' for a in [client, *behind])]
    assert rfc_client(", ".join(elements)) == name


@given(
    VALUES,
    st.lists(
        st.tuples(st.from_regex("[a-z]{4,8}", fullmatch=True), st.text(BYTES[32:127] + BYTES[160:]))
    ),
)
def test_strings_of_an_element_change_nothing(left, pairs):
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    names = [name for name, _ in pairs]
    element = ";".join(["for=203.0.113.9", *(f"{name}={quoted(text)}" for name, text in pairs)])
    if len(set(names)) == len(names):
        assert rfc_client(f"{left},{element}") == CLIENT


@given(VALUES, VALUES)
def test_any_field_gives_an_address_or_the_peer(value, scheme):
    for client in (x_client(value), rfc_client(value)):
        assert str(ipaddress.ip_address(client)) == client
    assert x_proxies().scheme_of(PROXY, scheme, value) in ("http", "https")
    assert rfc_proxies().scheme_of(PROXY, scheme, value) in ("http", "https")
