"""Pictures that do to a resizer what a bug in a decoder would; hits are served meanwhile."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.node import Node, node, quote, running, until
from tests.resizer.faulty_worker import MARK

FAULTY = (sys.executable, "-m", "tests.peers.faulty_node")
WITHOUT_LANDLOCK = (sys.executable, "-m", "tests.peers.no_landlock")
PROCESSES = 2

# fault, status, what Cache-Status calls it, how it ends its process
CRASH = (500, "crash", "crash")
GARBAGE = (500, "crash", "garbage")
LATE = (503, "deadline", "deadline")
FAULTS = {
    "require": {
        "segv": CRASH,
        "abort": CRASH,
        "open": CRASH,
        "stop": CRASH,  # a signal, even to itself, is not on the list
        "memory": (413, "too-large", None),
        "garbage": GARBAGE,
        "half": GARBAGE,
        "lie": GARBAGE,
        "deaf": CRASH,
        "spin": LATE,
    },
    "off": {"segv": CRASH, "abort": CRASH, "memory": (413, "too-large", None), "stop": LATE},
}


def tell(folder: Path, fault: str) -> None:
    """A whole picture whose comment says what to do."""
    whole = (folder / "photo.jpg").read_bytes()
    comment = MARK + fault.encode() + b";"
    head = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    (folder / f"{fault}.jpg").write_bytes(whole[:2] + head + whole[2:])


@contextlib.contextmanager
def undisturbed(edge: Node, target: str) -> Iterator[None]:
    """Whoever asks for what is cached notices nothing."""
    body = edge.get(target).body
    ends = threading.Event()
    wrong: list[object] = []
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not ends.is_set():
            reply = edge.get(target)
            asked += 1
            if (reply.status, reply.is_hit, reply.body) != (200, True, body):
                wrong.append(reply)
            ends.wait(0.005)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
        before = asked
        until(lambda: asked > before + 2 or bool(wrong), "asked once more")
    finally:
        ends.set()
        thread.join()
    assert not wrong


def is_whole(edge: Node) -> bool:
    return edge.metrics()['halftone_resizer_processes{state="idle"}'] == PROCESSES


@pytest.mark.parametrize("sandbox", FAULTS)
def test_only_that_request_fails(tmp_path, originals, sandbox):
    for fault in FAULTS[sandbox]:
        tell(originals, fault)
    configuration = (
        f"[resizer]\nprocesses = {PROCESSES}\ndeadline = '1s'\nsandbox = '{sandbox}'\n"
        f"[[site]]\nroot = {quote(originals)}\n"
    )
    width = 100
    with node(tmp_path, configuration, under=FAULTY) as edge:
        with undisturbed(edge, f"/photo.jpg?w={width}"):
            for fault, (status, detail, cause) in FAULTS[sandbox].items():
                until(lambda: is_whole(edge), "the pool is whole")
                reply = edge.get(f"/{fault}.jpg?w=60")
                assert (reply.status, fault) == (status, fault)
                assert f"detail={detail}" in reply.cache_status
                assert reply.headers["cache-control"] == "no-store"
                assert ("retry-after" in reply.headers) == (status == 503)
                width += 1
                assert edge.get(f"/photo.jpg?w={width}").status == 200
                if cause is not None:
                    until(lambda: is_whole(edge), "the pool is whole again")
        numbers = edge.metrics()
        for cause in ("crash", "garbage", "deadline"):
            expected = sum(each[2] == cause for each in FAULTS[sandbox].values())
            assert numbers[f'halftone_resizer_restarts_total{{cause="{cause}"}}'] == expected
        assert numbers["halftone_resize_strikes_total"] == sum(
            each[2] is not None for each in FAULTS[sandbox].values()
        )


def test_the_second_time_bars_a_picture_and_keeps_it(tmp_path, originals):
    tell(originals, "segv")
    configuration = f"[[site]]\nroot = {quote(originals)}\n"
    with node(tmp_path, configuration, under=FAULTY) as edge:
        assert [edge.get(f"/segv.jpg?w={width}").status for width in (60, 61)] == [500, 500]
        for width in (60, 61, 62):
            reply = edge.get(f"/segv.jpg?w={width}")
            assert reply.status == 422
            assert "detail=poison" in reply.cache_status
        assert edge.get("/segv.jpg").status == 200  # the original is a file like any other
        assert edge.get("/photo.jpg?w=60").status == 200
        edge.wait_for("is kept for a report")
        until(
            lambda: edge.metrics()['halftone_resize_barred_total{copy="kept"}'] == 1, "it is kept"
        )
    (kept,) = (tmp_path / "cache" / "barred").iterdir()
    assert kept.read_bytes() == (originals / "segv.jpg").read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    # A warm start does not stumble over it, and a real worker finds nothing wrong with it.
    with node(tmp_path, configuration) as edge:
        assert edge.get("/segv.jpg?w=63").status == 200
        barred = edge.get("/segv.jpg?w=60")  # by the index, for a time
        assert (barred.status, barred.is_hit) == (422, True)
        assert edge.get("/photo.jpg?w=60").is_hit


def test_a_sandbox_that_cannot_be_had(tmp_path, originals):
    start = [str(originals), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    start += ["--cache", str(tmp_path / "cache")]
    halftone = [*WITHOUT_LANDLOCK, sys.executable, "-m", "edge.cli"]
    ended = subprocess.run(
        [*halftone, "serve", *start],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "HALFTONE__RESIZER__SANDBOX": "require"},
    )
    assert ended.returncode == 1, ended.stderr
    assert "the sandbox is required and cannot be had here: landlock: ENOSYS" in ended.stderr
    assert "halftone sandbox-check" in ended.stderr
    assert "Traceback" not in ended.stderr
    # By default it says so and goes on.
    with running(start, under=WITHOUT_LANDLOCK) as edge:
        assert any("no landlock, seccomp" in line for line in edge.log)
        assert edge.get("/photo.jpg?w=60").status == 200
    checked = subprocess.run([*halftone, "sandbox-check"], capture_output=True, text=True)
    assert checked.returncode == 1
    rows = [line.split() for line in checked.stdout.splitlines()]
    assert {row[1]: row[2] for row in rows if row[0] == "landlock"} == dict.fromkeys(
        ("open", "write", "connect", "exec", "signal"), "FAILS"
    )
    assert {row[2] for row in rows if row[0] == "rlimits"} == {"holds"}
    assert "do not hold" in checked.stderr
