"""Many clients in one thread: open connections, each with one request at a time, all timed.

The herd is one request on every connection at once; long lists of requests are handed out as
connections become free.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

TIMEOUT_S = 30.0
RECEIVED = 1 << 18
HEAD_END = b"\r\n\r\n"


class CrowdError(Exception):
    """An answer that is none, or that did not come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Times are of the monotonic clock: the request sent, first and last byte received."""

    status: int
    fields: dict[str, str]  # names in lower case
    body: bytes
    asked_at: float
    began_at: float
    ended_at: float


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    number: int = -1  # of the request that it waits for
    asked_at: float = 0.0
    began_at: float = 0.0
    data: bytearray = field(default_factory=bytearray)
    needed: int = -1  # bytes of the whole answer, once its head is there

    def ask(self, number: int, request: bytes) -> None:
        self.number, self.needed, self.began_at = number, -1, 0.0
        self.data.clear()
        self.asked_at = time.monotonic()
        if self.connection.send(request) != len(request):
            raise CrowdError("a request did not fit the socket's buffer")

    def receive(self) -> Answer | None:
        """None: there is more to come."""
        data = self.connection.recv(RECEIVED)
        now = time.monotonic()
        if not data:
            raise CrowdError("the server closed a connection that waits for an answer")
        self.began_at = self.began_at or now
        self.data += data
        if self.needed < 0:
            end = self.data.find(HEAD_END)
            if end < 0:
                return None
            _, fields = parse_head(bytes(self.data[:end]))
            self.needed = end + len(HEAD_END) + body_length(fields)
        if len(self.data) < self.needed:
            return None
        head, _, body = bytes(self.data).partition(HEAD_END)
        status, fields = parse_head(head)
        return Answer(status, fields, body, self.asked_at, self.began_at, now)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields. Raises CrowdError for what is no head of HTTP/1.1."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdigit():
        raise CrowdError(f"no answer: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.lower(): value.strip() for name, _, value in pairs}


def body_length(fields: dict[str, str]) -> int:
    text = fields.get("content-length", "")
    if not text.isdigit():
        raise CrowdError("an answer has no Content-Length")
    return int(text)


def get(target: str, *more: str) -> bytes:
    """The head of a GET; more are whole header lines."""
    lines = (f"GET {target} HTTP/1.1", "Host: img.example.org", *more)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Crowd:
    """count open connections to a loopback port."""

    def __init__(self, port: int, count: int) -> None:
        self._clients: dict[int, _Client] = {}
        self._poll = select.epoll()
        try:
            for _ in range(count):
                connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setblocking(False)
                self._clients[connection.fileno()] = _Client(connection)
                self._poll.register(connection, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for client in self._clients.values():
            client.connection.close()
        self._poll.close()

    def ask(self, requests: Sequence[bytes]) -> list[Answer]:
        """An answer for each, in their order; at first as many at once as there are connections.

        Raises CrowdError.
        """
        return [answer for _, answer in sorted(self.answers(requests), key=lambda pair: pair[0])]

    def answers(self, requests: Iterable[bytes]) -> Iterator[tuple[int, Answer]]:
        """As they come, each with the number of its request."""
        todo = enumerate(requests)
        waiting = 0
        for client, (number, request) in zip(self._clients.values(), todo, strict=False):
            client.ask(number, request)
            waiting += 1
        while waiting:
            ready = self._poll.poll(TIMEOUT_S)
            if not ready:
                raise CrowdError(f"{waiting} requests have no answer after {TIMEOUT_S:.0f} s")
            for fd, _ in ready:
                client = self._clients[fd]
                answer = client.receive()
                if answer is None:
                    continue
                number = client.number
                following = next(todo, None)
                if following is None:
                    waiting -= 1
                else:
                    client.ask(*following)
                yield number, answer


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[Crowd]:
    gathered = Crowd(port, count)
    try:
        yield gathered
    finally:
        gathered.close()


def checked(answers: Iterable[Answer], what: str) -> list[Answer]:
    """Raises CrowdError where one of them is not 200."""
    found = list(answers)
    for answer in found:
        if answer.status != 200:
            raise CrowdError(f"{what}: answered {answer.status}: {answer.body[:200]!r}")
    return found
