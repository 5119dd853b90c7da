"""Connections of one server: whatever fails, no later command reads what an earlier one left."""

import asyncio
from collections.abc import Callable

import pytest
from redis.exceptions import (
    AskError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as Late

from cache.errors import IndexUnavailable
from cache.index.breaker import Breaker
from cache.index.door import MAX_WAITING, Door
from cache.index.server import CONNECTIONS, MAX_ERROR_LENGTH, Server, tell

Step = str
OK = b"OK"


class Wire:
    """In place of a connection: each step is answered or fails as the test says, by name."""

    def __init__(self, fails: dict[Step, list[BaseException | None]]) -> None:
        self.fails = fails
        self.steps: list[Step] = []
        self.sent: list[tuple[object, ...]] = []
        self.unread = 0
        self.is_gone = False
        self.replies: list[object] = []

    async def connect(self) -> None:
        self._step("connect")

    async def send_command(self, *command: object) -> None:
        assert self.unread == 0
        assert not self.is_gone
        self.sent.append(command)
        self.unread += 1
        self._step("send")

    async def read_response(self, timeout: float | None = None) -> object:
        assert self.unread == 1
        await asyncio.sleep(0)
        self._step("read")
        self.unread -= 1
        return self.replies.pop(0) if self.replies else OK

    async def disconnect(self, nowait: bool = False) -> None:
        self.is_gone = True

    def _step(self, name: Step) -> None:
        self.steps.append(name)
        planned = self.fails.get(name)
        error = planned.pop(0) if planned else None
        if error is not None:
            if isinstance(error, ResponseError):
                self.unread -= 1
            raise error


class Wires:
    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.fails: dict[Step, list[BaseException | None]] = {}
        self.replies: list[object] = []
        self.server = Server(
            Door("redis", Breaker(lambda: 0.5), lambda: 0.0, lambda: None),
            self._make,  # type: ignore[arg-type]
        )

    def _make(self) -> Wire:
        self.made.append(Wire(self.fails))
        self.made[-1].replies = self.replies
        return self.made[-1]

    async def ask(self, *command: str, script: object = None, is_asking: bool = False) -> object:
        deadline = asyncio.get_running_loop().time() + 5
        return await self.server.exchange(
            command or ("GET", "k"),
            script,  # type: ignore[arg-type]
            deadline=deadline,
            is_asking=is_asking,
        )


class Script:
    text = "return 1"
    wait_s = 0.0


class Awaited:
    text = "return {1}"
    wait_s = 0.5


def test_a_connection_is_used_again() -> None:
    async def main() -> None:
        wires = Wires()
        for _ in range(5):
            assert await wires.ask() == OK
        assert len(wires.made) == 1
        await asyncio.gather(*(wires.ask() for _ in range(20)))
        assert len(wires.made) == CONNECTIONS == wires.server.idle

    asyncio.run(main())


@pytest.mark.parametrize("step", ["connect", "send", "read"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Lost("gone"),
        lambda: Late("late"),
        lambda: InvalidResponse("rubbish"),
        lambda: OSError("broken pipe"),
        lambda: ValueError("a bug"),
        lambda: asyncio.CancelledError(),
        lambda: ResponseError("WRONGTYPE"),
        lambda: MovedError("5 a:1"),
        lambda: AskError("5 a:1"),
        lambda: ReadOnlyError("replica"),
    ],
)
def test_any_exception_throws_the_connection_away(
    step: Step, make: Callable[[], BaseException]
) -> None:
    async def main() -> None:
        wires = Wires()
        wires.fails[step] = [make()]
        with pytest.raises(type(make())):
            await wires.ask()
        (wire,) = wires.made
        assert wire.is_gone
        assert wires.server.idle == 0
        assert await wires.ask() == OK
        assert len(wires.made) == 2

    asyncio.run(main())


@pytest.mark.parametrize("fails_at", range(5))
def test_also_between_asking_and_its_command(fails_at: int) -> None:
    """connect, send ASKING, read, send, read: one of them times out."""
    names = ("connect", "send", "read", "send", "read")

    async def main() -> None:
        wires = Wires()
        name = names[fails_at]
        wires.fails[name] = [*([None] * names[:fails_at].count(name)), Late("late")]
        with pytest.raises(Late):
            await wires.ask(is_asking=True)
        assert wires.made[0].is_gone
        assert await wires.ask() == OK
        assert wires.made[1].sent == [("GET", "k")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("is_asking", "sent"),
    [
        (False, [("EVALSHA", "sha", "1", "k"), ("EVAL", "return 1", "1", "k")]),
        # ASKING holds for one command
        (True, [("ASKING",), ("EVALSHA", "sha", "1", "k"),
                ("ASKING",), ("EVAL", "return 1", "1", "k")]),
    ],
)  # fmt: skip
def test_a_forgotten_script_keeps_its_connection(
    is_asking: bool, sent: list[tuple[str, ...]]
) -> None:
    async def main() -> None:
        wires = Wires()
        wires.fails["read"] = [*([None] if is_asking else []), NoScriptError("none")]
        words = ("EVALSHA", "sha", "1", "k")
        assert await wires.ask(*words, script=Script, is_asking=is_asking) == OK
        assert wires.made[0].sent == sent
        assert wires.server.idle == 1

    asyncio.run(main())


def test_and_loses_it_when_the_script_fails() -> None:
    async def main() -> None:
        wires = Wires()
        wires.fails["read"] = [NoScriptError("none"), Late("late")]
        with pytest.raises(Late):
            await wires.ask("EVALSHA", "sha", "0", script=Script)
        assert wires.made[0].is_gone
        wires.fails["read"] = [NoScriptError("no script of ours")]
        with pytest.raises(NoScriptError):
            await wires.ask()
        assert wires.made[1].is_gone

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "told", "is_kept", "asked"),
    [
        (1, 1, True, True),
        (0, 0, True, True),  # connected, and not in time
        (None, 0, False, True),  # its reply may still come
        (Late("late"), 0, False, True),
        (ResponseError("WAIT cannot be used with replica instances"), 0, False, True),
        ("no replica", 0, True, False),
    ],
)
def test_a_replica_is_waited_for_on_the_connection_that_wrote(
    answer: object, told: int, is_kept: bool, asked: bool
) -> None:
    async def main() -> None:
        wires = Wires()
        wires.replies = [[b"token", 1 if asked else 0]]
        if isinstance(answer, Exception):
            wires.fails["read"] = [None, answer]
        else:
            wires.replies.append(answer)
        assert await wires.ask("EVALSHA", "sha", "0", script=Awaited) == [b"token", told]
        (wire,) = wires.made
        assert (wire.sent[1:] == [("WAIT", 1, 500)]) == asked
        assert (wire.is_gone, wires.server.idle) == (not is_kept, int(is_kept))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (ResponseError("WRONGTYPE"), True),
        (MovedError("5 a:1"), True),
        (ReadOnlyError("replica"), False),
        (MasterDownError("MASTERDOWN"), False),
        (Lost("gone"), False),
        (Late("late"), False),
    ],
)
def test_idle_ones_go_with_a_server_that_is_gone(error: RedisError, is_kept: bool) -> None:
    async def main() -> None:
        wires = Wires()
        await asyncio.gather(wires.ask(), wires.ask())
        wires.fails["read"] = [error]
        with pytest.raises(type(error)):
            await wires.ask()
        assert wires.server.idle == int(is_kept)
        assert [wire.is_gone for wire in wires.made].count(False) == int(is_kept)

    asyncio.run(main())


