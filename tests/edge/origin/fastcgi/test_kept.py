"""Connections that are used again, and those that must not be."""

import asyncio
import dataclasses
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from edge.origin.address import Address
from edge.origin.channel import Channel
from edge.origin.errors import OriginBroken, OriginError, OriginTruncated
from edge.origin.exchange import Connections, Result
from edge.origin.fastcgi import response as response_module
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.idle import IDLE_S, IdleChannels
from edge.origin.messages import OriginRequest
from tests.edge.origin.asking import (
    GET,
    HEAD,
    LOGGER,
    LOOPS,
    PATIENT,
    POST,
    SCRIPT,
    Witness,
    read_all,
    run,
)
from tests.edge.origin.fastcgi.test_client import (
    BROKEN,
    GOOD,
    ODD_BUT_WHOLE,
    TRUNCATED,
    open_sockets,
)
from tests.peers.fastcgi import BODY, PLAIN, Behaviour, FastCGIPeer, Manners, Seen, fastcgi_peer
from tests.waiting import until

GOOD_ONE, PLAIN_MANNERS = Behaviour(), Manners()
HALF = Behaviour(stall_at=8 + len(PLAIN) + 9, record_bytes=len(PLAIN))


@dataclasses.dataclass
class Rig:
    peer: FastCGIPeer
    client: FastCGIClient
    witness: Witness = dataclasses.field(default_factory=Witness)

    async def ask(self, request: OriginRequest = GET) -> bytes:
        response = await self.client.fetch(self.peer.address, request, self.witness)
        return await read_all(response)

    @property
    def connections(self) -> Connections:
        return self.client.connections

    @property
    def idle(self) -> int:
        return self.client._kept.count


@asynccontextmanager
async def rig(
    behaviour: Behaviour | Callable[[Seen], Behaviour] = GOOD_ONE,
    manners: Manners = PLAIN_MANNERS,
    keep: int = 2,
) -> AsyncIterator[Rig]:
    before = open_sockets()
    async with fastcgi_peer(behaviour, manners=manners) as peer:
        client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=keep)
        yield Rig(peer, client)
        await client.aclose()
        await peer.quiet()
    for _ in range(100):
        if open_sockets() == before:
            return
        await asyncio.sleep(0)
    assert open_sockets() == before


@pytest.mark.parametrize("loop", LOOPS)
def test_one_connection_for_many_requests(loop: str) -> None:
    async def main() -> None:
        async with rig() as it:
            for _ in range(5):
                assert await it.ask() == BODY
            assert await it.ask(HEAD) == b""
            assert it.peer.connections == 1
            assert (it.connections.opened, it.connections.reused, it.connections.lost) == (1, 5, 0)
            assert it.witness.results == [Result.ANSWERED] * 6
            assert it.witness.connects == 6
            assert {seen.flags for seen in it.peer.requests} == {1}

    run(main(), loop)


def test_off_by_default() -> None:
    async def main() -> None:
        async with rig(keep=0) as it:
            await it.ask()
            await it.ask()
            assert it.peer.connections == 2
            assert {seen.flags for seen in it.peer.requests} == {0}

    run(main())


def first_then_good(first: Behaviour) -> Callable[[Seen], Behaviour]:
    count = 0

    def application(seen: Seen) -> Behaviour:
        nonlocal count
        count += 1
        return first if count == 1 else Behaviour()

    return application


CASES = {**GOOD, **ODD_BUT_WHOLE, **BROKEN, **TRUNCATED}
# Fit to be followed by another: whatever is strange about an exchange ends its connection.
REUSED = GOOD.keys() - {"noise"}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", CASES)
def test_a_fault_does_not_reach_the_next_exchange(case: str, loop: str) -> None:
    async def main() -> None:
        async with rig(first_then_good(CASES[case])) as it:
            try:
                body = await it.ask()
            except OriginError as failed:
                assert type(failed) in (OriginBroken, OriginTruncated)
                assert case in BROKEN or case in TRUNCATED
            else:
                assert body == BODY
            assert it.idle == (case in REUSED)
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            assert await read_all(response) == BODY
            assert response.is_cacheable
            assert it.connections.reused == (case in REUSED)
            assert len(it.witness.results) == 2

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_while_it_waits(loop: str) -> None:
    """The application ignores KEEP_CONN, or closes a moment later: seen, and nothing is lost."""

    async def main() -> None:
        async with rig(Behaviour(keeps=False)) as it:
            await it.ask()
            await it.peer.quiet()
            async with asyncio.timeout(IDLE_S / 2):
                await until(lambda: not it.idle, pause_s=0)
            assert await it.ask() == BODY
            assert (it.connections.opened, it.connections.lost) == (2, 0)

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_dead_when_the_request_comes(loop: str) -> None:
    """Closed between requests, seen only by the request: put once more, on a new connection."""

    async def main() -> None:
        async with rig(manners=Manners(requests_per_connection=1)) as it:
            for _ in range(3):
                assert await it.ask() == BODY
            assert it.peer.connections == 3
            assert (it.connections.opened, it.connections.reused, it.connections.lost) == (3, 0, 2)
            assert it.witness.results == [Result.ANSWERED] * 3
            assert it.witness.connects == 3

    run(main(), loop)


