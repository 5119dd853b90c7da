"""Caches in front: who is told, in which order, what counts as told, and what is given up."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from edge.downstream import Answers, Downstream, Errand, make_cache
from edge.http.htcp import build_clr
from edge.settings.addresses import parse_front_cache
from tests.waiting import until

URLS = [f"http://img.example.com/{n}.jpg" for n in range(5)]


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 20))


class Fake:
    """A cache with a script: for each call what it says, the last one for ever."""

    def __init__(self, name: str, order: list[tuple[str, tuple[str, ...]]], *says: str) -> None:
        self.name = name
        self._order = order
        self._says = list(says) or ["told"]
        self.may = asyncio.Event()
        self.may.set()
        self.is_closed = False

    async def tell(self, urls: Sequence[str]) -> Answers:
        self._order.append((self.name, tuple(urls)))
        await self.may.wait()
        says = self._says.pop(0) if len(self._says) > 1 else self._says[0]
        if says == "half":
            return Answers(set(urls[: len(urls) // 2]))
        if says == "bug":
            raise RuntimeError("bug")
        answers = Answers(reason=says)
        if says != "silent":
            getattr(answers, says).update(urls)
        return answers

    def close(self) -> None:
        self.is_closed = True


def downstream(caches: Sequence[Any], **more: Any) -> Downstream:
    return Downstream(caches, chance=random.Random(1), pauses_s=(0.0, 0.0), **more)


def check(down: Downstream, told: int, failed: int = 0, dropped: int = 0) -> None:
    stats = down.stats
    assert (sum(stats.told.values()), sum(stats.failed.values())) == (told, failed)
    assert (stats.dropped, stats.pending) == (dropped, 0)
    assert stats.asked == told + failed + dropped


@pytest.mark.parametrize(
    ("says", "counts", "calls"),
    [
        ((["told"], ["told"]), (10, 0, 0), ["in", "out"]),
        ((["refused"], ["told"]), (5, 5, 0), ["in", "out"]),
        # the outer one is told at once, and again when the inner one has answered late
        ((["silent", "told"], ["told"]), (10, 0, 0), ["in", "out", "in", "out"]),
        ((["silent"], ["told"]), (5, 5, 0), ["in", "out", "in", "in"]),
        ((["half", "told"], ["told"]), (10, 0, 0), ["in", "out", "in", "out"]),
        ((["told"], ["silent", "silent", "told"]), (10, 0, 0), ["in", "out", "out", "out"]),
        # what was told once and could not be told again is not told
        ((["silent", "told"], ["told", "silent"]), (5, 5, 0), ["in", "out", "in", "out", "out"]),
    ],
)
def test_rounds(says, counts, calls):
    async def test() -> None:
        order: list[tuple[str, tuple[str, ...]]] = []
        inner, outer = Fake("in", order, *says[0]), Fake("out", order, *says[1])
        down = downstream([inner, outer])
        errand = down.tell(URLS, "p1")
        assert errand.counts == (0, 0, 10)
        await errand.wait(5)
        assert errand.counts == counts
        check(down, *counts[:2])
        assert [name for name, _ in order] == calls
        await down.stop(0)
        assert inner.is_closed and outer.is_closed

    run(test())


def test_a_url_is_told_once_and_nonsense_never(caplog):
    async def test() -> None:
        order: list[tuple[str, tuple[str, ...]]] = []
        down = downstream([Fake("in", order)])
        hostile = ["http://h/a b", "http://h/a\r\nX: y", "ftp://h/", "http:///", "/a", "http://h/é"]
        errand = down.tell([URLS[0], URLS[0], *hostile, "https://h:1/?q"], "p1")
        await errand.wait(5)
        assert order == [("in", (URLS[0], "https://h:1/?q"))]
        assert "6 URLs are no URLs" in caplog.text
        nothing = down.tell([], "p2")
        await nothing.wait(5)
        assert nothing.counts == (0, 0, 0)
        check(down, 2)

    run(test())


def test_who_waits_gets_what_is_known_by_then():
    async def test() -> None:
        slow = Fake("slow", [])
        slow.may.clear()
        down = downstream([slow])
        errand = down.tell(URLS, "p1")
        await errand.wait(0.01)
        assert errand.counts == (0, 0, 5)
        assert down.stats.pending == 5
        slow.may.set()
        await errand.wait(5)
        assert errand.counts == (5, 0, 0)
        check(down, 5)

    run(test())


@pytest.mark.parametrize("of", ["urls", "bytes"])
def test_at_the_bound_no_cache_is_told(caplog, monkeypatch, of):
    if of == "bytes":
        monkeypatch.setattr("edge.downstream.MAX_BYTES", sum(map(len, URLS)))

    async def test() -> None:
        slow = Fake("slow", [])
        slow.may.clear()
        down = downstream([slow], max_urls=5 if of == "urls" else 1000)
        first, second = down.tell(URLS, "p1"), down.tell(URLS[:1], "p2")
        assert second.counts == (0, 1, 0)
        assert "p2: no cache is told of its 1 URLs" in caplog.text
        slow.may.set()
        await first.wait(5)
        assert first.counts == (5, 0, 0)
        check(down, 5, 0, 1)
        third = down.tell(URLS, "p3")  # there is room again
        await third.wait(5)
        assert third.counts == (5, 0, 0)

    run(test())


def test_again():
    async def test() -> None:
        order: list[tuple[str, tuple[str, ...]]] = []
        down = downstream([Fake("in", order), Fake("out", order)], again_s=0.01)
        errand = down.tell(URLS[:1], "p1")
        await errand.wait(5)
        assert errand.counts == (2, 0, 0)
        while down._tasks:
            await asyncio.wait(down._tasks)
        assert [name for name, _ in order] == ["in", "out"] * 2
        check(down, 4)

    run(test())


def test_stop_lets_go_of_what_rests_and_cuts_what_hangs(caplog):
    async def test() -> None:
        order: list[tuple[str, tuple[str, ...]]] = []
        fake = Fake("in", order)
        down = downstream([fake], again_s=600.0)
        await down.tell(URLS, "p1").wait(5)
        fake.may.clear()
        hanging = down.tell(URLS, "p2")
        await until(lambda: len(order) >= 2, pause_s=0)
        await down.stop(0.01)
        assert hanging.counts == (0, 5, 0)
        assert "p2: in is not told of 5 URLs: the node stops" in caplog.text
        check(down, 5, 0, 5)

    run(test())


def test_a_bug_ends_one_errand_alone(caplog):
    async def test() -> None:
        down = downstream([Fake("in", [], "bug", "told")])
        broken = down.tell(URLS, "p1")
        await broken.wait(5)
        assert broken.counts == (0, 5, 0)
        assert "p1: telling the caches failed" in caplog.text
        whole = down.tell(URLS, "p2")
        await whole.wait(5)
        assert whole.counts == (5, 0, 0)
        check(down, 5, 5)

    run(test())


# ---- HTTP ---------------------------------------------------------------------------------------


class Squid:
    """Answers PURGE by a function from the URL to bytes; None cuts the connection."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                answer = self.answer(head.split(b" ")[1].decode())
                if answer is None:
                    break
                writer.write(answer)
        self._open.discard(writer)
        writer.close()