def test_a_retired_server_keeps_nothing() -> None:
    async def main() -> None:
        wires = Wires()
        await asyncio.gather(wires.ask(), wires.ask())
        running = asyncio.create_task(wires.ask())
        await asyncio.sleep(0)
        await wires.server.retire()
        assert await running == OK  # it was on its way
        assert wires.server.idle == 0
        assert all(wire.is_gone for wire in wires.made)

    asyncio.run(main())


def test_a_full_door_and_a_broken_one() -> None:
    now = 0.0
    opened: list[float] = []
    door = Door("redis a:1", Breaker(lambda: 0.5), lambda: now, lambda: opened.append(now))
    for _ in range(MAX_WAITING):
        door.enter()
    with pytest.raises(IndexUnavailable, match=f"{MAX_WAITING} commands wait for redis a:1"):
        door.enter()
    door.leave()
    door.enter()
    door.leave()
    for _ in range(5):
        door.failed("refused")
    with pytest.raises(IndexUnavailable, match=r"redis a:1 failed lately, .* refused"):
        door.enter()
    assert door.waiting == MAX_WAITING - 1
    assert opened == [0.0]
    now = 1.1
    door.enter()  # the probe
    door.succeeded()
    door.allow()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gone", "ResponseError: gone"),
        ("unknown command 'AUTH', with args beginning with: 'ge/heim'",
         "ResponseError: unknown command 'AUTH', with args beginning with: '***'"),
        ("redis://:ge%2Fheim@a", "ResponseError: redis://:***@a"),
        ("a\r\nb\x1b[31m", "ResponseError: a??b?[31m"),
        ("x" * 500, f"ResponseError: {'x' * (MAX_ERROR_LENGTH - 18)}..."),
    ],
)  # fmt: skip
def test_errors_as_they_are_told(text: str, told: str) -> None:
    assert tell(ResponseError(text), ("ge%2Fheim", "ge/heim")) == told