def test_what_may_not_be_repeated_has_its_own_connection() -> None:
    async def main() -> None:
        async with rig(manners=Manners(requests_per_connection=1)) as it:
            await it.ask()
            assert it.idle == 1
            assert await it.ask(POST) == BODY
            assert [seen.connection for seen in it.peer.requests] == [1, 2]
            assert it.connections.lost == 0

    run(main())


def test_not_more_than_the_limit() -> None:
    async def main() -> None:
        async with rig(keep=2) as it:
            assert await asyncio.gather(*(it.ask() for _ in range(6))) == [BODY] * 6
            assert it.idle == 2
            await until(lambda: len(it.peer.is_open) <= 2, pause_s=0)

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_not_for_long(loop: str) -> None:
    async def main() -> None:
        async with rig() as it:
            it.client._kept = IdleChannels(2, idle_s=0.02)
            await it.ask()
            assert it.idle == 1
            await it.peer.quiet()
            assert it.idle == 0

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_speaks_unasked_is_closed(loop: str) -> None:
    """Another's answer, sent late, must not become that of the next request."""

    async def main() -> None:
        async with rig(Behaviour(unasked=Behaviour().wire())) as it:
            await it.ask()
            async with asyncio.timeout(IDLE_S / 2):
                await it.peer.quiet()
            assert it.idle == 0

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_abort_and_drain(loop: str) -> None:
    async def main() -> None:
        # At the end of a record: what comes behind it is read as one.
        behaviour = dataclasses.replace(HALF, stall_at=8 + len(PLAIN), obeys_abort=True)
        async with rig(first_then_good(behaviour)) as it:
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            await response.aclose()
            assert it.witness.results == []  # the host is still at it
            await until(lambda: it.idle, pause_s=0)
            assert it.witness.results == [Result.ABANDONED]
            assert not response.is_cacheable
            with pytest.raises(OriginTruncated):
                await response.read()
            assert await it.ask() == BODY
            assert (it.peer.connections, it.peer.aborts) == (1, 1)

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_abort_of_an_answer_that_had_left(loop: str) -> None:
    """The whole answer is under way: what is left of it is read, and the connection kept."""

    async def main() -> None:
        stdout = PLAIN.replace(b"64", b"300064") + BODY + bytes(300_000)
        async with rig(Behaviour(stdout=stdout)) as it:
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            await response.aclose()
            await until(lambda: it.idle, pause_s=0)
            assert len(await it.ask()) == 300_064
            assert it.peer.connections == 1

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", ["does not end", "ends too late", "too much"])
def test_abort_that_is_not_heard(case: str, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_module, "DRAIN_S", 0.05 if case == "does not end" else 20)
    monkeypatch.setattr(response_module, "DRAIN_BYTES", 10_000)
    endless = Behaviour(stdout=PLAIN.replace(b"64", b"9000000") + bytes(8_000_000), stall_at=8**8)

    async def main() -> None:
        async with rig(HALF if case == "does not end" else endless) as it:
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            await response.aclose()
            if case == "ends too late":
                await it.client.aclose()  # the node stops meanwhile
            await it.peer.quiet()
            assert it.witness.results == [Result.ABANDONED]
            assert it.idle == 0

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_with_unsent_bytes_is_not_kept(tmp_path, loop: str) -> None:
    """The rest of a body would go ahead of the next request."""
    goes_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(16)
        writer.write(GOOD_ONE.wire())
        await asyncio.wait_for(goes_on.wait(), 10)
        writer.transport.abort()

    async def main() -> None:
        path = str(tmp_path / "app")
        async with await asyncio.start_unix_server(serve, path):
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=2)
            request = dataclasses.replace(POST, body=bytes(1 << 20))
            response = await client.fetch(Address(path=path), request, Witness())
            assert await read_all(response) == BODY
            assert client._kept.count == 0
            goes_on.set()
            await client.aclose()

    run(main(), loop)


def test_nothing_is_kept_behind_the_end() -> None:
    async def main() -> None:
        async with rig() as it:
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            await it.client.aclose()
            assert await read_all(response) == BODY
            await it.peer.quiet()
            assert it.idle == 0

    run(main())


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_under_way_goes_on_behind_the_end(keep: int, loop: str) -> None:
    """A node that stops waits for its arrivals, and has closed its origins by then."""

    async def main() -> None:
        goes_on = asyncio.Event()

        async def bits() -> AsyncIterator[bytes]:
            yield PLAIN + BODY[:9]
            await goes_on.wait()
            yield BODY[9:]

        behaviour = Behaviour(bits=bits, stdout=b"")
        async with rig(behaviour, keep=keep) as it:
            response = await it.client.fetch(it.peer.address, GET, it.witness)
            assert await response.read() == BODY[:9]
            reading = asyncio.ensure_future(response.read())
            await asyncio.sleep(0)
            await it.client.aclose()
            goes_on.set()
            assert await asyncio.wait_for(reading, 10) + await read_all(response) == BODY[9:]
            assert it.witness.results == [Result.ANSWERED]
            assert it.client._poller._epoll is None

    run(main(), loop)


