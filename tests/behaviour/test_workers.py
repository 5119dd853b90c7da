"""Several workers are one node: what it says of itself, and what the death of one changes."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.test_processes import ending, replace, replaceable, write
from tests.peers.load import load, wait_until
from tests.peers.node import Node, ask, children_of, quote, running
from tests.peers.redis import RedisServer

OK = 'halftone_requests_total{status="200"}'
SERVING = 'halftone_workers{state="serving"}'
STARTED = "halftone_start_time_seconds"
GROWING = re.compile(r"halftone_\w+_(total|bucket|count|sum)\b")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer()) as server:
        yield server.start()


def configure(
    folder: Path, originals: Path, redis: RedisServer, *, workers: int = 2, log: str = "off"
) -> Path:
    file = write(folder, originals, top=f"workers = {workers}")
    text = file.read_text().replace("[log]", f"index = {quote(redis.url)}\n[log]")
    file.write_text(text.replace('access = "off"', f"access = {quote(log)}"))
    return file


def settled(edge: Node, number: float) -> None:
    """Others' numbers are a second old at the most."""
    wait_until(lambda: edge.metrics()[OK] == number)
    assert [edge.metrics()[OK] for _ in range(4)] == [number] * 4


def growing(edge: Node) -> dict[str, float]:
    return {name: number for name, number in edge.metrics().items() if GROWING.match(name)}


def test_whoever_is_asked_speaks_for_the_node(tmp_path, originals, redis):
    log = tmp_path / "access.log"
    with running(["--config", str(configure(tmp_path, originals, redis, log=str(log)))]) as edge:
        with load(edge.public, "/photo.jpg?w=100") as tally:
            wait_until(lambda: tally.answered > 200)
        assert tally.failures == []
        settled(edge, tally.answered)
        numbers = edge.metrics()
        hits = sum(numbers[f'halftone_cache_hits_total{{tier="{t}"}}'] for t in ("memory", "disk"))
        assert hits + numbers["halftone_cache_misses_total"] == tally.answered
        assert numbers["halftone_render_seconds_count"] == edge.renders() <= 2
        assert numbers[SERVING] == 2
        assert (ask(edge.admin, "/healthz").body, ask(edge.admin, "/readyz").body) == (
            b"ok\n",
            b"ready\n",
        )

        wait_until(lambda: len(log.read_text().splitlines()) == tally.answered)
        rotated = log.rename(tmp_path / "rotated.log")
        edge.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        with load(edge.public, "/photo.jpg?w=100") as more:
            wait_until(lambda: more.answered > 100)
        line = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "GET /photo\.jpg\?w=100 HTTP/1\.1" 200 .*')
        wait_until(lambda: len(log.read_text().splitlines()) == more.answered)
        for file, count in ((rotated, tally.answered), (log, more.answered)):
            lines = file.read_text().splitlines()
            assert len(lines) == count
            assert all(line.fullmatch(one) for one in lines)


def test_a_death_takes_no_number_back(tmp_path, originals, redis):
    with running(["--config", str(configure(tmp_path, originals, redis))]) as edge:
        with load(edge.public, "/photo.jpg?w=100") as tally:
            before = growing(edge)
            for _ in range(2):
                victim = children_of(edge.process.pid)[0]
                restarts = before["halftone_worker_restarts_total"]
                with ending([victim]):
                    os.kill(victim, signal.SIGKILL)
                while True:
                    now = growing(edge)
                    fallen = {name for name in before if now.get(name, -1.0) < before[name]}
                    assert fallen == set()
                    before = now
                    if now["halftone_worker_restarts_total"] > restarts:
                        break
                answered = tally.answered
                wait_until(lambda answered=answered: tally.answered > answered + 50)
                assert growing(edge)[OK] > before[OK]
        # Those whose connection the dead one held, and nobody else.
        assert len(tally.failures) <= 24
        assert not any(text.startswith("connecting") for text in tally.failures)
        assert tally.statuses == {200}
        wait_until(lambda: edge.metrics()[SERVING] == 2)


def test_a_reload_keeps_the_sums_and_a_successor_begins_anew(tmp_path, originals, redis):
    file = configure(tmp_path, originals, redis)
    with replaceable(tmp_path, originals, file=file) as edge:
        for _ in range(10):
            assert edge.get("/photo.jpg?w=100").status == 200
        settled(edge, 10)
        started = edge.metrics()[STARTED]
        for _ in range(2):
            edge.process.send_signal(signal.SIGHUP)
            edge.wait_for("is in effect")
            assert edge.metrics()[OK] == 10
        for _ in range(10):
            assert edge.get("/photo.jpg?w=100").is_hit
        settled(edge, 20)
        assert edge.renders() <= 2
        assert edge.metrics()[STARTED] == started
        replace(edge, tmp_path)
        wait_until(lambda: edge.metrics()[STARTED] > started)
        assert edge.get("/photo.jpg?w=100").is_hit
        settled(edge, 1)


def test_redis_that_is_down_is_told_once_and_costs_no_readiness(tmp_path, originals, redis):
    file = configure(tmp_path, originals, redis, workers=1)
    with running(["--config", str(file)]) as edge:
        assert edge.get("/photo.jpg?w=100").status == 200
        assert ask(edge.admin, "/readyz").body == b"ready\n"
        redis.stop()
        widths = iter(range(200, 300))
        wait_until(
            lambda: (
                edge.get(f"/photo.jpg?w={next(widths)}").status == 200
                and b"degraded" in ask(edge.admin, "/readyz").body
            )
        )
        said = ask(edge.admin, "/readyz")
        assert said.status == 200
        assert said.body == (
            b"ready\ndegraded: redis does not answer 1 of 1 workers, which decide without it\n"
        )
        assert edge.metrics()["halftone_index_degraded"] == 1
        for _ in range(20):
            assert edge.get("/photo.jpg?w=100").is_hit
        redis.start()
        # Nobody asks for a picture: it is found out all the same.
        wait_until(lambda: ask(edge.admin, "/readyz").body == b"ready\n")
        assert edge.metrics()["halftone_index_degraded"] == 0
    assert sum("redis failed too often" in line for line in edge.log) == 1
    assert sum("redis answers again" in line for line in edge.log) == 1


def test_workers_cannot_come_to_an_index_that_they_cannot_share(tmp_path, originals, redis):
    file = configure(tmp_path, originals, redis)
    with running(["--config", str(file)]) as edge:
        text = file.read_text()
        alone = text.replace("workers = 2", "workers = 1").replace(quote(redis.url), '"embedded"')
        file.write_text(alone)
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for("the old configuration stays: 2 workers stay until a restart")
        file.write_text(text.replace("workers = 2", "workers = 3"))
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for("workers stays 2 until a restart")
        edge.wait_for("is in effect")
        assert edge.get("/photo.jpg?w=100").status == 200


@pytest.mark.parametrize(("workers", "later"), [(1, 3), (3, 1)])
def test_a_successor_may_have_more_workers_or_fewer(tmp_path, originals, redis, workers, later):
    file = configure(tmp_path, originals, redis, workers=workers)
    with replaceable(tmp_path, originals, file=file) as edge:
        assert edge.metrics()[SERVING] == workers
        with load(edge.public, "/photo.jpg?w=100") as tally:
            configure(tmp_path, originals, redis, workers=later)
            replace(edge, tmp_path)
            answered = tally.answered
            wait_until(lambda: tally.answered > answered + 50)
            wait_until(lambda: edge.metrics().get(SERVING) == later)
        assert tally.statuses == {200}
        lost = [text for text in tally.failures if not text.startswith("fresh: ConnectionReset")]
        assert lost == []
