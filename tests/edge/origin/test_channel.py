"""Channels against the other end of a socket pair, on both event loops."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from edge.origin.alarms import Alarms
from edge.origin.channel import READ_BYTES, WRITE_AHEAD_BYTES, Channel
from edge.origin.poller import Poller
from tests.edge.origin.asking import LOOPS, run
from tests.edge.origin.fastcgi.test_client import open_sockets
from tests.waiting import until

SOON_S, LATE_S = 0.02, 30.0
LARGE = 8 * 1024 * 1024


async def read(channel: Channel, late_at: float) -> bytes:
    """The next piece."""
    pieces: list[bytes] = []

    def take(data: bytes) -> bool:
        pieces.append(data)
        return True

    await channel.receive(take, late_at)
    assert len(pieces) == 1
    return pieces[0]


class Rig:
    """One end is a channel, and peer the other."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.alarms, self.poller = Alarms(), Poller()
        listener = socket.create_server(("127.0.0.1", 0))
        own = socket.create_connection(listener.getsockname())
        self.peer, _ = listener.accept()
        listener.close()
        own.setblocking(False)
        self.peer.settimeout(10)
        self.channel = Channel(own, self.loop, self.alarms, self.poller)

    def soon(self, seconds: float = SOON_S) -> float:
        return self.loop.time() + seconds

    async def read(self, seconds: float = LATE_S) -> bytes:
        return await read(self.channel, self.soon(seconds))

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def close(self) -> None:
        self.channel.abort()
        self.poller.close()
        self.peer.close()
        assert not len(self.alarms) and not len(self.poller)


