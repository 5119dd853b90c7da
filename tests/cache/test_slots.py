"""CLUSTER SLOTS, as servers tell it and as they should not."""

import pytest

from cache.index.address import Endpoint
from cache.index.slots import MAX_NODES, SLOTS, parse_slots

A, B, C = Endpoint("10.0.0.1", 7000), Endpoint("b.internal", 7000), Endpoint("10.0.0.9", 7001)


def test_a_whole_map() -> None:
    reply = [
        [0, 5460, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.9", 7001, b"id", [b"hostname", b"c"]]],
        [5461, 16_383, [b"b.internal", 7000, b"id"]],
    ]
    found = parse_slots(reply, "asked")
    assert found.owners == [A] * 5461 + [B] * (SLOTS - 5461)
    assert found.nodes == (A, B, C)


@pytest.mark.parametrize(
    ("reply", "owned"),
    [
        ([[7, 7, [b"10.0.0.1", 7000]]], {7: A}),
        # moved while it was told: the later row holds
        ([[7, 8, [b"10.0.0.1", 7000]], [8, 8, [b"b.internal", 7000]]], {7: A, 8: B}),
        # cluster-preferred-endpoint-type unknown-endpoint, and Redis before its first MEET
        ([[0, 0, [None, 7000]], [1, 1, [b"", 7001]]],
         {0: Endpoint("asked", 7000), 1: Endpoint("asked", 7001)}),
        # hostname wanted and none announced
        ([[0, 1, [b"?", 7000], [b"?", 7001]]], {}),
        ([[16_383, 16_383, [b"2001:db8::1", 7000]]], {16_383: Endpoint("2001:db8::1", 7000)}),
    ],
)  # fmt: skip
def test_parts_of_a_map(reply: object, owned: dict[int, Endpoint]) -> None:
    owners = parse_slots(reply, "asked").owners
    assert len(owners) == SLOTS
    assert {slot: owner for slot, owner in enumerate(owners) if owner is not None} == owned


@pytest.mark.parametrize(
    "reply",
    [
        *(None, [], b"OK", 5, [[]], [None], [[0, 1]], [[0, 1, None]], [[0, 1, b"a"]]),
        *([[0, 1, [b"a"]]], [[0, 1, [b"a", b"7000"]]], [[0, 1, [5, 7000]]], [[b"0", 1, [b"a", 1]]]),
        *([[-1, 1, [b"a", 1]]], [[5, 4, [b"a", 1]]], [[0, 16_384, [b"a", 1]]]),
        *([[0, 1, [b"a", 0]]], [[0, 1, [b"a", 65_536]]], [[0, 1, [b"a b", 1]]]),
        *([[0, 1, [b"\xff", 1]]], [[0, 1, [b"a" * 300, 1]]], [[0, 1, [b"a", 1], 7]]),
        [[n, n, [b"a", n + 1]] for n in range(MAX_NODES + 1)],
    ],
)
def test_what_is_no_map(reply: object) -> None:
    with pytest.raises(ValueError, match=r"tells of|knows of|is no address|codec"):
        parse_slots(reply, "asked")
