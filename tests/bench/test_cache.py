"""What the cache's benchmarks make of answers, times and texts; none of them takes place here."""

import json
import socket
import threading
from pathlib import Path

import pytest

from cache.disk import Disk
from tests.bench import cache_node, fastcgi, herd, purges, redis_hits, restart, sections
from tests.bench.crowd import Answer, CrowdError, body_length, checked, crowd, get, parse_head
from tests.bench.render_report import Figure
from tests.bench.server import ServerError, Setup
from tests.bench.stats import Sample


def answer(
    asked_at: float, began_at: float, ended_at: float, timing: str = "", status: int = 200
) -> Answer:
    fields = {"server-timing": timing, "cache-status": "n; fwd=uri-miss"} if timing else {}
    return Answer(status, fields, b"x", asked_at, began_at, ended_at)


# The crowd


HEADS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:b", (200, {"content-length": "3", "x-a": "b"})),
    (b"HTTP/1.1 503 Service Unavailable", (503, {})),
    (b"HTTP/1.0 200 OK", None),
    (b"HTTP/1.1 abc", None),
    (b"", None),
]


@pytest.mark.parametrize(("head", "expected"), HEADS)
def test_head_of_an_answer(head: bytes, expected: tuple[int, dict[str, str]] | None) -> None:
    if expected is None:
        with pytest.raises(CrowdError, match="no answer"):
            parse_head(head)
        return
    assert parse_head(head) == expected


@pytest.mark.parametrize("text", [None, "", "many", "-1"])
def test_a_body_without_length(text: str | None) -> None:
    with pytest.raises(CrowdError, match="Content-Length"):
        body_length({} if text is None else {"content-length": text})


def serve(listener: socket.socket, connections: int) -> threading.Thread:
    """Echoes the target of each request as its body, byte by byte, until its client leaves."""

    def talk(client: socket.socket) -> None:
        with client:
            while data := client.recv(65_536):
                target = data.split(b" ")[1]
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (
                    len(target),
                    target,
                ):
                    client.sendall(bytes((byte,)))

    def accept() -> None:
        talks = []
        for _ in range(connections):
            talks.append(threading.Thread(target=talk, args=(listener.accept()[0],)))
            talks[-1].start()
        for one in talks:
            one.join()

    thread = threading.Thread(target=accept)
    thread.start()
    return thread


def test_every_request_has_its_own_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = serve(listener, 3)
        with crowd(listener.getsockname()[1], 3) as clients:
            targets = [f"/{number}" for number in range(20)]
            answers = clients.ask([get(target) for target in targets])
        thread.join()
    assert [one.body.decode() for one in answers] == targets
    assert all(one.asked_at <= one.began_at <= one.ended_at for one in answers)


def test_a_server_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        # A reset, where the request came after the end.
        with (
            pytest.raises((CrowdError, ConnectionError)),
            crowd(listener.getsockname()[1], 1) as clients,
        ):
            clients.ask([get("/")])
        thread.join()


def test_not_all_is_well() -> None:
    good, bad = answer(0, 1, 2), answer(0, 1, 2, status=503)
    assert checked([good], "it") == [good]
    with pytest.raises(CrowdError, match="it: answered 503"):
        checked([good, bad], "it")


# Herd


def test_the_render_ends_between_two_bounds() -> None:
    timing = "queue;dur=5.0, source;dur=1.0, render;dur=12.5"
    found = herd.judge(
        "docroot",
        [answer(10.0, 10.030, 10.031, timing), answer(10.001, 10.032, 10.050, timing)],
        renders=1,
        fetches=0,
    )
    assert found.slowest_ms == pytest.approx(50)
    assert found.at_most_ms == pytest.approx(37.5)
    assert found.at_least_ms == pytest.approx(20)
    assert found.waited == 2


def test_the_slowest_may_have_had_a_hit() -> None:
    found = herd.judge(
        "docroot",
        [answer(10.0, 10.01, 10.02, "render;dur=4.0"), answer(10.0, 10.02, 10.03)],
        renders=1,
        fetches=0,
    )
    assert (found.render_ms, found.waited) == (4.0, 1)
    with pytest.raises(CrowdError, match="tells the time"):
        herd.judge("docroot", [answer(0, 1, 2)], 0, 0)


