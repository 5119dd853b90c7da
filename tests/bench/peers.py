"""The peers: lighttpd and nginx as Debian packs them, and the floor.

One worker each, no access log, tuned for static files as their manuals advise; where a manual
leaves a choice, the faster one here. Limits that would close a busy connection (requests a
connection, idle time) are out of the way, so no run measures reconnects.
"""

import os
import re
import subprocess

from tests.bench.server import LocalServer, ServerError, Setup, free_port

HOUR_S = 3600
SPARE = 1024  # descriptors and connection slots beyond the clients


def cached_files(setup: Setup) -> int:
    """How many files nginx shall keep open; 0 when they don't all fit, for that only churns."""
    room = setup.descriptors - setup.connections - 2 * SPARE
    return setup.files + SPARE if setup.files <= room - SPARE else 0


class Lighttpd(LocalServer):
    name = "lighttpd"

    def version(self) -> str:
        return _version(["lighttpd", "-v"])

    def start(self, setup: Setup) -> None:
        self._port = free_port()
        config = f"{setup.folder}/lighttpd.conf"
        _write(config, self.config(setup))
        command = ["lighttpd", "-D", "-f", config]
        process = self._launch(command, f"{setup.folder}/lighttpd.out", setup.folder)
        process.wait_for_port(self._port)

    def config(self, setup: Setup) -> str:
        return f"""\
server.document-root = "{setup.root}"
server.bind = "127.0.0.1"
server.port = {self._port}
server.modules = ("mod_staticfile")
server.compat-module-load = "disable"
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.stat-cache-engine = "simple"
server.max-fds = {setup.descriptors}
server.max-connections = {setup.connections + SPARE // 2}
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = {HOUR_S}
mimetype.assign = (".jpg" => "image/jpeg")
"""


class Nginx(LocalServer):
    name = "nginx"

    def version(self) -> str:
        return _version(["nginx", "-v"])

    def start(self, setup: Setup) -> None:
        self._port = free_port()
        config = f"{setup.folder}/nginx.conf"
        _write(config, self.config(setup))
        command = ["nginx", "-p", setup.folder, "-c", config, "-e", f"{setup.folder}/nginx.err"]
        process = self._launch(command, f"{setup.folder}/nginx.out", setup.folder)
        process.wait_for_port(self._port)

    def config(self, setup: Setup) -> str:
        folder = setup.folder
        # Corking saves a small answer its second segment, and costs two system calls. It made
        # 6 KB a fifth cheaper and 100 KB half as dear again, so each gets what suits it.
        nopush = "off" if setup.large else "on"
        files = cached_files(setup)
        open_files = f"max={files} inactive=300s" if files else "off"
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {kind}_temp_path {folder}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {setup.descriptors};
pid {folder}/nginx.pid;
error_log {folder}/nginx.err error;
events {{
    use epoll;
    worker_connections {setup.connections + SPARE};
    multi_accept on;
}}
http {{
{temporary}
    access_log off;
    sendfile on;
    tcp_nopush {nopush};
    tcp_nodelay on;
    keepalive_timeout {HOUR_S}s;
    keepalive_requests 1000000000;
    open_file_cache {open_files};
    open_file_cache_valid 60s;
    open_file_cache_min_uses 1;
    open_file_cache_errors on;
    types {{ image/jpeg jpg; }}
    server {{
        listen 127.0.0.1:{self._port} backlog=4096;
        root {setup.root};
    }}
}}
"""


class Floor(LocalServer):
    """floor.c, compiled when it is first started."""

    name = "floor"

    def version(self) -> str:
        return _version(["cc", "--version"])

    def start(self, setup: Setup) -> None:
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "floor.c")
        binary = f"{setup.folder}/floor"
        compiled = subprocess.run(
            ["cc", "-O2", "-o", binary, source],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if compiled.returncode != 0:
            raise ServerError(f"floor.c does not compile: {compiled.stderr[-800:]}")
        self._port = free_port()
        command = [binary, str(self._port), setup.root]
        process = self._launch(command, f"{setup.folder}/floor.out", setup.folder)
        process.wait_for_output("ready")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _version(command: list[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    lines = (finished.stdout + finished.stderr).splitlines()
    line = lines[0] if lines else "unknown"
    return re.sub(r"^nginx version: | - a light and fast webserver", "", line)
