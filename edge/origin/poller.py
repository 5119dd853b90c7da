"""Sockets that live for one short exchange, watched through one epoll of their own.

An event loop makes a handle for each descriptor that it watches, and libuv asks the kernel five
times before it does. An exchange with an application on the same machine is over after one event,
so that is a tenth of its cost. Here a socket costs one epoll_ctl, and nothing when it is closed:
the loop itself watches a single descriptor, the epoll's (epoll(7): an epoll descriptor is readable
when one of its own is).
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

# Events dealt with in one turn of the loop; more of them are met by the next turn.
MAX_EVENTS: Final = 64
_IN: Final = int(select.EPOLLIN)


class Poller:
    """Of one event loop. Callbacks may find that there is nothing to be read after all: a number
    may belong to another socket by the time its event is dealt with.

    Has its descriptor from the beginning: who is short of them is not to learn it from a request.
    """

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        self._epoll: select.epoll | None = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(
        self, fd: int, on_readable: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Until discard() or forget(); also of one that is watched, with another callback. Raises
        OSError where the kernel has no room for one more."""
        epoll = self._epoll
        if epoll is None or self._loop is None:
            epoll = self._epoll = epoll or select.epoll()
            loop.add_reader(epoll.fileno(), self._on_events)
            self._loop = loop
        if fd not in self._callbacks:
            epoll.register(fd, _IN)
        self._callbacks[fd] = on_readable

    def discard(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)
            if self._is_closing:
                self._close_unused()

    def forget(self, fd: int) -> None:
        """Of one that is closed next: the kernel then forgets it by itself."""
        self._callbacks.pop(fd, None)
        if self._is_closing:
            self._close_unused()

    def close(self) -> None:
        """As soon as nothing is watched: who still waits is woken as before."""
        self._is_closing = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._callbacks:
            return
        epoll, self._epoll = self._epoll, None
        loop, self._loop = self._loop, None
        if epoll is not None:
            if loop is not None:
                loop.remove_reader(epoll.fileno())
            epoll.close()

    def _on_events(self) -> None:
        epoll, callbacks = self._epoll, self._callbacks
        if epoll is None:
            return
        for fd, _ in epoll.poll(0, MAX_EVENTS):
            on_readable = callbacks.get(fd)
            if on_readable is not None:
                on_readable()
