"""Clients that never rest: kept connections and fresh ones, which notice every request lost.

What HTTP lets a server do is no failure: an answer that says "Connection: close" ends its
connection. Everything else is: a refusal, a reset, an end before or within an answer.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

EACH = 6  # connections of each kind
PATIENCE_S = 20


@dataclass
class Tally:
    answered: int = 0
    statuses: set[int] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    refused_at: float | None = None  # the first refusal of a connection


class Load:
    def __init__(self, address: str, target: str) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self._request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        self._is_over = threading.Event()
        self.tally = Tally()

    def run(self) -> None:
        asyncio.run(self._run())

    def stop(self) -> None:
        self._is_over.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(EACH):
                clients.create_task(self._client(is_kept=True))
                clients.create_task(self._client(is_kept=False))

    async def _client(self, *, is_kept: bool) -> None:
        while not self._is_over.is_set():
            started = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(*self._where)
            except OSError as error:
                if self.tally.refused_at is None:
                    self.tally.refused_at = started
                    self.tally.failures.append(f"connecting: {error}")
                return
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while await self._exchange(reader, writer, started) and is_kept:
                        if self._is_over.is_set():
                            break
                        started = time.monotonic()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                kind = "kept" if is_kept else "fresh"
                self.tally.failures.append(f"{kind}: {error!r}")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, started: float
    ) -> bool:
        """True when the connection can be used again."""
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await reader.readexactly(length)
        tally = self.tally
        tally.answered += 1
        tally.statuses.add(status)
        tally.longest_s = max(tally.longest_s, time.monotonic() - started)
        return "connection: close" not in head


@contextlib.contextmanager
def load(address: str, target: str) -> Iterator[Tally]:
    """Load on an address while the context lasts, from its first answers on."""
    running = Load(address, target)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: running.tally.answered > EACH or not thread.is_alive())
        yield running.tally
    finally:
        running.stop()
        thread.join()


def wait_until(is_so, seconds: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    """For what nothing announces; bounded."""
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "it did not come"
        threading.Event().wait(0.01)
