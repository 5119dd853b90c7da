"""The node under test: its own command with a configuration of one docroot.

Unlike the peers it writes an access log, to a file, and counts its metrics: that is how it runs.
"""

import os
import re
import sys

from tests.bench import proc
from tests.bench.server import LocalServer, ServerError, Setup

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
READY = "halftone: listening on "
ADDRESS = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


RENDERER = "renderer"


class Node(LocalServer):
    def __init__(self, core: int, name: str = "node") -> None:
        super().__init__(core)
        self.name = name

    def resizers(self) -> frozenset[int]:
        return frozenset(
            pid for pid in self.pids() if "resizer" in " ".join(proc.command_line(pid))
        )

    def version(self) -> str:
        return f"Python {sys.version.split()[0]}"

    def start(self, setup: Setup) -> None:
        config = f"{setup.folder}/halftone.toml"
        os.makedirs(f"{setup.folder}/cache", exist_ok=True)
        with open(config, "w", encoding="utf-8") as file:
            file.write(self.config(setup))
        command = [sys.executable, "-m", "edge.cli", "serve", "--config", config]
        process = self._launch(command, f"{setup.folder}/node.out", REPOSITORY)
        self._port = port_of(process.wait_for_output(READY))

    def config(self, setup: Setup) -> str:
        return f"""\
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
workers = 1
[cache]
path = "{setup.folder}/cache"
memory = "256MiB"
[connection]
max_connections = 15000
[log]
access = "{setup.folder}/access.log"
format = "combined"
[[site]]
root = "{setup.root}"
"""


def port_of(line: str) -> int:
    """The port in the line that says the node is ready."""
    match = ADDRESS.search(line)
    if match is None:
        raise ServerError(f"no address in {line!r}")
    return int(match[1])
