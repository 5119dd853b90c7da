"""Shares of a limit: they add up, and nobody is left without."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, load
from edge.descriptors import fit, reserve
from edge.share import part, share_of


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (10_000, [5_000, 5_000]),
        (64, [22, 21, 21]),
        (5, [5]),
        (1, [1, 1]),  # nobody is left without
        (3, [1, 1, 1, 1]),
    ],
)
def test_parts(whole, parts):
    assert [part(whole, slot, len(parts)) for slot in range(len(parts))] == parts


@given(st.integers(1, 1_000_000), st.integers(1, 64))
def test_parts_add_up(whole, slots):
    parts = [part(whole, slot, slots) for slot in range(slots)]
    assert sum(parts) == max(whole, slots)
    assert max(parts) - min(parts) <= 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "halftone.toml"
    file.write_text(
        f"""workers = 3
cache.path = '{tmp_path}/cache'
cache.index = "redis://h/0"
connection.max_connections = 100
resizer.queue = 2
[[site]]
root = '{tmp_path}'
"""
    )
    return load(str(file), {}, {})


def test_what_is_divided_and_what_is_not(config):
    shares = [share_of(config, slot, 3, cores=8) for slot in range(3)]
    assert [one.connection.max_connections for one in shares] == [34, 33, 33]
    assert [one.resizer.processes for one in shares] == [3, 3, 2]
    assert [one.resizer.queue for one in shares] == [1, 1, 1]
    assert {(one.cache, one.sites, one.workers) for one in shares} == {
        (config.cache, config.sites, 3)
    }
    assert share_of(config, 0, 1, cores=8) is config


def test_each_worker_has_descriptors_of_its_own(config):
    own = reserve(share_of(config, 0, 3, 8), 8)
    assert fit(config, own + 34, 8, 3) is config
    assert fit(config, own + 33, 8, 3).connection.max_connections == 99
