"""One contract for every kind of origin: what a pool sees is the same, whatever is behind it."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.cgi import CgiClient, Program
from edge.origin.errors import OriginError, OriginTimeout, OriginTruncated
from edge.origin.exchange import Client, Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.params import Script
from edge.origin.http.client import HttpClient
from edge.origin.pool import OriginPool
from edge.origin.s3.bucket import Bucket
from edge.origin.s3.client import S3Client
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, SCRIPT, read_all, run
from tests.peers import fastcgi, http
from tests.peers.fastcgi import fastcgi_peer
from tests.peers.http import http_peer
from tests.peers.programs import make_program
from tests.waiting import until

KINDS = ("fastcgi", "http", "cgi", "s3")
LARGE = os.urandom(1_500_000)
SHORT_S = 0.25
TAG = '"tag"'

Answer = dict[str, object]
# By path: (status, body, what is done to it)
ANSWERS: dict[str, tuple[int, bytes, str]] = {
    "/small.jpg": (200, b"\xff\xd8\xff small", ""),
    "/large.jpg": (200, LARGE, ""),
    "/empty.jpg": (200, b"", ""),
    "/missing.jpg": (404, b"no", ""),
    "/cut.jpg": (200, LARGE, "cut"),
    "/hangs.jpg": (200, b"x", "hangs"),
    "/stalls.jpg": (200, LARGE, "stalls"),
}

# The same answers, as a program.
CGI = """
import os, sys, time
path = os.environ["DOCUMENT_URI"]
status, size, spoiled = {table!r}[path]
if spoiled == "hangs":
    time.sleep(60)
out = sys.stdout.buffer
fields = ["Status: %d" % status, "Content-Type: image/jpeg", "ETag: \\"tag\\"",
    "Content-Length: %d" % size, "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT"]
