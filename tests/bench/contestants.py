"""Who renders: three servers that are asked over HTTP, three bare loops that are asked on a pipe.

Each is one process tree on one core, warm, with one picture at a time. Where a manual leaves a
choice, the cheaper one: thumbor writes baseline JPEG and keeps neither originals nor results.
"""

import contextlib
import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from resizer.child import ENVIRONMENT
from tests.bench import proc
from tests.bench.machine import REPOSITORY
from tests.bench.node import READY, port_of
from tests.bench.render_cases import (
    BARE,
    LADDERS,
    LIBVIPS,
    NGINX,
    NODE,
    QUALITY,
    SHARP,
    STEPS,
    THUMBOR,
    Asked,
)
from tests.bench.server import LocalServer, ServerError, free_port

ANSWER_WITHIN_S = 60.0
END_WITHIN_S = 5.0
LOOPS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loops")
NO_LIMIT = 16_000  # only the width counts
IMAGE_FILTER = "/usr/lib/nginx/modules/ngx_http_image_filter_module.so"

# Called once, it asks and returns the picture: what comes before (a connection) is not measured.
Ask = Callable[[], bytes]


class NoPictureError(Exception):
    """A contestant answered something else than a picture, or nothing."""


class Contestant(Protocol):
    name: str

    def version(self) -> str: ...

    def start(self, root: str, folder: str) -> None: ...

    def ask(self, asked: Asked) -> Ask: ...

    def top(self) -> int: ...

    def stop(self) -> None: ...


class HttpContestant(LocalServer):
    """A server and the spelling of its URLs."""

    def target(self, asked: Asked) -> str:
        raise NotImplementedError

    def ask(self, asked: Asked) -> Ask:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port(), timeout=ANSWER_WITHIN_S, blocksize=1 << 18
        )
        connection.connect()
        target = self.target(asked)

        def get() -> bytes:
            with contextlib.closing(connection):
                connection.request("GET", target)
                answer = connection.getresponse()
                body = answer.read()
            if answer.status != 200:
                raise NoPictureError(f"{target} was answered with {answer.status}")
            return body

        return get


class Node(HttpContestant):
    """`halftone serve ROOT`: no configuration, its log written to a file, an empty cache."""

    name = NODE

    def version(self) -> str:
        command = [sys.executable, "-m", "edge.cli", "version"]
        return ", ".join(_output(command, REPOSITORY).splitlines())

    def start(self, root: str, folder: str) -> None:
        command = [sys.executable, "-m", "edge.cli", "serve", root, "--cache", f"{folder}/cache"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        process = self._launch(command, f"{folder}/node.out", REPOSITORY)
        self._port = port_of(process.wait_for_output(READY))

    def target(self, asked: Asked) -> str:
        if asked.name:
            stem = asked.path.removeprefix("/").rpartition(".")[0]
            return f"/vi/{stem}/{asked.name}.jpg"
        query = f"?w={asked.width}"
        query += "" if asked.own_format else f"&fm={asked.format}"
        query += "" if asked.quality is None else f"&q={asked.quality}"
        return asked.path + query

    def resizers(self) -> list[int]:
        """Its processes that decode: they are started by resizer/child.py."""
        return [pid for pid in self.pids() if "resizer.worker" in proc.command_line(pid)]


class LadderNode(Node):
    """The same with `ladder = "on-first-miss"` and the steps of the benchmark."""

    name = LADDERS

    def start(self, root: str, folder: str) -> None:
        config = f"{folder}/halftone.toml"
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                'listen = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n'
                f'[cache]\npath = "{folder}/cache"\n[[site]]\nroot = "{root}"\n'
                f'ladder = "on-first-miss"\nsteps = {list(STEPS)}\n'
            )
        os.makedirs(f"{folder}/cache", exist_ok=True)
        command = [sys.executable, "-m", "edge.cli", "serve", "--config", config]
        process = self._launch(command, f"{folder}/node.out", REPOSITORY)
        self._port = port_of(process.wait_for_output(READY))


class Thumbor(HttpContestant):
    name = THUMBOR

    def __init__(self, core: int, python: str) -> None:
        super().__init__(core)
        self._python = python

    def version(self) -> str:
        return _versions(self._python, "thumbor", "pillow", "tornado")

    def start(self, root: str, folder: str) -> None:
        self._port = free_port()
        config = f"{folder}/thumbor.conf"
        with open(config, "w", encoding="utf-8") as file:
            file.write(self.config(root))
        program = os.path.join(os.path.dirname(self._python), "thumbor")
        command = [program, "--ip", "127.0.0.1", "--port", str(self._port), "--conf", config]
        command += ["--processes", "1", "--log-level", "error"]
        process = self._launch(command, f"{folder}/thumbor.out", folder)
        process.wait_for_port(self._port)

    def config(self, root: str) -> str:
        return f"""\
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {root!r}
STORAGE = "thumbor.storages.no_storage"
ALLOW_UNSAFE_URL = True
QUALITY = {QUALITY["jpeg"]}
WEBP_QUALITY = {QUALITY["webp"]}
AVIF_QUALITY = {QUALITY["avif"]}
AVIF_SPEED = 9
PNG_COMPRESSION_LEVEL = 4
PROGRESSIVE_JPEG = False
"""

    def target(self, asked: Asked) -> str:
        filters = [] if asked.own_format else [f"format({asked.format})"]
        filters += [] if asked.quality is None else [f"quality({asked.quality})"]
        middle = f"/filters:{':'.join(filters)}" if filters else ""
        # 220x0 would say the same, and cost up to eight times as much: where the height comes out
        # a fraction, thumbor crops before it scales, and has to decode all for that.
        return f"/unsafe/fit-in/{asked.width}x{NO_LIMIT}{middle}{asked.path}"


