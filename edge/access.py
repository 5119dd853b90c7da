"""Access lines: one a request, formatted in small slices off a request's way, written in batches.

The way of a request only appends to a list. Lines are formatted every FLUSH_S in slices that keep
below a millisecond, and written with one call. A sink that takes nothing (a full pipe) never stops
the node: what is not taken is kept up to MAX_PENDING records, then dropped and counted.
"""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.http.messages import Request

FLUSH_S: Final = 0.1
# At 2 to 4 microseconds a line, a slice of 200 stays below the millisecond that one callback may
# take.
SLICE: Final = 200
# Three seconds of the busiest node's requests; each holds its head, some 3 KB.
MAX_PENDING: Final = 50_000
# Slices that a rotation writes to the old file: more would keep the loop for too long.
ROTATED_SLICES: Final = 10
MAX_UNWRITTEN_BYTES: Final = 4 * 1024 * 1024

_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]


@dataclass(frozen=True, slots=True)
class Record:
    """One exchange. status 0: cut before a status was sent. duration_ms 0: answered at once."""

    second: int
    peer: str
    request: Request | None
    status: int
    sent: int
    cache: str
    duration_ms: float


@dataclass(slots=True)
class Stats:
    """records == lines + dropped + (what is pending)."""

    records: int = 0
    lines: int = 0
    dropped: int = 0


class AccessLog:
    """path is a file, "-" for standard output; format is "combined" or "json".

    Raises OSError at start() when the file cannot be opened.
    """

    def __init__(self, path: str, format_name: str) -> None:
        self._path = path
        self._format: Callable[[Record], str] = FORMATS[format_name]
        self._pending: deque[Record] = deque()
        self._unwritten = b""
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stats = Stats()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open()
        self._timer = loop.call_later(FLUSH_S, self._flush)

    def stop(self) -> None:
        """Write what is pending, as far as the sink takes it."""
        if self._timer is not None:
            self._timer.cancel()
        while self._pending:
            self._format_slice()
            if not self._write():
                break
        self._write()
        self.stats.dropped += len(self._pending)
        self._pending.clear()
        self._close()

    def reopen(self) -> None:
        """After a rotation: the old file gets what is pending, then the name is opened again.

        Raises OSError when it cannot be opened; then the old file stays in use.
        """
        for _ in range(ROTATED_SLICES):
            self._format_slice()
        self._write()
        old = self._fd
        self._open()
        os.close(old)

    def append(self, record: Record) -> None:
        self.stats.records += 1
        if len(self._pending) >= MAX_PENDING:
            self._pending.popleft()
            self.stats.dropped += 1
        self._pending.append(record)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o640) if self._path != "-" else open_output()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        """A timer's callback: one slice; the next slice comes as soon as the loop has turned."""
        assert self._loop is not None
        if len(self._unwritten) < MAX_UNWRITTEN_BYTES:
            self._format_slice()
        more = self._write() and bool(self._pending)
        self._timer = self._loop.call_later(0 if more else FLUSH_S, self._flush)

    def _format_slice(self) -> None:
        pending = self._pending
        lines = [self._format(pending.popleft()) for _ in range(min(SLICE, len(pending)))]
        if not lines:
            return
        self._unwritten += "".join(lines).encode("utf-8", "backslashreplace")
        self.stats.lines += len(lines)

    def _write(self) -> bool:
        """False when the sink did not take everything."""
        if not self._unwritten:
            return True
        try:
            written = os.write(self._fd, self._unwritten)
        except BlockingIOError:
            return False
        except OSError:
            # A full disk or a closed pipe: the lines are lost, the node goes on, the count tells.
            self.stats.dropped += self._unwritten.count(b"\n")
            self._unwritten = b""
            return True
        self._unwritten = self._unwritten[written:]
        return not self._unwritten


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
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char not in '"\\' else f"\\x{ord(char):02x}" for char in text
    )


_stamps: dict[int, str] = {}


def _stamp(second: int) -> str:
    """A combined log's time, made once a second."""
    stamp = _stamps.get(second)
    if stamp is None:
        t = time.gmtime(second)
        stamp = (
            f"{t.tm_mday:02d}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}"
            f":{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
        )
        _stamps.clear()
        _stamps[second] = stamp
    return stamp


def format_combined(record: Record) -> str:
    """The combined format of Apache and nginx, followed by the cache's word and milliseconds."""
    request = record.request
    line, referer, agent = "-", "-", "-"
    if request is not None:
        method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
        line = f"{method} {_escape(target)} HTTP/1.{request.minor}"
        referer = _escape(request.field(b"referer") or "-")
        agent = _escape(request.field(b"user-agent") or "-")
    return (
        f"{record.peer} - - [{_stamp(record.second)}] "
        f'"{line}" {record.status} {record.sent} "{referer}" "{agent}" '
        f"{record.cache} {record.duration_ms:.1f}\n"
    )


def format_json(record: Record) -> str:
    """One JSON object a line; control characters are escaped by JSON itself."""
    t = time.gmtime(record.second)
    members: dict[str, object] = {
        "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", t),
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
            "ua": request.field(b"user-agent") or "",
            "referer": request.field(b"referer") or "",
        }
    return json.dumps(members) + "\n"


FORMATS: Final[dict[str, Callable[[Record], str]]] = {
    "combined": format_combined,
    "json": format_json,
}
