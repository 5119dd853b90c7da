"""The memory tier: what is kept, what is refused, and counters that add up."""

from cache.memory import OVERHEAD_BYTES, Memory


def test_usual() -> None:
    memory: Memory[str] = Memory(10 * OVERHEAD_BYTES, 1000)
    assert memory.get(b"a") is None
    assert memory.put(b"a", "first", 100)
    assert memory.get(b"a") == "first"
    assert memory.put(b"a", "second", 200)
    assert memory.get(b"a") == "second"
    assert memory.used == 200 + OVERHEAD_BYTES
    memory.remove(b"a")
    memory.remove(b"a")
    assert memory.get(b"a") is None
    assert memory.used == 0
    assert (memory.stats.hits, memory.stats.misses) == (2, 2)


def test_the_cut_off_and_one_byte_past_it() -> None:
    memory: Memory[str] = Memory(10 * OVERHEAD_BYTES, 1000)
    assert memory.put(b"a", "fits", 1000)
    assert not memory.put(b"b", "does not", 1001)
    assert memory.get(b"b") is None
    assert memory.stats.stored == memory.stats.too_large == 1


def test_a_refused_value_does_not_leave_its_predecessor() -> None:
    memory: Memory[str] = Memory(10 * OVERHEAD_BYTES, 1000)
    memory.put(b"a", "old version", 10)
    memory.put(b"a", "new version", 5000)
    assert memory.get(b"a") is None


def test_bound_holds_and_counters_add_up() -> None:
    memory: Memory[int] = Memory(20 * OVERHEAD_BYTES, 5000)
    for number in range(1000):
        memory.put(b"%d" % (number * 7 % 50), number, number * 13 % 6000)
        memory.get(b"%d" % (number % 10))
        assert memory.used <= 20 * OVERHEAD_BYTES
    stats = memory.stats
    assert stats.hits + stats.misses == 1000
    assert stats.stored + stats.too_large == 1000
    assert stats.stored - stats.evicted - stats.removed == len(memory)
    assert stats.evicted > 0


def test_a_tier_without_room_keeps_nothing() -> None:
    memory: Memory[str] = Memory(0, 1000)
    assert not memory.put(b"a", "x", 0)
    assert memory.get(b"a") is None