def http(status: int, body: bytes = b"", more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def make(address: str, now: Callable[[], float] = lambda: 0.0) -> Any:
    return make_cache(parse_front_cache(address), now, random.Random(1))


def test_purge_over_a_kept_connection():
    async def test() -> None:
        squid = Squid(lambda url: http(200 if url == URLS[0] else 404, b"gone"))
        async with squid.serving() as address:
            cache = make(address)
            for url in URLS:
                assert (await cache.tell([url])).told == {url}
            assert squid.connections == 1
            assert squid.heads[0] == (
                b"PURGE http://img.example.com/0.jpg HTTP/1.1\r\nHost: img.example.com\r\n"
                b"User-Agent: halftone\r\n\r\n"
            )
            many = [f"http://h/{n}" for n in range(100)]
            assert (await cache.tell(many)).told == set(many)
            assert squid.connections <= 4
            cache.close()

    run(test())


def test_a_connection_that_was_closed_meanwhile_costs_nothing():
    async def test() -> None:
        squid = Squid(lambda _: http(200))
        async with squid.serving() as address:
            cache = make(address)
            assert (await cache.tell(URLS[:1])).told
            squid.cut()
            assert (await cache.tell(URLS[:1])).told
            assert squid.connections == 2
            cache.close()

    run(test())


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        (http(200, more="Connection: close\r\n"), "told", ""),
        (b"HTTP/1.0 200 OK\r\n\r\n", "told", ""),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "told", ""),
        (http(403, b"x" * 4000), "refused", "403"),
        (http(405), "refused", "405"),
        (http(503), "", "503"),
        # hostile
        (None, "", ""),
        (b"SSH-2.0-x\r\n\r\n", "", "no HTTP"),
        (b"HTTP/1.1 2000\r\n\r\n", "", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "", "without end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", "no answer in"),
    ],
)
def test_answers_to_purge(answer, said, reason, monkeypatch):
    monkeypatch.setattr("edge.downstream.EXCHANGE_S", 0.1)
    monkeypatch.setattr("edge.downstream.CONNECT_S", 0.1)

    async def test() -> None:
        squid = Squid(lambda _: answer)
        async with squid.serving() as address:
            cache = make(address)
            answers = await cache.tell(URLS[:1])
            assert answers.told == (set(URLS[:1]) if said == "told" else set())
            assert answers.refused == (set(URLS[:1]) if said == "refused" else set())
            assert reason in answers.reason
            cache.close()

    run(test())


