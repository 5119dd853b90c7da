"""Which host is chosen, by numbers alone."""

import collections
import dataclasses
import random
from collections.abc import Sequence

import pytest

from edge.origin.balance import Balance, Balancer, make_balancer, score
from edge.origin.messages import OriginRequest
from tests.edge.origin.asking import GET


@dataclasses.dataclass
class Candidate:
    name: str
    weight: int = 1
    load: int = 0
    latency_s: float | None = None

    def maybe_latency_at(self, now: float) -> float | None:
        return self.latency_s


A, B, C = Candidate("a"), Candidate("b"), Candidate("c")


def of(balance: Balance, seed: int = 0) -> Balancer:
    return make_balancer(balance, random.Random(seed).random)


def asking(path: str = "/a", client: str = "192.0.2.1") -> OriginRequest:
    return dataclasses.replace(GET, path=path, remote_addr=client)


def draws(balancer: Balancer, hosts: Sequence[Candidate], count: int) -> str:
    return "".join(balancer.choose(hosts, GET, 0.0).name for _ in range(count))


# (loads, weights) -> chosen
LEAST = [
    ((0, 0, 0), (1, 1, 1), "a"),  # tie: the first listed
    ((1, 0, 0), (1, 1, 1), "b"),
    ((2, 2, 1), (1, 1, 1), "c"),
    ((0, 0, 0), (1, 2, 1), "b"),  # the same load weighs less on the larger
    ((1, 3, 1), (1, 2, 1), "a"),
    ((1, 2, 1), (1, 2, 1), "b"),
]


@pytest.mark.parametrize(("loads", "weights", "chosen"), LEAST)
def test_least_connection(loads: tuple[int, ...], weights: tuple[int, ...], chosen: str) -> None:
    hosts = [Candidate(n, w, load) for n, w, load in zip("abc", weights, loads, strict=True)]
    assert of(Balance.LEAST_CONNECTION).choose(hosts, GET, 0.0).name == chosen


# weights -> a round, spread
ROUNDS = [((1, 1, 1), "abcabc"), ((2, 1, 1), "abcaabca"), ((5, 1, 1), "aabacaa")]


@pytest.mark.parametrize(("weights", "order"), ROUNDS)
def test_round_robin(weights: tuple[int, ...], order: str) -> None:
    hosts = [Candidate(name, weight) for name, weight in zip("abc", weights, strict=True)]
    assert draws(of(Balance.ROUND_ROBIN), hosts, len(order)) == order


def test_round_robin_while_one_is_away() -> None:
    balancer = of(Balance.ROUND_ROBIN)
    assert draws(balancer, [A, B, C], 3) == "abc"
    assert draws(balancer, [A, C], 4) == "acac"
    assert draws(balancer, [A, B, C], 6).count("b") == 2


def test_one_candidate_is_chosen_by_all() -> None:
    for balance in Balance:
        assert of(balance).choose([B], GET, 0.0) is B


@pytest.mark.parametrize(
    "weights", [(1, 1), (1, 1, 1), (1, 1, 1, 1, 1), (1, 2), (1, 2, 5), (100, 1, 1)]
)
def test_hash_shares_by_weight(weights: tuple[int, ...]) -> None:
    """Where lighttpd's XOR gives 50, 25 and 25 % of three equal hosts."""
    hosts = [Candidate(f"php{n}:9000", weight) for n, weight in enumerate(weights)]
    balancer = of(Balance.HASH)
    count = 6000
    found = collections.Counter(
        balancer.choose(hosts, asking(f"/originals/{n}.jpg"), 0.0).name for n in range(count)
    )
    for host in hosts:
        share = host.weight / sum(weights)
        deviation = 4 * (count * share * (1 - share)) ** 0.5
        assert abs(found[host.name] - count * share) < deviation


def test_hash_moves_only_what_must_move() -> None:
    hosts = [Candidate(name) for name in "abcde"]
    balancer = of(Balance.HASH)
    paths = [asking(f"/{n}") for n in range(500)]
    before = [balancer.choose(hosts, path, 0.0).name for path in paths]
    without = [balancer.choose(hosts[:2] + hosts[3:], path, 0.0).name for path in paths]
    assert [b for b, w in zip(before, without, strict=True) if b != w] == ["c"] * before.count("c")
    # A heavier host takes, and nothing moves between the others.
    heavier = [*hosts[:4], Candidate("e", 3)]
    after = [balancer.choose(heavier, path, 0.0).name for path in paths]
    assert {a for a, b in zip(after, before, strict=True) if a != b} == {"e"}


