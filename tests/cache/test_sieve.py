"""SIEVE against the algorithm of the paper, written down as plainly as possible."""

from hypothesis import given
from hypothesis import strategies as st

from cache.sieve import Sieve, Slot


class Paper:
    """Figure 1 of the paper over a list, newest first, extended by sizes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queue: list[list] = []  # [key, size, visited]
        self.hand: int | None = None  # position in the queue, None: at the tail

    def insert(self, key: bytes, size: int) -> list[bytes]:
        evicted = []
        while sum(entry[1] for entry in self.queue) + size > self.limit:
            at = len(self.queue) - 1 if self.hand is None else self.hand
            while self.queue[at][2]:
                self.queue[at][2] = False
                at = at - 1 if at > 0 else len(self.queue) - 1
            evicted.append(self.queue.pop(at)[0])
            self.hand = at - 1 if at > 0 else None
        self.queue.insert(0, [key, size, False])
        if self.hand is not None:
            self.hand += 1
        return evicted

    def visit(self, key: bytes) -> None:
        for entry in self.queue:
            if entry[0] == key:
                entry[2] = True

    def remove(self, key: bytes) -> None:
        at = [entry[0] for entry in self.queue].index(key)
        del self.queue[at]
        if self.hand is not None and self.hand >= at:
            # At the removed entry, the hand goes to its newer neighbour, if there is one.
            self.hand = self.hand - 1 if self.hand > 0 else None


@given(
    st.lists(
        st.tuples(st.sampled_from(["use", "use", "use", "remove"]), st.integers(0, 20)),
        max_size=300,
    )
)
def test_same_victims_as_the_paper(steps: list[tuple[str, int]]) -> None:
    sieve: Sieve[None] = Sieve(100)
    paper = Paper(100)
    slots: dict[bytes, Slot[None]] = {}
    for what, number in steps:
        key = b"%d" % number
        if what == "remove":
            if key in slots:
                sieve.remove(slots.pop(key))
                paper.remove(key)
        elif key in slots:
            slots[key].visited = True
            paper.visit(key)
        else:
            slot = Slot(key, None, 5 + number)
            evicted = [gone.key for gone in sieve.insert(slot)]
            assert evicted == paper.insert(key, 5 + number)
            for gone in evicted:
                del slots[gone]
            slots[key] = slot
        assert sieve.used == sum(slot.size for slot in slots.values()) <= 100


def test_a_scan_evicts_in_order_and_spares_what_was_visited() -> None:
    sieve: Sieve[None] = Sieve(3)
    slots = {key: Slot(key, None, 1) for key in (b"a", b"b", b"c", b"d", b"e", b"f")}
    for key in (b"a", b"b", b"c"):
        assert sieve.insert(slots[key]) == []
    slots[b"a"].visited = True
    gone = [slot.key for key in (b"d", b"e", b"f") for slot in sieve.insert(slots[key])]
    assert gone == [b"b", b"c", b"d"]
