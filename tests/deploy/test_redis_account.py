"""The account of Redis in docs/deploy.md may do all that a node asks for."""

import http.client
import http.server
import itertools
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.peers.node import Node, node, quote, until
from tests.peers.redis import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    try:
        yield server
    finally:
        server.close()


class Forgets(http.server.BaseHTTPRequestHandler):
    """A cache in front that has never had what it is told to forget."""

    def do_PURGE(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def front() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgets) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def account(repository: Path) -> list[str]:
    """ACL SETUSER as the page has it, with its password replaced."""
    text = (repository / "docs/deploy.md").read_text()
    match = re.search(r"redis-cli (acl setuser (?:.*\\\n)*.*)", text)
    assert match is not None
    return shlex.split(match[1].replace("\\\n", " ").replace("PASSWORD", "pw"))


def purge(edge: Node, fields: dict[str, str]) -> int:
    host, _, port = edge.admin.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("PURGE", "/a.png", headers=fields)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_account_may_do_what_a_node_asks_for(redis, front, repository, tmp_path):
    assert redis.command(*account(repository)) == b"+OK\r\n"
    originals = tmp_path / "originals"
    originals.mkdir()
    Image.new("RGB", (64, 48)).save(originals / "a.png")
    url = f"redis://halftone:pw@127.0.0.1:{redis.port}/0"
    text = (
        f'downstream = ["{front}"]\n[cache]\nindex = {quote(url)}\n'
        f'[[site]]\nroot = {quote(originals)}\ngrammars = ["query"]\ntags = {{ all = ["/"] }}\n'
    )
    with node(tmp_path, text) as edge:
        assert edge.get("/a.png?w=20").status == 200
        widths = itertools.count(21)

        def is_written() -> bool:
            """A write that a crowded machine was too slow for is lost: the next URL is asked for."""
            assert edge.get(f"/a.png?w={next(widths) % 1000}").status == 200
            return edge.metrics()['halftone_spellings_total{result="written"}'] > 0

        until(is_written, "URLs")
        for fields in (
            *({}, {"Soft-Purge": "1"}, {"Purge-Prefix": "/"}, {"Surrogate-Key": "all"}),
            *({"Dry-Run": "1"}, {"Takedown": "1"}, {"Takedown": "lift"}),
        ):
            assert purge(edge, fields) == 200, fields
            assert edge.get("/a.png?w=20").status == (451 if fields.get("Takedown") == "1" else 200)
        metrics = edge.metrics()
        assert metrics['halftone_index_failures_total{kind="failed"}'] == 0
    # Also what scripts only try (INFO), and what is of use only beside a cluster or sentinels.
    assert redis.command("ACL", "LOG") == b"*0\r\n"
    for words in (("ROLE",), ("WAIT", "0", "1"), ("CLUSTER", "SLOTS"), ("ASKING",)):
        assert b"NOPERM" not in redis.command("ACL", "DRYRUN", "halftone", *words)
    for words in (("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("GET", "other")):
        assert b"permission" in redis.command("ACL", "DRYRUN", "halftone", *words).lower(), words
