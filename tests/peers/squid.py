"""A real Squid as an accelerator in front of one node, ended by its process id."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.ports import free_port

PROGRAM = shutil.which("squid", path=os.environ.get("PATH", "") + ":/usr/sbin")
# The user that Squid becomes when root starts it (Debian); what it writes must be this user's.
USER = "proxy" if os.geteuid() == 0 else getpass.getuser()
SITE = "img.example.com"
# It says so once it listens. Before, a connection may find the port of somebody else.
READY = "Accepting reverse-proxy HTTP Socket connections"
# Says that the peer is in use: until then a request is answered 502.
PEER = "Configuring Parent"
END_S = 10

# As deploy/squid/squid.conf, where a test can have the same; what differs is Squid's own place.
CONFIGURATION = """
visible_hostname squid
http_port 127.0.0.1:{port} accel defaultsite={site} no-vhost
cache_peer {host} parent {origin_port} 0 no-query originserver no-digest name=edge connect-timeout=1
never_direct allow all
# Squid knows the method only where an ACL names it.
acl PURGE method PURGE
http_access allow all
cache_mem 8 MB
maximum_object_size_in_memory 4 MB
collapsed_forwarding on
refresh_pattern . 0 0% 4320
shutdown_lifetime 0 seconds
icp_port 0
digest_generation off
pinger_enable off
netdb_filename none
pid_filename {folder}/squid.pid
coredump_dir {folder}
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
"""


@dataclass(frozen=True)
class Squid:
    public: str  # HOST:PORT
    pid: int
    folder: Path
    log: deque[str]

    @property
    def requests(self) -> list[str]:
        """Squid's own access lines; their fourth word is like TCP_MISS/200."""
        return (self.folder / "access.log").read_text().splitlines()


@contextlib.contextmanager
def squid(origin: str, more: str = "") -> Iterator[Squid]:
    """origin: HOST:PORT of a node. more: lines of configuration. Yields when it takes requests."""
    assert PROGRAM is not None, "squid is not installed"
    host, _, origin_port = origin.rpartition(":")
    # Not pytest's folder: its parents are closed to the user that Squid becomes.
    with tempfile.TemporaryDirectory(prefix="squid-", ignore_cleanup_errors=False) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        folder.chmod(0o755)
        # Names its shared memory: letters and digits, no other Squid's.
        service = f"halftone{secrets.token_hex(6)}"
        port = free_port()
        file = folder / "squid.conf"
        file.write_text(
            CONFIGURATION.format(
                port=port, site=SITE, host=host, origin_port=origin_port, folder=folder
            )
            + more
        )
        command = [PROGRAM, "-N", "-d", "1", "-n", service, "-f", str(file)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        log: deque[str] = deque(maxlen=200)
        reader = threading.Thread(target=_drain, args=(process, log), daemon=True)
        try:
            _wait_until_ready(process, log)
            reader.start()
            _wait_for_port(process, port, log)
            # In the foreground Squid does not fork: its pid file would name this very process.
            yield Squid(f"127.0.0.1:{port}", process.pid, folder, log)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if reader.ident is not None:
                reader.join()
            assert process.stderr is not None
            process.stderr.close()
            # Only what this very instance left, and only if it was killed.
            for left in Path("/dev/shm").glob(f"{service}-*"):
                left.unlink()


def _wait_until_ready(process: subprocess.Popen[str], log: deque[str]) -> None:
    assert process.stderr is not None
    waits_for = {READY, PEER}
    for line in process.stderr:
        log.append(line)
        waits_for = {text for text in waits_for if text not in line}
        if not waits_for:
            return
    raise AssertionError(f"squid did not start: {''.join(log)}")


def _wait_for_port(process: subprocess.Popen[str], port: int, log: deque[str]) -> None:
    """Its log comes a moment before its socket on a machine that has much else to do."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=END_S).close()
            return
    raise AssertionError(f"squid does not listen: {''.join(log)}")


def _drain(process: subprocess.Popen[str], log: deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line)
