"""Homes of the index that take a while to start: once for all tests, and empty for each."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.homes import Home
from tests.peers.redis import RedisServer
from tests.peers.redis_farm import ClusterFarm, SentinelFarm

PASSWORD = "ge/h@im:?"
# Nobody fails over because the machine is busy.
PATIENT_MS = 60_000
LOOKUP_S = 1.0


@pytest.fixture(autouse=True)
def patient_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the servers are is asked with more patience than a node has."""
    for room in ("sentinel", "cluster"):
        monkeypatch.setattr(f"cache.index.{room}.LOOKUP_STEP_S", LOOKUP_S)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    with closing(RedisServer().start()) as server:
        yield server


@pytest.fixture(scope="session")
def locked_server() -> Iterator[RedisServer]:
    """Over its Unix socket, with a password."""
    with closing(RedisServer(password=PASSWORD, by_socket=True).start()) as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_farm() -> Iterator[SentinelFarm]:
    farm = SentinelFarm(
        password=PASSWORD, sentinel_password="wache", down_after_ms=PATIENT_MS
    ).start()
    with closing(farm):
        yield farm


@pytest.fixture(scope="session")
def cluster_farm() -> Iterator[ClusterFarm]:
    with closing(ClusterFarm(password=PASSWORD).start()) as farm:
        yield farm


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with closing(RedisServer().start()) as server:
        yield server


PEERS = {
    "redis": "shared_server",
    "redis over its socket": "locked_server",
    "sentinel": "sentinel_farm",
    "cluster": "cluster_farm",
}


@pytest.fixture(params=["embedded", *PEERS])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "embedded":
        return Home("embedded", tmp_path, None)
    server = request.getfixturevalue(PEERS[request.param])
    server.command("FLUSHALL")
    return Home(request.param, tmp_path, server)
