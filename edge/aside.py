"""What an origin says beside its answer, on its way to the one client whose exchange it is: interim
answers ahead of the head, trailers behind the body (RFC 9110 sections 15.2 and 6.5).

Where an answer may be stored, or others wait for it, there is no such client: then the origin's 1xx
and trailers are dropped, and nobody is told anything that a hit would not tell, too.
"""

from dataclasses import dataclass
from typing import Final

from edge.http.forwarding import repeated_fields
from edge.http.messages import Request
from edge.http.trailers import is_passed, passed_trailers, takes_trailers
from edge.http.writer import field_lines, status_line
from edge.origin.messages import Headers

# Of one answer. Real ones have one or two, and their Link fields a few hundred bytes; the rest of
# what the client's socket does not take waits in memory.
MAX_INTERIM: Final = 8
MAX_INTERIM_BYTES: Final = 16 * 1024

_LAST_CHUNK: Final = b"0\r\n"
_END: Final = b"\r\n"


@dataclass(slots=True)
class Stats:
    """Of exchanges that are one client's. Interim answers, and fields of trailers; refused: too
    many, forbidden, or for a client that takes none."""

    interim: int = 0
    interim_refused: int = 0
    trailers: int = 0
    trailers_refused: int = 0


class ClientAside:
    """An Aside (edge/origin/messages.py). One exchange has one."""

    __slots__ = (
        "_announced", "_bytes", "_request", "_seen", "_stats", "_trailers", "takes_trailers",
    )  # fmt: skip

    def __init__(self, request: Request, stats: Stats) -> None:
        has_te = bool(request.minor) and b"te" in request.fields
        self.takes_trailers = has_te and takes_trailers(request.field(b"te"))
        self._request = request
        self._stats = stats
        self._seen = 0
        self._bytes = 0
        self._announced: tuple[str, ...] = ()
        self._trailers: Headers = ()

    def interim(self, status: int, headers: Headers) -> None:
        wire = status_line(status) + field_lines(repeated_fields(headers)) + _END
        self._seen += 1
        self._bytes += len(wire)
        is_over = self._seen > MAX_INTERIM or self._bytes > MAX_INTERIM_BYTES
        send = self._request.send_interim
        if is_over or send is None or not send(wire):
            self._stats.interim_refused += 1
        else:
            self._stats.interim += 1

    def announced(self, names: tuple[str, ...]) -> None:
        self._announced = tuple(filter(is_passed, names))

    def trailers(self, headers: Headers) -> None:
        self._trailers = passed_trailers(headers) if self.takes_trailers else ()
        self._stats.trailers_refused += len(headers) - len(self._trailers)

    # For who writes the answer

    @property
    def has_trailers(self) -> bool:
        """They have come: the body has ended."""
        return bool(self._trailers)

    def trailer_line(self) -> str:
        """For a head that is sent chunked; "" where there is nothing to announce."""
        names = (name for name, _ in self._trailers) if self._trailers else self._announced
        listed = ", ".join(dict.fromkeys(names)) if self.takes_trailers else ""
        return f"Trailer: {listed}\r\n" if listed else ""

    def last_chunk(self) -> bytes:
        """Ends a chunked body (RFC 9112 section 7.1.2)."""
        self._stats.trailers += len(self._trailers)
        return _LAST_CHUNK + field_lines(self._trailers) + _END
