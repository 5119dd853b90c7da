"""How the listeners of a worker end without a request lost (RFC 9112 section 9.6).

A client may send a request at the very moment in which we close a kept connection; it then sees a
reset. So an idle connection is closed only after IDLE_S in which it could have been used, and told
so by the answer that it gets meanwhile: every answer of a listener that drains says
"Connection: close".
"""

import asyncio
import select
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

# Many round trips, and what nginx and Squid use as their shortest.
IDLE_S: Final = 1.0
# A queue that is refilled faster than we empty it must not keep us for ever.
_ACCEPT_S: Final = 1.0
_LOOK_S: Final = 0.02


class Connection(Protocol):
    def close_if_idle(self) -> None: ...

    def abort(self) -> None: ...


class Listener(Protocol):
    """What edge/listener.py has: accepts as long as the loop watches its socket."""

    sock: socket.socket
    loop: asyncio.AbstractEventLoop
    is_draining: bool

    @property
    def connections(self) -> Collection[Connection]: ...


async def accept_rest(listener: Listener) -> None:
    """Let the loop accept until the kernel's queue is empty: those clients are connected."""
    queue = select.poll()
    queue.register(listener.sock.fileno(), select.POLLIN)
    ends_at = listener.loop.time() + _ACCEPT_S
    while queue.poll(0) and listener.loop.time() < ends_at:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)  # the loop accepts


def stop_accepting(listener: Listener) -> None:
    """Close our copy of the socket; the queue lives on as long as anyone holds another."""
    listener.is_draining = True
    listener.loop.remove_reader(listener.sock.fileno())
    listener.sock.close()


async def drain(listeners: Sequence[Listener], ends_at: Callable[[], float]) -> int:
    """Wait for the connections of listeners that stopped accepting; cut what is left at the end,
    which may come nearer meanwhile. Returns how many were cut."""
    loop = asyncio.get_running_loop()
    idle_at = loop.time() + IDLE_S

    def left() -> int:
        return sum(len(listener.connections) for listener in listeners)

    await _wait(lambda: left() == 0 or loop.time() >= min(idle_at, ends_at()))
    for listener in listeners:
        for connection in tuple(listener.connections):
            connection.close_if_idle()
    await _wait(lambda: left() == 0 or loop.time() >= ends_at())
    cut = left()
    for listener in listeners:
        for connection in tuple(listener.connections):
            connection.abort()
    return cut


async def _wait(is_over: Callable[[], bool]) -> None:
    """It happens once in a process's life; an event for it would cost every connection."""
    while not is_over():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
