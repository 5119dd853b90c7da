"""Pairing, rotation and spread."""

import math

import pytest

from tests.bench.stats import Sample, Spread, paired_ratio, rotation, spread, summary


def samples(server: str, values: list[float | None], case: str = "c") -> list[Sample]:
    return [
        Sample(case, number, server, {"cpu_us": value})
        for number, value in enumerate(values)
        if value is not None
    ]


RATIOS = [
    # usual
    ([10, 20, 30], [10, 10, 10], Spread(2.0, 1.0, 3.0, 3)),
    # a machine twice as slow in one round changes neither round's ratio
    ([10, 20], [20, 40], Spread(0.5, 0.5, 0.5, 2)),
    # edge: an even number of rounds, one round
    ([10, 30], [10, 10], Spread(2.0, 1.0, 3.0, 2)),
    ([10], [40], Spread(0.25, 0.25, 0.25, 1)),
    # a round that only one of them finished
    ([10, None, 30], [10, 10, 10], Spread(2.0, 1.0, 3.0, 2)),
    # hostile: nothing in common, zero, negative, not a number
    ([10, None], [None, 10], None),
    ([10, 10], [0, 5], Spread(2.0, 2.0, 2.0, 1)),
    ([0, -5, math.nan, math.inf], [1, 1, 1, 1], None),
    ([], [], None),
]


@pytest.mark.parametrize(("ours", "theirs", "expected"), RATIOS)
def test_ratio_is_taken_within_each_round(
    ours: list[float | None], theirs: list[float | None], expected: Spread | None
) -> None:
    both = [*samples("node", ours), *samples("peer", theirs), *samples("peer", [1] * 4, "other")]
    assert paired_ratio(both, "c", "cpu_us", "node", "peer") == expected


def test_ratio_of_medians_is_not_what_is_told() -> None:
    both = [*samples("node", [1, 10, 100]), *samples("peer", [100, 10, 1])]
    assert paired_ratio(both, "c", "cpu_us", "node", "peer") == Spread(1.0, 0.01, 100.0, 3)


def test_every_server_takes_every_place() -> None:
    names = ["a", "b", "c"]
    assert [rotation(names, number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_summary_and_spread() -> None:
    assert summary(samples("node", [3, 1, 2]), "c", "node", "cpu_us") == Spread(2, 1, 3, 3)
    assert summary(samples("node", [3]), "c", "node", "rps") is None
    assert spread([]) is None


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown metrics"):
        Sample("c", 0, "node", {"speed": 1})
    with pytest.raises(ValueError, match="of 2 rounds"):
        Spread(1.0, 2.0, 3.0, 2)
