"""Ready answers: what stands for a turn, what is kept in one piece, what is read each time."""

import pytest

from edge.access import Peer
from edge.ready import HOLDS, MAX_WIRE_BYTES, Ready, ReadyAnswers, ReadyResponse, Tally

HOST, LINE = b"Host: a", b"GET /a.jpg HTTP/1.1"
HEAD = (LINE, HOST, b"-", b"", b"", b"")
PEER = Peer("192.0.2.1")


class Farm:
    """Renews and reads as told; counts."""

    def __init__(self, limit: int = 1 << 20, body: bytes = b"body") -> None:
        self.body: bytes | None = body
        self.stands = True
        self.is_file = True
        self.reads = self.renewals = self.seconds = 0
        self.answers = ReadyAnswers(limit, None, self.renew, self.read)
        self.answers.put(LINE, HOST, Ready(None, b""))

    def renew(self, ready: Ready) -> bool:
        self.renewals += 1
        if not self.stands or self.body is None:
            return False
        ready.is_small_file = self.is_file and len(self.body) <= MAX_WIRE_BYTES
        ready.head = b"%d " % self.seconds
        ready.tail = len(self.body)
        ready.wire = b""
        if not self.is_file or (ready.is_asked_again and self.answers.has_room(len(self.body) + 9)):
            ready.wire = ready.head + self.body
        return True

    def read(self, ready: Ready) -> bytes | None:
        self.reads += 1
        if self.body is None or not ready.is_small_file:
            return self.body
        return ready.head + self.body

    def second(self) -> None:
        for _ in range(HOLDS):
            self.answers.next_turn()
        self.seconds += 1

    def ask(self) -> object:
        found = self.answers.find(HEAD, PEER)
        return found.body[0] if isinstance(found, ReadyResponse) else found


@pytest.mark.parametrize("body", [b"body", b"b" * (MAX_WIRE_BYTES + 1)])
def test_what_it_saves(body):
    farm = Farm(body=body)
    farm.is_file = False
    ready = Ready(None, b"")
    ready.cost_ms = 7
    line = b"GET /b.jpg HTTP/1.1"
    farm.answers.put(line, HOST, ready)
    for _ in range(3):
        found = farm.answers.find((line, *HEAD[1:]), PEER)
        if isinstance(found, ReadyResponse):
            farm.answers.record(PEER, found)
    assert farm.answers.stats.saved_ms == 21
    assert farm.answers.stats.body_bytes == 3 * len(body)


def test_in_memory_it_holds_for_a_turn():
    farm = Farm()
    farm.is_file = False
    farm.second()
    before = farm.renewals
    assert {farm.ask() for _ in range(5)} == {b"1 body"}
    assert farm.renewals == before + 1
    farm.body = b"new"
    assert farm.ask() == b"1 body"
    farm.second()
    assert farm.ask() == b"2 new"
    assert farm.answers.stats.hits == 7
    assert farm.reads == 0


