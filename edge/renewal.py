"""How a ready answer (ready.py) is made from a representation at hand, and renewed."""

from typing import Final

from edge.access import AccessLog, Peer
from edge.clock import Clock
from edge.deliver import Deliverer
from edge.http.body import FileSlice, Stretch
from edge.http.familiar import Head
from edge.http.messages import Request, Response
from edge.lifetimes import Lifetimes
from edge.marks import Marks
from edge.ready import MAX_WIRE_BYTES, Ready, ReadyAnswers, ReadyResponse
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
        ready = self._new(request, route, length)
        request_line, host_line, accept = request.lines
        fold = None if route.variant is None else route.site.negotiation.class_of_line
        self.answers.put(request_line, host_line, ready, accept=accept, fold=fold)

    def answer_small_file(
        self,
        request: Request,
        route: Route,
        source: Source,
        body: bytearray | None,
        head: Head,
        peer: Peer,
    ) -> bytes | ReadyResponse | None:
        """The answer to a familiar GET of a small docroot file that is not kept: as one that is.

        body: what was read just now. An answer that is asked for again is kept from then
        on. None where the file has changed, or is not at hand.
        """
        if body is None and route.asked + 1 < WORTH_HITS:
            return None
        route.asked += 1
        ready = self._new(request, route, source.record.length)
        if body is not None:
            self._bring_up(ready, route, source)
            return self.answers.give_once(ready, body, head, peer)
        if not self.answers.put(head[0], head[1], ready):
            return None
        return self.answers.give(ready, head, peer)

    def _new(self, request: Request, route: Route, length: int) -> Ready:
        line = b""
        if self._access is not None:
            target, host = request.target.decode("latin-1"), request.authority.decode("latin-1")
            line = self._access.answer_line("GET", target, host, 200, length)
        return Ready(route, line)

    def _renew(self, ready: Ready) -> bool:
        """Make a ready answer good for another second, if it still stands; see ready.py."""
        route = ready.owner
        assert isinstance(route, Route)
        source, key = route.source, route.key
        if source is None or key is None:
            return False
        if route.mark is not None and not self._marks.is_current(route.mark):
            return False
        representation = self._shelf.in_memory(source, key)
        is_small_file = representation is None and self._shelf.is_small_file(route, source)
        if self._clock.wall >= source.fresh_until and not (
            # What is read for every answer is looked at then.
            (is_small_file and self._sources.may_recheck(route.site, source))
            or self._sources.recheck(route.site, source)
        ):
            return False
        ready.tally = self._lifetimes.tally(source)
        if is_small_file:
            return self._renew_small_file(ready, route, source)
        ready.is_small_file, ready.file = False, None
        self._shelf.touch(source, key)
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
                return False
            ready.cost_ms = representation.cost_ms
            facts = self._lifetimes.facts_of_hit(route.site, source, source.home.value, route.vary)
            self._deliverer.make_ready(representation, facts)
        ready.wire = b""
        ready.head = representation.head + b"\r\n"
        ready.tail = representation.length
        return True

    def _renew_small_file(self, ready: Ready, route: Route, source: Source) -> bool:
        wire, file = ready.wire, ready.file
        self._bring_up(ready, route, source)
        if not ready.is_asked_again or not self.answers.has_room(ready.tail + HEAD_BYTES):
            return True
        if wire and file is ready.file:
            # A look at the file is a third of reading it.
            if self._clock.wall >= source.fresh_until and not self._sources.recheck(
                route.site, source
            ):
                return False
            ready.wire = b"".join((ready.head, memoryview(wire)[-ready.tail :]))
            return True
        read = self._read(ready)
        if type(read) is not bytes:
            return False
        ready.wire = read
        return True

    def _bring_up(self, ready: Ready, route: Route, source: Source) -> None:
        """A small docroot file, read for each answer; its head changes with it and the Date."""
        if ready.file is source.file:
            ready.head = self._deliverer.redated(ready.head)
        else:
            record = source.record
            facts = self._lifetimes.facts_of_hit(route.site, source, source.home.value)
            ready.head = self._deliverer.head_of_file(record, facts)
            ready.tail = record.length
            ready.file = source.file
        ready.is_small_file = True
        ready.wire = b""

    def _read(self, ready: Ready) -> bytes | FileSlice | None:
        """The body of a ready answer that has no wire, if it can be had without waiting; a small
        file's behind its head, as it is sent."""
        route = ready.owner
        assert isinstance(route, Route)
        source, key, docroot = route.source, route.key, route.site.docroot
        if source is None or key is None:
            return None
        if ready.is_small_file:
            if ready.file is None or docroot is None:
                return None
            # The version that the head is of, even where another is known by now.
            wire = docroot.read_now(source.id.path, ready.file, ready.head)
            if wire is not None and ready.file is source.file:
                self._sources.confirm(source)
            return wire
        representation = self._shelf.in_memory(source, key) or self._shelf.in_open_file(source, key)
        if representation is None:
            return None
        assert not isinstance(representation.body, Stretch)
        return representation.body
