"""The journal of orders: what is read back, what is dropped, what damage does."""

import errno
import os
from pathlib import Path

import pytest

from cache import journal
from cache.journal import KEEP_S, Journal
from cache.orders import Act, Order, Scope


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def order(seq: int, act: Act = Act.PURGE, value: str = "/a.jpg") -> Order:
    return Order(act, Scope.SOURCE, "site", value, seq)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def opened(path: Path, clock: Clock) -> Journal:
    made = Journal(str(path), clock)
    made.load()
    return made


def test_what_was_appended_is_read_back(path: Path, clock: Clock) -> None:
    first = opened(path, clock)
    first.append([order(1), order(2)], is_own=True)
    first.append([Order(Act.SOFTEN, Scope.TAG, "site", "ä b", 3)], is_own=False)
    second = Journal(str(path), clock)
    assert [one.seq for one in second.load()] == [1, 2, 3]
    assert [one.seq for one in second.own()] == [1, 2]


def test_old_lines_go_and_take_downs_stay(path: Path, clock: Clock) -> None:
    first = opened(path, clock)
    first.append([order(1), order(2, Act.TAKE_DOWN, "/down.jpg")], is_own=True)
    first.append([order(3, Act.TAKE_DOWN, "/up.jpg"), order(4, Act.LIFT, "/up.jpg")], is_own=True)
    clock.now += KEEP_S + 1
    assert [one.seq for one in opened(path, clock).own()] == [2]


def test_of_taking_down_and_lifting_only_the_last_is_answered_for(path: Path, clock: Clock) -> None:
    one = opened(path, clock)
    down, lift = Act.TAKE_DOWN, Act.LIFT
    one.append([order(1, down, "/a"), order(2, lift, "/a"), order(3, down, "/b")], is_own=True)
    one.append([order(4, lift, "/b")], is_own=False)  # another node has lifted it
    one.append([order(5, down, "/c")], is_own=True)
    assert [one.seq for one in opened(path, clock).own()] == [2, 5]


def test_an_order_carried_out_again_takes_the_place_of_the_lost_one(
    path: Path, clock: Clock
) -> None:
    first = opened(path, clock)
    first.append([order(1), order(2)], is_own=True)
    first.append([order(7)], is_own=True, instead_of=1)
    assert [one.seq for one in first.own()] == [2, 7]
    assert [one.seq for one in opened(path, clock).own()] == [2, 7]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (b"", [1, 2]),
        (b'{"order":', [1, 2]),  # a crash in the middle of a line
        (b"\x00\xff\n", [1, 2]),
        (b'{"order":{"act":"burn"}}\n', [1, 2]),
        (b"[]\n" * 3, [1, 2]),
    ],
)
def test_lines_that_are_none_are_skipped(
    path: Path, clock: Clock, damage: bytes, left: list[int]
) -> None:
    opened(path, clock).append([order(1), order(2)], is_own=True)
    with path.open("ab") as file:
        file.write(damage)
    again = opened(path, clock)
    assert [one.seq for one in again.own()] == left
    again.append([order(3)], is_own=True)
    assert [one.seq for one in opened(path, clock).own()] == [*left, 3]


def test_it_is_bounded(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_LINES", 10)
    one = opened(path, clock)
    for seq in range(1, 50):
        one.append([order(seq)], is_own=seq % 2 == 0)
    assert len(one) <= 20
    assert len(path.read_bytes().splitlines()) <= 20
    assert one.own()[-1].seq == 48


@pytest.mark.parametrize(("letters", "most"), [("p" * 900, 20), ("p" * 899 + "\u20ac", 10)])
def test_it_is_bounded_in_bytes(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, letters: str, most: int
) -> None:
    """What is taken down stays, however long it is, and is not written anew for every line."""
    monkeypatch.setattr(journal, "MAX_BYTES", 10_000)
    one = opened(path, clock)
    standing = [Order(Act.TAKE_DOWN, Scope.SOURCE, "*", f"{letters}{n}", n) for n in range(1, 31)]
    one.append(standing, is_own=True)
    rewrites = 0
    rewrite = one._rewrite

    def counted() -> None:
        nonlocal rewrites
        rewrites += 1
        rewrite()

    monkeypatch.setattr(one, "_rewrite", counted)
    for seq in range(31, 131):
        one.append([Order(Act.PURGE, Scope.SOURCE, "*", f"{letters}{seq}", seq)], is_own=True)
        assert len(one) <= 30 + most + 1
    assert one.own()[-1].seq == 130
    assert 100 / most <= rewrites <= 250 / most
    again = opened(path, clock)
    assert {order.seq for order in again.load()} >= {*range(1, 31), 130}
    assert len(again) <= 30 + most // 2


def test_a_full_disk_is_told_and_counted(path: Path, clock: Clock) -> None:
    one = opened(path, clock)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        one.append([order(1)], is_own=True)
    assert one.failed == 1


def test_what_must_be_durable_is_synced(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened(path, clock)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    one.append([order(1)], is_own=True)
    assert not synced
    one.append([order(2)], is_own=True, is_durable=True)
    assert len(synced) == 1