def test_it_is_made_anew_a_second_after_it_was_made_or_at_once():
    farm = Farm()
    farm.is_file = False
    for _ in range(HOLDS // 2):
        farm.answers.next_turn()
    assert farm.ask() == b"0 body"
    before = farm.renewals
    for _ in range(HOLDS // 2):
        farm.answers.next_turn()
    farm.ask()
    for _ in range(HOLDS - 1):
        farm.answers.next_turn()
        farm.ask()
    assert farm.renewals == before + 1
    farm.answers.expire()
    farm.ask()
    assert farm.renewals == before + 2


def test_a_file_is_kept_from_the_second_time_in_a_turn_and_while_that_goes_on():
    farm = Farm()
    for turn in range(1, 4):  # once a turn: read every time
        farm.second()
        assert farm.ask() == b"%d body" % turn
        assert farm.reads == turn
    farm.reads = 0
    for _ in range(5):
        assert farm.ask() == b"3 body"
    assert farm.reads == 1
    farm.second()
    assert {farm.ask() for _ in range(5)} == {b"4 body"}
    assert farm.reads == 1  # renew() looked
    assert farm.answers._used == 6
    # A turn in which nobody asks, and one with a single request: it is not kept any more.
    farm.second()
    farm.second()
    assert farm.ask() == b"6 body"
    assert farm.reads == 2
    assert farm.answers._used == 0


def test_without_room_it_is_read_every_time():
    farm = Farm(limit=4)
    farm.second()
    for _ in range(5):
        assert farm.ask() == b"1 body"
    assert farm.reads == 5
    assert farm.answers._used == 0


def test_what_would_wait_or_no_longer_stands_is_not_answered():
    farm = Farm()
    farm.second()
    assert farm.ask() == b"1 body"
    farm.body = None
    assert farm.ask() is None
    farm.second()
    farm.stands = False
    assert farm.ask() is None
    assert farm.answers.stats.dropped == 1
    farm.stands, farm.body = True, b"body"
    assert farm.ask() is None  # it must be put there again


def test_a_large_one_is_recorded_when_it_has_left():
    body = bytes(MAX_WIRE_BYTES + 1)
    farm = Farm(body=body)
    farm.second()
    found = farm.answers.find(HEAD, PEER)
    assert isinstance(found, ReadyResponse)
    assert (found.status, found.length, found.body) == (200, len(body), (body,))
    assert farm.answers.stats.body_bytes == 0
    farm.answers.record(PEER, found)
    assert farm.answers.stats.body_bytes == len(body)
    assert (farm.answers.stats.hits, farm.answers.stats.file_hits) == (1, 0)


@pytest.mark.parametrize(
    "head", [(LINE, b"Host: b", b"-", b"", b"", b""), (b"GET /b", HOST, b"-", b"", b"", b"")]
)
def test_others_are_unknown(head):
    assert Farm().answers.find(head, PEER) is None


CLASSES = {b"Accept: a": "a", b"accept: A": "a", b"Accept: b": "b", b"": "base"}


class Shop:
    """Answers with one request line, told apart by Accept; counts what is kept."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.gone: set[object] = set()
        self.answers = ReadyAnswers(limit, None, self.renew, lambda _: None)

    def renew(self, ready: Ready) -> bool:
        if ready.owner in self.gone:
            return False
        assert isinstance(ready.owner, str)
        ready.wire = ready.owner.encode()
        ready.tail = len(ready.wire)
        return True

    def put(self, owner: str, accept: bytes, line: bytes = LINE) -> None:
        ready = Ready(owner, b"")
        self.answers.put(line, HOST, ready, accept=accept, fold=CLASSES.__getitem__)

    def ask(self, accept: bytes, line: bytes = LINE) -> object:
        return self.answers.find((line, HOST, b"-", b"", b"", accept), PEER)


def test_classes_of_accept_are_never_mixed():
    shop = Shop()
    shop.put("for a", b"Accept: a")
    assert [shop.ask(accept) for accept in CLASSES] == [b"for a", b"for a", None, None]
    shop.put("for b", b"Accept: b")
    shop.put("for all", b"")
    shop.put("late", b"accept: A")  # there is one
    for _ in range(3):
        for _ in range(2):
            answers = [shop.ask(accept) for accept in CLASSES]
            assert answers == [b"for a", b"for a", b"for b", b"for all"]
        shop.answers.expire()
    assert shop.answers._count == 3
    assert shop.answers._used == len("for a" + "for b" + "for all")


def test_what_no_longer_stands_leaves_the_others():
    shop = Shop()
    shop.put("for a", b"Accept: a")
    shop.put("for b", b"Accept: b")
    shop.gone = {"for a"}
    shop.answers.expire()
    assert [shop.ask(accept) for accept in CLASSES] == [None, None, b"for b", None]
    shop.gone = {"for a", "for b"}
    shop.answers.expire()
    assert [shop.ask(accept) for accept in CLASSES] == [None] * 4
    assert (shop.answers._count, shop.answers._used) == (0, 0)
    assert shop.answers.stats.dropped == 2
    assert not shop.answers._by_host[HOST]
    shop.gone = set()
    shop.put("for b", b"Accept: b")
    assert shop.ask(b"Accept: b") == b"for b"


def test_the_oldest_gives_way_one_class_at_a_time(monkeypatch):
    monkeypatch.setattr("edge.ready.MAX_ANSWERS", 2)
    shop = Shop()
    shop.put("for a", b"Accept: a")
    shop.put("for b", b"Accept: b")
    shop.put("other", b"", line=b"GET /other HTTP/1.1")
    assert [shop.ask(accept) for accept in CLASSES] == [None, None, b"for b", None]
    shop.put("another", b"", line=b"GET /another HTTP/1.1")
    assert shop.ask(b"Accept: b") is None
    assert shop.ask(b"", b"GET /other HTTP/1.1") == b"other"
    assert shop.answers._count == 2


@pytest.mark.parametrize("size", [4, MAX_WIRE_BYTES + 1])
def test_answers_of_some_sort_are_counted_apart(size):
    farm = Farm(body=bytes(size))
    tally = Tally()
    farm.second()
    farm.ask()
    ready = farm.answers._by_host[HOST][LINE]
    ready.tally = tally
    for _ in range(3):
        found = farm.answers.find(HEAD, PEER)
        if isinstance(found, ReadyResponse):
            farm.answers.record(PEER, found)
    assert tally.count == 3
