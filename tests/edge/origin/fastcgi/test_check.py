"""GET_VALUES over real connections: to a scripted responder, and to the real php-fpm."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.errors import OriginBroken, OriginRefused
from edge.origin.fastcgi.check import ValuesCheck
from edge.origin.fastcgi.records import BeginRequest, Record, RecordType, Role
from edge.origin.fastcgi.values import UnknownType, Values, build_question
from edge.origin.host import HostState
from edge.origin.names import Names
from edge.origin.pool import OriginPool
from edge.origin.probe import Prober
from tests.edge.origin.asking import LOGGER, LOOPS, run
from tests.edge.test_rows import Client
from tests.peers.phpfpm import PROGRAM, php_fpm
from tests.peers.sockets import refusing

ANSWER = Record(RecordType.GET_VALUES_RESULT, 0, Values(mpxs_conns=0).build()).build()
UNKNOWN = Record(RecordType.UNKNOWN_TYPE, 0, UnknownType(9).build()).build()
PAGE = Record(RecordType.STDOUT, 1, b"Content-Type: a/b\n\n").build()
needs_php = pytest.mark.skipif(PROGRAM is None, reason="php-fpm8.2 is not installed")


class Responder:
    """Says answer to whoever asks; then the connection stays open, as php-fpm leaves it."""

    def __init__(self) -> None:
        self.answer: bytes | None = ANSWER
        self.piece = 1 << 16
        self.heard: list[bytes] = []
        self.left = 0  # connections that the other side closed

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heard.append(await reader.readexactly(len(build_question())))
            if self.answer is not None:
                for start in range(0, len(self.answer), self.piece):
                    writer.write(self.answer[start : start + self.piece])
                    await writer.drain()
                    await asyncio.sleep(0)
                await reader.read()
        self.left += 1
        writer.transport.abort()


@contextlib.asynccontextmanager
async def responding(responder: Responder) -> AsyncIterator[Address]:
    server = await asyncio.start_server(responder.serve, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()


@contextlib.asynccontextmanager
async def checking() -> AsyncIterator[ValuesCheck]:
    check = ValuesCheck(Names(LOGGER), 5.0)
    try:
        yield check
    finally:
        await check.aclose()


async def until(condition, what: str, within_s: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("piece", [1, 1 << 16])
@pytest.mark.parametrize("answer", [ANSWER, UNKNOWN, ANSWER + b"garbage"])
def test_a_host_that_answers_is_well(answer: bytes, piece: int, loop: str) -> None:
    async def main() -> None:
        responder = Responder()
        responder.answer, responder.piece = answer, piece
        async with responding(responder) as address, checking() as check:
            assert await check.is_well(address)
            assert responder.heard == [build_question()]
            await until(lambda: responder.left, "its worker is free again")

    run(main(), loop)


@pytest.mark.parametrize("answer", [PAGE, b"HTTP/1.1 400 Bad", ANSWER[:9], b""])
def test_a_host_that_says_something_else_is_ill(answer: bytes) -> None:
    async def main() -> None:
        responder = Responder()
        responder.answer = answer
        async with responding(responder) as address, checking() as check:
            async with asyncio.timeout(20):
                with contextlib.suppress(TimeoutError, OriginBroken):
                    async with asyncio.timeout(0.1):
                        assert not await check.is_well(address)
                await until(lambda: responder.left, "closed all the same")

    run(main())


def test_a_host_that_closes_or_refuses_is_ill() -> None:
    async def main() -> None:
        responder = Responder()
        responder.answer = None
        async with responding(responder) as address, checking() as check:
            with pytest.raises(OriginBroken):
                await check.is_well(address)
            with pytest.raises(OriginRefused):
                await check.is_well(refusing())

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_prober_holds_a_host_that_falls_silent(loop: str) -> None:
    async def main() -> None:
        one, other = Responder(), Responder()
        async with responding(one) as first, responding(other) as second:
            pool = OriginPool(
                "app", (first, second), Client(), clock=asyncio.get_running_loop().time,
                chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            check = ValuesCheck(Names(LOGGER), 5.0)
            prober = Prober(
                pool, check, interval_s=0.005, timeout_s=0.1, chance=lambda: 0.5, logger=LOGGER
            )
            host = pool.hosts[0]
            prober.start()
            await until(lambda: host.stats.checks_passed >= 2, "it is well")
            one.answer = PAGE
            await until(lambda: host.state is HostState.HELD, "it is held")
            one.answer = ANSWER
            await until(lambda: host.state is HostState.RUNNING, "it is back")
            await prober.stop()
            assert pool.hosts[1].stats.checks_failed == 0

    run(main(), loop)


@needs_php
def test_php_fpm(tmp_path: Path) -> None:
    """It answers where a worker is free, and says no more than that it does not multiplex."""

    async def main() -> None:
        with php_fpm(tmp_path, children=1) as php:
            async with checking() as check:
                for _ in range(5):  # with its only worker: none is left behind on a connection
                    async with asyncio.timeout(20):
                        assert await check.is_well(php.address)
                with socket.socket(socket.AF_UNIX) as busy:
                    busy.connect(php.address.path)
                    begin = BeginRequest(Role.RESPONDER, 1).build()
                    busy.sendall(Record(RecordType.BEGIN_REQUEST, 1, begin).build())
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await check.is_well(php.address)
                async with asyncio.timeout(20):
                    assert await check.is_well(php.address)
                # The connection before is closed by the loop, so this one leaves it running.
                assert await asyncio.to_thread(_answer_of, php.address.path) == ANSWER

    run(main())


def _answer_of(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(20)
        plain.connect(path)
        plain.sendall(build_question())
        return plain.recv(1 << 16)
