"""The sketch against true counts: what it may say, how it ages, what it takes."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.sketch import _HALVED, AGE_EVERY, BYTES_PER_ENTRY, MAX_COUNT, STRETCH, Sketch

KEYS = st.lists(st.integers(0, 40).map(lambda number: b"k%d" % number), max_size=300)


@given(KEYS, st.integers(0, 2**64 - 1))
def test_never_too_low(keys: list[bytes], seed: int) -> None:
    sketch, counts = Sketch(1000, seed), Counter[bytes]()
    for key in keys:
        counts[key] += 1
        said = sketch.count(key)
        assert said == sketch.estimate(key)
        assert min(counts[key], MAX_COUNT) <= said <= MAX_COUNT
    for key in (b"", b"never", b"k40"):
        assert sketch.estimate(key) >= min(counts[key], MAX_COUNT)


def test_seldom_too_high() -> None:
    sketch, counts, chance = Sketch(4096), Counter[bytes](), random.Random(1)
    sketch.expect(4096)
    for _ in range(8000):
        key = b"%d" % (chance.random() ** 3 * 4096)
        counts[key] += 1
        sketch.count(key)
    # The first stretch has been halved once by now, which only makes it say less.
    wrong = sum(sketch.estimate(key) > min(count, MAX_COUNT) for key, count in counts.items())
    assert len(counts) > 1000
    assert wrong <= 0.02 * len(counts)


@pytest.mark.parametrize(
    ("uses", "rounds", "left"),
    [(1, 1, 0), (2, 1, 1), (3, 1, 1), (8, 1, 4), (15, 1, 7), (40, 1, 7), (15, 2, 3), (15, 4, 0)],
)
def test_ages_by_halves(uses: int, rounds: int, left: int) -> None:
    sketch = Sketch(1)
    for _ in range(uses):
        sketch.count(b"old")
    # One key for all the rest: it meets the old one in a row or two, not in four.
    for _ in range(AGE_EVERY * rounds - uses):
        sketch.count(b"new")
    assert sketch.estimate(b"old") == left
    assert sketch.halvings == rounds


def test_two_counters_in_a_byte_are_halved_apart() -> None:
    for first in range(16):
        for second in range(16):
            assert _HALVED[first << 4 | second] == (first >> 1) << 4 | second >> 1


def test_every_stretch_has_its_turn() -> None:
    sketch = Sketch(10_000)
    sketch.expect(1000)
    keys = [b"%d" % number for number in range(300)]
    stretches = sketch.size // STRETCH
    assert stretches == 4
    for _ in range(8):
        for key in keys:
            sketch.count(key)
    # 2,400 counts so far; the round's end is where each counter was halved once.
    for _ in range(AGE_EVERY * stretches - 8 * len(keys)):
        sketch.count(b"new")
    assert sketch.halvings == 1
    said = Counter(sketch.estimate(key) for key in keys)
    assert said.most_common(1)[0][0] == 4
    assert sum(count for estimate, count in said.items() if estimate > 4) < 15


def test_grows_with_what_is_kept_and_not_beyond_its_bound() -> None:
    sketch = Sketch(3000)
    keys = [b"%d" % number for number in range(200)]
    for key in keys:
        sketch.count(key)
        sketch.count(key)
    before = [sketch.estimate(key) for key in keys]
    sizes = []
    for entries in (0, 10, 256, 257, 1000, 3000, 10**9):
        sketch.expect(entries)
        sizes.append(sketch.size)
    assert sizes == [STRETCH, STRETCH, STRETCH, 2 * STRETCH, *[4 * STRETCH], *[16 * STRETCH] * 2]
    assert sketch.size < 2 * 3000 * BYTES_PER_ENTRY
    assert [sketch.estimate(key) for key in keys] == before


def test_the_seed_decides_who_meets_whom() -> None:
    def met(seed: int) -> set[bytes]:
        sketch = Sketch(1, seed)
        for _ in range(MAX_COUNT):
            sketch.count(b"popular")
        return {b"%d" % n for n in range(60_000) if sketch.estimate(b"%d" % n)}

    # Four of 32 in one of 64 blocks: none is more likely than not, but none is rare with three.
    assert not met(1) & met(2)


def test_for_nobody() -> None:
    with pytest.raises(ValueError, match="0 entries"):
        Sketch(0)
