"""A whole node before an HTTP/1.1 origin: what comes beside answers (RFC 9110 sections 6.5, 15.2),
expectations (section 10.1.1), and the Host that is sent on."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.peers.http import BODY, Behaviour, Seen, Website, chunked, website
from tests.peers.node import Node, node

FIRST = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
HINTS = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
    b"Connection: X-Hop\r\nX-Hop: 1\r\n\r\n"
)
PASSED_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SHARED = b"Cache-Control: max-age=600\r\n"
PRIVATE = b"Cache-Control: private\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
LARGE = bytes(range(256)) * 2000


def trailed(body: bytes, trailers: bytes, *fields: bytes) -> Behaviour:
    head = FIRST + b"".join(fields) + b"Transfer-Encoding: chunked\r\n\r\n"
    return Behaviour(head + chunked(body, 100_000, trailers))


@dataclass
class Edge:
    node: Node
    origin: Website

    def ask(self, target: str, *fields: bytes, method: str = "GET", minor: int = 1,
            body: bytes = b"") -> bytes:  # fmt: skip
        """All that comes back."""
        with self.connect() as sock:
            sock.sendall(head(target, *fields, method=method, minor=minor) + body)
            return rest_of(sock)

    def connect(self) -> socket.socket:
        host, _, port = self.node.public.rpartition(":")
        return socket.create_connection((host, int(port)), 10)

    def asides(self) -> dict[tuple[str, str], float]:
        found = self.node.metrics()
        return {
            (kind, result): found[
                f'halftone_shared_asides_total{{kind="{kind}",result="{result}"}}'
            ]
            for kind in ("interim", "trailer")
            for result in ("passed", "refused")
        }


def head(target: str, *fields: bytes, method: str = "GET", minor: int = 1) -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"Host: a", b"Connection: close", *fields))
    return f"{method} {target} HTTP/1.{minor}\r\n".encode() + lines + b"\r\n"


def rest_of(sock: socket.socket) -> bytes:
    answer = b""
    while piece := sock.recv(1 << 16):
        answer += piece
    return answer


def parts(answer: bytes) -> tuple[bytes, bytes, bytes]:
    """The interim answers, the final head, and the body as it was framed."""
    interim = b""
    while re.match(rb"HTTP/1\.1 1", answer):
        one, _, answer = answer.partition(b"\r\n\r\n")
        interim += one + b"\r\n\r\n"
    final, _, body = answer.partition(b"\r\n\r\n")
    return interim, final, body


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with website() as origin:
        configuration = (
            f'[[origin]]\nname = "app"\nkind = "http"\nhosts = ["{origin.address}"]\n'
            'keep_connections = 4\nhost_header = "app.internal:81"\n'
            '[[site]]\norigin = "app"\n'
        )
        with node(tmp_path_factory.mktemp("edge"), configuration) as started:
            yield Edge(started, origin)


# (name, what the origin says, method, fields, minor version, whether the first who asks gets the
# hints, whether the second does)
HINTED = [
    # (hit-for-miss: the first exchange might have been everybody's)
    ("private", FIRST + PRIVATE + LENGTH, "GET", (), 1, False, True),
    ("for one", FIRST + PRIVATE + LENGTH, "GET", (b"Authorization: a",), 1, True, True),
    ("no-store", FIRST + PRIVATE + LENGTH, "GET", (b"Cache-Control: no-store",), 1, True, True),
    ("a method", FIRST + LENGTH, "POST", (b"Content-Length: 0",), 1, True, True),
    ("head", FIRST + PRIVATE + LENGTH[: -len(BODY)], "HEAD", (b"Authorization: a",), 1, True, True),
    ("stored", FIRST + SHARED + LENGTH, "GET", (), 1, False, False),
    ("varies", FIRST + SHARED + b"Vary: x\r\n" + LENGTH, "GET", (), 1, False, False),
    # section 15.2: none for HTTP/1.0
    ("old client", FIRST + PRIVATE + LENGTH, "GET", (b"Authorization: a",), 0, False, False),
    ("old post", FIRST + LENGTH, "POST", (b"Content-Length: 0",), 0, False, False),
]


@pytest.mark.parametrize("row", HINTED, ids=[row[0] for row in HINTED])
def test_who_gets_interim_answers(edge: Edge, row) -> None:
    name, says, method, fields, minor, *expected = row
    target = f"/hinted/{name.replace(' ', '-')}"
    edge.origin.answers[target] = Behaviour(HINTS + CONTINUE + says)
    for gets in expected:
        interim, final, body = parts(edge.ask(target, *fields, method=method, minor=minor))
        assert interim == (PASSED_HINTS + CONTINUE if gets else b"")
        assert final.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == (b"" if method == "HEAD" else BODY)
        assert b"preload" not in final  # never merged into the answer


def test_an_interim_answer_does_not_wait_for_the_answer(edge: Edge) -> None:
    goes_on = threading.Event()
    pause = (len(HINTS), lambda: asyncio.to_thread(goes_on.wait, 10))
    edge.origin.answers["/early"] = Behaviour(HINTS + FIRST + LENGTH, pause=pause)
    with edge.connect() as sock:
        sock.sendall(head("/early", b"Content-Length: 0", method="POST"))
        assert sock.recv(1000) == PASSED_HINTS
        goes_on.set()
        assert rest_of(sock).endswith(BODY)


def test_who_waits_for_anothers_exchange_gets_none(edge: Edge) -> None:
    goes_on = threading.Event()
    pause = (len(HINTS), lambda: asyncio.to_thread(goes_on.wait, 10))
    edge.origin.answers["/joined"] = Behaviour(HINTS + FIRST + SHARED + LENGTH, pause=pause)
    socks = [edge.connect() for _ in range(4)]
    for sock in socks:
        sock.sendall(head("/joined"))
    # The first byte that any of them gets comes when the answer is there.
    socks[0].settimeout(0.1)
    with pytest.raises(TimeoutError):
        socks[0].recv(1)
    socks[0].settimeout(10)
    goes_on.set()
    for sock in socks:
        interim, _, body = parts(rest_of(sock))
        assert (interim, body) == (b"", BODY)
        sock.close()
    assert edge.origin.visits("/joined") == 1


def visited(seen: Seen) -> Behaviour:
    """Chosen by X; hints ahead of everything."""
    fields = PRIVATE if seen.field("x") == "own" else SHARED
    return Behaviour(HINTS + FIRST + fields + b"Vary: X\r\n" + LENGTH)


def test_a_variant_that_may_be_stored_brings_none(edge: Edge) -> None:
    edge.origin.answers["/chosen"] = visited
    for number in (b"1", b"1", b"2", b"2"):
        assert parts(edge.ask("/chosen", b"X: " + number))[0] == b""
    assert edge.origin.visits("/chosen") == 2
    # For one client, and where the next one would ask anew.
    assert parts(edge.ask("/chosen", b"X: 3", b"Authorization: a"))[0] == PASSED_HINTS
    for expected in (b"", PASSED_HINTS):
        assert parts(edge.ask("/chosen", b"X: own"))[0] == expected


REFUSED = {
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "control": b"HTTP/1.1 103 Early Hints\r\nLink: a\x01b\r\n\r\n",
    "split": b"HTTP/1.1 103 Early Hints\r\nLink: a\rSet-Cookie: b\r\n\r\n",
    "folded": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n b\r\n\r\n",
    "for ever": HINTS * 17,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_interim_answer_is_502(edge: Edge, name: str) -> None:
    target = f"/refused/{name.replace(' ', '-')}"
    edge.origin.answers[target] = Behaviour(REFUSED[name] + FIRST + LENGTH)
    interim, final, _ = parts(edge.ask(target, b"Content-Length: 0", method="POST"))
    assert final.startswith(b"HTTP/1.1 502 ")
    assert interim in (b"", PASSED_HINTS * 8)
    assert b"\x01" not in interim + final and b"Set-Cookie" not in interim + final


def test_no_more_interim_answers_than_a_few(edge: Edge) -> None:
    edge.origin.answers["/many"] = Behaviour(HINTS * 12 + FIRST + LENGTH)
    before = edge.asides()
    interim, _, body = parts(edge.ask("/many", b"Content-Length: 0", method="POST"))
    assert (interim, body) == (PASSED_HINTS * 8, BODY)
    after = edge.asides()
    told = {name: after[name] - before[name] for name in after}
    assert told == {
        ("interim", "passed"): 8, ("interim", "refused"): 4,
        ("trailer", "passed"): 0, ("trailer", "refused"): 0,
    }  # fmt: skip


LIVE = [
    (b"Content-Type: text/event-stream\r\n", b"Transfer-Encoding: chunked\r\n\r\n", True),
    (b"Content-Type: text/html\r\nX-Accel-Buffering: no\r\n", b"\r\n", False),  # up to the close
]


@pytest.mark.parametrize(("fields", "framing", "is_chunked"), LIVE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_made_while_it_is_read_is_not_collected(
    edge: Edge, method: str, fields: bytes, framing: bytes, is_chunked: bool
) -> None:
    """Each piece reaches the client before the next one exists."""
    goes_on = threading.Event()
    first, second = (b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n") if is_chunked else (b"one", b"two")
    ahead = b"HTTP/1.1 200 OK\r\n" + fields + PRIVATE + framing + first
    pause = (len(ahead), lambda: asyncio.to_thread(goes_on.wait, 10))
    edge.origin.answers["/live"] = Behaviour(ahead + second, pause=pause, keeps=is_chunked)
    with edge.connect() as sock:
        sock.sendall(head("/live", b"Content-Length: 0", method=method))
        answer = b""
        while not answer.endswith(b"3\r\none\r\n"):
            answer += sock.recv(1000)
        goes_on.set()
        assert rest_of(sock) == b"3\r\ntwo\r\n0\r\n\r\n"
    assert b"x-accel" not in answer.lower()


# Trailers

TE = (b"TE: trailers", b"Authorization: a")
SUM = b"X-Sum: 1\r\n"
HOSTILE = (
    b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\nSet-Cookie: a=b\r\nCache-Control: public\r\n"
    b"Host: evil\r\nX-Accel-Redirect: /secret\r\n"
)
EMPTY = b"0\r\nx-sum: 1\r\n\r\n"


def framed(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n%b" % (len(body), body, EMPTY) if body else EMPTY


@pytest.mark.parametrize("body", [b"", BODY, LARGE[:20_000]], ids=["empty", "short", "20 KB"])
def test_trailers_of_a_short_body(edge: Edge, body: bytes) -> None:
    target = f"/trailed/{len(body)}"
    edge.origin.answers[target] = trailed(body, SUM + HOSTILE, b"Trailer: X-Sum, Host\r\n")
    _, final, answer = parts(edge.ask(target, *TE))
    assert b"\r\nTrailer: x-sum\r\n" in final
    assert b"\r\nTransfer-Encoding: chunked" in final
    assert b"Content-Length" not in final
    assert answer == framed(body)
    # Who does not take them gets a length.
    for fields, minor in (((), 1), ((b"TE: gzip", b"Authorization: a"), 1), (TE, 0)):
        _, final, answer = parts(edge.ask(target, *fields, minor=minor))
        assert answer == body
        assert b"Content-Length: %d\r\n" % len(body) in final
        assert b"x-sum" not in final.lower()
    assert edge.origin.seen[-1].field("te") is None


def test_trailers_of_a_long_body(edge: Edge) -> None:
    edge.origin.answers["/long"] = trailed(LARGE, SUM + HOSTILE, b"Trailer: X-Sum, Host\r\n")
    _, final, answer = parts(edge.ask("/long", *TE))
    assert b"\r\nTrailer: x-sum\r\n" in final
    assert answer.endswith(b"\r\n" + EMPTY)
    assert dechunked(answer) == LARGE
    seen = edge.origin.seen[-1]
    assert (seen.field("te"), seen.field("connection")) == ("trailers", "TE")
    for fields in ((), (b"Authorization: a",)):
        _, final, answer = parts(edge.ask("/long", *fields))
        assert answer.endswith(b"\r\n0\r\n\r\n")
        assert b"railer" not in final
        assert edge.origin.seen[-1].field("te") is None
    _, final, answer = parts(edge.ask("/long", *TE, minor=0))
    assert answer == LARGE


def dechunked(answer: bytes) -> bytes:
    body = b""
    while True:
        size, _, answer = answer.partition(b"\r\n")
        if size == b"0":
            return body
        body += answer[: int(size, 16)]
        answer = answer[int(size, 16) + 2 :]


def test_trailers_are_never_stored(edge: Edge) -> None:
    for number, fields in enumerate(((), (b"TE: trailers",), TE)):
        target = f"/kept/{number}"
        edge.origin.answers[target] = trailed(
            BODY, SUM + b"Content-Type: evil/x\r\n", b"Cache-Control: public, max-age=600\r\n"
        )
        for ask in (fields, (b"TE: trailers",), ()):
            _, final, body = parts(edge.ask(target, *ask))
            assert body == BODY
            assert b"x-sum" not in final.lower()
            assert b"evil" not in final
        assert edge.origin.visits(target) == 1


def test_trailers_of_what_cannot_be_stored(edge: Edge) -> None:
    """The first exchange might have been everybody's; those that follow are one client's."""
    edge.origin.answers["/own"] = trailed(BODY, SUM, PRIVATE)
    assert parts(edge.ask("/own", TE[0]))[2] == BODY
    for _ in range(2):
        assert parts(edge.ask("/own", TE[0]))[2] == framed(BODY)
        assert parts(edge.ask("/own"))[2] == BODY


def test_trailers_of_a_method(edge: Edge) -> None:
    edge.origin.answers["/do"] = trailed(BODY, SUM)
    assert parts(edge.ask("/do", TE[0], b"Content-Length: 0", method="POST"))[2] == framed(BODY)


# Requests


def test_trailers_of_a_request_become_nothing(edge: Edge) -> None:
    edge.origin.answers["/form"] = Behaviour(FIRST + LENGTH)
    answer = edge.ask(
        "/form", b"Transfer-Encoding: chunked", b"Trailer: X-Own", b"TE: trailers", b"X-Own: 1",
        method="POST",
        body=b"3\r\nabc\r\n0\r\nX-Own: 2\r\nX-Trailer: 1\r\nHost: evil\r\nX-Sendfile: /a\r\n\r\n",
    )  # fmt: skip
    assert answer.endswith(BODY)
    seen = edge.origin.seen[-1]
    assert (seen.body, seen.field("content-length"), seen.field("x-own")) == (b"abc", "3", "1")
    lines = seen.head.lower()
    for name in ("x-trailer", "evil", "x-sendfile", "trailer:", "transfer-encoding"):
        assert name not in lines


def test_an_expectation_is_ours_to_meet(edge: Edge) -> None:
    """Bodies are whole before they are put to an origin, which is asked without Expect."""
    edge.origin.answers["/expected"] = Behaviour(FIRST + LENGTH)
    request = head("/expected", b"Expect: 100-continue", b"Content-Length: 5", method="POST")
    with edge.connect() as sock:
        sock.sendall(request)
        assert sock.recv(1000) == CONTINUE
        assert edge.origin.visits("/expected") == 0
        sock.sendall(b"hello")
        assert rest_of(sock).endswith(BODY)
    seen = edge.origin.seen[-1]
    assert (seen.body, seen.field("expect")) == (b"hello", None)
    with edge.connect() as sock:  # a final status where the head alone tells it
        sock.sendall(request.replace(b": 5", b": 5000000"))
        assert rest_of(sock).startswith(b"HTTP/1.1 413 ")


def test_the_host_that_is_sent_on(edge: Edge) -> None:
    edge.origin.answers["/host"] = Behaviour(FIRST + PRIVATE + LENGTH)
    for method in ("GET", "POST"):
        edge.ask("/host", b"Content-Length: 0", method=method)
    hosts = {seen.field("host") for seen in edge.origin.seen}
    assert hosts == {"app.internal:81"}


def test_nothing_hostile_is_met_by_a_crash(edge: Edge) -> None:
    """The node that all of these tests had is the one that it was."""
    assert edge.node.get("/host").status == 200
    assert not [line for line in edge.node.log if "Traceback" in line]