def test_many_clients_at_once() -> None:
    """Takers and expiries in every order: no answer goes to another's request."""

    async def main() -> None:
        def application(seen: Seen) -> Behaviour:
            body = seen.params["QUERY_STRING"]
            return Behaviour(
                stdout=b"Content-Type: a/b\nContent-Length: %d\n\n" % len(body) + body,
                keeps=os.urandom(1)[0] % 4 > 0,
            )

        async with rig(application, keep=3) as it:
            it.client._kept = IdleChannels(3, idle_s=0.003)

            async def one(number: int) -> None:
                for turn in range(12):
                    query = f"n={number}.{turn}"
                    request = dataclasses.replace(GET, query=query)
                    assert await it.ask(request) == query.encode()
                    await asyncio.sleep(0.001 * (turn % 3))

            await asyncio.gather(*map(one, range(12)))
            assert it.connections.reused > 0
            total = it.connections.opened + it.connections.reused
            assert total == 144

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_cannot_be_watched_is_not_kept(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its answer is whole all the same."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def main() -> None:
        async with rig() as it:
            monkeypatch.setattr(Channel, "watch", full)
            assert await it.ask() == BODY
            assert it.idle == 0
            assert it.witness.results == [Result.ANSWERED]
            await it.peer.quiet()

    run(main(), loop)


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_in_any_turn(keep: int, loop: str) -> None:
    """Told once of its end, nothing left open, and the next exchange has its own answer."""

    async def main() -> None:
        def application(seen: Seen) -> Behaviour:
            body = seen.params["QUERY_STRING"]
            stdout = b"Content-Type: a/b\nContent-Length: %d\n\n" % len(body) + body
            return Behaviour(stdout=stdout, record_bytes=20, chop=30, obeys_abort=True)

        async with rig(application, keep=keep) as it:
            for turns in range(1, 41):  # before the first one nothing has begun
                asking = asyncio.ensure_future(it.ask(dataclasses.replace(GET, query="given-up")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait((asking,))
                await until(lambda turns=turns: len(it.witness.results) == 2 * turns - 1)
                query = f"n={turns}"
                assert await it.ask(dataclasses.replace(GET, query=query)) == query.encode()
            assert it.witness.results.count(Result.ABANDONED) > 5
            assert len(it.witness.results) == 80

    run(main(), loop)


ANOTHERS = b"Content-Type: image/jpeg\nContent-Length: 9\n\nanother's"


@dataclasses.dataclass(frozen=True)
class SaysTwice(Behaviour):
    """Says its answer to the request before once more, whole: ahead of its answer to this one, or
    behind its head."""

    past_id: int = 0
    is_ahead: bool = True

    def wire(self) -> bytes:
        past = Behaviour(ANOTHERS, request_id=self.past_id).wire()
        own = super().wire()
        at = 0 if self.is_ahead else own.index(BODY) - 8  # and the header
        return own[:at] + past + own[at:]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("is_ahead", [True, False])
def test_what_was_said_before_is_not_taken_for_an_answer(is_ahead: bool, loop: str) -> None:
    async def main() -> None:
        ids: list[int] = []

        def application(seen: Seen) -> Behaviour:
            ids.append(seen.request_id)
            if len(ids) != 2:
                return Behaviour()
            return SaysTwice(record_bytes=len(PLAIN), past_id=ids[0], is_ahead=is_ahead)

        async with rig(application) as it:
            assert await it.ask() == BODY
            with pytest.raises(OriginBroken if is_ahead else OriginTruncated, match="request 1"):
                await it.ask()
            assert it.idle == 0
            assert await it.ask() == BODY
            assert (it.connections.opened, it.connections.reused) == (2, 1 - is_ahead)
            assert it.connections.lost == 0  # not asked a second time behind anyone's back
            fault = Result.BROKEN if is_ahead else Result.TRUNCATED
            assert it.witness.results == [Result.ANSWERED, fault, Result.ANSWERED]
            assert len(set(ids)) == 3

    run(main(), loop)


def test_ids_go_round() -> None:
    async def main() -> None:
        async with rig() as it:
            it.client._last_id = 65_533
            for _ in range(4):
                assert await it.ask() == BODY
            assert [seen.request_id for seen in it.peer.requests] == [65_534, 65_535, 1, 2]
            assert it.peer.connections == 1

    run(main())


def test_an_id_is_enough_where_nothing_is_kept() -> None:
    async def main() -> None:
        async with rig(keep=0) as it:
            await it.ask()
            await it.ask(POST)
            assert {seen.request_id for seen in it.peer.requests} == {1}

    run(main())
