"""Access lines: one a request, in pieces that are joined and written off a request's way.

A request only appends its pieces to a list. Every FLUSH_S they are joined in one step and written
with one call: at 60,000 requests a second that is 3,000 lines and a third of a millisecond. A sink
that takes nothing (a full pipe) never stops the node: what it does not take is kept up to
MAX_UNWRITTEN_BYTES, then dropped and counted.
"""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from edge.http.messages import Request
from edge.whole_lines import whole_lines

FLUSH_S: Final = 0.05
# A minute of a busy node's lines, for a reader that has stalled.
MAX_UNWRITTEN_BYTES: Final = 16 * 1024 * 1024
# What one write may take of it: a millisecond's worth of copying.
WRITE_BYTES: Final = 1024 * 1024

# A sink that fails is told of once in so many seconds.
TELL_S: Final = 60

log = logging.getLogger("halftone.access")

_MONTHS: Final = tuple("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())  # noqa: SIM905


class Record(NamedTuple):
    """One exchange that was not ready. duration_ms 0: answered at once."""

    second: int
    peer: str
    request: Request | None
    status: int
    sent: int
    cache: str
    duration_ms: float


class Peer:
    """A client's address, and how its lines begin in the current second.

    clients, of a trusted proxy: those for whom it has spoken, by the bytes in which it said so.
    """

    __slots__ = ("address", "client", "clients", "prefix", "second")

    def __init__(self, address: str) -> None:
        self.address = address
        self.clients: dict[bytes, Peer] | None = None
        # Of one that is no trusted proxy: what an origin is told of it, whatever it says.
        self.client: object = None
        self.prefix = b""
        self.second = -1


@dataclass(slots=True)
class Stats:
    lines: int = 0  # joined, and written or soon to be
    dropped: int = 0


class Format(Protocol):
    """How lines look. A line of a ready answer is prefix + answer + referer + agent's tail."""

    def record(self, record: Record) -> bytes: ...

    def prefix(self, address: str, second: int) -> bytes: ...

    def answer(self, method: str, target: str, host: str, status: int, length: int) -> bytes: ...

    def tail(self, agent: bytes) -> bytes: ...


class AccessLog:
    """path is a file, "-" for standard output. Raises OSError at start() when it cannot be opened.

    now is the current second, kept by the owner's clock.
    """

    def __init__(self, path: str, form: Format) -> None:
        self._path = path
        self._form = form
        self._pieces: list[bytes] = []
        self._unwritten = b""
        # Tails by the agent's line: a few thousand browsers are all there are.
        self._tails: dict[bytes, bytes] = {}
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.now = 0
        self._told_until = 0
        self.is_shared = False  # other processes append to it
        self.stats = Stats()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open()
        self._timer = loop.call_later(FLUSH_S, self._flush)

    def stop(self) -> None:
        """Write what is pending, as far as the sink takes it."""
        if self._timer is not None:
            self._timer.cancel()
        self._join()
        while self._unwritten and self._write():
            pass
        self._drop_unwritten()
        self._close()

    def reopen(self) -> None:
        """After a rotation: the old file gets what is pending, then the name is opened again.

        Raises OSError when it cannot be opened; then the old file stays in use.
        """
        self._join()
        self._write()
        old = self._fd
        self._open()
        os.close(old)

    def append(self, record: Record) -> None:
        self._pieces.append(self._form.record(record))

    def append_ready(self, peer: Peer, answer: bytes, referer: bytes, agent: bytes) -> None:
        """A line of pieces made before; no quote and no control is in them."""
        if peer.second != self.now:
            peer.prefix = self._form.prefix(peer.address, self.now)
            peer.second = self.now
        tail = self._tails.get(agent)
        if tail is None:
            tail = self._make_tail(agent)
        self._pieces += (peer.prefix, answer, referer, tail)

    def _make_tail(self, agent: bytes) -> bytes:
        if len(self._tails) > 8192:
            self._tails.clear()
        tail = self._tails[agent] = self._form.tail(agent.partition(b":")[2].strip() or b"-")
        return tail

    def answer_line(self, method: str, target: str, host: str, status: int, length: int) -> bytes:
        return self._form.answer(method, target, host, status, length)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o640) if self._path != "-" else open_output()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        """A timer's callback."""
        assert self._loop is not None
        self._join()
        more = bool(self._unwritten) and self._write() and bool(self._unwritten)
        if len(self._unwritten) > MAX_UNWRITTEN_BYTES:
            self._drop_unwritten()
        self._timer = self._loop.call_later(0 if more else FLUSH_S, self._flush)

    def _join(self) -> None:
        if self._pieces:
            lines = b"".join(self._pieces)
            self._pieces.clear()
            self._unwritten += lines
            self.stats.lines += lines.count(b"\n")

    def _write(self) -> bool:
        """One call; False when the sink takes nothing now."""
        try:
            written = os.write(self._fd, self._next_piece())
        except BlockingIOError:
            return False
        except OSError as error:
            # A full disk or a closed pipe: the lines are lost, the node goes on, the count tells.
            self._tell(error)
            self._drop_unwritten()
            return False
        self._unwritten = self._unwritten[written:]
        return True

    def _tell(self, error: OSError) -> None:
        if self.now < self._told_until:
            return
        self._told_until = self.now + TELL_S
        log.error("access log %s takes no more, lines are dropped: %s", self._path, error.strerror)

    def _next_piece(self) -> memoryview:
        if self.is_shared:
            return whole_lines(self._unwritten, self._fd, WRITE_BYTES)
        return memoryview(self._unwritten)[:WRITE_BYTES]

    def _drop_unwritten(self) -> None:
        lost = self._unwritten.count(b"\n")
        self.stats.dropped += lost
        self.stats.lines -= lost
        self._unwritten = b""


