"""The simulator: traces that are what they say, policies against libcachesim, ratios by hand.

libcachesim has no wheel for every Python: what it said of one small trace stands here, and where it
is installed it is asked again.
"""

import dataclasses
import gzip
import json
import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest

from cache.gdsf import Gdsf
from cache.room import BLOCK
from tests.bench import bounds, simulate
from tests.bench.policies import POLICIES, Farm, Ours, Policy, Sieve
from tests.bench.simulate import Ratios, Row, Spread, compare, compare_shares, footprint, replay
from tests.bench.traces import (
    COST_P50_MS,
    COST_P99_MS,
    Request,
    Shape,
    made_up,
    original,
    original_of,
    rate,
    wikimedia,
)

SMALL = Shape(requests=30_000, originals=3_000)
SEED = 7
PARTS = (0.01, 0.05, 0.20)
# Hits of libcachesim 0.3.5 in SMALL at PARTS, defaults but for the size; of GDSF with cost 1.
LIBCACHESIM = {
    "FIFO": (2281, 5674, 9784),
    "LRU": (2627, 6650, 10957),
    "SIEVE": (5618, 8862, 11888),
    "S3-FIFO": (6084, 9317, 11850),
    "W-TinyLFU": (6807, 9515, 12004),
    "GDSF": (5384, 9375, 12736),
}
EXACT = ("FIFO", "LRU", "SIEVE", "S3-FIFO")
# Their W-TinyLFU admits by comparing with one victim, ours with all that would go.
TINY_LFU_GAINS_AT_MOST = 0.10
# Where two have the same H, either may go first.
GDSF_DIFFERS_AT_MOST = 0.01


@pytest.fixture(scope="module")
def trace() -> list[Request]:
    return made_up(SMALL, SEED)


