"""What is sent and what is served: heads, pictures, cases, idle connections, configurations."""

import collections
import os
import random
from pathlib import Path

import pytest

from tests.bench import heads, idle, pictures
from tests.bench.cases import Case, Heads, cases, chosen, idle_connections
from tests.bench.node import Node, port_of
from tests.bench.peers import Lighttpd, Nginx, cached_files
from tests.bench.server import ServerError, Setup

PATHS = [f"/{number}.jpg" for number in range(10)]


def test_a_head_from_squid_has_twelve_headers() -> None:
    head = heads.squid_head("/a.jpg", random.Random(1))
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    assert first == "GET /a.jpg HTTP/1.1"
    assert len(lines) == 12
    names = [line.partition(": ")[0] for line in lines]
    assert len(set(names)) == 12
    assert "Cache-Control: max-age=259200" in lines
    assert head.count("\r\n\r\n") == 1
    assert "{" not in head  # every pattern was filled in


def test_heads_differ_and_ask_for_every_picture_equally() -> None:
    made = heads.squid_heads(PATHS, 400, seed=3)
    assert len(set(made)) == 400
    asked = collections.Counter(head.split(" ")[1] for head in made)
    assert asked == dict.fromkeys(PATHS, 40)
    assert [head.split(" ")[1] for head in made[:10]] != PATHS
    assert made == heads.squid_heads(PATHS, 400, seed=3)
    assert made != heads.squid_heads(PATHS, 400, seed=4)


def test_pool_is_taken_apart_as_it_was_made() -> None:
    made = [heads.short_head(path) for path in PATHS]
    assert heads.pool_text(made).split(b"\0") == [*(head.encode() for head in made), b""]


@pytest.mark.parametrize("size", [pictures.LEAST_BYTES, 3495, 5973, 1 << 20, (1 << 20) + 99])
def test_a_picture_has_its_size_and_its_own_bytes(size: int) -> None:
    one, other = pictures.picture(1, size), pictures.picture(2, size)
    assert len(one) == len(other) == size
    assert one != other
    assert one.startswith(pictures.MAGIC)
    assert one.endswith(pictures.END)
    assert one == pictures.picture(1, size)


def test_too_small_a_picture() -> None:
    with pytest.raises(ValueError, match="at least"):
        pictures.picture(1, pictures.LEAST_BYTES - 1)


def test_pictures_on_disk(tmp_path: Path) -> None:
    sizes = [40, 50, 60]
    paths = pictures.write(str(tmp_path), sizes)
    assert [os.path.getsize(str(tmp_path) + path) for path in paths] == sizes
    assert pictures.path_of(123_456) == "/123/456.jpg"


def test_cases_are_named_once_and_told() -> None:
    for quick in (True, False):
        every = cases(20_000, quick)
        assert len({case.name for case in every}) == len(every)
        assert all(case.about.endswith(".") for case in every)
    assert [case.name for case in chosen(cases(20_000, False), "small-sq")] == [
        "small-squid-3495",
        "small-squid-5973",
    ]
    assert chosen(cases(20_000, False), "nothing") == []


@pytest.mark.parametrize(
    ("descriptors", "quick", "expected"),
    [(200_000, False, 10_000), (200_000, True, 1_000), (20_000, False, 9_500)],
)
def test_idle_connections_fit_the_descriptors(descriptors: int, quick: bool, expected: int) -> None:
    assert idle_connections(descriptors, quick) == expected


def test_a_case_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="no files"):
        Case("c", "c", "c.", (), Heads.SQUID, 1)
    with pytest.raises(ValueError, match="one file"):
        Case("c", "c", "c.", (100, 100), Heads.BARE, 1)


LENGTHS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 12", 12),
    (b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:7\r\nDate: y", 7),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 12", None),
    (b"HTTP/1.1 200 OK\r\nServer: x", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: many", None),
    (b"", None),
]


@pytest.mark.parametrize(("head", "length"), LENGTHS)
def test_length_of_a_body(head: bytes, length: int | None) -> None:
    if length is not None:
        assert idle.body_length(head) == length
        return
    with pytest.raises(ValueError):
        idle.body_length(head)


def test_idle_connections_come_from_several_addresses() -> None:
    assert idle.source_of(0) == idle.source_of(2_499) == "127.0.0.2"
    assert idle.source_of(9_999) == "127.0.0.5"


@pytest.mark.parametrize(
    ("files", "connections", "kept"),
    [(1, 64, 1_025), (1_000, 10_000, 2_024), (10_000, 10_000, 0), (100_000, 64, 0)],
)
def test_open_files_are_cached_when_all_fit(files: int, connections: int, kept: int) -> None:
    assert cached_files(Setup("/r", "/f", connections, files, 20_000)) == kept


def test_configurations_switch_logs_off_for_peers_and_on_for_the_node() -> None:
    setup = Setup("/srv/r", "/srv/f", 64, 1, 20_000)
    large = Setup("/srv/r", "/srv/f", 64, 1, 20_000, large=True)
    assert "accesslog" not in Lighttpd(0).config(setup)
    assert "access_log off;" in Nginx(0).config(setup)
    assert "tcp_nopush on;" in Nginx(0).config(setup)
    assert "tcp_nopush off;" in Nginx(0).config(large)
    assert 'access = "/srv/f/access.log"' in Node(0).config(setup)
    for config in (Lighttpd(0).config(setup), Nginx(0).config(setup), Node(0).config(setup)):
        assert "/srv/r" in config


def test_ready_line_of_the_node() -> None:
    line = "halftone: listening on http://127.0.0.1:40123 admin http://127.0.0.1:40124\n"
    assert port_of(line) == 40123
    with pytest.raises(ServerError):
        port_of("halftone: listening on nothing\n")
