"""Two kinds in one room: shares, marks, inodes, and that neither starves the other."""

import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import room as rooms
from cache.errors import DoesNotFit
from cache.key import Key, SourceId
from cache.room import BLOCK, HIGH_MARK, LOW_MARK, Kind, Room, kin_of, kind_of
from cache.sketch import AGE_EVERY

DERIVATIVE, ORIGINAL = Kind.DERIVATIVE, Kind.ORIGINAL


def fill(
    room: Room,
    name: bytes,
    blocks: int = 1,
    kind: Kind = DERIVATIVE,
    cost_ms: int = 50,
    kin: bytes | None = None,
) -> list[bytes]:
    """As Disk does it; the keys that went."""
    size = blocks * BLOCK
    room.claim(size, kind)
    gone = []
    for _ in range(1000):
        gone += [victim.key for victim in room.victims(64)]
        if room.fits:
            break
    room.settle(size, name, size, cost_ms, kind, kin)
    return gone


def blocks_of(room: Room, kind: Kind) -> int:
    return room.used_by(kind) // BLOCK


def test_kinds_of_keys() -> None:
    source = SourceId("site", "/a.jpg")
    assert kind_of(Key(source, "")) is ORIGINAL
    assert kind_of(Key(source, "w=220")) is DERIVATIVE
    assert kin_of(Key(source, "")) is None
    assert kin_of(Key(source, "w=220")) == kin_of(Key(source, "w=320")) == source.digest


@pytest.mark.parametrize(("intruder", "other"), [(DERIVATIVE, ORIGINAL), (ORIGINAL, DERIVATIVE)])
@pytest.mark.parametrize("percent", [10, 25, 50, 90])
def test_neither_kind_pushes_the_other_below_its_share(
    intruder: Kind, other: Kind, percent: int
) -> None:
    room = Room(1000 * BLOCK, 10**6, percent)
    share = 10 * (percent if other is ORIGINAL else 100 - percent)
    for number in range(1000):
        fill(room, b"old %d" % number, 1, other, cost_ms=1)
    assert blocks_of(room, other) >= 1000 * LOW_MARK  # it had all: the share was lent
    for number in range(3000):
        # Dearer, and asked for again: better by every measure.
        fill(room, b"new %d" % number, 1, intruder, cost_ms=10_000)
        room.touch(b"new %d" % number)
        assert blocks_of(room, other) >= int(share * LOW_MARK)
    assert blocks_of(room, other) <= share
    assert blocks_of(room, intruder) >= (1000 - share) * LOW_MARK


def test_lent_room_is_given_back_from_the_first_fill_on() -> None:
    room = Room(1000 * BLOCK, 10**6, 25)
    for number in range(1500):
        fill(room, b"d%d" % number)
    before = blocks_of(room, DERIVATIVE)
    for number in range(200):
        fill(room, b"o%d" % number, 1, ORIGINAL)
    assert blocks_of(room, ORIGINAL) == 200
    assert blocks_of(room, DERIVATIVE) < before
    assert room.evicted(ORIGINAL) == 0
    assert room.evicted(DERIVATIVE) == 1500 - blocks_of(room, DERIVATIVE)


def test_running_fills_are_charged_to_their_kind() -> None:
    """Claims cannot be evicted; who made them pays with entries of his own."""
    room = Room(1000 * BLOCK, 10**6, 25)
    for number in range(675):
        fill(room, b"d%d" % number)
    for number in range(220):
        fill(room, b"o%d" % number, 1, ORIGINAL)
    room.claim(100 * BLOCK, ORIGINAL)
    while room.victims(64):
        pass
    assert blocks_of(room, DERIVATIVE) == 675
    assert room.evicted(ORIGINAL) == 95
    room.release(100 * BLOCK, ORIGINAL)
    assert room.used == 800 * BLOCK
    assert room.used_inodes == 800


def test_marks() -> None:
    room = Room(1000 * BLOCK, 10**6)
    for number in range(int(1000 * HIGH_MARK)):
        assert fill(room, b"d%d" % number) == []
    assert len(fill(room, b"one more")) == 51  # with its claim 951: down to 900
    assert room.used == 900 * BLOCK
    assert room.victims(64) == []


