"""Streams between exchanges: how many, for how long, and what ends them early."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Callable

import pytest

from edge.origin.address import Address
from edge.origin.connect import Stream, open_stream
from edge.origin.errors import OriginError
from edge.origin.http.client import HttpClient
from edge.origin.kept import IDLE_S, KeptStreams
from edge.origin.names import Names
from tests.edge.origin.asking import GET, LOGGER, LOOPS, PATIENT, Witness, read_all, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.peers.http import Behaviour, Seen, http_peer


class Peer:
    """Accepts, and keeps what it accepted for the test."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 1)
        self.accepted: asyncio.Queue[Stream] = asyncio.Queue()
        self._names = Names(LOGGER)

    async def open(self) -> tuple[Stream, Stream]:
        """Ours, and the peer's."""
        ours = await open_stream(self.address, 10, self._names)
        return ours, await self.accepted.get()

    async def aclose(self) -> None:
        await self._names.aclose()


@contextlib.asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    theirs: list[Stream] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs.append((reader, writer))
        made.accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        for _, writer in theirs:
            if not writer.transport.is_closing():
                writer.transport.abort()
        server.close()
        await server.wait_closed()
        await made.aclose()


async def ended(stream: Stream) -> None:
    """The other side has closed or reset it."""
    async with asyncio.timeout(IDLE_S / 2):
        with contextlib.suppress(OSError):
            while await stream[0].read(1000):
                pass


@pytest.mark.parametrize("loop", LOOPS)
def test_the_last_one_is_taken_first_and_no_more_than_the_limit_wait(loop: str) -> None:
    async def main() -> None:
        async with peer() as host:
            kept = KeptStreams(2)
            assert await kept.maybe_take(host.address) is None
            pairs = [await host.open() for _ in range(3)]
            for ours, _ in pairs:
                kept.put(host.address, ours)
            await ended(pairs[2][1])  # had no place
            assert await kept.maybe_take(Address("127.0.0.1", 2)) is None
            assert await kept.maybe_take(host.address) is pairs[1][0]
            assert await kept.maybe_take(host.address) is pairs[0][0]
            assert await kept.maybe_take(host.address) is None
            # It still is as good as new.
            pairs[0][0][1].write(b"again")
            assert await pairs[0][1][0].readexactly(5) == b"again"
            for ours, _ in pairs[:2]:
                ours[1].transport.abort()
            await kept.aclose()

    run(main(), loop)


def close(stream: Stream) -> None:
    stream[1].close()


def reset(stream: Stream) -> None:
    stream[1].transport.abort()


def speak(stream: Stream) -> None:
    """Another's answer, sent late, must not become that of the next request."""
    stream[1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforgery")


ENDS: dict[str, Callable[[Stream], None]] = {"closes": close, "resets": reset, "speaks": speak}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ENDS)
def test_what_ends_one_that_waits(name: str, loop: str) -> None:
    async def main() -> None:
        async with peer() as host:
            kept = KeptStreams(2)
            ours, theirs = await host.open()
            kept.put(host.address, ours)
            ENDS[name](theirs)
            async with asyncio.timeout(IDLE_S / 2):
                while not ours[1].is_closing():
                    await asyncio.sleep(0.002)
            assert await kept.maybe_take(host.address) is None
            await ended(theirs)
            await kept.aclose()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("turns", [0, 1], ids=["before the watch has begun", "while it watches"])
@pytest.mark.parametrize("is_last", [False, True], ids=["open", "and closes"])
def test_who_speaks_in_the_turn_in_which_it_is_taken(turns: int, is_last: bool, loop: str) -> None:
    async def main() -> None:
        async with peer() as host:
            kept = KeptStreams(2)
            ours, theirs = await host.open()
            kept.put(host.address, ours)
            for _ in range(turns):
                await asyncio.sleep(0)
            ours[0].feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforgery")
            if is_last:
                ours[0].feed_eof()
            assert await kept.maybe_take(host.address) is None
            await ended(theirs)
            await kept.aclose()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_not_for_long(loop: str) -> None:
    async def main() -> None:
        async with peer() as host:
            kept = KeptStreams(2, idle_s=0.02)
            ours, theirs = await host.open()
            kept.put(host.address, ours)
            await ended(theirs)
            assert await kept.maybe_take(host.address) is None
            await kept.aclose()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_waits_behind_the_end(loop: str) -> None:
    async def main() -> None:
        before = open_sockets()
        async with peer() as host:
            kept = KeptStreams(2)
            pairs = [await host.open() for _ in range(2)]
            kept.put(host.address, pairs[0][0])
            await kept.aclose()
            kept.put(host.address, pairs[1][0])
            for _, theirs in pairs:
                await ended(theirs)
            assert await kept.maybe_take(host.address) is None
        for _ in range(100):
            if open_sockets() == before:
                break
            await asyncio.sleep(0)
        assert open_sockets() == before

    run(main(), loop)


def test_who_is_cancelled_while_it_takes_leaves_nothing_open() -> None:
    async def main() -> None:
        async with peer() as host:
            kept = KeptStreams(2)
            ours, theirs = await host.open()
            kept.put(host.address, ours)
            await asyncio.sleep(0)
            taking = asyncio.ensure_future(kept.maybe_take(host.address))
            await asyncio.sleep(0)
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                if (taken := await taking) is not None:
                    taken[1].transport.abort()
            await ended(theirs)
            await kept.aclose()

    run(main())


def test_many_at_once() -> None:
    """Takers and expiries in every order: no answer goes to another's request."""
    chance = random.Random(1)

    async def main() -> None:
        def application(seen: Seen) -> Behaviour:
            body = seen.target.encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            return Behaviour(head + body, keeps=chance.random() > 0.25)

        async with http_peer(application) as host:
            client = HttpClient(PATIENT, LOGGER, keep=3)
            client._kept = KeptStreams(3, idle_s=0.003)

            async def one(number: int) -> None:
                for turn in range(12):
                    request = dataclasses.replace(GET, target=f"/{number}.{turn}")
                    try:
                        response = await client.fetch(host.address, request, Witness())
                        assert await read_all(response) == request.target.encode()
                        await response.aclose()
                    except OriginError as failed:
                        raise AssertionError(request.target) from failed
                    await asyncio.sleep(0.001 * (turn % 3))

            await asyncio.gather(*map(one, range(12)))
            assert client.connections.reused > 0
            assert client.connections.opened + client.connections.reused == 144
            await client.aclose()

    run(main())
