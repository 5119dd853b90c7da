"""Large originals: sent while they arrive, kept once they are whole, cut where they never are."""

import contextlib
import hashlib
import http.client
import io
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest
from PIL import Image

from tests.behaviour.test_origin import SITE, size_of
from tests.peers.application import Application, Tap, application, said
from tests.peers.fastcgi import Behaviour
from tests.peers.node import Node, node, until

MIB = 1 << 20
BODY = os.urandom(400_000)
HALF = 200_000
KEPT = ('ETag: "one"', "Cache-Control: max-age=60")
NOT_KEPT = ("Cache-Control: no-store",)
VARIED = (*KEPT, "Vary: X-Kind")  # by the shared cache


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    with application() as started:
        yield started


@pytest.fixture(scope="module")
def edge(tmp_path_factory, app) -> Iterator[Node]:
    """One node for the whole file: every test has names of its own. It may wait for a tap."""
    configuration = app.configuration.replace('"1s"', '"20s"')
    cache = '[cache]\nsize = "4GiB"\n'
    with node(tmp_path_factory.mktemp("edge"), cache + configuration + SITE) as started:
        yield started


class Client:
    """A connection of its own, with whose answer the test takes its time."""

    def __init__(self, edge: Node, target: str, *fields: str, version: str = "1.1") -> None:
        host, _, port = edge.public.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), timeout=20)
        self.file = self._sock.makefile("rb")
        lines = "".join(f"{field}\r\n" for field in fields)
        self._sock.sendall(f"GET {target} HTTP/{version}\r\nHost: a\r\n{lines}\r\n".encode())
        self.head: dict[str, str] = {}

    def read_head(self) -> int:
        status = self.file.readline().split()[1]
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.decode().strip().partition(": ")
            self.head[name.lower()] = value
        return int(status)

    def read(self, count: int) -> bytes:
        return self.file.read(count)

    def read_cut(self) -> bytes:
        """What still comes before a reset; an orderly end would be a lie."""
        got = b""
        with pytest.raises(ConnectionResetError):
            while piece := self.file.read1(MIB):
                got += piece
        return got

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._sock.close()


@pytest.mark.parametrize(("fields", "detail"), [(KEPT, "origin"), (VARIED, "shared")])
def test_everybody_reads_along_and_the_disk_has_it_afterwards(app, edge, fields, detail):
    target = f"/large-{detail}.jpg"
    tap = app.answers[target] = Tap(*fields, length=len(BODY))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(edge, target))]
        assert clients[0].read_head() == 200
        assert clients[0].head["content-length"] == str(len(BODY))
        assert clients[0].head["etag"] == '"one"'
        assert (
            f"fwd=uri-miss; fwd-status=200; stored; detail={detail}"
            in (clients[0].head["cache-status"])
        )
        tap.send(BODY[:HALF])
        assert clients[0].read(HALF) == BODY[:HALF]
        # The origin has not sent the rest, and waits for us.
        for _ in range(3):
            clients.append(stack.enter_context(Client(edge, target)))
            assert clients[-1].read_head() == 200
            assert "collapsed" in clients[-1].head["cache-status"]
            assert clients[-1].read(HALF) == BODY[:HALF]
        part = stack.enter_context(Client(edge, target, "Range: bytes=199990-200009"))
        assert part.read_head() == 206
        assert part.head["content-range"] == f"bytes 199990-200009/{len(BODY)}"
        assert part.read(10) == BODY[HALF - 10 : HALF]
        head = edge.get(target, "HEAD")
        assert (head.status, head.headers["content-length"]) == (200, str(len(BODY)))
        confirmed = edge.get(target, headers={"If-None-Match": '"one"'})
        assert confirmed.status == 304
        assert edge.metrics()["halftone_arrivals_under_way"] == 1
        tap.send(BODY[HALF:])
        assert part.read(10) == BODY[HALF : HALF + 10]
        tap.end()
        for client in clients:
            assert client.read(len(BODY) - HALF) == BODY[HALF:]
    until(lambda: edge.get(target).is_hit, "it is stored")
    again = edge.get(target, headers={"Range": "bytes=300000-300099"})
    assert (again.status, again.is_hit) == (206, True)
    assert again.body == BODY[300_000:300_100]
    assert again.headers["etag"] == '"one"'
    assert app.visits(target) == 1


LENGTHS = [("1.1", "chunked"), ("1.0", None)]


@pytest.mark.parametrize("fields", [KEPT, NOT_KEPT, VARIED])
@pytest.mark.parametrize(("version", "coding"), LENGTHS)
def test_a_length_that_the_origin_does_not_tell(app, edge, version, coding, fields):
    target = f"/untold{version}{len(fields)}.jpg"
    tap = app.answers[target] = Tap(*fields)
    with Client(edge, target, version=version) as client:
        tap.send(BODY[:300_000])
        assert client.read_head() == 200
        assert client.head.get("transfer-encoding") == coding
        assert "content-length" not in client.head
        assert client.head.get("connection") == (None if coding else "close")
        if coding is None:
            assert client.read(300_000) == BODY[:300_000]
            tap.send(BODY[300_000:])
            tap.end()
            assert client.file.read() == BODY[300_000:]
            return
        got, sent = b"", 300_000
        while size := int(client.file.readline(), 16):
            got += client.read(size)
            assert client.read(2) == b"\r\n"
            if len(got) == sent < len(BODY):
                tap.send(BODY[sent:])
                sent = len(BODY)
                tap.end()
        assert got == BODY


