from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.homes import Home
from tests.peers.redis import RedisServer


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(params=["embedded", "redis"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "embedded":
        return Home("embedded", tmp_path, None)
    server = request.getfixturevalue("shared_server")
    server.command("FLUSHALL")
    return Home("redis", tmp_path, server)
