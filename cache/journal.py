"""The journal: orders kept on this node's own disk, one JSON object a line.

A purge that the index has acknowledged can be lost with it: Redis flushed, or failed over to a copy
that had not heard of it yet; the embedded index damaged. What this node carried out itself is here
before the purge is answered, and is carried out again where the log no longer has it (follow.py).
And a node that starts while the index is down reads here what it had heard of: what is taken down
stays so.

Lines are appended; a line that was cut off by a crash is skipped. At a start, and when it has
grown by MAX_LINES or MAX_BYTES, the file is written anew with no more than as much, and without
what is over KEEP_S old, but for what is still taken down.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from cache.orders import MAX_ORDERS, Act, Order

KEEP_S: Final = 86_400
MAX_LINES: Final = MAX_ORDERS
# Of what the orders are for: paths have 8 KiB at the most, and whoever may POST has them purged.
MAX_BYTES: Final = 16 * 1024 * 1024


class Line(msgspec.Struct, frozen=True):
    """is_own: carried out by this node, and so its to answer for. at: seconds since 1970.
    instead_of: the seq under which the index had lost it."""

    order: Order
    is_own: bool
    at: int
    instead_of: int = 0


class Journal:
    """clock: seconds since 1970. Methods block on the disk; load() comes first."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self.failed = 0  # lines that could not be written
        self._path = path
        self._clock = clock
        self._lines: list[Line] = []
        self._grown = 0  # by so many lines since it was written anew, and bytes
        self._grown_bytes = 0
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Line).decode

    def __len__(self) -> int:
        return len(self._lines)

    def load(self) -> tuple[Order, ...]:
        """What was heard of, oldest first. Raises OSError where nothing can be written."""
        with self._lock:
            lines = list(self._read())
            self._lines = _without_replaced(lines, lines)
            self._rewrite()
            return tuple(line.order for line in self._lines)

    def own(self) -> tuple[Order, ...]:
        """What this node answers for, oldest first. Of taking a source down and lifting that, by
        whomever, only what came last."""
        with self._lock:
            last: dict[tuple[str, str], int] = {}
            for line in self._lines:
                if line.order.act in (Act.TAKE_DOWN, Act.LIFT):
                    name = (line.order.site, line.order.value)
                    last[name] = max(last.get(name, 0), line.order.seq)
            return tuple(
                order
                for order in (line.order for line in self._lines if line.is_own)
                if order.act not in (Act.TAKE_DOWN, Act.LIFT)
                or order.seq == last[order.site, order.value]
            )

    def append(
        self,
        orders: Iterable[Order],
        *,
        is_own: bool,
        is_durable: bool = False,
        instead_of: int = 0,
    ) -> None:
        """Durable ones are on the disk when this returns. Raises OSError."""
        now = int(self._clock())
        lines = [Line(order, is_own, now, instead_of) for order in orders]
        if not lines:
            return
        with self._lock:
            self._lines = _without_replaced([*self._lines, *lines], lines)
            try:
                self._grown += len(lines)
                self._grown_bytes += sum(map(_size_of, lines))
                if self._grown > MAX_LINES or self._grown_bytes > MAX_BYTES:
                    self._rewrite()
                    return
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._write(flags, lines, is_durable=is_durable)
            except OSError:
                self.failed += len(lines)
                raise

    def _read(self) -> Iterable[Line]:
        try:
            with open(self._path, "rb") as file:
                for text in file:
                    # A line cut off, or of another release: nothing that can be obeyed.
                    with contextlib.suppress(msgspec.MsgspecError, ValueError):
                        yield self._decode(text)
        except FileNotFoundError:
            return

    def _rewrite(self) -> None:
        oldest = self._clock() - KEEP_S
        standing: dict[tuple[str, str], Line] = {}
        for line in self._lines:
            name = (line.order.site, line.order.value)
            if line.order.act is Act.TAKE_DOWN:
                standing[name] = line
            elif line.order.act is Act.LIFT:
                standing.pop(name, None)
        recent = _newest([line for line in self._lines if line.at > oldest])
        kept = {id(line): line for line in (*standing.values(), *recent)}
        self._lines = sorted(kept.values(), key=lambda line: line.order.seq)
        aside = f"{self._path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._write(flags, self._lines, is_durable=True, path=aside)
        os.replace(aside, self._path)
        self._grown = self._grown_bytes = 0

    def _write(
        self, flags: int, lines: Iterable[Line], *, is_durable: bool, path: str = ""
    ) -> None:
        data = b"".join(self._encode(line) + b"\n" for line in lines)
        fd = os.open(path or self._path, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if is_durable:
                os.fsync(fd)
        finally:
            os.close(fd)


def _newest(lines: list[Line]) -> list[Line]:
    """The last of them: MAX_LINES, of MAX_BYTES."""
    left = MAX_BYTES
    for count, line in enumerate(reversed(lines)):
        left -= _size_of(line)
        if count == MAX_LINES or left < 0:
            return lines[len(lines) - count :]
    return lines


def _size_of(line: Line) -> int:
    return sys.getsizeof(line.order.value)  # a single letter of another script makes all of it wide


def _without_replaced(lines: list[Line], by: Iterable[Line]) -> list[Line]:
    replaced = {line.instead_of for line in by if line.instead_of}
    if not replaced:
        return lines
    return [line for line in lines if line.order.seq not in replaced]
