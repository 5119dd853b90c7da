"""The admin listener: health, readiness, metrics of the node. Nothing here is ever cached."""

from typing import Final

from edge.access import Peer
from edge.clock import Clock
from edge.errors import refusal_of
from edge.health import Health
from edge.http.messages import Request, Response
from edge.http.parser import ParseError
from edge.http.writer import field_lines, status_line
from edge.metrics import Exposition

TEXT: Final = "text/plain; charset=utf-8"


class Admin:
    def __init__(self, exposition: Exposition, health: Health, clock: Clock) -> None:
        self._exposition = exposition
        self._health = health
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
                # That this runs is half of the answer: this loop turns.
                return self._judge(request, self._health.stuck(), ["ok"])
            case b"/readyz":
                good = ["ready", *self._health.degraded()]
                return self._judge(request, self._health.problems(), good)
            case b"/metrics":
                media_type, body = self._exposition.render(request.field(b"accept") or "")
                return self._answer(request, 200, media_type, body)
            case _:
                return self._answer(
                    request, 404, TEXT, b"There is /healthz, /readyz and /metrics.\n"
                )

    def _judge(self, request: Request, problems: list[str], good: list[str]) -> Response:
        body = "".join(f"{line}\n" for line in problems or good).encode()
        return self._answer(request, 503 if problems else 200, TEXT, body)

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
