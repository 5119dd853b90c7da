"""Request bodies that are sent while the answer is read."""

import asyncio
import dataclasses
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.http.body import Descriptor, FileSlice
from edge.origin.errors import BodyUnreadable, OriginBroken, OriginTimeout, Phase
from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.response import FastCGIResponse
from edge.origin.file_body import FileBody
from edge.origin.messages import OriginRequest, RequestBody
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import (
    LOGGER,
    LOOPS,
    PATIENT,
    POST,
    SCRIPT,
    Witness,
    read_all,
    run,
)
from tests.peers.fastcgi import BODY, PLAIN, Behaviour, FastCGIPeer, Manners, fastcgi_peer

LARGE = 12_000_000


@dataclasses.dataclass
class Body:
    """Repeats its piece up to its length."""

    length: int
    lasts: int | None = None  # what there is of it
    fails: bool = False  # instead of ending early
    pause_s: float = 0.0
    reads: list[int] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return self.length

    async def read(self, size: int, offset: int) -> bytes:
        self.reads.append(offset)
        await asyncio.sleep(self.pause_s)
        end = self.length if self.lasts is None else self.lasts
        if self.fails and offset >= end:
            raise OSError("disk")
        return bytes(min(size, end - offset))


def posting(body: RequestBody) -> OriginRequest:
    return dataclasses.replace(POST, body=body)


async def fetch(
    peer: FastCGIPeer, body: RequestBody, witness: Witness, deadlines: Deadlines = PATIENT
) -> FastCGIResponse:
    client = FastCGIClient(SCRIPT, deadlines, LOGGER)
    return await client.fetch(peer.address, posting(body), witness)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [0, 1, 65_527, 65_528, 65_529, 1_000_000])
def test_passes(size: int, loop: str) -> None:
    async def main() -> None:
        witness = Witness()
        async with fastcgi_peer(Behaviour()) as peer:
            response = await fetch(peer, Body(size), witness)
            assert await read_all(response) == BODY
            (seen,) = peer.requests
            assert seen.stdin == bytes(size)
            assert seen.params["CONTENT_LENGTH"] == str(size).encode()
        assert witness.results == [Result.ANSWERED]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_both_sides_full(loop: str) -> None:
    """The application reads nothing before its answer is taken: megabytes wait on both sides."""

    async def main() -> None:
        stdout = b"Content-Type: a/b\n\n" + bytes(LARGE)
        async with fastcgi_peer(
            Behaviour(stdout=stdout), manners=Manners(answers_first=True)
        ) as peer:
            body = Body(LARGE)
            response = await fetch(peer, body, Witness())
            assert len(await response.read()) < LARGE
            assert body.reads[-1] < LARGE / 2  # held back, as nobody takes it
            assert len(await read_all(response)) > LARGE / 2

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_waits_for_the_body(loop: str) -> None:
    """Slower than the deadline of the first byte, which runs from the body's end."""

    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, first_byte_s=0.1)
        async with fastcgi_peer(Behaviour()) as peer:
            response = await fetch(peer, Body(600_000, pause_s=0.02), Witness(), deadlines)
            assert await read_all(response) == BODY
            assert len(peer.requests[0].stdin) == 600_000

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_stops_reading(loop: str) -> None:
    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, progress_s=0.05)
        witness = Witness()
        async with fastcgi_peer(Behaviour(), manners=Manners(reads_bytes=100_000)) as peer:
            with pytest.raises(OriginTimeout) as caught:
                await fetch(peer, Body(60_000_000), witness, deadlines)
            assert caught.value.phase is Phase.PROGRESS
            await peer.quiet()
        assert witness.results == [Result.TIMEOUT]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_deadline_of_the_first_byte_runs_from_the_end(loop: str) -> None:
    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, first_byte_s=0.05)
        async with fastcgi_peer(Behaviour(stall_at=0)) as peer:
            with pytest.raises(OriginTimeout) as caught:
                await fetch(peer, Body(300_000), Witness(), deadlines)
            assert caught.value.phase is Phase.FIRST_BYTE
            assert len(peer.requests[0].stdin) == 300_000

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fails", [True, False])
def test_a_body_that_cannot_be_read(fails: bool, loop: str) -> None:
    """It ends early, or its disk fails: the request is given up, and the origin is not blamed."""

    async def main() -> None:
        witness = Witness()
        async with fastcgi_peer(Behaviour()) as peer:
            with pytest.raises(BodyUnreadable):
                await fetch(peer, Body(500_000, lasts=200_000, fails=fails), witness)
            await peer.quiet()
            assert peer.requests == []
        assert witness.results == [Result.ABANDONED]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_before_the_body_was_read(loop: str) -> None:
    """413 and a close: the answer counts, if the connection's reset does not overtake it."""

    async def main() -> None:
        witness = Witness()
        async with fastcgi_peer(Behaviour(), manners=Manners(leaves_early=True)) as peer:
            try:
                response = await fetch(peer, Body(LARGE), witness)
                assert await read_all(response) == BODY
            except OriginBroken:
                assert witness.results == [Result.BROKEN]
            else:
                assert witness.results == [Result.ANSWERED]
            await peer.quiet()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_given_up_while_the_body_goes_up(loop: str) -> None:
    async def main() -> None:
        witness = Witness()
        stdout = PLAIN.replace(b"64", b"9000000") + bytes(8_000_000)
        async with fastcgi_peer(
            Behaviour(stdout=stdout), manners=Manners(answers_first=True)
        ) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=2)
            response = await client.fetch(peer.address, posting(Body(LARGE)), witness)
            await response.read()
            await response.aclose()
            await peer.quiet()  # closed, not kept: the next request would be read as its STDIN
            await client.aclose()
        assert witness.results == [Result.ABANDONED]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_ends_before_the_body(loop: str) -> None:
    """The next request would be read as the rest of this one's STDIN."""

    async def main() -> None:
        async with fastcgi_peer(Behaviour(), manners=Manners(answers_first=True)) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=2)
            body = Body(LARGE, pause_s=0.01)
            response = await client.fetch(peer.address, posting(body), Witness())
            assert await read_all(response) == BODY
            assert client._kept.count == 0
            await peer.quiet()
            assert len(body.reads) < LARGE / 65_528
            await client.aclose()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_kept_after_a_body(loop: str) -> None:
    async def main() -> None:
        async with fastcgi_peer(Behaviour()) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=2)
            for body in (Body(100_000), Body(0)):
                response = await client.fetch(peer.address, posting(body), Witness())
                assert await read_all(response) == BODY
            assert client._kept.count == 2
            await client.aclose()

    run(main(), loop)


