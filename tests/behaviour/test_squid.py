"""A real Squid in front of a whole node: what the farm relies on, one behaviour a test.

Tests share one pair, for a Squid takes two seconds to end. Each asks for widths of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.peers.node import Node, Reply, ask, node, quote
from tests.peers.squid import PROGRAM, squid

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="squid is not installed")


@dataclass(frozen=True)
class Pair:
    node: Node
    squid: str  # HOST:PORT

    def get(self, target: str, **fields: str) -> Reply:
        headers = {name.replace("_", "-"): text for name, text in fields.items()}
        return ask(self.squid, target, headers=headers)

    def asked(self) -> float:
        """Requests that reached the node."""
        return sum(
            number
            for name, number in self.node.metrics().items()
            if name.startswith("halftone_requests_total")
        )

    def answered(self, status: int) -> float:
        return self.node.metrics().get(f'halftone_requests_total{{status="{status}"}}', 0)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    picture = Image.radial_gradient("L").resize((1600, 900)).convert("RGB")
    for name in ("photo.jpg", "reload.jpg"):
        picture.save(folder / name)
    (folder / "notes.jpg").write_text("These are no pixels.\n")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, originals: Path) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("node")
    with (
        node(folder, f"[[site]]\nroot = {quote(originals)}\n") as edge,
        squid(edge.public) as front,
    ):
        yield Pair(edge, front.public)


def told(reply: Reply) -> str:
    """HIT or MISS, as Squid says."""
    return reply.headers["x-cache"].partition(" ")[0]


TARGETS = [
    "/photo.jpg",
    "/thumb/photo.jpg/220px-photo.jpg",
    "/vi/photo/hqdefault.jpg",
    "/photo.jpg?w=250",
    "/photo.jpg?w=250&fm=webp",
]


@pytest.mark.parametrize("target", TARGETS)
def test_the_second_time_comes_from_squids_memory(pair, target):
    before = pair.asked()
    first, second = pair.get(target), pair.get(target)
    assert (first.status, told(first)) == (200, "MISS")
    assert (second.status, told(second)) == (200, "HIT")
    assert pair.asked() == before + 1
    direct = pair.node.get(target)
    assert first.body == second.body == direct.body
    for name in ("etag", "content-type", "last-modified", "cache-control"):
        assert second.headers[name] == direct.headers[name]


def test_a_client_that_has_it_gets_304_from_squid(pair):
    whole = pair.get("/photo.jpg?w=301")
    before = pair.asked()
    for fields in (
        {"if_none_match": whole.headers["etag"]},
        {"if_modified_since": whole.headers["last-modified"]},
    ):
        reply = pair.get("/photo.jpg?w=301", **fields)
        assert (reply.status, reply.body) == (304, b"")
    assert pair.asked() == before


def test_a_reload_asks_the_node_which_says_304(pair):
    target = "/reload.jpg?w=302"
    first = pair.get(target)
    before, renders = pair.answered(304), pair.node.renders()
    reload = pair.get(target, cache_control="max-age=0")
    assert (reload.status, reload.body) == (200, first.body)
    assert reload.headers["etag"] == first.headers["etag"]
    assert pair.answered(304) == before + 1
    assert pair.node.renders() == renders


def test_purge_empties_squid_and_squid_alone(pair):
    target = "/photo.jpg?w=303"
    pair.get(target)
    assert told(pair.get(target)) == "HIT"
    renders = pair.node.renders()
    assert ask(pair.squid, target, "PURGE").status == 200
    assert ask(pair.squid, target, "PURGE").status == 404
    again = pair.get(target)
    assert (again.status, told(again)) == (200, "MISS")
    assert again.is_hit
    assert pair.node.renders() == renders


@pytest.mark.parametrize(
    ("target", "status"),
    [("/none.jpg", 404), ("/photo.jpg?w=0", 400), ("/notes.jpg?w=304", 415)],
)
def test_errors_are_not_kept(pair, target, status):
    for _ in range(2):
        reply = pair.get(target)
        assert (reply.status, told(reply)) == (status, "MISS")
        assert reply.headers["cache-control"] == "no-store"


def test_ranges_pass_and_are_cut_from_what_squid_has(pair):
    target = "/reload.jpg"
    whole = pair.node.get(target).body
    for _ in range(2):
        # Squid keeps no part, so each comes from the node.
        part = pair.get(target, range="bytes=100-199")
        assert (part.status, part.body, told(part)) == (206, whole[100:200], "MISS")
    assert pair.get(target).body == whole
    before = pair.asked()
    part = pair.get(target, range="bytes=-10")
    assert (part.status, part.body, told(part)) == (206, whole[-10:], "HIT")
    assert pair.asked() == before