class PaperGdsf(Policy):
    """The disk tier's heap with the paper's H: L, the H of what went, plus uses / size, uses since
    the key came. With its cost for size, a key's H is L and the logarithm of its frequency."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._gdsf = Gdsf()
        self._uses: dict[bytes, int] = {}
        self._scores: dict[bytes, float] = {}

    def get(self, request: Request) -> bool:
        key = b"%d" % request.key
        is_hit = key in self._gdsf
        if not is_hit:
            if request.size > self.size:
                return False
            while self._gdsf.used + request.size > self.size:
                (victim,) = self._gdsf.victims(1, 0, 1)
                self._gdsf.inflation = self._scores.pop(victim.key)
        self._uses[key] = self._uses[key] + 1 if is_hit else 1
        value = self._uses[key] * BLOCK / request.size
        self._scores[key] = self._gdsf.inflation + value
        if is_hit:
            self._gdsf.touch(key, 2.0**value)
        else:
            self._gdsf.add(key, request.size, request.size, 2.0**value)
        return is_hit


def hits(policy: Policy, trace: list[Request]) -> int:
    return sum(policy.get(request) for request in trace)


# Policies


@pytest.mark.parametrize("number", range(len(PARTS)))
@pytest.mark.parametrize("name", LIBCACHESIM)
def test_as_libcachesim(name: str, number: int, trace: list[Request]) -> None:
    kind = PaperGdsf if name == "GDSF" else POLICIES[name]
    found = hits(kind(int(footprint(trace) * PARTS[number])), trace)
    theirs = LIBCACHESIM[name][number]
    if name in EXACT:
        assert found == theirs
    elif name == "GDSF":
        assert found == pytest.approx(theirs, rel=GDSF_DIFFERS_AT_MOST)
    else:
        assert theirs <= found <= theirs * (1 + TINY_LFU_GAINS_AT_MOST)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="libcachesim has no wheel for it")
def test_libcachesim_still_says_so(trace: list[Request]) -> None:
    peers = pytest.importorskip("libcachesim")
    kinds = {
        "FIFO": peers.FIFO,
        "LRU": peers.LRU,
        "SIEVE": peers.Sieve,
        "S3-FIFO": peers.S3FIFO,
        "W-TinyLFU": peers.WTinyLFU,
        "GDSF": peers.GDSF,
    }
    size_of_all = footprint(trace)
    for name, kind in kinds.items():
        for part, expected in zip(PARTS, LIBCACHESIM[name], strict=True):
            peer = kind(int(size_of_all * part))
            asked = peers.Request()
            found = 0
            for request in trace:
                asked.obj_id, asked.obj_size = request.key, request.size
                found += peer.get(asked)
            assert found == expected, f"{name} at {part}"


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_keeps_to_its_size(name: str) -> None:
    """What was let in last can be counted by asking again: a hit changes no bytes."""
    blocks = 64
    policy = POLICIES[name](blocks * 4096)
    for key in range(1000):
        assert not policy.get(Request(key, 4096, 1.0))
    kept = [key for key in range(1000) if policy.get(Request(key, 4096 * 10**6, 1.0))]
    assert 1 <= len(kept) <= blocks


@pytest.mark.parametrize("name", POLICIES)
def test_what_can_never_fit_is_let_through(name: str) -> None:
    policy = POLICIES[name](64 * 4096)
    assert not policy.get(Request(1, 4096, 1.0))
    for _ in range(3):
        assert not policy.get(Request(2, 65 * 4096, 1.0))
    assert policy.get(Request(1, 4096, 1.0))


def test_ours_prefers_what_is_dear() -> None:
    dear, cheap = (Request(1, 4096, 500.0), Request(2, 4096, 5.0))
    policy = Ours(100 * 4096)
    policy.get(dear)
    policy.get(cheap)
    for key in range(10, 500):
        policy.get(Request(key, 4096, 20.0))
    assert policy.get(dear)
    assert not policy.get(cheap)


# Bounds

ABAB = [
    Request(1, 100, 1.0),
    Request(2, 300, 5.0),
    Request(1, 100, 1.0),
    Request(2, 300, 9.0),
    Request(3, 100, 4.0),
]


def test_bounds_by_hand() -> None:
    assert bounds.everything(ABAB) == pytest.approx(10 / 20)
    # Two stays of two requests each: 200 and 600 bytes times requests, of five times the size.
    assert bounds.future_known(ABAB, 160) == pytest.approx(10 / 20)
    assert bounds.future_known(ABAB, 60) == pytest.approx((9 / 600 * 300) / 20)
    assert bounds.rates_known(ABAB, 500, lambda _: 1.0) == pytest.approx(10 / 20)
    assert bounds.rates_known(ABAB, 399, lambda key: key < 3) == pytest.approx(9 / 20)
    assert bounds.rates_known(ABAB, 399, lambda key: float(key == 1)) == pytest.approx(1 / 20)
    assert bounds.everything([]) == bounds.future_known([], 1) == 0


def test_nobody_beats_the_bounds(trace: list[Request]) -> None:
    size = int(footprint(trace) * 0.05)
    best = max(replay(POLICIES[name](size), trace).cost for name in ("LRU", "GDSF"))
    future = bounds.future_known(trace, size)
    assert best < bounds.rates_known(trace, size, lambda key: rate(key, SMALL)) < future
    assert future < bounds.everything(trace)


def test_rates_are_those_of_the_trace(trace: list[Request]) -> None:
    asked = Counter(request.key for request in trace)
    often = sorted(asked, key=lambda key: rate(key, SMALL), reverse=True)[:200]
    expected = [rate(key, SMALL) for key in often]
    scale = sum(asked[key] for key in often) / sum(expected)
    for key in often[:10]:
        assert asked[key] == pytest.approx(rate(key, SMALL) * scale, rel=0.25)
    assert all(rate(key, SMALL) == 0 for key in asked if original_of(key) >= SMALL.originals)


# Replay


def test_ratios_by_hand() -> None:
    trace = [Request(1, 100, 1.0), Request(2, 300, 5.0), Request(1, 100, 1.0), Request(2, 300, 9.0)]
    assert replay(Sieve(1000), trace) == Ratios(0.5, 0.5, 10 / 16)
    assert replay(Sieve(250), trace) == Ratios(0.25, 0.125, 1 / 16)  # 2 does not fit
    assert replay(Sieve(1000), []) == Ratios(0.0, 0.0, 0.0)
    assert footprint(trace) == 400


def test_ours_saves_more_than_lru(trace: list[Request]) -> None:
    """One small trace says no more than that; the figure is in docs/bench/eviction.md."""
    policies = {name: POLICIES[name] for name in ("LRU", "GDSF")}
    lru, ours = compare([trace], policies, [simulate.FIGURE_PART])
    assert lru.of_lru.text() == "1.000"
    assert ours.of_lru.median > 1.2


@pytest.mark.parametrize(("ratio", "met"), [(1.399, "no"), (1.4, "yes"), (1.0, "no")])
def test_the_verdict_is_of_the_median(ratio: float, met: str) -> None:
    same = Spread(0.5, 0.5, 0.5)
    row = Row(simulate.FIGURE_PART, "GDSF", same, same, same, Spread(ratio, 0.1, 9.0))
    other = dataclasses.replace(row, part=0.2, of_lru=same)
    assert simulate.verdict([other, row]).endswith(f"met: {met}.")


def test_shares() -> None:
    trace = made_up(Shape(requests=4000, originals=200), 1)
    small, large = compare_shares([trace], [0.02], [10, 75])
    assert 0 < large.renders.median < small.renders.median < 1
    assert 0 < small.fetched.median < 1
    farm = Farm(10**9, 25)
    for _ in range(4):
        farm.get(Request(1, 4096, 8.0), Request(1, 4096, 1.0))
    assert (farm.saved_ms_ratio, farm.fetched_ratio) == (0.75, 0.75)


# Traces


def test_a_made_up_trace_is_what_it_says() -> None:
    shape = Shape(requests=60_000, originals=5_000)
    trace = made_up(shape, 1)
    assert trace == made_up(shape, 1)
    assert trace != made_up(shape, 2)
    costs = sorted(request.cost for request in trace)
    assert statistics.mean(request.size for request in trace) == pytest.approx(25_000, rel=0.2)
    assert costs[30_000] == pytest.approx(COST_P50_MS, rel=0.25)
    assert costs[59_400] == pytest.approx(COST_P99_MS, rel=0.4)
    assert all(request.size % 4096 == 0 for request in trace)
    once = sum(original_of(request.key) >= shape.originals for request in trace)
    assert once / len(trace) == pytest.approx(shape.once, rel=0.05)
    # A key's size and cost are the same each time.
    assert len({request.key for request in trace}) == len(set(trace))


def test_popularity_drifts() -> None:
    def most_asked(trace: list[Request]) -> int:
        return statistics.mode(original_of(request.key) for request in trace)

    still = made_up(Shape(requests=20_000, originals=500, drift=0.0), 3)
    moving = made_up(Shape(requests=20_000, originals=500, drift=20.0), 3)
    assert most_asked(still[:5000]) == most_asked(still[15_000:])
    assert most_asked(moving[:5000]) != most_asked(moving[15_000:])


def test_an_original_is_the_same_each_time() -> None:
    assert original(5, 1) == original(5, 1)
    assert original(5, 1) != original(5, 2)
    assert original(5, 1).size % 4096 == 0
    assert original(5, 1).cost > original(5, 1).size / 50_000


LINES = (
    "0\t/wikipedia/commons/thumb/a\tjpeg\t9000\t0.25\n"
    "3\t/wikipedia/commons/b\tpng\t1\t0\n"
    "3\t/wikipedia/commons/thumb/a\tjpeg\t9000\t0.5\n"
)
READ = [Request(0, 12_288, 250.0), Request(1, 4096, 0.0), Request(0, 12_288, 500.0)]
TITLES = "relative_unix\thashed_path_query\timage_type\tresponse_size\ttime_firstbyte\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LINES, READ),
        (TITLES + LINES, READ),
        (LINES.replace("\t", " "), READ),
        ("", []),
        ("0 -123456789 jpeg 0 -1\n", [Request(0, 4096, 0.0)]),  # hashes are numbers, some negative
    ],
)
@pytest.mark.parametrize("is_gzip", [False, True])
def test_wikimedias_columns(
    text: str, expected: list[Request], is_gzip: bool, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(gzip.compress(text.encode()) if is_gzip else text.encode())
    assert list(wikimedia(str(file))) == expected
    assert list(wikimedia(str(file), limit=1))[:1] == expected[: 0 if text[:1] == "r" else 1]


@pytest.mark.parametrize(
    "line", ["0 a jpeg 5\n", "0 a jpeg large 0.1\n", "0 a b jpeg 5 0.1\n", "\n"]
)
def test_a_line_that_is_none(line: str, tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_text(LINES + line)
    with pytest.raises(ValueError, match="upload:4: not the 5 columns"):
        list(wikimedia(str(file)))


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--requests", "2000", "--originals", "300", "--seeds", "2"]
    monkeypatch.setattr("sys.argv", ["simulate", *small, "--out", str(tmp_path / "e")])
    assert simulate.main() == 0
    report = (tmp_path / "e.md").read_text()
    assert report.strip() == capsys.readouterr().out.strip()
    assert report.count("| 5% | GDSF |") == 3
    found = json.loads((tmp_path / "e.json").read_text())
    assert {row["policy"] for row in found["derivatives"]} == set(POLICIES)
    assert len(found["shares"]) == 12
    assert len(found["bounds"]) == 9


def test_the_command_on_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "upload.gz"
    file.write_bytes(gzip.compress((LINES * 50).encode()))
    monkeypatch.setattr("sys.argv", ["simulate", "--trace", str(file), "--out", "-"])
    assert simulate.main() == 0
    assert "Trace: upload.gz" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["simulate", "--trace", str(tmp_path / "none"), "--out", "-"])
    assert simulate.main() == 1
    assert "none" in capsys.readouterr().err
