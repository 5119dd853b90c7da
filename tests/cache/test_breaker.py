"""The breaker: when it opens, whom it lets through, when it closes."""

from cache.index.breaker import Breaker


def test_four_failures_in_a_second_do_not_open_it() -> None:
    breaker = Breaker(lambda: 0.5)
    for now in (0.0, 0.1, 0.2, 0.3, 1.4, 1.5, 1.6):
        breaker.failed(now)
        assert breaker.allow(now)
        breaker.succeeded()  # between them it answers: full, say, and only what writes is refused
    assert breaker.opened == 0


def test_five_in_a_row_open_it_however_far_apart() -> None:
    """A node that asks little would else never say that nothing is answered."""
    breaker = Breaker(lambda: 0.5)
    for now in (0.0, 10.0, 20.0, 30.0):
        breaker.failed(now)
        assert breaker.allow(now)
    breaker.failed(40.0)
    assert (breaker.is_open, breaker.opened) == (True, 1)
    breaker.succeeded()
    for now in (50.0, 60.0, 70.0, 80.0):
        breaker.failed(now)
    assert not breaker.is_open


def test_the_fifth_opens_it_and_one_probe_a_second_passes() -> None:
    breaker = Breaker(lambda: 0.5)
    for now in (0.0, 0.1, 0.2, 0.3, 1.0):
        breaker.failed(now)
    assert breaker.is_open
    assert [breaker.allow(now) for now in (1.0, 1.99, 2.0, 2.0, 2.9, 3.0, 3.1)] == [
        *(False, False, True, False),
        *(False, True, False),
    ]
    breaker.failed(3.05)
    assert not breaker.allow(4.04)
    assert breaker.allow(4.05)
    breaker.succeeded()
    assert all(breaker.allow(4.06) for _ in range(10))
    assert breaker.opened == 1


def test_after_closing_the_old_failures_are_forgotten() -> None:
    breaker = Breaker(lambda: 0.5)
    for _ in range(5):
        breaker.failed(0.0)
    assert breaker.allow(1.0)
    breaker.succeeded()
    breaker.failed(1.0)
    assert not breaker.is_open


def test_jitter_spreads_the_probes() -> None:
    for drawn, first in ((0.0, 0.8), (1.0, 1.2)):
        breaker = Breaker(lambda drawn=drawn: drawn)
        for _ in range(5):
            breaker.failed(0.0)
        assert not breaker.allow(first - 0.01)
        assert breaker.allow(first + 0.01)
