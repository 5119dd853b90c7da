"""Answers that are read while they are made: no deadline but the one between two pieces."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.cgi import CgiClient, Program
from edge.origin.errors import OriginTimeout, Phase
from edge.origin.exchange import Client, Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.params import Script
from edge.origin.http.client import HttpClient
from tests.edge.origin.asking import GET, LOGGER, PATIENT, SCRIPT, Witness, read_all, run
from tests.peers.fastcgi import Behaviour, fastcgi_peer
from tests.peers.http import Behaviour as HttpBehaviour
from tests.peers.http import http_peer
from tests.waiting import until

TOTAL_S, PAUSE_S, SHORT_S = 0.3, 0.5, 0.05
EVENTS = "Content-Type: text/event-stream"
UNBUFFERED = "Content-Type: text/html\r\nX-Accel-Buffering: no"
PAGE = "Content-Type: text/html"
FIRST, SECOND = "data: 1\n\n", "data: 2\n\n"

Asked = AbstractAsyncContextManager[tuple[Client, Address]]


@asynccontextmanager
async def fastcgi(
    folder: Path, fields: str, deadlines: Deadlines
) -> AsyncIterator[tuple[Client, Address]]:
    async def bits() -> AsyncIterator[bytes]:
        yield f"{fields}\r\n\r\n{FIRST}".encode()
        await asyncio.sleep(PAUSE_S)
        yield SECOND.encode()

    async with fastcgi_peer(Behaviour(stdout=b"", bits=bits)) as peer:
        yield FastCGIClient(SCRIPT, deadlines, LOGGER), peer.address


@asynccontextmanager
async def http(
    folder: Path, fields: str, deadlines: Deadlines
) -> AsyncIterator[tuple[Client, Address]]:
    ahead = f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{FIRST}".encode()
    pause = (len(ahead), lambda: asyncio.sleep(PAUSE_S))
    behaviour = HttpBehaviour(ahead + SECOND.encode(), pause=pause, keeps=False)
    async with http_peer(behaviour) as peer:
        yield HttpClient(deadlines, LOGGER), peer.address


@asynccontextmanager
async def cgi(
    folder: Path, fields: str, deadlines: Deadlines
) -> AsyncIterator[tuple[Client, Address]]:
    program = folder / "events"
    program.write_text(
        "#!/bin/sh\n"
        f"printf '%b' '{_escaped(fields)}\\r\\n\\r\\n{_escaped(FIRST)}'\n"
        f"sleep {PAUSE_S}\nprintf '%b' '{_escaped(SECOND)}'\n"
    )
    program.chmod(0o755)
    yield (
        CgiClient(Script(str(program)), deadlines, LOGGER, limit=4),
        Program(path=str(program)),
    )


def _escaped(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


KINDS: dict[str, Callable[[Path, str, Deadlines], Asked]] = {
    "fastcgi": fastcgi,
    "http": http,
    "cgi": cgi,
}
ROWS = [
    # fields, the deadline that is short, what ends it
    (EVENTS, {"total_s": TOTAL_S}, None),
    (UNBUFFERED, {"total_s": TOTAL_S}, None),
    (PAGE, {"total_s": TOTAL_S}, Phase.TOTAL),
    (EVENTS, {"total_s": TOTAL_S, "progress_s": SHORT_S}, Phase.PROGRESS),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fields", "short", "phase"), ROWS)
def test_the_total_is_for_answers_that_end(
    tmp_path: Path, kind: str, fields: str, short: dict[str, float], phase: Phase | None
) -> None:
    async def main() -> None:
        witness = Witness()
        deadlines = dataclasses.replace(PATIENT, **short)
        async with KINDS[kind](tmp_path, fields, deadlines) as (client, address):
            response = await client.fetch(address, GET, witness)
            if phase is None:
                assert await read_all(response) == (FIRST + SECOND).encode()
            else:
                assert await response.read() == FIRST.encode()
                with pytest.raises(OriginTimeout) as caught:
                    await response.read()
                assert caught.value.phase is phase
            await until(lambda: witness.results)
            assert witness.results == [Result.ANSWERED if phase is None else Result.TIMEOUT]
            await client.aclose()

    run(main(), "uvloop")
