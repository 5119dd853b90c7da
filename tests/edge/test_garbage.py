"""Full collections wait for a quiet second, and come seldom."""

import gc
import weakref

import pytest

from edge.garbage import FULL_EVERY_S, QUIET_REQUESTS, Garbage


class Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_only_quiet_seconds_count_and_seldom():
    answered, now = [0], [0.0]
    garbage = Garbage(lambda: answered[0], lambda: now[0])
    garbage.start()
    cycle = weakref.ref(Node())
    # A busy hour.
    for _ in range(3600):
        now[0] += 1
        answered[0] += QUIET_REQUESTS + 1
        garbage.tick()
    assert garbage.full == 0
    # A quiet one.
    for _ in range(3600):
        now[0] += 1
        answered[0] += QUIET_REQUESTS
        garbage.tick()
    assert garbage.full == 3600 // FULL_EVERY_S
    assert cycle() is None


def test_young_cycles_are_collected_and_old_objects_left_alone():
    garbage = Garbage(lambda: 0)
    garbage.start()
    gc.collect()
    full_before = gc.get_stats()[2]["collections"]
    cycle = weakref.ref(Node())
    kept = [[number] for number in range(300_000)]
    assert cycle() is None
    assert gc.get_stats()[2]["collections"] == full_before
    assert len(kept) == 300_000