def test_what_is_hashed() -> None:
    hosts = [Candidate(f"{n}") for n in range(50)]
    by_path, by_client = of(Balance.HASH), of(Balance.STICKY)
    chosen = by_path.choose(hosts, asking("/a", "1"), 0.0)
    assert by_path.choose(hosts, asking("/a", "2"), 0.0) is chosen
    assert by_path.choose(hosts, asking("/b", "1"), 0.0) is not chosen
    assert by_path.choose(hosts, dataclasses.replace(asking("/a"), query="x"), 0.0) is chosen
    stuck = by_client.choose(hosts, asking("/a", "1"), 0.0)
    assert by_client.choose(hosts, asking("/b", "1"), 0.0) is stuck
    assert by_client.choose(hosts, asking("/a", "2"), 0.0) is not stuck


def test_sticky_spreads_what_is_asked_for_everybody() -> None:
    """It comes from this node's own address, which must not make one host's lot of all of it."""
    hosts = [Candidate(f"{n}") for n in range(5)]
    by_path, sticky = of(Balance.HASH), of(Balance.STICKY)
    own = [dataclasses.replace(asking(f"/{n}"), is_for_all=True) for n in range(200)]
    chosen = [sticky.choose(hosts, one, 0.0) for one in own]
    assert chosen == [by_path.choose(hosts, one, 0.0) for one in own]
    assert {host.name for host in chosen} == set("01234")
    clients = [asking(f"/{n}") for n in range(200)]
    assert len({sticky.choose(hosts, one, 0.0).name for one in clients}) == 1


def test_score_is_that_of_the_fact_sheet() -> None:
    """Fixed, since every node must send a path to the same host."""
    assert score(b"/a.jpg", "php1:9000", 1) == pytest.approx(24.434184601)
    assert score(b"/a.jpg", "php1:9000", 3) == pytest.approx(3 * score(b"/a.jpg", "php1:9000", 1))


# ((latency, load, weight) of both) -> the better
BETTER = [
    ((0.1, 0, 1), (0.2, 0, 1), "a"),
    ((0.1, 2, 1), (0.2, 0, 1), "b"),  # 0.3 to 0.2
    ((0.1, 2, 2), (0.2, 0, 1), "a"),  # 0.15 to 0.2
    ((None, 0, 1), (0.001, 0, 1), "a"),  # not known yet: by load
    ((None, 1, 1), (9.0, 0, 1), "b"),
]


@pytest.mark.parametrize(("one", "other", "chosen"), BETTER)
def test_the_better_of_two(
    one: tuple[float | None, int, int], other: tuple[float | None, int, int], chosen: str
) -> None:
    hosts = [
        Candidate(name, weight, load, latency_s)
        for name, (latency_s, load, weight) in zip("ab", (one, other), strict=True)
    ]
    for seed in range(8):  # both are drawn, in whatever order
        balancer = of(Balance.P2C, seed)
        if one[0] is None and one[1] == other[1]:
            continue
        assert balancer.choose(hosts, GET, 0.0).name == chosen


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999, 1.0])
def test_two_choices_draw_two_different_hosts(chance: float) -> None:
    slow = [Candidate(name, latency_s=9.0) for name in "ab"]
    hosts = [*slow, Candidate("c", latency_s=0.001)]
    balancer = make_balancer(Balance.P2C, lambda: chance)
    assert balancer.choose(hosts, GET, 0.0) in hosts
    assert make_balancer(Balance.P2C, lambda: chance).choose(hosts[1:], GET, 0.0).name == "c"


def test_two_choices_avoid_the_slow() -> None:
    hosts = [Candidate(name, latency_s=0.01) for name in "abcd"]
    hosts[0].latency_s = 1.0
    found = collections.Counter(draws(of(Balance.P2C), hosts, 2000))
    assert found["a"] == 0  # whoever is drawn with it is better
    assert min(found[name] for name in "bcd") > 500