out.write(("\\n".join(fields) + "\\n\\n").encode())
if os.environ["REQUEST_METHOD"] != "HEAD":
    body = open({folder!r} + path, "rb").read()
    out.write(body[: size // 2] if spoiled else body)
out.flush()
if spoiled == "stalls":
    time.sleep(60)
"""


def _fields(status: int, body: bytes) -> bytes:
    return b"".join((
        b"Content-Type: image/jpeg\r\n", b'ETag: "tag"\r\n',
        b"Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
        b"Content-Length: %d\r\n\r\n" % len(body),
    ))  # fmt: skip


def _over_fastcgi(seen: fastcgi.Seen) -> fastcgi.Behaviour:
    status, body, spoiled = ANSWERS[seen.params["DOCUMENT_URI"].decode()]
    head = b"Status: %d\r\n" % status + _fields(status, body)
    if seen.params["REQUEST_METHOD"] == b"HEAD":
        body = b""
    wire = len(head) + len(body) // 2
    ends = {"cut": {"cut_at": wire}, "hangs": {"stall_at": 0}, "stalls": {"stall_at": wire}}
    return fastcgi.Behaviour(stdout=head + body, record_bytes=8000, **ends.get(spoiled, {}))


def _over_http(seen: http.Seen) -> http.Behaviour:
    status, body, spoiled = ANSWERS["/" + seen.target.partition("?")[0].rpartition("/")[2]]
    head = b"HTTP/1.1 %d X\r\n" % status + _fields(status, body)
    if seen.method == "HEAD":
        body = b""
    wire = len(head) + len(body) // 2
    ends = {"cut": {"cut_at": wire}, "hangs": {"stall_at": 0}, "stalls": {"stall_at": wire}}
    return http.Behaviour(head + body, keeps=False, **ends.get(spoiled, {}))


@dataclasses.dataclass
class Origin:
    pool: OriginPool
    client: Client

    @property
    def results(self) -> dict[Result, int]:
        [host] = self.pool.hosts
        return dict(host.stats.results)

    async def settled(self) -> dict[Result, int]:
        """How each exchange ended, when all have."""
        await until(lambda: not any(host.load for host in self.pool.hosts))
        return self.results


Running = Callable[..., AbstractAsyncContextManager[Origin]]


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    kind = request.param
    if kind == "s3":
        pytest.importorskip("obstore")

    @contextlib.asynccontextmanager
    async def running(deadlines: Deadlines = PATIENT) -> AsyncIterator[Origin]:
        async with contextlib.AsyncExitStack() as stack:
            client: Client
            address: Address
            match kind:
                case "fastcgi":
                    address = (await stack.enter_async_context(fastcgi_peer(_over_fastcgi))).address
                    client = FastCGIClient(SCRIPT, deadlines, LOGGER)
                case "http":
                    address = (await stack.enter_async_context(http_peer(_over_http))).address
                    client = HttpClient(deadlines, LOGGER)
                case "cgi":
                    program = _program(tmp_path)
                    address = Program(path=str(program))
                    client = CgiClient(Script(str(program)), deadlines, LOGGER, limit=16)
                case _:
                    address = (await stack.enter_async_context(http_peer(_over_http))).address
                    bucket = Bucket("pics", "", "us-east-1", f"http://{address}", "id", "key")
                    client = S3Client(HttpClient(deadlines, LOGGER), bucket, deadlines, LOGGER)
            pool = OriginPool(
                "app", [address], client,
                clock=asyncio.get_running_loop().time, chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            yield Origin(pool, client)
            await client.aclose()

    return running


def _program(folder: Path) -> Path:
    program = make_program(folder)
    table = {path: (status, len(body), how) for path, (status, body, how) in ANSWERS.items()}
    shebang = program.read_text().partition("\n")[0]
    for path, (_, body, _) in ANSWERS.items():
        (folder / path[1:]).write_bytes(body)
    program.write_text(shebang + CGI.replace("{table!r}", repr(table)).replace(
        "{folder!r}", repr(str(folder))))  # fmt: skip
    return program


def asked(path: str, request=GET):
    return dataclasses.replace(request, path=path, target=path, query="", headers=())


@pytest.mark.parametrize("loop", LOOPS)
def test_answers(origin: Running, loop: str) -> None:
    async def main() -> None:
        async with origin() as it:
            for path in ("/small.jpg", "/large.jpg", "/empty.jpg"):
                response = await it.pool.fetch(asked(path))
                fields = dict(response.headers)
                body = ANSWERS[path][1]
                assert (response.status, response.content_length) == (200, len(body))
                assert (fields["content-type"], fields["etag"]) == ("image/jpeg", TAG)
                assert fields["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
                assert not {"content-length", "status", "connection"} & set(fields)
                assert (response.controls, response.local_redirect) == ((), None)
                assert await read_all(response) == body
                assert response.is_cacheable
                assert await response.read() == b""  # and again
                await response.aclose()
            assert await it.settled() == {Result.ANSWERED: 3}

    run(main(), loop)


def test_head(origin: Running) -> None:
    async def main() -> None:
        async with origin() as it:
            response = await it.pool.fetch(asked("/large.jpg", HEAD))
            assert (response.status, response.content_length) == (200, len(LARGE))
            assert await read_all(response) == b""
            assert response.is_cacheable
            await response.aclose()
            assert await it.settled() == {Result.ANSWERED: 1}

    run(main())


def test_what_is_not_there(origin: Running) -> None:
    async def main() -> None:
        async with origin() as it:
            response = await it.pool.fetch(asked("/missing.jpg"))
            assert response.status == 404
            await read_all(response)
            await response.aclose()
            assert await it.settled() == {Result.ANSWERED: 1}

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cut_is_told(origin: Running, loop: str) -> None:
    async def main() -> None:
        async with origin() as it:
            response = await it.pool.fetch(asked("/cut.jpg"))
            assert response.status == 200
            with pytest.raises(OriginTruncated):
                await read_all(response)
            assert not response.is_cacheable
            with pytest.raises(OriginError):  # and again, whoever asks
                await response.read()
            await response.aclose()
            assert await it.settled() == {Result.TRUNCATED: 1}

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_waits_for_ever(origin: Running, loop: str) -> None:
    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, first_byte_s=SHORT_S, progress_s=SHORT_S)
        async with origin(deadlines) as it:
            with pytest.raises(OriginTimeout):
                await it.pool.fetch(asked("/hangs.jpg"))
            if not isinstance(it.client, CgiClient):  # an interpreter may not start in the time
                response = await it.pool.fetch(asked("/stalls.jpg"))
                with pytest.raises(OriginTimeout):
                    await read_all(response)
                assert not response.is_cacheable
                await response.aclose()
            assert set(await it.settled()) == {Result.TIMEOUT}

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_may_be_left(origin: Running, loop: str) -> None:
    async def main() -> None:
        async with origin() as it:
            response = await it.pool.fetch(asked("/large.jpg"))
            assert await response.read() != b""
            await response.aclose()
            assert not response.is_cacheable
            assert await it.settled() == {Result.ABANDONED: 1}

    run(main(), loop)


def test_a_request_may_be_cancelled(origin: Running) -> None:
    async def main() -> None:
        async with origin() as it:
            task = asyncio.ensure_future(it.pool.fetch(asked("/hangs.jpg")))
            await until(lambda: any(host.load for host in it.pool.hosts), pause_s=0)
            await asyncio.sleep(0.01)  # into the exchange, or not: it is the same
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await it.settled() == {Result.ABANDONED: 1}

    run(main())


def test_many_at_once(origin: Running) -> None:
    async def main() -> None:
        async with origin() as it:

            async def one(path: str) -> int:
                response = await it.pool.fetch(asked(path))
                return len(await read_all(response))

            paths = ("/small.jpg", "/large.jpg") * 5
            assert await asyncio.gather(*map(one, paths)) == [9, len(LARGE)] * 5
            assert await it.settled() == {Result.ANSWERED: 10}

    run(main())