def test_one_that_is_down_is_left_alone_for_a_moment():
    async def test() -> None:
        squid = Squid(lambda _: http(200))
        async with squid.serving() as address:
            pass
        seconds = [0.0]
        cache = make(address, lambda: seconds[0])
        assert not (await cache.tell(URLS)).told
        server = await asyncio.start_server(squid._serve, "127.0.0.1", int(address.split(":")[2]))
        async with server:
            answers = await cache.tell(URLS)
            assert not answers.told and answers.reason
            seconds[0] = 0.6
            assert (await cache.tell(URLS)).told == set(URLS)
            cache.close()

    run(test())


# ---- HTCP ---------------------------------------------------------------------------------------


class HtcpSquid(asyncio.DatagramProtocol):
    """answer: of the transaction's four bytes, what is sent back; None is silence."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.received: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append(data)
        answer = self.answer(data[8:12])
        if answer is not None:
            self.transport.sendto(answer, addr)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        try:
            yield f"htcp://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        finally:
            transport.close()


def reply(transaction: bytes, code: int = 0x40, flags: int = 1) -> bytes:
    return bytes.fromhex("000e00010008") + bytes((code, flags)) + transaction + b"\0\x02"


def other(transaction: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in transaction)


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        (reply, "told", ""),
        (lambda t: reply(t, 0x42), "told", ""),
        (lambda t: reply(t, 0x41), "refused", "kept"),
        (lambda t: reply(t, 0x40, 3), "refused", "refused"),
        (lambda t: None, "", "no reply"),
        # hostile
        (lambda t: reply(other(t)), "", "no reply"),
        (lambda t: reply(t)[:-1], "", "no reply"),
        (lambda t: b"", "", "no reply"),
        (lambda t: reply(t, flags=0), "", "no reply"),
    ],
)
def test_replies_to_clr(answer, said, reason, monkeypatch):
    monkeypatch.setattr("edge.downstream.REPLY_S", 0.1)

    async def test() -> None:
        squid = HtcpSquid(answer)
        async with squid.serving() as address:
            cache = make(address)
            answers = await cache.tell(URLS[:1])
            cache.close()  # uvloop does not end while a datagram socket is open
            assert answers.told == (set(URLS[:1]) if said == "told" else set())
            assert answers.refused == (set(URLS[:1]) if said == "refused" else set())
            assert reason in answers.reason
            transaction = int.from_bytes(squid.received[0][8:12], "big")
            assert squid.received == [build_clr(URLS[0], transaction)]
            assert not cache._asked

    run(test())


def test_many_clrs_and_one_that_is_lost():
    async def test() -> None:
        many = [f"http://h/{n}" for n in range(300)]
        lost = [20]

        def answer(transaction: bytes) -> bytes | None:
            lost[0] -= 1
            return None if lost[0] == 0 else reply(transaction)

        squid = HtcpSquid(answer)
        async with squid.serving() as address:
            seconds = [0.0]

            def now() -> float:
                seconds[0] += 1.0  # nothing is ever on hold
                return seconds[0]

            down = downstream([make(address, now)])
            errand = down.tell(many, "p1")
            await errand.wait(10)
            await down.stop(0)
            assert errand.counts == (300, 0, 0)
            assert len(squid.received) == 301
            assert down.stats.retried == 1

    run(test())


def test_nobody_listens():
    async def test() -> None:
        async with HtcpSquid(reply).serving() as address:
            pass
        down = downstream([make(address, lambda: 0.0)])
        errand = down.tell(URLS, "p1")
        await errand.wait(10)
        await down.stop(0)
        assert errand.counts == (0, 5, 0)
        check(down, 0, 5)

    run(test())


def test_an_errand_without_caches_has_ended():
    errand = Errand(URLS, [], "p1")
    assert errand.counts == (0, 0, 0)
