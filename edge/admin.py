"""The admin listener: status page, health, readiness, metrics, purges and checks of the cache.

Nothing here is ever cached. Who reaches it may do everything: it asks for no password. A browser
that was lured here by another site may not: the page is shown in no frame, and a PURGE or POST
with an Origin is refused. Every browser sends one with these, also to a name that its page's own
server has turned to this address.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from edge.access import Peer
from edge.clock import Clock
from edge.errors import RETRY_AFTER_STATUSES, refusal_of
from edge.health import Health
from edge.http.messages import Request, Response
from edge.http.parser import ParseError
from edge.http.writer import field_lines, status_line
from edge.metrics import Exposition
from edge.purging import Purging
from edge.status.style import POLICY

if TYPE_CHECKING:
    from edge.status.shown import Status

log = logging.getLogger("halftone.admin")

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
# Of a purge that could not be recorded: by then the index's breaker lets a question through.
RETRY_AFTER: Final = "2"
ALLOW: Final = "GET, HEAD, PURGE"
PATHS: Final = (
    b"There is / (the status page), /status.json, /healthz, /readyz and /metrics, PURGE of any"
    b" path, and POST /fsck.\n"
)
# Of the status page; what else stands in a query says nothing.
_PACE: Final = re.compile(rb"refresh=([0-9]{1,4})")
_FRAMELESS: Final = (("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer"))

# Compares the cache's files with its index; True: and puts right what can be. Numbers by name.
Fsck = Callable[[bool], Awaitable[Mapping[str, object]]]


class Admin:
    """purging, fsck or status None: this node does not do it."""

    def __init__(
        self,
        exposition: Exposition,
        health: Health,
        clock: Clock,
        purging: Purging | None = None,
        fsck: Fsck | None = None,
        status: "Callable[[], Status] | None" = None,
    ) -> None:
        self._exposition = exposition
        self._health = health
        self._clock = clock
        self._purging = purging
        self._fsck = fsck
        self._status = status
        self._is_checking = False

    def peer(self, address: str) -> Peer:
        return Peer(address)

    def find(self, data: bytes, peer: Peer) -> bytes | Request | Response | None:
        return None

    def learn(self, data: bytes) -> None:
        """Nothing here is asked for often enough."""

    def receive(self, request: Request, peer: Peer) -> Response | None:
        path, _, query = request.target.partition(b"?")
        if request.method == b"PURGE" and self._purging is not None:
            if request.field(b"origin") is not None:
                return self._refuse_page(request)
            return None
        if path == b"/fsck" and self._fsck is not None:
            return self._look_at_check(request)
        if request.method not in (b"GET", b"HEAD"):
            return self._answer(request, 405, TEXT, b"This method is not for this path.\n")
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
            case b"/" if self._status is not None:
                from edge.status.page import page  # for who looks, not for the start

                found = _PACE.fullmatch(query)
                html = page(self._status(), int(found[1]) if found else None)
                return self._answer(request, 200, HTML, html.encode(), more=_FRAMELESS)
            case b"/status.json" if self._status is not None:
                text = json.dumps(asdict(self._status()), allow_nan=False)
                return self._answer(request, 200, JSON, f"{text}\n".encode())
            case _:
                return self._answer(request, 404, TEXT, PATHS)

    def _judge(self, request: Request, problems: list[str], good: list[str]) -> Response:
        body = "".join(f"{line}\n" for line in problems or good).encode()
        return self._answer(request, 503 if problems else 200, TEXT, body)

    def _look_at_check(self, request: Request) -> Response | None:
        """Why a check does not begin, None when it does."""
        if request.method != b"POST":
            return self._answer(request, 405, TEXT, b"POST begins a check.\n", allow="POST")
        if request.field(b"origin") is not None:
            return self._refuse_page(request)
        if self._is_checking:
            return self._answer(request, 409, TEXT, b"A check is under way.\n")
        return None

    def _refuse_page(self, request: Request) -> Response:
        return self._answer(request, 403, TEXT, b"Not for pages of other sites.\n")

    async def serve(self, request: Request, peer: Peer) -> Response:
        try:
            if request.method == b"PURGE":
                assert self._purging is not None
                receipt = await self._purging.purge(request, peer.address, is_admin=True)
                return self._answer(request, 200, JSON, receipt.body)
            return await self._check(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            refusal = refusal_of(error)
            is_bug = refusal.status == 500
            log.log(
                refusal.level,
                "%d %s: %s: %s",
                refusal.status,
                refusal.detail,
                type(error).__name__,
                error,
                exc_info=error if is_bug else None,
            )
            return self._answer(request, refusal.status, TEXT, f"{refusal.sentence}\n".encode())

    async def _check(self, request: Request) -> Response:
        assert self._fsck is not None
        if self._is_checking:  # since receive() looked
            return self._answer(request, 409, TEXT, b"A check is under way.\n")
        self._is_checking = True
        try:
            found = await self._fsck(request.target.partition(b"?")[2] == b"fix=1")
        finally:
            self._is_checking = False
        return self._answer(request, 200, JSON, json.dumps(dict(found)).encode() + b"\n")

    def refuse(self, error: ParseError) -> Response:
        refusal = refusal_of(error)
        return self._answer(
            None, refusal.status, TEXT, f"{refusal.sentence}\n".encode(), close=True
        )

    def record(
        self, peer: Peer, request: Request | None, response: Response, sent: int, took_s: float
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
        allow: str = ALLOW,
        more: Sequence[tuple[str, str]] = (),
    ) -> Response:
        fields = [
            ("Content-Type", media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *more,
        ]
        if status == 405:
            fields.append(("Allow", allow))
        if status in RETRY_AFTER_STATUSES and request is not None and request.method == b"PURGE":
            fields.append(("Retry-After", RETRY_AFTER))
        head = status_line(status) + self._clock.date_line + field_lines(fields)
        if request is not None and request.method == b"HEAD":
            return Response(status, head, close=close)
        return Response(status, head, (body,), len(body), close=close)
