"""A server under test: a process on one core, ready on a loopback port, ended by its process id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.bench import proc

READY_WITHIN_S = 60.0  # the floor reads 100,000 files first
STOP_WITHIN_S = 10.0
POLL_S = 0.02


class ServerError(Exception):
    """A server did not start, ended by itself, or could not be ended."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server has to serve, and where it may write."""

    root: str
    folder: str  # its own: configuration, logs, cache
    connections: int  # the most at a time
    files: int
    descriptors: int  # what a process may have open
    large: bool = False  # answers that are larger than a socket buffer


class Server(Protocol):
    """What a run needs of a server. start() returns when it answers; stop() when it is gone."""

    name: str

    def version(self) -> str: ...

    def start(self, setup: Setup) -> None: ...

    def url(self, path: str) -> str: ...

    def port(self) -> int: ...

    def pids(self) -> frozenset[int]: ...

    def stop(self) -> None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A child with its output in a file, and everything that it starts in turn."""

    def __init__(
        self,
        command: Sequence[str],
        output: str,
        core: int,
        directory: str,
    ) -> None:
        self._output = output
        with open(output, "wb") as file:
            # taskset becomes the program, so the id is the server's and all below inherit the core
            self._child = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=directory,
            )

    def pids(self) -> frozenset[int]:
        return proc.tree(self._child.pid)

    def top(self) -> int:
        """The first process of the tree."""
        return self._child.pid

    def output(self) -> str:
        with open(self._output, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_output(self, text: str) -> str:
        """The first whole line that contains text."""
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            for line in self.output().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line
            self._pause()
        raise ServerError(f"no {text!r} within {READY_WITHIN_S} s: {self.output()[-800:]}")

    def wait_for_port(self, port: int) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                self._pause()
        raise ServerError(f"no listener within {READY_WITHIN_S} s: {self.output()[-800:]}")

    def stop(self) -> None:
        """TERM to the first process; what of its tree is left after a while is killed."""
        if self._child.poll() is not None:
            return
        family = proc.tree(self._child.pid)
        self._child.terminate()
        try:
            self._child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            for pid in family & proc.tree(self._child.pid):
                _kill(pid)
            self._child.wait(STOP_WITHIN_S)

    def _pause(self) -> None:
        code = self._child.poll()
        if code is not None:
            raise ServerError(f"ended with {code}: {self.output()[-800:]}")
        time.sleep(POLL_S)


class LocalServer:
    """What all servers here have in common once they run: one process tree, one loopback port."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._port = 0
        self._process: Process | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def port(self) -> int:
        return self._port

    def pids(self) -> frozenset[int]:
        assert self._process is not None, "start() comes first"
        return self._process.pids()

    def top(self) -> int:
        assert self._process is not None, "start() comes first"
        return self._process.top()

    def stop(self) -> None:
        """May be called however far start() came."""
        if self._process is not None:
            self._process.stop()
        self._process = None

    def _launch(self, command: Sequence[str], output: str, directory: str) -> Process:
        self._process = Process(command, output, self._core, directory)
        return self._process


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
