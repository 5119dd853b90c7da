"""deploy/run-gallery: URLs for what the node has, another port where 8080 is taken, a clean end."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.peers.node import ask

END_S = 40


@pytest.fixture
def taken() -> Iterator[None]:
    """Ports 8080 and 8081 are taken: by us, or by whoever has them already."""
    with contextlib.ExitStack() as stack:
        for port in (8080, 8081):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


@pytest.fixture
def command(tmp_path: Path, repository: Path) -> Iterator[list[str]]:
    """As `make run` calls it, with this very Python's halftone."""
    halftone = tmp_path / "halftone"
    halftone.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge.cli "$@"\n')
    halftone.chmod(0o755)
    folder = tmp_path / "gallery"
    folder.mkdir()
    Image.radial_gradient("L").convert("RGB").save(folder / "landscape.jpg")
    yield [sys.executable, str(repository / "deploy/run-gallery"), str(halftone), str(folder)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prints_urls_that_work_and_ends_cleanly(tmp_path, repository, command, taken, number):
    process = subprocess.Popen(
        command,
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "caches"), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        text = "".join(lines)
        for port in (8080, 8081):
            assert f"port {port} is taken" in text
        urls = dict(re.findall(r"^  (\w+) +http://(\S+)$", text, re.MULTILINE))
        assert {"original", "wikipedia", "youtube", "query", "metrics"} <= urls.keys()
        for address in urls.values():
            where, slash, path = address.partition("/")
            assert where.startswith("127.0.0.1:")
            assert ask(where, slash + path).status == 200
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(END_S) == 0, text + rest
        assert "Traceback" not in rest
    finally:
        if process.poll() is None:
            process.terminate()  # which it hands on; killed, it would leave its node behind
            process.wait()
        process.stdout.close()


def test_a_node_that_does_not_start_gives_its_status(repository, tmp_path, command):
    done = subprocess.run(
        [*command[:-1], str(tmp_path / "nowhere")],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
