"""Exchanges with an HTTP/1.1 origin that plays each fault: the right outcome, nothing left open."""

import asyncio
import dataclasses
import os
import shutil
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest

from edge.origin.address import Address
from edge.origin.errors import (
    BodyUnreadable,
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import Deadlines, Result
from edge.origin.http.client import HttpClient, Tls
from edge.origin.messages import Headers, OriginRequest
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, POST, Witness, read_all, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.peers.certificates import make_certificate, server_context
from tests.peers.http import (
    BODY,
    CHUNKED,
    CLOSED,
    PLAIN,
    Behaviour,
    HttpPeer,
    Manners,
    chunked,
    http_peer,
)
from tests.peers.http import HEAD as START
from tests.peers.sockets import black_hole, full_unix, refusing
from tests.waiting import until

SHORT_S = 0.08
POLITE = Manners()


@dataclasses.dataclass
class Outcome:
    body: bytes = b""
    status: int = 0
    is_cacheable: bool = False
    error: OriginError | None = None
    result: Result | None = None
    peer: HttpPeer | None = None


async def ask(
    behaviour: Behaviour,
    request: OriginRequest = GET,
    deadlines: Deadlines = PATIENT,
    *,
    manners: Manners = POLITE,
    keep: int = 0,
) -> Outcome:
    outcome, witness = Outcome(), Witness()
    async with http_peer(behaviour, manners=manners) as peer:
        outcome.peer = peer
        client = HttpClient(deadlines, LOGGER, keep=keep)
        try:
            response = await client.fetch(peer.address, request, witness)
            outcome.status = response.status
            try:
                while piece := await response.read():
                    outcome.body += piece
            finally:
                outcome.is_cacheable = response.is_cacheable
        except OriginError as failed:
            outcome.error = failed
        if not keep:
            await peer.quiet()  # closed by the client itself: nobody called aclose()
        await client.aclose()
        assert peer.connections == witness.connects == 1
    assert len(witness.results) == 1
    outcome.result = witness.results[0]
    return outcome


def sealed(main: Coroutine[Any, Any, Outcome], loop: str) -> Outcome:
    """Runs main and finds every socket closed behind it."""

    async def measured() -> Outcome:
        before = open_sockets()
        outcome = await main
        for _ in range(100):  # a transport closes its socket some turns of the loop later
            if open_sockets() == before:
                return outcome
            await asyncio.sleep(0)
        assert open_sockets() == before
        return outcome

    return run(measured(), loop)


GOOD = {
    "length": Behaviour(),
    "chunked": Behaviour(CHUNKED),
    "byte by byte": Behaviour(CHUNKED, chop=1),
    "interim": Behaviour(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + PLAIN),
    "trailers": Behaviour(CHUNKED[:-2] + b"Server-Timing: a\r\n\r\n"),
    "closes": Behaviour(keeps=False),
    "HTTP/1.0": Behaviour(PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), keeps=False),
}
# Whole as far as can be told, and not for the cache.
ODD_BUT_WHOLE = {
    "by close": Behaviour(CLOSED, keeps=False),
    "too long": Behaviour(PLAIN + b"excess"),
    "behind the last chunk": Behaviour(CHUNKED + b"excess"),
    "second answer": Behaviour(PLAIN + PLAIN),
}
BROKEN = {
    "nothing": Behaviour(b"", keeps=False),
    "garbage": Behaviour(b"\x00\x01\x02garbage"),
    "FastCGI": Behaviour(b"\x01\x06\x00\x01\x00\x10\x00\x00Status: 200\r\n\r\n"),
    "half a head": Behaviour(PLAIN, cut_at=30),
    "only interim": Behaviour(b"HTTP/1.1 100 Continue\r\n\r\n", keeps=False),
    "interim for ever": Behaviour(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "1 MB of head": Behaviour(START + b"X: b\r\n" * 170_000 + b"\r\n"),
    "one long field": Behaviour(START + b"X: " + b"b" * 1_000_000),
    "TE and CL": Behaviour(CHUNKED.replace(b"\r\nTransfer", b"\r\nContent-Length: 1\r\nTransfer")),
    "two lengths": Behaviour(PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1)),
    "folded": Behaviour(PLAIN.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n", 1)),
    "NUL": Behaviour(PLAIN.replace(b"\r\n\r\n", b"\r\nX: a\0\r\n\r\n", 1)),
    "bare CR": Behaviour(PLAIN.replace(b"\r\n\r\n", b"\r\nX: a\rSet-Cookie: b\r\n\r\n", 1)),
    "101": Behaviour(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + PLAIN),
    "bare LF": Behaviour(PLAIN.replace(b"\r\n", b"\n")),
}
TRUNCATED = {
    "short": Behaviour(PLAIN[:-1], keeps=False),
    "no body": Behaviour(PLAIN[: -len(BODY)], keeps=False),
    "no last chunk": Behaviour(CHUNKED, cut_at=len(CHUNKED) - 5),
    "half a chunk": Behaviour(CHUNKED, cut_at=len(CHUNKED) - 20),
    "malformed chunk": Behaviour(CHUNKED.replace(b"\r\n0\r\n", b"\r\nzz\r\n")),
    "reset in a body by close": Behaviour(CLOSED, reset_at=len(CLOSED) - 3),
}


def rows(*tables: dict[str, Behaviour]) -> Any:
    return pytest.mark.parametrize(
        "behaviour", [pytest.param(b, id=name) for table in tables for name, b in table.items()]
    )


@rows(GOOD)
@pytest.mark.parametrize("loop", LOOPS)
def test_good(behaviour: Behaviour, loop: str) -> None:
    outcome = sealed(ask(behaviour), loop)
    assert (outcome.status, outcome.body, outcome.is_cacheable) == (200, BODY, True)
    assert (outcome.error, outcome.result) == (None, Result.ANSWERED)


@rows(ODD_BUT_WHOLE)
@pytest.mark.parametrize("loop", LOOPS)
def test_odd_but_whole(behaviour: Behaviour, loop: str) -> None:
    outcome = sealed(ask(behaviour), loop)
    assert (outcome.body, outcome.is_cacheable, outcome.result) == (BODY, False, Result.ANSWERED)


@rows(BROKEN)
@pytest.mark.parametrize("loop", LOOPS)
def test_broken(behaviour: Behaviour, loop: str) -> None:
    outcome = sealed(ask(behaviour), loop)
    assert isinstance(outcome.error, OriginBroken), outcome
    assert outcome.error.has_begun is (behaviour.wire != b"")
    assert (outcome.is_cacheable, outcome.result) == (False, Result.BROKEN)


@rows(TRUNCATED)
@pytest.mark.parametrize("loop", LOOPS)
def test_truncated(behaviour: Behaviour, loop: str) -> None:
    outcome = sealed(ask(behaviour), loop)
    assert isinstance(outcome.error, OriginTruncated), outcome
    assert BODY.startswith(outcome.body)
    assert (outcome.is_cacheable, outcome.result) == (False, Result.TRUNCATED)


@pytest.mark.parametrize("wire", [PLAIN, CHUNKED, CLOSED], ids=["length", "chunked", "close"])
def test_a_reset_at_every_byte(wire: bytes) -> None:
    """Whole or nothing for the cache, and no connection is left."""
    head_ends = wire.index(b"\r\n\r\n") + 4

    async def main() -> None:
        before = open_sockets()
        for at in range(min(200, len(wire)) + 1):
            outcome = await ask(Behaviour(wire, reset_at=at), keep=1)
            assert not outcome.is_cacheable or at == len(wire), at
            if at < head_ends:
                # A reset overtakes what is still in the buffers.
                assert isinstance(outcome.error, OriginBroken), at
            elif outcome.error is not None:
                assert isinstance(outcome.error, OriginBroken | OriginTruncated), at
        for _ in range(100):
            if open_sockets() == before:
                break
            await asyncio.sleep(0)
        assert open_sockets() == before

    run(main(), "uvloop")


@pytest.mark.parametrize(
    ("behaviour", "deadline", "phase"),
    [
        (Behaviour(stall_at=0), "first_byte_s", Phase.FIRST_BYTE),
        (Behaviour(stall_at=30), "first_byte_s", Phase.FIRST_BYTE),
        (Behaviour(chop=1, drip_s=0.01), "first_byte_s", Phase.FIRST_BYTE),
        (
            Behaviour(b"HTTP/1.1 100 C\r\n\r\n" + PLAIN, stall_at=18),
            "first_byte_s",
            Phase.FIRST_BYTE,
        ),
        (Behaviour(stall_at=len(PLAIN) - 9), "progress_s", Phase.PROGRESS),
        (Behaviour(chop=12, drip_s=0.02), "total_s", Phase.TOTAL),
        (Behaviour(CLOSED, stall_at=len(CLOSED) - 9), "progress_s", Phase.PROGRESS),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_deadlines(behaviour: Behaviour, deadline: str, phase: Phase, loop: str) -> None:
    outcome = sealed(
        ask(behaviour, deadlines=dataclasses.replace(PATIENT, **{deadline: SHORT_S})), loop
    )
    assert isinstance(outcome.error, OriginTimeout), outcome
    assert (outcome.error.phase, outcome.result) == (phase, Result.TIMEOUT)
    assert not outcome.is_cacheable


@pytest.mark.parametrize("wire", [
    START + b"Content-Length: 64\r\n\r\n", START + b"Transfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 304 No\r\nETag: \"a\"\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
])  # fmt: skip
def test_answers_without_a_body(wire: bytes) -> None:
    request = HEAD if b"200" in wire else GET
    for excess in (b"", BODY):  # a body for HEAD is harmless
        outcome = run(ask(Behaviour(wire + excess), request))
        assert (outcome.body, outcome.is_cacheable) == (b"", True)


def test_nobody_there(tmp_path) -> None:
    async def main(address, error: type[OriginError]) -> None:
        witness = Witness()
        deadlines = dataclasses.replace(PATIENT, connect_s=SHORT_S)
        client = HttpClient(deadlines, LOGGER)
        with pytest.raises(error):
            await client.fetch(address, GET, witness)
        assert len(witness.results) == 1
        assert witness.connects == 0
        await client.aclose()

    run(main(refusing(), OriginRefused))
    with black_hole() as address:
        run(main(address, OriginTimeout))
    with full_unix(str(tmp_path / "full")) as address:
        run(main(address, OriginOverloaded))
    outcome = run(ask(Behaviour(), manners=Manners(hangs_up=True)))
    assert isinstance(outcome.error, OriginBroken)
    assert not outcome.error.has_begun


# Kept connections


async def several(
    behaviours: list[Behaviour],
    request: OriginRequest = GET,
    manners: Manners = POLITE,
    keep: int = 2,
) -> tuple[list[Result], HttpPeer, HttpClient]:
    waiting = list(behaviours)
    witness = Witness()
    async with http_peer(lambda seen: waiting.pop(0), manners=manners) as peer:
        client = HttpClient(PATIENT, LOGGER, keep=keep)
        for _ in behaviours:
            response = await client.fetch(peer.address, request, witness)
            body = await read_all(response)
            assert body == (b"" if request.method == "HEAD" else BODY)
            await response.aclose()
        await client.aclose()
        await peer.quiet()
    assert witness.connects == len(witness.results) == len(behaviours)
    return witness.results, peer, client


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_is_kept(loop: str) -> None:
    _, peer, client = run(several([Behaviour(), Behaviour(CHUNKED), Behaviour()]), loop)
    assert peer.connections == 1
    assert (client.connections.opened, client.connections.reused) == (1, 2)
    assert all(seen.field("connection") is None for seen in peer.requests)


NOT_KEPT = {
    "closes": Behaviour(PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)),
    "HTTP/1.0": Behaviour(PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "excess": Behaviour(PLAIN + b"excess"),
    "by close": Behaviour(CLOSED, keeps=False),
}


@rows(NOT_KEPT)
def test_a_connection_that_is_not_kept(behaviour: Behaviour) -> None:
    _, peer, client = run(several([behaviour, Behaviour()]))
    assert (peer.connections, client.connections.reused) == (2, 0)


def test_a_kept_connection_that_died_costs_nobody_an_error() -> None:
    _, peer, client = run(several([Behaviour()] * 3, manners=Manners(requests_per_connection=1)))
    assert (client.connections.opened, client.connections.lost) == (3, 2)
    assert len(peer.requests) == 3


def test_only_what_may_be_put_twice_uses_a_kept_connection() -> None:
    _, peer, client = run(several([Behaviour()] * 2, POST))
    assert (peer.connections, client.connections.reused) == (2, 0)
    assert [seen.body for seen in peer.requests] == [b"a=b", b"a=b"]


def test_what_an_origin_says_unasked_is_no_answer() -> None:
    """An answer that was there before its question belongs to nobody."""

    async def main() -> None:
        async with http_peer(Behaviour(unasked=PLAIN.replace(b"picture", b"forgery"))) as peer:
            client = HttpClient(PATIENT, LOGGER, keep=1)
            for _ in range(2):
                response = await client.fetch(peer.address, GET, Witness())
                assert await read_all(response) == BODY
                # Until the forgery has closed the connection.
                await until(lambda: client.connections.opened != 1 or not peer.is_open)
            assert peer.connections == 2
            await client.aclose()

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_with_unsent_bytes_is_not_kept(tmp_path, loop: str) -> None:
    """The rest of a body would go ahead of the next request."""
    goes_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PLAIN)
        await asyncio.wait_for(goes_on.wait(), 10)
        writer.transport.abort()

    async def main() -> None:
        path = str(tmp_path / "app")
        async with await asyncio.start_unix_server(serve, path):
            client = HttpClient(PATIENT, LOGGER, keep=2)
            request = dataclasses.replace(POST, body=bytes(1 << 20))
            response = await client.fetch(Address(path=path), request, Witness())
            assert await read_all(response) == BODY
            assert not any(client._kept._waiting.values())
            await response.aclose()
            goes_on.set()
            await client.aclose()

    run(main(), loop)


def test_an_answer_that_is_left_costs_its_connection() -> None:
    async def main() -> None:
        large = START + b"Content-Length: 5000000\r\n\r\n" + bytes(5_000_000)
        async with http_peer(Behaviour(large)) as peer:
            client = HttpClient(PATIENT, LOGGER, keep=1)
            witness = Witness()
            response = await client.fetch(peer.address, GET, witness)
            await response.read()
            await response.aclose()
            assert witness.results == [Result.ABANDONED]
            assert not response.is_cacheable
            with pytest.raises(OriginTruncated):
                await response.read()
            await peer.quiet()
            await client.aclose()

    run(main())


def test_a_request_that_is_cancelled_ends_at_the_origin() -> None:
    async def main() -> None:
        async with http_peer(Behaviour(stall_at=0)) as peer:
            client = HttpClient(PATIENT, LOGGER, keep=1)
            witness = Witness()
            task = asyncio.ensure_future(client.fetch(peer.address, GET, witness))
            await until(lambda: peer.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.quiet()
            assert witness.results == [Result.ABANDONED]
            await client.aclose()

    run(main())


# (behaviour, what maybe_all() has: all of it, or nothing since more must be waited for)
AT_ONCE = [
    (Behaviour(), BODY),
    (Behaviour(CHUNKED), BODY),
    (Behaviour(b"HTTP/1.1 204 No\r\n\r\n"), b""),
    (Behaviour(PLAIN, pause=(len(PLAIN) - 1, lambda: asyncio.sleep(0.01))), None),
    (Behaviour(CLOSED, keeps=False), None),
    (Behaviour(CHUNKED.replace(b"\r\n0\r\n", b"\r\nzz\r\n")), None),
]


@pytest.mark.parametrize(("behaviour", "expected"), AT_ONCE, ids=range(len(AT_ONCE)))
def test_what_came_whole_with_its_head_is_there_at_once(behaviour, expected) -> None:
    async def main() -> None:
        async with http_peer(behaviour) as peer:
            client, witness = HttpClient(PATIENT, LOGGER, keep=1), Witness()
            response = await client.fetch(peer.address, GET, witness)
            assert response.maybe_all() == expected
            if expected is not None:
                # Its exchange is over, and its connection free for the next one.
                assert witness.results == [Result.ANSWERED]
                assert response.is_cacheable
                assert response.maybe_all() is None
                await (await client.fetch(peer.address, GET, witness)).aclose()
                assert (peer.connections, client.connections.reused) == (1, 1)
            else:
                assert witness.results == []
            await response.aclose()
            await client.aclose()

    run(main())


# Bodies of requests


class Body:
    def __init__(self, data: bytes, fails_at: int | None = None) -> None:
        self.data = data
        self.fails_at = fails_at

    def __len__(self) -> int:
        return len(self.data)

    async def read(self, size: int, offset: int) -> bytes:
        if self.fails_at is not None and offset >= self.fails_at:
            raise OSError("no disk")
        return self.data[offset : offset + size]


DATA = os.urandom(3_000_000)


@pytest.mark.parametrize("manners", [Manners(), Manners(answers_first=True)])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_body_is_streamed(manners: Manners, loop: str) -> None:
    request = dataclasses.replace(POST, body=Body(DATA))
    outcome = run(ask(Behaviour(), request, manners=manners), loop)
    assert outcome.peer is not None
    assert (outcome.body, outcome.is_cacheable) == (BODY, True)
    [seen] = outcome.peer.requests
    assert (seen.body, seen.field("content-length")) == (DATA, str(len(DATA)))
    assert seen.field("transfer-encoding") is None


def test_an_origin_that_answers_and_leaves_is_heard() -> None:
    request = dataclasses.replace(POST, body=b"x" * 1000)
    outcome = run(ask(Behaviour(), request, manners=Manners(leaves_early=True)))
    assert outcome.error is None or isinstance(outcome.error, OriginBroken | OriginTruncated)


def test_an_origin_that_takes_nothing_is_timed() -> None:
    request = dataclasses.replace(POST, body=Body(bytes(20_000_000)))
    deadlines = dataclasses.replace(PATIENT, progress_s=SHORT_S)
    outcome = run(ask(Behaviour(), request, deadlines, manners=Manners(reads_bytes=1000)))
    assert isinstance(outcome.error, OriginTimeout)
    assert outcome.error.phase is Phase.PROGRESS


def test_a_body_that_cannot_be_read_is_our_own_fault() -> None:
    request = dataclasses.replace(POST, body=Body(DATA, fails_at=1_000_000))

    async def main() -> None:
        async with http_peer(Behaviour()) as peer:
            witness = Witness()
            with pytest.raises(BodyUnreadable):
                await HttpClient(PATIENT, LOGGER).fetch(peer.address, request, witness)
            await peer.quiet()
            assert witness.results == [Result.ABANDONED]

    run(main())


def test_a_request_that_cannot_be_written_opens_nothing() -> None:
    async def main() -> None:
        witness = Witness()
        request = dataclasses.replace(GET, headers=(("X", "a" * 100_000),))
        with pytest.raises(UnsendableRequest):
            await HttpClient(PATIENT, LOGGER).fetch(refusing(), request, witness)
        assert (witness.connects, witness.results) == (0, [Result.UNSENDABLE])

    run(main())


# Beside the answer


@dataclasses.dataclass
class Told:
    """An Aside that remembers, in order."""

    takes_trailers: bool = True
    said: list[object] = dataclasses.field(default_factory=list)

    def interim(self, status: int, headers: Headers) -> None:
        self.said.append((status, headers))

    def announced(self, names: tuple[str, ...]) -> None:
        self.said.append(names)

    def trailers(self, headers: Headers) -> None:
        self.said.append(headers)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
TOLD = (103, (("link", "</a>"),))
TRAILED = (
    START + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(BODY, trailers=b"X-Sum: 1\r\nHost: evil\r\n")
)  # fmt: skip
TRAILERS = (("x-sum", "1"), ("host", "evil"))  # which of them goes on is not decided here

# (wire, told ahead of the body, told behind it); RFC 9110 sections 15.2 and 6.5
BESIDE = [
    (PLAIN, [], []),
    (HINTS + PLAIN, [TOLD], []),
    (HINTS * 2 + b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED, [TOLD, TOLD, (100, ())], []),
    (TRAILED, [("x-sum",)], [TRAILERS]),
    (HINTS + TRAILED, [TOLD, ("x-sum",)], [TRAILERS]),
    (HINTS + CLOSED, [TOLD], []),
]


@pytest.mark.parametrize("chop", [0, 1, 13])
@pytest.mark.parametrize(("wire", "ahead", "behind"), BESIDE, ids=range(len(BESIDE)))
def test_what_comes_beside_an_answer_is_told(wire, ahead, behind, chop) -> None:
    async def main() -> None:
        is_kept = wire[-len(CLOSED) :] != CLOSED
        async with http_peer(Behaviour(wire, chop=chop, keeps=is_kept)) as peer:
            client, told = HttpClient(PATIENT, LOGGER), Told()
            request = dataclasses.replace(GET, aside=told)
            response = await client.fetch(peer.address, request, Witness())
            assert told.said[: len(ahead)] == ahead
            assert await read_all(response) == BODY
            assert told.said == ahead + behind
            names = {name for name, _ in response.headers}
            assert names == {"content-type"}
            await response.aclose()
            await client.aclose()

    run(main())


def test_an_interim_answer_is_told_before_the_answer_is_there() -> None:
    async def main() -> None:
        told, is_awaited = Told(), asyncio.Event()
        behaviour = Behaviour(HINTS + PLAIN, pause=(len(HINTS), is_awaited.wait))
        async with http_peer(behaviour) as peer:
            client = HttpClient(PATIENT, LOGGER)
            request = dataclasses.replace(GET, aside=told)
            fetching = asyncio.ensure_future(client.fetch(peer.address, request, Witness()))
            async with asyncio.timeout(10):
                while not told.said:
                    await asyncio.sleep(0.002)
            assert not fetching.done()
            is_awaited.set()
            assert await read_all(await fetching) == BODY
            await client.aclose()

    run(main())


CUT_TRAILERS = [TRAILED[:-2], TRAILED[:-8], TRAILED[:-2] + b"X : 1\r\n\r\n"]


@pytest.mark.parametrize("wire", CUT_TRAILERS)
def test_trailers_that_are_not_whole_are_told_to_nobody(wire: bytes) -> None:
    told = Told()
    outcome = run(ask(Behaviour(wire, keeps=False), dataclasses.replace(GET, aside=told)))
    assert isinstance(outcome.error, OriginTruncated)
    assert told.said == [("x-sum",)]


@pytest.mark.parametrize(
    ("aside", "keep", "te", "connection"),
    [
        # RFC 9110 section 10.1.4: TE is of one connection, and Connection names it
        (Told(), 0, "trailers", "close, TE"),
        (Told(), 1, "trailers", "TE"),
        (Told(takes_trailers=False), 0, None, "close"),
        (None, 0, None, "close"),
        (None, 1, None, None),
    ],
)
def test_trailers_are_asked_for_where_they_are_wanted(aside, keep, te, connection) -> None:
    headers = (("TE", "trailers, gzip"), ("Connection", "TE"))
    request = dataclasses.replace(GET, aside=aside, headers=headers)
    outcome = run(ask(Behaviour(), request, keep=keep))
    assert outcome.peer is not None
    [seen] = outcome.peer.requests
    assert (seen.field("te"), seen.field("connection")) == (te, connection)


def test_an_origin_has_a_host_of_its_own() -> None:
    async def main() -> None:
        async with http_peer(Behaviour()) as peer:
            for host_header, sent in [("", GET.host), ("app.internal:81", "app.internal:81")]:
                client = HttpClient(PATIENT, LOGGER, host_header=host_header)
                response = await client.fetch(peer.address, GET, Witness())
                assert await read_all(response) == BODY
                assert peer.requests[-1].field("host") == sent
                assert peer.requests[-1].head.lower().count("\nhost:") == 1
                await client.aclose()

    run(main())


# TLS

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


@needs_openssl
@pytest.mark.parametrize("loop", LOOPS)
def test_tls(tmp_path, loop: str) -> None:
    """A certificate holds for its name and its signer, and for nobody else."""
    certificate, key = make_certificate(tmp_path, "app.internal")
    right = ssl.create_default_context(cafile=str(certificate))
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE

    async def main() -> None:
        async with http_peer(Behaviour(), tls=server_context(certificate, key)) as peer:
            for tls, is_taken in [
                (Tls(right, "app.internal"), True),
                (Tls(right, "other.internal"), False),
                (Tls(right), False),  # for 127.0.0.1
                (Tls(ssl.create_default_context(), "app.internal"), False),
                (Tls(careless), True),
            ]:
                client, witness = HttpClient(PATIENT, LOGGER, tls=tls, keep=1), Witness()
                if not is_taken:
                    with pytest.raises(OriginRefused, match="certificate"):
                        await client.fetch(peer.address, GET, witness)
                    assert witness.results == [Result.REFUSED]
                    await client.aclose()
                    continue
                for _ in range(2):
                    response = await client.fetch(peer.address, GET, witness)
                    assert await read_all(response) == BODY
                    assert response.is_cacheable
                assert (client.connections.opened, client.connections.reused) == (1, 1)
                await client.aclose()

    run(main(), loop)


def test_tls_to_who_speaks_none() -> None:
    async def main() -> None:
        async with http_peer(Behaviour()) as peer:
            tls = Tls(ssl.create_default_context())
            client = HttpClient(dataclasses.replace(PATIENT, connect_s=0.2), LOGGER, tls=tls)
            with pytest.raises((OriginRefused, OriginTimeout)):
                await client.fetch(peer.address, GET, Witness())
            await client.aclose()

    run(main())
