"""Every fault that an application or the way to it can have, put to a pool: the right outcome, no
answer that is cut or odd marked as cacheable, no place and no connection left behind.

Statuses are not known here; see tests/behaviour/test_failures.py and test_origin.py for those.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
)
from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.messages import OriginRequest
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, POST, SCRIPT, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.peers.fastcgi import (
    BODY,
    END,
    PLAIN,
    STDERR,
    STDOUT,
    Behaviour,
    FastCGIPeer,
    Manners,
    fastcgi_peer,
)
from tests.peers.sockets import black_hole, full_unix, refusing

SHORT_S = 0.08
TYPE = b"Content-Type: image/jpeg\n"
IN_BODY = 8 + len(PLAIN) + 9
WELL, POLITE = Behaviour(), Manners()
TWO_PARTS = {"record_bytes": len(PLAIN)}  # the head in one record, the body in others


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is played, and what comes of it where no other host can help."""

    behaviour: Behaviour = WELL
    error: type[OriginError] | None = None
    phase: Phase | None = None
    manners: Manners = POLITE
    is_cacheable: bool = False
    is_retried: bool = False
    deadlines: Deadlines = PATIENT


def wire(*records: tuple[int, bytes]) -> Behaviour:
    return Behaviour(raw=b"".join(Behaviour().record(kind, content) for kind, content in records))


def late(phase: Phase, behaviour: Behaviour, **deadline: float) -> Fault:
    deadlines = dataclasses.replace(PATIENT, **deadline)
    return Fault(behaviour, OriginTimeout, phase, deadlines=deadlines)


OVERLOADED, CANT_MPX = (Behaviour(stdout=b"", protocol_status=n) for n in (2, 1))
# The rows of the table of faults, one by one.
FAULTS = {
    # before the head
    "accept then close": Fault(
        error=OriginBroken, manners=Manners(hangs_up=True), is_retried=True
    ),
    "close behind the request": Fault(Behaviour(raw=b""), OriginBroken, is_retried=True),
    "garbage": Fault(Behaviour(raw=b"HTTP/1.1 200 OK\r\n\r\n"), OriginBroken),
    "early close before headers": Fault(Behaviour(cut_at=20), OriginBroken),
    "never reply": late(Phase.FIRST_BYTE, Behaviour(stall_at=0), first_byte_s=SHORT_S),
    "never the rest of the head": late(
        Phase.FIRST_BYTE, Behaviour(stall_at=30), first_byte_s=SHORT_S
    ),
    "drip in the head": late(
        Phase.FIRST_BYTE, Behaviour(chop=1, drip_s=0.01), first_byte_s=SHORT_S
    ),
    "drip in the body": late(
        Phase.TOTAL, Behaviour(chop=12, drip_s=0.01, **TWO_PARTS), total_s=SHORT_S
    ),
    "stall in the body": late(
        Phase.PROGRESS, Behaviour(stall_at=IN_BODY, **TWO_PARTS), progress_s=SHORT_S
    ),
    # framing
    "wrong version": Fault(Behaviour(version=2), OriginBroken),
    "wrong request id": Fault(Behaviour(request_id=7), OriginBroken),
    "two ids interleaved": Fault(Behaviour(foreign_id=2, **TWO_PARTS), OriginTruncated),
    "contentLength too long": Fault(Behaviour(length_lie=1000), OriginBroken),
    # What it swallows lies beyond Content-Length.
    "contentLength a little too long": Fault(Behaviour(length_lie=9)),
    "contentLength too short": Fault(Behaviour(length_lie=-9), OriginTruncated),
    "255 bytes of padding": Fault(Behaviour(padding=255), is_cacheable=True),
    "empty and unknown records": Fault(Behaviour(noise=True)),
    "empty records": Fault(
        wire((STDERR, b""), (STDERR, b""), (STDOUT, PLAIN + BODY), (STDERR, b""), (STDOUT, b""),
             (STDERR, b""), (END, bytes(8))),
        is_cacheable=True,
    ),
    "empty STDOUT in the middle": Fault(
        wire((STDOUT, PLAIN), (STDOUT, b""), (STDOUT, BODY), (END, bytes(8))), is_cacheable=True
    ),
    "records of 1 byte": Fault(Behaviour(record_bytes=1), is_cacheable=True),
    "split in every header byte": Fault(Behaviour(record_bytes=5, chop=1), is_cacheable=True),
    # STDERR
    "STDERR flood": Fault(Behaviour(stderr_before=b"x" * 10_000_000), is_cacheable=True),
    "STDERR after STDOUT": Fault(Behaviour(stderr_after=b"PHP Notice\n"), is_cacheable=True),
    # the header block
    "no headers": Fault(Behaviour(stdout=BODY), OriginBroken),
    "no STDOUT": Fault(Behaviour(stdout=b""), OriginBroken),
    "no blank line": Fault(Behaviour(stdout=TYPE), OriginBroken),
    "1 MB of headers": Fault(Behaviour(stdout=TYPE + b"X: b\n" * 200_000 + b"\n"), OriginBroken),
    "Status: 999": Fault(Behaviour(stdout=b"Status: 999\n" + TYPE + b"\n"), OriginBroken),
    "CR in a value": Fault(Behaviour(stdout=TYPE + b"X: a\rSet-Cookie: b\n\n"), OriginBroken),
    "LF in a value": Fault(Behaviour(stdout=TYPE + b"X: a\nb\n\n"), OriginBroken),
    "NUL in a value": Fault(Behaviour(stdout=TYPE + b"X: a\0\n\n"), OriginBroken),
    # length and end
    "body short": Fault(Behaviour(stdout=PLAIN + BODY[:-1]), OriginTruncated),
    "END_REQUEST missing": Fault(Behaviour(has_end=False), OriginTruncated),
    "END_REQUEST missing, no length": Fault(
        Behaviour(stdout=TYPE + b"\n" + BODY, has_end=False), OriginTruncated
    ),
    "END_REQUEST of another size": Fault(
        wire((STDOUT, PLAIN + BODY), (END, bytes(7))), OriginTruncated
    ),
    "body long": Fault(Behaviour(stdout=PLAIN + BODY + b"excess")),
    "body long, for ever": Fault(Behaviour(stdout=PLAIN + BODY + b"x" * 5_000_000)),
    "data after END_REQUEST": Fault(Behaviour(behind_end=Behaviour().wire())),
    "appStatus 1": Fault(Behaviour(app_status=1)),
    # protocolStatus
    "OVERLOADED": Fault(OVERLOADED, OriginOverloaded, is_retried=True),
    "CANT_MPX_CONN": Fault(CANT_MPX, OriginOverloaded, is_retried=True),
    "OVERLOADED behind STDERR": Fault(
        dataclasses.replace(OVERLOADED, stderr_before=b"busy\n"), OriginOverloaded, is_retried=True
    ),
    "OVERLOADED behind output": Fault(Behaviour(protocol_status=2), OriginTruncated),
    "OVERLOADED behind half a head": Fault(
        Behaviour(stdout=TYPE, protocol_status=2), OriginBroken
    ),
    "UNKNOWN_ROLE": Fault(Behaviour(stdout=b"", protocol_status=3), OriginBroken),
    "protocolStatus 200": Fault(Behaviour(stdout=b"", protocol_status=200), OriginBroken),
}  # fmt: skip


