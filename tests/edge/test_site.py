"""Which site a Host means."""

import pytest

from edge.errors import UnknownHost
from edge.policy.steps import OffStep, Steps
from edge.site import Site, Sites


def site(name: str) -> Site:
    return Site(
        name=name,
        hosts=(name,),
        docroot=None,
        origin=None,
        grammars=(),
        extensions=(),
        prefix="",
        steps=Steps((), OffStep.ALLOW),
        max_age_s=1,
        cache_control="max-age=1",
        max_source_bytes=1,
    )


A, V6, DEFAULT = site("a.example"), site("::1"), site("*")
HOSTS = [
    (b"a.example", A),
    (b"A.EXAMPLE", A),
    (b"a.example:80", A),
    (b"a.example:", A),
    (b"a.example.", A),
    (b"a.example.:8080", A),
    (b"[::1]", V6),
    (b"[::1]:80", V6),
    (b"b.example", DEFAULT),
    (b"a.example.b", DEFAULT),
    (b"a.example:80x", DEFAULT),
    (b"a.example:\xb2", DEFAULT),  # a digit to Unicode, none to RFC 3986
    (b"", DEFAULT),  # HTTP/1.0
]


@pytest.mark.parametrize(("authority", "expected"), HOSTS)
def test_hosts(authority, expected):
    sites = Sites({"a.example": A, "::1": V6}, DEFAULT)
    assert sites.find(authority) is expected
    assert sites.find(authority) is expected  # from the table, too
    if expected is DEFAULT:
        with pytest.raises(UnknownHost) as error:
            Sites({"a.example": A}).find(authority)
        assert str(error.value).isascii()


def test_every_site_is_listed_once():
    assert Sites({"a": A, "b": A}, DEFAULT).all() == (A, DEFAULT)
    assert Sites({}).all() == ()


def test_spellings_are_bounded():
    sites = Sites({}, DEFAULT)
    for number in range(3000):
        sites.find(b"host%d" % number)
    assert len(sites._by_authority) == 1000
