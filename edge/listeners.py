"""What a worker listens on: the public sockets, and the admin's, which is the last to close."""

import logging
import socket
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable

from edge.clock import Clock
from edge.connection import ConnectionSettings, Handler
from edge.drain import accept_rest, drain, stop_accepting
from edge.listener import Listener
from edge.residency import Residency
from edge.tenure import Tenure

log = logging.getLogger("halftone")


class Listeners:
    def __init__(self, clock: Clock, residency: Residency) -> None:
        self._clock = clock
        self._residency = residency
        self.all: list[Listener] = []  # the admin's is the last

    def open(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: ConnectionSettings,
        loop: AbstractEventLoop,
    ) -> None:
        listener = Listener(sock, handler, settings, self._clock, loop, self._residency)
        self.all.append(listener)
        listener.start()

    def tick(self) -> None:
        for listener in self.all:
            try:
                listener.tick()
            except Exception:  # the clock must go on: Date and every lifetime hang on it
                log.exception("a listener's tick failed")

    async def leave(self, tenure: Tenure, release: Callable[[], Awaitable[None]]) -> None:
        """Before the parts stop: what came in is answered. release() is called where others take
        the place of this worker, as soon as nothing comes in here any more."""
        public, admin = self.all[:-1], self.all[-1]
        for number, listener in enumerate(public):
            if number in tenure.ended or not tenure.is_released:
                await accept_rest(listener)
            stop_accepting(listener)
        if tenure.is_released:
            stop_accepting(admin)
            await release()
            cut = await drain(self.all, lambda: tenure.ends_at)
        else:
            # /readyz goes on saying that it drains.
            cut = await drain(public, lambda: tenure.ends_at)
            stop_accepting(admin)
            cut += await drain([admin], lambda: tenure.ends_at)
        if cut:
            log.warning("%d connections were cut at the end of the grace", cut)