def test_another_host_gets_the_whole_body() -> None:
    async def main() -> None:
        busy = Behaviour(stdout=b"", protocol_status=2)
        async with fastcgi_peer(busy) as first, fastcgi_peer(Behaviour()) as second:
            pool = OriginPool(
                "app",
                (first.address, second.address),
                FastCGIClient(SCRIPT, PATIENT, LOGGER),
                clock=asyncio.get_running_loop().time,
                chance=lambda: 0.0,
                logger=LOGGER,
            )
            body = Body(200_000)
            response = await pool.fetch(posting(body))
            assert await read_all(response) == BODY
            assert [len(seen.stdin) for seen in first.requests + second.requests] == [200_000] * 2
            assert body.reads.count(0) == 2

    run(main())


def test_a_body_in_a_file() -> None:
    async def main() -> None:
        content = os.urandom(300_000)
        with tempfile.TemporaryFile() as file, ThreadPoolExecutor(1) as threads:
            file.write(b"before" + content + b"behind")
            file.flush()
            part = FileSlice(Descriptor(os.dup(file.fileno())), 6, 6 + len(content))
            body = FileBody(part, threads)
            assert len(body) == len(content)
            assert await body.read(10, 0) == content[:10]
            assert await body.read(10, len(content) - 3) == content[-3:]
            async with fastcgi_peer(Behaviour()) as peer:
                await read_all(await fetch(peer, body, Witness()))
                assert peer.requests[0].stdin == content

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_body_may_take_longer_than_the_total(loop: str) -> None:
    """Each 64 KiB that the application takes earn a second, going up as coming down."""

    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, total_s=0.1)
        async with fastcgi_peer(Behaviour()) as peer:
            response = await fetch(peer, Body(600_000, pause_s=0.03), Witness(), deadlines)
            assert await read_all(response) == BODY

    run(main(), loop)
