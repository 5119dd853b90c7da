"""Addresses of a Redis index: what is in them, and that no error quotes them."""

import pytest

from cache.index.address import (
    Alone,
    BadAddress,
    Cluster,
    Endpoint,
    Login,
    Sentinels,
    endpoint,
    parse_where,
)

A, B = Endpoint("a", 1), Endpoint("b", 2)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://a:1/0", Alone("redis://a:1/0")),
        ("rediss://u:p%40@a", Alone("rediss://u:p%40@a", Login("u", "p@"))),
        ("unix://:p@/run/r.sock?db=1", Alone("unix://:p@/run/r.sock?db=1", Login("", "p"))),
        ("redis+sentinel://a:1,b:2/f/3", Sentinels((A, B), "f", 3)),
        ("redis+sentinel://a/f", Sentinels((Endpoint("a", 26_379),), "f")),
        (
            "redis+sentinel://u:p%2F@a:1/f/0?sentinel_user=w&sentinel_password=s%26+%2B",
            Sentinels((A,), "f", 0, Login("u", "p/"), Login("w", "s& +")),
        ),
        ("redis+cluster://a:1,b:2", Cluster((A, B))),
        ("redis+cluster://:p@[::1],a:1/0", Cluster((Endpoint("::1", 6379), A), Login("", "p"))),
    ],
)
def test_addresses(url: str, where: object) -> None:
    assert parse_where(url) == where


@pytest.mark.parametrize(
    "url",
    [
        *("", "geheim", "geheim://a", "http://:geheim@a", "redis:a", "redis://[geheim"),
        *("redis+sentinel://:geheim@a", "redis+sentinel://a/f/geheim", "redis+sentinel:///f"),
        *("redis+sentinel://a/f?x=geheim", "redis+sentinel://a/f?geheim"),
        *("redis+cluster://", "redis+cluster://a:geheim", "redis+cluster://a,,geheim"),
        *("redis+cluster://a/1", "redis+cluster://a?geheim", "redis+cluster://a:0"),
        *("redis+cluster://a:65536", "redis+cluster://gehe im"),
    ],
)
def test_what_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_where(url)
    assert "geheim" not in str(caught.value)


def test_secrets_are_told_as_they_are_and_as_they_are_written() -> None:
    where = parse_where("redis+sentinel://:p%2F@a/f?sentinel_password=word")
    assert where.secrets == ("p%2F", "word", "p/")
    assert "word" not in repr(where)
    assert "p/" not in repr(where)
    assert "geheim" not in repr(parse_where("redis://:geheim@a"))
    assert parse_where("redis://a").secrets == ()


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 1), ("a b", 1), ("a\n", 1), ("x" * 254, 1), ("a/b", 1), ("a", 0), ("a", 65_536)],
)
def test_what_a_server_names_is_looked_at(host: str, port: int) -> None:
    with pytest.raises(ValueError, match="is no address"):
        endpoint(host, port)


def test_an_endpoint_is_shown_as_it_is_written() -> None:
    assert [str(A), str(Endpoint("fe80::1%eth0", 5))] == ["a:1", "[fe80::1%eth0]:5"]