def test_a_batch_at_a_time_and_on_from_there() -> None:
    room = Room(10_000 * BLOCK, 10**6)
    for number in range(9500):
        fill(room, b"d%d" % number)
    room.claim(BLOCK)
    assert [len(room.victims(64)) for _ in range(9)] == [64] * 7 + [53, 0]


@pytest.mark.parametrize(("kind", "other"), [(DERIVATIVE, ORIGINAL), (ORIGINAL, DERIVATIVE)])
def test_inodes_have_shares_too(kind: Kind, other: Kind) -> None:
    room = Room(10**9 * BLOCK, 100, 50)
    for number in range(50):
        fill(room, b"other %d" % number, 1, other)
    for number in range(500):
        fill(room, b"%d" % number, 1000, kind)
        assert room.used_inodes <= 96
        assert blocks_of(room, other) >= 45
    assert room.evicted(kind) > 400


def test_a_full_disk_takes_from_who_has_most_of_its_share() -> None:
    room = Room(1000 * BLOCK, 10**6, 25)
    for number in range(100):
        fill(room, b"d%d" % number)
    for number in range(50):
        fill(room, b"o%d" % number, 1, ORIGINAL)
    assert {victim.key[:1] for victim in room.victims(40, urgent=True)} == {b"o"}
    # 100 of 750 against 10 of 250; and where one kind is not enough, the other follows.
    gone = [victim.key[:1] for victim in room.victims(105, urgent=True)]
    assert gone == [b"d"] * 100 + [b"o"] * 5
    assert room.used == 5 * BLOCK


def test_what_comes_back_has_its_past() -> None:
    room = Room(1000 * BLOCK, 10**6)
    for _ in range(10):
        fill(room, b"popular")
        room.touch(b"popular")
    room.victims(1)  # touches are counted
    room.remove(b"popular")
    numbers = count()
    for _ in range(900):
        fill(room, b"%d" % next(numbers))
    fill(room, b"popular")
    for _ in range(3000):
        fill(room, b"%d" % next(numbers))
    assert b"popular" in room
    fill(room, b"unknown")
    for _ in range(3000):
        fill(room, b"%d" % next(numbers))
    assert b"unknown" not in room


@pytest.mark.parametrize("is_adopted", [False, True])
def test_a_new_derivative_of_what_is_popular_stays_longer(is_adopted: bool) -> None:
    room = Room(1000 * BLOCK, 10**6)
    numbers = count()
    for _ in range(12):
        fill(room, b"step %d" % next(numbers), kin=b"popular")
    if is_adopted:
        room.adopt(b"new", BLOCK, 50, DERIVATIVE, b"popular")
        room.adopt(b"alone", BLOCK, 50, DERIVATIVE, b"nobody's")
    else:
        fill(room, b"new", kin=b"popular")
        fill(room, b"alone", kin=b"nobody's")
    while b"alone" in room:
        number = next(numbers)
        fill(room, b"%d" % number, kin=b"source %d" % number)
    for _ in range(500):
        number = next(numbers)
        fill(room, b"%d" % number, kin=b"source %d" % number)
    assert b"new" in room


def test_old_fame_fades_as_frequencies_do() -> None:
    room = Room(200 * BLOCK, 10**6)  # one stretch of counters: all are halved at once
    fill(room, b"star")
    for _ in range(14):
        room.touch(b"star")
    numbers = count()
    while b"star" in room:
        fill(room, b"%d" % next(numbers))
    # With H halved once for a sweep it would stay for 1.9 of them, if it grew no older for 7.8.
    assert AGE_EVERY < next(numbers) < 1.5 * AGE_EVERY


def test_adoption_is_no_use() -> None:
    room = Room(1000 * BLOCK, 10**6)
    for _ in range(5):
        room.adopt(b"k", BLOCK, 50, DERIVATIVE, b"source")
    assert room._sketch.estimate(b"k") == room._sketch.estimate(b"source") == 0


