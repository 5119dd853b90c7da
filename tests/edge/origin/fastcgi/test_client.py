"""One exchange against a responder that plays each fault: the right error, nothing left open."""

import asyncio
import contextlib
import dataclasses
import errno
import gc
import logging
import os
import select
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.stderr import MAX_STDERR_BYTES
from edge.origin.messages import OriginRequest
from edge.origin.poller import Poller
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
from tests.peers.fastcgi import BODY, PLAIN, STDOUT, Behaviour, FastCGIPeer, fastcgi_peer
from tests.waiting import until

TYPE = b"Content-Type: image/jpeg\r\n"
OPEN_END = TYPE + b"\r\n" + BODY  # without a length


@dataclasses.dataclass
class Outcome:
    body: bytes = b""
    status: int = 0
    is_cacheable: bool = False
    error: OriginError | None = None
    result: Result | None = None
    peer: FastCGIPeer | None = None


async def ask(
    behaviour: Behaviour, request: OriginRequest = GET, deadlines: Deadlines = PATIENT
) -> Outcome:
    outcome, witness = Outcome(), Witness()
    async with fastcgi_peer(behaviour) as peer:
        outcome.peer = peer
        client = FastCGIClient(SCRIPT, deadlines, LOGGER)
        try:
            response = await client.fetch(peer.address, request, witness)
            outcome.status = response.status
            try:
                while piece := await response.read():
                    outcome.body += piece
            finally:
                outcome.is_cacheable = response.is_cacheable
        except OriginError as failed:
            outcome.error = failed
        await peer.quiet()  # closed by the client itself: nobody called aclose()
        assert peer.connections == witness.connects == 1
    assert len(witness.results) == 1
    outcome.result = witness.results[0]
    return outcome


def open_sockets() -> int:
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return count


def sealed(main: Coroutine[Any, Any, Outcome], loop: str) -> Outcome:
    """Runs main and finds every socket closed behind it. (An event loop that was closed keeps
    descriptors of its own until it is collected; they are not ours to count.)"""

    async def measured() -> Outcome:
        before = open_sockets()
        outcome = await main
        for _ in range(100):  # a transport closes its socket some turns of the loop later
            if open_sockets() == before:
                return outcome
            await asyncio.sleep(0)
        assert open_sockets() == before
        return outcome

    return run(measured(), loop)