def make_pool(
    addresses: tuple[Address, ...], deadlines: Deadlines, keep: int
) -> tuple[OriginPool, FastCGIClient]:
    client = FastCGIClient(SCRIPT, deadlines, LOGGER, keep=keep)
    pool = OriginPool(
        "app",
        addresses,
        client,
        clock=asyncio.get_running_loop().time,
        chance=lambda: 0.0,
        logger=LOGGER,
    )
    return pool, client


@dataclasses.dataclass
class Outcome:
    body: bytes = b""
    is_cacheable: bool = False
    error: OriginError | None = None


async def ask(pool: OriginPool, request: OriginRequest = GET) -> Outcome:
    outcome = Outcome()
    try:
        response = await pool.fetch(request)
        try:
            while piece := await response.read():
                outcome.body += piece
        finally:
            outcome.is_cacheable = response.is_cacheable
            await response.aclose()
    except OriginError as failed:
        outcome.error = failed
    assert outcome.error is None or not outcome.is_cacheable
    return outcome


@contextlib.asynccontextmanager
async def nothing_left(
    *peers: FastCGIPeer, pool: OriginPool, client: FastCGIClient
) -> AsyncIterator[None]:
    """Behind the block: no place taken, no connection on either side."""
    yield
    await client.aclose()
    for peer in peers:
        await peer.quiet()
    assert all(host.load == 0 for host in pool.hosts)


@contextlib.asynccontextmanager
async def no_descriptor_left() -> AsyncIterator[None]:
    before = open_sockets()
    yield
    for _ in range(100):  # a transport closes its socket some turns of the loop later
        if open_sockets() == before:
            return
        await asyncio.sleep(0)
    assert open_sockets() == before


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", FAULTS)
def test_alone(name: str, loop: str, keep: int) -> None:
    fault = FAULTS[name]

    async def main() -> None:
        async with (
            no_descriptor_left(),
            fastcgi_peer(fault.behaviour, manners=fault.manners) as peer,
        ):
            pool, client = make_pool((peer.address,), fault.deadlines, keep)
            async with nothing_left(peer, pool=pool, client=client):
                outcome = await ask(pool)
                if fault.error is None:
                    assert (outcome.error, outcome.body) == (None, BODY)
                else:
                    assert type(outcome.error) is fault.error
                    assert getattr(outcome.error, "phase", None) is fault.phase
                    assert BODY.startswith(outcome.body)
                assert outcome.is_cacheable is fault.is_cacheable
                assert peer.connections == 1
            assert pool.hosts[0].stats.results.total() == 1

    run(main(), loop)


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_with_a_host_that_is_well(name: str, keep: int) -> None:
    """GET and HEAD are put to the other host where not a byte of an answer was read."""
    fault = FAULTS[name]

    async def main() -> None:
        async with (
            no_descriptor_left(),
            fastcgi_peer(fault.behaviour, manners=fault.manners) as ill,
            fastcgi_peer(Behaviour()) as well,
        ):
            pool, client = make_pool((ill.address, well.address), fault.deadlines, keep)
            async with nothing_left(ill, well, pool=pool, client=client):
                outcome = await ask(pool)
                assert len(well.requests) == fault.is_retried
                if fault.is_retried:
                    assert (outcome.body, outcome.is_cacheable) == (BODY, True)
                elif fault.error is not None:
                    assert type(outcome.error) is fault.error

    run(main())


