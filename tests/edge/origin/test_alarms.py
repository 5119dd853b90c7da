"""Many deadlines on one timer, with a loop whose time the test moves."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge.origin.alarms import Alarms


@dataclass(eq=False)
class Timer:
    at: float
    ring: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[..., None], *args: object) -> Timer:
        timer = Timer(at, lambda: call(*args))
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def pass_to(self, now: float) -> None:
        while due := sorted((one for one in self.pending if one.at <= now), key=lambda one: one.at):
            self.now = max(self.now, due[0].at)
            self.timers.remove(due[0])
            due[0].ring()
        self.now = now


@dataclass(eq=False)
class Wait:
    loop: Loop
    late_at: float
    expired_at: list[float] = field(default_factory=list)

    def expire(self) -> None:
        self.expired_at.append(self.loop.now)


@pytest.fixture
def loop() -> Any:
    return Loop()


def test_each_expires_at_its_time_whatever_the_order(loop: Any) -> None:
    alarms, chance = Alarms(), random.Random(1)
    waits = [Wait(loop, chance.uniform(1, 9)) for _ in range(50)]
    for wait in waits:
        alarms.add(wait, loop)
    loop.pass_to(10)
    assert [wait.expired_at for wait in waits] == [[wait.late_at] for wait in waits]
    assert len(alarms) == 0 and not loop.pending


def test_who_is_done_costs_no_timer(loop: Any) -> None:
    alarms = Alarms()
    for number in range(1000):
        wait = Wait(loop, 5 + number / 1000)
        alarms.add(wait, loop)
        alarms.discard(wait)
    assert len(loop.timers) == 1
    loop.pass_to(20)
    assert not loop.pending


def test_a_deadline_that_was_moved(loop: Any) -> None:
    alarms = Alarms()
    later, sooner = Wait(loop, 3), Wait(loop, 8)
    for wait in (later, sooner):
        alarms.add(wait, loop)
    later.late_at = 6  # backwards: nobody has to be told
    loop.pass_to(5)
    assert not later.expired_at
    sooner.late_at = 5.5
    alarms.add(sooner, loop)  # forwards
    loop.pass_to(7)
    assert (later.expired_at, sooner.expired_at) == ([6], [5.5])


def test_who_expires_may_wait_again(loop: Any) -> None:
    alarms = Alarms()

    class Again(Wait):
        def expire(self) -> None:
            super().expire()
            if len(self.expired_at) < 3:
                self.late_at += 2
                alarms.add(self, loop)

    wait = Again(loop, 1)
    alarms.add(wait, loop)
    loop.pass_to(10)
    assert wait.expired_at == [1, 3, 5]
