"""Sockets, hosts, networks and indexes, as written."""

import pytest

from edge.settings.addresses import (
    ClusterIndex,
    EmbeddedIndex,
    RedisIndex,
    SentinelIndex,
    TcpAddress,
    UnixAddress,
    format_network,
    parse_address,
    parse_front_cache,
    parse_host_header,
    parse_index,
    parse_network,
    parse_peer,
    parse_site_host,
)
from edge.settings.units import BadValue


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("php1:9000", TcpAddress("php1", 9000)),
        ("my_app-1.internal:1", TcpAddress("my_app-1.internal", 1)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("[0:0::0:1]:65535", TcpAddress("::1", 65535)),  # canonical, so that equal is equal
        ("LOCALHOST:0", TcpAddress("localhost", 0)),
        ("unix:/run/php.sock", UnixAddress("/run/php.sock")),
        # hostile
        ("8080", None),
        (":8080", None),
        ("::1:8080", None),
        ("127.0.0.1", None),
        ("127.0.0.1:", None),
        ("127.0.0.1:65536", None),
        ("127.0.0.1:-1", None),
        ("127.0.0.1:８０", None),
        ("127.0.0.256:80", None),
        ("127.1:80", None),  # inet_aton's short forms are no one's intention
        ("[::1:80", None),
        ("[fe80::1%eth0", None),
        ("a b:80", None),
        ("a/b:80", None),
        ("http://a:80", None),
        ("münchen:80", None),
        ("a\n:80", None),
        ("unix:run/php.sock", None),
        ("unix:/run/a\x00b", None),
        ("unix:/" + "x" * 107, None),
        ("x" * 64 + ":80", None),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress | None) -> None:
    if address is None:
        with pytest.raises(BadValue):
            parse_address(text)
    else:
        assert parse_address(text) == address
        assert parse_address(str(address)) == address


