"""Bodies of requests to HTTP origins, sent while the answer is read; CGI's are in test_cgi.py."""

import asyncio
import dataclasses

import pytest

from edge.origin.errors import BodyUnreadable, OriginTimeout, Phase
from edge.origin.exchange import Deadlines, Result
from edge.origin.http.client import HttpClient, HttpResponse
from edge.origin.messages import RequestBody
from edge.origin.upload import PIECE_BYTES
from tests.edge.origin.asking import LOGGER, LOOPS, PATIENT, POST, Witness, read_all, run
from tests.peers.http import BODY, Behaviour, HttpPeer, Manners, http_peer

LARGE = 12_000_000


@dataclasses.dataclass
class Zeros:
    """May be shorter, or give more, than it says."""

    length: int
    lasts: int | None = None  # what there is of it
    fails: bool = False  # instead of ending early
    gives: int = 0  # so many bytes more than were asked for
    pause_s: float = 0.0
    read_to: int = 0

    def __len__(self) -> int:
        return self.length

    async def read(self, size: int, offset: int) -> bytes:
        assert offset == self.read_to
        await asyncio.sleep(self.pause_s)
        end = self.length if self.lasts is None else self.lasts
        if self.fails and offset >= end:
            raise OSError("disk")
        piece = bytes(min(size, end - offset) + self.gives)
        self.read_to += len(piece)
        return piece


async def fetch(
    peer: HttpPeer, body: RequestBody, witness: Witness, deadlines: Deadlines = PATIENT
) -> HttpResponse:
    client = HttpClient(deadlines, LOGGER)
    return await client.fetch(peer.address, dataclasses.replace(POST, body=body), witness)


SIZES = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 1_000_000]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", SIZES)
def test_passes(size: int, loop: str) -> None:
    async def main() -> None:
        witness = Witness()
        async with http_peer(Behaviour()) as peer:
            response = await fetch(peer, Zeros(size), witness)
            assert await read_all(response) == BODY
            (seen,) = peer.requests
            assert (seen.body, seen.field("content-length")) == (bytes(size), str(size))
        assert witness.results == [Result.ANSWERED]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_both_sides_full(loop: str) -> None:
    """The origin reads nothing before its answer is taken: megabytes wait on both sides."""

    async def main() -> None:
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(LARGE)
        async with http_peer(Behaviour(wire), manners=Manners(answers_first=True)) as peer:
            body = Zeros(LARGE)
            response = await fetch(peer, body, Witness())
            got = len(await response.read())
            assert got < LARGE
            assert body.read_to < LARGE  # held back, as nobody takes it
            assert got + len(await read_all(response)) == LARGE

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_waits_for_the_body(loop: str) -> None:
    """Slower than the deadline of the first byte, which runs from the body's end."""

    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, first_byte_s=0.1)
        async with http_peer(Behaviour()) as peer:
            response = await fetch(peer, Zeros(600_000, pause_s=0.02), Witness(), deadlines)
            assert await read_all(response) == BODY
            assert len(peer.requests[0].body) == 600_000

    run(main(), loop)


LATE = [
    # knobs, what the peer does, the deadline that is short, the phase
    (Behaviour(stall_at=0), Manners(), "first_byte_s", Phase.FIRST_BYTE, 300_000),
    (Behaviour(), Manners(reads_bytes=100_000), "progress_s", Phase.PROGRESS, 60_000_000),
    (Behaviour(), Manners(reads_bytes=1_000), "total_s", Phase.TOTAL, 2_000),
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("behaviour", "manners", "deadline", "phase", "size"), LATE)
def test_deadlines(behaviour, manners, deadline, phase, size, loop) -> None:
    async def main() -> None:
        witness = Witness()
        deadlines = dataclasses.replace(PATIENT, **{deadline: 0.05})
        async with http_peer(behaviour, manners=manners) as peer:
            with pytest.raises(OriginTimeout) as caught:
                await fetch(peer, Zeros(size), witness, deadlines)
            assert caught.value.phase is phase
            await peer.quiet()
        assert witness.results == [Result.TIMEOUT]

    run(main(), loop)


UNREADABLE = [
    Zeros(300_000, lasts=0),
    Zeros(300_000, lasts=PIECE_BYTES),
    Zeros(300_000, lasts=100_000, fails=True),
    Zeros(300_000, gives=1),
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("body", UNREADABLE)
def test_a_body_that_cannot_be_read(body: Zeros, loop: str) -> None:
    """The request is given up, and the origin is not blamed."""

    async def main() -> None:
        witness = Witness()
        async with http_peer(Behaviour()) as peer:
            with pytest.raises(BodyUnreadable):
                await fetch(peer, dataclasses.replace(body), witness)
            await peer.quiet()
            assert peer.requests == []
        assert witness.results == [Result.ABANDONED]

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_body_may_take_longer_than_the_total(loop: str) -> None:
    """Each 64 KiB that the origin takes earn a second, going up as coming down."""

    async def main() -> None:
        deadlines = dataclasses.replace(PATIENT, total_s=0.1)
        async with http_peer(Behaviour()) as peer:
            response = await fetch(peer, Zeros(600_000, pause_s=0.03), Witness(), deadlines)
            assert await read_all(response) == BODY

    run(main(), loop)
