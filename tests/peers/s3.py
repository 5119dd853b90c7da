"""A server that speaks S3 (moto's), as a process on loopback; and what that does not look at: is a
request signed (Signature Version 4 in the query, as Amazon describes it)?"""

import contextlib
import hashlib
import hmac
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from tests.peers.http import Seen
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


def is_signed(seen: Seen, secret: str) -> bool:
    """By the target and the Host that came over the wire."""
    path, _, query = seen.target.partition("?")
    pairs = [pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature=")]
    told = dict(pair.split("=", 1) for pair in query.split("&"))
    _, day, region, service, end = told["X-Amz-Credential"].split("%2F")
    host = f"host:{seen.field('host')}\n"
    canonical = "\n".join(
        (seen.method, path, "&".join(sorted(pairs)), host, "host", "UNSIGNED-PAYLOAD")
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    scope = f"{day}/{region}/{service}/{end}"
    text = "\n".join(("AWS4-HMAC-SHA256", told["X-Amz-Date"], scope, digest))
    key = b"AWS4" + secret.encode()
    for word in (day, region, service, end, text):
        key = hmac.digest(key, word.encode(), "sha256")
    return key.hex() == told["X-Amz-Signature"]
