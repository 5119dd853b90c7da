"""An application behind a whole node: FastCGI from a thread of its own, answers set by the test."""

import asyncio
import contextlib
import queue
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Self

from tests.peers.fastcgi import Behaviour, Seen, fastcgi_peer

Answer = Behaviour | Callable[[Seen], Behaviour]


class Tap:
    """An answer that the test lets run: bytes behind the head, then end() or cut()."""

    def __init__(self, *fields: str, length: int | None = None) -> None:
        lines = ["Status: 200 OK", "Content-Type: image/jpeg", *fields]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self._bits: queue.SimpleQueue[bytes | EllipsisType | None] = queue.SimpleQueue()
        self.send("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")

    def send(self, data: bytes) -> None:
        self._bits.put(data)

    def end(self) -> None:
        self._bits.put(...)

    def cut(self) -> None:
        self._bits.put(None)

    def __call__(self, seen: Seen) -> Behaviour:
        return Behaviour(stdout=b"", bits=self._run)

    async def _run(self) -> AsyncIterator[bytes | None]:
        while (bit := await asyncio.to_thread(self._bits.get)) is not ...:
            assert not isinstance(bit, EllipsisType)
            yield bit


class Application:
    """answers maps a REQUEST_URI to what is said to it; anything else is 404. seen counts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def configuration(self) -> str:
        """The [[origin]], called app."""
        return (
            f'[[origin]]\nname = "app"\nhosts = ["unix:{self.path}"]\n'
            'script_filename = "/srv/app.php"\ntimeout = "1s"\n'
        )

    def visits(self, target: str) -> int:
        return sum(seen.params["REQUEST_URI"].decode() == target for seen in self.seen)

    def start(self) -> None:
        ready = threading.Event()
        self._end = asyncio.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            async with fastcgi_peer(self._answer, path=self.path):
                ready.set()
                await self._end.wait()

        Path(self.path).unlink(missing_ok=True)
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._thread is None:
            return
        assert self._loop is not None
        Path(self.path).unlink(missing_ok=True)
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answer(self, seen: Seen) -> Behaviour:
        self.seen.append(seen)
        answer = self.answers.get(seen.params["REQUEST_URI"].decode())
        if answer is None:
            return said("404 Not Found", b"no\n", "text/plain", ["Cache-Control: max-age=10"])
        return answer if isinstance(answer, Behaviour) else answer(seen)


@contextlib.contextmanager
def application() -> Iterator[Application]:
    """The path of a Unix socket must stay short, so its folder is made here and not by pytest."""
    with (
        tempfile.TemporaryDirectory(prefix="app-") as folder,
        Application(f"{folder}/s") as started,
    ):
        yield started


def said(
    status: str = "200 OK",
    body: bytes | None = None,
    kind: str = "image/jpeg",
    fields: Sequence[str] = (),
    **spoilt: int,
) -> Behaviour:
    """An answer; body None has neither type nor length. spoilt: knobs of Behaviour."""
    lines = [f"Status: {status}", *fields]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
    return Behaviour(stdout=head + (body or b""), **spoilt)  # type: ignore[arg-type]


def picture(body: bytes, tag: str, control: str, *more: str) -> Answer:
    """A picture with an ETag, confirmed by 304 where that tag is sent back."""
    fields = [f"ETag: {tag}", f"Cache-Control: {control}", *more]

    def answer(seen: Seen) -> Behaviour:
        if seen.params.get("HTTP_IF_NONE_MATCH", b"").decode() == tag:
            return said("304 Not Modified", None, fields=fields)
        return said(body=body, fields=fields)

    return answer