@contextlib.contextmanager
def unreachable(kind: str, folder: Path) -> Iterator[Address]:
    if kind == "refused":
        yield refusing()
    elif kind == "no socket":
        yield Address(path=str(folder / "missing"))
    elif kind == "backlog full":
        with full_unix(str(folder / "s")) as address:
            yield address
    else:
        with black_hole() as address:
            yield address


UNREACHABLE = [
    ("refused", OriginRefused, Result.REFUSED),
    ("no socket", OriginRefused, Result.REFUSED),
    ("backlog full", OriginOverloaded, Result.OVERLOADED),
    ("black hole", OriginTimeout, Result.CONNECT_TIMEOUT),
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("kind", "error", "result"), UNREACHABLE)
def test_unreachable(
    kind: str, error: type[OriginError], result: Result, loop: str, tmp_path: Path
) -> None:
    deadlines = dataclasses.replace(PATIENT, connect_s=SHORT_S)

    async def main(address: Address) -> None:
        async with no_descriptor_left(), fastcgi_peer(Behaviour()) as well:
            alone, client = make_pool((address,), deadlines, 0)
            async with nothing_left(pool=alone, client=client):
                assert type((await ask(alone)).error) is error
                assert alone.hosts[0].stats.results == {result: 1}
            # Nothing was sent, so even a POST finds the other host.
            for request in (GET, HEAD, POST):
                pool, client = make_pool((address, well.address), deadlines, 0)
                async with nothing_left(well, pool=pool, client=client):
                    outcome = await ask(pool, request)
                    assert outcome.body == (b"" if request is HEAD else BODY)
                    assert outcome.is_cacheable
            assert well.requests[-1].stdin == POST.body

    with unreachable(kind, tmp_path) as address:
        run(main(address), loop)


def test_a_post_is_not_put_twice_where_it_may_have_been_acted_upon() -> None:
    async def main() -> None:
        async with (
            fastcgi_peer(Behaviour(raw=b"")) as ill,
            fastcgi_peer(Behaviour()) as well,
        ):
            pool, client = make_pool((ill.address, well.address), PATIENT, 2)
            async with nothing_left(ill, well, pool=pool, client=client):
                assert type((await ask(pool, POST)).error) is OriginBroken
                assert (len(ill.requests), len(well.requests)) == (1, 0)

    run(main())


# Longer than what is cut, so that every one of the bytes is inside of the answer.
LONG = BODY * 4
LONG_ANSWER = PLAIN.replace(b"64", b"256") + LONG


@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("loop", LOOPS)
def test_lost_at_every_byte(loop: str, keep: int, *, is_reset: bool) -> None:
    """A reset or a close at byte k of an answer of 400, for every k to 200: refused or cut, never
    taken for whole, and the next request is answered."""

    async def main() -> None:
        at: int | None = None

        def application(_: object) -> Behaviour:
            good = Behaviour(stdout=LONG_ANSWER, record_bytes=48)
            return dataclasses.replace(good, **{"reset_at" if is_reset else "cut_at": at})

        assert len(application(None).wire()) > 400
        async with no_descriptor_left(), fastcgi_peer(application) as peer:
            pool, client = make_pool((peer.address,), PATIENT, keep)
            async with nothing_left(peer, pool=pool, client=client):
                for k in range(201):
                    at = k
                    outcome = await ask(pool)
                    assert type(outcome.error) in (OriginBroken, OriginTruncated), k
                    assert len(outcome.body) < len(LONG) and LONG.startswith(outcome.body)
                    at = None
                    whole = await ask(pool)
                    assert (whole.body, whole.is_cacheable) == (LONG, True)
            results = pool.hosts[0].stats.results
            assert results[Result.ANSWERED] == 201
            assert results[Result.BROKEN] + results[Result.TRUNCATED] == 201
            assert results[Result.BROKEN] > 50 and results[Result.TRUNCATED] > 50

    run(main(), loop)
