"""The same bytes to a real Squid and to a node: nobody sees a request that another does not.

Squid writes anew what it forwards, and forgives more than we do, so it may take what a node refuses
when asked directly. What must be equal is the number of requests on the two sides of a connection:
one that a node took and whose answer came to nobody was smuggled.
"""

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.edge.http.heads import BODIES, REFUSED, SMUGGLED, get, head
from tests.peers.node import Node, node, quote
from tests.peers.squid import PROGRAM, squid

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="squid is not installed")

NAME = "differential"
# A node's own answers; Squid's errors do not name it, and later Squids name themselves as well.
OURS = re.compile(rb"\r\nCache-Status: (?:[^\r\n]*, )?" + NAME.encode() + b"[;\r]")
STATUS = re.compile(rb"^HTTP/1\.1 ([0-9]{3}) ", re.MULTILINE)
END = get(b"Connection: close").replace(b" / ", b" /end ")
TIMEOUT_S = 20


@dataclass(frozen=True)
class Pair:
    node: Node
    squid: str  # HOST:PORT

    def asked(self) -> float:
        """Requests that the node has answered or refused."""
        numbers = self.node.metrics().items()
        return sum(n for name, n in numbers if name.startswith("halftone_requests_total"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("node")
    originals: Path = tmp_path_factory.mktemp("originals")
    Image.new("RGB", (40, 30)).save(originals / "a.png")
    configuration = f"name = {quote(NAME)}\n[cache]\n[[site]]\nroot = {quote(originals)}\n"
    # Squid answers nothing by itself: each request is to cross.
    with (
        node(folder, configuration) as edge,
        squid(edge.public, "cache deny all\ncollapsed_forwarding off\n") as front,
    ):
        yield Pair(edge, front.public)


def say(where: str, data: bytes) -> bytes:
    """All that comes back until the other side closes or, as Squid does to bad chunks, resets."""
    host, _, port = where.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as sock:
        sock.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65_536):
                answer += part
        return answer


ROWS = [(name, data) for name, data, *_ in [*REFUSED, *BODIES]]


@pytest.mark.parametrize("data", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_squid_forwards_is_what_the_node_sees(pair, data):
    before = pair.asked()
    answer = say(pair.squid, data + SMUGGLED + END)
    assert len(OURS.findall(answer)) == pair.asked() - before


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[0])
def test_a_node_refuses_once_and_closes(pair, row):
    _, data, status = row
    before = pair.asked()
    answer = say(pair.node.public, data + SMUGGLED + END)
    assert STATUS.findall(answer) == [str(status).encode()]
    assert b"\r\nConnection: close\r\n" in answer
    assert pair.asked() == before + 1


@pytest.mark.parametrize("data", [row[1] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_node_answers_a_request_with_a_body_and_closes(pair, data):
    before = pair.asked()
    answer = say(pair.node.public, data + SMUGGLED + END)
    assert STATUS.findall(answer) == [b"405"]
    assert pair.asked() == before + 1


PIPELINES = [
    # name, bytes, how many requests both see
    ("one", b"", 1),
    ("three", get(b"X: a") + get(), 3),
    ("blank line between", get() + b"\r\n" + get(), 3),
    ("spaces around a value", get(b"X: \t a \t ") + get(b"X:"), 3),
    ("quoted ends of lines", get(b'X: "\\r\\n\\r\\nGET /smuggled HTTP/1.1"'), 2),
    ("CL 0", get(b"Content-Length: 0") + get(), 3),
    ("HTTP/1.0 kept", head(b"GET / HTTP/1.0", b"Connection: keep-alive") + get(), 3),
    ("absolute target", head(b"GET http://b/x HTTP/1.1", b"Host: a") + get(), 3),
    ("upgrade", get(b"Connection: upgrade", b"Upgrade: h2c") + get(), 3),
    ("picture", get().replace(b" / ", b" /a.png?w=20 ") + get(), 3),
]


@pytest.mark.parametrize(
    ("data", "count"), [r[1:] for r in PIPELINES], ids=[r[0] for r in PIPELINES]
)
def test_a_pipeline_is_as_long_for_squid_as_for_a_node(pair, data, count):
    for where in (pair.squid, pair.node.public):
        before = pair.asked()
        answer = say(where, data + END)
        assert len(OURS.findall(answer)) == count
        assert pair.asked() == before + count
