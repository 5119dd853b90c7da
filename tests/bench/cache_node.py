"""A node for the cache's cases: with an index of its own or in Redis, a docroot, an origin."""

import http.client
import re
import time
from dataclasses import dataclass

from tests.bench.node import READY, Node
from tests.bench.server import POLL_S, ServerError, Setup

ADMIN = re.compile(r" admin http://127\.0\.0\.1:(\d+)")
CONNECTIONS = 2_000
DESCRIPTORS = 20_000
WELL_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Origin:
    """A FastCGI application on a Unix socket."""

    socket: str
    script: str


class CacheNode(Node):
    """root "": the origin alone. redis: its URL, "" the embedded index."""

    def __init__(
        self,
        core: int,
        name: str = "node",
        *,
        root: str = "",
        redis: str = "",
        origin: Origin | None = None,
    ) -> None:
        super().__init__(core, name)
        self._root = root
        self._redis = redis
        self._origin = origin
        self._admin = 0

    def begin(self, folder: str) -> None:
        """start(), with what is not already said."""
        self.start(Setup(self._root, folder, CONNECTIONS, 1, DESCRIPTORS))

    def start(self, setup: Setup) -> None:
        super().start(setup)
        assert self._process is not None
        self._admin = admin_port_of(self._process.wait_for_output(READY))

    def config(self, setup: Setup) -> str:
        root = f'root = "{self._root}"\n' if self._root else ""
        index = f'index = "{self._redis}"\n' if self._redis else ""
        origin = site_origin = ""
        if self._origin is not None:
            site_origin = 'origin = "app"\n'
            origin = (
                f'[[origin]]\nname = "app"\nhosts = ["unix:{self._origin.socket}"]\n'
                f'script_filename = "{self._origin.script}"\n'
            )
        return f"""\
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
workers = 1
[cache]
path = "{setup.folder}/cache"
size = "20GiB"
inodes = 1000000
memory = "256MiB"
scrub = "0"
{index}[connection]
max_connections = {CONNECTIONS}
[log]
access = "{setup.folder}/access.log"
format = "combined"
{origin}[[site]]
{root}{site_origin}"""

    @property
    def admin(self) -> int:
        return self._admin

    def metrics(self) -> dict[str, float]:
        """Series as they are written, label sets included, and their numbers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return parse_metrics(connection.getresponse().read().decode())
        finally:
            connection.close()

    def await_well(self) -> None:
        """Also after an outage of Redis."""
        deadline = time.monotonic() + WELL_WITHIN_S
        while not self.is_well():
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready after {WELL_WITHIN_S:.0f} s")
            time.sleep(POLL_S)

    def is_well(self) -> bool:
        """/readyz says 200 and nothing else than ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=10)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status == 200 and answer.read() == b"ready\n"
        finally:
            connection.close()


def admin_port_of(line: str) -> int:
    match = ADMIN.search(line)
    if match is None:
        raise ServerError(f"no admin address in {line!r}")
    return int(match[1])


def parse_metrics(text: str) -> dict[str, float]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}
