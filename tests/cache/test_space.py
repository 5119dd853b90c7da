"""The floor of free space and its pauses; errors in a row. Pure: the clock is a number."""

import errno
import os

import pytest

from cache.health import MOST_IN_A_ROW, Health
from cache.space import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, Free, Space


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def space(min_free: int = 0, chance: float = 0.0) -> tuple[Space, Clock]:
    clock = Clock()
    return Space(min_free, clock, lambda: chance), clock


@pytest.mark.parametrize(
    ("min_free", "free", "has_room"),
    [
        (0, Free(100, 5, 1000), True),
        (0, Free(99, 5, 1000), False),
        (0, Free(100, 1, 1000), True),
        (0, Free(100, 0, 1000), False),
        (0, Free(100, 0, 0), True),  # a file system without a limit of inodes
        (1000, Free(1100, 100, 100_000), True),
        (1000, Free(1099, 100, 100_000), False),
        (1000, Free(1100, 65, 100_000), True),
        (1000, Free(1100, 64, 100_000), False),
        (1000, Free(1100, 11, 1000), True),  # a small one: a hundredth
        (1000, Free(1100, 10, 1000), False),
    ],
)
def test_what_must_stay_free(min_free: int, free: Free, has_room: bool) -> None:
    assert space(min_free)[0].has_room(free, 100) is has_room


def test_the_file_system_is_asked_once_a_second() -> None:
    rule, clock = space(1000)
    assert rule.is_due()
    assert rule.has_room(Free(10_000, 0, 0), 1)
    assert not rule.is_due()
    clock.now += 0.99
    assert not rule.is_due()
    clock.now += 0.01
    assert rule.is_due()


def test_without_a_floor_it_is_asked_only_after_a_refusal() -> None:
    rule, clock = space()
    clock.now += 1e9
    assert not rule.is_due()
    rule.refused()
    assert rule.is_due()
    assert rule.take_refusal()
    assert not rule.take_refusal()
    assert not rule.is_due()


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, SHORTEST_PAUSE_S), (1.0, LONGEST_PAUSE_S)])
def test_a_second_refusal_begins_a_pause(chance: float, pause_s: float) -> None:
    rule, clock = space(chance=chance)
    assert not rule.refused()
    rule.take_refusal()  # entries were evicted for the next fill
    assert rule.pause_s == 0
    assert rule.refused()
    assert rule.pause_s == pause_s
    clock.now += pause_s
    assert rule.pause_s == 0
    assert rule.is_due()  # and entries are evicted again


def test_a_stored_file_ends_the_trial() -> None:
    rule, _ = space()
    rule.refused()
    rule.take_refusal()
    rule.stored()
    assert not rule.refused()


def fault(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_folder_is_given_up_after_errors_in_a_row() -> None:
    health = Health()
    for _ in range(3):
        for _ in range(MOST_IN_A_ROW - 1):
            assert not health.failed_reading(fault(errno.EIO))
        health.read()
    for _ in range(MOST_IN_A_ROW - 1):
        assert not health.failed_reading(fault(errno.ESTALE))
    assert health.failed_reading(fault(errno.EIO))


def test_reads_do_not_excuse_writes() -> None:
    """A dead disk still gives what the kernel has in memory."""
    health = Health()
    for _ in range(MOST_IN_A_ROW - 1):
        health.read()
        assert not health.failed_writing(fault(errno.EROFS))
    health.read()
    assert health.failed_writing(fault(errno.EROFS))
    health.recovered()
    assert not health.failed_writing(fault(errno.EROFS))


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENOENT, errno.ELOOP, errno.EINTR]
)
def test_what_is_not_the_disks_fault(number: int) -> None:
    health = Health()
    for _ in range(2 * MOST_IN_A_ROW):
        assert not health.failed_reading(fault(number))
        assert not health.failed_writing(fault(number))
