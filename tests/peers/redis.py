"""A real redis-server on a free port of the loopback, for one test or one module."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse

from tests.peers.ports import free_port


class RedisServer:
    """Started by start(), ended by its process id. Keeps its data between stop() and start().

    by_socket: its url is that of its Unix socket.
    """

    def __init__(self, *options: str, password: str = "", by_socket: bool = False) -> None:
        self.folder = tempfile.mkdtemp(prefix="redis-")
        self.port = free_port()
        self.options = options
        self.password = password
        self.by_socket = by_socket
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.unix_url if self.by_socket else f"redis://{self.login}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.login}{self.folder}/socket"

    @property
    def login(self) -> str:
        return f":{urllib.parse.quote(self.password, safe='')}@" if self.password else ""

    def start(self) -> "RedisServer":
        try:
            self.launch()
            self.await_ready()
        except BaseException:  # a test's timeout, too
            self.close()
            raise
        return self

    def launch(self) -> None:
        self.process = subprocess.Popen(
            self._arguments(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def await_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"Ready to accept connections" in line or b"Sentinel ID is" in line:
                break
        else:
            raise RuntimeError("redis-server did not start")

    def _arguments(self) -> list[str]:
        return [
            "redis-server",
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder),
            *("--unixsocket", f"{self.folder}/socket", "--daemonize", "no"),
            # It survives a kill; the disk is not waited for, because no test cuts the power.
            *("--appendonly", "yes", "--appendfsync", "no", "--save", ""),
            # Not ten seconds at its end for a replica that is gone.
            *("--shutdown-timeout", "0"),
            *(("--requirepass", self.password) if self.password else ()),
            *self.options,
        ]

    def command(self, *words: bytes | str) -> bytes:
        """One command over a connection of its own; the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            if self.password:
                client.sendall(_packed("AUTH", self.password))
                assert _received(client) == b"+OK\r\n"
            client.sendall(_packed(*words))
            return _received(client)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def kill(self) -> None:
        """Like a power cut: its clients hear of it, its peers have to notice."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        # Its data goes with it; and while it writes its first AOF it cannot be ended in peace.
        self._end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


def _packed(*words: bytes | str) -> bytes:
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in raw)


def _received(client: socket.socket) -> bytes:
    if reply := client.recv(65_536):
        return reply
    raise ConnectionResetError("redis-server closed the connection")
