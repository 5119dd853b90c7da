"""A real php-fpm 8.2 with a configuration of its own, ended by its process id."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.origin.address import Address
from edge.origin.fastcgi.params import Script
from tests.peers.ports import free_port

PROGRAM = shutil.which("php-fpm8.2", path=os.environ.get("PATH", "") + ":/usr/sbin")
APPLICATION = Path(__file__).parents[2] / "deploy" / "origin" / "index.php"
CHILDREN = 2
END_S = 10

CONFIGURATION = """
[global]
error_log = /dev/stderr
log_level = notice
daemonize = no
[www]
{user}
listen = {listen}
pm = static
pm.max_children = {children}
catch_workers_output = yes
clear_env = yes
env[ORIGINALS] = {originals}
env[COUNTER] = {counter}
"""


@dataclass(frozen=True)
class PhpFpm:
    address: Address
    script: Script
    counter: Path
    pid: int
    log: deque[str]

    def kill(self) -> None:
        """The master and its children, at once and without a word to anybody."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)

    @property
    def requests(self) -> int:
        return int(self.counter.read_text() or "0") if self.counter.exists() else 0


@contextlib.contextmanager
def php_fpm(
    originals: Path, *, tcp: bool = False, application: Path = APPLICATION, children: int = CHILDREN
) -> Iterator[PhpFpm]:
    """Yields when it says that it is ready. The socket's path must stay short, so the folder is
    made here and not by pytest."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="fpm-") as folder:
        address = Address("127.0.0.1", free_port()) if tcp else Address(path=f"{folder}/php.sock")
        counter = Path(folder, "requests")
        configuration = Path(folder, "fpm.conf")
        configuration.write_text(
            CONFIGURATION.format(
                user="user = root\ngroup = root" if os.geteuid() == 0 else "",
                listen=address.path or address,
                children=children,
                originals=originals,
                counter=counter,
            )
        )
        command = [PROGRAM, "-F", "-O", "-y", str(configuration), "-p", folder]
        if os.geteuid() == 0:
            command.append("-R")
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            log: deque[str] = deque(maxlen=200)
            try:
                _wait_until_ready(process, log)
                drain = threading.Thread(target=_drain, args=(process, log), daemon=True)
                drain.start()
                try:
                    script = Script(str(application), document_root=str(application.parent))
                    yield PhpFpm(address, script, counter, process.pid, log)
                finally:
                    process.terminate()
                    drain.join(END_S)
            finally:
                process.terminate()
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], log: deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line.decode(errors="replace"))
        if b"ready to handle connections" in line:
            return
    raise AssertionError(f"php-fpm did not start: {''.join(log)}")


def _drain(process: subprocess.Popen[bytes], log: deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line.decode(errors="replace"))
