"""The status page of a whole node, whichever of its workers answers."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from tests.peers.node import Node, ask, node, quote, until
from tests.peers.redis import RedisServer
from tests.peers.sockets import refusing


def shown(edge: Node) -> Any:
    return json.loads(ask(edge.admin, "/status.json").body)


def seen_by(edge: Node, count: int) -> Any:
    """Asked again and again, on a connection each: any worker may answer."""
    return [shown(edge) for _ in range(count)]


def test_several_workers_and_origins(tmp_path: Path, originals: Path) -> None:
    hosts = [refusing() for _ in range(3)]
    with contextlib.closing(RedisServer()) as redis:
        configuration = (
            f'name = "edge7"\nworkers = 2\n[[origin]]\nname = "app"\n'
            f"hosts = [{quote(hosts[0])}, {quote(hosts[1])}]\nbackup = [{quote(hosts[2])}]\n"
            'script_filename = "/srv/index.php"\nprobe = "get-values"\nprobe_interval = "50ms"\n'
            f"[[site]]\nroot = {quote(originals)}\norigin = \"app\"\n"
            f"[cache]\nindex = {quote(redis.start().url)}\n"
        )  # fmt: skip
        with node(tmp_path, configuration) as edge:
            for _ in range(20):
                assert edge.get("/photo.jpg?w=220").status == 200
            assert edge.get("/none.jpg").status == 502

            def is_told() -> bool:
                """Others' numbers are a second old at the most."""
                (origin,) = shown(edge)["origins"]
                down = sum(
                    one["number"]
                    for host in origin["hosts"]
                    for one in host["states"]
                    if one["name"] == "held"
                )
                return shown(edge)["traffic"]["requests"] == 21 and down >= 2

            until(is_told, "every worker has told what it knows")
            for found in seen_by(edge, 6):
                assert found["name"] == "edge7"
                assert {one["slot"] for one in found["workers"]} == {"0", "1"}
                assert {int(one["pid"]) for one in found["workers"]} == set(edge.workers())
                assert found["traffic"]["requests"] == 21
                (origin,) = found["origins"]
                assert [host["name"] for host in origin["hosts"]] == list(map(str, hosts))
                assert [host["is_backup"] for host in origin["hosts"]] == [False, False, True]
                assert origin["probe"] == "get-values"
                for host in origin["hosts"]:
                    assert sum(one["number"] for one in host["states"]) == 2
                    assert host["checks_failed"] > 0
                assert any("origin app" in one["text"] for one in found["remarks"])
                limits = [one["limit"] for one in found["listeners"] if one["role"] == "public"]
                assert limits == [10_000]
            metrics = edge.metrics()
            found = shown(edge)
            for one in found["traffic"]["by_status"]:
                series = f'halftone_requests_total{{status="{one["name"]}"}}'
                assert metrics[series] == one["number"]
            for ratio in found["traffic"]["ratios"]:
                series = f'halftone_hit_ratio{{kind="{ratio["kind"]}",over="start"}}'
                assert metrics.get(series) == ratio["since_start"]
            html = ask(edge.admin, "/").body.decode()
            assert "<title>edge7: " in html
            for host in hosts:
                assert html.count(f'<th scope="row">{host}') == 1
            assert re.search(r"[▲◐] (held|probing)", html)
            head = ask(edge.admin, "/").headers
            assert "frame-ancestors 'none'" in head["content-security-policy"]
    assert "Traceback" not in "".join(edge.log)


def test_a_node_without_any_origin(tmp_path: Path, originals: Path) -> None:
    with node(tmp_path, f"[[site]]\nroot = {quote(originals)}\n") as edge:
        assert edge.get("/photo.jpg?w=220").status == 200
        found = shown(edge)
        assert (found["level"], found["origins"], found["downstream"]) == ("well", [], None)
        assert found["index"]["home"] == "embedded"
        assert [one["path"] for one in found["cache"]["folders"]] == [str(tmp_path / "cache")]
        assert found["traffic"]["requests"] == 1
        assert "No site asks one." in ask(edge.admin, "/").body.decode()
    assert "Traceback" not in "".join(edge.log)