def round_of(kind: str, renders: float, fetches: int, at_most_ms: float) -> herd.Round:
    return herd.Round(kind, renders, fetches, 500, 9.0, at_most_ms + 9, at_most_ms, 10.0)


@pytest.mark.parametrize(
    ("rounds", "met"),
    [
        ([("docroot", 1, 0, 60), ("docroot", 1, 0, 99), ("origin", 1, 1, 70)], [True] * 4),
        ([("docroot", 1, 0, 60), ("docroot", 1, 0, 101)], [True, False]),  # the worst decides
        ([("docroot", 1, 0, 60), ("docroot", 2, 0, 60)], [False, True]),
        ([("origin", 1, 1, 60), ("origin", 1, 2, 60)], [False, True]),
    ],
)
def test_figures_of_the_herd(rounds: list[tuple[str, float, int, float]], met: list[bool]) -> None:
    found = herd.section([round_of(*one) for one in rounds], 1_000)
    assert [figure.is_met for figure in found.figures] == met


# Purges


def test_variants_are_all_different() -> None:
    found = purges.variants("/a.jpg", 500)
    assert len(set(found)) == 500
    with pytest.raises(ValueError, match="can be asked for"):
        purges.variants("/a.jpg", 10**6)


def test_p95_decides_about_purges() -> None:
    times = [1.0] * 18 + [4.0, 9.0]
    made = [purges.Purge(home, "source", 50, ms, 50) for home in purges.HOMES for ms in times]
    made += [purges.Purge("embedded", "tag", 100, 30.0, 100)]
    found = purges.section(made, [0.5, 0.7], 10_000)
    assert [figure.is_met for figure in found.figures] == [True, True]
    assert found.figures[0].measured == "1.0, 4.0 ms"
    assert [row[1] for row in found.rows] == [
        "50 derivatives",
        "by tag, 100 of 10,000 sources",
        "50 derivatives",
    ]
    slow = [purges.Purge("embedded", "source", 1, ms, 1) for ms in [1.0] * 9 + [6.0] * 2]
    assert [figure.is_met for figure in purges.section(slow, [0.5], 1).figures] == [False]


def test_times_of_the_disk(tmp_path: Path) -> None:
    found = purges.sync_times(str(tmp_path))
    assert len(found) == purges.SYNCS
    assert min(found) > 0


# Redis


def test_commands_of_redis() -> None:
    info = b"$99\r\n# Stats\r\ntotal_connections_received:7\r\ntotal_commands_processed:41\r\n"
    assert redis_hits.commands_in(info) == 41
    with pytest.raises(ServerError):
        redis_hits.commands_in(b"-ERR\r\n")


@pytest.mark.parametrize(("stopped_us", "is_met"), [(10.1, True), (9.0, True), (11.0, False)])
def test_hits_may_not_know_of_redis(stopped_us: float, is_met: bool) -> None:
    loads = [
        redis_hits.Load(number, state, us * (1 + number), 100_000, 900, told)
        for number in range(3)
        for state, us, told in (
            (redis_hits.RUNNING, 10.0, 6),
            (redis_hits.STOPPED, stopped_us, None),
            (redis_hits.KILLED, 10.0, None),
        )
    ]
    found = redis_hits.section(loads, 2.0)
    assert [figure.is_met for figure in found.figures] == [is_met, True]
    assert found.rows[0][-1] == "3.0; 60"
    assert found.rows[1][-1] == "-"


# Restart


def test_entries_are_written_as_a_node_reads_them(tmp_path: Path) -> None:
    restart.fill(str(tmp_path), 25)
    disk = Disk(str(tmp_path), 1 << 30, 1_000)
    assert sum(disk.scan()) == 25
    assert disk.stats.adopted == 25
    assert disk.stats.damaged == 0
    disk.close()


IMPORTS = """\
import time: self [us] | cumulative | imported package
import time:       150 |        150 |   zipimport
import time:     25000 |      31000 | edge.connection
Traceback (most recent call last):
"""


def test_imports_as_python_lists_them() -> None:
    assert list(restart.parse_imports(IMPORTS)) == [
        restart.Import("zipimport", 0.15, 0.15),
        restart.Import("edge.connection", 25.0, 31.0),
    ]


