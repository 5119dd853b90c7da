"""How a ready answer (ready.py) is made from a representation at hand, and renewed."""

from typing import Final

from edge.access import AccessLog
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.http.body import FileSlice, Stretch
from edge.http.messages import Request, Response
from edge.lifetimes import Lifetimes
from edge.marks import Marks
from edge.ready import MAX_WIRE_BYTES, Ready, ReadyAnswers
from edge.representation import Representation
from edge.route import Route
from edge.shelf import Shelf
from edge.source import Source
from edge.sources import Sources

# Hits before an answer is worth keeping.
WORTH_HITS: Final = 2
# About what a head takes.
HEAD_BYTES: Final = 512


class Renewal:
    """Its answers' owners are Routes. limit_bytes bounds the wires, access None writes no lines."""

    def __init__(
        self,
        *,
        limit_bytes: int,
        access: AccessLog | None,
        sources: Sources,
        shelf: Shelf,
        lifetimes: Lifetimes,
        deliverer: Deliverer,
        marks: Marks,
        clock: Clock,
    ) -> None:
        self._access = access
        self._sources = sources
        self._shelf = shelf
        self._lifetimes = lifetimes
        self._deliverer = deliverer
        self._marks = marks
        self._clock = clock
        self.answers = ReadyAnswers(limit_bytes, access, self._renew, self._read)

    def maybe_make(self, request: Request, route: Route, response: Response, length: int) -> None:
        """Keep the answer to a plain GET that is asked for again and again."""
        if (
            route.asked < WORTH_HITS
            or response.status != 200
            or request.lines is None
            or request.method != b"GET"
        ):
            return
        line = b""
        if self._access is not None:
            target, host = request.target.decode("latin-1"), request.authority.decode("latin-1")
            line = self._access.answer_line("GET", target, host, 200, length)
        request_line, host_line, accept = request.lines
        fold = None if route.variant is None else route.site.negotiation.class_of_line
        self.answers.put(request_line, host_line, Ready(route, line), accept=accept, fold=fold)

    def _renew(self, ready: Ready) -> bool:
        """Make a ready answer good for another second, if it still stands; see ready.py."""
        route = ready.owner
        assert isinstance(route, Route)
        source, key = route.source, route.key
        if source is None or key is None:
            return False
        if route.mark is not None and not self._marks.is_current(route.mark):
            return False
        if self._clock.wall >= source.fresh_until and not (
            # What is read for every answer is looked at then.
            (ready.is_small_file and self._sources.may_recheck(route.site, source))
            or self._sources.recheck(route.site, source)
        ):
            return False
        ready.tally = self._lifetimes.tally(source)
        self._shelf.touch(source, key)
        representation = self._shelf.in_memory(source, key)
        if representation is not None:
            ready.cost_ms = representation.cost_ms
            facts = self._lifetimes.facts_of_hit(route.site, source, "memory", route.vary)
            self._deliverer.make_ready(representation, facts)
            length = representation.length
            if length <= MAX_WIRE_BYTES and self.answers.has_room(length + HEAD_BYTES):
                assert isinstance(representation.body, bytes)
                ready.wire = b"%b\r\n%b" % (representation.head, representation.body)
                ready.tail = length
                return True
        else:
            representation = self._shelf.in_open_file(source, key)
            if representation is None:
                return self._renew_small_file(ready, route, source)
            ready.cost_ms = representation.cost_ms
            facts = self._lifetimes.facts_of_hit(route.site, source, source.home.value, route.vary)
            self._deliverer.make_ready(representation, facts)
        ready.wire = b""
        ready.is_small_file = False
        ready.head = representation.head + b"\r\n"
        ready.tail = representation.length
        return True

    def _renew_small_file(self, ready: Ready, route: Route, source: Source) -> bool:
        """A small docroot file, read for each answer; its head changes with it and the Date."""
        if not self._shelf.is_small_file(route, source):
            return False
        record = source.record
        if ready.tail != record.length or not ready.rest or record.etag.encode() not in ready.rest:
            ready.rest = self._deliverer.rest_of_head(
                Representation(
                    validator=record.validator,
                    etag=record.etag,
                    last_modified=record.last_modified,
                    media_type=record.media_type,
                    body=b"",
                    length=record.length,
                ),
                self._lifetimes.facts_of_hit(route.site, source, source.home.value),
            )
            ready.tail = record.length
        ready.is_small_file = True
        ready.head = self._deliverer.join_head(ready.rest)
        ready.wire = b""
        if ready.is_asked_again and self.answers.has_room(ready.tail + HEAD_BYTES):
            body = self._read(ready)
            if type(body) is not bytes:
                return False
            ready.wire = ready.head + body
        return True

    def _read(self, ready: Ready) -> bytes | FileSlice | None:
        """The body of a ready answer that has no wire, if it can be had without waiting."""
        route = ready.owner
        assert isinstance(route, Route)
        source, key, docroot = route.source, route.key, route.site.docroot
        if source is None or key is None:
            return None
        if ready.is_small_file:
            if source.file is None or docroot is None:
                return None
            data = docroot.read_now(source.id.path, source.file)
            if data is not None:
                self._sources.confirm(source)
            return data
        representation = self._shelf.in_memory(source, key) or self._shelf.in_open_file(source, key)
        if representation is None:
            return None
        assert not isinstance(representation.body, Stretch)
        return representation.body