def test_an_origin_that_dies_in_the_middle_cuts_everybody(app, edge):
    cases = [
        (fields, length) for fields in (KEPT, VARIED, NOT_KEPT) for length in (len(BODY), None)
    ]
    for number, (fields, length) in enumerate(cases):
        target = f"/dying{number}.jpg"
        tap = app.answers[target] = Tap(*fields, length=length)
        with contextlib.ExitStack() as stack:
            tap.send(BODY[:300_000])
            clients = [stack.enter_context(Client(edge, target))]
            assert clients[0].read_head() == 200
            if fields is not NOT_KEPT:
                clients.append(stack.enter_context(Client(edge, target, version="1.0")))
                assert clients[1].read_head() == 200
            tap.cut()
            for client in clients:
                got = client.read_cut()
                assert not got.endswith(b"\r\n0\r\n\r\n")
                assert len(got) < len(BODY)
        app.answers[target] = said(body=BODY, fields=fields)
        reply = edge.get(target)
        assert (reply.body, reply.is_hit) == (BODY, False)
    assert not any("Traceback" in line for line in edge.log)


@pytest.mark.parametrize("fields", [KEPT, VARIED])
def test_the_fill_goes_on_without_its_client(app, edge, fields):
    target = f"/left{len(fields)}.jpg"
    tap = app.answers[target] = Tap(*fields, length=len(BODY))
    with Client(edge, target) as client:
        tap.send(BODY[:HALF])
        assert client.read_head() == 200
    tap.send(BODY[HALF:])
    tap.end()
    until(lambda: edge.get(target).is_hit, "it is stored")
    assert edge.get(target).body == BODY
    assert app.visits(target) == 1


def test_each_kind_of_client_reads_along_with_its_own(app, edge):
    bodies = {"a": BODY, "b": BODY[::-1]}
    taps = {kind: Tap(*VARIED, length=len(BODY)) for kind in bodies}
    with contextlib.ExitStack() as stack:
        clients = []
        for kind, tap in taps.items():
            app.answers["/kinds.jpg"] = tap
            for _ in range(2):
                client = stack.enter_context(Client(edge, "/kinds.jpg", f"X-Kind: {kind}"))
                assert client.read_head() == 200
                clients.append((client, bodies[kind]))
        for kind, tap in taps.items():
            tap.send(bodies[kind])
            tap.end()
        for client, body in clients:
            assert client.read(len(body)) == body
    assert app.visits("/kinds.jpg") == 2
    for kind, body in bodies.items():
        until(lambda k=kind: edge.get("/kinds.jpg", headers={"X-Kind": k}).is_hit, "it is stored")
        assert edge.get("/kinds.jpg", headers={"X-Kind": kind}).body == body
    assert app.visits("/kinds.jpg") == 2


def large_picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((1200, 800), 90).convert("RGB").save(out, "JPEG", quality=95)
    assert out.tell() > 300_000
    return out.getvalue()


@pytest.mark.parametrize("fields", [KEPT, NOT_KEPT])
def test_derivatives_wait_for_all_of_it(app, edge, fields):
    from concurrent.futures import ThreadPoolExecutor

    target = f"/picture{fields is KEPT}.jpg"
    picture = large_picture()
    tap = app.answers[target] = Tap(*fields, length=len(picture))
    with ThreadPoolExecutor(2) as threads:
        if fields is KEPT:
            original = threads.submit(edge.get, target)
        thumbnail = threads.submit(edge.get, f"{target}?w=120")
        tap.send(picture[:300_000])
        until(lambda: edge.metrics()["halftone_arrivals_under_way"] == 1, "it is on its way")
        tap.send(picture[300_000:])
        tap.end()
        assert size_of(thumbnail.result(20)) == (120, 80)
        if fields is KEPT:
            assert original.result(20).body == picture
    assert app.visits(target) == 1


