"""Queues of several clients, in turn."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from resizer.fair import FairQueue


def filled(*things: str) -> FairQueue[str]:
    """a1, a2 are of client a."""
    queue: FairQueue[str] = FairQueue()
    for thing in things:
        queue.put(thing[0], thing)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (thing := queue.take()) is not None:
        taken.append(thing)
    return taken


def test_turns() -> None:
    assert drained(filled("a1", "a2", "a3", "b1", "c1", "b2")) == [
        *("a1", "b1", "c1", "a2", "b2", "a3"),
    ]
    assert drained(filled()) == []


def test_a_newcomer_waits_for_one_of_each() -> None:
    queue = filled("a1", "a2", "a3")
    assert queue.take() == "a1"
    queue.put("b", "b1")
    assert drained(queue) == ["a2", "b1", "a3"]


def test_back_at_the_front() -> None:
    queue = filled("a1", "a2", "b1")
    assert queue.take() == "a1"
    queue.put_back("a", "a1")
    assert drained(queue) == ["a1", "b1", "a2"]


def test_withdraw() -> None:
    queue = filled("a1", "a2", "b1")
    assert queue.withdraw("a", "a1")
    assert not queue.withdraw("a", "a1")
    assert not queue.withdraw("z", "a2")
    assert (len(queue), queue.of("a"), queue.of("z")) == (2, 1, 0)
    assert queue.withdraw("a", "a2")
    assert drained(queue) == ["b1"]


def test_who_holds_the_most() -> None:
    assert filled().newest_of_greediest() is None
    assert filled("a1", "b1", "b2", "c1").newest_of_greediest() == "b2"


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_all_come_out_once_each_client_in_order(clients: list[str]) -> None:
    things = [f"{client}{number:03}" for number, client in enumerate(clients)]
    queue = filled(*things)
    assert len(queue) == len(things)
    taken = drained(queue)
    assert sorted(taken) == sorted(things)
    for client in "abc":
        own = [thing for thing in taken if thing[0] == client]
        assert own == sorted(own)
    # While two wait, neither is served twice in a row.
    for number, (one, two) in enumerate(itertools.pairwise(taken)):
        if one[0] == two[0]:
            assert {thing[0] for thing in taken[number:]} == {one[0]}
    assert len(queue) == 0