GOOD = {
    "plain": Behaviour(),
    "padding": Behaviour(padding=255),
    "records of 1 byte": Behaviour(record_bytes=1),
    "records of 1 byte, padded": Behaviour(record_bytes=1, padding=255),
    "byte by byte": Behaviour(chop=1),
    "split in every header byte": Behaviour(record_bytes=1, chop=3),
    "noise": Behaviour(noise=True),
    "stderr before": Behaviour(stderr_before=b"PHP Notice\n" * 10),
    "stderr after": Behaviour(stderr_after=b"PHP Notice\n"),
    "stderr flood": Behaviour(stderr_before=b"x" * 10_000_000),
    "no length": Behaviour(stdout=OPEN_END),
    "no end of stdout": Behaviour(stdout=TYPE + b"Content-Length: 64\n\n" + BODY),
}
# (behaviour, is_cacheable)
ODD_BUT_WHOLE = {
    "body too long": Behaviour(stdout=PLAIN + BODY + b"excess"),
    "body too long without end": Behaviour(stdout=PLAIN + BODY + b"excess", has_end=False),
    "data behind the end": Behaviour(behind_end=b"\1\6\0\1\0\1\0\0x"),
    "garbage behind the end": Behaviour(behind_end=b"garbage"),
    "appStatus 1": Behaviour(app_status=1),
    "appStatus 2^32-1": Behaviour(app_status=2**32 - 1),
}
BROKEN = {
    "garbage": Behaviour(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "accept then close": Behaviour(raw=b""),
    "wrong version": Behaviour(version=2),
    "wrong request id": Behaviour(request_id=2),
    "length lie, too long": Behaviour(length_lie=1000),
    "no headers": Behaviour(stdout=BODY),
    "no blank line": Behaviour(stdout=TYPE),
    "no stdout": Behaviour(stdout=b""),
    "1 MB of headers": Behaviour(stdout=TYPE + b"X-A: b\n" * 150_000 + b"\n"),
    "status 999": Behaviour(stdout=b"Status: 999\n" + TYPE + b"\n"),
    "CR in a value": Behaviour(stdout=TYPE + b"X: a\rb\n\n"),
    "NUL in a value": Behaviour(stdout=TYPE + b"X: a\0b\n\n"),
    "end of 7 bytes": Behaviour(raw=b"\1\3\0\1\0\7\0\0" + bytes(7)),
    "unknown role": Behaviour(stdout=b"", protocol_status=3),
    "unknown protocol status": Behaviour(stdout=b"", protocol_status=9),
    "end missing, stderr alone": Behaviour(stdout=b"", stderr_before=b"!", has_end=False),
}
TRUNCATED = {
    "body short": Behaviour(stdout=PLAIN + BODY[:-1]),
    "no body": Behaviour(stdout=PLAIN),
    "end missing": Behaviour(has_end=False),
    "end missing, no length": Behaviour(stdout=OPEN_END, has_end=False),
    "cut in the body": Behaviour(cut_at=8 + len(PLAIN) + 10, record_bytes=len(PLAIN)),
    "two ids interleaved": Behaviour(foreign_id=2, record_bytes=len(PLAIN)),
    "length lie, too short": Behaviour(stdout=PLAIN + BODY, length_lie=-1),
    "overloaded behind the head": Behaviour(protocol_status=2),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", GOOD)
def test_good(case: str, loop: str) -> None:
    outcome = sealed(ask(GOOD[case]), loop)
    assert (outcome.status, outcome.body, outcome.error) == (200, BODY, None)
    assert outcome.result is Result.ANSWERED
    # Records of types that do not exist are skipped, and a peer that sends them is not trusted.
    assert outcome.is_cacheable is (case != "noise")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", ODD_BUT_WHOLE)
def test_whole_and_not_cacheable(case: str, loop: str) -> None:
    outcome = sealed(ask(ODD_BUT_WHOLE[case]), loop)
    assert (outcome.status, outcome.body, outcome.error) == (200, BODY, None)
    assert outcome.result is Result.ANSWERED
    assert not outcome.is_cacheable


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", BROKEN)
def test_broken(case: str, loop: str) -> None:
    outcome = sealed(ask(BROKEN[case]), loop)
    assert type(outcome.error) is OriginBroken
    assert outcome.result is Result.BROKEN
    assert outcome.error.has_begun is (case != "accept then close")


GONE = b"Content-Type: text/html\r\n\r\nFile not found.\n"
SCRIPTLESS = [
    (404, b"Primary script unknown\n", GONE, "script_filename"),
    (403, b"Access to the script '/a.css' has been denied (see security.limit_extensions)\n",
     GONE, "script_filename"),
    # What an application says of a picture, and writes beside it, is an answer.
    (404, b"PHP Notice: no such picture\n", GONE, None),
    (404, b"", GONE, None),
    (500, b"Primary script unknown\n", GONE, None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "stderr", "answer", "said"), SCRIPTLESS)
def test_a_program_that_is_not_there_is_no_missing_picture(
    status: int, stderr: bytes, answer: bytes, said: str | None
) -> None:
    """Else a mistake in the configuration, or a deployment under way, ends what is cached."""
    stdout = b"Status: %d\r\n%s" % (status, answer)
    outcome = sealed(ask(Behaviour(stdout=stdout, stderr_before=stderr)), "uvloop")
    if said is None:
        assert (outcome.status, outcome.error) == (status, None)
    else:
        assert type(outcome.error) is OriginBroken
        assert said in str(outcome.error)


def test_what_is_broken_names_the_host() -> None:
    for case in BROKEN:
        outcome = sealed(ask(BROKEN[case]), "uvloop")
        assert str(outcome.error).startswith("127.0.0.1:"), case
    assert "it speaks HTTP" in str(sealed(ask(BROKEN["garbage"]), "uvloop").error)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", TRUNCATED)
def test_truncated(case: str, loop: str) -> None:
    for chop in (0, 1):  # one outcome, however the bytes are cut
        outcome = sealed(ask(dataclasses.replace(TRUNCATED[case], chop=chop)), loop)
        assert outcome.status == 200
        assert BODY.startswith(outcome.body)
        assert type(outcome.error) is OriginTruncated
        assert outcome.result is Result.TRUNCATED
        assert not outcome.is_cacheable


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol_status", [1, 2])
def test_overloaded(protocol_status: int, loop: str) -> None:
    behaviour = Behaviour(stdout=b"", stderr_before=b"busy\n", protocol_status=protocol_status)
    outcome = sealed(ask(behaviour), loop)
    assert type(outcome.error) is OriginOverloaded
    assert outcome.error.retry_after_s >= 1
    assert outcome.result is Result.OVERLOADED


SHORT_S = 0.05
HEAD_END = 8 + len(PLAIN)
TIMEOUTS = [
    ("never replies", Behaviour(stall_at=0), {"first_byte_s": SHORT_S}, Phase.FIRST_BYTE),
    ("half a head", Behaviour(stall_at=30), {"first_byte_s": SHORT_S}, Phase.FIRST_BYTE),
    ("half a body", Behaviour(stall_at=HEAD_END + 9, record_bytes=len(PLAIN)),
     {"progress_s": SHORT_S}, Phase.PROGRESS),
    ("no end", Behaviour(stall_at=HEAD_END + len(BODY)), {"progress_s": SHORT_S}, Phase.PROGRESS),
    ("total, head", Behaviour(stall_at=0), {"total_s": SHORT_S}, Phase.TOTAL),
    ("total, body", Behaviour(stall_at=HEAD_END + 9, record_bytes=len(PLAIN)),
     {"total_s": SHORT_S}, Phase.TOTAL),
]  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("case", "behaviour", "deadline", "phase"), TIMEOUTS, ids=[row[0] for row in TIMEOUTS]
)
def test_timeouts(
    case: str, behaviour: Behaviour, deadline: dict[str, float], phase: Phase, loop: str
) -> None:
    outcome = sealed(ask(behaviour, deadlines=dataclasses.replace(PATIENT, **deadline)), loop)
    assert type(outcome.error) is OriginTimeout
    assert outcome.error.phase is phase
    setting = "total_timeout" if phase is Phase.TOTAL else "timeout"
    assert str(outcome.error).endswith(f"within 0.05 s ({setting})")
    assert outcome.result is Result.TIMEOUT
    assert BODY.startswith(outcome.body)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_drip_meets_the_total_deadline(loop: str) -> None:
    """STDERR drips for ever: every byte is progress, and the total ends it."""

    async def main() -> Outcome:
        class Dripping(Behaviour):
            def wire(self) -> bytes:
                return PLAIN_RECORD + self.record(7, b".") * 4_000_000

        return await ask(
            Dripping(chop=9),
            deadlines=dataclasses.replace(PATIENT, total_s=SHORT_S),
        )

    outcome = sealed(main(), loop)
    assert type(outcome.error) is OriginTimeout
    assert outcome.error.phase is Phase.TOTAL


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_body_may_take_longer_than_the_total(loop: str) -> None:
    """A megabyte earns 16 s, so the rest is waited for though the total is over."""
    total_s = 5 * SHORT_S
    body = bytes(1 << 20)
    head = b"Content-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % (2 * len(body))

    async def bits() -> AsyncIterator[bytes]:
        yield head + body
        await asyncio.sleep(total_s)
        yield body

    behaviour = Behaviour(stdout=b"", bits=bits)
    deadlines = dataclasses.replace(PATIENT, total_s=total_s)
    outcome = sealed(ask(behaviour, deadlines=deadlines), loop)
    assert outcome.error is None
    assert outcome.body == 2 * body


PLAIN_RECORD = Behaviour().record(STDOUT, PLAIN)


@pytest.mark.parametrize("loop", LOOPS)
def test_reset_at_every_byte(loop: str) -> None:
    """RST at byte k: an error or the whole body, never a wrong one, never a hang."""
    whole = len(Behaviour().wire())
    results = []
    for at in range(201):
        outcome = run(ask(Behaviour(reset_at=at)), loop)
        if outcome.error is None:
            assert at >= whole
            assert outcome.body == BODY
        else:
            assert type(outcome.error) in (OriginBroken, OriginTruncated)
            assert not outcome.is_cacheable
            assert BODY.startswith(outcome.body)
        results.append(outcome.result)
    assert whole <= 200
    assert {Result.BROKEN, Result.TRUNCATED} <= set(results)


@pytest.mark.parametrize("loop", LOOPS)
def test_close_at_every_byte(loop: str) -> None:
    """An orderly close at byte k is as good as a reset: only END_REQUEST ends an answer."""
    wire = Behaviour().wire()
    end = len(wire)
    for at in range(end + 1):
        outcome = run(ask(Behaviour(cut_at=at)), loop)
        assert (outcome.error is None) is (at == end), at
        assert outcome.is_cacheable is (at == end)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_bodies_that_are_none(status: int) -> None:
    stdout = b"Status: %d\n" % status + TYPE + b"Content-Length: 64\n\n" + BODY
    outcome = sealed(ask(Behaviour(stdout=stdout), HEAD if status == 200 else GET), "asyncio")
    assert (outcome.status, outcome.body, outcome.error) == (status, b"", None)
    assert outcome.is_cacheable


def test_what_the_application_sees() -> None:
    outcome = run(ask(Behaviour(), POST))
    assert outcome.peer is not None
    (seen,) = outcome.peer.requests
    assert seen.stdin == b"a=b"
    assert seen.flags == 0  # no KEEP_CONN
    assert seen.params["CONTENT_LENGTH"] == b"3"
    assert seen.params["HTTP_ACCEPT"] == b"image/*"
    assert seen.order[:3] == ("CONTENT_LENGTH", "QUERY_STRING", "REQUEST_URI")


def test_a_large_body_goes_up_while_the_answer_comes_down() -> None:
    request = dataclasses.replace(POST, body=b"x" * 1_000_000)
    outcome = run(ask(Behaviour(stdout=OPEN_END + b"y" * 2_000_000), request))
    assert outcome.error is None
    assert outcome.peer is not None
    assert outcome.peer.requests[0].stdin == request.body
    assert outcome.body == BODY + b"y" * 2_000_000


def test_stderr_is_logged_up_to_a_cap(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER.name):
        run(ask(Behaviour(stderr_before=b"PHP \x1b[31mred\nsecond\n", stderr_after=b"third")))
    messages = [record.getMessage().partition("stderr: ")[2] for record in caplog.records]
    assert messages == ["PHP \\x1b[31mred", "second", "third"]
    caplog.clear()
    with caplog.at_level(logging.INFO, LOGGER.name):
        run(ask(Behaviour(stderr_before=b"x" * 99 + b"\n", stderr_after=b"y" * 9_999_999)))
    assert sum(len(record.getMessage()) for record in caplog.records) < 2 * MAX_STDERR_BYTES
    assert caplog.records[-1].getMessage().endswith("more bytes dropped)")


def test_unsendable_makes_no_connection() -> None:
    async def main() -> None:
        async with fastcgi_peer(Behaviour()) as peer:
            witness = Witness()
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            request = dataclasses.replace(GET, headers=(("a-b", "1"), ("a_b", "2")))
            with pytest.raises(UnsendableRequest):
                await client.fetch(peer.address, request, witness)
            assert (peer.connections, witness.connects) == (0, 0)
            assert witness.results == [Result.UNSENDABLE]

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_abandoned(loop: str) -> None:
    """Closed by our side in the body, before the head, and after the end."""

    async def main() -> Outcome:
        client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
        witness = Witness()
        async with fastcgi_peer(Behaviour(stall_at=HEAD_END + 9, record_bytes=len(PLAIN))) as peer:
            response = await client.fetch(peer.address, GET, witness)
            await response.aclose()
            await response.aclose()
            await peer.quiet()
            with pytest.raises(OriginTruncated):
                await response.read()
            assert not response.is_cacheable
        assert witness.results == [Result.ABANDONED]
        witness = Witness()
        async with fastcgi_peer(Behaviour(stall_at=0)) as peer:
            asking = asyncio.create_task(client.fetch(peer.address, GET, witness))
            await until(lambda: peer.requests, pause_s=0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await peer.quiet()
        assert witness.results == [Result.ABANDONED]
        witness = Witness()
        async with fastcgi_peer(Behaviour()) as peer:
            response = await client.fetch(peer.address, GET, witness)
            assert await read_all(response) == BODY
            await response.aclose()
            assert await response.read() == b""
            assert response.is_cacheable
        assert witness.results == [Result.ANSWERED]
        return Outcome()

    sealed(main(), loop)


def test_an_unread_answer_is_held_back() -> None:
    """Backpressure: a client that does not read makes the application wait, not us grow."""

    async def main() -> None:
        size = 20_000_000
        async with fastcgi_peer(Behaviour(stdout=OPEN_END + b"z" * size)) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            response = await client.fetch(peer.address, GET, Witness())
            first = await response.read()
            assert len(first) < 1_000_000
            await until(lambda: peer.requests, pause_s=0)
            assert peer.is_open
            assert len(first) + len(await read_all(response)) == len(BODY) + size

    run(main())


class Crowded(Poller):
    """Watches so many more, and then the kernel has no room (epoll_ctl(2): ENOSPC)."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def add(
        self, fd: int, on_readable: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "no room")
        super().add(fd, on_readable, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("left", [0, 1])
def test_a_connection_that_cannot_be_watched(
    left: int, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the exchange as any other; nothing waits for it any more."""

    async def main() -> Outcome:
        outcome, witness = Outcome(), Witness()
        goes_on = asyncio.Event()

        async def bits() -> AsyncIterator[bytes]:
            yield PLAIN + BODY[:9]
            await goes_on.wait()

        async with fastcgi_peer(Behaviour(stdout=b"", bits=bits)) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            client._poller = Crowded(left)
            with pytest.raises(OriginTruncated if left else OriginBroken) as caught:
                response = await client.fetch(peer.address, GET, witness)
                assert await response.read() == BODY[:9]
                await asyncio.sleep(0)  # it is watched no more once it has had nobody to tell
                response._channel._on_readable()
                await response.read()
            assert left or not caught.value.has_begun
            goes_on.set()
            await peer.quiet()
            await client.aclose()
        (outcome.result,) = witness.results
        return outcome

    outcome = sealed(main(), loop)
    assert outcome.result is (Result.TRUNCATED if left else Result.BROKEN)
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
def test_no_descriptor_is_made_for_the_first_request_but_its_own(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    async def main() -> None:
        client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
        monkeypatch.setattr(select, "epoll", full)
        async with fastcgi_peer(Behaviour()) as peer:
            response = await client.fetch(peer.address, GET, Witness())
            assert await read_all(response) == BODY
            await client.aclose()

    run(main(), loop)


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("loop", LOOPS)
def test_closed_by_another_while_it_is_read(keep: int, loop: str) -> None:
    """Who reads is told at once, also where the connection would be drained to be kept."""

    async def main() -> None:
        witness = Witness()
        stalling = Behaviour(stall_at=HEAD_END + 9, record_bytes=len(PLAIN), obeys_abort=True)
        async with fastcgi_peer(stalling) as peer:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER, keep=keep)
            response = await client.fetch(peer.address, GET, witness)
            reading = asyncio.ensure_future(response.read())
            await asyncio.sleep(0)
            await response.aclose()
            with pytest.raises(OriginTruncated):
                await asyncio.wait_for(reading, 5)
            await peer.quiet()
            await client.aclose()
        assert witness.results == [Result.ABANDONED]

    run(main(), loop)
