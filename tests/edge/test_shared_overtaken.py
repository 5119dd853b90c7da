"""P3 while an answer is on its way: who asks after a purge gets nothing from before it, whatever
names the purge. Its tags are known with the answer only."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cache.orders import Act, Scope
from tests.edge.shared_bench import BODY, SharedNode, said
from tests.edge.test_arrival import paced
from tests.edge.test_shared_waiting import LARGE, fixed, large, on_bare_node, pieces_of, settled
from tests.waiting import until

assert on_bare_node  # a fixture

Test = Callable[[SharedNode], Awaitable[None]]
NEW = BODY[::-1]
ORDERS = [
    (act, scope, value)
    for act in (Act.PURGE, Act.SOFTEN)
    for scope, value in ((Scope.SOURCE, "/pets/a"), (Scope.PREFIX, "/pets/"), (Scope.TAG, "cat"))
]
CONTROL = {"Cache-Control": "max-age=3600", "Surrogate-Key": "cat"}


# After a soft purge, what two exchanges bring of one original is told apart by none but its origin.
WAITING = [
    *((order, {"Vary": "x"}) for order in ORDERS),
    *((order, {}) for order in ORDERS if order[0] is Act.PURGE),
]


@pytest.mark.parametrize(("order", "vary"), WAITING)
def test_who_asks_after_a_purge_joins_no_exchange_from_before(on_bare_node, order, vary):
    async def test(node: SharedNode) -> None:
        headers = {**CONTROL, **vary}
        if vary:
            node.origin.say = fixed(headers)
            await node.ask("/pets/a", {"X": "0"})
        node.origin.say = lambda _: said(BODY, headers=headers)
        node.origin.hold = asyncio.Event()
        node.origin.came.clear()
        before = asyncio.create_task(node.ask("/pets/a", {"X": "1"}))
        await node.origin.came.wait()
        await node.node.order(*order)
        asked = len(node.origin.asked)
        node.origin.say = lambda _: said(NEW, headers=headers)
        after = asyncio.create_task(node.ask("/pets/a", {"X": "1"}))
        # It joins somebody, or asks.
        joined = node.flights.stats.joined
        await until(
            lambda: len(node.origin.asked) > asked or node.flights.stats.joined > joined, pause_s=0
        )
        node.origin.hold.set()
        node.origin.hold = None
        assert (await before).body in (BODY, NEW)
        assert (await after).body == NEW
        assert (await node.ask("/pets/a", {"X": "1"})).body == NEW

    on_bare_node(test)


@pytest.mark.parametrize("vary", [{"vary": "x"}, {}], ids=["variant", "original"])
@pytest.mark.parametrize("order", ORDERS)
def test_who_asks_after_a_purge_reads_along_with_nobody_from_before(on_bare_node, order, vary):
    async def test(node: SharedNode) -> None:
        headers = {**CONTROL, **vary}
        if vary:
            node.origin.say = fixed(headers)
            await node.ask("/pets/a", {"X": "0"})
        told = {name.lower(): text for name, text in headers.items()}
        answer = paced(len(LARGE), **told)
        node.origin.say = lambda _: answer
        before = asyncio.create_task(node.ask("/pets/a", {"X": "1"}))
        answer.send(*pieces_of(LARGE)[:-1])
        arrivals = node.node.handler._sources.arrivals
        await until(lambda: len(arrivals) == 1, pause_s=0)
        await node.node.order(*order)
        node.origin.say = lambda _: large(headers, LARGE[::-1])
        assert (await node.ask("/pets/a", {"X": "1"})).body == LARGE[::-1]
        answer.send(pieces_of(LARGE)[-1], b"")
        assert (await before).body == LARGE, "it has begun"
        await settled(node)
        assert (await node.ask("/pets/a", {"X": "1"})).body == LARGE[::-1]
        await settled(node)

    on_bare_node(test)


CONTROLS = [
    ("max-age=60", 0, True),
    ("max-age=60", 61, True),  # stale by permission
    ("max-age=60, must-revalidate", 0, True),
    ("max-age=60, must-revalidate", 61, False),
    ("no-cache", 0, False),
    ("max-age=0", 0, True),
    ("max-age=0, must-revalidate", 0, False),
]


@pytest.mark.parametrize("vary", [{"vary": "x"}, {}], ids=["variant", "original"])
@pytest.mark.parametrize(("control", "after_s", "is_joined"), CONTROLS)
def test_nobody_reads_along_what_would_have_to_be_asked_for(
    on_bare_node, control, after_s, is_joined, vary
):
    """RFC 9111 sections 5.2.2.4 and 5.2.2.2: no other request without validation."""

    async def test(node: SharedNode) -> None:
        if vary:
            node.origin.say = fixed({"Vary": "x", "Cache-Control": "max-age=3600"})
            await node.ask("/a", {"X": "0"})
        answer = paced(len(LARGE), **{"cache-control": control, **vary})
        node.origin.say = lambda _: answer
        first = asyncio.create_task(node.ask("/a", {"X": "1"}))
        answer.send(*pieces_of(LARGE)[:-1])
        arrivals = node.node.handler._sources.arrivals
        await until(lambda: len(arrivals) == 1, pause_s=0)
        node.later(after_s)
        node.origin.say = lambda _: large({"Cache-Control": control, **vary}, LARGE[::-1])
        asked = len(node.origin.asked)
        second = asyncio.create_task(node.ask("/a", {"X": "1"}))
        await until(
            lambda: (
                arrivals.stats.joined + node.shared.stats.joined > 0
                or len(node.origin.asked) > asked
            ),
            pause_s=0,
        )
        answer.send(pieces_of(LARGE)[-1], b"")
        assert (await first).body == LARGE
        assert (await second).body == (LARGE if is_joined else LARGE[::-1])
        assert len(node.origin.asked) == asked + (not is_joined)
        await settled(node)

    on_bare_node(test)


def test_a_first_answer_is_as_new_as_the_question(on_bare_node):
    """Not as the token, which may be older than an order that was obeyed since: it would be stale
    from the start, and each of those who waited would ask again (P4)."""

    async def test(node: SharedNode) -> None:
        node.origin.say = fixed({})
        await node.ask("/pets/a", method="POST")
        await node.node.order(Act.SOFTEN, Scope.PREFIX, "/pets/")
        node.origin.say = fixed({"Cache-Control": "max-age=3600", "Vary": "x"})
        asked = len(node.origin.asked)
        await asyncio.gather(*(node.ask("/pets/a") for _ in range(8)))
        await node.ask("/pets/a")
        assert len(node.origin.asked) == asked + 1

    on_bare_node(test)
