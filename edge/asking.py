"""How an origin is asked for one client, and what comes of it that is no original for everybody.

Originals are kept by Sources: one answer for all. The exchange that Sources has made for a client
may bring something else, which varies, or is this client's own, or is no 200. Then it is raised
through Sources as an Apart, and the shared cache (shared.py), which asked, decides about it.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from edge.arrival import Incoming
from edge.clock import Clock
from edge.http.directives import SURROGATE, CacheControl, Fields, effective_control
from edge.http.freshness import Storability, may_store
from edge.http.request_control import NOTHING_ASKED, RequestControl
from edge.http.vary import vary_names
from edge.origin.messages import (
    REMEMBERED,
    REMEMBERED_BYTES,
    Aside,
    Headers,
    OriginRequest,
    OriginResponse,
)
from edge.origin.pool import OriginPool
from edge.record import folded
from edge.remembered import remembered

TAKEN_WITHIN_S: Final = 0.5
# Reasons of one request: the next one's answer may be kept all the same.
OF_THE_REQUEST: Final = frozenset(
    {Storability.AUTHORIZATION, Storability.COOKIE, Storability.METHOD}
)
_VALIDATING: Final = frozenset(("if-none-match", "if-modified-since"))
# Remembered by edge/failures.py where the origin says nothing of a lifetime.
_MISSING: Final = frozenset((404, 410))


@dataclass(frozen=True, slots=True)
class Asking:
    """One client's request, as it is put to an origin.

    fields are end-to-end fields by lower-case name, with Via and CDN-Loop. remote is the client's
    address; control what it asks of caches.
    """

    fields: Mapping[str, str]
    remote: str
    scheme: str
    control: RequestControl = NOTHING_ASKED
    # The fields once more, as an origin gets them: one object for as long as this is remembered.
    headers: Headers = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", tuple(self.fields.items()))

    @property
    def is_for_one(self) -> bool:
        """What comes of it is most likely nobody else's: it is not worth waiting for others."""
        return "authorization" in self.fields or self.control.no_store

    def may_get(self, status: int) -> bool:
        """206 answers a Range, 304 a precondition, and nothing else (RFC 9110 sections 15.3.7 and
        15.4.5); both are among fields only where the client's own are put to the origin."""
        if status == 206:
            return "range" in self.fields
        return status != 304 or not _VALIDATING.isdisjoint(self.fields)

    @property
    def selecting(self) -> dict[str, str]:
        """What an answer can be chosen by; the scheme is part of the URL itself."""
        return {**self.fields, ":scheme": self.scheme}

    def dress(self, neutral: OriginRequest, aside: Aside | None = None) -> OriginRequest:
        """neutral in this client's fields; its own preconditions stay. aside: of the client, where
        the answer is for nobody else."""
        headers = _dressed(neutral.headers, self.headers)
        return neutral.dressed(headers, self.scheme, self.remote, aside)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _dressed(own: Headers, fields: Headers) -> Headers:
    names = {name for name, _ in fields}
    return (*(pair for pair in own if pair[0] not in names), *fields)


def storability_of(asking: Asking, status: int, headers: Headers) -> Storability:
    """May this answer be stored? Section 3 of RFC 9111, and two rules of our own: with Cookie in
    the request a guess at the lifetime is not enough, since too many applications forget to say
    that a page is one visitor's; and nothing is kept that could neither be used nor be validated.
    """
    if asking.control.no_store:
        return Storability.METHOD  # section 5.2.1.5; the reason is the request's
    has_cookie, has_authorization = "cookie" in asking.fields, "authorization" in asking.fields
    return _storability(status, headers, has_cookie, has_authorization)