def test_originals_go_by_frequency_whatever_their_size_and_cost() -> None:
    room = Room(1000 * BLOCK, 10**6, 50)
    fill(room, b"large", 100, ORIGINAL, cost_ms=0)
    fill(room, b"small", 1, ORIGINAL, cost_ms=60_000)
    room.touch(b"large")
    gone = []
    for number in range(1500):
        gone += fill(room, b"%d" % number, 1, ORIGINAL)
    assert b"small" in gone
    assert b"large" not in gone
    # And old fame fades.
    for number in range(1500, 20_000):
        gone += fill(room, b"%d" % number, 1, ORIGINAL)
    assert b"large" in gone


def test_a_key_is_counted_once_whatever_kind_it_was_taken_for() -> None:
    room = Room(1000 * BLOCK, 10**6)
    room.adopt(b"k", BLOCK, 0)
    room.adopt(b"k", 3 * BLOCK, 0, ORIGINAL)
    assert (room.used, room.used_inodes) == (3 * BLOCK, 1)
    room.remove(b"k")
    assert (room.used, room.used_inodes, b"k" in room) == (0, 0, False)


def test_touches_are_bounded() -> None:
    room = Room(1000 * BLOCK, 10**6)
    fill(room, b"k")
    with room._lock:  # nobody can apply them
        for _ in range(100_000):
            room.touch(b"k")
    assert len(room._touches) == rooms._MAX_TOUCHES
    room.touch(b"k")
    assert not room._touches


@pytest.mark.parametrize(
    ("size", "inodes", "originals"),
    [(BLOCK - 1, 10, 25), (BLOCK, 0, 25), (BLOCK, 1, 0), (BLOCK, 1, 100), (BLOCK, 1, -5)],
)
def test_no_such_room(size: int, inodes: int, originals: int) -> None:
    with pytest.raises(ValueError, match=r"fits|share"):
        Room(size, inodes, originals)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fill", "fill", "fill", "adopt", "touch", "remove", "give up", "urgent"]),
        st.integers(0, 60),
        st.integers(1, 12),
        st.sampled_from(list(Kind)),
    ),
    max_size=150,
)


@given(STEPS, st.integers(1, 99))
def test_what_is_used_is_what_is_there(
    steps: list[tuple[str, int, int, Kind]], percent: int
) -> None:
    room = Room(100 * BLOCK, 60, percent)
    there: dict[bytes, tuple[int, Kind]] = {}
    for what, number, blocks, kind in steps:
        key, size = b"k%d" % number, blocks * BLOCK
        if what == "fill":
            room.claim(size, kind)
            while not room.fits:
                for victim in room.victims(8):
                    assert there.pop(victim.key)[0] == victim.size
            room.settle(size, key, size, number, kind)
            there[key] = (size, kind)
        elif what == "adopt":
            room.adopt(key, size, number, kind)
            there[key] = (size, kind)
        elif what == "touch":
            room.touch(key)
        elif what == "remove":
            room.remove(key)
            there.pop(key, None)
        elif what == "give up":
            room.claim(size, kind)
            room.release(size, kind)
        else:
            for victim in room.victims(2, urgent=True):
                del there[victim.key]
        for one in Kind:
            assert room.used_by(one) == sum(size for size, is_of in there.values() if is_of is one)
        assert room.used_inodes == len(there)
        assert all(key in room for key in there)


def test_what_can_never_fit() -> None:
    room = Room(800 * BLOCK, 100)
    for kind in Kind:
        with pytest.raises(DoesNotFit, match="holds 409600 in one"):
            room.claim(101 * BLOCK, kind)
    assert room.used == 0


def test_no_kind_starves_under_a_mixed_load() -> None:
    chance = random.Random(3)
    room = Room(2000 * BLOCK, 10**6, 25)
    for _ in range(20_000):
        if chance.random() < 0.97:
            fill(room, b"d%d" % chance.randrange(10_000), chance.randint(1, 4))
        else:
            fill(room, b"o%d" % chance.randrange(500), chance.randint(20, 200), ORIGINAL)
    assert room.used <= 2000 * BLOCK
    assert blocks_of(room, DERIVATIVE) >= 1500 * LOW_MARK - 200
    assert blocks_of(room, ORIGINAL) >= 500 * LOW_MARK - 200