def test_a_peer_has_a_port() -> None:
    with pytest.raises(BadValue, match="port 0"):
        parse_peer("app:0")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Img.Example.org", "img.example.org"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("http://img.example.org", None),
        ("img.example.org/", None),
        ("img.example.org:80", None),
        ("*.example.org", None),
        ("", None),
        ("-a", None),
        ("a..b", None),
        ("a\r\nb", None),
        ("bücher.example", None),
    ],
)
def test_site_hosts(text: str, host: str | None) -> None:
    if host is None:
        with pytest.raises(BadValue):
            parse_site_host(text)
    else:
        assert parse_site_host(text) == host


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1/32", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("10.0.0.1/8", None),  # host bits: the hint says 10.0.0.0/8
        ("10.0.0.0/33", None),
        ("10.0.0", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_networks(text: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(BadValue):
            parse_network(text)
    else:
        assert format_network(parse_network(text)) == shown


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("embedded", EmbeddedIndex()),
        ("redis://redis:6379/0", RedisIndex(TcpAddress("redis", 6379))),
        ("redis://redis", RedisIndex(TcpAddress("redis", 6379))),
        ("redis://[::1]:7000/3", RedisIndex(TcpAddress("::1", 7000), 3)),
        ("rediss://u:p%40ss@redis/1", RedisIndex(TcpAddress("redis", 6379), 1, True, "u", "p@ss")),
        ("redis://:secret@redis", RedisIndex(TcpAddress("redis", 6379), password="secret")),
        ("unix:///run/redis.sock", RedisIndex(UnixAddress("/run/redis.sock"))),
        ("unix:///run/redis.sock?db=2", RedisIndex(UnixAddress("/run/redis.sock"), 2)),
        ("redis+sentinel://a/farm", SentinelIndex((TcpAddress("a", 26379),), "farm")),
        (
            "redis+sentinel://u:p%2C%40@a,b:1,[::1]:2/my.farm_1/3?sentinel_password=s%26&sentinel_user=w",
            SentinelIndex(
                (TcpAddress("a", 26379), TcpAddress("b", 1), TcpAddress("::1", 2)),
                *("my.farm_1", 3, "u", "p,@", "w", "s&"),
            ),
        ),
        (
            "redis+sentinel://:s@10.0.0.1/f/0",
            SentinelIndex((TcpAddress("10.0.0.1", 26379),), "f", password="s"),
        ),
        ("redis+cluster://a", ClusterIndex((TcpAddress("a", 6379),))),
        ("redis+cluster://a:1,b:2/0", ClusterIndex((TcpAddress("a", 1), TcpAddress("b", 2)))),
        (
            "redis+cluster://u:p%2F@[::1],B",
            ClusterIndex((TcpAddress("::1", 6379), TcpAddress("b", 6379)), "u", "p/"),
        ),
        # hostile
        ("sqlite", None),
        ("http://redis", None),
        ("redis://", None),
        ("redis:///0", None),
        ("redis://redis/x", None),
        ("redis://redis/-1", None),
        ("redis://redis:99999/0", None),
        ("redis://redis/0?ssl=no", None),
        ("redis://redis/0#x", None),
        ("unix://run/redis.sock", None),
        ("unix:///run/redis.sock?x=1", None),
        ("redis://[::1/0", None),
        *(
            (f"redis+sentinel://{rest}", None)
            for rest in (
                *("", "a", "a/", "a,b", "a,b/", "a/f/x", "a/f/-1", "a/f/1/2", "/f", ",a/f", "a,/f"),
                *("a:0/f", "a:65536/f", "a:x/f", "a:/f", "::1/f", "[::1/f", "a,a/f", "a/f?db=1"),
                *(
                    "a/f?sentinel_password=a&sentinel_password=b",
                    "a/f#x",
                    "a/f o",
                    "a b/f",
                    "a/%66",
                ),
                *("u:p/w@a/f", "u:p?w@a/f"),
            )
        ),
        *(
            (f"redis+cluster://{rest}", None)
            for rest in (
                *(
                    "",
                    "/0",
                    "a/1",
                    "a?x=1",
                    "a,",
                    "a,,b",
                    "a:1,a:1",
                    "a:99999",
                    "u:p/w@a",
                    "@",
                    "a#",
                ),
            )
        ),
        ("redis+cluster:a", None),
        ("redis+other://a", None),
        ("rediss+cluster://a", None),
    ],
)
def test_indexes(text: str, index: object) -> None:
    if index is None:
        with pytest.raises(BadValue):
            parse_index(text)
        return
    parsed = parse_index(text)
    assert parsed == index
    assert parse_index(str(parsed) if isinstance(parsed, EmbeddedIndex) else parsed.url) == parsed


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("redis://u:hunter2@redis/0", "redis://u:hunter2@redis/x"),
        ("redis+cluster://u:hunter2@a,b", "redis+cluster://u:hunter2"),
        ("redis+cluster://:hunter2@a", "redis+cluster://u:hunter/hunter2@a"),
        (
            "redis+sentinel://:hunter2@a,b/f/0?sentinel_password=hunter2&sentinel_user=u",
            "redis+sentinel://a/f/0?sentinel_passwort=hunter2",
        ),
        ("redis+sentinel://u:hunter2@a/f", "redis+sentinel://u:hunter2@a:b/f"),
    ],
)
def test_a_password_is_never_shown(text: str, wrong: str) -> None:
    index = parse_index(text)
    assert "hunter2" not in str(index) + repr(index)
    with pytest.raises(BadValue) as caught:
        parse_index(wrong)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("http://squid1:3128", "http://squid1:3128"),
        ("htcp://squid2", "htcp://squid2:4827"),
        ("http://SQUID1/", "http://squid1:80"),
        ("http://[::1]", "http://[::1]:80"),
        ("htcp://[::1]:9", "htcp://[::1]:9"),
        # hostile
        ("squid1:3128", None),
        ("https://squid1:3128", None),
        ("HTTP://squid1", None),
        ("http://", None),
        ("http:///", None),
        ("http://squid1:0", None),
        ("http://squid1:3128/purge", None),
        ("http://user@squid1", None),
        ("http://::1:80", None),
        ("htcp://squid1:4827?x", None),
        ("http://a b", None),
        ("http://unix:/run/squid", None),
    ],
)
def test_caches_in_front(text: str, written: str | None) -> None:
    if written is None:
        with pytest.raises(BadValue):
            parse_front_cache(text)
    else:
        cache = parse_front_cache(text)
        assert str(cache) == written
        assert parse_front_cache(written) == cache


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("app.internal", "app.internal"),
        ("App.Internal:8080", "app.internal:8080"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("::1", "[::1]"),
        ("[0::1]", "[::1]"),
        ("[::1]:65535", "[::1]:65535"),
        # hostile
        ("", None),
        (":80", None),
        ("a:", None),
        ("a:0", None),
        ("a:65536", None),
        ("a:b", None),
        ("a:80:80", None),
        ("http://a", None),
        ("a/b", None),
        ("a b", None),
        ("a\r\nX: b", None),
        ("a,b", None),
        ("user@a", None),
        ("münchen", None),
    ],
)
def test_host_headers(text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(BadValue):
            parse_host_header(text)
    else:
        assert parse_host_header(text) == value
        assert parse_host_header(value) == value
