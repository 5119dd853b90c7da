"""Bodies that break off: they go on where they did, or stay broken; never other bytes."""

import asyncio
import dataclasses
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from edge.origin.errors import OriginError, OriginTimeout, OriginTruncated, Phase
from edge.origin.exchange import Client, Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.host import Host, HostState
from edge.origin.http.client import HttpClient
from edge.origin.pool import MAX_RETRIES_SAVED, OriginPool
from edge.origin.resuming import MAX_RESUMPTIONS, ResumingResponse
from edge.origin.s3.bucket import Bucket
from edge.origin.s3.client import S3Client
from tests.edge.origin.asking import GET, LOGGER, LOOPS, PATIENT, SCRIPT, read_all, run
from tests.peers import fastcgi
from tests.peers.http import Application, Behaviour, HttpPeer, Seen, http_peer
from tests.waiting import until

BODY = bytes(range(40))
TAG = b'"a"'
SHORT_S = 0.15


def head(status: int, length: int, *fields: bytes) -> bytes:
    lines = (b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % length, *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def whole(tag: bytes = TAG, body: bytes = BODY) -> bytes:
    return head(200, len(body), b"ETag: " + tag, b"Accept-Ranges: bytes") + body


IN_BODY = len(whole()) - len(BODY)


def start_of(seen: Seen) -> int | None:
    match = re.fullmatch(r"bytes=([0-9]+)-", seen.field("range") or "")
    return int(match[1]) if match else None


def rest(start: int, tag: bytes = TAG, body: bytes = BODY) -> bytes:
    told = b"Content-Range: bytes %d-%d/%d" % (start, len(body) - 1, len(body))
    return head(206, len(body) - start, b"ETag: " + tag, told) + body[start:]


@dataclasses.dataclass
class Breaking:
    """An origin whose transfers break: the whole after at[0] bytes of the body, the rest after
    at[1] of its own, and so on; what follows is well. rest: what is sent for a Range."""

    at: list[int]
    is_reset: bool = False
    rest: Callable[[int], bytes] = rest
    first: bytes = whole()

    def __call__(self, seen: Seen) -> Behaviour:
        start = start_of(seen)
        wire = self.first if start is None else self.rest(start)
        if not self.at:
            return Behaviour(wire)
        breaks_at = wire.index(b"\r\n\r\n") + 4 + self.at.pop(0)
        return Behaviour(wire, **{"reset_at" if self.is_reset else "cut_at": breaks_at})


@dataclasses.dataclass
class Asked:
    body: bytes
    error: OriginError | None
    is_cacheable: bool
    pool: OriginPool
    peer: HttpPeer


def http(peer: HttpPeer, deadlines: Deadlines) -> Client:
    return HttpClient(deadlines, LOGGER)


def s3(peer: HttpPeer, deadlines: Deadlines) -> Client:
    pytest.importorskip("obstore")
    bucket = Bucket("pics", "", "us-east-1", f"http://{peer.address}", "id", "key")
    return S3Client(HttpClient(deadlines, LOGGER), bucket, deadlines, LOGGER)


CLIENTS = {"http": http, "s3": s3}


@asynccontextmanager
async def pool_at(
    application: Application | Behaviour,
    kind: str = "http",
    deadlines: Deadlines = PATIENT,
    total_s: float = PATIENT.total_s,
) -> AsyncIterator[tuple[OriginPool, HttpPeer]]:
    async with http_peer(application) as peer:
        client = CLIENTS[kind](peer, deadlines)
        pool = OriginPool(
            "app", [peer.address], client, clock=asyncio.get_running_loop().time,
            chance=lambda: 0.5, logger=LOGGER, total_s=total_s,
        )  # fmt: skip
        yield pool, peer
        await client.aclose()
        assert [host.load for host in pool.hosts] == [0]
        stats = pool.stats
        assigned = sum(host.stats.assigned for host in pool.hosts)
        assert stats.requests == (
            assigned - stats.retries - stats.resumed - stats.unresumed + stats.turned_away
        )


async def ask(
    application: Application | Behaviour,
    kind: str = "http",
    deadlines: Deadlines = PATIENT,
    total_s: float = PATIENT.total_s,
) -> Asked:
    async with pool_at(application, kind, deadlines, total_s) as (pool, peer):
        response = await pool.fetch(GET)
        assert (response.status, response.content_length) == (200, len(BODY))
        pieces, error = [], None
        try:
            while piece := await response.read():
                pieces.append(piece)
        except OriginError as failed:
            error = failed
            with pytest.raises(type(failed)):  # and again, whoever asks
                await response.read()
        is_cacheable = response.is_cacheable
        await response.aclose()
        return Asked(b"".join(pieces), error, is_cacheable, pool, peer)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("is_reset", [False, True], ids=["cut", "reset"])
def test_at_every_byte(kind: str, loop: str, is_reset: bool) -> None:
    async def main() -> None:
        for at in range(len(BODY)):
            asked = await ask(Breaking([at], is_reset), kind)
            assert (asked.body, asked.error, asked.is_cacheable) == (BODY, None, True)
            first, second = asked.peer.requests
            # A reset may overtake what was sent before it.
            start = start_of(second)
            assert start is not None
            assert start <= at if is_reset else start == at
            assert first.target.partition("?")[0] == second.target.partition("?")[0]
            assert first.field("range") is None
            assert second.field("if-match") == '"a"'
            assert second.field("if-range") == ('"a"' if kind == "http" else None)
            assert (asked.pool.stats.resumed, asked.pool.stats.unresumed) == (1, 0)
            assert asked.pool.hosts[0].stats.results == {Result.TRUNCATED: 1, Result.ANSWERED: 1}

    run(main(), loop)


@pytest.mark.parametrize("kind", CLIENTS)
def test_twice_and_no_more(kind: str) -> None:
    asked = run(ask(Breaking([7, 9]), kind))
    assert (asked.body, asked.error, asked.is_cacheable) == (BODY, None, True)
    assert [start_of(seen) for seen in asked.peer.requests] == [None, 7, 16]
    assert (asked.pool.stats.resumed, asked.pool.stats.unresumed) == (2, 0)
    asked = run(ask(Breaking([7, 9, 3, 5]), kind))
    assert (asked.body, asked.is_cacheable) == (BODY[:19], False)
    assert isinstance(asked.error, OriginTruncated)
    assert len(asked.peer.requests) == 1 + MAX_RESUMPTIONS
    assert (asked.pool.stats.resumed, asked.pool.stats.unresumed) == (2, 0)


def chunks(start: int, body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    told = b"Content-Range: bytes %d-%d/%d" % (start, len(BODY) - 1, len(BODY))
    lines = (b"HTTP/1.1 206 X", b"Transfer-Encoding: chunked", b"ETag: " + TAG, told)
    return b"\r\n".join(lines) + b"\r\n\r\n%x\r\n%b\r\n" % (len(body), body) + end


# What an origin sends for the rest, which is none.
OTHERS = {
    "changed": lambda start: rest(start, b'"b"'),
    "weak": lambda start: rest(start, b'W/"a"'),
    "untagged": lambda start: rest(start).replace(b"ETag", b"X-Tag"),
    "changed whole": lambda start: whole(b'"b"', BODY[::-1]),
    "whole": lambda start: whole(),
    "412": lambda start: head(412, 2, b'ETag: "b"') + b"no",
    "416": lambda start: head(416, 0, b"Content-Range: bytes */9"),
    "404": lambda start: head(404, 0),
    "503": lambda start: head(503, 0, b"Retry-After: 1"),
    "from the start": lambda start: rest(0),
    "too early": lambda start: rest(start - 1),
    "too late": lambda start: rest(start + 1),
    "shorter": lambda start: rest(start, body=BODY[:-1]),
    "longer": lambda start: rest(start, body=BODY + b"x"),
    "unranged": lambda start: rest(start).replace(b"Content-Range", b"X-Range"),
    "multipart": lambda start: head(206, 3, b"ETag: " + TAG, b"Content-Type: multipart/x") + b"abc",
    "another length": lambda start: rest(start).replace(b"Length: 23", b"Length: 22"),
    "encoded": lambda start: rest(start).replace(b"ETag", b"Content-Encoding: gzip\r\nETag"),
    "garbage": lambda start: b"no HTTP\r\n\r\n",
    "nothing": lambda start: b"",
}  # fmt: skip


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_the_rest(kind: str, other: str) -> None:
    def application(seen: Seen) -> Behaviour:
        if start_of(seen) is None:
            return Behaviour(whole(), cut_at=IN_BODY + 17)
        return Behaviour(OTHERS[other](17), keeps=False)

    asked = run(ask(application, kind))
    assert (asked.body, asked.is_cacheable) == (BODY[:17], False)
    assert type(asked.error) is OriginTruncated
    assert "not resumed" in str(asked.error)
    assert (asked.pool.stats.resumed, asked.pool.stats.unresumed) == (0, 1)
    assert len(asked.peer.requests) == 2


@pytest.mark.parametrize(
    ("wire", "body", "is_whole"),
    [
        (chunks(17, BODY[17:]), BODY, True),
        (chunks(17, BODY[17:-1]), BODY[:-1], False),
        (chunks(17, BODY[17:] + b"x"), BODY[:17], False),
        (chunks(17, BODY[17:], end=b""), BODY, False),  # all that was said, and not its end
    ],
    ids=["whole", "shorter", "longer", "no end"],
)
def test_a_rest_in_chunks_has_no_length_of_its_own(
    wire: bytes, body: bytes, is_whole: bool
) -> None:
    def application(seen: Seen) -> Behaviour:
        if start_of(seen) is None:
            return Behaviour(whole(), cut_at=IN_BODY + 17)
        return Behaviour(wire, keeps=False)

    asked = run(ask(application))
    assert asked.body == body
    assert (asked.error is None, asked.is_cacheable) == (is_whole, is_whole)


@pytest.mark.parametrize(
    "first",
    [
        whole(b'W/"a"'),
        whole().replace(b"ETag", b"X-Tag"),
        whole().replace(b"Accept-Ranges: bytes", b"Accept-Ranges: none"),
        whole().replace(b"Accept-Ranges", b"X-Ranges"),
    ],
)
def test_what_is_not_asked_for(first: bytes) -> None:
    asked = run(ask(Behaviour(first, cut_at=len(first) - 1)))
    assert (asked.body, asked.is_cacheable) == (BODY[:-1], False)
    assert type(asked.error) is OriginTruncated
    assert len(asked.peer.requests) == 1
    assert (asked.pool.stats.resumed, asked.pool.stats.unresumed) == (0, 0)


def test_the_budget_of_retries_is_one() -> None:
    """An origin that breaks everything is not asked twice for everything."""

    async def main() -> None:
        def application(seen: Seen) -> Behaviour:
            if start_of(seen) is None:
                return Behaviour(whole(), cut_at=IN_BODY + 1)
            return Behaviour(head(412, 0))

        async with pool_at(application) as (pool, peer):
            asked = 300
            for _ in range(asked):
                response = await pool.fetch(GET)
                with pytest.raises(OriginTruncated):
                    await read_all(response)
                await response.aclose()
            assert pool.stats.unresumed == len(peer.requests) - asked
            assert pool.stats.unresumed <= MAX_RETRIES_SAVED + asked * 0.1 + 1

    run(main(), "uvloop")


def test_an_application_that_serves_ranges_is_asked_for_them() -> None:
    head = b'Content-Type: image/jpeg\nETag: "a"\nAccept-Ranges: bytes\nContent-Length: 40\n\n'
    part = (
        b'Status: 206 X\nContent-Type: image/jpeg\nETag: "a"\n'
        b"Content-Range: bytes 23-39/40\nContent-Length: 17\n\n"
    )

    def application(seen: fastcgi.Seen) -> fastcgi.Behaviour:
        if "HTTP_RANGE" not in seen.params:
            return fastcgi.Behaviour(
                stdout=head + BODY[:23], has_end=False, cut_at=8 + len(head) + 23
            )
        assert seen.params["HTTP_RANGE"] == b"bytes=23-"
        return fastcgi.Behaviour(stdout=part + BODY[23:])

    async def main() -> None:
        async with fastcgi.fastcgi_peer(application) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            pool = OriginPool(
                "app", [peer.address], client, clock=asyncio.get_running_loop().time,
                chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            response = await pool.fetch(GET)
            assert await read_all(response) == BODY
            assert (response.is_cacheable, pool.stats.resumed) == (True, 1)
            await client.aclose()

    run(main(), "uvloop")


def test_what_came_with_its_head_is_whole() -> None:
    head = b'Content-Type: image/jpeg\nETag: "a"\nAccept-Ranges: bytes\nContent-Length: 40\n\n'

    async def main() -> None:
        async with fastcgi.fastcgi_peer(fastcgi.Behaviour(stdout=head + BODY)) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            pool = OriginPool(
                "app", [peer.address], client, clock=asyncio.get_running_loop().time,
                chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            response = await pool.fetch(GET)
            assert isinstance(response, ResumingResponse)
            body = response.maybe_all()
            if body is None:  # two reads of the socket, by chance
                body = await read_all(response)
            assert (body, response.is_cacheable) == (BODY, True)
            assert await response.read() == b""
            await response.aclose()
            assert pool.hosts[0].stats.results == {Result.ANSWERED: 1}
            await client.aclose()

    run(main())


def hold(host: Host) -> None:
    host.state, host.held_until = HostState.HELD, math.inf


def test_no_place_is_left() -> None:
    async def main() -> None:
        async with pool_at(Breaking([5])) as (pool, peer):
            response = await pool.fetch(GET)
            assert await response.read() == BODY[:5]
            hold(pool.hosts[0])
            with pytest.raises(OriginTruncated):
                await response.read()
            assert len(peer.requests) == 1
            assert (pool.stats.resumed, pool.stats.unresumed) == (0, 0)
            await response.aclose()

    run(main())


def test_the_total_deadline_is_that_of_all_together() -> None:
    """The clients' own would be long in coming."""

    def application(seen: Seen) -> Behaviour:
        if start_of(seen) is None:
            return Behaviour(whole(), cut_at=IN_BODY + 17)
        return Behaviour(rest(17), stall_at=len(rest(17)) - 3)

    patient = dataclasses.replace(PATIENT, total_s=600)
    asked = run(ask(application, "http", patient, total_s=SHORT_S))
    assert asked.body == BODY[:-3]
    assert isinstance(asked.error, OriginTimeout)
    assert asked.error.phase is Phase.TOTAL
    assert asked.pool.stats.resumed == 1


def test_what_took_too_long_already_does_not_go_on() -> None:
    late = Behaviour(whole(), cut_at=IN_BODY + 17, chop=IN_BODY, drip_s=SHORT_S)
    asked = run(ask(late, total_s=SHORT_S / 2))
    assert (asked.body, type(asked.error)) == (BODY[:17], OriginTruncated)
    assert (len(asked.peer.requests), asked.pool.stats.unresumed) == (1, 0)


def test_a_stall_is_no_break() -> None:
    deadlines = dataclasses.replace(PATIENT, progress_s=SHORT_S)
    asked = run(ask(Behaviour(whole(), stall_at=IN_BODY + 3), "http", deadlines))
    assert isinstance(asked.error, OriginTimeout)
    assert len(asked.peer.requests) == 1


def test_who_leaves_asks_for_nothing_more() -> None:
    async def main() -> None:
        async with pool_at(Breaking([5])) as (pool, peer):
            response = await pool.fetch(GET)
            await response.read()
            await response.aclose()
            with pytest.raises(OriginTruncated):
                await response.read()
            assert not response.is_cacheable
            assert len(peer.requests) == 1

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_who_leaves_while_the_rest_is_asked_for(loop: str) -> None:
    """It is one of those that did not come (pool_at counts), and nothing is left of it."""

    def application(seen: Seen) -> Behaviour:
        if start_of(seen) is None:
            return Behaviour(whole(), cut_at=IN_BODY + 17)
        return Behaviour(rest(17), stall_at=3)

    async def main() -> None:
        async with pool_at(application) as (pool, peer):
            response = await pool.fetch(GET)
            assert await response.read() == BODY[:17]
            reading = asyncio.ensure_future(response.read())
            await until(lambda: len(peer.requests) >= 2)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await response.aclose()
            assert (pool.stats.resumed, pool.stats.unresumed) == (0, 1)
            assert pool.hosts[0].stats.results[Result.ABANDONED] == 1

    run(main(), loop)


def test_another_host_may_have_the_rest() -> None:
    async def main() -> None:
        async with http_peer(Breaking([11])) as one, http_peer(Breaking([])) as other:
            client = HttpClient(PATIENT, LOGGER)
            pool = OriginPool(
                "app", [one.address, other.address], client,
                clock=asyncio.get_running_loop().time, chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            response = await pool.fetch(GET)
            assert await response.read() == BODY[:11]
            hold(pool.hosts[0])
            assert await read_all(response) == BODY[11:]
            assert (len(one.requests), start_of(other.requests[0])) == (1, 11)
            await client.aclose()

    run(main())
