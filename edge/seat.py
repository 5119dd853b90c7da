"""The place of a worker below its master: what it listens on, and the words between the two.

    master                                 worker
      | fork                                  |
      |                            prepared   |  everything is built that others may have open too
      |   go                                  |  the index is free: open it, and listen
      |                               ready   |  serving; from now on `alive` once a second
      |   release                             |  stop accepting, close the index
      |                            released   |  it goes on with the connections that it has
      |   drain, hasten                       |  the node ends; hasten: within a second
      |   reopen                              |  the access log
      |                        failed REASON  |  before it ends, when it cannot start

The same words pass between a master and the successor of its program, which is the worker then.
"""

import contextlib
import enum
import mmap
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

from edge.ledger import Page
from edge.listening import Stand

MAX_WORD_BYTES: Final = 4096
# A loop's turn may take so many words; there are a few in flight.
_WORDS_A_TURN: Final = 64


class Word(enum.StrEnum):
    PREPARED = "prepared"
    READY = "ready"
    ALIVE = "alive"
    RELEASED = "released"
    FAILED = "failed"
    GO = "go"
    RELEASE = "release"
    DRAIN = "drain"
    HASTEN = "hasten"
    REOPEN = "reopen"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class Message:
    word: Word
    detail: str = ""


class Link:
    """One end of a pair of sockets that carry whole messages (SOCK_SEQPACKET); never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    @classmethod
    def pair(cls) -> "tuple[Link, Link]":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, word: Word, detail: str = "") -> None:
        """A peer that is gone, or has not read for long, is seen to otherwise."""
        text = f"{word} {detail}".rstrip()
        with contextlib.suppress(OSError):
            self._sock.send(text.encode()[:MAX_WORD_BYTES])

    def receive(self) -> tuple[list[Message], bool]:
        """What has come, and whether the peer is still there."""
        found: list[Message] = []
        for _ in range(_WORDS_A_TURN):
            try:
                data = self._sock.recv(MAX_WORD_BYTES)
            except BlockingIOError:
                break
            except OSError:
                return found, False
            if not data:
                return found, False
            message = _maybe_message(data)
            if message is not None:
                found.append(message)
        return found, True

    def close(self) -> None:
        self._sock.close()


def _maybe_message(data: bytes) -> Message | None:
    """None for a word of another release. What the other side says may be logged."""
    word, _, detail = data.decode(errors="replace").partition(" ")
    try:
        return Message(Word(word), "".join(c if c.isprintable() else "?" for c in detail))
    except ValueError:
        return None


class Bulletin:
    """What the master posts for all workers, in memory that they share with it."""

    _FORM: Final = struct.Struct("=?dQ")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._FORM.size)
        self.started_at = time.time()  # of the program's run: counters start anew with it
        self._reloaded_at = 0.0
        self._restarts = 0
        self._is_reloaded = True

    def reloaded(self, *, is_successful: bool) -> None:
        self._is_reloaded = is_successful
        if is_successful:
            self._reloaded_at = time.time()
        self._post()

    def restarted(self) -> None:
        self._restarts += 1
        self._post()

    def _post(self) -> None:
        form = self._FORM.pack(self._is_reloaded, self._reloaded_at, self._restarts)
        self._memory[: len(form)] = form

    @property
    def last_reload_successful(self) -> bool:
        return bool(self._read()[0])

    @property
    def last_reload_at(self) -> float:
        """Seconds since 1970 when a configuration was last put into effect."""
        return float(self._read()[1])

    @property
    def restarts(self) -> int:
        """Workers that took the place of one that died."""
        return int(self._read()[2])

    def _read(self) -> tuple[bool, float, int]:
        # 17 bytes: one may in theory see half a change, and the next look sees all of it.
        is_reloaded, at, restarts = self._FORM.unpack(self._memory[: self._FORM.size])
        return is_reloaded, at, restarts

    def close(self) -> None:
        self._memory.close()


@dataclass(frozen=True, slots=True)
class Seat:
    slot: int
    stand: Stand
    link: Link
    bulletin: Bulletin
    page: Page
    slots: int = 1
