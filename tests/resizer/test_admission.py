"""The waiting queue: order, bound, honest refusals."""

from resizer.admission import Admission


def test_first_in_first_out() -> None:
    queue: Admission[str] = Admission(2)
    assert queue.take() is None
    queue.put("a")
    assert not queue.is_full
    queue.put("b")
    assert queue.is_full
    assert queue.take() == "a"
    queue.put_back("a")
    assert len(queue) == 2
    assert queue.withdraw("a")
    assert not queue.withdraw("a")
    assert (queue.take(), queue.take()) == ("b", None)


def test_retry_after_follows_what_was_measured() -> None:
    queue: Admission[int] = Admission(100)
    assert queue.retry_after_s(2) == 1  # never 0
    for ticket in range(19):
        queue.put(ticket)
    assert queue.retry_after_s(2) == 5  # 20 jobs of the first guess, half a second
    for _ in range(200):
        queue.observe(2.0)
    assert queue.retry_after_s(2) == 20
    assert queue.retry_after_s(0) == 40  # none is up: as if one were
    for _ in range(200):
        queue.observe(1000.0)
    assert queue.retry_after_s(2) == 60  # bounded


def test_a_bound_of_nothing() -> None:
    assert Admission[int](0).is_full