def open_output() -> int:
    """Standard output, never waiting for its reader.

    O_NONBLOCK belongs to the open file, which standard error and other programs may share: so it is
    opened anew, and only what cannot be (a socket, a pipe of somebody else) is switched over.
    """
    try:
        return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        fd = os.dup(1)
        os.set_blocking(fd, False)
        return fd


def _escape(text: str) -> str:
    """Nothing of the wire may end a line or a quoted field."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\x{ord(char):02x}" for char in text
    )


class Combined:
    """The combined format of Apache and nginx, then the cache's word and milliseconds."""

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""

    def _time(self, second: int) -> str:
        if second != self._second:
            t = time.gmtime(second)
            self._second = second
            self._stamp = (
                f"{t.tm_mday:02d}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}"
                f":{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
            )
        return self._stamp

    def record(self, record: Record) -> bytes:
        request = record.request
        line, referer, agent = "-", "-", "-"
        if request is not None:
            method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
            line = f"{method} {_escape(target)} HTTP/1.{request.minor}"
            fields = request.fields
            if b"referer" in fields:
                referer = _escape(fields[b"referer"].decode("latin-1")) or "-"
            if b"user-agent" in fields:
                agent = _escape(fields[b"user-agent"].decode("latin-1")) or "-"
        return (
            f"{record.peer} - - [{self._time(record.second)}] "
            f'"{line}" {record.status} {record.sent} "{referer}" "{agent}" '
            f"{record.cache} {record.duration_ms:.1f}\n"
        ).encode()

    def prefix(self, address: str, second: int) -> bytes:
        return f'{address} - - [{self._time(second)}] "'.encode()

    def answer(self, method: str, target: str, host: str, status: int, length: int) -> bytes:
        return f'{method} {_escape(target)} HTTP/1.1" {status} {length} "'.encode()

    def tail(self, agent: bytes) -> bytes:
        return b'" "%b" HIT 0.0\n' % agent


class Json:
    """One JSON object a line; control characters are escaped by JSON itself."""

    def record(self, record: Record) -> bytes:
        members: dict[str, object] = {
            "ts": self._time(record.second),
            "remote": record.peer,
            "status": record.status,
            "bytes": record.sent,
            "cache": record.cache,
            "dur_ms": round(record.duration_ms, 1),
        }
        request = record.request
        if request is not None:
            members |= {
                "method": request.method.decode("latin-1"),
                "host": request.authority.decode("latin-1"),
                "path": request.target.decode("latin-1"),
                "referer": request.field(b"referer") or "",
                "ua": request.field(b"user-agent") or "",
            }
        return json.dumps(members).encode() + b"\n"

    def _time(self, second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))

    def prefix(self, address: str, second: int) -> bytes:
        return f'{{"ts": "{self._time(second)}", "remote": "{address}", '.encode()

    def answer(self, method: str, target: str, host: str, status: int, length: int) -> bytes:
        members = {
            "status": status, "bytes": length, "cache": "HIT", "dur_ms": 0.0, "method": method,
            "host": host, "path": target,
        }  # fmt: skip
        return json.dumps(members)[1:-1].encode() + b', "referer": "'

    def tail(self, agent: bytes) -> bytes:
        return b'", "ua": "%b"}\n' % agent


FORMS: Final[dict[str, type[Format]]] = {"combined": Combined, "json": Json}