def memory_of(edge: Node) -> int:
    """Bytes of the worker that are no cache of the kernel's."""
    (worker,) = edge.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def flood(size: int, *fields: str) -> tuple[Behaviour, str]:
    """An answer of so many bytes, and their SHA-256; it holds a megabyte of them."""
    block = os.urandom(MIB)
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(block)
    lines = ["Status: 200 OK", "Content-Type: image/jpeg", *fields, f"Content-Length: {size}"]
    head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"

    async def bits() -> AsyncIterator[bytes]:
        yield head
        for _ in range(size // MIB):
            yield block

    return Behaviour(stdout=b"", bits=bits), digest.hexdigest()


@pytest.mark.parametrize("fields", [KEPT, NOT_KEPT])
def test_two_hundred_megabytes_take_no_memory(app, edge, fields):
    size = 200 * MIB
    target = f"/film{fields is KEPT}.jpg"
    app.answers[target], digest = flood(size, *fields)
    edge.get("/warm.jpg")
    before = most = memory_of(edge)
    got = hashlib.sha256()
    with Client(edge, target) as client:
        assert client.read_head() == 200
        if fields is NOT_KEPT:
            stalls = "halftone_arrival_stalls_total"
            until(lambda: edge.metrics()[stalls] > 0, "the origin waits for its reader")
        for _ in range(size // MIB):
            got.update(client.read(MIB))
            most = max(most, memory_of(edge))
    assert got.hexdigest() == digest
    assert most - before < 40 * MIB, f"grew by {(most - before) // MIB} MiB"
    if fields is NOT_KEPT:
        return
    until(lambda: edge.metrics()["halftone_arrivals_under_way"] == 0, "it is stored")
    reply = edge.get(target, headers={"Range": f"bytes={size - 100}-"})
    assert (reply.status, reply.is_hit, len(reply.body)) == (206, True, 100)


def test_what_is_larger_than_an_entry_goes_through_unkept(tmp_path, app):
    app.answers["/whale.jpg"], digest = flood(8 * MIB, *KEPT)
    small = '[cache]\nsize = "32MiB"\n'
    with node(tmp_path, small + app.configuration + SITE) as edge:
        for visit in (1, 2):
            reply = edge.get("/whale.jpg")
            assert hashlib.sha256(reply.body).hexdigest() == digest
            assert not reply.is_hit
            assert app.visits("/whale.jpg") == visit
        assert edge.get("/whale.jpg?w=100").status in (413, 415, 422)


def test_a_node_that_drains_finishes_what_it_sends(tmp_path, app):
    tap = app.answers["/drained.jpg"] = Tap(*KEPT, length=len(BODY))
    with node(tmp_path, app.configuration.replace('"1s"', '"20s"') + SITE) as edge:
        with Client(edge, "/drained.jpg") as client:
            tap.send(BODY[:HALF])
            assert client.read_head() == 200
            assert client.read(HALF) == BODY[:HALF]
            edge.process.terminate()
            until(lambda: not is_accepting(edge), "it drains")
            tap.send(BODY[HALF:])
            tap.end()
            assert client.read(len(BODY) - HALF) == BODY[HALF:]
        edge.process.wait(20)
        edge.is_killed = True
        assert edge.process.returncode == 0
        assert not list((tmp_path / "cache").rglob(".tmp-*"))


def is_accepting(edge: Node) -> bool:
    connection = http.client.HTTPConnection(edge.public, timeout=5)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.parametrize("length", [len(BODY), None])
def test_what_is_not_kept_comes_whole_the_second_time_too(app, edge, length):
    """Then its URL is marked (hit-for-miss), and the exchange is the body's alone."""
    target = f"/marked{length}.bin"
    app.answers[target] = said("200 OK", b"short", "text/plain", NOT_KEPT)
    assert edge.get(target).body == b"short"
    tap = app.answers[target] = Tap(*NOT_KEPT, length=length)
    tap.send(BODY[:300_000])
    with Client(edge, target, version="1.0") as client:
        assert client.read_head() == 200
        assert client.read(300_000) == BODY[:300_000]
        tap.send(BODY[300_000:])
        tap.end()
        assert client.file.read() == BODY[300_000:]


# Live ones: read while they are made, and perhaps without an end

LIVE = (*NOT_KEPT, "X-Accel-Buffering: no")


@pytest.fixture(scope="module")
def hurried(tmp_path_factory, app) -> Iterator[Node]:
    """Its origin has next to no time for an answer altogether."""
    configuration = app.configuration + 'total_timeout = "300ms"\n'
    with node(tmp_path_factory.mktemp("hurried"), configuration + SITE) as started:
        yield started


def in_use(edge: Node) -> float:
    """Places at the application."""
    return sum(
        number
        for name, number in edge.metrics().items()
        if name.startswith("halftone_origin_host_requests{")
    )


def test_a_live_answer_is_not_ended_by_the_total(app, hurried):
    target = "/live/long"
    tap = app.answers[target] = Tap(*LIVE)
    with Client(hurried, target) as client:
        tap.send(b"data: 0\n\n")
        assert client.read_head() == 200
        client.read(14)
        for _ in range(3):
            time.sleep(0.2)  # together twice the total, each less than what is waited for a byte
            tap.send(b"data: 1\n\n")
            assert client.read(14) == b"9\r\ndata: 1\n\n\r\n"
        tap.end()
        assert client.read(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("has_begun", [True, False])
def test_who_leaves_a_live_answer_ends_it_at_the_origin(app, edge, has_begun):
    target = f"/live/left-{has_begun}"
    before = in_use(edge)
    for _ in range(3):  # it becomes known that nothing of it is stored
        tap = app.answers[target] = Tap(*LIVE)
        with Client(edge, target) as client:
            assert client.read_head() == 200
            if has_begun:
                tap.send(b"data: 0\n\n")
                client.read(14)
            assert in_use(edge) == before + 1
        # Not a byte comes from the origin, which would be waited for for 20 s.
        until(lambda: in_use(edge) == before, "its place is free", 5)
        tap.end()
