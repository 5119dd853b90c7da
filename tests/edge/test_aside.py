"""What is told to one client beside its answer: bounds, and what is counted."""

import pytest

from edge.aside import MAX_INTERIM, MAX_INTERIM_BYTES, ClientAside, Stats
from edge.http.messages import Request

LINK = (("link", "</a.css>; rel=preload"),)
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"


class Bench:
    def __init__(self, minor: int = 1, te: bytes = b"trailers", is_there: bool = True) -> None:
        self.sent: list[bytes] = []
        self.stats = Stats()
        self.is_there = is_there
        request = Request(b"GET", b"/a", minor, {b"te": te}, b"h", True)
        if minor:
            request.send_interim = self.send
        self.aside = ClientAside(request, self.stats)

    def send(self, wire: bytes) -> bool:
        self.sent.append(wire)
        return self.is_there

    @property
    def counts(self) -> tuple[int, int, int, int]:
        stats = self.stats
        return stats.interim, stats.interim_refused, stats.trailers, stats.trailers_refused


INTERIM = [
    (103, LINK, HINTS),
    (100, (), b"HTTP/1.1 100 Continue\r\n\r\n"),
    (102, (("x", "\xe9"),), b"HTTP/1.1 102 Processing\r\nx: \xe9\r\n\r\n"),
    (199, (), b"HTTP/1.1 199 \r\n\r\n"),  # RFC 9112 section 4: the reason may be empty
    # lines apart; what we write, or what is for us alone, is left out
    (103, (*LINK, ("x", "1"), ("x", "2"), ("server", "a"), ("date", "b"), ("via", "c"),
     ("age", "1"), ("surrogate-key", "d"), ("cache-status", "e")),
     HINTS[:-2] + b"x: 1\r\nx: 2\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "wire"), INTERIM)
def test_interim(status, headers, wire):
    bench = Bench()
    bench.aside.interim(status, headers)
    assert (bench.sent, bench.counts) == ([wire], (1, 0, 0, 0))


def test_so_many_and_no_more():
    bench = Bench()
    for _ in range(MAX_INTERIM + 3):
        bench.aside.interim(103, LINK)
    assert bench.sent == [HINTS] * MAX_INTERIM
    assert bench.counts == (MAX_INTERIM, 3, 0, 0)


def test_so_much_and_no_more():
    bench = Bench()
    half = (("x", "y" * (MAX_INTERIM_BYTES // 2)),)
    for _ in range(3):
        bench.aside.interim(103, half)
    assert len(bench.sent) == 1
    assert bench.counts == (1, 2, 0, 0)
    # What is over the bound stays so: nothing small slips in behind it.
    bench.aside.interim(103, LINK)
    assert bench.counts == (1, 3, 0, 0)


def test_who_gets_none():
    old, gone = Bench(minor=0), Bench(is_there=False)
    for bench in (old, gone):
        bench.aside.interim(103, LINK)
        assert bench.counts == (0, 1, 0, 0)
    assert old.sent == []


ONE = (("x", "1"), ("y", "2"), ("x", "3"))

# minor, TE, trailers, announced; the line in the head, the last chunk, counts
TRAILERS = [
    (1, b"trailers", ONE, (), "Trailer: x, y\r\n", b"0\r\nx: 1\r\ny: 2\r\nx: 3\r\n\r\n", (3, 0)),
    (1, b"trailers", (), ("a", "host", "b"), "Trailer: a, b\r\n", b"0\r\n\r\n", (0, 0)),
    (1, b"trailers", (("host", "a"), ("x", "1")), (), "Trailer: x\r\n", b"0\r\nx: 1\r\n\r\n",
     (1, 1)),
    (1, b"trailers", (("set-cookie", "a"),), ("set-cookie",), "", b"0\r\n\r\n", (0, 1)),
    (1, b"gzip", ONE, ("x",), "", b"0\r\n\r\n", (0, 3)),
    (1, b"", ONE, ("x",), "", b"0\r\n\r\n", (0, 3)),
    (0, b"trailers", ONE, ("x",), "", b"0\r\n\r\n", (0, 3)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("minor", "te", "trailers", "announced", "line", "last", "counts"), TRAILERS
)
def test_trailers(minor, te, trailers, announced, line, last, counts):
    bench = Bench(minor, te)
    bench.aside.announced(announced)
    if trailers:
        bench.aside.trailers(trailers)
    assert bench.aside.takes_trailers is (minor == 1 and te == b"trailers")
    assert bench.aside.has_trailers is (counts[0] > 0)
    assert bench.aside.trailer_line() == line
    assert bench.aside.last_chunk() == last
    assert bench.counts == (0, 0, *counts)