@pytest.fixture(params=LOOPS)
def on_rig(request: pytest.FixtureRequest) -> Callable[[Callable[[Rig], Awaitable[None]]], None]:
    def go(test: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig()
            try:
                await asyncio.wait_for(test(rig), 20)
            finally:
                rig.close()

        before = open_sockets()
        run(main(), request.param)
        assert open_sockets() == before

    return go


def test_what_was_there_and_what_comes(on_rig):
    async def test(rig: Rig) -> None:
        rig.peer.sendall(b"first")
        assert await rig.read() == b"first"
        reading = asyncio.ensure_future(rig.read())
        await asyncio.sleep(0)
        rig.peer.sendall(b"second")
        assert await reading == b"second"

    on_rig(test)


@pytest.mark.parametrize("how", ["close", "reset", "abort"])
def test_an_end_is_no_bytes_and_stays_one(on_rig, how):
    async def test(rig: Rig) -> None:
        reading = asyncio.ensure_future(rig.read())
        await asyncio.sleep(0)
        {"close": rig.peer.close, "reset": rig.reset, "abort": rig.channel.abort}[how]()
        assert await reading == b""
        assert await rig.read() == b""

    on_rig(test)


def test_late(on_rig):
    async def test(rig: Rig) -> None:
        with pytest.raises(TimeoutError):
            await rig.read(SOON_S)
        rig.peer.sendall(b"late")
        assert await rig.read() == b"late"

    on_rig(test)


def test_who_always_says_something_is_late_too(on_rig):
    async def test(rig: Rig) -> None:
        late_at = rig.soon()
        with pytest.raises(TimeoutError):
            while True:
                rig.peer.sendall(b".")
                await read(rig.channel, late_at)

    on_rig(test)


def test_a_deadline_that_is_moved_while_somebody_waits(on_rig):
    async def test(rig: Rig) -> None:
        reading = asyncio.ensure_future(rig.read(LATE_S))
        await asyncio.sleep(0)
        rig.channel.reschedule(rig.soon())
        with pytest.raises(TimeoutError):
            await reading

    on_rig(test)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_failure_of_ours_reaches_who_reads(on_rig, is_waiting):
    async def test(rig: Rig) -> None:
        reading = asyncio.ensure_future(rig.read())
        if is_waiting:
            await asyncio.sleep(0)
        rig.channel.set_exception(KeyError("own"))
        with pytest.raises(KeyError):
            await reading

    on_rig(test)


def test_a_reader_that_is_cancelled_loses_nothing(on_rig):
    async def test(rig: Rig) -> None:
        reading = asyncio.ensure_future(rig.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        rig.peer.sendall(b"kept")
        assert await rig.read() == b"kept"

    on_rig(test)


def test_what_nobody_waits_for_stays_in_the_kernel(on_rig):
    async def test(rig: Rig) -> None:
        rig.peer.sendall(b"a")
        assert await rig.read() == b"a"
        rig.peer.setblocking(False)
        sent, data = 0, bytes(READ_BYTES)
        for _ in range(10_000):
            try:
                sent += rig.peer.send(data)
            except BlockingIOError:
                break
            await asyncio.sleep(0)
        assert sent < 64 * 1024 * 1024  # the window closed
        assert not len(rig.poller)  # and nobody is woken for it over and over
        taken = 0
        while taken < sent:
            taken += len(await rig.read())
        assert taken == sent

    on_rig(test)


def test_more_than_the_kernel_takes_is_written_in_its_order(on_rig):
    async def test(rig: Rig) -> None:
        data = os.urandom(LARGE)
        rig.channel.write(data[:100])
        rig.channel.write(data[100:-100])
        rig.channel.write(data[-100:])
        assert rig.channel.has_unsent
        draining = asyncio.ensure_future(rig.channel.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        got = bytearray()
        while len(got) < LARGE:
            got += await asyncio.to_thread(rig.peer.recv, 1 << 20)
        await draining
        assert got == data and not rig.channel.has_unsent

    on_rig(test)


@pytest.mark.parametrize("how", ["reset", "abort"])
def test_who_waits_to_write_hears_of_the_end(on_rig, how):
    async def test(rig: Rig) -> None:
        rig.channel.write(bytes(LARGE))
        draining = asyncio.ensure_future(rig.channel.drain())
        await asyncio.sleep(0)
        {"reset": rig.reset, "abort": rig.channel.abort}[how]()
        with pytest.raises(OSError):
            await draining
        assert LARGE > WRITE_AHEAD_BYTES
        rig.channel.write(b"more")  # of no effect

    on_rig(test)


@pytest.mark.parametrize("what", ["speaks", "closes", "resets", "is late", "is quiet"])
def test_a_channel_that_is_watched(on_rig, what):
    async def test(rig: Rig) -> None:
        seen = asyncio.Event()
        is_late = what == "is late"
        rig.channel.watch(seen.set, rig.soon(SOON_S if is_late else LATE_S))
        if what == "is quiet":
            await asyncio.sleep(0)
            assert rig.channel.is_quiet_now()
            rig.peer.sendall(b"for the next one")
            assert await rig.read() == b"for the next one"
            assert not seen.is_set()
            return
        if what == "speaks":
            rig.peer.sendall(b"?")
        elif not is_late:
            {"closes": rig.peer.close, "resets": rig.reset}[what]()
        await seen.wait()
        assert rig.channel.is_quiet_now() is is_late

    on_rig(test)


# The poller by itself


@pytest.mark.parametrize("loop", LOOPS)
def test_a_number_that_belongs_to_another_by_now(loop):
    """Both are readable in one turn; the first one's callback ends the second, and its number goes
    to a third, which has nothing to read."""

    async def main() -> None:
        poller, here = Poller(), asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(2)]
        called: list[str] = []

        def end_the_other(own: int) -> None:
            called.append("first")
            other = 1 - own
            fd = pairs[other][0].fileno()
            poller.forget(fd)
            pairs[other][0].close()
            pairs.append(socket.socketpair())
            assert pairs[2][0].fileno() == fd
            poller.add(fd, lambda: called.append("third"), here)
            poller.discard(pairs[own][0].fileno())

        for number in range(2):
            pairs[number][1].send(b"x")
            own = number
            poller.add(pairs[number][0].fileno(), lambda own=own: end_the_other(own), here)
        for _ in range(5):
            await asyncio.sleep(0)
        # A call too many may be, and finds nothing; never the callback of who is gone.
        assert called.count("first") == 1 and set(called) <= {"first", "third"}
        poller.close()
        for pair in pairs:
            for one in pair:
                one.close()

    run(main(), loop)


def test_more_at_once_than_one_turn_takes():
    async def main() -> None:
        poller, here = Poller(), asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(200)]
        left = {pair[0].fileno() for pair in pairs}

        def take(fd: int) -> None:
            left.discard(fd)
            poller.discard(fd)

        for ours, theirs in pairs:
            theirs.send(b"x")
            fd = ours.fileno()
            poller.add(fd, lambda fd=fd: take(fd), here)
        for _ in range(50):
            if not left:
                break
            await asyncio.sleep(0)
        assert not left and not len(poller)
        poller.close()
        poller.close()
        for pair in pairs:
            for one in pair:
                one.close()

    run(main(), "uvloop")


def test_what_came_in_the_turn_of_a_cancel_has_been_taken(on_rig):
    """Else a piece would be missing in the middle, and nobody could tell."""

    async def test(rig: Rig) -> None:
        taken: list[bytes] = []

        async def receive() -> None:
            await rig.channel.receive(lambda data: not taken.append(data), rig.soon(LATE_S))

        receiving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        rig.peer.sendall(b"first")
        rig.channel._on_readable()  # as the poller does, in the turn in which somebody cancels
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        rig.peer.sendall(b"second")
        assert await rig.read() == b"second"
        assert taken == [b"first"]

    on_rig(test)


def test_pieces_are_handed_over_until_it_is_enough(on_rig):
    async def test(rig: Rig) -> None:
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return len(taken) == 3

        wait = rig.channel.receive(take, rig.soon(LATE_S))
        for number in range(3):
            assert not wait.done()
            rig.peer.sendall(b"%d" % number)
            await until(lambda number=number: len(taken) > number)
        await wait
        rig.peer.sendall(b"for the next one")
        assert await rig.read() == b"for the next one"
        assert taken == [b"0", b"1", b"2"]

    on_rig(test)


@pytest.mark.parametrize("what", ["comes", "ends", "has ended", "is aborted"])
def test_what_the_taker_raises_is_raised_by_the_wait(on_rig, what):
    async def test(rig: Rig) -> None:
        def take(data: bytes) -> bool:
            raise KeyError(data)

        if what == "has ended":
            rig.peer.close()
            assert await rig.read() == b""

        async def receive() -> None:
            await rig.channel.receive(take, rig.soon(LATE_S))

        receiving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        if what == "comes":
            rig.peer.sendall(b"x")
        elif what == "ends":
            rig.peer.close()
        elif what == "is aborted":
            rig.channel.abort()
        with pytest.raises(KeyError):
            await receiving
        assert not len(rig.alarms)

    on_rig(test)


def test_a_taker_that_has_had_enough_of_it_closes_at_once(on_rig):
    async def test(rig: Rig) -> None:
        closed: list[bytes] = []

        def take(data: bytes) -> bool:
            rig.channel.finish()
            closed.append(rig.peer.recv(1))  # before whoever waits is woken
            return True

        rig.peer.sendall(b"all")
        await rig.channel.receive(take, rig.soon(LATE_S))
        assert closed == [b""] and rig.channel.is_closed
        rig.channel.abort()  # of no effect

    on_rig(test)


def test_a_cancel_before_anything_came_loses_nothing(on_rig):
    async def test(rig: Rig) -> None:
        reading = asyncio.ensure_future(rig.read())
        await asyncio.sleep(0)
        reading.cancel()
        rig.peer.sendall(b"first")
        rig.channel._on_readable()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await rig.read() == b"first"

    on_rig(test)


def test_who_writes_behind_a_loss_is_told_of_it(on_rig):
    """Also where nobody waited when it was found out: it is not progress."""

    async def test(rig: Rig) -> None:
        rig.reset()
        for _ in range(2):
            rig.channel.write(b"into nothing")
        with pytest.raises(OSError, match=r"reset|pipe"):
            await rig.channel.drain()

    on_rig(test)


def test_a_loss_found_out_while_nobody_waits_is_told_later(on_rig):
    async def test(rig: Rig) -> None:
        rig.channel.write(bytes(LARGE))
        assert rig.channel.has_unsent
        rig.reset()
        rig.channel._on_writable()
        assert not rig.channel.has_unsent
        with pytest.raises(OSError, match=r"reset|pipe"):
            await rig.channel.drain()

    on_rig(test)