def test_a_start_is_told_from_both_beginnings() -> None:
    starts = [
        restart.Start(number, cache, 0.6, 0.61)
        for number in range(3)
        for cache in (restart.EMPTY, restart.FULL)
    ]
    found = restart.section(starts, 100_000, 20.0, [restart.Import("edge.slow", 25.0, 30.0)])
    assert [figure.is_met for figure in found.figures] == [False, True, False, True]
    assert "edge.slow 25" in found.about


# FastCGI


def test_nginx_passes_on_everything() -> None:
    gateway = fastcgi.Gateway(0, cache_node.Origin("/run/s", "/srv/a.php"))
    config = gateway.config(Setup("/srv", "/f", 10, 1, 20_000))
    assert "fastcgi_pass unix:/run/s;" in config
    assert config.count("{") == config.count("}")
    assert config.index("listen") < config.index("location /") < config.rindex("}")


@pytest.mark.parametrize(("node_us", "is_met"), [(70.0, True), (71.0, False)])
def test_figure_of_fastcgi(node_us: float, is_met: bool) -> None:
    load = {"rps": 1.0, "p50_us": 1.0, "p99_us": 1.0, "disturbed": 0.0}
    samples = [
        Sample(fastcgi.ONE, number, name, {**load, "cpu_us": us})
        for number in range(3)
        for name, us in (("node", node_us), ("nginx", 35.0))
    ]
    assert fastcgi.section(samples, fastcgi.ONE, 3, 1.0).figures[0].is_met is is_met


# Node and report


def test_the_node_is_told_of_redis_and_origin() -> None:
    setup = Setup("", "/f", 10, 1, 20_000)
    origin = cache_node.Origin("/run/s", "/srv/a.php")
    node = cache_node.CacheNode(0, redis="redis://127.0.0.1:1/0", origin=origin)
    config = node.config(setup)
    assert 'index = "redis://127.0.0.1:1/0"' in config
    assert 'hosts = ["unix:/run/s"]' in config
    assert "root" not in config
    assert "index" not in cache_node.CacheNode(0, root="/srv").config(setup)


def test_admin_port_and_metrics() -> None:
    line = "halftone: listening on http://127.0.0.1:1 admin http://127.0.0.1:40124\n"
    assert cache_node.admin_port_of(line) == 40124
    with pytest.raises(ServerError):
        cache_node.admin_port_of("halftone: listening\n")
    text = '# HELP a b\nhalftone_x{k="v w"} 3\nhalftone_y 0.5\n'
    assert cache_node.parse_metrics(text) == {'halftone_x{k="v w"}': 3.0, "halftone_y": 0.5}


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.95, 1.0), ([float(n) for n in range(1, 21)], 0.95, 19)],
)
def test_quantiles(values: list[float], part: float, expected: float) -> None:
    assert sections.quantile(values, part) == expected


@pytest.mark.parametrize(("values", "part"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.5)])
def test_no_quantile(values: list[float], part: float) -> None:
    with pytest.raises(ValueError):
        sections.quantile(values, part)


def test_a_report_tells_figures_first_and_keeps_the_raw(tmp_path: Path) -> None:
    section = sections.Section(
        "a", "Title of a", "How it was.", [Figure("f", "<= 1", "2", False)], ("x", "y"),
        [["1", "2"]], {"raw": [1, 2]},
    )  # fmt: skip
    report = sections.Report("Whole", {"commit": "0123abc"}, [section], ["b: broken"])
    paths = sections.save(report, str(tmp_path), "cache")
    assert [Path(path).name for path in paths] == ["cache.json", "cache.md"]
    text = Path(paths[1]).read_text()
    order = [
        "- commit: 0123abc",
        "- b: broken",
        "| f | <= 1 | 2 | no |",
        "How it was.",
        "| 1 | 2 |",
    ]
    assert sorted(order, key=text.index) == order
    raw = json.loads(Path(paths[0]).read_text())
    assert raw["sections"]["a"]["raw"] == [1, 2]
    assert len(sections.tables(report)) == 2
    with pytest.raises(ValueError, match="2 cells"):
        sections.Section("a", "", "", [], ("x", "y"), [["1"]], {})
