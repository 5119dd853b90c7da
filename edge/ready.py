"""Answers that are ready to leave: head and body in one piece, found by the lines of a request.

An answer is put together when a picture in memory has been asked for a few times, and holds for one
turn: the current second, cut short by whatever must be seen at once (a purge). In the next turn
renew() looks whether it still stands, and brings Date, Age and ttl up to date. What is not
found here goes the way of every request; nothing is decided here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.access import AccessLog, Peer
from edge.http.familiar import Head

# Larger bodies gain nothing from being copied behind their heads: two buffers cost less.
MAX_WIRE_BYTES: Final = 16 * 1024
# Hits before an answer is worth keeping in one piece.
WORTH_HITS: Final = 2


class Ready:
    """One answer. owner is what the handler needs to renew it."""

    __slots__ = ("line", "owner", "tail", "turn", "wire")

    def __init__(self, owner: object, line: bytes) -> None:
        self.owner = owner
        self.line = line  # of the access log, from the request to the body's length
        self.wire = b""
        self.turn = -1
        self.tail = 0  # body bytes of the wire


@dataclass(slots=True)
class Stats:
    hits: int = 0
    body_bytes: int = 0
    renewed: int = 0
    dropped: int = 0


class ReadyAnswers:
    """renew(ready) brings wire and turn up to date, False when the answer no longer stands."""

    def __init__(
        self, limit_bytes: int, access: AccessLog | None, renew: Callable[[Ready], bool]
    ) -> None:
        self.turn = 0
        self.stats = Stats()
        self._limit = limit_bytes
        self._used = 0
        self._access = access
        self._renew = renew
        # By Host line, then by request line.
        self._by_host: dict[bytes, dict[bytes, Ready]] = {}

    def next_turn(self) -> None:
        """Every second, and when something must be seen by the next request."""
        self.turn += 1

    def find(self, head: Head, peer: Peer) -> bytes | None:
        """The answer's bytes, counted and logged as sent; None when there is none that stands."""
        request_line, host, referer, agent, _ = head
        by_line = self._by_host.get(host)
        if by_line is None:
            return None
        ready = by_line.get(request_line)
        if ready is None:
            return None
        if ready.turn != self.turn and not self._renewed(by_line, request_line, ready):
            return None
        stats = self.stats
        stats.hits += 1
        stats.body_bytes += ready.tail
        if self._access is not None:
            self._access.append_ready(peer, ready.line, referer, agent)
        return ready.wire

    def _renewed(self, by_line: dict[bytes, Ready], request_line: bytes, ready: Ready) -> bool:
        self._used -= len(ready.wire)
        if not self._renew(ready):
            self.stats.dropped += 1
            del by_line[request_line]
            return False
        self.stats.renewed += 1
        self._used += len(ready.wire)
        ready.turn = self.turn
        return True

    def put(self, request_line: bytes, host: bytes, ready: Ready) -> None:
        """Keep an answer; the oldest make room for it."""
        by_line = self._by_host.setdefault(host, {})
        if request_line in by_line or not self._renew(ready):
            return
        by_line[request_line] = ready
        ready.turn = self.turn
        self._used += len(ready.wire)
        while self._used > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        host = next(iter(self._by_host))
        by_line = self._by_host[host]
        if by_line:
            ready = by_line.pop(next(iter(by_line)))
            self._used -= len(ready.wire)
            self.stats.dropped += 1
        if not by_line:
            del self._by_host[host]
