"""GDSF against its definition, and the order that it promises."""

from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.gdsf import Gdsf


class Definition:
    """H = L + log2(f c / s), never lowered by a touch, with a full search for the minimum."""

    def __init__(self) -> None:
        self.inflation = 0.0
        self.entries: dict[bytes, list] = {}  # [H, cost, size]

    def add(self, key: bytes, size: int, cost: float, frequency: int) -> None:
        self.entries[key] = [float("-inf"), cost, size]
        self.touch(key, frequency)

    def touch(self, key: bytes, frequency: int) -> None:
        if key in self.entries:
            entry = self.entries[key]
            score = self.inflation + log2(frequency) + log2(entry[1] / entry[2])
            entry[0] = max(entry[0], score)

    def victims(self) -> set[bytes]:
        lowest = min(entry[0] for entry in self.entries.values())
        return {key for key, entry in self.entries.items() if entry[0] == lowest}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "touch", "touch", "remove", "evict", "age"]),
        st.integers(0, 30),
        st.integers(1, 1000),
        st.integers(1, 500),
        st.integers(1, 15),
    ),
    max_size=120,  # fewer additions than the first clamp needs
)


@given(STEPS)
def test_always_evicts_a_smallest_h(steps: list[tuple[str, int, int, int, int]]) -> None:
    gdsf, model = Gdsf(), Definition()
    for what, number, size, cost, frequency in steps:
        key = b"k%d" % number
        if what == "add":
            gdsf.add(key, size, cost, frequency)
            model.add(key, size, cost, frequency)
        elif what == "touch":
            gdsf.touch(key, frequency)
            model.touch(key, frequency)
        elif what == "remove":
            gdsf.remove(key)
            model.entries.pop(key, None)
        elif what == "age":
            gdsf.inflation = model.inflation = model.inflation + frequency / 8
        elif model.entries:
            allowed = model.victims()
            (victim,) = gdsf.victims(1, 0, 1)
            assert victim.key in allowed
            assert victim.size == model.entries.pop(victim.key)[2]
        assert len(gdsf) == len(model.entries)
        assert gdsf.used == sum(entry[2] for entry in model.entries.values())


def test_cheap_large_and_rare_go_first() -> None:
    gdsf = Gdsf()
    gdsf.add(b"large", 100_000, 50)
    gdsf.add(b"cheap", 10_000, 1)
    gdsf.add(b"dear", 10_000, 500)
    gdsf.add(b"usual", 10_000, 50)
    gdsf.add(b"popular", 10_000, 50)
    gdsf.touch(b"popular", 2)
    order = [victim.key for victim in gdsf.victims(10**9, 0, 10)]
    assert order == [b"cheap", b"large", b"usual", b"popular", b"dear"]


@pytest.mark.parametrize(
    ("need_bytes", "need_inodes", "limit", "gone"),
    [
        (0, 0, 10, 0),
        (1, 0, 10, 1),
        (4096, 0, 10, 1),
        (4097, 0, 10, 2),
        (0, 3, 10, 3),
        (1, 3, 10, 3),
        (10**9, 0, 4, 4),
        (10**9, 0, 100, 8),  # nothing is left
    ],
)
def test_needs_and_limit(need_bytes: int, need_inodes: int, limit: int, gone: int) -> None:
    gdsf = Gdsf()
    for number in range(8):
        gdsf.add(b"%d" % number, 4096, 10 + number)
    assert len(gdsf.victims(need_bytes, need_inodes, limit)) == gone
    assert gdsf.used == (8 - gone) * 4096


@pytest.mark.parametrize(
    ("halvings", "is_gone"), [(0, False), (2.9, False), (3.1, True), (9, True)]
)
def test_old_fame_fades_with_the_halvings(halvings: float, is_gone: bool) -> None:
    gdsf = Gdsf()
    gdsf.add(b"star", 4096, 100)
    gdsf.touch(b"star", 8)
    gdsf.inflation += halvings
    gdsf.add(b"new", 4096, 100)
    (first,) = gdsf.victims(1, 0, 1)
    assert (first.key == b"star") is is_gone


def test_what_went_makes_nobody_older() -> None:
    gdsf = Gdsf()
    gdsf.add(b"star", 4096, 100)
    gdsf.touch(b"star", 2)
    for number in range(200):
        gdsf.add(b"%d" % number, 4096, 100)
        assert gdsf.victims(1, 0, 1)[0].key != b"star"


def test_a_frequency_that_has_aged_leaves_h_as_it_was() -> None:
    gdsf = Gdsf()
    gdsf.add(b"aged", 1, 8, 4)  # H 5
    gdsf.touch(b"aged", 1)
    gdsf.add(b"other", 1, 16)  # H 4
    gdsf.inflation += 1
    gdsf.touch(b"aged", 3)
    gdsf.add(b"later", 1, 24)  # 5.6
    assert [victim.key for victim in gdsf.victims(3, 0, 3)] == [b"other", b"aged", b"later"]


def test_a_tiny_dear_object_is_clamped() -> None:
    gdsf = Gdsf()
    for number in range(2000):
        gdsf.add(b"%d" % number, 4096, 50)
    gdsf.add(b"monster", 4096, 4_000_000)
    gdsf.inflation += 1
    for number in range(2000, 8000):
        gdsf.add(b"%d" % number, 4096, 50)
        gdsf.victims(1, 0, 1)
    assert b"monster" not in gdsf


def test_dead_entries_are_bounded() -> None:
    gdsf = Gdsf()
    for number in range(20_000):
        gdsf.add(b"%d" % (number % 10), 4096, 50)
    assert len(gdsf._heap) < 3000
    assert len(gdsf) == 10
    assert {victim.key for victim in gdsf.victims(10**9, 0, 100)} == {b"%d" % n for n in range(10)}
    assert gdsf.victims(1, 1, 10) == []


def test_many_touches_are_worked_off_in_steps() -> None:
    gdsf = Gdsf()
    for number in range(10_000):
        gdsf.add(b"%d" % number, 4096, 1 + number % 100)
    for number in range(10_000):
        gdsf.touch(b"%d" % number, 2)
    calls = 1
    while not gdsf.victims(1, 0, 1):
        calls += 1
    assert calls <= 3