@remembered(REMEMBERED, REMEMBERED_BYTES)
def _storability(
    status: int, headers: Headers, has_cookie: bool, has_authorization: bool
) -> Storability:
    fields = folded(headers)
    control = effective_control(fields, SURROGATE)
    names = vary_names(fields)
    if names is None:
        return Storability.VARY
    found = may_store(
        "GET", status, fields, has_authorization, control, key_covers=(*names, "accept-encoding")
    )
    if found is not Storability.STORABLE:
        return found
    is_chosen_by_cookie = not has_cookie or "cookie" in names
    if not (is_chosen_by_cookie or control.public or is_explicit(fields, control)):
        # Of who has none it would be kept, if it can be of any use then.
        is_useful = fields.get("last-modified") or fields.get("etag")
        return Storability.COOKIE if is_useful else Storability.NO_LIFETIME
    return found


def is_explicit(fields: Fields, control: CacheControl) -> bool:
    """Does the origin itself say how long? Section 4.2.1."""
    if control.max_age is not None or control.s_maxage is not None or control.no_cache:
        return True
    return bool(fields.get("expires")) and not control.targeted


# The loop itself holds tasks weakly.
_given_up: set["asyncio.Task[None]"] = set()


class Apart(Exception):
    """An answer that Sources does not keep. It has one taker, and is closed where none comes: who
    asked may have left, or it was asked behind what was served stale. Whoever waits for it is woken
    in the same turn of the loop; TAKEN_WITHIN_S is for a loop that is late."""

    def __init__(
        self,
        response: Incoming,
        storability: Storability,
        asked_at: int,
        answered_at: int,
        seen: int,
    ) -> None:
        """seen: the newest order heard of when it was asked for."""
        super().__init__(f"status {response.status}, {storability}")
        self.storability = storability
        self.asked_at = asked_at
        self.answered_at = answered_at
        self.seen = seen
        self._response: Incoming | None = response
        self._is_over = asyncio.Event()
        self.on_end: Callable[[], object] = lambda: None
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(TAKEN_WITHIN_S, self._expire, loop)

    def take(self) -> Incoming | None:
        """The answer, to be closed; None for whoever comes second, or late."""
        response, self._response = self._response, None
        self._closing.cancel()
        return response

    def end(self) -> None:
        """It is stored, or will not be; its taker says so, whatever happens."""
        self._is_over.set()
        self.on_end()

    async def is_over(self) -> None:
        """For who came second: what may be stored is found from then on."""
        if self.storability is Storability.STORABLE:
            await self._is_over.wait()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        response = self.take()
        if response is not None:
            self.end()
            task = loop.create_task(response.aclose(), name="give up")
            _given_up.add(task)
            task.add_done_callback(_given_up.discard)


class Apartness:
    """In place of an origin's fetch while one client's request lasts (Site.ask). head is the newest
    order heard of; tell is told of what comes of it before anybody else is."""

    def __init__(
        self,
        origin: OriginPool,
        asking: Asking,
        clock: Clock,
        head: Callable[[], int],
        tell: Callable[[Apart], None],
    ) -> None:
        self._origin = origin
        self._asking = asking
        self._clock = clock
        self._head = head
        self._tell = tell

    async def fetch(self, neutral: OriginRequest) -> OriginResponse:
        """Raises Apart, and what an origin raises."""
        asked_at, seen = self._clock.wall, self._head()
        response = await self._origin.fetch(self._asking.dress(neutral))
        try:
            found = self._storability(response)
        except BaseException:
            await response.aclose()
            raise
        if found is None:
            return response
        apart = Apart(Incoming(response), found, asked_at, self._clock.wall, seen)
        self._tell(apart)
        raise apart

    def _storability(self, response: OriginResponse) -> Storability | None:
        """None: Sources knows what to do."""
        status = response.status
        if response.local_redirect is not None or status in (206, 304, 429) or status >= 500:
            return None
        fields = folded(response.headers)
        found = storability_of(self._asking, status, response.headers)
        control = effective_control(fields, SURROGATE)
        is_whole = not control.withheld & fields.keys()  # else who asked gets more than others
        if found is Storability.STORABLE and is_whole and not vary_names(fields):
            if status == 200:
                return None
            # For so long as the operator says; who shows a cookie may be told otherwise.
            is_anonymous = not {"cookie", "authorization"} & self._asking.fields.keys()
            if status in _MISSING and is_anonymous and not is_explicit(fields, control):
                return None
        return found
