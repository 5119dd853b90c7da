"""`halftone warm`: asks a node for a list of URLs, so that the first client finds them made.

As many at a time as there are jobs, each over one connection that is kept. The list is read as it
is needed, so it may be longer than memory. A body is read and thrown away.
"""

import enum
import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TextIO

# Above the deadlines of an origin and a render together.
TIMEOUT_S: Final = 60.0
_CHUNK: Final = 262_144


class Result(enum.StrEnum):
    HIT = "hits"
    MISS = "misses"
    ERROR = "errors"


@dataclass(frozen=True, slots=True)
class Wish:
    target: str
    host: str
    is_https: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """name: as it stands in the list. detail says what was wrong."""

    name: str
    result: Result
    detail: str = ""


def read_names(lines: Iterable[str]) -> Iterator[str]:
    """URLs or paths, one a line; empty lines and those that begin with # are left out."""
    for line in lines:
        name = line.strip()
        if name and not name.startswith("#"):
            yield name


def count_names(file: TextIO) -> int | None:
    """How many are in a file, which is read from its beginning again; None for a pipe."""
    if not file.seekable():
        return None
    number = sum(1 for _ in read_names(file))
    file.seek(0)
    return number


def warm(
    names: Iterable[str],
    parse: Callable[[str], Wish],
    connect: Callable[[float], http.client.HTTPConnection],
    jobs: int,
    tell: Callable[[Outcome], None],
) -> None:
    """Ask for each; tell() is called for each, by one thread at a time, in the order of answers.

    parse raises ValueError for what is no URL. connect makes a connection to the node that gives up
    after so many seconds. What reading names or tell() raises ends it, and is raised.
    """
    shared = _Shared(iter(names), tell)
    threads = [
        threading.Thread(target=_work, args=(shared, parse, connect), daemon=True)
        for _ in range(jobs)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        shared.stop()
        raise
    if shared.error is not None:
        raise shared.error


class _Shared:
    def __init__(self, names: Iterator[str], tell: Callable[[Outcome], None]) -> None:
        self.error: Exception | None = None
        self._names = names
        self._tell = tell
        self._is_over = False
        self._reading, self._telling = threading.Lock(), threading.Lock()

    def stop(self) -> None:
        self._is_over = True

    def next(self) -> str | None:
        with self._reading:
            if self._is_over:
                return None
            try:
                return next(self._names, None)
            except Exception as error:  # noqa: BLE001  # raised by warm()
                self._end(error)
                return None

    def tell(self, outcome: Outcome) -> None:
        with self._telling:
            try:
                self._tell(outcome)
            except Exception as error:  # noqa: BLE001  # raised by warm()
                self._end(error)

    def _end(self, error: Exception) -> None:
        self.error, self._is_over = error, True


def _work(
    shared: _Shared,
    parse: Callable[[str], Wish],
    connect: Callable[[float], http.client.HTTPConnection],
) -> None:
    connection = connect(TIMEOUT_S)
    try:
        while (name := shared.next()) is not None:
            try:
                wish = parse(name)
            except ValueError as error:
                shared.tell(Outcome(name, Result.ERROR, str(error)))
                continue
            shared.tell(_asked(name, wish, connection))
    finally:
        connection.close()


def _asked(name: str, wish: Wish, connection: http.client.HTTPConnection) -> Outcome:
    fields = {"Host": wish.host, "User-Agent": "halftone-warm"}
    if wish.is_https:
        fields["X-Forwarded-Proto"] = "https"
    is_kept = connection.sock is not None
    try:
        try:
            status, state = _get(connection, wish.target, fields)
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()
            if not is_kept:
                raise
            # The node ends idle connections, and all when it drains: that says nothing of the URL.
            status, state = _get(connection, wish.target, fields)
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Outcome(name, Result.ERROR, reason)
    if status >= http.client.BAD_REQUEST:
        return Outcome(name, Result.ERROR, str(status))
    return Outcome(name, Result.HIT if "; hit" in state else Result.MISS)


def _get(
    connection: http.client.HTTPConnection, target: str, fields: dict[str, str]
) -> tuple[int, str]:
    """Status and Cache-Status."""
    connection.request("GET", target, headers=fields)
    response = connection.getresponse()
    while response.read(_CHUNK):
        pass
    return response.status, response.headers.get("Cache-Status", "")
