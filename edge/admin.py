"""The admin listener: health, readiness, metrics. Nothing here is ever cached."""

from collections.abc import Callable
from typing import Final

from edge.access import Peer
from edge.clock import Clock
from edge.errors import refusal_of
from edge.http.messages import Request, Response
from edge.http.parser import ParseError
from edge.http.writer import field_lines, status_line
from edge.metrics import Exposition

TEXT: Final = "text/plain; charset=utf-8"


class Admin:
    """problems() lists what keeps the node from serving; empty when it would serve."""

    def __init__(
        self, exposition: Exposition, problems: Callable[[], list[str]], clock: Clock
    ) -> None:
        self._exposition = exposition
        self._problems = problems
        self._clock = clock

    def peer(self, address: str) -> Peer:
        return Peer(address)

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        return None

    def learn(self, data: bytes) -> None:
        """Nothing here is asked for often enough."""

    def receive(self, request: Request, peer: Peer) -> Response | None:
        path = request.target.partition(b"?")[0]
        if request.method not in (b"GET", b"HEAD"):
            return self._answer(request, 405, TEXT, b"Only GET and HEAD here.\n")
        match path:
            case b"/healthz":
                # That this runs is the answer: the loop turns.
                return self._answer(request, 200, TEXT, b"ok\n")
            case b"/readyz":
                problems = self._problems()
                if problems:
                    body = "".join(f"{problem}\n" for problem in problems).encode()
                    return self._answer(request, 503, TEXT, body)
                return self._answer(request, 200, TEXT, b"ready\n")
            case b"/metrics":
                media_type, body = self._exposition.render(request.field(b"accept") or "")
                return self._answer(request, 200, media_type, body)
            case _:
                return self._answer(
                    request, 404, TEXT, b"There is /healthz, /readyz and /metrics.\n"
                )

    async def serve(self, request: Request, peer: Peer) -> Response:
        raise AssertionError("receive() answers everything")

    def refuse(self, error: ParseError) -> Response:
        refusal = refusal_of(error)
        return self._answer(
            None, refusal.status, TEXT, f"{refusal.sentence}\n".encode(), close=True
        )

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, started: float
    ) -> None:
        """Scrapes and probes do not belong into the access log."""

    def _answer(
        self,
        request: Request | None,
        status: int,
        media_type: str,
        body: bytes,
        *,
        close: bool = False,
    ) -> Response:
        fields = [
            ("Content-Type", media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if status == 405:
            fields.append(("Allow", "GET, HEAD"))
        head = status_line(status) + self._clock.date_line + field_lines(fields)
        if request is not None and request.method == b"HEAD":
            return Response(status, head, close=close)
        return Response(status, head, (body,), len(body), close=close)
