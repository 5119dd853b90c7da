"""A server that speaks S3 (moto's), as a process on loopback."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from tests.peers.ports import free_port

START_S = 30
_SERVE = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


@dataclass(frozen=True)
class S3Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, bucket: str, key: str = "", data: bytes = b"", **fields: str) -> None:
        """An object, or without a key a bucket. fields: content_type="image/jpeg" and kin."""
        request = urllib.request.Request(
            f"{self.endpoint}/{bucket}" + (f"/{quote(key)}" if key else ""),
            data=data,
            method="PUT",
            headers={name.replace("_", "-"): value for name, value in fields.items()},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        late_at = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "it ended before it listened"
                assert time.monotonic() < late_at
                time.sleep(0.02)
        yield S3Server(port, process)
    finally:
        process.kill()
        process.wait()
