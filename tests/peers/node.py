"""A whole node as a process: started from a configuration, asked over HTTP, ended by signal."""

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

READY = re.compile(r"halftone: listening on http://(\S+) admin http://(\S+)")
START_S = 30
END_S = 40


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")

    @property
    def is_hit(self) -> bool:
        return "; hit" in self.cache_status


@dataclass
class Node:
    public: str  # HOST:PORT
    admin: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    lines: "queue.Queue[str | None]" = field(default_factory=queue.Queue)  # not waited for yet
    is_killed: bool = False

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """The next line that holds pattern."""
        while True:
            line = self.lines.get(timeout=START_S)
            assert line is not None, f"ended before {pattern!r}:\n" + "".join(self.log)
            if match := re.search(pattern, line):
                return match

    def kill(self) -> None:
        """As the OOM killer does it; nothing is expected of the node any more."""
        self.is_killed = True
        self.process.kill()
        self.process.wait(END_S)

    def workers(self) -> list[int]:
        """The processes that serve; the node's own is their master."""
        return children_of(self.process.pid)

    def resizers(self) -> list[int]:
        """The processes of its resizer."""
        return [child for worker in self.workers() for child in children_of(worker)]

    def get(
        self,
        target: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        return ask(self.public, target, method, headers, body)

    def metrics(self) -> dict[str, float]:
        """Series as they are written, label sets included, and their numbers."""
        text = ask(self.admin, "/metrics").body.decode()
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}

    def renders(self) -> float:
        return self.metrics()['halftone_renders_total{result="rendered"}']


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, path.read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    children = children_of(pid)
    return children + [each for child in children for each in descendants_of(child)]


def ask(
    where: str,
    target: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    connection = http.client.HTTPConnection(where, timeout=30)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def node(
    folder: Path,
    configuration: str,
    environ: Mapping[str, str] | None = None,
    *,
    under: Sequence[str] = (),
) -> Iterator[Node]:
    """A node on free ports with this TOML (listen, admin and cache.path are added), kept in folder.

    under is a command that executes what follows it, such as unshare.

    On leaving it is drained by TERM and must end with 0 and without a traceback.
    """
    file = folder / "halftone.toml"
    head = 'listen = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n'
    path = f"path = {quote(folder / 'cache')}\n"
    if "[cache]\n" in configuration:
        configuration = configuration.replace("[cache]\n", f"[cache]\n{path}")
    else:
        head += f"cache.{path}"
    file.write_text(head + configuration)
    with running(["--config", str(file)], environ, under=under) as started:
        yield started


@contextlib.contextmanager
def running(
    arguments: list[str],
    environ: Mapping[str, str] | None = None,
    *,
    under: Sequence[str] = (),
    command: Sequence[str] = (sys.executable, "-m", "edge.cli", "serve"),
    is_ended_by_test: bool = False,
) -> Iterator[Node]:
    """`halftone serve ARGUMENTS`, ready; see node(). command: what to run in place of `serve`."""
    command = [*under, *command, *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    log: list[str] = []
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, log, lines), daemon=True)
    reader.start()
    try:
        match = None
        while match is None:
            line = lines.get(timeout=START_S)
            assert line is not None, "the node did not start:\n" + "".join(log)
            match = READY.match(line)
        started = Node(match[1], match[2], process, log, lines)
        yield started
        if started.is_killed:
            return
        if not is_ended_by_test:
            assert process.poll() is None, "the node ended by itself:\n" + "".join(log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_S) == 0, "".join(log)
        assert not any("Traceback" in line for line in log), "".join(log)
    finally:
        if process.poll() is None:
            family = descendants_of(process.pid)
            process.kill()
            process.wait()
            for pid in family:  # they end by themselves, unless that is what was wrong
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        reader.join(END_S)
        assert process.stdout is not None
        if not reader.is_alive():
            process.stdout.close()


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Asks again and again; whoever asks a node waits for its answer, so this does not spin."""
    late_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late_at, f"not in {seconds} s: {what}"


def _read(process: subprocess.Popen[str], log: list[str], lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.append(line)
        lines.put(line)
    lines.put(None)


def quote(text: object) -> str:
    """As a TOML string."""
    return json.dumps(str(text))