class NginxFilter(HttpContestant):
    """nginx with Debian's image_filter: the original's own format only."""

    name = NGINX

    def version(self) -> str:
        return _output(["nginx", "-v"], "/").removeprefix("nginx version: ")

    def start(self, root: str, folder: str) -> None:
        self._port = free_port()
        config = f"{folder}/nginx.conf"
        with open(config, "w", encoding="utf-8") as file:
            file.write(self.config(root, folder))
        command = ["nginx", "-p", folder, "-c", config, "-e", f"{folder}/nginx.err"]
        process = self._launch(command, f"{folder}/nginx.out", folder)
        process.wait_for_port(self._port)

    def config(self, root: str, folder: str) -> str:
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {kind}_temp_path {folder}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""\
load_module {IMAGE_FILTER};
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err error;
events {{ worker_connections 64; }}
http {{
{temporary}
    access_log off;
    types {{ image/jpeg jpg; image/png png; }}
    server {{
        listen 127.0.0.1:{self._port};
        image_filter_buffer 64M;
        image_filter_jpeg_quality {QUALITY["jpeg"]};
        location ~ "^/(?<width>[0-9]+)/(?<picture>[^/]+)$" {{
            alias {root}/$picture;
            image_filter resize $width -;
        }}
    }}
}}
"""

    def target(self, asked: Asked) -> str:
        return f"/{asked.width}{asked.path}"


class Loop:
    """A program of loops/, asked on its standard input."""

    def __init__(
        self,
        name: str,
        core: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        version: Callable[[], str],
    ) -> None:
        self.name = name
        self._version = version
        self._command = ["taskset", "-c", str(core), *command]
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None
        self._root = ""

    def version(self) -> str:
        return self._version()

    def start(self, root: str, folder: str) -> None:
        self._root = root
        with open(f"{folder}/{self.name}.err", "wb") as errors:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                cwd=REPOSITORY,
                env={**os.environ, **self._environment},
            )
        if self._line() != b"ready":
            raise ServerError(f"{self.name} is not ready")

    def ask(self, asked: Asked) -> Ask:
        line = json.dumps(
            {
                "path": self._root + asked.path,
                "width": asked.width,
                "format": asked.format,
                "quality": asked.effective_quality,
            }
        )

        def run() -> bytes:
            child = self._running()
            assert child.stdin is not None
            child.stdin.write(line.encode() + b"\n")
            length = self._line()
            if not length.isdigit():
                raise NoPictureError(f"{self.name} answers {length[:80]!r}")
            return self._exactly(int(length))

        return run

    def top(self) -> int:
        return self._running().pid

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with child:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._child is not None, "start() comes first"
        return self._child

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._some(1)
        return line[:-1]

    def _exactly(self, count: int) -> bytes:
        body = bytearray()
        while len(body) < count:
            body += self._some(count - len(body))
        return bytes(body)

    def _some(self, most: int) -> bytes:
        output = self._running().stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], ANSWER_WITHIN_S)
        data = os.read(output.fileno(), most) if ready else b""
        if not data:
            raise NoPictureError(f"{self.name} ended or is silent")
        return data


def bare(core: int) -> Loop:
    """In the environment that a resizer has, so that what differs is the node's work around it."""
    command = [sys.executable, "-m", "tests.bench.loops.bare"]

    def version() -> str:
        return "resizer.render, " + _versions(sys.executable, "pillow")

    return Loop(BARE, core, command, ENVIRONMENT, version)


def libvips(core: int, python: str) -> Loop:
    def version() -> str:
        code = "import pyvips as p; print(*(p.version(i) for i in range(3)), sep='.')"
        return f"{_output([python, '-c', code], '/')}, {_versions(python, 'pyvips')}"

    command = [python, f"{LOOPS}/vips.py"]
    return Loop(LIBVIPS, core, command, {"VIPS_CONCURRENCY": "1"}, version)


def sharp(core: int, folder: str) -> Loop:
    def version() -> str:
        code = "const v = require('sharp').versions; console.log(`${v.sharp}, libvips ${v.vips}`)"
        return f"{_output(['node', '-e', code], folder)}, Node.js {_output(['node', '-v'], '/')}"

    return Loop(SHARP, core, ["node", f"{LOOPS}/sharp.mjs", folder], {}, version)


def everyone(core: int, peers: str) -> list[Contestant]:
    """peers: the folder that make-peers filled."""
    python = f"{peers}/python/bin/python"
    return [
        Node(core),
        LadderNode(core),
        bare(core),
        Thumbor(core, python),
        NginxFilter(core),
        libvips(core, python),
        sharp(core, f"{peers}/sharp"),
    ]


def settled_ns(top: int, quiet_ns: int, pause_s: float, most_s: float) -> int:
    """CPU of a tree once it has stopped working: what is done after the answer counts too."""
    deadline = time.monotonic() + most_s
    last = spent_ns(top)
    while time.monotonic() < deadline:
        time.sleep(pause_s)
        now = spent_ns(top)
        if now - last <= quiet_ns:
            return now
        last = now
    return last


def spent_ns(top: int) -> int:
    """Reads again when a process ends in the middle."""
    try:
        return proc.spent_ns(top)
    except OSError:
        return proc.spent_ns(top)


def _versions(python: str, *packages: str) -> str:
    code = (
        "import sys, importlib.metadata as found\n"
        "print(*(f'{name} {found.version(name)},' for name in sys.argv[1:]))"
    )
    return _output([python, "-c", code, *packages], "/").rstrip(",")


def _output(command: Sequence[str], folder: str) -> str:
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, cwd=folder
    )
    return (finished.stdout + finished.stderr).strip() or "unknown"
